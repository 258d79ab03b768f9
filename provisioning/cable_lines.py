"""Cables that are not where the plan has them: what to pull, and where to plug it."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from provisioning.cabling import Jack, Port
from provisioning.rack_plan import Place
from provisioning.seating import Server
from provisioning.worklist import Kind, Line, Scene

_ORDER = re.compile(r"NIC(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Cable:
    """A planned cable of an occupied slot. jack: the NIC it shall be in; None: there is none."""

    slot: Place
    server: Server
    nic: str
    want: Port
    jack: Jack | None

    @property
    def have(self) -> Port | None:
        return self.jack.port if self.jack else None

    @property
    def right(self) -> bool:
        return self.have == self.want

    @property
    def known(self) -> str:
        """How to find the NIC on the box."""
        names = [*sorted(self.jack.names), self.jack.mac] if self.jack else []
        return f"{self.nic} is {', '.join(names)}" if names else ""


def cables(scene: Scene) -> list[Cable]:
    """Every planned cable of every slot that somebody sits in."""
    found = []
    for slot in scene.slots:
        if server := scene.seating.occupant.get(slot.key):
            planned = scene.seating.planned.get(slot.key)
            found += [
                Cable(slot, server, nic, want, _jack(nic, server, planned))
                for nic, want in slot.ports.items()
            ]
    return found


def _jack(nic: str, server: Server, planned: Server | None) -> Jack | None:
    """By order, by MAC, by name. Another server's MAC stands for the NIC in the same position."""
    if order := _ORDER.fullmatch(nic):
        number = int(order[1])
        return server.jacks[number - 1] if 1 <= number <= len(server.jacks) else None
    name = nic.lower()
    if planned and planned is not server:
        place = next((n for n, jack in enumerate(planned.jacks) if jack.mac == name), -1)
        if 0 <= place < len(server.jacks):
            return server.jacks[place]
    return next((jack for jack in server.jacks if name == jack.mac or name in jack.names), None)


class Cabling:
    """All cables of a room, and who is where."""

    def __init__(self, scene: Scene, servers: Iterable[Server]) -> None:
        self.scene = scene
        self.cables = cables(scene)
        self._owner = {cable.want: (rank, cable) for rank, cable in enumerate(self.cables)}
        self._holder = {jack.port: (s, jack) for s in servers for jack in s.jacks if jack.port}
        self._called = {(c.server.address, c.jack.mac): c.nic for c in self.cables if c.jack}

    def lines(self) -> Iterator[Line]:
        unheard: dict[object, list[Cable]] = {}
        for cable in self.cables:
            if cable.right:
                continue
            if cable.have:
                yield from self._misplugged(cable, cable.have)
            elif spare := self._spare(cable):
                yield self._replug(cable, spare)
            elif cable.jack and cable.jack.link is False:
                yield self._no_link(cable, cable.jack)
            elif cable.jack or not cable.server.jacks:
                unheard.setdefault(cable.slot.key, []).append(cable)
            elif cable.server is self.scene.seating.planned.get(cable.slot.key, cable.server):
                yield self._no_nic(cable)
        yield from (self._unheard(some) for some in unheard.values())

    def _misplugged(self, cable: Cable, have: Port) -> Iterator[Line]:
        rank, other = self._owner.get(have, (0, cable))
        if other is cable or other.have != cable.want:
            yield self._move(cable, have)
        elif self._owner[cable.want][0] < rank:
            yield self._swap(cable, other)

    def _end(self, cable: Cable) -> str:
        return f"{cable.nic} of {self.scene.label(cable.slot)}"

    def _move(self, cable: Cable, have: Port) -> Line:
        return self.scene.line(
            Kind.MOVE_CABLE,
            f"move cable {self._end(cable)} from {have} to {cable.want}",
            cable.nic,
            cable.slot,
            from_=str(have),
            to=str(cable.want),
            check="; ".join(filter(None, (self._in_the_way(cable), cable.known))),
            **_evidence(cable),
        )

    def _in_the_way(self, cable: Cable) -> str:
        server, jack = self._holder.get(cable.want, (None, None))
        if server is None or jack is None:
            return ""
        named = self._called.get((server.address, jack.mac), _name(jack))
        return f"{named} of {self.scene.place(server)} is in {cable.want} now"

    def _swap(self, one: Cable, other: Cable) -> Line:
        ends = f"{self._end(one)} and {self._end(other)}"
        if one.slot.key == other.slot.key:
            ends = f"{one.nic} and {self._end(other)}"
        return self.scene.line(
            Kind.SWAP_CABLES,
            f"swap cables {ends}: {one.nic} belongs into {one.want}, "
            f"{'the other' if one.nic == other.nic else other.nic} into {other.want}",
            one.nic,
            one.slot,
            other.slot,
            from_=str(one.have),
            to=str(one.want),
            check="; ".join(filter(None, dict.fromkeys((one.known, other.known)))),
            **_evidence(one, other),
        )

    def _spare(self, cable: Cable) -> Jack | None:
        """Another NIC of the same server, not planned for anything, that has the planned port."""
        server, jack = self._holder.get(cable.want, (None, None))
        if server is not cable.server or jack is None or cable.jack is None:
            return None
        return None if (cable.server.address, jack.mac) in self._called else jack

    def _replug(self, cable: Cable, spare: Jack) -> Line:
        return self.scene.line(
            Kind.REPLUG_CABLE,
            f"move the cable of {cable.want} at {self.scene.label(cable.slot)} "
            f"from NIC {_name(spare)} to {cable.nic}",
            cable.nic,
            cable.slot,
            from_=_name(spare),
            to=cable.nic,
            check=cable.known,
            **_evidence(cable, jack=spare),
        )

    def _no_link(self, cable: Cable, jack: Jack) -> Line:
        return self.scene.line(
            Kind.NO_LINK,
            f"plug a cable from {self._end(cable)} into {cable.want}: it has no link",
            cable.nic,
            cable.slot,
            to=str(cable.want),
            check=f"Is a cable there already? Then it, its module or the switch port is dead; "
            f"{cable.known}",
            evidence=f"link {jack.source}{jack.overruled and '; ' + jack.overruled}",
            at=jack.at,
            bmcs=cable.server.leds,
            serial=cable.server.serial,
        )

    def _no_nic(self, cable: Cable) -> Line:
        count = len(cable.server.jacks)
        return self.scene.line(
            Kind.NO_NIC,
            f"{self.scene.label(cable.slot)} has no {cable.nic}, planned for {cable.want}",
            cable.nic,
            cable.slot,
            to=str(cable.want),
            check="Is a network card missing, or named otherwise in the plan?",
            evidence=f"its inventory has {count} NICs",
            at=cable.server.inventory_at,
            bmcs=cable.server.leds,
            serial=cable.server.serial,
        )

    def _unheard(self, some: list[Cable]) -> Line:
        first = some[0]
        nics = ", ".join(cable.nic for cable in some)
        return self.scene.line(
            Kind.NO_LLDP,
            f"{self.scene.label(first.slot)}: no LLDP heard at {nics}",
            nics,
            first.slot,
            hint=True,
            check=f"{_inspect(first.server)} If it stays so, switch LLDP on at the switch.",
            at=first.server.inventory_at,
            bmcs=first.server.leds,
            serial=first.server.serial,
        )


def _inspect(server: Server) -> str:
    """What lets it hear LLDP."""
    if server.node:
        return f"Inspect it: `seed node inspect {server.node}`."
    return "Accept it, so that it is inspected."


def _name(jack: Jack) -> str:
    return min(jack.names, default=jack.mac)


def _evidence(*some: Cable, jack: Jack | None = None) -> dict[str, object]:
    """What a line about cables rests on: who told it, the oldest time, whose LED to blink."""
    told = [jack] if jack else [cable.jack for cable in some if cable.jack]
    return {
        "evidence": "; ".join(dict.fromkeys(j.evidence for j in told if j.evidence)),
        "at": min((j.at for j in told if j.at), default=None),
        "bmcs": tuple(dict.fromkeys(led for cable in some for led in cable.server.leds)),
        "serial": some[0].server.serial,
    }
