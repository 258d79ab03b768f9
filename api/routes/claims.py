"""Claims: N nodes with an image on them, for a project."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, field_validator
from pydantic.json_schema import SkipJsonSchema
from sqlmodel import col, select

from api.auth import Anyone, Claimer, Operator
from api.claim_ask import LONGEST, ClaimAsk, Time
from api.discreet import without_bmcs
from api.parts import Here
from api.roles import Caller, may_change
from provisioning import handout, image, leasing, renderings
from provisioning.cluster_rows import Cluster, Member
from provisioning.errors import Invalid, NotFound
from provisioning.handout import HandOut, Phase
from provisioning.models import Claim, Hold
from provisioning.plans import PlanOut
from provisioning.secret_files import Sealing
from provisioning.states import ClaimState

router = APIRouter(tags=["claims"])


class ClaimNode(BaseModel):
    """One node's way so far."""

    hostname: str
    node_uuid: UUID
    phases: list[Phase]


class ClaimOut(BaseModel):
    """A claim; `handout` once it is active.

    lease_end: when it ends; grace_seconds later it is given back by itself. None: open.
    expected_at: while it waits in the queue: about when it begins, where that can be told.
    cluster: whose node it is; empty: a claim of its own.
    """

    id: UUID
    name: str
    project: str
    resource_class: str
    count: int
    image: str
    image_version: str
    traits: list[str]
    labels: dict[str, str]
    racks: list[str]
    cpus: int
    memory_gib: int
    disk_gib: int
    spread: str
    pack: str
    root_device: dict[str, Any]
    layout: str
    disks: list[dict[str, Any]]
    root_raid: int
    kernel_args: list[str]
    hostnames: str
    protected: bool
    if_full: str
    priority: int
    starts_at: datetime | None
    lease_end: datetime | None
    grace_seconds: int
    expected_at: datetime | None
    wanted: str
    state: str
    since: datetime
    undo_until: datetime | None
    detail: str
    problem: str
    remedy: str
    created_at: datetime
    ended_at: datetime | None
    cluster: str
    nodes: list[ClaimNode]
    handout: HandOut | None


class ReleaseAsk(BaseModel):
    """plan: the hash that `:plan-release` gave. now: no undo window. why: kept in the event."""

    model_config = ConfigDict(extra="forbid")
    plan: str = Field(default="", max_length=64)
    now: StrictBool = False
    why: str = Field(default="", max_length=500)


def _unsaid(schema: dict[str, Any]) -> None:
    """It may be left out, and cannot be null."""
    schema.pop("default", None)


class RenewAsk(BaseModel):
    """One of the two: an end, or how many seconds from now."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"lease_seconds": 604800},
            "oneOf": [{"required": ["ends_at"]}, {"required": ["lease_seconds"]}],
        },
    )
    ends_at: Time | SkipJsonSchema[None] = Field(default=None, json_schema_extra=_unsaid)
    lease_seconds: Annotated[StrictInt, Field(ge=60, le=LONGEST)] | SkipJsonSchema[None] = Field(
        default=None, json_schema_extra=_unsaid
    )

    @field_validator("ends_at", "lease_seconds", mode="before")
    @classmethod
    def _said(cls, value: object) -> object:
        if value is None:
            raise ValueError("leave it out, or say it")
        return value


class ProtectAsk(BaseModel):
    model_config = ConfigDict(extra="forbid")
    why: str = Field(default="", max_length=500)


class PriorityAsk(BaseModel):
    model_config = ConfigDict(extra="forbid")
    priority: StrictInt = Field(ge=0, le=100)


class ExplainOut(BaseModel):
    """What would become of a claim.

    chosen:  the nodes it would get now; none: it cannot be had now.
    free_at: when it could be had if nobody else comes; None: nobody knows.
    nodes:   node -> the rules that keep it from the claim; an empty list: it fits.
    nearest: the nodes that lack least, and what.
    """

    fits: bool
    sentence: str
    chosen: list[str]
    free_at: datetime | None
    nodes: dict[str, list[str]]
    nearest: dict[str, list[str]]


@router.get("/v1/claims")
def list_claims(
    caller: Anyone, parts: Here, ended: bool = False, state: ClaimState | None = None
) -> list[ClaimOut]:
    """Living claims, newest first; a claimer sees its own project's."""
    query = select(Claim).order_by(col(Claim.created_at).desc(), col(Claim.id))
    if not caller.sees_all:
        query = query.where(Claim.project == caller.project)
    if not ended:
        query = query.where(col(Claim.ended_at).is_(None))
    if state is not None:
        query = query.where(Claim.state == state)
    with parts.store.read() as session:
        rows = session.exec(query).all()
    queued = any(c.state is ClaimState.QUEUED for c in rows)
    expected = parts.desk.expected() if queued else {}
    return [_out(parts, c, caller, expected) for c in rows]


@router.post("/v1/claims", status_code=202)
def create_claim(
    ask: ClaimAsk, caller: Claimer, parts: Here, request: Request, response: Response
) -> ClaimOut:
    """Ask for nodes. Answers 202 at once; follow `Location` until the state is `active`.

    What cannot be had now is 409 with the rule that keeps each node away and the nearest free
    time; with `if_full: queue` it waits instead.
    """
    files = Sealing(parts.sealer, ask.secret_files)
    claim, _new = parts.desk.request(ask.spec, caller.project, caller.name, caller.sees_all, files)
    response.headers["Location"] = str(request.url_for("show_claim", name=str(claim.id)))
    return _out(parts, claim, caller)


@router.post("/v1/claims:explain")
def explain_claim(ask: ClaimAsk, caller: Anyone, parts: Here) -> ExplainOut:
    """What would become of such a claim now, node by node. Nothing is held by it."""
    told = parts.desk.explain(ask.spec, caller.project, caller.sees_all)
    return ExplainOut(
        fits=bool(told.chosen), sentence=told.sentence, chosen=told.chosen, free_at=told.free_at,
        nodes=told.rules, nearest=told.nearest,
    )  # fmt: skip


@router.put("/v1/claims/{name}", status_code=202)
def put_claim(name: str, ask: ClaimAsk, caller: Claimer, parts: Here) -> ClaimOut:
    """The same, safe to repeat: the same wish under the same name is the same claim."""
    if ask.name != name:
        raise Invalid(f"the path says {name}, the body says {ask.name}", "Use one name.")
    files = Sealing(parts.sealer, ask.secret_files)
    claim, _new = parts.desk.request(ask.spec, caller.project, caller.name, caller.sees_all, files)
    return _out(parts, claim, caller)


@router.get("/v1/claims/{name}")
def show_claim(name: str, caller: Anyone, parts: Here) -> ClaimOut:
    """One claim by name or id."""
    with parts.store.read() as session:
        claim = parts.desk.find(session, caller.looks_in, name)
    return _out(parts, claim, caller)


@router.get("/v1/claims/{name}/known_hosts")
def known_hosts(name: str, caller: Anyone, parts: Here) -> Response:
    """The SSH host keys the nodes themselves reported, in OpenSSH's form."""
    found = show_claim(name, caller, parts).handout
    return Response(renderings.known_hosts(found) if found else "", media_type="text/plain")


@router.post("/v1/claims/{name}:plan-release")
def plan_release(name: str, caller: Anyone, parts: Here) -> PlanOut:
    """What releasing this claim would erase."""
    return parts.desk.plan_release(may_change(caller, "claims"), name)


@router.post("/v1/claims/{name}:release", status_code=202)
def release_claim(name: str, ask: ReleaseAsk, caller: Anyone, parts: Here) -> ClaimOut:
    """Give the nodes back: off at once, cleaned when the undo window is over."""
    project = may_change(caller, "claims")
    claim = parts.desk.release(project, name, ask.plan, caller.name, ask.now, ask.why)
    return _out(parts, claim, caller)


@router.post("/v1/claims/{name}:undo", status_code=202)
def undo_release(name: str, caller: Anyone, parts: Here) -> ClaimOut:
    """Take a release back while the disks are untouched."""
    project = may_change(caller, "claims")
    return _out(parts, parts.desk.take_back(project, name, caller.name), caller)


@router.post("/v1/claims/{name}:renew", status_code=202)
def renew_claim(name: str, ask: RenewAsk, caller: Anyone, parts: Here) -> ClaimOut:
    """Keep it longer, or shorter. While its disks are untouched it may be over already."""
    project = may_change(caller, "claims")
    claim = parts.desk.renew(project, name, caller.name, ask.ends_at, ask.lease_seconds)
    return _out(parts, claim, caller)


@router.post("/v1/claims/{name}:protect", status_code=202)
def protect_claim(name: str, ask: ProtectAsk, caller: Anyone, parts: Here) -> ClaimOut:
    """From now on it is neither released nor ends by itself."""
    project = may_change(caller, "claims")
    return _out(parts, parts.desk.protect(project, name, True, caller.name, ask.why), caller)


@router.post("/v1/claims/{name}:unprotect", status_code=202)
def unprotect_claim(name: str, ask: ProtectAsk, caller: Anyone, parts: Here) -> ClaimOut:
    """It can be released again, and its lease counts again."""
    project = may_change(caller, "claims")
    return _out(parts, parts.desk.protect(project, name, False, caller.name, ask.why), caller)


@router.post("/v1/claims/{name}:prioritize", status_code=202)
def prioritize_claim(name: str, ask: PriorityAsk, caller: Operator, parts: Here) -> ClaimOut:
    """Where it stands in the queue: higher first, then the one that waits longer."""
    return _out(parts, parts.desk.prioritize(name, ask.priority, caller.name), caller)


def _out(
    parts: Here, claim: Claim, caller: Caller, expected: dict[UUID, datetime | None] | None = None
) -> ClaimOut:
    user = _ssh_user(parts, claim.image_ref)
    with parts.store.read() as session:
        handed = handout.of_claim(session, claim, user, parts.networks)
        cluster = session.exec(
            select(Cluster.name).join(Member).where(Member.claim_id == claim.id)
        ).first()
        holds = session.exec(
            select(Hold).where(Hold.claim_id == claim.id).order_by(col(Hold.position))
        ).all()
        nodes = [
            ClaimNode(
                hostname=claim.hostname(h.position),
                node_uuid=h.node_uuid,
                phases=handout.phases(session, h.node_uuid),
            )
            for h in holds
        ]
    if expected is None and claim.state is ClaimState.QUEUED:
        expected = parts.desk.expected()
    facts: dict[str, Any] = claim.model_dump(include=set(ClaimOut.model_fields) - {"nodes"})
    facts |= {
        "cluster": cluster or "",
        "lease_end": claim.lease_end,
        "undo_until": _undo_until(parts, claim),
        "expected_at": (expected or {}).get(claim.id),
    }
    if not caller.sees_all:
        facts |= without_bmcs(claim, "claim")
    return ClaimOut(**facts, nodes=nodes, handout=handed if claim.state == "active" else None)


def _undo_until(parts: Here, claim: Claim) -> datetime | None:
    going = claim.state is ClaimState.RELEASING
    return leasing.undo_until(claim, parts.desk.undo) if going else claim.undo_until


def _ssh_user(parts: Here, name: str) -> str:
    try:
        return image.find(parts.image_dir, name).ssh_user or ""
    except NotFound:  # unpublished since
        return ""
