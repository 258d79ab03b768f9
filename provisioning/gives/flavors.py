"""Nova's flavors for servers that the overcloud's own Ironic has: a playbook, one per class.

Rules: openstack/ironic 39.0.0 doc/source/install/configure-nova-flavors.rst: exactly one of the
class, none of VCPU, MEMORY_MB, DISK_GB; `disk` is the root partition's size alone. How a class is
named: nova 34.0.0 nova/utils.py normalize_rc_name, os-resource-classes 1.1.0 normalize_name.
Module: openstack/ansible-collections-openstack 0215e2a plugins/modules/compute_flavor.py.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

from pydantic import Field

from provisioning import gives
from provisioning.gives import Give, Wish
from provisioning.installers import NodeFacts, OvercloudFacts
from provisioning.targets import PartSpec

LONGEST: Final = 255
"""Of Placement's names, with CUSTOM_."""
NOTHING: Final = {"resources:VCPU": "0", "resources:MEMORY_MB": "0", "resources:DISK_GB": "0"}


class Flavors(Wish):
    """public: for all projects. disk_gib: of the root partition; None: the smallest root disk."""

    public: bool = False
    disk_gib: Annotated[int, Field(ge=1, le=10**6)] | None = None


def resource_class(name: str) -> str:
    """As Placement has a node's class: one '_' for what is no letter and no digit."""
    return f"CUSTOM_{re.sub('[^0-9A-Za-z]+', '_', name).upper()}"


def lacks(facts: OvercloudFacts) -> str:
    gives.wish(facts, "flavors", Flavors)
    if not facts.lent:
        return "no server is lent to its own Ironic"
    if lost := [node.name for node in facts.lent if not node.resource_class]:
        return f"{', '.join(lost)} has no resource class"
    classes: dict[str, set[str]] = {}
    for node in facts.lent:
        classes.setdefault(resource_class(node.resource_class), set()).add(node.resource_class)
    for custom, names in sorted(classes.items()):
        if len(names) > 1:
            return f"the classes {' and '.join(sorted(names))} are one for Nova: {custom}"
        if len(custom) > LONGEST:
            return f"the class {custom[:40]}... is longer than Placement takes"
    return ""


def files(facts: OvercloudFacts) -> list[PartSpec]:
    wish = gives.wish(facts, "flavors", Flavors)
    names = sorted({node.resource_class for node in facts.lent})
    tasks = [
        flavor(name, [node for node in facts.lent if node.resource_class == name], wish)
        for name in names
    ]
    hint = "ansible-playbook flavors.yml: needs the collection openstack.cloud, and OS_CLOUD."
    text = gives.as_yaml(facts, gives.play("Bare metal flavors", "localhost", tasks), hint=hint)
    return [gives.part("flavors.yml", text)]


def flavor(name: str, nodes: Sequence[NodeFacts], wish: Flavors) -> dict[str, Any]:
    """Sizes are the smallest of its servers, for people to read; traits are those that all have."""
    traits = set.intersection(*(set(node.traits) for node in nodes))
    words = {
        "name": name,
        "vcpus": max(1, min(node.cpus for node in nodes)),
        "ram": max(1, min(node.memory_mib for node in nodes)),
        "disk": wish.disk_gib or min(map(_root_gib, nodes)),
        "is_public": wish.public,
        "extra_specs": {
            f"resources:{resource_class(name)}": "1",
            **NOTHING,
            **{f"trait:{trait}": "required" for trait in sorted(traits)},
        },
    }
    return {"name": f"Flavor {name}", "openstack.cloud.compute_flavor": words}


def _root_gib(node: NodeFacts) -> int:
    """One GiB less than its root disk, for the config drive and the boot partitions; 0: unknown."""
    size = next((disk.size for disk in node.disks if disk.role == "root"), 0)
    return max(0, size // 2**30 - 1)


PLUGIN = Give("flavors", "Nova's flavors for servers of the overcloud's own Ironic", files, lacks)
