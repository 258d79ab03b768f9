"""The pool: every node with what decides whether a claim may have it, read in one look.

Light on purpose: a claim is answered from here without a call to Ironic, and a thousand of them
share one look. What a server consists of is read only for wishes that ask for it.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlmodel import Session, col, select

from provisioning import classify, drift, keeping, layouts
from provisioning.hardware import Inventory
from provisioning.layouts import NodeNics
from provisioning.models import Bmc, Booking, Claim, Event, Hold
from provisioning.one_time import KeptDisk
from provisioning.room import Rotation, Slot
from provisioning.sight import Sight
from provisioning.states import MOVING, BmcGoal, ClaimState, Wanted

Span = tuple[datetime, datetime | None, UUID]
"""From, until (None: nobody knows until when), and the claim."""
WAITING: Final = (ClaimState.QUEUED, ClaimState.RESERVED)
REFUSED: Final = "claim.refused-by-ironic"
REFUSED_FOR: Final = timedelta(minutes=1)
"""So long a node that Ironic refused to lock is left alone: what was seen of it was older."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the rack plan has a server."""

    site: str = ""
    row: str = ""
    rack: str = ""
    feed: str = ""
    switches: frozenset[str] = frozenset()

    @property
    def where(self) -> str:
        return "/".join(filter(None, (self.site, self.row, self.rack)))

    def is_in(self, rack: str) -> bool:
        """`rack` as people say it: "r3", "row/r3", "site/row/r3"."""
        words = rack.lower().split("/")
        return bool(self.rack) and self.where.lower().split("/")[-len(words) :] == words


NOWHERE = Place()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One node.

    known:    Seed enrolled it. becomes: the class that Ironic is still to be told, if any.
    project:  whose claim holds it. busy: when it is not free, by holds and bookings.
    booked:   the claims it is booked for. bookers: their projects.
    undoable: its release can still be taken back.
    refused:  Ironic refused to lock it a moment ago.
    mark:     changes whenever anybody tells anew what it consists of.
    """

    uuid: UUID
    name: str
    facts: Mapping[str, Any]
    place: Place = NOWHERE
    bmc_id: UUID | None = None
    goal: BmcGoal = BmcGoal.OBSERVED
    becomes: str = ""
    problem: str = ""
    misfit: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    moving: bool = False
    claim_id: UUID | None = None
    project: str = ""
    busy: tuple[Span, ...] = ()
    booked: frozenset[UUID] = frozenset()
    bookers: frozenset[str] = frozenset()
    undoable: bool = False
    refused: bool = False
    mark: tuple[Any, ...] = ()

    @property
    def known(self) -> bool:
        return self.bmc_id is not None


@dataclass(frozen=True)
class Pool:
    """As of one moment. at: that moment.

    waited_for: a claim is in the queue, or reserved. keeps: some disk is kept.
    """

    at: datetime
    candidates: tuple[Candidate, ...]
    turnaround: timedelta
    waited_for: bool = True
    keeps: bool = True

    def classes(self) -> list[str]:
        return sorted({c.facts["resource_class"] for c in self.candidates} - {""})


COLUMNS: tuple[Any, ...] = (
    Bmc.id, Bmc.node_name, Bmc.goal, Bmc.resource_class, Bmc.hardware_class, Bmc.problem,
    Bmc.misfit, Bmc.labels, Bmc.serial, Bmc.manager_mac, Bmc.inventory_at, Bmc.ramdisk_at,
    Hold.claim_id, Hold.node_uuid,
)  # fmt: skip


def look(session: Session, at: datetime, turnaround: timedelta) -> Pool:
    """All nodes that Ironic has, by name."""
    rows = session.execute(
        select(Sight.node_uuid, Sight.facts, *COLUMNS)
        .join(Bmc, col(Bmc.node_uuid) == col(Sight.node_uuid), isouter=True)
        .join(Hold, col(Hold.node_uuid) == col(Sight.node_uuid), isouter=True)
    ).all()
    holders = {c.id: c for c in session.exec(select(Claim).where(col(Claim.ended_at).is_(None)))}
    booked: dict[UUID, list[Booking]] = defaultdict(list)
    for booking in session.exec(select(Booking)).all():
        booked[booking.node_uuid].append(booking)
    busy_logins = set(
        session.exec(select(Rotation.bmc_id).where(col(Rotation.step).in_(MOVING))).all()
    )
    places = Places(session.exec(select(Slot)).all())
    refused = _refused(session, at)
    found = []
    for uuid, facts, *told in rows:
        row = dict(zip((c.key for c in COLUMNS), told, strict=True))
        bookings = booked.get(uuid, ())
        holder = holders.get(row["claim_id"]) if row["claim_id"] else None
        busy: list[Span] = [
            (b.starts_at, _after(b.ends_at, turnaround), b.claim_id) for b in bookings
        ]
        if row["claim_id"]:
            always = datetime.min.replace(tzinfo=at.tzinfo)
            busy.append((always, until(holder, at, turnaround), row["claim_id"]))
        found.append(
            Candidate(
                uuid=uuid,
                name=row["node_name"] or facts["name"],
                facts=facts,
                place=places.of(row["serial"], row["manager_mac"]),
                bmc_id=row["id"] if row["node_uuid"] else None,
                goal=row["goal"] or BmcGoal.OBSERVED,
                becomes=_becomes(row, facts),
                problem=row["problem"] or "",
                misfit=_misfit(session, row),
                labels=row["labels"] or {},
                moving=row["id"] in busy_logins,
                claim_id=row["claim_id"],
                project=holder.project if holder else "",
                busy=tuple(sorted(busy, key=lambda span: span[0])),
                booked=frozenset(b.claim_id for b in bookings),
                bookers=frozenset(
                    holders[b.claim_id].project for b in bookings if b.claim_id in holders
                ),
                undoable=bool(holder and holder.undo_until and holder.undo_until > at),
                refused=str(uuid) in refused,
                mark=(row["inventory_at"], row["ramdisk_at"], row["hardware_class"]),
            )
        )
    return Pool(
        at,
        tuple(sorted(found, key=lambda c: c.name)),
        turnaround,
        waited_for=any(c.state in WAITING for c in holders.values()),
        keeps=session.exec(select(KeptDisk.node_uuid).limit(1)).first() is not None,
    )


def _refused(session: Session, at: datetime) -> set[str]:
    told = select(Event.data).where(Event.kind == REFUSED, col(Event.at) > at - REFUSED_FOR)
    return {data["node"] for data in session.exec(told).all()}


def _misfit(session: Session, row: Mapping[str, Any]) -> tuple[str, ...]:
    """As judged last; one that did not fit is looked at again: its part may be right by now."""
    if not row["misfit"]:
        return ()
    return tuple(classify.present_misfit(session, session.get_one(Bmc, row["id"])))


def until(holder: Claim | None, at: datetime, turnaround: timedelta) -> datetime | None:
    """When a claim's nodes are free again; None: nobody knows."""
    if holder is None:
        return None
    going = holder.state in (ClaimState.RELEASING, ClaimState.CLEANING)
    if going or holder.wanted is Wanted.RELEASED:
        return at + turnaround
    if holder.lease_end is None or holder.protected:
        return None
    return max(at, holder.lease_end + timedelta(seconds=holder.grace_seconds)) + turnaround


def _after(end: datetime | None, turnaround: timedelta) -> datetime | None:
    return None if end is None else end + turnaround


def _becomes(row: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Rows say another class already; Ironic will hear of it."""
    wanted: str = row["resource_class"] or ""
    return wanted if row["hardware_class"] and wanted != facts["resource_class"] else ""


class Places:
    """Where the rack plan has each server, by serial or by its BMC's MAC."""

    def __init__(self, slots: Iterable[Slot]) -> None:
        self._by: dict[str, Place] = {}
        for slot in slots:
            switches = frozenset(n["switch"] for n in slot.nics if n.get("switch"))
            place = Place(slot.site, slot.row, slot.rack, slot.feed, switches)
            for key in (slot.serial.lower(), slot.bmc_mac):
                if key:
                    self._by[key] = place

    def of(self, serial: str | None, bmc_mac: str | None) -> Place:
        by_serial = self._by.get((serial or "").lower())
        return by_serial or self._by.get(bmc_mac or "") or NOWHERE


NICS_SECONDS: Final = 30.0
_NEVER: Final[tuple[Any, ...]] = (None, None)


class Inventories:
    """What servers consist of, kept until it is told anew."""

    def __init__(self) -> None:
        self._kept: dict[UUID, tuple[tuple[Any, ...], Inventory | None]] = {}
        self._nics: dict[UUID, tuple[tuple[Any, ...], float, NodeNics]] = {}

    def of(self, session: Session, candidates: Iterable[Candidate]) -> dict[UUID, Inventory | None]:
        marks = {c.bmc_id: c.mark for c in candidates if c.bmc_id}
        stale = [i for i, mark in marks.items() if self._kept.get(i, _NEVER)[0] != mark]
        if stale:
            for bmc in session.exec(select(Bmc).where(col(Bmc.id).in_(stale))).all():
                self._kept[bmc.id] = (marks[bmc.id], _as_ordered(bmc))
        return {i: self._kept[i][1] for i in marks if i in self._kept}

    def nics(self, session: Session, candidates: Iterable[Candidate]) -> dict[UUID, NodeNics]:
        """What is known of their NICs, as far as anybody told. A change of the rack plan counts
        within NICS_SECONDS."""
        marks, at = {c.bmc_id: c.mark for c in candidates if c.bmc_id}, time.monotonic()
        stale = [
            i for i, mark in marks.items()
            if (kept := self._nics.get(i)) is None or kept[0] != mark or kept[1] < at
        ]  # fmt: skip
        if stale:
            bmcs = session.exec(select(Bmc).where(col(Bmc.id).in_(stale))).all()
            told = [b for b in bmcs if b.inventory or b.ramdisk]
            for identity, nics in layouts.nics_of_all(session, told).items():
                self._nics[identity] = (marks[identity], at + NICS_SECONDS, nics)
        return {i: self._nics[i][2] for i in marks if i in self._nics}


def _as_ordered(bmc: Bmc) -> Inventory | None:
    """Drives as its ramdisk sees them, where it ever did: an order names them to it."""
    seen, inside = drift.present(bmc), keeping.seen_by(bmc)
    return seen.model_copy(update={"drives": inside.drives}) if seen and inside else seen
