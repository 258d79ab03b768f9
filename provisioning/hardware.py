"""What a server consists of, in one shape, whoever told it: its BMC, its ramdisk, a packing list.

Sizes: memory in MiB, drives in bytes, speeds in Mbit/s. MACs are EUI-48 in lower case with colons.
What a source does not tell is empty or 0, never a guess.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Text = Annotated[str, StringConstraints(max_length=255)]


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Neighbour(Part):
    """What LLDP (IEEE 802.1AB) told a NIC: the switch by its system name, else its chassis id.

    chassis: the chassis id beside the name. Without a `switch`: the id alone was told, the switch
             may well have a name (Dell's iDRAC).
    """

    switch: Text = ""
    chassis: Text = ""
    port: Text = ""
    description: Text = ""
    vlan: int | None = None


class Nic(Part):
    """name: as its source calls it ("eno1", "NIC.Embedded.1-1-1"). link: None where not told."""

    mac: Text
    name: Text = ""
    model: Text = ""
    speed_mbps: int = 0
    link: bool | None = None
    neighbours: tuple[Neighbour, ...] = Field(default=(), max_length=16)


class Drive(Part):
    serial: Text = ""
    model: Text = ""
    size_bytes: int = Field(default=0, ge=0)
    media: Literal["", "hdd", "ssd", "nvme"] = ""
    wwn: Text = ""
    name: Text = ""


class Inventory(Part):
    """One server as one source saw it.

    cpu_count:  sockets. cpu_threads: of all sockets.
    firmware:   boot mode, "uefi" or "bios".
    health:     Redfish's words: "OK", "Warning", "Critical".
    ailing:     the parts that are not OK, in words ("PSU 2: Critical").
    virtualization: which the CPU has and the firmware lets it use; "no": neither.
    """

    vendor: Text = ""
    model: Text = ""
    serial: Text = ""
    system_uuid: Text = ""
    asset_tag: Text = ""
    firmware: Text = ""
    bios_version: Text = ""
    bmc_version: Text = ""
    bmc_mac: Text = ""
    cpu_model: Text = ""
    cpu_arch: Text = ""
    cpu_count: int = Field(default=0, ge=0)
    cpu_threads: int = Field(default=0, ge=0)
    virtualization: Literal["", "no", "vmx", "svm"] = ""
    memory_mib: int = Field(default=0, ge=0)
    drives: tuple[Drive, ...] = Field(default=(), max_length=512)
    nics: tuple[Nic, ...] = Field(default=(), max_length=128)
    health: Text = ""
    ailing: tuple[Text, ...] = Field(default=(), max_length=256)
    power: Literal["", "on", "off"] = ""
