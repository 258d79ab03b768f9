"""Objects of Kubernetes as its API reference publishes them, and as strict: an unknown field fails.

kubernetes.io, "Kubernetes API" of 1.36: the fields of the kinds that Seed writes, as far as it may
write them. metallb.io/v1beta1: MetalLB's own CustomResourceDefinitions. Kustomization: kubectl's.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints, model_validator

Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Subdomain = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti|k|M|G|T)?$")]
Words = dict[str, str]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Meta(Strict):
    name: str
    namespace: Label | None = None
    labels: Words = {}
    annotations: Words = {}


class Named(Strict):
    """Of a kind that is in no namespace: its name is an RFC 1123 subdomain."""

    name: Subdomain
    labels: Words = {}
    annotations: Words = {}


class Placed(Strict):
    name: Subdomain
    namespace: Label
    labels: Words = {}
    annotations: Words = {}


class ConfigMap(Strict):
    apiVersion: Literal["v1"]
    kind: Literal["ConfigMap"]
    metadata: Placed
    data: Words = {}


class Secret(Strict):
    """stringData: "does not work well with server-side apply", says its reference."""

    apiVersion: Literal["v1"]
    kind: Literal["Secret"]
    metadata: Placed
    data: dict[str, Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]+={0,2}$")]]
    type: str = "Opaque"


class ServiceAccount(Strict):
    apiVersion: Literal["v1"]
    kind: Literal["ServiceAccount"]
    metadata: Placed


# --- storage --------------------------------------------------------------------------------------


class StorageClass(Strict):
    apiVersion: Literal["storage.k8s.io/v1"]
    kind: Literal["StorageClass"]
    metadata: Named
    provisioner: Annotated[str, StringConstraints(pattern=r"^[a-z0-9./-]+$")]
    parameters: Words = {}
    reclaimPolicy: Literal["Delete", "Retain"] = "Delete"
    volumeBindingMode: Literal["Immediate", "WaitForFirstConsumer"] = "Immediate"
    allowVolumeExpansion: bool = False
    mountOptions: list[str] = []


class NodeExpression(Strict):
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    values: list[str] = []


class NodeTerm(Strict):
    matchExpressions: Annotated[list[NodeExpression], Field(min_length=1)]


class NodeSelector(Strict):
    nodeSelectorTerms: Annotated[list[NodeTerm], Field(min_length=1)]


class VolumeNodeAffinity(Strict):
    required: NodeSelector


class LocalVolumeSource(Strict):
    path: Annotated[str, StringConstraints(pattern=r"^/")]
    fsType: str | None = None


class PersistentVolumeSpec(Strict):
    """nodeAffinity: "required" of volumes that are local."""

    capacity: dict[Literal["storage"], Quantity]
    accessModes: list[Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]]
    volumeMode: Literal["Filesystem", "Block"] = "Filesystem"
    persistentVolumeReclaimPolicy: Literal["Retain", "Delete", "Recycle"] = "Retain"
    storageClassName: Subdomain
    local: LocalVolumeSource
    nodeAffinity: VolumeNodeAffinity

    @model_validator(mode="after")
    def _whole(self) -> "PersistentVolumeSpec":
        if self.volumeMode == "Block" and self.local.fsType:
            raise ValueError("a raw block volume has no file system")
        return self


class PersistentVolume(Strict):
    apiVersion: Literal["v1"]
    kind: Literal["PersistentVolume"]
    metadata: Named
    spec: PersistentVolumeSpec


# --- who runs what --------------------------------------------------------------------------------


class Overhead(Strict):
    podFixed: dict[Literal["cpu", "memory"], Quantity]


class RuntimeClass(Strict):
    apiVersion: Literal["node.k8s.io/v1"]
    kind: Literal["RuntimeClass"]
    metadata: Named
    handler: Label
    overhead: Overhead | None = None


class Rule(Strict):
    apiGroups: list[str]
    resources: list[str]
    verbs: list[Literal["get", "list", "watch", "create", "update", "patch", "delete"]]


class ClusterRole(Strict):
    apiVersion: Literal["rbac.authorization.k8s.io/v1"]
    kind: Literal["ClusterRole"]
    metadata: Meta
    rules: list[Rule]


class RoleRef(Strict):
    apiGroup: Literal["rbac.authorization.k8s.io"]
    kind: Literal["Role", "ClusterRole"]
    name: str


class Subject(Strict):
    kind: Literal["ServiceAccount"]
    name: Subdomain
    namespace: Label


class Binding(Strict):
    apiVersion: Literal["rbac.authorization.k8s.io/v1"]
    kind: Literal["ClusterRoleBinding", "RoleBinding"]
    metadata: Meta
    roleRef: RoleRef
    subjects: list[Subject]

    @model_validator(mode="after")
    def _place(self) -> "Binding":
        if (self.kind == "RoleBinding") != bool(self.metadata.namespace):
            raise ValueError("a RoleBinding has a namespace, a ClusterRoleBinding none")
        return self


class Toleration(Strict):
    key: str = ""
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute", ""] = ""


class VolumeMount(Strict):
    name: Label
    mountPath: str
    readOnly: bool = False


class Resources(Strict):
    requests: dict[Literal["cpu", "memory"], Quantity] = {}
    limits: dict[Literal["cpu", "memory"], Quantity] = {}


class FieldRef(Strict):
    fieldPath: Literal["metadata.name", "metadata.namespace", "spec.nodeName", "status.hostIP"]


class EnvSource(Strict):
    fieldRef: FieldRef


class EnvVar(Strict):
    name: str
    value: str = ""
    valueFrom: EnvSource | None = None

    @model_validator(mode="after")
    def _one(self) -> "EnvVar":
        if self.value and self.valueFrom:
            raise ValueError("a variable has a value or a source")
        return self


class Capabilities(Strict):
    add: list[Literal["NET_ADMIN", "NET_RAW"]] = []
    drop: list[Literal["ALL"]] = []


class ContainerSecurity(Strict):
    capabilities: Capabilities


class Container(Strict):
    name: Label
    image: str
    imagePullPolicy: Literal["Always", "IfNotPresent", "Never"] | None = None
    args: list[str] = []
    env: list[EnvVar] = []
    resources: Resources | None = None
    securityContext: ContainerSecurity | None = None
    volumeMounts: list[VolumeMount] = []


class SecretVolume(Strict):
    secretName: Subdomain


class Volume(Strict):
    name: Label
    secret: SecretVolume


class PodSecurity(Strict):
    runAsUser: int
    runAsNonRoot: bool = False


class PodSpec(Strict):
    serviceAccountName: Subdomain
    hostNetwork: bool = False
    priorityClassName: str = ""
    nodeSelector: Words = {}
    tolerations: list[Toleration] = []
    securityContext: PodSecurity | None = None
    containers: Annotated[list[Container], Field(min_length=1)]
    volumes: list[Volume] = []


class Labels(Strict):
    labels: Words


class Template(Strict):
    metadata: Labels
    spec: PodSpec


class LabelSelector(Strict):
    matchLabels: Words


class HostPath(Strict):
    path: Annotated[str, StringConstraints(pattern=r"^/")]
    type: Literal["", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"] = ""


class HostVolume(Strict):
    name: Label
    hostPath: HostPath


class StaticPodSpec(Strict):
    """It cannot name any other object of the API: no service account, no Secret."""

    hostNetwork: bool = False
    priorityClassName: Literal["system-node-critical", "system-cluster-critical"]
    containers: Annotated[list[Container], Field(min_length=1)]
    volumes: list[HostVolume] = []

    @model_validator(mode="after")
    def _mounts(self) -> "StaticPodSpec":
        mounted = {mount.name for one in self.containers for mount in one.volumeMounts}
        if mounted != {volume.name for volume in self.volumes}:
            raise ValueError("each volume is mounted, and each mount is a volume")
        return self


class Pod(Strict):
    apiVersion: Literal["v1"]
    kind: Literal["Pod"]
    metadata: Placed
    spec: StaticPodSpec


class DeploymentSpec(Strict):
    replicas: int = 1
    selector: LabelSelector
    template: Template

    @model_validator(mode="after")
    def _finds(self) -> "DeploymentSpec":
        if not self.selector.matchLabels.items() <= self.template.metadata.labels.items():
            raise ValueError("the selector does not find its own pods")
        return self


class Deployment(Strict):
    apiVersion: Literal["apps/v1"]
    kind: Literal["Deployment"]
    metadata: Placed
    spec: DeploymentSpec


# --- others' --------------------------------------------------------------------------------------


class IPAddressPoolSpec(Strict):
    addresses: Annotated[list[str], Field(min_length=1)]
    autoAssign: bool = True
    avoidBuggyIPs: bool = False


class IPAddressPool(Strict):
    apiVersion: Literal["metallb.io/v1beta1"]
    kind: Literal["IPAddressPool"]
    metadata: Placed
    spec: IPAddressPoolSpec


class L2AdvertisementSpec(Strict):
    ipAddressPools: list[str] = []
    interfaces: list[str] = []


class L2Advertisement(Strict):
    apiVersion: Literal["metallb.io/v1beta1"]
    kind: Literal["L2Advertisement"]
    metadata: Placed
    spec: L2AdvertisementSpec


class Patch(Strict):
    patch: str


class Replicas(Strict):
    name: Subdomain
    count: Annotated[int, Field(ge=1)]


class Kustomization(Strict):
    apiVersion: Literal["kustomize.config.k8s.io/v1beta1"]
    kind: Literal["Kustomization"]
    resources: list[str]
    patches: list[Patch] = []
    replicas: list[Replicas] = []


# --- changes of others' objects -------------------------------------------------------------------


class PatchContainer(Strict):
    name: Label
    args: list[str] = []
    env: list[EnvVar] = []


class PatchPod(Strict):
    containers: list[PatchContainer]


class PatchTemplate(Strict):
    spec: PatchPod


class PatchSpec(Strict):
    template: PatchTemplate


class DaemonSet(Strict):
    """As a strategic merge patch: names say which, the rest is what changes."""

    apiVersion: Literal["apps/v1"]
    kind: Literal["DaemonSet"]
    metadata: Placed
    spec: PatchSpec


class Object(
    RootModel[
        Annotated[
            ConfigMap | Secret | ServiceAccount | StorageClass | PersistentVolume | RuntimeClass
            | ClusterRole | Binding | Pod | Deployment | DaemonSet | IPAddressPool | L2Advertisement
            | Kustomization,
            Field(discriminator="kind"),
        ]
    ]
):  # fmt: skip
    """One of those that a file may have."""


def read(text: str) -> Sequence[Any]:
    """ValidationError: what the API server would not take, or would take in silence."""
    return [Object.model_validate(one).root for one in yaml.safe_load_all(text)]


def is_file_of_objects(path: str) -> bool:
    return bool(re.search(r"/addons/.*\.yaml$", path))
