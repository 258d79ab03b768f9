"""Bifrost: its dynamic inventory of an overcloud's nodes, and servers.yml to enrol them elsewhere.

Keys are those of bifrost/inventory.py, release 21.1.0 (_prepare_inventory, _process_baremetal_data)
and of openstack/bifrost doc/source/user/howto.rst at 01d8fca. Nothing of a BMC's is in it: people
add its driver and login, which root on the Seed machine is told.
"""

import json
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address
from typing import Any, Final
from uuid import UUID

from provisioning.handout import HandOut, HandOutNode
from provisioning.installers import Format, NodeFacts, OvercloudFacts
from provisioning.installers._documents import dumped, steps
from provisioning.kinds import Fault, part
from provisioning.renderings import inventory
from provisioning.seats import HandOutDisk
from provisioning.targets import PartSpec

LOCAL: Final = "127.0.0.1"
PROGRAM: Final = """\
#!/bin/sh
# Ansible asks it with --list, and finds each host's variables in the same answer.
exec cat "$(dirname "$0")/inventory.json"
"""
ABOUT: Final = """\
For `bifrost-cli enroll` elsewhere. Add to each server, before anything else:
  driver: redfish, or ipmi
  driver_info: {redfish_address: ..., redfish_username: ..., redfish_password: ...}
`seed bmc list` tells addresses; as root on the Seed machine `seed bmc reveal ADDRESS` tells logins.
"""


class Bifrost(Format):
    name = "bifrost"
    services: frozenset[str] = frozenset()

    def faults(self, facts: OvercloudFacts) -> list[Fault]:
        return [*_faults(facts)]

    def tree(self, facts: OvercloudFacts, secrets: dict[str, str]) -> list[PartSpec]:
        texts = {
            "inventory.json": json.dumps(_inventory(facts), indent=2) + "\n",
            "servers.yml": dumped(_servers(facts), ABOUT),
            "README.txt": _readme(facts),
        }
        found = [part(path, text) for path, text in texts.items()]
        return [*found, part("inventory.sh", PROGRAM, 0o755)]


PLUGIN = Bifrost()


def _address(node: NodeFacts) -> str:
    """Where it is reached: by Seed, else in the network for api. Empty: in a plan."""
    return node.reached or (node.wires["api"].bare if "api" in node.wires else "")


def _inventory(facts: OvercloudFacts) -> dict[str, Any]:
    """The answer to --list: the inventory of hand-outs, and what Bifrost has beside it."""
    told = inventory([_handout(facts)])
    told.pop("project_")  # an export is for no project
    groups: dict[str, Any] = {"localhost": {"hosts": [LOCAL]}}
    hosts = told["_meta"]["hostvars"]
    for node in facts.nodes:
        mine = hosts[node.name]
        del mine["properties"]["disk_size"]  # facts have no root disk
        mine |= _addressed(mine.get("ipv4_address", "")) | _named(node)
        for role in node.roles:
            groups.setdefault(role, {"hosts": []})["hosts"].append(node.name)
    hosts[LOCAL] = {"ansible_connection": "local"}
    return told | groups


def _named(node: NodeFacts) -> dict[str, Any]:
    return {"name": node.name, "host_groups": sorted({"baremetal", *node.roles})}


def _addressed(address: str) -> dict[str, str]:
    if not address:
        return {"addressing_mode": "dhcp"}
    return {"ansible_ssh_host": address, "provisioning_ipv4_address": address}


def _servers(facts: OvercloudFacts) -> dict[str, Any]:
    hosts = _inventory(facts)["_meta"]["hostvars"]
    return {node.name: _server(node, hosts[node.name]) for node in facts.nodes}


def _server(node: NodeFacts, told: dict[str, Any]) -> dict[str, Any]:
    kept = ("uuid", "ipv4_address", "nics", "properties")
    return (
        {"name": node.name, "driver_info": {}}
        | {key: told[key] for key in kept if key in told}
        | ({"resource_class": node.resource_class} if node.resource_class else {})
        | {"host_groups": told["host_groups"]}
    )


def _handout(facts: OvercloudFacts) -> HandOut:
    nodes = [_node(facts, node) for node in facts.nodes]
    return HandOut(claim=facts.name, project="", nodes=nodes)


def _node(facts: OvercloudFacts, node: NodeFacts) -> HandOutNode:
    disks = [
        HandOutDisk(serial=disk.serial, wwn=disk.wwn, size_bytes=disk.size, role=disk.role)
        for disk in node.disks
    ]
    return HandOutNode(
        name=node.name, claim=facts.name, project="", node_uuid=UUID(node.node_uuid),
        node_name=node.node_name, address=_address(node), addresses=[], ssh_user="",
        host_keys=[*node.host_keys], nics=[*node.nics], disks=disks, cpus=node.cpus,
        memory_mib=node.memory_mib, cpu_arch=node.cpu_arch, site=node.site, row=node.row,
        rack=node.rack, unit=node.unit, feed=node.feed, resource_class=node.resource_class,
        labels=node.labels, traits=[*node.traits], lease_end=None, proved_at=None,
    )  # fmt: skip


def _readme(facts: OvercloudFacts) -> str:
    title = f"Bifrost's view of the overcloud {facts.name}"
    return f"{title}\n\n" + steps(
        (
            "To reach the nodes, where they are already installed:",
            "  ansible -i ./inventory.sh baremetal -m ping",
        ),
        (
            "To give them to another Ironic, which Bifrost made: first release them in Seed. Two",
            "Ironics that hold one server switch it off for each other.",
        ),
        (
            "Then add each server's driver and driver_info to servers.yml. Seed exports no login;",
            "as root on the Seed machine, where ADDRESS is a BMC's:",
            "  seed bmc list",
            "  seed bmc reveal ADDRESS",
        ),
        ("And there:", "  ./bifrost-cli enroll servers.yml"),
    )  # fmt: skip


def _faults(facts: OvercloudFacts) -> Iterator[Fault]:
    for option in facts.options:
        says = f"options.{option} is nothing that bifrost knows"
        yield Fault(f"options.{option}", says, "Leave it out: it has no options.")
    macs: dict[str, str] = {}
    for node in facts.nodes:
        if not node.nics:
            says = f"no NIC of {node.name} is known, and Bifrost enrols a server by its MACs"
            yield Fault("nodes", says, "Have it looked at again: `seed node inspect NAME`.")
        address = _address(node)
        if address and not isinstance(ip_address(address), IPv4Address):
            says = f"{node.name} is reached by {address}, and Bifrost knows IPv4 alone"
            yield Fault("networks.api", says, "Give the network for api an IPv4 subnet.")
        for nic in node.nics:
            other = macs.setdefault(nic.mac.lower(), node.name)
            if other != node.name:
                says = f"{node.name} and {other} both tell the MAC {nic.mac}"
                yield Fault("nodes", says, "Look which of them has it: `seed node show NAME`.")
