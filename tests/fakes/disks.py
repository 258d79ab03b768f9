"""Disk images, good ones and such as an attacker makes."""

import hashlib
import struct
import subprocess
from pathlib import Path


def a_raw_disk(size: int = 1 << 20, mark: bytes = b"") -> bytes:
    """A boot sector with one Linux partition; `mark` tells two of them apart."""
    partition = struct.pack("<B3BB3BII", 0x80, 0, 2, 0, 0x83, 0, 0, 0, 2048, size // 512)
    head = mark.ljust(446, b"\0")[:446] + partition + bytes(48) + b"\x55\xaa"
    return head + bytes(size - 512)


def a_qcow2(path: Path, *options: str, size: str = "5M") -> Path:
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", *options, path.name, size]
    subprocess.run(argv, check=True, cwd=path.parent, timeout=60, capture_output=True)
    return path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
