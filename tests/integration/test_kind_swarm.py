"""A real swarm of Debian's docker.io: the very files and steps of the kind, in namespaces.

Each server is a mount, network, host name and process namespace of this machine; only systemctl is
not the real one: there is no systemd in it. Where the kernel has no IPVS, names of services lead to
their tasks' own addresses.
"""

import json
import os
import runpy
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from provisioning import on_node
from provisioning.kinds import ClusterFacts, MemberFacts
from provisioning.kinds.swarm import PLUGIN
from tests.fakes.appliance import base_folder, until
from tests.fakes.members import TOKEN, Gateway, a_gateway
from tests.fakes.unpacked import NotThere, Unpacked, unpack
from tests.fakes.wire import appliance_namespace, client_namespace, ip

MANAGER = MemberFacts(
    "web-c", "control", True, "uuid-c", "172.22.0.2/24", "eth0", {"example.org/rack": "r1"},
    ("node-role.kubernetes.io/control-plane:NoSchedule",),
)  # fmt: skip
WORKER = MemberFacts(
    "web-w", "worker", False, "uuid-w", "172.22.0.3/24", "eth0", {"example.org/rack": "r2"}
)
FACTS = ClusterFacts(
    "c1", "web", "", "", 6443, "10.244.0.0/16", "10.96.0.0/16", "cluster.local", (MANAGER, WORKER)
)
IPVS = Path("/proc/net/ip_vs").exists()
FAST = {"check_seconds": 1, "orders_seconds": 0.5}
SECOND = replace(MANAGER, name="web-d", first=False, node_uuid="uuid-d", address="172.22.0.4/24")
SYSTEMCTL = """\
#!/bin/sh
[ "$*" = "enable --now docker.service" ] || exit 1
setsid dockerd --storage-driver vfs </dev/null >>/var/lib/dockerd.log 2>&1 &
until [ -S /run/docker.sock ]; do sleep .1; done
"""
BOOT = """\
set -e
hostname {name}
mount --make-rprivate /
mount -t proc proc /proc
mount --bind {folder}/run /run
mount --bind {folder}/lib /var/lib
mount -t overlay -o lowerdir=/etc,upperdir={folder}/etc,workdir={folder}/work overlay /etc
mount -t overlay -o lowerdir={root}/usr/sbin:/usr/sbin overlay /usr/sbin
while :; do python3 /etc/seed-member/member.py || :; done
"""


@pytest.fixture(scope="module")
def docker() -> Iterator[Unpacked]:
    if os.geteuid() != 0:
        pytest.skip("NOT CHECKED: Docker Swarm: namespaces need root")
    with base_folder() as folder:
        try:
            found = unpack(folder, "docker.io", "busybox-static")
        except NotThere as why:
            pytest.skip(f"NOT CHECKED: Docker Swarm: it cannot be had here: {why}")
        (found.root / "usr/sbin").mkdir(parents=True, exist_ok=True)
        tools = found.root / "shim"
        tools.mkdir()
        (tools / "systemctl").write_text(SYSTEMCTL)
        (tools / "systemctl").chmod(0o755)
        yield found


@dataclass
class Server:
    """folder: what it has on its disk."""

    folder: Path

    def log(self) -> str:
        files = (self.folder / "log", self.folder / "lib/dockerd.log")
        return "".join(path.read_text() for path in files if path.exists())

    def asks(self, path: str) -> Any:
        """Its dockerd."""
        found = runpy.run_path(str(Path(on_node.__file__).with_name("swarm.py")))
        found["main"].__globals__["SOCKET"] = str(self.folder / "run/docker.sock")
        return found["ask"]("GET", path)


@dataclass
class Rack:
    top: str
    base: Path
    docker: Unpacked
    gateway: Gateway
    secrets: dict[str, str]
    facts: ClusterFacts = FACTS

    def lay(self, folder: Path, member: MemberFacts) -> None:
        facts = self.facts
        made = PLUGIN.files(facts, member, self.secrets)
        changes = on_node.Changes(
            PLUGIN.drain(facts, member),
            PLUGIN.leave(facts, member),
            PLUGIN.forget(facts, member),
            tries=PLUGIN.tries(facts, member),
        )
        _, own = on_node.member(
            self.gateway.url, TOKEN, self.gateway.ca, facts.id, member.name,
            PLUGIN.steps(facts, member), PLUGIN.check(facts, member),
            [part.path for part in made if not part.mode & 0o077], changes,
        )  # fmt: skip
        for name in ("run", "lib", "work", "etc"):
            (folder / name).mkdir(parents=True)
        for part in [*made, *own]:
            path = folder / part.path[1:]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(part.content)
            path.chmod(part.mode)
        path = folder / "etc/seed-member/swarm.py"
        (busybox,) = self.docker.root.rglob("bin/busybox")
        text = path.read_text().replace("/bin/busybox", str(busybox))
        if not IPVS:
            text = text.replace('{"Mode": "vip"}', '{"Mode": "dnsrr"}')
        path.write_text(text)
        path = folder / "etc/seed-member/member.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | FAST))

    @contextmanager
    def on(self, member: MemberFacts, disk: str) -> Iterator[Server]:
        """Power, until the end of it: nothing in it goes down in order."""
        folder, root = self.base / disk, self.docker.root
        self.lay(folder, member)
        tools = ":".join(str(root / part) for part in ("shim", "usr/bin", "usr/sbin"))
        env = {**os.environ, **self.docker.env, "PATH": f"{tools}:{os.environ['PATH']}"}
        boot = BOOT.format(name=member.name, folder=folder, root=root)
        with client_namespace(self.top, f"{self.top}-{member.name[-1]}x") as name:
            ip("-n", name, "address", "add", member.address, "dev", "eth0")
            argv = ["nsenter", f"--net=/run/netns/{name}", "unshare", "-m", "-u", "-p", "-f",
                    "--kill-child=SIGKILL", "sh", "-c", boot]  # fmt: skip
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen(argv, env=env, stdout=log, stderr=log)
            try:
                yield Server(folder)
            finally:
                process.kill()
                process.wait(20)

    def orders(self, member: MemberFacts, **told: Any) -> None:
        nothing = {"goal": "joined", "drain": [], "forget": [], "files": {}}
        self.gateway.orders_of[member.address.partition("/")[0]] = nothing | told

    def told(self, member: MemberFacts, step: str) -> list[str]:
        return [
            f"{report['state']} {report['detail']}".strip()
            for report in self.gateway.reports
            if (report["member"], report["step"]) == (member.name, step)
        ]


@pytest.fixture
def rack(docker: Unpacked) -> Iterator[Rack]:
    top = f"s{os.getpid() % 100000}"
    with ExitStack() as stack:
        base = stack.enter_context(base_folder())
        stack.enter_context(appliance_namespace(top, {"prov0": "172.22.0.1/24"}))
        gateway = a_gateway(base / "seed", "172.22.0.1", top)
        stack.enter_context(gateway.up())
        yield Rack(top, base, docker, gateway, PLUGIN.secrets(FACTS))


def nodes(server: Server) -> dict[str, dict[str, Any]]:
    """By ID."""
    return {node["ID"]: node for node in server.asks("/nodes")}


def test_two_servers_become_a_swarm_and_a_lost_worker_is_replaced(rack: Rack) -> None:
    """The worker is on first, and waits."""
    with ExitStack() as stay, ExitStack() as power:
        worker = power.enter_context(rack.on(WORKER, "w1"))
        until(lambda: rack.told(WORKER, "token") == ["running"], 60, "a worker that waits")
        manager = stay.enter_context(rack.on(MANAGER, "c"))
        for member in (MANAGER, WORKER):
            until(lambda m=member: rack.told(m, "")[-1:] == ["done"], 90, f"all of {member.name}")
            until(lambda m=member: rack.told(m, "check")[-1:] == ["done"], 30, "the check")
        found = {node["Description"]["Hostname"]: node for node in nodes(manager).values()}
        assert {(n["Spec"]["Role"], n["Status"]["State"]) for n in found.values()} == {
            ("manager", "ready"), ("worker", "ready"),
        }  # fmt: skip
        assert [found[name]["Spec"]["Availability"] for name in ("web-c", "web-w")] == [
            "drain", "active",
        ]  # fmt: skip
        until(
            lambda: {
                node["Spec"]["Labels"].get("example.org.rack") for node in nodes(manager).values()
            } == {"r1", "r2"},
            20, "labels",
        )  # fmt: skip
        nobody_reads_a_token(rack, [manager, worker])

        power.close()
        until(lambda: rack.told(MANAGER, "check")[-1].endswith("not Ready: web-w"), 60, "its loss")
        with rack.on(WORKER, "w2"):
            until(lambda: rack.told(MANAGER, "check")[-1] == "done", 60, "another in its place")
            assert len(nodes(manager)) == 2
            lost = found["web-w"]["ID"]
            assert lost not in nodes(manager)


def test_a_worker_and_a_manager_leave_and_are_forgotten(rack: Rack) -> None:
    """In order, by their orders alone; what is left is a swarm of one that serves."""
    rack.facts = replace(FACTS, members=(MANAGER, SECOND, WORKER))
    with ExitStack() as stay:
        servers = {m.name: stay.enter_context(rack.on(m, m.name)) for m in rack.facts.members}
        for member in rack.facts.members:
            until(lambda m=member: rack.told(m, "")[-1:] == ["done"], 120, f"all of {member.name}")
        assert len(nodes(servers["web-c"])) == 3
        for member in (WORKER, SECOND):
            rack.orders(MANAGER, drain=[member.name])
            drained = f"drain {member.name}"
            until(lambda d=drained: rack.told(MANAGER, d)[-1:] == ["done"], 60, drained)
            (node,) = [
                n for n in nodes(servers["web-c"]).values()
                if n["Description"]["Hostname"] == member.name
            ]  # fmt: skip
            assert (node["Spec"]["Availability"], node["Spec"]["Role"]) == ("drain", "worker")
            rack.orders(MANAGER)
            rack.orders(member, goal="leaving")
            until(lambda m=member: rack.told(m, "left") == ["done"], 90, f"{member.name} left")
            swarm = servers[member.name].asks("/info")["Swarm"]
            assert swarm["LocalNodeState"] == "inactive"
            rack.orders(MANAGER, forget=[member.name])
            forgotten = f"forget {member.name}"
            until(lambda f=forgotten: rack.told(MANAGER, f)[-1:] == ["done"], 60, forgotten)
        (last,) = nodes(servers["web-c"]).values()
        assert last["ManagerStatus"]["Leader"]
        until(lambda: rack.told(MANAGER, "check")[-1:] == ["done"], 30, "the check")


def test_a_cluster_is_tried_for_real_and_nothing_is_left_of_it(rack: Rack) -> None:
    """A container on each of two servers, of an image that both made; no registry is there."""
    rack.facts = replace(FACTS, members=(manager := replace(MANAGER, taints=()), WORKER))
    with rack.on(manager, "c") as first, rack.on(WORKER, "w") as second:
        for member in rack.facts.members:
            until(lambda m=member: rack.told(m, "check")[-1:] == ["done"], 180, member.name)
        rack.orders(manager, check=7)
        until(lambda: rack.told(manager, "try 7"), 500, "what came of it")
        state, _, detail = rack.told(manager, "try 7")[0].partition(" ")
        found = json.loads(detail)
        assert (state, {item: one[0] for item, one in found.items()}) == (
            "done", dict.fromkeys(("pods", "dns", "service", "volume", "clean-up"), "ok"),
        ), f"{found}\n{first.log()}\n{second.log()}"  # fmt: skip
        ran = {
            name for name in ("web-c", "web-w") for one in ("pods", "dns") if name in found[one][1]
        }
        assert ran == {"web-c", "web-w"}, "asked from another node"
        assert not first.asks("/services")
        assert not [n for n in first.asks("/networks") if n["Name"].startswith("seed-check")]
        for server in (first, second):
            until(lambda s=server: not s.asks("/containers/json?all=true"), 60, "no container")
            assert not server.asks("/volumes")["Volumes"]


def nobody_reads_a_token(rack: Rack, servers: list[Server]) -> None:
    tokens = [token.encode() for token in servers[0].asks("/swarm")["JoinTokens"].values()]
    assert len(tokens) == 2
    told = [*rack.gateway.values.values(), json.dumps(rack.gateway.reports).encode()]
    assert len(told) == 3
    for server in servers:
        told.append(server.log().encode())
        told += [p.read_bytes() for p in (server.folder / "lib/seed-member").rglob("*")]
    assert not [text for text in told for token in tokens if token in text]
