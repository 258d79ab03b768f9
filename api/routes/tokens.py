"""Keys of callers over the network. The secret is shown once; we keep its hash."""

from datetime import datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StringConstraints
from sqlalchemy import ColumnElement
from sqlmodel import Session, and_, col, or_, select

from api.auth import TokenMaker
from api.parts import Here
from api.roles import Caller, Role, within
from provisioning import break_glass, projects, tokens
from provisioning.errors import Conflict, Forbidden, Invalid, NotFound
from provisioning.models import Token, now
from provisioning.names import HostLabel, NewName
from provisioning.secrets import digest, new_token
from provisioning.store import record
from provisioning.tenants import User

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])

DAYS: Final = 90
Scope = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9.-]{0,39}(:read)?$")]


class TokenIn(BaseModel):
    """days: until it expires; left out: 90, or as long as the token lasts that it is made with.

    scopes: what of its roles it is good for: "claims", or "claims:read" for GET alone; none: all.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"name": "ci", "roles": ["claimer"], "project": "web", "scopes": ["claims"]}
        },
    )

    name: NewName
    roles: Annotated[list[Role], Field(min_length=1, max_length=4)]
    project: HostLabel = projects.DEFAULT
    days: Annotated[StrictInt, Field(ge=1, le=366)] = DAYS
    scopes: Annotated[list[Scope], Field(max_length=32)] = []


class TokenOut(BaseModel):
    """user: whose session it is. last_used_at: to the minute."""

    name: str
    roles: list[Role]
    project: str
    scopes: list[str]
    user: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


class TokenMade(TokenOut):
    token: str
    """The secret. It is shown here and never again."""


@router.get("", response_model=list[TokenOut])
def list_tokens(caller: TokenMaker, parts: Here) -> list[Token]:
    """By name. A claimer sees those that it made, and its own."""
    query = select(Token).order_by(Token.name)
    if not caller.mints:
        query = query.where(_own(caller))
    with parts.store.read() as session:
        return list(session.exec(query))


@router.post("", status_code=201)
def create_token(asked: TokenIn, caller: TokenMaker, parts: Here, request: Request) -> TokenMade:
    """Nobody gives away what they do not have; a claimer makes them for itself only."""
    check_gift(caller, asked.roles, asked.project, f"seed token create {asked.name}")
    _check_scopes(caller, asked, request.app.state.nouns)
    secret = new_token()
    token = Token(
        name=asked.name,
        hash=digest(secret),
        roles=sorted(set(asked.roles)),
        project=asked.project,
        scopes=sorted(set(asked.scopes)),
        created_by=caller.name,
        expires_at=_end(caller, asked),
    )
    with parts.store.write() as session:
        projects.usable(session, asked.project)
        _check_name(session, caller, asked.name)
        _check_number(session, caller)
        session.add(token)
        roles = ", ".join(token.roles)
        record(session, "token.created", asked.name, f"may act as {roles}", who=caller.name)
    return TokenMade(
        **TokenOut.model_validate(token, from_attributes=True).model_dump(), token=secret
    )


@router.delete("/{name}", status_code=204)
def revoke_token(name: str, caller: TokenMaker, parts: Here) -> None:
    """From now on it opens nothing, and neither does what it made for itself."""
    query = select(Token).where(Token.name == name)
    if not caller.mints:
        query = query.where(_own(caller))
    with parts.store.write() as session:
        token = session.exec(query).first()
        if token is None:
            raise NotFound(f"there is no token {name}", "seed token list")
        session.delete(token)
        ended = [name]
        if not token.user:  # what a user made ends with the user, not with a session
            ended += tokens.end_with(session, name, token.project, token.roles)
        for one in ended:
            break_glass.end(session, one, caller.name, "its token was revoked")
            record(session, "token.revoked", one, "no longer valid", who=caller.name)


def _own(caller: Caller) -> ColumnElement[bool]:
    """Which tokens a claimer may know of."""
    made = and_(col(Token.created_by) == caller.name, col(Token.project) == caller.project)
    return or_(made, col(Token.name) == caller.token)


def check_gift(caller: Caller, roles: list[Role], project: str, command: str) -> None:
    """Raises Forbidden for a role or a project that the caller has not and cannot give away."""
    if missing := set(roles) - caller.roles:
        raise Forbidden(
            f"{caller.name} has not the role {min(missing)} and cannot give it away",
            f"{command} --role {min(missing)}  (as root on the Seed host)",
        )
    if not caller.mints and set(roles) != {Role.CLAIMER}:
        raise Forbidden(
            f"{caller.name} makes tokens for itself, and those are claimers",
            f"{command} --role claimer --project {caller.project}",
        )
    foreign = Role.CLAIMER in roles and project != caller.project
    if foreign and not caller.root:
        raise Forbidden(
            f"{caller.name} claims for the project {caller.project} and cannot give away another's",
            f"{command} --project {project}  (as root on the Seed host)",
        )


def _check_scopes(caller: Caller, asked: TokenIn, nouns: set[str]) -> None:
    for scope in asked.scopes:
        if scope.removesuffix(":read") not in nouns:
            raise Invalid(
                f"no path of the API begins with {scope.removesuffix(':read')!r}; there are: "
                f"{', '.join(sorted(nouns))}",
                f"seed token create {asked.name} --role {asked.roles[0]} --scope claims",
            )
    if not within(asked.scopes, caller.scopes):
        own = sorted(caller.scopes)
        raise Forbidden(
            f"the token {caller.token} is good for {', '.join(own)} only and cannot give away more",
            f"seed token create {asked.name} --role {asked.roles[0]} --scope {own[0]}",
        )


def _end(caller: Caller, asked: TokenIn) -> datetime:
    """A claimer's token makes none that outlives it, so that no key renews itself for ever."""
    end = now() + timedelta(days=asked.days)
    if caller.mints or caller.user or caller.expires_at is None or end <= caller.expires_at:
        return end
    if "days" not in asked.model_fields_set:
        return caller.expires_at
    raise Forbidden(
        f"the token {caller.token} ends on {caller.expires_at:%Y-%m-%d %H:%M} UTC, "
        "and none of its making may outlive it",
        f"seed token create {asked.name} --role claimer --project {asked.project}",
    )


def _check_name(session: Session, caller: Caller, name: str) -> None:
    """Names of tokens and users are one set: an event's `who` must say which it was.

    A claimer's begin with its project's: else "it is taken" would tell it of other projects'.
    """
    if not caller.mints and not name.startswith(f"{caller.project}."):
        raise Invalid(
            f"the name of a claimer's own token begins with its project: {caller.project}.",
            f"seed token create {caller.project}.{name[:20]} --role claimer "
            f"--project {caller.project}",
        )
    if session.exec(select(Token).where(Token.name == name)).first():
        raise Conflict(f"there is a token {name} already", f"seed token revoke {name}")
    if name == "root" or session.get(User, name) is not None:
        raise Conflict(f"{name} is a user's name", "choose another name")


def _check_number(session: Session, caller: Caller) -> None:
    if not caller.mints:
        made = tokens.made_by(session, caller.name, caller.project)
        if len(made) >= tokens.MOST:
            raise Conflict(
                f"{caller.name} has made {len(made)} tokens already",
                f"seed token revoke {made[0].name}",
            )
