"""seed-images at work: disk images on their way in, one row each, and what nobody needs any more.

An intake's version is fixed when it is asked for, its part lies under its id, and each of its
states is written before what it names begins: killed at any line, the next process goes on.
"""

import errno
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col, select

from images import catalog, diskfile, garbage
from images.receiving import Receiver, Stopped
from images.registry import Registry
from images.web import Broken, Web
from provisioning import sources
from provisioning.errors import HostError, Invalid, SeedError, told
from provisioning.image import MANIFEST, Image, ImageFile
from provisioning.models import now
from provisioning.shelf import ImageStanding, Intake, version_of
from provisioning.states import ImageState, IntakeState
from provisioning.store import Store, record

log = structlog.get_logger()

THREADS: Final = 3
LOOK_SECONDS: Final = 0.5
COLLECT_SECONDS: Final = 30.0
SAY_SECONDS: Final = 1.0
AGAIN_SECONDS: Final = 60.0
"""After which an intake is taken up again where this machine was at fault, not the image."""
_OURS: Final = (OSError, OperationalError, HostError)
PATIENCE: Final = timedelta(days=1)  # for an upload of which nothing more comes
_WORKED_ON: Final = (IntakeState.WAITING, IntakeState.FETCHING, IntakeState.CHECKING)


class Ended(Exception):
    """Somebody cancelled the intake meanwhile."""


@dataclass
class Intakes:
    """incoming: where the API puts uploads, by id. login: authority of a registry -> (username,
    password). most: bytes of a file. most_virtual: bytes of the disk it stands for. kept: published
    versions of each image that stay."""

    store: Store
    image_dir: Path
    incoming: Path
    web: Web
    login: Callable[[str], tuple[str, str] | None]
    most: int
    most_virtual: int = diskfile.MOST_VIRTUAL
    kept: int = 3
    stopping: threading.Event = field(default_factory=threading.Event)
    _busy: set[UUID] = field(default_factory=set)
    _again: dict[UUID, float] = field(default_factory=dict)
    _verdicts: dict[UUID, SeedError] = field(default_factory=dict)
    _choosing: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Until `stopping` is set."""
        collect_at, seen = 0.0, -1
        with ThreadPoolExecutor(THREADS, "intake") as threads:
            while True:
                version, clock = self.store.version(), time.monotonic()
                if version != seen or any(at <= clock for at in [*self._again.values()]):
                    seen = version  # costs less than a query
                    for intake in self._due():
                        threads.submit(self._take, intake)
                if time.monotonic() >= collect_at:
                    self.tidy()
                    collect_at = time.monotonic() + COLLECT_SECONDS
                if self.stopping.wait(LOOK_SECONDS):
                    return

    def once(self) -> None:
        """All that waits now, one after the other."""
        for intake in self._due():
            self._take(intake)

    def tidy(self) -> None:
        """What is not needed any more goes. What goes wrong is logged, and tried again later."""
        work = self.image_dir / garbage.WORK
        for task in (
            self._give_up_idle,
            lambda: garbage.orphans(self.store, self.incoming, work),
            lambda: garbage.collect(self.store, self.image_dir, self.kept),
        ):
            try:
                task()
            except Exception as error:  # the others are done all the same
                log.error("images.not-tidied", exc_info=error)

    def _due(self) -> list[Intake]:
        with self._choosing, self.store.read() as session:
            query = select(Intake).where(col(Intake.state).in_(_WORKED_ON))
            rows = session.exec(query.order_by(col(Intake.asked_at))).all()
            found = [row for row in rows if row.id not in self._busy and self._rested(row.id)]
            self._busy |= {row.id for row in found}
            for identity in set(self._again) - {row.id for row in rows} | {row.id for row in found}:
                self._again.pop(identity, None)
            return found

    def _rested(self, identity: UUID) -> bool:
        return self._again.get(identity, 0.0) <= time.monotonic()

    def _take(self, intake: Intake) -> None:
        try:
            self._decide(intake)
        except (Stopped, Ended):
            self._verdicts.pop(intake.id, None)
        except Exception as error:
            self._later(intake, error)
        finally:
            self._busy.discard(intake.id)

    def _decide(self, intake: Intake) -> None:
        """To its end. Raises Stopped, Ended, and what may be otherwise the next time."""
        if intake.id not in self._verdicts:
            try:
                image = self._received(intake)
            except (Stopped, Ended, *_OURS):
                raise
            except SeedError as error:
                self._verdicts[intake.id] = error
            except Exception as error:
                log.error("intake.broke", intake=str(intake.id), exc_info=error)
                problem = Invalid("something went wrong inside Seed", "seed logs seed-images")
                self._verdicts[intake.id] = problem
            else:
                return self._done(intake, image)
        self._end(intake, self._verdicts[intake.id])  # the upload is gone before that is written
        del self._verdicts[intake.id]

    def _later(self, intake: Intake, error: Exception) -> None:
        """It stays as it is, says why, and is taken up again after a pause."""
        what = str(getattr(error, "orig", error))  # no statement of SQL with what is in it
        ours = isinstance(error, _OURS)
        log.warning("intake.later", intake=str(intake.id), error=what, exc_info=not ours)
        self._again[intake.id] = time.monotonic() + AGAIN_SECONDS
        known = error if isinstance(error, SeedError) else _machine(error)
        with suppress(Ended, OperationalError), self.store.write() as session:
            row = self._row(session, intake)
            row.problem = f"{known}; it is tried again every {AGAIN_SECONDS:.0f} s"
            row.remedy = known.remedy

    # --- one intake -----------------------------------------------------------------------------

    def _received(self, intake: Intake) -> Image:
        """Fetched, checked and put onto the shelf."""
        done = self.image_dir / intake.name / version_of(intake)
        if (done / MANIFEST).exists():  # we were killed right before we said so
            return Image.model_validate_json((done / MANIFEST).read_bytes())
        folder = self.image_dir / garbage.WORK / str(intake.id)
        folder.mkdir(parents=True, exist_ok=True)
        folder.parent.chmod(0o700)
        file = self._whole(intake, folder)
        self._move(intake, IntakeState.CHECKING)
        named = Path(_last(intake.source) or intake.name)
        (folder / "disk").chmod(0o644)
        disk = diskfile.verify(folder / "disk", named, self.most_virtual)
        (folder / "disk.from").unlink(missing_ok=True)
        image = catalog.describe(
            folder, file, disk, name=intake.name, version=done.name, user=intake.ssh_user,
            at=now().replace(microsecond=0), source=sources.told(intake.source),
            architecture=intake.architecture,
        )  # fmt: skip
        self._settle(intake, done.name)
        catalog.shelve(folder, done)
        return image

    def _whole(self, intake: Intake, folder: Path) -> ImageFile:
        """folder/disk, with the digest that was asked for."""
        for half in folder.glob("disk.*"):
            if half.suffix in (".raw", ".qcow2"):  # killed between the manifest and the shelf
                half.rename(folder / "disk")
        self._move(intake, IntakeState.FETCHING)
        path, say = folder / "disk", _Pace(lambda done, of: self._say(intake, done, of))
        alive = _Alive(self.stopping, lambda: self._check(intake))
        receiver = Receiver(self.web, self.most, say, self.stopping, alive)
        if intake.kind == "upload":
            return receiver.copy(self.incoming / str(intake.id), path, intake.sha256)
        if intake.kind == "url":
            return receiver.fetch(intake.source, path, intake.sha256)
        return self._from_registry(intake, receiver, path)

    def _from_registry(self, intake: Intake, receiver: Receiver, path: Path) -> ImageFile:
        source = sources.split(intake.source)
        try:
            blob = Registry(self.web, self.login, receiver.alive).find(source)
        except Broken as error:
            raise Invalid(
                f"the registry does not answer: {error}", "Look at it, then add the image again."
            ) from error
        if intake.sha256 and blob.sha256 != intake.sha256:
            raise Invalid(
                f"{sources.told(intake.source)} is not the image asked for: "
                f"the SHA-256 of its disk is {blob.sha256}, not {intake.sha256}",
                "Compare the digest with its maker's list, then add it again.",
            )
        return receiver.fetch(blob.url, path, blob.sha256, blob.login)

    # --- what we say of it ----------------------------------------------------------------------

    def _row(self, session: Session, intake: Intake) -> Intake:
        row = session.get(Intake, intake.id)
        if row is None or row.ended_at is not None:
            raise Ended
        session.add(row)
        return row

    def _check(self, intake: Intake) -> None:
        """Raises Ended."""
        with self.store.read() as session:
            self._row(session, intake)

    def _move(self, intake: Intake, state: IntakeState) -> None:
        with self.store.write() as session:
            row = self._row(session, intake)
            row.state, row.problem, row.remedy = state, "", ""

    def _say(self, intake: Intake, done: int, total: int) -> None:
        with suppress(OperationalError), self.store.write() as session:  # the next time, then
            row = self._row(session, intake)
            row.bytes_done, row.bytes_total = done, total

    def _settle(self, intake: Intake, version: str) -> None:
        """Before anybody can see the version: nobody cancels it from here on, and a draft is one.

        Raises Ended.
        """
        with self.store.write() as session:
            self._row(session, intake).version = version
            if not intake.draft:
                return
            row = session.get(ImageStanding, (intake.name, version))
            row = row or ImageStanding(name=intake.name, version=version)
            row.state, row.set_by, row.set_at = ImageState.DRAFT, intake.asked_by, now()
            session.add(row)

    def _done(self, intake: Intake, image: Image) -> None:
        if not intake.draft:
            catalog.switch(self.image_dir / image.name / image.version)
        with suppress(Ended), self.store.write() as session:
            row = self._row(session, intake)
            row.state, row.version, row.ended_at = IntakeState.DONE, image.version, now()
            row.bytes_done = row.bytes_total = image.files["disk"].size
            row.problem = row.remedy = ""
            kind = "image.draft" if intake.draft else "image.published"
            record(
                session, kind, f"{image.name}:{image.version}",
                f"{image.name} {image.version} came in", who=intake.asked_by,
                sha256=image.files["disk"].sha256, source=sources.told(intake.source),
            )  # fmt: skip
        self._clear(intake)

    def _end(self, intake: Intake, error: SeedError) -> None:
        self._clear(intake)  # first: on a full disk the row could not be written
        with suppress(Ended), self.store.write() as session:
            refuse(session, self._row(session, intake), error, "seed")

    def _clear(self, intake: Intake) -> None:
        """Its parts; what a kill leaves here goes with the orphans."""
        with suppress(OSError):
            (self.incoming / str(intake.id)).unlink()
        shutil.rmtree(self.image_dir / garbage.WORK / str(intake.id), ignore_errors=True)

    def _give_up_idle(self) -> None:
        """Uploads of which nothing came for a day."""
        with self.store.read() as session:
            query = select(Intake).where(Intake.state == IntakeState.UPLOADING)
            rows = session.exec(query.where(col(Intake.asked_at) < now() - PATIENCE)).all()
        for row in rows:
            last = row.asked_at.timestamp()
            with suppress(OSError):
                last = (self.incoming / str(row.id)).stat().st_mtime
            if time.time() - last > PATIENCE.total_seconds():
                self._end(row, Invalid("nothing of it came for a day", "seed image add NAME FILE"))


def refuse(session: Session, row: Intake, error: SeedError, who: str) -> None:
    """The intake ends here, with the reason."""
    row.state, row.version, row.ended_at = IntakeState.REFUSED, "", now()
    row.problem, row.remedy = told(error)["problem"], error.remedy
    session.add(row)
    record(session, "image.refused", row.name, str(error), who=who, intake=str(row.id))


def _machine(error: Exception) -> HostError:
    """What the system says of itself, without a statement of SQL."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "disk is full" in str(error):
        return HostError("the disk is full", "df -h")
    if isinstance(error, OperationalError):
        what = "this machine is at fault: the database cannot be written"
    elif isinstance(error, OSError):
        what = f"this machine is at fault: {error.strerror or type(error).__name__}"
    else:
        what = "something went wrong inside Seed"
    return HostError(what, "seed logs seed-images")


class _Alive:
    """Raises Stopped at once, and Ended every second."""

    def __init__(self, stopping: threading.Event, check: Callable[[], None]) -> None:
        self._stopping, self._check, self._at = stopping, check, 0.0

    def __call__(self) -> None:
        if self._stopping.is_set():
            raise Stopped
        if time.monotonic() >= self._at:
            self._at = time.monotonic() + SAY_SECONDS
            self._check()


class _Pace:
    """Says how far it is at once, and then every second."""

    def __init__(self, say: Callable[[int, int], None]) -> None:
        self._say, self._at = say, 0.0

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self._at:
            self._at = time.monotonic() + SAY_SECONDS
            self._say(done, total)


def _last(source: str) -> str:
    return sources.told(source).rpartition("/")[2]
