"""A class document made from one server that is as it shall be."""

import glob
from collections import Counter

from provisioning.classes import (
    Bom,
    Cpus,
    Document,
    DriveLine,
    Firmware,
    NicLine,
    Rules,
    Span,
)
from provisioning.errors import Invalid
from provisioning.hardware import Drive, Inventory, Nic

MEMORY_SLACK = 0.03  # firmware keeps some of it; how much depends on its version


def from_golden(name: str, seen: Inventory) -> Document:
    """It belongs who is of the same make and model; it must consist of the same parts.

    Memory may differ by a few percent, a drive's size by what makers' sizes differ, its maker not
    at all asked; firmware may be newer. Raises Invalid where neither make nor model is known.
    """
    match = {
        key: (glob.escape(value),)
        for key in ("vendor", "model")
        if (value := getattr(seen, key).strip())
    }
    if not match:
        raise Invalid(
            "nobody tells this server's vendor or model, so no class can be made from it",
            "Write one by hand: docs/classes.md, then `seed class put FILE`.",
        )
    bom = {
        "cpus": _cpus(seen),
        "memory_mib": _about(seen.memory_mib),
        "drives": tuple(_drives(seen.drives)) or None,
        "nics": tuple(_nics(seen.nics)) or None,
        "bios": _at_least(seen.bios_version),
        "bmc": _at_least(seen.bmc_version),
    }
    return Document(
        name=name,
        match=Rules(**match),
        resource_class=name,
        bom=Bom(**{key: value for key, value in bom.items() if value is not None}),
    )


def _exactly(number: int) -> Span:
    return Span(min=number, max=number)


def _cpus(seen: Inventory) -> Cpus | None:
    if not seen.cpu_count:
        return None
    model = seen.cpu_model.strip()
    count = _exactly(seen.cpu_count)
    return Cpus(count=count, model=(glob.escape(model),)) if model else Cpus(count=count)


def _about(memory_mib: int) -> Span | None:
    if not memory_mib:
        return None
    slack = int(memory_mib * MEMORY_SLACK)
    return Span(min=memory_mib - slack, max=memory_mib + slack)


def _drives(drives: tuple[Drive, ...]) -> list[DriveLine]:
    sorts = Counter((d.media, round(d.size_bytes / 10**9)) for d in drives)
    return [
        DriveLine(count=_exactly(n), **_said(media=media or None, size_gb=size and _exactly(size)))
        for (media, size), n in sorted(sorts.items())
    ]


def _nics(nics: tuple[Nic, ...]) -> list[NicLine]:
    """By model where it is told: a link's speed is that of the cable and switch of this day."""
    sorts = Counter((n.model.strip(), 0 if n.model.strip() else n.speed_mbps) for n in nics)
    return [
        NicLine(
            count=_exactly(n),
            **_said(model=model and (glob.escape(model),), speed_mbps=speed and _exactly(speed)),
        )
        for (model, speed), n in sorted(sorts.items())
    ]


def _said(**facts: object) -> dict[str, object]:
    return {key: value for key, value in facts.items() if value}


def _at_least(version: str) -> Firmware | None:
    return Firmware(at_least=version.strip()) if version.strip() else None
