"""TripleO's words: how they are read, and what became of them.

Roles: openstack-archive/tripleo-heat-templates, roles/. Properties: openstack-archive/
tripleo-ansible, module_utils/baremetal_deploy.py at f7088db.
"""

import re
from typing import Any, Final

from provisioning.errors import Invalid
from provisioning.lenient import text as word

FILE: Final = "baremetal_deployment.yaml"
MOST_INSTANCES: Final = 2000
REMEDY: Final = (
    "It is a list of roles: [{name: Controller, count: 3}, ...], as `openstack overcloud node "
    "provision` takes it."
)
GROUPS: Final = (
    ("Controller", "control"), ("Networker", "network"), ("Compute", "compute"),
    ("DistributedCompute", "compute"), ("HciCeph", "compute"), ("Ceph", "storage"),
    ("BlockStorage", "storage"), ("ObjectStorage", "storage"),
)  # fmt: skip
"""How a role's name begins -> Seed's group."""
ON_CONTROL: Final = frozenset({
    "Database", "Messaging", "Telemetry", "Novacontrol", "NovaManager", "IronicConductor",
    "DesignateBind",
})  # fmt: skip
WITH_OSDS: Final = re.compile("HCI|^HciCeph")
USES: Final = {
    "internalapi": "api",
    "tenant": "tunnel",
    "storage": "storage",
    "external": "external",
}
"""A network's name without underscores -> what it is for."""
_LAYOUT: Final = "Make a layout of its NICs, bonds and VLANs and name it in the group's layout."
LEFT_OF_ROLE: Final = {
    "hostname_format": "Hosts are called OVERCLOUD-GROUP-NUMBER.",
    "ansible_playbooks": "Run them yourself once the nodes are up.",
}
LEFT: Final = {
    "conductor_group": "Nodes are chosen by racks, labels and traits.",
    "config_drive": "Put packages and files into the image; a claim takes user_data.",
    "hostname": "Hosts are called OVERCLOUD-GROUP-NUMBER.",
    "netboot": "Nothing is to be done: nodes boot from their own disk.",
    "network_config": _LAYOUT,
    "passwordless_sudo": "Nothing is to be done: the installer logs in with a key of its own.",
    "root_size_gb": "Nothing is to be done: the root file system grows to its disk.",
    "ssh_public_keys": "Name keys where the overcloud is asked for.",
    "swap_size_mb": "Make swap in the image, or once the node is up.",
    "user_name": "Nothing is to be done: users are the image's own.",
    "managed": "Adopt the servers first (`seed adopt`), then name them in the group's nodes.",
    "management_ip": "Adopt the server first (`seed adopt`).",
    "fixed_ip": "Addresses come from the network's pools: give it one that begins there.",
    "subnet": "A network of Seed's has one subnet for each rack or for all: name it there.",
    "port": "Nothing is to be done: Seed has no ports of Neutron's.",
}


def table(where: str, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Invalid(f"{FILE}: {where} is no table", REMEDY)
    return {word(key) or "?": told for key, told in value.items()}


def listing(where: str, value: object) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MOST_INSTANCES:
        raise Invalid(f"{FILE}: {where} is no list of at most {MOST_INSTANCES}", REMEDY)
    return value


def count_of(where: str, value: object) -> int:
    """1 where it is not said, as TripleO has it."""
    said = word(value) if value is not None else "1"
    if not re.fullmatch(r"[0-9]{1,5}", said, re.ASCII):
        raise Invalid(f"{FILE}: {where} is no number from 0 to 99999", REMEDY)
    return int(said)


def is_no(value: object) -> bool:
    return value is False or word(value).lower() in ("false", "no", "off")
