"""Projects and their quotas. A claimer reads its own, and its own numbers only."""

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt
from sqlmodel import Session, col, select

from api.auth import Anyone, Operator
from api.parts import Here
from api.roles import Caller
from provisioning import projects, quotas
from provisioning.errors import Conflict, NotFound
from provisioning.models import now
from provisioning.names import HostLabel
from provisioning.store import record
from provisioning.tenants import Project, Quota

router = APIRouter(prefix="/v1/projects", tags=["projects"])

ALL: Final = "*"
"""In paths and answers: all classes together. No class can have this name."""
MAX_LEASE: Final = 10 * 365 * 86400
MAX_NODES: Final = 2**31 - 1
Class = Annotated[str, Path(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,79})$")]


def _one_line(text: str) -> str:
    """What a terminal shows as it was written: no line ends, escapes or changes of direction."""
    if len(text) > 255 or not text.isprintable():
        raise ValueError("it takes one line of printable text, 255 characters at most")
    return text


class ProjectChange(BaseModel):
    """What is left out stays. max_lease_seconds 0: claims may be held as long as they like."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"max_priority": 10, "max_lease_seconds": 604800}},
    )

    description: Annotated[str, AfterValidator(_one_line)] | None = None
    max_priority: Annotated[StrictInt, Field(ge=0, le=100)] | None = None
    max_lease_seconds: Annotated[StrictInt, Field(ge=0, le=MAX_LEASE)] | None = None


class ProjectIn(ProjectChange):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"name": "web", "description": "the shop"}}
    )

    name: HostLabel


class QuotaIn(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"nodes": 20}})

    nodes: Annotated[StrictInt, Field(ge=0, le=MAX_NODES)]


class QuotaOut(BaseModel):
    """How many nodes of a class living claims may name, and how many they do."""

    resource_class: str
    nodes: int
    held: int


class ProjectOut(BaseModel):
    """held: class -> nodes of its living claims."""

    name: str
    description: str
    max_priority: int
    max_lease_seconds: int
    created_at: datetime
    disabled_at: datetime | None
    quotas: list[QuotaOut]
    held: dict[str, int]


@router.get("")
def list_projects(caller: Anyone, parts: Here) -> list[ProjectOut]:
    """By name; a claimer's own only."""
    query = select(Project).order_by(Project.name)
    if not caller.sees_all:
        query = query.where(Project.name == caller.project)
    with parts.store.read() as session:
        return [_out(session, project) for project in session.exec(query).all()]


@router.post("", status_code=201)
def create_project(asked: ProjectIn, caller: Operator, parts: Here) -> ProjectOut:
    """A new one, without quotas: its claims may name as many nodes as there are."""
    with parts.store.write() as session:
        if session.get(Project, asked.name):
            raise Conflict(
                f"there is a project {asked.name} already", f"`seed project show {asked.name}`"
            )
        project = Project(**_said(asked), name=asked.name, created_by=caller.name)
        session.add(project)
        _record(session, project, "created", caller)
        return _out(session, project)


@router.get("/{name}")
def show_project(name: str, caller: Anyone, parts: Here) -> ProjectOut:
    """One project with its quotas, and how many nodes its claims name."""
    with parts.store.read() as session:
        return _out(session, _seen(session, caller, name))


@router.patch("/{name}")
def change_project(name: str, asked: ProjectChange, caller: Operator, parts: Here) -> ProjectOut:
    """Living claims stay as they are; new ones and renewals keep to it."""
    with parts.store.write() as session:
        project = projects.find(session, name)
        for key, value in _said(asked).items():
            setattr(project, key, value)
        _record(session, project, "changed", caller)
        return _out(session, project)


@router.post("/{name}:disable")
def disable_project(name: str, caller: Operator, parts: Here) -> ProjectOut:
    """Its claims can be seen and released; new ones, users and tokens are refused."""
    with parts.store.write() as session:
        project = projects.find(session, name)
        project.disabled_at = project.disabled_at or now()
        _record(session, project, "disabled", caller)
        return _out(session, project)


@router.post("/{name}:enable")
def enable_project(name: str, caller: Operator, parts: Here) -> ProjectOut:
    """It may claim again."""
    with parts.store.write() as session:
        project = projects.find(session, name)
        project.disabled_at = None
        _record(session, project, "enabled", caller)
        return _out(session, project)


@router.delete("/{name}", status_code=204)
def delete_project(name: str, caller: Operator, parts: Here) -> None:
    """Refused while a living claim, a user, a token or a webhook names it."""
    with parts.store.write() as session:
        projects.remove(session, name, caller.name)


@router.get("/{name}/quotas")
def list_quotas(name: str, caller: Anyone, parts: Here) -> list[QuotaOut]:
    """By class; `*` is all classes together."""
    with parts.store.read() as session:
        _seen(session, caller, name)
        return _quotas(session, name, quotas.held(session, name))


@router.put("/{name}/quotas/{resource_class}")
def put_quota(
    name: str, resource_class: Class, asked: QuotaIn, caller: Operator, parts: Here
) -> QuotaOut:
    """How many nodes of a class, or of all (`*`), living claims may name. Those there are stay."""
    with parts.store.write() as session:
        project = projects.find(session, name)
        kept = session.merge(
            Quota(project=name, resource_class=_stored(resource_class), nodes=asked.nodes)
        )
        _record(session, project, "quota", caller, f"{resource_class}: {asked.nodes} nodes")
        held = quotas.held(session, name)
        return _quota_out(kept, held)


@router.delete("/{name}/quotas/{resource_class}", status_code=204)
def delete_quota(name: str, resource_class: Class, caller: Operator, parts: Here) -> None:
    """From now on there is no limit for this class."""
    with parts.store.write() as session:
        project = projects.find(session, name)
        kept = session.get(Quota, (name, _stored(resource_class)))
        if kept is None:
            raise NotFound(
                f"the project {name} has no quota for {resource_class}", f"`seed quota list {name}`"
            )
        session.delete(kept)
        _record(session, project, "quota", caller, f"{resource_class}: no limit")


def _seen(session: Session, caller: Caller, name: str) -> Project:
    """The project, if the caller may know of it. Raises NotFound."""
    if not caller.sees(name):
        raise NotFound(f"there is no project {name!r}", f"`seed project show {caller.project}`")
    return projects.find(session, name)


def _said(asked: ProjectChange) -> dict[str, Any]:
    return asked.model_dump(include=set(ProjectChange.model_fields), exclude_none=True)


def _record(session: Session, project: Project, what: str, caller: Caller, more: str = "") -> None:
    message = more or f"project {project.name} {what}"
    record(session, f"project.{what}", project.name, message, who=caller.name, project=project.name)


def _stored(resource_class: str) -> str:
    return quotas.ALL if resource_class == ALL else resource_class


def _quotas(session: Session, name: str, held: dict[str, int]) -> list[QuotaOut]:
    rows = session.exec(
        select(Quota).where(Quota.project == name).order_by(col(Quota.resource_class))
    ).all()
    return [_quota_out(row, held) for row in rows]


def _quota_out(row: Quota, held: dict[str, int]) -> QuotaOut:
    return QuotaOut(
        resource_class=row.resource_class or ALL,
        nodes=row.nodes,
        held=held.get(row.resource_class, 0),
    )


def _out(session: Session, project: Project) -> ProjectOut:
    held = quotas.held(session, project.name)
    facts = project.model_dump(include=set(ProjectOut.model_fields))
    own = {name: count for name, count in held.items() if name != quotas.ALL}
    return ProjectOut(**facts, quotas=_quotas(session, project.name, held), held=own)
