"""Both doors to Ironic against the real one: operators' commands through TLS, and agents' lookups.

Ironic with fake hardware, nginx and the API run in a namespace of their own; needs root.
"""

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlmodel import select

from provisioning.models import Address, Event, Order
from provisioning.states import OrderKind
from provisioning.store import Store
from seed.host import appliance, netns, ready
from seed.host.paths import Paths
from seed.settings import Settings
from tests.fakes.appliance import initialised
from tests.fakes.wire import appliance_namespace, client_namespace, ip

MACS = ("52:54:00:22:00:01", "52:54:00:22:00:02", "52:54:00:22:00:03", "52:54:00:22:00:04")
ADDRESSES = ("172.22.0.11", "172.22.0.12", "172.22.0.13", "172.22.0.14")
STRANGER = "172.22.0.99"
BMC_PASSWORD = "bmc-password-nobody-may-read"
ENVS = Path(sys.prefix).parent
CHECKOUT = Path(__file__).parents[2]
SERVE = (
    "from seed.serve import serve_api; from seed.settings import Settings; serve_api(Settings())"
)


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, f"{what} not within {seconds} s"
        time.sleep(0.05)


@contextmanager
def base_folder() -> Iterator[Path]:
    """A folder that the services' users may enter."""
    base = Path(tempfile.mkdtemp(prefix="seed-test-", dir="/var/tmp"))
    base.chmod(0o755)
    try:
        yield base
    finally:
        shutil.rmtree(base)


@contextmanager
def the_api(settings: Settings, config: Path) -> Iterator[int]:
    """The API process from this checkout; its pid."""
    argv = [*netns.prefix(settings.namespace), sys.executable, "-c", SERVE]
    env = os.environ | {"SEED_CONFIG": str(config)}
    with (settings.log_dir / "api.log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=CHECKOUT, env=env, stdout=log, stderr=log)
    try:
        there = settings.gateway_socket.exists
        until(lambda: there() or process.poll() is not None, 60, "the sockets")
        until(lambda: ready.api(settings) or process.poll() is not None, 60, "the API")
        assert process.poll() is None, (settings.log_dir / "api.log").read_text()
        yield process.pid
    finally:
        begin = time.monotonic()
        process.terminate()
        process.wait(10)
        took = time.monotonic() - begin
    assert process.returncode == 0
    assert took < 3
    assert not settings.api_socket.exists()


@dataclass
class Site:
    """What runs, and how to ask it."""

    settings: Settings
    wire: str  # a namespace on the provisioning wire
    api_pid: int
    node_uuids: dict[str, str]

    @property
    def store(self) -> Store:
        return Store(self.settings.database_url)

    def local(self, method: str, path: str, body: Any = None) -> Any:
        transport = httpx.HTTPTransport(uds=str(self.settings.api_socket))
        with httpx.Client(transport=transport, timeout=30) as client:
            answer = client.request(method, f"http://seed{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def ironic(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Ironic itself, as the reconciler."""
        password = Paths(self.settings).ironic_password("seed-reconciler").read_text().strip()
        return netns.call(
            self.settings.namespace,
            lambda: httpx.request(
                method,
                self.settings.ironic_url + path,
                json=body,
                auth=("seed-reconciler", password),
                headers={"X-OpenStack-Ironic-API-Version": "1.95"},
                timeout=30,
            ),
        )

    def agent(self, source: str, method: str, path: str, body: Any = None) -> httpx.Response:
        """The gateway, as an agent at `source` on the provisioning wire."""
        trust = ssl.create_default_context(cafile=str(Paths(self.settings).tls / "ca.pem"))

        def ask() -> httpx.Response:
            transport = httpx.HTTPTransport(local_address=source, verify=trust)
            with httpx.Client(transport=transport, timeout=60) as client:
                url = self.settings.gateway_url + path
                headers = {"X-OpenStack-Ironic-API-Version": "1.68", "X-Real-IP": ADDRESSES[0]}
                return client.request(method, url, json=body, headers=headers)

        return netns.call(self.wire, ask)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with (
        base_folder() as base,
        appliance_namespace(f"seed-ga-{os.getpid()}") as namespace,
        client_namespace(namespace, f"seed-gc-{os.getpid()}-w1") as wire,
    ):
        for address in (*ADDRESSES, STRANGER):
            ip("-n", wire, "address", "add", f"{address}/24", "dev", "eth0")
        settings = started(base, namespace)
        try:
            with the_api(settings, base / "seed.toml") as pid:
                found = Site(settings, wire, pid, {})
                for name, mac in zip(("n1", "n2", "n3", "n4"), MACS, strict=True):
                    found.node_uuids[name] = enrolled(found, name, mac)
                yield found
        finally:
            appliance.down(settings)


def started(base: Path, namespace: str) -> Settings:
    settings = initialised(base, namespace)
    appliance.up(
        settings,
        names=["ironic", "nginx"],
        extra_hardware=["fake-hardware"],
        prepare_database=lambda: Store(settings.database_url).create(),
    )
    return settings


def enrolled(site: Site, name: str, mac: str) -> str:
    """A node with a port, as manageable as fake hardware is."""
    wanted = {
        "name": name,
        "driver": "fake-hardware",
        "inspect_interface": "agent",
        "resource_class": "baremetal",
        "driver_info": {"fake_password": BMC_PASSWORD, "fake_address": "172.22.1.11"},
    }
    answer = site.ironic("POST", "/v1/nodes", wanted)
    assert answer.status_code == 201, answer.text
    uuid: str = answer.json()["uuid"]
    port = site.ironic("POST", "/v1/ports", {"address": mac, "node_uuid": uuid})
    assert port.status_code == 201, port.text
    provision(site, name, "manage", "manageable")
    return uuid


def provision(site: Site, name: str, target: str, until_state: str) -> None:
    answer = site.ironic("PUT", f"/v1/nodes/{name}/states/provision", {"target": target})
    assert answer.status_code == 202, answer.text

    def there() -> bool:
        found = site.ironic("GET", f"/v1/nodes/{name}").json()
        assert not found["last_error"], found["last_error"]
        return bool(found["provision_state"] == until_state)

    until(there, 60, until_state)


# --- the raw door -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cloud(site: Site) -> dict[str, str]:
    """Environment of somebody with a clouds.yaml and nothing else."""
    made = site.local("POST", "/v1/tokens", {"name": "cloud", "roles": ["viewer"]})
    settings = site.settings
    endpoint = f"https://{settings.management.address.ip}:{settings.api_port}/baremetal"
    entry = {
        "auth_type": "http_basic",
        "auth": {"username": "cloud", "password": made["token"], "endpoint": endpoint},
        "baremetal_endpoint_override": endpoint,
        "cacert": str(Paths(settings).tls / "ca.pem"),
    }
    file = settings.state_dir / "clouds.yaml"
    file.write_text(json.dumps({"clouds": {"seed": entry}}))  # JSON is YAML
    file.chmod(0o600)
    kept = {"PATH": os.environ["PATH"], "HOME": str(settings.state_dir)}
    return kept | {"OS_CLOUD": "seed", "OS_CLIENT_CONFIG_FILE": str(file)}


def command(site: Site, cloud: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    program, *rest = words
    argv = [*netns.prefix(site.settings.namespace), str(ENVS / "tools" / "bin" / program), *rest]
    return subprocess.run(
        argv, env=cloud, cwd="/", capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("program", [("baremetal",), ("openstack", "baremetal")], ids=" ".join)
def test_node_list(site: Site, cloud: dict[str, str], program: tuple[str, ...]) -> None:
    done = command(site, cloud, *program, "node", "list", "-f", "json")
    assert done.returncode == 0, done.stderr
    assert {row["name"] for row in json.loads(done.stdout)} == set(site.node_uuids)


@pytest.mark.parametrize(
    "words",
    [
        "node show n1",
        "node list --long",
        "node list --limit 1",
        "node history list n1",
        "node trait list n1",
        "node bios setting list n1",
        "node firmware list n1",
        "node vif list n1",
        "port list --long",
        "port list --node n1",
        "driver list",
        "driver show fake-hardware",
        "driver property list ipmi",
        "conductor list",
        "allocation list",
        "port group list",
        "chassis list",
        "deploy template list",
        "shard list",
    ],
)
def test_reads_work_and_show_no_password(site: Site, cloud: dict[str, str], words: str) -> None:
    done = command(site, cloud, "baremetal", *words.split(), "-f", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) is not None
    assert BMC_PASSWORD not in done.stdout


@pytest.mark.parametrize(
    ("words", "verb"),
    [
        ("node power off n1", "seed claim create"),
        ("node provide n1", "seed node provide"),
        ("node deploy n1", "seed claim create"),
        ("node delete n1", "seed node"),
        ("node set n1 --driver-info a=b", "seed node"),
        ("node create --driver fake-hardware", "seed bmc accept"),
        ("node passthru call n1 third_method_sync --arg bar=x", "seed bmc show"),
        ("node passthru list n1", "seed bmc show"),
        ("node console show n1", "seed bmc show"),
        ("node boot device show n1", "seed bmc show"),
        ("allocation create --resource-class baremetal", "seed claim create"),
        ("port delete 3f0e3c5e-0000-4000-8000-000000000001", "seed"),
    ],
)
def test_everything_else_names_seeds_verb(
    site: Site, cloud: dict[str, str], words: str, verb: str
) -> None:
    done = command(site, cloud, "baremetal", *words.split())
    assert done.returncode != 0
    assert verb in done.stderr
    assert "HTTP 403" in done.stderr
    assert site.ironic("GET", "/v1/nodes/n1").json()["provision_state"] == "manageable"


def test_links_point_to_the_public_address(site: Site, cloud: dict[str, str]) -> None:
    settings = site.settings
    entry = json.loads(Path(cloud["OS_CLIENT_CONFIG_FILE"]).read_text())["clouds"]["seed"]
    trust = ssl.create_default_context(cafile=entry["cacert"])
    base = entry["auth"]["endpoint"]

    def get(path: str) -> httpx.Response:
        auth = (entry["auth"]["username"], entry["auth"]["password"])
        return netns.call(
            settings.namespace,
            lambda: httpx.get(base + path, auth=auth, verify=trust, timeout=30, trust_env=False),
        )

    uuid = site.node_uuids["n1"]
    for path in ("", "/", "/v1", "/v1/nodes?limit=1", f"/v1/nodes/{uuid}", "/v1/drivers"):
        text = get(path).text
        assert base in text
        assert settings.ironic_url not in text
    assert get("/v1/nodes?limit=1").json()["next"].startswith(f"{base}/v1/nodes?")


def test_ironics_router_has_no_word_that_we_take_for_an_id(site: Site) -> None:
    """Sub-resources where Ironic expects an id: each must be on our list of reserved words."""
    from api.allowed import RESERVED

    script = (
        "import json\n"
        "from ironic.api.controllers.v1 import chassis, driver, node, port, portgroup\n"
        "from pecan import rest\n"
        "kinds = (node.NodesController, driver.DriversController, port.PortsController,\n"
        "         portgroup.PortgroupsController, chassis.ChassisController)\n"
        "print(json.dumps(sorted({w for k in kinds for w in (\n"
        "    *(n for n, v in vars(k).items() if isinstance(v, rest.RestController)),\n"
        "    *getattr(k, '_custom_actions', {}))})))\n"
    )
    python = str(ENVS / "ironic" / "bin" / "python")
    done = subprocess.run(
        [python, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    words = set(json.loads(done.stdout))
    assert "vendor_passthru" in words
    assert words <= RESERVED


# --- the gateway --------------------------------------------------------------------------------


def an_order(site: Site, number: int, kind: OrderKind, **fields: Any) -> Order:
    node = UUID(site.node_uuids[f"n{number}"])
    mac, address = MACS[number - 1], ADDRESSES[number - 1]
    order = Order(node_uuid=node, kind=kind, generation=1, **{"macs": [mac]} | fields)
    with site.store.write() as session:
        session.add(order)
        session.add(Address(address=address, mac=mac, node_uuid=node))
    return order


def again(site: Site, order: Order) -> Order:
    with site.store.read() as session:
        return session.get_one(Order, order.id)


def inventory(mac: str) -> dict[str, Any]:
    return {
        "inventory": {
            "interfaces": [{"name": "eth0", "mac_address": mac, "ipv4_address": None}],
            "disks": [],
            "cpu": {"count": 1, "architecture": "x86_64"},
            "memory": {"physical_mb": 1024},
            "bmc_address": "172.22.1.11",
            "system_vendor": {"serial_number": "SN1"},
            "boot": {"pxe_interface": mac, "current_boot_mode": "uefi"},
        },
        "root_disk": None,
        "error": None,
    }


def test_one_token_per_order(site: Site) -> None:
    """The agent's way through an inspection, then another that asks for the same."""
    provision(site, "n1", "inspect", "inspect wait")
    order = an_order(site, 1, OrderKind.INSPECT)
    me, lookup = ADDRESSES[0], f"/v1/lookup?addresses={MACS[0]}"
    assert "versions" in site.agent(me, "GET", "/").json()
    first = site.agent(me, "GET", lookup)
    assert first.status_code == 200, first.text
    assert first.json()["node"]["uuid"] == str(order.node_uuid)
    token = first.json()["config"]["agent_token"]
    assert len(token) > 20
    beat = {"callback_url": f"https://{me}:9999", "agent_token": token, "agent_version": "13.0.0"}
    answer = site.agent(me, "POST", f"/v1/heartbeat/{order.node_uuid}", beat)
    assert answer.status_code == 202, answer.text
    again_read = site.agent(me, "GET", lookup)  # it has proved its token and reads its node anew
    assert again_read.status_code == 200
    assert again_read.json()["config"]["agent_token"] == "******"
    answer = site.agent(me, "POST", "/v1/continue_inspection", inventory(MACS[0]))
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"uuid": str(order.node_uuid)}  # and no token in it
    until(
        lambda: site.ironic("GET", "/v1/nodes/n1").json()["provision_state"] == "manageable",
        60,
        "the end of the inspection",
    )
    assert not again(site, order).alarm
    second = site.agent(ADDRESSES[1], "GET", lookup)
    assert second.status_code == 403
    assert token not in second.text
    assert again(site, order).alarm.startswith("a lookup from")
    assert site.agent(me, "POST", f"/v1/heartbeat/{order.node_uuid}", beat).status_code == 403
    with site.store.read() as session:
        alarms = session.exec(select(Event).where(Event.kind == "order.alarm")).all()
    assert [event.subject for event in alarms] == [str(order.node_uuid)]


def test_a_stranger_with_the_servers_mac_gets_nothing(site: Site) -> None:
    """X-Real-IP of the caller is worth nothing: nginx says where it really is."""
    provision(site, "n2", "inspect", "inspect wait")
    order = an_order(site, 2, OrderKind.INSPECT)
    lookup = f"/v1/lookup?addresses={MACS[1]}"
    assert site.agent(STRANGER, "GET", lookup).status_code == 403
    assert STRANGER in again(site, order).alarm
    assert site.agent(ADDRESSES[1], "GET", lookup).status_code == 403
    internal = site.ironic("GET", "/v1/nodes/n2").json()["driver_internal_info"]
    assert "agent_secret_token" not in internal


def test_ironic_refuses_and_the_agent_may_ask_again(site: Site) -> None:
    order = an_order(site, 3, OrderKind.INSPECT)  # but Ironic knows of no inspection yet
    lookup = f"/v1/lookup?addresses={MACS[2]}"
    assert site.agent(ADDRESSES[2], "GET", lookup).status_code == 404
    assert (again(site, order).lookup_at, again(site, order).alarm) == (None, "")
    provision(site, "n3", "inspect", "inspect wait")
    assert site.agent(ADDRESSES[2], "GET", lookup).status_code == 200


def test_without_an_order_ironic_is_not_even_asked(site: Site) -> None:
    provision(site, "n4", "inspect", "inspect wait")
    me = ADDRESSES[3]
    assert site.agent(me, "GET", f"/v1/lookup?addresses={MACS[3]}").status_code == 404
    assert site.agent(me, "POST", "/v1/continue_inspection", inventory(MACS[3])).status_code == 404
    beat = {"callback_url": f"https://{me}:9999", "agent_token": "x"}
    path = f"/v1/heartbeat/{site.node_uuids['n4']}"
    assert site.agent(me, "POST", path, beat).status_code == 409
    found = site.ironic("GET", "/v1/nodes/n4").json()
    assert found["provision_state"] == "inspect wait"
    assert "agent_secret_token" not in found["driver_internal_info"]


def test_nothing_else_is_on_the_provisioning_wire(site: Site) -> None:
    for path in ("/v1/nodes", "/v1/nodes/n1", "/baremetal/v1/nodes", "/healthz", "/v1/tokens"):
        assert site.agent(ADDRESSES[0], "GET", path).status_code == 404
    beat = f"/v1/heartbeat/{uuid4()}"
    assert site.agent(ADDRESSES[0], "PUT", beat, {}).status_code in (404, 405)


# --- the process --------------------------------------------------------------------------------


def test_sockets_are_not_for_everybody(site: Site) -> None:
    modes = {
        path.name: (path.stat().st_mode & 0o777, path.group())
        for path in (
            site.settings.api_socket,
            site.settings.web_socket,
            site.settings.gateway_socket,
        )
    }
    assert modes == {
        "api.sock": (0o660, "seed"),
        "web.sock": (0o660, "seed-nginx"),
        "gateway.sock": (0o660, "seed-nginx"),
    }


def test_the_kernel_says_who_calls(site: Site) -> None:
    """The same request as root, and as an ordinary user that holds an open connection."""
    assert site.local("GET", "/v1/tokens") is not None
    script = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "os.setgid(int(sys.argv[2])); os.setuid(65534); s.connect(sys.argv[1])\n"
        "s.sendall(b'GET /v1/tokens HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')\n"
        "print(s.makefile().readline())\n"
    )
    path = site.settings.api_socket
    group = str(path.stat().st_gid)
    done = subprocess.run(
        ["/usr/bin/python3", "-c", script, str(path), group],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert "403" in done.stdout


def test_a_second_api_does_not_take_over(site: Site) -> None:
    from provisioning.errors import HostError
    from seed.serve import listening

    with pytest.raises(HostError, match="another process answers"):
        listening(site.settings.api_socket, "seed").__enter__()


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    from seed.serve import listening

    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with listening(path, "no-such-group") as listener:
        assert listener.getsockname() == str(path)
    assert not path.exists()


def test_nothing_secret_is_in_the_log(site: Site, cloud: dict[str, str]) -> None:
    text = (site.settings.log_dir / "api.log").read_text()
    entry = json.loads(Path(cloud["OS_CLIENT_CONFIG_FILE"]).read_text())["clouds"]["seed"]
    password = Paths(site.settings).ironic_password("seed-api").read_text().strip()
    for secret in (entry["auth"]["password"], password, BMC_PASSWORD):
        assert secret not in text
    assert "event=api.started" in text
    assert "event=order.alarm" in text
    print((Path("/proc") / str(site.api_pid) / "smaps_rollup").read_text().splitlines()[2])
