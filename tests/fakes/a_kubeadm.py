"""A cluster of three control planes and two workers, and what the kind kubeadm gives to them."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from provisioning.kinds import ClusterFacts, MemberFacts, Step
from provisioning.kinds.kubeadm import PLUGIN
from tests.fakes import kubeadm_v1beta4

GOLDEN = Path(__file__).parents[1] / "golden" / "kubeadm"


def a_member(number: int, role: Any, **changes: Any) -> MemberFacts:
    labels = {"rack": f"r{number % 2}", "unit": str(number), "class": "large"}
    made = MemberFacts(
        f"web-{role}-{number}", role, number == 0, f"1be26c0b-03f2-4d2e-ae87-c02d7f33c12{number}",
        f"10.30.0.{2 + number}/28", "bond0.30", labels,
        leads=number == 0,
    )  # fmt: skip
    return replace(made, **changes)


MEMBERS = (
    *(a_member(number, "control") for number in range(3)),
    a_member(3, "worker", taints=("gpu=yes:NoSchedule", "slow:PreferNoSchedule")),
    a_member(4, "worker"),
)
FILES = [
    {"path": f"files/{name}", "role": role, "sha256": hashlib.sha256(name.encode()).hexdigest()}
    for role, names in {
        "binary": ("bin/kubeadm", "bin/kubectl", "bin/kubelet", "bin/helm"),
        "image": (
            "images/coredns.tar",
            "images/etcd.tar",
            "images/kube-apiserver.tar",
            "images/kube-controller-manager.tar",
            "images/kube-proxy.tar",
            "images/kube-scheduler.tar",
            "images/pause_3.10.2.tar",
        ),
        "manifest": ("cilium.yaml",),
    }.items()
    for name in names
]
FACTS = ClusterFacts(
    "5f0ab2", "web", "1.36.2", "10.30.0.14", 6443, "10.244.0.0/20", "10.96.0.0/16",
    "cluster.local", MEMBERS, "https://172.22.0.1", "https://172.22.0.1/bundles/k8s/1.36.2/",
    "172.22.0.1:5000", {"files": FILES},
)  # fmt: skip
FIRST, CONTROL, WORKER = MEMBERS[0], MEMBERS[1], MEMBERS[3]
ROLES = {"first": FIRST, "control": CONTROL, "worker": WORKER}
FIXED = {"token": "abcdef.0123456789abcdef", "vrrp": "s3cret77"}


class Hidden(dict[str, str]):
    """What pytest does not print where a test fails."""

    def __repr__(self) -> str:
        return f"<{len(self)} secrets>"


def made_secrets() -> Hidden:
    """Real ones, but for what stands in golden files."""
    return Hidden({**PLUGIN.secrets(FACTS), **FIXED})


def files(member: MemberFacts, secrets: dict[str, str], facts: ClusterFacts = FACTS) -> Any:
    return {part.path: part for part in PLUGIN.files(facts, member, secrets)}


def text(member: MemberFacts, secrets: dict[str, str], path: str, **changes: Any) -> str:
    told: bytes = files(member, secrets, replace(FACTS, **changes))[path].content
    return told.decode()


def config(member: MemberFacts, secrets: dict[str, str], **changes: Any) -> dict[str, Any]:
    """As kubeadm reads it: kind -> document."""
    return kubeadm_v1beta4.read(
        text(member, secrets, "/etc/kubernetes/seed-kubeadm.yaml", **changes)
    )


def step(member: MemberFacts, name: str, facts: ClusterFacts = FACTS) -> Step:
    return next(one for one in PLUGIN.steps(facts, member) if one.name == name)
