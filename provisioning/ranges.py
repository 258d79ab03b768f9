"""The addresses a sweep looks at: networks, single addresses and first-last ranges, less others."""

from ipaddress import IPv4Address, IPv6Address, ip_address

from netaddr import AddrFormatError, IPNetwork, IPRange, IPSet

from provisioning.errors import Invalid

LARGEST_RANGE = 2**16  # addresses; an IPv4 /16 or an IPv6 /112
THIS_NETWORK = IPv4Address("1.0.0.0")  # all below is 0.0.0.0/8 (RFC 1122, 3.2.1.3)

Ip = IPv4Address | IPv6Address


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
    return [
        str(_ip(n, cidr.version))
        for cidr in wanted.iter_cidrs()
        for n in range(cidr.first, cidr.last + 1)
    ]


def wanted_of(ranges: list[str], exclude: list[str] | None = None) -> IPSet:
    """The same as a set, however many they are."""
    if not ranges:
        raise Invalid("no range was given", "Name one: `seed discover 10.0.0.0/24`.")
    wanted = IPSet()
    for text in ranges:
        wanted |= _range(text)
    for text in exclude or []:
        wanted = _without(wanted, text)
    return wanted


def address(text: str) -> str:
    """One address as it is stored: IPv6 in its short form. Other text stays as it is."""
    try:
        return str(ip_address(text))
    except ValueError:
        return text


def _without(wanted: IPSet, text: str) -> IPSet:
    network = _parsed(text)
    unwanted = IPSet(network if isinstance(network, IPRange) else [network.cidr])
    if wanted.isdisjoint(unwanted):
        raise Invalid(
            f"excluding {text} excludes nothing: it is not in what is looked at",
            "Leave it out, or exclude a part of the ranges.",
        )
    return wanted - unwanted


def _range(text: str) -> IPSet:
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
    return IPSet(network) if not has_ends else IPSet(_hosts(network))


def _hosts(network: IPNetwork) -> IPRange:
    """Without the network's own address, and for IPv4 without the broadcast address.

    IPv6 has no broadcast; its first address means "any router" (RFC 4291, 2.6.1).
    """
    return IPRange(network[1], network[-2] if network.version == 4 else network[-1])


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
