"""Networks, layouts and NICs as tests need them."""

from typing import Any
from uuid import UUID

from provisioning.layout_doc import LayoutDoc
from provisioning.layouts import NodeNic, NodeNics
from provisioning.models import Address
from provisioning.network_doc import NetworkDoc
from provisioning.states import AddressKind

NODE = UUID("00000000-0000-4000-8000-00000000000d")
MACS = tuple(f"52:54:00:c0:00:0{n}" for n in range(1, 6))


def a_subnet(third: int, **facts: Any) -> dict[str, Any]:
    cidr, pool = f"10.{third}.0.0/24", f"10.{third}.0.10-10.{third}.0.19"
    return {"cidr": cidr, "gateway": f"10.{third}.0.1", "pools": [pool], **facts}


def a_network(name: str = "storage", vlan: int | None = 40, **facts: Any) -> NetworkDoc:
    told = {"name": name, "role": "storage", "vlan": vlan, "subnets": [a_subnet(vlan or 60)]}
    return NetworkDoc.model_validate(told | facts)


def networks(*docs: NetworkDoc) -> dict[str, NetworkDoc]:
    return {doc.name: doc for doc in docs}


def a_layout(**facts: Any) -> LayoutDoc:
    """Two NICs in bond0, which has VLAN 40."""
    told: dict[str, Any] = {
        "name": "bonded",
        "nics": {"up": {"count": 2, "boot": True}},
        "bonds": [{"name": "bond0", "nics": ["up"]}],
        "networks": [{"network": "storage", "link": "bond0"}],
    }
    return LayoutDoc.model_validate(told | facts)


def nics(count: int = 2, **facts: Any) -> NodeNics:
    """NICs enp1s0, enp2s0, ..., the first of which boots."""
    return NodeNics(
        tuple(NodeNic(MACS[n], f"enp{n + 1}s0", boot=n == 0, **facts) for n in range(count))
    )


def given(*nets: NetworkDoc) -> list[Address]:
    """The first free address of every static subnet."""
    return [
        Address(
            address=str(next(subnet.free())), network=net.name, kind=AddressKind.NODE,
            node_uuid=NODE,
        )
        for net in nets
        for subnet in net.subnets
        if subnet.addresses == "static"
    ]  # fmt: skip


BOOT = Address(address="172.22.0.50", mac=MACS[0], node_uuid=NODE)
