"""What nobody needs any more goes: versions, leftovers of the killed, links that lead nowhere."""

import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog
from sqlmodel import col, select

from images.catalog import switch
from provisioning import image as images
from provisioning import standing
from provisioning.errors import SeedError
from provisioning.image import CURRENT, MANIFEST, NAME_PATTERN, Image
from provisioning.models import now
from provisioning.shelf import ImageStanding, Intake
from provisioning.states import ImageState
from provisioning.store import Store, record

log = structlog.get_logger()

GONE: Final = ".gone-"
NEW: Final = ".new-"
WORK: Final = ".intake"
"""In the image folder: one folder per intake that is being worked on. nginx shows no such names.
It stays: who removes it takes it from a thread that is about to make its own folder there."""
LEFT_SECONDS: Final = 24 * 3600.0
"""After which a half-made folder is nobody's: no publication takes that long."""


def collect(store: Store, image_dir: Path, kept: int) -> list[Image]:
    """Remove the versions that may go, and say which. Safe to repeat, and to kill at any line."""
    removed: list[Image] = []
    for name in images.names(image_dir):
        try:
            removed += _of_one(store, image_dir, name, kept)
            _relink(store, image_dir, name)
        except (SeedError, OSError) as error:  # its neighbours go on
            log.warning("image.not-collected", image=name, error=str(error))
    sweep(image_dir)
    _forget(store, image_dir)
    return removed


def _of_one(store: Store, image_dir: Path, name: str, kept: int) -> list[Image]:
    """Taken away within the write transaction that saw no claim with it: who makes a claim later
    does not find it, who made one before is seen."""
    found = images.versions(image_dir, name)
    current = _current(image_dir / name)
    with store.read() as session:
        if not standing.superfluous(session, found, current, kept):
            return []
    with store.write() as session:
        gone = standing.superfluous(session, found, current, kept)
        for image in gone:
            row = session.get(ImageStanding, (name, image.version))
            why = row.why if row else f"more than {kept} newer ones are kept"
            record(
                session, "image.removed", f"{name}:{image.version}",
                f"the files of {name} {image.version} are removed", who="seed", why=why,
            )  # fmt: skip
            # The same build may be published again: it stays withdrawn then.
            if row and row.state is not ImageState.WITHDRAWN:
                session.delete(row)
            folder = image_dir / name / image.version
            folder.rename(image_dir / f"{GONE}{name}-{image.version}")
    return gone


def _current(folder: Path) -> str:
    with suppress(OSError):
        return (folder / CURRENT).readlink().name
    return ""


def _relink(store: Store, image_dir: Path, name: str) -> None:
    """`current` leads to a version that is published, if there is any."""
    current, found = _current(image_dir / name), images.versions(image_dir, name)
    with store.read() as session:
        usable = [
            image.version
            for image in found
            if standing.of(session, name, image.version) is ImageState.PUBLISHED
        ]
    if usable and current not in usable:
        switch(image_dir / name / usable[0])
    elif current and not found:
        (image_dir / name / CURRENT).unlink(missing_ok=True)
    if not found:
        with suppress(OSError):
            (image_dir / name).rmdir()


def sweep(image_dir: Path) -> None:
    """Folders that were renamed to go, and what a killed publication left."""
    old = time.time() - LEFT_SECONDS
    for path in image_dir.glob(f"{GONE}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in images.there(image_dir, f"*/{NEW}*"):
        with suppress(OSError):
            if path.stat().st_mtime < old:
                shutil.rmtree(path, ignore_errors=True)
    for folder in image_dir.iterdir() if image_dir.is_dir() else ():
        if re.match(NAME_PATTERN, folder.name) and folder.is_dir():
            _dangling(folder)


def _dangling(folder: Path) -> None:
    link = folder / CURRENT
    if link.is_symlink() and not link.exists():
        link.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()


def _forget(store: Store, image_dir: Path) -> None:
    """What was said of versions that are not there any more, and not about to be. Not that one was
    withdrawn: it would be published when the same build comes again."""
    with store.read() as session:
        rows = session.exec(select(ImageStanding)).all()
        busy = session.exec(select(Intake).where(col(Intake.ended_at).is_(None))).all()
    coming = {(intake.name, intake.version) for intake in busy}
    lost = [
        (row.name, row.version)
        for row in rows
        if row.state is not ImageState.WITHDRAWN
        and (row.name, row.version) not in coming
        and (now() - row.set_at).total_seconds() > 60
        and not (image_dir / row.name / row.version / MANIFEST).exists()
    ]
    if lost:
        with store.write() as session:
            for key in lost:
                if row := session.get(ImageStanding, key):
                    session.delete(row)


def orphans(store: Store, *folders: Path) -> None:
    """Parts of intakes that ended or never were; each folder holds them under the intake's id."""
    # Looked at before the rows are: what comes later than that is of a row that we do not see.
    found = [path for folder in folders for path in images.there(folder, "*")]
    with store.read() as session:
        rows = session.exec(select(Intake.id).where(col(Intake.ended_at).is_(None))).all()
    living = {str(identity) for identity in rows}
    for path in found:
        if path.name in living:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
