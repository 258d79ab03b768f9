"""A small OpenStack of Debian's own packages (trixie: 2025.1), by playbooks of Seed's.

One control node with the databases, any number of compute nodes; for labs and sites without a
registry of containers. The packages are in the image `openstack-node`; what the playbooks do is
beside this file, in debian_playbooks.
"""

import json
import secrets
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from provisioning import pki
from provisioning.installers import NodeFacts, OvercloudFacts, Stage, _checks
from provisioning.installers._text import url_host, yaml_of
from provisioning.kinds import Fault, _ssh, part
from provisioning.models import now
from provisioning.targets import PartSpec

RELEASE: Final = "2025.1"
STAGES: Final = (
    ("hosts", 900), ("data", 3600), ("identity", 2400), ("images", 1800), ("placement", 1800),
    ("network", 3600), ("compute", 5400),
)  # fmt: skip
"""(playbook, seconds): several times what emulated servers take on a machine that does more."""
HORIZON: Final = "horizon"
DASHBOARD: Final = ("dashboard", 1800)
"""Where people ask for the service HORIZON; last, because no other stage waits for it."""
PASSWORDS: Final = (
    "admin", "rabbit", "keystone_db", "glance_db", "placement_db", "nova_db", "neutron_db",
    "glance", "placement", "nova", "neutron", "metadata",
)  # fmt: skip
SECRETS: Final = "env/extravars"
PHYSNET: Final = "physnet1"
REGION: Final = "RegionOne"


class Options(BaseModel):
    """driver: libvirt, or fake: Nova pretends that there are servers, which proves no guest.

    virt_type: of libvirt; "auto": kvm where every compute node can, else qemu. tls: at the VIP.
    zones: availability zones by rack.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    driver: Literal["libvirt", "fake"] = "libvirt"
    virt_type: Literal["auto", "kvm", "qemu"] = "auto"
    tls: bool = True
    zones: bool = False


class Debian:
    name = "debian"
    services = frozenset({HORIZON})
    environment = "debian"

    def faults(self, facts: OvercloudFacts) -> list[Fault]:
        return [
            *_about_options(facts),
            *_about_nodes(facts),
            *_about_addresses(facts),
            *_about_the_rest(facts),
        ]

    def secrets(self, facts: OvercloudFacts) -> dict[str, str]:
        """A password each, and with TLS "ca.crt", "vip.crt", "vip.key": PEM."""
        told = {name: secrets.token_urlsafe(24) for name in PASSWORDS}
        return told | (_certificates(facts) if _options(facts).tls else {})

    def tree(self, facts: OvercloudFacts, secrets: dict[str, str]) -> list[PartSpec]:
        texts = {
            "inventory/hosts.yaml": yaml_of(_inventory(facts)),
            "env/cmdline": "--user root\n",
            "known_hosts": _ssh.known_hosts((n.reached, n.host_keys) for n in facts.nodes),
        }
        if secrets:
            texts |= {_ssh.KEY: secrets["ssh"], SECRETS: _extra(secrets)}
        return [part(path, text, 0o600) for path, text in texts.items()]

    def stages(self, facts: OvercloudFacts) -> tuple[Stage, ...]:
        wanted = (*STAGES, DASHBOARD) if HORIZON in facts.services else STAGES
        return tuple(Stage(name, f"{name}.yml", seconds=seconds) for name, seconds in wanted)

    def check(self, facts: OvercloudFacts) -> Stage | None:
        return Stage("check", "check.yml", seconds=1800, tells="check")

    def leave(self, facts: OvercloudFacts, names: tuple[str, ...]) -> Stage | None:
        """Of compute nodes: services, agents and what Placement knows of them."""
        going = [node for node in facts.leaving if node.name in names]
        known = [(node.reached, node.host_keys) for node in (*facts.nodes, *going)]
        texts = {
            "inventory/group_vars/all/leaving.yml": yaml_of({"oc_leaving": list(names)}),
            # In no group: of stages they are none any more.
            "inventory/leaving.yaml": yaml_of(
                {"all": {"hosts": {n.name: _host(n) for n in going}}}
            ),
            "known_hosts": _ssh.known_hosts(known),
        }
        also = tuple(part(path, text, 0o600) for path, text in texts.items())
        return Stage("leave", "leave.yml", also, 900)

    def clouds(self, facts: OvercloudFacts, secrets: dict[str, str]) -> str:
        scheme = "https" if _options(facts).tls else "http"
        cloud: dict[str, Any] = {
            "auth": {
                "auth_url": f"{scheme}://{url_host(facts.vips['external'])}:5000/v3",
                "username": "admin", "password": secrets["admin"], "project_name": "admin",
                "user_domain_name": "Default", "project_domain_name": "Default",
            },
            "region_name": REGION, "interface": "public", "identity_api_version": 3,
        }  # fmt: skip
        ca = {"ca": secrets["ca.crt"]} if "ca.crt" in secrets else {}
        return yaml_of({"clouds": {facts.name: cloud}, **ca})

    def proves(self, options: dict[str, Any]) -> str:
        fake = options.get("driver") == "fake"
        return "Nova's fake driver: ACTIVE proves no guest" if fake else ""

    def project(self, runner: Path) -> Path:
        return Path(__file__).with_name("debian_playbooks")


PLUGIN = Debian()


def _options(facts: OvercloudFacts) -> Options:
    return Options.model_validate(facts.options)


def _extra(secrets: dict[str, str]) -> str:
    told: dict[str, Any] = {"oc_secrets": {name: secrets[name] for name in PASSWORDS}}
    if "ca.crt" in secrets:
        told |= {
            "oc_ca": secrets["ca.crt"], "oc_cert": secrets["vip.crt"], "oc_key": secrets["vip.key"],
        }  # fmt: skip
    return json.dumps(told)


def _certificates(facts: OvercloudFacts) -> dict[str, str]:
    at = now()
    ca = pki.make_authority(f"{facts.name}-overcloud", at)
    own = pki.server_certificate(ca, facts.name, sorted(set(facts.vips.values())), at)
    return {"ca.crt": ca.public, "vip.crt": own.public, "vip.key": own.key}


def _inventory(facts: OvercloudFacts) -> dict[str, Any]:
    options = _options(facts)
    variables = {
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_common_args": _ssh.KNOWN,
        "oc_name": facts.name, "oc_vip": facts.vips["internal"], "oc_region": REGION,
        "oc_driver": options.driver, "oc_virt_type": _virt_type(facts, options),
        "oc_horizon": HORIZON in facts.services,
        "oc_tls": options.tls, "oc_physnet": PHYSNET, "oc_aggregates": _zones(facts, options),
    }  # fmt: skip
    groups: dict[str, Any] = {
        group: {"hosts": {node.name: {} for node in nodes}}
        for group, nodes in (
            ("control", facts.of("control")), ("network", facts.of("network")),
            ("compute", facts.of("compute")),
        )
    }  # fmt: skip
    hosts = {node.name: _host(node) for node in facts.nodes}
    return {"all": {"vars": variables, "hosts": hosts, "children": groups}}


def _host(node: NodeFacts) -> dict[str, Any]:
    api, external = node.wires["api"], node.wires.get("external")
    return {
        "ansible_host": node.reached,
        "api_address": api.bare, "api_interface": api.interface,
        "tunnel_address": node.wires.get("tunnel", api).bare,
        "external_interface": external.interface if external and "network" in node.roles else "",
    }  # fmt: skip


def _virt_type(facts: OvercloudFacts, options: Options) -> str:
    """kvm only where each node's own inventory said that its CPU can: a guess would end servers."""
    if options.virt_type != "auto":
        return options.virt_type
    return "kvm" if all(node.virtualization for node in facts.of("compute")) else "qemu"


def _zones(facts: OvercloudFacts, options: Options) -> dict[str, list[str]]:
    """Rack -> its compute nodes."""
    if not options.zones:
        return {}
    found: dict[str, list[str]] = {}
    for node in facts.of("compute"):
        found.setdefault(node.rack or "nova", []).append(node.name)
    return found


# --- what it cannot do ----------------------------------------------------------------------------


def _about_options(facts: OvercloudFacts) -> Iterator[Fault]:
    try:
        _options(facts)
    except ValidationError as problem:
        for error in problem.errors():
            field = ".".join(str(word) for word in ("options", *error["loc"]))
            says = f"it is not as it must be: {error['msg']}"
            yield Fault(field, says, f"debian knows {', '.join(Options.model_fields)}.")


def _about_nodes(facts: OvercloudFacts) -> Iterator[Fault]:
    if len(facts.of("control")) != 1:
        yield Fault(
            "control.count", "debian's databases are on one control node, not on several",
            "Say control: {count: 1}, or take kolla-ansible.",
        )  # fmt: skip
    for role in ("network", "storage", "monitoring"):
        for node in facts.nodes:
            if node.roles[0] == role:
                yield Fault(
                    f"{role}.count", f"debian has no {role} nodes of their own",
                    f"Leave {role} out: the control node is that.",
                )  # fmt: skip
                break
    for node in facts.nodes:
        external = node.wires.get("external")
        if external and external.address and "network" in node.roles:
            yield Fault(
                "networks.external", f"{node.name} has an address there, which its bridge takes",
                "Take a network without pools: `seed network list`.",
            )  # fmt: skip


def _about_addresses(facts: OvercloudFacts) -> Iterator[Fault]:
    yield from _checks.wanted_nets(facts, ("api", "tunnel"), "debian")
    vip = facts.vips["internal"]
    if vip and ip_address(vip).version != 4:
        yield Fault(
            "vips.internal", f"{vip} is not IPv4, and debian's services listen on such a one",
            f"Put an IPv4 VIP and name it: `seed network show {facts.networks['api'].name}`.",
        )  # fmt: skip
    for node in facts.nodes:
        for use in ("api", "tunnel"):
            wire = node.wires.get(use)
            if wire and wire.bare and ip_address(wire.bare).version != 4:
                yield Fault(
                    f"networks.{use}", f"{node.name} would have {wire.bare} there, and debian"
                    " wants IPv4", "Take a network with an IPv4 subnet: `seed network list`.",
                )  # fmt: skip
                return


def _about_the_rest(facts: OvercloudFacts) -> Iterator[Fault]:
    if facts.release not in ("", RELEASE):
        yield Fault(
            "release", f"Debian's packages are {RELEASE}, not {facts.release}",
            "Leave release out, or take another installer: `seed overcloud installers`.",
        )  # fmt: skip
    if unknown := sorted({*facts.services} - {HORIZON}):
        yield Fault(
            "services", f"debian installs no {', '.join(unknown)}",
            f"It can have {HORIZON} beside its minimum; for more take kolla-ansible.",
        )  # fmt: skip
    if facts.vips["external"] != facts.vips["internal"]:
        yield Fault(
            "vips.external", "debian has one VIP, for its own services and for people",
            "Leave vips.external out, or take kolla-ansible.",
        )  # fmt: skip
