"""Servers of the lab that boot and become members of a cluster: the room, its files, its shells."""

import json
import shlex
import subprocess
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from seed.lab.demo import Demo
from tests.fakes.machine import fresh
from tests.slow.log import Log

ROOM = Path(__file__).resolve().parents[2] / "vagrant" / "room.yaml"
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


def a_room(
    home: Path,
    namespace: str,
    servers: Collection[str],
    memory_mib: int = 3072,
    cpus: int = 1,
    disk_gib: int = 24,
) -> Demo:
    """These servers of vagrant/room.yaml, with one NIC and a disk that the image fits."""
    scenario = fresh(home, namespace)
    told = yaml.safe_load(ROOM.read_text())
    found = [
        s | {
            "nics": s["nics"][:1], "memory_mib": memory_mib,
            "cpus": cpus, "cx16": cpus == 1,  # haproxy wants it
            "disks": [s["disks"][0] | {"size_gib": disk_gib}],  # kubernetes-node wants 20
        }
        for s in told["servers"] if s["name"] in servers
    ]  # fmt: skip
    scenario.write_text(yaml.safe_dump(told | {"namespace": namespace, "servers": found}))
    return Demo(home, scenario)


def ready(room: Demo, image: str = "kubernetes-node") -> None:
    """From nothing to servers that are free, with a network and a layout for them."""
    room.start("ramdisk", image)
    room.find()
    room.take_in()
    room.offer()
    room.make_key()
    for verb, name, text in (("network", "storage", STORAGE), ("layout", "plain", PLAIN)):
        (room.home / f"{name}.yaml").write_text(text)
        room.seed(verb, "put", str(room.home / f"{name}.yaml"))


def wish(room: Demo, verb: str, text: str, *words: str) -> str:
    """`seed cluster plan` or `create` of this spec."""
    spec = room.home / "cluster.yaml"
    spec.write_text(text)
    return room.seed("cluster", verb, str(spec), "--ssh-key", f"{room.key}.pub", *words)


def events(room: Demo, cluster: str) -> list[dict[str, Any]]:
    """Of the cluster with this id, the first one first."""
    return [e for e in room.look_at("/events?limit=1000") if e["subject"] == cluster]


def told(room: Demo, cluster: str) -> list[str]:
    """When which state began, and what each member did, in seconds since the wish."""
    found = events(room, cluster)
    begin = datetime.fromisoformat(found[0]["at"])
    return [
        f"{(datetime.fromisoformat(e['at']) - begin).total_seconds():7.1f} s  "
        f"{e['kind']} {e['message']}"
        for e in found
    ]


def line_of(room: Demo, member: str) -> list[str]:
    """What logs in to it."""
    (line,) = room.ssh_lines(member)
    return [*shlex.split(line), "-o", "BatchMode=yes"]


def on(log: Log, room: Demo, member: str, command: str) -> str:
    return log.run([*line_of(room, member), f"sudo sh -c {shlex.quote(command)}"], 300)


def put(room: Demo, member: str, path: str, content: bytes) -> None:
    """A file of root's on it, 0600."""
    command = f"sudo sh -c {shlex.quote(f'umask 077; cat > {path}')}"
    subprocess.run([*line_of(room, member), command], input=content, timeout=60, check=True)


def booted(room: Demo, member: str) -> str:
    """Its boot id; empty: it does not answer."""
    argv = [*line_of(room, member), "cat /proc/sys/kernel/random/boot_id"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:  # it went down in the middle of it
        return ""
    return done.stdout.strip()


def address(room: Demo, member: str) -> str:
    (node,) = room.look_at(f"/claims/{member}")["handout"]["nodes"]
    return str(node["address"])


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
