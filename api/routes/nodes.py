"""Nodes: Ironic's, with what Seed knows beside."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session, col, select

from api.auth import Destroyer, Insider, Operator
from api.parts import Here
from provisioning import handout, logins, orders, plans
from provisioning.errors import Conflict, NotFound
from provisioning.handout import Phase
from provisioning.ironic import Node
from provisioning.models import Bmc, Claim, Hold
from provisioning.plans import PlannedNode, PlanOut
from provisioning.states import WORKING, BmcGoal
from provisioning.store import record

router = APIRouter(tags=["nodes"])
PROVIDE = "provide"


class NodeOut(BaseModel):
    """One node: what Ironic says now, and why it waits if it does."""

    uuid: UUID
    name: str
    bmc: str
    protocol: str
    firmware: str
    serial: str
    resource_class: str
    provision_state: str
    power_state: str
    maintenance: bool
    claim: str
    address: str
    macs: list[str]
    detail: str
    problem: str
    remedy: str
    last_error: str
    waiting_since: datetime | None = None
    evidence: str = ""
    hardware_class: str = ""
    misfit: list[str] = []
    drift: list[str] = []
    findings: list[str] = []


class NodeFull(NodeOut):
    properties: dict[str, Any]
    inventory: dict[str, Any] | None
    phases: list[Phase]


class Names(BaseModel):
    """Which nodes; no word means all of them."""

    model_config = ConfigDict(extra="forbid")
    nodes: Annotated[list[str], Field(json_schema_extra={"minItems": 1})]


class ProvideAsk(Names):
    plan: str


@router.get("/v1/nodes")
def list_nodes(caller: Insider, parts: Here) -> list[NodeOut]:
    """Every accepted server, by name."""
    known = {n.uuid: n for n in parts.desk.ironic.nodes()}
    with parts.store.read() as session:
        query = select(Bmc).where(col(Bmc.node_uuid).is_not(None)).order_by(col(Bmc.node_name))
        rows = session.exec(query).all()
        return [NodeOut(**facts(session, b, known.get(str(b.node_uuid)))) for b in rows]


@router.get("/v1/nodes/{name}")
def show_node(name: str, caller: Insider, parts: Here) -> NodeFull:
    """One node with its inventory and how long each phase took."""
    with parts.store.read() as session:
        bmc = find(session, name)
        node = parts.desk.ironic.find_node(bmc.node)
        found = parts.desk.ironic.inventory(bmc.node) if node else None
        return NodeFull(
            **facts(session, bmc, node),
            properties=node.properties if node else {},
            inventory=(found or {}).get("inventory"),
            phases=handout.phases(session, bmc.node),
        )


@router.post("/v1/nodes:plan-provide")
def plan_provide(ask: Names, caller: Destroyer, parts: Here) -> PlanOut:
    """What cleaning these nodes would erase."""
    with parts.store.read() as session:
        nodes = _at_stake(session, parts, ask.nodes)
    sentence = f"Clean {len(nodes)} node(s): the metadata of these disks is erased."
    with parts.store.write() as session:
        return plans.make(session, PROVIDE, sentence, nodes)


@router.post("/v1/nodes:provide", status_code=202)
def provide(ask: ProvideAsk, caller: Destroyer, parts: Here) -> list[NodeOut]:
    """Clean these nodes and offer them to claims. Needs the hash of a plan for just these."""
    known = {n.uuid: n for n in parts.desk.ironic.nodes()}
    with parts.store.write() as session:
        nodes = _at_stake(session, parts, ask.nodes)
        plans.use(session, PROVIDE, nodes, ask.plan)
        rows = [find(session, n.name) for n in nodes]
        for bmc in rows:
            bmc.goal = BmcGoal.AVAILABLE
            record(
                session, "node.provide-asked", bmc.node, bmc.node_name or "", who=caller.name,
                plan=ask.plan,
            )  # fmt: skip
        return [NodeOut(**facts(session, b, known.get(str(b.node_uuid)))) for b in rows]


@router.post("/v1/nodes/{name}:retry", status_code=202)
def retry(name: str, caller: Operator, parts: Here) -> NodeOut:
    """The cause is cured: go on with what failed."""
    with parts.store.write() as session:
        bmc = find(session, name)
        bmc.attempt = max(bmc.attempt, bmc.failed_attempt) + 1
        record(session, "node.retry-asked", bmc.node, name, who=caller.name)
    with parts.store.read() as session:
        return NodeOut(**facts(session, bmc, parts.desk.ironic.find_node(bmc.node)))


def find(session: Session, name: str) -> Bmc:
    query = select(Bmc).where(Bmc.node_name == name)
    try:
        query = select(Bmc).where(Bmc.node_uuid == UUID(name))
    except ValueError:
        pass
    found = session.exec(query).first()
    if found is None:
        raise NotFound(f"there is no node {name!r}", "See what there is: `seed node list`.")
    return found


def _at_stake(session: Session, parts: Here, names: list[str]) -> list[PlannedNode]:
    if len(set(names)) != len(names):
        raise Conflict("a node is named twice", "Name each node once.")
    found = []
    for name in names:
        bmc = find(session, name)
        hold = session.get_one(Hold, bmc.node)
        if hold.claim_id:
            raise Conflict(f"{name} is held by a claim", "Release that claim first.")
        node = parts.desk.ironic.find_node(bmc.node)
        if node is None or not node.inspected or node.provision_state in WORKING:
            raise Conflict(
                f"{name} is not inspected yet, so nobody knows what would be erased",
                f"Wait for it: `seed node watch {name}`.",
            )
        found.append(parts.desk.planned(session, hold, ""))
    return found


def facts(session: Session, bmc: Bmc, node: Node | None) -> dict[str, Any]:
    hold = session.get(Hold, bmc.node)
    claim = session.get(Claim, hold.claim_id) if hold and hold.claim_id else None
    address = handout.boot_address(session, bmc.node)
    order = orders.open_for(session, bmc.node)
    return {
        "uuid": bmc.node,
        "name": bmc.node_name or "",
        "bmc": bmc.address,
        "protocol": bmc.protocol,
        "firmware": bmc.firmware,
        "serial": bmc.serial,
        "resource_class": bmc.resource_class,
        "provision_state": node.provision_state if node else "not in Ironic yet",
        "power_state": node.power_state if node else "",
        "maintenance": node.maintenance if node else False,
        "claim": claim.name if claim else "",
        "address": address.address if address else "",
        "macs": bmc.macs,
        "detail": _detail(bmc, node),
        "problem": bmc.problem,
        "remedy": bmc.remedy,
        "last_error": node.last_error if node else "",
        "waiting_since": order.opened_at if order else None,
        "evidence": _evidence(order),
        "hardware_class": bmc.hardware_class,
        "misfit": bmc.misfit,
        "drift": bmc.drift,
        "findings": logins.findings(bmc),
    }


def _detail(bmc: Bmc, node: Node | None) -> str:
    """The reconciler's words, unless they speak of an inspection that does not count any more."""
    asked = node is not None and node.inspected_at and node.inspected_at == bmc.stale_inspection
    of_before = bmc.detail.startswith(("inspected", "available"))
    return "is to be inspected again" if asked and of_before else bmc.detail


def _evidence(order: Any) -> str:  # noqa: ANN401
    if order is None:
        return ""
    if order.alarm:
        return str(order.alarm)
    told = "the ramdisk asked for its token" if order.lookup_at else "no word from the ramdisk yet"
    return f"{order.kind} for {orders.age(order):.0f} s; {told}"
