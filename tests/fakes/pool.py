"""The pool as a test's Ironic has it."""

from typing import Any
from uuid import UUID

from sqlmodel import Session

from provisioning import choosing, classify, holding, pool, sight
from provisioning.ironic import Node
from provisioning.models import Bmc, Claim, now
from provisioning.pool import Inventories, Pool
from provisioning.store import Store


def see(store: Store, ironic: Any) -> None:
    """What the reconciler's look at Ironic leaves behind."""
    with store.write() as session:
        sight.write(session, ironic.nodes(), all_of_them=True, at=now())


def a_look(session: Session, *nodes: Node) -> Pool:
    """The pool, with these nodes seen anew."""
    sight.write(session, nodes, all_of_them=False, at=now())
    session.flush()
    return pool.look(session, now(), holding.TURNAROUND)


def why_not(session: Session, claim: Claim, node: Node) -> str:
    """The first rule that keeps this node from this claim; empty when it fits."""
    seen = a_look(session, node)
    (c,) = [c for c in seen.candidates if c.uuid == UUID(node.uuid)]
    broken = choosing.broken(c, holding.wish(session, claim, seen, Inventories()))
    if broken:
        return broken[0].why
    misfit = classify.present_misfit(session, session.get_one(Bmc, c.bmc_id))
    return f"it is not as its class says: {'; '.join(misfit)}" if misfit else ""
