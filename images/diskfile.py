"""Look into a disk image before a server is written with it, in a jail.

First what the file is (jailed.py), then what qemu-img says of it, which is told the format and
never guesses.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from images import jail
from provisioning.errors import Invalid

GIB: Final = 1 << 30
MOST_VIRTUAL: Final = 2048 * GIB
_SCRIPT: Final = Path(__file__).with_name("jailed.py")


@dataclass(frozen=True, slots=True)
class DiskFile:
    """Format and the size of the disk it stands for, bytes."""

    format: Literal["qcow2", "raw"]
    virtual_size: int


def verify(path: Path, named: Path | None = None, most: int = MOST_VIRTUAL) -> DiskFile:
    """What disk image a file is. Raises Invalid for any other file, for a qcow2 that would make
    the reader open further files (backing file, external data), is encrypted or is damaged, and
    for a disk of more than `most` bytes; HostError where no jail can be made.

    named: what a person calls it, where `path` is our copy.
    """
    told = named or path
    try:
        seen = json.loads(jail.python(_SCRIPT, path))
    except (jail.Broke, ValueError) as error:
        raise _refused(told, "cannot be looked at within the limits") from error
    if why := seen.get("refused"):
        raise _refused(told, str(why))
    found = DiskFile(seen["format"], int(seen["virtual_size"]))
    if found.virtual_size > most:
        raise _refused(
            told, f"is a disk of {found.virtual_size / GIB:.0f} GiB, more than {most // GIB}"
        )
    if found.format == "qcow2":
        _qcow2(path, told, found)
    return found


def _qcow2(path: Path, told: Path, found: DiskFile) -> None:
    """What only a whole look at its tables shows."""
    seen = _qemu("info", path, told)
    inner: dict[str, Any] = seen.get("format-specific", {}).get("data", {})
    for wrong, why in (
        (seen.get("encrypted"), "is encrypted"),
        (inner.get("corrupt"), "is marked as damaged"),
        ("data-file" in inner, "names a second file for its data"),
        (seen.get("backing-filename"), "needs a second file (backing file)"),
        (seen.get("virtual-size") != found.virtual_size, "is read differently by two programs"),
    ):
        if wrong:
            raise _refused(told, why)
    checked = _qemu("check", path, told)
    if checked.get("corruptions") or checked.get("check-errors"):
        raise _refused(told, "is damaged")


def _qemu(verb: str, path: Path, told: Path) -> dict[str, Any]:
    argv = ["qemu-img", verb, "--output=json", "-f", "qcow2", "--force-share", jail.DISK]
    try:
        answer: dict[str, Any] = json.loads(jail.run(argv, path))
    except (jail.Broke, ValueError) as error:
        raise _refused(told, f"does not stand up to `qemu-img {verb}`") from error
    return answer


def _refused(path: Path, why: str) -> Invalid:
    remedy = f"qemu-img info {path}; qemu-img convert -O qcow2 {path} whole.qcow2"
    return Invalid(f"{path.name} {why}", remedy)
