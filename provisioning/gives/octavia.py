"""Octavia's management network: where amphorae and its controllers meet, for Kolla and without.

One of Seed's networks is the provider network of amphorae, too: by its VLAN, or untagged. Amphorae
get addresses of a pool that Seed keeps nothing in. Keys: kolla-ansible 22.2.0 ansible/group_vars/
all/octavia.yml, ansible/roles/octavia/defaults/main.yml (octavia_amp_network); octavia 19.0.0
octavia/common/config.py. Where an interface is the same on all control nodes it is in globals.
"""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, Final

from pydantic import StringConstraints

from provisioning import gives
from provisioning.gives import Give, Wish
from provisioning.installers import NetFacts, NodeFacts, OvercloudFacts, Use
from provisioning.targets import PartSpec

PORT: Final = 5555
"""Octavia's own, of heartbeats."""
Range = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F.:]{2,45}-[0-9a-fA-F.:]{2,45}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Octavia(Wish):
    """network: by its use. pool: "first-last", amphorae's. physical_network: as Neutron calls the
    wire that this network is on.
    """

    network: Use = "api"
    pool: Range | None = None
    physical_network: Name = "physnet1"


Addresses = tuple[int, int]


def lacks(facts: OvercloudFacts) -> str:
    wish = gives.wish(facts, "octavia", Octavia)
    net = facts.networks.get(wish.network)
    if net is None or not net.cidr:
        return f"it has no network for {wish.network} with a subnet"
    if not facts.of("control"):
        return "it has no control node"
    for node in facts.of("control"):
        if not _address(node, wish):
            return f"{node.name} has no address in {net.name}"
    if wish.pool is None:
        return f"nobody said which addresses of {net.name} amphorae get: octavia.pool"
    return _lacks_room(facts, net, wish.pool)


def _lacks_room(facts: OvercloudFacts, net: NetFacts, pool: str) -> str:
    wanted, whole = _span(pool), ip_network(net.cidr)
    if wanted is None:
        return f"{pool} is no range of addresses"
    first, last = (ip_address(text) for text in pool.split("-"))
    if first not in whole or last not in whole:
        return f"{pool} is not in {net.cidr}"
    met = (what for what, text in _taken(facts, net) if _meet(wanted, text))
    return next((f"{pool} has {what} in it" for what in met), "")


def _taken(facts: OvercloudFacts, net: NetFacts) -> Iterator[tuple[str, str]]:
    yield from ((f"Seed's pool {text}", text) for text in net.pools)
    yield from ((f"Seed's DHCP {text}", text) for text in facts.dhcp)
    one = [("the gateway", net.gateway), *(("a VIP", ip) for ip in net.vips.values())]
    one += [("a VIP", ip) for ip in facts.vips.values()]
    one += [(node.name, wire.bare) for node in facts.nodes for wire in node.wires.values()]
    yield from ((what, f"{ip}-{ip}") for what, ip in one if ip)


def _span(text: str) -> Addresses | None:
    first, _, last = text.partition("-")
    try:
        one, other = ip_address(first), ip_address(last)
    except ValueError:
        return None
    in_order = one.version == other.version and int(one) <= int(other)
    return (int(one), int(other)) if in_order else None


def _meet(wanted: Addresses, text: str) -> bool:
    other = _span(text)
    return other is not None and wanted[0] <= other[1] and other[0] <= wanted[1]


def files(facts: OvercloudFacts) -> list[PartSpec]:
    wish = gives.wish(facts, "octavia", Octavia)
    controls = facts.of("control")
    interfaces = {node.name: node.wires[wish.network].interface for node in controls}
    words: dict[str, Any] = {
        "enable_octavia": True,
        "octavia_network_type": "provider",
        "octavia_amp_network": _network(facts.networks[wish.network], wish),
    }
    found = []
    if len(set(interfaces.values())) == 1:
        words["octavia_network_interface"] = next(iter(interfaces.values()))
    else:
        for name, interface in interfaces.items():
            told = gives.as_yaml(facts, {"octavia_network_interface": interface})
            found.append(gives.part(f"kolla/inventory/host_vars/{name}/octavia.yml", told))
    text = gives.as_yaml(facts, words, hint="/etc/kolla/globals.d/octavia.yml")
    found.insert(0, gives.part("kolla/globals.d/octavia.yml", text))
    return [*found, *(_plain(facts, node, wish) for node in controls)]


def _network(net: NetFacts, wish: Octavia) -> dict[str, Any]:
    first, _, last = (wish.pool or "").partition("-")
    subnet: dict[str, Any] = {
        "name": "lb-mgmt-subnet",
        "cidr": net.cidr,
        "ip_version": ip_network(net.cidr).version,
        "allocation_pool_start": first,
        "allocation_pool_end": last,
        "enable_dhcp": True,
    }
    subnet |= {"gateway_ip": net.gateway} if net.gateway else {"no_gateway_ip": True}
    kind: dict[str, Any] = {"provider_network_type": "flat"}
    if net.vlan:
        kind = {"provider_network_type": "vlan", "provider_segmentation_id": net.vlan}
    return {
        "name": "lb-mgmt-net",
        **kind,
        "provider_physical_network": wish.physical_network,
        "mtu": net.mtu,
        "external": False,
        "shared": False,
        "subnet": subnet,
    }


def _plain(facts: OvercloudFacts, node: NodeFacts, wish: Octavia) -> PartSpec:
    """The network's and security group's ids are Neutron's: they are not known before."""
    heard = [f"{_in_url(_address(one, wish))}:{PORT}" for one in facts.of("control")]
    sections = {
        "health_manager": [
            ("bind_ip", _address(node, wish)),
            ("bind_port", str(PORT)),
            ("controller_ip_port_list", ",".join(heard)),
        ]
    }
    hint = "Add [controller_worker] amp_boot_network_list and amp_secgroup_list: Neutron's ids."
    return gives.part(f"octavia/{node.name}/octavia.conf", gives.as_ini(facts, sections, hint=hint))


def _address(node: NodeFacts, wish: Octavia) -> str:
    return node.wires[wish.network].bare if wish.network in node.wires else ""


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


PLUGIN = Give("octavia", "Octavia's management network, for Kolla and octavia.conf", files, lacks)
