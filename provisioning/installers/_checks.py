"""What several formats refuse in the same words."""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, ip_address, ip_network

from provisioning.installers import USES, NodeFacts, OvercloudFacts, Role, Use
from provisioning.kinds import Fault


def missing(facts: OvercloudFacts, roles: Iterable[Role], whose: str) -> Iterator[Fault]:
    """Roles that no node has."""
    for role in roles:
        if not facts.of(role):
            says = f"no node has the role {role}, and {whose} needs one"
            yield Fault(role, says, f"Ask for {role} with a count of 1 or more.")


def net4(facts: OvercloudFacts, use: Use) -> IPv4Network | None:
    """None: there is no such network, or it has no IPv4 subnet."""
    cidr = facts.networks[use].cidr if use in facts.networks else ""
    net = ip_network(cidr) if cidr else None
    return net if isinstance(net, IPv4Network) else None


def wanted_nets(facts: OvercloudFacts, uses: Iterable[Use], whose: str) -> Iterator[Fault]:
    """Uses that have no network with an IPv4 subnet."""
    for use in uses:
        if net4(facts, use) is None:
            says = f"no network with an IPv4 subnet is for {use}, and {whose} needs one"
            remedy = "Give a network of the overcloud's an IPv4 subnet and this use."
            yield Fault(f"networks.{use}", says, remedy)


def unreached(nodes: Iterable[NodeFacts], use: Use) -> Iterator[Fault]:
    """Nodes without an address in this network."""
    for node in nodes:
        if use not in node.wires or not node.wires[use].address:
            says = f"{node.name} has no address in the network for {use}"
            remedy = "Put that network, with pools, into the layout: `seed layout put FILE`."
            yield Fault(f"networks.{use}", says, remedy)


def vips(facts: OvercloudFacts) -> Iterator[Fault]:
    """VIPs that somebody else has, or may get. The internal one must be in the network for api."""
    internal, api = facts.vips.get("internal", ""), net4(facts, "api")
    if not internal:
        yield Fault("vips.internal", "there is no internal VIP", REMEDY)
    elif api is not None and ip_address(internal) not in api:
        says = f"the internal VIP {internal} is not in {api}, the network for api"
        yield Fault("vips.internal", says, REMEDY)
    for name, vip in facts.vips.items():
        if vip and (taken := taken_by(facts, vip)):
            says = f"the {name} VIP {vip} is {taken}"
            yield Fault(f"vips.{name}", says, REMEDY)


REMEDY = "Name a VIP of the network for api, outside of its pools: `seed network put FILE`."


def taken_by(facts: OvercloudFacts, vip: str) -> str:
    """Who has this address, in words; empty: nobody."""
    for node in facts.nodes:
        if vip in {node.reached, *(wire.bare for wire in node.wires.values())} - {""}:
            return f"the address of {node.name}"
    for net in facts.networks.values():
        if vip == net.gateway:
            return f"the gateway of {net.name}"
        if any(within(vip, pool) for pool in net.pools):
            return f"in a pool of {net.name}, whence nodes get addresses"
    return "in a range that Seed serves by DHCP" if any(within(vip, r) for r in facts.dhcp) else ""


def within(address: str, span: str) -> bool:
    """Whether "first-last" has it."""
    first, last = (ip_address(end) for end in span.split("-"))
    one = ip_address(address)
    if one.version != first.version:
        return False
    return int(first) <= int(one) <= int(last)


def home(facts: OvercloudFacts, vip: str) -> Use | None:
    """The use of the network that this address is in."""
    nets = ((use, net4(facts, use)) for use in USES)
    return next((use for use, net in nets if net and ip_address(vip) in net), None)
