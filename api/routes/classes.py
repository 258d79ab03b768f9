"""Hardware classes: which server is of which kind, and what it must consist of."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StrictBool
from sqlmodel import Session, col, select

from api.auth import Insider, Operator
from api.node_list import NodeOut
from api.parts import Here
from api.routes.nodes import facts
from provisioning import classify, drift, golden, reclass
from provisioning.class_text import parse, written
from provisioning.classes import Document, document_of
from provisioning.errors import Conflict
from provisioning.models import Bmc
from provisioning.names import Name
from provisioning.reclass import ApplyPlan, Trial
from provisioning.room import HardwareClass

router = APIRouter(tags=["classes"])


class ClassText(BaseModel):
    """text: the document as YAML (docs/classes.md)."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(max_length=1024 * 1024)


class TestAsk(BaseModel):
    """A document, or the name of a kept one. nodes: names or BMC addresses; none means all."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(default="", max_length=1024 * 1024)
    name: str = ""
    nodes: list[str] = Field(default=[], max_length=10_000)


class GoldenAsk(BaseModel):
    """node: whose inventory the class is made from. name: of the class."""

    model_config = ConfigDict(extra="forbid")
    node: str
    name: Name


class ApplyNames(BaseModel):
    """nodes: names; no word means all, `every` does."""

    model_config = ConfigDict(extra="forbid")
    nodes: list[str] = Field(default=[], max_length=10_000)
    every: StrictBool = False


class ApplyAsk(ApplyNames):
    plan: str


class ClassOut(BaseModel):
    """nodes: how many are of this class. misfits: those of them that are not as it says."""

    name: str
    priority: int
    resource_class: str
    traits: list[str]
    capabilities: dict[str, str]
    nodes: int
    misfits: int
    put_by: str
    put_at: datetime


class ClassFull(ClassOut):
    document: dict[str, Any]
    text: str


@router.get("/v1/classes")
def list_classes(caller: Insider, parts: Here) -> list[ClassOut]:
    """Every class, by name."""
    with parts.store.read() as session:
        rows = session.exec(select(HardwareClass).order_by(col(HardwareClass.name))).all()
        return [ClassOut(**_out(session, row)) for row in rows]


@router.get("/v1/classes/{name}")
def show_class(name: str, caller: Insider, parts: Here) -> ClassFull:
    """One class, whole."""
    with parts.store.read() as session:
        return _full(session, classify.find(session, name))


@router.post("/v1/classes")
def put_class(ask: ClassText, caller: Operator, parts: Here) -> ClassFull:
    """Keep a class, or a new version of it. No node's class changes by this."""
    document = parse(ask.text)
    with parts.store.write() as session:
        row = classify.put(session, document, caller.name)
        session.flush()
        return _full(session, row)


@router.delete("/v1/classes/{name}")
def delete_class(name: str, caller: Operator, parts: Here) -> list[str]:
    """Forget a class; the names of its nodes, of which nothing is demanded any more."""
    with parts.store.write() as session:
        return classify.delete(session, name, caller.name)


@router.post("/v1/classes:test")
def test_class(ask: TestAsk, caller: Insider, parts: Here) -> list[Trial]:
    """Which stored servers fit this class, which do not and why. Nothing is written."""
    document = parse(ask.text) if ask.text else None
    with parts.store.read() as session:
        document = document or _kept(session, ask.name)
        return reclass.trial(session, document, ask.nodes)


@router.post("/v1/classes:from-node")
def class_from_node(ask: GoldenAsk, caller: Insider, parts: Here) -> ClassText:
    """A class document made from a server that is as it shall be. Nothing is kept."""
    with parts.store.read() as session:
        (bmc,) = reclass.servers(session, [ask.node])
        seen = drift.present(bmc)
        if seen is None:
            raise Conflict(
                f"nobody told yet what {ask.node} consists of",
                f"Wait for its inspection: `seed node watch {ask.node}`.",
            )
        return ClassText(text=written(golden.from_golden(ask.name, seen)))


@router.post("/v1/classes:plan-apply")
def plan_apply(ask: ApplyNames, caller: Operator, parts: Here) -> ApplyPlan:
    """What re-applying the rules to stored inventories changes. Held nodes are left alone."""
    with parts.store.write() as session:
        return reclass.plan(session, _chosen(ask))


@router.post("/v1/classes:apply", status_code=202)
def apply_classes(ask: ApplyAsk, caller: Operator, parts: Here) -> list[NodeOut]:
    """Re-apply the rules. Needs the hash of a plan for just this."""
    known = {n.uuid: n for n in parts.desk.ironic.nodes()}
    with parts.store.write() as session:
        rows = reclass.apply(session, _chosen(ask), ask.plan, caller.name)
        return [NodeOut(**facts(session, b, known.get(str(b.node_uuid)))) for b in rows]


def _chosen(ask: ApplyNames) -> list[str]:
    if bool(ask.nodes) == ask.every:
        raise Conflict(
            "name the nodes, or say all of them",
            "`seed class apply NODE` or `seed class apply --all`.",
        )
    return ask.nodes


def _kept(session: Session, name: str) -> Document:
    return document_of(classify.find(session, name).document)


def _out(session: Session, row: HardwareClass) -> dict[str, Any]:
    document = document_of(row.document)
    nodes = session.exec(select(Bmc).where(Bmc.hardware_class == row.name)).all()
    return {
        **document.model_dump(include={"name", "priority", "resource_class", "capabilities"}),
        "traits": list(document.traits),
        "nodes": len(nodes),
        "misfits": sum(bool(b.misfit) for b in nodes),
        "put_by": row.put_by,
        "put_at": row.put_at,
    }


def _full(session: Session, row: HardwareClass) -> ClassFull:
    text = written(document_of(row.document))
    return ClassFull(**_out(session, row), document=row.document, text=text)
