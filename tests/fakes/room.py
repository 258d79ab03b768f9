"""Slots and servers of a small room, in few words."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from provisioning import cabling
from provisioning.cabling import Port, Ports, Told
from provisioning.hardware import Inventory, Neighbour, Nic
from provisioning.rack_plan import Place, Rack
from provisioning.seating import Server

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def ago(minutes: int) -> datetime:
    return NOW - timedelta(minutes=minutes)


def slot(
    place: str, serial: str, *ports: str, nics: dict[str, str] | None = None, **more: Any
) -> Place:
    """slot("r3u17", "A", "leaf1:1", "leaf2:1"): NIC1 and NIC2."""
    match = re.fullmatch(r"(?:(\w+)/)?(?:(\w+)/)?(\w+?)u(\d+)", place)
    assert match
    planned = nics or {f"NIC{n}": port for n, port in enumerate(ports, 1)}
    parsed = {nic: cabling.parse(port) for nic, port in planned.items()}
    return Place(
        Rack(match[1] or "", match[2] or "", match[3]),
        int(match[4]),
        serial=serial,
        ports={name: port for name, port in parsed.items() if port},
        **more,
    )


def nic(mac: str, port: str = "", name: str = "", link: bool | None = None) -> Nic:
    parsed = cabling.parse(port)
    heard = (Neighbour(switch=parsed.switch, port=parsed.port),) if parsed else ()
    return Nic(mac=mac, name=name, link=link, neighbours=heard)


def mac_of(serial: str, number: int) -> str:
    return f"02:{sum(map(ord, serial)) % 256:02x}:00:{len(serial):02x}:00:{number:02x}"


def nics_of(serial: str, ports: Sequence[str]) -> tuple[Nic, ...]:
    """ "x": no link; "": nothing heard."""
    return tuple(
        nic(
            mac_of(serial, n),
            "" if port == "x" else port,
            f"eno{n}",
            None if port != "x" else False,
        )
        for n, port in enumerate(ports, 1)
    )


def told(source: str, nics: Sequence[Nic], minutes: int = 1, power: str = "on") -> Told:
    return Told(source, Inventory(nics=tuple(nics), power=power), ago(minutes))  # type: ignore[arg-type]


def server(serial: str, *ports: str, slots: Sequence[Place] = (), **more: Any) -> Server:
    """A server that was found, with what it hears at NIC1, NIC2, ..."""
    known = Ports(port for s in slots for port in s.ports.values())
    return Server(
        address=more.pop("address", f"bmc-{serial}"),
        serial=serial,
        jacks=cabling.jacks([told("in band", nics_of(serial, ports))], known) if ports else (),
        seen_at=ago(1),
        inventory_at=ago(1),
        **more,
    )


__all__ = ["NOW", "Port", "ago", "mac_of", "nic", "nics_of", "server", "slot", "told"]
