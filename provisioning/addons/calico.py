"""Calico without its operator: calico.yaml of a release, which keeps its data in Kubernetes."""

from provisioning.addons import Addon, Document, Options, _kubectl
from provisioning.kinds import ClusterFacts, MemberFacts, Step
from provisioning.targets import PartSpec

NAMESPACE = "kube-system"


class Calico(Addon):
    name = "calico"
    manifest = "calico.yaml"
    images = ("cni", "node", "kube-controllers")
    network = True

    def parts(
        self, facts: ClusterFacts, member: MemberFacts, options: Options, secrets: dict[str, str]
    ) -> list[PartSpec]:
        return [_kubectl.customization(self.name, [_daemon(facts)])] if member.leads else []

    def steps(self, facts: ClusterFacts, member: MemberFacts, options: Options) -> list[Step]:
        if not member.leads:
            return []
        workloads = ("daemonset/calico-node", "deployment/calico-kube-controllers")
        return [
            _kubectl.customized(facts, self.name, self.manifest),
            *_kubectl.rolled_out(facts, self.name, NAMESPACE, *workloads),
        ]


def _daemon(facts: ClusterFacts) -> Document:
    """Its own pool is 192.168.0.0/16. A node's address is the one that its kubelet tells: by itself
    it takes the first interface that it finds."""
    env = {
        "CALICO_IPV4POOL_CIDR": facts.pod_cidr,
        "IP_AUTODETECTION_METHOD": "kubernetes-internal-ip",
    }
    container = {
        "name": "calico-node",
        "env": [{"name": name, "value": value} for name, value in env.items()],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "calico-node", "namespace": NAMESPACE},
        "spec": {"template": {"spec": {"containers": [container]}}},
    }


PLUGIN = Calico()
