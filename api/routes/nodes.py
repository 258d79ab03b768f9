"""Nodes: Ironic's, with what Seed knows beside."""

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, RootModel
from sqlalchemy import and_, func, or_
from sqlmodel import Session, col, select

from api.auth import Destroyer, Insider, Operator
from api.node_list import ListAsk, NodeLine, NodeOut
from api.parts import Here
from api.representation import PARTIAL
from api.roles import Caller
from provisioning import handout, labels, logins, orders, plans, sight
from provisioning.claim_changes import Disks
from provisioning.errors import Conflict, NotFound
from provisioning.handout import Phase
from provisioning.identity import serial_key
from provisioning.ironic import Node
from provisioning.labels import Key, Value
from provisioning.models import Bmc, Claim, Hold, Order, now
from provisioning.plans import PlannedNode, PlanOut
from provisioning.room import Slot
from provisioning.snapshot import NOT_THERE, evidence, present_detail
from provisioning.states import WORKING, BmcGoal
from provisioning.store import record

router = APIRouter(tags=["nodes"])
PROVIDE = "provide"


class NodeFull(NodeOut):
    properties: dict[str, Any]
    inventory: dict[str, Any] | None
    phases: list[Phase]


class Names(BaseModel):
    """Which nodes; no word means all of them."""

    model_config = ConfigDict(extra="forbid")
    nodes: Annotated[list[str], Field(json_schema_extra={"minItems": 1})]


class Labels(RootModel[dict[Key, Value]]):
    """All labels of a node."""

    root: Annotated[dict[Key, Value], Field(max_length=labels.MOST)]


class LabelChanges(RootModel[dict[Key, Value | None]]):
    """Labels to set, or with null to take off."""

    root: Annotated[dict[Key, Value | None], Field(max_length=labels.MOST)]


class ProvideAsk(Names):
    """plan: the hash that `:plan-provide` gave. why: kept in the events."""

    plan: str
    why: str = Field(default="", max_length=500)


@router.get(
    "/v1/nodes",
    response_class=Response,
    responses={200: {"model": list[NodeLine], "description": "One page; `Link` has the next."}},
)
async def list_nodes(ask: Annotated[ListAsk, Query()], caller: Insider, parts: Here) -> Response:
    """Every accepted server, by name, as Ironic was seen last; `age_seconds` says how long ago."""
    snapshot = parts.snapshots.kept()
    if snapshot is None:
        snapshot = await run_in_threadpool(parts.snapshots.current)
    body, after = parts.node_pages.page(snapshot, ask, now())
    headers = {"Link": f'</v1/nodes?{after}>; rel="next"'} if after else {}
    kind = PARTIAL if ask.fields else "application/json"
    return Response(body, media_type=kind, headers=headers)


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
    with parts.store.read() as session:  # Ironic is asked before: no writer waits for it
        disks = {UUID(n.uuid): n.disks for n in _at_stake(session, parts, ask.nodes)}
    with parts.store.write() as session:
        nodes = _at_stake(session, parts, ask.nodes, known, disks)
        plans.use(session, PROVIDE, nodes, ask.plan)
        rows = [find(session, n.name) for n in nodes]
        for bmc in rows:
            bmc.goal = BmcGoal.AVAILABLE
            record(
                session, "node.provide-asked", bmc.node, bmc.node_name or "", who=caller.name,
                why=ask.why, plan=ask.plan,
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


@router.put("/v1/nodes/{name}/labels")
def put_labels(name: str, ask: Labels, caller: Operator, parts: Here) -> NodeOut:
    """These labels and no others. They are people's own words, for choosing."""
    return _labelled(name, parts, caller, lambda _: ask.root)


@router.patch("/v1/nodes/{name}/labels")
def patch_labels(name: str, ask: LabelChanges, caller: Operator, parts: Here) -> NodeOut:
    """Set some labels, and take those off whose value is null (RFC 7396)."""
    return _labelled(name, parts, caller, lambda old: labels.changed(old, ask.root))


def _labelled(
    name: str, parts: Here, caller: Caller, new: Callable[[dict[str, str]], dict[str, str]]
) -> NodeOut:
    with parts.store.write() as session:
        bmc = find(session, name)
        labels.put(session, bmc, new(bmc.labels), caller.name)
        return NodeOut(**facts(session, bmc, sight.node(session, bmc.node)))


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


def _at_stake(
    session: Session,
    parts: Here,
    names: list[str],
    known: dict[str, Node] | None = None,
    disks: Disks | None = None,
) -> list[PlannedNode]:
    """known, disks: what Ironic said of its nodes and of these nodes' disks; None: it is asked."""
    if len(set(names)) != len(names):
        raise Conflict("a node is named twice", "Name each node once.")
    found = []
    for name in names:
        bmc = find(session, name)
        hold = session.get_one(Hold, bmc.node)
        if hold.claim_id:
            raise Conflict(f"{name} is held by a claim", "Release that claim first.")
        asked = parts.desk.ironic.find_node(bmc.node) if known is None else None
        node = asked if known is None else known.get(str(bmc.node))
        if node is None or not node.inspected or node.provision_state in WORKING:
            raise Conflict(
                f"{name} is not inspected yet, so nobody knows what would be erased",
                f"Wait for it: `seed node watch {name}`.",
            )
        found.append(parts.desk.planned(session, hold, "", disks))
    return found


def facts(session: Session, bmc: Bmc, node: Node | None) -> dict[str, Any]:
    """Of this moment: `node` was asked for just now."""
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
        "provision_state": node.provision_state if node else NOT_THERE,
        "power_state": node.power_state if node else "",
        "maintenance": node.maintenance if node else False,
        "claim": claim.name if claim else "",
        "project": claim.project if claim else "",
        "address": address.address if address else "",
        "macs": bmc.macs,
        "detail": present_detail(bmc.detail, bmc.stale_inspection, node),
        "problem": bmc.problem,
        "remedy": bmc.remedy,
        "last_error": node.last_error if node else "",
        "waiting_since": order.opened_at if order else None,
        "evidence": _evidence(order),
        "hardware_class": bmc.hardware_class,
        "misfit": bmc.misfit,
        "drift": bmc.drift,
        "findings": logins.findings(bmc),
        "labels": bmc.labels,
        "traits": list(node.traits) if node else [],
        "seen_at": now() if node else None,
        "age_seconds": 0 if node else None,
        **_place(session, bmc),
    }


def _place(session: Session, bmc: Bmc) -> dict[str, Any]:
    """By the rack plan: by serial, or else by the BMC's MAC."""
    key = serial_key(bmc.serial)
    by_serial = and_(func.lower(Slot.serial) == key, col(Slot.serial) != "")
    by_mac = and_(col(Slot.bmc_mac) == bmc.manager_mac, col(Slot.bmc_mac) != "")
    found = session.exec(select(Slot).where(or_(by_serial, by_mac))).all()
    slot = next((s for s in found if serial_key(s.serial) == key), found[0] if found else None)
    return slot.model_dump(include={"site", "row", "rack", "unit", "feed"}) if slot else {}


def _evidence(order: Order | None) -> str:
    if order is None or order.alarm:
        return order.alarm if order else ""
    told = evidence(order.kind, bool(order.lookup_at))
    return told.replace("{age}", f"{orders.age(order):.0f}")
