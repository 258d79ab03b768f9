"""TripleO's instackenv.json: {"nodes": [{"pm_type": ..., "pm_addr": ..., "ports": [...]}]}."""

from dataclasses import dataclass
from typing import Any

from provisioning.driver_info import each, host_of, is_table
from provisioning.intake import Document, Listed, listed, text


@dataclass(frozen=True, slots=True)
class Instackenv:
    name: str = "instackenv"
    title: str = "TripleO's instackenv.json"

    def fits(self, document: Document) -> bool:
        first = document.parts[0] if len(document.parts) == 1 else None
        nodes = first.get("nodes") if isinstance(first, dict) else None
        return (
            isinstance(nodes, list)
            and bool(nodes)
            and all(is_table(node, "pm_type", "pm_addr") for node in nodes)
        )

    def read(self, document: Document) -> list[Listed]:
        nodes = document.parts[0]["nodes"]
        return [_node(f"nodes[{number}]", node) for number, node in enumerate(nodes)]


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
