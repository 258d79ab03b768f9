"""OpenStack-Helm's files: what nodes, charts and MetalLB are told, and what is refused before."""

from dataclasses import replace
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field

from provisioning.installers import NodeFacts, OvercloudFacts, Wire
from provisioning.installers.openstack_helm import PLUGIN
from tests.fakes.kubernetes_objects import Named, Strict
from tests.fakes.kubernetes_objects import read as objects
from tests.unit import overcloud_facts
from tests.unit.overcloud_golden import same

FACTS = {
    name: replace(make(), options={"cluster": "web"})
    for name, make in (("small", overcloud_facts.small), ("large", overcloud_facts.large))
}
# Of values.yaml: neutron and nova at openstack-helm 9d891d3, ovn at 226a6f2, libvirt at f641f34.
# "*" is what the chart passes on as it is.
KNOWN: dict[str, Any] = {
    "neutron": {
        "labels": {
            "agent": {"dhcp": "*", "l3": "*", "metadata": "*", "l2gw": "*", "ovn_vpn": "*"},
            "netns_cleanup_cron": "*",
        },
        "network": {
            "backend": "*", "interface": {"tunnel": "*", "tunnel_network_cidr": "*"},
        },
        "pod": {"replicas": {"server": "*", "rpc_server": "*", "ironic_agent": "*"}},
        "conf": {
            "neutron": {"DEFAULT": "*"}, "plugins": {"ml2_conf": {"ml2": "*"}},
            "auto_bridge_add": "*", "overrides": {"neutron_ovs-agent": {"hosts": "*"}},
        },
    },
    "nova": {
        "network": {"backend": "*"},
        "console": {
            "novnc": {
                "compute": {"vncserver_proxyclient_network_cidr": "*"},
                "vncproxy": {"vncserver_proxyclient_network_cidr": "*"},
            }
        },
        "conf": {"ceph": {"enabled": "*"}},
    },
    "libvirt": {"network": {"backend": "*"}, "conf": {"ceph": {"enabled": "*"}}},
    "ovn": {
        "network": {"interface": {"tunnel": "*", "tunnel_network_cidr": "*"}},
        "pod": {"replicas": {"ovn_ovsdb_nb": "*", "ovn_ovsdb_sb": "*", "ovn_northd": "*"}},
        "conf": {"ovn_bridge_mappings": "*", "auto_bridge_add": "*"},
    },
}  # fmt: skip


class Node(Strict):
    apiVersion: Literal["v1"]
    kind: Literal["Node"]
    metadata: Annotated[Named, Field()]


def tree(facts: OvercloudFacts) -> dict[str, str]:
    return {one.path: one.content.decode() for one in PLUGIN.tree(facts, PLUGIN.secrets(facts))}


def values(facts: OvercloudFacts, chart: str) -> Any:
    return yaml.safe_load(tree(facts)[f"values/{chart}.yaml"])


def outside(facts: OvercloudFacts, **nics: str) -> OvercloudFacts:
    """Its nodes with these external interfaces; empty: none. Names with _ for -."""
    told = {name.replace("_", "-"): nic for name, nic in nics.items()}

    def changed(node: NodeFacts) -> NodeFacts:
        if node.name not in told:
            return node
        wires = {use: wire for use, wire in node.wires.items() if use != "external"}
        if nic := told[node.name]:
            wires["external"] = Wire(nic, link=nic, nics=(nic,))
        return replace(node, wires=wires)

    return replace(facts, nodes=tuple(map(changed, facts.nodes)))


@pytest.mark.parametrize("size", FACTS)
def test_its_files_are_the_golden_ones(size: str) -> None:
    assert PLUGIN.faults(FACTS[size]) == []
    same("openstack-helm", size, PLUGIN.tree(FACTS[size], {}))


@pytest.mark.parametrize("backend", ["openvswitch", "ovn"])
@pytest.mark.parametrize("size", FACTS)
def test_charts_know_every_value(size: str, backend: str) -> None:
    facts = replace(FACTS[size], options={"cluster": "web", "backend": backend})
    charts = [path for path in tree(facts) if path.startswith("values/")]
    assert ("values/ovn.yaml" in charts) == (backend == "ovn")
    for path in charts:
        chart = path.removeprefix("values/").removesuffix(".yaml")
        known(values(facts, chart), KNOWN[chart], chart)


def known(told: Any, allowed: Any, where: str) -> None:
    if allowed == "*":
        return
    for key, value in told.items():
        assert key in allowed, f"{where}.{key}"
        known(value, allowed[key], f"{where}.{key}")


def test_kubernetes_knows_the_labels_and_metallb_its_objects() -> None:
    files = tree(FACTS["large"])
    nodes = [Node.model_validate(one) for one in yaml.safe_load_all(files["node-labels.yaml"])]
    names = [one.name for one in FACTS["large"].nodes if one.roles != ("monitoring",)]
    assert [one.metadata.name for one in nodes] == names
    pool, advert = objects(files["metallb.yaml"])
    assert pool.spec.addresses == ["10.20.0.5/32"]
    assert pool.spec.autoAssign is False
    assert advert.spec.ipAddressPools == [pool.metadata.name]
    _, proxy, gateway = yaml.safe_load_all(files["gateway.yaml"])
    service = proxy["spec"]["provider"]["kubernetes"]["envoyService"]
    assert service["annotations"] == {"metallb.universe.tf/loadBalancerIPs": "10.20.0.5"}
    assert gateway["spec"]["infrastructure"]["parametersRef"]["name"] == proxy["metadata"]["name"]


def test_a_node_has_the_labels_of_all_its_roles() -> None:
    told = yaml.safe_load_all(tree(FACTS["large"])["node-labels.yaml"])
    labels = {one["metadata"]["name"]: set(one["metadata"]["labels"]) for one in told}
    assert labels["cloud-control-0"] == {"openstack-control-plane"}
    assert labels["cloud-network-1"] == {"openvswitch", "openstack-network-node", "l3-agent"}
    assert labels["cloud-compute-0"] == {"openstack-compute-node", "openvswitch"}
    assert labels["cloud-storage-2"] == {"ceph-osd"}
    first, _ = yaml.safe_load_all(tree(FACTS["small"])["node-labels.yaml"])
    assert {"openstack-control-plane", "l3-agent"} <= set(first["metadata"]["labels"])


def test_hosts_of_which_the_nic_is_called_otherwise_are_named() -> None:
    facts = outside(FACTS["large"], cloud_network_1="eno4", cloud_compute_1="")
    assert PLUGIN.faults(facts) == []
    conf = values(facts, "neutron")["conf"]
    assert conf["auto_bridge_add"] == {"br-ex": None}
    assert {
        one["name"]: one["conf"]["auto_bridge_add"]["br-ex"]
        for one in conf["overrides"]["neutron_ovs-agent"]["hosts"]
    } == {"cloud-network-0": "out", "cloud-network-1": "eno4", "cloud-compute-0": "out"}
    same = values(FACTS["large"], "neutron")["conf"]
    assert same["auto_bridge_add"] == {"br-ex": "out"}
    assert "overrides" not in same


def test_without_an_outside_no_nic_is_taken() -> None:
    facts = FACTS["small"]
    networks = {use: net for use, net in facts.networks.items() if use != "external"}
    facts = outside(replace(facts, networks=networks), cloud_control_0="", cloud_compute_0="")
    assert PLUGIN.faults(facts) == []
    assert values(facts, "neutron")["conf"]["auto_bridge_add"] == {"br-ex": None}
    assert "physical_network_mtus" not in str(values(facts, "neutron"))
    ovn = replace(facts, options={"cluster": "web", "backend": "ovn"})
    assert values(ovn, "ovn")["conf"]["auto_bridge_add"] == {}


def test_ovns_databases_are_three_or_one() -> None:
    facts = replace(FACTS["large"], options={"cluster": "web", "backend": "ovn"})
    assert set(values(facts, "ovn")["pod"]["replicas"].values()) == {1}
    nodes = tuple(
        replace(one, roles=("control", "network")) if one.roles == ("control",) else one
        for one in facts.nodes
    )
    assert set(values(replace(facts, nodes=nodes), "ovn")["pod"]["replicas"].values()) == {3}


def test_the_commands_name_all_files_and_no_download() -> None:
    for facts in FACTS.values():
        files = tree(facts)
        readme = files["README.txt"]
        assert all(path in readme for path in files if path != "README.txt")
        assert "://" not in readme
    assert "0x5000c50000000007" in readme
    assert "openstack-helm/horizon" in readme


SMALL = FACTS["small"]
API, TUNNEL = SMALL.networks["api"], SMALL.networks["tunnel"]


def without(use: Any) -> OvercloudFacts:
    first, *rest = SMALL.nodes
    wires = {name: wire for name, wire in first.wires.items() if name != use}
    return replace(SMALL, nodes=(replace(first, wires=wires), *rest))


def rewired(wire: Wire) -> OvercloudFacts:
    first, *rest = SMALL.nodes
    return replace(SMALL, nodes=(replace(first, wires={**first.wires, "external": wire}), *rest))


FAULTS = [
    (replace(SMALL, options={}), "options.cluster", "options.cluster is not given"),
    (replace(SMALL, options={"cluster": "web", "x": 1}), "options.x", "Extra inputs"),
    (replace(SMALL, options={"cluster": "Web_1"}), "options.cluster", "not as it must be"),
    (replace(SMALL, release="zed"), "release", "release zed"),
    (replace(SMALL, vips={}), "vips", "no address for the cloud's API"),
    (
        replace(SMALL, vips={"internal": "10.20.0.5", "external": "203.0.113.9"}),
        "vips.external", "vips.external 203.0.113.9 is not in api (10.20.0.0/24)",
    ),
    (
        replace(SMALL, vips={"internal": "10.99.0.5"}),
        "vips.internal", "vips.internal 10.99.0.5 is not in api",
    ),
    (
        replace(SMALL, networks={"api": API}),
        "networks.tunnel", "the tunnel network has no IPv4 subnet",
    ),
    (
        replace(SMALL, networks={**SMALL.networks, "tunnel": replace(TUNNEL, cidr="fd00::/64")}),
        "networks.tunnel", "the tunnel network has no IPv4 subnet",
    ),
    (
        without("tunnel"),
        "networks.tunnel", "no address in the tunnel network tunnel: cloud-control-0",
    ),
    (
        without("external"), "networks.external",
        "network nodes that are not in the external network external: cloud-control-0",
    ),
    (
        rewired(Wire("br0", link="out", bridge="br0")),
        "networks.external", "external is on a bridge of the system's: cloud-control-0 (br0)",
    ),
    (
        rewired(Wire("out", "203.0.113.7/24", "out")), "networks.external",
        "Open vSwitch takes the external interface, and with it an address: "
        "cloud-control-0 (203.0.113.7)",
    ),
    (
        replace(
            rewired(Wire("eno4", link="eno4")), options={"cluster": "web", "backend": "ovn"}
        ),
        "networks.external", "eno4: cloud-control-0; out: cloud-compute-0",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "field", "sentence"), FAULTS, ids=lambda one: str(one)[:40])
def test_what_cannot_be_is_said_before(facts: Any, field: str, sentence: str) -> None:
    (fault,) = PLUGIN.faults(facts)
    assert fault.field == field
    assert sentence in fault.sentence
    assert fault.remedy.endswith(".")
