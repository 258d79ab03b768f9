"""Claims: N nodes with an image on them, for a project."""

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, StrictBool
from sqlmodel import col, select

from api.auth import Anyone, Claimer
from api.parts import Here
from api.roles import Caller, Role
from provisioning import handout, image
from provisioning.errors import Forbidden, Invalid, NotFound
from provisioning.handout import HandOut, Phase
from provisioning.models import Claim, ClaimSpec, Hold
from provisioning.plans import PlanOut

router = APIRouter(tags=["claims"])


class ClaimAsk(ClaimSpec):
    """What to claim. Unknown fields are refused: a typo must not be silent."""

    model_config = ConfigDict(  # type: ignore[assignment]
        extra="forbid",
        json_schema_extra={
            "example": {
                "name": "web",
                "count": 2,
                "image": "debian",
                "ssh_keys": ["ssh-ed25519 AAAA... me"],
            }
        },
    )


class ClaimNode(BaseModel):
    """One node's way so far."""

    hostname: str
    node_uuid: UUID
    phases: list[Phase]


class ClaimOut(BaseModel):
    """A claim; `handout` once it is active."""

    id: UUID
    name: str
    project: str
    resource_class: str
    count: int
    image: str
    wanted: str
    state: str
    since: datetime
    undo_until: datetime | None
    detail: str
    problem: str
    remedy: str
    created_at: datetime
    ended_at: datetime | None
    nodes: list[ClaimNode]
    handout: HandOut | None


class ReleaseAsk(BaseModel):
    """plan: the hash that `:plan-release` gave. now: no undo window."""

    model_config = ConfigDict(extra="forbid")
    plan: str = ""
    now: StrictBool = False


@router.get("/v1/claims")
def list_claims(caller: Anyone, parts: Here, ended: bool = False) -> list[ClaimOut]:
    """Living claims, newest first; a claimer sees its own project's."""
    query = select(Claim).order_by(col(Claim.created_at).desc())
    if not caller.sees_all:
        query = query.where(Claim.project == caller.project)
    if not ended:
        query = query.where(col(Claim.ended_at).is_(None))
    with parts.store.read() as session:
        rows = session.exec(query).all()
    return [_out(parts, c) for c in rows]


@router.post("/v1/claims", status_code=202)
def create_claim(
    ask: ClaimAsk, caller: Claimer, parts: Here, request: Request, response: Response
) -> ClaimOut:
    """Ask for nodes. Answers 202 at once; follow `Location` until the state is `active`."""
    claim, _new = parts.desk.request(ClaimSpec(**ask.model_dump()), caller.project, caller.name)
    response.headers["Location"] = str(request.url_for("show_claim", name=str(claim.id)))
    return _out(parts, claim)


@router.put("/v1/claims/{name}", status_code=202)
def put_claim(name: str, ask: ClaimAsk, caller: Claimer, parts: Here) -> ClaimOut:
    """The same, safe to repeat: the same wish under the same name is the same claim."""
    if ask.name != name:
        raise Invalid(f"the path says {name}, the body says {ask.name}", "Use one name.")
    claim, _new = parts.desk.request(ClaimSpec(**ask.model_dump()), caller.project, caller.name)
    return _out(parts, claim)


@router.get("/v1/claims/{name}")
def show_claim(name: str, caller: Anyone, parts: Here) -> ClaimOut:
    """One claim by name or id."""
    with parts.store.read() as session:
        claim = parts.desk.find(session, None if caller.sees_all else caller.project, name)
    return _out(parts, claim)


@router.get("/v1/claims/{name}/known_hosts")
def known_hosts(name: str, caller: Anyone, parts: Here) -> Response:
    """The SSH host keys the nodes themselves reported, in OpenSSH's form."""
    found = show_claim(name, caller, parts).handout
    return Response(found.known_hosts() if found else "", media_type="text/plain")


@router.post("/v1/claims/{name}:plan-release")
def plan_release(name: str, caller: Anyone, parts: Here) -> PlanOut:
    """What releasing this claim would erase."""
    return parts.desk.plan_release(_project(name, caller, parts), name)


@router.post("/v1/claims/{name}:release", status_code=202)
def release_claim(name: str, ask: ReleaseAsk, caller: Anyone, parts: Here) -> ClaimOut:
    """Give the nodes back: off at once, cleaned when the undo window is over."""
    project = _project(name, caller, parts)
    return _out(parts, parts.desk.release(project, name, ask.plan, caller.name, ask.now))


@router.post("/v1/claims/{name}:undo", status_code=202)
def undo_release(name: str, caller: Anyone, parts: Here) -> ClaimOut:
    """Take a release back while the disks are untouched."""
    project = _project(name, caller, parts)
    return _out(parts, parts.desk.take_back(project, name, caller.name))


def _project(name: str, caller: Caller, parts: Here) -> str | None:
    """Whose claims this caller may end: its own as a claimer, anybody's as a destroyer."""
    if Role.DESTROYER in caller.roles:
        return None
    if Role.CLAIMER in caller.roles:
        return caller.project
    raise Forbidden(
        f"{caller.name} may not release claims: it takes the role claimer or destroyer",
        "seed token create NAME --role claimer  (as root on the Seed host)",
    )


def _out(parts: Here, claim: Claim) -> ClaimOut:
    user = _ssh_user(parts, claim.image)
    with parts.store.read() as session:
        handed = handout.of_claim(session, claim, user)
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
    facts: dict[str, Any] = claim.model_dump(include=set(ClaimOut.model_fields))
    return ClaimOut(**facts, nodes=nodes, handout=handed if claim.state == "active" else None)


def _ssh_user(parts: Here, name: str) -> str:
    try:
        return image.find(parts.image_dir, name).ssh_user or ""
    except NotFound:  # unpublished since
        return ""
