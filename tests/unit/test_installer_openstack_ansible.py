"""OpenStack-Ansible's files, and what it refuses before there are any."""

from dataclasses import replace
from ipaddress import IPv4Network, ip_address
from typing import Any

import pytest
import yaml

from provisioning import installers, plugins
from provisioning.installers import NetFacts, NodeFacts, OvercloudFacts, Use, Wire
from provisioning.installers.openstack_ansible import BRIDGES, PLUGIN, used_ips
from tests.unit import overcloud_facts
from tests.unit.overcloud_golden import same
from tests.unit.overcloud_trees import texts

KEYS = {
    "container_bridge", "container_type", "container_interface", "container_mtu", "ip_from_q",
    "type", "range", "net_name", "group_binds", "is_management_address", "network_interface",
}  # fmt: skip
"""Of provider_networks: user_config's own example, and what the module provider_networks reads."""
PHYSICAL = {
    "shared_infra_hosts", "coordination_hosts", "repo_infra_hosts", "load_balancer_hosts",
    "identity_hosts", "storage_infra_hosts", "image_hosts", "placement_infra_hosts",
    "compute_infra_hosts", "orchestration_hosts", "dashboard_hosts", "network_infra_hosts",
    "network_northd_hosts", "network_gateway_hosts", "compute_hosts", "storage_hosts",
    "key_manager_hosts", "magnum_infra_hosts",
}  # fmt: skip
"""Groups of its env.d and of its example, as of 79d29b9."""


def bridged(facts: OvercloudFacts) -> OvercloudFacts:
    """Its layouts have OpenStack-Ansible's bridges."""
    return replace(facts, nodes=tuple(map(_bridged, facts.nodes)))


def _bridged(node: NodeFacts) -> NodeFacts:
    wires = {
        use: replace(wire, interface=BRIDGES[use], bridge=BRIDGES[use]) if use in BRIDGES else wire
        for use, wire in node.wires.items()
    }
    return replace(node, wires=wires)


def small() -> OvercloudFacts:
    return bridged(overcloud_facts.small())


def large() -> OvercloudFacts:
    """With two VIPs."""
    facts = bridged(overcloud_facts.large())
    return replace(facts, vips={"internal": "10.20.0.5", "external": "10.20.0.6"})


SIZES = {"small": small, "large": large}


def config(facts: OvercloudFacts) -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load(texts(PLUGIN, facts)["openstack_user_config.yml"])
    return told


def variables(facts: OvercloudFacts) -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load(texts(PLUGIN, facts)["user_variables.yml"])
    return told


def networks(facts: OvercloudFacts) -> dict[str, dict[str, Any]]:
    nets = config(facts)["global_overrides"]["provider_networks"]
    return {one["network"]["container_bridge"]: one["network"] for one in nets}


def groups(facts: OvercloudFacts) -> dict[str, dict[str, Any]]:
    return {key: told for key, told in config(facts).items() if key.endswith("_hosts")}


def wired(facts: OvercloudFacts, number: int, use: Use, **changes: Any) -> OvercloudFacts:
    """With another wire of one node's; interface=None takes it away."""
    nodes = [*facts.nodes]
    wires = {**nodes[number].wires}
    wire = wires.pop(use, Wire(""))
    if changes.get("interface", "") is not None:
        wires[use] = replace(wire, **changes)
    nodes[number] = replace(nodes[number], wires=wires)
    return replace(facts, nodes=tuple(nodes))


@pytest.mark.parametrize("size", SIZES)
def test_the_files_are_the_golden_ones(size: str) -> None:
    same(PLUGIN.name, size, PLUGIN.tree(SIZES[size](), {}))


def test_it_is_a_format_that_people_run() -> None:
    assert plugins.load(installers)["openstack-ansible"] is PLUGIN
    assert (PLUGIN.environment, PLUGIN.stages(small()), PLUGIN.secrets(small())) == ("", (), {})


@pytest.mark.parametrize("size", SIZES)
def test_what_osa_toolkit_checks_holds(size: str) -> None:
    """generate.py: known groups, one address per host, queues that are there, the management
    bridge's network, names that leave room for containers'."""
    facts = SIZES[size]()
    told = config(facts)
    assert set(told) - {"cidr_networks", "used_ips", "global_overrides"} <= PHYSICAL
    hosts = [(name, host["ip"]) for group in groups(facts).values() for name, host in group.items()]
    assert len({name for name, _ in hosts}) == len({ip for _, ip in hosts}) == len({*hosts})
    nets = networks(facts)
    assert {key for net in nets.values() for key in net} <= KEYS
    assert {net["ip_from_q"] for net in nets.values() if "ip_from_q" in net} == {
        *told["cidr_networks"]
    }
    assert nets[told["global_overrides"]["management_bridge"]]["is_management_address"] is True
    assert all(isinstance(one, str) for one in told["used_ips"])
    assert all(len(f"{name}-neutron-ovn-northd-container") <= 52 for name, _ in hosts)


@pytest.mark.parametrize("size", SIZES)
def test_no_container_gets_an_address_of_somebody_elses(size: str) -> None:
    facts = SIZES[size]()
    used = config(facts)["used_ips"]
    ends = [[int(ip_address(end)) for end in (one.split(",") * 2)[:2]] for one in used]
    taken = {n for first, last in ends for n in range(first, last + 1)}
    others = [w.bare for node in facts.nodes for w in node.wires.values() if w.address]
    others += ["10.20.0.1", "10.20.0.2", "10.20.0.3", "10.20.0.99", "10.40.0.10"]
    others += facts.vips.values()
    assert [one for one in others if int(ip_address(one)) not in taken] == []
    net = IPv4Network("10.20.0.0/24")
    assert len([n for n in taken if ip_address(n) in net]) < 120


def test_dhcp_of_seeds_in_the_same_network_is_nobody_elses() -> None:
    facts = replace(small(), dhcp=("10.20.0.200-10.20.0.250", "192.0.2.10-192.0.2.250"))
    assert "10.20.0.200,10.20.0.250" in used_ips(facts, "api")
    assert not [one for one in used_ips(facts, "api") if one.startswith("192.")]


def test_who_has_a_role_is_in_its_groups() -> None:
    found = groups(large())
    assert [*found["shared_infra_hosts"]] == [f"cloud-control-{n}" for n in range(3)]
    assert [*found["network_gateway_hosts"]] == ["cloud-network-0", "cloud-network-1"]
    assert [*found["storage_hosts"]] == [f"cloud-storage-{n}" for n in range(3)]
    assert "dashboard_hosts" in found
    assert not {"storage_hosts", "storage_infra_hosts", "dashboard_hosts"} & {*groups(small())}
    assert "cloud-monitoring-0" in texts(PLUGIN, large())["README.txt"]


def test_one_vip_speaks_one_protocol() -> None:
    assert variables(small())["openstack_service_internaluri_proto"] == "https"
    assert "haproxy_ssl_all_vips" not in variables(large())
    alone = replace(small(), vips={"internal": "10.20.0.5"})
    assert config(alone)["global_overrides"]["external_lb_vip_address"] == "10.20.0.5"
    assert PLUGIN.faults(alone) == []


def test_the_outside_is_open_vswitchs() -> None:
    flat = networks(large())["br-ex"]
    assert (flat["network_interface"], flat["group_binds"]) == ("out", ["neutron_ovn_controller"])
    without = wired(small(), 1, "external", interface=None)
    assert networks(without)["br-ex"]["group_binds"] == ["neutron_ovn_gateway"]
    nets = {use: net for use, net in small().networks.items() if use != "external"}
    inside = replace(small(), networks=nets)
    assert "br-ex" not in networks(inside)
    assert variables(inside)["neutron_ml2_drivers_type"] == "geneve"


def test_another_name_outside_is_said_by_host() -> None:
    facts = wired(small(), 1, "external", interface="eth5")
    assert "network_interface" not in networks(facts)["br-ex"]
    hosts = groups(facts)
    mappings = {
        name: host["host_vars"]["neutron_provider_networks"]["network_interface_mappings"]
        for group in ("network_gateway_hosts", "compute_hosts")
        for name, host in hosts[group].items()
    }
    assert mappings == {"cloud-control-0": "br-ex:out", "cloud-compute-0": "br-ex:eth5"}


def test_passwords_are_made_elsewhere() -> None:
    tree = texts(PLUGIN, large())
    assert "user_secrets.yml" not in tree
    assert (
        "./scripts/pw-token-gen.py --file /etc/openstack_deploy/user_secrets.yml"
        in (tree["README.txt"])
    )
    assert "password" not in tree["user_variables.yml"] + tree["openstack_user_config.yml"]


def test_one_infrastructure_host_is_a_warning() -> None:
    assert "Warning: 1 infrastructure host." in texts(PLUGIN, small())["README.txt"]
    assert "Warning" not in texts(PLUGIN, large())["README.txt"]


# --- faults ---------------------------------------------------------------------------------------


def without(facts: OvercloudFacts, use: Use) -> OvercloudFacts:
    return replace(facts, networks={u: n for u, n in facts.networks.items() if u != use})


def net(facts: OvercloudFacts, use: Use, **changes: Any) -> OvercloudFacts:
    changed: NetFacts = replace(facts.networks[use], **changes)
    return replace(facts, networks={**facts.networks, use: changed})


def vip(**vips: str) -> OvercloudFacts:
    return replace(small(), vips=vips)


def renamed(name: str) -> OvercloudFacts:
    facts = small()
    return replace(facts, nodes=(replace(facts.nodes[0], name=name), *facts.nodes[1:]))


def fewer(*numbers: int) -> OvercloudFacts:
    return replace(large(), nodes=tuple(large().nodes[n] for n in numbers))


@pytest.mark.parametrize("size", SIZES)
def test_a_good_overcloud_has_no_fault(size: str) -> None:
    assert PLUGIN.faults(SIZES[size]()) == []


FAULTS: dict[str, tuple[OvercloudFacts, str, str]] = {
    "no compute": (fewer(0, 3), "compute", "no node has the role compute"),
    "two control": (fewer(0, 1, 3, 5), "control.count", "2 control nodes"),
    "no tunnel": (without(small(), "tunnel"), "networks.tunnel", "is for tunnel"),
    "no IPv4": (net(small(), "api", cidr="fd00::/64", gateway=""), "networks.api", "IPv4"),
    "an option": (replace(small(), options={"x": 1}), "options.x", "options.x"),
    "an old release": (replace(small(), release="2025.1"), "release", "2026.1 or later"),
    "no release": (replace(small(), release="master"), "release", "'master'"),
    "a long name": (renamed("overcloud-of-somebody-0"[:23] + "1"), "name", "23 characters"),
    "no bridge": (
        overcloud_facts.small(), "networks.api",
        "cloud-control-0 has network api on bond0.20, not on a bridge br-mgmt",
    ),
    "another bridge": (
        wired(small(), 1, "tunnel", interface="br0", bridge="br0"), "networks.tunnel",
        "cloud-compute-0 has network tunnel on br0, not on a bridge br-vxlan",
    ),
    "no wire": (
        wired(small(), 1, "storage", interface=None), "networks.storage",
        "cloud-compute-0 has no address in the network for storage",
    ),
    "a bridge outside": (
        wired(small(), 0, "external", bridge="br-ex"), "networks.external",
        "cloud-control-0 has external on the bridge br-ex",
    ),
    "no outside": (
        wired(small(), 0, "external", interface=None), "networks.external", "without a wire",
    ),
    "no VIP": (vip(), "vips.internal", "there is no internal VIP"),
    "a VIP elsewhere": (vip(internal="10.30.0.5"), "vips.internal", "not in 10.20.0.0/24"),
    "a node's VIP": (vip(internal="10.20.0.10"), "vips.internal", "address of cloud-control-0"),
    "a gateway's VIP": (vip(internal="10.20.0.1"), "vips.internal", "the gateway of api"),
    "a pool's VIP": (vip(internal="10.20.0.50"), "vips.internal", "in a pool of api"),
    "a DHCP client's VIP": (
        replace(small(), dhcp=("10.20.0.4-10.20.0.6",)), "vips.internal", "by DHCP",
    ),
    "a VIP outside": (
        vip(internal="10.20.0.5", external="203.0.113.9"), "vips.external", "in no network",
    ),
    "a narrow network": (
        net(small(), "api", pools=("10.20.0.10-10.20.0.250",)), "networks.api",
        "leaves 9 addresses for containers, 20 are wanted",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_what_cannot_be_is_refused(case: str) -> None:
    facts, field, says = FAULTS[case]
    found = PLUGIN.faults(facts)
    assert all(one.sentence and one.remedy for one in found)
    assert [one for one in found if one.field == field and says in one.sentence], found


def test_a_missing_bridge_says_where_bridges_come_from() -> None:
    found = PLUGIN.faults(overcloud_facts.small())
    assert "Put `bridge: br-mgmt` into its layout at api: `seed layout put FILE`." in {
        one.remedy for one in found
    }
