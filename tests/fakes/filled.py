"""Disks with data on them, as somebody brings them: partitions, and an array of md in one of them,
which a ramdisk's udev starts. Of a lab server's disks, and whether each is still what it was.
"""

import shutil
import struct
import subprocess
import uuid
from pathlib import Path

from seed.lab.demo import Demo

MIB = 2**20
PATTERN = bytes(range(256)) * (MIB // 256)


def path_of(lab: Demo, serial: str) -> Path:
    """The file of LAB-0001-D2, of the server with the serial LAB-0001."""
    of, _, number = serial.rpartition("-D")
    name = next(s.name for s in lab.scenario.servers if s.serial == of)
    return lab.lab_dir / "vm" / f"{name}-{number}.qcow2"


def fill(lab: Demo, serial: str) -> None:
    """Two partitions: a pattern in the first, an array of one member in the second."""
    raw, path = lab.home / "raw", path_of(lab, serial)
    disks = [d for s in lab.scenario.servers for d in s.disks if d.serial == serial]
    with raw.open("wb") as file:
        file.truncate(disks[0].size_gib * 2**30)
    run("sfdisk", "-q", str(raw), stdin="label: gpt\nstart=2048,size=131072\nsize=262144\n")
    with raw.open("r+b") as file:
        file.seek(MIB)
        file.write(PATTERN)
        begin = MIB + 131072 * 512
        file.seek(begin + 4096)
        file.write(superblock(262144 - 2048, serial))
        file.seek(begin + MIB)
        file.write(PATTERN)
    run("qemu-img", "convert", "-O", "qcow2", str(raw), str(path))
    shutil.copy(path, lab.home / f"{serial}.qcow2")
    raw.unlink()


def superblock(sectors: int, name: str) -> bytes:
    """Of md, version 1.2: RAID 1 of one disk, clean. Linux, include/uapi/linux/raid/md_p.h."""
    whole = uuid.uuid5(uuid.NAMESPACE_OID, name).bytes
    block = bytearray(256 + 2 * 128)
    struct.pack_into(
        "<IIII16s32s", block, 0, 0xA92B4EFC, 1, 0, 0, whole, f"ramdisk:{name}".encode()
    )
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


def has_gpt(lab: Demo, serial: str) -> bool:
    raw = lab.home / "head"
    argv = ("dd", "-f", "qcow2", "-O", "raw", "bs=1M", "count=2")
    run("qemu-img", *argv, f"if={path_of(lab, serial)}", f"of={raw}", "-U")
    return raw.read_bytes()[512:520] == b"EFI PART"


def is_as_it_was(lab: Demo, serial: str) -> bool:
    """Every byte, also those of partitions' tables and of the array's superblock."""
    done = subprocess.run(
        ["qemu-img", "compare", "-U", str(lab.home / f"{serial}.qcow2"), str(path_of(lab, serial))],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 0


def run(*argv: str, stdin: str = "") -> None:
    subprocess.run(argv, input=stdin, text=True, check=True, capture_output=True, timeout=300)
