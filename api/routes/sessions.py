"""Sessions: a user's name and password become a token for eight hours."""

import asyncio
import time
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import select

from api.auth import Anyone
from api.parts import Here, Secret
from api.roles import Role
from provisioning.errors import Conflict, SeedError
from provisioning.models import Token
from provisioning.names import Name
from provisioning.store import record
from provisioning.users import MOST_BYTES, open_session

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])

REFUSAL_SECONDS: Final = 0.5
"""No refusal comes sooner, so that its time does not say which names are users'."""


class SessionIn(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"user": "alice", "password": "four words no book has"}},
    )

    user: Name
    password: Annotated[Secret, Field(min_length=1, max_length=MOST_BYTES)]


class SessionOut(BaseModel):
    name: str
    user: str
    roles: list[Role]
    project: str
    expires_at: datetime
    token: str
    """The secret. It is shown here and never again."""


@router.post("", status_code=201)
async def log_in(asked: SessionIn, parts: Here) -> SessionOut:
    """The one request with a body that a stranger may make: one try at a password.

    After four wrong ones each further try of that name waits longer, up to 15 minutes: 429 with
    `Retry-After`.
    """
    began = time.monotonic()
    try:
        return await run_in_threadpool(_log_in, asked, parts)
    except SeedError:
        await asyncio.sleep(max(0.0, began + REFUSAL_SECONDS - time.monotonic()))
        raise


def _log_in(asked: SessionIn, parts: Here) -> SessionOut:
    user = parts.porter.prove(asked.user, asked.password.get_secret_value())
    token, secret = open_session(parts.store, user)
    return SessionOut(**token.model_dump(include=set(SessionOut.model_fields)), token=secret)


@router.delete("/current", status_code=204)
def log_out(caller: Anyone, parts: Here) -> None:
    """End the session that this request is part of."""
    if not caller.user or not caller.token:
        raise Conflict(f"{caller.name} calls without a session", "`seed token list`")
    with parts.store.write() as session:
        row = session.exec(select(Token).where(Token.name == caller.token)).first()
        if row is not None:
            session.delete(row)
            record(
                session, "session.closed", caller.user, f"session {caller.token}", who=caller.name
            )
