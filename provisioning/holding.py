"""Holds and bookings: the rows that say who has a node, now and later. Written here alone.

A gang is held in one transaction, or not at all. Claims in the queue get what is free in their
order; who is behind does not take what one ahead waits for.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import delete, update
from sqlmodel import Session, col, select

from provisioning import choosing, classify, pool
from provisioning.choosing import Broken, Choice, Wish
from provisioning.models import Bmc, Booking, Claim, ClaimSpec, Hold, now
from provisioning.pool import Candidate, Inventories, Pool
from provisioning.refusing import refusal, whys
from provisioning.states import BmcGoal, ClaimState, Wanted
from provisioning.store import Store, record

TURNAROUND: Final = timedelta(hours=1)
"""Undo window and cleaning: how long after its claim a node is counted as free for the next one."""
WAITING: Final = (ClaimState.QUEUED, ClaimState.RESERVED)


class Short(Exception):
    """Not enough nodes; inside this package only."""

    def __init__(self, choice: Choice) -> None:
        super().__init__()
        self.choice = choice


def wish(
    session: Session, claim: ClaimSpec, seen: Pool, parts: Inventories, min_disk_gib: int = 0
) -> Wish:
    """A claim's wish as of this look at the pool, behind those ahead of it in the queue."""
    plain = plain_wish(session, claim, seen, parts, min_disk_gib)
    if isinstance(claim, Claim) and (claim.held_at or claim.state is ClaimState.RESERVED):
        return plain  # its turn was before
    kept: frozenset[UUID] = frozenset()
    for other in waiting(session):
        if other.priority >= claim.priority and getattr(claim, "id", None) != other.id:
            kept |= choosing.kept(seen, plain_wish(session, other, seen, parts), kept)
    return replace(plain, kept=kept)


def plain_wish(
    session: Session, claim: ClaimSpec, seen: Pool, parts: Inventories, min_disk_gib: int = 0
) -> Wish:
    """The same, as if nobody waited."""
    begin = max(claim.starts_at or seen.at, seen.at)
    end = claim.ends_at
    if claim.lease_seconds:
        end = begin + timedelta(seconds=claim.lease_seconds)
    own = claim.id if isinstance(claim, Claim) else None
    if isinstance(claim, Claim) and claim.held_at:
        end = claim.lease_end
    found = Wish(claim, begin, end, begin <= seen.at, own, min_disk_gib=min_disk_gib)
    if not found.needs_parts:
        return found
    ids = [c.bmc_id for c in seen.candidates if c.bmc_id and _cheap(c, found)]
    return replace(found, parts=parts.of(session, ids))


def _cheap(c: Candidate, w: Wish) -> bool:
    return c.facts["resource_class"] == w.claim.resource_class and c.goal is BmcGoal.AVAILABLE


def waiting(session: Session) -> list[Claim]:
    """The queue, first the one that is next."""
    rows = session.exec(
        select(Claim).where(
            Claim.state == ClaimState.QUEUED, col(Claim.ended_at).is_(None),
            Claim.wanted == Wanted.ACTIVE,
        )
    ).all()  # fmt: skip
    return sorted(rows, key=lambda c: (-c.priority, c.created_at, str(c.id)))


def _fitting(session: Session, claim: Claim, seen: Pool, w: Wish) -> list[Candidate]:
    """The nodes it gets, also by what their rows say this moment; Short: not enough."""
    while True:
        choice = choosing.choose(seen, w)
        if len(choice.chosen) < claim.count:
            raise Short(choice)
        misfits = {c.uuid: m for c in choice.chosen if (m := _misfit(session, c))}
        if not misfits:
            return choice.chosen
        seen = replace(
            seen,
            candidates=tuple(
                replace(c, misfit=misfits[c.uuid]) if c.uuid in misfits else c
                for c in seen.candidates
            ),
        )


def _misfit(session: Session, c: Candidate) -> tuple[str, ...]:
    return tuple(classify.present_misfit(session, session.get_one(Bmc, c.bmc_id)))


def take(session: Session, claim: Claim, seen: Pool, w: Wish) -> None:
    """Hold `claim.count` fitting nodes and drop its bookings, or raise Short and hold none."""
    chosen = _fitting(session, claim, seen, w)
    for position, c in enumerate(chosen):
        if not _hold(session, claim, c.uuid, position):
            raise Short(Choice([], {c.uuid: [Broken("another claim was faster", "", False)]}, 0))
    _record_held(session, claim, [c.uuid for c in chosen])
    session.execute(delete(Booking).where(col(Booking.claim_id) == claim.id))
    claim.held_at = seen.at
    session.add(claim)


def take_without(
    session: Session, claim: Claim, refused: UUID, turnaround: timedelta = TURNAROUND
) -> str:
    """Choose anew without a node that Ironic refused. Why there is no gang; empty: it is held."""
    row = session.get_one(Claim, claim.id)
    whole = pool.look(session, now(), turnaround)
    others = tuple(c for c in whole.candidates if c.uuid != refused)
    seen = replace(whole, candidates=others)
    w = wish(session, row, seen, Inventories())
    try:
        take(session, row, seen, w)
    except Short as short:
        return str(refusal(seen, w, short.choice, claim.project, False))
    return ""


def book(session: Session, claim: Claim, seen: Pool, w: Wish) -> None:
    """Keep `claim.count` nodes free for it from its begin on, or raise Short and keep none."""
    grace = timedelta(seconds=claim.grace_seconds)
    for position, c in enumerate(_fitting(session, claim, seen, w)):
        end = w.end + grace if w.end else None
        row = Booking(claim_id=claim.id, node_uuid=c.uuid, position=position)
        row.starts_at, row.ends_at = w.begin, end
        session.add(row)


def serve_queue(store: Store, turnaround: timedelta = TURNAROUND) -> int:
    """Give what is free to claims that wait, in their order; how many got theirs."""
    with store.read() as session:
        if not waiting(session):
            return 0
    served, kept, parts = 0, frozenset[UUID](), Inventories()
    with store.write() as session:
        seen = pool.look(session, now(), turnaround)
        for claim in waiting(session):
            w = replace(plain_wish(session, claim, seen, parts), kept=kept)
            if not _served(session, claim, seen, w):
                kept |= choosing.kept(seen, w, kept)
                continue
            served += 1
            seen = pool.look(session, now(), turnaround)
    return served


def _served(session: Session, claim: Claim, seen: Pool, w: Wish) -> bool:
    if w.end and w.end <= w.begin:
        return False  # it ends by itself
    try:
        take(session, claim, seen, w) if w.now else book(session, claim, seen, w)
    except Short:
        return False
    claim.state = ClaimState.REQUESTED if w.now else ClaimState.RESERVED
    claim.since, claim.detail = now(), ""
    session.add(claim)
    waited = int((now() - claim.created_at).total_seconds())
    record(
        session, f"claim.{claim.state}", claim.id, claim.name, project=claim.project,
        waited_seconds=waited,
    )  # fmt: skip
    session.flush()
    return True


def begin_reserved(store: Store, claim: Claim, turnaround: timedelta) -> str:
    """Its time has come: hold its nodes, or others that fit. What it waits for; empty: it has them.

    Held already, after a crash right behind this: nothing more to do.
    """
    with store.write() as session:
        row = session.get_one(Claim, claim.id)
        if row.held_at is not None:
            return ""
        seen = pool.look(session, now(), turnaround)
        w = wish(session, row, seen, Inventories())
        try:
            take(session, row, seen, w)
        except Short as short:
            mine = [c for c in seen.candidates if row.id in c.booked]
            told = {c.name: whys(short.choice.rejected.get(c.uuid, ()), True) for c in mine}
            late = "; ".join(f"{name}: {whys[0]}" for name, whys in told.items() if whys)
            return late or "not enough nodes are free"
    return ""


def drop_bookings(store: Store, claim: Claim) -> None:
    with store.write() as session:
        session.execute(delete(Booking).where(col(Booking.claim_id) == claim.id))


def _hold(session: Session, claim: Claim, node_uuid: UUID, position: int) -> bool:
    """Compare-and-set: the row is ours only if nobody held it at this moment."""
    won = session.execute(
        update(Hold)
        .where(col(Hold.node_uuid) == node_uuid, col(Hold.claim_id).is_(None))
        .values(claim_id=claim.id, position=position, generation=Hold.generation + 1)
    )
    return bool(won.rowcount == 1)  # type: ignore[attr-defined]


def let_go(session: Session, hold: Hold) -> None:
    """The node is free again; whoever acts for the old generation is now a stranger."""
    claim = session.get(Claim, hold.claim_id) if hold.claim_id else None
    if claim:
        record(
            session, "node.let-go", hold.node_uuid, claim.name, project=claim.project,
            claim=str(claim.id),
        )  # fmt: skip
    hold.claim_id = None
    hold.generation += 1
    session.add(hold)


def _record_held(session: Session, claim: Claim, nodes: list[UUID]) -> None:
    """Who had which node, and when, is read from these: provisioning/timeline.py."""
    record(
        session, "claim.held", claim.id, claim.name, project=claim.project,
        nodes=[str(uuid) for uuid in nodes],
    )  # fmt: skip
    for uuid in nodes:
        record(
            session, "node.held", uuid, claim.name, project=claim.project, claim=str(claim.id)
        )  # fmt: skip
