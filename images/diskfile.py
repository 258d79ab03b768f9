"""Look into a disk image before a server is written with it.

qcow2: docs/interop/qcow2.txt of QEMU. Only header fields are read; the guest's data is not.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from provisioning.errors import Invalid

QCOW2_MAGIC = b"QFI\xfb"
SECTOR = 512
BOOT_SIGNATURE = b"\x55\xaa"
ISO_OFFSET, ISO_MAGIC = 0x8001, b"CD001"

# Incompatible features, by bit: what an image needs its reader to know.
CORRUPT, EXTERNAL_DATA, KNOWN = 1, 2, 4
HEAD_V2, HEAD_V3 = 72, 104
END_OF_EXTENSIONS, EXTERNAL_NAME = 0, 0x44415441


@dataclass(frozen=True, slots=True)
class DiskFile:
    """Format and the size of the disk it stands for, bytes."""

    format: Literal["qcow2", "raw"]
    virtual_size: int


def verify(path: Path, named: Path | None = None) -> DiskFile:
    """What disk image a file is. Raises Invalid for any other file and for a qcow2 that would make
    the reader open further files (backing file, external data), is encrypted or is damaged.

    named: what a person calls it, where `path` is our copy.
    """
    with path.open("rb") as file:
        head = file.read(1 << 16)
    size, path = path.stat().st_size, named or path
    if head.startswith(QCOW2_MAGIC):
        return DiskFile("qcow2", _qcow2(path, head))
    if head[ISO_OFFSET : ISO_OFFSET + 5] == ISO_MAGIC:
        raise Invalid(
            f"{path.name} is an ISO image of a CD, not of a disk",
            "use the qcow2 or raw disk image that the vendor offers for clouds",
        )
    if len(head) < SECTOR or head[SECTOR - 2 : SECTOR] != BOOT_SIGNATURE:
        raise Invalid(
            f"{path.name} is neither a qcow2 nor a raw disk with a boot sector",
            f"file {path}; qemu-img convert -O qcow2 {path} disk.qcow2",
        )
    return DiskFile("raw", size)


def _qcow2(path: Path, head: bytes) -> int:
    try:
        version, backing = struct.unpack_from(">IQ", head, 4)
        (size,) = struct.unpack_from(">Q", head, 24)
        (encryption,) = struct.unpack_from(">I", head, 32)
        features, length = 0, HEAD_V2
        if version >= 3:
            (features,) = struct.unpack_from(">Q", head, 72)
            (length,) = struct.unpack_from(">I", head, 100)
    except struct.error as error:
        raise _refused(path, "is cut off within its header") from error
    for wrong, why in (
        (version not in (2, 3), f"has format version {version}, only 2 and 3 are known"),
        (backing != 0, "needs a second file (backing file)"),
        (bool(features >> EXTERNAL_DATA & 1), "keeps its data in a second file"),
        (_has_extension(head, length, EXTERNAL_NAME), "names a second file for its data"),
        (encryption != 0, "is encrypted"),
        (bool(features >> CORRUPT & 1), "is marked as damaged"),
        (features >> (KNOWN + 1) != 0, "uses a feature nobody here knows"),
    ):
        if wrong:
            raise _refused(path, why)
    return int(size)


def _has_extension(head: bytes, offset: int, wanted: int) -> bool:
    """Walk the header extensions: type (4 bytes), length (4), data padded to 8."""
    while offset + 8 <= len(head):
        kind, length = struct.unpack_from(">II", head, offset)
        if kind in (END_OF_EXTENSIONS, wanted):
            return bool(kind == wanted)
        offset += 8 + (length + 7) // 8 * 8
    return False


def _refused(path: Path, why: str) -> Invalid:
    return Invalid(
        f"the qcow2 {path.name} {why}",
        f"qemu-img check {path}; qemu-img convert -O qcow2 {path} whole.qcow2",
    )
