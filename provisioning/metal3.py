"""Lent nodes as Cluster API's Metal3 takes them: BareMetalHosts and the Secrets of their BMCs.

metal3.io/v1alpha1 as baremetal-operator publishes it (its CRD, and "Supported hardware" of its
documentation). Made on the Seed machine by root alone, while the fence of lending.py holds: no
service makes them, none keeps them.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import yaml
from pydantic import SecretStr
from sqlmodel import Session

from provisioning import handout, lent
from provisioning.abilities import Abilities
from provisioning.bmc import Access
from provisioning.errors import Conflict, Invalid
from provisioning.handout import HandOutNode
from provisioning.lent import Lending
from provisioning.logins import Trust
from provisioning.models import Bmc, Claim, Credential
from provisioning.states import LendingStep
from provisioning.store import record

API: Final = "metal3.io/v1alpha1"
BOOT_MODES: Final = {"uefi": "UEFI", "bios": "legacy"}
"""Of Bmc.firmware. Not told: the CRD's own default, UEFI."""
LABEL: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
NAMESPACE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Export:
    """text: of the file, YAML with passwords in it. ca_pem: by which Metal3's Ironic can verify its
    BMCs. unverified: addresses of those that no client can verify. without_mac: hosts of which it
    is not known by which NIC they boot; only with IPMI is Metal3 content with that.
    """

    text: SecretStr
    hosts: tuple[str, ...]
    ca_pem: str
    unverified: tuple[str, ...]
    without_mac: tuple[str, ...]


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
    seed_ca: PEM of the CA by which Seed makes certificates for BMCs.

    keeps_running: what is on the disks stays (externallyProvisioned). Raises Conflict while Seed
    may still act on its nodes; Invalid for a namespace that is none.
    """
    if not NAMESPACE.fullmatch(namespace):
        raise Invalid(f"namespace: {namespace[:80]!r} is none", "a-z, 0-9 and '-', at most 63.")
    row = session.get(Lending, claim.id)
    if row is None or row.step is not LendingStep.LENT:
        raise Conflict(
            f"the nodes of claim {claim.name} are Seed's" if row is None else
            f"the nodes of claim {claim.name} are on their way: {row.step}",
            f"`seed metal3 lend {claim.name}`, then look: `seed metal3 list`.",
        )  # fmt: skip
    nodes = {node.node_uuid: node for node in handout.of_claim(session, claim, "").nodes}
    bmcs = lent.bmcs_of(session, claim.id)
    documents = [
        document
        for bmc in bmcs
        for document in _of_node(session, bmc, nodes[bmc.node], access, namespace, keeps_running)
    ]
    hosts = tuple(nodes[bmc.node].name for bmc in bmcs)
    record(
        session, "claim.exported", claim.id, f"{claim.name}: {len(hosts)} BMC logins for Metal3",
        who=who, project=claim.project,
    )  # fmt: skip
    text = yaml.safe_dump_all(documents, sort_keys=False, explicit_start=True, width=1_000_000)
    unverified = tuple(bmc.address for bmc in bmcs if bmc.trust == Trust.NOTHING)
    unknown = tuple(
        nodes[bmc.node].name
        for bmc in bmcs
        if bmc.protocol != "ipmi" and handout.boot_address(session, bmc.node) is None
    )
    certificates = "".join(_certificates(bmcs, seed_ca))
    return Export(SecretStr(text), hosts, certificates, unverified, unknown)


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


def _certificates(bmcs: Sequence[Bmc], seed_ca: str) -> Iterator[str]:
    if any(bmc.trust == Trust.SEED_CA for bmc in bmcs):
        yield seed_ca
    yield from (bmc.certificate for bmc in bmcs if bmc.trust == Trust.OWN)
