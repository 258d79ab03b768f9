"""K3s: Kubernetes in one program, without SSH. Its version is that of the Kubernetes in it.

The token and the CAs are chosen (docs.k3s.io: "k3s token", "k3s certificate"), so every member can
be told all it needs before there is a cluster. The first server begins it with embedded etcd; all
others join at its address. The program `k3s` and its images come from a bundle, or somebody puts
the program there. rke2 is the same with other paths and ports.
"""

import hmac
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import IPv4Interface, IPv4Network
from secrets import token_hex
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from provisioning import pki
from provisioning.kinds import (
    ClusterFacts,
    Fault,
    Fresh,
    KubeApi,
    MemberFacts,
    Stays,
    Step,
    _faults,
    _kubeadm,
    _skew,
    _vip,
    part,
)
from provisioning.kinds._kubeadm import BundleFile
from provisioning.kinds._kubeadm_steps import BUNDLE, check, fetch, listing, shell
from provisioning.targets import PartSpec

PORT: Final = 16443
"""Where a server listens. The address has 6443, and 6443 and 6444 are also what an agent's own load
balancer takes on loopback; a server takes the port after its own, too."""
TAKEN: Final = {
    22: "sshd's", 2379: "etcd's", 2380: "etcd's", 2381: "etcd's", 2382: "etcd's", 6444: "k3s'",
    10248: "kubelet's", 10249: "kube-proxy's", 10250: "kubelet's", 10256: "kube-proxy's",
    10257: "kube-controller-manager's", 10258: "k3s'", 10259: "kube-scheduler's", PORT: "k3s'",
    PORT + 1: "k3s'",
}  # fmt: skip
CONFIG: Final = "/etc/rancher/k3s/config.yaml"
FOLDER: Final = f"{CONFIG}.d"
BEGUN: Final = f"{FOLDER}/seed.yaml"
"""The first one's: whether it began the cluster or joined."""
CA: Final = "/etc/seed/k3s/ca.crt"
REGISTRY_CA: Final = "/etc/seed/k3s/registry-ca.crt"
LISTED: Final = "/etc/seed/k3s/bundle.sha256"
UNIT: Final = "/etc/systemd/system/k3s.service"
IMAGES: Final = "/var/lib/rancher/k3s/agent/images"
"""k3s imports what is there when it starts."""
TLS: Final = "/var/lib/rancher/k3s/server/tls"
AUTHORITIES: Final = {
    "server-ca": "ca", "client-ca": "ca", "request-header-ca": "front-proxy-ca",
    "etcd/peer-ca": "etcd/ca", "etcd/server-ca": "etcd/ca",
}  # fmt: skip
"""Below TLS -> of `secrets`: the same three that kubeadm has, so that one way makes kubeconfigs."""
_UNIT = """\
[Unit]
Description=Kubernetes by k3s
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type={type}
ExecStartPre=-/sbin/modprobe -a br_netfilter overlay
ExecStart={programs}/k3s {role}
KillMode=process
Delegate=yes
LimitNOFILE=1048576
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
"""
_ASK = "curl --silent --fail --max-time 10 --output /dev/null --cacert {ca} {url}/cacerts"
# A first one that was imaged anew finds its cluster there, and must not begin another.
_BEGIN = """\
if [ ! -e {begun} ]; then
  how='cluster-init: true'
  if {ask}; then how='server: {url}'; fi
  echo "$how" > {config}.new
  sync -f {config}.new
  mkdir -p {folder}
  mv {config}.new {begun}
fi
"""
_START = """\
systemctl daemon-reload
systemctl enable --quiet k3s.service
systemctl start k3s.service
{well}
"""


class Options(BaseModel):
    """flannel_backend: "none" where an add-on makes the pods' network. disable: of what k3s brings
    (docs.k3s.io: "packaged components"). programs: folder of k3s. files: of the bundle.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flannel_backend: Literal["vxlan", "host-gw", "wireguard-native", "none"] = "vxlan"
    disable: Annotated[
        tuple[Literal["coredns", "local-storage", "metrics-server", "servicelb", "traefik"], ...],
        Field(max_length=5),
    ] = ()
    programs: Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9_.-]+)+$")] = "/usr/local/bin"
    files: tuple[BundleFile, ...] = ()

    def taken(self) -> list[BundleFile]:
        """The program first, then images."""
        program = [f for f in self.files if f.role == "binary" and f.name == "k3s"]
        return [*program, *(f for f in self.files if f.role == "image")]


class K3s(Stays):
    name = "k3s"
    kube = KubeApi(behind=(PORT,))

    def faults(self, facts: ClusterFacts) -> list[Fault]:
        if other := _faults.addresses(facts):
            return other
        found = [*_faults.words(facts), *_about_options(facts), *_vip.faults(facts, TAKEN)]
        return [*found, *_faults.ranges(facts), *_faults.pods(facts)]

    def secrets(self, facts: ClusterFacts) -> dict[str, str]:
        """CAs as kubeadm's are called; "token" makes servers, "agent-token" agents only. "node":
        of which each node's own password is made, so that one imaged anew has the same.
        """
        made = pki.certificates(datetime.now(UTC))
        tokens = {name: token_hex(32) for name in ("token", "agent-token", "node")}
        return {**made, **tokens, "vrrp": _vip.new_password()}

    def files(
        self, facts: ClusterFacts, member: MemberFacts, secrets: dict[str, str]
    ) -> list[PartSpec]:
        options, server = Options.model_validate(facts.options), member.role == "control"
        role, kind = ("server", "notify") if server else ("agent", "exec")
        own = hmac.digest(secrets["node"].encode(), member.name.encode(), "sha256").hex()
        found = [
            part(CONFIG, _yaml(_config(facts, member, secrets)), 0o600),
            part("/etc/rancher/node/password", f"{own}\n", 0o600),
            part(UNIT, _UNIT.format(type=kind, programs=options.programs, role=role)),
            part(CA, secrets["ca.crt"]),
        ]
        if facts.registry:
            url = facts.registry.rstrip("/")
            url = url if "://" in url else f"https://{url}"
            told: dict[str, Any] = {"mirrors": {"*": {"endpoint": [url]}}}
            if facts.registry_ca:
                told["configs"] = {url.partition("://")[2]: {"tls": {"ca_file": REGISTRY_CA}}}
                found.append(part(REGISTRY_CA, facts.registry_ca))
            found.append(part("/etc/rancher/k3s/registries.yaml", _yaml(told)))
        if facts.bundle_url:
            found.append(part(LISTED, listing(options.taken())))
        if server:
            found += _vip.parts(facts, member, secrets["vrrp"], PORT)
        return [*found, *_authorities(secrets)] if member.first else found

    def steps(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        options = Options.model_validate(facts.options)
        found = _vip.steps(facts) if member.role == "control" else []
        found += _programs(facts, options)
        url = f"https://{facts.vip}:{facts.api_port}"
        ask, text = _ASK.format(ca=CA, url=url), _START.format(well=" ".join(check()))
        if member.first:
            text = _BEGIN.format(begun=BEGUN, folder=FOLDER, config=CONFIG, ask=ask, url=url) + text
        else:
            argv = ("/usr/bin/env", *ask.split())
            found.append(
                Step("api", argv, (CA,), try_seconds=15, pause_seconds=2, patience_seconds=7200)
            )
        name = "begin" if member.first else "join"
        wants = (f"{options.programs}/k3s", CONFIG, UNIT)
        last = Step(name, shell(text), wants, try_seconds=3600, patience_seconds=7200)
        return [*found, last]

    def check(self, facts: ClusterFacts, member: MemberFacts) -> tuple[str, ...]:
        return check()

    def leave(self, facts: ClusterFacts, member: MemberFacts) -> list[Step]:
        return _vip.leave() if member.role == "control" else []

    def fresh(self, facts: ClusterFacts, member: MemberFacts) -> list[Fresh]:
        return _vip.fresh(facts, member, PORT)

    def skew(self, was: str, to: str) -> Fault | None:
        return _skew.kubernetes(was, to)


PLUGIN = K3s()


def _yaml(told: dict[str, Any]) -> str:
    return yaml.safe_dump(told, sort_keys=False, width=1_000_000)


def _token(secrets: dict[str, str], user: Literal["server", "node"]) -> str:
    """docs.k3s.io, "k3s token": the secure format. Of a bundle of one certificate, k3s takes the
    hash of the file as it is (k3s 1.27 to 1.36, pkg/clientaccess).
    """
    digest = sha256(secrets["ca.crt"].encode()).hexdigest()
    return f"K10{digest}::{user}:{secrets['token' if user == 'server' else 'agent-token']}"


def _config(facts: ClusterFacts, member: MemberFacts, secrets: dict[str, str]) -> dict[str, Any]:
    server = member.role == "control"
    told: dict[str, Any] = {"token": _token(secrets, "server" if server else "node")}
    if not member.first:
        told["server"] = f"https://{facts.vip}:{facts.api_port}"
    own = {
        "node-name": member.name,
        "node-ip": _vip.bare(member),
        "node-label": _kubeadm.labels(member),
        "node-taint": [_taint(taint) for taint in _kubeadm.taints(facts, member)],
        "kubelet-arg": [f"provider-id=seed://{member.node_uuid}"],
    }
    told |= {key: value for key, value in own.items() if value}
    options = Options.model_validate(facts.options)
    if options.flannel_backend != "none":
        told["flannel-iface"] = member.interface
    return {**told, **_common(facts, secrets, options)} if server else told


def _common(facts: ClusterFacts, secrets: dict[str, str], options: Options) -> dict[str, Any]:
    """Of all servers alike: k3s lets no server join that has others."""
    planes = _vip.control_planes(facts)
    names = [facts.vip, *(_vip.bare(plane) for plane in planes), *(plane.name for plane in planes)]
    told: dict[str, Any] = {
        "agent-token": secrets["agent-token"],
        "https-listen-port": PORT,
        "tls-san": names,
        "cluster-cidr": facts.pod_cidr,
        "service-cidr": facts.service_cidr,
        "cluster-dns": str(IPv4Network(facts.service_cidr)[10]),
        "cluster-domain": facts.dns_domain,
        "flannel-backend": options.flannel_backend,
    }
    if options.flannel_backend == "none":
        told["disable-network-policy"] = True  # k3s' own wants flannel
    if options.disable:
        told["disable"] = [*options.disable]
    return told


def _taint(taint: dict[str, str]) -> str:
    return f"{taint['key']}={taint.get('value', '')}:{taint['effect']}"


def _authorities(secrets: dict[str, str]) -> Iterator[PartSpec]:
    """The first one's: the others have them of the cluster."""
    for path, name in AUTHORITIES.items():
        for ending in ("crt", "key"):
            yield part(f"{TLS}/{path}.{ending}", secrets[f"{name}.{ending}"], 0o600)
    yield part(f"{TLS}/service.key", secrets["sa.key"], 0o600)


def _programs(facts: ClusterFacts, options: Options) -> Iterator[Step]:
    if not facts.bundle_url:
        return
    yield fetch(facts, LISTED)
    program, *images = (f"{BUNDLE}/{file.path}" for file in options.taken())
    install = ("/usr/bin/install", "-D", "-m", "755", "-t", options.programs, program)
    yield Step("programs", install, (program,))
    if images:
        copy = ("/usr/bin/install", "-D", "-m", "644", "-t", IMAGES, *images)
        yield Step("images", copy, tuple(images), try_seconds=600)


def _about_options(facts: ClusterFacts) -> Iterator[Fault]:
    try:
        options = Options.model_validate(facts.options)
    except ValidationError as problem:
        for error in problem.errors():
            field = ".".join(str(word) for word in ("options", *error["loc"]))
            says = f"{field} is not as it must be: {error['msg']}"
            yield Fault(field, says, f"k3s knows {', '.join(Options.model_fields)}.")
        return
    networks = {IPv4Interface(member.address).network for member in facts.members}
    if options.flannel_backend == "host-gw" and len(networks) > 1:
        says = "flannel's host-gw wants all nodes in one network"
        yield Fault("options.flannel_backend", says, "Take vxlan.")
    if facts.bundle_url:
        taken = options.taken()
        lacks = [] if taken and taken[0].name == "k3s" else ["program k3s"]
        lacks += [] if any(file.role == "image" for file in taken) else ["archive of an image"]
        for name in lacks:
            remedy = "`seed bundle make NAME --kind k3s --version VERSION --from DIR` makes one."
            yield Fault("bundle", f"the bundle has no {name}", remedy)
