"""Which cable is in which switch port: as planned, and as servers hear it by LLDP (IEEE 802.1AB).

A plan, a switch and a BMC spell one port in three ways: "leaf1:18", "leaf1.example.net" with
"Ethernet18", "LEAF1" with "Eth18". A planned port is known by its spelling in the plan.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from netaddr import EUI, mac_unix_expanded, valid_mac

from provisioning.hardware import Inventory, Neighbour, Nic

_NUMBERS = re.compile(r"(\d+)")
_SPLIT = re.compile(r"((?:[0-9a-f]{2}:){5}[0-9a-f]{2}|[^:]+):(.+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """A port of a switch. switch: its system name, else its chassis id."""

    switch: str
    port: str

    def __str__(self) -> str:
        return f"{self.switch}:{self.port}"


@dataclass(frozen=True, slots=True)
class Told:
    """An inventory, and when it was told. source: "in band" or "out of band"."""

    source: str
    inventory: Inventory
    at: datetime


@dataclass(frozen=True, slots=True)
class Jack:
    """One NIC of a server that was found, and what is plugged into it.

    names: what BMC and operating system call it, in lower case.
    port:  in the plan's spelling where it is planned; None: nothing was heard.
    link:  False: no cable, or a dead one. None: not told.
    source, at: who told it, and when. overruled: what the older source says, where it differs.
    """

    mac: str
    names: frozenset[str] = frozenset()
    port: Port | None = None
    link: bool | None = None
    source: str = ""
    at: datetime | None = None
    overruled: str = ""

    @property
    def evidence(self) -> str:
        return f"LLDP {self.source}{self.overruled and '; ' + self.overruled}" if self.port else ""


class Ports:
    """The planned ports, to be found by whatever name a switch has for them.

    heard: all that is heard anywhere: who hears a switch's name and chassis id names it for those
           who hear the id alone.
    """

    def __init__(self, planned: Iterable[Port], heard: Iterable[Neighbour] = ()) -> None:
        self._known: dict[tuple[str, str], list[Port]] = defaultdict(list)
        self._named = {_switch(n.chassis): n.switch for n in heard if n.switch and n.chassis}
        for port in planned:
            self.add(port)

    def add(self, port: Port) -> None:
        self._known[_key(port)].append(port)

    def like(self, port: Port) -> list[Port]:
        """The planned ones that are, or may be, this port."""
        return [known for known in self._known.get(_key(port), ()) if _alike(known, port)]

    def heard(self, neighbour: Neighbour) -> Port | None:
        """The planned port this is, else the port by the switch's own name; None for no name.

        None, too, for a switch that told its id alone and is not planned by it: which one is it?
        """
        names = [name for name in (neighbour.port, neighbour.description) if name]
        id_alone = bool(neighbour.chassis and not neighbour.switch)
        named = self._named.get(_switch(neighbour.chassis), "") if id_alone else neighbour.switch
        switch = named or neighbour.chassis if id_alone else named
        for name in names:
            found = self.like(Port(switch, name))
            if len(found) == 1:
                return found[0]
        return Port(switch or "?", names[0]) if names and (named or not id_alone) else None


def parse(text: str) -> Port | None:
    """A port as plans write it: "leaf1:18", or with a MAC before the last colon. Else None."""
    match = _SPLIT.fullmatch(text.strip())
    switch, port = (part.strip() for part in match.groups()) if match else ("", "")
    return Port(switch, port) if switch and port else None


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """A sorting key by which "eno2" comes before "eno10"."""
    parts = _NUMBERS.split(text.lower())
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts)


def jacks(told: Sequence[Told], ports: Ports) -> tuple[Jack, ...]:
    """A server's NICs, "NIC1" first: in the order of the BMC's names, then what only others know.

    Of two sources the newer wins, for each NIC by itself.
    """
    by_source = {t.source: {nic.mac.lower(): nic for nic in t.inventory.nics} for t in told}
    order: dict[str, None] = {}
    for source in sorted(by_source, reverse=True):  # out of band before in band
        nics = by_source[source].values()
        order |= dict.fromkeys(n.mac.lower() for n in sorted(nics, key=_by_name))
    newest = sorted(told, key=lambda t: (t.at, t.source), reverse=True)
    return tuple(_jack(mac, newest, by_source, ports) for mac in order)


def _by_name(nic: Nic) -> tuple[tuple[tuple[int, str], ...], str]:
    return natural(nic.name), nic.mac


def _jack(
    mac: str, newest: Sequence[Told], by_source: dict[str, dict[str, Nic]], ports: Ports
) -> Jack:
    views = [(t, by_source[t.source][mac]) for t in newest if mac in by_source[t.source]]
    names = frozenset(nic.name.lower() for _, nic in views if nic.name)
    heard = [(t, None if _dead(t, nic) else _port(nic, ports), _dead(t, nic)) for t, nic in views]
    telling = [(t, port, dead) for t, port, dead in heard if port or dead]
    if not telling:
        link = next((nic.link for t, nic in views if nic.link), None)
        return Jack(mac, names, link=link)
    (told, port, dead), *older = telling
    differing = [f"overrules {t.source}, older: {p or 'no link'}" for t, p, _ in older if p != port]
    return Jack(
        mac, names, port, not dead, told.source, told.at,
        overruled="".join(differing),
    )  # fmt: skip


def _dead(told: Told, nic: Nic) -> bool:
    """No link counts only while the server has power: many NICs are dark without it."""
    return nic.link is False and told.inventory.power == "on"


def _port(nic: Nic, ports: Ports) -> Port | None:
    """Of several neighbours (a switch that passes LLDP on) the one that is planned."""
    heard = [port for neighbour in nic.neighbours if (port := ports.heard(neighbour))]
    return next((port for port in heard if port in ports.like(port)), heard[0] if heard else None)


# --- names of ports -------------------------------------------------------------------------------


def _key(port: Port) -> tuple[str, str]:
    """Ports that may be the same one have the same key."""
    return _switch(port.switch).partition(".")[0], _halves(port.port)[1]


def _alike(one: Port, other: Port) -> bool:
    switches = _switch(one.switch), _switch(other.switch)
    return _begins(*switches, end=".") and _begins(_halves(one.port)[0], _halves(other.port)[0])


def _begins(one: str, other: str, end: str = "") -> bool:
    """One is the other, or its beginning: "leaf1" and "leaf1.example.net", "eth" and "ethernet"."""
    return one == other or one.startswith(other + end) or other.startswith(one + end)


@lru_cache(4096)
def _switch(name: str) -> str:
    if valid_mac(name):
        return str(EUI(name, dialect=mac_unix_expanded))
    return name.strip().lower()


def _halves(port: str) -> tuple[str, str]:
    """(letters, what follows from the first digit on): ("ethernet", "1/18"); ("", all) without."""
    text = "".join(port.lower().split())
    first = _NUMBERS.search(text)
    return (text[: first.start()], text[first.start() :]) if first else ("", text)
