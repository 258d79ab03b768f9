"""Which server sits in which slot, as far as serial numbers and cables tell.

Nobody sees a rack unit: a plan says where a serial number shall be, and cables say where a server
is, because they stay when servers are exchanged. So a server counts as elsewhere when at least two
more of its cables say so than say "at home". With less evidence it counts as exchanged when the
other one's cables are sure, or all cables of both say so. Else it is at home, and its cables are
wrong.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from provisioning.cabling import Jack, Port
from provisioning.rack_plan import Key, Place


@dataclass(frozen=True, slots=True, eq=False)
class Server:
    """A server that was found, by its BMC or (has_bmc: False) by a ramdisk alone.

    address: of its BMC, else its first NIC. Empty is what nobody told.

    silent_since: its BMC was looked for later and did not answer.
    """

    address: str
    serial: str = ""
    bmc_mac: str = ""
    node: str = ""
    resource_class: str = ""
    jacks: tuple[Jack, ...] = ()
    misfit: tuple[str, ...] = ()
    health: str = ""
    ailing: tuple[str, ...] = ()
    seen_at: datetime | None = None
    inventory_at: datetime | None = None
    silent_since: datetime | None = None
    has_bmc: bool = True

    @property
    def name(self) -> str:
        if self.serial:
            return f"serial {self.serial}"
        return (
            f"the server of BMC {self.address}" if self.has_bmc else f"the one with {self.address}"
        )

    @property
    def leds(self) -> tuple[str, ...]:
        """Addresses that can be asked to blink it."""
        return (self.address,) if self.has_bmc else ()

    @property
    def heard(self) -> set[Port]:
        return {jack.port for jack in self.jacks if jack.port}


@dataclass(frozen=True)
class Seating:
    """home: BMC address -> where the server is planned. at: where it sits.

    occupant: place's key -> who sits there. planned: -> whose home it is, wherever that sits.
    unplanned: those without a home.
    """

    home: Mapping[str, Place]
    at: Mapping[str, Place]
    occupant: Mapping[Key, Server]
    planned: Mapping[Key, Server]
    unplanned: tuple[Server, ...] = ()


def seat(slots: Sequence[Place], servers: Iterable[Server]) -> Seating:
    """Deterministic: neither the order of slots nor that of servers matters."""
    known = sorted(servers, key=lambda s: (s.serial, s.address))
    home = _homes(slots, known)
    at = _settle(_Scores(slots), known, home)
    return Seating(
        home=home,
        at=at,
        occupant={at[s.address].key: s for s in known if s.address in at},
        planned={home[s.address].key: s for s in known if s.address in home},
        unplanned=tuple(s for s in known if s.address not in home),
    )


def _homes(slots: Sequence[Place], servers: Sequence[Server]) -> dict[str, Place]:
    """By serial first; by BMC MAC for what no serial found."""
    by_serial = {s.serial.lower(): s for s in slots if s.serial}
    by_mac = {s.bmc_mac: s for s in slots if s.bmc_mac}
    found: dict[str, Place] = {}
    taken: set[Key] = set()
    wanted = [(s, by_serial.get(s.serial.lower())) for s in servers]
    for server, slot in [*wanted, *((s, by_mac.get(s.bmc_mac)) for s in servers)]:
        if slot and server.address not in found and slot.key not in taken:
            found[server.address] = slot
            taken.add(slot.key)
    return found


class _Scores:
    """How many of a server's cables are as planned for a slot."""

    def __init__(self, slots: Sequence[Place]) -> None:
        self._slot_of = {port: slot for slot in slots for port in slot.ports.values()}

    def of(self, server: Server) -> dict[Key, tuple[int, Place]]:
        counted: dict[Key, tuple[int, Place]] = {}
        for port in server.heard:
            if slot := self._slot_of.get(port):
                counted[slot.key] = (counted.get(slot.key, (0, slot))[0] + 1, slot)
        return counted


@dataclass(frozen=True, slots=True)
class _Chance:
    """sure: by at least two cables more than speak for home. whole: by all of its cables."""

    score: int
    server: Server
    slot: Place
    at_home: bool = False
    sure: bool = True
    whole: bool = False

    @property
    def order(self) -> tuple[object, ...]:
        return (-self.score, not self.at_home, self.slot.order, self.server.address)


def _chances(scores: _Scores, server: Server, home: Place | None) -> list[_Chance]:
    """Where it may sit: at home, and where its cables speak against home."""
    counted = scores.of(server)
    if home is None:
        enough = len(server.heard) / 2
        return [_Chance(n, server, slot) for n, slot in counted.values() if n >= enough]
    here = counted.pop(home.key, (0, home))[0]
    away = [
        _Chance(n, server, slot, sure=n >= here + 2, whole=here == 0 and n == len(server.heard))
        for n, slot in counted.values()
        if n > here
    ]
    return [*away, _Chance(here, server, home, at_home=True)]


def _settle(
    scores: _Scores, servers: Sequence[Server], home: Mapping[str, Place]
) -> dict[str, Place]:
    """Best chances first, one server per slot. Whoever would drive out a server that has cables,
    but then no place, stays at home."""
    planned = {slot.key: address for address, slot in home.items()}
    chances = {s.address: _chances(scores, s, home.get(s.address)) for s in servers}
    chances = {
        address: [c for c in some if c.sure or _exchanged(c, chances, home, planned)]
        for address, some in chances.items()
    }
    while True:
        at = _best_first(chance for some in chances.values() for chance in some)
        driving = _driving_out(servers, home, at, planned)
        if not driving:
            return at
        for address in driving:
            chances[address] = [c for c in chances[address] if c.at_home]


def _exchanged(
    chance: _Chance,
    chances: Mapping[str, Sequence[_Chance]],
    home: Mapping[str, Place],
    planned: Mapping[Key, str],
) -> bool:
    """It is at home; or the one at home there surely sits here, or both have all cables so."""
    other = chances.get(planned.get(chance.slot.key, ""), ())
    own = home[chance.server.address].key
    back = next((c for c in other if c.slot.key == own), None)
    return chance.at_home or bool(back and (back.sure or (back.whole and chance.whole)))


def _best_first(chances: Iterable[_Chance]) -> dict[str, Place]:
    at: dict[str, Place] = {}
    taken: set[Key] = set()
    for chance in sorted(chances, key=lambda c: c.order):
        if chance.server.address not in at and chance.slot.key not in taken:
            at[chance.server.address] = chance.slot
            taken.add(chance.slot.key)
    return at


def _driving_out(
    servers: Sequence[Server],
    home: Mapping[str, Place],
    at: Mapping[str, Place],
    planned: Mapping[Key, str],
) -> set[str]:
    """Those who sit where a server is at home that has cables and now sits nowhere."""
    homeless = {s.address for s in servers if s.heard and s.address in home and s.address not in at}
    return {
        address
        for address, slot in at.items()
        if planned.get(slot.key) in homeless and planned[slot.key] != address
    }
