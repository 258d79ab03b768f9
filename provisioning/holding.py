"""Holds and bookings: the rows that say who has a node, now and later. Written here alone.

A gang is held in one transaction, or not at all. Claims in the queue get what is free in their
order; who is behind does not take what one ahead waits for.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import delete, or_, update
from sqlmodel import Session, col, select

from provisioning import addressing, choosing, classify, leasing, pool
from provisioning.choosing import Broken, Choice, Wish
from provisioning.layout_doc import of_claim
from provisioning.models import Bmc, Booking, Claim, Hold, now
from provisioning.networks import networks
from provisioning.one_time import KeptDisk
from provisioning.pool import Candidate, Inventories, Pool
from provisioning.refusing import refusal, whys
from provisioning.states import BmcGoal, ClaimState, IfFull, Wanted
from provisioning.store import Store, record

TURNAROUND: Final = timedelta(hours=1)
"""Undo window and cleaning: how long after its claim a node is counted as free for the next one."""
INVENTORIES: Final = Inventories()
"""Of this process: thousands are not parsed again for each look at the queue."""


class Short(Exception):
    """Not enough nodes; inside this package only."""

    def __init__(self, choice: Choice, of_addresses: bool = False) -> None:
        super().__init__()
        self.choice, self.of_addresses = choice, of_addresses


def wish(session: Session, claim: Claim, seen: Pool, parts: Inventories) -> Wish:
    """A claim's wish as of this look at the pool, with those ahead of it in the queue.

    It may be one that nobody made yet: who only asks.
    """
    plain = plain_wish(session, claim, seen, parts)
    if _had_its_turn(claim) or not seen.waited_for:
        return plain
    ahead = [c for c in waiting(session) if _goes_first(c, claim)]
    ahead = [*_late(session, seen.at), *ahead]
    helped = _helped(session, seen, ahead)
    keep = choosing.kept_for(seen, helped, lambda c: plain_wish(session, c, seen, parts))
    if not plain.now:
        keep |= choosing.kept_later(
            seen, ahead, lambda c: plain_wish(session, c, seen, parts), plain
        )
    return replace(plain, kept=keep)


def plain_wish(session: Session, claim: Claim, seen: Pool, parts: Inventories) -> Wish:
    """The same, as if nobody waited."""
    begin = max(claim.starts_at or seen.at, seen.at)
    tail = seen.turnaround + timedelta(seconds=claim.grace_seconds)
    found = Wish(claim, begin, _end(claim, begin), begin <= seen.at, claim.id, tail)
    if seen.keeps:
        rows = session.exec(select(KeptDisk)).all()
        kept: dict[UUID, list[KeptDisk]] = {}
        for row in rows:
            kept.setdefault(row.node_uuid, []).append(row)
        found = replace(found, kept_disks=kept)
    cheap = [c for c in seen.candidates if c.bmc_id and _cheap(c, found)]
    looked = [c for c in cheap if found.looks_into(c)]
    layout = of_claim(claim)
    if layout is None:
        return replace(found, parts=parts.of(session, looked)) if looked else found
    nics = parts.nics(session, cheap)
    return replace(found, parts=parts.of(session, looked), layout=layout, nics=nics)


def _end(claim: Claim, begin: datetime) -> datetime | None:
    """When its nodes are given back by itself; a protected claim's never are."""
    if claim.protected:
        return None
    if claim.renewed_to or _had_its_turn(claim):
        return claim.lease_end
    if claim.lease_seconds:
        return begin + timedelta(seconds=claim.lease_seconds)
    return claim.ends_at


def _had_its_turn(claim: Claim) -> bool:
    return bool(claim.held_at or claim.state is ClaimState.RESERVED)


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


def _late(session: Session, at: datetime) -> list[Claim]:
    """Reserved claims whose time has come and that wait for a node: before the whole queue."""
    rows = session.exec(
        select(Claim).where(
            Claim.state == ClaimState.RESERVED, col(Claim.held_at).is_(None),
            col(Claim.starts_at) <= at, Claim.wanted == Wanted.ACTIVE,
        )
    ).all()  # fmt: skip
    return sorted(rows, key=lambda c: (c.starts_at or at, str(c.id)))


def _goes_first(other: Claim, claim: Claim) -> bool:
    if claim.state is not ClaimState.QUEUED:
        return other.priority >= claim.priority and claim.id != other.id
    key = (-claim.priority, claim.created_at, str(claim.id))
    return (-other.priority, other.created_at, str(other.id)) < key


def _fitting(session: Session, claim: Claim, seen: Pool, w: Wish) -> list[Candidate]:
    """The nodes it gets, also by what their rows say this moment; Short: not enough.

    Short, too, where a network of its layout has too few addresses for them.
    """
    while True:
        choice = choosing.choose(seen, w)
        if len(choice.chosen) < claim.count:
            raise Short(choice)
        misfits = {c.uuid: m for c in choice.chosen if (m := _misfit(session, c))}
        if not misfits:
            _enough_addresses(session, claim, w, choice.chosen)
            return choice.chosen
        seen = replace(
            seen,
            candidates=tuple(
                replace(c, misfit=misfits[c.uuid]) if c.uuid in misfits else c
                for c in seen.candidates
            ),
        )


def _enough_addresses(session: Session, claim: Claim, w: Wish, chosen: list[Candidate]) -> None:
    if w.layout is None or not w.now:
        return
    why = _lacking(session, claim)
    if why:
        told = {c.uuid: [Broken(why, why, lasting=False)] for c in chosen}
        raise Short(Choice([], told, 0), of_addresses=True)


def _helped(session: Session, seen: Pool, claims: list[Claim]) -> list[Claim]:
    """Without those that lack addresses now: nodes kept for them would not help them."""
    told: dict[tuple[str, int], str] = {}

    def lacking(claim: Claim) -> str:
        if claim.starts_at and claim.starts_at > seen.at:
            return ""  # its addresses are given then
        key = (repr(claim.layout_document), claim.count)
        if key not in told:
            told[key] = _lacking(session, claim)
        return told[key]

    return [claim for claim in claims if not lacking(claim)]


def _lacking(session: Session, claim: Claim) -> str:
    """Why its nodes cannot have their addresses now; empty: they can."""
    layout = of_claim(claim)
    if layout is None:
        return ""
    return addressing.lacks(session, layout, networks(session), claim.count)


def _misfit(session: Session, c: Candidate) -> tuple[str, ...]:
    return tuple(classify.present_misfit(session, session.get_one(Bmc, c.bmc_id)))


def take(session: Session, claim: Claim, seen: Pool, w: Wish) -> None:
    """Hold `claim.count` fitting nodes and drop its bookings, or raise Short and hold none."""
    with session.begin_nested():  # whoever catches Short may commit all the same
        _have(session, claim, _fitting(session, claim, seen, w), seen, w)
    drop_bookings(session, claim)


def take_each(session: Session, claims: Sequence[Claim], seen: Pool, w: Wish) -> None:
    """Hold one node for each of these claims, or raise Short and hold none. They are chosen
    together, as w.claim says, which is a wish for so many and no row."""
    with session.begin_nested():
        chosen = _fitting(session, w.claim, seen, w)
        for claim, c in zip(claims, chosen, strict=True):
            _have(session, claim, [c], seen, w)


def _have(session: Session, claim: Claim, chosen: list[Candidate], seen: Pool, w: Wish) -> None:
    for position, c in enumerate(chosen):
        if not _hold(session, claim, c.uuid, position):
            faster = [Broken("another claim was faster", "another claim has it", False)]
            raise Short(Choice([], {c.uuid: faster}, 0))
    if w.layout is not None:
        nodes = [(c.uuid, position) for position, c in enumerate(chosen)]
        session.flush()
        addressing.assign(session, claim.id, w.layout, networks(session), nodes)
    _record_held(session, claim, [c.uuid for c in chosen])
    claim.held_at = seen.at
    session.add(claim)


def take_anew(session: Session, claim: Claim, turnaround: timedelta = TURNAROUND) -> str:
    """Other nodes than those that Ironic refused. Why there is no gang; empty: it is held.

    Who may wait is in the queue again: where it was, as that goes by when it was asked for.
    """
    row = session.get_one(Claim, claim.id)
    seen = pool.look(session, now(), turnaround)
    w = wish(session, row, seen, INVENTORIES)
    try:
        take(session, row, seen, w)
    except Short as short:
        if row.if_full is IfFull.QUEUE:
            row.state, row.since, row.held_at = ClaimState.QUEUED, now(), None
            record(session, "claim.queued", row.id, row.name, project=row.project)
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
        first = _next_served(session, turnaround)
    served = 0
    while first is not None:
        with store.write() as session:  # only for who gets something, and looked at once more
            first = _next_served(session, turnaround)
            if first is not None:
                _serve(session, *first)
                served += 1
    return served


def _next_served(session: Session, turnaround: timedelta) -> tuple[Claim, Pool, Wish] | None:
    """The first of the queue that can have its nodes now. One look for all of them."""
    queue = [c for c in waiting(session) if not leasing.ran_out(c)]
    if not queue:
        return None
    seen, parts = pool.look(session, now(), turnaround), INVENTORIES
    late = _helped(session, seen, _late(session, seen.at))
    kept = choosing.kept_for(seen, late, lambda c: plain_wish(session, c, seen, parts))
    for claim in queue:
        plain = plain_wish(session, claim, seen, parts)
        w = replace(plain, kept=kept) if plain.now else wish(session, claim, seen, parts)
        try:
            _fitting(session, claim, seen, w)
        except Short as short:
            if short.of_addresses:
                continue  # nodes that are kept for it would not help it
            kept |= choosing.kept_for(seen, [claim], lambda _c, mine=w: mine)  # type: ignore[misc]
        else:
            return claim, seen, w
    return None


def _serve(session: Session, claim: Claim, seen: Pool, w: Wish) -> None:
    take(session, claim, seen, w) if w.now else book(session, claim, seen, w)
    claim.state = ClaimState.REQUESTED if w.now else ClaimState.RESERVED
    claim.since, claim.detail = now(), ""
    session.add(claim)
    record(
        session, f"claim.{claim.state}", claim.id, claim.name, project=claim.project,
        waited_seconds=int((now() - claim.created_at).total_seconds()),
    )  # fmt: skip


def begin_reserved(store: Store, claim: Claim, turnaround: timedelta) -> str:
    """Its time has come: hold its nodes, or others that fit. What it waits for; empty: it has them.

    Held already, after a crash right behind this: nothing more to do.
    """
    with store.write() as session:
        row = session.get_one(Claim, claim.id)
        if row.held_at is not None:
            return ""
        seen = pool.look(session, now(), turnaround)
        w = wish(session, row, seen, INVENTORIES)
        row.renewed_to = row.lease_end  # also if it begins late: others reserved the time after it
        try:
            take(session, row, seen, w)
        except Short as short:
            mine = [c for c in seen.candidates if row.id in c.booked]
            told = {c.name: whys(short.choice.rejected.get(c.uuid, ()), True) for c in mine}
            late = "; ".join(f"{name}: {whys[0]}" for name, whys in told.items() if whys)
            return late or "not enough nodes are free"
    return ""


def drop_bookings(session: Session, claim: Claim) -> None:
    session.execute(delete(Booking).where(col(Booking.claim_id) == claim.id))


def stretch(session: Session, claim: Claim) -> None:
    """Its bookings last as long as it does now: protected, they have no end."""
    grace = timedelta(seconds=claim.grace_seconds)
    end = _end(claim, claim.starts_at or now())
    session.execute(
        update(Booking)
        .where(col(Booking.claim_id) == claim.id)
        .values(ends_at=end + grace if end else None)
    )


def next_booking(session: Session, claim: Claim) -> Booking | None:
    """The first time that somebody else reserved a node of it."""
    held = select(Hold.node_uuid).where(Hold.claim_id == claim.id)
    booked = select(Booking.node_uuid).where(Booking.claim_id == claim.id)
    begin = claim.starts_at if claim.state is ClaimState.RESERVED else None
    query = select(Booking).where(
        or_(col(Booking.node_uuid).in_(held), col(Booking.node_uuid).in_(booked)),
        Booking.claim_id != claim.id,
    )
    if begin is not None:
        query = query.where(col(Booking.starts_at) >= begin)
    return session.exec(query.order_by(col(Booking.starts_at))).first()


def keeps_any(session: Session, claim: Claim) -> bool:
    """Does it hold a node, or is one booked for it?"""
    held = session.exec(select(Hold).where(Hold.claim_id == claim.id)).first()
    return bool(held or session.exec(select(Booking).where(Booking.claim_id == claim.id)).first())


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
    addressing.free(session, node_uuid=hold.node_uuid)
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
