"""kubeadm's own configuration as its reference publishes it, and as strict: an unknown field fails.

kubernetes.io, "kubeadm Configuration (v1beta4)" of 1.36: the types that `kubeadm init` and `join`
read, with KubeletConfiguration as far as Seed sets it. A duration is Go's; counts are int32.
"""

from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints, model_validator

Duration = Annotated[str, StringConstraints(pattern=r"^(\d+h)?(\d+m)?(\d+s)?$", min_length=2)]
Token = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{6}\.[a-z0-9]{16}$")]
CaHash = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
HexKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Version = Literal["kubeadm.k8s.io/v1beta4"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Arg(Strict):
    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")]
    value: str


class EnvVar(Strict):
    name: str
    value: str = ""


class HostPathMount(Strict):
    name: str
    hostPath: str
    mountPath: str
    readOnly: bool = False
    pathType: str = ""


class Patches(Strict):
    directory: str


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
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
    criSocket: Annotated[str, StringConstraints(pattern=r"^unix:///")]
    taints: list[Taint] | None = None
    kubeletExtraArgs: list[Arg] = []
    ignorePreflightErrors: list[str] = []
    imagePullPolicy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    imagePullSerial: bool = True


class APIEndpoint(Strict):
    advertiseAddress: str
    bindPort: Port = 6443


class BootstrapToken(Strict):
    token: Token
    description: str = ""
    ttl: Duration = "24h"
    expires: str = ""
    usages: list[Literal["signing", "authentication"]] = []
    groups: list[Annotated[str, StringConstraints(pattern=r"^system:bootstrappers:")]] = []


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
    certSANs: list[str] = []


class ImageMeta(Strict):
    imageRepository: str = ""
    imageTag: str = ""


class DNS(ImageMeta):
    disabled: bool = False


class Proxy(Strict):
    disabled: bool = False


class LocalEtcd(ImageMeta):
    dataDir: str = "/var/lib/etcd"
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


class Networking(Strict):
    serviceSubnet: str = "10.96.0.0/12"
    podSubnet: str = ""
    dnsDomain: str = "cluster.local"


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
    certificatesDir: str = "/etc/kubernetes/pki"
    imageRepository: str = ""
    featureGates: dict[str, bool] = {}
    clusterName: str = "kubernetes"
    encryptionAlgorithm: Literal[
        "RSA-2048", "RSA-3072", "RSA-4096", "ECDSA-P256", "ECDSA-P384"
    ] = "RSA-2048"  # fmt: skip
    certificateValidityPeriod: Duration = "8760h"
    caCertificateValidityPeriod: Duration = "87600h"


class BootstrapTokenDiscovery(Strict):
    token: Token
    apiServerEndpoint: str = ""
    caCertHashes: list[CaHash] = []
    unsafeSkipCAVerification: bool = False


class FileDiscovery(Strict):
    kubeConfigPath: str


class Discovery(Strict):
    bootstrapToken: BootstrapTokenDiscovery | None = None
    file: FileDiscovery | None = None
    tlsBootstrapToken: str = ""

    @model_validator(mode="after")
    def _one(self) -> "Discovery":
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
    caCertPath: str = "/etc/kubernetes/pki/ca.crt"
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
    found = {document.kind: document for document in documents}
    assert len(found) == len(documents), "a kind stands there twice"
    return found
