"""Cilium, beside kube-proxy. It publishes no manifest: its chart's, rendered (docs/addons.md)."""

from provisioning import addons
from provisioning.addons import Addon, Document, Options, _kubectl
from provisioning.kinds import ClusterFacts, MemberFacts, Step
from provisioning.targets import PartSpec

NAMESPACE = "kube-system"


class Cilium(Addon):
    name = "cilium"
    manifest = "cilium.yaml"
    images = ("cilium", "operator-generic")
    network = True

    def parts(
        self, facts: ClusterFacts, member: MemberFacts, options: Options, secrets: dict[str, str]
    ) -> list[PartSpec]:
        if not member.leads:
            return []
        # Its chart makes two, each on another node: with one node the second never runs.
        replicas = {"cilium-operator": 1} if addons.pod_nodes(facts) == 1 else {}
        return [_kubectl.customization(self.name, [CONFIG], replicas)]

    def steps(self, facts: ClusterFacts, member: MemberFacts, options: Options) -> list[Step]:
        if not member.leads:
            return []
        workloads = ("daemonset/cilium", "deployment/cilium-operator")
        return [
            _kubectl.customized(facts, self.name, self.manifest),
            *_kubectl.rolled_out(facts, self.name, NAMESPACE, *workloads),
        ]


CONFIG: Document = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "cilium-config", "namespace": NAMESPACE},
    # docs.cilium.io, "Kubernetes Host Scope": each node's range is the one that Kubernetes gave it,
    # so that the range stands in one place. Its own default is 10.0.0.0/8.
    "data": {"ipam": "kubernetes", "k8s-require-ipv4-pod-cidr": "true"},
}

PLUGIN = Cilium()
