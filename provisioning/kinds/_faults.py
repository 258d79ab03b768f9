"""What no kind of Kubernetes can do with its facts, whichever installs it."""

import re
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv4Network
from typing import Final

from provisioning.kinds import ClusterFacts, Fault, MemberFacts, _kubeadm, _vip

VERSIONS: Final = re.compile(r"1\.(34|35|36)\.(0|[1-9][0-9]*)")
DOMAIN: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9-]{1,63})*")
REGISTRY: Final = re.compile(r"(https?://)?[A-Za-z0-9.-]+(:[0-9]{1,5})?/?")
LARGEST, SMALLEST = 12, 28
"""Prefix lengths of service_cidr: kube-apiserver takes no larger one, and the cluster's DNS has the
tenth address."""
LARGEST_PODS = 8
"""Of pod_cidr: kube-controller-manager takes no larger one, as nodes have a /24 each."""


def addresses(facts: ClusterFacts) -> list[Fault]:
    """Asked first: the others read addresses."""
    return [*_addresses(facts)]


def words(facts: ClusterFacts) -> list[Fault]:
    """Version, number of control planes, taints, labels, names."""
    return [*_version(facts), *_members(facts), *_names(facts)]


def ranges(facts: ClusterFacts) -> list[Fault]:
    return [*_ranges(facts)]


def pods(facts: ClusterFacts) -> list[Fault]:
    """Kubernetes itself gives each node a /24 of pod_cidr."""
    given = network(facts.pod_cidr)
    if given is None:
        return []
    if given.prefixlen < LARGEST_PODS:
        says = f"pod_cidr {given} is too large: Kubernetes keeps count of 65536 ranges of /24"
        return [Fault("pod_cidr", says, f"Take a /{LARGEST_PODS} or smaller: 10.244.0.0/16.")]
    if given.num_addresses >> 8 >= len(facts.members):
        return []
    says = f"pod_cidr {given} has no /24 for each of {len(facts.members)} nodes"
    return [Fault("pod_cidr", says, "Take a larger one: a /16 is enough for 256 nodes.")]


def network(text: str) -> IPv4Network | None:
    """None: what stands there is none."""
    try:
        return IPv4Network(text)
    except ValueError:
        return None


def _addresses(facts: ClusterFacts) -> Iterator[Fault]:
    for member in facts.members:
        try:
            IPv4Interface(member.address)
        except ValueError:
            says = f"{member.name} has {member.address} in the network of role api: no IPv4 address"
            yield Fault("networks", says, "Take a layout whose network of role api has IPv4.")


def _version(facts: ClusterFacts) -> Iterator[Fault]:
    if not VERSIONS.fullmatch(facts.version):
        says = f"{facts.version!r} is no version of Kubernetes from 1.34 to 1.36"
        yield Fault("version", says, "Give all three numbers of one, such as 1.36.2.")


def _members(facts: ClusterFacts) -> Iterator[Fault]:
    count = len(_vip.control_planes(facts))
    if count % 2 == 0:
        says = f"{count} control planes cannot outvote each other: etcd wants an odd number"
        yield Fault("control.count", says, f"Take {max(1, count - 1)} or {count + 1}.")
    for member in facts.members:
        yield from _words(member)


def _words(member: MemberFacts) -> Iterator[Fault]:
    group = "control" if member.role == "control" else "workers"
    for taint in member.taints:
        if not _kubeadm.TAINT.fullmatch(taint):
            says = f"{taint!r} of {member.name} is no taint"
            remedy = "Write KEY=VALUE:NoSchedule, or PreferNoSchedule, or NoExecute."
            yield Fault(f"{group}.node_taints", says, remedy)
    for label in member.labels:
        if _kubeadm.THEIRS.fullmatch(label) and not _kubeadm.ALLOWED.fullmatch(label):
            says = f"the label {label} of {member.name} is none that a kubelet may give itself"
            yield Fault(f"{group}.node_labels", says, "Take a name outside of kubernetes.io.")


def _names(facts: ClusterFacts) -> Iterator[Fault]:
    if not DOMAIN.fullmatch(facts.dns_domain):
        says = f"dns_domain {facts.dns_domain!r} is no domain name"
        yield Fault("dns_domain", says, "Take cluster.local, or another in small letters.")
    if facts.registry and not REGISTRY.fullmatch(facts.registry):
        says = f"{facts.registry!r} is no registry that can be a mirror: those have no path"
        yield Fault("registry", says, "Write https://HOST:PORT.")


def _ranges(facts: ClusterFacts) -> Iterator[Fault]:
    """Each must be a range before it can be too small or overlap another."""
    found: dict[str, IPv4Network] = {}
    for field in ("pod_cidr", "service_cidr"):
        text = getattr(facts, field)
        if given := network(text):
            found[field] = given
            continue
        says = f"{field} {text!r} is no range of IPv4 addresses"
        yield Fault(field, says, "Write its first address and its length: 10.244.0.0/16.")
    yield from _overlaps(facts, found)
    if services := found.get("service_cidr"):
        yield from _size(services)


def _overlaps(facts: ClusterFacts, found: dict[str, IPv4Network]) -> Iterator[Fault]:
    networks = {IPv4Interface(m.address).network: f"the network of {m.name}" for m in facts.members}
    if vip := _vip.address(facts):
        networks.setdefault(IPv4Network(vip), "vip")
    pairs = [(field, name, net) for field in found for net, name in networks.items()]
    if len(found) == 2:
        pairs.append(("service_cidr", "pod_cidr", found["pod_cidr"]))
    for field, name, net in pairs:
        if found[field].overlaps(net):
            says = f"{field} {found[field]} overlaps {name}, {net}"
            yield Fault(field, says, "Take a range that no network of this site uses.")


def _size(services: IPv4Network) -> Iterator[Fault]:
    if not LARGEST <= services.prefixlen <= SMALLEST:
        how = "small" if services.prefixlen > SMALLEST else "large"
        says = f"service_cidr {services} is too {how}"
        yield Fault("service_cidr", says, f"Take one from /{LARGEST} to /{SMALLEST}, such as /16.")
