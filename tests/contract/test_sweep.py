"""The sweep finds who is there, whatever others do, as slowly as it is told. Needs root."""

import gc
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

import provisioning.bmc
from provisioning import neighbours, plugins
from provisioning.bmc import BmcProtocol, Contact, Knock, Shout
from provisioning.discovery import preferred
from provisioning.ranges import addresses_of
from provisioning.sweep import Pace, expected_seconds, sweep
from seed.host import netns
from seed.lab.fleet.running import Control, running
from seed.lab.fleet.spec import Lie, Spec
from tests.fakes.appliance import until
from tests.fakes.wire import ip

PROTOCOLS: dict[str, BmcProtocol] = plugins.load(provisioning.bmc)
NUMBERS = count()
RANGE = "10.64.0.0/22"
UNLIMITED = Pace(rate=0)


@contextmanager
def namespace() -> Iterator[str]:
    name = f"seed-ts-{os.getpid()}-{next(NUMBERS)}"
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        ip("netns", "delete", name)


@contextmanager
def fleet(**facts: Any) -> Iterator[tuple[str, Control]]:
    spec = Spec(**({"range": RANGE, "password": SecretStr("fleet"), "bmcs": 30} | facts))
    with namespace() as name, running(spec, name) as control:
        yield name, control


def look(where: str, ranges: list[str], pace: Pace = UNLIMITED, **kwargs: Any) -> list[Contact]:
    protocols = kwargs.get("protocols", PROTOCOLS).values()
    said = kwargs.get("said", lambda _: None)
    addresses = addresses_of(ranges, kwargs.get("exclude", []))
    return netns.call(where, lambda: sweep(protocols, addresses, pace, said))


def test_every_bmc_is_found_by_what_it_speaks() -> None:
    with fleet(speaks=("both", "redfish", "ipmi")) as (where, control):
        words: list[str] = []
        found = look(where, [RANGE], said=words.append)
        bmcs = control.bmcs()
    speaks = {"both": {"redfish", "ipmi"}, "redfish": {"redfish"}, "ipmi": {"ipmi"}}
    wanted = {(b["address"], protocol) for b in bmcs for protocol in speaks[b["speaks"]]}
    assert {(c.address, c.protocol) for c in found} == wanted
    kept = preferred(found)
    assert [c.address for c in kept] == [b["address"] for b in bmcs]
    assert all((c.protocol == "redfish") == bool(c.fingerprint) for c in kept)
    assert len({c.fingerprint for c in kept if c.fingerprint}) == 20
    assert any("found" in w for w in words)
    assert {b["logins"] + b["failed_logins"] for b in bmcs} == {0}, "a sweep logs in to nobody"


def test_nobody_there() -> None:
    with fleet(bmcs=0) as (where, _):
        assert look(where, [RANGE]) == []


def test_what_is_excluded_is_left_alone() -> None:
    with fleet(bmcs=10) as (where, control):
        unwanted = control.bmcs()[4]["address"]
        found = look(where, [RANGE], exclude=[unwanted])
        seen = control.bmc(unwanted)
    assert len({c.address for c in found}) == 9
    assert (seen["probes"], seen["connections"]) == (0, 0)


@pytest.mark.parametrize("lie", [*Lie])
def test_a_liar_hides_nobody_else(liars: tuple[str, Control], lie: Lie) -> None:
    where, control = liars
    address = control.bmcs()[3]["address"]
    control.lie(address, lie)
    try:
        begin = time.monotonic()
        found = look(where, [RANGE])
        assert time.monotonic() - begin < 60, "generous: the machine may be busy"
    finally:
        control.lie(address, None)
    others = {b["address"] for b in control.bmcs()} - {address}
    assert others <= {c.address for c in found}
    kinds = {c.protocol for c in found if c.address == address}
    silent = {Lie.HANG: set(), Lie.RMCP_GARBAGE: {"redfish"}}
    seen = silent.get(lie, {"ipmi", "redfish"} if true_root(lie) else {"ipmi"})
    assert kinds == seen


def test_who_is_too_busy_at_first_is_asked_once_more(
    liars: tuple[str, Control], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TCP opens, and then nothing until the time is over; on the next connection it answers."""
    monkeypatch.setattr("provisioning.sweep.PROBE_TIMEOUT", 3.0)
    where, control = liars
    address = control.bmcs()[2]["address"]
    before = control.bmc(address)["connections"]
    control.lie(address, Lie.HANG)
    found: list[Contact] = []
    looking = threading.Thread(target=lambda: found.extend(look(where, [address])))
    looking.start()
    until(lambda: control.bmc(address)["connections"] > before, 20, "the first connection")
    control.lie(address, None)
    looking.join(60)
    assert {c.protocol for c in found} >= {"redfish"}


def true_root(lie: Lie) -> bool:
    """Whether its service root can be told from nonsense: sweeps read no further."""
    says_a_version = {Lie.HUGE_BODY, Lie.TRUNCATED, Lie.TYPES}
    honest = {Lie.CYCLE, Lie.TWO_SYSTEMS, Lie.NO_SYSTEM, Lie.EMPTY_PASSWORD}
    return lie in says_a_version | honest or lie.startswith("deep-")


@pytest.fixture(scope="module")
def liars() -> Iterator[tuple[str, Control]]:
    with fleet(bmcs=6) as (where, control):
        yield where, control


def test_a_room_full_of_liars_ends() -> None:
    with fleet(bmcs=300) as (where, control):
        for number, bmc in enumerate(control.bmcs()):
            control.lie(bmc["address"], [*Lie][number % len(Lie)])
        begin = time.monotonic()
        look(where, [RANGE])
        assert time.monotonic() - begin < 90, "generous: the machine may be busy"


def test_lost_packets_hide_nobody() -> None:
    with fleet(bmcs=60, speaks=("redfish", "ipmi", "both"), loss=0.05) as (where, _):
        found = look(where, [RANGE])
    assert len({c.address for c in found}) >= 59, "0.01 are expected to be missed"


def test_ipv6() -> None:
    with fleet(bmcs=5, range="2001:db8:64::/116") as (where, control):
        found = preferred(look(where, ["2001:db8:64::/116"]))
        assert [c.address for c in found] == [b["address"] for b in control.bmcs()]
        assert {c.protocol for c in found} == {"redfish"}


def test_the_rate_is_kept() -> None:
    with fleet(bmcs=0) as (where, _):
        begin = time.monotonic()
        pace = Pace(rate=200)
        look(where, ["10.64.0.0-10.64.0.199"], pace)
        seconds = time.monotonic() - begin
        expected = netns.call(where, lambda: expected_seconds(["10.64.0.1"] * 200, pace))
    assert seconds >= 2.0, "200 addresses twice at 200 a second"
    assert 2.0 < expected


@contextmanager
def silent_wire() -> Iterator[str]:
    """A wire on which nobody answers ARP; the kernel gives up after 0.6 s instead of 3."""
    with namespace() as name:
        ip("-n", name, "link", "add", "oob0", "type", "veth", "peer", "name", "end0")
        for link in ("oob0", "end0"):
            ip("-n", name, "link", "set", link, "up")
        ip("-n", name, "address", "add", "198.51.100.1/24", "dev", "oob0")
        setting = Path("/proc/sys/net/ipv4/neigh/oob0/retrans_time_ms")
        netns.call(name, lambda: setting.write_text("200"))
        yield name


def test_the_kernel_never_looks_for_too_many_neighbours() -> None:
    with silent_wire() as where:
        most, stop = [0], threading.Event()

        def watch() -> None:
            while not stop.is_set():
                most[0] = max(most[0], neighbours.table()[0])

        watching = threading.Thread(target=lambda: netns.call(where, watch))
        watching.start()
        look(where, ["198.51.100.100-198.51.100.139"], Pace(rate=0, neighbours=8))
        stop.set()
        watching.join(10)
    assert 0 < most[0] <= 8


def test_targets_behind_a_router_are_no_neighbours() -> None:
    with silent_wire() as where:
        ip("-n", where, "route", "add", "203.0.113.0/24", "via", "198.51.100.9")
        ip("-n", where, "route", "add", "198.51.100.64/26", "via", "198.51.100.9")
        targets = ["198.51.100.5", "198.51.100.70", "198.51.100.200", "203.0.113.5", "192.0.2.9"]
        near = netns.call(where, lambda: neighbours.on_link(targets))
    assert near == {"198.51.100.5", "198.51.100.200"}


class Shouter:
    """A protocol whose BMCs answer a multicast question only."""

    name, driver = "shouter", "fake-hardware"
    knock = Knock(port=9)
    shout = Shout("239.255.255.250", 1900, b"who?", lambda data: data == b"me")

    def __init__(self) -> None:
        self.asked: list[str] = []

    def heard(self, address: str) -> Contact | None:
        return None

    async def probe(self, address: str, timeout: float, line: Any = None) -> Contact | None:
        self.asked.append(address)
        return Contact(address, self.name)


def test_who_answers_by_multicast_is_probed() -> None:
    with namespace() as where, namespace() as there:
        ip("-n", where, "link", "add", "oob0", "type", "veth", "peer", "name", "eth0",
           "netns", there)  # fmt: skip
        for name, link, address in ((where, "oob0", "198.51.100.1"), (there, "eth0", None)):
            if address:
                ip("-n", name, "address", "add", f"{address}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
        for last in (7, 8):
            ip("-n", there, "address", "add", f"198.51.100.{last}/24", "dev", "eth0")
        port = netns.call(there, lambda: socket.socket(type=socket.SOCK_DGRAM))
        with closing(port):
            answer_from(there, port)
            shouter = Shouter()
            found = look(where, ["198.51.100.5-198.51.100.7"], protocols={"s": shouter})
    assert [c.address for c in found] == ["198.51.100.7"], "and 198.51.100.8 was not asked for"
    assert shouter.asked == ["198.51.100.7"]


def answer_from(there: str, port: socket.socket) -> None:
    """Answer each question from 198.51.100.7 and from 198.51.100.8."""
    group = socket.inet_aton("239.255.255.250") + socket.inet_aton("198.51.100.7")
    port.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    port.bind(("", 1900))

    def serve() -> None:
        data, client = port.recvfrom(100)
        assert data == b"who?"
        for source in ("198.51.100.7", "198.51.100.8"):
            with socket.socket(type=socket.SOCK_DGRAM) as out:
                out.bind((source, 0))
                out.sendto(b"me", client)

    threading.Thread(target=lambda: netns.call(there, serve), daemon=True).start()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_left_open() -> None:
    with fleet(bmcs=10) as (where, _):
        look(where, [RANGE])
        gc.collect()  # what earlier tests left to it is no matter of this one
        before = open_files()
        look(where, [RANGE])
        assert open_files() == before


def test_a_machine_without_ip_still_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    with fleet(bmcs=3) as (where, _):
        monkeypatch.setenv("PATH", "/nowhere")
        assert len(preferred(look(where, [RANGE]))) == 3
        monkeypatch.undo()  # taking the wire down needs it
