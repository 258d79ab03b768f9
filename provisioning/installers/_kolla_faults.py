"""What Kolla-Ansible cannot make an OpenStack of. Prechecks would say some of it, on nodes that are
installed by then; all of it here is known before."""

from collections.abc import Iterator
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Final

from pydantic import ValidationError

from provisioning.installers import ROLES, NodeFacts, OvercloudFacts, Use, _kolla_addresses
from provisioning.installers import _kolla_options as known
from provisioning.installers._kolla_options import RELEASE, SERVICES, Options
from provisioning.kinds import Fault

RESERVED: Final = frozenset({*ROLES, "localhost", "deployment", "baremetal", "all"})
"""Names of Kolla's groups: Ansible takes a host of the same name for both."""


def all_of(facts: OvercloudFacts) -> list[Fault]:
    """The others read options and addresses: those first."""
    if first := [*_options(facts), *_addresses(facts)]:
        return first
    found = [*_release(facts), *_services(facts), *_nodes(facts), *_wires(facts)]
    return [*found, *_kolla_addresses.vips(facts), *_kolla_addresses.dhcp(facts)]


def _options(facts: OvercloudFacts) -> Iterator[Fault]:
    try:
        Options.model_validate(facts.options)
    except ValidationError as problem:
        for error in problem.errors():
            field = ".".join(str(word) for word in ("options", *error["loc"]))
            remedy = f"kolla-ansible knows {', '.join(Options.model_fields)}."
            yield Fault(field, f"{field} is not as it must be: {error['msg']}", remedy)


def _addresses(facts: OvercloudFacts) -> Iterator[Fault]:
    """Of networks, they are Seed's own; of VIPs, one may be missing."""
    for name in ("internal", "external"):
        vip = facts.vips.get(name, "")
        if (vip or name == "internal") and not _is_address(vip):
            says = f"the {name} VIP {vip!r} is no address"
            yield Fault(f"vips.{name}", says, "Give one of the network of role api, such as its .5")
    if "api" not in facts.networks or not facts.networks["api"].cidr:
        says = "no network with addresses has the role api"
        yield Fault("networks", says, "Take a layout with one.")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _release(facts: OvercloudFacts) -> Iterator[Fault]:
    if facts.release not in ("", RELEASE):
        says = f"OpenStack {facts.release} is not what Seed writes Kolla-Ansible's files for"
        yield Fault("release", says, f'Take release: "{RELEASE}", or leave it out.')
    host = facts.registry
    if host and not known.REGISTRY.fullmatch(host):
        says = f"{host!r} is no registry: Kolla-Ansible wants it without scheme and path"
        yield Fault("registry", says, "Write HOST:PORT.")


def _services(facts: OvercloudFacts) -> Iterator[Fault]:
    for name in sorted(set(facts.services) - SERVICES):
        near = get_close_matches(name.replace("-", "_"), SERVICES, 3, 0.6)
        remedy = known.DROPPED.get(name) or (
            f"Take {' or '.join(near)}." if near else f"It knows {', '.join(sorted(SERVICES))}."
        )
        yield Fault("services", f"Kolla-Ansible {RELEASE} has no service {name!r}", remedy)
    for name in sorted({*facts.services} & {*Options.model_validate(facts.options).without}):
        says = f"{name} is among services and among options.without"
        yield Fault("options.without", says, f"Take {name} out of one of them.")
    if "neutron_agent_ha" in facts.services and len(facts.of("network")) < 2:
        says = "neutron_agent_ha wants two network nodes"
        yield Fault("network.count", says, "Ask for 2, or take it out of services.")
    yield from _cinder(facts)


def _cinder(facts: OvercloudFacts) -> Iterator[Fault]:
    if "cinder_backend_lvm" not in facts.services:
        return
    nodes = facts.of("storage")
    bare = [node.name for node in nodes if not node.disks]
    if bare or not nodes:
        says = "no node has the role storage" if not nodes else f"{bare[0]} has no disk of its own"
        remedy = "Ask for a data disk in the group of role storage."
        yield Fault("services", f"cinder_backend_lvm has no room: {says}", remedy)


def _nodes(facts: OvercloudFacts) -> Iterator[Fault]:
    count = len(facts.of("control"))
    if count % 2 == 0:
        says = (
            f"{count} control nodes cannot outvote each other: MariaDB and RabbitMQ want a quorum"
        )
        yield Fault("control.count", says, f"Take {max(1, count - 1)} or {count + 1}.")
    for role in ("network", "compute"):
        if not facts.of(role):
            says = f"no node has the role {role}"
            yield Fault(f"{role}.count", says, f"Ask for a group of role {role}.")
    for node in facts.nodes:
        if node.name in RESERVED:
            says = f"a node is called {node.name}, as one of Ansible's groups is"
            yield Fault("name", says, "Take another name for the overcloud.")


def _wires(facts: OvercloudFacts) -> Iterator[Fault]:
    outside = {"network", *(("compute",) if known.BRIDGED & {*facts.services} else ())}
    for node in facts.nodes:
        yield from _addressed(node, "api")
        if "tunnel" in facts.networks and {"network", "compute"} & {*node.roles}:
            yield from _addressed(node, "tunnel")
        if outside & {*node.roles}:
            yield from _external(node, "external" in facts.networks)
        for use, wire in node.wires.items():
            if len(wire.interface) > known.NIC_LONGEST:
                says = f"{wire.interface} of {node.name} is longer than Linux allows"
                remedy = f"Take a layout whose names have {known.NIC_LONGEST} letters at most."
                yield Fault("networks", f"{says}, in the network of role {use}", remedy)


def _addressed(node: NodeFacts, use: Use) -> Iterator[Fault]:
    """In a plan nobody has an address yet."""
    wire = node.wires.get(use)
    if wire is None or (node.reached and not wire.address):
        lacks = "is not in" if wire is None else "has no address in"
        says = f"{node.name} {lacks} the network of role {use}"
        yield Fault("networks", says, f"Take a layout that has {use} on all nodes.")


def _external(node: NodeFacts, there: bool) -> Iterator[Fault]:
    """Neutron puts the interface into a bridge of its own, so nothing else may use it."""
    wire = node.wires.get("external")
    if wire is None:
        says = f"{node.name} is to be in Neutron's networks, and in none of role external"
        if not there:
            says += ": the overcloud has none"
        remedy = "Take a layout with a network of role external, without addresses, on these nodes."
        yield Fault("networks", says, remedy)
        return
    if wire.address:
        says = f"{wire.interface} of {node.name} has the address {wire.address}"
        remedy = "Take a layout whose network of role external has no addresses on nodes."
        yield Fault("networks", f"{says}, and Neutron would take it away", remedy)
    if wire.bridge:
        says = f"{wire.bridge} of {node.name} is a bridge, and Neutron has its own"
        yield Fault("networks", says, "Take a layout with external on a NIC, a bond or a VLAN.")
    for use, other in node.wires.items():
        if use != "external" and other.interface == wire.interface:
            says = f"{wire.interface} of {node.name} is in the networks of role external and {use}"
            yield Fault("networks", says, "Take a layout with a NIC or a VLAN for external alone.")
