"""Addresses that Kolla-Ansible would give, and that are somebody's already."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from provisioning.installers import OvercloudFacts, Use
from provisioning.installers._kolla_options import Options
from provisioning.installers._kolla_tree import outside_of
from provisioning.kinds import Fault

RANGES = "options.ironic_dnsmasq_dhcp_ranges"


@dataclass(frozen=True, slots=True)
class Range:
    """Addresses as numbers: those of two families cannot be compared."""

    version: int
    first: int
    last: int

    @classmethod
    def of(cls, text: str) -> "Range":
        """text: "first-last", or one address."""
        first, _, last = text.partition("-")
        one, other = ip_address(first.strip()), ip_address((last or first).strip())
        return cls(one.version, int(one), int(other))

    def overlaps(self, other: "Range") -> bool:
        return (
            self.version == other.version and self.first <= other.last and other.first <= self.last
        )


def vips(facts: OvercloudFacts) -> Iterator[Fault]:
    api, internal = facts.networks["api"], facts.vips["internal"]
    if ip_address(internal) not in ip_network(api.cidr):
        says = f"the internal VIP {internal} is not in {api.cidr}, the network of role api"
        yield Fault("vips.internal", says, f"Take an address of {api.cidr} outside of its pools.")
    yield from _taken(facts, "internal", internal)
    external = facts.vips.get("external") or internal
    if ip_address(external) != ip_address(internal):
        yield from _outside(facts, external, outside_of(facts))
        yield from _taken(facts, "external", external)


def _outside(facts: OvercloudFacts, vip: str, use: Use | None) -> Iterator[Fault]:
    """keepalived has it on an interface of the network nodes, which needs an address there."""
    if use in (None, "external"):
        where = "in no network of the overcloud" if use is None else "in Neutron's own network"
        remedy = "Take the internal VIP for both, or an address of the network of role api."
        yield Fault("vips.external", f"the external VIP {vip} is {where}", remedy)
        return
    for node in facts.of("network"):
        if use not in node.wires:
            says = f"{node.name} is not in the network of role {use}, where the external VIP is"
            yield Fault("networks", says, "Take a layout that has it there.")


def _taken(facts: OvercloudFacts, name: str, vip: str) -> Iterator[Fault]:
    for whose in [*_pools(facts, vip), *_ends(facts, vip), *_owners(facts, vip)]:
        remedy = "Take an address that is in no pool and that nobody has."
        yield Fault(f"vips.{name}", f"the {name} VIP {vip} is {whose}", remedy)


def _pools(facts: OvercloudFacts, vip: str) -> Iterator[str]:
    for net in facts.networks.values():
        for pool in net.pools:
            if Range.of(vip).overlaps(Range.of(pool)):
                yield f"in the pool {pool} of {net.name}"
    for served in facts.dhcp:
        if Range.of(vip).overlaps(Range.of(served)):
            yield f"in {served}, which Seed gives away by DHCP"


def _ends(facts: OvercloudFacts, vip: str) -> Iterator[str]:
    for net in facts.networks.values():
        if not net.cidr:
            continue
        whole = ip_network(net.cidr)
        ends = (str(whole.network_address), str(whole.broadcast_address), net.gateway)
        if vip in ends:
            yield f"the gateway, or the first or last of {net.cidr}"


def _owners(facts: OvercloudFacts, vip: str) -> Iterator[str]:
    for node in facts.nodes:
        if vip in {node.reached, *(wire.bare for wire in node.wires.values())}:
            yield f"{node.name}'s own"


def dhcp(facts: OvercloudFacts) -> Iterator[Fault]:
    """The overcloud's Ironic serves DHCP on the network of role api (ironic_dnsmasq_interface)."""
    ranges = Options.model_validate(facts.options).ironic_dnsmasq_dhcp_ranges
    if "ironic" in facts.services and not ranges:
        says = "ironic has no range of addresses to serve by DHCP"
        yield Fault(RANGES, says, 'Write [{"range": "FIRST,LAST"}].')
    if ranges and "ironic" not in facts.services:
        yield Fault(RANGES, "nobody serves these ranges", "Add ironic to services.")
    for one in ranges:
        yield from _served(facts, one.range)


def _served(facts: OvercloudFacts, text: str) -> Iterator[Fault]:
    try:
        asked = Range.of("-".join(text.split(",")[:2]))
    except ValueError:
        asked = Range(4, 1, 0)
    if asked.first > asked.last:
        yield Fault(RANGES, f"{text} is no range", 'Write "range": "FIRST,LAST".')
        return
    for other, whose in _given(facts):
        if asked.overlaps(Range.of(other)):
            says = f"the range {text} overlaps {other}, which {whose}"
            yield Fault(RANGES, says, "Take addresses that nobody else gives away.")


def _given(facts: OvercloudFacts) -> Iterator[tuple[str, str]]:
    yield from ((served, "Seed itself serves by DHCP") for served in facts.dhcp)
    for net in facts.networks.values():
        yield from ((pool, f"is a pool of {net.name}") for pool in net.pools)
    yield from ((vip, f"is the {name} VIP") for name, vip in facts.vips.items() if vip)
