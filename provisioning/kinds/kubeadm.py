"""Kubernetes 1.34 to 1.36 by kubeadm, without SSH.

The first control plane runs `kubeadm init`, all others join in parallel. Each control plane has the
cluster's CAs from the start, so that no certificate key is needed: those are good for two hours.
kubeadm, kubelet, kubectl and images come from a bundle, or somebody puts them there: the step that
wants them goes on as soon as they are.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from pydantic import ValidationError

from provisioning import chosen_addons, pki
from provisioning.kinds import (
    ClusterFacts,
    Fault,
    Fresh,
    KubeApi,
    MemberFacts,
    Step,
    _bridge,
    _faults,
    _kube_vip,
    _kubeadm,
    _kubeadm_parting,
    _kubeadm_steps,
    _skew,
    _vip,
    part,
)
from provisioning.kinds._kubeadm import IMAGES, PROGRAMS, Options
from provisioning.targets import PartSpec

TAKEN: Final = {
    22: "sshd's", 2379: "etcd's", 2380: "etcd's", 2381: "etcd's", 10248: "kubelet's",
    10249: "kube-proxy's", 10250: "kubelet's", 10256: "kube-proxy's",
    10257: "kube-controller-manager's", 10259: "kube-scheduler's",
}  # fmt: skip
"""Ports of a control plane."""
MIRROR: Final = "/etc/containerd/certs.d/_default/hosts.toml"
TRUSTED: Final = "/etc/containerd/certs.d/_default/ca.crt"


class Kubeadm:
    name = "kubeadm"
    takes_addons = True
    kube = KubeApi(
        token="token",  # noqa: S106  a secret's name
        token_groups=(_kubeadm.GROUP,),
        behind=_kubeadm.BEHIND,
    )

    def faults(self, facts: ClusterFacts) -> list[Fault]:
        if other := _faults.addresses(facts):
            return other
        found = [*_faults.words(facts), *_about_options(facts), *_vip.faults(facts, TAKEN)]
        return [*found, *_faults.ranges(facts), *_about_pods(facts)]

    def secrets(self, facts: ClusterFacts) -> dict[str, str]:
        """The files below /etc/kubernetes/pki by their paths there, "token" and "vrrp"."""
        made = pki.certificates(datetime.now(UTC))
        return {**made, "token": pki.bootstrap_token(), "vrrp": _vip.new_password()}

    def files(
        self, facts: ClusterFacts, member: MemberFacts, secrets: dict[str, str]
    ) -> list[PartSpec]:
        options = Options.model_validate(facts.options)
        found = [*_configuration(facts, member, secrets), *_common(facts, member, options)]
        found.append(part(_kubeadm_steps.CA, secrets["ca.crt"]))
        if chosen_addons.cni(facts) == chosen_addons.BRIDGE:
            found += _bridge.parts(facts, member)
        found += chosen_addons.parts(facts, member, secrets)
        if member.role == "control":
            names = [name for name in secrets if name.endswith((".crt", ".key", ".pub"))]
            found += [part(f"{_kubeadm_steps.PKI}/{n}", secrets[n], 0o600) for n in names]
            port = _kubeadm.bind_port(facts)
            if options.vip == _kube_vip.NAME:
                found += _kube_vip.parts(facts, member, port, _kubeadm.HEALTH)
            else:
                found += _vip.parts(facts, member, secrets["vrrp"], port, _kubeadm.HEALTH)
        return found

    def steps(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        options = Options.model_validate(facts.options)
        found = _kubeadm_steps.steps(facts, member, options)
        if member.role == "control" and not member.first:
            joins = [one.name for one in found].index("join")
            found.insert(joins + 1, _kubeadm_parting.services(facts, options))
            found.insert(joins, _kubeadm_parting.version(facts, options))
        return found

    def check(self, facts: ClusterFacts, member: MemberFacts) -> tuple[str, ...]:
        """For on_node/member.py; whether nodes are Ready only the API knows."""
        return _kubeadm_steps.check()

    def drain(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        return _kubeadm_parting.drain(Options.model_validate(facts.options))

    def leave(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        return _kubeadm_parting.leave(facts, member, Options.model_validate(facts.options))

    def forget(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        return _kubeadm_parting.forget(member, Options.model_validate(facts.options))

    def fresh(self, facts: ClusterFacts, member: MemberFacts) -> list[Fresh]:
        port, options = _kubeadm.bind_port(facts), Options.model_validate(facts.options)
        if options.vip == _kube_vip.NAME:
            return _kube_vip.fresh(facts, member, port, _kubeadm.HEALTH)
        return _vip.fresh(facts, member, port, _kubeadm.HEALTH)

    def skew(self, was: str, to: str) -> Fault | None:
        return _skew.kubernetes(was, to)


PLUGIN = Kubeadm()


# --- files --------------------------------------------------------------------------------------


def _configuration(
    facts: ClusterFacts, member: MemberFacts, secrets: dict[str, str]
) -> Iterator[PartSpec]:
    join = _kubeadm.to_join(facts, member, secrets)
    if not member.first:
        yield part(_kubeadm_steps.CONFIG, join, 0o600)
        return
    begin = _kubeadm.to_begin(facts, member, secrets["token"])
    yield part(_kubeadm_steps.CONFIG, begin, 0o600)
    yield part(_kubeadm_steps.JOIN, join, 0o600)


def _common(facts: ClusterFacts, member: MemberFacts, options: Options) -> Iterator[PartSpec]:
    kubelet = _kubeadm.KUBELET.format(path=options.path, programs=options.programs)
    yield part(_kubeadm_steps.KUBELET, kubelet)
    yield part(_kubeadm_steps.RESOLVED, _kubeadm.RESOLVED.format(address=_vip.bare(member)))
    containerd = _kubeadm.CONTAINERD + chosen_addons.containerd(facts, member)
    yield part(_kubeadm_steps.CONTAINERD, containerd)
    if facts.registry:
        url = facts.registry.rstrip("/")
        url = url if "://" in url else f"https://{url}"
        trust = f'  ca = "{TRUSTED}"\n' if facts.registry_ca else ""
        yield part(MIRROR, _kubeadm.MIRROR.format(registry=url) + trust)
        if facts.registry_ca:
            yield part(TRUSTED, facts.registry_ca)
    if facts.bundle_url:
        taken = [*options.binaries(), *options.images(member)]
        taken += options.manifests(facts) if member.leads else []
        listed = _kubeadm_steps.listing(taken)
        yield part(_kubeadm_steps.LISTED, listed)


# --- faults -------------------------------------------------------------------------------------


def _about_options(facts: ClusterFacts) -> Iterator[Fault]:
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
    if options.vip == _kube_vip.NAME:
        yield from _kube_vip.faults(facts)
    yield from chosen_addons.faults(facts)


def _about_pods(facts: ClusterFacts) -> list[Fault]:
    pods = _faults.network(facts.pod_cidr)
    if pods and chosen_addons.cni(facts) == chosen_addons.BRIDGE:
        return _bridge.faults(facts, pods)
    return _faults.pods(facts)
