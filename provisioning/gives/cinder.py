"""Disks for Cinder's LVM driver, by WWN: a playbook that makes its volume group.

Where there is no Ceph. The group's name is the driver's default (openstack/cinder
cinder/volume/drivers/lvm.py: volume_group) and Kolla-Ansible's (22.2.0,
ansible/group_vars/all/cinder.yml: cinder_volume_group). The module is community.general.lvg.
"""

from typing import Any, Final

from provisioning import gives
from provisioning.gives import Give
from provisioning.gives._disks import path_of, paths_of
from provisioning.installers import NodeFacts, OvercloudFacts
from provisioning.targets import PartSpec

ROLE: Final = "cinder-lvm"
GROUP: Final = "cinder-volumes"


def lacks(facts: OvercloudFacts) -> str:
    disks = [disk for node in facts.nodes for disk in node.disks if disk.role == ROLE]
    if not disks:
        return f"no node has a disk of the role {ROLE}: ask for data disks in its group"
    nameless = next((disk for disk in disks if not path_of(disk)), None)
    return f"the disk {nameless.serial or '?'} has no WWN, so nothing names it" if nameless else ""


def files(facts: OvercloudFacts) -> list[PartSpec]:
    plays = [one for node in facts.nodes for one in _of_node(node)]
    hint = "ansible-playbook -i INVENTORY cinder-lvm.yml; it makes a group anew on no used disk."
    return [gives.part("cinder-lvm.yml", gives.as_yaml(facts, plays, hint=hint))]


def _of_node(node: NodeFacts) -> list[dict[str, Any]]:
    if not (paths := paths_of(node, ROLE)):
        return []
    task = {
        "name": "The volume group of Cinder",
        "community.general.lvg": {"vg": GROUP, "pvs": paths},
        "become": True,
    }
    return gives.play(f"Disks of {node.name}", node.name, [task])


PLUGIN = Give("cinder-lvm", "disks for Cinder's LVM driver by WWN", files, lacks)
