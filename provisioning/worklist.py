"""The nouns of the work list: kinds of work, a line of it, a slot's verdict."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final

from provisioning.rack_plan import Key, Labels, Place
from provisioning.seating import Seating, Server


class Kind(StrEnum):
    """Closed: a new kind is a new line here, in docs/racks.md, and nowhere else."""

    SWAP_SERVERS = "swap-servers"
    MOVE_SERVER = "move-server"
    WRONG_SERIAL = "wrong-serial"
    MISSING_SERVER = "missing-server"
    UNKNOWN_SERVER = "unknown-server"
    SWAP_CABLES = "swap-cables"
    MOVE_CABLE = "move-cable"
    REPLUG_CABLE = "replug-cable"  # same switch port, another NIC of the same server
    NO_LINK = "no-link"
    NO_NIC = "no-nic"
    WRONG_CLASS = "wrong-class"
    MISFIT = "misfit"
    AILING = "ailing"
    BMC_SILENT = "bmc-silent"
    WRONG_BMC_MAC = "wrong-bmc-mac"
    NO_LLDP = "no-lldp"


class Verdict(StrEnum):
    PLANNED = "planned"  # nothing of it was seen
    FOUND = "found"  # its server answers, but not every planned cable was heard
    RIGHT = "right"  # its server, and every planned cable heard where it shall be
    WRONG = "wrong"  # a line says what to do


RANK: Final = {kind: rank for rank, kind in enumerate(Kind)}


@dataclass(frozen=True)
class Line:
    """One thing to do with one's hands.

    id:    the same for the same thing, whenever it is asked.
    slot:  the place's label; empty where nobody knows the place.
    part:  what of the slot: "NIC2", "server", "BMC". from_, to: ports, slots, NICs or serials.
    check: what to look at first. hint: nothing is wrong, but something is not known.
    at:    when the evidence was seen. bmcs: addresses whose locate LED shows the way.
    about: the slots concerned.
    """

    kind: Kind
    text: str
    part: str
    from_: str = ""
    to: str = ""
    serial: str = ""
    check: str = ""
    evidence: str = ""
    at: datetime | None = None
    hint: bool = False
    bmcs: tuple[str, ...] = ()
    slot: str = ""
    rack: str = ""
    unit: int = 0
    technicians: tuple[str, ...] = ()
    about: tuple[Key, ...] = ()
    order: tuple[object, ...] = field(default=(), repr=False)

    @property
    def id(self) -> str:
        words = (self.kind, self.slot, self.part, self.from_, self.to, self.serial)
        return sha256("\0".join(words).encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Scene:
    """Slots in order, what they are called, and who sits where."""

    slots: Sequence[Place]
    labels: Labels
    seating: Seating

    def label(self, slot: Place) -> str:
        return self.labels.slot(slot)

    def place(self, server: Server) -> str:
        """Where it sits, else what it is called."""
        slot = self.seating.at.get(server.address)
        return self.label(slot) if slot else server.name

    def line(self, kind: Kind, text: str, part: str, *slots: Place, **more: object) -> Line:
        """slots: those concerned; the line is listed at the first one."""
        where: dict[str, object] = {"order": (1, (), RANK[kind], part, text)}
        if slots:
            first = slots[0]
            where = {
                "slot": self.label(first),
                "rack": self.labels.rack(first.rack),
                "unit": first.unit,
                "technicians": tuple(dict.fromkeys(s.technician for s in slots if s.technician)),
                "about": tuple(s.key for s in slots),
                "order": (0, first.order, RANK[kind], part, text),
            }
        return Line(kind=kind, text=text, part=part, **(where | more))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Standing:
    """One slot: what is planned, what is there. server: the one planned here, wherever it is."""

    place: Place
    label: str
    verdict: Verdict
    server: Server | None
    occupant: Server | None


@dataclass(frozen=True)
class Room:
    standings: tuple[Standing, ...]
    lines: tuple[Line, ...]
