"""Row `room`: BMCs of a fleet from a sweep to `manageable` with inventory, phase by phase.

The peer does it as operators do without Seed: `baremetal create FILE`, then `baremetal node manage
--wait`, node after node, on stock Ironic. It is told all addresses and logins, and learns nothing
of the servers but their power. A few of its nodes say how long all of them take.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from provisioning.store import Store
from seed.host import appliance, netns, supervisor
from seed.host.services import PATH
from seed.lab.fleet.running import running
from seed.lab.fleet.spec import Spec
from seed.settings import Settings
from tests.bench import start
from tests.bench.measure import Row, cpu_of
from tests.fakes.appliance import base_folder, environments, initialised, until
from tests.fakes.wire import BRIDGES, appliance_namespace, ip

BMCS, PEER_BMCS = 1000, 20
PASSWORD = "fleet-password"
LONG = 3600.0
# Room for each NIC of each server.
WIRES = {**BRIDGES, "prov0": "172.24.0.1/18"}


@contextmanager
def _room(bmcs: int) -> Iterator[tuple[str, Spec]]:
    """A namespace for an appliance, and a fleet that it reaches as over a router."""
    spec = Spec(range="10.64.0.0/20", bmcs=bmcs, password=SecretStr(PASSWORD))
    fleet = f"seed-bf-{os.getpid()}"
    with ExitStack() as stack:
        here = stack.enter_context(appliance_namespace(f"seed-bench-{os.getpid()}", WIRES))
        ip("netns", "add", fleet)
        stack.callback(ip, "netns", "delete", fleet)
        stack.enter_context(running(spec, fleet, attach=here))
        yield here, spec


def ours(bmcs: int) -> list[Row]:
    with base_folder() as base, _room(bmcs) as (namespace, spec):
        os.environ["SEED_CONFIG"] = str(base / "seed.toml")
        settings = initialised(base, namespace)
        store = Store(settings.database_url)
        try:
            appliance.up(settings, prepare_database=store.create)
            return _phases(settings, spec)
        finally:
            store.engine.dispose()
            appliance.down(settings)


def _phases(settings: Settings, spec: Spec) -> list[Row]:
    root = supervisor.pid(settings)
    transport = httpx.HTTPTransport(uds=str(settings.api_socket))
    with httpx.Client(transport=transport, base_url="http://seed/v1", timeout=120.0) as api:

        def ask(method: str, path: str, body: Any = None) -> Any:
            return api.request(method, path, json=body).raise_for_status().json()

        ask("POST", "/credentials", {"name": "f", "username": "admin", "password": PASSWORD})
        sweep = {"ranges": [spec.range], "credential": "f", "rate": 0}
        phases: list[tuple[str, Callable[[], object]]] = [
            ("sweep and login", lambda: _swept(ask, sweep)),
            ("inventory", lambda: _all(ask, "/bmcs", lambda b: b["health"], spec.bmcs)),
            ("accept", lambda: [_accept(ask, b["address"]) for b in ask("GET", "/bmcs")]),
            ("manageable", lambda: _all(ask, "/nodes", _manageable, spec.bmcs)),
        ]
        rows, whole, used = [], 0.0, cpu_of(supervisor.tree(root))
        for name, do in phases:
            begin, before = time.monotonic(), cpu_of(supervisor.tree(root))
            do()
            seconds = time.monotonic() - begin
            cpu = 1000 * (cpu_of(supervisor.tree(root)) - before) / spec.bmcs
            whole += seconds
            rows.append(Row(f"room: {name}", round(seconds, 1), f"s per {spec.bmcs} BMCs"))
            rows.append(Row(f"room: {name}: CPU of one", round(cpu, 1), "ms"))
        cpu = 1000 * (cpu_of(supervisor.tree(root)) - used) / spec.bmcs
        rows.append(Row("room: CPU of one", round(cpu, 1), "ms"))
        return [Row("room", round(whole, 1), f"s per {spec.bmcs} BMCs"), *rows]


def _swept(ask: Callable[..., Any], sweep: dict[str, Any]) -> None:
    row = ask("POST", "/discoveries", sweep)
    until(lambda: _ended(ask("GET", f"/discoveries/{row['id']}")), LONG, "the sweep")


def _ended(row: dict[str, Any]) -> bool:
    if row["problems"] or row["state"] == "failed":
        raise RuntimeError(f"the sweep met problems: {row['problems'][:3]}")
    return bool(row["state"] == "done")


def _accept(ask: Callable[..., Any], address: str) -> None:
    ask("POST", f"/bmcs/{address}:accept", {"keep_login": True})


def _manageable(node: dict[str, Any]) -> bool:
    return node["provision_state"] not in ("", "enroll", "verifying", None)


def _all(ask: Callable[..., Any], path: str, good: Callable[[Any], Any], count: int) -> None:
    took = 0.1

    def done() -> bool:
        nonlocal took
        time.sleep(min(15.0, 10 * took))  # a list of all of them costs what is measured
        begin = time.monotonic()
        rows = ask("GET", path)
        took = time.monotonic() - begin
        return sum(bool(good(row)) for row in rows) == count

    until(done, LONG, f"{path} of all")


def peer(bmcs: int) -> float:
    """Seconds that all of them would take, by the first few."""
    with base_folder() as base, _room(bmcs) as (namespace, spec):
        config = base / "ironic.conf"
        config.write_text(start.IRONIC_CONF.format(base=base))
        for folder in ("http", "tftp"):
            (base / folder).mkdir()
        programs = environments() / "ironic" / "bin"
        start.run(namespace, base, programs / "ironic-dbsync", config, "create_schema").wait(120)
        server = start.run(namespace, base, programs / "ironic", config)
        try:
            until(lambda: "redfish" in start.drivers(namespace), 60, "Ironic's drivers")
            return _typed(namespace, base, spec.where()[:PEER_BMCS]) * spec.bmcs / PEER_BMCS
        finally:
            server.terminate()
            server.wait(60)


def _typed(namespace: str, base: Path, addresses: list[str]) -> float:
    nodes = [
        {
            "name": f"n{i}",
            "driver": "redfish",
            "driver_info": {
                "redfish_address": f"https://{address}",
                "redfish_username": "admin",
                "redfish_password": PASSWORD,
                "redfish_verify_ca": False,
            },
        }
        for i, address in enumerate(addresses)
    ]
    file = base / "nodes.json"
    file.write_text(json.dumps({"nodes": nodes}))
    begin = time.monotonic()
    _baremetal(namespace, "create", str(file))
    for node in nodes:
        _baremetal(namespace, "node", "manage", "--wait", "120", "--", str(node["name"]))
    return time.monotonic() - begin


def _baremetal(namespace: str, *words: str) -> None:
    program = environments() / "tools" / "bin" / "baremetal"
    environment = {"PATH": PATH, "OS_AUTH_TYPE": "none", "OS_ENDPOINT": "http://127.0.0.1:6385"}
    argv = [*netns.prefix(namespace), str(program), *words]
    subprocess.run(argv, check=True, timeout=300, env=environment, stdout=subprocess.DEVNULL)


def rows(bmcs: int = BMCS) -> list[Row]:
    told = ours(bmcs)
    theirs = peer(bmcs)
    whole = told[0]
    ratio = round(whole.ours / theirs, 3)
    return [Row("room", whole.ours, whole.unit, round(theirs, 1), ratio), *told[1:]]


ROWS: dict[str, Callable[[], list[Row]]] = {"room": rows}
