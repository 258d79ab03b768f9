"""Drydock's NetworkLinks: which networks share a NIC or bond, and what cannot be.

A network is on one link only (its unique_network_check), a link bears one network without a tag
(doc/source/topology.rst), and its bond is of one of three modes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

from provisioning.installers import NetFacts, NodeFacts, OvercloudFacts, Wire
from provisioning.kinds import Fault

BONDS: Final = {
    "": "disabled", "802.3ad": "802.3ad", "active-backup": "active-backup",
    "balance-rr": "balanced-rr",
}  # fmt: skip
"""networkd's word -> drydock's."""


@dataclass(frozen=True, slots=True)
class Link:
    """name: of its networks, nets. tagged: those that come with a tag. modes: of its bonds."""

    name: str
    nets: tuple[str, ...]
    tagged: frozenset[str]
    modes: frozenset[str]

    @property
    def plain(self) -> list[str]:
        return [net for net in self.nets if net not in self.tagged]


def networks(facts: OvercloudFacts) -> dict[str, NetFacts]:
    """By name: two uses may be of one network. The first is that of the API, where there is one."""
    order = sorted(facts.networks, key=lambda use: use != "api")
    return {facts.networks[use].name: facts.networks[use] for use in order}


def wires(facts: OvercloudFacts, node: NodeFacts) -> dict[str, Wire]:
    """Network's name -> how the node is in it."""
    found: dict[str, Wire] = {}
    for use, wire in node.wires.items():
        if use in facts.networks:
            found.setdefault(facts.networks[use].name, wire)
    return found


def over(wire: Wire) -> str:
    """The NIC or bond that a network comes over."""
    return wire.link or wire.interface


def links(facts: OvercloudFacts) -> list[Link]:
    """What shares a NIC on any node shares its link on all."""
    shared: list[set[str]] = []
    for node in facts.nodes:
        on: dict[str, set[str]] = {}
        for net, wire in wires(facts, node).items():
            on.setdefault(over(wire), set()).add(net)
        for nets in on.values():
            with_it = [one for one in shared if one & nets]
            shared = [one for one in shared if not one & nets] + [nets.union(*with_it)]
    order = [*networks(facts)]
    return [
        _link(facts, [net for net in order if net in nets])
        for nets in sorted(shared, key=lambda nets: min(map(order.index, nets)))
    ]


def _link(facts: OvercloudFacts, nets: list[str]) -> Link:
    told = [pair for node in facts.nodes for pair in wires(facts, node).items() if pair[0] in nets]
    tagged = frozenset(net for net, wire in told if wire.tagged)
    return Link("-".join(nets), tuple(nets), tagged, frozenset(wire.bond_mode for _, wire in told))


def faults(facts: OvercloudFacts) -> Iterator[Fault]:
    if not facts.networks:
        yield Fault("networks", "it has no network", "Name one for api: `seed network list`.")
    for use, net in facts.networks.items():
        if net.cidr and ip_network(net.cidr).version != 4:
            says = f"drydock's ranges are of IPv4, and {net.name} has {net.cidr}"
            yield Fault(f"networks.{use}", says, "Take a network with an IPv4 subnet.")
    for link in links(facts):
        yield from _about_bonds(facts, link)
        yield from _about_tags(facts, link)


def _field(facts: OvercloudFacts, net: str) -> str:
    return next(f"networks.{use}" for use, one in facts.networks.items() if one.name == net)


def _about_bonds(facts: OvercloudFacts, link: Link) -> Iterator[Fault]:
    field = _field(facts, link.nets[0])
    if unknown := sorted(link.modes - BONDS.keys()):
        says = f"drydock has no bond of mode {unknown[0]}, which {link.name} is on"
        known = ", ".join(mode for mode in BONDS if mode)
        yield Fault(field, says, f"Take a layout with one of: {known}.")
    elif len(link.modes) > 1:
        told = " and ".join(BONDS[mode] for mode in sorted(link.modes))
        says = f"nodes have {', '.join(link.nets)} on bonds of different modes: {told}"
        yield Fault(field, says, "Give all of them layouts that bond alike.")


def _about_tags(facts: OvercloudFacts, link: Link) -> Iterator[Fault]:
    for net in link.nets:
        told = [
            (one.name, wires(facts, one)[net]) for one in facts.nodes if net in wires(facts, one)
        ]
        plain = [name for name, wire in told if not wire.tagged]
        if net in link.tagged and plain:
            says = f"{net} is tagged on some nodes and not on {plain[0]}"
            yield Fault(_field(facts, net), says, "Give all of them layouts that tag alike.")
    if len(link.plain) > 1:
        says = f"{' and '.join(link.plain)} share a link without a tag, of which drydock takes one"
        field = _field(facts, link.plain[1])
        yield Fault(field, says, "Give one of them a VLAN, or a NIC of its own.")
