"""OpenStack-Ansible: what goes to /etc/openstack_deploy. People run it from a host of theirs.

Names are those of openstack/openstack-ansible at 79d29b9, where groups got underscores:
etc/openstack_deploy/openstack_user_config.yml.prod.example and inventory/env.d/{neutron,nova,
placement,shared-infra,pkg_repo,magnum}.yml (barbican.yml at 4d7968e, haproxy.yml at c5fbcbf); what
is refused: osa_toolkit/generate.py. used_ips: osa_toolkit/ip.py at 8c97433. haproxy_keepalived_*:
inventory/group_vars/haproxy/keepalived.yml at 0adc8fc; TLS on the internal VIP: doc/source/user/
security/ssl-certificates.rst at 00220d1. provider_networks: plugins/modules/provider_networks.py of
openstack/openstack-ansible-plugins at 441a0bd; OVN and neutron_provider_networks of one host:
doc/source/app-ovn.rst of openstack/openstack-ansible-os_neutron at 3d9a20b.
"""

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, Final

from provisioning.installers import Format, NetFacts, NodeFacts, OvercloudFacts, Use, _checks
from provisioning.installers._documents import dumped
from provisioning.installers._openstack_ansible import readme
from provisioning.kinds import Fault, part
from provisioning.targets import PartSpec

QUEUES: Final[dict[Use, str]] = {"api": "management", "tunnel": "tunnel", "storage": "storage"}
"""A use -> what OpenStack-Ansible calls its network, and takes containers' addresses from."""
BRIDGES: Final[dict[Use, str]] = {"api": "br-mgmt", "tunnel": "br-vxlan", "storage": "br-storage"}
OUTSIDE, PHYSNET, VNIS = "br-ex", "physnet1", "1:1000"
"""OUTSIDE: a bridge of Open vSwitch, which OpenStack-Ansible makes by itself."""
OUTSIDERS: Final = {"network", "compute"}
"""Roles whose nodes give Open vSwitch what they have on the outside: it has no address then."""
CONTROL: Final = (
    "shared_infra_hosts", "coordination_hosts", "repo_infra_hosts", "load_balancer_hosts",
    "identity_hosts", "image_hosts", "placement_infra_hosts", "compute_infra_hosts",
    "network_infra_hosts", "network_northd_hosts",
)  # fmt: skip
SERVICES: Final = {
    "barbican": "key_manager_hosts", "heat": "orchestration_hosts", "horizon": "dashboard_hosts",
    "magnum": "magnum_infra_hosts",
}  # fmt: skip
OLDEST: Final = "2026.1"
"""Releases before it were not looked at: some have groups with a dash."""
RELEASE: Final = re.compile(r"20[0-9]{2}\.[12]")
LONGEST_NAME: Final = 52 - len("-neutron-ovn-northd-container")
"""osa_toolkit names a container after its host and its group, and takes 52 characters."""
PER_HOST: Final[dict[Use, int]] = {"api": 20, "storage": 4}
"""Containers that one control node may have with an address there, generously."""


class OpenStackAnsible(Format):
    name = "openstack-ansible"
    services = frozenset(SERVICES)

    def faults(self, facts: OvercloudFacts) -> list[Fault]:
        found = [
            *_checks.missing(facts, ("control", "network", "compute"), "OpenStack-Ansible"),
            *_checks.wanted_nets(facts, ("api", "tunnel"), "OpenStack-Ansible"),
            *_words(facts),
        ]
        if found:
            return found
        bridges = [fault for node in facts.nodes for fault in _bridges(facts, node)]
        return [*bridges, *_outside(facts), *_checks.vips(facts), *_outer_vip(facts), *_room(facts)]

    def tree(self, facts: OvercloudFacts, secrets: dict[str, str]) -> list[PartSpec]:
        """/etc/openstack_deploy, but for user_secrets.yml: pw-token-gen.py fills that one."""
        texts = {
            "openstack_user_config.yml": dumped(_user_config(facts)),
            "user_variables.yml": dumped(_user_variables(facts)),
            "README.txt": readme(facts, OLDEST),
        }
        return [part(path, text) for path, text in texts.items()]


PLUGIN = OpenStackAnsible()


# --- openstack_user_config.yml --------------------------------------------------------------------


def _user_config(facts: OvercloudFacts) -> dict[str, Any]:
    cidrs = {queue: str(_checks.net4(facts, use)) for use, queue in _queues(facts)}
    overrides = {
        "internal_lb_vip_address": facts.vips["internal"],
        "external_lb_vip_address": _external(facts),
        "management_bridge": BRIDGES["api"],
        "provider_networks": [{"network": net} for net in _provider_networks(facts)],
    }
    used = [ip for use, _ in _queues(facts) for ip in used_ips(facts, use)]
    told = {"cidr_networks": cidrs, "used_ips": used, "global_overrides": overrides}
    return told | _groups(facts)


def _queues(facts: OvercloudFacts) -> list[tuple[Use, str]]:
    return [(use, queue) for use, queue in QUEUES.items() if _checks.net4(facts, use)]


def _external(facts: OvercloudFacts) -> str:
    return facts.vips.get("external") or facts.vips["internal"]


def used_ips(facts: OvercloudFacts, use: Use) -> list[str]:
    """What is no container's there: "address" or "first,last"."""
    net = facts.networks[use]
    single = {net.gateway, *net.vips.values(), *facts.vips.values(), *net.dns, *net.ntp}
    single |= {node.wires[use].bare for node in facts.nodes if use in node.wires}
    spans = [*net.pools, *facts.dhcp]
    alone = [one for one in single if one and not any(_checks.within(one, s) for s in spans)]
    inside = [f"{one}-{one}" for one in alone] + spans
    cidr = _checks.net4(facts, use)
    found = {
        tuple(int(ip_address(end)) for end in span.split("-"))
        for span in inside
        if cidr and any(ip_address(end) in cidr for end in span.split("-"))
    }
    ends = [[str(ip_address(end)) for end in pair] for pair in sorted(found)]
    return [first if first == last else f"{first},{last}" for first, last in ends]


def _provider_networks(facts: OvercloudFacts) -> Iterator[dict[str, Any]]:
    yield _network(facts, "api", "eth1", {
        "type": "raw", "group_binds": ["all_containers", "hosts"], "is_management_address": True,
    })  # fmt: skip
    yield _network(facts, "tunnel", "eth10", {
        "type": "geneve", "range": VNIS, "net_name": "geneve",
        "group_binds": ["neutron_ovn_controller"],
    })  # fmt: skip
    if _checks.net4(facts, "storage"):
        binds = ["glance_api", "cinder_api", "cinder_volume", "nova_compute"]
        yield _network(facts, "storage", "eth2", {"type": "raw", "group_binds": binds})
    if "external" in facts.networks:
        yield _flat(facts)


def _network(
    facts: OvercloudFacts, use: Use, interface: str, more: dict[str, Any]
) -> dict[str, Any]:
    """interface: what a container calls it."""
    return {
        "container_bridge": BRIDGES[use], "container_type": "veth",
        "container_interface": interface, "ip_from_q": QUEUES[use],
    } | _mtu(facts.networks[use]) | more  # fmt: skip


def _mtu(net: NetFacts) -> dict[str, str]:
    return {} if net.mtu == 1500 else {"container_mtu": str(net.mtu)}


def _flat(facts: OvercloudFacts) -> dict[str, Any]:
    """The outside. Where computes have no wire there, the gateways alone know it."""
    everywhere = all("external" in node.wires for node in facts.of("compute"))
    told: dict[str, Any] = {
        "container_bridge": OUTSIDE, "container_type": "veth", "container_interface": "eth12",
        "type": "flat", "net_name": PHYSNET,
        "group_binds": ["neutron_ovn_controller" if everywhere else "neutron_ovn_gateway"],
    }  # fmt: skip
    links = _outside_links(facts)
    return told | ({"network_interface": links.pop()} if len(links) == 1 else {})


def _outside_links(facts: OvercloudFacts) -> set[str]:
    nodes = [*facts.of("network"), *facts.of("compute")]
    return {node.wires["external"].interface for node in nodes if "external" in node.wires}


def _groups(facts: OvercloudFacts) -> dict[str, Any]:
    control = facts.of("control")
    groups = dict.fromkeys(CONTROL, control)
    groups |= {SERVICES[one]: control for one in sorted(facts.services) if one in SERVICES}
    groups |= {"network_gateway_hosts": facts.of("network"), "compute_hosts": facts.of("compute")}
    if storage := facts.of("storage"):
        groups |= {"storage_infra_hosts": control, "storage_hosts": storage}
    differ = len(_outside_links(facts)) > 1
    return {
        group: {node.name: _host(node, differ) for node in nodes}
        for group, nodes in groups.items()
    }  # fmt: skip


def _host(node: NodeFacts, differ: bool) -> dict[str, Any]:
    """differ: the outside's interface has not one name everywhere."""
    told: dict[str, Any] = {"ip": node.wires["api"].bare}
    wire = node.wires.get("external")
    if differ and wire and OUTSIDERS & {*node.roles}:
        told["host_vars"] = {
            "neutron_provider_networks": {
                "network_types": "geneve,flat",
                "network_geneve_ranges": VNIS,
                "network_flat_networks": PHYSNET,
                "network_mappings": f"{PHYSNET}:{OUTSIDE}",
                "network_interface_mappings": f"{OUTSIDE}:{wire.interface}",
            }
        }
    return told


# --- user_variables.yml ---------------------------------------------------------------------------


def _user_variables(facts: OvercloudFacts) -> dict[str, Any]:
    internal, external = facts.vips["internal"], _external(facts)
    told: dict[str, Any] = {
        "install_method": "source",
        "neutron_plugin_type": "ml2.ovn",
        "neutron_plugin_base": ["ovn-router"],
        "neutron_ml2_drivers_type": "geneve,flat" if "external" in facts.networks else "geneve",
        "haproxy_keepalived_internal_vip_cidr": f"{internal}/32",
        "haproxy_keepalived_internal_interface": BRIDGES["api"],
        "haproxy_keepalived_external_vip_cidr": f"{external}/32",
        "haproxy_keepalived_external_interface": _outer_interface(facts),
    }
    if internal == external:
        # One address speaks one protocol.
        told |= {
            "openstack_service_adminuri_proto": "https",
            "openstack_service_internaluri_proto": "https",
            "haproxy_ssl_all_vips": True,
        }
    return told


def _outer_interface(facts: OvercloudFacts) -> str:
    """What has the network of the external VIP on control nodes; empty: not one name on all."""
    use = _checks.home(facts, _external(facts))
    control = facts.of("control")
    switched = any(OUTSIDERS & {*node.roles} for node in control)
    if use is None or (use == "external" and switched):
        return ""
    wires = [node.wires.get(use) for node in control]
    names = {wire.interface if wire and wire.address else "" for wire in wires}
    return names.pop() if len(names) == 1 else ""


# --- faults ---------------------------------------------------------------------------------------


def _words(facts: OvercloudFacts) -> Iterator[Fault]:
    for option in facts.options:
        says = f"options.{option} is nothing that openstack-ansible knows"
        yield Fault(f"options.{option}", says, "Leave it out: it has no options.")
    if facts.release and (not RELEASE.fullmatch(facts.release) or facts.release < OLDEST):
        says = f"release {facts.release!r} is not {OLDEST} or later"
        yield Fault("release", says, f"Write {OLDEST}, or leave it out.")
    count = len(facts.of("control"))
    if count and count % 2 == 0:
        says = f"{count} control nodes cannot agree once half of them are gone"
        yield Fault("control.count", says, "Take 1, 3 or 5.")
    for node in facts.of("control"):
        if len(node.name) > LONGEST_NAME:
            says = f"{node.name} has more than {LONGEST_NAME} characters, too many for containers"
            yield Fault("name", says, "Give the overcloud a shorter name.")


def _bridges(facts: OvercloudFacts, node: NodeFacts) -> Iterator[Fault]:
    """The bridges that this node has not, or not under their names."""
    for use, bridge in BRIDGES.items():
        if use not in facts.networks or not _needs(node, use):
            continue
        wire, net = node.wires.get(use), facts.networks[use].name
        if wire is None or not wire.address:
            yield from _checks.unreached([node], use)
        elif wire.bridge != bridge:
            says = f"{node.name} has network {net} on {wire.interface}, not on a bridge {bridge}"
            remedy = f"Put `bridge: {bridge}` into its layout at {net}: `seed layout put FILE`."
            yield Fault(f"networks.{use}", says, remedy)


def _needs(node: NodeFacts, use: Use) -> bool:
    wanted = {"tunnel": {"network", "compute"}, "storage": {"control", "compute", "storage"}}
    return use == "api" or bool(wanted[use] & {*node.roles})


def _outside(facts: OvercloudFacts) -> Iterator[Fault]:
    """Open vSwitch takes a NIC, a bond or a VLAN into its bridge."""
    if "external" not in facts.networks:
        return
    net = facts.networks["external"].name
    for node in facts.nodes:
        wire = node.wires.get("external")
        if wire is None and "network" in node.roles:
            says = f"{node.name} is a network node without a wire in {net}"
            yield Fault("networks.external", says, f"Put {net} into its layout.")
        elif wire and wire.bridge and OUTSIDERS & {*node.roles}:
            says = f"{node.name} has {net} on the bridge {wire.bridge}, not for Open vSwitch"
            yield Fault("networks.external", says, f"Leave `bridge` out at {net} in its layout.")


def _outer_vip(facts: OvercloudFacts) -> Iterator[Fault]:
    external = _external(facts) if "internal" in facts.vips else ""
    if external and not _outer_interface(facts):
        says = f"the external VIP {external} is in no network that all control nodes have"
        yield Fault("vips.external", says, _checks.REMEDY)


def _room(facts: OvercloudFacts) -> Iterator[Fault]:
    """Containers get addresses of what used_ips leaves."""
    for use, each in PER_HOST.items():
        net = _checks.net4(facts, use)
        if net is None:
            continue
        free = net.num_addresses - 2 - _count(used_ips(facts, use))
        wanted = each * len(facts.of("control"))
        if free < wanted:
            says = f"{net} leaves {max(free, 0)} addresses for containers, {wanted} are wanted"
            yield Fault(f"networks.{use}", says, "Make its pools smaller, or the subnet larger.")


def _count(used: list[str]) -> int:
    """Addresses in these, each once."""
    total, reached = 0, -1
    for one in used:
        first, last = (int(ip_address(end)) for end in (one.split(",") * 2)[:2])
        total += max(0, last - max(first, reached + 1) + 1)
        reached = max(reached, last)
    return total
