"""The rack plan as a whole: what its places are called, and what cannot be planned twice."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from provisioning.cabling import Port, Ports, natural
from provisioning.errors import Conflict


class Rack(NamedTuple):
    """Where a rack stands."""

    site: str
    row: str
    rack: str

    def __str__(self) -> str:
        return "/".join(filter(None, self))


Key = tuple[Rack, int]


@dataclass(frozen=True, slots=True)
class Place:
    """A slot of the plan: room.Slot without its table, light enough for 10^5 of them.

    ports: NIC, as the plan names it -> its switch port.
    feed:  the power feed it hangs on.
    """

    rack: Rack
    unit: int
    height: int = 1
    serial: str = ""
    bmc_mac: str = ""
    resource_class: str = ""
    technician: str = ""
    ports: Mapping[str, Port] = field(default_factory=dict, hash=False)
    feed: str = ""

    @property
    def key(self) -> Key:
        return self.rack, self.unit

    @property
    def order(self) -> tuple[object, ...]:
        """Racks by name as people count, then from the bottom up."""
        return (*map(natural, self.rack), self.unit)


class Labels:
    """Names of places: "r3u17", and with row and site where a rack's name alone could be two."""

    def __init__(self, slots: Iterable[Place]) -> None:
        self._called: dict[str, set[Rack]] = defaultdict(set)
        for slot in slots:
            self._called[slot.rack.rack.lower()].add(slot.rack)

    def rack(self, rack: Rack) -> str:
        return rack.rack if len(self._called[rack.rack.lower()]) < 2 else str(rack)

    def slot(self, slot: Place) -> str:
        return f"{self.rack(slot.rack)}u{slot.unit}"

    def racks(self, name: str) -> list[Rack]:
        """Those that `name` may mean: "r3", "b/r3" or "ams/b/r3"."""
        words = name.lower().split("/")
        called = self._called.get(words[-1], set())
        return sorted(r for r in called if str(r).lower().split("/")[-len(words) :] == words)


def check(planned: Sequence[tuple[str, Place]]) -> None:
    """planned: (where it is said, the slot). Raises Conflict with both places of what clashes."""
    labels = Labels(slot for _, slot in planned)
    places = [(f"{labels.slot(slot)} ({where})", slot) for where, slot in planned]
    _once(_units(places), "holds two servers", "Give each server units of its own.")
    _once(_identities(places), "is planned twice", "A server has one place: correct one of them.")
    _ports_once(places)


Claimed = Iterator[tuple[str, tuple[object, ...], str]]
"""(what it is, its key, where it is claimed)"""


def _once(claims: Claimed, trouble: str, remedy: str) -> None:
    seen: dict[tuple[object, ...], str] = {}
    for what, key, where in claims:
        if key in seen:
            raise Conflict(f"{what} {trouble}: {seen[key]} and {where}", remedy)
        seen[key] = where


def _units(places: Sequence[tuple[str, Place]]) -> Claimed:
    for where, slot in places:
        rack = slot.rack
        for unit in range(slot.unit, slot.unit + slot.height):
            yield f"unit {unit} of rack {rack}", (*(part.lower() for part in rack), unit), where


def _identities(places: Sequence[tuple[str, Place]]) -> Claimed:
    for where, slot in places:
        if slot.serial:
            yield f"serial {slot.serial}", ("serial", slot.serial.lower()), where
        if slot.bmc_mac:
            yield f"BMC MAC {slot.bmc_mac}", ("mac", slot.bmc_mac), where


def _ports_once(places: Sequence[tuple[str, Place]]) -> None:
    ports, owners = Ports(()), dict[Port, str]()
    for where, slot in places:
        for nic, port in slot.ports.items():
            here = f"{nic} of {where}"
            for other in ports.like(port):
                spelt = f"{port}" if other == port else f"{port}, which is {other},"
                raise Conflict(
                    f"switch port {spelt} is planned twice: {owners[other]} and {here}",
                    "A port takes one cable: correct one of them.",
                )
            ports.add(port)
            owners[port] = here
