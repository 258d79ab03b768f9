"""Volumes on a Ceph cluster that is there already: ceph-csi's driver for RBD, and a StorageClass.

Its manifest is csidriver.yaml, csi-provisioner-rbac.yaml, csi-nodeplugin-rbac.yaml,
csi-rbdplugin-provisioner.yaml and csi-rbdplugin.yaml of deploy/rbd/kubernetes of a release, one
after the other. They stand in the namespace `default`, and so does what they read.
"""

import json
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from provisioning import addons
from provisioning.addons import Addon, Document, _kubectl
from provisioning.kinds import ClusterFacts, Fault, MemberFacts, Step
from provisioning.names import HostLabel, NewHostLabel
from provisioning.targets import PartSpec

NAMESPACE, DRIVER, SECRET = "default", "rbd.csi.ceph.com", "csi-rbd-secret"
MONITOR = r"^(\[[0-9A-Fa-f:]{2,45}\]|[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)(:[0-9]{1,5})?$"
PROVISIONERS = 3
"""Of ceph-csi's own manifest, each on another node."""


def _bare(user: str) -> str:
    if user.startswith("client."):
        raise ValueError(f"write it without client.: {user.removeprefix('client.')}")
    return user


User = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$"), AfterValidator(_bare)]
Monitor = Annotated[str, StringConstraints(pattern=MONITOR)]


class Options(addons.Options):
    """fsid: of the Ceph cluster (`ceph fsid`). monitors: HOST[:PORT]. user: without "client.".

    key_secret: name of the secret that holds the user's key, as `ceph auth get-key` prints it.
    """

    fsid: UUID
    monitors: Annotated[tuple[Monitor, ...], Field(min_length=1, max_length=15)]
    pool: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")]
    key_secret: HostLabel
    user: User = "kubernetes"
    storage_class: NewHostLabel = "ceph"
    default: bool = False
    filesystem: Literal["ext4", "xfs"] = "ext4"
    reclaim: Literal["Delete", "Retain"] = "Delete"


class Ceph(Addon):
    name = "ceph"
    manifest = "ceph-csi-rbd.yaml"
    images = (
        "cephcsi", "csi-provisioner", "csi-snapshotter", "csi-attacher", "csi-resizer",
        "csi-node-driver-registrar",
    )  # fmt: skip
    options = Options

    def faults(self, facts: ClusterFacts, options: Options) -> list[Fault]:
        return addons.lacks_secret(facts, self.name, "key_secret", options.key_secret)

    def parts(
        self, facts: ClusterFacts, member: MemberFacts, options: Options, secrets: dict[str, str]
    ) -> list[PartSpec]:
        if not member.leads:
            return []
        key = secrets[options.key_secret].strip()
        return [
            _kubectl.customization(
                self.name,
                [],
                {"csi-rbdplugin-provisioner": min(PROVISIONERS, addons.pod_nodes(facts))},
            ),
            _kubectl.part(_kubectl.path(self.name, "cluster.yaml"), *_config(options)),
            _kubectl.part(
                _kubectl.path(self.name, "secret.yaml"),
                _kubectl.secret(SECRET, NAMESPACE, {"userID": options.user, "userKey": key}),
            ),
        ]

    def steps(self, facts: ClusterFacts, member: MemberFacts, options: Options) -> list[Step]:
        if not member.leads:
            return []
        workloads = ("daemonset/csi-rbdplugin", "deployment/csi-rbdplugin-provisioner")
        own = [_kubectl.path(self.name, name) for name in ("cluster.yaml", "secret.yaml")]
        return [
            _kubectl.apply(facts, self.name, *own),
            _kubectl.customized(facts, self.name, self.manifest),
            *_kubectl.rolled_out(facts, self.name, NAMESPACE, *workloads),
        ]


def _config(options: Options) -> list[Document]:
    """What its pods mount, and the class. The key is in none of it."""
    fsid = str(options.fsid)
    known = [{"clusterID": fsid, "monitors": [*options.monitors]}]
    auth = "auth_cluster_required = cephx\nauth_service_required = cephx\n"
    ceph_conf = f"[global]\n{auth}auth_client_required = cephx\n"
    verbs = ("provisioner", "controller-expand", "controller-publish", "node-stage")
    named = {f"csi.storage.k8s.io/{verb}-secret-name": SECRET for verb in verbs}
    there = {f"csi.storage.k8s.io/{verb}-secret-namespace": NAMESPACE for verb in verbs}
    parameters = {
        "clusterID": fsid,
        "pool": options.pool,
        "imageFeatures": "layering",
        "csi.storage.k8s.io/fstype": options.filesystem,
    }
    return [
        _config_map("ceph-csi-config", {"config.json": json.dumps(known)}),
        _config_map("ceph-csi-encryption-kms-config", {"config.json": "{}"}),
        _config_map("ceph-config", {"ceph.conf": ceph_conf, "keyring": ""}),
        _kubectl.storage_class(
            options.storage_class, DRIVER, default=options.default, binding="Immediate",
            reclaim=options.reclaim, allowVolumeExpansion=True, mountOptions=["discard"],
            parameters={**parameters, **named, **there},
        ),
    ]  # fmt: skip


def _config_map(name: str, data: dict[str, str]) -> Document:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


PLUGIN = Ceph()
