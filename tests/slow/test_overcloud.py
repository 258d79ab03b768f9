"""OpenStack of Debian's packages on servers of the lab, by one call: installed, used, rebooted."""

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioning.errors import HostError
from provisioning.installers.debian import DASHBOARD, PHYSNET, STAGES
from seed.lab.demo import Demo
from seed.lab.lab import Lab, stored
from tests.fakes.appliance import environments
from tests.fakes.filled import has_gpt
from tests.fakes.machine import traces, until
from tests.slow.booted import a_room, booted, events, on, put, ready, told
from tests.slow.log import Log

NAMESPACE = "seed-cloud-slow"
HOME = Path("/var/tmp/seed-cloud-slow")  # noqa: S108  the services' own users must be able to enter it
PATHS = (
    "provisioning/installers/debian.py", "provisioning/installers/debian_playbooks",
    "provisioning/overcloud_stages.py", "provisioning/playbooks.py", "provisioning/installed.py",
    "images/recipes/openstack_node.py", "tests/slow/booted.py", "tests/slow/test_overcloud.py",
)  # fmt: skip
IMAGE = "openstack-node"
QUICK: dict[str, Any] = {
    "name": "cloud", "installer": "debian", "image": IMAGE, "networks": {"api": "storage"},
    "control": {"count": 1, "layout": "plain"}, "options": {"driver": "fake"},
}  # fmt: skip
TWO = QUICK | {"compute": {"count": 1, "layout": "plain"}, "options": {"driver": "libvirt"}}
WHOLE = TWO | {
    "networks": {"api": "storage", "external": "outside"},
    "control": {"count": 1, "layout": "both"}, "options": {"driver": "libvirt", "zones": True},
    "services": ["horizon"],
}  # fmt: skip
OUTSIDE = "{name: outside, role: external, vlan: 40}\n"
BOTH = """\
name: both
nics: {up: {boot: true}}
networks: [{network: storage, link: up}, {network: outside, link: up}]
"""
PROVIDER = "10.40.0.1"
"""The provider's router, which the control node plays on its outer bridge."""
CLI = "OS_CLIENT_CONFIG_FILE=/root/clouds.yaml OS_CLOUD=cloud openstack"
LAST_WORDS = (
    "systemctl --failed --no-legend; journalctl -p 4 -n 40 --no-pager; "
    "tail -n 25 /var/log/keystone/*.log /var/log/nova/*.log /var/log/neutron/*.log "
    "/var/log/glance/*.log /var/log/openstack-dashboard/*.log /var/log/nginx/*.log "
    "2>&1 | cut -c1-400; free -m"
)
LONG = 7200


@pytest.fixture
def room(request: pytest.FixtureRequest) -> Iterator[Demo]:
    servers, memory, cpus = request.param
    demo = a_room(HOME, NAMESPACE, servers, memory, cpus)
    try:
        yield demo
    finally:
        demo.end()


@pytest.mark.slow(*PATHS)
@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("room", [(("server1",), 5120, 2)], indirect=True)
def test_quick_overcloud(log: Log, room: Demo) -> None:
    """All on one node, and Nova's fake driver: ACTIVE proves no guest, and everything says so."""
    before = traces(NAMESPACE)
    ready(room, IMAGE)
    with room.phase("from the claim to ready"):
        wish(log, room, QUICK)
    checked(log, room, guest=False)
    cloud = told_of(log, room, STAGES)
    assert cloud["proves"] == "Nova's fake driver: ACTIVE proves no guest"
    memory(log, room, "cloud-control-0")
    given_back(log, room, 1)
    room.end()
    assert traces(NAMESPACE) == before


@pytest.mark.slow(*PATHS)
@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("room", [(("server1", "server2"), 5120, 2)], indirect=True)
def test_overcloud(log: Log, room: Demo) -> None:
    """A control and a compute node: a guest takes its address and goes out by a router, and again
    after both nodes were rebooted."""
    before = traces(NAMESPACE)
    ready(room, IMAGE)
    for verb, name, text in (("network", "outside", OUTSIDE), ("layout", "both", BOTH)):
        (room.home / f"{name}.yaml").write_text(text)
        room.seed(verb, "put", str(room.home / f"{name}.yaml"))
    with room.phase("from the wish to ready"):
        wish(log, room, WHOLE)
    told_of(log, room, (*STAGES, DASHBOARD))
    use_clouds(log, room)
    make_outside(log, room)
    assert_whole(checked(log, room, guest=True))
    for name in ("cloud-control-0", "cloud-compute-0"):
        memory(log, room, name)
    restart(log, room, "cloud-control-0", "cloud-compute-0")
    with room.phase("all services again"):
        until(lambda: answers(log, room), 1800, "compute and network services are up again")
    provide(log, room)
    assert_whole(checked(log, room, guest=True))
    given_back(log, room, 2)
    room.end()
    assert traces(NAMESPACE) == before


@pytest.mark.slow(*PATHS)
@pytest.mark.timeout(LONG)
@pytest.mark.parametrize("room", [(("server1", "server2", "server3"), 5120, 2)], indirect=True)
def test_overcloud_changes(log: Log, room: Demo) -> None:
    """The compute node is lost, another takes its place, and a stage runs again."""
    before = traces(NAMESPACE)
    ready(room, IMAGE)
    with room.phase("from the wish to ready"):
        wish(log, room, TWO)
    told_of(log, room, STAGES)
    replace(log, room)
    again(log, room)
    given_back(log, room, 3)
    room.end()
    assert traces(NAMESPACE) == before


def make_outside(log: Log, room: Demo) -> None:
    """An external network, as the overcloud's administrator makes it."""
    words = f"--external --provider-network-type flat --provider-physical-network {PHYSNET}"
    on(log, room, "cloud-compute-0", f"{CLI} network create {words} outside")
    words = f"--network outside --subnet-range 10.40.0.0/24 --gateway {PROVIDER} --no-dhcp"
    on(log, room, "cloud-compute-0", f"{CLI} subnet create {words} outside")
    provide(log, room)


def provide(log: Log, room: Demo) -> None:
    words = f"ip address replace {PROVIDER}/24 dev br-ex && ip link set br-ex up"
    on(log, room, "cloud-control-0", words)


def assert_whole(items: dict[str, Any]) -> None:
    assert items["dashboard"]["state"] == "ok"
    assert items["router"]["state"] == "ok"
    assert f"by it its guest reaches {PROVIDER}" in items["router"]["sentence"]


def replace(log: Log, room: Demo) -> None:
    """A compute node that lost its power."""
    members = {m["name"]: m["node"] for m in room.look_at("/overclouds/cloud")["members"]}
    lab = Lab(stored(room.lab_dir), room.lab_dir, environments())
    lab.hypervisor.power(members["cloud-compute-0"], "off")
    with room.phase("replace the lost one"):
        tried(log, room, "replace", "cloud", "cloud-compute-0", "--yes", "--wait")
    log.say(room.seed("overcloud", "show", "cloud"))
    found = checked(log, room, guest=True)
    assert found["compute"]["sentence"] == "3 services are up", "who left is none of them"
    assert found["network"]["sentence"] == "2 agents are alive"


def again(log: Log, room: Demo) -> None:
    """A stage on nodes that have all of it already."""
    tries = {one["name"]: one["tries"] for one in room.look_at("/overclouds/cloud")["stages"]}
    with room.phase("a stage again"):
        tried(log, room, "resume", "cloud", "--stage", "placement", "--wait")
    stages = {one["name"]: one for one in room.look_at("/overclouds/cloud")["stages"]}
    log.say(f"placement again: {stages['placement']['seconds']:.0f} s")
    assert stages["placement"]["state"] == "done"
    assert stages["placement"]["tries"] == tries["placement"] + 1


def wish(log: Log, room: Demo, spec: dict[str, Any]) -> None:
    file = room.home / "cloud.yaml"
    file.write_text(yaml.safe_dump(spec))
    room.seed("overcloud", "plan", str(file), "--ssh-key", f"{room.key}.pub")
    tried(log, room, "create", str(file), "--ssh-key", f"{room.key}.pub", "--wait")


def tried(log: Log, room: Demo, *words: str) -> None:
    try:
        room.seed("overcloud", *words)
    except HostError:
        log.say(room.seed("overcloud", "show", "cloud"))
        if room.look_at("/overclouds/cloud")["stages"]:  # nodes are up: what do they say?
            log.say(on(log, room, "cloud-control-0", LAST_WORDS))
        raise


def told_of(log: Log, room: Demo, stages: Iterable[tuple[str, int]]) -> Any:
    log.say(room.seed("overcloud", "show", "cloud"))
    cloud = room.look_at("/overclouds/cloud")
    for line in told(room, cloud["id"]):
        log.say(line)
    assert [(stage["name"], stage["state"]) for stage in cloud["stages"]] == [
        (name, "done") for name, _seconds in stages
    ]
    for stage in cloud["stages"]:
        log.say(f"stage {stage['name']}: {stage['seconds']:.0f} s, {stage['tries']} try")
    assert events(room, cloud["id"])
    return cloud


def checked(log: Log, room: Demo, guest: bool) -> dict[str, Any]:
    """Its items. guest: a server boots for real, and its console says which address it took."""
    with room.phase("check"):
        found = room.ask("overcloud", "check", "cloud")
    log.say(str(found["items"]))
    items = {item["name"]: item for item in found["items"]}
    assert {item["state"] for item in items.values()} <= {"ok", "none"}, items
    for name in ("nodes", "endpoints", "compute", "network", "server"):
        assert items[name]["state"] == "ok"
    said = items["server"]["sentence"]
    assert ("runs no guest" in said) is not guest, said
    return items


def use_clouds(log: Log, room: Demo) -> None:
    """What `seed overcloud clouds` wrote works on another node, through the VIP and its TLS."""
    out = room.home / "openstack"
    room.seed("overcloud", "clouds", "cloud", "--out", str(out))
    told = yaml.safe_load((out / "clouds.yaml").read_text())
    told["clouds"]["cloud"]["cacert"] = "/root/cloud.ca.pem"
    put(room, "cloud-compute-0", "/root/cloud.ca.pem", (out / "cloud.ca.pem").read_bytes())
    put(room, "cloud-compute-0", "/root/clouds.yaml", yaml.safe_dump(told).encode())
    log.say(on(log, room, "cloud-compute-0", f"{CLI} compute service list -f value -c State"))
    zones = f"{CLI} availability zone list --compute -f value -c 'Zone Name'"
    log.say(on(log, room, "cloud-compute-0", zones))


def answers(log: Log, room: Demo) -> bool:
    """Both lists, and nobody is down."""
    try:
        states = on(log, room, "cloud-compute-0", f"{CLI} compute service list -f value -c State")
        agents = on(log, room, "cloud-compute-0", f"{CLI} network agent list -f value -c Alive")
    except (AssertionError, subprocess.TimeoutExpired):  # a worker that loads answers nothing
        return False
    return set(states.split()) == {"up"} and set(agents.split()) == {"True"}


def restart(log: Log, room: Demo, *names: str) -> None:
    """All of them at once, as after a power cut."""
    boots = {n: on(log, room, n, "cat /proc/sys/kernel/random/boot_id").strip() for n in names}
    for name in names:
        on(log, room, name, "systemd-run --on-active=1 systemctl reboot")
    with room.phase("reboot"):
        for name, boot in boots.items():
            until(lambda n=name, b=boot: booted(room, n) not in ("", b), 1800, f"{name} boots")


def memory(log: Log, room: Demo, name: str) -> None:
    log.say(f"{name}\n{on(log, room, name, 'free -m; df -m / | tail -1')}")


def given_back(log: Log, room: Demo, servers: int) -> None:
    room.seed("overcloud", "release", "cloud", "--now", "--yes")
    with room.phase("release and clean"):
        until(lambda: room.look_at("/overclouds/cloud")["state"] == "released", 1800, "released")
    room.follow_nodes("available")
    for number in range(1, servers + 1):
        assert not has_gpt(room, f"LAB-000{number}-D0"), number
    assert room.ask("network", "show", "storage")["addresses"] == []
    for name, took in room.seconds.items():
        log.say(f"{name}: {took:.0f} s")
