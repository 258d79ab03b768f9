"""Clusters: claimed nodes that became one thing, Kubernetes or a swarm."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session, col, select

from api.auth import Anyone, Claimer, needs
from api.discreet import of_bmcs, without_bmcs
from api.parts import Here
from api.roles import Caller, Role, may_change
from api.routes.claims import ReleaseAsk
from provisioning import clusters
from provisioning.cluster_rows import Cluster, Member
from provisioning.cluster_secrets import Given, Secrets
from provisioning.cluster_spec import ClusterSpec
from provisioning.errors import Invalid, NoCapacity, SeedError
from provisioning.kinds import ClusterFacts
from provisioning.models import Bmc, Claim
from provisioning.plans import PlanOut
from provisioning.states import ClusterState, MemberGoal, Noun

router = APIRouter(tags=["clusters"])

Planner = Annotated[Caller, Depends(needs(Role.CLAIMER, Role.OPERATOR))]
EXAMPLE: Final[dict[str, Any]] = {
    "name": "web",
    "kind": "kubeadm",
    "version": "1.36.2",
    "image": "kubernetes-node",
    "ssh_keys": [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKE02EXZopJm+V+0QfxedG6Gy6HeCx4/dROzGkxDOS5X me"
    ],
    "api": {"network": "api"},
    "control": {"count": 3, "spread": "rack", "layout": "bonded"},
    "workers": {"count": 5, "layout": "bonded"},
}


class ClusterAsk(ClusterSpec):
    """What to make. Unknown fields are refused: a typo must not be silent.

    secrets: by names that options of add-ons say; nobody reads them back.
    """

    model_config = ConfigDict(
        extra="forbid", hide_input_in_errors=True, json_schema_extra={"example": EXAMPLE}
    )

    secrets: Secrets = Field(default={})

    @property
    def spec(self) -> ClusterSpec:
        return ClusterSpec.model_validate(self.model_dump(exclude={"secrets"}))


class MemberOut(BaseModel):
    """One node of a cluster. claim: its own, named as it is; claim_state: how far that is.

    step, step_state, step_detail: what the node told last; missing: the file that the step wants
    and that is not there. joined_at: when all its steps were done.
    """

    name: str
    role: str
    node: str
    node_uuid: UUID | None
    address: str
    claim_state: str
    claim_detail: str
    step: str
    step_state: str
    step_detail: str
    missing: str
    told_at: datetime | None
    joined_at: datetime | None


class ClusterOut(BaseModel):
    """A cluster. version: what runs, or what is asked for. vip: where its API answers.

    settled: nobody joins, leaves or waits for another image.
    """

    id: UUID
    name: str
    project: str
    kind: str
    version: str
    image: str
    network: str
    vip: str
    api_port: int
    state: str
    since: datetime
    detail: str
    problem: str
    remedy: str
    settled: bool
    released: bool
    undo_until: datetime | None
    created_at: datetime
    ended_at: datetime | None
    spec: dict[str, Any]
    members: list[MemberOut]


class ClusterPlanNode(BaseModel):
    """A member as it would be. address: with its prefix length. labels: of the cluster's node."""

    name: str
    role: str
    node: str
    address: str
    interface: str
    labels: dict[str, str]
    taints: list[str]


class ClusterPlan(BaseModel):
    """What `create` would do now. fits: all of it can be had; else the sentence says what not.

    reasons: where nodes are too few: node -> the rule that keeps it away.
    ranges: add-on -> addresses that would be kept for services, "first-last".
    """

    fits: bool
    sentence: str
    remedy: str
    vip: str
    api_port: int
    version: str
    nodes: list[ClusterPlanNode]
    reasons: dict[str, str]
    ranges: dict[str, list[str]] = {}


@router.get("/v1/clusters")
def list_clusters(
    caller: Anyone, parts: Here, ended: bool = False, state: ClusterState | None = None
) -> list[ClusterOut]:
    """Living clusters, newest first; a claimer sees its own project's."""
    with parts.store.read() as session:
        rows = found(session, Noun.CLUSTER, caller, ended, state)
        return [_out(session, row, caller) for row in rows]


@router.post("/v1/clusters", status_code=202)
def create_cluster(
    ask: ClusterAsk, caller: Claimer, parts: Here, request: Request, response: Response
) -> ClusterOut:
    """Ask for a cluster. Answers 202 at once; follow `Location` until the state is `ready`.

    Its nodes are held by this call, all of them or none.
    """
    given = Given(parts.sealer, ask.secrets)
    row, _new = parts.clusters.create(ask.spec, caller.project, caller.name, caller.sees_all, given)
    response.headers["Location"] = str(request.url_for("show_cluster", name=str(row.id)))
    return shown(parts, row, caller)


@router.post("/v1/clusters:plan")
def plan_cluster(ask: ClusterAsk, caller: Planner, parts: Here) -> ClusterPlan:
    """Who would go where, with which addresses, or what is missing. Nothing is held by it."""
    try:
        given = Given(parts.sealer, ask.secrets)
        facts = parts.clusters.plan(ask.spec, caller.project, caller.name, caller.sees_all, given)
    except SeedError as refused:
        return ClusterPlan(
            fits=False, sentence=str(refused), remedy=refused.remedy, vip="",
            api_port=ask.api.port, version=ask.version, nodes=[],
            reasons=refused.reasons if isinstance(refused, NoCapacity) else {},
        )  # fmt: skip
    told_now = _plan(parts, facts)
    if not parts.answers(facts.vip, facts.api_port):
        return told_now
    told = f"api.vip: {facts.vip} answers already, somebody has it"
    remedy = f"seed network reserve {ask.api.network} {facts.vip} --why 'answers'"
    return told_now.model_copy(update={"fits": False, "sentence": told, "remedy": remedy})


@router.put("/v1/clusters/{name}", status_code=202)
def put_cluster(name: str, ask: ClusterAsk, caller: Claimer, parts: Here) -> ClusterOut:
    """The same, safe to repeat: the same wish under the same name is the same cluster."""
    if ask.name != name:
        raise Invalid(f"the path says {name}, the body says {ask.name}", "Use one name.")
    given = Given(parts.sealer, ask.secrets)
    row, _new = parts.clusters.create(ask.spec, caller.project, caller.name, caller.sees_all, given)
    return shown(parts, row, caller)


@router.get("/v1/clusters/{name}")
def show_cluster(name: str, caller: Anyone, parts: Here) -> ClusterOut:
    """One cluster by name or id."""
    with parts.store.read() as session:
        return _out(session, clusters.find(session, caller.looks_in, name), caller)


@router.post("/v1/clusters/{name}:plan-release")
def plan_cluster_release(name: str, caller: Anyone, parts: Here) -> PlanOut:
    """What releasing this cluster would erase."""
    return parts.giving.plan(may_change(caller, "clusters"), name)


@router.post("/v1/clusters/{name}:release", status_code=202)
def release_cluster(name: str, ask: ReleaseAsk, caller: Anyone, parts: Here) -> ClusterOut:
    """Give all of its nodes back: off at once, cleaned when the undo window is over."""
    row = parts.giving.release(
        may_change(caller, "clusters"), name, ask.plan, caller.name, ask.now, ask.why
    )
    return shown(parts, row, caller)


@router.post("/v1/clusters/{name}:undo", status_code=202)
def undo_cluster_release(name: str, caller: Anyone, parts: Here) -> ClusterOut:
    """Take a release back while the disks are untouched."""
    return shown(
        parts, parts.giving.take_back(may_change(caller, "clusters"), name, caller.name), caller
    )


def found(
    session: Session, noun: Noun, caller: Caller, ended: bool, state: ClusterState | None
) -> Sequence[Cluster]:
    """What the caller may see, newest first."""
    query = select(Cluster).where(Cluster.noun == noun)
    query = query.order_by(col(Cluster.created_at).desc(), col(Cluster.id))
    if not caller.sees_all:
        query = query.where(Cluster.project == caller.project)
    if not ended:
        query = query.where(col(Cluster.ended_at).is_(None))
    if state is not None:
        query = query.where(Cluster.state == state)
    return session.exec(query).all()


def shown(parts: Here, row: Cluster, caller: Caller) -> ClusterOut:
    with parts.store.read() as session:
        return _out(session, session.get_one(Cluster, row.id), caller)


def _out(session: Session, row: Cluster, caller: Caller) -> ClusterOut:
    spec = ClusterSpec.model_validate(row.spec)
    facts: dict[str, Any] = row.model_dump(include=set(ClusterOut.model_fields) - {"spec"})
    if not caller.sees_all:
        facts |= without_bmcs(row, "cluster")
    return ClusterOut(
        settled=is_settled(session, row),
        **facts,
        version=clusters.version_of(row),
        kind=spec.kind,
        image=spec.image,
        api_port=spec.api.port,
        spec=row.spec,
        members=members_of(session, row, caller),
    )


def is_settled(session: Session, row: Cluster) -> bool:
    return all(
        m.goal is MemberGoal.JOINED and m.joined_at and m.revision == row.revision
        for m in _members(session, row)
    )


def members_of(session: Session, row: Cluster, caller: Caller) -> list[MemberOut]:
    members = _members(session, row)
    claims = [member.claim_id for member in members]
    query = select(Claim).where(col(Claim.id).in_(claims))
    seen = _Seen(
        {claim.id: claim for claim in session.exec(query)},
        clusters.seated(session, claims),
        clusters.addresses_in(session, claims, row.network),
    )
    return [_member(seen, m, caller) for m in members]


def _members(session: Session, row: Cluster) -> list[Member]:
    """Of one that ended: those that it had to the end."""
    living = clusters.members(session, row)
    if living or row.ended_at is None:
        return living
    query = select(Member).where(Member.cluster_id == row.id, Member.ended_at == row.ended_at)
    return sorted(session.exec(query).all(), key=lambda m: (m.role != "control", m.number))


@dataclass(frozen=True, slots=True)
class _Seen:
    """Of a cluster's claims: themselves, where they sit, their addresses."""

    claims: dict[UUID, Claim]
    seats: dict[UUID, clusters.Seat]
    addresses: dict[UUID, str]


def _member(seen: _Seen, member: Member, caller: Caller) -> MemberOut:
    claim, seat = seen.claims[member.claim_id], seen.seats.get(member.claim_id)
    told = {"claim_detail": claim.problem or claim.detail}
    if not caller.sees_all and of_bmcs(told["claim_detail"]):
        told["claim_detail"] = "its server is being seen to"
    facts = member.model_dump(include=set(MemberOut.model_fields)) | told
    return MemberOut(
        **facts,
        node=(seat.bmc.node_name or "") if seat else "",
        node_uuid=seat.bmc.node if seat else None,
        address=seen.addresses.get(claim.id, ""),
        claim_state=claim.state,
    )


def _plan(parts: Here, facts: ClusterFacts) -> ClusterPlan:
    uuids = [UUID(m.node_uuid) for m in facts.members]
    with parts.store.read() as session:
        query = select(Bmc.node_uuid, Bmc.node_name).where(col(Bmc.node_uuid).in_(uuids))
        names = {str(uuid): name or "" for uuid, name in session.exec(query)}
    nodes = [
        ClusterPlanNode(
            name=m.name, role=m.role, node=names.get(m.node_uuid, ""), address=m.address,
            interface=m.interface, labels=m.labels, taints=list(m.taints),
        )
        for m in facts.members
    ]  # fmt: skip
    control = sum(m.role == "control" for m in facts.members)
    return ClusterPlan(
        fits=True,
        sentence=f"{facts.name} can be had: {control} control, {len(nodes) - control} workers",
        remedy="", vip=facts.vip, api_port=facts.api_port, version=facts.version, nodes=nodes,
        reasons={},
        ranges={addon: list(told) for addon, told in facts.ranges.items()},
    )  # fmt: skip
