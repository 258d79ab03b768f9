"""Sweeps: a login is tried once, a lying BMC hurts nobody else, an accepted BMC stays who it is."""

from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from provisioning import discovery
from provisioning.acceptance import accept, add_mac
from provisioning.bmc import Identity
from provisioning.discovery import Finder
from provisioning.errors import (
    BmcError,
    BmcUnreachable,
    Conflict,
    Invalid,
    NotFound,
)
from provisioning.models import Bmc, Credential, Discovery
from provisioning.states import Login
from provisioning.store import Store
from tests.fakes.bmcs import NO_KEY, RIGHT, Room, access
from tests.fakes.store import new_store


class Death(BaseException):
    """As near to kill -9 as one process comes: nothing of ours catches it."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = new_store(tmp_path)
    with store.write() as session:  # the name is the password here
        session.add_all(Credential(name=n, username="u", sealed=b"") for n in (RIGHT, "wrong"))
    return store


def who(number: int, **facts: Any) -> Identity:
    return Identity(**({"serial": f"S-{number}", "system_uuid": f"u-{number}"} | facts))


def sweep(store: Store, *rooms: Room, login: str | None = RIGHT) -> Discovery:
    with store.write() as session:
        asked = discovery.request(session, ["192.0.2.1-192.0.2.9"], login, "me")
    Finder(store, {room.name: room for room in rooms}, access, NO_KEY).run(asked.id)
    with store.read() as session:
        return session.get_one(Discovery, asked.id)


def bmc(store: Store, address: str = "192.0.2.1") -> Bmc:
    with store.read() as session:
        return session.exec(select(Bmc).where(Bmc.address == address)).one()


def accepted(store: Store) -> None:
    with store.write() as session:
        row = session.exec(select(Bmc).where(Bmc.address == "192.0.2.1")).one()
        accept(session, row, "node-1", "baremetal", "me")


def test_a_wrong_login_is_tried_once(store: Store) -> None:
    room = Room("redfish", {"192.0.2.1": who(1), "192.0.2.2": who(2)})
    first = sweep(store, room, login="wrong")
    assert [p["problem"] for p in first.problems] == [
        "the BMC 192.0.2.1 refused the login", "the BMC 192.0.2.2 refused the login"
    ]  # fmt: skip
    assert bmc(store).login is Login.REFUSED
    again = sweep(store, room, login="wrong")
    assert room.logins == {"192.0.2.1": 1, "192.0.2.2": 1}
    assert all("refused this login before" in p["problem"] for p in again.problems)
    assert all("seed discover 192.0.2." in p["remedy"] for p in again.problems)


def test_the_right_login_works_after_a_wrong_one(store: Store) -> None:
    room = Room("redfish", {"192.0.2.1": who(1)})
    sweep(store, room, login="wrong")
    done = sweep(store, room)
    assert (done.state, done.found, done.logged_in, done.problems) == ("done", 1, 1, [])
    found = bmc(store)
    assert (found.login, found.serial, found.problem) == (Login.OK, "S-1", "")
    sweep(store, room, login="wrong")
    assert room.logins["192.0.2.1"] == 2, "a login that works is not replaced by another"


def test_without_a_login_only_addresses_are_noted(store: Store) -> None:
    room = Room("redfish", {"192.0.2.1": who(1)})
    done = sweep(store, room, login=None)
    assert (done.found, done.logged_in, room.logins) == (1, 0, {})
    assert bmc(store).login is Login.NONE


def test_a_death_in_the_middle_of_a_login_is_not_followed_by_a_second_one(store: Store) -> None:
    room = Room("redfish", {}, lies={"192.0.2.1": Death()})
    with pytest.raises(Death):
        sweep(store, room)
    assert bmc(store).login is Login.REFUSED
    with store.read() as session:
        running = session.exec(select(Discovery).where(Discovery.state == "running")).one()
    Finder(store, {"redfish": room}, access, NO_KEY).run(running.id)
    assert room.logins == {"192.0.2.1": 1}


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        pytest.param(
            BmcError("Redfish on BMC 192.0.2.1 answered nonsense", "x"), "nonsense", id="known lie"
        ),
        pytest.param(RuntimeError("deep"), "redfish on BMC 192.0.2.1 answered nonsense", id="new"),
        pytest.param(RecursionError(), "redfish on BMC 192.0.2.1 answered nonsense", id="nested"),
        pytest.param(BmcUnreachable("did not answer", "x"), "did not answer", id="gone"),
    ],
)
def test_a_lying_bmc_does_not_end_the_sweep(
    store: Store, lie: BaseException, sentence: str
) -> None:
    room = Room("redfish", {"192.0.2.2": who(2)}, lies={"192.0.2.1": lie})
    done = sweep(store, room)
    assert done.state == "done"
    assert [sentence in p["problem"] for p in done.problems] == [True]
    assert done.problems[0]["remedy"]
    assert bmc(store, "192.0.2.2").login is Login.OK
    assert bmc(store).login is Login.NONE, "its password was not what failed"
    sweep(store, room)
    assert room.logins["192.0.2.1"] == 2, "a person may try again"


def test_a_box_that_speaks_both_is_one_record(store: Store) -> None:
    ipmi, redfish = (Room(n, {"192.0.2.1": who(1)}) for n in ("ipmi", "redfish"))
    assert sweep(store, ipmi, redfish).found == 1
    assert bmc(store).protocol == "redfish"
    assert (ipmi.logins, redfish.logins) == ({}, {"192.0.2.1": 1})


def test_an_accepted_bmc_with_another_certificate_gets_no_login(store: Store) -> None:
    room = Room("redfish", {"192.0.2.1": who(1)})
    sweep(store, room)
    accepted(store)
    impostor = Room("redfish", {"192.0.2.1": who(1)}, fingerprint="b" * 64)
    done = sweep(store, impostor)
    assert "certificate of BMC 192.0.2.1 changed since it was accepted" in bmc(store).problem
    assert [p["problem"] for p in done.problems] == [bmc(store).problem]
    assert (impostor.logins, bmc(store).fingerprint) == ({}, "a" * 64)


def test_an_accepted_server_keeps_the_identity_it_was_accepted_with(store: Store) -> None:
    room = Room("redfish", {"192.0.2.1": who(1)})
    sweep(store, room)
    accepted(store)
    with store.write() as session:
        session.get_one(Bmc, bmc(store).id).login = Login.NONE
    room.identities["192.0.2.1"] = who(9)
    sweep(store, room)
    assert (bmc(store).login, bmc(store).serial) == (Login.OK, "S-1")


def test_an_unknown_login_starts_nothing(store: Store) -> None:
    with store.write() as session, pytest.raises(NotFound, match="no login is named 'nope'"):
        discovery.request(session, ["192.0.2.1"], "nope", "me")
    with store.read() as session:
        assert session.exec(select(Discovery)).all() == []


# --- acceptance -----------------------------------------------------------------------------------


def test_only_a_bmc_with_a_working_login_and_a_serial_is_accepted(store: Store) -> None:
    room = Room("redfish", {"192.0.2.1": who(1, serial="")})
    sweep(store, room, login="wrong")
    with pytest.raises(Conflict, match=r"no login to BMC 192\.0\.2\.1 has worked yet"):
        accepted(store)
    sweep(store, room)
    with pytest.raises(Conflict, match="does not tell its server's serial"):
        accepted(store)
    assert bmc(store).node_uuid is None


def test_accepting_twice_is_one_node(store: Store) -> None:
    sweep(store, Room("redfish", {"192.0.2.1": who(1)}))
    accepted(store)
    first = bmc(store).node_uuid
    accepted(store)
    assert bmc(store).node_uuid == first
    with store.write() as session, pytest.raises(Conflict, match="already accepted as node-1"):
        accept(session, bmc(store), "other", "baremetal", "me")


def test_two_servers_do_not_share_a_name(store: Store) -> None:
    sweep(store, Room("redfish", {"192.0.2.1": who(1), "192.0.2.2": who(2)}))
    accepted(store)
    other = bmc(store, "192.0.2.2")
    with store.write() as session, pytest.raises(Conflict, match="the name node-1 belongs to"):
        accept(session, other, "node-1", "baremetal", "me")
    assert bmc(store, "192.0.2.2").node_uuid is None


def test_one_server_at_two_addresses_is_one_node(store: Store) -> None:
    sweep(store, Room("redfish", {"192.0.2.1": who(1), "192.0.2.2": who(1)}))
    accepted(store)
    other = bmc(store, "192.0.2.2")
    with store.write() as session, pytest.raises(Conflict, match="shows the server node-1"):
        accept(session, other, "node-2", "baremetal", "me")


def test_a_mac_from_the_label(store: Store) -> None:
    sweep(store, Room("redfish", {"192.0.2.1": who(1)}))
    with store.write() as session:
        row = session.get_one(Bmc, bmc(store).id)
        add_mac(row, "52-54-00-00-00-0A")
        with pytest.raises(Invalid, match="group or zero"):
            add_mac(row, "01:00:5e:00:00:01")
    assert bmc(store).macs == ["52:54:00:00:00:0a"]
    accepted(store)
    with store.write() as session, pytest.raises(Invalid, match="NICs are known"):
        add_mac(session.get_one(Bmc, bmc(store).id), "52:54:00:00:00:0b")
