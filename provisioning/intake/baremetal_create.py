"""What `baremetal create FILE` takes: {"chassis": [{"nodes": [...]}], "nodes": [{...}]}."""

from dataclasses import dataclass
from typing import Any

from provisioning.driver_info import bmc_of, each, is_table, tabled
from provisioning.intake import Document, Listed, listed


@dataclass(frozen=True, slots=True)
class BaremetalCreate:
    name: str = "baremetal-create"
    title: str = "a file of `baremetal create`"

    def fits(self, document: Document) -> bool:
        first = document.parts[0] if len(document.parts) == 1 else None
        if not isinstance(first, dict) or not first or set(first) - {"nodes", "chassis"}:
            return False
        nodes = first.get("nodes") or []
        return isinstance(nodes, list) and all(is_table(node, "driver") for node in nodes)

    def read(self, document: Document) -> list[Listed]:
        first = document.parts[0]
        found = _nodes("nodes", first.get("nodes") or [])
        for number, chassis in enumerate(each("chassis", first.get("chassis") or [])):
            found += _nodes(f"chassis[{number}].nodes", chassis.get("nodes") or [])
        return found


def _nodes(where: str, nodes: Any) -> list[Listed]:  # noqa: ANN401
    return [_node(f"{where}[{n}]", node) for n, node in enumerate(each(where, nodes))]


def _node(where: str, node: dict[str, Any]) -> Listed:
    said = bmc_of(node.get("driver_info"))
    properties = tabled(f"{where}.properties", node.get("properties") or {})
    ports = each(f"{where}.ports", node.get("ports") or [])
    for group in each(f"{where}.portgroups", node.get("portgroups") or []):
        ports = [*ports, *each(f"{where}.portgroups.ports", group.get("ports") or [])]
    said["name"] = node.get("name")
    said["resource_class"] = node.get("resource_class")
    said["macs"] = [port.get("address") for port in ports]
    said["facts"] |= {
        "driver": node.get("driver"),
        "node_uuid": node.get("uuid"),
        "cpu_arch": properties.get("cpu_arch"),
    }
    return listed(where, said)


PLUGIN = BaremetalCreate()
