"""MetalLB, layer 2: addresses of Seed's own networks for services of type LoadBalancer.

Its manifest is metallb-native.yaml of a release. The addresses are kept for this cluster as its VIP
is, until it is released (cluster_ranges.py).
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from provisioning import addons
from provisioning.addons import Addon, Document, Wanted, _kubectl
from provisioning.kinds import ClusterFacts, Fault, MemberFacts, Step
from provisioning.names import Name
from provisioning.network_doc import Pool
from provisioning.targets import PartSpec

NAMESPACE, POOL = "metallb-system", "seed"
MOST = 256
"""Addresses of a cluster: each is a row."""
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
DEFINITIONS = ("ipaddresspools.metallb.io", "l2advertisements.metallb.io")


class Options(addons.Options):
    """network: one of Seed's, which the nodes that run pods are in. count: so many addresses of it,
    taken where no pool is; or range: these, "first-last"."""

    network: Name
    count: Annotated[int, Field(ge=1, le=MOST, strict=True)] | None = None
    range: Pool = ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.count) == bool(self.range):
            raise ValueError("give count (how many addresses) or range (which), one of both")
        return self


class MetalLb(Addon):
    name = "metallb"
    manifest = "metallb-native.yaml"
    images = ("controller", "speaker")
    options = Options

    def wanted(self, options: Options) -> Wanted:
        return Wanted(options.network, options.count or 0, options.range)

    def faults(self, facts: ClusterFacts, options: Options) -> list[Fault]:
        if facts.ranges.get(self.name):
            return []
        says = f"no address of {options.network} is kept for this cluster"
        remedy = f"See who has them: `seed network show {options.network}`."
        return [Fault(addons.field(self.name, "network"), says, remedy)]

    def parts(
        self, facts: ClusterFacts, member: MemberFacts, options: Options, secrets: dict[str, str]
    ) -> list[PartSpec]:
        if not member.leads:
            return []
        pool = {"addresses": [*facts.ranges.get(self.name, ())]}
        objects = (_object("IPAddressPool", pool), _object("L2Advertisement", ADVERTISED))
        return [_kubectl.part(_kubectl.path(self.name, "addresses.yaml"), *objects)]

    def steps(self, facts: ClusterFacts, member: MemberFacts, options: Options) -> list[Step]:
        found = []
        if member.role == "control" and addons.runs_pods(facts, member):
            # kubeadm marks control planes so, and the speaker of such a node announces nothing.
            words = ("label", "node", member.name, f"{EXCLUDED}-", "--request-timeout=60s")
            told = _kubectl.kubectl(facts, *words)
            found.append(Step(f"{self.name} label", told, (told[0], _kubectl.CONFIG)))
        if not member.leads:
            return found
        workloads = ("deployment/controller", "daemonset/speaker")
        return [
            *found,
            _kubectl.manifest(facts, self.name, self.manifest),
            _kubectl.established(facts, self.name, *DEFINITIONS),
            *_kubectl.rolled_out(facts, self.name, NAMESPACE, *workloads),
            _kubectl.apply(
                facts, self.name, _kubectl.path(self.name, "addresses.yaml"), what="addresses"
            ),
        ]


ADVERTISED: Document = {"ipAddressPools": [POOL]}


def _object(kind: str, spec: Document) -> Document:
    metadata = {"name": POOL, "namespace": NAMESPACE}
    return {"apiVersion": "metallb.io/v1beta1", "kind": kind, "metadata": metadata, "spec": spec}


PLUGIN = MetalLb()
