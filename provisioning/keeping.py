"""Kept disks: never erased, never written, until an operator says they are kept no more.

A row per disk. Ironic is told of them before every order that erases or writes (`protect`): its
ramdisk asks `properties.skip_block_devices` when it erases and when it looks for the root disk.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

from sqlmodel import Session, col, select

from provisioning import disks, drift, orders
from provisioning.errors import Conflict, Invalid, NotFound
from provisioning.hardware import Drive, Inventory
from provisioning.identity import serial_key
from provisioning.ironic import Node
from provisioning.models import Bmc, Claim, Hold, Order
from provisioning.one_time import KeptDisk
from provisioning.parts import Parts
from provisioning.plans import Disk, PlannedNode
from provisioning.states import BmcGoal, OrderKind
from provisioning.store import record

FORGET: Final = "forget-disk"
REASON: Final = "Seed tells Ironic which disks are kept"
"""The maintenance in which Ironic lets interfaces of a node in use be changed."""
CHANGEABLE: Final = frozenset({"enroll", "manageable", "available", "inspecting", "inspect wait"})
OURS: Final = frozenset({"redfish", "ipmi"})
"""Hardware types whose raid interface is chosen here."""


def seen_by(bmc: Bmc) -> Inventory | None:
    """As its ramdisk saw it: Ironic's hints are matched against that. Else as its BMC tells.

    None: nobody told of any disk yet.
    """
    inside = drift.told(bmc.ramdisk)
    seen = inside if inside.drives else drift.present(bmc)
    return seen if seen and seen.drives else None


def keep(session: Session, bmc: Bmc, serial: str, why: str, who: str, project: str = "") -> None:
    """From now on this disk stays as it is. Safe to repeat: the project and why are replaced.

    serial: as in the server's inventory, or the WWN. Raises NotFound where it has no such disk.
    """
    if not why.strip():
        raise Invalid("a disk is kept for a reason", "Say it: --why 'evidence of case 4711'.")
    order = orders.open_for(session, bmc.node)
    if order is not None and order.kind in (OrderKind.CLEAN, OrderKind.DEPLOY):
        raise Conflict(
            f"{bmc.node_name} is under way: {order.kind}, and its disks may be written",
            f"Try it again once that is over: `seed node show {bmc.node_name}`.",
        )
    hold = session.get_one(Hold, bmc.node)
    claim = session.get(Claim, hold.claim_id) if hold.claim_id else None
    if claim and claim.root_raid:
        raise Conflict(
            f"{bmc.node_name} has a mirrored root, and cleaning that takes every array apart",
            f"Release claim {claim.name} first: `seed claim list`.",
        )
    drive = _drive(bmc, serial)
    _put(session, bmc, drive, project, why, who)


def forget(
    session: Session, bmc: Bmc, serial: str, why: str, who: str, inspected_at: str = ""
) -> None:
    """The next clean erases it as any other; of the pool, its server leaves that till then.

    inspected_at: when its node was inspected last, in Ironic's words: that does not count any more,
    so that it becomes manageable, which `provide` cleans.
    """
    row = _row(session, bmc, serial)
    session.delete(row)
    if bmc.goal is BmcGoal.AVAILABLE and session.get_one(Hold, bmc.node).claim_id is None:
        bmc.goal, bmc.stale_inspection = BmcGoal.MANAGED, inspected_at or bmc.stale_inspection
        session.add(bmc)
    record(
        session, "node.disk-forgotten", bmc.node, row.serial, who=who, project=row.project, why=why
    )


def forget_all(session: Session, node_uuid: UUID) -> None:
    for row in disks.kept_of(session, node_uuid):
        session.delete(row)


def planned(session: Session, bmc: Bmc, serial: str) -> PlannedNode:
    """What is at stake when a disk is kept no more."""
    row = _row(session, bmc, serial)
    hold = session.get_one(Hold, bmc.node)
    seen = seen_by(bmc)
    found = [d for d in (seen.drives if seen else ()) if serial_key(d.serial) == _key(row.serial)]
    size, name = (found[0].size_bytes, found[0].name) if found else (0, "")
    return PlannedNode(
        uuid=str(bmc.node),
        name=bmc.node_name or "",
        serial=bmc.serial,
        generation=hold.generation,
        disks=[Disk(name=name, serial=row.serial, wwn=row.wwn, size_bytes=size)],
        change="the next clean erases it" if hold.claim_id else "leaves the pool to be cleaned",
    )


def to_keep(claim: Claim, node_uuid: UUID, wanted: dict[str, Any]) -> list[KeptDisk]:
    """The data disks of a node that its claim keeps: rows that are not stored yet.

    wanted: its deploy order's, with "disks" as disks.wanted made it.
    """
    return [
        KeptDisk(
            node_uuid=node_uuid, serial=told["serial"], wwn=told["wwn"],
            project=claim.project, why=f"claim {claim.name} keeps it as {told['role']}",
            kept_by=claim.asked_by,
        )
        for told in (wanted.get("disks") or {}).get("data", [])
        if told.get("keep")
    ]  # fmt: skip


def keep_for(session: Session, claim: Claim, hold: Hold, bmc: Bmc) -> None:
    """What a claim keeps is kept for its project: called when it gives its nodes back."""
    query = select(Order).where(
        Order.node_uuid == hold.node_uuid,
        Order.generation == hold.generation,
        Order.kind == OrderKind.DEPLOY,
    )
    order = session.exec(query.order_by(col(Order.opened_at).desc())).first()
    for k in to_keep(claim, hold.node_uuid, order.wanted if order else {}):
        _put(session, bmc, Drive(serial=k.serial, wwn=k.wwn), k.project, k.why, k.kept_by)


def are(session: Session, bmc: Bmc, serials: Collection[str]) -> bool:
    """Are these the kept ones still? Asked in the transaction that opens the order: after it
    nobody keeps a disk."""
    return {k.serial for k in disks.kept_of(session, bmc.node)} == set(serials)


def protect(parts: Parts, bmc: Bmc, node: Node, also: Sequence[KeptDisk] = ()) -> frozenset[str]:
    """Ironic knows which disks are kept, before it is told to erase or to write any: their serials.

    node: as read a moment ago, and not from a list. also: what its claim will keep (to_keep), as
    Ironic lets nobody tell it so once it deploys. Raises Conflict where a kept disk is not there:
    nothing is begun then. One call for each thing that Ironic does not know yet.
    """
    with parts.store.read() as session:
        kept = disks.kept_of(session, bmc.node)
    seen = seen_by(bmc)
    if kept and (gone := disks.vanished(seen or Inventory(), kept)):
        raise Conflict(
            f"{bmc.node_name} stays as it is: {'; '.join(gone)}",
            f"Put it back and `seed node inspect {bmc.node_name}`; or, if its data is not needed, "
            f"`seed node forget-disk {bmc.node_name} SERIAL`.",
        )
    known = {k.serial for k in kept}
    every = sorted([*kept, *(k for k in also if k.serial not in known)], key=lambda k: k.serial)
    before = list(node.properties.get("skip_block_devices") or [])
    theirs = _theirs(before)
    skip = [*theirs, *disks.ironic_properties(every).get("skip_block_devices", [])]
    if skip != before:
        parts.ironic.patch_node(bmc.node, {"/properties/skip_block_devices": skip})
    _choose_raid(parts, bmc, node, "no-raid" if theirs else disks.raid_interface(every))
    return frozenset(k.serial for k in kept)


def _theirs(hints: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What an adopted node brought with it: all before the first of ours, which is always NO_MD."""
    return hints[: hints.index(disks.NO_MD)] if disks.NO_MD in hints else hints


def _choose_raid(parts: Parts, bmc: Bmc, node: Node, wanted: str) -> None:
    ours = node.maintenance and node.maintenance_reason == REASON  # a life before this one died
    try:
        if node.driver not in OURS or node.raid_interface == wanted:
            return
        free = node.provision_state in CHANGEABLE or node.maintenance
        if not free and node.raid_interface != "agent":
            return  # takes nothing apart, and will be right the next time that it can be
        if not free:
            parts.ironic.set_maintenance(bmc.node, True, REASON)
            ours = True
        parts.ironic.patch_node(bmc.node, {"/raid_interface": wanted})
    finally:
        if ours:
            parts.ironic.set_maintenance(bmc.node, False)


def _put(session: Session, bmc: Bmc, drive: Drive, project: str, why: str, who: str) -> None:
    serial = drive.serial or drive.wwn
    row = session.get(KeptDisk, (bmc.node, serial)) or KeptDisk(node_uuid=bmc.node, serial=serial)
    if (row.project, row.why, row.wwn) == (project, why, drive.wwn):
        return
    row.wwn, row.project, row.why, row.kept_by = drive.wwn, project, why, who
    session.add(row)
    record(session, "node.disk-kept", bmc.node, serial, who=who, project=project, why=why)


def _row(session: Session, bmc: Bmc, serial: str) -> KeptDisk:
    for row in disks.kept_of(session, bmc.node):
        if _key(serial) in {_key(row.serial), _key(row.wwn)}:
            return row
    raise NotFound(
        f"no disk {serial[:60]!r} of {bmc.node_name} is kept",
        f"See which are: `seed node disks {bmc.node_name}`.",
    )


def _drive(bmc: Bmc, serial: str) -> Drive:
    seen = seen_by(bmc)
    found = [
        d for d in (seen.drives if seen else ()) if _key(serial) in {_key(d.serial), _key(d.wwn)}
    ]
    if not _key(serial) or not found:
        raise NotFound(
            f"{bmc.node_name} has no disk {serial[:60]!r}",
            f"See which it has: `seed node disks {bmc.node_name}`.",
        )
    if not serial_key(found[0].serial) and not found[0].wwn:
        raise Conflict("that disk tells neither serial nor WWN", "It cannot be told from others.")
    return found[0]


def _key(text: str) -> str:
    return " ".join(text.split()).casefold()
