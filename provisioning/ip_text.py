"""Addresses, networks, ranges and names as people write them; each refusal is one sentence.

Addresses are ipaddress's, never netaddr's: this one refuses what is half an address.
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

Ip = IPv4Address | IPv6Address
Net = IPv4Network | IPv6Network
_NAME = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
)
_CIDR = re.compile(r"[0-9A-Fa-f.:]{2,45}/[0-9]{1,3}")
_PREFIXES = {4: range(8, 31), 6: range(32, 127)}  # that a wire of servers may have
_THIS = IPv4Network("0.0.0.0/8")


class Range(NamedTuple):
    """Both ends belong to it."""

    first: Ip
    last: Ip

    def __contains__(self, address: object) -> bool:
        same = isinstance(address, type(self.first))
        return same and int(self.first) <= int(address) <= int(self.last)  # type: ignore[call-overload]

    def meets(self, other: "Range") -> bool:
        same = self.first.version == other.first.version
        return same and int(self.first) <= int(other.last) and int(other.first) <= int(self.last)

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


def an_ip(text: str) -> Ip:
    """Raises ValueError: no address that a node could have on a wire."""
    if not re.fullmatch(r"[0-9A-Fa-f.:]{2,45}", text):
        raise ValueError(f"{text[:60]!r} is not an address")
    try:
        found = ip_address(text)
    except ValueError:
        raise ValueError(f"{text[:60]!r} is not an address") from None
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        raise ValueError(f"{text} is IPv4 written as IPv6: write {found.ipv4_mapped}")
    if found.is_multicast or found.is_loopback or found.is_unspecified or found.is_link_local:
        raise ValueError(f"no server can have {text} as its address")
    if found.is_reserved or int(found) == 2**32 - 1:
        raise ValueError(f"{text} is of a reserved range")
    return found


def a_net(text: str) -> Net:
    """Raises ValueError for host bits, netmasks and what is no wire's."""
    if not _CIDR.fullmatch(text):
        raise ValueError(f"{text[:60]!r} is not a network: write it as 10.40.0.0/24")
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text[:60]!r} is not a network: write it as 10.40.0.0/24") from None
    if str(found.network_address) != str(ip_address(text.partition("/")[0])):
        raise ValueError(f"{text} has host bits set: the network is {found}")
    return found


def wire_net(text: str) -> str:
    found = a_net(text)
    if found.prefixlen not in _PREFIXES[found.version]:
        least, most = _PREFIXES[found.version][0], _PREFIXES[found.version][-1]
        raise ValueError(f"{found}: a wire's prefix is /{least} to /{most}")
    if found.overlaps(_THIS) if isinstance(found, IPv4Network) else int(found[0]) == 0:
        raise ValueError(f"no server can have an address of {found}")
    for end in (found[1], found[-2]):
        an_ip(str(end))
    return str(found)


def a_range(text: str) -> Range:
    """An address, "first-last", or a network. Raises ValueError."""
    if "/" in text:
        net = a_net(text)
        return Range(net[0], net[-1])
    first, dash, last = (part.strip() for part in text.partition("-"))
    ends = an_ip(first), an_ip(last if dash else first)
    if ends[0].version != ends[1].version or int(ends[0]) > int(ends[1]):
        raise ValueError(f"{text[:99]} does not go from a first to a last address")
    return Range(*ends)


def domain(text: str) -> str:
    if text and not _NAME.fullmatch(text):
        raise ValueError(f"{text[:60]!r} is not a domain name in lower case")
    return text


def time_source(text: str) -> str:
    """An address, or a name that cannot be taken for a broken one."""
    if re.fullmatch(r"[0-9.]+|.*:.*", text):
        return str(an_ip(text))
    if not text:
        raise ValueError("an address or a name must stand here")
    return domain(text)
