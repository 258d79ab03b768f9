"""Accept, never grab: by a person, or by a list that a person meant so; and each box once."""

from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from provisioning import expected
from provisioning.acceptance import accept
from provisioning.errors import Conflict
from provisioning.models import Bmc, Event
from provisioning.room import Observation
from provisioning.states import BmcGoal, Login
from provisioning.store import Store
from tests.fakes.store import new_store

MAC, OTHER = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
UUID = "4c4c4544-0001-4b10-8031-b4c04f4d3332"
BY_ADDRESS = {"serial": "", "bmc_mac": "", "bmc_address": "10.0.0.1"}
SWAPPED = "44454c4c-0100-104b-8031-b4c04f4d3332"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path)


def add(store: Store, row: Any) -> None:
    with store.write() as session:
        session.add(row)


def a_bmc(number: int, **facts: Any) -> Bmc:
    told = {"serial": f"SER{number}", "model": "R750", "login": Login.OK}
    told["manager_mac"] = f"52:54:00:00:01:{number:02x}"
    return Bmc(address=f"10.0.0.{number}", protocol="redfish", **(told | facts))


def a_row(**facts: Any) -> Observation:
    row = {"source": "packing-list", "key": "k", "origin": "p.csv", "serial": "SER1"}
    return Observation(**(row | {"bmc_mac": MAC} | facts))


def bmc(store: Store, number: int = 1) -> Bmc:
    with store.read() as session:
        return session.exec(select(Bmc).where(Bmc.address == f"10.0.0.{number}")).one()


def take(store: Store, number: int, name: str = "") -> None:
    with store.write() as session:
        row = session.exec(select(Bmc).where(Bmc.address == f"10.0.0.{number}")).one()
        accept(session, row, name or f"node-{number}", "baremetal", "me")


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ({}, {"serial": "ser1 "}, "both have the serial number SER1"),
        ({"system_uuid": UUID}, {"system_uuid": SWAPPED}, f"both have the system UUID {UUID}"),
        ({"manager_mac": MAC}, {"manager_mac": MAC.upper()}, f"both have the BMC MAC {MAC}"),
        ({"macs": [OTHER]}, {"macs": [MAC, OTHER]}, f"both have the NIC MAC {OTHER}"),
    ],
)
def test_one_box_is_accepted_once_and_both_records_are_shown(
    store: Store, first: dict[str, Any], second: dict[str, Any], word: str
) -> None:
    add(store, a_bmc(1, **first))
    add(store, a_bmc(2, vendor="Dell", **second))
    take(store, 1)
    with pytest.raises(Conflict) as caught:
        take(store, 2)
    assert word in str(caught.value)
    assert "Here address 10.0.0.2, serial" in str(caught.value)
    assert "model Dell R750" in str(caught.value)
    assert "node-1 is address 10.0.0.1, serial SER1, model R750" in str(caught.value)
    assert "seed bmc forget 10.0.0.1" in caught.value.remedy
    assert bmc(store, 2).node_uuid is None


def test_placeholders_are_no_duplicates(store: Store) -> None:
    for number in (1, 2):
        uuid = f"4c4c4544-000{number}-4b10-8031-b4c04f4d3332"
        add(store, a_bmc(number, serial="Default string", system_uuid=uuid))
        take(store, number)
    assert bmc(store, 2).node_name == "node-2"


def test_two_that_are_alike_to_the_last_placeholder_are_not_both_taken(store: Store) -> None:
    for number in (1, 2):
        add(store, a_bmc(number, serial="Default string"))
    take(store, 1)
    with pytest.raises(Conflict, match="shows the server node-1"):
        take(store, 2)


def test_a_match_accepts_itself_in_the_name_of_who_imported_the_list(store: Store) -> None:
    add(store, a_bmc(1, manager_mac=MAC.upper()))
    add(store, a_row(accept_by="ann", node_name="web-1", resource_class="gold"))
    assert expected.accept_matches(store) == 1
    row = bmc(store)
    assert (row.goal, row.node_name, row.resource_class, row.accepted_by) == (
        BmcGoal.MANAGED, "web-1", "gold", "ann"
    )  # fmt: skip
    assert expected.accept_matches(store) == 0


@pytest.mark.parametrize(
    ("row", "facts"),
    [
        pytest.param({"accept_by": ""}, {}, id="the list was not meant so"),
        pytest.param({"serial": "SER9"}, {}, id="another serial"),
        pytest.param({"serial": ""}, {}, id="no serial in the list"),
        pytest.param({"bmc_mac": OTHER}, {}, id="another BMC MAC"),
        pytest.param({"bmc_mac": ""}, {"manager_mac": ""}, id="no BMC MAC at all"),
        pytest.param({"serial": "None"}, {"serial": "None"}, id="placeholders"),
        pytest.param({}, {"login": Login.NONE}, id="nobody logged in"),
        pytest.param({"source": "import"}, {}, id="no packing list"),
    ],
)
def test_less_than_mac_and_serial_is_left_to_a_person(
    store: Store, row: dict[str, Any], facts: dict[str, Any]
) -> None:
    add(store, a_bmc(1, **({"manager_mac": MAC} | facts)))
    add(store, a_row(**({"accept_by": "ann"} | row)))
    expected.accept_matches(store)
    assert bmc(store).goal is BmcGoal.OBSERVED


def test_a_match_that_cannot_be_accepted_says_so_once(store: Store) -> None:
    add(store, a_bmc(2, manager_mac=OTHER))
    take(store, 2, "web-1")
    add(store, a_bmc(1, manager_mac=MAC))
    add(store, a_row(accept_by="ann", node_name="web-1"))
    for _ in range(3):
        expected.accept_matches(store)
    assert "the name web-1 belongs to" in bmc(store).problem
    with store.read() as session:
        events = session.exec(select(Event).where(Event.kind == "bmc.not-accepted")).all()
    assert len(events) == 1


@pytest.mark.parametrize(
    ("row", "name"),
    [
        pytest.param({"serial": "ser1", "bmc_mac": ""}, "web-1", id="by serial"),
        pytest.param({"serial": "", "bmc_mac": MAC}, "web-1", id="by BMC MAC"),
        pytest.param(BY_ADDRESS, "web-1", id="by address"),
        pytest.param({"serial": "SER9", "bmc_mac": MAC}, "ser1", id="its serial says no"),
        pytest.param(BY_ADDRESS | {"bmc_mac": OTHER}, "ser1", id="its MAC says no"),
        pytest.param({"node_name": ""}, "ser1", id="without a name"),
    ],
)
def test_name_and_class_come_from_what_was_imported(
    store: Store, row: dict[str, Any], name: str
) -> None:
    add(store, a_bmc(1, manager_mac=MAC))
    add(store, a_row(**({"source": "import", "node_name": "web-1", "resource_class": "g"} | row)))
    with store.read() as session:
        assert expected.name_for(session, bmc(store)) == name
        assert expected.class_for(session, bmc(store)) == (
            "baremetal" if name == "ser1" and row.get("node_name") is None else "g"
        )


def test_several_servers_behind_one_address_are_not_guessed(store: Store) -> None:
    add(store, a_bmc(1))
    for name in ("a", "b"):
        add(store, a_row(source="import", node_name=name, key=name, **BY_ADDRESS))
    with store.read() as session:
        assert expected.name_for(session, bmc(store)) == "ser1"
