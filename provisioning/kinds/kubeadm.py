"""Kubernetes 1.34 to 1.36 by kubeadm, without SSH.

The first control plane runs `kubeadm init`, all others join in parallel. Each control plane has the
cluster's CAs from the start, so that no certificate key is needed: those are good for two hours.
kubeadm, kubelet, kubectl and images come from a bundle, or somebody puts them there: the step that
wants them goes on as soon as they are.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import IPv4Interface, IPv4Network
from typing import Final

from pydantic import ValidationError

from provisioning import pki
from provisioning.kinds import (
    ClusterFacts,
    Fault,
    MemberFacts,
    Step,
    _bridge,
    _kubeadm,
    _kubeadm_steps,
    _vip,
)
from provisioning.kinds._kubeadm import IMAGES, PROGRAMS, Options
from provisioning.targets import PartSpec

VERSIONS: Final = re.compile(r"1\.(34|35|36)\.(0|[1-9][0-9]*)")
DOMAIN: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9-]{1,63})*")
REGISTRY: Final = re.compile(r"(https?://)?[A-Za-z0-9.-]+(:[0-9]{1,5})?/?")
TAKEN: Final = {
    22: "sshd's", 2379: "etcd's", 2380: "etcd's", 2381: "etcd's", 10248: "kubelet's",
    10249: "kube-proxy's", 10250: "kubelet's", 10256: "kube-proxy's",
    10257: "kube-controller-manager's", 10259: "kube-scheduler's",
}  # fmt: skip
"""Ports of a control plane."""
LARGEST, SMALLEST = 12, 28
"""Prefix lengths of service_cidr: kube-apiserver takes no larger one, and the cluster's DNS has the
tenth address."""
MIRROR: Final = "/etc/containerd/certs.d/_default/hosts.toml"


class Kubeadm:
    name = "kubeadm"

    def faults(self, facts: ClusterFacts) -> list[Fault]:
        if other := [*_about_addresses(facts)]:
            return other
        found = [*_about_version(facts), *_about_members(facts), *_about_options(facts)]
        return [*found, *_vip.faults(facts, TAKEN), *_about_ranges(facts)]

    def secrets(self, facts: ClusterFacts) -> dict[str, str]:
        """The files below /etc/kubernetes/pki by their paths there, "token" and "vrrp"."""
        made = pki.certificates(datetime.now(UTC))
        return {**made, "token": pki.bootstrap_token(), "vrrp": _vip.new_password()}

    def files(
        self, facts: ClusterFacts, member: MemberFacts, secrets: dict[str, str]
    ) -> list[PartSpec]:
        options = Options.model_validate(facts.options)
        found = [*_configuration(facts, member, secrets), *_common(facts, member, options)]
        found.append(_part(_kubeadm_steps.CA, secrets["ca.crt"]))
        if options.cni == "bridge":
            found += _bridge.parts(facts, member)
        if member.role == "control":
            names = [name for name in secrets if name.endswith((".crt", ".key", ".pub"))]
            found += [_part(f"{_kubeadm_steps.PKI}/{n}", secrets[n], 0o600) for n in names]
            port = _kubeadm.bind_port(facts)
            found += _vip.parts(facts, member, secrets["vrrp"], port, _kubeadm.HEALTH)
        return found

    def steps(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        return _kubeadm_steps.steps(facts, member, Options.model_validate(facts.options))

    def check(self, facts: ClusterFacts, member: MemberFacts) -> tuple[str, ...]:
        """For on_node/member.py; whether nodes are Ready only the API knows."""
        return _kubeadm_steps.check()


PLUGIN = Kubeadm()


# --- files --------------------------------------------------------------------------------------


def _part(path: str, text: str, mode: int = 0o644) -> PartSpec:
    return PartSpec(path, path, mode, text.encode())


def _configuration(
    facts: ClusterFacts, member: MemberFacts, secrets: dict[str, str]
) -> Iterator[PartSpec]:
    join = _kubeadm.to_join(facts, member, secrets)
    if not member.first:
        yield _part(_kubeadm_steps.CONFIG, join, 0o600)
        return
    begin = _kubeadm.to_begin(facts, member, secrets["token"])
    yield _part(_kubeadm_steps.CONFIG, begin, 0o600)
    yield _part(_kubeadm_steps.JOIN, join, 0o600)


def _common(facts: ClusterFacts, member: MemberFacts, options: Options) -> Iterator[PartSpec]:
    kubelet = _kubeadm.KUBELET.format(path=options.path, programs=options.programs)
    yield _part(_kubeadm_steps.KUBELET, kubelet)
    yield _part(_kubeadm_steps.CONTAINERD, _kubeadm.CONTAINERD)
    if facts.registry:
        url = facts.registry.rstrip("/")
        url = url if "://" in url else f"https://{url}"
        yield _part(MIRROR, _kubeadm.MIRROR.format(registry=url))
    if facts.bundle_url:
        taken = [*options.binaries(), *options.images(member)]
        listed = "".join(f"{file.sha256} {file.path}\n" for file in taken)
        yield _part(_kubeadm_steps.LISTED, listed)


# --- faults -------------------------------------------------------------------------------------


def _about_addresses(facts: ClusterFacts) -> Iterator[Fault]:
    for member in facts.members:
        try:
            IPv4Interface(member.address)
        except ValueError:
            says = f"{member.name} has {member.address} in the network of role api: no IPv4 address"
            yield Fault("networks", says, "Take a layout whose network of role api has IPv4.")


def _about_version(facts: ClusterFacts) -> Iterator[Fault]:
    if not VERSIONS.fullmatch(facts.version):
        says = f"{facts.version!r} is no version of Kubernetes from 1.34 to 1.36"
        yield Fault("version", says, "Give all three numbers of one, such as 1.36.2.")


def _about_members(facts: ClusterFacts) -> Iterator[Fault]:
    count = len(_vip.control_planes(facts))
    if count % 2 == 0:
        says = f"{count} control planes cannot outvote each other: etcd wants an odd number"
        yield Fault("control.count", says, f"Take {max(1, count - 1)} or {count + 1}.")
    for member in facts.members:
        yield from _about_words(member)


def _about_words(member: MemberFacts) -> Iterator[Fault]:
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


def _about_options(facts: ClusterFacts) -> Iterator[Fault]:
    if not DOMAIN.fullmatch(facts.dns_domain):
        says = f"dns_domain {facts.dns_domain!r} is no domain name"
        yield Fault("dns_domain", says, "Take cluster.local, or another in small letters.")
    if facts.registry and not REGISTRY.fullmatch(facts.registry):
        says = f"{facts.registry!r} is no registry that can be a mirror: those have no path"
        yield Fault("registry", says, "Write https://HOST:PORT.")
    try:
        options = Options.model_validate(facts.options)
    except ValidationError as problem:
        for error in problem.errors():
            field = ".".join(str(word) for word in ("options", *error["loc"]))
            says = f"{field} is not as it must be: {error['msg']}"
            yield Fault(field, says, f"kubeadm knows {', '.join(Options.model_fields)}.")
        return
    if facts.bundle_url:
        there = {file.name for file in options.binaries()}
        lacks = [name for name in PROGRAMS if name not in there]
        lacks += [f"archive of the image {name}" for name in IMAGES if not options.has(name)]
        for name in lacks:
            yield Fault("bundle", f"the bundle has no {name}", "Put it there: `seed bundle make`.")


def _about_ranges(facts: ClusterFacts) -> Iterator[Fault]:
    """Each must be a range before it can be too small or overlap another."""
    ranges: dict[str, IPv4Network] = {}
    for field in ("pod_cidr", "service_cidr"):
        text = getattr(facts, field)
        try:
            ranges[field] = IPv4Network(text)
        except ValueError:
            says = f"{field} {text!r} is no range of IPv4 addresses"
            yield Fault(field, says, "Write its first address and its length: 10.244.0.0/16.")
    yield from _overlaps(facts, ranges)
    yield from _sizes(facts, ranges)


def _overlaps(facts: ClusterFacts, ranges: dict[str, IPv4Network]) -> Iterator[Fault]:
    networks = {IPv4Interface(m.address).network: f"the network of {m.name}" for m in facts.members}
    if vip := _vip.address(facts):
        networks.setdefault(IPv4Network(vip), "vip")
    pairs = [(field, name, network) for field in ranges for network, name in networks.items()]
    if len(ranges) == 2:
        pairs.append(("service_cidr", "pod_cidr", ranges["pod_cidr"]))
    for field, name, network in pairs:
        if ranges[field].overlaps(network):
            says = f"{field} {ranges[field]} overlaps {name}, {network}"
            yield Fault(field, says, "Take a range that no network of this site uses.")


def _sizes(facts: ClusterFacts, ranges: dict[str, IPv4Network]) -> Iterator[Fault]:
    services, pods = ranges.get("service_cidr"), ranges.get("pod_cidr")
    if services and not LARGEST <= services.prefixlen <= SMALLEST:
        how = "small" if services.prefixlen > SMALLEST else "large"
        says = f"service_cidr {services} is too {how}"
        yield Fault("service_cidr", says, f"Take one from /{LARGEST} to /{SMALLEST}, such as /16.")
    if pods and facts.options.get("cni", "bridge") == "bridge":
        yield from _bridge.faults(facts, pods)
    elif pods and pods.num_addresses >> 8 < len(facts.members):
        says = f"pod_cidr {pods} has no /24 for each of {len(facts.members)} nodes"
        yield Fault("pod_cidr", says, "Take a larger one: a /16 is enough for 256 nodes.")
