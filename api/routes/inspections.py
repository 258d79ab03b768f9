"""Inspecting a node again, and taking what changed as right."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from api.auth import Operator
from api.node_list import NodeOut
from api.parts import Here
from api.routes.nodes import Names, facts, find
from provisioning import classify, reinspect
from provisioning.plans import PlanOut

router = APIRouter(tags=["nodes"])


class InspectAsk(Names):
    plan: str


class DriftAsk(BaseModel):
    """drift: the changes as they were read."""

    model_config = ConfigDict(extra="forbid")
    drift: list[str]


@router.post("/v1/nodes:plan-inspect")
def plan_inspect(ask: Names, caller: Operator, parts: Here) -> PlanOut:
    """What inspecting these nodes again does to each."""
    known = {n.uuid: n for n in parts.desk.ironic.nodes()}
    with parts.store.write() as session:
        return reinspect.plan(session, ask.nodes, known)


@router.post("/v1/nodes:inspect", status_code=202)
def inspect(ask: InspectAsk, caller: Operator, parts: Here) -> list[NodeOut]:
    """Inspect these nodes again. Needs the hash of a plan for just these."""
    known = {n.uuid: n for n in parts.desk.ironic.nodes()}
    with parts.store.write() as session:
        rows = reinspect.apply(session, ask.nodes, known, ask.plan, caller.name)
        return [NodeOut(**facts(session, b, known.get(str(b.node_uuid)))) for b in rows]


@router.post("/v1/nodes/{name}:accept-drift")
def accept_drift(name: str, ask: DriftAsk, caller: Operator, parts: Here) -> NodeOut:
    """What changed since acceptance is right: changes count from here."""
    with parts.store.write() as session:
        bmc = find(session, name)
        classify.accept_drift(session, bmc, ask.drift, caller.name)
    with parts.store.read() as session:
        return NodeOut(**facts(session, bmc, parts.desk.ironic.find_node(bmc.node)))
