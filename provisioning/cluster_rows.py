"""Stored nouns of clusters. The API writes what is wanted, the reconciler what is."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Column, Index, LargeBinary, text
from sqlmodel import Field, SQLModel

from provisioning.models import now, stored_json, stored_time
from provisioning.states import ClusterState, MemberGoal


class Cluster(SQLModel, table=True):
    """spec: a ClusterSpec. version: what runs; empty: nothing yet. vip: of its API, bare.

    bundle: what it is made of, as cluster_bundles.py keeps it; empty: nothing.
    sealed: its kind's secrets, to the reconciler's key; made by the reconciler, once.
    autoscaler: SHA-256 of its autoscaler's client certificate, hex; empty: it has none.
    """

    __table_args__ = (
        Index(
            "living_cluster", "project", "name", unique=True, sqlite_where=text("ended_at IS NULL")
        ),
    )
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    name: str
    project: str = Field(default="default", index=True)
    asked_by: str = ""
    spec: dict[str, Any] = stored_json(default={})
    released: bool = False  # a person wants it gone
    undo_until: datetime | None = stored_time(default=None)
    network: str
    vip: str
    version: str = ""
    bundle: dict[str, Any] = stored_json(default={})
    sealed: bytes = Field(default=b"", sa_column=Column(LargeBinary, nullable=False))
    autoscaler: str = ""
    created_at: datetime = stored_time(default_factory=now)
    state: ClusterState = ClusterState.CLAIMING
    since: datetime = stored_time(default_factory=now)
    detail: str = ""
    problem: str = ""
    remedy: str = ""
    ended_at: datetime | None = stored_time(default=None)


class Member(SQLModel, table=True):
    """A node of a cluster: a claim of its own has it. name: its host name, never used again.

    step, step_state, missing: what it told last. token_hash: SHA-256 of its token, hex.
    """

    __table_args__ = (Index("member_name", "cluster_id", "name", unique=True),)
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    cluster_id: UUID = Field(foreign_key="cluster.id", index=True)
    claim_id: UUID = Field(foreign_key="claim.id", unique=True)
    role: str
    number: int
    name: str
    goal: MemberGoal = MemberGoal.JOINED
    token_hash: str = ""
    step: str = ""
    step_state: str = ""
    step_detail: str = ""
    missing: str = ""
    told_at: datetime | None = stored_time(default=None)
    joined_at: datetime | None = stored_time(default=None)
    ended_at: datetime | None = stored_time(default=None)


class MemberValue(SQLModel, table=True):
    """What a member gave its cluster's other members; encrypted by them, so that nobody else reads
    it."""

    cluster_id: UUID = Field(primary_key=True, foreign_key="cluster.id")
    name: str = Field(primary_key=True)
    content: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    put_by: str
    put_at: datetime = stored_time(default_factory=now)
