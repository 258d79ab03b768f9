"""What a barcode scanner read: which server or slot is meant.

Vendors print a bare serial, "S/N: ..." or key=value pairs, a URL, a data identifier glued to the
front ("S", "1S" of ANSI MH10.8.2), or a MAC. All we look for is what the plan or a BMC knows.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from netaddr import EUI, mac_unix_expanded

from provisioning.seating import Server
from provisioning.worklist import Room, Standing

LONGEST: Final = 2000
GLUED: Final = 6  # characters a serial must have to be looked for inside of words
_MAC = re.compile(r"(?<![0-9a-f])[0-9a-f]{2}(?:[:-]?[0-9a-f]{2}){5}(?![0-9a-f])")


@dataclass(frozen=True)
class Meant:
    """The slot where a server is planned, and the server, as far as they are known."""

    standing: Standing | None
    server: Server | None

    @property
    def name(self) -> str:
        if self.server:
            return self.server.name
        return f"serial {self.standing.place.serial}" if self.standing else "nothing"


def find(text: str, room: Room, servers: Sequence[Server]) -> list[Meant]:
    """Whom a label names, without doubles; several: it names more than one."""
    home = {s.server.address: s for s in room.standings if s.server}
    serials: dict[str, Meant] = {}
    macs: dict[str, Meant] = {}
    for standing in room.standings:
        meant = Meant(standing, standing.server)
        serials[standing.place.serial.lower()] = macs[standing.place.bmc_mac] = meant
    for server in servers:
        meant = Meant(home.get(server.address), server)
        serials[server.serial.lower()] = macs[server.bmc_mac] = meant
        macs |= {jack.mac: meant for jack in server.jacks}
    serials.pop("", None)
    return matching(text, serials, macs)


def matching(text: str, serials: Mapping[str, Meant], macs: Mapping[str, Meant]) -> list[Meant]:
    """serials: in lower case. The longest serial counts."""
    read = unquote(text[:LONGEST]).strip().lower()
    named = [serials[serial] for serial in _longest(_whole(read, serials) or _glued(read, serials))]
    heard = [str(EUI(mac, dialect=mac_unix_expanded)) for mac in _MAC.findall(read)]
    return list(dict.fromkeys([*named, *(macs[mac] for mac in heard if mac in macs)]))


def _whole(read: str, serials: Iterable[str]) -> list[str]:
    """Serials that stand between others' signs, or are all there is."""
    return [
        serial
        for serial in serials
        if serial in read and re.search(rf"(?<![a-z0-9]){re.escape(serial)}(?![a-z0-9])", read)
    ]


def _glued(read: str, serials: Iterable[str]) -> list[str]:
    return [serial for serial in serials if len(serial) >= GLUED and serial in read]


def _longest(found: list[str]) -> list[str]:
    """Without those that are only part of another: "A1" in "A1-7"."""
    return [s for s in found if not any(s != other and s in other for other in found)]
