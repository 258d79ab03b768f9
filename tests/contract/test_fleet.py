"""The fleet is what it says it is: other tests judge by it. Needs root, for a namespace."""

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

import provisioning.bmc
from provisioning import plugins
from provisioning.bmc import Access, BmcProtocol
from provisioning.errors import BmcLoginRefused
from seed.host import netns
from seed.lab.fleet.running import Control, running
from seed.lab.fleet.spec import Lie, Spec
from tests.fakes.wire import ip

PASSWORD = "fleet-password"
PROTOCOLS: dict[str, BmcProtocol] = plugins.load(provisioning.bmc)
NUMBERS = count()
FIRST, SECOND = "10.64.0.1", "10.64.1.85"


@contextmanager
def namespace() -> Iterator[str]:
    name = f"seed-tf-{os.getpid()}-{next(NUMBERS)}"
    ip("netns", "add", name)
    try:
        yield name
    finally:
        ip("netns", "delete", name)


@pytest.fixture(scope="module")
def room() -> Iterator[tuple[str, Control]]:
    spec = Spec(range="10.64.0.0/22", bmcs=3, password=SecretStr(PASSWORD))
    with namespace() as name, running(spec, name) as control:
        yield name, control


def client(**kwargs: Any) -> httpx.Client:
    return httpx.Client(verify=False, trust_env=False, **kwargs)  # noqa: S501 - it signs its own


def get(where: str, address: str, path: str, **kwargs: Any) -> httpx.Response:
    def ask() -> httpx.Response:
        with client(timeout=10) as web:
            return web.get(f"https://{address}{path}", **kwargs)

    return netns.call(where, ask)


def walk(where: str, address: str) -> dict[str, Any]:
    """Every resource that is linked from the root."""

    def visit() -> dict[str, Any]:
        seen: dict[str, Any] = {}
        waiting = ["/redfish/v1"]
        with client(timeout=10, auth=("admin", PASSWORD)) as web:
            while waiting:
                path = waiting.pop()
                if path not in seen:
                    answer = web.get(f"https://{address}{path}")
                    assert answer.status_code == 200, path
                    seen[path] = answer.json()
                    waiting += links(seen[path])
        return seen

    return netns.call(where, visit)


def links(body: Any) -> list[str]:
    if isinstance(body, list):
        return [link for part in body for link in links(part)]
    if not isinstance(body, dict):
        return []
    here = [body["@odata.id"]] if set(body) == {"@odata.id"} else []
    return here + [link for part in body.values() for link in links(part)]


def test_every_link_leads_to_a_resource(room: tuple[str, Control]) -> None:
    seen = walk(room[0], FIRST)
    assert all(body["@odata.id"] == path for path, body in seen.items())
    ports = [body for path, body in seen.items() if "/Ports/" in path]
    received = [p["Ethernet"]["LLDPReceive"] for p in ports]
    assert {(r["SystemName"], r["PortId"]) for r in received} == {
        ("leaf1-a", "Ethernet1"), ("leaf1-b", "Ethernet1")
    }  # fmt: skip


def test_only_the_root_is_open(room: tuple[str, Control]) -> None:
    where, _ = room
    assert get(where, FIRST, "/redfish/v1/").json()["RedfishVersion"]
    assert get(where, FIRST, "/redfish/v1/Systems").status_code == 401


def test_sessions_and_refused_logins_are_counted(room: tuple[str, Control]) -> None:
    where, control = room
    before = control.bmc(SECOND)

    def session(password: str) -> httpx.Response:
        with client(timeout=10) as web:
            url = f"https://{SECOND}/redfish/v1/SessionService/Sessions"
            return web.post(url, json={"UserName": "admin", "Password": password})

    assert netns.call(where, lambda: session("wrong")).status_code == 401
    opened = netns.call(where, lambda: session(PASSWORD))
    assert opened.status_code == 201
    after = control.bmc(SECOND)
    assert after["failed_logins"] - before["failed_logins"] == 1
    assert (after["sessions"], after["sessions_opened"], after["sessions_most"]) == (1, 1, 1)
    token = {"X-Auth-Token": opened.headers["X-Auth-Token"]}
    assert get(where, SECOND, "/redfish/v1/Systems/1", headers=token).status_code == 200


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_our_protocols_find_it(room: tuple[str, Control], protocol: BmcProtocol) -> None:
    contact = netns.call(room[0], lambda: asyncio.run(protocol.probe(FIRST, 5.0)))
    assert contact is not None
    assert (contact.address, contact.protocol) == (FIRST, protocol.name)
    assert netns.call(room[0], lambda: asyncio.run(protocol.probe("10.64.0.9", 0.3))) is None


def test_redfish_says_who_it_is(room: tuple[str, Control]) -> None:
    where, control = room
    redfish = PROTOCOLS["redfish"]

    def who(password: str) -> Any:
        contact = asyncio.run(redfish.probe(FIRST, 5.0))
        assert contact is not None
        return redfish.identify(contact, Access("admin", SecretStr(password)), 10.0)

    told = control.bmc(FIRST)
    identity = netns.call(where, lambda: who(PASSWORD))
    assert (identity.serial, identity.system_uuid) == (told["serial"], told["uuid"])
    assert identity.manager_mac == told["mac"]
    with pytest.raises(BmcLoginRefused):
        netns.call(where, lambda: who("wrong"))
    assert control.bmc(FIRST)["failed_logins"] == told["failed_logins"] + 1


def test_a_renewed_certificate_is_another_one(room: tuple[str, Control]) -> None:
    where, control = room

    def fingerprint() -> str:
        return ssl.get_server_certificate((FIRST, 443), timeout=5)

    first = netns.call(where, fingerprint)
    assert netns.call(where, fingerprint) == first
    control.renew_certificate(FIRST)
    assert netns.call(where, fingerprint) != first


def test_latency_is_where_it_is_asked_for(room: tuple[str, Control]) -> None:
    where, control = room
    control.set(FIRST, get_seconds=0.3)
    try:
        assert get(where, FIRST, "/redfish/v1").elapsed.total_seconds() < 0.3
        slow = get(where, FIRST, "/redfish/v1/Systems", auth=("admin", PASSWORD))
        assert slow.elapsed.total_seconds() >= 0.3
    finally:
        control.set(FIRST, get_seconds=0.0)


def said(where: str, lie: Lie) -> str:
    """How a plain client sees a liar: its exception or its answer."""

    def ask() -> str:
        limits = httpx.Timeout(1.0)
        with client(timeout=limits) as web:
            try:
                with web.stream("GET", f"https://{FIRST}/redfish/v1") as answer:
                    if answer.status_code != 200:
                        return str(answer.status_code)
                    size = int(answer.headers["content-length"])
                    if size > 10**9:
                        return "huge"
                    return type(httpx.Response(200, content=answer.read()).json()["Id"]).__name__
            except (httpx.HTTPError, ValueError) as error:
                return type(error).__name__

    return netns.call(where, ask)


@pytest.mark.parametrize(
    ("lie", "seen"),
    [
        (None, "str"),
        (Lie.HUGE_BODY, "huge"),
        (Lie.REDIRECT, "302"),
        (Lie.TRUNCATED, "JSONDecodeError"),
        (Lie.NOT_JSON, "UnicodeDecodeError"),
        (Lie.TYPES, "int"),
        (Lie.DRIP, "huge"),
        (Lie.TLS_GARBAGE, "ConnectError"),
        (Lie.HANG, "ConnectTimeout"),
        (Lie.DEEP_HUGE_BODY, "str"),
        (Lie.TWO_SYSTEMS, "str"),
    ],
)
def test_it_lies_as_it_is_told(room: tuple[str, Control], lie: Lie | None, seen: str) -> None:
    where, control = room
    control.lie(FIRST, lie)
    try:
        assert said(where, lie) == seen
    finally:
        control.lie(FIRST, None)


@pytest.mark.parametrize(
    ("lie", "members"), [(Lie.TWO_SYSTEMS, 2), (Lie.NO_SYSTEM, 0), (Lie.CYCLE, 1), (None, 1)]
)
def test_systems_of_a_liar(room: tuple[str, Control], lie: Lie | None, members: int) -> None:
    where, control = room
    control.lie(FIRST, lie)
    try:
        body = get(where, FIRST, "/redfish/v1/Systems", auth=("admin", PASSWORD)).json()
        assert len(body["Members"]) == members
        if lie is Lie.CYCLE:
            assert body["Members"][0]["@odata.id"] == "/redfish/v1/Systems"
    finally:
        control.lie(FIRST, None)


def test_ipmi_comes_from_the_address_that_was_asked(room: tuple[str, Control]) -> None:
    where, control = room
    question = bytes.fromhex("0600ff07000000000000000000092018c88100388e04b5")

    def ask() -> tuple[str, bytes]:
        with socket.socket(type=socket.SOCK_DGRAM) as port:
            port.settimeout(5)
            port.sendto(question, (SECOND, 623))
            data, source = port.recvfrom(512)
            return source[0], data

    source, data = netns.call(where, ask)
    assert source == SECOND
    assert data[19:21] == b"\x38\x00"
    control.lie(SECOND, Lie.RMCP_GARBAGE)
    assert b"\xde\xad\xbe\xef" in netns.call(where, ask)[1]
    control.lie(SECOND, None)


def test_memory_is_small() -> None:
    spec = Spec(range="10.64.0.0/16", bmcs=1000, password=SecretStr(PASSWORD))
    with namespace() as name, running(spec, name) as control:
        assert control.bytes_per_bmc() < 200_000


def test_half_of_all_packets_can_be_lost() -> None:
    spec = Spec(range="10.64.0.0/24", bmcs=1, password=SecretStr(PASSWORD), loss=0.5)

    def heard() -> int:
        with socket.socket(type=socket.SOCK_DGRAM) as port:
            for _ in range(200):
                port.sendto(bytes.fromhex("0600ff07000000000000000000092018c88100388e04b5"),
                            (FIRST, 623))  # fmt: skip
            port.settimeout(1)
            answers = 0
            with suppress(TimeoutError):
                while port.recv(512):
                    answers += 1
            return answers

    with namespace() as name, running(spec, name):
        assert 20 <= netns.call(name, heard) <= 80, "a quarter of 200, within reason"


def test_ipv6_and_a_wire_to_another_namespace() -> None:
    spec = Spec(range="2001:db8:64::/112", bmcs=2, password=SecretStr(PASSWORD))
    with namespace() as other, namespace() as name, running(spec, name, attach=other) as control:
        address = control.bmcs()[0]["address"]
        assert get(other, f"[{address}]", "/redfish/v1").status_code == 200
