"""Stored nouns of images: what people want of a published version, and what is being taken in.

The manifests on disk stay the catalogue (image.py); a version without a row here is published.
"""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import Column, LargeBinary
from sqlmodel import Field, SQLModel

from provisioning.models import now, stored_time
from provisioning.names import Name
from provisioning.states import ImageState, IntakeState


class ImageStanding(SQLModel, table=True):
    """Whether a published version may be used. No row: PUBLISHED."""

    name: str = Field(primary_key=True)
    version: str = Field(primary_key=True)
    state: ImageState = ImageState.PUBLISHED
    why: str = ""
    set_by: str = ""
    set_at: datetime = stored_time(default_factory=now)


class Intake(SQLModel, table=True):
    """A disk image on its way in: asked for by the API, done by seed-images.

    kind:   "upload", "url" or "oci". source: where from, without any login.
    sha256: what its maker says, hex; of an artifact in a registry its layer's digest.
    """

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    name: Name
    kind: str
    source: str = ""
    sha256: str = ""
    ssh_user: str = ""
    architecture: str = "amd64"
    draft: bool = False  # its version becomes a DRAFT, not PUBLISHED
    asked_by: str = ""
    asked_at: datetime = stored_time(default_factory=now)
    state: IntakeState = IntakeState.WAITING
    bytes_done: int = 0
    bytes_total: int = 0  # 0: not known
    version: str = ""  # what it became; set right before anybody can see it
    problem: str = ""
    remedy: str = ""
    ended_at: datetime | None = stored_time(default=None)


def version_of(intake: Intake) -> str:
    """What it becomes, fixed when it is asked for: a retry finds its own work."""
    return f"{intake.asked_at:%Y%m%d%H%M%S}-{intake.id.hex[:8]}"


def purpose(host: str) -> str:
    """What a registry's login is sealed for."""
    return f"registry:{host}"


class RegistryLogin(SQLModel, table=True):
    """A login for one registry, sealed to seed-images' key. Sent to exactly this host, by TLS."""

    host: str = Field(primary_key=True)  # "registry.example.org:5000"
    username: str = ""
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    set_by: str = ""
    set_at: datetime = stored_time(default_factory=now)
