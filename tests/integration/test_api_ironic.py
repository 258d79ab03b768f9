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
from pydantic import SecretStr
from sqlmodel import select

from provisioning.errors import Conflict
from provisioning.ironic import Ironic
from provisioning.models import Address, Event, Order
from provisioning.request_ids import a_new_one, for_ironic
from provisioning.states import OrderKind
from provisioning.store import Store
from seed.commands.break_glass import warn
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


def a_cloud(site: Site, name: str, *roles: str) -> dict[str, str]:
    """Environment of somebody with a clouds.yaml and a token, and nothing else."""
    made = site.local("POST", "/v1/tokens", {"name": name, "roles": list(roles)})
    settings = site.settings
    server = f"https://{settings.management.address.ip}:{settings.api_port}"
    entry = {
        "auth_type": "http_basic",
        "auth": {"username": name, "password": made["token"], "endpoint": f"{server}/baremetal"},
        "baremetal_endpoint_override": f"{server}/baremetal",
        "cacert": str(Paths(settings).tls / "ca.pem"),
    }
    home = settings.state_dir / name
    home.mkdir(mode=0o700)
    file, token = home / "clouds.yaml", home / "token"
    file.write_text(json.dumps({"clouds": {"seed": entry}}))  # JSON is YAML
    token.write_text(made["token"])
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "OS_CLOUD": "seed",
        "OS_CLIENT_CONFIG_FILE": str(file),
        "SEED_SERVER": server,
        "SEED_TOKEN_FILE": str(token),
        "SEED_CA": entry["cacert"],
        "COLUMNS": "120",
    }


@pytest.fixture(scope="module")
def cloud(site: Site) -> dict[str, str]:
    return a_cloud(site, "cloud", "viewer")


@pytest.fixture(scope="module")
def operator(site: Site) -> dict[str, str]:
    return a_cloud(site, "op", "operator")


@pytest.fixture(scope="module")
def destroyer(site: Site) -> dict[str, str]:
    return a_cloud(site, "fire", "destroyer")


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
        "runbook list",
        "inspection rule list",
        "node children list n1",
        "node list --maintenance",
        "node list --fields uuid name extra description",
        "conductor show seed",
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
        ("node set n1 --driver-info a=b", "seed discover ADDRESS"),
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


def run(site: Site, env: dict[str, str], *words: str) -> str:
    done = command(site, env, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(site: Site, env: dict[str, str], *words: str) -> str:
    done = command(site, env, *words)
    assert done.returncode != 0, done.stdout
    return done.stderr


def events(site: Site, kind: str) -> list[Event]:
    with site.store.read() as session:
        return list(session.exec(select(Event).where(Event.kind == kind).order_by("id")))


@pytest.mark.parametrize("program", [("baremetal",), ("openstack", "baremetal")], ids=" ".join)
def test_an_operator_changes_what_an_operator_may(
    site: Site, operator: dict[str, str], program: tuple[str, ...]
) -> None:
    """Maintenance, description and extra, there and back."""
    before = len(events(site, "node.changed-raw"))
    run(site, operator, *program, "node", "maintenance", "set", "n1", "--reason", "new fan")
    found = site.ironic("GET", "/v1/nodes/n1").json()
    assert (found["maintenance"], found["maintenance_reason"]) == (True, "new fan")
    run(site, operator, *program, "node", "maintenance", "unset", "n1")
    words = ("--description", "below the window", "--extra", "rack=r1", "--extra", "u=7")
    run(site, operator, *program, "node", "set", "n1", *words)
    found = site.ironic("GET", "/v1/nodes/n1").json()
    assert not found["maintenance"]
    assert found["description"] == "below the window"
    assert {"rack": "r1"}.items() <= found["extra"].items()
    run(site, operator, *program, "node", "unset", "n1", "--description", "--extra", "rack")
    found = site.ironic("GET", "/v1/nodes/n1").json()
    assert not found["description"]
    assert "rack" not in found["extra"]
    new = events(site, "node.changed-raw")[before:]
    assert [(event.who, event.why) for event in new] == [
        ("op", "new fan"), ("op", ""), ("op", ""), ("op", "")
    ]  # fmt: skip
    assert {event.subject for event in new} == {site.node_uuids["n1"]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("node set n1 --extra seed=x", "extra.seed"),
        ("node set n1 --driver-info redfish_address=https://evil", "seed discover ADDRESS"),
        ("node set n1 --name other", "seed bmc accept"),
        ("node set n1 --resource-class other", "seed class apply"),
        ("node power off n1", "seed claim create"),
        ("node maintenance set n1 --reason=being_forgotten", "in words of your own"),
        ("node inspect n1", "seed node provide"),
        ("inspection rule delete x", "seed"),
    ],
)
def test_an_operator_is_told_what_to_type_instead(
    site: Site, operator: dict[str, str], words: str, said: str
) -> None:
    split = [word.replace("_forgotten", " forgotten") for word in words.split()]
    text = refused(site, operator, "baremetal", *split)
    assert said in text
    assert "HTTP 4" in text


def test_a_viewer_is_told_which_role_it_takes(site: Site, cloud: dict[str, str]) -> None:
    text = refused(site, cloud, "openstack", "baremetal", "node", "maintenance", "set", "n1")
    assert "it takes the role operator" in text


def test_openstacksdk(site: Site, operator: dict[str, str]) -> None:
    script = (
        "import json, openstack\n"
        "from openstack import exceptions\n"
        "b = openstack.connect(cloud='seed').baremetal\n"
        "names = sorted(n.name for n in b.nodes(details=True))\n"
        "node = b.find_node('n2')\n"
        "b.set_node_maintenance(node, 'by the SDK')\n"
        "set_ = b.get_node(node).maintenance_reason\n"
        "b.unset_node_maintenance(node)\n"
        "node = b.update_node(node, extra={**node.extra, 'sdk': 1}, description='d')\n"
        "try:\n"
        "    b.set_node_power_state(node, 'power off')\n"
        "except exceptions.ForbiddenException as error:\n"
        "    said = str(error)\n"
        "print(json.dumps([names, set_, b.get_node(node).extra, said]))\n"
    )
    names, reason, extra, said = json.loads(run(site, operator, "python", "-c", script))
    assert names == ["n1", "n2", "n3", "n4"]
    assert (reason, extra["sdk"]) == ("by the SDK", 1)
    assert "seed claim create" in said


# --- break-glass --------------------------------------------------------------------------------


def seed(site: Site, env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    argv = [*netns.prefix(site.settings.namespace), sys.executable, "-m", "seed", *words]
    env = env | {"SEED_CONFIG": str(site.settings.state_dir.parent / "seed.toml")}
    return subprocess.run(
        argv, env=env, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False
    )


def power_state(site: Site, node: str) -> str:
    return str(site.ironic("GET", f"/v1/nodes/{node}").json()["power_state"])


def test_break_glass(
    site: Site, destroyer: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Opened with a reason, a node powered off and on by hand, closed; each call is on record."""
    off = ("baremetal", "node", "power", "off", "n3")
    assert "seed claim create" in refused(site, destroyer, *off)
    done = seed(site, destroyer, "break-glass", "open", "--why", "n3 hangs, ticket 4711")
    assert done.returncode == 0, done.stderr
    assert "fire" in seed(site, destroyer, "break-glass", "show").stdout
    warn(site.settings.api_socket)  # as `seed status` and `seed doctor` do
    assert "fire may change raw Ironic until" in capsys.readouterr().err
    for target, words in (("power off", off), ("power on", (*off[:3], "on", "n3"))):
        run(site, destroyer, *words)
        until(lambda target=target: power_state(site, "n3") == target, 30, target)  # type: ignore[misc]
    called = events(site, "break-glass.called")
    assert {(event.who, event.why) for event in called} == {("fire", "n3 hangs, ticket 4711")}
    assert sum(e.message == "PUT /v1/nodes/n3/states/power" for e in called) == 2
    shown = run(site, destroyer, "baremetal", "node", "show", "n3", "-f", "json")
    assert BMC_PASSWORD not in shown
    assert "fake_password" in shown
    new = run(site, destroyer, "baremetal", "node", "create", "--driver", "fake-hardware",
              "--name", "byhand", "--driver-info", f"fake_password={BMC_PASSWORD}")  # fmt: skip
    assert BMC_PASSWORD not in new
    run(site, destroyer, "openstack", "baremetal", "node", "delete", "byhand")
    assert site.ironic("GET", "/v1/nodes/byhand").status_code == 404
    evil = "fake_address=evil"
    text = refused(site, destroyer, "baremetal", "node", "set", "n3", "--driver-info", evil)
    assert "seed discover ADDRESS" in text
    done = seed(site, destroyer, "break-glass", "close")
    assert done.returncode == 0, done.stderr
    text = refused(site, destroyer, *off)
    assert "ended at" in text
    assert "seed break-glass open" in text
    assert power_state(site, "n3") == "power on"


@pytest.mark.parametrize("op", ["copy", "move", "test"])
def test_no_password_is_carried_to_where_it_shows_or_guessed(
    site: Site, destroyer: dict[str, str], op: str
) -> None:
    """This Ironic refuses these three itself; a later one may take them, as RFC 6902 has them."""
    to = {"path": "/extra/x", "from": "/driver_info/fake_password"}
    guess = {"path": "/driver_info/fake_password", "value": BMC_PASSWORD}
    ops = [{"op": op, **(guess if op == "test" else to)}]
    own = site.ironic("PATCH", "/v1/nodes/n4", ops)
    assert own.status_code == 400, own.text
    done = seed(site, destroyer, "break-glass", "open", "--why", "a leak is tried here")
    assert done.returncode == 0, done.stderr
    answer = by_token(site, destroyer, "PATCH", "/baremetal/v1/nodes/n4", json=ops)
    assert (answer.status_code, BMC_PASSWORD in answer.text) == (403, False)
    assert seed(site, destroyer, "break-glass", "close").returncode == 0
    assert "x" not in site.ironic("GET", "/v1/nodes/n4").json()["extra"]


def by_token(
    site: Site, env: dict[str, str], method: str, path: str, **more: Any
) -> httpx.Response:
    """The API through TLS, as who holds the token of `env`."""
    trust = ssl.create_default_context(cafile=env["SEED_CA"])
    token = Path(env["SEED_TOKEN_FILE"]).read_text()
    headers = {"authorization": f"Bearer {token}", "x-openstack-ironic-api-version": "1.95"}
    return netns.call(
        site.settings.namespace,
        lambda: httpx.request(
            method,
            env["SEED_SERVER"] + path,
            headers=headers | more.pop("headers", {}),
            verify=trust,
            timeout=60,
            trust_env=False,
            **more,
        ),
    )


def test_the_request_id_is_in_ironics_log(site: Site, operator: dict[str, str]) -> None:
    answer = by_token(
        site, operator, "PUT", "/baremetal/v1/nodes/n4/maintenance",
        json={"reason": "x"}, headers={"X-Request-ID": "fan-4711"},
    )  # fmt: skip
    assert answer.status_code == 202
    assert answer.headers["x-request-id"] == "fan-4711"
    by_token(site, operator, "DELETE", "/baremetal/v1/nodes/n4/maintenance")
    assert events(site, "node.changed-raw")[-2].request_id == "fan-4711"
    until(lambda: for_ironic("fan-4711") in ironics_log(site), 20, "the id in Ironic's log")


def test_a_steps_id_is_in_ironics_log(site: Site) -> None:
    password = Paths(site.settings).ironic_password("seed-reconciler").read_text().strip()
    ironic = Ironic(site.settings.ironic_url, "seed-reconciler", SecretStr(password))

    def step() -> str:
        with a_new_one() as new, pytest.raises(Conflict):
            ironic.provision(site.node_uuids["n1"], "provide-nonsense")
        return new

    new = netns.call(site.settings.namespace, step)
    until(lambda: for_ironic(new) in ironics_log(site), 20, "the id in Ironic's log")


def ironics_log(site: Site) -> str:
    return "".join(path.read_text() for path in site.settings.log_dir.glob("ironic*.log"))


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


READ = {
    "nodes", "ports", "portgroups", "chassis", "drivers", "conductors", "allocations",
    "deploy_templates", "shards", "runbooks", "inspection_rules",
}  # fmt: skip
OF_NODES = {
    "ports", "portgroups", "vifs", "traits", "bios", "allocation", "history", "inventory",
    "children", "firmware",
}  # fmt: skip
NOT_READ = {"volume", "lookup", "heartbeat", "continue_inspection", "events", "vmedia"}
"""Each for a reason that api/allowed.py gives; events are only ever posted."""


def test_every_resource_of_this_ironic_was_looked_at() -> None:
    """A newer Ironic's new ones are neither passed nor forgotten."""
    from api.allowed import check
    from provisioning.errors import Forbidden

    script = (
        "import json\n"
        "from ironic.api.controllers.v1 import Controller, node\n"
        "maps = (Controller._subcontroller_map, node.NodesController._subcontroller_map)\n"
        "print(json.dumps([sorted(m) for m in maps]))\n"
    )
    python = str(ENVS / "ironic" / "bin" / "python")
    done = subprocess.run(
        [python, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    top, of_nodes = (set(words) for words in json.loads(done.stdout))
    assert top == READ | (NOT_READ - {"vmedia"})
    assert of_nodes == OF_NODES | {"vmedia", "volume"}
    for word in READ:
        check("GET", f"/v1/{word}", [])
    for word in OF_NODES:
        check("GET", f"/v1/nodes/n1/{word}", [])
    for path in (*(f"/v1/{word}" for word in NOT_READ), "/v1/nodes/n1/vmedia"):
        with pytest.raises(Forbidden):
            check("GET", path, [])


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
