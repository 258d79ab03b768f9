"""A worker that could be added, as the v1.Node that Cluster Autoscaler tries pods on."""

from typing import Final

from provisioning.autoscaling import Template
from seed.autoscaler import core_v1_pb2 as core

PODS: Final = 110
"""kubelet's own maxPods."""
MEMORY_LEFT, DISK_LEFT = 95, 90
"""Percent: firmware, kernel and kubelet (evictionHard: 100Mi, nodefs 10%) keep the rest. A pod that
fits only on more than a node will have would be promised one again and again."""


def of(template: Template, name: str) -> bytes:
    """v1.Node, as Kubernetes writes it to the wire. name: of the node that is imagined."""
    taints = [_taint(text) for text in template.taints]
    labels = template.labels | {"kubernetes.io/hostname": name}
    node = core.Node(
        metadata=core.ObjectMeta(name=name, labels=labels),
        spec=core.NodeSpec(providerID=f"seed://{name}", taints=taints),
        status=core.NodeStatus(conditions=[core.NodeCondition(type="Ready", status="True")]),
    )
    for resource, amount, left in (
        ("cpu", template.cpus, 100),
        ("memory", template.memory_bytes, MEMORY_LEFT),
        ("ephemeral-storage", template.disk_bytes, DISK_LEFT),
        ("pods", PODS, 100),
    ):
        if amount:
            node.status.capacity[resource].string = str(amount)
            node.status.allocatable[resource].string = str(amount * left // 100)
    return bytes(node.SerializeToString())


def _taint(text: str) -> core.Taint:
    """From "key=value:Effect"; the value may be missing."""
    left, effect = text.rsplit(":", 1)
    key, _, value = left.partition("=")
    return core.Taint(key=key, value=value, effect=effect)
