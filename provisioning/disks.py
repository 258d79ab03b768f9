"""Which disks of a server a claim means: its root, its data disks, and those that are kept.

Everything here is pure but `kept_of`. What is chosen is named to Ironic by serial or WWN, so that
its ramdisk finds that very disk or none: ironic-python-agent 13 fails where a hint fits nothing
("No suitable device was found"), and takes the first one of several that fit.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict
from uuid import UUID

from sqlmodel import Session, col, select

from provisioning import kernel_args, root_device
from provisioning.errors import Conflict, Invalid
from provisioning.hardware import Drive, Inventory
from provisioning.identity import serial_key
from provisioning.models import Claim, ClaimSpec
from provisioning.one_time import KeptDisk

GIB: Final = 2**30
MANY: Final = 32
MOST: Final = 64
"""Entries of `disks`, and disks of one entry."""
ROLE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)
OWN: Final = frozenset({"role", "count", "keep"})
MIRROR: Final = 2
NO_MD: Final = {"name": "<in> /dev/md"}
"""ironic-python-agent skips no md array because its members are skipped: its name must be."""


class Chosen(TypedDict):
    """root: one disk, or the two of a mirror. data: (role, disk), in the order of the entries."""

    root: list[Drive]
    data: list[tuple[str, Drive]]


@dataclass(frozen=True, slots=True)
class Want:
    """One disk that a claim asks for. kept: may it be one that is kept; "prefer": that first."""

    what: str
    hints: dict[str, Any]
    role: str
    keep: bool
    min_gib: int = 0

    @property
    def named(self) -> bool:
        return bool({"serial", "wwn"} & self.hints.keys())


# --- what a claim says ----------------------------------------------------------------------------


def check(spec: ClaimSpec) -> None:
    """Raises Invalid for disks, root_raid or kernel_args that cannot be on any node."""
    kernel_args.check(spec.kernel_args)
    if spec.root_raid not in (0, 1):
        raise Invalid(
            f"root_raid cannot be {spec.root_raid}", "It is 1 (a mirror of two disks), or left out."
        )
    if len(spec.disks) > MANY:
        raise Invalid(f"more than {MANY} entries in disks", "Join those that are alike by `count`.")
    for entry in spec.disks:
        _check_entry(entry)
    if sum(_count(entry) for entry in spec.disks) > MOST:
        raise Invalid(f"more than {MOST} data disks", "No server is known that has so many.")
    if spec.root_raid and any(entry.get("keep") for entry in spec.disks):
        raise Invalid(
            "root_raid and a kept disk do not go together",
            "A mirror is taken apart by a clean that takes every mirror of the server apart: "
            "leave out root_raid, or keep.",
        )


def _check_entry(entry: dict[str, Any]) -> None:
    role, count, keep = entry.get("role"), entry.get("count", 1), entry.get("keep", False)
    if not isinstance(role, str) or not ROLE.fullmatch(role) or role == "root":
        raise Invalid(
            f"{str(role)[:40]!r} is no role of a data disk",
            'Name what it is for: role="ceph-osd"; a-z, 0-9 and "-", at most 32, not "root".',
        )
    if type(count) is not int or not 1 <= count <= MOST:
        raise Invalid(
            f"disks.count cannot be {str(count)[:40]!r}", f"How many such disks: 1 to {MOST}."
        )
    if type(keep) is not bool:
        raise Invalid(f"disks.keep cannot be {str(keep)[:40]!r}", "It is true or false.")
    hints = _hints(entry)
    try:
        root_device.check(hints)
    except Invalid as err:
        raise Invalid(str(err).replace("root_device", "disks", 1), err.remedy) from err
    exact = {n for n in ("serial", "wwn") if n in hints and _is_exact(hints[n])}
    if exact and count > 1:
        raise Invalid(
            f"{count} disks with one {exact.pop()}", "Leave out count, or name each: <or> A <or> B."
        )


def _hints(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in OWN}


def _count(entry: dict[str, Any]) -> int:
    return int(entry.get("count", 1))


def _is_exact(value: object) -> bool:
    return not str(value).strip().startswith(("<or>", "<in>", "s!="))


def needs_inventory(spec: ClaimSpec) -> bool:
    """Can it only be said of a server whose disks are known whether it fits?"""
    return bool(spec.root_device or spec.disk_gib or spec.disks or spec.root_raid)


def keeps(spec: ClaimSpec) -> bool:
    return any(entry.get("keep") for entry in spec.disks)


# --- which ones -----------------------------------------------------------------------------------


def lacks(
    spec: ClaimSpec, inventory: Inventory | None, kept: Sequence[KeptDisk], min_gib: int = 0
) -> list[str]:
    """Why a server's disks are not enough, a sentence each; empty: they are.

    kept: its kept disks. min_gib: what the image needs, where the claim does not say it itself.
    """
    if inventory is None:
        return ["nobody told yet which disks it has"]
    if spec.root_raid and inventory.firmware == "bios":
        return ["it boots by BIOS, and a mirrored root needs UEFI"]
    if spec.root_raid and kept:
        return [
            "a disk of it is kept, and cleaning a mirrored root takes every array of a server apart"
        ]
    missing = vanished(inventory, kept)
    return missing or _lacks(_wants(spec, min_gib), spec, inventory, kept)


def chosen(
    spec: ClaimSpec, inventory: Inventory | None, kept: Sequence[KeptDisk], min_gib: int = 0
) -> Chosen:
    """The very disks, the same ones for the same server. Raises Conflict with what it lacks."""
    told = lacks(spec, inventory, kept, min_gib)
    if told or inventory is None:
        raise Conflict(
            f"its disks are not as the claim wants them: {'; '.join(told)}",
            "Compare them with `seed node show NAME`; then release the claim and ask again.",
        )
    found = _seated(_wants(spec, min_gib), _disks(inventory), kept)
    roots = [d for w, d in found if w.role == "root"]
    return {"root": roots, "data": [(w.role, d) for w, d in found if w.role != "root"]}


def _wants(spec: ClaimSpec, min_gib: int) -> list[Want]:
    least = max(spec.disk_gib, min_gib, spec.min_disk_gib if isinstance(spec, Claim) else 0)
    hints = root_device.effective(spec.root_device, spec.disk_gib)
    root = Want("a root disk", hints, "root", False, least)
    found = [root] * (MIRROR if spec.root_raid else 1)
    for entry in spec.disks:
        keep = bool(entry.get("keep"))
        want = Want(f"a disk for {entry['role']}", _hints(entry), entry["role"], keep)
        found += [want] * _count(entry)
    return found


def _lacks(
    wants: list[Want], spec: ClaimSpec, inventory: Inventory, kept: Sequence[KeptDisk]
) -> list[str]:
    drives = _disks(inventory)
    unmet = [w for w in wants if not _candidates(w, drives, kept)]
    if unmet:
        return list(dict.fromkeys(_none_fits(w, drives) for w in unmet))
    if spec.root_raid and (more := _unclear_mirror(wants, drives, kept)):
        return [more]
    found = _seated(wants, drives, kept)
    if len(found) < len(wants):
        return [f"{len(wants)} disks are asked for, only {len(found)} of its {len(drives)} fit"]
    return [
        f"its disk {d.name or d.model or 'without a name'} for {w.role} tells neither serial nor "
        "WWN of its own and is as large as another, so no order can name it"
        for w, d in found
        if not hint_of(d, drives)
    ]


def _unclear_mirror(wants: list[Want], drives: list[Drive], kept: Sequence[KeptDisk]) -> str:
    """A mirror is of the two disks that fit: of three, nobody said which."""
    named = [d for w in wants if w.named and w.role != "root" for d in _candidates(w, drives, kept)]
    fitting = [d for d in _candidates(wants[0], drives, kept) if d not in named]
    if len(fitting) < MIRROR:
        return f"a mirrored root needs two disks, {len(fitting)} of its {len(drives)} fit"
    if len(fitting) > MIRROR:
        names = ", ".join(d.serial or d.name for d in fitting[:4])
        return f"a mirrored root is of two disks, {len(fitting)} fit root_device: {names}"
    return ""


def _seated(
    wants: list[Want], drives: list[Drive], kept: Sequence[KeptDisk]
) -> list[tuple[Want, Drive]]:
    """No disk twice; each want gets the first one it may have, unless another has no other.

    Kuhn's matching: one makes way for another only where that one finds nothing free.
    """
    options = [[drives.index(d) for d in _candidates(w, drives, kept)] for w in wants]
    owner: dict[int, int] = {}

    def place(i: int, tried: set[int]) -> bool:
        for o in options[i]:
            if o not in owner:
                owner[o] = i
                return True
        for o in sorted(options[i], key=lambda o: -owner[o]):  # the root moves last
            if o not in tried:
                tried.add(o)
                if place(owner[o], tried):
                    owner[o] = i
                    return True
        return False

    for i in sorted(range(len(wants)), key=lambda i: (not wants[i].named, i)):
        place(i, set())
    by_want = {i: drives[o] for o, i in owner.items()}
    return [(w, by_want[i]) for i, w in enumerate(wants) if i in by_want]


def _candidates(want: Want, drives: list[Drive], kept: Sequence[KeptDisk]) -> list[Drive]:
    """In the order they are taken: the smallest first, and of kept ones those first."""
    fitting = root_device.matching(want.hints, tuple(drives)) if want.hints else drives
    if want.role == "root":
        least = max(want.min_gib, root_device.SMALLEST_GIB)
        fitting = [d for d in fitting if d.size_bytes // GIB >= least]
    free = [d for d in fitting if want.keep or not _is_kept(d, kept)]
    return sorted(free, key=lambda d: (not _is_kept(d, kept), d.size_bytes, d.name, d.serial))


def _none_fits(want: Want, drives: list[Drive]) -> str:
    hints = root_device.in_words(want.hints)
    least = f"{hints and ', '}at least {want.min_gib} GiB" if want.min_gib else ""
    has = ", ".join(f"{d.model or d.media or 'disk'} {d.size_bytes // GIB} GiB" for d in drives[:4])
    asked = f" ({hints}{least})" if hints or least else ""
    return f"no disk of it fits {want.what}{asked}; it has {has or 'none'}"


def _disks(inventory: Inventory) -> list[Drive]:
    """Not arrays, CDs nor what has no medium: only what an image can be written to."""
    return [
        d for d in inventory.drives
        if d.size_bytes > 0 and not d.name.startswith(("/dev/md", "/dev/sr", "/dev/fd", "/dev/dm-"))
    ]  # fmt: skip


# --- as Ironic is told ----------------------------------------------------------------------------


def hint_of(drive: Drive, among: Sequence[Drive]) -> dict[str, str]:
    """Root device hints that fit this disk and none beside it; empty: it has nothing of its own.

    A disk of a simple virtual machine tells neither serial nor WWN: there its size may be enough,
    if it is whole GiB: the agent compares it as a fraction.
    """
    names: tuple[tuple[str, Callable[[Drive], str]], ...] = (
        ("serial", lambda d: serial_key(d.serial)),
        ("wwn", lambda d: d.wwn.strip().lower()),
    )
    for name, told in names:
        value = told(drive)
        if value and sum(told(d) == value for d in among) == 1:
            return {name: f"s== {getattr(drive, name).strip()}"}
    gib, more = divmod(drive.size_bytes, GIB)
    alone = gib and not more and sum(d.size_bytes // GIB == gib for d in among) == 1
    return {"size": f"== {gib}"} if alone else {}


def root_hint(found: Chosen, inventory: Inventory) -> dict[str, Any]:
    """instance_info's `root_device`: this disk or none. Empty for a mirror: its step names both."""
    if len(found["root"]) != 1:
        return {}
    return {"root_device": hint_of(found["root"][0], _disks(inventory))}


def raid_steps(found: Chosen, inventory: Inventory) -> list[dict[str, Any]]:
    """Deploy steps that make a mirror of the two root disks; none where the root is one disk.

    Between deploy.deploy (100), which boots the agent, and deploy.write_image (80). Ironic 39,
    API 1.69 and later; `raid_interface` must be "agent".
    """
    if len(found["root"]) != MIRROR:
        return []
    among = _disks(inventory)
    mirror = {
        "size_gb": "MAX", "raid_level": "1", "controller": "software", "is_root_volume": True,
        "volume_name": "root", "physical_disks": [hint_of(d, among) for d in found["root"]],
    }  # fmt: skip
    config = {"logical_disks": [mirror]}
    # Not delete_existing: that takes arrays of disks apart that this order does not name.
    args = {"raid_config": config, "delete_existing": False}
    return [{"interface": "raid", "step": "apply_configuration", "priority": 95, "args": args}]


def wanted(spec: ClaimSpec, found: Chosen, kept: Sequence[KeptDisk]) -> dict[str, Any]:
    """What the proof must show of the disks (proving.py), and which are kept when it is released.

    Stored in Order.wanted["disks"].
    """
    entries = [entry for entry in spec.disks for _ in range(_count(entry))]
    return {
        "root": {
            "serials": [name for d in found["root"] if (name := _name(d))],
            "raid": 1 if len(found["root"]) == MIRROR else 0,
        },
        "data": [
            {
                "serial": _name(d),
                "role": role,
                **({"keep": True, "wwn": d.wwn} if entry.get("keep") else {}),
            }
            for entry, (role, d) in zip(entries, found["data"], strict=True)
        ],
        "kept": [{"serial": k.serial} for k in kept],
    }


def roles(order_wanted: dict[str, Any]) -> dict[str, str]:
    """Serial (else WWN) -> what a disk is for, as its deploy order named it; kept ones "kept"."""
    told = order_wanted.get("disks") or {}
    return {
        **{disk["serial"]: "kept" for disk in told.get("kept", [])},
        **{disk["serial"]: disk["role"] for disk in told.get("data", [])},
        **dict.fromkeys((told.get("root") or {}).get("serials", []), "root"),
    }


def _name(drive: Drive) -> str:
    return drive.serial or drive.wwn


# --- kept disks -----------------------------------------------------------------------------------


def kept_of(session: Session, node_uuid: UUID) -> list[KeptDisk]:
    query = select(KeptDisk).where(KeptDisk.node_uuid == node_uuid)
    return list(session.exec(query.order_by(col(KeptDisk.serial))).all())


def others(kept: Sequence[KeptDisk], project: str) -> list[KeptDisk]:
    """Those with another project's data: its claims alone may have the node."""
    return [k for k in kept if k.project and k.project != project]


def vanished(inventory: Inventory, kept: Sequence[KeptDisk]) -> list[str]:
    """Kept disks that the server does not show, a sentence each. Nothing is written there then:
    where that disk is now, and under which name, nobody knows."""
    return [
        f"its kept disk {k.serial} was not seen by its last inspection"
        for k in kept
        if not any(is_the_same(d, k) for d in inventory.drives)
    ]


def ironic_properties(kept: Sequence[KeptDisk]) -> dict[str, Any]:
    """The node's `skip_block_devices`, one hint per name that a kept disk or its partitions have.

    ironic-python-agent 13 asks each hint of disks, of partitions (whose serial udev tells, which
    may be the WWN) and of arrays (which have neither): who fits one of them is neither erased nor
    taken as root. Empty: nothing is kept.
    """
    if not kept:
        return {}
    hints: list[dict[str, str]] = []
    for k in kept:
        hints.append({"serial": f"s== {k.serial}"})
        if k.wwn:
            short = k.wwn.removeprefix("0x").removeprefix("eui.")
            hints += [{"wwn": f"s== {k.wwn}"}, {"wwn_with_extension": f"s== {k.wwn}"}]
            hints += [{"serial": f"s== {short}"}]
    return {"skip_block_devices": [NO_MD, *hints]}


def raid_interface(kept: Sequence[KeptDisk]) -> Literal["agent", "no-raid"]:
    """Its clean step takes every md array of a server apart, whatever is to be skipped."""
    return "no-raid" if kept else "agent"


def _is_kept(drive: Drive, kept: Sequence[KeptDisk]) -> bool:
    return any(is_the_same(drive, k) for k in kept)


def is_the_same(drive: Drive, kept: KeptDisk) -> bool:
    if serial_key(drive.serial):
        return serial_key(drive.serial) == serial_key(kept.serial)
    return bool(kept.wwn) and drive.wwn.strip().lower() == kept.wwn.strip().lower()
