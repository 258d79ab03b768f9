"""Kayobe's overlay: what Ansible reads of it, and what it refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioning import installers, plugins
from provisioning.installers import OvercloudFacts, Use, Wire
from provisioning.installers.kayobe import PLUGIN
from tests.unit.overcloud_facts import large, small
from tests.unit.overcloud_golden import same
from tests.unit.overcloud_trees import inventory, texts, unpacked

SIZES = {"small": small, "large": large}
ROLES = {
    "admin_oc_net_name", "provision_oc_net_name", "internal_net_name", "public_net_name",
    "tunnel_net_name", "storage_net_name", "storage_mgmt_net_name", "external_net_names",
}  # fmt: skip
GLOBAL = {"cidr", "allocation_pool_start", "allocation_pool_end", "gateway", "vlan", "mtu"}
PER_HOST = {
    "interface", "parent", "bridge_ports", "bond_mode", "bond_slaves", "no_ip", "vlan", "mtu",
}  # fmt: skip
"""Attributes of networks: doc/source/configuration/reference/network.rst of kayobe 18.6.0."""


def read(facts: OvercloudFacts, path: str) -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load(texts(PLUGIN, facts)[f"etc/kayobe/{path}"])
    return told


def wires(facts: OvercloudFacts, group: str) -> dict[str, Any]:
    return read(facts, f"inventory/group_vars/{group}/network-interfaces")


def wired(facts: OvercloudFacts, number: int, use: Use, wire: Wire | None) -> OvercloudFacts:
    """With another wire of one node's, or without it."""
    nodes = [*facts.nodes]
    kept = {u: w for u, w in nodes[number].wires.items() if u != use}
    nodes[number] = replace(nodes[number], wires=kept | ({use: wire} if wire else {}))
    return replace(facts, nodes=tuple(nodes))


def everywhere(facts: OvercloudFacts, use: Use, **changes: Any) -> OvercloudFacts:
    for number, node in enumerate(facts.nodes):
        facts = wired(facts, number, use, replace(node.wires[use], **changes))
    return facts


@pytest.mark.parametrize("size", SIZES)
def test_the_files_are_the_golden_ones(size: str) -> None:
    same(PLUGIN.name, size, PLUGIN.tree(SIZES[size](), {}))


def test_it_is_a_format_that_people_run() -> None:
    assert plugins.load(installers)["kayobe"] is PLUGIN
    assert (PLUGIN.environment, PLUGIN.stages(small()), PLUGIN.secrets(small())) == ("", (), {})


@pytest.mark.parametrize("size", SIZES)
def test_ansible_reads_the_groups_and_their_variables(size: str, tmp_path: Path) -> None:
    facts = SIZES[size]()
    found = inventory(unpacked(PLUGIN, facts, tmp_path) / "etc/kayobe/inventory")
    hosts = found["_meta"]["hostvars"]
    assert set(hosts) == {"localhost", *(node.name for node in facts.nodes)}
    groups = read(facts, "overcloud.yml")["overcloud_group_hosts_map"]
    for group, names in groups.items():
        assert sorted(found[group]["hosts"]) == sorted(names)
    for node in facts.nodes:
        assert hosts[node.name]["api_net_interface"] == node.wires["api"].interface
        assert hosts[node.name]["bond0_link_bond_slaves"] == ["up0", "up1"]
        assert ("bootstrap_user" in hosts[node.name]) == ("network" in node.roles)
    assert {"controllers", "network", "compute", "storage", "monitoring"} <= {
        *found["overcloud"]["children"]
    }
    for group in ("seed", "seed-hypervisor", "infra-vms", "baremetal-compute"):
        assert not found.get(group, {}).get("hosts")


@pytest.mark.parametrize("size", SIZES)
def test_words_are_kayobes(size: str) -> None:
    facts = SIZES[size]()
    told = read(facts, "networks.yml")
    assert set(told) >= ROLES
    names = {name for key in ROLES for name in [*told[key], told[key]] if isinstance(name, str)}
    known = {f"{net}_{attribute}" for net in names for attribute in GLOBAL}
    assert set(told) - ROLES - known == set()
    for path, text in texts(PLUGIN, facts).items():
        if path.endswith("network-interfaces"):
            one = yaml.safe_load(text)
            known = {f"{net}_{word}" for net in one["network_interfaces"] for word in PER_HOST}
            assert set(one) - known == {"network_interfaces"}
            assert {f"{net}_interface" for net in one["network_interfaces"]} <= set(one)


@pytest.mark.parametrize("size", SIZES)
def test_addresses_are_those_that_seed_gave(size: str) -> None:
    facts = SIZES[size]()
    told = read(facts, "network-allocation.yml")
    assert set(told) == {"api_net_ips", "tunnel_net_ips", "storage_net_ips"}
    for use in ("api", "tunnel", "storage"):
        assert told[f"{use}_net_ips"] == {n.name: n.wires[use].bare for n in facts.nodes}
    assert wires(facts, "compute")["external_net_no_ip"] is True


def test_vips_are_told_to_kolla() -> None:
    assert read(small(), "kolla.yml") == {
        "kolla_internal_vip_address": "10.20.0.5",
        "kolla_external_vip_address": "10.20.0.5",
    }
    told = read(large(), "kolla.yml")
    assert told["kolla_docker_registry"] == "registry.example.com:5000"
    assert told["kolla_enable_horizon"] is True
    outside = replace(small(), vips={"internal": "10.20.0.5", "external": "203.0.113.9"})
    assert read(outside, "networks.yml")["public_net_name"] == "external_net"
    assert PLUGIN.faults(outside) == []


def test_what_has_no_network_is_in_the_one_for_api() -> None:
    nets = {use: net for use, net in small().networks.items() if use == "api"}
    told = read(replace(small(), networks=nets), "networks.yml")
    assert told["tunnel_net_name"] == told["storage_net_name"] == "api_net"
    assert told["external_net_names"] == []
    assert PLUGIN.faults(replace(small(), networks=nets)) == []


def test_one_network_has_the_default_route() -> None:
    assert read(small(), "networks.yml")["api_net_gateway"] == "10.20.0.1"
    assert "external_net_gateway" not in read(small(), "networks.yml")


def test_a_bridge_above_a_vlan_of_a_bond() -> None:
    told = wires(everywhere(small(), "api", interface="br0", bridge="br0"), "compute")
    assert told["network_interfaces"] == [
        "api_net", "api_net_port", "tunnel_net", "storage_net", "external_net", "bond0_link",
    ]  # fmt: skip
    assert (told["api_net_interface"], told["api_net_bridge_ports"]) == ("br0", ["bond0.20"])
    assert (told["api_net_port_interface"], told["api_net_port_vlan"]) == ("bond0.20", 20)


def test_a_bond_that_is_a_network_of_its_own() -> None:
    facts = everywhere(small(), "api", interface="bond0", tagged=False)
    told = wires(facts, "compute")
    assert (told["api_net_bond_mode"], told["api_net_bond_slaves"]) == ("802.3ad", ["up0", "up1"])
    assert "bond0_link" not in told["network_interfaces"]
    assert "api_net_vlan" not in read(facts, "networks.yml")


def test_a_vlan_of_another_name_says_its_parent() -> None:
    told = wires(everywhere(small(), "tunnel", interface="overlay"), "compute")
    assert (told["tunnel_net_interface"], told["tunnel_net_parent"]) == ("overlay", "bond0")


def test_hosts_of_a_group_that_differ_are_told_each() -> None:
    facts = wired(large(), 5, "external", Wire("eth5", link="eth5", nics=("eth5",)))
    tree = texts(PLUGIN, facts)
    assert "etc/kayobe/inventory/group_vars/compute/network-interfaces" not in tree
    one = read(facts, "inventory/host_vars/cloud-compute-0/network-interfaces")
    other = read(facts, "inventory/host_vars/cloud-compute-1/network-interfaces")
    assert (one["external_net_interface"], other["external_net_interface"]) == ("eth5", "out")
    assert "etc/kayobe/inventory/group_vars/storage/network-interfaces" in tree


def test_who_resolves_names_is_told_where_it_is_known() -> None:
    assert read(small(), "dns.yml") == {
        "resolv_nameservers": ["10.20.0.2"], "resolv_domain": "example.com",
        "resolv_search": ["example.com"],
    }  # fmt: skip
    api = replace(small().networks["api"], dns=(), ntp=())
    bare = replace(small(), networks={**small().networks, "api": api})
    assert read(bare, "dns.yml") == {"resolv_is_managed": False}
    assert "etc/kayobe/time.yml" not in texts(PLUGIN, bare)


@pytest.mark.parametrize("size", SIZES)
def test_no_secret_is_in_it(size: str) -> None:
    told = {path: text for path, text in texts(PLUGIN, SIZES[size]()).items() if path != "README"}
    assert not [path for path, text in told.items() if "password" in text.lower()]
    assert "etc/kayobe/kolla/passwords.yml" not in told


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_a_good_overcloud_has_no_fault(size: str) -> None:
    assert PLUGIN.faults(SIZES[size]()) == []


def only(*numbers: int) -> OvercloudFacts:
    return replace(large(), nodes=tuple(large().nodes[n] for n in numbers))


def vip(**vips: str) -> OvercloudFacts:
    return replace(small(), vips=vips)


FAULTS: dict[str, tuple[OvercloudFacts, str, str]] = {
    "no network nodes": (only(0, 5), "network", "no node has the role network"),
    "no control nodes": (only(3, 5), "control", "no node has the role control"),
    "no network for api": (
        replace(small(), networks={}), "networks.api", "no network with an IPv4 subnet is for api",
    ),
    "a distribution": (
        replace(small(), options={"os_distribution": "debian"}), "options.os_distribution",
        "ubuntu",
    ),
    "an option": (replace(small(), options={"x": 1}), "options.x", "not as it must be"),
    "no address": (
        wired(small(), 1, "api", Wire("bond0.20", link="bond0", tagged=True)), "networks.api",
        "cloud-compute-0 has no address in the network for api",
    ),
    "no tunnel": (
        wired(small(), 1, "tunnel", None), "networks.tunnel",
        "cloud-compute-0 is a node for compute without a wire in tunnel",
    ),
    "no outside": (
        wired(small(), 0, "external", None), "networks.external", "without a wire in external",
    ),
    "no VIP": (vip(), "vips.internal", "there is no internal VIP"),
    "a VIP elsewhere": (vip(internal="10.40.0.5"), "vips.internal", "is not in 10.20.0.0/24"),
    "a node's VIP": (vip(internal="10.20.0.11"), "vips.internal", "address of cloud-compute-0"),
    "a pool's VIP": (vip(internal="10.20.0.60"), "vips.internal", "in a pool of api"),
    "a VIP nowhere": (
        vip(internal="10.20.0.5", external="198.51.100.7"), "vips.external", "in no network",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_what_cannot_be_is_refused(case: str) -> None:
    facts, field, says = FAULTS[case]
    found = PLUGIN.faults(facts)
    assert all(one.sentence and one.remedy for one in found)
    assert [one for one in found if one.field == field and says in one.sentence], found
