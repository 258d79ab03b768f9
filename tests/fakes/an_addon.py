"""A cluster with add-ons, each with options as a person would write them."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from provisioning import chosen_addons
from provisioning.kinds import ClusterFacts, DataDisk, MemberFacts
from tests.fakes import a_kubeadm

GOLDEN = Path(__file__).parents[1] / "golden" / "addons"
REGISTRY = "images.example.org"
SECRETS = {
    "ceph-key": "AQBfake0key1that2nobody3has4AAAAAAAAAAAA==",
    "openstack": "[Global]\nauth-url=https://keystone.example.org/v3\n"
    "application-credential-id=9c1f\napplication-credential-secret=s3cret-of-openstack\n",
    "openstack-ca": "-----BEGIN CERTIFICATE-----\nMIIfake\n-----END CERTIFICATE-----\n",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "metallb": {"network": "storage", "count": 6},
    "nfs": {"server": "nas.example.org", "share": "/srv/pods", "default": True},
    "ceph": {
        "fsid": "b9127830-b0cc-4e34-aa47-9d1a2e9949a8", "pool": "kubernetes",
        "monitors": ["10.30.0.1:6789", "mon-b.example.org"], "key_secret": "ceph-key",
    },
    "openstack-ccm": {"cloud_conf_secret": "openstack", "ca_secret": "openstack-ca"},
    "storage-local": {"role": "data"},
}  # fmt: skip
DISKS = (
    DataDisk("data", "0x5000c500a1b2c3d4", "Z1", 960197124096),
    DataDisk("journal", "eui.0025385b71b00001", "Z2", 400088457216),
)


def a_file(path: str, role: str, **more: str) -> dict[str, str]:
    sha256 = hashlib.sha256(path.encode()).hexdigest()
    return {"path": f"files/{path}", "role": role, "sha256": sha256, **more}


def files_for(name: str) -> list[dict[str, str]]:
    """What the bundle must have for this add-on."""
    addon = chosen_addons.known()[name]
    found = [
        a_file(f"images/{one}_v1.2.3.tar", "image", source=f"oci://{REGISTRY}/{one}:v1.2.3")
        for one in addon.images
    ]
    return found + ([a_file(f"manifests/{addon.manifest}", "manifest")] if addon.manifest else [])


def members() -> tuple[MemberFacts, ...]:
    """As a_kubeadm's; one worker has data disks."""
    *others, last = a_kubeadm.MEMBERS
    return (*others, replace(last, disks=DISKS))


def with_addons(*names: str, **changes: Any) -> ClusterFacts:
    """options: of add-ons, in place of OPTIONS."""
    own = changes.pop("options", {n: OPTIONS[n] for n in names if n in OPTIONS})
    known = [name for name in dict.fromkeys(names) if name in chosen_addons.known()]
    files = [*a_kubeadm.FILES, *(file for name in known for file in files_for(name))]
    facts = replace(
        a_kubeadm.FACTS, addons=names, options={"files": files, "addons": own}, members=members(),
        ranges={"metallb": ("10.40.0.249-10.40.0.254",)}, given=tuple(sorted(SECRETS)),
    )  # fmt: skip
    return replace(facts, **changes)


def secrets() -> a_kubeadm.Hidden:
    """The cluster's own, and those that came with the wish."""
    given = {f"{chosen_addons.GIVEN}{name}": told for name, told in SECRETS.items()}
    return a_kubeadm.Hidden({**a_kubeadm.made_secrets(), **given})
