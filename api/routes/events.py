"""What happened, oldest first."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel
from sqlmodel import col, select

from api.auth import Anyone
from api.parts import Here
from provisioning.models import Event

router = APIRouter(prefix="/v1/events", tags=["events"])


class EventOut(BaseModel):
    id: int
    at: datetime
    kind: str
    subject: str
    project: str
    who: str
    message: str
    data: dict[str, Any]


@router.get("", response_model=list[EventOut])
def list_events(
    caller: Anyone,
    parts: Here,
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    subject: Annotated[str | None, Query(max_length=255)] = None,
) -> list[Event]:
    """Events younger than the one numbered `after`; the last one's id is the next `after`.

    A claimer sees those of its project.
    """
    wanted = select(Event).where(col(Event.id) > after)
    if subject is not None:
        wanted = wanted.where(Event.subject == subject)
    if not caller.sees_all:
        wanted = wanted.where(Event.project == caller.project)
    with parts.store.read() as session:
        return list(session.exec(wanted.order_by(col(Event.id)).limit(limit)))
