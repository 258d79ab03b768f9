"""kubeadm's own configuration as its source publishes it, and as strict: an unknown field fails.

kubernetes/kubernetes, cmd/kubeadm/app/apis: kubeadm/v1beta4/types.go at 1329935 and
bootstraptoken/v1/types.go at 2d350a3, the types that `kubeadm init` and `join` read; what came
after is by kubernetes.io, "kubeadm Configuration (v1beta4)": ECDSA-P384 (1.34), httpEndpoints
(1.35). What kubeadm refuses beyond types: kubeadm/validation/validation.go at 00d24de, with the
numbers of constants/constants.go at 00886ac. KubeletConfiguration as far as Seed sets it. A
duration is Go's.
"""

from ipaddress import IPv4Network, ip_address
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    StringConstraints,
    model_validator,
)

Duration = Annotated[str, StringConstraints(pattern=r"^(\d+h)?(\d+m)?(\d+s)?$", min_length=2)]
Token = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{6}\.[a-z0-9]{16}$")]
CaHash = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
HexKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Subdomain = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$",
        max_length=253,
    ),
]
Group = Annotated[
    str, StringConstraints(pattern=r"^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$")
]
Absolute = Annotated[str, StringConstraints(pattern=r"^/")]
Port = Annotated[int, Field(ge=1, le=65535)]


def _address(text: str) -> str:
    ip_address(text)
    return text


Address = Annotated[str, AfterValidator(_address)]
Version = Literal["kubeadm.k8s.io/v1beta4"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Arg(Strict):
    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")]
    value: str


class EnvVar(Strict):
    name: str
    value: str = ""
    valueFrom: dict[str, Any] | None = None


class HostPathMount(Strict):
    name: str
    hostPath: str
    mountPath: str
    readOnly: bool = False
    pathType: str = ""


class Patches(Strict):
    directory: str = ""


class Timeouts(Strict):
    controlPlaneComponentHealthCheck: Duration = "4m"
    kubeletHealthCheck: Duration = "4m"
    kubernetesAPICall: Duration = "1m"
    etcdAPICall: Duration = "2m"
    tlsBootstrap: Duration = "5m"
    discovery: Duration = "5m"
    upgradeManifests: Duration = "5m"


class Taint(Strict):
    key: str
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    value: str = ""
    timeAdded: str = ""


class NodeRegistrationOptions(Strict):
    name: Subdomain
    criSocket: Annotated[str, StringConstraints(pattern=r"^unix:///")]
    taints: list[Taint] | None = None
    kubeletExtraArgs: list[Arg] = []
    ignorePreflightErrors: list[str] = []
    imagePullPolicy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    imagePullSerial: bool = True


class APIEndpoint(Strict):
    advertiseAddress: Address
    bindPort: Port = 6443


class BootstrapToken(Strict):
    token: Token
    description: str = ""
    ttl: Duration | None = None
    expires: str | None = None
    usages: list[Literal["signing", "authentication"]] = []
    groups: list[Group] = []

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.ttl is not None and self.expires is not None:
            raise ValueError("ttl and expires exclude each other")
        if self.groups and "authentication" not in self.usages:
            raise ValueError("groups are of tokens that authenticate")
        return self


class InitConfiguration(Strict):
    apiVersion: Version
    kind: Literal["InitConfiguration"]
    bootstrapTokens: list[BootstrapToken] = []
    dryRun: bool = False
    nodeRegistration: NodeRegistrationOptions
    localAPIEndpoint: APIEndpoint
    certificateKey: HexKey | None = None
    skipPhases: list[str] = []
    patches: Patches | None = None
    timeouts: Timeouts | None = None


class ControlPlaneComponent(Strict):
    extraArgs: list[Arg] = []
    extraVolumes: list[HostPathMount] = []
    extraEnvs: list[EnvVar] = []


class APIServer(ControlPlaneComponent):
    certSANs: list[Address | Subdomain] = []


class ImageMeta(Strict):
    imageRepository: str = ""
    imageTag: str = ""


class DNS(ImageMeta):
    disabled: bool = False


class Proxy(Strict):
    disabled: bool = False


class LocalEtcd(ImageMeta):
    dataDir: Absolute = "/var/lib/etcd"
    extraArgs: list[Arg] = []
    extraEnvs: list[EnvVar] = []
    serverCertSANs: list[str] = []
    peerCertSANs: list[str] = []


class ExternalEtcd(Strict):
    endpoints: list[str]
    httpEndpoints: list[str] = []  # since 1.35
    caFile: str
    certFile: str
    keyFile: str


class Etcd(Strict):
    local: LocalEtcd | None = None
    external: ExternalEtcd | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.local is not None and self.external is not None:
            raise ValueError("local and external exclude each other")
        return self


class Networking(Strict):
    """As far as IPv4 goes: of services a /12 to a /28, of pods 14 addresses or more."""

    serviceSubnet: str = "10.96.0.0/12"
    podSubnet: str = ""
    dnsDomain: Subdomain = "cluster.local"

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        services = IPv4Network(self.serviceSubnet)
        if not 12 <= services.prefixlen <= 28:
            raise ValueError(f"serviceSubnet {services} is too large or too small")
        if self.podSubnet and IPv4Network(self.podSubnet).num_addresses < 14:
            raise ValueError(f"podSubnet {self.podSubnet} is too small")
        return self


class ClusterConfiguration(Strict):
    apiVersion: Version
    kind: Literal["ClusterConfiguration"]
    etcd: Etcd | None = None
    networking: Networking
    kubernetesVersion: Annotated[str, StringConstraints(pattern=r"^v1\.\d+\.\d+$")]
    controlPlaneEndpoint: Annotated[str, StringConstraints(pattern=r"^[0-9.]+:\d+$")]
    apiServer: APIServer | None = None
    controllerManager: ControlPlaneComponent | None = None
    scheduler: ControlPlaneComponent | None = None
    dns: DNS | None = None
    proxy: Proxy | None = None
    certificatesDir: Absolute = "/etc/kubernetes/pki"
    imageRepository: str = ""
    featureGates: dict[str, bool] = {}
    clusterName: str = "kubernetes"
    encryptionAlgorithm: Literal[
        "RSA-2048", "RSA-3072", "RSA-4096", "ECDSA-P256", "ECDSA-P384"
    ] = "RSA-2048"  # fmt: skip
    certificateValidityPeriod: Duration = "8760h"
    caCertificateValidityPeriod: Duration = "87600h"

    @model_validator(mode="after")
    def _nodes_have_ranges(self) -> Self:
        """kube-controller-manager gives each node a /24 of at most 2**16 of them."""
        args = self.controllerManager.extraArgs if self.controllerManager else []
        named = {arg.name: arg.value for arg in args}
        if self.networking.podSubnet and named.get("allocate-node-cidrs") != "false":
            own = int(named.get("node-cidr-mask-size-ipv4", 24))
            if not 0 <= own - IPv4Network(self.networking.podSubnet).prefixlen <= 16:
                raise ValueError(f"podSubnet has no range of /{own} for each node, or too many")
        return self


class BootstrapTokenDiscovery(Strict):
    token: Token
    apiServerEndpoint: Annotated[str, StringConstraints(pattern=r"^[^:]+:\d+$")]
    caCertHashes: list[CaHash] = []
    unsafeSkipCAVerification: bool = False

    @model_validator(mode="after")
    def _pinned(self) -> Self:
        if not self.caCertHashes and not self.unsafeSkipCAVerification:
            raise ValueError("caCertHashes are wanted, or unsafeSkipCAVerification")
        return self


class FileDiscovery(Strict):
    kubeConfigPath: str


class Discovery(Strict):
    bootstrapToken: BootstrapTokenDiscovery | None = None
    file: FileDiscovery | None = None
    tlsBootstrapToken: str = ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.bootstrapToken is None) == (self.file is None):
            raise ValueError("bootstrapToken and file exclude each other, and one is needed")
        return self


class JoinControlPlane(Strict):
    localAPIEndpoint: APIEndpoint
    certificateKey: HexKey | None = None


class JoinConfiguration(Strict):
    apiVersion: Version
    kind: Literal["JoinConfiguration"]
    dryRun: bool = False
    nodeRegistration: NodeRegistrationOptions
    caCertPath: Annotated[str, StringConstraints(pattern=r"^/.*\.crt$")] = (
        "/etc/kubernetes/pki/ca.crt"
    )
    discovery: Discovery
    controlPlane: JoinControlPlane | None = None
    skipPhases: list[str] = []
    patches: Patches | None = None
    timeouts: Timeouts | None = None


class KubeletConfiguration(Strict):
    apiVersion: Literal["kubelet.config.k8s.io/v1beta1"]
    kind: Literal["KubeletConfiguration"]
    cgroupDriver: Literal["systemd", "cgroupfs"] = "cgroupfs"


class Document(
    RootModel[
        Annotated[
            InitConfiguration | ClusterConfiguration | JoinConfiguration | KubeletConfiguration,
            Field(discriminator="kind"),
        ]
    ]
):
    """One of those that a file may have."""


def read(text: str) -> dict[str, Any]:
    """kind -> the document. ValidationError: what kubeadm would not read."""
    documents = [Document.model_validate(one).root for one in yaml.safe_load_all(text)]
    found: dict[str, Any] = {document.kind: document for document in documents}
    assert len(found) == len(documents), "a kind stands there twice"
    return found
