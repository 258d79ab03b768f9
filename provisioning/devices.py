"""What a node's network consists of, whoever it is told to: NICs, bonds, VLANs, bridges."""

from dataclasses import dataclass
from typing import Literal

from provisioning.layout_doc import Bond

Kind = Literal["physical", "bond", "vlan", "bridge"]


@dataclass(frozen=True, slots=True)
class Stack:
    """What a device is told of IP. addresses: with prefix. routes: (to, via). mtu: the network's.

    default: whether a router that DHCP or an advertisement names is used.
    """

    network: str = ""
    addresses: tuple[str, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()
    dhcp4: bool = False
    dhcp6: bool = False
    slaac: bool = False
    default: bool = False
    dns: tuple[str, ...] = ()
    domain: str = ""
    mtu: int = 1500


@dataclass(frozen=True, slots=True)
class Device:
    """name: empty for a NIC that keeps its own. over: the id of a VLAN's link, a bridge's port.

    master: the bond or bridge it belongs to. members: of a bond, by id.
    """

    id: str
    kind: Kind
    name: str
    mac: str
    mtu: int
    master: str = ""
    primary: bool = False
    bond: Bond | None = None
    members: tuple[str, ...] = ()
    vlan: int = 0
    over: str = ""
    stack: Stack | None = None
