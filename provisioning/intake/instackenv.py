"""TripleO's instackenv.json, later nodes.json or .yaml: {"nodes": [{"pm_type": ..., "pm_addr": ...,
"ports": [{"address": MAC}]}]}, or that list alone.

openstack-archive/python-tripleoclient, tripleoclient/utils.py at 2539361 (parse_env_file), and
openstack-archive/tripleo-common, utils/nodes.py at 0128e17.
"""

from dataclasses import dataclass
from typing import Any

from provisioning.driver_info import each, host_of, is_table
from provisioning.intake import Document, Listed, listed, text


@dataclass(frozen=True, slots=True)
class Instackenv:
    name: str = "instackenv"
    title: str = "TripleO's instackenv.json"

    def fits(self, document: Document) -> bool:
        nodes = _nodes(document)
        return bool(nodes) and all(is_table(node, "pm_type", "pm_addr") for node in nodes)

    def read(self, document: Document) -> list[Listed]:
        return [_node(f"nodes[{number}]", node) for number, node in enumerate(_nodes(document))]


def _nodes(document: Document) -> list[Any]:
    """Empty: it is no list of nodes."""
    first = document.parts[0] if len(document.parts) == 1 else None
    nodes = first.get("nodes") if isinstance(first, dict) else first
    return nodes if isinstance(nodes, list) else []


def _node(where: str, node: dict[str, Any]) -> Listed:
    """Its NICs are `ports` ({"address": MAC}), in older files `mac`, a list."""
    macs = [port.get("address") for port in each(f"{where}.ports", node.get("ports") or [])]
    older = node.get("mac") or []
    macs += older if isinstance(older, list) else [older]
    password = node.get("pm_password")
    if isinstance(password, str) and "\n" in password.strip():
        password = None  # a private key, of the drivers that drove hypervisors by SSH
    return listed(
        where,
        {
            "macs": macs,
            "username": node.get("pm_user"),
            "password": password,
            "bmc_address": host_of(text("pm_addr", node.get("pm_addr"))),
            "name": node.get("name"),
            "resource_class": node.get("resource_class"),
            "facts": {
                "driver": node.get("pm_type"),
                "cpu_arch": node.get("arch"),
                "profile": node.get("profile"),
                "capabilities": _capabilities(node.get("capabilities")),
                "redfish_system_id": node.get("pm_system_id"),
                "ipmi_port": node.get("pm_port"),
            },
        },
    )


def _capabilities(said: Any) -> Any:  # noqa: ANN401
    """Either "a:b,c:d" or {"a": "b"}."""
    return ",".join(f"{k}:{v}" for k, v in said.items()) if isinstance(said, dict) else said


PLUGIN = Instackenv()
