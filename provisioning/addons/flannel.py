"""Flannel: the pods' network over VXLAN. Its manifest is kube-flannel.yml of a release."""

import json

from provisioning.addons import Addon, Document, Options, _kubectl
from provisioning.kinds import ClusterFacts, MemberFacts, Step
from provisioning.targets import PartSpec

NAMESPACE, DAEMON = "kube-flannel", "kube-flannel-ds"


class Flannel(Addon):
    name = "flannel"
    manifest = "flannel.yaml"
    images = ("flannel", "flannel-cni-plugin")
    network = True

    def parts(
        self, facts: ClusterFacts, member: MemberFacts, options: Options, secrets: dict[str, str]
    ) -> list[PartSpec]:
        if not member.leads:
            return []
        return [_kubectl.customization(self.name, [_config(facts), _daemon(facts)])]

    def steps(self, facts: ClusterFacts, member: MemberFacts, options: Options) -> list[Step]:
        if not member.leads:
            return []
        return [
            _kubectl.customized(facts, self.name, self.manifest),
            *_kubectl.rolled_out(facts, self.name, NAMESPACE, f"daemonset/{DAEMON}"),
        ]


def _config(facts: ClusterFacts) -> Document:
    """flanneld ends where a node's pods are in no range that it knows."""
    told = {"Network": facts.pod_cidr, "EnableNFTables": False, "Backend": {"Type": "vxlan"}}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kube-flannel-cfg", "namespace": NAMESPACE},
        "data": {"net-conf.json": json.dumps(told, indent=2) + "\n"},
    }


def _daemon(facts: ClusterFacts) -> Document:
    """By itself it takes the interface of the default route, which may be another network's."""
    interfaces = dict.fromkeys(member.interface for member in facts.members)
    args = ["--ip-masq", "--kube-subnet-mgr", *(f"--iface={one}" for one in interfaces)]
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": DAEMON, "namespace": NAMESPACE},
        "spec": {"template": {"spec": {"containers": [{"name": "kube-flannel", "args": args}]}}},
    }


PLUGIN = Flannel()
