"""A handed-out node's hardware: where it stands, its NICs and their cables, its disks.

Three sources, and each is better at something: the server's own proof knows what its operating
system calls things, its ramdisk and its BMC hear LLDP, and the rack plan says what should be.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import func, or_
from sqlmodel import Session, col, select

from provisioning import cabling, racks
from provisioning.cabling import Jack, Port, Ports, Told
from provisioning.hardware import Drive
from provisioning.identity import serial_key
from provisioning.models import Bmc
from provisioning.rack_plan import Place
from provisioning.room import Slot


class HandOutNic(BaseModel):
    """name: as the operating system calls it. addresses: as it told them, with prefix.

    switch, port: where its cable ends; cable says who told that, LLDP or the rack plan alone.
    """

    mac: str
    name: str = ""
    network: str = ""
    addresses: list[str] = []
    switch: str = ""
    port: str = ""
    cable: Literal["", "heard", "planned"] = ""


class HandOutDisk(BaseModel):
    """role: "root" for the one that the image is on; of the others what the claim asked it for,
    "kept", or "data"; empty if not known."""

    name: str = ""
    serial: str = ""
    wwn: str = ""
    size_bytes: int = 0
    role: str = ""


def places(session: Session, bmcs: Sequence[Bmc]) -> dict[UUID, Place]:
    """Node -> its slot in the rack plan: by serial, by BMC MAC, else by its cables alone."""
    serials = {serial_key(bmc.serial) for bmc in bmcs} - {""}
    macs = {bmc.manager_mac for bmc in bmcs} - {""}
    if not bmcs:
        return {}
    named = [
        racks.place(row)
        for row in session.exec(
            select(Slot).where(
                or_(func.lower(Slot.serial).in_(serials), col(Slot.bmc_mac).in_(macs))
            )
        )
    ]
    by_serial = {serial_key(place.serial): place for place in named if place.serial}
    by_mac = {place.bmc_mac: place for place in named if place.bmc_mac}
    found: dict[UUID, Place] = {}
    for bmc in bmcs:
        place = by_serial.get(serial_key(bmc.serial)) or by_mac.get(bmc.manager_mac)
        if place:
            found[bmc.node] = place
    lost = [bmc for bmc in bmcs if bmc.node not in found]
    return found | (_by_cables(session, lost) if lost else {})


def _by_cables(session: Session, bmcs: Sequence[Bmc]) -> dict[UUID, Place]:
    """Slots that are planned with nothing but cables: where most of a server's are heard."""
    rows = session.exec(select(Slot).where(Slot.serial == "", Slot.bmc_mac == "")).all()
    slot_of = {port: place for place in map(racks.place, rows) for port in place.ports.values()}
    if not slot_of:
        return {}
    known = Ports(slot_of)
    found: dict[UUID, Place] = {}
    for bmc in bmcs:
        heard = [jack.port for jack in cabling.jacks(racks.told_of(bmc), known) if jack.port]
        at = [slot_of[port] for port in heard if port in slot_of]
        best = max(at, key=at.count, default=None)
        if best and at.count(best) * 2 > len(heard):
            found[bmc.node] = best
    return found


def nics(
    bmc: Bmc,
    told: Sequence[Told],
    place: Place | None,
    proof: Mapping[str, Any],
    networks: Mapping[str, str],
) -> list[HandOutNic]:
    """Those that the system has, then those that only BMC or ramdisk know. Never the BMC's own.

    networks: MAC -> the network it was given an address of.
    """
    planned = place.ports if place else {}
    heard = [n for t in told for nic in t.inventory.nics for n in nic.neighbours]
    jacks = cabling.jacks(told, Ports(planned.values(), heard))
    by_mac = {jack.mac: (number, jack) for number, jack in enumerate(jacks, 1)}
    own = {nic["mac"]: nic for nic in proof.get("nics", [])}
    never = {t.inventory.bmc_mac.lower() for t in told} | {bmc.manager_mac.lower()}
    never |= {place.bmc_mac} if place else set()
    return [
        HandOutNic(
            mac=mac,
            name=own.get(mac, {}).get("name", ""),
            network=networks.get(mac, ""),
            addresses=[a for a in own.get(mac, {}).get("addresses", []) if not _of_bmc(a, bmc)],
            **_cable(mac, *by_mac.get(mac, (0, Jack(mac))), own.get(mac, {}), planned),
        )
        for mac in dict.fromkeys([*own, *by_mac])
        if mac not in never
    ]


def _of_bmc(interface: str, bmc: Bmc) -> bool:
    return interface.partition("/")[0] == bmc.address


def _cable(
    mac: str, number: int, jack: Jack, own: Mapping[str, Any], planned: Mapping[str, Port]
) -> dict[Literal["switch", "port", "cable"], Any]:
    if jack.port:
        return {"switch": jack.port.switch, "port": jack.port.port, "cable": "heard"}
    names = {mac, f"nic{number}", str(own.get("name", "")).lower(), *jack.names}
    for nic, port in planned.items():
        if nic.lower() in names:
            return {"switch": port.switch, "port": port.port, "cable": "planned"}
    return {}


def disks(
    told: Sequence[Told], proof: Mapping[str, Any], asked: Mapping[str, str]
) -> list[HandOutDisk]:
    """As the running system sees them, else as the ramdisk did. asked: disks.roles of the order."""
    if "disks" not in proof:
        inventory = next((t.inventory for t in told if t.source == "in band"), None)
        return [_unproved(drive) for drive in (inventory.drives if inventory else ())]
    own: list[dict[str, Any]] = proof["disks"]
    known = len(own) == 1 or any(disk.get("root") for disk in own)
    return [
        HandOutDisk(
            name=disk["name"],
            serial=disk.get("serial") or "",
            wwn=disk.get("wwn") or "",
            size_bytes=disk["size_bytes"],
            role=asked.get(disk.get("serial") or disk.get("wwn") or "")
            or (_role(disk, alone=len(own) == 1) if known else ""),
        )
        for disk in own
    ]


def _role(disk: Mapping[str, Any], alone: bool) -> Literal["root", "data"]:
    return "root" if alone or disk.get("root") else "data"


def _unproved(drive: Drive) -> HandOutDisk:
    return HandOutDisk(**drive.model_dump(include={"name", "serial", "wwn", "size_bytes"}))


def sizes(told: Sequence[Told]) -> dict[Literal["cpus", "memory_mib", "cpu_arch"], Any]:
    """By its ramdisk, and what that does not tell by its BMC."""
    kinds = [t.inventory for t in sorted(told, key=lambda t: t.source)]  # in band first
    return {
        "cpus": next((i.cpu_threads for i in kinds if i.cpu_threads), 0),
        "memory_mib": next((i.memory_mib for i in kinds if i.memory_mib), 0),
        "cpu_arch": next((i.cpu_arch for i in kinds if i.cpu_arch), ""),
    }
