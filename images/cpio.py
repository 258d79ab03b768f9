"""A small initramfs in memory: the "newc" format of Documentation/driver-api/early-userspace/
buffer-format.rst, which the kernel unpacks over what came before it."""

from pathlib import PurePosixPath

ALIGN = 4
TRAILER = "TRAILER!!!"
FOLDER, FILE = 0o040755, 0o100644


def archive(files: dict[str, bytes]) -> bytes:
    """Pack files (absolute path -> content, root's, world-readable) with the folders they need."""
    packed = bytearray()
    folders = {
        str(folder)
        for name in files
        for folder in PurePosixPath(_inside(name)).parents
        if str(folder) != "."
    }
    number = 0
    for folder in sorted(folders):
        number += 1
        packed += _entry(folder, FOLDER, number, b"")
    for name, content in sorted(files.items()):
        number += 1
        packed += _entry(_inside(name), FILE, number, content)
    packed += _entry(TRAILER, 0, 0, b"")
    return bytes(packed)


def padding(length: int) -> bytes:
    """Zeros up to the next 4-byte border; the kernel takes an archive only from there."""
    return b"\0" * (-length % ALIGN)


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if not path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name!r} is no absolute path")
    return str(path.relative_to("/"))


def _entry(name: str, mode: int, number: int, content: bytes) -> bytes:
    """One header of 13 fields of 8 hex digits, the name, the content; each part padded."""
    encoded = name.encode() + b"\0"
    links = 2 if mode == FOLDER else 1
    fields = (number, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return head + padding(len(head)) + content + padding(len(content))
