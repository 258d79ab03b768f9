"""A mirrored root on a server of the lab: asked for, booted from, and taken apart by the clean."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from seed.lab.demo import Demo
from tests.fakes.filled import fill, has_gpt, path_of, run
from tests.fakes.machine import fresh, traces, until
from tests.slow.log import Log

NAMESPACE = "seed-mirror-slow"
HOME = Path("/var/tmp/seed-mirror-slow")  # noqa: S108  the services' own users must be able to enter
ROOM = Path(__file__).resolve().parents[2] / "vagrant" / "room.yaml"
LEFT, RIGHT, SMALL = "LAB-0001-D0", "LAB-0001-D1", "LAB-0001-D2"
LOOK = "cat /proc/mdstat; findmnt -no SOURCE /; lsblk -no SERIAL,TYPE -s $(findmnt -no SOURCE /)"


@pytest.fixture
def room() -> Iterator[Demo]:
    scenario = fresh(HOME, NAMESPACE)
    told = yaml.safe_load(ROOM.read_text())
    server = told["servers"][0]
    disks = [
        {"size_gib": size, "bus": "virtio-scsi", "serial": serial}
        for serial, size in ((LEFT, 12), (RIGHT, 12), (SMALL, 6))
    ]
    server |= {"nics": server["nics"][:1], "disks": disks}
    scenario.write_text(yaml.safe_dump(told | {"namespace": NAMESPACE, "servers": [server]}))
    demo = Demo(HOME, scenario)
    try:
        yield demo
    finally:
        demo.end()


@pytest.mark.slow(
    "provisioning/disks.py", "provisioning/deployment.py", "provisioning/keeping.py",
    "images/wholedisk.py", "images/inmemory.py", "images/in_ramdisk", "tests/slow/test_mirror.py",
)  # fmt: skip
@pytest.mark.timeout(7200)
def test_mirrored_root(log: Log, room: Demo) -> None:
    before = traces(NAMESPACE)
    room.start("ramdisk", "debian")
    fill(room, LEFT)  # it has an array already, of another system
    assert superblocks(room, LEFT) == 1
    room.find()
    room.take_in()
    room.offer()
    room.make_key()
    room.seed(
        "claim", "create", "web", "--image", "debian", "--ssh-key", f"{room.key}.pub",
        "--root-raid", "1", "--root-device", "size=>= 10",
    )  # fmt: skip
    with room.phase("deploy and proof"):
        room.follow_claim("web", "active")
    (node,) = room.ask("claim", "show", "web")["handout"]["nodes"]
    assert {d["serial"] for d in node["disks"] if d["role"] == "root"} == {LEFT, RIGHT}
    (line,) = room.ssh_lines("web")
    told = log.run([*shlex.split(line), "-o", "BatchMode=yes", LOOK], 120)
    assert "raid1" in told, told
    assert "[2/2] [UU]" in told, told
    assert {LEFT, RIGHT} <= set(told.split()), told
    assert SMALL not in told, told
    assert (has_gpt(room, LEFT), has_gpt(room, RIGHT)) == (True, True)

    room.seed("claim", "release", "web", "--now", "--yes")
    with room.phase("clean"):
        until(lambda: room.look_at("/claims/web")["state"] == "released", 900, "released")
    room.follow_nodes("available")
    for serial in (LEFT, RIGHT):
        assert not has_gpt(room, serial), serial
        assert superblocks(room, serial) == 0, f"an array is left on {serial}"
    for name, took in room.seconds.items():
        log.say(f"{name}: {took:.0f} s")
    room.end()
    after = traces(NAMESPACE)
    assert after == before


def superblocks(room: Demo, serial: str) -> int:
    """How often md's magic is at the beginning of 4 KiB, in all that the disk's file holds."""
    raw = room.home / "whole"
    run("qemu-img", "convert", "-U", "-O", "raw", str(path_of(room, serial)), str(raw))
    found = 0
    with raw.open("rb") as file:
        while block := file.read(1 << 20):
            found += sum(block[n : n + 4] == MAGIC for n in range(0, len(block), 4096))
    raw.unlink()
    return found


MAGIC = bytes.fromhex("fc4e2ba9")
"""0xA92B4EFC, little-endian. Linux, include/uapi/linux/raid/md_p.h."""
