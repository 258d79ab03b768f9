"""Who a server is, what it consists of and what its BMC can do, out of a Redfish service."""

from dataclasses import dataclass
from typing import Any

from provisioning import quirks
from provisioning.abilities import Abilities
from provisioning.bmc import Identity
from provisioning.bmc import _redfish_parts as parts
from provisioning.bmc._redfish_tree import Tree, path_of
from provisioning.errors import BmcError
from provisioning.hardware import Inventory
from provisioning.lenient import Doc, at, doc, listing, text, texts

BOOT_MODES = {"uefi": "uefi", "legacy": "bios"}
POWER = {"On": "on", "PoweringOff": "on", "Off": "off", "PoweringOn": "on", "Paused": "on"}
OPTICAL = {"CD", "DVD"}
PROTOCOLS = {"http", "https", "nfs", "cifs"}  # of DSP2046's TransferProtocolType


@dataclass(frozen=True)
class Server:
    """The one server of a BMC, and the manager that is the BMC.

    reads: where this vendor tells what others tell elsewhere.
    """

    system: Doc
    system_id: str
    manager: Doc
    reads: quirks.Reads


def server(tree: Tree, root: Doc, address: str) -> Server:
    """Raises BmcError where the BMC shows not exactly one, or nonsense in its place."""
    collection = tree.read(root.get("Systems"))
    links = collection.get("Members")
    if not isinstance(links, list):
        raise _nonsense(address)
    if len(links) != 1:
        raise BmcError(
            f"the Redfish service on {address} shows {len(links)} systems, not 1",
            "Seed takes one server per BMC for now; enroll chassis managers by hand.",
        )
    system = tree.read(links[0])
    if not system or "Members" in system:
        raise _nonsense(address)
    manager = _manager(tree, root, system)
    seen = Inventory(
        vendor=parts.said(system.get("Manufacturer")),
        model=parts.said(system.get("Model")),
        bmc_version=parts.said(manager.get("FirmwareVersion")),
    )
    return Server(system, path_of(links[0]), manager, quirks.reads(seen))


def _nonsense(address: str) -> BmcError:
    return BmcError(
        f"Redfish on BMC {address} answered nonsense",
        f"Update the BMC's firmware or restart the BMC, then `seed discover {address}`.",
    )


def _manager(tree: Tree, root: Doc, system: Doc) -> Doc:
    for link in listing(at(system, "Links", "ManagedBy")):
        found = tree.read(link)
        if found:
            return found
    return next((m for m in tree.each(root.get("Managers")) if m), {})


def identity(tree: Tree, found: Server) -> Identity:
    system, boot = found.system, doc(found.system.get("Boot"))
    serial = parts.said(system.get(found.reads.serial)) or parts.said(system.get("SerialNumber"))
    return Identity(
        serial=serial,
        system_uuid=text(system.get("UUID")).lower(),
        vendor=parts.said(system.get("Manufacturer")),
        model=parts.said(system.get("Model")),
        manager_mac=min((n.mac for n in parts.interfaces(tree, found.manager)), default=""),
        system_id=found.system_id,
        firmware=BOOT_MODES.get(text(boot.get("BootSourceOverrideMode")).lower(), ""),
        macs=tuple(sorted({nic.mac for nic in parts.interfaces(tree, system)})),
    )


def inventory(tree: Tree, found: Server, who: Identity) -> Inventory:
    system = found.system
    chassis = _chassis(tree, system)
    heard = parts.switches(tree, _switches(found))
    facts: dict[str, Any] = {
        "drives": parts.drives(tree, system),
        "nics": parts.nics(tree, system, chassis, heard),
        "memory_mib": parts.memory_mib(tree, system),
        **parts.processors(tree, system),
    }
    worst = parts.health_of(system)
    if worst not in ("", "OK"):
        parts.look_closer(tree, system, chassis)
    return Inventory(
        vendor=who.vendor,
        model=who.model,
        serial=who.serial,
        system_uuid=who.system_uuid,
        asset_tag=parts.said(system.get("AssetTag")),
        firmware=who.firmware,
        bios_version=parts.said(system.get("BiosVersion")),
        bmc_version=parts.said(found.manager.get("FirmwareVersion")),
        bmc_mac=who.manager_mac,
        health=worst,
        ailing=parts.ailing(tree),
        power=POWER.get(text(system.get("PowerState")), ""),
        **facts,
    )


def _switches(found: Server) -> object:
    """The link to what this vendor's NICs hear; None where it has none."""
    way = found.reads.switches
    return at(found.manager, *way) if way else None


def _chassis(tree: Tree, system: Doc) -> list[Doc]:
    links = listing(at(system, "Links", "Chassis"))[: parts.CHASSIS]
    return [found for link in links if (found := tree.read(link))]


# --- abilities ------------------------------------------------------------------------------------


def abilities(tree: Tree, root: Doc, found: Server) -> Abilities:
    """Of what the inventory read, and of a few resources more."""
    system = found.system
    media, protocols = _virtual_media(tree, found)
    led = led_of(system) or next(filter(None, map(led_of, _chassis(tree, system))), "")
    return Abilities.model_validate(
        {
            **_boot(doc(system.get("Boot"))),
            "virtual_media": media,
            "media_protocols": protocols,
            "secure_boot": _secure_boot(tree, system),
            "bios": bool(path_of(system.get("Bios"))),
            "lldp": any(_hears(part) for part in tree.known.values())
            or bool(path_of(_switches(found))),
            "sessions": bool(path_of(at(root, "Links", "Sessions"))),
            "accounts": bool(path_of(root.get("AccountService"))),
            "certificates": bool(path_of(root.get("CertificateService"))),
            "events": bool(path_of(root.get("EventService"))),
            "updates": bool(path_of(root.get("UpdateService"))),
            "led": led,
            "expand": tree.expand,
        }
    )


def _boot(boot: Doc) -> dict[str, Any]:
    targets = texts(boot.get("BootSourceOverrideTarget@Redfish.AllowableValues"))
    enabled = texts(boot.get("BootSourceOverrideEnabled@Redfish.AllowableValues"))
    return {
        "boot_targets": targets,
        # Where it lists no values for "enabled", DSP2046 has Once among them.
        "boot_once": "BootSourceOverrideEnabled" in boot and (not enabled or "Once" in enabled),
        "boot_mode": bool(text(boot.get("BootSourceOverrideMode"))),
        "uefi_http": "UefiHttp" in targets,
    }


def _virtual_media(tree: Tree, found: Server) -> tuple[bool, tuple[str, ...]]:
    """The first device that takes an image of a CD, and from where it may come."""
    for owner in (found.system, found.manager):
        for device in tree.each(owner.get("VirtualMedia")):
            insert = at(device, "Actions", "#VirtualMedia.InsertMedia")
            if insert and OPTICAL & set(texts(device.get("MediaTypes"))):
                told = texts(doc(insert).get("TransferProtocolType@Redfish.AllowableValues"))
                return True, tuple(sorted(PROTOCOLS & {word.lower() for word in told}))
    return False, ()


def _hears(port: Doc) -> bool:
    ethernet = doc(port.get("Ethernet"))
    return isinstance(ethernet.get("LLDPReceive"), dict) or ethernet.get("LLDPEnabled") is True


def _secure_boot(tree: Tree, system: Doc) -> str:
    link = system.get("SecureBoot")
    if not isinstance(tree.read(link).get("SecureBootEnable"), bool):
        return ""
    return "write" if "PATCH" in tree.allow.get(path_of(link), "") else "read"


def led_of(owner: Doc) -> str:
    """The property of a system or chassis that sets its locate LED (DSP2046)."""
    if isinstance(owner.get("LocationIndicatorActive"), bool):
        return "LocationIndicatorActive"
    return "IndicatorLED" if parts.said(owner.get("IndicatorLED")) else ""


def led_place(tree: Tree, root: Doc, address: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Path of what carries the LED, and what to PATCH there for on and for off.

    Raises BmcError where there is none.
    """
    found = server(tree, root, address)
    places = [(found.system_id, found.system)]
    for link in listing(at(found.system, "Links", "Chassis"))[: parts.CHASSIS]:
        places.append((path_of(link), tree.read(link)))
    for path, owner in places:
        if led_of(owner) == "LocationIndicatorActive":
            return path, {"LocationIndicatorActive": True}, {"LocationIndicatorActive": False}
        if led_of(owner):
            known = texts(owner.get("IndicatorLED@Redfish.AllowableValues")) or ("Blinking",)
            lit = "Blinking" if "Blinking" in known else "Lit"
            return path, {"IndicatorLED": lit}, {"IndicatorLED": "Off"}
    raise BmcError(
        f"BMC {address} has no locate LED that it lets be set",
        "Find the server by its place and serial number: `seed bmc show ADDRESS`.",
    )
