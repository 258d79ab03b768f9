"""A swarm on three servers of the lab, by one call: made, used, hurt, mended, and given back."""

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from seed.host import netns
from seed.lab.demo import Demo
from seed.lab.lab import Lab, stored
from tests.fakes.appliance import environments
from tests.fakes.filled import has_gpt
from tests.fakes.machine import traces, until
from tests.fakes.unpacked import unpack
from tests.slow.booted import a_room, address, json_lines, line_of, on, ready, told, wish
from tests.slow.log import Log

NAMESPACE = "seed-swarm-slow"
HOME = Path("/var/tmp/seed-swarm-slow")  # noqa: S108  the services' own users must be able to enter it
SERVERS = ("server1", "server2", "server3", "server4")
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
    demo = a_room(HOME, NAMESPACE, SERVERS)
    try:
        yield demo
    finally:
        demo.end()


@pytest.mark.slow(
    "provisioning/kinds/swarm.py", "provisioning/on_node", "provisioning/cluster_steps.py",
    "provisioning/memberships.py", "provisioning/members.py", "images/recipes/kubernetes_node.py",
    "tests/slow/booted.py", "tests/slow/test_swarm.py",
)  # fmt: skip
@pytest.mark.timeout(7200)
def test_swarm(log: Log, room: Demo) -> None:
    before = traces(NAMESPACE)
    ready(room)
    wish(room, "plan", SWARM)
    with room.phase("from the wish to ready"):
        wish(room, "create", SWARM, "--wait")
    cluster = room.look_at("/clusters/web")
    log.say(room.seed("cluster", "show", "web"))
    for line in told(room, cluster["id"]):
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
    with room.phase("another in its place"):
        room.seed("cluster", "replace", "web", "web-worker-1", "--yes", "--wait")
    now = room.look_at("/clusters/web")
    assert {m["name"] for m in now["members"]} == {*members, "web-worker-2"} - {"web-worker-1"}
    nodes = json_lines(on(log, room, "web-control-0", "docker node ls --format '{{json .}}'"))
    assert {n["Hostname"] for n in nodes if n["Status"] == "Ready"} == {
        m["name"] for m in now["members"]
    }
    assert "web-worker-1" not in {n["Hostname"] for n in nodes}, "it is forgotten"
    image_onto(log, room, "web-worker-2")
    on(log, room, "web-control-0", "docker service update -d --force hello")
    new = {"web-worker-0", "web-worker-2"}
    until(lambda: homes(log, room) == new, 600, "a task on the new one")
    until(lambda: answers(room, address(room, "web-worker-2")), 300, "the new one answers")

    room.seed("cluster", "release", "web", "--now", "--yes")
    with room.phase("release and clean"):
        until(lambda: room.look_at("/clusters/web")["state"] == "released", 1800, "released")
    room.follow_nodes("available")
    for number in range(1, len(SERVERS) + 1):
        assert not has_gpt(room, f"LAB-000{number}-D0"), number
    assert room.ask("network", "show", "storage")["addresses"] == []
    for name, took in room.seconds.items():
        log.say(f"{name}: {took:.0f} s")
    room.end()
    assert traces(NAMESPACE) == before


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
