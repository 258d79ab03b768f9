"""Break-glass: half an hour of raw Ironic for one destroyer with a reason, for all to see."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from api.auth import Destroyer, Insider
from api.break_glass import identity
from api.parts import Here, Via
from provisioning import break_glass
from provisioning.tenants import BreakGlass

router = APIRouter(prefix="/v1/break-glass", tags=["break-glass"])


class BreakGlassIn(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"why": "node r1-u07 hangs in deploying, ticket 4711"}]},
    )

    why: Annotated[str, Field(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]


class BreakGlassOut(BaseModel):
    who: str
    why: str
    opened_at: datetime
    until: datetime


@router.get("", response_model=list[BreakGlassOut])
def list_break_glass(caller: Insider, parts: Here) -> list[BreakGlass]:
    """Who may change raw Ironic at this moment, and until when."""
    with parts.store.read() as session:
        return break_glass.all_open(session)


@router.post("", status_code=201, response_model=BreakGlassOut)
def open_break_glass(asked: BreakGlassIn, caller: Destroyer, parts: Here, door: Via) -> BreakGlass:
    """For 30 minutes /baremetal takes nearly all of Ironic's API; each call is an event."""
    with parts.store.write() as session:
        return break_glass.opened(session, identity(caller, door), asked.why)


@router.delete("", status_code=204)
def close_break_glass(
    caller: Destroyer,
    parts: Here,
    door: Via,
    who: Annotated[str, Query(max_length=100, description="Somebody else's.")] = "",
) -> None:
    """Before its time is over: one's own, or another's."""
    me = identity(caller, door)
    with parts.store.write() as session:
        break_glass.close(session, who or me, me)
