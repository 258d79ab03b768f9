"""The addresses a sweep looks at: networks, single addresses and first-last ranges, less others."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from netaddr import AddrFormatError, IPNetwork, IPRange

from provisioning.errors import Invalid

LARGEST_RANGE = 2**16  # addresses; an IPv4 /16 or an IPv6 /112
THIS_NETWORK = IPv4Address("1.0.0.0")  # all below is 0.0.0.0/8 (RFC 1122, 3.2.1.3)

Ip = IPv4Address | IPv6Address
Span = tuple[int, int, int]  # IP version, first and last address


@dataclass(frozen=True)
class Wanted:
    """Addresses by version, first and last: in order, none twice, so 65,536 of them are one."""

    spans: list[Span]

    def __len__(self) -> int:
        return sum(last - first + 1 for _, first, last in self.spans)

    def __contains__(self, text: object) -> bool:
        a = ip_address(str(text))
        return any(v == a.version and first <= int(a) <= last for v, first, last in self.spans)

    def __iter__(self) -> Iterator[str]:
        for version, first, last in self.spans:
            yield from (str(_ip(n, version)) for n in range(first, last + 1))


def addresses_of(ranges: list[str], exclude: list[str] | None = None) -> list[str]:
    """Every host address of `ranges` that is not in `exclude`, in order, no doubles.

    Raises Invalid for an empty list, a wrong range, more than 65,536 addresses in all, and for an
    exclusion that excludes nothing or leaves nothing.
    """
    wanted = wanted_of(ranges, exclude)
    if len(wanted) > LARGEST_RANGE:
        raise Invalid(
            f"{len(wanted)} addresses are more than a /16 ({LARGEST_RANGE})",
            "Sweep in smaller parts, such as one /20 at a time.",
        )
    if not wanted:
        raise Invalid("the exclusions leave no address", "Exclude less, or name another range.")
    return list(wanted)


def wanted_of(ranges: list[str], exclude: list[str] | None = None) -> Wanted:
    """The same, however many they are. Quick: hundreds of ranges and exclusions are no work."""
    if not ranges:
        raise Invalid("no range was given", "Name one: `seed discover 10.0.0.0/24`.")
    spans = _merged([_range(text) for text in ranges])
    for text in exclude or []:
        spans = _without(spans, text)
    return Wanted(spans)


def address(text: str) -> str:
    """One address as it is stored: IPv6 in its short form. Other text stays as it is."""
    try:
        return str(ip_address(text))
    except ValueError:
        return text


def _merged(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for version, first, last in sorted(spans):
        before = merged[-1] if merged else (0, 0, 0)
        if before[0] == version and first <= before[2] + 1:
            merged[-1] = (version, before[1], max(last, before[2]))
        else:
            merged.append((version, first, last))
    return merged


def _without(spans: list[Span], text: str) -> list[Span]:
    network = _parsed(text)
    left: list[Span] = []
    for version, first, last in spans:
        if version != network.version or last < network.first or network.last < first:
            left.append((version, first, last))
            continue
        if first < network.first:
            left.append((version, first, network.first - 1))
        if network.last < last:
            left.append((version, network.last + 1, last))
    if left == spans:
        raise Invalid(
            f"excluding {text} excludes nothing: it is not in what is looked at",
            "Leave it out, or exclude a part of the ranges.",
        )
    return left


def _range(text: str) -> Span:
    network = _parsed(text)
    bits = 32 if network.version == 4 else 128
    has_ends = isinstance(network, IPNetwork) and network.prefixlen < bits - 1
    if has_ends and int(network.ip) != network.first:
        raise Invalid(
            f"{text} has host bits set",
            f"Did you mean {network.cidr}? For one address write {network.ip}.",
        )
    size = network.last - network.first + 1
    if size > LARGEST_RANGE:
        limit = "/16" if network.version == 4 else "/112"
        raise Invalid(
            f"{text} holds {size} addresses, more than a {limit} ({LARGEST_RANGE})",
            "Sweep in smaller parts, such as one /20 at a time."
            if network.version == 4
            else "List the BMCs' IPv6 addresses, or prefixes of a /112 at most.",
        )
    _not_ours(_ip(network.first, network.version), _ip(network.last, network.version), text)
    # Not the network's own address (IPv6: "any router", RFC 4291, 2.6.1), nor IPv4's broadcast.
    broadcasts = has_ends and network.version == 4
    return network.version, network.first + has_ends, network.last - broadcasts


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


def _ip(number: int, version: int) -> Ip:
    return IPv4Address(number) if version == 4 else IPv6Address(number)


def _not_ours(first: Ip, last: Ip, text: str) -> None:
    if any(_impossible(a) for a in (first, last)):
        raise Invalid(
            f"no BMC can have an address of {text}", "Give the BMCs' own range, like 10.0.0.0/24."
        )
    if first.is_link_local or last.is_link_local:
        raise Invalid(f"{text} is link-local", "Give the BMCs a real address first.")


def _impossible(a: Ip) -> bool:
    if isinstance(a, IPv4Address):
        return a.is_loopback or a.is_multicast or a.is_reserved or a < THIS_NETWORK
    mapped = a.ipv4_mapped is not None
    return a.is_loopback or a.is_multicast or a.is_unspecified or mapped
