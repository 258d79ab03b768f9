"""Stored nouns of those who are served: projects, users, quotas; who was let past a rule, and when.

Times are UTC and aware.
"""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import Column, LargeBinary
from sqlmodel import Field, SQLModel

from provisioning.models import now, stored_json, stored_time
from provisioning.names import HostLabel, Name


class Project(SQLModel, table=True):
    """Whose claims they are. Claims, tokens and users name it; it is never deleted while they do.

    max_priority:      what its claims may ask for in the queue.
    max_lease_seconds: how long a claim may be held without a renewal; 0: as long as it likes.
    """

    name: HostLabel = Field(primary_key=True)
    description: str = ""
    max_priority: int = Field(default=0, ge=0, le=100)
    max_lease_seconds: int = Field(default=0, ge=0)
    created_by: str = ""
    created_at: datetime = stored_time(default_factory=now)
    disabled_at: datetime | None = stored_time(default=None)


class Quota(SQLModel, table=True):
    """How many nodes of a class a project's living claims may name; class "" is all together."""

    project: str = Field(primary_key=True, foreign_key="project.name")
    resource_class: str = Field(primary_key=True)
    nodes: int = Field(ge=0)


class User(SQLModel, table=True):
    """A person with a password of ours. Only its argon2id hash is kept.

    failed: wrong passwords since the last right one; blocked_until: when the next may be tried.
    """

    name: Name = Field(primary_key=True)
    password_hash: str
    roles: list[str] = stored_json(default=[])
    project: str = Field(default="default", foreign_key="project.name")
    failed: int = 0
    blocked_until: datetime | None = stored_time(default=None)
    created_by: str = ""
    created_at: datetime = stored_time(default_factory=now)
    disabled_at: datetime | None = stored_time(default=None)


class BreakGlass(SQLModel, table=True):
    """Somebody may change raw Ironic for a while, past Seed's rules. Every call is an event."""

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    who: str = Field(index=True)
    why: str
    opened_at: datetime = stored_time(default_factory=now)
    until: datetime = stored_time()
    closed_at: datetime | None = stored_time(default=None)


class KeptAnswer(SQLModel, table=True):
    """What a request with an Idempotency-Key was answered; kept for a day.

    key: its SHA-256. request: HMAC-SHA256 under the key over method, path, query and body.
    status 0: not answered yet; headers then say who works on it and whether it wrote (kept.py).
    """

    caller: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    request: str
    status: int = 0
    headers: dict[str, str] = stored_json(default={})
    body: bytes = Field(default=b"", sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = stored_time(default_factory=now, index=True)
