"""A node's disks, and which of them are kept: never erased, never written."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.auth import Destroyer, Insider, Operator
from api.parts import Here
from api.routes.nodes import find
from provisioning import disks, keeping, plans, projects
from provisioning.plans import PlanOut

router = APIRouter(tags=["nodes"])


class NodeDisk(BaseModel):
    """One disk. kept: whether it is; project: whose claims alone may have the node meanwhile.

    seen: False: it is kept, and the last inspection did not find it.
    """

    serial: str
    wwn: str = ""
    name: str = ""
    model: str = ""
    media: str = ""
    size_bytes: int = 0
    seen: bool = True
    kept: bool = False
    project: str = ""
    why: str = ""
    kept_by: str = ""
    kept_at: datetime | None = None


class DiskAsk(BaseModel):
    """serial: of the disk, or its WWN."""

    model_config = ConfigDict(extra="forbid")
    serial: str = Field(min_length=1, max_length=255)


class KeepDiskAsk(DiskAsk):
    """why: kept with it. project: only its claims may have the node meanwhile; empty: anybody's."""

    why: str = Field(min_length=1, max_length=500)
    project: str = Field(default="", max_length=80)


class ForgetDiskAsk(DiskAsk):
    """plan: the hash that `:plan-forget-disk` gave."""

    plan: str
    why: str = Field(default="", max_length=500)


@router.get("/v1/nodes/{name}/disks")
def list_disks(name: str, caller: Insider, parts: Here) -> list[NodeDisk]:
    """Its disks, as its ramdisk saw them last, and those that are kept."""
    with parts.store.read() as session:
        bmc = find(session, name)
        kept = disks.kept_of(session, bmc.node)
        seen = keeping.seen_by(bmc)
    found = []
    for drive in seen.drives if seen else ():
        row = next((k for k in kept if disks.is_the_same(drive, k)), None)
        told = row.model_dump(include={"project", "why", "kept_by", "kept_at"}) if row else {}
        found.append(NodeDisk(**(drive.model_dump() | told), kept=row is not None))
    known = {d.serial for d in found} | {d.wwn for d in found}
    gone = [k for k in kept if k.serial not in known]
    return found + [NodeDisk(**k.model_dump(), seen=False, kept=True) for k in gone]


@router.post("/v1/nodes/{name}:keep-disk")
def keep_disk(name: str, ask: KeepDiskAsk, caller: Operator, parts: Here) -> list[NodeDisk]:
    """From now on this disk is neither erased nor written, whoever has the node."""
    with parts.store.write() as session:
        bmc = find(session, name)
        if ask.project:
            projects.find(session, ask.project)
        keeping.keep(session, bmc, ask.serial, ask.why, caller.name, ask.project)
    return list_disks(name, caller, parts)


@router.post("/v1/nodes/{name}:plan-forget-disk")
def plan_forget_disk(name: str, ask: DiskAsk, caller: Destroyer, parts: Here) -> PlanOut:
    """Which disk's data the next clean would erase."""
    with parts.store.write() as session:
        bmc = find(session, name)
        node = keeping.planned(session, bmc, ask.serial)
        sentence = f"Keep disk {node.disks[0].serial} no more: the next clean erases it."
        return plans.make(session, keeping.FORGET, sentence, [node])


@router.post("/v1/nodes/{name}:forget-disk")
def forget_disk(name: str, ask: ForgetDiskAsk, caller: Destroyer, parts: Here) -> list[NodeDisk]:
    """This disk is as any other again. Needs the hash of a plan for just this one.

    A server of the pool leaves it and is inspected; `:provide` cleans and offers it again.
    """
    with parts.store.read() as session:
        uuid = find(session, name).node
    ironic = parts.desk.ironic.find_node(uuid)  # asked before: no writer waits for it
    with parts.store.write() as session:
        bmc = find(session, name)
        node = keeping.planned(session, bmc, ask.serial)
        plans.use(session, keeping.FORGET, [node], ask.plan)
        last = ironic.inspected_at if ironic else ""
        keeping.forget(session, bmc, ask.serial, ask.why, caller.name, last)
    return list_disks(name, caller, parts)
