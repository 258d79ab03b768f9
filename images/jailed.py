"""What a file is: run within the jail (jail.py), alone, before qemu-img sees the file.

argv: the file. stdout: {"format": "qcow2"|"raw", "virtual_size": bytes}, or {"refused": why, in
words that follow the file's name}. Formats are told apart by oslo.utils, as Ironic does it.
"""

import json
import sys

from oslo_utils.imageutils import format_inspector

PACKED = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip", b"\x04\x22\x4d\x18": "lz4", b"7z\xbc\xaf\x27\x1c": "7-Zip",
}  # fmt: skip
FAULTS = {
    "backing_file": "needs a second file (backing file)",
    "data_file": "keeps its data in a second file",
    "unknown_features": "uses a feature nobody here knows",
    "mbr": "has a boot sector without a partition table that holds together",
}
NAMES = {"gpt": "raw", "iso": "ISO image of a CD"}


def look(path: str) -> dict[str, object]:
    with open(path, "rb") as file:  # noqa: PTH123  pathlib would be loaded for this alone
        head = file.read(512)
        size = file.seek(0, 2)
    for magic, name in PACKED.items():
        if head.startswith(magic):
            return {"refused": f"is packed with {name}: unpack it, and give the digest of the disk"}
    if len(head) < 512:
        return {"refused": "is too short for a disk"}
    try:
        found = format_inspector.detect_file_format(path)
    except format_inspector.ImageFormatError as error:
        kinds = str(error).rpartition(":")[2].strip().split(",")
        return {"refused": f"is more than one thing at once: {' and '.join(sorted(kinds))}"}
    return judged(found, size)


def judged(found: format_inspector.FileInspector | None, size: int) -> dict[str, object]:
    kind = str(found) if found else "raw"
    if found is None or kind == "raw":
        return {"refused": "is neither a qcow2 nor a raw disk with a boot sector"}
    if kind not in ("qcow2", "gpt"):
        return {"refused": f"is a {NAMES.get(kind, kind)}, and only raw and qcow2 are taken"}
    try:
        found.safety_check()
    except format_inspector.SafetyCheckFailed as error:
        return {"refused": "; ".join(FAULTS.get(name, name) for name in sorted(error.failures))}
    if kind == "gpt":
        return {"format": "raw", "virtual_size": size}
    return {"format": "qcow2", "virtual_size": found.virtual_size}


if __name__ == "__main__":
    print(json.dumps(look(sys.argv[1])))
