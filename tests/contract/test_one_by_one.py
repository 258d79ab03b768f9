"""BMCs with one factory address: ARP on real wires, and what is kept of each. Needs root."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlmodel import select

from provisioning import discovery
from provisioning.acceptance import accept
from provisioning.bmc import Identity
from provisioning.discovery import Finder
from provisioning.errors import Conflict, HostError, Invalid
from provisioning.models import Bmc, Credential
from provisioning.observations import ONE_BY_ONE, boxes
from provisioning.room import Observation
from provisioning.states import Login
from provisioning.store import Store
from seed.host import arp
from tests.fakes.bmcs import NO_KEY, RIGHT, Room, access
from tests.fakes.store import new_store
from tests.fakes.wire import appliance_namespace, client_namespace, ip

FACTORY = "172.22.1.120"
FIRST, SECOND = "3c:ec:ef:00:00:01", "3c:ec:ef:00:00:02"


@pytest.fixture(scope="module")
def wire() -> Iterator[str]:
    with appliance_namespace(f"seed-ta-{os.getpid()}") as namespace:
        yield namespace


@contextmanager
def plugged_in(wire: str, *macs: str) -> Iterator[None]:
    """BMCs with these MACs on the out-of-band wire, all with the factory's address."""
    with ExitStack() as stack:
        for number, mac in enumerate(macs):
            there = stack.enter_context(client_namespace(wire, f"{wire}-{number}y", "oob0"))
            ip("-n", there, "link", "set", "eth0", "address", mac)
            ip("-n", there, "address", "add", f"{FACTORY}/24", "dev", "eth0")
        yield


def who(wire: str) -> set[str]:
    return arp.answering(wire, FACTORY)


def test_each_bmc_is_seen_once_and_in_turn(wire: str) -> None:
    taken: set[str] = set()
    watching = arp.watched(lambda: who(wire), taken)
    assert next(watching) == ("", False)
    with plugged_in(wire, FIRST):
        assert next(watching) == (FIRST, True)
        assert next(watching) == (FIRST, True), "it answers ARP, and nothing else yet"
        taken.add(FIRST)
        assert next(watching) == (FIRST, False)
    with plugged_in(wire, SECOND):
        assert next(watching) == (SECOND, True)
    with plugged_in(wire, FIRST):
        assert next(watching) == (FIRST, False), "it was taken before"


def test_two_at_once_are_refused_with_both_macs(wire: str) -> None:
    with plugged_in(wire, FIRST, SECOND):
        with pytest.raises(Conflict, match=f"{FIRST}, {SECOND}") as error:
            next(arp.watched(lambda: who(wire), set()))
        assert "Unplug all but one" in error.value.remedy


@pytest.mark.parametrize("address", ["203.0.113.5", "127.0.0.1", "172.22.1.1"])
def test_an_address_that_is_elsewhere(wire: str, address: str) -> None:
    with pytest.raises(HostError, match="not on a wire of this machine") as error:
        arp.answering(wire, address)
    assert "ip address add" in error.value.remedy


@pytest.mark.parametrize("address", ["fd00::7", "172.22.1.0/24", "x"])
def test_what_is_no_ipv4_address(wire: str, address: str) -> None:
    with pytest.raises(Invalid, match="is not one IPv4 address"):
        arp.answering(wire, address)


# --- what is kept ---------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = new_store(tmp_path)
    with store.write() as session:
        session.add(Credential(name=RIGHT, username="u", sealed=b""))
    yield store
    store.engine.dispose()


def named(number: int) -> Identity:
    return Identity(serial=f"S-{number}", system_uuid=f"u-{number}", model="M")


def taken(store: Store, number: int, mac: str) -> None:
    room = Room("redfish", {FACTORY: named(number)}, fingerprint=str(number) * 64)
    with store.write() as session:
        row = discovery.request(session, [FACTORY], RIGHT, "me", mac=mac)
    Finder(store, {"redfish": room}, access, NO_KEY).run(row.id)


def read(store: Store) -> tuple[Bmc, list[str]]:
    with store.read() as session:
        seen = session.exec(select(Observation).where(Observation.source == ONE_BY_ONE)).all()
        return session.exec(select(Bmc)).one(), sorted(f"{o.key} {o.serial}" for o in seen)


def test_the_second_one_does_not_overwrite_what_is_known_of_the_first(store: Store) -> None:
    taken(store, 1, FIRST)
    taken(store, 2, SECOND)
    bmc, seen = read(store)
    assert seen == [f"{FIRST} S-1", f"{SECOND} S-2"]
    assert (bmc.serial, bmc.login, bmc.manager_mac) == ("S-2", Login.OK, SECOND)
    with store.read() as session:
        assert sorted(b.first("serial") for b in boxes(session)) == ["S-1", "S-2"]


def test_the_same_one_again_is_one_record(store: Store) -> None:
    taken(store, 1, FIRST)
    taken(store, 1, FIRST.upper().replace(":", "-"))
    assert read(store)[1] == [f"{FIRST} S-1"]


def test_an_accepted_server_is_in_the_way(store: Store) -> None:
    taken(store, 1, FIRST)
    with store.write() as session:
        bmc = session.exec(select(Bmc)).one()
        accept(session, bmc, "node-1", "baremetal", "me")
    with pytest.raises(Conflict, match="node-1 was accepted at") as error:
        taken(store, 2, SECOND)
    assert "another address first" in error.value.remedy
    assert read(store)[0].serial == "S-1"


@pytest.mark.parametrize(
    ("ranges", "mac", "sentence"),
    [
        (["172.22.1.0/24"], FIRST, "means one address"),
        ([FACTORY], "zz", "is not a MAC"),
        ([FACTORY], "01:00:5e:00:00:01", "group or zero"),
    ],
)
def test_what_is_refused(store: Store, ranges: list[str], mac: str, sentence: str) -> None:
    with store.write() as session, pytest.raises(Invalid, match=sentence):
        discovery.request(session, ranges, None, "me", mac=mac)


def test_nobody_answers_the_sweep(store: Store) -> None:
    room = Room("redfish", {})
    with store.write() as session:
        row = discovery.request(session, [FACTORY], None, "me", mac=FIRST)
    Finder(store, {"redfish": room}, access, NO_KEY).run(row.id)
    with store.read() as session:
        assert session.exec(select(Observation)).all() == []
