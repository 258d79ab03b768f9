"""HandOut: the one model of what is handed over; inventories and ssh config render from it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlmodel import Session, col, select

from provisioning import orders
from provisioning.models import Address, Bmc, Claim, Hold, Order


class Phase(BaseModel):
    """One step of a node's way, and how long it took."""

    name: str
    seconds: float


class HandOutNode(BaseModel):
    name: str
    node_uuid: UUID
    node_name: str
    addresses: dict[str, str]
    """Network name -> address."""
    ssh_user: str
    host_keys: list[str]
    nics: list[dict[str, Any]]
    disks: list[dict[str, Any]]
    resource_class: str
    proved_at: datetime | None
    cloud_init: str = ""


class HandOut(BaseModel):
    claim: str
    nodes: list[HandOutNode]

    def known_hosts(self) -> str:
        """OpenSSH known_hosts lines, by address and by name."""
        return "".join(
            f"{','.join([*node.addresses.values(), node.name])} {key}\n"
            for node in self.nodes
            for key in node.host_keys
        )


def of_claim(session: Session, claim: Claim, ssh_user: str) -> HandOut:
    holds = session.exec(
        select(Hold).where(Hold.claim_id == claim.id).order_by(col(Hold.position))
    ).all()
    return HandOut(claim=claim.name, nodes=[_node(session, claim, h, ssh_user) for h in holds])


def _node(session: Session, claim: Claim, hold: Hold, ssh_user: str) -> HandOutNode:
    bmc = session.exec(select(Bmc).where(Bmc.node_uuid == hold.node_uuid)).one()
    address = boot_address(session, hold.node_uuid)
    order = orders.of_deploy(session, hold)
    proof = (order.proof if order else None) or {}
    return HandOutNode(
        name=claim.hostname(hold.position),
        node_uuid=hold.node_uuid,
        node_name=bmc.node_name or "",
        addresses={address.network: address.address} if address else {},
        ssh_user=ssh_user,
        host_keys=list(proof.get("host_keys", [])),
        nics=list(proof.get("nics", [])),
        disks=list(proof.get("disks", [])),
        resource_class=bmc.resource_class,
        proved_at=order.proof_at if order else None,
        cloud_init=str((proof.get("cloud_init") or {}).get("status", "")),
    )


def boot_address(session: Session, node_uuid: UUID) -> Address | None:
    """The address of the NIC a node boots from: the first reserved one, by MAC."""
    return session.exec(
        select(Address).where(Address.node_uuid == node_uuid).order_by(col(Address.mac))
    ).first()


def phases(session: Session, node_uuid: UUID) -> list[Phase]:
    """How long each order of this node took, oldest first."""
    rows = session.exec(
        select(Order).where(Order.node_uuid == node_uuid).order_by(col(Order.opened_at))
    ).all()
    found: list[Phase] = []
    for order in rows:
        if order.ironic_done_at:
            took = (order.ironic_done_at - order.opened_at).total_seconds()
            found.append(Phase(name=order.kind.value, seconds=took))
            if order.proof_at:
                boot = (order.proof_at - order.ironic_done_at).total_seconds()
                found.append(Phase(name="first boot", seconds=boot))
    return found
