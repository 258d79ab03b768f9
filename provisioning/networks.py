"""Addresses on the provisioning wire, and what is rendered from them.

One reservation per NIC. DHCP hosts, static network_data and the hand-out all come from these
rows, so that a server has one address whether it runs the ramdisk or its own system.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from typing import Any
from uuid import UUID

from netaddr import EUI, AddrFormatError, IPNetwork, IPRange, IPSet, mac_unix_expanded
from sqlmodel import Session, select

from provisioning.errors import Conflict, Invalid
from provisioning.models import Address

LARGEST_RANGE = 2**16  # addresses; a /16
THIS_NETWORK = IPv4Address("1.0.0.0")  # all below is 0.0.0.0/8 (RFC 1122, 3.2.1.3)


def mac(text: str) -> str:
    """EUI-48 as Ironic stores it: lower case, colons. Group addresses are refused."""
    try:
        eui = EUI(text, version=48, dialect=mac_unix_expanded)
    except (AddrFormatError, ValueError) as err:
        raise Invalid(f"{text!r} is not a MAC address", "Write it as 52:54:00:12:34:56.") from err
    if eui.words[0] & 1 or int(eui) == 0:
        raise Invalid(
            f"{text} is a group or zero address, no NIC has it",
            "Read the label again; a NIC's MAC looks like 52:54:00:12:34:56.",
        )
    return str(eui)


def addresses_of(ranges: list[str]) -> list[str]:
    """Every host address of CIDRs, single addresses and first-last ranges; IPv4, no doubles.

    Raises Invalid for an empty list, a wrong one, or more than a /16 in all.
    """
    if not ranges:
        raise Invalid("no range was given", "Name one: `seed discover 10.0.0.0/24`.")
    all_of_them = IPSet()
    for text in ranges:
        all_of_them |= _range(text)
    if len(all_of_them) > LARGEST_RANGE:
        raise Invalid(
            f"{len(all_of_them)} addresses are more than a /16 ({LARGEST_RANGE})",
            "Sweep in smaller parts, such as one /20 at a time.",
        )
    return [str(address) for address in all_of_them]


def _range(text: str) -> IPSet:
    network = _parsed(text)
    if network.version != 4:
        raise Invalid(f"{text} is not IPv4", "Give the BMCs' IPv4 range, like 10.0.0.0/24.")
    has_ends = isinstance(network, IPNetwork) and network.prefixlen < 31
    if has_ends and int(network.ip) != network.first:
        raise Invalid(
            f"{text} has host bits set",
            f"Did you mean {network.cidr}? For one address write {network.ip}.",
        )
    size = network.last - network.first + 1
    if size > LARGEST_RANGE:
        raise Invalid(
            f"{text} holds {size} addresses, more than a /16 ({LARGEST_RANGE})",
            "Sweep in smaller parts, such as one /20 at a time.",
        )
    _not_ours(IPv4Address(network.first), IPv4Address(network.last), text)
    return IPSet(network.iter_hosts() if has_ends else network)


def _parsed(text: str) -> IPNetwork | IPRange:
    try:
        first, dash, last = text.partition("-")
        if dash:
            return IPRange(first.strip(), last.strip())
        return IPNetwork(text, expand_partial=False)
    except (AddrFormatError, ValueError) as err:
        raise Invalid(
            f"{text!r} is not a range of addresses",
            "Write a network (10.0.0.0/24), one address (10.0.0.7) or 10.0.0.5-10.0.0.9.",
        ) from err


def _not_ours(first: IPv4Address, last: IPv4Address, text: str) -> None:
    ends = (first, last)
    if any(a.is_loopback or a.is_multicast or a.is_reserved or a < THIS_NETWORK for a in ends):
        raise Invalid(
            f"no BMC can have an address of {text}", "Give the BMCs' own range, like 10.0.0.0/24."
        )
    if first.is_link_local or last.is_link_local:
        raise Invalid(f"{text} is link-local", "Give the BMCs a real address first.")


@dataclass(frozen=True, slots=True)
class Pool:
    """Where reservations on the provisioning wire come from."""

    wire: IPv4Interface
    start: IPv4Address
    end: IPv4Address

    def reserve(self, session: Session, mac_address: str, node_uuid: UUID) -> Address:
        """This NIC's address; the same one each time. Conflict when the pool is empty."""
        held = session.exec(select(Address).where(Address.mac == mac_address)).first()
        if held is not None:
            if held.node_uuid != node_uuid:
                raise Conflict(
                    f"MAC {mac_address} already belongs to another node",
                    "Two servers with one MAC cannot share a wire: `seed node list`.",
                )
            return held
        taken = set(session.exec(select(Address.address)).all())
        for number in range(int(self.start), int(self.end) + 1):
            text = str(IPv4Address(number))
            if text not in taken:
                row = Address(address=text, mac=mac_address, node_uuid=node_uuid)
                session.add(row)
                session.flush()
                return row
        raise Conflict(
            f"no address is left between {self.start} and {self.end}",
            "Widen pool_start and pool_end in seed.toml, then `seed down` and `seed up`.",
        )

    def network_data(self, row: Address, dns: list[str] | None = None) -> dict[str, Any]:
        """OpenStack network_data.json with this one static address, by MAC."""
        return {
            "links": [{"id": "nic0", "type": "phy", "ethernet_mac_address": row.mac, "mtu": 1500}],
            "networks": [
                {
                    "id": "provisioning",
                    "network_id": "provisioning",
                    "type": "ipv4",
                    "link": "nic0",
                    "ip_address": row.address,
                    "netmask": str(self.wire.netmask),
                    "routes": [],
                }
            ],
            "services": [{"type": "dns", "address": a} for a in dns or []],
        }
