"""Stored nouns of what a node gets once: the parts of its order that are secret or large."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import Column, LargeBinary, update
from sqlmodel import Field, Session, SQLModel, col

from provisioning.models import now, stored_time


class OneTimePart(SQLModel, table=True):
    """One part, fetched from the node gateway by a URL with 256 bits in it.

    url_hash: SHA-256 of these bits, hex: the row alone opens nothing. content: AES-256-GCM under
    a key made of the same bits, so that neither the database nor the API's key can read it.
    """

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    order_id: UUID = Field(index=True, foreign_key="order.id")
    node_uuid: UUID
    generation: int
    name: str
    url_hash: str = Field(unique=True)
    content: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    valid_until: datetime = stored_time()
    reads: int = 0
    first_read_at: datetime | None = stored_time(default=None)
    burned_at: datetime | None = stored_time(default=None)
    made_at: datetime = stored_time(default_factory=now)


class ClaimSecret(SQLModel, table=True):
    """Files for a claim's nodes that nobody reads back: sealed to the reconciler's key."""

    claim_id: UUID = Field(primary_key=True, foreign_key="claim.id")
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class KeptDisk(SQLModel, table=True):
    """A disk of a node that is never cleaned nor written, whoever has the node.

    project: only its claims may have the node meanwhile, as its data is there; empty: anybody's.
    """

    node_uuid: UUID = Field(primary_key=True)
    serial: str = Field(primary_key=True)
    wwn: str = ""
    project: str = ""
    why: str = ""
    kept_by: str = ""
    kept_at: datetime = stored_time(default_factory=now)


def burn(session: Session, order_id: UUID) -> None:
    """Nobody reads this order's parts any more: what was in them is gone."""
    session.execute(
        update(OneTimePart)
        .where(col(OneTimePart.order_id) == order_id, col(OneTimePart.burned_at).is_(None))
        .values(burned_at=now(), content=b"")
    )
