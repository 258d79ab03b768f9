"""Logins of BMCs. A password goes in, sealed to the reconciler's key, and never comes out."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlmodel import Session, select

from api.auth import Insider, Operator
from api.parts import Here, Parts, Secret
from api.roles import Caller
from provisioning.errors import Conflict, NotFound
from provisioning.models import Credential
from provisioning.names import Name, NewName
from provisioning.store import record

router = APIRouter(prefix="/v1/credentials", tags=["credentials"])


class Login(BaseModel):
    model_config = ConfigDict(extra="forbid")

    username: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,64}$")]
    password: Annotated[Secret, Field(min_length=1, max_length=256)]


class CredentialIn(Login):
    name: NewName


class CredentialOut(BaseModel):
    id: UUID
    name: str
    username: str
    created_at: datetime


@router.get("", response_model=list[CredentialOut])
def list_credentials(caller: Insider, parts: Here) -> list[Credential]:
    """By name, without passwords."""
    with parts.store.read() as session:
        return list(session.exec(select(Credential).order_by(Credential.name)))


@router.get("/{name}", response_model=CredentialOut)
def show_credential(name: Name, caller: Insider, parts: Here) -> Credential:
    """One login, without its password."""
    with parts.store.read() as session:
        found = _find(session, name)
    if found is None:
        raise NotFound(f"there is no credential {name}", "See which are: GET /v1/credentials.")
    return found


@router.post("", status_code=201, response_model=CredentialOut)
def create_credential(login: CredentialIn, caller: Operator, parts: Here) -> Credential:
    """Keep a BMC login. Its password is sealed to the reconciler and never comes out."""
    with parts.store.write() as session:
        if _find(session, login.name):
            raise Conflict(
                f"there is a credential {login.name} already", "choose another name, or PUT it"
            )
        return _keep(session, parts, caller, login.name, login)


@router.put("/{name}", response_model=CredentialOut)
def put_credential(name: NewName, login: Login, caller: Operator, parts: Here) -> Credential:
    """Make it, or replace its login. BMCs that use it keep using it."""
    with parts.store.write() as session:
        return _keep(session, parts, caller, name, login)


def _find(session: Session, name: str) -> Credential | None:
    return session.exec(select(Credential).where(Credential.name == name)).first()


def _keep(session: Session, parts: Parts, caller: Caller, name: str, login: Login) -> Credential:
    known = _find(session, name)
    kept = known or Credential(name=name, username="", sealed=b"")
    kept.username = login.username
    kept.sealed = parts.sealer.seal(login.password.get_secret_value(), f"credential:{kept.id}")
    session.add(kept)
    verb = "replaced" if known else "created"
    record(session, f"credential.{verb}", name, f"credential {name} {verb}", who=caller.name)
    return kept
