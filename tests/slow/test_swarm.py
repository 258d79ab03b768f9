"""A swarm on three servers of the lab, by one call: made, used, hurt, and given back."""

import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from seed.host import netns
from seed.lab.demo import Demo
from seed.lab.lab import Lab, stored
from tests.fakes.appliance import environments
from tests.fakes.filled import has_gpt
from tests.fakes.machine import traces, until
from tests.fakes.unpacked import unpack
from tests.slow.log import Log

NAMESPACE = "seed-swarm-slow"
HOME = Path("/var/tmp/seed-swarm-slow")  # noqa: S108  the services' own users must be able to enter it
ROOM = Path(__file__).resolve().parents[2] / "vagrant" / "room.yaml"
SERVERS = ("server1", "server2", "server3")
STORAGE = """\
name: storage
role: api
vlan: 30
subnets:
  - cidr: 10.30.0.0/24
    pools: [10.30.0.10-10.30.0.19]
"""
PLAIN = """\
name: plain
nics: {up: {boot: true}}
networks: [{network: storage, link: up}]
"""
SWARM = """\
name: web
kind: swarm
image: kubernetes-node
api: {network: storage}
control: {count: 1, layout: plain}
workers: {count: 2, layout: plain}
options: {heartbeat_seconds: 60}
"""
SAYS = "from the swarm"
PORT = 8080
SERVICE = (
    f"docker service create -d --name hello --replicas 2 --publish {PORT}:{PORT} "
    "--no-resolve-image --constraint node.role==worker web:local"
)


@pytest.fixture
def room() -> Iterator[Demo]:
    scenario = HOME / "lab.yaml"
    if scenario.exists():  # an earlier run was killed
        Demo(HOME, scenario).end()
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(mode=0o755)
    told = yaml.safe_load(ROOM.read_text())
    servers = [
        s | {
            "nics": s["nics"][:1], "memory_mib": 3072, "cx16": True,
            "disks": [s["disks"][0] | {"size_gib": 24}],  # the image wants 20
        }
        for s in told["servers"]
    ]  # fmt: skip
    told |= {"namespace": NAMESPACE, "servers": [s for s in servers if s["name"] in SERVERS]}
    scenario.write_text(yaml.safe_dump(told))
    demo = Demo(HOME, scenario)
    try:
        yield demo
    finally:
        demo.end()


@pytest.mark.slow(
    "provisioning/kinds/swarm.py", "provisioning/on_node", "provisioning/cluster_steps.py",
    "provisioning/memberships.py", "provisioning/members.py", "images/recipes/kubernetes_node.py",
    "tests/slow/test_swarm.py",
)  # fmt: skip
@pytest.mark.timeout(7200)
def test_swarm(log: Log, room: Demo) -> None:
    before = traces(NAMESPACE)
    room.start("ramdisk", "kubernetes-node")
    room.find()
    room.take_in()
    room.offer()
    room.make_key()
    for name, text in (("storage", STORAGE), ("plain", PLAIN), ("swarm", SWARM)):
        (HOME / f"{name}.yaml").write_text(text)
    room.seed("network", "put", str(HOME / "storage.yaml"))
    room.seed("layout", "put", str(HOME / "plain.yaml"))
    room.seed("cluster", "plan", str(HOME / "swarm.yaml"), "--ssh-key", f"{room.key}.pub")
    with room.phase("from the wish to ready"):
        room.seed(
            "cluster", "create", str(HOME / "swarm.yaml"), "--ssh-key", f"{room.key}.pub",
            "--wait",
        )  # fmt: skip
    cluster = room.look_at("/clusters/web")
    log.say(room.seed("cluster", "show", "web"))
    for line in between(room, cluster["id"]):
        log.say(line)
    members = {m["name"]: m for m in cluster["members"]}
    assert set(members) == {"web-control-0", "web-worker-0", "web-worker-1"}
    nodes = json_lines(on(log, room, "web-control-0", "docker node ls --format '{{json .}}'"))
    assert {(n["Hostname"], n["Status"]) for n in nodes} == {(m, "Ready") for m in members}

    for name in members:
        image_onto(log, room, name)
    on(log, room, "web-control-0", SERVICE)
    for name in members:
        until(lambda name=name: answers(room, address(room, name)), 300, f"{name} answers")
    assert answers(room, cluster["vip"], "web-control-0", log), "the VIP answers"

    lost = members["web-worker-1"]
    lab = Lab(stored(room.lab_dir), room.lab_dir, environments())
    lab.hypervisor.power(lost["node"], "off")
    until(lambda: homes(log, room) == {"web-worker-0"}, 300, "the task moved")
    assert answers(room, address(room, "web-control-0"))
    until(lambda: room.look_at("/clusters/web")["state"] == "degraded", 300, "degraded")
    problem = room.look_at("/clusters/web")["problem"]
    assert "web-worker-1" in problem, problem
    log.say(problem)

    room.seed("cluster", "release", "web", "--now", "--yes")
    with room.phase("release and clean"):
        until(lambda: room.look_at("/clusters/web")["state"] == "released", 1800, "released")
    room.follow_nodes("available")
    for disk in ("LAB-0001-D0", "LAB-0002-D0", "LAB-0003-D0"):
        assert not has_gpt(room, disk), disk
    assert room.ask("network", "show", "storage")["addresses"] == []
    for name, took in room.seconds.items():
        log.say(f"{name}: {took:.0f} s")
    room.end()
    assert traces(NAMESPACE) == before


def between(room: Demo, identity: str) -> list[str]:
    """When which state began, and what each member did, in seconds since the wish."""
    told = [e for e in room.look_at("/events?limit=1000") if e["subject"] == identity]
    begin = datetime.fromisoformat(told[0]["at"])
    return [
        f"{(datetime.fromisoformat(e['at']) - begin).total_seconds():7.1f} s  "
        f"{e['kind']} {e['message']}"
        for e in told
    ]


def line_of(room: Demo, name: str) -> list[str]:
    (line,) = room.ssh_lines(name)
    return [*shlex.split(line), "-o", "BatchMode=yes"]


def on(log: Log, room: Demo, name: str, command: str) -> str:
    return log.run([*line_of(room, name), f"sudo sh -c {shlex.quote(command)}"], 300)


def address(room: Demo, name: str) -> str:
    (node,) = room.look_at(f"/claims/{name}")["handout"]["nodes"]
    return str(node["address"])


def image_onto(log: Log, room: Demo, name: str) -> None:
    """An image of one static program, made here; each node has it, and no registry is asked."""
    root = HOME / "image"
    if not root.exists():
        (HOME / "busybox").mkdir()
        (busybox,) = unpack(HOME / "busybox", "busybox-static").root.rglob("bin/busybox")
        (root / "www").mkdir(parents=True)
        shutil.copy(busybox, root / "busybox")
        (root / "www" / "index.html").write_text(f"{SAYS}\n")
    tar = subprocess.run(
        ["tar", "-C", str(root), "-c", "."], capture_output=True, timeout=60, check=True
    ).stdout
    cmd = f'CMD ["/busybox","httpd","-f","-p","{PORT}","-h","/www"]'
    command = f"sudo docker import -c {shlex.quote(cmd)} - web:local"
    subprocess.run([*line_of(room, name), command], input=tar, timeout=300, check=True)


def answers(room: Demo, where: str, via: str = "", log: Log | None = None) -> bool:
    """Asked from the appliance; via: from this node, for what the appliance has no way to."""
    curl = ["curl", "-sm", "20", f"http://{where}:{PORT}/"]
    if via and log:
        return SAYS in on(log, room, via, shlex.join(curl))
    return SAYS in netns.run(NAMESPACE, curl, 60).stdout


def homes(log: Log, room: Demo) -> set[str]:
    """Where the service's tasks run."""
    told = on(
        log, room, "web-control-0",
        "docker service ps hello --filter desired-state=running --format '{{json .}}'",
    )  # fmt: skip
    tasks = json_lines(told)
    running = [t for t in tasks if t["CurrentState"].startswith("Running")]
    return {t["Node"] for t in running} if len(running) == 2 else set()


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
