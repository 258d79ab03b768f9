"""Keys of callers over the network. The secret is shown once; we keep its hash."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, StrictInt
from sqlmodel import Session, select

from api.auth import needs
from api.parts import Here
from api.roles import Caller, Role
from provisioning.errors import Conflict, Forbidden, NotFound
from provisioning.models import HostLabel, NewName, Token, now
from provisioning.secrets import digest, new_token
from provisioning.store import record

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])

Minter = Annotated[Caller, Depends(needs(Role.OPERATOR, Role.DESTROYER))]


class TokenIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: NewName
    roles: Annotated[list[Role], Field(min_length=1, max_length=4)]
    project: HostLabel = "default"
    days: Annotated[StrictInt, Field(ge=1, le=366)] = 30


class TokenOut(BaseModel):
    name: str
    roles: list[Role]
    project: str
    created_at: datetime
    expires_at: datetime


class TokenMade(TokenOut):
    token: str
    """The secret. It is shown here and never again."""


@router.get("", response_model=list[TokenOut])
def list_tokens(caller: Minter, parts: Here) -> list[Token]:
    """Every token, by name, without its secret."""
    with parts.store.read() as session:
        return list(session.exec(select(Token).order_by(Token.name)))


@router.post("", status_code=201)
def create_token(asked: TokenIn, caller: Minter, parts: Here) -> TokenMade:
    """Nobody gives away what they do not have."""
    _check(caller, asked)
    secret = new_token()
    token = Token(
        name=asked.name,
        hash=digest(secret),
        roles=sorted(set(asked.roles)),
        project=asked.project,
        expires_at=now() + timedelta(days=asked.days),
    )
    with parts.store.write() as session:
        if _find(session, asked.name):
            raise Conflict(
                f"there is a token {asked.name} already", f"seed token revoke {asked.name}"
            )
        session.add(token)
        roles = ", ".join(token.roles)
        record(session, "token.created", asked.name, f"may act as {roles}", who=caller.name)
    return TokenMade(
        **TokenOut.model_validate(token, from_attributes=True).model_dump(), token=secret
    )


@router.delete("/{name}", status_code=204)
def revoke_token(name: str, caller: Minter, parts: Here) -> None:
    """It is worth nothing from now on."""
    with parts.store.write() as session:
        token = _find(session, name)
        if token is None:
            raise NotFound(f"there is no token {name}", "seed token list")
        session.delete(token)
        record(session, "token.revoked", name, "no longer valid", who=caller.name)


def _find(session: Session, name: str) -> Token | None:
    return session.exec(select(Token).where(Token.name == name)).first()


def _check(caller: Caller, asked: TokenIn) -> None:
    if missing := set(asked.roles) - caller.roles:
        raise Forbidden(
            f"{caller.name} has not the role {min(missing)} and cannot give it away",
            f"seed token create {asked.name} --role {min(missing)}  (as root on the Seed host)",
        )
    foreign = Role.CLAIMER in asked.roles and asked.project != caller.project
    if foreign and not caller.root:
        raise Forbidden(
            f"{caller.name} claims for the project {caller.project} and cannot give away another's",
            f"seed token create {asked.name} --project {asked.project}  (as root on the Seed host)",
        )
