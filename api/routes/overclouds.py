"""Overclouds: claimed nodes that an installer makes an OpenStack of."""

from base64 import b64decode, b64encode
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StringConstraints
from sqlmodel import Session

from api.auth import Anyone, Claimer, needs
from api.discreet import without_bmcs
from api.parts import Here
from api.roles import Caller, Role, may_change
from api.routes.claims import ReleaseAsk
from api.routes.cluster_access import CheckOut, check_out, looks_in
from api.routes.cluster_changes import Change, Plan, made, planned
from api.routes.clusters import MemberOut, found, is_settled, members_of
from provisioning import cluster_access, clusters, gives, overcloud_access
from provisioning.cluster_rows import Cluster, OvercloudAccess
from provisioning.cluster_spec import MANY_CONTROL, MANY_WORKERS
from provisioning.errors import Conflict, Invalid, NoCapacity, NotFound, SeedError
from provisioning.installed import Installed, of
from provisioning.installers import NodeFacts, OvercloudFacts
from provisioning.names import Name
from provisioning.overcloud_spec import OvercloudSpec
from provisioning.overcloud_stages import installer_of, is_pending, rows_of
from provisioning.plans import PlanOut
from provisioning.states import ClusterState, Noun, StageState
from provisioning.targets import PartSpec

router = APIRouter(tags=["overclouds"])

Planner = Annotated[Caller, Depends(needs(Role.CLAIMER, Role.OPERATOR))]
OVERCLOUD: Final = Noun.OVERCLOUD
EXAMPLE: Final[dict[str, Any]] = {
    "name": "cloud",
    "installer": "debian",
    "image": "openstack-node",
    "ssh_keys": [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKE02EXZopJm+V+0QfxedG6Gy6HeCx4/dROzGkxDOS5X me"
    ],
    "networks": {"api": "api", "tunnel": "tunnel", "external": "outside"},
    "control": {"count": 1, "layout": "bonded"},
    "compute": {"count": 2, "layout": "bonded"},
}


class OvercloudAsk(OvercloudSpec):
    """What to make. Unknown fields are refused: a typo must not be silent."""

    model_config = ConfigDict(
        extra="forbid", hide_input_in_errors=True, json_schema_extra={"example": EXAMPLE}
    )

    @property
    def spec(self) -> OvercloudSpec:
        return OvercloudSpec.model_validate(self.model_dump())


class StageOut(BaseModel):
    """A stage of the installer. task: the one that goes on, or that failed on `hosts`.

    log: what Ansible printed, a file on the Seed machine for who runs it.
    """

    name: str
    state: StageState
    tries: int
    task: str
    hosts: list[str]
    unreachable: bool
    log: str
    began_at: datetime | None
    ended_at: datetime | None
    seconds: float | None


class OvercloudOut(BaseModel):
    """An overcloud. vip: where Keystone answers, at port 5000. settled: nobody comes or goes.

    proves: what ACTIVE means there; empty: a guest that runs.
    """

    id: UUID
    name: str
    project: str
    installer: str
    release: str
    image: str
    network: str
    vip: str
    state: str
    since: datetime
    detail: str
    problem: str
    remedy: str
    settled: bool
    proves: str
    released: bool
    undo_until: datetime | None
    created_at: datetime
    ended_at: datetime | None
    spec: dict[str, Any]
    stages: list[StageOut]
    members: list[MemberOut]


class OvercloudPlanNode(BaseModel):
    """A node as it would be. addresses: use (api, tunnel, ...) -> with its prefix length."""

    name: str
    roles: list[str]
    node: str
    place: str
    addresses: dict[str, str]
    interfaces: dict[str, str]


class OvercloudPlan(BaseModel):
    """What `create` would do now. fits: all of it can be had; else the sentence says what not.

    reasons: where nodes are too few: node -> the rule that keeps it away. stages: that would run.
    """

    fits: bool
    sentence: str
    remedy: str
    vips: dict[str, str]
    nodes: list[OvercloudPlanNode]
    stages: list[str]
    reasons: dict[str, str]


class InstallerOut(BaseModel):
    """stages: that Seed runs; empty: a format, whose files people take. services: beyond its
    minimum."""

    name: str
    runs: bool
    services: list[str]


class SizeAsk(BaseModel):
    """So many there shall be; what is left out stays. plan: of what is erased, where it shrinks."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"compute": 5}})
    control: Annotated[StrictInt, Field(ge=1, le=MANY_CONTROL)] | None = None
    network: Annotated[StrictInt, Field(ge=0, le=MANY_WORKERS)] | None = None
    compute: Annotated[StrictInt, Field(ge=0, le=MANY_WORKERS)] | None = None
    storage: Annotated[StrictInt, Field(ge=0, le=MANY_WORKERS)] | None = None
    monitoring: Annotated[StrictInt, Field(ge=0, le=MANY_WORKERS)] | None = None
    plan: Plan = ""


class SwapAsk(BaseModel):
    """node: by its name. Said again of one that goes already and fails to: it is given up."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"node": "cloud-compute-0"}}
    )
    node: Name
    plan: Plan = ""


class ResumeAsk(BaseModel):
    """stage: run that one again; empty: the one that failed."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"stage": "network"}})
    stage: Annotated[str, StringConstraints(max_length=80)] = ""


class CloudsAsk(BaseModel):
    """key: an X25519 public key in base64, made for this question: clouds.yaml is sealed to it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"key": "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="}},
    )
    key: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{43}=$")]


class CloudsOut(BaseModel):
    """sealed: HPKE (RFC 9180) to the key, in base64, once the reconciler did it; empty before.

    X25519, HKDF-SHA256, ChaCha20-Poly1305; info: "overcloud-access:ID".
    """

    id: UUID
    overcloud: str
    asked_at: datetime
    sealed: str


class ExportAsk(BaseModel):
    """installer: empty: its own. options: of that installer."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"installer": "kayobe"}}
    )
    installer: Name | Literal[""] = ""
    options: dict[str, Any] = Field(default={}, max_length=32)


class GiveAsk(BaseModel):
    """give: a row's name. wish: what is said to it, in place of what the overcloud's spec says."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"give": "zones"}})
    give: Name
    wish: dict[str, Any] = Field(default={}, max_length=32)


class GiveOut(BaseModel):
    """lacks: why it cannot be given; empty: it can."""

    name: str
    summary: str
    lacks: str


class FileOut(BaseModel):
    """path: below a folder of the caller's. mode: as in 0644."""

    path: str
    mode: str
    content: str


@router.get("/v1/installers")
def list_installers(caller: Anyone) -> list[InstallerOut]:
    """What can make an OpenStack of claimed nodes."""
    return [
        InstallerOut(
            name=name, runs=bool(kind.installer.environment),
            services=sorted(kind.installer.services),
        )
        for name, kind in sorted(clusters.known().items()) if isinstance(kind, Installed)
    ]  # fmt: skip


@router.get("/v1/overclouds")
def list_overclouds(
    caller: Anyone, parts: Here, ended: bool = False, state: ClusterState | None = None
) -> list[OvercloudOut]:
    """Living overclouds, newest first; a claimer sees its own project's."""
    with parts.store.read() as session:
        rows = found(session, OVERCLOUD, caller, ended, state)
        return [_out(session, row, caller) for row in rows]


@router.post("/v1/overclouds", status_code=202)
def create_overcloud(
    ask: OvercloudAsk, caller: Claimer, parts: Here, request: Request, response: Response
) -> OvercloudOut:
    """Ask for an overcloud. Answers 202 at once; follow `Location` until the state is `ready`.

    Its nodes are held by this call, all of them or none.
    """
    row, _new = parts.clusters.create(ask.spec, caller.project, caller.name, caller.sees_all)
    response.headers["Location"] = str(request.url_for("show_overcloud", name=str(row.id)))
    return shown(parts, row, caller)


@router.post("/v1/overclouds:plan")
def plan_overcloud(ask: OvercloudAsk, caller: Planner, parts: Here) -> OvercloudPlan:
    """What goes where, what is missing, which addresses collide. Nothing is held by it."""
    try:
        facts = parts.clusters.plan(ask.spec, caller.project, caller.name, caller.sees_all)
    except SeedError as refused:
        return OvercloudPlan(
            fits=False, sentence=str(refused), remedy=refused.remedy, vips={}, nodes=[], stages=[],
            reasons=refused.reasons if isinstance(refused, NoCapacity) else {},
        )  # fmt: skip
    kind = clusters.known()[ask.kind]
    told = of(facts)
    stages = kind.installer.stages(told) if isinstance(kind, Installed) else ()
    taken = parts.answers(facts.vip, facts.api_port)
    sentence = f"{told.name} can be had: {clusters.sizes(ask.spec)}"
    if taken:
        sentence = f"vips.internal: {facts.vip} answers already, somebody has it"
    network = ask.networks.api
    return OvercloudPlan(
        fits=not taken, sentence=sentence,
        remedy=f"seed network reserve {network} {facts.vip} --why 'answers'" if taken else "",
        vips=told.vips, nodes=[_plan_node(node) for node in told.nodes],
        stages=[stage.name for stage in stages], reasons={},
    )  # fmt: skip


@router.put("/v1/overclouds/{name}", status_code=202)
def put_overcloud(name: str, ask: OvercloudAsk, caller: Claimer, parts: Here) -> OvercloudOut:
    """The same, safe to repeat: the same wish under the same name is the same overcloud."""
    if ask.name != name:
        raise Invalid(f"the path says {name}, the body says {ask.name}", "Use one name.")
    row, _new = parts.clusters.create(ask.spec, caller.project, caller.name, caller.sees_all)
    return shown(parts, row, caller)


@router.get("/v1/overclouds/{name}")
def show_overcloud(name: str, caller: Anyone, parts: Here) -> OvercloudOut:
    """One overcloud by name or id, its stages and its nodes."""
    with parts.store.read() as session:
        row = clusters.find(session, caller.looks_in, name, OVERCLOUD)
        return _out(session, row, caller)


@router.post("/v1/overclouds/{name}:resume", status_code=202)
def resume_overcloud(name: str, ask: ResumeAsk, caller: Anyone, parts: Here) -> OvercloudOut:
    """Go on at the stage that failed, or run one again."""
    project = may_change(caller, "clusters")
    row = overcloud_access.resume(parts.store, project, name, caller.name, ask.stage)
    return shown(parts, row, caller)


@router.post("/v1/overclouds/{name}:plan-scale")
def plan_overcloud_scale(name: str, ask: SizeAsk, caller: Anyone, parts: Here) -> PlanOut:
    """What another size would erase; whether it can be had."""
    return planned(parts, caller, name, "scale-cluster", _scale(name, ask, caller), OVERCLOUD)


@router.post("/v1/overclouds/{name}:scale", status_code=202)
def scale_overcloud(name: str, ask: SizeAsk, caller: Anyone, parts: Here) -> OvercloudOut:
    """So many nodes of each role from now on. Who leaves is taken out of OpenStack before."""
    change = _scale(name, ask, caller)
    row = made(parts, caller, name, "scale-cluster", ask.plan, change, OVERCLOUD)
    return shown(parts, row, caller)


@router.post("/v1/overclouds/{name}:plan-replace")
def plan_overcloud_replace(name: str, ask: SwapAsk, caller: Anyone, parts: Here) -> PlanOut:
    """What the replacing of a node would erase; whether there is another one for it."""
    return planned(parts, caller, name, "replace-member", _replace(name, ask, caller), OVERCLOUD)


@router.post("/v1/overclouds/{name}:replace", status_code=202)
def replace_node(name: str, ask: SwapAsk, caller: Anyone, parts: Here) -> OvercloudOut:
    """Another node in one's place: it is installed first, then the old one leaves."""
    change = _replace(name, ask, caller)
    row = made(parts, caller, name, "replace-member", ask.plan, change, OVERCLOUD)
    return shown(parts, row, caller)


@router.post("/v1/overclouds/{name}:plan-release")
def plan_overcloud_release(name: str, caller: Anyone, parts: Here) -> PlanOut:
    """What releasing this overcloud would erase."""
    return replace(parts.giving, noun=OVERCLOUD).plan(may_change(caller, "clusters"), name)


@router.post("/v1/overclouds/{name}:release", status_code=202)
def release_overcloud(name: str, ask: ReleaseAsk, caller: Anyone, parts: Here) -> OvercloudOut:
    """Give all of its nodes back: off at once, cleaned when the undo window is over."""
    row = replace(parts.giving, noun=OVERCLOUD).release(
        may_change(caller, "clusters"), name, ask.plan, caller.name, ask.now, ask.why
    )
    return shown(parts, row, caller)


@router.post("/v1/overclouds/{name}:undo", status_code=202)
def undo_overcloud_release(name: str, caller: Anyone, parts: Here) -> OvercloudOut:
    """Take a release back while the disks are untouched."""
    giving = replace(parts.giving, noun=OVERCLOUD)
    row = giving.take_back(may_change(caller, "clusters"), name, caller.name)
    return shown(parts, row, caller)


@router.post("/v1/overclouds/{name}/checks", status_code=202)
def ask_overcloud_check(
    name: str, caller: Claimer, parts: Here, request: Request, response: Response
) -> CheckOut:
    """Check that endpoints answer, agents are up and a server boots; one that runs is meant.

    Follow `Location`. What it makes in the overcloud it takes away again.
    """
    row = cluster_access.ask_check(parts.store, looks_in(caller), name, caller.name, OVERCLOUD)
    url = request.url_for("show_overcloud_check", name=name, check_id=str(row.id))
    response.headers["Location"] = str(url)
    return check_out(row, name)


@router.get("/v1/overclouds/{name}/checks/{check_id}")
def show_overcloud_check(name: str, check_id: UUID, caller: Anyone, parts: Here) -> CheckOut:
    """What has been found so far."""
    with parts.store.read() as session:
        row = cluster_access.check(session, caller.looks_in, name, check_id, OVERCLOUD)
    return check_out(row, name)


@router.post("/v1/overclouds/{name}/clouds", status_code=202)
def ask_clouds(
    name: str, ask: CloudsAsk, caller: Claimer, parts: Here, request: Request, response: Response
) -> CloudsOut:
    """Ask for clouds.yaml, of the overcloud's administrator. Follow `Location` until it is sealed.

    Only who asked can open it, with the private half of `key`.
    """
    key = b64decode(ask.key)
    row = overcloud_access.ask(parts.store, looks_in(caller), name, caller.name, key)
    url = request.url_for("show_clouds", name=name, clouds_id=str(row.id))
    response.headers["Location"] = str(url)
    return _clouds(row, name)


@router.get("/v1/overclouds/{name}/clouds/{clouds_id}")
def show_clouds(name: str, clouds_id: UUID, caller: Claimer, parts: Here) -> CloudsOut:
    """clouds.yaml, sealed."""
    with parts.store.read() as session:
        row = overcloud_access.find(session, looks_in(caller), name, clouds_id)
    return _clouds(row, name)


@router.post("/v1/overclouds/{name}:export")
def export_overcloud(name: str, ask: ExportAsk, caller: Anyone, parts: Here) -> list[FileOut]:
    """What an installer is given for this overcloud, without any secret, for people who run it.

    Nothing is changed by it.
    """
    with parts.store.read() as session:
        row = clusters.find(session, caller.looks_in, name, OVERCLOUD)
        facts = of(clusters.facts_of(session, row))
    own: str = row.spec["kind"]
    wanted = ask.installer or own
    kind = clusters.known().get(wanted)
    if not isinstance(kind, Installed):
        raise NotFound(f"there is no installer {wanted!r}", "seed overcloud installers")
    if wanted != own:  # these are the own installer's words
        facts = replace(facts, options={}, services=(), release="")
    facts = replace(facts, options=facts.options | ask.options)
    if faults := kind.installer.faults(facts):
        clusters.refuse(faults)
    return [_file(part) for part in kind.installer.tree(facts, {})]


@router.get("/v1/overclouds/{name}/gives")
def overcloud_gives(name: str, caller: Anyone, parts: Here) -> list[GiveOut]:
    """What this overcloud takes from the bare metal: each row, and why it cannot be given."""
    with parts.store.read() as session:
        row = clusters.find(session, caller.looks_in, name, OVERCLOUD)
        facts = of(clusters.facts_of(session, row))
    return [
        GiveOut(name=give.name, summary=give.summary, lacks=_lacks(give, facts))
        for _name, give in sorted(gives.known().items())
    ]


@router.post("/v1/overclouds/{name}:give")
def give_overcloud(name: str, ask: GiveAsk, caller: Anyone, parts: Here) -> list[FileOut]:
    """The files of one row. Nothing is changed by it."""
    give = gives.known().get(ask.give)
    if give is None:
        rows = ", ".join(sorted(gives.known()))
        raise NotFound(f"give: there is no row {ask.give}", f"Take one of these: {rows}.")
    with parts.store.read() as session:
        row = clusters.find(session, caller.looks_in, name, OVERCLOUD)
        facts = of(clusters.facts_of(session, row))
    if ask.wish:
        facts = replace(facts, wishes=facts.wishes | {ask.give: ask.wish})
    if lacks := give.lacks(facts):
        raise Conflict(f"{ask.give}: {lacks}", f"See all rows: `seed overcloud gives {name}`.")
    return [_file(part) for part in give.files(facts)]


def _lacks(give: gives.Give, facts: OvercloudFacts) -> str:
    try:
        return give.lacks(facts)
    except Invalid as problem:
        return str(problem)


def shown(parts: Here, row: Cluster, caller: Caller) -> OvercloudOut:
    with parts.store.read() as session:
        return _out(session, session.get_one(Cluster, row.id), caller)


def _scale(name: str, ask: SizeAsk, caller: Caller) -> Change:
    project, counts = may_change(caller, "clusters"), ask.model_dump(exclude={"plan"})
    return lambda at: at.scale(project, name, caller.name, caller.sees_all, **counts)


def _replace(name: str, ask: SwapAsk, caller: Caller) -> Change:
    project = may_change(caller, "clusters")
    return lambda at: at.replace(project, name, ask.node, caller.name, caller.sees_all)


def _out(session: Session, row: Cluster, caller: Caller) -> OvercloudOut:
    spec = OvercloudSpec.model_validate(row.spec)
    facts: dict[str, Any] = row.model_dump(include=set(OvercloudOut.model_fields) - {"spec"})
    if not caller.sees_all:
        facts |= without_bmcs(row, "overcloud")
    installer = installer_of(row)
    return OvercloudOut(
        **facts,
        installer=spec.kind,
        release=spec.version,
        image=spec.image,
        settled=is_settled(session, row) and not is_pending(session, row),
        proves=installer.proves(spec.options) if installer else "",
        spec=_as_asked(row.spec),
        stages=[_stage(one) for one in rows_of(session, row)],
        members=members_of(session, row, caller),
    )


def _as_asked(spec: dict[str, Any]) -> dict[str, Any]:
    """With the names that people write, so that it can be sent again."""
    told = {k: v for k, v in spec.items() if k not in ("kind", "version", "bundle", "addons")}
    return {"installer": spec["kind"], "release": spec["version"]} | told


def _stage(row: Any) -> StageOut:  # noqa: ANN401
    took = (row.ended_at - row.began_at).total_seconds() if row.ended_at and row.began_at else None
    told = row.model_dump(include=set(StageOut.model_fields))
    return StageOut(**told, seconds=round(took, 1) if took is not None else None)


def _clouds(row: OvercloudAccess, name: str) -> CloudsOut:
    return CloudsOut(
        id=row.id, overcloud=name, asked_at=row.asked_at, sealed=b64encode(row.sealed).decode()
    )


def _file(part: PartSpec) -> FileOut:
    return FileOut(path=part.path, mode=f"{part.mode:04o}", content=part.content.decode())


def _plan_node(node: NodeFacts) -> OvercloudPlanNode:
    return OvercloudPlanNode(
        name=node.name, roles=[*node.roles], node=node.node_name,
        place=f"{node.rack}u{node.unit}" if node.rack else "",
        addresses={use: wire.address for use, wire in node.wires.items()},
        interfaces={use: wire.interface for use, wire in node.wires.items()},
    )  # fmt: skip
