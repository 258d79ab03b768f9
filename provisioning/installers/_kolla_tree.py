"""Kolla-Ansible's inventory and globals.yml of an overcloud's facts.

Variables are those of ansible/group_vars/all and roles/{cinder,ironic}/defaults of 22.2.0. What is
the same on all nodes is a global, which is an extra variable as the CLI has it (kolla_ansible/
ansible.py) and outweighs all others; what differs is the host's own.
"""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any, Final

import yaml

from provisioning.installers import ROLES, NodeFacts, OvercloudFacts, Use
from provisioning.installers._kolla_options import Options

KNOWN: Final = (
    "-o StrictHostKeyChecking=yes -o UserKnownHostsFile={{ inventory_dir }}/../known_hosts"
)
PYTHON: Final = "/usr/bin/python3"
"""Of the node images. Told for each host: ansible/group_vars/baremetal would look for one."""
INTERFACES: Final[dict[str, Use]] = {
    "network_interface": "api",
    "tunnel_interface": "tunnel",
    "neutron_external_interface": "external",
}
"""Kolla's variable -> the network. Kolla 22 has none for storage: its traffic takes the routes of
the nodes. The others are network_interface unless told."""


def dump(told: dict[str, Any]) -> str:
    return yaml.safe_dump(told, sort_keys=False, width=1_000_000)


def inventory(facts: OvercloudFacts) -> dict[str, Any]:
    """The hosts, and the six groups that people fill in the inventory `multinode`, whose own hosts
    are examples; all other groups are of these (_kolla_project.py)."""
    differing = {name: told for name, told in variables(facts).items() if _shared(told) is None}
    hosts = {
        node.name: _host(node)
        | {name: told[node.name] for name, told in differing.items() if node.name in told}
        for node in facts.nodes
    }
    children: dict[str, Any] = {
        role: {"hosts": {node.name: {} for node in facts.of(role)}} for role in ROLES
    }
    children["deployment"] = {
        "hosts": {
            "localhost": {
                "ansible_connection": "local",
                # The one that has what Kolla's modules import; PATH may have any.
                "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                # Seed's user is nobody with sudo, and all that is written here is its own.
                "ansible_become": False,
            }
        }
    }
    return {"all": {"hosts": hosts, "children": children}}


def _host(node: NodeFacts) -> dict[str, Any]:
    told = {"ansible_host": node.reached} if node.reached else {}
    return told | {
        "ansible_user": "root",
        "ansible_become": True,
        "ansible_python_interpreter": PYTHON,
        "ansible_ssh_common_args": KNOWN,
    }


def variables(facts: OvercloudFacts) -> dict[str, dict[str, str]]:
    """Kolla's variable -> host -> value, of those that may differ from node to node."""
    told = {
        name: {node.name: node.wires[use].interface for node in facts.nodes if use in node.wires}
        for name, use in INTERFACES.items()
    }
    outside = outside_of(facts)
    if outside and outside != "api":
        told["kolla_external_vip_interface"] = {
            node.name: node.wires[outside].interface
            for node in facts.of("network")
            if outside in node.wires
        }
    told["nova_compute_virt_type"] = _virtualization(facts)
    told["openstack_tag_suffix"] = {
        node.name: "-aarch64" if node.cpu_arch == "aarch64" else "" for node in facts.nodes
    }
    return {name: values for name, values in told.items() if any(values.values())}


def _virtualization(facts: OvercloudFacts) -> dict[str, str]:
    """Kolla's own is kvm; a CPU without it can emulate."""
    chosen = Options.model_validate(facts.options).nova_compute_virt_type
    return {
        node.name: chosen or ("qemu" if node.virtualization is False else "kvm")
        for node in facts.of("compute")
    }


def outside_of(facts: OvercloudFacts) -> Use | None:
    """The network that the external VIP is in; None: there is no such VIP of its own, or none."""
    vip = facts.vips.get("external", "")
    if not vip or vip == facts.vips.get("internal"):
        return None
    address = ip_address(vip)
    inside = (
        u for u, net in facts.networks.items() if net.cidr and address in ip_network(net.cidr)
    )
    return next(inside, None)


def _shared(values: dict[str, str]) -> str | None:
    """None: they differ."""
    return next(iter(values.values())) if len(set(values.values())) == 1 else None


def global_variables(facts: OvercloudFacts) -> dict[str, Any]:
    options = Options.model_validate(facts.options)
    told = {
        **_images(facts, options),
        **_addresses(facts, options),
        **{n: one for n, values in variables(facts).items() if (one := _shared(values))},
        "neutron_plugin_agent": options.neutron_plugin_agent,
        "prechecks_enable_host_ntp_checks": None
        if options.prechecks_enable_host_ntp_checks
        else False,
        **dict(_services(facts, options)),
    }
    return {name: value for name, value in told.items() if value is not None}


def _images(facts: OvercloudFacts, options: Options) -> dict[str, Any]:
    told: dict[str, Any] = {
        "kolla_base_distro": options.kolla_base_distro,
        "kolla_container_engine": options.kolla_container_engine,
        "openstack_release": facts.release or None,
        "openstack_tag": options.openstack_tag,
        "docker_namespace": options.docker_namespace,
    }
    if facts.registry:
        told["docker_registry"] = facts.registry
        if options.docker_registry_insecure:
            told["docker_registry_insecure"] = True
            # openstack.kolla's role podman has words of its own (its defaults/main.yml).
            told |= {"podman_registry": facts.registry, "podman_registry_insecure": True}
        return told
    # No registry is Kolla's own, whose images are for tests: its prechecks want that said.
    return told | {"kolla_test_images": True}


def _addresses(facts: OvercloudFacts, options: Options) -> dict[str, Any]:
    internal, external = facts.vips.get("internal", ""), facts.vips.get("external", "")
    own = options.keepalived_virtual_router_id
    return {
        "network_address_family": "ipv6" if ":" in internal else None,
        "tunnel_address_family": _tunnel_family(facts, internal),
        "kolla_internal_vip_address": internal,
        "kolla_internal_fqdn": options.kolla_internal_fqdn,
        "kolla_external_vip_address": external if external not in ("", internal) else None,
        "kolla_external_fqdn": options.kolla_external_fqdn,
        # As kinds/_vip.py has it: two addresses of one /24 never have the same.
        "keepalived_virtual_router_id": str(own or int(ip_address(internal)) % 255 + 1),
    }


def _tunnel_family(facts: OvercloudFacts, internal: str) -> str | None:
    """None: that of all others."""
    tunnel = facts.networks.get("tunnel")
    if not tunnel or not tunnel.cidr or (":" in tunnel.cidr) == (":" in internal):
        return None
    return "ipv6" if ":" in tunnel.cidr else "ipv4"


def _services(facts: OvercloudFacts, options: Options) -> Iterator[tuple[str, Any]]:
    for off in options.without:
        yield f"enable_{off}", False
    for name in sorted(set(facts.services)):
        yield f"enable_{name}", True
    if "cinder" in facts.services and len(facts.of("control")) > 1:
        # Else prechecks refuse more than one cinder-volume (roles/cinder/tasks/precheck.yml).
        yield "cinder_cluster_name", facts.name
    if "ironic" in facts.services:
        ranges = options.ironic_dnsmasq_dhcp_ranges
        yield "ironic_dnsmasq_dhcp_ranges", [one.model_dump(exclude_none=True) for one in ranges]
