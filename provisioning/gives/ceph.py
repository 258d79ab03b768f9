"""Disks for Ceph's OSDs, by WWN: cephadm's service specification, one per node.

Keys and rules: ceph/ceph 006ce58 src/python-common/ceph/deployment/drive_group.py (DriveGroupSpec:
`paths` beside no other filter), 003d52b doc/cephadm/services/osd.rst. A specification is kept by
cephadm and applied for ever; as it names disks one by one, none that is put in later is taken.
Paths: systemd rules.d/60-persistent-storage.rules.
"""

from typing import Any, Final

from provisioning import gives
from provisioning.gives import Give
from provisioning.gives._disks import path_of
from provisioning.installers import NodeFacts, OvercloudFacts
from provisioning.targets import PartSpec

DATA: Final = "ceph-osd"
FAST: Final = "ceph-db"
"""Roles that a claim gives disks: an OSD each, and RocksDB with its log for the OSDs beside."""


def specification(node: NodeFacts) -> dict[str, Any] | None:
    """None: it has no disk for an OSD."""
    paths = {
        role: sorted(path_of(d) for d in node.disks if d.role == role) for role in (DATA, FAST)
    }
    if not paths[DATA]:
        return None
    spec: dict[str, Any] = {"data_devices": {"paths": paths[DATA]}}
    if paths[FAST]:
        spec["db_devices"] = {"paths": paths[FAST]}
    return {
        "service_type": "osd",
        "service_id": f"seed-{node.name}",
        "placement": {"hosts": [node.name]},
        "spec": spec,
    }


def lacks(facts: OvercloudFacts) -> str:
    disks = [d for node in facts.nodes for d in node.disks if d.role in (DATA, FAST)]
    if not any(disk.role == DATA for disk in disks):
        return f"no node has a disk of the role {DATA}: ask for data disks in its group"
    nameless = next((d for d in disks if not path_of(d)), None)
    return f"the disk {nameless.serial or '?'} has no WWN, so nothing names it" if nameless else ""


def files(facts: OvercloudFacts) -> list[PartSpec]:
    specs = [spec for node in facts.nodes if (spec := specification(node))]
    hint = "ceph orch apply -i osds.yaml --dry-run, then without --dry-run."
    return [gives.part("osds.yaml", gives.as_yaml(facts, *specs, hint=hint))]


PLUGIN = Give("ceph-osds", "disks for Ceph's OSDs by WWN, as cephadm takes them", files, lacks)
