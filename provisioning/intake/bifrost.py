"""Bifrost's inventory as JSON or YAML: {"node-1": {"driver": ..., "driver_info": {...}, ...}}."""

from dataclasses import dataclass
from typing import Any

from provisioning.driver_info import bmc_of, each, is_table, tabled
from provisioning.intake import Document, Listed, listed


@dataclass(frozen=True, slots=True)
class Bifrost:
    name: str = "bifrost"
    title: str = "Bifrost's baremetal.json or baremetal.yml"

    def fits(self, document: Document) -> bool:
        first = document.parts[0] if len(document.parts) == 1 else None
        return (
            isinstance(first, dict)
            and bool(first)
            and all(is_table(host, "driver", "driver_info") for host in first.values())
        )

    def read(self, document: Document) -> list[Listed]:
        return [_host(str(key), host) for key, host in document.parts[0].items()]


def _host(key: str, host: dict[str, Any]) -> Listed:
    said = bmc_of(host.get("driver_info"))
    properties = tabled(f"{key}: properties", host.get("properties") or {})
    said["name"] = host.get("name") or key
    said["resource_class"] = host.get("resource_class")
    said["macs"] = [nic.get("mac") for nic in each(f"{key}: nics", host.get("nics") or [])]
    said["facts"] |= {
        "driver": host.get("driver"),
        "node_uuid": host.get("uuid"),
        "ipv4_address": host.get("ipv4_address"),
        "cpu_arch": properties.get("cpu_arch"),
    }
    return listed(key[:80], said)


PLUGIN = Bifrost()
