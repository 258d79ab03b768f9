"""What a node has in Ironic because of its class: resource class, traits, capabilities.

Ironic's properties.capabilities is text: "boot_mode:uefi,disks:nvme". Those of the class are named
in extra.seed.capabilities, so that another class can take them off; all others are left alone.
"""

from typing import Any

from provisioning.ironic import Ironic, Node
from provisioning.models import Bmc

CHANGEABLE = frozenset({"enroll", "manageable", "available"})  # Ironic refuses it in others


def dress(ironic: Ironic, bmc: Bmc, node: Node) -> Node:
    """Bring the node in line with its row; the node as it is then.

    Nothing is asked of Ironic where it is so already.
    """
    if not bmc.hardware_class or node.provision_state not in CHANGEABLE:
        return node
    changes = _changes(bmc, node)
    if changes:
        ironic.patch_node(bmc.node, changes)
    traits = sorted(bmc.classed.get("traits", []))
    if sorted(node.traits) != traits:
        ironic.set_traits(bmc.node, traits)
    elif not changes:
        return node
    return ironic.node(bmc.node)


def is_dressed(bmc: Bmc, node: Node) -> bool:
    """Is there nothing to bring in line?"""
    traits = sorted(bmc.classed.get("traits", []))
    return not bmc.hardware_class or (not _changes(bmc, node) and sorted(node.traits) == traits)


def _changes(bmc: Bmc, node: Node) -> dict[str, Any]:
    mine: dict[str, str] = bmc.classed.get("capabilities", {})
    seed = dict(node.extra.get("seed") or {})
    former = seed.get("capabilities", [])
    others = {k: v for k, v in capabilities(node.properties).items() if k not in former}
    wanted = {
        "/resource_class": (node.resource_class, bmc.resource_class),
        "/properties": (node.properties, with_capabilities(node.properties, others | mine)),
        # Not all of extra: what people keep there may have changed since the node was read.
        "/extra/seed": (
            seed, {**seed, "class": bmc.hardware_class, "capabilities": [*mine]},
        ),
    }  # fmt: skip
    return {path: new for path, (old, new) in wanted.items() if old != new}


def capabilities(properties: dict[str, Any]) -> dict[str, str]:
    pairs = (c.partition(":") for c in str(properties.get("capabilities") or "").split(","))
    return {key.strip(): value.strip() for key, _, value in pairs if key.strip()}


def with_capabilities(properties: dict[str, Any], wanted: dict[str, str]) -> dict[str, Any]:
    """The properties with just these; the same properties where they say so already."""
    if capabilities(properties) == wanted:
        return properties
    return {**properties, "capabilities": ",".join(f"{k}:{v}" for k, v in wanted.items())}


def with_boot_mode(node: Node, mode: str) -> dict[str, Any]:
    """The node's properties once its ramdisk told how it booted; "" where it did not tell."""
    if not mode:
        return node.properties
    return with_capabilities(node.properties, capabilities(node.properties) | {"boot_mode": mode})
