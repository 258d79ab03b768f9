"""Lent nodes as Cluster API's Metal3 takes them: BareMetalHosts and the Secrets of their BMCs.

metal3.io/v1alpha1 as baremetal-operator publishes it (its CRD, and "Supported hardware" of its
documentation). Who makes them, and when, says lent_files.py.
"""

import re
from base64 import b64encode
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

import yaml
from sqlmodel import Session

from provisioning import handout, lent, lent_files
from provisioning.abilities import Abilities
from provisioning.bmc import Access
from provisioning.errors import Invalid
from provisioning.handout import HandOutNode
from provisioning.lent_files import Export
from provisioning.models import Bmc, Claim, Credential
from provisioning.states import Borrower

API: Final = "metal3.io/v1alpha1"
BOOT_MODES: Final = {"uefi": "UEFI", "bios": "legacy"}
"""Of Bmc.firmware. Not told: the CRD's own default, UEFI."""
LABEL: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
NAMESPACE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def export(
    session: Session,
    claim: Claim,
    access: Callable[[Credential], Access],
    who: str,
    namespace: str,
    keeps_running: bool = False,
    seed_ca: str = "",
) -> Export:
    """Its objects; asking is recorded. access: opens a stored login, which needs the master key.

    keeps_running: what is on the disks stays (externallyProvisioned). Raises Conflict while Seed
    may still act on its nodes; Invalid for a namespace that is none.
    """
    if not NAMESPACE.fullmatch(namespace):
        raise Invalid(f"namespace: {namespace[:80]!r} is none", "a-z, 0-9 and '-', at most 63.")
    servers = lent.servers(session, claim, Borrower.METAL3)
    documents = [
        document
        for bmc, node in servers
        for document in _of_node(session, bmc, node, access, namespace, keeps_running)
    ]
    text = yaml.safe_dump_all(documents, sort_keys=False, explicit_start=True, width=1_000_000)
    return lent_files.made(session, claim, Borrower.METAL3, servers, text, who, seed_ca)


def _of_node(
    session: Session, bmc: Bmc, node: HandOutNode, access: Callable[[Credential], Access],
    namespace: str, keeps_running: bool,
) -> list[dict[str, Any]]:  # fmt: skip
    login = access(session.get_one(Credential, bmc.credential_id))
    name = f"{node.name}-bmc"
    data = {"username": login.username, "password": login.password.get_secret_value()}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
        "data": {key: b64encode(value.encode()).decode() for key, value in data.items()},
    }
    spec: dict[str, Any] = {
        "online": True,
        "bmc": {
            "address": bmc_url(bmc),
            "credentialsName": name,
            "disableCertificateVerification": False,
        },
        "description": f"{node.node_name}, serial {bmc.serial}",
    }
    boot = handout.boot_address(session, bmc.node)
    more = {
        "bootMACAddress": boot.mac if boot else None,
        "bootMode": BOOT_MODES.get(bmc.firmware),
        "architecture": node.cpu_arch,
        "rootDeviceHints": _root(node),
        "externallyProvisioned": keeps_running,
    }
    spec |= {key: value for key, value in more.items() if value}
    about = {"name": node.name, "namespace": namespace, "labels": _labels(node)}
    return [secret, {"apiVersion": API, "kind": "BareMetalHost", "metadata": about, "spec": spec}]


def bmc_url(bmc: Bmc) -> str:
    """By virtual media where the BMC has it: that needs no network boot, which Seed's DHCP answers
    on its own wire. Dell's has a scheme of its own.
    """
    host = f"[{bmc.address}]" if ip_address(bmc.address).version == 6 else bmc.address
    if bmc.protocol == "ipmi":
        return f"ipmi://{host}"
    maker = "idrac" if "dell" in bmc.vendor.lower() else "redfish"
    media = Abilities.model_validate(bmc.abilities or {}).virtual_media
    scheme = f"{maker}-virtualmedia" if media else "redfish"
    if maker == "idrac" and not media:
        scheme = "idrac-redfish"
    return f"{scheme}://{host}{bmc.system_id}"


def _root(node: HandOutNode) -> dict[str, str]:
    """Serial or WWN of the disk that the image was on; a mirror has none."""
    disk = next((disk for disk in node.disks if disk.role == "root"), None)
    if disk is None:
        return {}
    hints = {"serialNumber": disk.serial, "wwn": disk.wwn}
    return dict([(key, value) for key, value in hints.items() if value][:1])


def _labels(node: HandOutNode) -> dict[str, str]:
    """As a node of a cluster of Seed's has them; for CAPM3's hostSelector."""
    unit = str(node.unit) if node.unit else ""
    told = {
        "seed.claim": node.claim, "seed.class": node.resource_class, "seed.rack": node.rack,
        "seed.unit": unit, "seed.node-uuid": str(node.node_uuid),
    }  # fmt: skip
    return {key: value for key, value in told.items() if value and LABEL.fullmatch(value)}
