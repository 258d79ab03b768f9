"""Webhooks: events posted to an address that its owner names. A claimer has its project's only."""

from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlmodel import Session, col, select

from api.auth import needs
from api.parts import Here
from api.roles import Caller, Role
from provisioning import hooks
from provisioning.errors import Forbidden, NotFound
from provisioning.hooks import Delivery, DeliveryState, Webhook
from provisioning.models import Event
from provisioning.names import HostLabel, Name
from provisioning.tenants import Project

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

Owner = Annotated[Caller, Depends(needs(Role.CLAIMER, Role.OPERATOR))]
Kind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9.-]{0,79}$")]
Number: Final = 2**63 - 1


class WebhookAsk(BaseModel):
    """project: whose events; left out: a claimer's own, for an operator all. kinds: how they begin;
    none: all."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "name": "ci",
                "url": "https://hooks.example.org/seed",
                "kinds": ["claim."],
            }
        },
    )
    name: Name
    url: Annotated[str, Field(max_length=2048)]
    kinds: Annotated[list[Kind], Field(max_length=20)] = []
    project: HostLabel | None = None


class WebhookOut(BaseModel):
    """pending, dead: how many deliveries are."""

    id: UUID
    name: str
    project: str
    url: str
    kinds: list[str]
    created_by: str
    created_at: datetime
    disabled_at: datetime | None
    pending: int
    dead: int


class WebhookMade(WebhookOut):
    secret: str
    """The key of the signatures, as Standard Webhooks writes it. Shown here and never again."""


class DeliveryOut(BaseModel):
    """id: the `webhook-id`. status: of the last answer; 0: there was none."""

    id: UUID
    event_id: int
    kind: str
    subject: str
    state: DeliveryState
    attempts: int
    next_at: datetime
    status: int
    error: str
    delivered_at: datetime | None


class OneAgain(BaseModel):
    """Send this one once more."""

    model_config = ConfigDict(extra="forbid")
    delivery: UUID


class DeadAgain(BaseModel):
    """Send all that are dead once more."""

    model_config = ConfigDict(extra="forbid")
    dead: Literal[True]


class AgainOut(BaseModel):
    deliveries: int


@router.get("")
def list_webhooks(caller: Owner, parts: Here) -> list[WebhookOut]:
    """An operator sees all, a claimer its project's."""
    query = select(Webhook).order_by(col(Webhook.project), col(Webhook.name))
    if (project := _project(caller)) is not None:
        query = query.where(Webhook.project == project)
    with parts.store.read() as session:
        return [_out(session, hook) for hook in session.exec(query).all()]


@router.post("", status_code=201)
def create_webhook(ask: WebhookAsk, caller: Owner, parts: Here) -> WebhookMade:
    """Events from now on are posted there, signed with the secret that this answer shows."""
    hooks.check_url(ask.url)
    secret, identity = hooks.new_secret(), uuid4()
    hook = Webhook(
        id=identity,
        name=ask.name,
        project=_of(caller, ask.project),
        url=ask.url,
        kinds=sorted(set(ask.kinds)),
        sealed=parts.sealer.seal(secret, hooks.purpose(identity)),
        created_by=caller.name,
    )
    with parts.store.write() as session:
        foreign = hook.project not in ("", caller.project)
        if foreign and session.get(Project, hook.project) is None:
            raise NotFound(
                f"there is no project {hook.project}", "See which there are: `seed project list`."
            )
        hooks.add(session, hook)
        session.flush()
        return WebhookMade(**_out(session, hook).model_dump(), secret=secret)


@router.get("/{name}")
def show_webhook(name: str, caller: Owner, parts: Here) -> WebhookOut:
    """By name or id."""
    with parts.store.read() as session:
        return _out(session, hooks.find(session, _project(caller), name))


@router.delete("/{name}", status_code=204)
def delete_webhook(name: str, caller: Owner, parts: Here) -> None:
    """Nothing more is sent, not even what waits."""
    with parts.store.write() as session:
        hooks.remove(session, hooks.find(session, _project(caller), name), caller.name)


@router.post("/{name}:enable")
def enable_webhook(name: str, caller: Owner, parts: Here) -> WebhookOut:
    """What happens from now on is sent, and what waited."""
    return _switch(name, caller, parts, True)


@router.post("/{name}:disable")
def disable_webhook(name: str, caller: Owner, parts: Here) -> WebhookOut:
    """Nothing is sent until it is enabled; what waits is kept."""
    return _switch(name, caller, parts, False)


@router.post("/{name}:test", status_code=202)
def test_webhook(name: str, caller: Owner, parts: Here) -> DeliveryOut:
    """An event `webhook.test` for it; its delivery tells what came of that."""
    with parts.store.write() as session:
        hook = hooks.find(session, _project(caller), name)
        delivery = hooks.send_test(session, hook, caller.name)
        session.flush()
        return _told(delivery, session.get_one(Event, delivery.event_id))


@router.get("/{name}/deliveries")
def list_deliveries(
    name: str,
    caller: Owner,
    parts: Here,
    state: DeliveryState | None = None,
    before: Annotated[int, Query(ge=0, le=Number)] = Number,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[DeliveryOut]:
    """Newest event first; the last one's `event_id` is the next `before`."""
    with parts.store.read() as session:
        hook = hooks.find(session, _project(caller), name)
        query = select(Delivery, Event).where(
            Delivery.event_id == Event.id,
            Delivery.webhook_id == hook.id,
            col(Delivery.event_id) < before,
        )
        if state is not None:
            query = query.where(Delivery.state == state)
        rows = session.exec(query.order_by(col(Delivery.event_id).desc()).limit(limit)).all()
        return [_told(delivery, event) for delivery, event in rows]


@router.post("/{name}:redeliver", status_code=202)
def redeliver(name: str, ask: OneAgain | DeadAgain, caller: Owner, parts: Here) -> AgainOut:
    """Send one delivery, or all dead ones, as if they were new."""
    which = ask.delivery if isinstance(ask, OneAgain) else None
    with parts.store.write() as session:
        hook = hooks.find(session, _project(caller), name)
        return AgainOut(deliveries=hooks.send_again(session, hook, which))


def _switch(name: str, caller: Caller, parts: Here, on: bool) -> WebhookOut:
    with parts.store.write() as session:
        hook = hooks.find(session, _project(caller), name)
        hooks.switch(session, hook, on, caller.name)
        session.flush()
        return _out(session, hook)


def _project(caller: Caller) -> str | None:
    """Whose webhooks are the caller's; None: all."""
    return None if Role.OPERATOR in caller.roles else caller.project


def _of(caller: Caller, asked: str | None) -> str:
    """The project of a new one; empty: all. Raises Forbidden."""
    own = _project(caller)
    if own is None:
        return asked or ""
    if asked not in (None, own):
        raise Forbidden(
            f"{caller.name} is of the project {own}", "Leave `project` out: it is your own."
        )
    return own


def _out(session: Session, hook: Webhook) -> WebhookOut:
    counts = hooks.counts(session, hook)
    return WebhookOut(
        **hook.model_dump(include=set(WebhookOut.model_fields)),
        pending=counts.get(DeliveryState.PENDING, 0),
        dead=counts.get(DeliveryState.DEAD, 0),
    )


def _told(delivery: Delivery, event: Event) -> DeliveryOut:
    return DeliveryOut(
        **delivery.model_dump(include=set(DeliveryOut.model_fields)),
        kind=event.kind,
        subject=event.subject,
    )
