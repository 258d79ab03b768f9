"""What a BMC can do, found out by asking it. What it did not tell is no."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Abilities(BaseModel):
    """Kept in Bmc.abilities.

    boot_targets:    Redfish's BootSourceOverrideTarget values that it allows ("Pxe", "UefiHttp").
    boot_once:       a boot device for the next start only.
    boot_mode:       UEFI or legacy can be set.
    media_protocols: where virtual media may come from ("http", "https", "nfs"); empty with
                     virtual_media: it has media and does not say from where.
    secure_boot:     whether it tells of Secure Boot, or lets it be changed, too.
    lldp:            it told what a NIC heard of its switch.
    led:             how the locate LED is set: the Redfish property, or IPMI's Chassis Identify.
    expand:          $expand query for collections (DSP0266, 7.3.1) that it says it knows.
    cipher_suites:   IPMI cipher suite ids that it offers (IPMI 2.0, 22.15.1).
    quirks:          rows of quirks.yaml that changed something here.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    boot_targets: tuple[str, ...] = ()
    boot_once: bool = False
    boot_mode: bool = False
    uefi_http: bool = False
    virtual_media: bool = False
    media_protocols: tuple[str, ...] = ()
    secure_boot: Literal["", "read", "write"] = ""
    bios: bool = False
    lldp: bool = False
    sessions: bool = False
    accounts: bool = False
    certificates: bool = False
    events: bool = False
    updates: bool = False
    led: Literal["", "LocationIndicatorActive", "IndicatorLED", "Chassis Identify"] = ""
    expand: str = ""
    ipmi_version: str = ""
    cipher_suites: tuple[int, ...] = ()
    quirks: tuple[str, ...] = ()
