"""What the kind kubeadm writes for kubeadm, kubelet and containerd."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from provisioning import chosen_addons, pki
from provisioning.image import Digest256
from provisioning.kinds import ClusterFacts, MemberFacts, _vip

CONTROL_IMAGES: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
IMAGES: Final = (*CONTROL_IMAGES, "kube-proxy", "coredns", "pause")
"""What `kubeadm config images list` names, by the last words of their names."""
PROGRAMS: Final = ("kubeadm", "kubelet", "kubectl")
API: Final = "kubeadm.k8s.io/v1beta4"
TAINT: Final = re.compile(
    r"(?P<key>[A-Za-z0-9][A-Za-z0-9._/-]*)(=(?P<value>[A-Za-z0-9._-]*))?"
    r":(?P<effect>NoSchedule|PreferNoSchedule|NoExecute)"
)
OURS: Final = ("rack", "unit", "class")
"""Labels that are Seed's: seed.rack on a node."""
VERSION: Final = "seed.version"
"""Of Kubernetes, and so of the images that a node has."""
THEIRS: Final = re.compile(r"([^/]*\.)?(kubernetes|k8s)\.io/.*")
ALLOWED: Final = re.compile(
    r"([^/]*\.)?(kubelet|node)\.kubernetes\.io/.*|topology\.kubernetes\.io/(zone|region)"
)
"""Of THEIRS, what a kubelet may say of itself: with another it does not start (kubelet 1.36,
--node-labels)."""
CONTROL_PLANE: Final = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
GROUP: Final = "system:bootstrappers:kubeadm:default-node-token"
SOCKET: Final = "unix:///run/containerd/containerd.sock"
# How long kubeadm waits: a rack that joins at once makes the first control plane slow, and those
# that were switched on first wait for it.
TIMEOUTS: Final = {
    "controlPlaneComponentHealthCheck": "10m0s",
    "kubeletHealthCheck": "10m0s",
    "kubernetesAPICall": "10m0s",
    "etcdAPICall": "10m0s",
    "tlsBootstrap": "15m0s",
    "discovery": "30m0s",
}
# A try that was cut off leaves these. kubeadm takes up its own work with them, so nobody needs to
# know how far it came; a new node has none of them.
_LEFT: Final = (
    "FileAvailable--etc-kubernetes-bootstrap-kubelet.conf",
    "FileAvailable--etc-kubernetes-kubelet.conf",
    "FileAvailable--etc-kubernetes-pki-ca.crt",
    "Port-10250",
)
# How large servers are, the cluster's spec says: kubeadm refuses a control plane of one CPU, or of
# less than 1700 MB, and that once its disk is written.
_SIZES: Final = ("NumCPU", "Mem")
_LEFT_BY_CONTROL: Final = (
    "DirAvailable--var-lib-etcd",
    *(
        f"FileAvailable--etc-kubernetes-manifests-{name}.yaml"
        for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ),
    *(f"Port-{port}" for port in (2379, 2380, 10257, 10259)),
)
# kubernetes.io: "The kubelet drop-in file for systemd"; the packages of kubelet bring the like.
KUBELET: Final = """\
[Unit]
Description=The node agent of Kubernetes
Wants=network-online.target
After=network-online.target containerd.service
StartLimitIntervalSec=0

[Service]
Environment="PATH={path}"
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
--kubeconfig=/etc/kubernetes/kubelet.conf"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart={programs}/kubelet $KUBELET_KUBECONFIG_ARGS --config=/var/lib/kubelet/config.yaml \
$KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
"""
# CoreDNS takes its servers from its node, and ends where that knows none (coredns#5764), as on a
# site without DNS. This one, the node itself, refuses at once what is asked; names of the cluster
# are answered. resolved.conf(5): only where there is no other.
RESOLVED: Final = """\
[Resolve]
FallbackDNS={address}
"""
# ms. etcd's own 100 and 1000 are for quiet disks: where one writes slowly, as while images come in,
# the cluster loses its leader, and its API for seconds (etcd.io: "Tuning").
ETCD: Final = {"heartbeat-interval": "500", "election-timeout": "5000"}
# All of the section: containerd before 2.0 replaces a plugin's settings by those that it imports,
# and does not merge them (containerd#5837). @SANDBOX@: the node's own kubeadm knows which.
CONTAINERD: Final = """\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "@SANDBOX@"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = true
"""
# Of all registries: an image keeps its name, and is asked for here first.
MIRROR: Final = """\
[host."{registry}"]
  capabilities = ["pull", "resolve"]
"""
HEALTH: Final = (
    "option httpchk",
    "http-check connect ssl",
    "http-check send meth GET uri /readyz",
    "http-check expect status 200",
    "default-server verify none",  # of the check alone: clients look at the certificate themselves
)
"""How haproxy asks an API server: anybody may read /readyz."""


class BundleFile(BaseModel):
    """As bundle.json has it; path: below bundle_url."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    path: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9._+-]*(/|$)){2,}$")]
    role: Literal["binary", "image", "manifest"]
    sha256: Digest256

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name


class Options(BaseModel):
    """cni: who makes the pods' network where no add-on does; none: somebody brings one. vip: who
    moves the API's address. programs: folder of kubeadm, kubelet and kubectl. files: of the bundle.
    addons: chosen_addons.py's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cni: Literal["bridge", "none"] = "bridge"
    vip: Literal["keepalived", "kube-vip"] = "keepalived"
    programs: Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9_.-]+)+$")] = "/usr/local/bin"
    files: tuple[BundleFile, ...] = ()
    addons: Any = Field(default={})

    @property
    def path(self) -> str:
        """kubeadm and kubelet look for mount, ip, conntrack and each other."""
        folders = (self.programs, "/usr/local/sbin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
        return ":".join(dict.fromkeys(folders))

    def binaries(self) -> list[BundleFile]:
        return [file for file in self.files if file.role == "binary" and file.name in PROGRAMS]

    def manifests(self, facts: ClusterFacts) -> list[BundleFile]:
        """Those that the member that leads applies."""
        wanted = chosen_addons.manifests(facts)
        return [file for file in self.files if file.path in wanted]

    def has(self, image: str) -> bool:
        """Whether there is an archive NAME.tar or NAME_TAG.tar of it."""
        names = (f"{image}.", f"{image}_")
        return any(file.role == "image" and file.name.startswith(names) for file in self.files)

    def images(self, member: MemberFacts) -> list[BundleFile]:
        """Those that this member runs."""
        images = [file for file in self.files if file.role == "image"]
        if member.role == "control":
            return images
        return [file for file in images if not file.name.startswith((*CONTROL_IMAGES, "kube-vip"))]


KUBELET_CONFIG: Final = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "cgroupDriver": "systemd",
}


BEHIND: Final = (6443, 6444)


def bind_port(facts: ClusterFacts) -> int:
    """Where an API server listens: on all addresses of its node, so not where haproxy does."""
    return next(port for port in BEHIND if port != facts.api_port)


def to_begin(facts: ClusterFacts, member: MemberFacts, token: str) -> str:
    """For `kubeadm init`: YAML, with the token in it."""
    return _yaml([_init(facts, member, token), _cluster(facts), KUBELET_CONFIG])


def to_join(facts: ClusterFacts, member: MemberFacts, secrets: dict[str, str]) -> str:
    """For `kubeadm join`: YAML, with the token in it."""
    return _yaml([_join(facts, member, secrets)])


def _yaml(documents: list[dict[str, Any]]) -> str:
    return yaml.safe_dump_all(documents, sort_keys=False, explicit_start=True, width=1_000_000)


def _init(facts: ClusterFacts, member: MemberFacts, token: str) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "InitConfiguration",
        "bootstrapTokens": [
            {
                "token": token,
                "ttl": "24h0m0s",
                "usages": ["signing", "authentication"],
                "groups": [GROUP],
            }
        ],
        "nodeRegistration": _registration(facts, member),
        "localAPIEndpoint": _endpoint(facts, member),
        "skipPhases": ["show-join-command"],  # it prints the token
        "timeouts": TIMEOUTS,
    }


def _join(facts: ClusterFacts, member: MemberFacts, secrets: dict[str, str]) -> dict[str, Any]:
    discovery = {
        "apiServerEndpoint": f"{facts.vip}:{facts.api_port}",
        "token": secrets["token"],
        "caCertHashes": [pki.ca_cert_hash(secrets["ca.crt"])],
    }
    joining = {
        "apiVersion": API,
        "kind": "JoinConfiguration",
        "discovery": {"bootstrapToken": discovery},
        "nodeRegistration": _registration(facts, member),
        "timeouts": TIMEOUTS,
    }
    if member.role == "control":
        joining["controlPlane"] = {"localAPIEndpoint": _endpoint(facts, member)}
    return joining


def _cluster(facts: ClusterFacts) -> dict[str, Any]:
    # The bridge has ranges of its own, which Kubernetes would give to others.
    bridge = chosen_addons.cni(facts) == chosen_addons.BRIDGE
    planes = _vip.control_planes(facts)
    names = [facts.vip, *(_vip.bare(plane) for plane in planes), *(plane.name for plane in planes)]
    given = _args({"allocate-node-cidrs": "false"})
    return {
        "apiVersion": API,
        "kind": "ClusterConfiguration",
        "clusterName": facts.name,
        "kubernetesVersion": f"v{facts.version}",
        "controlPlaneEndpoint": f"{facts.vip}:{facts.api_port}",
        "encryptionAlgorithm": "ECDSA-P256",
        "networking": {
            "podSubnet": facts.pod_cidr,
            "serviceSubnet": facts.service_cidr,
            "dnsDomain": facts.dns_domain,
        },
        "apiServer": {"certSANs": names},
        "etcd": {"local": {"dataDir": "/var/lib/etcd", "extraArgs": _args(ETCD)}},
        **({"controllerManager": {"extraArgs": given}} if bridge else {}),
    }


def _args(given: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in given.items()]


def _endpoint(facts: ClusterFacts, member: MemberFacts) -> dict[str, Any]:
    return {"advertiseAddress": _vip.bare(member), "bindPort": bind_port(facts)}


def _registration(facts: ClusterFacts, member: MemberFacts) -> dict[str, Any]:
    given = {
        "node-ip": _vip.bare(member),
        "node-labels": ",".join(labels(member, {VERSION: facts.version})),
        "provider-id": f"seed://{member.node_uuid}",
    }
    left = [*_LEFT]
    if member.role == "control":
        left = [*_LEFT, *_SIZES, *_LEFT_BY_CONTROL, f"Port-{bind_port(facts)}"]
    return {
        "name": member.name,
        "criSocket": SOCKET,
        "taints": taints(facts, member),
        "kubeletExtraArgs": _args(given),
        "ignorePreflightErrors": left,
        "imagePullSerial": False,
    }


def labels(member: MemberFacts, ours: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """KEY=VALUE, as its kubelet gives them to itself. ours: more that are Seed's, not theirs."""
    own = {f"seed.{key}" if key in OURS else key: word for key, word in member.labels.items()}
    own |= {**ours, "seed.node-uuid": member.node_uuid}
    return [f"{key}={word}" for key, word in sorted(own.items())]


def taints(facts: ClusterFacts, member: MemberFacts) -> list[dict[str, str]]:
    """Where there are no workers, the control planes are."""
    own = [CONTROL_PLANE] if member.role == "control" else []
    if all(one.role == "control" for one in facts.members):
        own = []
    read = (TAINT.fullmatch(taint) for taint in member.taints)
    asked = [{key: word for key, word in m.groupdict().items() if word} for m in read if m]
    return [*({**taint} for taint in own), *asked]
