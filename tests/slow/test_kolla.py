"""Kolla-Ansible, as it is installed, on a server of the lab that Seed imaged: as far as it can go
without its collection and without images of containers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioning.errors import HostError
from provisioning.installers._kolla_project import BY_COLLECTION, lacks
from seed.lab.demo import Demo
from tests.fakes.appliance import environments
from tests.fakes.filled import has_gpt
from tests.fakes.machine import traces, until
from tests.slow.booted import a_room, events, on, ready, told
from tests.slow.log import Log

NAMESPACE = "seed-kolla-slow"
HOME = Path("/var/tmp/seed-kolla-slow")  # noqa: S108  the services' own users must be able to enter it
PATHS = (
    "provisioning/installers/kolla_ansible.py", "provisioning/installers/_kolla_tree.py",
    "provisioning/installers/_kolla_project.py", "provisioning/overcloud_stages.py",
    "provisioning/playbooks.py", "provisioning/installed.py", "images/recipes/overcloud_node.py",
    "tests/slow/booted.py", "tests/slow/test_kolla.py",
)  # fmt: skip
IMAGE = "overcloud-node"
ENV = environments() / "kolla-ansible"
OUTSIDE = "{name: outside, role: external, vlan: 50}\n"
BOTH = """\
name: both
nics: {up: {boot: true}}
networks: [{network: storage, link: up}, {network: outside, link: up}]
"""
SPEC: dict[str, Any] = {
    "name": "cloud", "installer": "kolla-ansible", "image": IMAGE,
    "networks": {"api": "storage", "external": "outside"},
    "control": {"count": 1, "layout": "both"},
}  # fmt: skip
# Nothing here tells nodes the time.
ALONE = SPEC | {"options": {"bootstrap_servers": False, "prechecks_enable_host_ntp_checks": False}}
NODE = "cloud-control-0"


@pytest.fixture
def room() -> Iterator[Demo]:
    assert (ENV / "bin" / "kolla-genpwd").exists(), "make env-kolla-ansible"
    demo = a_room(HOME, NAMESPACE, ("server1",), 4096, 2, 42)
    try:
        yield demo
    finally:
        demo.end()


@pytest.mark.slow(*PATHS)
@pytest.mark.timeout(5400)
def test_kolla_ansible(log: Log, room: Demo) -> None:
    """What is missing is said before a disk is touched; prechecks are green; pull ends in words."""
    before = traces(NAMESPACE)
    lay_out(room)
    if lacks(ENV / "share" / "kolla-ansible", BY_COLLECTION):
        with room.phase("without its collection"):
            wish(room, SPEC)
            until(lambda: "openstack.kolla" in cloud(room)["problem"], 60, "it says what it lacks")
        log.say(room.seed("overcloud", "show", "cloud"))
        assert (cloud(room)["state"], cloud(room)["stages"]) == ("claiming", [])
        room.seed("overcloud", "release", "cloud", "--now", "--yes")
        until(lambda: cloud(room)["state"] == "released", 120, "it is released")
        assert not has_gpt(room, "LAB-0001-D0"), "no disk was touched"
    with room.phase("from the wish to prechecks"):
        wish(room, ALONE)
        until(lambda: stage(room, "prechecks") in ("failed", "done"), 2400, "prechecks are over")
    log.say(room.seed("overcloud", "show", "cloud"))
    # Nothing here tells names, as bootstrap-servers would have, or an operator's DNS.
    assert NODE in cloud(room)["problem"]
    assert "stage prechecks: it failed at 'Check if" in cloud(room)["problem"]
    (api,) = [m["address"] for m in cloud(room)["members"]]
    log.say(on(log, room, NODE, f"echo {api} {NODE} | tee -a /etc/hosts"))
    room.seed("overcloud", "resume", "cloud")
    with room.phase("prechecks once more"):
        until(lambda: prechecked(room) != "running", 1800, "prechecks are over")
    log.say(room.seed("overcloud", "show", "cloud"))
    assert prechecked(room) == "done", cloud(room)["problem"]
    with room.phase("pull"):
        until(lambda: stage(room, "pull") == "failed", 1800, "there is no registry")
    log.say(room.seed("overcloud", "show", "cloud"))
    found = cloud(room)
    assert NODE in found["problem"], "which node"
    assert "pull" in found["problem"]
    for line in told(room, found["id"]):
        log.say(line)
    assert events(room, found["id"])
    log.say(on(log, room, NODE, "free -m; df -m / | tail -1"))
    given_back(log, room)
    room.end()
    assert traces(NAMESPACE) == before


def lay_out(room: Demo) -> None:
    ready(room, IMAGE)
    for verb, name, text in (("network", "outside", OUTSIDE), ("layout", "both", BOTH)):
        (room.home / f"{name}.yaml").write_text(text)
        room.seed(verb, "put", str(room.home / f"{name}.yaml"))
    with room.config.open("a") as config:
        config.write(f'\n[installers.kolla-ansible]\nrunner = "{ENV}/bin/ansible-runner"\n')
    room.seed("down")
    room.seed("up")


def wish(room: Demo, spec: dict[str, Any]) -> None:
    file = room.home / "cloud.yaml"
    file.write_text(yaml.safe_dump(spec))
    room.seed("overcloud", "plan", str(file), "--ssh-key", f"{room.key}.pub")
    try:
        room.seed("overcloud", "create", str(file), "--ssh-key", f"{room.key}.pub")
    except HostError:
        room.seed("overcloud", "list")
        raise


def cloud(room: Demo) -> Any:
    return room.look_at("/overclouds/cloud")


def stage(room: Demo, name: str) -> str:
    return next((one["state"] for one in cloud(room)["stages"] if one["name"] == name), "")


def prechecked(room: Demo) -> str:
    """How the second try is."""
    (found,) = [one for one in cloud(room)["stages"] if one["name"] == "prechecks"]
    return str(found["state"]) if found["tries"] > 1 else "running"


def given_back(log: Log, room: Demo) -> None:
    room.seed("overcloud", "release", "cloud", "--now", "--yes")
    with room.phase("release and clean"):
        until(lambda: cloud(room)["state"] == "released", 1200, "released")
    room.follow_nodes("available")
    assert not has_gpt(room, "LAB-0001-D0")
    for name, took in room.seconds.items():
        log.say(f"{name}: {took:.0f} s")
