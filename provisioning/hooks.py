"""Stored nouns of webhooks: who is told of which events, and how far that got."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid4

from sqlalchemy import Column, LargeBinary, UniqueConstraint
from sqlmodel import Field, SQLModel

from provisioning.models import Name, now, stored_json, stored_time


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"  # given up; a person may have it sent again


class Webhook(SQLModel, table=True):
    """An address that events are posted to.

    project: whose events; empty: everybody's. kinds: how their kind begins; empty: all.
    sealed:  the key of the signatures, sealed to the reconciler.
    after:   the last event that deliveries were made of.
    """

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    name: Name = Field(unique=True)
    project: str = ""
    url: str
    kinds: list[str] = stored_json(default=[])
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    after: int = 0
    created_by: str = ""
    created_at: datetime = stored_time(default_factory=now)
    disabled_at: datetime | None = stored_time(default=None)


class Delivery(SQLModel, table=True):
    """One event on its way to one webhook."""

    __table_args__ = (UniqueConstraint("webhook_id", "event_id"),)
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    webhook_id: UUID = Field(foreign_key="webhook.id", index=True)
    event_id: int = Field(foreign_key="event.id")
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    next_at: datetime = stored_time(default_factory=now, index=True)
    status: int = 0  # of the last answer; 0: there was none
    error: str = ""
    delivered_at: datetime | None = stored_time(default=None)
