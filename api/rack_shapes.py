"""Racks, slots and work as the API shows them."""

from collections import defaultdict
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from provisioning.models import now
from provisioning.rack_plan import Labels
from provisioning.scan import Meant
from provisioning.worklist import Kind, Line, Room, Standing, Verdict


class RackOut(BaseModel):
    """Counts of slots. found: the planned server answers, wherever it is."""

    rack: str
    site: str
    row: str
    planned: int
    found: int
    right: int
    wrong: int


class SlotOut(BaseModel):
    """serial, bmc_mac, resource_class, feed, nics: as planned. holds, address, node: what is there.

    sits: the label of the slot where the planned server is; empty while nobody knows.
    """

    slot: str
    unit: int
    height: int
    verdict: Verdict
    serial: str
    bmc_mac: str
    resource_class: str
    technician: str
    feed: str
    nics: dict[str, str]
    holds: str
    address: str
    node: str
    sits: str


class LineOut(BaseModel):
    """One physical action, or with `hint` something nobody knows yet. `id` stays the same.

    age_seconds: of the evidence. bmcs: addresses whose locate LED shows the place.
    """

    model_config = ConfigDict(populate_by_name=True)

    id: str
    kind: Kind
    hint: bool
    rack: str
    slot: str
    unit: int
    part: str
    text: str
    from_: Annotated[str, Field(alias="from")]
    to: str
    serial: str
    check: str
    evidence: str
    at: datetime | None
    age_seconds: int | None
    technicians: list[str]
    bmcs: list[str]


class RackFull(RackOut):
    slots: list[SlotOut]
    work: list[LineOut]


class ReportOut(BaseModel):
    """Every rack as it stands. unplaced: work at no planned place."""

    at: datetime
    racks: list[RackFull]
    unplaced: list[LineOut]


class ScanOut(BaseModel):
    """The server or slot a label names: what is planned, where it is, what to do there."""

    serial: str
    address: str
    node: str
    slot: SlotOut | None
    work: list[LineOut]


class Shapes:
    """One room, to be shown."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.labels = Labels(s.place for s in room.standings)
        self._standings: dict[str, list[Standing]] = defaultdict(list)
        for standing in room.standings:
            self._standings[self.labels.rack(standing.place.rack)].append(standing)
        self._lines: dict[str, list[Line]] = defaultdict(list)
        for line in room.lines:
            self._lines[line.rack].append(line)
        self._sits = {s.occupant.address: s.label for s in room.standings if s.occupant}
        self._now = now()

    def racks(self) -> list[RackOut]:
        return [RackOut(**self._counts(some)) for some in self._standings.values()]

    def report(self) -> ReportOut:
        return ReportOut(
            at=self._now,
            racks=[self.full(label) for label in self._standings],
            unplaced=[self.line(line) for line in self._lines[""]],
        )

    def full(self, label: str) -> RackFull:
        """label: as `labels` calls the rack."""
        some = self._standings[label]
        return RackFull(
            **self._counts(some),
            slots=[self.slot(s) for s in some],
            work=[self.line(line) for line in self._lines[label]],
        )

    def scanned(self, meant: Meant) -> ScanOut:
        standing, server = meant.standing, meant.server
        about = {standing.label} if standing else set()
        if server and server.address in self._sits:
            about.add(self._sits[server.address])
        return ScanOut(
            serial=server.serial if server else standing.place.serial if standing else "",
            address=server.address if server and server.has_bmc else "",
            node=server.node if server else "",
            slot=self.slot(standing) if standing else None,
            work=[
                self.line(line)
                for line in self.room.lines
                if line.slot in about or (server and server.address in line.bmcs)
            ],
        )

    def slot(self, standing: Standing) -> SlotOut:
        place, server, occupant = standing.place, standing.server, standing.occupant
        return SlotOut(
            slot=standing.label,
            unit=place.unit,
            height=place.height,
            verdict=standing.verdict,
            serial=place.serial,
            bmc_mac=place.bmc_mac,
            resource_class=place.resource_class,
            technician=place.technician,
            feed=place.feed,
            nics={nic: str(port) for nic, port in place.ports.items()},
            holds=(occupant.serial or occupant.address) if occupant else "",
            address=occupant.address if occupant and occupant.has_bmc else "",
            node=occupant.node if occupant else "",
            sits=self._sits.get(server.address, "") if server else "",
        )

    def line(self, line: Line) -> LineOut:
        age = int((self._now - line.at).total_seconds()) if line.at else None
        names = LineOut.model_fields.keys() - {"age_seconds"}
        return LineOut(**{name: getattr(line, name) for name in names}, age_seconds=age)

    def _counts(self, some: list[Standing]) -> dict[str, Any]:
        site, row, _ = some[0].place.rack
        verdicts = [s.verdict for s in some]
        return {
            "rack": self.labels.rack(some[0].place.rack),
            "site": site,
            "row": row,
            "planned": len(some),
            "found": sum(s.server is not None for s in some),
            "right": verdicts.count(Verdict.RIGHT),
            "wrong": verdicts.count(Verdict.WRONG),
        }
