"""Which of Ironic's interfaces a node is enrolled with, and why: chosen by what its BMC can do.

Only interfaces that ironic.conf enables (seed/host/templates/ironic.conf) are named here.
"""

from dataclasses import dataclass

from provisioning.abilities import Abilities


@dataclass(frozen=True, slots=True)
class Choice:
    """interface: the node's field in Ironic's API, such as "boot_interface"."""

    interface: str
    value: str
    reason: str


def choose(driver: str, abilities: Abilities | None) -> tuple[Choice, ...]:
    """For Ironic's hardware type. abilities: None, or what a survey found.

    A hardware type that we do not know keeps Ironic's own choice: nothing is said.
    """
    if driver not in ("redfish", "ipmi"):
        return ()
    own = {"redfish": "redfish", "ipmi": "ipmitool"}[driver]
    return (
        Choice("power_interface", own, "the BMC's own protocol"),
        Choice("management_interface", own, "the BMC's own protocol"),
        Choice("boot_interface", "ipxe", _boot(abilities)),
        Choice("inspect_interface", "agent", "the ramdisk sees more than a BMC tells"),
        Choice("raid_interface", "agent", "mirrors are made and taken apart by the ramdisk"),
        Choice("vendor_interface", "no-vendor", "nobody calls a passthru, so none is open"),
        *(_by_service(abilities) if driver == "redfish" and abilities else ()),
    )


def _boot(abilities: Abilities | None) -> str:
    why = "every server boots from the provisioning wire"
    if abilities is None:
        return why
    if abilities.boot_targets and "Pxe" not in abilities.boot_targets:
        return f"{why}; its BMC does not list Pxe: set it first in the firmware"
    others = [
        name
        for name, can in (
            ("virtual media", abilities.virtual_media),
            ("UEFI HTTP boot", abilities.uefi_http),
        )
        if can
    ]
    return f"{why}; its BMC could do {' and '.join(others)}, too" if others else why


def _by_service(abilities: Abilities) -> tuple[Choice, ...]:
    bios = "its BMC shows BIOS settings" if abilities.bios else "its BMC shows no BIOS settings"
    update = (
        "its BMC has an update service" if abilities.updates else "its BMC has no update service"
    )
    return (
        Choice("bios_interface", "redfish" if abilities.bios else "no-bios", bios),
        Choice("firmware_interface", "redfish" if abilities.updates else "no-firmware", update),
    )
