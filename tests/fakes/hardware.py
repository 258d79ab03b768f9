"""Inventories and class documents as tests need them."""

from typing import Any

from provisioning.classes import Document

GB = 10**9


def an_inventory(ssds: int = 4, **facts: Any) -> dict[str, Any]:
    """A stored inventory: a Dell with so many SSDs of 960 GB and two NICs."""
    return {
        "vendor": "Dell Inc.", "model": "PowerEdge R740xd", "memory_mib": 262144, "cpu_count": 2,
        "drives": [
            {"serial": f"D{n}", "media": "ssd", "size_bytes": 960 * GB} for n in range(ssds)
        ],
        "nics": [{"mac": f"52:54:00:00:00:{n:02x}", "speed_mbps": 25000} for n in range(2)],
    } | facts  # fmt: skip


def a_class(name: str = "storage", **facts: Any) -> Document:
    told = {
        "name": name,
        "match": {"model": "PowerEdge R740*"},
        "resource_class": name,
        "traits": ["CUSTOM_NVME"],
        "capabilities": {"disks": "many"},
        "bom": {"drives": [{"count": 4, "media": "ssd", "size_gb": 960}]},
    }
    return Document.model_validate(told | facts)
