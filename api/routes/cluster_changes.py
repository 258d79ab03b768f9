"""Clusters that change: larger, smaller, a member replaced, another version or image.

Each verb has its plan: what it erases is named before, and it does that or nothing.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Final

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from api.auth import Anyone
from api.parts import Here
from api.roles import Caller, may_change
from api.routes.clusters import ClusterOut, shown
from provisioning import clusters, overcloud_stages
from provisioning.cluster_changes import Clusters
from provisioning.cluster_release import Shown
from provisioning.cluster_rows import Cluster
from provisioning.cluster_spec import MANY_CONTROL, MANY_WORKERS, Version
from provisioning.names import ImageRef, Name
from provisioning.plans import PlanOut
from provisioning.states import Noun

router = APIRouter(tags=["clusters"])

Plan = Annotated[str, Field(max_length=64)]
SAID: Final = {
    "scale-cluster": "Scale", "replace-member": "Replace a member of", "upgrade-cluster": "Upgrade",
}  # fmt: skip
Change = Callable[[Clusters], Cluster]


class ScaleAsk(BaseModel):
    """So many there shall be; what is left out stays. plan: of what is erased, where it shrinks."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"workers": 5}})
    workers: Annotated[StrictInt, Field(ge=0, le=MANY_WORKERS)] | None = None
    control: Annotated[StrictInt, Field(ge=1, le=MANY_CONTROL)] | None = None
    plan: Plan = ""


class ReplaceAsk(BaseModel):
    """member: by its name. Said again of one that goes already and fails to: it is given up."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"member": "web-1"}})
    member: Name
    plan: Plan = ""


class UpgradeAsk(BaseModel):
    """version, image: at least one of them; the other stays as it is."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"version": "1.36.3"}})
    version: Version = ""
    image: ImageRef | None = None
    plan: Plan = ""


@router.post("/v1/clusters/{name}:plan-scale")
def plan_cluster_scale(name: str, ask: ScaleAsk, caller: Anyone, parts: Here) -> PlanOut:
    """What another size would erase; whether it can be had."""
    return planned(parts, caller, name, "scale-cluster", _scale(name, ask, caller))


@router.post("/v1/clusters/{name}:scale", status_code=202)
def scale_cluster(name: str, ask: ScaleAsk, caller: Anyone, parts: Here) -> ClusterOut:
    """So many workers and control planes from now on. Who leaves is drained before."""
    return shown(
        parts,
        made(parts, caller, name, "scale-cluster", ask.plan, _scale(name, ask, caller)),
        caller,
    )


@router.post("/v1/clusters/{name}:plan-replace")
def plan_cluster_replace(name: str, ask: ReplaceAsk, caller: Anyone, parts: Here) -> PlanOut:
    """What the replacing of a member would erase; whether there is a node for it."""
    return planned(parts, caller, name, "replace-member", _replace(name, ask, caller))


@router.post("/v1/clusters/{name}:replace", status_code=202)
def replace_member(name: str, ask: ReplaceAsk, caller: Anyone, parts: Here) -> ClusterOut:
    """Another node in a member's place: it joins first, then this one leaves."""
    return shown(
        parts,
        made(parts, caller, name, "replace-member", ask.plan, _replace(name, ask, caller)),
        caller,
    )


@router.post("/v1/clusters/{name}:plan-upgrade")
def plan_cluster_upgrade(name: str, ask: UpgradeAsk, caller: Anyone, parts: Here) -> PlanOut:
    """What an upgrade would erase: each member's disk, one after the other."""
    return planned(parts, caller, name, "upgrade-cluster", _upgrade(name, ask, caller))


@router.post("/v1/clusters/{name}:upgrade", status_code=202)
def upgrade_cluster(name: str, ask: UpgradeAsk, caller: Anyone, parts: Here) -> ClusterOut:
    """All members anew, one at a time, control planes first; it stops where one fails."""
    return shown(
        parts,
        made(parts, caller, name, "upgrade-cluster", ask.plan, _upgrade(name, ask, caller)),
        caller,
    )


def _scale(name: str, ask: ScaleAsk, caller: Caller) -> Change:
    project = may_change(caller, "clusters")
    return lambda at: at.scale(
        project, name, caller.name, caller.sees_all, workers=ask.workers, control=ask.control
    )  # fmt: skip


def _replace(name: str, ask: ReplaceAsk, caller: Caller) -> Change:
    project = may_change(caller, "clusters")
    return lambda at: at.replace(project, name, ask.member, caller.name, caller.sees_all)


def _upgrade(name: str, ask: UpgradeAsk, caller: Caller) -> Change:
    project, image = may_change(caller, "clusters"), ask.image or ""
    return lambda at: at.upgrade(
        project, name, caller.name, ask.version, image, caller.sees_all
    )  # fmt: skip


def planned(
    parts: Here, caller: Caller, name: str, verb: str, change: Change, noun: Noun = Noun.CLUSTER
) -> PlanOut:
    """What this change would erase. Raises as it does."""
    giving = replace(parts.giving, noun=noun)
    with parts.store.read() as session:
        cluster = clusters.find(session, may_change(caller, "clusters"), name, noun).name
    sentence = f"{SAID[verb]} {noun} {cluster}"
    disks = giving.disks(may_change(caller, "clusters"), name)
    try:
        change(replace(parts.clusters, noun=noun, agreed=giving.shown(verb, disks)))
    except Shown as seen:
        with parts.store.read() as session:
            row = clusters.find(session, may_change(caller, "clusters"), name, noun)
            theirs = overcloud_stages.of_people(session, row)
        return giving.offer(verb, f"{sentence}. {theirs}" if theirs else sentence, seen.nodes)
    return giving.offer(verb, sentence, [])  # it is so already


def made(
    parts: Here, caller: Caller, name: str, verb: str, plan: str, change: Change,
    noun: Noun = Noun.CLUSTER,
) -> Cluster:  # fmt: skip
    """plan: the hash of just what it erases."""
    giving = replace(parts.giving, noun=noun)
    disks = giving.disks(may_change(caller, "clusters"), name)
    return change(replace(parts.clusters, noun=noun, agreed=giving.change(verb, plan, disks)))
