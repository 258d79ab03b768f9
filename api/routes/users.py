"""People with a password of ours. A password goes in, and never comes out."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session, col, func, select

from api.auth import Anyone, Minter
from api.parts import Here, Secret
from api.roles import Caller, Role
from api.routes.tokens import check_gift
from provisioning import projects, tokens, users
from provisioning.errors import Conflict, Invalid, NotFound, Unauthenticated
from provisioning.models import Token, now
from provisioning.names import HostLabel, Name
from provisioning.store import record
from provisioning.tenants import User

router = APIRouter(prefix="/v1/users", tags=["users"])

Password = Annotated[Secret, Field(min_length=1, max_length=users.MOST_BYTES)]
NewPassword = Annotated[Password, Field(json_schema_extra={"minLength": users.SHORTEST})]
"""users.check_rule has the last word: it knows the name, and counts bytes."""


class UserIn(BaseModel):
    """password: 12 characters at least, 1024 bytes at most, and not the name."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "name": "alice",
                "password": "four words no book has",
                "roles": ["claimer"],
                "project": "web",
            }
        },
    )

    name: Name
    password: NewPassword
    roles: Annotated[list[Role], Field(min_length=1, max_length=4)]
    project: HostLabel = projects.DEFAULT


class PasswordIn(BaseModel):
    """old: the one until now, by the user; nobody who resets another's gives it."""

    model_config = ConfigDict(extra="forbid")

    password: NewPassword
    old: Password | None = None


class UserOut(BaseModel):
    """sessions: how many are open. tokens: what it made for programs and is open."""

    name: str
    roles: list[Role]
    project: str
    created_by: str
    created_at: datetime
    disabled_at: datetime | None
    blocked_until: datetime | None
    sessions: int
    tokens: list[str]


@router.get("")
def list_users(caller: Minter, parts: Here) -> list[UserOut]:
    """By name."""
    with parts.store.read() as session:
        rows = session.exec(select(User).order_by(User.name)).all()
        return [_out(session, user) for user in rows]


@router.post("", status_code=201)
def create_user(asked: UserIn, caller: Minter, parts: Here) -> UserOut:
    """Nobody gives away a role or a project they do not have."""
    check_gift(caller, asked.roles, asked.project, f"seed user create {asked.name}")
    with parts.store.read() as session:
        _check_new(session, asked)  # before the costly part, and once more after it
    hashed = parts.porter.hash(asked.name, asked.password.get_secret_value())
    user = User(
        name=asked.name,
        password_hash=hashed,
        roles=sorted(set(asked.roles)),
        project=asked.project,
        created_by=caller.name,
    )
    with parts.store.write() as session:
        _check_new(session, asked)
        session.add(user)
        message = f"may act as {', '.join(user.roles)}"
        record(session, "user.created", asked.name, message, who=caller.name)
    with parts.store.read() as session:
        return _out(session, user)


@router.get("/{name}")
def show_user(name: str, caller: Anyone, parts: Here) -> UserOut:
    """One user; whoever gives no roles away sees itself only."""
    with parts.store.read() as session:
        return _out(session, _seen(session, caller, name))


@router.put("/{name}/password", status_code=204)
def change_password(name: str, asked: PasswordIn, caller: Anyone, parts: Here) -> None:
    """One's own with the old one; another's by whoever could make that user.

    Ends all sessions of the user, this one, too.
    """
    with parts.store.read() as session:
        user = _seen(session, caller, name)
    if caller.user == name:
        _prove_old(parts, name, asked)
    else:
        check_gift(caller, [Role(r) for r in user.roles], user.project, f"seed user create {name}")
    hashed = parts.porter.hash(name, asked.password.get_secret_value())
    with parts.store.write() as session:
        row = users.find(session, name)
        row.password_hash, row.failed, row.blocked_until = hashed, 0, None
        ended = users.end_sessions(session, name)
        message = f"password changed, {ended} sessions ended"
        record(session, "user.password-changed", name, message, who=caller.name)


@router.post("/{name}:disable")
def disable_user(name: str, caller: Minter, parts: Here) -> UserOut:
    """Its sessions end at once, and the tokens that it made for itself."""
    with parts.store.write() as session:
        user = users.find(session, name)
        user.disabled_at = user.disabled_at or now()
        _end(session, user, "user.disabled", caller)
        return _out(session, user)


@router.post("/{name}:enable")
def enable_user(name: str, caller: Minter, parts: Here) -> UserOut:
    """It may log in again; wrong passwords so far are forgotten."""
    with parts.store.write() as session:
        user = users.find(session, name)
        user.disabled_at, user.failed, user.blocked_until = None, 0, None
        record(session, "user.enabled", name, f"user {name} enabled", who=caller.name)
        return _out(session, user)


@router.delete("/{name}", status_code=204)
def delete_user(name: str, caller: Minter, parts: Here) -> None:
    """As disabled, and forgotten."""
    with parts.store.write() as session:
        user = users.find(session, name)
        _end(session, user, "user.deleted", caller)
        session.delete(user)


def _end(session: Session, user: User, kind: str, caller: Caller) -> None:
    ended = users.end_sessions(session, user.name)
    made = tokens.end_with(session, user.name, user.project, user.roles)
    message = f"{ended} sessions and {len(made)} tokens ended"
    record(session, kind, user.name, message, who=caller.name)


def _prove_old(parts: Here, name: str, asked: PasswordIn) -> None:
    if asked.old is None:
        raise Invalid("your old password is missing", f"`seed user password {name}` asks for it.")
    try:
        parts.porter.prove(name, asked.old.get_secret_value())
    except Unauthenticated as error:  # 401 would say that the session is over
        raise Invalid("that is not your old password", f"`seed user password {name}`") from error


def _seen(session: Session, caller: Caller, name: str) -> User:
    """The user, if the caller may know of it. Raises NotFound."""
    if not caller.mints and caller.user != name:
        raise NotFound(f"there is no user {name!r}", "`seed user list`")
    return users.find(session, name)


def _check_new(session: Session, asked: UserIn) -> None:
    projects.usable(session, asked.project)
    if session.get(User, asked.name):
        raise Conflict(f"there is a user {asked.name} already", f"`seed user show {asked.name}`")
    taken = session.exec(select(Token.name).where(Token.name == asked.name)).first()
    if taken or asked.name == "root":
        raise Conflict(f"{asked.name} is a token's name", "Choose another name.")


def _out(session: Session, user: User) -> UserOut:
    living = col(Token.expires_at) > now()
    count = session.exec(
        select(func.count()).select_from(Token).where(Token.user == user.name, living)
    ).one()
    made = [
        t.name for t in tokens.made_by(session, user.name, user.project) if t.expires_at > now()
    ]
    facts = user.model_dump(include=set(UserOut.model_fields))
    return UserOut(**facts, sessions=count, tokens=made)
