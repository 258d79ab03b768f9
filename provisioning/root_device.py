"""Ironic's root device hints, matched against what is known of a server's disks.

Of the hints of Ironic 39 (doc/source/install/advanced.rst, "Specifying the disk for deployment")
these: model, vendor, serial, wwn, name (text), size (GiB), rotational (yes or no). Operators as
there: "s== x", "s!= x", "<in> x", "<or> x <or> y" for text, "= 5" (at least), "== 5", "!= 5",
">= 5", "<= 5", "> 5", "< 5" for numbers. Others need the ramdisk's own eyes and are refused, so
that no claim waits for a disk that nobody looked for.
"""

import operator
import re
from collections.abc import Callable
from typing import Any, Final

from provisioning.errors import Invalid
from provisioning.hardware import Drive

TEXTS: Final = frozenset({"model", "vendor", "serial", "wwn", "name"})
HINTS: Final = TEXTS | {"size", "rotational"}
_NUMBER = re.compile(r"(==|!=|>=|<=|=|>|<)?\s*(\d{1,7})")
_COMPARE: Final[dict[str, Callable[[int, int], bool]]] = {
    "": operator.eq, "==": operator.eq, "!=": operator.ne, "=": operator.ge,
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
SMALLEST_GIB: Final = 4  # ironic-python-agent installs on nothing smaller when there is no hint


def check(hints: dict[str, Any]) -> None:
    """Raises Invalid for a hint that is not known here, or not readable."""
    for name, value in hints.items():
        if name not in HINTS:
            raise Invalid(
                f"root_device: {name[:40]!r} is not looked at here",
                f"Use {', '.join(sorted(HINTS))}; see a node's disks: `seed node show NAME`.",
            )
        text = _text(value)
        readable = {
            "size": bool(_NUMBER.fullmatch(text)),
            "rotational": text in ("true", "false"),
        }.get(name, 0 < len(text) <= 255 and text.isprintable())
        if not readable:
            raise Invalid(
                f"root_device.{name} cannot be {str(value)[:60]!r}",
                'Write it like size=">= 400", rotational=false, model="s== PM9A3".',
            )


def effective(hints: dict[str, Any], disk_gib: int) -> dict[str, Any]:
    """What Ironic is told: the hints, and the size that was asked for where they name none."""
    if disk_gib and "size" not in hints:
        return {**hints, "size": f">= {disk_gib}"}
    return hints


def matching(hints: dict[str, Any], drives: tuple[Drive, ...]) -> list[Drive]:
    """The disks that all hints fit. Without hints: what the agent would choose from."""
    if not hints:
        return [d for d in drives if d.size_bytes > SMALLEST_GIB * 2**30]
    return [d for d in drives if all(_fits(n, _text(v), d) for n, v in hints.items())]


def in_words(hints: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(hints.items()))


def _text(value: object) -> str:
    return str(value).lower().strip()


def _fits(name: str, wanted: str, drive: Drive) -> bool:
    if name == "rotational":
        return bool(drive.media) and (drive.media == "hdd") == (wanted == "true")
    if name == "size":
        found = _NUMBER.fullmatch(wanted)
        if found is None:
            return False
        return _COMPARE[found[1] or ""](drive.size_bytes // 2**30, int(found[2]))
    told = _text(drive.model if name == "vendor" else getattr(drive, name))
    if name == "name":
        told, wanted = told.removeprefix("/dev/"), wanted.replace("/dev/", "")
    return bool(told) and _text_fits(wanted, told)


def _text_fits(wanted: str, told: str) -> bool:
    if wanted.startswith("<or>"):
        return told in [part.strip() for part in wanted.split("<or>") if part.strip()]
    for sign, fits in (("s==", operator.eq), ("s!=", operator.ne), ("<in>", operator.contains)):
        if wanted.startswith(sign):
            return bool(fits(told, wanted.removeprefix(sign).strip()))
    return told == wanted
