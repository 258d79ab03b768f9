"""Disk images on their way in: uploads, how far each is, and the logins of registries.

What is uploaded is only kept here, under its intake's id: seed-images copies, judges and publishes
it. A registry's password goes in, sealed to seed-images' key, and never comes out.
"""

import errno
import fcntl
import os
import re
import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated, Final, Self
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlmodel import Session, col, select
from starlette.requests import ClientDisconnect

from api.auth import Insider, Operator
from api.parts import Here, Parts, Secret
from api.problems import TooLarge
from provisioning import sources
from provisioning.errors import Conflict, Invalid, NotFound
from provisioning.models import now
from provisioning.shelf import Intake, RegistryLogin, purpose
from provisioning.states import IntakeState
from provisioning.store import record

router = APIRouter(tags=["image intakes"])

SPARE: Final = 256 << 20
"""Bytes that stay free on the disk."""
PIECE: Final = 4 << 20
_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")
_FILE: Final = {
    "requestBody": {"content": {"application/octet-stream": {}}, "required": True},
}


class IntakeOut(BaseModel):
    """bytes_done, bytes_total: received, and of how many; 0: not known. version: what it became,
    set right before it is published. problem, remedy: why it was refused, or waits."""

    id: UUID
    name: str
    kind: str
    source: str
    sha256: str
    ssh_user: str
    architecture: str
    draft: bool
    asked_by: str
    asked_at: datetime
    state: IntakeState
    bytes_done: int
    bytes_total: int
    version: str
    problem: str
    remedy: str
    ended_at: datetime | None

    @classmethod
    def of(cls, intake: Intake, parts: Parts) -> Self:
        out = cls(**intake.model_dump() | {"source": sources.told(intake.source)})
        if intake.state is IntakeState.UPLOADING:
            out.bytes_done = _size(parts.shelf.incoming / str(intake.id))
        return out


class LoginAsk(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"username": "seed", "password": "correct horse"}},
    )
    username: Annotated[
        str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^:\x00-\x1f\x7f]+$")
    ]
    password: Annotated[Secret, Field(min_length=1, max_length=16384)]


class LoginOut(BaseModel):
    """host: HOST or HOST:PORT, the only one that is ever told it."""

    host: str
    username: str
    set_by: str
    set_at: datetime


# --- intakes --------------------------------------------------------------------------------------


@router.get("/v1/image-intakes")
def list_image_intakes(
    caller: Insider,
    parts: Here,
    ended: Annotated[bool, Query(description="Also those that ended.")] = False,
) -> list[IntakeOut]:
    """Disk images on their way in, the newest first."""
    query = select(Intake).order_by(col(Intake.asked_at).desc(), col(Intake.id))
    if not ended:
        query = query.where(col(Intake.ended_at).is_(None))
    with parts.store.read() as session:
        return [IntakeOut.of(row, parts) for row in session.exec(query).all()]


@router.get("/v1/image-intakes/{intake_id}")
def show_image_intake(intake_id: str, caller: Insider, parts: Here) -> IntakeOut:
    """How far it is; once it is refused, why."""
    with parts.store.read() as session:
        return IntakeOut.of(_found(session, intake_id), parts)


@router.post("/v1/image-intakes/{intake_id}:cancel")
def cancel_image_intake(intake_id: str, caller: Operator, parts: Here) -> IntakeOut:
    """It ends, and what came of it is removed. A second time changes nothing."""
    with parts.store.write() as session:
        row = _found(session, intake_id)
        if row.version:
            when = "is in already" if row.ended_at else "is being published right now"
            raise Conflict(
                f"it {when}, as {row.name}:{row.version}",
                f"seed image withdraw {row.name}:{row.version} --why TEXT",
            )
        if row.ended_at is None:
            row.state, row.ended_at = IntakeState.REFUSED, now()
            row.problem, row.remedy = f"cancelled by {caller.name}", "seed image add"
            session.add(row)
            record(session, "image.cancelled", row.name, row.problem, who=caller.name)
        return IntakeOut.of(row, parts)


@router.put("/v1/image-intakes/{intake_id}/content", openapi_extra=_FILE)
async def put_image_content(
    intake_id: str, request: Request, caller: Operator, parts: Here
) -> IntakeOut:
    """The disk image itself, as the body; large ones in pieces, one after the other.

    `Content-Range: bytes FIRST-LAST/TOTAL` says which piece it is. After a broken connection the
    intake's `bytes_done` says where to go on.
    """
    path = await run_in_threadpool(_uploading, parts, intake_id)
    first, total = _range(request)
    if total > parts.shelf.most:
        raise _too_large(parts.shelf.most)
    file = await run_in_threadpool(_opened, path, first, total)
    try:
        size = await _received(request, file, first, total)
    except ClientDisconnect:  # what came is kept, and can be gone on with
        size = first
    finally:
        await run_in_threadpool(_close, file)
    return await run_in_threadpool(_came, parts, intake_id, size, total)


def _found(session: Session, intake_id: str) -> Intake:
    try:
        row = session.get(Intake, UUID(intake_id))
    except ValueError:
        row = None
    if row is None:
        raise NotFound(f"there is no intake {intake_id[:80]}", "seed image intakes")
    return row


def _uploading(parts: Parts, intake_id: str) -> Path:
    """Where it goes. Raises NotFound, and Conflict for what waits for no upload."""
    with parts.store.read() as session:
        row = _found(session, intake_id)
        _check_uploading(row)
        return parts.shelf.incoming / str(row.id)


def _check_uploading(row: Intake) -> None:
    if row.state is not IntakeState.UPLOADING:
        raise Conflict(
            f"the intake {row.id} waits for no upload, it is {row.state}",
            "seed image intakes --ended",
        )


def _range(request: Request) -> tuple[int, int]:
    """(first byte of the body, size of the whole file). Raises Invalid."""
    told, length = request.headers.get("content-range"), request.headers.get("content-length", "")
    if told is None and re.fullmatch(r"[0-9]{1,15}", length) and int(length):
        return 0, int(length)
    if told is None:
        raise Invalid(
            "the upload does not say how many bytes it has, or has none",
            "Send a Content-Length, or `Content-Range: bytes FIRST-LAST/TOTAL`.",
        )
    found = _RANGE.fullmatch(told)
    first, last, total = map(int, found.groups()) if found else (0, 0, 0)
    if not first <= last < total or (length.isdigit() and int(length) != last - first + 1):
        raise Invalid(
            f"the Content-Range {told[:80]!r} does not say which bytes these are",
            "Write it like `Content-Range: bytes 0-1048575/2097152`.",
        )
    return first, total


def _opened(path: Path, first: int, total: int) -> IO[bytes]:
    """The file, to be written on from `first`; nobody else writes it meanwhile."""
    free, have = shutil.disk_usage(path.parent).free, _size(path)
    if free < total - first + SPARE:
        raise Conflict(
            f"the image needs {(total - first) / 2**30:.1f} GiB free in {path.parent}, there are "
            f"{free / 2**30:.1f}",
            f"df -h {path.parent}",
        )
    if first and first != have:
        raise Conflict(
            f"there are {have} bytes of it, and these begin at {first}",
            f"Go on with `Content-Range: bytes {have}-LAST/TOTAL`.",
        )
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o660), "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise Conflict("somebody else is sending it right now", "seed image intakes") from error
    file.truncate(first)
    file.seek(first)
    return file


async def _received(request: Request, file: IO[bytes], first: int, most: int) -> int:
    """Write the body as it comes; return the file's size. Raises TooLarge, Conflict."""
    size, waiting = first, bytearray()
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise _too_large(most)
        waiting += chunk
        if len(waiting) >= PIECE:
            await run_in_threadpool(_write, file, bytes(waiting))
            waiting.clear()
    await run_in_threadpool(_write, file, bytes(waiting))
    return size


def _write(file: IO[bytes], piece: bytes) -> None:
    """Each time as long as there is room: several come in at once, beside our databases."""
    disk = os.fstatvfs(file.fileno())
    if disk.f_bavail * disk.f_frsize < len(piece) + SPARE:
        raise _not_kept(errno.ENOSPC)
    try:
        file.write(piece)
        file.flush()
    except OSError as error:
        raise _not_kept(error.errno or 0) from error


def _not_kept(number: int) -> Conflict:
    return Conflict(f"the image cannot be kept: {os.strerror(number)}", "df -h")


def _close(file: IO[bytes]) -> None:
    with suppress(OSError):  # what was not written has been said; closing tries once more
        file.close()


def _came(parts: Parts, intake_id: str, size: int, total: int) -> IntakeOut:
    """Once it is whole it waits for seed-images."""
    with parts.store.write() as session:
        row = _found(session, intake_id)
        if row.state is not IntakeState.UPLOADING:  # cancelled meanwhile
            _check_uploading(row)
        row.bytes_done, row.bytes_total = size, total
        if size and size == total:
            row.state = IntakeState.WAITING
        session.add(row)
        return IntakeOut.of(row, parts)


def _too_large(most: int) -> TooLarge:
    return TooLarge(
        f"the image is larger than {most / 2**30:g} GiB, or than its Content-Range says",
        "Raise `most_gib` of `[images]` in seed.toml, or take a smaller one (qcow2).",
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


# --- logins of registries -------------------------------------------------------------------------


@router.get("/v1/registry-logins")
def list_registry_logins(caller: Insider, parts: Here) -> list[LoginOut]:
    """Which registries a login is kept for; no password comes out."""
    with parts.store.read() as session:
        rows = session.exec(select(RegistryLogin).order_by(col(RegistryLogin.host))).all()
        return [_login(row) for row in rows]


@router.put("/v1/registry-logins/{host}")
def put_registry_login(host: str, ask: LoginAsk, caller: Operator, parts: Here) -> LoginOut:
    """Keep a login for exactly this HOST or HOST:PORT, or replace it."""
    host = _authority(host)
    sealed = parts.shelf.sealer.seal(ask.password.get_secret_value(), purpose(host))
    with parts.store.write() as session:
        row = session.get(RegistryLogin, host) or RegistryLogin(host=host, sealed=b"")
        row.username, row.sealed, row.set_by, row.set_at = ask.username, sealed, caller.name, now()
        session.add(row)
        record(session, "registry.login", host, f"a login for {host} is kept", who=caller.name)
        return _login(row)


@router.delete("/v1/registry-logins/{host}", status_code=204)
def delete_registry_login(host: str, caller: Operator, parts: Here) -> None:
    """Forget it."""
    with parts.store.write() as session:
        row = session.get(RegistryLogin, host.lower())
        if row is None:
            raise NotFound(f"no login is kept for {host[:80]}", "seed registry list")
        session.delete(row)
        record(session, "registry.logout", row.host, "its login is forgotten", who=caller.name)


def _authority(host: str) -> str:
    """As it is compared. Raises Invalid for what is no HOST or HOST:PORT."""
    try:
        return sources.split(f"oci://{host}/x").authority
    except Invalid as error:
        raise Invalid(
            f"{host[:80]!r} is no registry's HOST or HOST:PORT",
            "seed registry login registry.example.org --username USER --password-stdin",
        ) from error


def _login(row: RegistryLogin) -> LoginOut:
    return LoginOut(**row.model_dump(include={*LoginOut.model_fields}))
