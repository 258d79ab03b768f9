"""All nodes of this moment in memory: Ironic's by the cache, with Seed's rows beside.

One per process. Lists are answered from it, so that a list of 5,000 nodes costs one read of the
database however many ask. It is read anew when the database has changed: at once where this process
changed it, so that everybody reads what he wrote; else twice a second at most.
"""

import json
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy import Select, String, func, select, type_coerce
from sqlmodel import Session, col

from provisioning import logins, sight
from provisioning.identity import serial_key
from provisioning.ironic import Node
from provisioning.models import Address, Bmc, Claim, Hold, Order
from provisioning.room import Slot
from provisioning.sight import Pass, Sight
from provisioning.states import AddressKind
from provisioning.store import Store

log = structlog.get_logger()

APART_SECONDS: Final = 0.5
"""Between two reads because of what others wrote; longer where a read takes long."""
SHARE: Final = 10
"""A read takes at most one part in so many of a core."""


@dataclass(frozen=True, slots=True)
class Row:
    """One accepted server. `facts` are ready for JSON.

    node:      as Ironic told it last; None: not in Ironic yet.
    opened_at: when the order that is open now was opened, and `waits_for` what is known of it.
    """

    facts: dict[str, Any]
    node: Node | None
    seen_at: datetime | None
    opened_at: datetime | None = None
    waits_for: str = ""

    @property
    def name(self) -> str:
        return str(self.facts["name"])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """rows: by name. looked_at: when Ironic was last asked about all of them."""

    version: int
    rows: tuple[Row, ...]
    looked_at: datetime | None

    def seen_at(self, row: Row) -> datetime | None:
        """When what the row says was true for the last time that we know of."""
        if row.seen_at is None or self.looked_at is None:
            return row.seen_at
        return max(row.seen_at, self.looked_at)


class Snapshots:
    """Gives the present one; any thread may ask."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._raw: dict[str, tuple[Any, ...]] = {}
        self._rows: dict[str, Row] = {}
        self._now = Snapshot(0, (), None)
        self._of: tuple[int, int] = (-1, -1)
        self._not_before = 0.0

    def kept(self) -> Snapshot | None:
        """The one in memory, if that will do: never waits.

        Where others changed something a thread reads it meanwhile; None: this process did.
        """
        own, version = self._store.commits, self._store.version()
        if own != self._of[0]:
            return None
        if version != self._of[1] and time.monotonic() >= self._not_before:
            self._read_aside()
        return self._now

    def current(self) -> Snapshot:
        """The one in memory, or a new one: that takes some ten milliseconds per thousand nodes."""
        found = self.kept()
        if found is not None:
            return found
        with self._lock:  # one reads, the others get what it read
            if self._store.commits != self._of[0]:
                self._read()
            return self._now

    def _read_aside(self) -> None:
        """One thread at a time; nobody waits for it."""
        if self._lock.acquire(blocking=False):
            self._not_before = float("inf")
            threading.Thread(target=self._read_and_unlock, name="snapshot", daemon=True).start()

    def _read_and_unlock(self) -> None:
        try:
            self._read()
        except Exception:  # the database is busy or gone: whoever asks next tries again
            log.exception("snapshot.failed")
            self._not_before = time.monotonic() + APART_SECONDS
        finally:
            self._lock.release()

    def _read(self) -> Snapshot:
        began = time.thread_time()  # what it costs: on a busy machine it waits for most of its time
        of = (self._store.commits, self._store.version())  # before: what comes later counts
        with self._store.read() as session:
            plan = _plan(session)
            addresses = _addresses(session)
            looked = session.execute(select(func.max(Pass.at))).scalar()
            found = session.execute(_query()).all()
        raw: dict[str, tuple[Any, ...]] = {}
        rows: dict[str, Row] = {}
        for told in found:
            uuid = told[0]
            place = plan.get(serial_key(told.serial)) or plan.get(told.manager_mac) or NOWHERE
            all_of_it = (*told, place, addresses.get(uuid, ""))
            same = self._raw.get(uuid) == all_of_it
            raw[uuid] = all_of_it
            rows[uuid] = self._rows[uuid] if same else _row(told, place, addresses.get(uuid, ""))
        self._raw, self._rows = raw, rows
        self._now = Snapshot(self._now.version + 1, tuple(rows.values()), looked)
        self._of = of
        took = time.thread_time() - began
        self._not_before = time.monotonic() + max(APART_SECONDS, SHARE * took)
        return self._now


# (site, row, rack, unit, feed): where it stands by the rack plan.
Where = tuple[str, str, str, int | None, str]
NOWHERE: Final[Where] = ("", "", "", None, "")


def _text(column: Any) -> Any:  # noqa: ANN401
    """As it is stored: most rows are as they were, and are not worth parsing."""
    return type_coerce(column, String)


def _query() -> Select[Any]:
    """One line per accepted BMC, by name. No inventory: that is most of the database."""
    return (
        select(
            _text(Bmc.node_uuid), col(Bmc.node_name), col(Bmc.address), col(Bmc.protocol),
            col(Bmc.firmware), col(Bmc.serial), col(Bmc.manager_mac), col(Bmc.resource_class),
            _text(Bmc.macs), col(Bmc.detail), col(Bmc.problem), col(Bmc.remedy),
            col(Bmc.hardware_class), _text(Bmc.misfit), _text(Bmc.drift),
            _text(Bmc.findings).label("findings"), col(Bmc.trust), _text(Bmc.labels),
            col(Bmc.stale_inspection), col(Claim.name).label("claim"),
            col(Claim.project).label("project"), _text(Sight.facts).label("sight"),
            _text(Sight.seen_at).label("seen_at"), _text(Order.kind).label("kind"),
            _text(Order.opened_at).label("opened_at"), _text(Order.lookup_at).label("lookup_at"),
            col(Order.alarm).label("alarm"),
        )
        .where(col(Bmc.node_uuid).is_not(None))
        .join(Hold, col(Hold.node_uuid) == col(Bmc.node_uuid), isouter=True)
        .join(Claim, col(Claim.id) == col(Hold.claim_id), isouter=True)
        .join(Sight, col(Sight.node_uuid) == col(Bmc.node_uuid), isouter=True)
        .join(
            Order,
            (col(Order.node_uuid) == col(Bmc.node_uuid)) & col(Order.closed_at).is_(None),
            isouter=True,
        )
        .order_by(col(Bmc.node_name))
    )  # fmt: skip


def _addresses(session: Session) -> dict[str, str]:
    """By node: that of the NIC it boots from, the first one by MAC."""
    query = (
        select(_text(Address.node_uuid), col(Address.address))
        .where(col(Address.kind) == AddressKind.BOOT)
        .order_by(col(Address.mac).desc())
    )
    return {uuid: address for uuid, address in session.execute(query)}


def _plan(session: Session) -> dict[str, Where]:
    """By serial and by the BMC's MAC, as racks are compared."""
    found: dict[str, Where] = {}
    query = select(
        col(Slot.site), col(Slot.row), col(Slot.rack), col(Slot.unit), col(Slot.feed),
        col(Slot.serial), col(Slot.bmc_mac),
    )  # fmt: skip
    for site, row, rack, unit, feed, serial, mac in session.execute(query):
        keys: Iterable[str] = (serial_key(serial), mac)
        found |= {key: (site, row, rack, unit, feed) for key in keys if key}
    return found


def _row(told: Any, place: Where, address: str) -> Row:  # noqa: ANN401
    uuid = UUID(told[0])
    node = sight.node_from(uuid, json.loads(told.sight)) if told.sight else None
    site, row, rack, unit, feed = place
    facts = {
        "uuid": str(uuid),
        "name": told.node_name or "",
        "bmc": told.address,
        "protocol": told.protocol,
        "firmware": told.firmware,
        "serial": told.serial,
        "resource_class": told.resource_class,
        "hardware_class": told.hardware_class,
        "labels": json.loads(told.labels),
        "provision_state": node.provision_state if node else NOT_THERE,
        "power_state": node.power_state if node else "",
        "maintenance": node.maintenance if node else False,
        "traits": list(node.traits) if node else [],
        "claim": told.claim or "",
        "project": told.project or "",
        "site": site, "row": row, "rack": rack, "unit": unit, "feed": feed,
        "address": address,
        "macs": json.loads(told.macs),
        "detail": present_detail(told.detail, told.stale_inspection, node),
        "problem": told.problem,
        "remedy": told.remedy,
        "last_error": node.last_error if node else "",
        "misfit": json.loads(told.misfit),
        "drift": json.loads(told.drift),
        "findings": logins.weaknesses(json.loads(told.findings), told.trust),
    }  # fmt: skip
    opened = _time(told.opened_at)
    waits_for = told.alarm or evidence(str(told.kind or "").lower(), bool(told.lookup_at))
    return Row(facts, node, _time(told.seen_at), opened, waits_for if opened else "")


NOT_THERE: Final = "not in Ironic yet"


def present_detail(detail: str, stale_inspection: str, node: Node | None) -> str:
    """The reconciler's words, unless they speak of an inspection that does not count any more."""
    asked = node is not None and node.inspected_at and node.inspected_at == stale_inspection
    of_before = detail.startswith(("inspected", "available"))
    return "is to be inspected again" if asked and of_before else detail


def evidence(kind: str, looked_up: bool) -> str:
    """Of an open order; {age} is for the seconds since it was opened."""
    told = "the ramdisk asked for its token" if looked_up else "no word from the ramdisk yet"
    return f"{kind} for {{age}} s; {told}"


def _time(stored: Any) -> datetime | None:  # noqa: ANN401
    if isinstance(stored, str):  # SQLite's way
        stored = datetime.fromisoformat(stored)
    return None if stored is None else stored.replace(tzinfo=UTC)
