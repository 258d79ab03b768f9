"""Volumes on the data disks of the nodes themselves: each disk is one, on its node.

Needs nothing from a bundle. The disks are those that the claims asked for, by their role
(`control.disks`, `workers.disks`); a node names them by WWN, whatever its kernel calls them.
"""

import re
from typing import Annotated, Final, Literal

from pydantic import StringConstraints

from provisioning import addons, disks
from provisioning.addons import Addon, Document, _kubectl
from provisioning.kinds import ClusterFacts, DataDisk, Fault, MemberFacts, Step
from provisioning.names import NewHostLabel
from provisioning.targets import PartSpec

LINKS: Final = "/dev/seed"
VOLUMES: Final = "/api/v1/persistentvolumes"
CLASS: Final = "class.yaml"
RULES: Final = "/etc/udev/rules.d/61-seed-disks.rules"
WWN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{3,127}")
# systemd's 60-persistent-storage.rules ask the disk before, and set both.
_RULE = (
    'SUBSYSTEM=="block", ENV{{DEVTYPE}}=="disk", ENV{{{name}}}=="{wwn}", SYMLINK+="seed/{wwn}"\n'
)
_LOOK = """\
udevadm control --reload
udevadm trigger --subsystem-match=block --action=change
udevadm settle --timeout=60
for wwn in {wwns}; do
  [ -b {links}/"$wwn" ] || {{ echo "{member} has no disk with the WWN $wwn"; exit 1; }}
done
"""


class Options(addons.Options):
    """role: of the disks that are volumes; empty: all data disks."""

    role: Annotated[str, StringConstraints(pattern=rf"^({disks.ROLE.pattern})?$")] = ""
    storage_class: NewHostLabel = "local"
    default: bool = False
    mode: Literal["Filesystem", "Block"] = "Filesystem"
    filesystem: Literal["ext4", "xfs"] = "ext4"


class StorageLocal(Addon):
    name = "storage-local"
    options = Options

    def faults(self, facts: ClusterFacts, options: Options) -> list[Fault]:
        where = addons.field(self.name, "role")
        if not any(_own(member, options) for member in facts.members):
            says = f"no node has a data disk{f' for {options.role}' if options.role else ''}"
            remedy = 'Ask for some: workers.disks: [{"role": "data", "count": 1}].'
            return [Fault(where, says, remedy)]
        found = []
        for member in facts.members:
            for disk in _own(member, options):
                if not WWN.fullmatch(disk.wwn):
                    says = f"the disk {disk.serial} of {member.name} has no WWN"
                    remedy = "Ask for disks of another role or model, which have one."
                    found.append(Fault(where, says, remedy))
        return found

    def parts(
        self, facts: ClusterFacts, member: MemberFacts, options: Options, secrets: dict[str, str]
    ) -> list[PartSpec]:
        found = []
        if own := _own(member, options):
            names = ("ID_WWN", "ID_WWN_WITH_EXTENSION")
            lines = (_RULE.format(name=name, wwn=disk.wwn) for disk in own for name in names)
            found.append(PartSpec(RULES, RULES, 0o644, "".join(lines).encode()))
        if member.leads:
            found.append(_kubectl.part(_kubectl.path(self.name, CLASS), _class(options)))
        return found

    def steps(self, facts: ClusterFacts, member: MemberFacts, options: Options) -> list[Step]:
        found = []
        if own := _own(member, options):
            wwns = " ".join(disk.wwn for disk in own)
            text = _LOOK.format(wwns=wwns, links=LINKS, member=member.name)
            found.append(Step(f"{self.name} disks", ("/bin/sh", "-euc", text), (RULES,)))
        if member.leads:
            path = _kubectl.path(self.name, CLASS)
            found.append(_kubectl.apply(facts, self.name, path, what="class"))
        return found

    def objects(
        self, facts: ClusterFacts, member: MemberFacts, options: Options
    ) -> dict[str, Document]:
        """A PersistentVolume for each of its disks."""
        made = (_volume(member, disk, options) for disk in _own(member, options))
        return {f"{VOLUMES}/{one['metadata']['name']}": one for one in made}


def _own(member: MemberFacts, options: Options) -> list[DataDisk]:
    return [disk for disk in member.disks if options.role in ("", disk.role)]


def _class(options: Options) -> Document:
    """No provisioner. A pod is placed first, then has a volume of that node."""
    return _kubectl.storage_class(
        options.storage_class, "kubernetes.io/no-provisioner", default=options.default,
        binding="WaitForFirstConsumer", reclaim="Retain",
    )  # fmt: skip


def _volume(member: MemberFacts, disk: DataDisk, options: Options) -> Document:
    local: Document = {"path": f"{LINKS}/{disk.wwn}"}
    if options.mode == "Filesystem":
        local["fsType"] = options.filesystem
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [member.name]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": f"{member.name}-{re.sub('[^a-z0-9-]', '-', disk.wwn.lower())}",
            "labels": {"seed.disk-role": disk.role},
        },
        "spec": {
            "capacity": {"storage": str(disk.size)},
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": options.mode,
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": options.storage_class,
            "local": local,
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }


PLUGIN = StorageLocal()
