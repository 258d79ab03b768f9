"""Orders: the only time a server's ramdisk is let in, and what the wire serves for its MACs.

Opened right before Ironic is told to boot the ramdisk, closed when Ironic is done. Between the
two the gateway admits exactly one agent of exactly this server.
"""

from datetime import datetime
from uuid import UUID

import structlog
from sqlmodel import Session, col, select

from provisioning import one_time
from provisioning.models import Bmc, Hold, Order, now
from provisioning.states import OrderKind
from provisioning.store import record

log = structlog.get_logger()


def open_for(session: Session, node_uuid: UUID) -> Order | None:
    return session.exec(
        select(Order).where(Order.node_uuid == node_uuid, col(Order.closed_at).is_(None))
    ).first()


def open_order(
    session: Session, bmc: Bmc, kind: OrderKind, generation: int, macs: list[str]
) -> Order:
    """The node's open order of this kind and generation: an earlier step's, or a new one."""
    order = open_for(session, bmc.node)
    if order and (order.kind, order.generation) == (kind, generation) and not order.alarm:
        return order
    if order:  # what it was for is over, only nobody looked yet
        order.ironic_done_at = order.ironic_done_at or now()
        close(session, order, "replaced")
    order = Order(
        node_uuid=bmc.node,
        kind=kind,
        generation=generation,
        macs=macs,
        bmc_address=bmc.address,
        serial=bmc.serial,
    )
    session.add(order)
    session.flush()
    record(session, "order.opened", bmc.node, kind, order=str(order.id))
    return order


def of_deploy(session: Session, hold: Hold) -> Order | None:
    """The deploy order of this hold, open or closed."""
    return session.exec(
        select(Order).where(
            Order.node_uuid == hold.node_uuid,
            Order.kind == OrderKind.DEPLOY,
            Order.generation == hold.generation,
        )
    ).first()


def close(session: Session, order: Order, why: str) -> None:
    order.closed_at = now()
    session.add(order)
    one_time.burn(session, order.id)
    record(session, "order.closed", order.node_uuid, f"{order.kind}: {why}", order=str(order.id))


def alarm(session: Session, order: Order, why: str) -> None:
    """Nobody is let in for it from now on. Once: the first reason is the one that matters."""
    if order.alarm:
        return
    order.alarm = f"{why}, at {now():%Y-%m-%d %H:%M:%S} UTC: the order is stopped"
    one_time.burn(session, order.id)
    record(session, "order.alarm", order.node_uuid, order.alarm, order=str(order.id))
    session.flush()
    log.error("order.alarm", node=str(order.node_uuid), why=order.alarm)


def last(session: Session, node_uuid: UUID, kind: OrderKind) -> Order | None:
    return session.exec(
        select(Order)
        .where(Order.node_uuid == node_uuid, Order.kind == kind)
        .order_by(col(Order.opened_at).desc())
    ).first()


def age(order: Order) -> float:
    """Seconds since it was opened."""
    opened: datetime = order.opened_at
    return (now() - opened).total_seconds()
