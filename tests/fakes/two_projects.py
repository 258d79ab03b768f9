"""Two projects in one room: what of it nobody of the project `own` may ever read.

Everything that belongs to the other project, and everything of any BMC, carries a word of
CANARIES; what the claimers of `own` may read carries none.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlmodel import select

from api.parts import AutoscalerDoor, Parts
from api.roles import Role
from provisioning import authority
from provisioning.autoscalers import ClientAuthority
from provisioning.cluster_rows import (
    Cluster,
    ClusterCheck,
    KubeCertificate,
    Member,
    OvercloudAccess,
    OvercloudStage,
)
from provisioning.cluster_spec import ClusterSpec
from provisioning.fabric import Layout, Network
from provisioning.hardware import Inventory, Nic
from provisioning.hooks import Webhook
from provisioning.models import (
    Address,
    Bmc,
    Booking,
    Claim,
    Credential,
    Discovery,
    Event,
    Hold,
    Order,
    Token,
    now,
)
from provisioning.overcloud_spec import OvercloudSpec
from provisioning.room import HardwareClass, Observation, Slot
from provisioning.shelf import ImageStanding, Intake, RegistryLogin
from provisioning.states import (
    AddressKind,
    BmcGoal,
    ClaimState,
    ClusterState,
    ImageState,
    Login,
    Noun,
    OrderKind,
    StageState,
)
from provisioning.tenants import BreakGlass, KeptAnswer, Project, Quota, User
from tests.fakes.api import Asked, a_token, empty_ironic, ironic_double, some_parts
from tests.fakes.hardware import a_class, an_inventory
from tests.fakes.pool import see

OWN, OTHER = "own", "canary-project"
NODES = {
    "own-node": UUID("00000000-0000-4000-8000-000000000001"),
    "canary-node": UUID("cacacaca-0000-4000-8000-000000000002"),
    "canary-soon": UUID("cacacaca-0000-4000-8000-000000000003"),
    "free-node": UUID("00000000-0000-4000-8000-000000000004"),
}
OWN_CLAIM = UUID("00000000-0000-4000-8000-00000000000a")
OTHER_CLAIM = UUID("cacacaca-0000-4000-8000-00000000000b")
DISCOVERY = UUID("cacacaca-0000-4000-8000-00000000000c")
ASKED = UUID("00000000-0000-4000-8000-00000000000d")
OTHER_ASKED = UUID("cacacaca-0000-4000-8000-00000000000e")
"""What is asked of clusters: the same id for each kind of it."""
CLOUD_CHECK = UUID("00000000-0000-4000-8000-00000000000f")
COUNT = 31337  # of nothing else here
CANARIES = ("canary", "cacacaca", "10.66.6.", "10.88.8.", "66:66:66")
"""In lower case; and COUNT. UUIDs begin with cacacaca, BMCs' addresses with 10.66.6., MACs with
66:66:66; the other project's servers are at 10.88.8."""
NAMES = (
    OWN, "own-claim", str(OWN_CLAIM), "own-node", "own-user", "own.token", "own-hook", "debian",
    "baremetal", "swagger-ui.css", "own-cluster", "own-kube", "own-cloud",
    "canary-cluster", "canary-cloud",
    OTHER, "canary-claim", str(OTHER_CLAIM), "canary-node", str(NODES["canary-node"]),
    "canary-user", "canary-token", "canary-login", "canary-hook", "canary-rack", "10.66.6.2",
    str(DISCOVERY), "grove", "no-such",
)  # fmt: skip
"""What a caller may think of as the name in a path."""
IMAGE = {
    "name": "debian", "version": "1", "recipe": "debian", "architecture": "x86_64",
    "firmware": ["uefi"], "format": "raw", "virtual_size": 0, "min_disk_gib": 1, "ssh_user": "me",
    "files": {"disk": {"name": "d", "size": 1, "sha256": "0" * 64, "sha512": "0" * 128}},
    "built_at": "2026-11-20T00:00:00Z", "build_seconds": 1,
}  # fmt: skip
VERSIONS = (
    ("debian", "1"), ("debian", "baremetal"), ("debian", "canary-draft"), ("canary-image", "1"),
)  # fmt: skip
"""Of images; those with a canary's name are not published."""


GROVE = {
    "name": "grove", "role": "storage", "vlan": 40,
    "subnets": [{"cidr": "10.88.0.0/16", "pools": ["10.88.1.0-10.88.9.0"]}],
}  # fmt: skip
LAYOUT = {
    "name": "grove", "nics": {"up": {"boot": True}},
    "networks": [{"network": "grove", "link": "up"}],
}  # fmt: skip


def a_nodes_address(address: str, node: UUID, claim: UUID) -> Address:
    return Address(
        address=address, network="grove", kind=AddressKind.NODE, node_uuid=node, claim_id=claim
    )


@dataclass
class World:
    """parts: of an API on it. own, scoped, expired: tokens of claimers; every: of an insider."""

    parts: Parts
    own: str
    scoped: str
    expired: str
    every: str


@contextmanager
def two_projects(base: Path) -> Iterator[World]:
    """A database and an Ironic with all that is named above."""
    with ironic_double() as ironic:
        empty = empty_ironic(ironic)

        def answer(asked: Asked) -> tuple[int, dict[str, str], Any]:
            if asked.path.startswith(("/v1/nodes/detail", "/v1/nodes?")):
                return 200, {}, {"nodes": [_of_ironic(name) for name in NODES]}
            if asked.path.endswith("/inventory"):
                return 200, {}, {"inventory": {"disks": []}, "plugin_data": {}}
            found = [n for n, uuid in NODES.items() if asked.path.startswith(f"/v1/nodes/{uuid}")]
            return (200, {}, _of_ironic(found[0])) if found else empty(asked)

        ironic.answer = answer
        parts = replace(some_parts(base, ironic.url), autoscaler=_autoscaler(base))
        for name, version in VERSIONS:
            folder = parts.image_dir / name / version
            folder.mkdir(parents=True)
            told = IMAGE | {"name": name, "version": version}
            (folder / "manifest.json").write_text(json.dumps(told))
        (parts.image_dir / "debian" / "current").symlink_to("1")
        _fill(parts)
        see(parts.store, parts.desk.ironic)
        a_token(parts, "canary-token", Role.CLAIMER, project=OTHER)
        a_token(parts, "canary-admin", *Role, project=OTHER)
        yield World(
            parts,
            own=a_token(parts, "own.token", Role.CLAIMER, project=OWN, days=9),
            scoped=_scoped(parts),
            expired=a_token(parts, "own.expired", Role.CLAIMER, project=OWN, days=-1),
            every=a_token(parts, "own.insider", *Role, project=OWN),
        )


def _autoscaler(base: Path) -> AutoscalerDoor:
    key, pem = base / "autoscaler.key", base / "autoscaler.pem"
    authority.make(key, pem, "autoscaler")
    return AutoscalerDoor("10.77.7.9:8444", ClientAuthority(key, pem))


def _scoped(parts: Parts) -> str:
    secret = a_token(parts, "own.scoped", Role.CLAIMER, project=OWN)
    with parts.store.write() as session:
        row = session.exec(select(Token).where(Token.name == "own.scoped")).one()
        row.scopes = ["claims:read"]
    return secret


def _of_ironic(name: str) -> dict[str, Any]:
    state = "available" if name in ("free-node", "canary-soon") else "active"
    return {
        "uuid": str(NODES[name]), "name": name, "provision_state": state, "driver": "redfish",
        "target_provision_state": None, "power_state": "power on", "resource_class": "baremetal",
        "last_error": None, "maintenance": False, "maintenance_reason": None,
        "instance_uuid": None, "traits": [], "fault": None, "reservation": None, "properties": {},
        "extra": {}, "updated_at": None, "inspection_finished_at": "then",
        "driver_info": {"redfish_address": "https://10.66.6.9"},
    }  # fmt: skip


def _fill(parts: Parts) -> None:
    with parts.store.write() as session:
        session.add_all([Project(name=OWN), Project(name=OTHER, description="canary-words")])
        session.flush()
        login = Credential(name="canary-login", username="canary-admin", sealed=b"canary")
        session.add(login)
        session.flush()
        for number, name in enumerate(NODES, 1):
            session.add(_bmc(name, number, login.id))
        session.add_all(
            [_claim(OWN_CLAIM, "own-claim", OWN), _claim(OTHER_CLAIM, "canary-claim", OTHER)]
        )
        session.flush()
        holders = {"own-node": OWN_CLAIM, "canary-node": OTHER_CLAIM}
        for name, uuid in NODES.items():
            session.add(Hold(node_uuid=uuid, claim_id=holders.get(name)))
            session.add(_order(name))
        session.add_all(_others())
        session.add_all(_clusters())
        session.add_all(_events())


def _bmc(name: str, number: int, login: UUID) -> Bmc:
    serial = "CANARY" if name.startswith("canary") else "OWN"
    free = name in ("free-node", "canary-soon")
    mac = "52:54:00:00:00:01" if name == "own-node" else f"66:66:66:11:11:0{number}"
    seen = Inventory(nics=(Nic(mac=mac),))
    return Bmc(
        address=f"10.66.6.{number}", protocol="redfish", login=Login.OK, credential_id=login,
        fingerprint="cacacaca" * 8, serial=f"{serial}-{number}", system_uuid=str(NODES[name]),
        manager_mac=f"66:66:66:00:00:0{number}", inventory=an_inventory(),
        node_uuid=NODES[name], node_name=name, goal=BmcGoal.AVAILABLE,
        problem="" if free else f"BMC 10.66.6.{number} does not answer",
        remedy=f"seed bmc show 10.66.6.{number}", accepted_by="canary-admin",
        macs=[] if name.startswith("own") else [f"66:66:66:11:11:0{number}"],
        ramdisk=seen.model_dump(mode="json"), ramdisk_at=now(),
    )  # fmt: skip


def _claim(identity: UUID, name: str, project: str) -> Claim:
    return Claim(
        id=identity, name=name, project=project, image="debian", state=ClaimState.ACTIVE,
        asked_by=f"{project}-asked", count=1, ssh_keys=[f"ssh-ed25519 AAAA {name}"],
        detail="the login of BMC 10.66.6.1 is being changed", problem="BMC 10.66.6.1 is silent",
        remedy="`seed bmc show 10.66.6.1`",
    )  # fmt: skip


def _order(name: str) -> Order:
    proof = {"host_keys": [f"ssh-ed25519 {name}"], "nics": [], "disks": [], "hostname": name}
    return Order(
        node_uuid=NODES[name], kind=OrderKind.DEPLOY, generation=0, bmc_address="10.66.6.9",
        proof=proof, proof_at=now(), ironic_done_at=now(), closed_at=now(),
    )  # fmt: skip


def _others() -> list[Any]:
    """Of the other project and of the room."""
    later = now() + timedelta(days=1)
    own, other = NODES["own-node"], NODES["canary-node"]
    return [
        Booking(claim_id=OTHER_CLAIM, node_uuid=NODES["canary-soon"], starts_at=later),
        Address(address="10.77.7.1", mac="52:54:00:00:00:01", node_uuid=own),
        Address(
            address="10.77.7.4", mac="66:66:66:11:11:04", node_uuid=NODES["free-node"],
        ),
        Address(address="10.88.8.1", mac="66:66:66:11:11:01", node_uuid=other),
        Network(name="grove", document=GROVE, put_by="canary-admin"),
        Layout(name="grove", document=LAYOUT, put_by="canary-admin"),
        a_nodes_address("10.88.1.5", own, OWN_CLAIM),
        a_nodes_address("10.88.8.5", other, OTHER_CLAIM),
        Address(address="10.88.8.9", network="grove", kind=AddressKind.RESERVED, label="canary"),
        Quota(project=OTHER, resource_class="canary-class", nodes=COUNT),
        Quota(project=OWN, resource_class="baremetal", nodes=50),
        User(name="own-user", password_hash="$x", roles=["claimer"], project=OWN),
        User(name="canary-user", password_hash="$canary", roles=["claimer"], project=OTHER),
        Webhook(name="own-hook", project=OWN, url="https://own-hook.example", sealed=b"own"),
        Webhook(name="canary-hook", project=OTHER, url="https://canary-hook.example", sealed=b"c"),
        BreakGlass(who="canary-admin", why="canary-reason", until=later),
        KeptAnswer(caller="canary-token", key="k", request="0" * 64, status=200, body=b"canary"),
        Slot(rack="canary-rack", unit=1, serial="CANARY-2"),
        Observation(source="ramdisk", key="canary", serial="CANARY-9", bmc_address="10.66.6.8"),
        HardwareClass(
            name="canary-hardware", document=a_class("canary-hardware").model_dump(mode="json")
        ),
        ImageStanding(name="debian", version="canary-draft", state=ImageState.DRAFT),
        ImageStanding(name="canary-image", version="1", state=ImageState.WITHDRAWN, why="canary"),
        Intake(name="canary-intake", kind="upload", asked_by="canary-admin"),
        RegistryLogin(host="canary.example", username="canary-user", sealed=b"canary"),
        Discovery(id=DISCOVERY, ranges=["10.66.6.0/24"], asked_by="canary-admin"),
    ]  # fmt: skip


def _clusters() -> list[Any]:
    """Each project's, with what was asked of it; the other project's has a member."""
    told = {
        "name": "x", "kind": "swarm", "image": "debian", "api": {"network": "grove"},
        "control": {"count": 1, "layout": "grove"}, "ssh_keys": ["ssh-ed25519 AAAA own"],
    }  # fmt: skip
    spec = ClusterSpec.model_validate(told).model_dump(mode="json")
    own = Cluster(
        name="own-cluster", project=OWN, network="grove", vip="10.88.0.9",
        spec=spec | {"name": OWN, "kind": "kubeadm"},
        state=ClusterState.READY, problem="own-member: BMC 10.66.6.1 is silent",
        remedy="seed bmc show 10.66.6.1",
    )  # fmt: skip
    other = Cluster(
        name="canary-cluster", project=OTHER, asked_by="canary-token", network="grove",
        vip="10.88.8.10", spec=spec | {"name": "canary"}, detail="canary", sealed=b"canary",
    )  # fmt: skip
    member = Member(
        cluster_id=other.id, claim_id=OTHER_CLAIM, role="control", number=0, name="canary-claim",
        step_detail="canary", missing="/canary",
    )  # fmt: skip
    kube = Cluster(
        name="own-kube", project=OWN, network="grove", vip="10.88.0.10", state=ClusterState.READY,
        spec=spec | {"name": "own-kube", "kind": "kubeadm"},
    )  # fmt: skip
    asked: list[Any] = []
    for cluster, project, who, one in (
        (kube, OWN, "own.token", ASKED),
        (other, OTHER, "canary-user", OTHER_ASKED),
    ):
        common = {"id": one, "cluster_id": cluster.id, "project": project, "who": who}
        asked += [KubeCertificate(csr=who, **common), ClusterCheck(**common)]
    return [own, other, kube, member, *asked, *_overclouds()]


def _overclouds() -> list[Any]:
    """Each project's; neither has a node any more."""
    told = {
        "name": "x", "installer": "debian", "image": "debian", "networks": {"api": "grove"},
        "control": {"count": 1, "layout": "grove"}, "ssh_keys": ["ssh-ed25519 AAAA own"],
    }  # fmt: skip
    spec = OvercloudSpec.model_validate(told).model_dump(mode="json")
    own = Cluster(
        noun=Noun.OVERCLOUD, name="own-cloud", project=OWN, network="grove", vip="10.88.0.11",
        spec=spec, state=ClusterState.READY, problem="own-member: BMC 10.66.6.1 is silent",
    )  # fmt: skip
    other = Cluster(
        noun=Noun.OVERCLOUD, name="canary-cloud", project=OTHER, network="grove",
        vip="10.88.8.12", spec=spec, state=ClusterState.READY, detail="canary",
    )  # fmt: skip
    stages = [
        OvercloudStage(cluster_id=one.id, name="hosts", state=StageState.DONE, task=word)
        for one, word in ((own, "own"), (other, "canary"))
    ]
    accesses = [
        OvercloudAccess(id=asked, cluster_id=one.id, project=one.project, who=who, key=b"x" * 32)
        for asked, one, who in ((ASKED, own, "own.token"), (OTHER_ASKED, other, "canary-user"))
    ]
    check = ClusterCheck(id=CLOUD_CHECK, cluster_id=own.id, project=OWN, who="own.token")
    return [own, other, *stages, *accesses, check]


def _events() -> list[Event]:
    said = {"who": "canary-token", "message": "canary-message", "data": {"n": COUNT}}
    return [
        Event(kind="claim.active", subject=str(OWN_CLAIM), project=OWN, message="own-claim"),
        Event(kind="claim.active", subject=str(OTHER_CLAIM), project=OTHER, **said),
        Event(kind="bmc.accepted", subject="10.66.6.1", **said),
        Event(kind="node.moved", subject=str(NODES["own-node"]), message="BMC 10.66.6.1 is silent"),
    ]
