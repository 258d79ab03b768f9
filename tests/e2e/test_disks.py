"""A server with three disks: what is kept stays as it is, byte for byte, through inspection, clean
and deployment; what is not kept is cleaned; the image goes to the disk that was named.

The kept disk is the one that ironic-python-agent would take for the root if nobody said which: the
smallest. It has partitions, and in one of them an array of md, which the ramdisk's udev starts.
"""

import shutil
import struct
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from seed.lab.demo import Demo
from tests.fakes.machine import traces, until

NAMESPACE = "seed-disks-e2e"
HOME = Path("/var/tmp/seed-disks-e2e")  # noqa: S108  the services' own users must be able to enter it
ROOM = Path(__file__).resolve().parents[2] / "vagrant" / "room.yaml"
MIB = 2**20
NAMED, KEPT, OTHER = "LAB-0001-D2", "LAB-0001-D1", "LAB-0001-D0"
NUMBER = {OTHER: 0, KEPT: 1, NAMED: 2}
PATTERN = bytes(range(256)) * (MIB // 256)
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return traces(NAMESPACE)


@pytest.fixture(scope="module")
def room(before: dict[str, str]) -> Iterator[Demo]:
    scenario = HOME / "lab.yaml"
    if scenario.exists():  # an earlier run was killed
        Demo(HOME, scenario).end()
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(mode=0o755)
    told: dict[str, Any] = yaml.safe_load(ROOM.read_text())
    server = told["servers"][0] | {
        "nics": told["servers"][0]["nics"][:1],
        "disks": [
            {"size_gib": size, "bus": "virtio-scsi", "serial": serial}
            for serial, size in ((OTHER, 12), (KEPT, 6), (NAMED, 12))
        ],
    }
    scenario.write_text(yaml.safe_dump(told | {"namespace": NAMESPACE, "servers": [server]}))
    demo = Demo(HOME, scenario)
    try:
        yield demo
    finally:
        demo.end()


def test_all_three_have_data_and_the_server_is_inspected(room: Demo) -> None:
    room.start("ramdisk", "debian")
    for serial in NUMBER:
        fill(room, serial)
    room.find()
    server = room.scenario.servers[0]
    room.seed("bmc", "accept", str(server.bmc.address), "--name", server.name)
    with room.phase("inspect"):
        room.follow_nodes("manageable")
    seen = room.ask("node", "disks", server.name)
    assert {d["serial"] for d in seen} >= set(NUMBER)


def test_a_clean_leaves_what_is_kept_and_erases_the_others(room: Demo) -> None:
    (name,) = (s.name for s in room.scenario.servers)
    room.seed("node", "keep-disk", name, KEPT, "--why", "its data is needed")
    plan = room.seed("node", "provide", name, "--yes", quiet=True)
    assert KEPT not in plan
    with room.phase("clean"):
        room.follow_nodes("available")
    assert is_as_it_was(room, KEPT)
    for serial in (OTHER, NAMED):
        assert not has_gpt(room, serial), "cleaned"


def test_the_image_goes_to_the_disk_that_was_named(room: Demo) -> None:
    room.make_key()
    room.seed(
        "claim", "create", "web", "--image", "debian", "--ssh-key", f"{room.key}.pub",
        "--root-device", f"serial={NAMED}",
    )  # fmt: skip

    def written() -> bool:
        claim = room.look_at("/claims/web")
        assert not claim["problem"], claim
        return claim["state"] in ("proving", "active")

    with room.phase("deploy"):
        until(written, 900, "the image on its disk")
    assert (has_gpt(room, NAMED), has_gpt(room, OTHER)) == (True, False)
    assert is_as_it_was(room, KEPT)


def test_nothing_is_left_behind(room: Demo, before: dict[str, str]) -> None:
    room.end()
    after = traces(NAMESPACE)
    for what, seen in before.items():
        assert after[what] == seen, what


# --- helpers ------------------------------------------------------------------------------------


def path_of(room: Demo, serial: str) -> Path:
    return room.lab_dir / "vm" / f"{room.scenario.servers[0].name}-{NUMBER[serial]}.qcow2"


def fill(room: Demo, serial: str) -> None:
    """Two partitions: a pattern in the first, an array of one member in the second."""
    raw, path = HOME / "raw", path_of(room, serial)
    size = next(d.size_gib for d in room.scenario.servers[0].disks if d.serial == serial) * 2**30
    with raw.open("wb") as file:
        file.truncate(size)
    run("sfdisk", "-q", str(raw), stdin="label: gpt\nstart=2048,size=131072\nsize=262144\n")
    with raw.open("r+b") as file:
        file.seek(MIB)
        file.write(PATTERN)
        if serial == KEPT:
            begin = MIB + 131072 * 512
            file.seek(begin + 4096)
            file.write(superblock(262144 - 2048))
            file.seek(begin + MIB)
            file.write(PATTERN)
    run("qemu-img", "convert", "-O", "qcow2", str(raw), str(path))
    shutil.copy(path, HOME / f"{serial}.qcow2")
    raw.unlink()


def superblock(sectors: int) -> bytes:
    """Of md, version 1.2: RAID 1 of one disk, clean. Linux, include/uapi/linux/raid/md_p.h."""
    whole = uuid.UUID(int=7).bytes
    block = bytearray(256 + 2 * 128)
    struct.pack_into("<IIII16s32s", block, 0, 0xA92B4EFC, 1, 0, 0, whole, b"ramdisk:kept")
    struct.pack_into("<QIIQIII", block, 64, 0, 1, 0, sectors, 0, 1, 0)
    struct.pack_into("<QQQQ", block, 128, 2048, sectors, 8, 0)
    struct.pack_into("<II16s", block, 160, 0, 0, uuid.UUID(int=8).bytes)
    struct.pack_into("<QQQ", block, 192, 0, 2, 2**64 - 1)
    struct.pack_into("<II", block, 216, 0, 128)
    for n in range(1, 128):
        struct.pack_into("<H", block, 256 + 2 * n, 0xFFFF)
    total = sum(struct.unpack(f"<{len(block) // 4}I", block))
    struct.pack_into("<I", block, 216, ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)
    return bytes(block)


def has_gpt(room: Demo, serial: str) -> bool:
    return head(room, serial)[512:520] == b"EFI PART"


def head(room: Demo, serial: str) -> bytes:
    raw = HOME / "head"
    argv = ("dd", "-f", "qcow2", "-O", "raw", "bs=1M", "count=2")
    run("qemu-img", *argv, f"if={path_of(room, serial)}", f"of={raw}", "-U")
    return raw.read_bytes()


def is_as_it_was(room: Demo, serial: str) -> bool:
    """Every byte, also those of partitions' tables and of the array's superblock."""
    done = subprocess.run(
        ["qemu-img", "compare", "-U", str(HOME / f"{serial}.qcow2"), str(path_of(room, serial))],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 0


def run(*argv: str, stdin: str = "") -> None:
    subprocess.run(argv, input=stdin, text=True, check=True, capture_output=True, timeout=300)
