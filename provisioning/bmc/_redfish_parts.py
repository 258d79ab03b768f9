"""What a server consists of, part by part, out of a BMC's Redfish resources (DSP2046)."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from netaddr import EUI, AddrFormatError, mac_unix_expanded

from provisioning.bmc._redfish_tree import Tree
from provisioning.hardware import Drive, Neighbour, Nic
from provisioning.lenient import Doc, at, doc, listing, number, text

GIB = 1024
NOT_TOLD = {
    "", "not available", "n/a", "none", "unknown", "null", "no link", "not supported",
}  # fmt: skip
ARCHITECTURES = {"x86-64": "x86_64", "x86": "i686", "arm-a64": "aarch64", "arm-a32": "armv7l"}
NO_VLAN = {0, 4095}
CHASSIS = 4  # at most; a blade names its enclosure, too


def mac_of(value: object) -> str:
    """EUI-48 in lower case with colons; empty for what is none or is all zeros."""
    try:
        found = EUI(text(value), version=48, dialect=mac_unix_expanded)
    except (AddrFormatError, ValueError, TypeError):
        return ""
    return str(found) if int(found) else ""


def said(value: object) -> str:
    """A text, empty for the many words that BMCs have for "I do not know"."""
    found = text(value)
    return "" if found.lower() in NOT_TOLD else found


# --- processors and memory ------------------------------------------------------------------------


def processors(tree: Tree, system: Doc) -> dict[str, Any]:
    """Of the summary; the first processor says what the summary leaves out, all of them count."""
    summary = doc(system.get("ProcessorSummary"))
    count = int(number(summary.get("Count")))
    threads = int(number(summary.get("LogicalProcessorCount")))
    found = filter(_is_cpu, tree.each(system.get("Processors")))
    first: Doc = {}
    if not (count and threads):
        all_of_them = list(found)
        count = count or len(all_of_them)
        threads = threads or sum(int(number(p.get("TotalThreads"))) for p in all_of_them)
        first = next(iter(all_of_them), {})
    first = first or next(found, {})
    arch = text(first.get("InstructionSet")).lower()
    return {
        "cpu_model": said(summary.get("Model")) or said(first.get("Model")),
        "cpu_arch": ARCHITECTURES.get(arch, arch),
        "cpu_count": count,
        "cpu_threads": threads,
    }


def _is_cpu(processor: Doc) -> bool:
    absent = at(processor, "Status", "State") == "Absent"
    return bool(processor) and not absent and text(processor.get("ProcessorType")) in ("", "CPU")


def memory_mib(tree: Tree, system: Doc) -> int:
    total = number(at(system, "MemorySummary", "TotalSystemMemoryGiB"))
    if total:
        return round(total * GIB)
    return sum(int(number(m.get("CapacityMiB"))) for m in tree.each(system.get("Memory")))


# --- drives ---------------------------------------------------------------------------------------


def drives(tree: Tree, system: Doc) -> tuple[Drive, ...]:
    """Of Storage; of SimpleStorage, which knows no serial numbers, where there is nothing else."""
    found = [
        _drive(tree.read(link))
        for storage in tree.members(system.get("Storage"))
        for link in listing(storage.get("Drives"))
    ]
    if not any(found):
        found = [
            _simple(doc(device))
            for storage in tree.members(system.get("SimpleStorage"))
            for device in listing(storage.get("Devices"))
        ]
    return tuple(islice((drive for drive in found if drive), 512))


def _drive(drive: Doc) -> Drive | None:
    if not drive or at(drive, "Status", "State") == "Absent":
        return None
    return Drive(
        serial=said(drive.get("SerialNumber")),
        model=said(drive.get("Model")),
        size_bytes=int(number(drive.get("CapacityBytes"))),
        media=_media(drive),
        wwn=_wwn(drive),
        name=text(drive.get("Name")) or text(drive.get("Id")),
    )


def _media(drive: Doc) -> Any:  # noqa: ANN401
    if text(drive.get("Protocol")).lower().startswith("nvme"):
        return "nvme"
    kind = text(drive.get("MediaType")).lower()
    return kind if kind in ("hdd", "ssd") else ""


def _wwn(drive: Doc) -> str:
    """As Linux writes it: 0x and the NAA number, eui. and the EUI-64."""
    for identifier in listing(drive.get("Identifiers")):
        name = said(at(identifier, "DurableName")).lower().replace(" ", "").replace(":", "")
        prefix = {"naa": "0x", "eui": "eui."}.get(
            text(at(identifier, "DurableNameFormat")).lower(), ""
        )
        if name and prefix:
            return prefix + name.removeprefix("naa.").removeprefix("eui.").removeprefix("0x")
    return ""


def _simple(device: Doc) -> Drive | None:
    if not device or at(device, "Status", "State") == "Absent":
        return None
    return Drive(
        model=said(device.get("Model")),
        size_bytes=int(number(device.get("CapacityBytes"))),
        name=text(device.get("Name")),
    )


# --- NICs and their neighbours --------------------------------------------------------------------


def interfaces(tree: Tree, owner: Doc) -> list[Nic]:
    """EthernetInterfaces of a system or of a manager."""
    return [nic for found in tree.each(owner.get("EthernetInterfaces")) if (nic := _nic(found))]


def _nic(found: Doc) -> Nic | None:
    mac = mac_of(found.get("MACAddress")) or mac_of(found.get("PermanentMACAddress"))
    if not mac:
        return None
    names = [text(found.get("Id")), text(found.get("Name"))]
    return Nic(
        mac=mac,
        name=next((n for n in names if n and n.lower() != mac), ""),
        speed_mbps=int(number(found.get("SpeedMbps"))),
        link=_link(found.get("LinkStatus")),
    )


def _link(value: object) -> bool | None:
    return {"linkup": True, "up": True, "linkdown": False, "down": False, "nolink": False}.get(
        text(value).lower()
    )


def ports(tree: Tree, chassis: list[Doc]) -> Iterator[Nic]:
    """Ports of network adapters: the only place where LLDP is told."""
    for owner in chassis:
        for adapter in tree.members(owner.get("NetworkAdapters")):
            model = said(adapter.get("Model"))
            for port in tree.members(adapter.get("Ports") or adapter.get("NetworkPorts")):
                yield from _port(port, model)


def _port(port: Doc, model: str) -> Iterator[Nic]:
    ethernet = doc(port.get("Ethernet"))
    macs = listing(ethernet.get("AssociatedMACAddresses")) or listing(
        port.get("AssociatedNetworkAddresses")
    )
    speed = number(port.get("CurrentSpeedGbps")) * 1000 or number(port.get("CurrentLinkSpeedMbps"))
    for mac in filter(None, map(mac_of, macs[:1])):
        yield Nic(
            mac=mac,
            name=text(port.get("Id")),
            model=model,
            speed_mbps=int(speed),
            link=_link(port.get("LinkStatus")),
            neighbours=tuple(_neighbours(ethernet)),
        )


def _neighbours(ethernet: Doc) -> Iterator[Neighbour]:
    heard = doc(ethernet.get("LLDPReceive"))
    name, chassis = said(heard.get("SystemName")), said(heard.get("ChassisId"))
    port = said(heard.get("PortId"))
    if name or chassis or port:
        vlan = int(number(heard.get("ManagementVlanId")))
        yield Neighbour(
            switch=name or chassis,
            chassis=chassis if name else "",
            port=port,
            description=said(heard.get("SystemDescription")),
            vlan=None if vlan in NO_VLAN else vlan,
        )


def switches(tree: Tree, link: object) -> dict[str, Neighbour]:
    """Dell's DellSwitchConnections: name of a NIC or port -> what it hears, by chassis id mostly.

    StaleData: heard before the link went down, so it may be another cable by now.
    """
    found: dict[str, Neighbour] = {}
    for told in tree.each(link):
        name = text(told.get("FQDD")) or text(told.get("Id"))
        switch, port = (
            said(told.get(f"Switch{end}")) for end in ("ConnectionID", "PortConnectionID")
        )
        if name and switch and port and text(told.get("StaleData")).lower() != "stale":
            chassis = mac_of(switch)
            found[name] = Neighbour(switch="" if chassis else switch, chassis=chassis, port=port)
    return found


def _hearing(nic: Nic, heard: dict[str, Neighbour]) -> Nic:
    """Of port NIC.Slot.1-1 its partition 1 is NIC.Slot.1-1-1; either may be the one that hears."""
    names = [n for n in heard if f"{nic.name}-".startswith(f"{n}-") or n.startswith(f"{nic.name}-")]
    if nic.neighbours or not nic.name or not names:
        return nic
    return nic.model_copy(update={"neighbours": (heard[min(names)],)})


def nics(
    tree: Tree, system: Doc, chassis: list[Doc], heard: dict[str, Neighbour]
) -> tuple[Nic, ...]:
    """One per MAC: what the system says of it, completed by its adapter's port."""
    found: dict[str, Nic] = {}
    for nic in [*interfaces(tree, system), *ports(tree, chassis)]:
        known = found.get(nic.mac)
        found[nic.mac] = _both(known, nic) if known else nic
    return tuple(_hearing(nic, heard) for nic in islice(found.values(), 128))


def _both(one: Nic, other: Nic) -> Nic:
    return one.model_copy(
        update={
            "model": one.model or other.model,
            "speed_mbps": one.speed_mbps or other.speed_mbps,
            "link": other.link if one.link is None else one.link,
            "neighbours": one.neighbours or other.neighbours,
        }
    )


# --- health ---------------------------------------------------------------------------------------


def health_of(owner: Doc) -> str:
    status = doc(owner.get("Status"))
    worst = said(status.get("HealthRollup")) or said(status.get("Health"))
    return worst if worst in ("OK", "Warning", "Critical") else ""


def look_closer(tree: Tree, system: Doc, chassis: list[Doc]) -> None:
    """Read what only matters when something is wrong: power supplies, fans, DIMMs, processors."""
    for link in (system.get("Memory"), system.get("Processors")):
        tree.members(link)
    for owner in chassis:
        for old in ("Power", "Thermal"):
            tree.read(owner.get(old))
        tree.members(tree.read(owner.get("PowerSubsystem")).get("PowerSupplies"))
        tree.members(tree.read(owner.get("ThermalSubsystem")).get("Fans"))


def ailing(tree: Tree) -> tuple[str, ...]:
    """Every part that was read and is not OK, by its own health and not by those below it."""
    found: dict[str, None] = {}
    for part in list(tree.known.values()):
        for owner in (part, *_embedded(part)):
            health = text(at(owner, "Status", "Health"))
            if health in ("Warning", "Critical"):
                name = text(owner.get("Name")) or text(owner.get("Id")) or "a part"
                found[f"{name[:200]}: {health}"] = None
    return tuple(islice(found, 256))


def _embedded(part: Doc) -> Iterator[Doc]:
    """Parts that older schemas keep inside a resource."""
    for name in ("PowerSupplies", "Fans", "Temperatures", "StorageControllers", "Devices"):
        yield from (doc(inner) for inner in listing(part.get(name)))
