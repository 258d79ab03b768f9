"""What a server consists of now, and what changed since it was accepted."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from provisioning.hardware import Drive, Inventory, Nic
from provisioning.models import Bmc

SCALARS = {
    "model": "model", "cpu_model": "CPU", "cpu_count": "CPUs", "cpu_threads": "threads",
    "memory_mib": "memory in MiB", "bios_version": "BIOS", "bmc_version": "BMC firmware",
}  # fmt: skip
LISTS = ("drives", "nics")
P = TypeVar("P", Drive, Nic)


def told(stored: dict[str, Any]) -> Inventory:
    return Inventory.model_validate(stored)


def present(bmc: Bmc) -> Inventory | None:
    """The server as its BMC and its last ramdisk tell together; None before anybody told anything.

    The BMC's word counts, the ramdisk's where the BMC says nothing. Drives and NICs are the newer
    source's list, whole, if that one tells any: in band where the ramdisk came after the BMC was
    asked. What the chosen list leaves out of a part (a drive by its serial, a NIC by its MAC) comes
    from the other one. A RAID controller may show other drives in band than to the BMC.
    """
    if not bmc.inventory and not bmc.ramdisk:
        return None
    outside, inside = told(bmc.inventory), told(bmc.ramdisk)
    newer, older = outside, inside
    if bmc.ramdisk_at and (bmc.inventory_at is None or bmc.ramdisk_at >= bmc.inventory_at):
        newer, older = inside, outside
    scalars = {
        name: getattr(outside, name) or getattr(inside, name)
        for name in Inventory.model_fields
        if name not in LISTS
    }
    return Inventory(
        **scalars,
        drives=_joined(newer.drives, older.drives, lambda d: d.serial),
        nics=_joined(newer.nics, older.nics, lambda n: n.mac),
    )


def _joined(
    chosen: tuple[P, ...], others: tuple[P, ...], name: Callable[[P], str]
) -> tuple[P, ...]:
    if not chosen:
        return others
    known = {name(o): o for o in others if name(o)}
    return tuple(_completed(c, known.get(name(c))) for c in chosen)


def _completed(part: P, other: P | None) -> P:
    if other is None:
        return part
    empty = [f for f in type(part).model_fields if getattr(part, f) in ("", 0, None, ())]
    return part.model_copy(update={f: getattr(other, f) for f in empty})


def drift(bmc: Bmc) -> list[str]:
    """How the server differs from its baselines, each source against its own former word.

    What a source told once and leaves out now is no drift: a BMC forgets drives while the power is
    off. Only a list that still has entries can miss one.
    """
    found: list[str] = []
    for before, now in ((bmc.baseline, bmc.inventory), (bmc.ramdisk_baseline, bmc.ramdisk)):
        if before and now:
            found += changes(told(before), told(now))
    return list(dict.fromkeys(found))  # both sources may say the same


def changes(before: Inventory, now: Inventory) -> list[str]:
    found = [
        f"{words}: {getattr(now, name)}, was {getattr(before, name)}"
        for name, words in SCALARS.items()
        if getattr(before, name) and getattr(now, name)
        and getattr(before, name) != getattr(now, name)
    ]  # fmt: skip
    if before.drives and now.drives:
        found += _moved(map(_drive, before.drives), map(_drive, now.drives))
    if before.nics and now.nics:
        found += _moved(map(_nic, before.nics), map(_nic, now.nics))
    return found


def _moved(before: Iterable[str], now: Iterable[str]) -> list[str]:
    old, new = set(before), set(now)
    return [f"{p} is gone" for p in sorted(old - new)] + [f"{p} is new" for p in sorted(new - old)]


def _drive(drive: Drive) -> str:
    """Where there is no serial, the bay or device must do: virtual drives have none."""
    return f"drive {drive.serial or drive.wwn or f'{drive.name} {drive.model}'.strip()}"


def _nic(nic: Nic) -> str:
    return f"NIC {nic.mac.lower()}"


def accept(bmc: Bmc) -> None:
    """What there is now is right: drift counts from here."""
    bmc.baseline, bmc.ramdisk_baseline = bmc.inventory, bmc.ramdisk


def begin(bmc: Bmc) -> None:
    """The first word of each source is its baseline."""
    bmc.baseline = bmc.baseline or bmc.inventory
    bmc.ramdisk_baseline = bmc.ramdisk_baseline or bmc.ramdisk
