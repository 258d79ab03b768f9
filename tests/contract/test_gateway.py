"""The node gateway: its rules, with a double of Ironic that keeps what reaches it."""

import json
import runpy
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlmodel import col, select

import provisioning.on_node
from api import gateway as gateway_module
from api import guard
from api.gateway import create_gateway
from api.parts import Parts
from api.proof import PhoneHome, Proof
from provisioning.errors import Forbidden
from provisioning.models import Address, Event, Order, now
from provisioning.secrets import digest
from provisioning.states import OrderKind
from tests.fakes.api import Asked, IronicDouble, ironic_double, some_parts
from tests.fakes.members import a_cluster

MAC, OTHER_MAC, STRANGER_MAC = "52:54:00:22:00:01", "52:54:00:22:00:02", "52:54:00:22:00:ff"
ADDRESS, OTHER_ADDRESS, FOREIGN = "172.22.0.50", "172.22.0.51", "172.22.0.222"
NOBODY = "ffffffff-0000-4000-8000-000000000000"  # no node of Ironic
TOKEN = "one-time-token-of-this-order"
PROOF: dict[str, Any] = {
    "token": TOKEN,
    "hostname": "web-0",
    "nics": [{"name": "enp1s0", "mac": MAC, "addresses": [f"{ADDRESS}/24", "fd00::1/64"]}],
    "disks": [{"name": "sda", "serial": "S1", "wwn": None, "size_bytes": 12 * 2**30, "root": True}],
    "cloud_init": {"status": "done", "errors": []},
    "boot_id": "0c5f4ec0-7c1b-4f0e-9f6e-3a5d0f4d1c11",
    "host_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample root@web-0"],
    "kernel": "6.12.48+deb13-amd64",
    "links": [
        {
            "name": "enp1s0", "kind": "physical", "mac": MAC, "own_mac": MAC, "mtu": 1500,
            "addresses": [f"{ADDRESS}/24"], "up": True, "bond": None, "vlan": None, "bridge": None,
        }
    ],
    "routes": [{"to": "0.0.0.0/0", "via": "172.22.0.1", "dev": "enp1s0"}],
    "dns": ["172.22.0.1"],
    "ntp": [],
    "root": {"raid": None, "disks": 1},
    "cmdline": "BOOT_IMAGE=/boot/vmlinuz root=UUID=1 ro",
    "services": [{"name": "ssh.service", "state": "active"}],
    "failed_units": [],
    "parts": [{"name": "join", "fetched": True, "problem": ""}],
}  # fmt: skip


@pytest.fixture
def ironic() -> Iterator[IronicDouble]:
    with ironic_double() as double:
        double.answer = lambda _: (200, {}, {"config": {"agent_token": "t0k3n"}})
        yield double


@pytest.fixture
def parts(tmp_path: Path, ironic: IronicDouble) -> Parts:
    return some_parts(tmp_path, ironic.url)


@pytest.fixture
def http(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_gateway(parts)) as client:
        yield client


def an_order(parts: Parts, kind: OrderKind = OrderKind.CLEAN, **fields: Any) -> Order:
    """An open order for the server with MAC at ADDRESS; other servers have reservations too."""
    order = Order(**{"node_uuid": uuid4(), "kind": kind, "generation": 1, "macs": [MAC]} | fields)
    with parts.store.write() as session:
        session.add(order)
        session.add(Address(address=ADDRESS, mac=MAC, node_uuid=order.node_uuid))
        session.add(Address(address=OTHER_ADDRESS, mac=OTHER_MAC, node_uuid=uuid4()))
    return order


def again(parts: Parts, order: Order) -> Order:
    with parts.store.read() as session:
        return session.get_one(Order, order.id)


def events(parts: Parts, kind: str) -> list[Event]:
    with parts.store.read() as session:
        return list(session.exec(select(Event).where(Event.kind == kind).order_by(col(Event.id))))


def alarmed(parts: Parts, order: Order) -> bool:
    """Both or neither: the order's column and the event."""
    alarm = again(parts, order).alarm
    assert len(events(parts, "order.alarm")) == bool(alarm)
    return bool(alarm)


def look_up(http: TestClient, source: str = ADDRESS, **query: str) -> httpx.Response:
    query = query or {"addresses": f"{MAC},02:00:00:00:00:01"}
    return http.get("/v1/lookup", params=query, headers={"X-Real-IP": source})


# --- routes -------------------------------------------------------------------------------------


def test_exactly_these_routes() -> None:
    routes = {(m, r.path) for r in gateway_module.router.routes for m in r.methods}  # type: ignore[attr-defined]
    assert routes == {
        ("GET", "/"),
        ("GET", "/v1"),
        ("GET", "/v1/lookup"),
        ("POST", "/v1/heartbeat/{node_uuid}"),
        ("POST", "/v1/continue_inspection"),
        ("POST", "/v1/phone-home"),
        ("GET", "/v1/parts/{token}"),
        ("POST", "/v1/members"),
        ("GET", "/v1/members/orders"),
        ("PUT", "/v1/members/values/{name}"),
        ("GET", "/v1/members/values/{name}"),
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nodes", 404),
        ("GET", "/v1/", 404),
        ("GET", "/v1/lookup/", 404),
        ("GET", "/v1/lookup.json", 404),
        ("GET", "//v1/lookup", 404),
        ("GET", "/healthz", 404),
        ("GET", "/v1/openapi.json", 404),
        ("GET", "/docs", 404),
        ("POST", "/v1/lookup", 405),
        ("HEAD", "/v1", 405),
        ("PATCH", "/", 405),
    ],
)
def test_nothing_else_answers(
    http: TestClient, ironic: IronicDouble, method: str, path: str, status: int
) -> None:
    url = f"http://testserver{path}"
    assert http.request(method, url, headers={"X-Real-IP": ADDRESS}).status_code == status
    assert ironic.asked == []


def test_versions_are_ironics(http: TestClient, ironic: IronicDouble) -> None:
    ironic.answer = lambda _: (200, {"OpenStack-API-Version": "baremetal 1.1"}, {"name": "Ironic"})
    for path in ("/", "/v1"):
        answer = http.get(path, headers={"X-Real-IP": FOREIGN})
        assert answer.json() == {"name": "Ironic"}
        assert answer.headers["openstack-api-version"] == "baremetal 1.1"
    assert [asked.path for asked in ironic.asked] == ["/", "/v1"]


@pytest.mark.parametrize("header", [{}, {"X-Real-IP": "nonsense"}, {"X-Real-IP": "::"}])
def test_without_an_address_nobody_comes_in(http: TestClient, header: dict[str, str]) -> None:
    assert http.get("/v1", headers=header).status_code == 403


# --- lookup -------------------------------------------------------------------------------------


def test_one_order_one_token(http: TestClient, parts: Parts, ironic: IronicDouble) -> None:
    order = an_order(parts)
    first = look_up(http)
    assert first.json() == {"config": {"agent_token": "t0k3n"}}
    assert (again(parts, order).agent_address, alarmed(parts, order)) == (ADDRESS, False)
    second = look_up(http)
    assert second.status_code == 403
    assert "t0k3n" not in second.text
    assert again(parts, order).alarm.startswith(f"a second lookup, from {ADDRESS}, at 20")
    assert look_up(http).status_code == 403
    assert len(ironic.asked) == 1
    assert alarmed(parts, order)


def test_ironic_is_asked_for_this_orders_node_only(
    http: TestClient, parts: Parts, ironic: IronicDouble
) -> None:
    order = an_order(parts)
    headers = {
        "X-Real-IP": ADDRESS,
        "X-OpenStack-Ironic-API-Version": "1.68",
        "User-Agent": "agent/13",
        "Authorization": "Basic eDp5",
    }
    query = {"addresses": f"{MAC},{OTHER_MAC}"}
    assert http.get("/v1/lookup", params=query, headers=headers).status_code == 200
    (asked,) = ironic.asked
    assert asked.path == f"/v1/lookup?node_uuid={order.node_uuid}"
    assert asked.headers["x-openstack-ironic-api-version"] == "1.68"
    assert asked.headers["user-agent"] == "agent/13"
    assert "authorization" not in asked.headers


@pytest.mark.parametrize("source", [FOREIGN, OTHER_ADDRESS])
def test_a_lookup_from_elsewhere_stops_the_order(
    http: TestClient, parts: Parts, ironic: IronicDouble, source: str
) -> None:
    order = an_order(parts)
    assert look_up(http, source).status_code == 403
    assert source in again(parts, order).alarm
    assert look_up(http).status_code == 403  # and the right one is too late
    assert ironic.asked == []
    assert alarmed(parts, order)


@pytest.mark.parametrize(
    "query",
    [
        {"addresses": STRANGER_MAC},
        {"addresses": OTHER_MAC},
        {"addresses": "nonsense"},
        {"addresses": ""},
        {"node_uuid": NOBODY},
        {"addresses": MAC, "node_uuid": NOBODY},
    ],
    ids=str,
)
def test_nobody_waits_for_others(http: TestClient, parts: Parts, query: dict[str, str]) -> None:
    order = an_order(parts)
    assert look_up(http, **query).status_code == 404
    assert not alarmed(parts, order)


def test_a_closed_order_lets_nobody_in(http: TestClient, parts: Parts) -> None:
    order = an_order(parts, closed_at=now())
    assert look_up(http).status_code == 404
    assert not alarmed(parts, order)


def test_lookup_by_node_uuid_needs_the_nodes_address(http: TestClient, parts: Parts) -> None:
    order = an_order(parts)
    assert look_up(http, node_uuid=str(order.node_uuid)).status_code == 200
    with parts.store.write() as session:
        session.add(Order(node_uuid=(n := uuid4()), kind=OrderKind.CLEAN, generation=1))
    assert look_up(http, FOREIGN, node_uuid=str(n)).status_code == 403


@pytest.mark.parametrize("status", [404, 409, 500])
def test_an_agent_may_ask_again_when_ironic_gave_no_token(
    http: TestClient, parts: Parts, ironic: IronicDouble, status: int
) -> None:
    order = an_order(parts)
    ironic.answer = lambda _: (status, {}, {"error_message": "locked"})
    assert look_up(http).status_code == (503 if status == 500 else status)
    row = again(parts, order)
    assert (row.lookup_at, row.agent_address, row.alarm) == (None, "", "")
    ironic.answer = lambda _: (200, {}, {})
    assert look_up(http).status_code == 200


def test_of_two_at_once_exactly_one_wins(
    http: TestClient, parts: Parts, ironic: IronicDouble
) -> None:
    order = an_order(parts)
    both_in = threading.Event()

    def slow(_: Asked) -> tuple[int, dict[str, str], Any]:
        both_in.wait(20)
        return 200, {}, {}

    ironic.answer = slow
    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(look_up, http) for _ in range(2)]
        done, _ = wait(asking, timeout=20, return_when=FIRST_COMPLETED)
        assert [f.result().status_code for f in done] == [403]  # the other one is at Ironic's
        both_in.set()
        assert sorted(f.result().status_code for f in asking) == [200, 403]
    assert len(ironic.asked) == 1
    assert alarmed(parts, order)


def test_many_at_once_in_the_guard(parts: Parts) -> None:
    order = an_order(parts)
    start = threading.Barrier(8)

    def one(_: int) -> bool:
        start.wait(20)
        try:
            guard.lookup(parts.store, frozenset({MAC}), None, ADDRESS)
        except Forbidden:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(8))) == 1
    assert alarmed(parts, order)


def test_taking_back_keeps_an_alarm(parts: Parts) -> None:
    order = an_order(parts)
    before = guard.lookup(parts.store, frozenset({MAC}), None, ADDRESS)
    with pytest.raises(Forbidden):
        guard.lookup(parts.store, frozenset({MAC}), None, ADDRESS)
    guard.take_back(parts.store, before)
    assert again(parts, order).lookup_at is not None
    assert alarmed(parts, order)


def test_servers_that_share_a_mac_of_a_bmc_nic_do_not_stop_each_other(
    http: TestClient, parts: Parts
) -> None:
    shared = "02:00:00:aa:aa:aa"
    order = an_order(parts, macs=[MAC, shared])
    other = Order(node_uuid=uuid4(), kind=OrderKind.CLEAN, generation=1, macs=[shared])
    with parts.store.write() as session:
        session.add(other)
    assert look_up(http, addresses=f"{shared},{MAC}").status_code == 200
    assert again(parts, order).lookup_at is not None
    assert again(parts, other).lookup_at is None
    assert not alarmed(parts, other)


# --- heartbeat ----------------------------------------------------------------------------------


def beat(
    http: TestClient, node: UUID, source: str = ADDRESS, callback: str = f"https://{ADDRESS}:9999"
) -> int:
    body = {"callback_url": callback, "agent_token": "t0k3n", "agent_version": "13.0.0"}
    path = f"/v1/heartbeat/{node}"
    return http.post(path, json=body, headers={"X-Real-IP": source}).status_code


def test_the_agent_that_was_let_in_is_heard(
    http: TestClient, parts: Parts, ironic: IronicDouble
) -> None:
    order = an_order(parts)
    look_up(http)
    ironic.answer = lambda _: (202, {}, b"")
    assert beat(http, order.node_uuid) == 202
    assert json.loads(ironic.asked[-1].body) == {
        "callback_url": f"https://{ADDRESS}:9999",
        "agent_token": "t0k3n",
        "agent_version": "13.0.0",
    }
    assert not alarmed(parts, order)


def test_an_agent_that_proved_its_token_may_read_its_node_again(
    http: TestClient, parts: Parts, ironic: IronicDouble
) -> None:
    """As ironic-python-agent does right before it writes an image; nobody else may."""
    order = an_order(parts)
    look_up(http)
    ironic.answer = lambda _: (202, {}, b"")
    beat(http, order.node_uuid)
    ironic.answer = lambda _: (200, {}, b'{"config": {"agent_token": "******"}}')
    assert look_up(http).status_code == 200
    assert not alarmed(parts, order)
    assert look_up(http, FOREIGN).status_code == 403
    assert alarmed(parts, order)


def test_a_refused_heartbeat_proves_nothing(
    http: TestClient, parts: Parts, ironic: IronicDouble
) -> None:
    order = an_order(parts)
    look_up(http)
    ironic.answer = lambda _: (400, {}, b"{}")
    beat(http, order.node_uuid)
    assert look_up(http).status_code == 403
    assert alarmed(parts, order)


def test_no_open_order_is_no_alarm(http: TestClient, parts: Parts, ironic: IronicDouble) -> None:
    order = an_order(parts)
    assert beat(http, uuid4()) == 409
    assert beat(http, order.node_uuid, FOREIGN) == 409  # an older agent that still runs
    assert not alarmed(parts, order)
    assert ironic.asked == []


@pytest.mark.parametrize(
    ("source", "callback"),
    [
        (FOREIGN, f"https://{FOREIGN}:9999"),
        (ADDRESS, f"https://{FOREIGN}:9999"),
        (ADDRESS, f"http://{ADDRESS}:9999"),
        (ADDRESS, f"https://{ADDRESS}@{FOREIGN}:9999"),
        (ADDRESS, f"https://{ADDRESS}.evil.example:9999"),
        (ADDRESS, "https://[:9999"),
        (ADDRESS, ""),
    ],
)
def test_a_foreign_heartbeat_stops_the_order(
    http: TestClient, parts: Parts, ironic: IronicDouble, source: str, callback: str
) -> None:
    order = an_order(parts)
    look_up(http)
    assert beat(http, order.node_uuid, source, callback) == 403
    assert beat(http, order.node_uuid) == 403
    assert alarmed(parts, order)
    assert len(ironic.asked) == 1


# --- inspection ---------------------------------------------------------------------------------


def told(*macs: str, bmc: str | None = "172.22.1.12", serial: str | None = "SN2") -> dict[str, Any]:
    return {
        "inventory": {
            "interfaces": [{"name": f"e{n}", "mac_address": m} for n, m in enumerate(macs)],
            "disks": [{"name": "/dev/sda", "size": 1}],
            "bmc_address": bmc,
            "bmc_v6address": "::/0",
            "system_vendor": {"serial_number": serial, "manufacturer": "QEMU"},
        },
        "configuration": {"collectors": ["default"]},
        "error": None,
    }


def post(http: TestClient, body: Any, source: str = ADDRESS, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return http.post(
        "/v1/continue_inspection", content=content, headers={"X-Real-IP": source} | headers
    )


def test_a_known_server_is_inspected(http: TestClient, parts: Parts, ironic: IronicDouble) -> None:
    order = an_order(parts, OrderKind.INSPECT)
    # From 1.84 on Ironic's answer has an agent token: that version must not get through.
    version = {"X-OpenStack-Ironic-API-Version": "1.95", "OpenStack-API-Version": "baremetal 1.95"}
    assert post(http, told(MAC), **version).status_code == 200
    assert post(http, told(MAC)).status_code == 200  # the agent repeats what got lost
    assert json.loads(ironic.asked[0].body) == told(MAC)
    assert not {name for name in ironic.asked[0].headers if "api-version" in name}
    assert not alarmed(parts, order)
    assert look_up(http).status_code == 200


def test_an_inventory_from_elsewhere_stops_the_order(
    http: TestClient, parts: Parts, ironic: IronicDouble
) -> None:
    order = an_order(parts, OrderKind.INSPECT)
    assert post(http, told(MAC), FOREIGN).status_code == 403
    assert post(http, told(MAC)).status_code == 403  # and the right one is too late
    assert alarmed(parts, order)
    assert ironic.asked == []


def bmc_only(parts: Parts, **fields: Any) -> Order:
    """An inspect order for a server whose MACs nobody knows yet."""
    wanted = {"macs": [], "bmc_address": "172.22.1.12", "serial": "SN2"} | fields
    order = Order(node_uuid=uuid4(), kind=OrderKind.INSPECT, generation=1, **wanted)
    with parts.store.write() as session:
        session.add(order)
        session.add(Address(address=OTHER_ADDRESS, mac=OTHER_MAC, node_uuid=uuid4()))
    return order


@pytest.mark.parametrize(
    ("serial", "inventory"),
    [("SN2", told(STRANGER_MAC)), ("", told(STRANGER_MAC, serial=None))],
    ids=["by BMC and serial", "by BMC alone where no serial is known"],
)
def test_a_server_known_by_its_bmc_is_bound(
    http: TestClient, parts: Parts, serial: str, inventory: dict[str, Any]
) -> None:
    order = bmc_only(parts, serial=serial)
    assert post(http, inventory, FOREIGN).status_code == 200
    row = again(parts, order)
    assert (row.agent_address, row.agent_macs) == (FOREIGN, [STRANGER_MAC])
    assert post(http, inventory, FOREIGN).status_code == 200
    assert look_up(http, FOREIGN, addresses=STRANGER_MAC).status_code == 200
    assert not alarmed(parts, order)


@pytest.mark.parametrize(
    ("inventory", "source"),
    [(told(STRANGER_MAC), "172.22.0.223"), (told("52:54:00:22:00:fe"), FOREIGN)],
    ids=["the same MAC from another address", "another server with the same BMC and serial"],
)
def test_a_bound_order_is_not_bound_twice(
    http: TestClient, parts: Parts, inventory: dict[str, Any], source: str
) -> None:
    order = bmc_only(parts)
    assert post(http, told(STRANGER_MAC), FOREIGN).status_code == 200
    assert post(http, inventory, source).status_code == 403
    assert alarmed(parts, order)


def test_another_servers_address_cannot_be_bound(http: TestClient, parts: Parts) -> None:
    order = bmc_only(parts)
    assert post(http, told(STRANGER_MAC), OTHER_ADDRESS).status_code == 403
    assert alarmed(parts, order)


@pytest.mark.parametrize(
    "inventory",
    [
        told(STRANGER_MAC, bmc="172.22.1.99"),
        told(STRANGER_MAC, serial="SN3"),
        told(STRANGER_MAC, bmc=None),
        told(STRANGER_MAC, bmc="::"),
    ],
    ids=["other BMC", "other serial", "no BMC", "the BMC of a server without one"],
)
def test_an_unknown_server_is_noted_once_an_hour(
    http: TestClient,
    parts: Parts,
    ironic: IronicDouble,
    inventory: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = bmc_only(parts)
    for _ in range(3):
        assert post(http, inventory, FOREIGN).status_code == 404
    (event,) = events(parts, "discovery.unknown")
    assert (event.subject, event.data["source"]) == (STRANGER_MAC, FOREIGN)
    monkeypatch.setattr(guard, "now", lambda: now() + timedelta(minutes=61))
    post(http, inventory, FOREIGN)
    assert len(events(parts, "discovery.unknown")) == 2
    assert not alarmed(parts, order)
    assert ironic.asked == []


def test_unknown_servers_cannot_fill_the_disk(
    http: TestClient, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "UNKNOWN_MAX", 3)
    for n in range(6):
        post(http, told(f"52:54:00:99:00:0{n}"), FOREIGN)
    assert len(events(parts, "discovery.unknown")) == 3


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b"\xff", 400),
        (b'{"inventory": {"interfaces": []}}', 400),
        (b'{"inventory": NaN}', 400),
        (told(*[f"52:54:00:00:01:{n:02x}" for n in range(65)]), 400),
        ({"inventory": {"interfaces": [{"mac_address": MAC}], "disks": [{}] * 513}}, 400),
        (b"[" * 26, 400),
        (b" " * (2 * 1024 * 1024 + 1), 413),
        (b'{"inventory": {"interfaces": [{"mac_address": {"a": 1}}]}}', 400),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_inventories(
    http: TestClient, parts: Parts, ironic: IronicDouble, body: Any, status: int
) -> None:
    order = an_order(parts, OrderKind.INSPECT)
    answer = post(http, body)
    assert (answer.status_code, "remedy" in answer.json()) == (status, True)
    assert not alarmed(parts, order)
    assert ironic.asked == []


def test_a_large_inventory_passes(http: TestClient, parts: Parts, ironic: IronicDouble) -> None:
    an_order(parts, OrderKind.INSPECT)
    body = told(MAC) | {"logs": "A" * (1900 * 1024)}
    assert post(http, body).status_code == 200
    assert json.loads(ironic.asked[0].body) == body


# --- members ------------------------------------------------------------------------------------


def test_a_value_is_bytes_and_no_json(http: TestClient, parts: Parts) -> None:
    a_cluster(parts.store, {ADDRESS: "of-a-member", OTHER_ADDRESS: "of-another"})
    value, path = bytes(range(256)) + b'{"a": 1, "a": 2}', "/v1/members/values/join"
    mine = {"X-Real-IP": ADDRESS, "Authorization": "Bearer of-a-member"}
    theirs = {"X-Real-IP": OTHER_ADDRESS, "Authorization": "Bearer of-another"}
    assert http.get(path, headers=theirs).status_code == 404
    assert http.put(path, content=value, headers=mine).status_code == 204
    answer = http.get(path, headers=theirs)
    assert (answer.content, answer.headers["cache-control"]) == (value, "no-store")
    large = http.put(path, content=bytes(64 * 1024 + 1), headers=mine)
    assert (large.status_code, large.json()["remedy"]) == (422, "seed logs seed-api")
    report = {"cluster": "web", "member": "web-worker-0", "step": "init", "state": "running"}
    assert http.post("/v1/members", json=report, headers=mine).status_code == 204
    assert http.post("/v1/members", content=b"\0", headers=mine).status_code == 400


def test_a_member_gets_its_orders_and_a_stranger_none(http: TestClient, parts: Parts) -> None:
    a_cluster(parts.store, {ADDRESS: "of-a-member"})
    path, token = "/v1/members/orders", {"Authorization": "Bearer of-a-member"}
    answer = http.get(path, headers={"X-Real-IP": ADDRESS, **token})
    nothing = {"goal": "joined", "drain": [], "forget": [], "files": {}}
    assert (answer.status_code, answer.json()) == (200, nothing)
    assert http.get(path, headers={"X-Real-IP": ADDRESS}).status_code == 401
    assert http.get(path, headers={"X-Real-IP": OTHER_ADDRESS, **token}).status_code == 401
    assert http.get(path, headers={"X-Real-IP": ADDRESS, **token}).status_code == 401, "it ended"


# --- phone-home ---------------------------------------------------------------------------------


def call_home(http: TestClient, source: str = ADDRESS, **changes: Any) -> int:
    body = PROOF | changes
    return http.post("/v1/phone-home", json=body, headers={"X-Real-IP": source}).status_code


def test_a_proof_is_taken_once(http: TestClient, parts: Parts) -> None:
    order = an_order(parts, OrderKind.DEPLOY, proof_hash=digest(TOKEN))
    assert call_home(http) == 204
    row = again(parts, order)
    assert row.proof_at is not None
    assert row.proof == {name: value for name, value in PROOF.items() if name != "token"}
    assert call_home(http, hostname="other") == 404
    assert again(parts, order).proof == row.proof
    with parts.store.read() as session:
        assert TOKEN not in str(session.exec(select(Event)).all())


@pytest.mark.parametrize(
    ("order", "source", "changes"),
    [
        ({}, FOREIGN, {}),
        ({}, OTHER_ADDRESS, {}),
        ({}, ADDRESS, {"token": "another-token-of-16"}),
        ({"closed_at": now()}, ADDRESS, {}),
        ({"kind": OrderKind.CLEAN}, ADDRESS, {}),
        ({"alarm": "somebody else was here"}, ADDRESS, {}),
        ({"proof_hash": ""}, ADDRESS, {}),
    ],
)
def test_no_proof_is_taken(
    http: TestClient, parts: Parts, order: dict[str, Any], source: str, changes: dict[str, Any]
) -> None:
    row = an_order(parts, **{"kind": OrderKind.DEPLOY, "proof_hash": digest(TOKEN)} | order)
    assert call_home(http, source, **changes) == 404
    assert again(parts, row).proof_at is None


def test_long_errors_are_cut_and_not_refused(http: TestClient, parts: Parts) -> None:
    order = an_order(parts, OrderKind.DEPLOY, proof_hash=digest(TOKEN))
    told = {"status": "error", "errors": ["x" * 5000] * 60}
    assert call_home(http, cloud_init=told) == 204
    kept = again(parts, order).proof
    assert kept is not None
    assert kept["cloud_init"] == {"status": "error", "errors": ["x" * 1000] * 50}


def test_the_script_on_the_server_speaks_this_shape() -> None:
    """What it really finds on this machine, as far as a machine without cloud-init has it."""
    script = runpy.run_path(str(Path(provisioning.on_node.__file__).with_name("phone_home.py")))
    script["proof"].__globals__["SETTLE_FOR"] = 0  # it may have no such service
    asked = {"token": TOKEN, "services": ["ssh.service"]}
    found = script["proof"](asked | {"first_boot": {"cloud_init": {}, "parts": []}})
    assert set(found) == set(PROOF)
    of_the_test = ("nics", "cloud_init", "host_keys")  # this machine may have none
    told = found | {name: found[name] or PROOF[name] for name in of_the_test}
    assert PhoneHome.model_validate(told | {"hostname": "web-0"})
    assert set(Proof.model_fields) == set(PROOF) - {"token"}


def test_the_script_names_the_disk_that_the_system_is_on() -> None:
    script = runpy.run_path(str(Path(provisioning.on_node.__file__).with_name("phone_home.py")))
    root = script["holds_root"]
    below = {"name": "md0", "children": [{"name": "lv", "mountpoint": "/"}]}
    assert root({"name": "sda", "mountpoint": None, "children": [{"name": "sda1"}, below]})
    assert not root({"name": "sdb", "children": [{"name": "sdb1", "mountpoint": "/srv"}]})
    assert not root({"name": "sdc", "mountpoint": None})


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": 1},
        {"token": "short"},
        {"hostname": "a b"},
        {"hostname": "-o"},
        {"nics": []},
        {"nics": [{"name": "e", "mac": "nonsense", "addresses": []}]},
        {"nics": [{"name": "e", "mac": MAC, "addresses": ["nonsense"]}]},
        {"disks": [{"name": "a", "size_bytes": -1}]},
        {"cloud_init": {"status": "done", "errors": [1]}},
        {"boot_id": "$(reboot)"},
        {"host_keys": []},
        {"host_keys": ["ssh-ed25519 AAAA x\n* ssh-ed25519 BBBB"]},
        {"host_keys": ["@revoked * ssh-ed25519 AAAA"]},
        {"host_keys": ["ssh-ed25519 AAAA"] * 9},
        {"kernel": "x" * 256},
        {"links": [PROOF["links"][0] | {"name": "a/b"}]},
        {"links": [PROOF["links"][0] | {"kind": "tunnel"}]},
        {"links": [PROOF["links"][0] | {"mtu": -1}]},
        {"links": [PROOF["links"][0] | {"up": "yes"}]},
        {"links": [PROOF["links"][0] | {"bond": {"mode": "x", "members": ["a"]}}]},
        {"links": PROOF["links"] * 65},
        {"routes": [{"to": "\u202e", "via": "x", "dev": "x"}]},
        {"dns": ["x\n"]},
        {"ntp": ["x"] * 65},
        {"root": {"raid": "1", "disks": [1]}},
        {"cmdline": "x" * 4097},
        {"services": [{"name": "a", "state": "active", "more": 1}]},
        {"parts": [{"name": "a", "fetched": 1, "problem": ""}]},
        {"failed_units": ["\x00"]},
    ],
    ids=str,
)
def test_a_proof_has_one_shape(http: TestClient, parts: Parts, changes: dict[str, Any]) -> None:
    order = an_order(parts, OrderKind.DEPLOY, proof_hash=digest(TOKEN))
    assert call_home(http, **changes) == 422
    assert again(parts, order).proof_at is None
