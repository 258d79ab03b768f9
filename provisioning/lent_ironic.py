"""Lent nodes as an overcloud's own Ironic takes them: a file for `baremetal create FILE`.

Keys: python-ironicclient 6.3.0 v1/create_resources.py and each resource's _creation_attributes;
ironic 39.0.0 api/controllers/v1/{node,port,portgroup}.py. Traits are no part of that file: they,
and the way to `available`, are commands beside it. Who makes it, and when, says lent_files.py.
provisioning/intake/baremetal_create.py reads the same form.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml
from netaddr import valid_mac
from sqlmodel import Session, col, select

from provisioning import dress, handout, lent, lent_files, logins, racks
from provisioning.bmc import Access, BmcProtocol, Identity
from provisioning.gives._links import Switch, local_link
from provisioning.handout import HandOutNode
from provisioning.installers import NodeFacts
from provisioning.kinds import DataDisk
from provisioning.lent_files import Export
from provisioning.logins import Trust
from provisioning.models import Bmc, Claim, Credential, Hold, Order
from provisioning.networks import mac
from provisioning.parts import contact_of
from provisioning.states import Borrower, OrderKind

VERIFY: Final = (Trust.OWN, Trust.SEED_CA)


@dataclass(frozen=True, slots=True)
class Place:
    """What only people know of that Ironic. ca_path: where its conductors have FILE.ca.pem.

    physical_network: the wire of all NICs with a cable; empty: none is said. keeps_running: what is
    on the disks stays.
    """

    ca_path: str = "/etc/ironic/seed-bmcs.pem"
    physical_network: str = ""
    keeps_running: bool = False


def export(
    session: Session,
    claim: Claim,
    access: Callable[[Credential], Access],
    protocols: Mapping[str, BmcProtocol],
    who: str,
    place: Place,
    seed_ca: str = "",
) -> Export:
    """Asking is recorded. access: opens a stored login, which needs the master key. Raises Conflict
    while Seed may still act on its nodes."""
    servers = lent.servers(session, claim, Borrower.IRONIC)
    links = _links_of(session, claim)
    nodes = []
    for bmc, node in servers:
        login = access(session.get_one(Credential, bmc.credential_id))
        boot = handout.boot_address(session, bmc.node)
        nics = _Nics(node, switches_of(bmc, node), boot.mac if boot else None, place)
        nodes.append(
            _driver(bmc, login, protocols[bmc.protocol], place)
            | _about(bmc, node)
            | nics.of(links.get(str(bmc.node), []))
        )
    text = yaml.safe_dump({"nodes": nodes}, sort_keys=False, width=1_000_000)
    steps = {"sh": _steps([node for _bmc, node in servers], nodes, place)}
    return lent_files.made(session, claim, Borrower.IRONIC, servers, text, who, seed_ca, steps)


def graduates(session: Session, claim: Claim) -> tuple[NodeFacts, ...]:
    """The same servers without any login, for OvercloudFacts.lent. Raises Conflict as `export`."""
    return tuple(_facts(node) for _bmc, node in lent.servers(session, claim, Borrower.IRONIC))


def _facts(node: HandOutNode) -> NodeFacts:
    return NodeFacts(
        name=node.name, roles=(), node_uuid=str(node.node_uuid), node_name=node.node_name,
        nics=tuple(node.nics), cpus=node.cpus, memory_mib=node.memory_mib, cpu_arch=node.cpu_arch,
        site=node.site, row=node.row, rack=node.rack, unit=node.unit, feed=node.feed,
        resource_class=node.resource_class, labels=dict(node.labels), traits=tuple(node.traits),
        disks=tuple(
            DataDisk(disk.role, disk.wwn, disk.serial, disk.size_bytes) for disk in node.disks
        ),
    )  # fmt: skip


# --- a node ---------------------------------------------------------------------------------------


def _driver(bmc: Bmc, login: Access, protocol: BmcProtocol, place: Place) -> dict[str, Any]:
    """Its verification is never off: what cannot be verified is named, as with Metal3."""
    identity = Identity(serial=bmc.serial, system_uuid=bmc.system_uuid, system_id=bmc.system_id)
    info = protocol.driver_info(contact_of(bmc), identity, login, place.ca_path)
    if "redfish_verify_ca" in info:
        info["redfish_verify_ca"] = place.ca_path if bmc.trust in VERIFY else True
    if "ipmi_cipher_suite" in info:
        info["ipmi_cipher_suite"] = logins.cipher_suite(bmc)
    return {"driver": protocol.driver, "driver_info": info}


def _about(bmc: Bmc, node: HandOutNode) -> dict[str, Any]:
    return {
        "name": node.name,
        "uuid": str(node.node_uuid),
        "description": f"{node.node_name}, serial {bmc.serial}",
        "resource_class": node.resource_class,
        "properties": _properties(bmc, node),
    }


def _properties(bmc: Bmc, node: HandOutNode) -> dict[str, Any]:
    root = next((disk for disk in node.disks if disk.role == "root"), None)
    told: dict[str, Any] = {
        "cpus": node.cpus,
        "memory_mb": node.memory_mib,
        "cpu_arch": node.cpu_arch,
        "local_gb": max(0, root.size_bytes // 2**30 - 1) if root else 0,
    }
    if root and (root.serial or root.wwn):
        told["root_device"] = {"serial": root.serial} if root.serial else {"wwn": root.wwn}
    mode = {"boot_mode": bmc.firmware} if bmc.firmware else {}
    wanted = mode | dict(bmc.classed.get("capabilities", {}))
    return dress.with_capabilities({key: value for key, value in told.items() if value}, wanted)


# --- its NICs -------------------------------------------------------------------------------------


def switches_of(bmc: Bmc, node: HandOutNode) -> dict[str, Switch]:
    """Switch -> its chassis' MAC, as its servers hear it by LLDP."""
    heard: dict[str, str] = {}
    for told in racks.told_of(bmc):
        for nic in told.inventory.nics:
            chassis = next((n.chassis for n in nic.neighbours if valid_mac(n.chassis)), "")
            if chassis:
                heard.setdefault(nic.mac.lower(), mac(chassis))
    return {nic.switch: Switch(mac=heard[nic.mac]) for nic in node.nics if nic.mac in heard}


@dataclass(frozen=True, slots=True)
class _Nics:
    node: HandOutNode
    switches: Mapping[str, Switch]
    boots: str | None
    place: Place

    def of(self, links: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """links: of its order; bonds among them become port groups."""
        ports = {nic.mac: self._port(nic.mac) for nic in self.node.nics}
        groups = []
        for link in links:
            members = [ports.pop(m) for m in link.get("bond", {}).get("members", ()) if m in ports]
            if members:
                groups.append(self._group(link, members))
        told = {"portgroups": groups, "ports": list(ports.values())}
        return {key: value for key, value in told.items() if value}

    def _port(self, address: str) -> dict[str, Any]:
        nic = next(nic for nic in self.node.nics if nic.mac == address)
        port: dict[str, Any] = {"address": address}
        if self.boots:
            port["pxe_enabled"] = address == self.boots
        if link := local_link(nic, self.switches):
            port["local_link_connection"] = link
        if self.place.physical_network and nic.switch:
            port["physical_network"] = self.place.physical_network
        return port

    def _group(self, link: Mapping[str, Any], members: list[dict[str, Any]]) -> dict[str, Any]:
        """All ports of a group are in one physical network, or none (Ironic's rule)."""
        nets = {port.get("physical_network") for port in members}
        if len(nets) > 1:
            for port in members:
                port.pop("physical_network", None)
        return {
            "name": f"{self.node.name}-{link.get('name') or 'bond'}",
            "address": link["mac"],
            "mode": link["bond"]["mode"],
            "standalone_ports_supported": True,
            "ports": members,
        }


def _links_of(session: Session, claim: Claim) -> dict[str, list[dict[str, Any]]]:
    """Node -> the links that its last deploy for this claim asked for."""
    held = (Order.node_uuid == Hold.node_uuid) & (Order.generation == Hold.generation)
    query = select(Order).join(Hold, held)  # type: ignore[arg-type]
    mine = query.where(Hold.claim_id == claim.id, Order.kind == OrderKind.DEPLOY)
    orders = session.exec(mine.order_by(col(Order.opened_at))).all()
    return {str(order.node_uuid): list((order.wanted or {}).get("links", [])) for order in orders}


# --- what is done after it ------------------------------------------------------------------------

FRESH: Final = """
baremetal node manage {name} --wait
baremetal node provide {name} --wait
"""
RUNNING: Final = """
baremetal node manage {name} --wait
baremetal node set {name} --no-automated-clean --driver manual-management --reset-interfaces \\
    --power-interface fake --management-interface noop --deploy-interface noop \\
    --network-interface noop
baremetal node provide {name} --wait
# Now make its server in Nova, with its flavor; then:
#   baremetal node maintenance set {name}
#   baremetal node set {name} --driver {driver} --reset-interfaces
#   baremetal node maintenance unset {name}
"""
"""Ironic 39.0.0 doc/source/admin/adoption.rst, "Adoption with Nova", with its `noop` deploy
interface in a fake one's place: of its hardware types only manual-management supports that.
Interfaces of an active node can be set in maintenance alone (conductor/manager.py update_node)."""


def _steps(servers: Sequence[HandOutNode], nodes: Sequence[Mapping[str, Any]], place: Place) -> str:
    lines = ["# After: baremetal create FILE", "set -e"]
    for server, node in zip(servers, nodes, strict=True):
        if server.traits:
            lines.append(f"baremetal node add trait {server.name} {' '.join(server.traits)}")
        form = RUNNING if place.keeps_running else FRESH
        lines.append(form.format(name=server.name, driver=node["driver"]).strip("\n"))
    return "\n".join(lines) + "\n"
