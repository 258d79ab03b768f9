"""Bundles come and go: all that an installer needs, as one folder and as one archive of it.

provisioning/bundle.py has the format. What is half is in hidden folders of <root>, each locked by
who is at work in it: one that nobody locks was left by somebody who was killed, and goes.
bundle.json is the lock file, too: it has each file's source and digest.
"""

import errno
import gzip
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import IO, cast

from images import served
from images.archives import Say, Strict, check_space, quiet, stage, store, write
from provisioning.bundle import BUNDLE, MOST_BUNDLE, Bundle, parse, read, verify
from provisioning.errors import Conflict, Invalid, NotFound


class Faulty(Invalid):
    """faults: one sentence for each file that is not as it must be."""

    def __init__(self, what: str, faults: list[str], remedy: str) -> None:
        super().__init__(f"{what}: {'; '.join(faults)}", remedy)
        self.what, self.faults = what, faults


# --- archives -------------------------------------------------------------------------------------


def pack(folder: Path, target: Path) -> str:
    """Write a bundle's archive, in gzip if its name ends in .gz; its SHA-256. bundle.json is first:
    who reads it knows what is to come. The same bundle is the same bytes (gzip: of one zlib)."""
    if faults := verify(folder):
        raise Faulty(f"{folder} is not whole", faults, "seed bundle remove NAME, then make it anew")
    bundle = read(folder)
    top = f"{bundle.name}/{bundle.version}"
    entries = [(f"{top}/{BUNDLE}", folder / BUNDLE, 0o644)]
    entries += [(f"{top}/{f.path}", folder / f.path, int(f.mode, 8)) for f in bundle.files]
    half = target.with_name(f".{target.name}.half")
    try:
        with half.open("wb") as out:
            if target.suffix == ".gz":
                with gzip.GzipFile("", "wb", 6, out, mtime=0) as packed:
                    write(cast("IO[bytes]", packed), entries)
            else:
                write(out, entries)
        with half.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        half.replace(target)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise Invalid(
            f"{target} cannot be written: {error.strerror}", f"df -h {target.parent}"
        ) from error
    return sha256


def load(archive: Path, root: Path, say: Say = quiet, sha256: str = "") -> Bundle:
    """Publish what is in an archive. sha256: the archive's, where somebody told it.

    Raises Invalid for an archive that is not what `pack` writes, in all and in each part, Conflict
    where another bundle of this name and version is there, or no space for it.
    """
    try:
        file = archive.open("rb")
    except OSError as error:
        raise Invalid(f"{archive} cannot be read: {error.strerror}", f"ls -l {archive}") from error
    with file:
        reader = Strict(file)
        entries = reader.entries()
        bundle = _first(reader, entries)
        done = root / bundle.name / bundle.version
        if not sha256 and done.exists() and read(done).digest == bundle.digest:
            served.refresh(root)  # who loaded it may have been killed before that
            return read(done)
        with stage(root) as place:
            check_space(place, bundle.size)
            _unpack(reader, entries, bundle, place / "bundle", say)
            if sha256 and reader.sha256() != sha256:
                raise Invalid(
                    f"{archive} is not the archive asked for: its SHA-256 is {reader.sha256()}",
                    "Compare the digest with what was told where it was made.",
                )
            return publish(place / "bundle", bundle, root)


def _first(reader: Strict, entries: Iterator[tuple[str, int]]) -> Bundle:
    name, size = next(entries, ("", 0))
    if not name.endswith(f"/{BUNDLE}") or not 0 < size <= MOST_BUNDLE:
        raise Invalid(
            f"this is no bundle's archive: it begins with {name[:200]!a}, and not with "
            f"NAME/VERSION/{BUNDLE}",
            "Make it by: seed bundle make NAME --version V --archive FILE",
        )
    bundle = parse(b"".join(reader.pieces(name, size)), f"{BUNDLE} in the archive")
    if name != f"{bundle.name}/{bundle.version}/{BUNDLE}":
        raise Invalid(f"{name!a} in the archive holds {bundle.ref}", "Get the archive again.")
    return bundle


def _unpack(
    reader: Strict, entries: Iterator[tuple[str, int]], bundle: Bundle, folder: Path, say: Say
) -> None:
    top = f"{bundle.name}/{bundle.version}/"
    to_come = {f"{top}{file.path}": file for file in bundle.files}
    seen = {f"{top}{BUNDLE}"}
    for name, size in entries:
        file = to_come.get(name)
        if file is None or name in seen:
            raise Invalid(_why(name, top, seen), "Get the archive again, from who made it.")
        seen.add(name)
        if size != file.size:
            raise Invalid(
                f"{name} in the archive has {size} bytes, and {BUNDLE} says {file.size}",
                "Get the archive again, from who made it.",
            )
        found = store(folder / file.path, reader.pieces(name, size), file.path, size, say)
        if found != file.sha256:
            raise Invalid(
                f"{name} in the archive was changed: its SHA-256 is {found}, and {BUNDLE} says "
                f"{file.sha256}",
                "Get the archive again, from who made it.",
            )
    if faults := [f"{name} is missing" for name in to_come if name not in seen]:
        raise Faulty("the archive is not whole", faults, "Get the archive again, from who made it.")


def _why(name: str, top: str, seen: set[str]) -> str:
    told = f"{name[:200]!a} in the archive"
    if name in seen:
        return f"{told} is there twice"
    if not name.startswith(top) or ".." in name.split("/"):
        return f"{told} leads out of {top}"
    return f"{told} is not in {BUNDLE}"


# --- what comes and goes --------------------------------------------------------------------------


def publish(folder: Path, bundle: Bundle, root: Path) -> Bundle:
    """Make a whole folder the bundle, in one rename, and serve its images. Whoever comes second
    with the same files is given what is there. Raises Conflict where that has other files, Invalid
    for an image that is not whole."""
    served.extract(folder, bundle, root)
    _settle(folder, bundle)
    there = _renamed(folder, bundle, root)
    served.refresh(root)
    return there


def _renamed(folder: Path, bundle: Bundle, root: Path) -> Bundle:
    done = root / bundle.name / bundle.version
    while True:
        done.parent.mkdir(exist_ok=True)
        try:
            done.parent.chmod(0o755)
            folder.rename(done)
        except FileNotFoundError:  # the last other version went, and its folder
            if not folder.exists():
                raise
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return _same(done, bundle)
        else:
            return bundle


def _settle(folder: Path, bundle: Bundle) -> None:
    """bundle.json and modes, whatever the umask is; all of it on the disk before the rename."""
    (folder / BUNDLE).write_text(bundle.model_dump_json(indent=1) + "\n")
    (folder / BUNDLE).chmod(0o644)
    for file in bundle.files:
        (folder / file.path).chmod(int(file.mode, 8))
    for path in [folder / BUNDLE, *(Path(at) for at, _, _ in os.walk(folder))]:
        if path.is_dir():
            path.chmod(0o755)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        os.fsync(fd)
        os.close(fd)


def _same(done: Path, bundle: Bundle) -> Bundle:
    there = read(done)
    if there.digest != bundle.digest:
        raise Conflict(
            f"bundle {bundle.ref} is there with other files (digest {there.digest[:12]}, not "
            f"{bundle.digest[:12]})",
            f"seed bundle remove {bundle.ref}",
        )
    return there


InUse = Callable[[str, str], AbstractContextManager[str]]
"""Given name and version: who needs it, in a few words; "" for nobody, and nobody comes to need it
while this is open."""


def remove(folder: Path, root: Path, in_use: InUse) -> None:
    """in_use is open while the bundle goes. Raises Conflict, NotFound."""
    name, version = folder.parent.name, folder.name
    with stage(root) as place:
        with in_use(name, version) as why:
            if why:
                raise Conflict(f"bundle {name}:{version} stays: {why}", "seed cluster list")
            try:
                folder.rename(place / "gone")
            except FileNotFoundError as error:
                raise NotFound(
                    f"there is no bundle {name}:{version}", "seed bundle list"
                ) from error
        with suppress(OSError):  # other versions are there
            folder.parent.rmdir()
        served.refresh(root)
