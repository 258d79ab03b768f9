"""What is refused of an overcloud by Kolla-Ansible, before any disk is touched."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from provisioning.installers import NodeFacts, OvercloudFacts, Use, Wire
from provisioning.installers.kolla_ansible import PLUGIN
from tests.unit.overcloud_facts import large, small

Change = Callable[[], OvercloudFacts]


def asked(**changes: Any) -> Change:
    return lambda: replace(small(), **changes)


def wired(name: str, **wires: Wire | None) -> Change:
    """Small, where this node's wires are others; None: it has none."""

    def change(node: NodeFacts) -> NodeFacts:
        if node.name != name:
            return node
        told: dict[Use, Any] = {**node.wires, **wires}  # type: ignore[typeddict-item]
        return replace(node, wires={use: wire for use, wire in told.items() if wire})

    return lambda: replace(small(), nodes=tuple(map(change, small().nodes)))


def networks(**changes: Any) -> dict[Use, Any]:
    return small().networks | {use: replace(small().networks[use], **told)  # type: ignore
                               for use, told in changes.items()}  # fmt: skip


def ranges(text: str, *more: str) -> Change:
    told = [{"range": one} for one in (text, *more)]
    return asked(services=("ironic",), options={"ironic_dnsmasq_dhcp_ranges": told})


CONTROL, COMPUTE = small().nodes
OUT, API, TUNNEL = (CONTROL.wires[use] for use in ("external", "api", "tunnel"))
LONG = "enp129s0f0np0v16"

ROWS: dict[str, tuple[Change, str, str, str]] = {
    "an option that is none": (
        asked(options={"kolla_base_distor": "debian"}), "options.kolla_base_distor",
        "Extra inputs", "kolla_base_distro",
    ),
    "a template": (
        asked(options={"openstack_tag": "{{ lookup('pipe', 'id') }}"}), "options.openstack_tag",
        "pattern", "",
    ),
    "another release": (asked(release="2025.1"), "release", "OpenStack 2025.1", '"2026.1"'),
    "a registry with a scheme": (
        asked(registry="https://registry.example.com/"), "registry", "no registry", "HOST:PORT",
    ),
    "a misspelt service": (
        asked(services=("octvia",)), "services", "no service 'octvia'", "Take octavia",
    ),
    "a service with a dash": (
        asked(services=("neutron-vpnaas",)), "services", "'neutron-vpnaas'", "Take neutron_vpnaas",
    ),
    "a service that is gone": (asked(services=("zun",)), "services", "'zun'", "broken in 2026.1"),
    "a service like no other": (asked(services=("x",)), "services", "'x'", "It knows aodh, "),
    "on and off": (
        asked(services=("heat",), options={"without": ["heat"]}), "options.without",
        "heat is among services", "Take heat out",
    ),
    "agents twice on one node": (
        asked(services=("neutron_agent_ha",)), "network.count", "two network nodes", "Ask for 2",
    ),
    "volumes without a node": (
        asked(services=("cinder", "cinder_backend_lvm")), "services",
        "no node has the role storage", "data disk",
    ),
    "volumes without a disk": (
        lambda: replace(
            large(), services=("cinder", "cinder_backend_lvm"),
            nodes=tuple(replace(n, disks=()) for n in large().nodes),
        ),
        "services", "cloud-storage-0 has no disk", "data disk",
    ),
    "two control nodes": (
        lambda: replace(large(), nodes=large().nodes[1:]), "control.count",
        "2 control nodes", "Take 1 or 3.",
    ),
    "no compute node": (asked(nodes=(CONTROL,)), "compute.count", "role compute", "a group"),
    "a node called as a group": (
        asked(nodes=(CONTROL, replace(COMPUTE, name="compute"))), "name", "called compute",
        "another name",
    ),
    "no internal VIP": (asked(vips={}), "vips.internal", "'' is no address", "Give one"),
    "a VIP that is no address": (
        asked(vips={"internal": "10.20.0.5", "external": "x"}), "vips.external", "'x'", "Give one",
    ),
    "a VIP elsewhere": (
        asked(vips={"internal": "10.99.0.5"}), "vips.internal", "not in 10.20.0.0/24",
        "an address of 10.20.0.0/24",
    ),
    "a VIP in a pool": (
        asked(vips={"internal": "10.20.0.50"}), "vips.internal",
        "in the pool 10.20.0.10-10.20.0.99 of api", "no pool",
    ),
    "a VIP that is the gateway": (
        asked(vips={"internal": "10.20.0.1"}), "vips.internal", "the gateway", "nobody has",
    ),
    "a VIP that is the last address": (
        asked(vips={"internal": "10.20.0.255"}), "vips.internal", "last of 10.20.0.0/24", "nobody",
    ),
    "a VIP that a node has": (
        asked(networks=networks(api={"pools": ()}), vips={"internal": "10.20.0.10"}),
        "vips.internal", "cloud-control-0's own", "nobody has",
    ),
    "a VIP that Seed serves": (
        asked(dhcp=("10.20.0.4-10.20.0.6",)), "vips.internal", "Seed gives away by DHCP", "nobody",
    ),
    "an external VIP nowhere": (
        asked(vips={"internal": "10.20.0.5", "external": "198.51.100.5"}), "vips.external",
        "in no network", "the internal VIP for both",
    ),
    "an external VIP in Neutron's network": (
        asked(vips={"internal": "10.20.0.5", "external": "203.0.113.5"}), "vips.external",
        "Neutron's own network", "the internal VIP for both",
    ),
    "an external VIP where network nodes are not": (
        lambda: replace(
            wired("cloud-control-0", storage=None)(),
            vips={"internal": "10.20.0.5", "external": "10.40.0.5"},
        ),
        "networks", "cloud-control-0 is not in the network of role storage", "Take a layout",
    ),
    "no network of role api": (
        asked(networks={"external": small().networks["external"]}), "networks", "role api",
        "layout",
    ),
    "no api wire": (
        wired("cloud-compute-0", api=None), "networks",
        "cloud-compute-0 is not in the network of role api", "Take a layout",
    ),
    "no address in the api network": (
        wired("cloud-compute-0", api=replace(API, address="")), "networks",
        "cloud-compute-0 has no address in the network of role api", "Take a layout",
    ),
    "no tunnel wire": (
        wired("cloud-compute-0", tunnel=None), "networks", "cloud-compute-0 is not in", "tunnel",
    ),
    "no external wire": (
        wired("cloud-control-0", external=None), "networks",
        "cloud-control-0 is to be in Neutron's networks, and in none of role external", "without",
    ),
    "no external wire where computes are outside, too": (
        lambda: replace(
            wired("cloud-compute-0", external=None)(), services=("neutron_provider_networks",),
        ),
        "networks", "cloud-compute-0 is to be in Neutron's networks", "without addresses",
    ),
    "an external wire with an address": (
        wired("cloud-control-0", external=replace(OUT, address="203.0.113.9/24")), "networks",
        "out of cloud-control-0 has the address 203.0.113.9/24", "no addresses",
    ),
    "an external wire that is a bridge": (
        wired("cloud-control-0", external=replace(OUT, interface="br0", bridge="br0")), "networks",
        "br0 of cloud-control-0 is a bridge", "external on a NIC",
    ),
    "external and api on one interface": (
        wired("cloud-control-0", external=Wire("bond0.20", link="bond0")), "networks",
        "bond0.20 of cloud-control-0 is in the networks of role external and api", "alone",
    ),
    "a name that Linux has no room for": (
        wired("cloud-compute-0", tunnel=replace(TUNNEL, interface=LONG)), "networks",
        f"{LONG} of cloud-compute-0 is longer", "15",
    ),
    "a bare-metal service without ranges": (
        asked(services=("ironic",)), "options.ironic_dnsmasq_dhcp_ranges", "no range", "FIRST,LAST",
    ),
    "ranges for nobody": (
        asked(options={"ironic_dnsmasq_dhcp_ranges": [{"range": "10.20.0.200,10.20.0.210"}]}),
        "options.ironic_dnsmasq_dhcp_ranges", "nobody serves", "Add ironic",
    ),
    "a range that is none": (
        ranges("10.20.0.200,10.20.0.999"), "options.ironic_dnsmasq_dhcp_ranges", "no range",
        "FIRST",
    ),
    "a range that ends before it begins": (
        ranges("10.20.0.210,10.20.0.200,255.255.255.0"), "options.ironic_dnsmasq_dhcp_ranges",
        "no range", "FIRST",
    ),
    "a range that Seed serves": (
        ranges("192.0.2.240,192.0.2.254"), "options.ironic_dnsmasq_dhcp_ranges",
        "overlaps 192.0.2.10-192.0.2.250, which Seed itself serves", "nobody else",
    ),
    "a range of Seed's pool": (
        ranges("10.20.0.200,10.20.0.210", "10.20.0.90,10.20.0.110"),
        "options.ironic_dnsmasq_dhcp_ranges", "which is a pool of api", "nobody else",
    ),
    "a range with the VIP in it": (
        ranges("10.20.0.2,10.20.0.8"), "options.ironic_dnsmasq_dhcp_ranges",
        "which is the internal VIP", "nobody else",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_it_is_refused_with_its_field_and_a_remedy(row: str) -> None:
    change, field, sentence, remedy = ROWS[row]
    found = [fault for fault in PLUGIN.faults(change()) if sentence in fault.sentence]
    assert found, PLUGIN.faults(change())
    assert {fault.field for fault in found} == {field}
    assert all(remedy in fault.remedy and fault.remedy for fault in found)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(small, id="small"),
        pytest.param(large, id="large"),
        pytest.param(ranges("10.20.0.200,10.20.0.220"), id="ranges of its own"),
        pytest.param(wired("cloud-compute-0", external=None), id="only network nodes are outside"),
        pytest.param(asked(vips={"internal": "10.20.0.5"}), id="no external VIP"),
        pytest.param(
            asked(
                networks={u: n for u, n in small().networks.items() if u in ("api", "external")},
                nodes=tuple(
                    replace(n, wires={u: n.wires[u] for u in ("api", "external")})
                    for n in small().nodes
                ),
            ),
            id="tunnels on the api network",
        ),
        pytest.param(
            lambda: replace(large(), services=("cinder", "cinder_backend_lvm", "octavia")),
            id="volumes on disks",
        ),
    ],
)
def test_what_works_is_not_refused(change: Change) -> None:
    assert PLUGIN.faults(change()) == []


def test_a_plan_has_no_addresses_yet_and_no_faults_for_it() -> None:
    nodes = tuple(
        replace(
            node, reached="", host_keys=(),
            wires={use: replace(wire, address="") for use, wire in node.wires.items()},
        )
        for node in small().nodes
    )  # fmt: skip
    assert PLUGIN.faults(replace(small(), nodes=nodes)) == []
