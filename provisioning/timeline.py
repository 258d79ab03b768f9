"""What became of a node or a claim, and how long each step took, read from events and orders.

A claim's nodes are those that its `claim.held` named, from that event to their `node.let-go`: what
a node did before and after is another's. Numbers of events are compared, not times.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import BaseModel
from sqlmodel import Session, col, select

from provisioning.models import Bmc, Claim, Event, Hold, Order, now
from provisioning.states import ClaimState

AT_MOST: Final = 1000
_STATES: Final = {f"claim.{state}": str(state) for state in ClaimState}
_OPEN: Final = 2**63 - 1
# What a claimer reads of its node; where True, with its words, which name nothing but the claim.
_TOLD: Final = {
    "node.held": True, "node.let-go": True, "node.ironic-done": True, "order.opened": True,
    "order.closed": True, "order.proof": True, "order.alarm": False, "node.stuck": False,
}  # fmt: skip


class Step(BaseModel):
    """One step of the way. node: its name; empty: of the claim as a whole. end: none yet."""

    name: str
    node: str
    begin: datetime
    end: datetime | None
    seconds: float


class Entry(BaseModel):
    id: int
    at: datetime
    kind: str
    node: str
    who: str
    why: str
    message: str


class Timeline(BaseModel):
    """Oldest first; the youngest 1,000 entries."""

    name: str
    steps: list[Step]
    entries: list[Entry]


@dataclass(frozen=True)
class _Held:
    node: UUID
    since: int  # numbers of events
    until: int


def of_node(session: Session, bmc: Bmc) -> Timeline:
    """Of an accepted server: its node's events and its BMC's."""
    name = bmc.node_name or bmc.address
    about = [str(bmc.node), bmc.address]
    orders = session.exec(
        select(Order).where(Order.node_uuid == bmc.node).order_by(col(Order.opened_at).desc())
    ).fetchmany(AT_MOST)
    steps = [step for order in reversed(orders) for step in _of_order(order, name)]
    return Timeline(
        name=name, steps=steps, entries=[_entry(e, name) for e in _youngest(session, about)]
    )


def of_claim(session: Session, claim: Claim, insider: bool) -> Timeline:
    """Of a claim and of its nodes while it held them. insider: with all that BMCs said."""
    own = _youngest(session, [str(claim.id)])
    names = dict(session.exec(select(Bmc.node_uuid, Bmc.node_name)).all())
    entries = [_entry(e, "") for e in own]
    steps = _of_states(claim, own)
    for held in _held(session, claim, own):
        name = names.get(held.node) or str(held.node)
        found = [e for e in _between(session, held) if insider or e.kind in _TOLD]
        entries += [_entry(e, name, words=insider or _TOLD[e.kind]) for e in found]
        steps += _of_orders(session, found, name)
    entries = sorted(entries, key=lambda e: e.id)[-AT_MOST:]
    return Timeline(name=claim.name, steps=sorted(steps, key=lambda s: s.begin), entries=entries)


def _youngest(session: Session, subjects: list[str]) -> list[Event]:
    query = select(Event).where(col(Event.subject).in_(subjects))
    return list(reversed(session.exec(query.order_by(col(Event.id).desc()).limit(AT_MOST)).all()))


def _between(session: Session, held: _Held) -> list[Event]:
    query = select(Event).where(
        Event.subject == str(held.node), col(Event.id) >= held.since, col(Event.id) <= held.until
    )
    return list(session.exec(query.order_by(col(Event.id)).limit(AT_MOST)).all())


def _held(session: Session, claim: Claim, own: list[Event]) -> list[_Held]:
    """When it had which node. One gang may follow another, where Ironic refused a node."""
    takings = [(UUID(n), e.id or 0) for e in own if e.kind == "claim.held" for n in e.data["nodes"]]
    if not takings and own:  # held before that was recorded
        rows = session.exec(select(Hold.node_uuid).where(Hold.claim_id == claim.id)).all()
        takings = [(uuid, own[0].id or 0) for uuid in rows]
    return [_Held(node, since, _let_go(session, claim, node, since)) for node, since in takings]


def _let_go(session: Session, claim: Claim, node: UUID, since: int) -> int:
    query = select(Event).where(
        Event.subject == str(node), Event.kind == "node.let-go", col(Event.id) > since
    )
    for event in session.exec(query.order_by(col(Event.id))):
        if event.data.get("claim") == str(claim.id):
            return event.id or _OPEN
    return _OPEN


def _of_states(claim: Claim, own: list[Event]) -> list[Step]:
    """How long it was in each state."""
    seen = [(e.data.get("state", _STATES[e.kind]), e.at) for e in own if e.kind in _STATES]
    ends = [at for _, at in seen[1:]]
    steps = [_step(state, "", at, end) for (state, at), end in zip(seen, ends, strict=False)]
    if seen and not claim.ended_at:
        steps.append(_step(seen[-1][0], "", seen[-1][1], None))
    return steps


def _of_orders(session: Session, events: Iterable[Event], name: str) -> list[Step]:
    ids = [UUID(e.data["order"]) for e in events if e.kind == "order.opened"]
    rows = session.exec(select(Order).where(col(Order.id).in_(ids))).all()
    return [step for order in rows for step in _of_order(order, name)]


def _of_order(order: Order, name: str) -> list[Step]:
    """What Ironic did, then the first boot up to the server's own word."""
    end = order.ironic_done_at or order.closed_at
    steps = [_step(str(order.kind), name, order.opened_at, end)]
    if order.ironic_done_at and order.proof_at:
        steps.append(_step("first boot", name, order.ironic_done_at, order.proof_at))
    return steps


def _step(name: str, node: str, begin: datetime, end: datetime | None) -> Step:
    seconds = ((end or now()) - begin).total_seconds()
    return Step(name=name, node=node, begin=begin, end=end, seconds=round(max(seconds, 0.0), 1))


def _entry(event: Event, node: str, words: bool = True) -> Entry:
    return Entry(
        id=event.id or 0,
        at=event.at,
        kind=event.kind,
        node=node,
        who=event.who,
        why=event.why,
        message=event.message if words else "",
    )
