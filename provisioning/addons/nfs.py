"""Volumes on an NFS server that is there already: the driver csi-driver-nfs, and a StorageClass.

A volume is a folder of the share. Its manifest is a release's rbac-csi-nfs.yaml,
csi-nfs-driverinfo.yaml, csi-nfs-controller.yaml and csi-nfs-node.yaml, one after the other.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from provisioning import addons
from provisioning.addons import Addon, _kubectl
from provisioning.kinds import ClusterFacts, MemberFacts, Step
from provisioning.names import NewHostLabel
from provisioning.targets import PartSpec

NAMESPACE, DRIVER = "kube-system", "nfs.csi.k8s.io"
HOST = r"^([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,45})$"

MountOption = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+(=[A-Za-z0-9_.:-]+)?$")]


class Options(addons.Options):
    """server: name or address. share: what it exports, with a subfolder where wanted."""

    server: Annotated[str, StringConstraints(pattern=HOST)]
    share: Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9._-]+)+$|^/$", max_length=1024)]
    mount_options: Annotated[tuple[MountOption, ...], Field(max_length=16)] = ("nfsvers=4.1",)
    storage_class: NewHostLabel = "nfs"
    default: bool = False
    reclaim: Literal["Delete", "Retain"] = "Delete"


class Nfs(Addon):
    name = "nfs"
    manifest = "csi-driver-nfs.yaml"
    images = (
        "nfsplugin", "csi-provisioner", "csi-resizer", "csi-snapshotter", "livenessprobe",
        "csi-node-driver-registrar",
    )  # fmt: skip
    options = Options

    def parts(
        self, facts: ClusterFacts, member: MemberFacts, options: Options, secrets: dict[str, str]
    ) -> list[PartSpec]:
        if not member.leads:
            return []
        made = _kubectl.storage_class(
            options.storage_class, DRIVER, default=options.default, binding="Immediate",
            reclaim=options.reclaim, mountOptions=[*options.mount_options],
            parameters={"server": options.server, "share": options.share},
        )  # fmt: skip
        return [_kubectl.part(_kubectl.path(self.name, "storage.yaml"), made)]

    def steps(self, facts: ClusterFacts, member: MemberFacts, options: Options) -> list[Step]:
        if not member.leads:
            return []
        workloads = ("daemonset/csi-nfs-node", "deployment/csi-nfs-controller")
        return [
            _kubectl.manifest(facts, self.name, self.manifest),
            _kubectl.apply(facts, self.name, _kubectl.path(self.name, "storage.yaml")),
            *_kubectl.rolled_out(facts, self.name, NAMESPACE, *workloads),
        ]


PLUGIN = Nfs()
