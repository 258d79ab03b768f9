"""Logged-in conversations with BMCs that lie or hang, and with those that do not. Needs root."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from socket import AF_INET, SOCK_DGRAM, socket
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr

import provisioning.bmc
from provisioning import plugins
from provisioning.bmc import Access, BmcProtocol, Contact, _ipmi_wire
from provisioning.bmc._redfish_wire import ANSWER_SECONDS
from provisioning.errors import BmcError, BmcLoginRefused, BmcUnreachable, HungUp
from provisioning.reconcile import STOP_SECONDS
from seed.host import netns
from seed.lab.bmc import _self_signed as self_signed
from seed.lab.fleet.running import Control, running
from seed.lab.fleet.spec import Lie, Spec
from seed.lab.scenario import BmcSpec
from tests.fakes import liars
from tests.fakes.appliance import until
from tests.fakes.serving import serving
from tests.fakes.tls import over_tls
from tests.fakes.wire import ip

PASSWORD = "fleet-password"
ACCESS = Access("admin", SecretStr(PASSWORD), "mark")
PROTOCOLS: dict[str, BmcProtocol] = plugins.load(provisioning.bmc)
REDFISH = PROTOCOLS["redfish"]
A, B, GONE = "10.64.0.1", "10.64.0.128", "10.64.0.77"
IN_TIME = 2.0  # seconds for a conversation with a liar
MARGIN = 6.0  # seconds: the machine may be busy
LONG = 60.0  # seconds that no conversation here needs


@pytest.fixture(scope="module")
def room() -> Iterator[tuple[str, Control]]:
    name = f"seed-ts-{os.getpid()}"
    spec = Spec(range="10.64.0.0/24", bmcs=2, password=SecretStr(PASSWORD))
    ip("netns", "add", name)
    try:
        with running(spec, name) as control:
            yield name, control
    finally:
        ip("netns", "delete", name)


@pytest.fixture
def liar(room: tuple[str, Control]) -> Iterator[Callable[[Lie], Contact]]:
    """Makes the BMC at A lie from now on, once its certificate is known."""
    contact = found(room[0], A)

    def turn(lie: Lie) -> Contact:
        room[1].lie(A, lie)
        return contact

    yield turn
    room[1].lie(A, None)


def found(where: str, address: str) -> Contact:
    contact = netns.call(where, lambda: asyncio.run(REDFISH.probe(address, 10.0)))
    assert contact is not None
    return contact


def timed(where: str, do: Callable[[], Any], limit: float) -> Any:
    """What it says or raises, which must be one of ours and in time."""
    begin = time.monotonic()
    try:
        return netns.call(where, do)
    except BmcError as err:
        return err
    finally:
        assert time.monotonic() - begin < limit + MARGIN


def test_an_honest_one_tells_all(room: tuple[str, Control]) -> None:
    where, control = room
    before = control.bmc(B)
    contact = found(where, B)
    told = netns.call(where, lambda: REDFISH.survey(contact, ACCESS, 30.0))
    after = control.bmc(B)
    seen = told.inventory
    assert (seen.serial, seen.system_uuid, seen.bmc_mac) == (
        after["serial"], after["uuid"], after["mac"]
    )  # fmt: skip
    assert seen.vendor == "HPE"
    assert seen.model
    assert seen.memory_mib > 1024
    assert seen.cpu_count
    assert all(d.serial and d.size_bytes and d.media for d in seen.drives)
    assert seen.drives
    assert {(n.neighbours[0].switch, n.neighbours[0].port) for n in seen.nics} == {
        ("leaf1-a", "Ethernet2"), ("leaf1-b", "Ethernet2")
    }  # fmt: skip
    assert (seen.power, seen.health) == ("off", "OK")
    assert told.identity.macs == tuple(sorted(n.mac for n in seen.nics))
    assert told.abilities.lldp
    assert told.abilities.sessions
    assert told.findings == ()
    assert after["sessions"] == 0
    assert after["sessions_opened"] - before["sessions_opened"] == 1
    assert after["sessions_most"] == 1
    assert after["logins"] - before["logins"] == 1


def test_survey_and_identify_say_the_same(room: tuple[str, Control]) -> None:
    contact = found(room[0], B)
    told = netns.call(room[0], lambda: REDFISH.survey(contact, ACCESS, 30.0))
    assert netns.call(room[0], lambda: REDFISH.identify(contact, ACCESS, 30.0)) == told.identity


def test_a_full_table_of_sessions_is_no_hindrance(room: tuple[str, Control]) -> None:
    where, control = room
    contact = found(where, B)
    control.set(B, session_limit=0)
    try:
        told = netns.call(where, lambda: REDFISH.survey(contact, ACCESS, 30.0))
    finally:
        control.set(B, session_limit=8)
    assert told.inventory.drives


def test_a_wrong_password_is_sent_once(room: tuple[str, Control]) -> None:
    where, control = room
    contact = found(where, B)
    wrong = Access("admin", SecretStr("wrong-password"), "other")
    for verb in (REDFISH.survey, REDFISH.identify):
        before = control.bmc(B)["failed_logins"]
        with pytest.raises(BmcLoginRefused, match="refused the login") as error:
            netns.call(where, lambda verb=verb: verb(contact, wrong, 20.0))
        assert "wrong-password" not in str(error.value) + error.value.remedy
        assert control.bmc(B)["failed_logins"] - before == 1


VERDICTS = {
    Lie.HUGE_BODY: (BmcError, "nonsense"),
    Lie.REDIRECT: (BmcError, "nonsense"),
    Lie.TRUNCATED: (BmcError, "nonsense"),
    Lie.TYPES: (BmcError, "nonsense"),
    Lie.NOT_JSON: (BmcError, "nonsense"),
    Lie.DRIP: (BmcUnreachable, "did not answer"),
    Lie.HANG: (BmcUnreachable, "did not answer"),
    Lie.TLS_GARBAGE: (BmcUnreachable, "did not answer"),
    Lie.DEEP_HUGE_BODY: (BmcError, "nonsense"),
    Lie.DEEP_REDIRECT: (BmcError, "nonsense"),
    Lie.DEEP_TRUNCATED: (BmcError, "nonsense"),
    Lie.DEEP_TYPES: (BmcError, "nonsense"),
    Lie.DEEP_NOT_JSON: (BmcError, "nonsense"),
    Lie.DEEP_DRIP: (BmcUnreachable, "did not answer"),
    Lie.TWO_SYSTEMS: (BmcError, "shows 2 systems, not 1"),
    Lie.NO_SYSTEM: (BmcError, "shows 0 systems, not 1"),
}
HARMLESS = {Lie.EMPTY_PASSWORD, Lie.RMCP_GARBAGE}


def test_every_lie_of_the_fleet_has_a_verdict() -> None:
    assert set(VERDICTS) | HARMLESS | {Lie.CYCLE} == set(Lie)


@pytest.mark.parametrize("verb", ["identify", "survey", "locate"])
@pytest.mark.parametrize("lie", VERDICTS)
def test_liars(
    room: tuple[str, Control], liar: Callable[[Lie], Contact], lie: Lie, verb: str
) -> None:
    where, control = room
    contact = liar(lie)
    more = (True,) if verb == "locate" else ()

    kind, sentence = VERDICTS[lie]
    # What is nonsense is so at once: the end of the time is no verdict on it, on any machine.
    timeout = IN_TIME if kind is BmcUnreachable else LONG

    def converse() -> Any:
        return getattr(REDFISH, verb)(contact, ACCESS, *more, timeout)

    said = timed(where, converse, IN_TIME)
    assert isinstance(said, kind), said
    assert sentence in str(said)
    assert A in str(said)
    assert PASSWORD not in f"{said} {said.remedy}"
    control.lie(A, None)
    assert control.bmc(A)["failed_logins"] == 0


@pytest.mark.parametrize("lie", [Lie.HUGE_BODY, Lie.DEEP_HUGE_BODY])
def test_an_answer_without_an_end_is_left_at_once(
    room: tuple[str, Control], liar: Callable[[Lie], Contact], lie: Lie
) -> None:
    """Not when its time is over: until then it would fill the memory."""
    contact = liar(lie)
    begin = time.monotonic()
    said = timed(room[0], lambda: REDFISH.survey(contact, ACCESS, 90.0), 90.0)
    assert isinstance(said, BmcError)
    assert time.monotonic() - begin < ANSWER_SECONDS - 5


def test_links_in_a_circle_end(room: tuple[str, Control], liar: Callable[[Lie], Contact]) -> None:
    """Every collection contains itself only: no system, no parts, and an end."""
    contact = liar(Lie.CYCLE)
    said = timed(room[0], lambda: REDFISH.survey(contact, ACCESS, IN_TIME), IN_TIME)
    assert isinstance(said, BmcError), said


@pytest.mark.parametrize("lie", sorted(HARMLESS))
def test_a_lie_elsewhere_does_no_harm(
    room: tuple[str, Control], liar: Callable[[Lie], Contact], lie: Lie
) -> None:
    contact = liar(lie)
    told = netns.call(room[0], lambda: REDFISH.survey(contact, ACCESS, 20.0))
    assert told.inventory.serial


def test_another_certificate_gets_no_login(room: tuple[str, Control]) -> None:
    where, control = room
    contact = found(where, A)
    control.renew_certificate(A)
    before = control.bmc(A)["requests"]
    said = timed(where, lambda: REDFISH.survey(contact, ACCESS, IN_TIME), IN_TIME)
    assert isinstance(said, BmcUnreachable)
    assert "its certificate changed" in str(said)
    assert control.bmc(A)["requests"] == before, "not a single request was sent"


def test_the_led_lights_and_goes_dark(room: tuple[str, Control]) -> None:
    where, _ = room
    contact = found(where, B)

    def switch(on: bool) -> None:
        netns.call(where, lambda: REDFISH.locate(contact, ACCESS, on, 20.0))

    switch(True)
    switch(False)


class Reserved(BaseHTTPRequestHandler):
    """A Redfish service that lets everybody log in and shows its drives to nobody."""

    protocol_version = "HTTP/1.1"
    logins: ClassVar[list[str]] = []
    tree: ClassVar[dict[str, dict[str, Any]]] = {
        "": {
            "RedfishVersion": "1.6.0", "Id": "Root", "Name": "Root",
            "Systems": {"@odata.id": "/redfish/v1/Systems"},
            "Links": {"Sessions": {"@odata.id": "/redfish/v1/Sessions"}},
        },
        "/Systems": {"Members": [{"@odata.id": "/redfish/v1/Systems/1"}]},
        "/Systems/1": {"SerialNumber": "S-1", "Storage": {"@odata.id": "/redfish/v1/Drives"}},
    }  # fmt: skip

    def do_GET(self) -> None:
        found = self.tree.get(self.path.rstrip("/").removeprefix("/redfish/v1"))
        self.say(200 if found else 403, found or {})

    def do_POST(self) -> None:
        self.logins.append(self.path)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.say(201, {}, ("X-Auth-Token", "t"), ("Location", "https://bmc.example/Sessions/1"))

    def do_DELETE(self) -> None:
        self.logins.append(f"- {self.path}")
        self.say(204, {})

    def say(self, status: int, body: dict[str, Any], *headers: tuple[str, str]) -> None:
        text = b"" if status == 204 else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(text)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


def test_a_forbidden_resource_is_not_told_and_no_second_login(line: str, tmp_path: Path) -> None:
    address = "127.0.71.5"
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    spec = BmcSpec(protocol="redfish", address=IPv4Address(address), mac="02:00:5e:00:71:05")
    self_signed(spec, certificate, key)
    server = netns.call(line, lambda: ThreadingHTTPServer((address, 443), Reserved))
    over_tls(server, certificate, key)
    with serving(server):
        contact = found(line, address)
        told = netns.call(line, lambda: REDFISH.survey(contact, ACCESS, 20.0))
    assert told.inventory.serial == "S-1"
    assert told.inventory.drives == told.findings == ()
    assert Reserved.logins == ["/redfish/v1/Sessions", "- /Sessions/1"], "one, and it is closed"


# --- IPMI -----------------------------------------------------------------------------------------


def serve_udp(where: str, address: str, answer: Callable[[bytes], bytes]) -> None:
    """Answers every datagram to UDP 623 of `address` until this process ends."""
    port = netns.call(where, lambda: socket(AF_INET, SOCK_DGRAM))
    port.bind((address, 623))

    def loop() -> None:
        while True:
            said, client = port.recvfrom(2048)
            port.sendto(answer(said), client)

    threading.Thread(target=loop, daemon=True).start()


@pytest.fixture(scope="module")
def line() -> Iterator[str]:
    """A namespace with nothing but its own addresses."""
    name = f"seed-tl-{os.getpid()}"
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        ip("netns", "delete", name)


@pytest.mark.parametrize("verb", ["identify", "survey", "locate"])
def test_malformed_rmcp_plus(line: str, verb: str) -> None:
    """It answers the first question as IPMI does, and noise from then on."""
    address = {"identify": "127.0.71.1", "survey": "127.0.71.2", "locate": "127.0.71.3"}[verb]
    serve_udp(line, address, lambda said: liars.CAPABLE if said[4] == 0 else liars.NOISE)
    more = (True,) if verb == "locate" else ()

    def converse() -> Any:
        contact = Contact(address, "ipmi")
        return getattr(PROTOCOLS["ipmi"], verb)(contact, ACCESS, *more, 10.0)

    said = timed(line, converse, 10.0)
    assert isinstance(said, BmcError), said
    assert address in str(said)
    assert not isinstance(said, BmcLoginRefused), "noise refuses nobody"


def test_an_ipmi_conversation_is_ended(line: str) -> None:
    """One that answers the first question and hangs at the login; its process is gone, too."""
    address = "127.0.71.6"
    serve_udp(line, address, lambda said: liars.CAPABLE if said[4] == 0 else b"")
    ipmi: Any = PROTOCOLS["ipmi"]
    said: list[Exception] = []

    def survey() -> None:
        try:
            ipmi.survey(Contact(address, "ipmi"), ACCESS, 60.0)
        except BmcError as err:
            said.append(err)

    thread = threading.Thread(target=lambda: netns.call(line, survey))
    thread.start()
    until(lambda: bool(ipmi._going), 30, "the conversation's process")
    (process,) = ipmi._going
    begin = time.monotonic()
    ipmi.hang_up()
    thread.join(30)
    assert time.monotonic() - begin < STOP_SECONDS + MARGIN
    assert isinstance(said[0], HungUp), said
    assert process.returncode is not None


def test_weak_doors_are_found_without_a_login(line: str) -> None:
    """Cipher suites 0 and 3, and a user with neither name nor password."""
    suites = bytes.fromhex("01 c0 00 00 40 80 c0 03 01 41 81")
    open_doors = bytes.fromhex("0e 80 05 02 00 00 00 00")

    def answer(said: bytes) -> bytes:
        command = said[19]
        message = bytes([0x81, 0x1C, 0x63, 0x20, 0x04, command, 0])
        message += (suites if command == _ipmi_wire.GET_CIPHER_SUITES else open_doors) + b"\0"
        return _ipmi_wire.RMCP + bytes(9) + bytes([len(message)]) + message

    serve_udp(line, "127.0.71.4", answer)

    def ask() -> Any:
        address = "127.0.71.4"
        return _ipmi_wire.cipher_suites(address, 3.0), _ipmi_wire.doors(address, 3.0)

    found, doors = netns.call(line, ask)
    assert found == (0, 3)
    assert "cipher suite 0" in _ipmi_wire.weak_suites(found)[0]
    assert doors.version == "2.0"
    assert "empty password" in doors.weak[0]


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
@pytest.mark.parametrize("verb", ["identify", "survey", "locate"])
def test_nobody_there_is_said_in_time(
    room: tuple[str, Control], protocol: BmcProtocol, verb: str
) -> None:
    contact = Contact(GONE, protocol.name, "a" * 64, "PEM")
    more = (True,) if verb == "locate" else ()

    def converse() -> Any:
        return getattr(protocol, verb)(contact, ACCESS, *more, IN_TIME)

    said = timed(room[0], converse, IN_TIME)
    assert isinstance(said, BmcUnreachable)
    assert f"{GONE} did not answer" in str(said)
