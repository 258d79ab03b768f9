"""Availability zones of racks, and host aggregates of rows and power feeds: a playbook.

A zone is an aggregate with a name for people; a host is in one zone at most, and in any number of
aggregates without one (openstack/nova doc/source/admin/availability-zones.rst). A zone that has
servers cannot be renamed, so a zone is called by its rack and nothing that changes. Keys:
openstack/ansible-collections-openstack 0215e2a plugins/modules/host_aggregate.py. Neutron's and
Cinder's zones are options of their agents, not aggregates, and not made here.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from provisioning import gives
from provisioning.gives import Give
from provisioning.installers import NodeFacts, OvercloudFacts
from provisioning.targets import PartSpec

K = TypeVar("K")


def lacks(facts: OvercloudFacts) -> str:
    if not (computes := facts.of("compute")):
        return "it has no compute node"
    lost = [node.name for node in computes if not node.rack]
    return f"the rack plan has no place for {', '.join(lost)}" if lost else ""


def files(facts: OvercloudFacts) -> list[PartSpec]:
    hint = "ansible-playbook zones.yml: needs the collection openstack.cloud, and OS_CLOUD."
    tasks = [_task(name, zone, hosts, about) for name, zone, hosts, about in aggregates(facts)]
    text = gives.as_yaml(facts, gives.play("Zones and aggregates", "localhost", tasks), hint=hint)
    return [gives.part("zones.yml", text)]


Aggregate = tuple[str, str, list[str], dict[str, str]]
"""Name, zone or "", hosts, metadata."""


def aggregates(facts: OvercloudFacts) -> list[Aggregate]:
    """Zones first; by name."""
    computes = facts.of("compute")
    zones = _zones(computes)
    found: list[Aggregate] = []
    for (site, row, rack), hosts in _by(computes, lambda n: (n.site, n.row, n.rack)).items():
        about = {"site": site, "row": row, "rack": rack}
        zone = zones[site, row, rack]
        found.append((f"rack-{zone}", zone, hosts, {k: v for k, v in about.items() if v}))
    for (site, row), hosts in _by(computes, lambda n: (n.site, n.row) if n.row else None).items():
        name = gives.plain("-".join(filter(None, ["row", site, row])))
        found.append((name, "", hosts, {"row": row}))
    for feed, hosts in _by(computes, lambda n: n.feed or None).items():
        found.append((gives.plain(f"feed-{feed}"), "", hosts, {"feed": feed}))
    return found


def _zones(nodes: tuple[NodeFacts, ...]) -> dict[tuple[str, str, str], str]:
    """Rack -> its zone: the rack's own name, and with site and row where that could be two."""
    racks = {(node.site, node.row, node.rack) for node in nodes}
    bare = {rack: gives.plain(rack[2]) for rack in racks}
    called = [name.lower() for name in bare.values()]
    return {
        rack: name if called.count(name.lower()) == 1 else gives.plain("-".join(filter(None, rack)))
        for rack, name in bare.items()
    }


def _by(nodes: tuple[NodeFacts, ...], key: Callable[[NodeFacts], K | None]) -> Mapping[K, Any]:
    found: dict[K, list[str]] = {}
    for node in nodes:
        if (at := key(node)) is not None:
            found.setdefault(at, []).append(node.name)
    return {at: sorted(found[at]) for at in sorted(found, key=str)}


def _task(name: str, zone: str, hosts: list[str], about: dict[str, str]) -> dict[str, Any]:
    words: dict[str, Any] = {"name": name, "hosts": hosts, "metadata": about}
    if zone:
        words["availability_zone"] = zone
    return {"name": f"Aggregate {name}", "openstack.cloud.host_aggregate": words}


PLUGIN = Give("zones", "availability zones of racks, aggregates of rows and feeds", files, lacks)
