"""What a lab consists of: the scenario file, validated."""

from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Annotated, Literal, Self
from uuid import NAMESPACE_OID, UUID, uuid5

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from provisioning.errors import Invalid, NotFound

Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
# IFNAMSIZ leaves 15; eight more are used for "-wire" and "-end".
BridgeName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]{0,8}$")]
Mac = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$", to_lower=True, strict=True)
]
# Printable ASCII without quotes: it travels through SMBIOS, FRU, XML and ipmi_sim's own syntax.
Text = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}$")]
# QEMU cuts a SATA disk's serial at 20 characters.
DiskSerial = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,19}$")]
# As switches call them: "Ethernet17", "xe-0/0/1", "et-0/0/0:1".
PortName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9/:._-]{0,39}$")]
Sentence = Annotated[str, StringConstraints(pattern=r"^[ -~]{0,80}$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BmcSpec(Strict):
    """A server's BMC, on the protocol's standard port (TCP 443, UDP 623) of its own address.

    certificate: the one it comes with: "address" names its address, "name" has just a CN, as many
    factories ship them. certificate_service: whether it takes another one.
    """

    protocol: Literal["redfish", "ipmi"]
    address: IPv4Address
    mac: Mac
    username: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,14}$")] = "admin"
    certificate: Literal["address", "name"] = "address"
    certificate_service: bool = True


class Nic(Strict):
    """port: where its cable ends at first, as "leaf1:Ethernet17"; None: in no switch."""

    mac: Mac
    model: Literal["virtio", "e1000e"] = "virtio"
    network: BridgeName = "prov0"
    port: str | None = None


class Port(Strict):
    """A switch's port. The VLAN is announced as the port's own (PVID), not enforced."""

    name: PortName
    description: Sentence = ""
    vlan: int | None = Field(default=None, ge=1, le=4094)


class Switch(Strict):
    """A switch, of which only its LLDP can be seen; frames travel by the lab's bridges."""

    name: Label
    mac: Mac
    description: Sentence = "Emulated switch"
    ports: tuple[Port, ...] = Field(min_length=1, max_length=128)


class Disk(Strict):
    size_gib: int = Field(default=12, ge=1, le=1024)
    bus: Literal["virtio-scsi", "ahci", "nvme"] = "virtio-scsi"
    serial: DiskSerial


class Server(Strict):
    """One server. Memory in MiB, disks in GiB. cpus: hardware threads.

    cx16: it can compare and swap 16 bytes under emulation, too: haproxy ends with SIGILL else.
    """

    name: Label
    manufacturer: Text
    model: Text
    serial: Text
    firmware: Literal["uefi", "bios"]
    memory_mib: int = Field(default=3072, ge=256, le=65536)
    cpus: int = Field(default=1, ge=1, le=16)
    cx16: bool = False
    bmc: BmcSpec
    nics: tuple[Nic, ...] = Field(min_length=1, max_length=8)
    disks: tuple[Disk, ...] = Field(default=(), max_length=8)

    @property
    def uuid(self) -> UUID:
        """The system's UUID, the same in SMBIOS, Redfish and IPMI."""
        return uuid5(NAMESPACE_OID, f"{self.manufacturer}/{self.serial}")

    @property
    def virtio(self) -> bool:
        """Whether any virtio device is in it."""
        return any(nic.model == "virtio" for nic in self.nics) or any(
            disk.bus == "virtio-scsi" for disk in self.disks
        )

    @model_validator(mode="after")
    def _several_cpus_have_no_cx16(self) -> Self:
        if self.cpus > 1 and self.cx16:
            raise ValueError("cpus: QEMU 7.2 corrupts a guest with several and cx16; leave one out")
        return self

    @model_validator(mode="after")
    def _nvme_needs_ipmi(self) -> Self:
        if self.bmc.protocol == "redfish" and any(disk.bus == "nvme" for disk in self.disks):
            raise ValueError("the Redfish emulator cannot boot from an nvme disk; use ahci")
        return self


class Scenario(Strict):
    """The whole lab: one network namespace, its bridges, and the servers on them."""

    namespace: Label
    accelerator: Literal["tcg", "kvm"] = "tcg"
    networks: dict[BridgeName, IPv4Interface] = Field(min_length=1)
    servers: tuple[Server, ...] = Field(min_length=1, max_length=64)
    switches: tuple[Switch, ...] = Field(default=(), max_length=16)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _unique("server name", (s.name for s in self.servers))
        _unique("serial number", (s.serial for s in self.servers))
        _unique("disk serial", (d.serial for s in self.servers for d in s.disks))
        macs = [mac for s in self.servers for mac in _macs(s)]
        _unique("MAC", [*macs, *(s.mac for s in self.switches)])
        _unique("switch name", (s.name for s in self.switches))
        _unique("port", (f"{s.name}:{p.name}" for s in self.switches for p in s.ports))
        ours = [str(net.ip) for net in self.networks.values()]
        _unique("address", [*ours, *(str(s.bmc.address) for s in self.servers)])
        for server in self.servers:
            self.bridge_of(server.bmc.address)
            for nic in server.nics:
                if nic.network not in self.networks:
                    raise ValueError(f"{server.name}: there is no network {nic.network!r}")
        cables = [nic.port for s in self.servers for nic in s.nics if nic.port]
        for port in cables:
            if port not in self.ports:
                raise ValueError(f"there is no port {port!r}")
        _unique("port", cables)
        return self

    @property
    def ports(self) -> dict[str, tuple[Switch, Port]]:
        """Every switch's ports by their full names, as "leaf1:Ethernet17"."""
        return {f"{s.name}:{p.name}": (s, p) for s in self.switches for p in s.ports}

    def bridge_of(self, address: IPv4Address) -> str:
        """The bridge whose network has `address`; ValueError if none has."""
        for name, interface in self.networks.items():
            if address in interface.network:
                return name
        raise ValueError(f"BMC address {address} is in none of the networks")

    def server(self, name: str) -> Server:
        """The server called `name`, or NotFound."""
        for server in self.servers:
            if server.name == name:
                return server
        known = ", ".join(s.name for s in self.servers)
        raise NotFound(f"the lab has no server {name!r}, only {known}", "seed lab status")


def _macs(server: Server) -> Iterable[str]:
    yield server.bmc.mac
    for nic in server.nics:
        yield nic.mac


def _unique(what: str, values: Iterable[str]) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            raise ValueError(f"{what} {value} is used {count} times")


def load(path: Path) -> Scenario:
    """Read a scenario file; Invalid with the place and the reason if it is not one."""
    try:
        return Scenario.model_validate(yaml.safe_load(path.read_text()))
    except OSError as err:
        raise NotFound(
            f"cannot read the scenario file {path}: {err.strerror}",
            "seed lab up --scenario vagrant/lab.yaml",
        ) from err
    except yaml.YAMLError as err:
        line = getattr(getattr(err, "problem_mark", None), "line", -1) + 1
        raise Invalid(f"{path} is not YAML (line {line})", f"edit {path}") from err
    except ValidationError as err:
        raise Invalid(f"{path}: {first_fault(err)}", f"edit {path}") from err


def first_fault(err: ValidationError) -> str:
    """Its place and the reason."""
    first = err.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the scenario"
    return f"{place}: {first['msg'].removeprefix('Value error, ')}"
