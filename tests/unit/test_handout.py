"""The hand-out says what our rows know, and never a word of a BMC."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlmodel import select

from provisioning import handout
from provisioning.handout import HandOut, HandOutNode
from provisioning.models import Bmc, Claim, Credential, Order
from provisioning.room import Slot
from provisioning.sight import Sight
from provisioning.states import ClaimState
from provisioning.store import Store
from tests.fakes.claims import BMC_PASSWORD, NETWORKS, an_active_claim
from tests.fakes.store import new_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path)


def handed(store: Store) -> HandOut:
    with store.read() as session:
        claim = session.exec(select(Claim)).one()
        return handout.of_claim(session, claim, "debian", NETWORKS)


@contextmanager
def first(store: Store, kind: type[Any]) -> Iterator[Any]:
    """The first row of its kind, to be changed."""
    with store.write() as session:
        row = session.exec(select(kind)).first()
        yield row
        session.add(row)


def node(store: Store) -> HandOutNode:
    return handed(store).nodes[0]


def test_no_word_of_a_bmc(store: Store) -> None:
    """Also where its own server tells of it, as one with a USB NIC to its BMC does."""
    an_active_claim(store)
    with store.write() as session:
        kept = Credential(name="a-login", username="bmc-root", sealed=BMC_PASSWORD.encode())
        session.add(kept)
        session.flush()
        for bmc in session.exec(select(Bmc)):
            bmc.credential_id = kept.id
            bmc.certificate = "-----BEGIN CERTIFICATE-----"
        order = session.exec(select(Order)).first()
        assert order
        assert order.proof
        link = order.proof["nics"][1] | {"addresses": [f"{first_address(session)}/24"]}
        order.proof = order.proof | {"nics": [order.proof["nics"][0], link]}
    text = handed(store).model_dump_json()
    for word in (
        "192.0.2.", "52:54:00:0b:0c", BMC_PASSWORD, "a-login", "bmc-root", "CERTIFICATE", "redfish",
    ):  # fmt: skip
        assert word not in text


def first_address(session: Any) -> str:
    address: str = session.exec(select(Bmc.address)).first()
    return address


def test_cables_are_heard_or_else_planned(store: Store) -> None:
    an_active_claim(store)
    heard, planned = node(store).nics
    assert (heard.name, heard.switch, heard.port, heard.cable) == (
        "enp1s0", "leaf1", "17", "heard",
    )  # fmt: skip
    assert (planned.name, planned.switch, planned.port, planned.cable) == (
        "enp2s0", "leaf2", "17", "planned",
    )  # fmt: skip
    assert (heard.network, planned.network) == ("provisioning", "")


def test_a_server_that_is_in_no_plan_has_no_place_but_cables(store: Store) -> None:
    an_active_claim(store, count=1)
    with first(store, Slot) as slot:
        slot.serial = "somebody-else"
    told = node(store)
    assert (told.site, told.row, told.rack, told.unit, told.feed) == ("", "", "", 0, "")
    assert told.nics[0].switch == "leaf1.example.net"
    assert told.nics[1].cable == ""


@pytest.mark.parametrize(
    "facts", [{"serial": "", "bmc_mac": "52:54:00:0b:0c:01"}, {"serial": ""}], ids=["MAC", "cables"]
)
def test_a_place_is_known_without_a_serial_number(store: Store, facts: dict[str, str]) -> None:
    an_active_claim(store, count=1)
    with first(store, Slot) as slot:
        for name, value in facts.items():
            setattr(slot, name, value)
    assert (node(store).rack, node(store).unit, node(store).feed) == ("r4", 17, "B")


def test_the_disk_of_the_image_is_the_running_systems_word(store: Store) -> None:
    an_active_claim(store, count=1)
    assert [(d.name, d.role) for d in node(store).disks] == [("sda", "data"), ("nvme0n1", "root")]
    with first(store, Order) as order:
        told = [{**d, "root": False} for d in order.proof["disks"]]
        order.proof = order.proof | {"disks": told}
    assert [d.role for d in node(store).disks] == ["", ""], "nobody guesses which may be erased"
    with first(store, Order) as order:
        order.proof = order.proof | {"disks": told[:1]}
    assert [d.role for d in node(store).disks] == ["root"]


def test_before_its_proof_a_node_is_what_its_ramdisk_told(store: Store) -> None:
    an_active_claim(store, count=1)
    with first(store, Order) as order:
        order.proof = order.proof_at = None
    told = node(store)
    assert [(d.serial, d.role) for d in told.disks] == [("D-1", "")]
    assert [(n.mac, n.name, n.cable) for n in told.nics] == [
        ("52:54:00:00:01:01", "", "heard"), ("52:54:00:00:01:02", "", "planned"),
    ]  # fmt: skip
    assert (told.host_keys, told.proved_at, told.cpus, told.memory_mib) == ([], None, 32, 65536)


def test_traits_are_those_that_were_seen_in_ironic(store: Store) -> None:
    an_active_claim(store, count=1)
    with first(store, Bmc) as bmc:
        bmc.classed = {"traits": ["CUSTOM_OF_CLASS"]}
    assert node(store).traits == ["CUSTOM_NVME"]
    with store.write() as session:
        session.delete(session.exec(select(Sight)).one())
    assert node(store).traits == ["CUSTOM_OF_CLASS"]


def test_a_network_that_is_not_known_has_no_prefix(store: Store) -> None:
    an_active_claim(store, count=1)
    with store.read() as session:
        claim = session.exec(select(Claim)).one()
        (told,) = handout.of_claim(session, claim, "debian").nodes
    assert [(a.network, a.address, a.prefix) for a in told.addresses] == [
        ("provisioning", "172.22.0.10", None)
    ]


def test_many_nodes_cost_no_more_queries_than_one(store: Store) -> None:
    an_active_claim(store, count=1)
    counts = [queries(store)]
    an_active_claim(store, "more", count=40)
    counts.append(queries(store))
    assert counts[0] == counts[1] <= 10


def queries(store: Store) -> int:
    seen: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    with store.read() as session:
        assert handout.active(session, None, lambda _: "", NETWORKS)
    return len([text for text in seen if text.startswith("SELECT")])


def test_what_is_not_active_is_not_handed_out(store: Store) -> None:
    an_active_claim(store)
    an_active_claim(store, "going", state=ClaimState.RELEASING)
    an_active_claim(store, "theirs", project="other")
    with store.read() as session:
        everybodys = handout.active(session, None, lambda _: "", NETWORKS)
        ours = handout.active(session, "default", lambda _: "", NETWORKS)
    assert [(h.project, h.claim) for h in everybodys] == [("default", "web"), ("other", "theirs")]
    assert [h.claim for h in ours] == ["web"]
