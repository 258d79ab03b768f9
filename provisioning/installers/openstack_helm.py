"""OpenStack-Helm: charts for a Kubernetes cluster that Seed made. People run helm themselves.

Keys are those of openstack/openstack-helm: neutron/values.yaml and nova/values.yaml at 9d891d3
(images of 2026.1), ovn/values.yaml at 226a6f2, libvirt/values.yaml at f641f34; labels of nodes, the
gateway and MetalLB from doc/source/install/prerequisites.rst at f5ea292, the order of charts from
openstack.rst at 01091ee. helm-toolkit's utils.daemonset_overrides at 178aa27, which neutron's
daemonset-ovs-agent.yaml at 9d891d3 uses, takes conf.overrides.CHART_DAEMONSET.hosts; the charts
have no values.schema.json. The MTUs are Neutron's own options, which the chart passes on.
"""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from provisioning.installers import (
    Format,
    NodeFacts,
    OvercloudFacts,
    Role,
    _helm_readme,
    _helm_way_in,
)
from provisioning.installers._text import yaml_of
from provisioning.kinds import Fault, part
from provisioning.names import NewHostLabel
from provisioning.targets import PartSpec

RELEASES: Final = {
    "2024.1": "ubuntu_jammy", "2024.2": "ubuntu_jammy", "2025.1": "ubuntu_noble",
    "2025.2": "ubuntu_noble", "2026.1": "ubuntu_noble",
}  # fmt: skip
"""Release -> the system of its images: values_overrides/{neutron,nova}/RELEASE-SYSTEM.yaml."""
NEWEST: Final = "2026.1"
BRIDGE, PHYSNET = "br-ex", "external"
"""Both are the charts' own defaults: bridge_mappings "external:br-ex"."""
OVS, NETWORK = "openvswitch", "openstack-network-node"
LABELS: Final[dict[Role, tuple[str, ...]]] = {
    "control": ("openstack-control-plane",),
    "network": (OVS, NETWORK, "l3-agent"),
    "compute": ("openstack-compute-node", OVS),
    "storage": ("ceph-osd",),
}


class Options(BaseModel):
    """cluster: of `seed cluster list`, whose nodes are this overcloud's. backend: of Neutron."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cluster: NewHostLabel
    backend: Literal["openvswitch", "ovn"] = "openvswitch"


class OpenStackHelm(Format):
    name = "openstack-helm"
    services = frozenset({"barbican", "cinder", "heat", "horizon"})

    def faults(self, facts: OvercloudFacts) -> list[Fault]:
        found = [*_about_options(facts)]
        if found:
            return found
        return [*_about_release(facts), *_about_vip(facts), *_about_tunnel(facts),
                *_about_external(facts)]  # fmt: skip

    def tree(self, facts: OvercloudFacts, secrets: dict[str, str]) -> list[PartSpec]:
        """The charts' passwords are in their values.yaml; none is Seed's."""
        options = Options.model_validate(facts.options)
        values = {
            "neutron": _neutron(facts, options),
            "nova": _nova(facts, options),
            "libvirt": _libvirt(facts, options),
        }
        if options.backend == "ovn":
            values["ovn"] = _ovn(facts)
        release = facts.release or NEWEST
        features = f"{release} {RELEASES.get(release, RELEASES[NEWEST])}"
        readme = _helm_readme.text(facts, options.cluster, options.backend, _vip(facts), features)
        texts = {
            "README.txt": readme,
            "node-labels.yaml": _documents(_labelled(facts)),
            "metallb.yaml": _documents(_helm_way_in.metallb(_vip(facts))),
            "gateway.yaml": _documents(_helm_way_in.gateway(_vip(facts))),
            **{f"values/{chart}.yaml": yaml_of(told) for chart, told in values.items()},
        }
        return [part(path, text) for path, text in texts.items()]


PLUGIN = OpenStackHelm()


def _documents(told: Iterator[dict[str, Any]]) -> str:
    return "".join(f"---\n{yaml_of(one)}" for one in told)


def _labelled(facts: OvercloudFacts) -> Iterator[dict[str, Any]]:
    """Objects, not commands: server-side apply takes off again what is not there any more."""
    for node in facts.nodes:
        labels = {label: "enabled" for role in node.roles for label in LABELS.get(role, ())}
        if labels:
            about = {"name": node.name, "labels": labels}
            yield {"apiVersion": "v1", "kind": "Node", "metadata": about}


def _vip(facts: OvercloudFacts) -> str:
    """Where clients of the cloud come in. Within the cluster services talk by their own names."""
    return facts.vips.get("external") or facts.vips.get("internal", "")


def _neutron(facts: OvercloudFacts, options: Options) -> dict[str, Any]:
    conf: dict[str, Any] = _mtus(facts)
    told: dict[str, Any] = {
        "pod": {"replicas": {"server": len(facts.of("control"))}},
        "network": {"backend": [options.backend]},
        "conf": conf,
    }
    if options.backend == "ovn":
        return told
    agents = ("dhcp", "l3", "metadata")
    told["labels"] = {
        "agent": {agent: _selects(NETWORK) for agent in agents},
        "netns_cleanup_cron": _selects(NETWORK),
    }
    told["network"]["interface"] = {"tunnel_network_cidr": facts.networks["tunnel"].cidr}
    if len(facts.of("network")) == 1:
        conf["neutron"]["DEFAULT"] |= {"l3_ha": False, "max_l3_agents_per_router": 1}
    return told | {"conf": conf | _bridges(facts)}


def _selects(label: str) -> dict[str, str]:
    return {"node_selector_key": label, "node_selector_value": "enabled"}


def _mtus(facts: OvercloudFacts) -> dict[str, Any]:
    """Of what tunnels go over, and of the outside where that bears less."""
    mtu = facts.networks["tunnel"].mtu
    ml2: dict[str, Any] = {"path_mtu": mtu}
    if "external" in facts.networks:
        ml2["physical_network_mtus"] = f"{PHYSNET}:{facts.networks['external'].mtu}"
    return {
        "neutron": {"DEFAULT": {"global_physnet_mtu": mtu}},
        "plugins": {"ml2_conf": {"ml2": ml2}},
    }


def _bridges(facts: OvercloudFacts) -> dict[str, Any]:
    """Which NIC is in the bridge: at once where it is the same everywhere, else host by host.

    A host's word does not win over the common one where it is null, so then there is no common one.
    """
    outside = {node.name: _external(node) for node in _switching(facts)}
    if len(set(outside.values())) == 1:
        return {"auto_bridge_add": {BRIDGE: next(iter(outside.values()))}}
    hosts = [
        {"name": name, "conf": {"auto_bridge_add": {BRIDGE: nic}}}
        for name, nic in outside.items()
        if nic
    ]
    return {
        "auto_bridge_add": {BRIDGE: None},
        "overrides": {"neutron_ovs-agent": {"hosts": hosts}},
    }


def _nova(facts: OvercloudFacts, options: Options) -> dict[str, Any]:
    """Consoles listen where the API does."""
    api = facts.networks["api"].cidr
    novnc = {side: {"vncserver_proxyclient_network_cidr": api} for side in ("compute", "vncproxy")}
    return {
        "network": {"backend": [options.backend]},
        "console": {"novnc": novnc},
        "conf": {"ceph": {"enabled": bool(facts.of("storage"))}},
    }


def _libvirt(facts: OvercloudFacts, options: Options) -> dict[str, Any]:
    return {
        "network": {"backend": [options.backend]},
        "conf": {"ceph": {"enabled": bool(facts.of("storage"))}},
    }


def _ovn(facts: OvercloudFacts) -> dict[str, Any]:
    """Its databases are a Raft cluster: three bear the loss of one, two bear none."""
    many = 3 if len(facts.of("network")) >= 3 else 1
    names = ("ovn_ovsdb_nb", "ovn_ovsdb_sb", "ovn_northd")
    nics = [nic for node in _switching(facts) if (nic := _external(node))]
    return {
        "network": {"interface": {"tunnel_network_cidr": facts.networks["tunnel"].cidr}},
        "pod": {"replicas": dict.fromkeys(names, many)},
        "conf": {
            "ovn_bridge_mappings": f"{PHYSNET}:{BRIDGE}",
            "auto_bridge_add": {BRIDGE: nics[0]} if nics else {},
        },
    }


def _switching(facts: OvercloudFacts) -> list[NodeFacts]:
    """Nodes with Open vSwitch."""
    return [node for node in facts.nodes if {"network", "compute"} & {*node.roles}]


def _external(node: NodeFacts) -> str | None:
    wire = node.wires.get("external")
    return wire.interface if wire else None


# --- what cannot be -------------------------------------------------------------------------------


def _about_options(facts: OvercloudFacts) -> Iterator[Fault]:
    if not facts.options.get("cluster"):
        says = "options.cluster is not given: openstack-helm wants a Kubernetes cluster"
        remedy = "Make one of these nodes (`seed cluster create FILE`), then name it there."
        yield Fault("options.cluster", says, remedy)
        return
    try:
        Options.model_validate(facts.options)
    except ValidationError as problem:
        for error in problem.errors():
            field = ".".join(str(word) for word in ("options", *error["loc"]))
            says = f"{field} is not as it must be: {error['msg']}"
            yield Fault(field, says, f"openstack-helm knows {', '.join(Options.model_fields)}.")


def _about_release(facts: OvercloudFacts) -> Iterator[Fault]:
    if facts.release and facts.release not in RELEASES:
        says = f"openstack-helm's charts have no values for release {facts.release}"
        yield Fault("release", says, f"Take one of: {', '.join(RELEASES)}.")


def _about_vip(facts: OvercloudFacts) -> Iterator[Fault]:
    """MetalLB answers for it by ARP, from a node's address in the same network."""
    vip, api = _vip(facts), facts.networks.get("api")
    if not vip:
        remedy = "Put one in the api network: `seed network vip`."
        yield Fault("vips", "there is no address for the cloud's API", remedy)
    elif api is None or not api.cidr or ip_address(vip) not in ip_network(api.cidr):
        which = "vips.external" if facts.vips.get("external") else "vips.internal"
        where = f"{api.name} ({api.cidr or 'no subnet'})" if api else "the api network"
        says = f"{which} {vip} is not in {where}, where the cluster's nodes have addresses"
        yield Fault(which, says, f"Take an address of {where}, outside of its pools.")


def _about_tunnel(facts: OvercloudFacts) -> Iterator[Fault]:
    """The charts find the interface by an IPv4 route to the network."""
    net = facts.networks.get("tunnel")
    if net is None or not net.cidr or ip_network(net.cidr).version != 4:
        says = "the tunnel network has no IPv4 subnet, by which the charts find the interface"
        yield Fault("networks.tunnel", says, "Name a network with one: `seed network list`.")
        return
    without = [
        node.name for node in _switching(facts)
        if "tunnel" not in node.wires or not node.wires["tunnel"].address
    ]  # fmt: skip
    if without:
        says = f"no address in the tunnel network {net.name}: {', '.join(without)}"
        yield Fault("networks.tunnel", says, "Give these nodes a layout that is in it.")


def _about_external(facts: OvercloudFacts) -> Iterator[Fault]:
    if "external" not in facts.networks:
        return
    field, name = "networks.external", facts.networks["external"].name
    if lost := [node.name for node in facts.of("network") if "external" not in node.wires]:
        says = f"network nodes that are not in the external network {name}: {', '.join(lost)}"
        yield Fault(field, says, "Give them a layout that is in it.")
    wires = [(n.name, n.wires["external"]) for n in _switching(facts) if "external" in n.wires]
    if bridged := [f"{node} ({wire.bridge})" for node, wire in wires if wire.bridge]:
        says = f"external is on a bridge of the system's: {', '.join(bridged)}"
        yield Fault(field, says, "Open vSwitch takes a NIC, bond or VLAN: change the layout.")
    if held := [f"{node} ({wire.bare})" for node, wire in wires if wire.address]:
        says = f"Open vSwitch takes the external interface, and with it an address: {held[0]}"
        yield Fault(field, says, f"Have no pool in {name}, or external on a NIC of its own.")
    names: dict[str, list[str]] = {}
    for node, wire in wires:
        names.setdefault(wire.interface, []).append(node)
    if len(names) > 1 and facts.options.get("backend") == "ovn":
        told = "; ".join(f"{nic}: {', '.join(nodes)}" for nic, nodes in sorted(names.items()))
        says = f"the ovn chart puts one interface in {BRIDGE} everywhere, here are: {told}"
        remedy = "Take layouts that call it the same, or options.backend: openvswitch."
        yield Fault(field, says, remedy)
