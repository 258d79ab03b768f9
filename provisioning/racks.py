"""The rack plan as it is kept, and the room as it is found: what comparison.py compares."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from pydantic import ValidationError
from sqlalchemy import delete, insert
from sqlmodel import Session, col, select

from provisioning import cabling, rack_plan, ranges
from provisioning.cabling import Port, Ports, Told
from provisioning.comparison import compare
from provisioning.errors import Conflict, Invalid
from provisioning.hardware import Inventory
from provisioning.identity import serial_key
from provisioning.models import Bmc, Discovery
from provisioning.observations import RAMDISK
from provisioning.rack_plan import Place, Rack
from provisioning.room import Observation, Slot
from provisioning.seating import Server
from provisioning.store import record
from provisioning.worklist import Room

LAST_SWEEPS: Final = 20  # of which one may have missed a BMC
_SLOT: Final = (
    Slot.site, Slot.row, Slot.rack, Slot.unit, Slot.height, Slot.serial, Slot.bmc_mac,
    Slot.resource_class, Slot.technician, Slot.nics, Slot.feed,
)  # fmt: skip
_BMC: Final = (
    Bmc.address, Bmc.serial, Bmc.manager_mac, Bmc.node_name, Bmc.resource_class, Bmc.inventory,
    Bmc.inventory_at, Bmc.ramdisk, Bmc.ramdisk_at, Bmc.misfit, Bmc.seen_at,
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """An import: `slots` of `racks` are planned, `removed` ones go, `kept` ones of others stay."""

    racks: tuple[str, ...]
    slots: int
    removed: int
    kept: int


def propose(
    session: Session, planned: Sequence[tuple[str, Place]], everything: bool
) -> tuple[Change, list[Rack]]:
    """The change, and the racks whose plan goes. Raises Conflict for what is planned twice."""
    old = places(session)
    named = {_plain(place.rack) for _, place in planned}
    kept = [] if everything else [place for place in old if _plain(place.rack) not in named]
    rack_plan.check([*(("planned before", place) for place in kept), *planned])
    labels = rack_plan.Labels([*kept, *(place for _, place in planned)])
    change = Change(
        racks=tuple(sorted({labels.rack(place.rack) for _, place in planned}, key=cabling.natural)),
        slots=len(planned),
        removed=len(old) - len(kept),
        kept=len(kept),
    )
    return change, sorted({p.rack for p in old} - {p.rack for p in kept})


def put(
    session: Session,
    planned: Sequence[tuple[str, Place]],
    everything: bool,
    removes: int | None,
    who: str,
) -> Change:
    """Plan these racks anew; `everything`: and no others. All or nothing, by the transaction.

    removes: as a person was shown it. Raises Conflict if it is another number by now.
    """
    change, gone = propose(session, planned, everything)
    if everything and removes != change.removed:
        raise Conflict(
            f"this removes {change.removed} planned slots, not {removes or 'none'}",
            "Look again, then agree: `seed rack plan import FILE --replace`.",
        )
    for rack in gone:
        session.execute(
            delete(Slot).where(
                col(Slot.site) == rack.site, col(Slot.row) == rack.row, col(Slot.rack) == rack.rack
            )
        )
    session.execute(insert(Slot), [_row(place) for _, place in planned])
    record(
        session, "racks.planned", ", ".join(change.racks)[:200],
        f"{change.slots} slots planned, {change.removed} removed", who=who,
    )  # fmt: skip
    return change


def _plain(rack: Rack) -> tuple[str, ...]:
    return tuple(part.lower() for part in rack)


def _row(place: Place) -> dict[str, Any]:
    site, row, rack = place.rack
    return {
        "id": uuid4(), "site": site, "row": row, "rack": rack, "unit": place.unit,
        "height": place.height, "serial": place.serial, "bmc_mac": place.bmc_mac,
        "resource_class": place.resource_class, "technician": place.technician,
        "feed": place.feed,
        "nics": [{"nic": n, "switch": p.switch, "port": p.port} for n, p in place.ports.items()],
    }  # fmt: skip


def places(session: Session) -> list[Place]:
    """The whole plan."""
    rows = session.execute(select(*_SLOT)).all()  # type: ignore[call-overload]
    return [place(row) for row in rows]


def place(row: Any) -> Place:  # noqa: ANN401
    """A Slot, or a row of its columns."""
    return Place(
        Rack(row.site, row.row, row.rack), row.unit, row.height, row.serial, row.bmc_mac,
        row.resource_class, row.technician,
        {nic["nic"]: Port(nic["switch"], nic["port"]) for nic in row.nics}, row.feed,
    )  # fmt: skip


# --- what was found -------------------------------------------------------------------------------


def room_and_servers(session: Session) -> tuple[Room, list[Server]]:
    """Plan and servers of this moment, compared."""
    planned = places(session)
    found = servers(session, planned)
    return compare(planned, found), found


def servers(session: Session, planned: Iterable[Place]) -> list[Server]:
    """Every server that was found, by its BMC. One with two addresses: where it was seen last."""
    sweeps = _Sweeps(session)
    rows = session.execute(select(*_BMC).order_by(col(Bmc.seen_at))).all()  # type: ignore[call-overload]
    ramdisks = _Ramdisks(session)
    told = [_told(row, ramdisks) for row in rows]
    strangers = ramdisks.left()
    every = [t for some in told for t in some] + [t for _, t in strangers]
    ports = Ports(
        (port for place in planned for port in place.ports.values()),
        (n for t in every for nic in t.inventory.nics for n in nic.neighbours),
    )
    found = [_server(row, some, ports, sweeps) for row, some in zip(rows, told, strict=True)]
    found += [_stranger(row, some, ports) for row, some in strangers]
    return list({serial_key(s.serial) or s.address: s for s in found}.values())


def _server(row: Any, told: list[Told], ports: Ports, sweeps: "_Sweeps") -> Server:  # noqa: ANN401
    known = [t.inventory for t in told]
    answered = max(filter(None, (row.seen_at, row.inventory_at)))
    health = next((t.inventory for t in told if t.source == "out of band"), Inventory())
    return Server(
        address=row.address,
        serial=next((s for s in (row.serial, *(i.serial for i in known)) if serial_key(s)), ""),
        bmc_mac=row.manager_mac or next((i.bmc_mac for i in known if i.bmc_mac), ""),
        node=row.node_name or "",
        resource_class=row.resource_class if row.node_name else "",
        jacks=cabling.jacks(told, ports),
        misfit=tuple(row.misfit),
        health=health.health,
        ailing=health.ailing,
        seen_at=row.seen_at,
        inventory_at=max((t.at for t in told), default=None),
        silent_since=answered if sweeps.missed(row.address, answered) else None,
    )


def _stranger(row: Observation, told: Told, ports: Ports) -> Server:
    """A server that booted the discovery ramdisk, and no BMC of it was found yet."""
    return Server(
        address=row.bmc_address or row.key,
        serial=row.serial,
        bmc_mac=row.bmc_mac,
        jacks=cabling.jacks([told], ports),
        seen_at=row.seen_at,
        inventory_at=row.seen_at,
        has_bmc=False,
    )


def _told(row: Any, ramdisks: "_Ramdisks") -> list[Told]:  # noqa: ANN401
    """By the BMC, and by the ramdisk; of one that is not accepted yet by the discovery ramdisk."""
    ours = _one_told("in band", row.ramdisk, row.ramdisk_at)
    strange = ramdisks.of(row.serial, row.manager_mac, row.address)
    by_bmc = _one_told("out of band", row.inventory, row.inventory_at)
    return [told for told in (by_bmc, ours or strange) if told]


def told_of(bmc: Bmc) -> list[Told]:
    """What an accepted server's own BMC and its last ramdisk told."""
    kept = (
        ("out of band", bmc.inventory, bmc.inventory_at),
        ("in band", bmc.ramdisk, bmc.ramdisk_at),
    )
    return [told for source, document, at in kept if (told := _one_told(source, document, at))]


def _one_told(source: str, document: dict[str, Any], at: datetime | None) -> Told | None:
    """Under its ramdisk a server has power. None for what another version wrote otherwise."""
    if not document or at is None:
        return None
    try:
        inventory = Inventory.model_validate(document)
    except ValidationError:
        return None
    if source == "in band":
        inventory = inventory.model_copy(update={"power": "on"})
    return Told(source, inventory, at)


class _Ramdisks:
    """Unknown servers, by their own word: believed where no inspection of ours says more."""

    def __init__(self, session: Session) -> None:
        rows = session.exec(select(Observation).where(Observation.source == RAMDISK))
        self._left = {
            row.key: (row, told)
            for row in rows
            if (told := _one_told("in band", row.facts, row.seen_at))
        }
        self._by_name = {
            name: key for key, (row, _) in self._left.items() for name in self._names(row)
        }

    @staticmethod
    def _names(row: Observation) -> list[str]:
        return [name for name in (serial_key(row.serial), row.bmc_mac, row.bmc_address) if name]

    def of(self, serial: str, mac: str, address: str) -> Told | None:
        """What the server of this BMC told; it is nobody else's then."""
        for name in (serial_key(serial), mac, address):
            if found := self._left.pop(self._by_name.get(name, ""), None):
                return found[1]
        return None

    def left(self) -> list[tuple[Observation, Told]]:
        return list(self._left.values())


class _Sweeps:
    """The last ones that ended: who was asked, and did not answer."""

    def __init__(self, session: Session) -> None:
        query = select(Discovery).where(Discovery.state == "done")
        newest = query.order_by(col(Discovery.created_at).desc()).limit(LAST_SWEEPS)
        self._swept = [(s.created_at, _addresses(s)) for s in session.exec(newest)]

    def missed(self, address: str, seen_at: datetime) -> bool:
        return any(began > seen_at and address in asked for began, asked in self._swept)


def _addresses(sweep: Discovery) -> ranges.Wanted:
    """Nobody, for ranges that an older version took and this one would not."""
    try:
        return ranges.wanted_of(sweep.ranges, sweep.exclude)
    except Invalid:
        return ranges.Wanted([])
