"""Airship: drydock's documents of nodes and racks, and of the networks that these refer to.

Fields are those of airshipit/drydock, python/drydock_provisioner/schemas/{baremetalNode,rack,
network,networkLink,hostProfile}.yaml at 108a3c1, their meaning doc/source/topology.rst at 161326f
and orchestrator/validations at d00eaf0; metadata: airshipit/deckhand, engine/schemas/
metadata_document.yaml at 0531c10. Drydock has MAAS image nodes and logs in on their BMCs: no login
is in here, and the name of a Passphrase document in its place where one is given.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from provisioning.installers import Format, NetFacts, NodeFacts, OvercloudFacts, _airship_links
from provisioning.installers._airship_links import BONDS, Link, links, networks, over, wires
from provisioning.installers._text import yaml_of
from provisioning.kinds import Fault, part
from provisioning.names import Name
from provisioning.targets import PartSpec

README: Final = """\
Drydock's documents of this overcloud's nodes and racks, and of their networks and links.

1. Put these files into your site's documents (pegleg: site/NAME/baremetal), layer "site".
2. Add what Seed does not know: drydock/Region/v1, drydock/HardwareProfile/v1 (drydock wants one),
   and in the host profile hardware_profile, storage with a root file system, platform.image and
   oob (type, network, account; credential by substitution from a deckhand/Passphrase/v1).
   Each node needs an address in oob.network, and metadata.boot_mac if MAAS is to know its NIC.
3. Give the nodes back before drydock has them: it boots and images them by MAAS, and two cannot
   drive one BMC.
4. Validate, then deploy, by shipyard or drydock itself, as Airship's documentation says.

No BMC's login is in these files.
"""


class Options(BaseModel):
    """host_profile: of the site's own; empty: a minimal one comes along. oob_credential: name of
    the site's Passphrase document with the BMCs' password, for the minimal one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host_profile: Name | None = None
    oob_credential: Name | None = None


class Airship(Format):
    name = "airship"
    services: frozenset[str] = frozenset()

    def faults(self, facts: OvercloudFacts) -> list[Fault]:
        try:
            Options.model_validate(facts.options)
        except ValidationError as problem:
            fields = [".".join(map(str, ("options", *one["loc"]))) for one in problem.errors()]
            remedy = f"airship knows {', '.join(Options.model_fields)}: names of documents."
            return [Fault(field, f"{field} is not as it must be", remedy) for field in fields]
        return [*_airship_links.faults(facts), *_about_nodes(facts)]

    def tree(self, facts: OvercloudFacts, secrets: dict[str, str]) -> list[PartSpec]:
        options, racks = Options.model_validate(facts.options), _rack_names(facts)
        profile = options.host_profile or f"{facts.name}-node"
        between = links(facts)
        files: dict[str, list[dict[str, Any]]] = {
            "networks.yaml": [
                *(_link(facts, link) for link in between),
                *(_network(facts, net, link) for link in between for net in link.nets),
            ],
            "racks.yaml": [
                _rack(name, [one for one in facts.nodes if racks.get(one.node_uuid) == name])
                for name in dict.fromkeys(racks.values())
            ],
            "nodes.yaml": [_node(facts, one, racks, profile) for one in facts.nodes],
        }
        if not options.host_profile:
            files["profiles.yaml"] = [_profile(facts, profile, options.oob_credential)]
        texts = {
            path: "".join(f"---\n{yaml_of(one)}" for one in told) for path, told in files.items()
        }
        return [part(path, text) for path, text in {"README.txt": README, **texts}.items()]


PLUGIN = Airship()


def _document(kind: str, name: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    about = {
        "schema": "metadata/Document/v1",
        "name": name,
        "storagePolicy": "cleartext",
        "labels": {"application": "drydock"},
        "layeringDefinition": {"abstract": False, "layer": "site"},
    }
    return {"schema": f"drydock/{kind}/v1", "metadata": about | more, "data": data}


def _link(facts: OvercloudFacts, link: Link) -> dict[str, Any]:
    trunking = {"mode": "802.1q" if link.tagged else "disabled"}
    if link.plain:
        trunking["default_network"] = link.plain[0]
    data = {
        "bonding": {"mode": BONDS[min(link.modes)]},
        "mtu": max(networks(facts)[net].mtu for net in link.nets),
        "linkspeed": "auto",
        "trunking": trunking,
        "allowed_networks": [*link.nets],
    }
    return _document("NetworkLink", link.name, data)


def _network(facts: OvercloudFacts, name: str, link: Link) -> dict[str, Any]:
    """Only one network has a way out: nodes would else have two default routes."""
    net = networks(facts)[name]
    data: dict[str, Any] = {"mtu": net.mtu}
    if name in link.tagged:
        data["vlan"] = str(net.vlan)
    if net.cidr:
        data |= {"cidr": net.cidr, "ranges": [*_ranges(net)]}
    if name == _primary(facts) and net.gateway:
        data["routes"] = [{"subnet": "0.0.0.0/0", "gateway": net.gateway, "metric": 10}]
    dns = {"domain": net.domain, "servers": ",".join(net.dns)}
    if dns := {key: value for key, value in dns.items() if value}:
        data["dns"] = dns
    return _document("Network", name, data)


def _ranges(net: NetFacts) -> Iterator[dict[str, str]]:
    for pool in net.pools:
        first, _, last = pool.partition("-")
        yield {"type": "static", "start": first, "end": last or first}
    for address in net.vips.values():
        yield {"type": "reserved", "start": address, "end": address}


def _primary(facts: OvercloudFacts) -> str:
    return next(iter(networks(facts)))


def _rack_names(facts: OvercloudFacts) -> dict[str, str]:
    """Node's UUID -> its rack's document. Racks of two rows may have one name."""
    places = {one.node_uuid: (one.site, one.row, one.rack) for one in facts.nodes if one.rack}
    namesakes: dict[str, set[tuple[str, str, str]]] = {}
    for place in places.values():
        namesakes.setdefault(place[2], set()).add(place)
    return {
        uuid: place[2] if len(namesakes[place[2]]) == 1 else "-".join(filter(None, place))
        for uuid, place in places.items()
    }


def _rack(name: str, nodes: list[NodeFacts]) -> dict[str, Any]:
    switches = sorted({nic.switch for one in nodes for nic in one.nics if nic.switch})
    labels = {"site": nodes[0].site, "row": nodes[0].row, "rack": nodes[0].rack}
    data = {
        "tor_switches": {switch: {} for switch in switches},
        "labels": {key: value for key, value in labels.items() if value},
    }
    return _document("Rack", name, data)


def _profile(facts: OvercloudFacts, name: str, credential: str | None) -> dict[str, Any]:
    data = {"primary_network": _primary(facts)}
    if not credential:
        return _document("HostProfile", name, data)
    source = {"schema": "deckhand/Passphrase/v1", "name": credential, "path": "."}
    given = [{"dest": {"path": ".oob.credential"}, "src": source}]
    return _document("HostProfile", name, data, substitutions=given)


def _node(
    facts: OvercloudFacts, node: NodeFacts, racks: dict[str, str], profile: str
) -> dict[str, Any]:
    owner = {
        "seed_node": node.node_name, "seed_uuid": node.node_uuid,
        "resource_class": node.resource_class, "unit": str(node.unit or ""), "feed": node.feed,
    }  # fmt: skip
    metadata: dict[str, Any] = {
        "tags": [*node.roles],
        "owner_data": {key: value for key, value in owner.items() if value},
    }
    if rack := racks.get(node.node_uuid):
        metadata["rack"] = rack
    data: dict[str, Any] = {
        "host_profile": profile,
        "primary_network": _primary(facts),
        "interfaces": _interfaces(facts, node),
        "addressing": [
            {"network": net, "address": wire.bare}
            for net, wire in wires(facts, node).items()
            if wire.address
        ],
        "metadata": metadata,
    }
    if node.kernel_args:
        data["platform"] = {"kernel_params": dict(map(_argument, node.kernel_args))}
    return _document("BaremetalNode", node.name, data)


def _interfaces(facts: OvercloudFacts, node: NodeFacts) -> dict[str, Any]:
    """Keys are the names that drydock gives them on the node."""
    of = {net: link.name for link in links(facts) for net in link.nets}
    found: dict[str, Any] = {}
    for net, wire in wires(facts, node).items():
        name = over(wire)
        begun = {"device_link": of[net], "slaves": [*(wire.nics or (name,))], "networks": []}
        found.setdefault(name, begun)["networks"].append(net)
    return found


def _argument(word: str) -> tuple[str, str | bool]:
    """A flag is `true`."""
    key, there, value = word.partition("=")
    return key, value if there else True


def _about_nodes(facts: OvercloudFacts) -> Iterator[Fault]:
    for node in facts.nodes:
        if "__" in node.name or not re.fullmatch(r"[A-Za-z0-9.-]+", node.name):
            says = f"drydock takes no host name such as {node.name}"
            yield Fault("name", says, "Take letters, digits and -.")
        if facts.networks and _primary(facts) not in wires(facts, node):
            says = f"{node.name} is not in {_primary(facts)}, by which drydock's nodes go out"
            yield Fault("networks.api", says, "Give it a layout that is in it.")
        keys = [_argument(word)[0] for word in node.kernel_args]
        if twice := [key for key in dict.fromkeys(keys) if keys.count(key) > 1]:
            says = f"drydock keeps one kernel argument {twice[0]}, and {node.name} has more"
            remedy = f"Ask for {twice[0]} once, or have it in the image."
            yield Fault(f"{node.roles[0]}.kernel_args", says, remedy)
