"""Stored nouns of clusters. The API writes what is wanted, the reconciler what is."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Column, Index, LargeBinary, text
from sqlmodel import Field, SQLModel

from provisioning.models import now, stored_json, stored_time
from provisioning.states import ClusterState, MemberGoal, Noun, Parting, StageState


class Cluster(SQLModel, table=True):
    """noun: what people call it; an overcloud is made, changed and given back as a cluster is (ADR
    0047). spec: a ClusterSpec, or an OvercloudSpec. vip: of its API, bare.

    bundle: what it is made of, as cluster_bundles.py keeps it; empty: nothing. applied: the digest
    of the bundle whose add-ons it has, "none" for those that need none; empty: it has none yet.
    sealed: its kind's secrets, to the reconciler's key; made by the reconciler, once.
    bound: its project's people were given their rights in it, which is done once. changes: how
    often somebody wanted it otherwise. revision: of its image and version: members that have an
    older one are to be replaced.
    autoscaler: SHA-256 of its autoscaler's client certificate, hex; empty: it has none.
    """

    __table_args__ = (
        Index(
            "living_cluster", "project", "name", unique=True, sqlite_where=text("ended_at IS NULL")
        ),
    )
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    noun: Noun = Noun.CLUSTER
    name: str
    project: str = Field(default="default", index=True)
    asked_by: str = ""
    spec: dict[str, Any] = stored_json(default={})
    released: bool = False  # a person wants it gone
    undo_until: datetime | None = stored_time(default=None)
    changes: int = 0
    revision: int = 0
    network: str
    vip: str
    bundle: dict[str, Any] = stored_json(default={})
    applied: str = ""
    sealed: bytes = Field(default=b"", sa_column=Column(LargeBinary, nullable=False))
    bound: bool = False
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

    step, step_state, missing: what it told last; after its end, what a control plane told of its
    leftovers. token_hash: SHA-256 of its token, hex. version, revision: its cluster's when it was
    asked for. parted_at: since when `parting` is so. told_at: when it was heard of last; exact to a
    minute. leads: it was told to do what is for the whole cluster. furnished: what its add-ons want
    of it in the API was made once.
    """

    __table_args__ = (
        Index("member_name", "cluster_id", "name", unique=True),
        Index("member_token", "token_hash"),
    )
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    cluster_id: UUID = Field(foreign_key="cluster.id", index=True)
    claim_id: UUID = Field(foreign_key="claim.id", unique=True)
    role: str
    number: int
    name: str
    goal: MemberGoal = MemberGoal.JOINED
    version: str = ""
    revision: int = 0
    parting: Parting = Parting.NO
    parted_at: datetime | None = stored_time(default=None)
    token_hash: str = ""
    step: str = ""
    step_state: str = ""
    step_detail: str = ""
    missing: str = ""
    told_at: datetime | None = stored_time(default=None)
    joined_at: datetime | None = stored_time(default=None)
    ended_at: datetime | None = stored_time(default=None)
    leads: bool = False
    furnished: bool = False


class OvercloudStage(SQLModel, table=True):
    """A stage of an overcloud's installer (provisioning.installers.Stage), in order of `number`.

    wanted: so many tries of it are wanted in all; tries: so many began. nodes: names of those that
    the last try that went well did it to. task: the one that goes on, or that failed on `hosts`;
    unreachable: by SSH. log: what Ansible printed, on the Seed machine.
    """

    __tablename__ = "overcloud_stage"
    cluster_id: UUID = Field(primary_key=True, foreign_key="cluster.id")
    name: str = Field(primary_key=True)
    number: int = 0
    state: StageState = StageState.WAITING
    wanted: int = 1
    tries: int = 0
    nodes: list[str] = stored_json(default=[])
    task: str = ""
    hosts: list[str] = stored_json(default=[])
    unreachable: bool = False
    log: str = ""
    began_at: datetime | None = stored_time(default=None)
    ended_at: datetime | None = stored_time(default=None)


class OvercloudAccess(SQLModel, table=True):
    """A person's clouds.yaml, for an hour. key: X25519, theirs, 32 bytes; sealed: to it (HPKE),
    once the reconciler did it: nobody in between can read it."""

    __tablename__ = "overcloud_access"
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    cluster_id: UUID = Field(foreign_key="cluster.id", index=True)
    project: str
    who: str
    key: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    asked_at: datetime = stored_time(default_factory=now)
    sealed: bytes = Field(default=b"", sa_column=Column(LargeBinary, nullable=False))
    sealed_at: datetime | None = stored_time(default=None)


class MemberValue(SQLModel, table=True):
    """What a member gave its cluster's other members; encrypted by them, so that nobody else reads
    it."""

    cluster_id: UUID = Field(primary_key=True, foreign_key="cluster.id")
    name: str = Field(primary_key=True)
    content: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    put_by: str
    put_at: datetime = stored_time(default_factory=now)


class ClusterSecret(SQLModel, table=True):
    """What came with the wish and nobody reads back: sealed to the reconciler's key.

    names: of all that is in it. digest: salt and scrypt of it (cluster_secrets.py).
    """

    cluster_id: UUID = Field(primary_key=True, foreign_key="cluster.id")
    names: list[str] = stored_json(default=[])
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class KubeCertificate(SQLModel, table=True):
    """A person's way into a cluster's Kubernetes API, for some hours. csr: PEM, checked.

    certificate, ca: PEM, and server: https://VIP:PORT, once it is signed; all empty before.
    """

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    cluster_id: UUID = Field(foreign_key="cluster.id", index=True)
    project: str
    who: str
    csr: str
    groups: list[str] = stored_json(default=[])
    asked_at: datetime = stored_time(default_factory=now)
    certificate: str = ""
    ca: str = ""
    server: str = ""
    signed_at: datetime | None = stored_time(default=None)
    expires_at: datetime | None = stored_time(default=None)


class ClusterCheck(SQLModel, table=True):
    """Whether a cluster does its work: asked for by a person, done by the reconciler.

    items: as provisioning.cluster_access.Item. cleaning: what it made is being taken away.
    told: item -> [state, sentence], by the member that tried it; "": why it could not.
    """

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    cluster_id: UUID = Field(foreign_key="cluster.id", index=True)
    project: str
    who: str
    asked_at: datetime = stored_time(default_factory=now)
    started_at: datetime | None = stored_time(default=None)
    items: list[dict[str, Any]] = stored_json(default=[])
    cleaning: bool = False
    told: dict[str, Any] = stored_json(default={})
    ended_at: datetime | None = stored_time(default=None)

    @property
    def number(self) -> int:
        """By which members know it."""
        return self.id.int >> 96
