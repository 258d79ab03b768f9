"""Kayobe: what is laid over a kayobe-config, for nodes that its seed need not make.

Of kayobe 18.6.0 (2025.1): etc_examples/kayobe, ansible/inventory/group_vars/all/{network,kolla,dns,
time,globals,overcloud}, ansible/inventory/group_vars/controllers, doc/source/configuration/
reference/network.rst, doc/source/control-plane-service-placement.rst, and what reads them:
kayobe/plugins/filter/{networks,networkd}.py. Its files at the top are extra variables, which hold
for all hosts. Addresses are Seed's: network-allocation.yml has each, and Kayobe gives none again.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from provisioning.installers import (
    USES,
    Format,
    NodeFacts,
    OvercloudFacts,
    Role,
    Use,
    _checks,
)
from provisioning.installers._documents import dumped
from provisioning.installers._kayobe import GROUPS_FILE, NETWORK_HOSTS, readme
from provisioning.installers._kayobe_wires import NETS, interfaces
from provisioning.kinds import Fault, part
from provisioning.targets import PartSpec

GROUPS: Final[dict[Role, str]] = {
    "control": "controllers", "network": "network", "monitoring": "monitoring",
    "storage": "storage", "compute": "compute",
}  # fmt: skip
SERVICES: Final = frozenset(
    {
        "barbican", "blazar", "cinder", "designate", "gnocchi", "grafana", "heat", "horizon",
        "ironic", "magnum", "manila", "masakari", "mistral", "octavia", "prometheus", "skyline",
        "tacker", "trove", "watcher",
    }
)  # fmt: skip
"""Each is kolla_enable_NAME."""
TOP: Final = "etc/kayobe"
WIRED: Final[dict[Use, tuple[Role, ...]]] = {
    "tunnel": ("network", "compute"), "storage": ("control", "compute", "storage"),
    "external": ("network",),
}  # fmt: skip
"""Who needs a wire in it, where there is such a network."""


class Options(BaseModel):
    """os_distribution: what the nodes' image is of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    os_distribution: Literal["ubuntu", "rocky", "centos"] = "ubuntu"


class Kayobe(Format):
    name = "kayobe"
    services = SERVICES

    def faults(self, facts: OvercloudFacts) -> list[Fault]:
        found = [
            *_checks.missing(facts, ("control", "network", "compute"), "Kayobe"),
            *_checks.wanted_nets(facts, ("api",), "Kayobe"),
            *_about_options(facts),
        ]
        return found or [*_wires(facts), *_checks.vips(facts), *_outer_vip(facts)]

    def tree(self, facts: OvercloudFacts, secrets: dict[str, str]) -> list[PartSpec]:
        """Below etc/kayobe of a kayobe-config of the release. Passwords are Kolla-Ansible's own to
        make, in kolla/passwords.yml."""
        told = {
            "overcloud.yml": {"overcloud_group_hosts_map": _hosts_map(facts)},
            "networks.yml": _networks(facts),
            "network-allocation.yml": _allocation(facts),
            "globals.yml": {"os_distribution": Options(**facts.options).os_distribution},
            "kolla.yml": _kolla(facts),
            "dns.yml": _dns(facts),
            **({"time.yml": _time(facts)} if facts.networks["api"].ntp else {}),
            **_group_vars(facts),
        }
        texts = {f"{TOP}/{path}": dumped(document) for path, document in told.items()}
        texts[f"{TOP}/inventory/hosts"] = _hosts(facts)
        texts[f"{TOP}/inventory/groups"] = GROUPS_FILE
        texts["README.txt"] = readme(facts)
        return [part(path, text) for path, text in texts.items()]


PLUGIN = Kayobe()


# --- inventory ------------------------------------------------------------------------------------


def _hosts_map(facts: OvercloudFacts) -> dict[str, list[str]]:
    """Of groups that have somebody."""
    members = {group: [node.name for node in facts.of(role)] for role, group in GROUPS.items()}
    return {group: names for group, names in members.items() if names}


def _hosts(facts: OvercloudFacts) -> str:
    """ansible_host is Kayobe's to say: the address in admin_oc_net_name."""
    sections = [f"[{group}]\n" + "".join(f"{name}\n" for name in names)
                for group, names in _hosts_map(facts).items()]  # fmt: skip
    return "\n".join(["localhost ansible_connection=local\n", *sections])


def _group_vars(facts: OvercloudFacts) -> dict[str, dict[str, Any]]:
    """Of a group where its hosts have the same wires, else of each host."""
    found: dict[str, dict[str, Any]] = {"inventory/group_vars/network/hosts": {**NETWORK_HOSTS}}
    for role, group in GROUPS.items():
        members = facts.of(role)
        told = [interfaces(facts, node) for node in members]
        if told and all(one == told[0] for one in told):
            found[f"inventory/group_vars/{group}/network-interfaces"] = told[0]
            continue
        for node, one in zip(members, told, strict=True):
            found[f"inventory/host_vars/{node.name}/network-interfaces"] = one
    return found


# --- files at the top -----------------------------------------------------------------------------


def _networks(facts: OvercloudFacts) -> dict[str, Any]:
    told: dict[str, Any] = _roles(facts)
    routed = _routed(facts)
    for use in _uses(facts):
        net, prefix = facts.networks[use], NETS[use]
        if cidr := _checks.net4(facts, use):
            told[f"{prefix}_cidr"] = str(cidr)
        if net.pools:
            first, last = net.pools[0].split("-")
            told[f"{prefix}_allocation_pool_start"] = first
            told[f"{prefix}_allocation_pool_end"] = last
        if use == routed:
            told[f"{prefix}_gateway"] = net.gateway
        if any(wire.tagged and not wire.bridge for wire in _of(facts.nodes, use)):
            told[f"{prefix}_vlan"] = net.vlan
        told[f"{prefix}_mtu"] = net.mtu
    return told


def _uses(facts: OvercloudFacts) -> list[Use]:
    return [use for use in USES if use in facts.networks]


def _of(nodes: Sequence[NodeFacts], use: Use) -> list[Any]:
    return [node.wires[use] for node in nodes if use in node.wires]


def _routed(facts: OvercloudFacts) -> Use | None:
    """The network whose gateway is the default route: several would be unpredictable."""
    for use in _uses(facts):
        addressed = any(wire.address for wire in _of(facts.nodes, use))
        if facts.networks[use].gateway and addressed and _checks.net4(facts, use):
            return use
    return None


def _roles(facts: OvercloudFacts) -> dict[str, Any]:
    """Kayobe's roles of networks. What has no network of its own is in the one for api."""
    nets: dict[Use, str] = {use: NETS[use if use in facts.networks else "api"] for use in USES}
    outer = _checks.home(facts, _external(facts)) or "api"
    return {
        "admin_oc_net_name": nets["api"],
        "provision_oc_net_name": nets["api"],
        "internal_net_name": nets["api"],
        "public_net_name": NETS[outer],
        "tunnel_net_name": nets["tunnel"],
        "storage_net_name": nets["storage"],
        "storage_mgmt_net_name": nets["storage"],
        "external_net_names": [nets["external"]] if "external" in facts.networks else [],
    }


def _allocation(facts: OvercloudFacts) -> dict[str, dict[str, str]]:
    found = {}
    for use in _uses(facts):
        nodes = [node for node in facts.nodes if use in node.wires and node.wires[use].address]
        if nodes and _checks.net4(facts, use):
            found[f"{NETS[use]}_ips"] = {node.name: node.wires[use].bare for node in nodes}
    return found


def _external(facts: OvercloudFacts) -> str:
    return facts.vips.get("external") or facts.vips["internal"]


def _kolla(facts: OvercloudFacts) -> dict[str, Any]:
    told: dict[str, Any] = {
        "kolla_internal_vip_address": facts.vips["internal"],
        "kolla_external_vip_address": _external(facts),
    }
    if facts.registry:
        told["kolla_docker_registry"] = facts.registry
    return told | {f"kolla_enable_{one}": True for one in sorted(SERVICES & {*facts.services})}


def _dns(facts: OvercloudFacts) -> dict[str, Any]:
    net = facts.networks["api"]
    if not net.dns:
        return {"resolv_is_managed": False}
    search = {"resolv_domain": net.domain, "resolv_search": [net.domain]} if net.domain else {}
    return {"resolv_nameservers": [*net.dns]} | search


def _time(facts: OvercloudFacts) -> dict[str, Any]:
    burst = [{"option": "iburst"}]
    servers = facts.networks["api"].ntp
    return {
        "chrony_ntp_servers": [
            {"server": server, "type": "server", "options": [*burst]} for server in servers
        ]
    }


# --- faults ---------------------------------------------------------------------------------------


def _about_options(facts: OvercloudFacts) -> Iterator[Fault]:
    try:
        Options.model_validate(facts.options)
    except ValidationError as problem:
        for error in problem.errors():
            field = ".".join(str(word) for word in ("options", *error["loc"]))
            says = f"{field} is not as it must be: {error['msg']}"
            yield Fault(field, says, f"kayobe knows {', '.join(Options.model_fields)}.")


def _wires(facts: OvercloudFacts) -> Iterator[Fault]:
    yield from _checks.unreached(facts.nodes, "api")
    for use, roles in WIRED.items():
        for node in facts.nodes if use in facts.networks else ():
            if use not in node.wires and {*roles} & {*node.roles}:
                net = facts.networks[use].name
                says = f"{node.name} is a node for {node.roles[0]} without a wire in {net}"
                remedy = f"Put {net} into its layout: `seed layout put FILE`."
                yield Fault(f"networks.{use}", says, remedy)


def _outer_vip(facts: OvercloudFacts) -> Iterator[Fault]:
    if "internal" in facts.vips and _checks.home(facts, _external(facts)) is None:
        says = f"the external VIP {_external(facts)} is in no network of the overcloud's"
        yield Fault("vips.external", says, _checks.REMEDY)
