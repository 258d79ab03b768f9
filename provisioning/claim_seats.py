"""A claim's nodes and their orders, as both ways of a claim need them."""

from dataclasses import dataclass
from uuid import UUID

from sqlmodel import Session, col, select

from provisioning import orders, proving
from provisioning.models import Bmc, Claim, Hold, Order, now
from provisioning.outcome import Done, Move, Stuck, Wait
from provisioning.parts import Parts
from provisioning.store import record

Outcome = Wait | Move | Stuck | Done

TOLD = 8  # of how many nodes a sentence speaks


@dataclass(frozen=True)
class Seats:
    """What the steps of a claim work with."""

    parts: Parts

    def _drop(self, claim: Claim, seats: list[tuple[Hold, Bmc]]) -> None:
        names = [claim.allocation_name(hold.position) for hold, _bmc in seats]
        self.parts.each(names, self.parts.ironic.drop_allocation)

    def _seats(self, claim: Claim) -> list[tuple[Hold, Bmc]]:
        with self.parts.store.read() as session:
            rows = session.exec(
                select(Hold, Bmc)
                .where(Hold.claim_id == claim.id, Bmc.node_uuid == Hold.node_uuid)
                .order_by(col(Hold.position))
            ).all()
            return [(hold, bmc) for hold, bmc in rows]

    def _order_of(self, hold: Hold) -> Order | None:
        with self.parts.store.read() as session:
            order = orders.open_for(session, hold.node_uuid)
            return order if order and order.generation == hold.generation else None

    def _ours(self, session: Session, hold: Hold) -> bool:
        """Has nobody else taken the node since we read its hold?"""
        row = session.get_one(Hold, hold.node_uuid)
        return (row.claim_id, row.generation) == (hold.claim_id, hold.generation)

    def _orders_of(self, seats: list[tuple[Hold, Bmc]]) -> dict[UUID, Order]:
        """The open one of each node that has one of its present hold."""
        generations = {hold.node_uuid: hold.generation for hold, _bmc in seats}
        query = select(Order).where(
            col(Order.closed_at).is_(None), col(Order.node_uuid).in_(generations)
        )
        with self.parts.store.read() as session:
            found = session.exec(query).all()
        return {o.node_uuid: o for o in found if o.generation == generations[o.node_uuid]}

    def _ironic_done(self, *holds: Hold) -> None:
        """Their orders are done with, as far as Ironic goes."""
        if not holds:
            return
        generations = {hold.node_uuid: hold.generation for hold in holds}
        query = select(Order).where(
            col(Order.closed_at).is_(None), col(Order.ironic_done_at).is_(None),
            col(Order.node_uuid).in_(generations),
        )  # fmt: skip
        with self.parts.store.write() as session:
            found = session.exec(query).all()
            for order in found:
                if order.generation == generations[order.node_uuid]:
                    order.ironic_done_at = now()
                    record(session, "node.ironic-done", order.node_uuid, order.kind)
        if found:
            self.parts.serve_wire()


def some(words: list[str], between: str = "; ") -> str:
    """The first few: a claim may have hundreds of nodes."""
    more = f"{between}and {len(words) - TOLD} more" if len(words) > TOLD else ""
    return between.join(words[:TOLD]) + more


def differs(claim: Claim, hold: Hold, bmc: Bmc, order: Order) -> str:
    """What the server says of itself, against what was asked. Empty: the same."""
    least = {"hostname": claim.hostname(hold.position), "macs": order.macs}
    return proving.of_node(bmc.node_name or "", least | order.wanted, order.proof or {})
