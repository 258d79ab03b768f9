"""Docker Swarm as a kind: what each member is given and does, and what is refused before.

The fake dockerd answers as 20.10.24 and 26.1.5 were seen to; joins and tokens are checked as there.
"""

import io
import json
import runpy
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from provisioning import kinds, on_node, plugins
from provisioning.kinds import ClusterFacts, MemberFacts
from provisioning.kinds.swarm import PLUGIN
from tests.fakes.serving import serving

GOLDEN = Path(__file__).parents[1] / "golden" / "swarm"
NOT_GOLDEN = ("/key", ".key", "/swarm.py", "/etc/haproxy/haproxy.cfg", "keepalived.conf",
              "seed-password.conf")  # fmt: skip
DRAINED = ("node-role.kubernetes.io/control-plane:NoSchedule",)


def a_member(number: int, role: Any, **changes: Any) -> MemberFacts:
    labels = {"topology.kubernetes.io/rack": f"r{number % 2}", "unit": f"{number}", "class": "big"}
    made = MemberFacts(
        f"web-{number}", role, number == 0, f"1be26c0b-03f2-4d2e-ae87-c02d7f33c12{number}",
        f"10.30.0.{2 + number}/24", "bond0.30", labels,
    )  # fmt: skip
    return replace(made, **changes)


MEMBERS = (
    a_member(0, "control"), a_member(1, "control", taints=DRAINED), a_member(2, "control"),
    a_member(3, "worker"),
)  # fmt: skip
FACTS = ClusterFacts(
    "5f0ab2", "web", "26.1", "10.30.0.99", 6443, "10.244.0.0/16", "10.96.0.0/16", "cluster.local",
    MEMBERS, "https://172.22.0.1", registry="172.22.0.1:5000",
)  # fmt: skip
ROLES = {"first": MEMBERS[0], "control": MEMBERS[1], "worker": MEMBERS[3]}
SECRETS = {"key": "k" * 64, "manager-key": "m" * 64, "vrrp": "s3cret77"}


def files(member: MemberFacts, **changes: Any) -> dict[str, Any]:
    return {part.path: part for part in PLUGIN.files(replace(FACTS, **changes), member, SECRETS)}


def daemon(member: MemberFacts, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files(member, **changes)["/etc/docker/daemon.json"].content)
    return found


def test_it_is_found_as_a_plugin() -> None:
    assert plugins.load(kinds)["swarm"] is PLUGIN


@pytest.mark.parametrize("role", ROLES)
def test_a_members_files_are_the_golden_ones(role: str) -> None:
    made = {p: part for p, part in files(ROLES[role]).items() if not p.endswith(NOT_GOLDEN)}
    folder = GOLDEN / role
    there = {p for p in folder.rglob("*") if p.is_file() and p.name != "steps.yaml"}
    assert {f"/{p.relative_to(folder)}" for p in there} == set(made)
    for path, part in made.items():
        assert part.content.decode() == (folder / path[1:]).read_text(), path


@pytest.mark.parametrize("role", ROLES)
def test_a_members_steps_are_the_golden_ones(role: str) -> None:
    told = [asdict(one) for one in PLUGIN.steps(FACTS, ROLES[role])]
    told = [one for one in told if one["name"] not in ("load balancer", "address")]
    golden = yaml.safe_load((GOLDEN / role / "steps.yaml").read_text())
    assert [{**one, "argv": [*one["argv"]], "wants": [*one["wants"]]} for one in told] == golden


def test_managers_have_the_address_and_workers_have_not() -> None:
    ways = {"/etc/haproxy/haproxy.cfg", "/etc/keepalived/keepalived.conf"}
    for member in MEMBERS:
        control = member.role == "control"
        assert (ways <= set(files(member))) is control
        names = [step.name for step in PLUGIN.steps(FACTS, member)]
        assert ("address" in names) is control
        assert not ways & set(files(member, vip=""))
    assert b":2377" in files(MEMBERS[0])["/etc/haproxy/haproxy.cfg"].content


def test_a_worker_cannot_open_what_makes_managers() -> None:
    secrets = PLUGIN.secrets(FACTS)
    assert secrets["key"] != secrets["manager-key"]
    assert all(len(secrets[name]) == 64 for name in ("key", "manager-key"))
    for member in MEMBERS:
        found = files(member).values()
        has = any(SECRETS["manager-key"].encode() in part.content for part in found)
        assert has is (member.role == "control")
        secret = [
            part for part in found if any(s.encode() in part.content for s in SECRETS.values())
        ]
        assert {part.mode for part in secret} == {0o600}
        argvs = json.dumps([step.argv for step in PLUGIN.steps(FACTS, member)])
        assert not any(value in argvs for value in SECRETS.values())


@pytest.mark.parametrize(
    ("registry", "mirrors", "plain"),
    [
        ("", None, None), ("172.22.0.1:5000", ["https://172.22.0.1:5000"], None),
        ("http://172.22.0.1:5000/", ["http://172.22.0.1:5000"], ["172.22.0.1:5000"]),
    ],
)  # fmt: skip
def test_a_registry_is_a_mirror(
    registry: str, mirrors: list[str] | None, plain: list[str] | None
) -> None:
    told = daemon(MEMBERS[3], registry=registry)
    assert (told.get("registry-mirrors"), told.get("insecure-registries")) == (mirrors, plain)


# --- faults -------------------------------------------------------------------------------------


def some(*numbers: int) -> tuple[MemberFacts, ...]:
    return tuple(a_member(number, "control") for number in numbers)


def test_a_good_one_has_no_fault() -> None:
    for facts in (
        FACTS, replace(FACTS, vip=""), replace(FACTS, members=some(0)), replace(FACTS, version=""),
    ):  # fmt: skip
        assert PLUGIN.faults(facts) == []


@pytest.mark.parametrize(
    ("changes", "where", "sentence"),
    [
        ({"members": some(0, 1)}, "control.count", "a majority of 2 managers"),
        ({"members": some(0, 1, 2, 3)}, "control.count", "no more losses than one of 3"),
        ({"members": (a_member(3, "worker"),)}, "control.count", "needs a manager"),
        ({"service_cidr": "10.244.128.0/20"}, "service_cidr", "overlaps pod_cidr 10.244.0.0/16"),
        ({"pod_cidr": "10.30.0.0/20"}, "pod_cidr", "the members' network 10.30.0.0/24"),
        ({"service_cidr": "10.30.0.0/20"}, "service_cidr", "the members' network 10.30.0.0/24"),
        ({"pod_cidr": "10.244.0.0/24"}, "pod_cidr", "has no room"),
        ({"pod_cidr": "fd00::/56"}, "pod_cidr", "is not a range of IPv4"),
        ({"service_cidr": "10.96.0.1/16"}, "service_cidr", "is not a range of IPv4"),
        ({"vip": "10.30.0.5"}, "vip", "10.30.0.5 is the address of web-3"),
        ({"vip": "10.31.0.5"}, "vip", "10.31.0.5 is not in 10.30.0.0/24"),
        ({"api_port": 2377}, "api_port", "the swarm's"),
        ({"registry": "reg.example/path"}, "registry", "no path"),
        ({"options": {"cni": "cilium"}}, "options.cni", "has no option 'cni'"),
        ({"options": {"heartbeat_seconds": 4}}, "options.heartbeat_seconds", "from 5 to 600"),
        ({"options": {"heartbeat_seconds": True}}, "options.heartbeat_seconds", "from 5 to 600"),
        (
            {"members": (*some(0), a_member(3, "worker", taints=("gpu=yes:NoSchedule",)))},
            "workers.node_taints", "nothing like the taint gpu=yes:NoSchedule of web-3",
        ),
        (
            {"members": (*some(0), a_member(3, "worker", address="fd00::3/64"))},
            "networks", "web-3 has fd00::3/64",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_be_is_refused(changes: dict[str, Any], where: str, sentence: str) -> None:
    found = PLUGIN.faults(replace(FACTS, **changes))
    assert {fault.field for fault in found} == {where}
    assert sentence in found[0].sentence
    assert found[0].remedy


# --- on the node --------------------------------------------------------------------------------


@dataclass
class Swarm:
    """One for all daemons. heard: what was asked of whom, but for reading. ends: the state and exit
    code of a task that ends, of a service that is no server."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    heard: list[tuple[str, str]] = field(default_factory=list)
    services: list[dict[str, Any]] = field(default_factory=list)
    networks: list[dict[str, Any]] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    ends: tuple[str, int] = ("complete", 0)
    tokens: dict[str, str] = field(
        default_factory=lambda: {"Worker": "SWMTKN-1-w", "Manager": "SWMTKN-1-m"}
    )

    def add(self, name: str, role: str, state: str = "ready", **spec: Any) -> dict[str, Any]:
        node = {
            "ID": f"id{len(self.nodes)}", "Version": {"Index": 7},
            "Spec": {"Labels": {}, "Role": role, "Availability": "active"} | spec,
            "Description": {"Hostname": name, "Engine": {"Labels": {"rack": f"of-{name}"}}},
            "Status": {"State": state},
        }  # fmt: skip
        if role == "manager":
            leads = not any("ManagerStatus" in one for one in self.nodes)
            node["ManagerStatus"] = {"Leader": leads}
        self.nodes.append(node)
        return node


class Refusal(Exception):
    pass


class Daemon(BaseHTTPRequestHandler):
    name = ""
    swarm: Swarm
    own: dict[str, Any]
    """state, id: LocalNodeState and NodeID of this daemon."""

    def reply(self) -> None:
        sent = self.rfile.read(int(self.headers.get("content-length") or 0)) or b"null"
        body = sent if self.headers["content-type"] == "application/x-tar" else json.loads(sent)
        path, _, query = self.path.partition("?")
        if self.command != "GET":
            self.swarm.heard.append((self.name, f"{self.command} {self.path}"))
        try:
            status, told = 200, self.told(path, query, body)
        except Refusal as problem:
            status, told = 503, {"message": str(problem)}
        content = b"" if told is None else json.dumps(told).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = reply

    def told(self, path: str, query: str, body: Any) -> Any:
        reads: dict[str, Callable[[], Any]] = {
            "/version": lambda: {"Version": "26.1.5+dfsg1"},
            "/info": lambda: {
                "Swarm": {
                    "LocalNodeState": self.own["state"],
                    "NodeID": self.own["id"],
                    "ControlAvailable": self.own.get("manages", False),
                    "Error": "",
                }
            },
            "/nodes": lambda: self.swarm.nodes,
            "/tasks": lambda: self.running(unquote(query)),
            "/swarm": lambda: {"JoinTokens": self.swarm.tokens},
            "/swarm/init": lambda: self.enter("manager", body),
            "/swarm/join": lambda: self.join(body),
            "/swarm/leave": lambda: self.own.update(state="inactive"),
        }
        if path in reads:
            return reads[path]()
        if path.split("/")[1] in ("images", "networks", "services"):
            return self.tried(path, body)
        number = path.split("/")[2]
        node = next(one for one in self.swarm.nodes if one["ID"] == number)
        if self.command == "DELETE":
            if node["Spec"]["Role"] == "manager":
                raise Refusal("node is a cluster manager and is a member of the raft cluster")
            self.swarm.nodes.remove(node)
        else:
            assert query == "version=7"
            node["Spec"] = body
        return None

    def tried(self, path: str, body: Any) -> Any:
        """Images, networks and services, as far as a try has them."""
        noun, _, rest = path[1:].partition("/")
        rows: list[dict[str, Any]] = getattr(self.swarm, noun)
        if noun == "images":
            if self.command == "GET" and not rows:
                raise Refusal("No such image: localhost/seed-check:1")
            return self.swarm.images.append(body) if self.command == "POST" else {}
        if self.command == "GET":
            return rows
        if self.command == "POST":
            rows.append(body | {"ID": f"{noun}{len(rows)}", "Id": f"{noun}{len(rows)}"})
            return rows[-1]
        if noun == "networks" and self.swarm.services:
            raise Refusal("network is in use by service")
        rows[:] = [row for row in rows if row["ID"] != rest]
        return None

    def running(self, query: str) -> list[dict[str, Any]]:
        asked = json.loads(query.removeprefix("filters="))
        if "service" in asked:
            return self.of_service(asked["service"][0])
        (number,) = asked["node"]
        return [task for task in self.swarm.tasks if task["NodeID"] == number]

    def of_service(self, name: str) -> list[dict[str, Any]]:
        task = next(s for s in self.swarm.services if s["ID"] == name)["TaskTemplate"]
        barred = [word.partition("!=")[2] for word in task["Placement"]["Constraints"]]
        places = [
            n["ID"] for n in self.swarm.nodes
            if n["ID"] not in barred and n["Spec"]["Availability"] == "active"
        ]  # fmt: skip
        serves = "Mounts" in task["ContainerSpec"]
        state, code = ("running", 0) if serves else self.swarm.ends
        status = {"State": state, "Err": "told", "ContainerStatus": {"ExitCode": code}}
        return [{"NodeID": places[0], "Status": status}]

    def enter(self, role: str, body: dict[str, Any]) -> str:
        if self.own["state"] != "inactive":
            raise Refusal("This node is already part of a swarm")
        node = self.swarm.add(self.name, role, Availability=body["Availability"])
        self.own.update(state="active", id=node["ID"], body=body)
        return str(node["ID"])

    def join(self, body: dict[str, Any]) -> None:
        if body["RemoteAddrs"][0] == "10.30.0.2:2377":  # it is dead
            self.own["state"] = "pending"
            raise Refusal("Timeout was reached before node joined")
        role = {token: role for role, token in self.swarm.tokens.items()}.get(body["JoinToken"])
        if role is None:
            raise Refusal(f"invalid join token {body['JoinToken']}")
        self.enter(role.lower(), body)

    def log_message(self, *_: object) -> None:
        pass


class UnixServer(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[Any, Any]:
        return self.socket.accept()[0], ("local", 0)


@dataclass
class Node:
    home: Path
    script: dict[str, Any]
    own: dict[str, Any]

    def runs(self, verb: str, *words: str) -> str:
        """What it says where it fails; empty: it ended well."""
        try:
            self.script["main"](verb, *words)
        except SystemExit as problem:
            return str(problem)
        return ""


@contextmanager
def a_node(member: MemberFacts, swarm: Swarm, **changes: Any) -> Iterator[Node]:
    """member.py beside it is one that keeps what is put."""
    home = Path(tempfile.mkdtemp(prefix="s-"))  # a socket's path is short
    for part in files(member, **changes).values():
        (home / Path(part.path).name).write_bytes(part.content)
    (home / "member.py").write_text(
        "import sys, pathlib\n_, verb, name, file, key = sys.argv\n"
        "read = lambda path: pathlib.Path(path).read_text().strip()\n"
        f"open('{home}/put', 'a').write(f'{{verb}} {{name}} {{read(file)}} {{read(key)[0]}}\\n')\n"
    )
    own: dict[str, Any] = {"state": "inactive", "id": ""}
    handler = type("Own", (Daemon,), {"name": member.name, "swarm": swarm, "own": own})
    found = runpy.run_path(str(home / "swarm.py"))
    space: dict[str, Any] = found["main"].__globals__
    space |= {"SOCKET": str(home / "sock"), "KEPT": home, "TOKEN": home / "token"}
    space |= {"MEMBER": (sys.executable, str(home / "member.py")), "SETTLE_FOR": 0.1, "PAUSE": 0.01}
    try:
        with serving(UnixServer(str(home / "sock"), handler)):
            yield Node(home, space, own)
    finally:
        shutil.rmtree(home)


def test_the_first_begins_and_hands_each_token_to_those_who_may_have_it() -> None:
    swarm = Swarm()
    with a_node(MEMBERS[0], swarm) as node:
        assert node.runs("join") == ""
        assert node.runs("join") == "", "after a restart: it is in already"
        assert node.runs("tokens") == ""
        put = sorted((node.home / "put").read_text().splitlines())
        texts = [p.read_text() for p in node.home.iterdir() if p.is_file() and p.name != "put"]
    assert put == ["put swarm-manager SWMTKN-1-m m", "put swarm-worker SWMTKN-1-w k"]
    assert not any("SWMTKN" in text for text in texts), "no token stays on the disk"
    assert swarm.heard == [("web-0", "POST /swarm/init")]
    assert node.own["body"] == {
        "ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": "10.30.0.2:2377",
        "DataPathAddr": "10.30.0.2", "Availability": "active",
        "DefaultAddrPool": ["10.244.0.0/16"], "SubnetSize": 24,
        "Spec": {"Dispatcher": {"HeartbeatPeriod": 5 * 10**9}},
    }  # fmt: skip


def test_a_beginning_that_was_cut_off_begins_again() -> None:
    swarm = Swarm()
    with a_node(MEMBERS[0], swarm) as node:
        node.own["state"] = "error"
        assert node.runs("join") == ""
    assert [one["Spec"]["Role"] for one in swarm.nodes] == ["manager"]


def test_the_first_is_asked_first() -> None:
    members = (MEMBERS[2], MEMBERS[0], MEMBERS[1])
    told = json.loads(files(MEMBERS[3], members=members)["/etc/seed-member/swarm.json"].content)
    assert told["managers"] == ["10.30.0.2", "10.30.0.4", "10.30.0.3"]


def test_who_replaces_the_first_joins_and_begins_no_second_swarm() -> None:
    swarm = Swarm()
    with a_node(MEMBERS[0], swarm) as node:
        (node.home / "token").write_text("SWMTKN-1-m")
        assert node.runs("join") == ""
        assert not (node.home / "token").exists()
    assert swarm.heard == [("web-0", "POST /swarm/join")]


def test_a_dead_manager_is_passed_over_and_the_token_is_in_no_word() -> None:
    """The first in the list is dead: dockerd goes on trying it, until it is told to leave."""
    swarm = Swarm()
    with a_node(MEMBERS[3], swarm) as node:
        (node.home / "token").write_text("SWMTKN-1-wrong")
        said = node.runs("join")
        assert said == "10.30.0.4: invalid join token [secret]"
        (node.home / "token").write_text("SWMTKN-1-w")
        assert node.runs("join") == ""
    assert node.own["state"] == "active"
    assert [one["Spec"]["Role"] for one in swarm.nodes] == ["worker"]
    assert swarm.heard[-3:] == [
        ("web-3", "POST /swarm/join"), ("web-3", "POST /swarm/leave?force=true"),
        ("web-3", "POST /swarm/join"),
    ]  # fmt: skip


def test_a_manager_that_was_asked_to_has_no_tasks() -> None:
    swarm = Swarm()
    with a_node(MEMBERS[1], swarm) as node:
        (node.home / "token").write_text("SWMTKN-1-m")
        node.own["state"] = "pending"  # an earlier try that goes on in vain
        members = json.loads((node.home / "swarm.json").read_text())["managers"]
        assert members == ["10.30.0.2", "10.30.0.3", "10.30.0.4"]
        assert node.runs("join") == ""
    assert swarm.nodes[0]["Spec"]["Availability"] == "drain"


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("26.1.5", ""), ("26", ""), ("", ""),
        ("26.10", "this image has Docker 26.1.5, and 26.10 was asked for"),
        ("2", "this image has Docker 26.1.5, and 2 was asked for"),
        ("27", "this image has Docker 26.1.5, and 27 was asked for"),
    ],
)  # fmt: skip
def test_another_version_than_the_images_is_said(version: str, said: str) -> None:
    with a_node(MEMBERS[0], Swarm(), version=version) as node:
        assert node.runs("join") == said


def test_without_a_token_nobody_but_the_first_begins() -> None:
    swarm = Swarm()
    with a_node(MEMBERS[1], swarm) as node:
        assert node.runs("join") == f"{node.home}/token is not there"
    assert swarm.heard == []


def test_dockerd_that_is_down_is_said() -> None:
    with a_node(MEMBERS[0], Swarm()) as node:
        (node.home / "sock").unlink()
        assert node.runs("check") == "dockerd does not answer: FileNotFoundError"


def test_the_leader_labels_nodes_drops_replaced_ones_and_names_lost_ones() -> None:
    swarm = Swarm()
    with a_node(MEMBERS[0], swarm) as node:
        assert node.runs("join") == ""
        swarm.add("web-1", "manager")
        swarm.add("web-2", "manager", "down")
        swarm.add("web-2", "manager")
        swarm.add("web-3", "worker", "unknown")  # as a new leader sees it at first
        assert node.runs("check") == ""
        assert [one["Description"]["Hostname"] for one in swarm.nodes] == [
            "web-0", "web-1", "web-2", "web-3",
        ]  # fmt: skip
        assert swarm.nodes[1]["Spec"] == {
            "Labels": {"rack": "of-web-1"}, "Role": "manager", "Availability": "active",
        }  # fmt: skip
        before = len(swarm.heard)
        swarm.nodes[3]["Status"]["State"] = "down"
        assert node.runs("check") == "not Ready: web-3"
        assert len(swarm.heard) == before, "what is right is left alone"


def test_who_does_not_lead_leaves_all_alone() -> None:
    swarm = Swarm()
    swarm.add("web-0", "manager")
    swarm.add("web-9", "worker", "down")
    with a_node(MEMBERS[2], swarm) as node:
        (node.home / "token").write_text("SWMTKN-1-m")
        assert node.runs("join") == ""
        before = len(swarm.heard)
        assert node.runs("check") == ""
        assert len(swarm.heard) == before
        node.own["state"] = "pending"
        assert "this node is pending in its swarm" in node.runs("check")


def test_the_check_is_what_the_node_has() -> None:
    argv = PLUGIN.check(FACTS, MEMBERS[0])
    assert argv == ("python3", f"{on_node.MEMBER}/swarm.py", "check")
    assert argv[1] in files(MEMBERS[0])


def test_a_leader_names_managers_that_do_not_answer_it() -> None:
    """As GET /nodes has them: a worker has no ManagerStatus."""
    program = runpy.run_path(str(Path(on_node.__file__).with_name("swarm.py")))
    told: list[dict[str, Any]] = [
        {"Description": {"Hostname": "m-0"}, "ManagerStatus": {"Reachability": "reachable"}},
        {"Description": {"Hostname": "m-1"}, "ManagerStatus": {"Reachability": "unreachable"}},
        {"Description": {"Hostname": "w-0"}},
    ]
    assert program["unreachable"](told) == ["m-1"]


# --- does it work? ------------------------------------------------------------------------------


@contextmanager
def a_leader(swarm: Swarm) -> Iterator[Node]:
    """With a worker, and a busybox."""
    with a_node(MEMBERS[0], swarm) as node:
        (node.home / "busybox").write_bytes(b"static")
        node.script |= {"BUSYBOX": node.home / "busybox", "CLEAN_FOR": 0.1, "TRY_FOR": 0.2}
        assert node.runs("join") == ""
        swarm.add("web-3", "worker")
        yield node


def found(node: Node, capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    capsys.readouterr()
    assert node.runs("try", "7") == ""
    told: dict[str, list[str]] = json.loads(capsys.readouterr().out)
    return told


def test_a_leader_tries_a_service_on_two_nodes_and_takes_all_away(
    capsys: pytest.CaptureFixture[str],
) -> None:
    swarm = Swarm(networks=[{"ID": "old", "Id": "old"}])  # of another life
    with a_leader(swarm) as node:
        assert node.runs("check") == ""
        (image,) = swarm.images
        with tarfile.open(fileobj=io.BytesIO(image)) as tar:
            assert tar.getmember("bin/sh").linkname == "busybox"
        told = found(node, capsys)
        assert len(swarm.images) == 1, "it is there"
    assert {item: one[0] for item, one in told.items()} == dict.fromkeys(
        ("pods", "dns", "service", "volume", "clean-up"), "ok"
    )
    assert told["pods"][1] == "a task runs on web-0"
    assert told["dns"][1].endswith("looked up on web-3")
    assert not swarm.services + swarm.networks
    assert [heard for _, heard in swarm.heard if "/create" in heard] == [
        "POST /images/create?fromSrc=-&repo=localhost%2Fseed-check&tag=1",
        "POST /networks/create", "POST /services/create", "POST /services/create",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ends", "states"),
    [
        (("failed", 11), {"pods": "ok", "dns": "failed"}),
        (("failed", 12), {"pods": "ok", "dns": "ok", "service": "failed"}),
        (("failed", 13), {"pods": "ok", "dns": "ok", "service": "ok", "volume": "failed"}),
        (("failed", 127), {"pods": "ok", "dns": "failed"}),
        (("rejected", 0), {"pods": "ok", "dns": "failed"}),
        (("preparing", 0), {"pods": "ok", "dns": "failed"}),
    ],
)
def test_what_failed_is_said_and_all_is_taken_away(
    capsys: pytest.CaptureFixture[str], ends: tuple[str, int], states: dict[str, str]
) -> None:
    swarm = Swarm(ends=ends)
    with a_leader(swarm) as node:
        told = found(node, capsys)
    assert {item: one[0] for item, one in told.items()} == states | {"clean-up": "ok"}
    assert not swarm.services + swarm.networks


def test_where_nothing_can_run_it_is_said_and_another_manager_says_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    swarm = Swarm()
    with a_leader(swarm) as node:
        for one in swarm.nodes:
            one["Spec"]["Availability"] = "drain"
        assert found(node, capsys)["pods"][1].startswith("no node takes tasks")
        (node.home / "busybox").unlink()
        assert node.runs("check") == ""
        assert "build the node's image anew" in found(node, capsys)["pods"][1]
        node.own["id"] = "id9"
        assert node.runs("try", "8") == ""
        (node.home / "sock").unlink()  # another one may lead, and its word counts
        assert node.runs("try", "8") == ""
        assert capsys.readouterr().out == ""


# --- and out of it ------------------------------------------------------------------------------


def test_who_is_drained_manages_nothing_and_has_no_task_before_it_is_over() -> None:
    swarm = Swarm()
    swarm.add("web-0", "manager")
    gone = swarm.add("web-1", "manager")
    swarm.tasks = [
        {"NodeID": node, "Status": {"State": state}}
        for node, state in (("id1", "running"), ("id1", "shutdown"), ("id0", "running"))
    ]
    with a_node(MEMBERS[0], swarm) as node:
        assert node.runs("drain", "web-1") == "web-1 runs 1 task(s) still"
        assert (gone["Spec"]["Availability"], gone["Spec"]["Role"]) == ("drain", "worker")
        swarm.tasks[0]["Status"]["State"] = "shutdown"
        assert node.runs("drain", "web-1") == ""
        assert node.runs("drain", "web-7") == "", "it is there no more"
    assert swarm.heard == [("web-0", "POST /nodes/id1/update?version=7")]


def test_a_manager_does_not_leave_and_a_worker_does() -> None:
    swarm = Swarm()
    with a_node(MEMBERS[1], swarm) as node:
        node.own.update(state="active", manages=True)
        assert node.runs("leave") == "this node is a manager still"
        node.own["manages"] = False
        assert node.runs("leave") == ""
        assert node.runs("leave") == "", "after a restart"
        assert node.own["state"] == "inactive"
    assert swarm.heard == [("web-1", "POST /swarm/leave?force=true")]


def test_who_left_or_died_is_forgotten_and_who_is_there_is_not() -> None:
    swarm = Swarm()
    swarm.add("web-0", "manager")
    gone = swarm.add("web-1", "manager")
    with a_node(MEMBERS[0], swarm) as node:
        assert node.runs("forget", "web-1") == "web-1 is in the swarm still"
        assert gone in swarm.nodes
        gone["Status"]["State"] = "down"
        assert node.runs("forget", "web-1") == ""
        assert node.runs("forget", "web-1") == "", "said again"
    assert [one["Description"]["Hostname"] for one in swarm.nodes] == ["web-0"]
