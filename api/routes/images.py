"""Images: their versions, and whether these may be used. Recipes are built on the host."""

from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlmodel import Session, col, select

from api.auth import Anyone, Operator
from api.parts import Here, Parts
from api.roles import Caller
from api.routes.image_intakes import IntakeOut
from provisioning import image as images
from provisioning import sources, standing
from provisioning.errors import Conflict, Invalid, NotFound
from provisioning.image import Image, Name
from provisioning.shelf import Intake
from provisioning.states import ImageState, IntakeState
from provisioning.store import record

router = APIRouter(prefix="/v1/images", tags=["images"])

MOST_COMING = 20
"""Intakes at once: each may take as much of the disk as the largest image."""
_AMD64 = r"^(amd64|arm64)$"


class ImageOut(Image):
    """A version of an image. state: whether it may be written to disks. why: it was set so."""

    state: ImageState = ImageState.PUBLISHED
    why: str = ""


class VersionAsk(BaseModel):
    """A disk image that is to come in.

    source: https://, http:// or oci://; left out: you upload it. sha256: of the disk, hex; may be
    left out for an artifact that is named by its digest. ssh_user: the login that it makes for the
    caller's keys. draft: it becomes no published version, but one to try.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "source": "https://images.example.org/fedora.qcow2",
                "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "ssh_user": "fedora",
            }
        },
    )
    source: Annotated[str, Field(max_length=2048)] = ""
    sha256: Annotated[str, Field(max_length=2048)] = ""
    ssh_user: Annotated[str, StringConstraints(pattern=r"^([a-z_][a-z0-9_-]{0,31})?$")] = ""
    architecture: Annotated[str, StringConstraints(pattern=_AMD64)] = "amd64"
    draft: bool = False


class StateAsk(BaseModel):
    """why: for people who read the list and the events."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"why": "its kernel has a hole"}}
    )
    why: Annotated[str, Field(min_length=1, max_length=500)]


@router.get("")
def list_images(
    caller: Anyone,
    parts: Here,
    versions: Annotated[bool, Query(description="All versions, not only those in use.")] = False,
) -> list[ImageOut]:
    """What each image's name means now; with `versions` all that there is of it.

    Who only claims sees published versions.
    """
    with parts.store.read() as session:
        found = [
            image
            for name in images.names(parts.image_dir)
            for image in _versions(session, parts, caller, name)[: None if versions else 1]
        ]
    return found


@router.get("/{name}")
def show_image(name: str, caller: Anyone, parts: Here) -> ImageOut:
    """The version that NAME means now, or NAME:VERSION."""
    return _show(name, caller, parts)


@router.get("/{name}/versions")
def list_versions(name: str, caller: Anyone, parts: Here) -> list[ImageOut]:
    """Every version of one image; what its name means first, then the newest."""
    with parts.store.read() as session:
        found = _versions(session, parts, caller, name)
    if not found:
        images.find(parts.image_dir, name)  # says what there is
        raise NotFound(f"no version of the image {name} is published", "seed image list")
    return found


@router.get("/{name}/versions/{version}")
def show_version(name: str, version: str, caller: Anyone, parts: Here) -> ImageOut:
    """One version: files, digests, what each part weighs."""
    return _show(f"{name}:{version}", caller, parts)


@router.post("/{name}/versions", status_code=202)
def add_version(name: Name, ask: VersionAsk, caller: Operator, parts: Here) -> IntakeOut:
    """A disk image is to come in; the answer is its intake, which says how far it is.

    From a URL or a registry: it is fetched. Without a source: PUT it to the intake's content. It is
    refused when its digest differs, or when it is no raw or qcow2 disk that can be trusted.
    """
    intake = _intake(name, ask, caller, parts)
    with parts.store.write() as session:
        _check_new(session, parts, intake)
        session.add(intake)
        record(
            session, "image.asked", name, f"{name} is to come in", who=caller.name,
            source=sources.told(intake.source), sha256=intake.sha256, intake=str(intake.id),
        )  # fmt: skip
    return IntakeOut.of(intake, parts)


@router.post("/{name}/versions/{version}:publish")
def publish_version(
    name: str, version: str, ask: StateAsk, caller: Operator, parts: Here
) -> ImageOut:
    """New claims may have it; the newest published version is what the name means."""
    return _set(parts, caller, f"{name}:{version}", ImageState.PUBLISHED, ask.why)


@router.post("/{name}/versions/{version}:deprecate")
def deprecate_version(
    name: str, version: str, ask: StateAsk, caller: Operator, parts: Here
) -> ImageOut:
    """Claims that have it keep it; new ones get it only by naming the version."""
    return _set(parts, caller, f"{name}:{version}", ImageState.DEPRECATED, ask.why)


@router.post("/{name}/versions/{version}:withdraw")
def withdraw_version(
    name: str, version: str, ask: StateAsk, caller: Operator, parts: Here
) -> ImageOut:
    """No deploy of it begins any more, and its files go once no claim has it."""
    return _set(parts, caller, f"{name}:{version}", ImageState.WITHDRAWN, ask.why)


def _intake(name: str, ask: VersionAsk, caller: Caller, parts: Parts) -> Intake:
    """What was asked for, or why it cannot be."""
    source = sources.split(ask.source) if ask.source else None
    pinned = bool(source and source.reference.startswith("sha256:"))
    sha256 = sources.digest(ask.sha256) if ask.sha256 or not pinned else ""
    if source:
        sources.check_allowed(source, parts.shelf.hosts)
    kinds = {"": "upload", "oci": "oci"}
    return Intake(
        name=name,
        kind=kinds.get(source.scheme if source else "", "url"),
        source=ask.source,
        sha256=sha256,
        ssh_user=ask.ssh_user,
        architecture=ask.architecture,
        draft=ask.draft,
        asked_by=caller.name,
        state=IntakeState.WAITING if source else IntakeState.UPLOADING,
    )


def _check_new(session: Session, parts: Parts, intake: Intake) -> None:
    """Raises Conflict for what comes in already, or is here already; Invalid for a bad name."""
    images.check_disk_name(parts.image_dir, intake.name)
    coming = session.exec(select(Intake).where(col(Intake.ended_at).is_(None))).all()
    if len(coming) >= MOST_COMING:
        raise Conflict(f"{MOST_COMING} images come in already", "seed image intakes")
    if intake.sha256 == "":
        return
    if any(c.name == intake.name and c.sha256 == intake.sha256 for c in coming):
        raise Conflict(f"this very image {intake.name} comes in already", "seed image intakes")
    for image in images.versions(parts.image_dir, intake.name):
        disk = image.files.get("disk")
        state = standing.of(session, image.name, image.version)
        if disk and disk.sha256 == intake.sha256 and state is not ImageState.WITHDRAWN:
            raise Conflict(
                f"this very image is here as {image.name}:{image.version}, {state}",
                f"seed image show {image.name}:{image.version}",
            )


def _set(parts: Parts, caller: Caller, ref: str, state: ImageState, why: str) -> ImageOut:
    if not why.strip():
        raise Invalid("there is no reason given", "Say why: `--why TEXT`.")
    with parts.store.write() as session:
        image = images.find(parts.image_dir, ref)
        if state is ImageState.WITHDRAWN:
            found = images.versions(parts.image_dir, image.name)
            standing.check_not_last(session, image, found)
        standing.set_state(session, image, state, why.strip(), caller.name)
        session.flush()
        return _out(session, image)


def _show(ref: str, caller: Caller, parts: Parts) -> ImageOut:
    with parts.store.read() as session:
        image = images.find(parts.image_dir, ref, lambda *named: standing.of(session, *named))
        out = _out(session, image)
    if out.state is not ImageState.PUBLISHED and not caller.sees_all:
        raise NotFound(f"there is no published version {ref!r}", "seed image list")
    return out


def _versions(session: Session, parts: Parts, caller: Caller, name: str) -> list[ImageOut]:
    """What the caller may see of it: what the name means, then the newest first."""
    found = [_out(session, image) for image in images.versions(parts.image_dir, name)]
    if not caller.sees_all:
        found = [image for image in found if image.state is ImageState.PUBLISHED]
    with suppress(NotFound):  # none is published, or the last such was removed meanwhile
        meant = images.find(parts.image_dir, name, lambda *named: standing.of(session, *named))
        found.sort(key=lambda image: image.version != meant.version)
    return found


def _out(session: Session, image: Image) -> ImageOut:
    row = standing.row(session, image.name, image.version)
    state, why = (row.state, row.why) if row else (ImageState.PUBLISHED, "")
    return ImageOut(**image.model_dump(), state=state, why=why)
