"""What Kayobe is told of a node's interfaces: variables, each with the network's name before it."""

from typing import Any, Final

from provisioning.installers import USES, NodeFacts, OvercloudFacts, Use, Wire

NETS: Final[dict[Use, str]] = {
    "api": "api_net", "tunnel": "tunnel_net", "storage": "storage_net", "external": "external_net",
}  # fmt: skip
"""Seed's own names of networks need not be names of variables."""


def interfaces(facts: OvercloudFacts, node: NodeFacts) -> dict[str, Any]:
    """network_interfaces: the networks that it is in, and those that only carry others."""
    told: dict[str, Any] = {}
    names: list[str] = []
    for use in USES:
        if use in node.wires and use in facts.networks:
            wire, vlan = node.wires[use], facts.networks[use].vlan
            told |= _network(NETS[use], wire, vlan)
            names.append(NETS[use])
            if wire.bridge and wire.tagged:
                told |= _port(NETS[use], wire, vlan, facts.networks[use].mtu)
                names.append(f"{NETS[use]}_port")
    for link, mtu in _carriers(facts, node).items():
        told |= _carrier(link, mtu)
        names.append(f"{link.interface}_link")
    return {"network_interfaces": names} | told


def _network(net: str, wire: Wire, vlan: int) -> dict[str, Any]:
    told: dict[str, Any] = {f"{net}_interface": wire.interface}
    if wire.bridge:
        told[f"{net}_bridge_ports"] = [_tagged(wire, vlan) if wire.tagged else wire.link]
    elif wire.tagged and wire.interface != _tagged(wire, vlan):
        told[f"{net}_parent"] = wire.link
    elif not wire.tagged and wire.bond_mode:
        told |= _bond(net, wire)
    return told | ({} if wire.address else {f"{net}_no_ip": True})


def _tagged(wire: Wire, vlan: int) -> str:
    return f"{wire.link}.{vlan}"


def _port(net: str, wire: Wire, vlan: int, mtu: int) -> dict[str, Any]:
    """The VLAN below a bridge, which Kayobe wants as a network of another name."""
    return {
        f"{net}_port_interface": _tagged(wire, vlan), f"{net}_port_vlan": vlan,
        f"{net}_port_mtu": mtu, f"{net}_port_no_ip": True,
    }  # fmt: skip


def _bond(net: str, wire: Wire) -> dict[str, Any]:
    return {f"{net}_bond_slaves": [*wire.nics], f"{net}_bond_mode": wire.bond_mode}


def _carriers(facts: OvercloudFacts, node: NodeFacts) -> dict[Wire, int]:
    """Bonds that have no network of their own, untagged: with the largest MTU of what they bear."""
    wires = [(node.wires[use], facts.networks[use].mtu) for use in USES
             if use in node.wires and use in facts.networks]  # fmt: skip
    whole = {wire.link for wire, _ in wires if not wire.tagged and not wire.bridge}
    found: dict[Wire, int] = {}
    for wire, mtu in wires:
        if wire.bond_mode and wire.link not in whole:
            link = Wire(wire.link, link=wire.link, nics=wire.nics, bond_mode=wire.bond_mode)
            found[link] = max(mtu, found.get(link, 0))
    return found


def _carrier(link: Wire, mtu: int) -> dict[str, Any]:
    net = f"{link.interface}_link"
    told = {f"{net}_interface": link.interface, f"{net}_mtu": mtu, f"{net}_no_ip": True}
    return told | _bond(net, link)
