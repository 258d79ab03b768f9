"""What a server's ramdisk told, in the one shape of hardware.py.

The document is ironic-python-agent's (13.0), {"inventory": {...}, "lldp_raw": {...}}, or as Ironic
keeps it, {"inventory": {...}, "plugin_data": {"lldp_raw": {...}}}. A stranger may have written it,
so nothing of it is trusted: what has the wrong type, is too long or too much is left out.
"""

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, Literal

from provisioning.errors import Invalid
from provisioning.hardware import Drive, Inventory, Neighbour, Nic
from provisioning.networks import mac as checked_mac

MAX_TEXT = 255
MAX_NICS, MAX_DRIVES, MAX_TLVS = 128, 512, 64
MAX_TLV_HEX = 1024  # a TLV's value has 511 octets at most (IEEE 802.1AB, 8.4)
LARGEST = 2**62

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_PVID = bytes.fromhex("0080c2 01")  # OUI of IEEE 802.1, subtype Port VLAN ID (802.1Q, D.2.1)
_CHASSIS_MAC, _CHASSIS_ADDRESS = 4, 5  # subtypes of a chassis id (802.1AB, 8.5.2.2)
_PORT_MAC, _PORT_ADDRESS = 3, 4  # subtypes of a port id (802.1AB, 8.5.3.2)


def inventory_of(document: Any) -> Inventory:  # noqa: ANN401
    """The server as its ramdisk saw it; empty for what is no inventory. Never raises."""
    posted = _table(document)
    told = _table(posted.get("inventory"))
    lldp = _table({**_table(posted.get("plugin_data")), **posted}.get("lldp_raw"))
    vendor, cpu = _table(told.get("system_vendor")), _table(told.get("cpu"))
    return Inventory(
        vendor=_text(vendor.get("manufacturer")),
        model=_text(vendor.get("product_name")),
        serial=_text(vendor.get("serial_number")),
        firmware=_boot_mode(_table(told.get("boot")).get("current_boot_mode")),
        bios_version=_text(_table(vendor.get("firmware")).get("version")),
        bmc_mac=_mac(told.get("bmc_mac")),
        cpu_model=_text(cpu.get("model_name")),
        cpu_arch=_text(cpu.get("architecture")),
        cpu_count=_number(cpu.get("socket_count")),
        cpu_threads=_number(cpu.get("count")),
        virtualization=_virtualization(cpu),
        memory_mib=_number(_table(told.get("memory")).get("physical_mb")),
        drives=tuple(_drive(d) for d in _tables(told.get("disks"), MAX_DRIVES)),
        nics=tuple(_nics(told.get("interfaces"), lldp)),
        power="on" if told else "",
    )


def _nics(told: Any, lldp: dict[str, Any]) -> Iterator[Nic]:  # noqa: ANN401
    """One per MAC: a bond's members may repeat it. lldp: interface -> its TLVs."""
    seen: set[str] = set()
    for nic in _tables(told, MAX_NICS):
        mac = _mac(nic.get("mac_address"))
        if mac and mac not in seen:
            seen.add(mac)
            yield _nic(nic, mac, nic.get("lldp") or lldp.get(_text(nic.get("name"))))


def _nic(told: dict[str, Any], mac: str, lldp: Any) -> Nic:  # noqa: ANN401
    carrier = told.get("has_carrier")
    neighbour = _neighbour(lldp)
    return Nic(
        mac=mac,
        name=_text(told.get("name")),
        model=" ".join(
            filter(None, (_text(told.get("vendor"), 64), _text(told.get("product"), 64)))
        ),
        speed_mbps=_number(told.get("speed_mbps")),
        link=carrier if isinstance(carrier, bool) else None,
        neighbours=(neighbour,) if neighbour != Neighbour() else (),
    )


def _drive(told: dict[str, Any]) -> Drive:
    return Drive(
        serial=_text(told.get("serial")),
        model=_text(told.get("model")),
        size_bytes=_number(told.get("size")),
        media=_media(_text(told.get("name")), told.get("rotational")),
        wwn=_text(told.get("wwn")),
        name=_text(told.get("name")),
    )


def _media(name: str, rotational: Any) -> Literal["", "hdd", "ssd", "nvme"]:  # noqa: ANN401
    if "nvme" in name:
        return "nvme"
    if not isinstance(rotational, bool):
        return ""
    return "hdd" if rotational else "ssd"


# --- LLDP: [[type, value in hex], ...] ------------------------------------------------------------


def _neighbour(told: Any) -> Neighbour:  # noqa: ANN401
    """What one NIC heard. The first TLV of each kind counts."""
    chassis = port = name = description = ""
    vlan: int | None = None
    for kind, value in _tlvs(told):
        match kind:
            case 1:
                chassis = chassis or _named(value, _CHASSIS_MAC, _CHASSIS_ADDRESS)
            case 2:
                port = port or _named(value, _PORT_MAC, _PORT_ADDRESS)
            case 4:
                description = description or _decoded(value)
            case 5:
                name = name or _decoded(value)
            case 127 if value.startswith(_PVID) and len(value) == 6:
                vlan = int.from_bytes(value[4:]) or None  # 0: the port has none
    return Neighbour(
        switch=name or chassis,
        chassis=chassis if name else "",
        port=port,
        description=description,
        vlan=vlan,
    )


def _tlvs(told: Any) -> Iterator[tuple[int, bytes]]:  # noqa: ANN401
    for pair in told[:MAX_TLVS] if isinstance(told, list) else ():
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], str)):
            continue
        if type(pair[0]) is not int or len(pair[1]) > MAX_TLV_HEX:
            continue
        try:
            yield pair[0], bytes.fromhex(pair[1])
        except ValueError:
            continue


def _named(value: bytes, mac: int, address: int) -> str:
    """A chassis id or port id: its first octet says how to read the rest."""
    subtype, rest = (value[0], value[1:]) if value else (0, b"")
    if subtype == mac and len(rest) == 6:
        return rest.hex(":")
    if subtype == address and len(rest) in (5, 17):  # after the address family
        return str(ip_address(rest[1:]))
    return _decoded(rest)


def _decoded(value: bytes) -> str:
    return _text(value.decode("utf-8", "replace"))


# --- one value each; empty for what it is not -----------------------------------------------------


def _table(value: Any) -> dict[str, Any]:  # noqa: ANN401
    return value if isinstance(value, dict) else {}


def _tables(value: Any, most: int) -> list[dict[str, Any]]:  # noqa: ANN401
    return [v for v in value[:most] if isinstance(v, dict)] if isinstance(value, list) else []


def _text(value: Any, most: int = MAX_TEXT) -> str:  # noqa: ANN401
    return _CONTROL.sub(" ", value[: 4 * most]).strip()[:most] if isinstance(value, str) else ""


def _number(value: Any) -> int:  # noqa: ANN401
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST
    return int(value) if fits else 0


def _boot_mode(value: Any) -> str:  # noqa: ANN401
    return value if value in ("uefi", "bios") else ""


def _virtualization(cpu: dict[str, Any]) -> Literal["", "no", "vmx", "svm"]:
    """Of x86 alone; Linux shows neither flag where the firmware switched it off."""
    flags = cpu.get("flags")
    if not isinstance(flags, list) or not flags or _text(cpu.get("architecture")) != "x86_64":
        return ""
    return "vmx" if "vmx" in flags else "svm" if "svm" in flags else "no"


def _mac(value: Any) -> str:  # noqa: ANN401
    try:
        return checked_mac(value) if isinstance(value, str) and len(value) <= 17 else ""
    except Invalid:
        return ""
