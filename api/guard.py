"""The gateway's rules: which agent is let in, for which order, from which address.

Ironic mints the agent token for whoever asks first, so one order lets one agent ask once. Who
comes twice, from elsewhere, or points elsewhere stops the order: `alarm` is set, and from then on
nobody is let in for it. Only an agent that has proved to Ironic that it holds the token (a
heartbeat was accepted) may look up again, from the same address: Ironic masks the token then.

Each function decides in one write transaction, which is alone: of two at once exactly one wins.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import func, update
from sqlmodel import Session, col, select

from api.inventory import Seen
from provisioning import orders
from provisioning.errors import Conflict, Forbidden, NotFound, SeedError
from provisioning.models import Address, Event, Order, now
from provisioning.orders import alarm
from provisioning.states import OrderKind
from provisioning.store import Store, record

UNKNOWN_EVERY = timedelta(hours=1)
UNKNOWN_MAX = 200
"""So many unknown servers are noted per UNKNOWN_EVERY: one liar must not fill the disk."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Admitted:
    """An order whose lookup is being done, and what its agent's address was before.

    again: its agent has its token already and only wants to read its node anew, as
    ironic-python-agent 13.0.0 does right before it writes an image (hardware.update_cached_node).
    """

    order_id: UUID
    node_uuid: UUID
    agent_address: str
    again: bool = False


def lookup(store: Store, macs: frozenset[str], node_uuid: UUID | None, source: str) -> Admitted:
    """Let one agent ask for its token.

    Raises NotFound where no order waits for such a server, Forbidden (with an alarm) for the
    second one and for a stranger.
    """
    return _settled(store, lambda session: _lookup(session, macs, node_uuid, source))


def take_back(store: Store, before: Admitted) -> None:
    """Ironic gave no token: the agent may ask again."""
    if before.again:
        return
    with store.write() as session:
        order = session.get_one(Order, before.order_id)
        if not order.alarm:
            order.lookup_at, order.agent_address = None, before.agent_address


def heartbeat(store: Store, node_uuid: UUID, callback_url: str, source: str) -> None:
    """Raises Conflict where nothing was looked up, Forbidden (with an alarm) for a stranger."""
    _settled(store, lambda session: _heartbeat(session, node_uuid, callback_url, source))


def heartbeat_accepted(store: Store, node_uuid: UUID, source: str) -> None:
    """Ironic took the heartbeat, so this agent holds the token."""
    with store.write() as session:
        session.execute(
            update(Order)
            .where(
                col(Order.node_uuid) == node_uuid,
                col(Order.closed_at).is_(None),
                col(Order.agent_address) == source,
                col(Order.heartbeat_at).is_(None),
            )
            .values(heartbeat_at=now())
        )


def inspection(store: Store, seen: Seen, source: str) -> Order:
    """The order that waits for this inventory. A server that was known by its BMC only is bound.

    Raises NotFound (and notes the server) or Forbidden (with an alarm).
    """
    return _settled(store, lambda session: _inspection(session, seen, source))


def _settled(store: Store, decide: Callable[[Session], T | SeedError]) -> T:
    """Alarms are kept even though the caller gets an error: raise after the commit."""
    with store.write() as session:
        verdict = decide(session)
    if isinstance(verdict, SeedError):
        raise verdict
    return verdict


def _lookup(
    session: Session, macs: frozenset[str], node_uuid: UUID | None, source: str
) -> Admitted | SeedError:
    known = _addresses(session, macs)
    waiting = [
        order
        for order in _open(session)
        if (_is_for(order, macs, known) or not macs) and node_uuid in (None, order.node_uuid)
    ]
    if not waiting or not (macs or node_uuid):
        return _nobody()
    order = _from_right_address(session, waiting, macs, source, "a lookup")
    if isinstance(order, SeedError):
        return order
    if order.heartbeat_at and source == order.agent_address:
        return Admitted(order.id, order.node_uuid, order.agent_address, again=True)
    before = Admitted(order.id, order.node_uuid, order.agent_address)
    if not _take(session, order.id, source):
        return _stop(session, order, f"a second lookup, from {source}")
    return before


def _take(session: Session, order_id: UUID, source: str) -> bool:
    """True for exactly one caller per order."""
    taken = session.execute(
        update(Order)
        .where(
            col(Order.id) == order_id,
            col(Order.lookup_at).is_(None),
            col(Order.closed_at).is_(None),
            col(Order.alarm) == "",
        )
        .values(lookup_at=now(), agent_address=source)
    )
    return bool(getattr(taken, "rowcount", 0) == 1)


def _heartbeat(
    session: Session, node_uuid: UUID, callback_url: str, source: str
) -> SeedError | None:
    order = orders.open_for(session, node_uuid)
    if order is None or order.lookup_at is None:
        # An agent of an earlier order that still runs: nothing to protect, no token is out.
        return Conflict("no agent of this node was let in", f"seed node show {node_uuid}")
    if order.alarm:
        return _stopped(order)
    if source != order.agent_address:
        return _stop(session, order, f"a heartbeat from {source}, not {order.agent_address}")
    if _host(callback_url) != source:
        return _stop(session, order, f"a heartbeat from {source} with a foreign callback address")
    return None


def _host(url: str) -> str:
    """The host of an https URL; empty for anything else."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "") if parts.scheme == "https" and not parts.username else ""
    except ValueError:
        return ""


def _inspection(session: Session, seen: Seen, source: str) -> Order | SeedError:
    known = _addresses(session, seen.macs)
    inspecting = [order for order in _open(session) if order.kind == OrderKind.INSPECT]
    waiting = [order for order in inspecting if _is_for(order, seen.macs, known)]
    if waiting:
        return _from_right_address(session, waiting, seen.macs, source, "an inventory")
    matching = [order for order in inspecting if not order.macs and _by_bmc(order, seen)]
    if not matching:
        _note_unknown(session, seen, source)
        return _nobody()
    return _bind(session, matching[0], seen, source)


def _by_bmc(order: Order, seen: Seen) -> bool:
    return order.bmc_address in seen.bmc_addresses and order.serial in ("", seen.serial)


def _bind(session: Session, order: Order, seen: Seen, source: str) -> Order | SeedError:
    """The first one that tells the right BMC and serial is this order's server."""
    if order.alarm:
        return _stopped(order)
    if order.agent_macs:
        return _stop(session, order, f"a second server with its BMC and serial, from {source}")
    if session.get(Address, source) is not None:
        return _stop(session, order, f"an inventory from {source}, an address of another server")
    order.agent_address, order.agent_macs = source, sorted(seen.macs)
    session.flush()
    return order


def _open(session: Session) -> list[Order]:
    return list(session.exec(select(Order).where(col(Order.closed_at).is_(None))))


def _addresses(session: Session, macs: frozenset[str]) -> dict[str, UUID]:
    """MAC -> node, of those that we gave an address."""
    rows = session.exec(select(Address).where(col(Address.mac).in_(macs)))
    return {row.mac: row.node_uuid for row in rows if row.mac and row.node_uuid}


def _is_for(order: Order, macs: frozenset[str], known: dict[str, UUID]) -> bool:
    of_order = {mac.lower() for mac in (*order.macs, *order.agent_macs)}
    return bool(macs & of_order) or order.node_uuid in known.values()


def _from_right_address(
    session: Session, orders: list[Order], macs: frozenset[str], source: str, what: str
) -> Order | SeedError:
    """The one of these orders whose server has `source`; else all of them are stopped.

    There can be several: servers of one make may share the MAC of a USB NIC to their BMC.
    """
    row = session.get(Address, source)
    for order in orders:
        given = (
            row is not None
            and row.node_uuid == order.node_uuid
            and bool(row.mac)
            and (not macs or row.mac in macs)
        )
        if given or (order.agent_address and order.agent_address == source):
            return _stopped(order) if order.alarm else order
    stopped = [_stop(session, order, f"{what} from the wrong address {source}") for order in orders]
    return stopped[0]


def _stop(session: Session, order: Order, why: str) -> Forbidden:
    alarm(session, order, why)
    return _stopped(order)


def _stopped(order: Order) -> Forbidden:
    return Forbidden("this order is stopped by an alarm", f"seed node show {order.node_uuid}")


def _nobody() -> NotFound:
    return NotFound("no order waits for such a server", "seed node list")


def _note_unknown(session: Session, seen: Seen, source: str) -> None:
    """One event per server and hour, so that somebody can accept it."""
    subject = min(seen.macs, default="")
    recent = (col(Event.kind) == "discovery.unknown", col(Event.at) > now() - UNKNOWN_EVERY)
    total = session.exec(select(func.count()).select_from(Event).where(*recent)).one()
    again = session.exec(select(Event).where(*recent, col(Event.subject) == subject)).first()
    if again is not None or total >= UNKNOWN_MAX or not subject:
        return
    facts: dict[str, Any] = {
        "macs": sorted(seen.macs), "bmc_addresses": sorted(seen.bmc_addresses), "source": source,
        "serial": seen.serial, "vendor": seen.vendor, "model": seen.model,
    }  # fmt: skip
    record(session, "discovery.unknown", subject, "an unknown server told its inventory", **facts)
