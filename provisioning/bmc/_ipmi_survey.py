"""What a server consists of, out of what IPMI tells: FRU, LAN, chassis and sensors."""

from dataclasses import dataclass, field
from typing import Any

from provisioning.abilities import Abilities
from provisioning.bmc import Identity, Survey
from provisioning.bmc._ipmi_wire import Doors, weak_suites
from provisioning.hardware import Inventory
from provisioning.lenient import doc, text

IDENTIFY_SUPPORTED = 0x40  # third byte of Get Chassis Status, table 28-3
WORST = ((0b110, "Critical"), (0b001, "Warning"))  # pyghmi.constants.Health


@dataclass
class Heard:
    """What the conversation brought, piece by piece; a piece that failed is named in `untold`.

    sensors: name, health (bits of pyghmi's) and states of each.
    """

    fru: dict[str, Any] = field(default_factory=dict)
    lan: dict[str, Any] = field(default_factory=dict)
    power: str = ""
    chassis: list[int] = field(default_factory=list)
    boot: bool = False
    asset_tag: str = ""
    sensors: list[tuple[str, int, list[str]]] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)


def identity(fru: object, lan: object) -> Identity:
    return Identity(
        serial=_first(fru, "Serial Number", "Chassis serial number", "Board serial number"),
        system_uuid=_first(fru, "UUID").lower(),
        vendor=_first(fru, "Manufacturer", "Board manufacturer"),
        model=_first(fru, "Product name", "Board product name"),
        manager_mac=text(doc(lan).get("mac_address")).lower(),
    )


def _first(fru: object, *names: str) -> str:
    return next(filter(None, (text(doc(fru).get(name)) for name in names)), "")


def survey(heard: Heard, doors: Doors, suites: tuple[int, ...]) -> Survey:
    who = identity(heard.fru, heard.lan)
    identify = len(heard.chassis) > 2 and heard.chassis[2] & IDENTIFY_SUPPORTED
    return Survey(
        identity=who,
        inventory=Inventory(
            vendor=who.vendor,
            model=who.model,
            serial=who.serial,
            system_uuid=who.system_uuid,
            asset_tag=text(heard.asset_tag) or _first(heard.fru, "Asset Number", "Asset tag"),
            bmc_version=_first(heard.fru, "firmware_version"),
            bmc_mac=who.manager_mac,
            health=_health(heard),
            ailing=tuple(_ailing(heard)[:256]),
            power=heard.power if heard.power in ("on", "off") else "",
        ),
        abilities=Abilities(
            boot_once=heard.boot,
            boot_mode=heard.boot,
            led="Chassis Identify" if identify else "",
            ipmi_version=doors.version,
            cipher_suites=suites,
        ),
        findings=(
            *doors.weak,
            *weak_suites(suites),
            *(f"no answer to {piece}" for piece in heard.untold),
        ),
    )


def _health(heard: Heard) -> str:
    """Of the sensors; a BMC without sensors says nothing of its server's health."""
    if not heard.sensors:
        return ""
    return next((word for bits, word in WORST if any(s[1] & bits for s in heard.sensors)), "OK")


def _ailing(heard: Heard) -> list[str]:
    return [
        f"{text(name)[:100]}: {', '.join(map(text, states))[:100] or 'ailing'}"
        for name, health, states in heard.sensors
        if health
    ]
