"""Bundles: all that an installer needs, as one folder and as one archive (docs/bundles.md).

<root>/<name>/<version>/bundle.json and files/...; such a folder is there whole or not at all. What
is half is in hidden folders of <root>, each locked by who is at work in it: one that nobody locks
was left by somebody who was killed, and goes. bundle.json is the lock file, too: it has each file's
source and digest.
"""

import errno
import gzip
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import IO, Annotated, Final, Literal, Self, cast

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from images.archives import Say, Strict, check_space, quiet, stage, store, write
from images.receiving import GIB
from provisioning.errors import Conflict, Invalid, NotFound
from provisioning.image import NAME_PATTERN, Digest256, Name

BUNDLE: Final = "bundle.json"
MOST_BUNDLE: Final = 1 << 20
MOST_FILES: Final = 1000
MOST_FILE: Final = 8 * GIB - 1
"""Bytes; ustar knows no larger one."""
_PATH: Final = r"^files(/[A-Za-z0-9][A-Za-z0-9._+-]*)+$"

Role = Literal["binary", "image", "manifest"]
Mode = Literal["0644", "0755"]
Architecture = Literal["amd64", "arm64"]


class BundleFile(BaseModel):
    """path: within the bundle. size: bytes. mode: octal. source: https://, http:// or
    oci://HOST/REPOSITORY:TAG, of an image also its name in the archive; "": put there by hand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[str, StringConstraints(pattern=_PATH, max_length=150)]
    role: Role
    sha256: Digest256
    size: int = Field(ge=0, le=MOST_FILE)
    mode: Literal["0644", "0755"] = "0644"
    source: Annotated[str, StringConstraints(pattern=r"^[!-~]{0,2048}$")] = ""
    license: Annotated[str, StringConstraints(pattern=r"^[ -~]{0,100}$")] = ""


class Bundle(BaseModel):
    """bundle.json. version: of what it installs. files: sorted by path."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    name: Name
    kind: Name
    version: Name
    architecture: Architecture
    made_at: AwareDatetime
    files: tuple[BundleFile, ...] = Field(min_length=1, max_length=MOST_FILES)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        paths = [file.path for file in self.files]
        for before, path in pairwise(paths):
            if path == before:
                raise ValueError(f"{path} stands there twice")
            if path < before:
                raise ValueError(f"files are sorted by path, and {path} comes behind {before}")
        folders = {str(parent) for path in paths for parent in Path(path).parents}
        if both := folders & {*paths}:
            raise ValueError(f"{min(both)} is a file and a folder")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of all but made_at: of what is in it."""
        told = self.model_dump_json(exclude={"made_at"})
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def ref(self) -> str:
        return f"{self.name}:{self.version}"


class Faulty(Invalid):
    """faults: one sentence for each file that is not as it must be."""

    def __init__(self, what: str, faults: list[str], remedy: str) -> None:
        super().__init__(f"{what}: {'; '.join(faults)}", remedy)
        self.what, self.faults = what, faults


# --- what is there --------------------------------------------------------------------------------


def parse(content: bytes, told: str) -> Bundle:
    """Raises Invalid, with the field that is wrong."""
    try:
        return Bundle.model_validate_json(content)
    except ValidationError as error:
        raise unreadable(told, error) from error


def unreadable(told: str, error: ValidationError) -> Invalid:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    said = first["msg"].removeprefix("Value error, ")
    return Invalid(
        f"{told} is not as it must be: {f'{where}: ' if where else ''}{said}",
        "docs/bundles.md has its format.",
    )


def read(folder: Path) -> Bundle:
    """What a folder's bundle.json says. Raises NotFound, Invalid for a folder that is broken."""
    ref = f"{folder.parent.name}:{folder.name}"
    anew = f"seed bundle remove {ref}, then make or load it anew"
    if not folder.is_dir():
        raise NotFound(f"there is no bundle {ref}", "seed bundle list")
    try:
        with (folder / BUNDLE).open("rb") as file:
            bundle = parse(file.read(MOST_BUNDLE + 1), f"{folder / BUNDLE}")
    except OSError as error:
        raise Invalid(f"{folder / BUNDLE} cannot be read: {error.strerror}", anew) from error
    except Invalid as error:
        raise Invalid(str(error), anew) from error
    if bundle.ref != ref:
        raise Invalid(f"{folder} holds {bundle.ref}", anew)
    return bundle


def listed(root: Path) -> list[Bundle]:
    """All that can be read, by name and version."""
    found = []
    for path in sorted(root.glob(f"[!.]*/*/{BUNDLE}")):
        with suppress(NotFound, Invalid):
            found.append(read(path.parent))
    return found


def find(root: Path, ref: str) -> Path:
    """The folder of NAME, if it has one version, or NAME:VERSION. Raises NotFound, Conflict."""
    name, _, version = ref.partition(":")
    if not re.match(NAME_PATTERN, name) or (version and not re.match(NAME_PATTERN, version)):
        raise Invalid(f"{ref[:130]!r} is no bundle: NAME, or NAME:VERSION", "seed bundle list")
    found = sorted(path for path in root.glob(f"{name}/{version or '*'}") if path.is_dir())
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{path.parent.name}:{path.name}" for path in found)
    if found:
        raise Conflict(
            f"there is more than one {name}: {there}", f"Name one: {there.split(',')[0]}"
        )
    known = ", ".join(bundle.ref for bundle in listed(root))
    raise NotFound(f"there is no bundle {ref}, only: {known or 'none'}", "seed bundle list")


def verify(folder: Path) -> list[str]:
    """One sentence for each file that is missing, unknown or not as bundle.json says."""
    try:
        bundle = read(folder)
    except (NotFound, Invalid) as error:
        return [str(error)]
    faults = [said for file in bundle.files if (said := _fault(folder, file))]
    known = {folder / file.path for file in bundle.files} | {folder / BUNDLE}
    for at, names, files in os.walk(folder):
        there = [Path(at, name) for name in files]
        there += [path for name in names if (path := Path(at, name)).is_symlink()]
        faults += [
            f"{path.relative_to(folder)} is not in {BUNDLE}"
            for path in sorted(there)
            if path not in known
        ]
    return faults


def _fault(folder: Path, file: BundleFile) -> str:
    path = folder / file.path
    try:
        status = path.lstat()
    except OSError:
        return f"{file.path} is missing"
    if not stat.S_ISREG(status.st_mode):
        return f"{file.path} is no plain file"
    if status.st_size != file.size:
        return f"{file.path} has {status.st_size} bytes, and not {file.size}"
    if (mode := stat.S_IMODE(status.st_mode)) != int(file.mode, 8):
        return f"{file.path} has the mode {mode:04o}, and not {file.mode}"
    with path.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    return "" if found == file.sha256 else f"{file.path} was changed: its SHA-256 is {found}"


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
    """Make a whole folder the bundle, in one rename. Whoever comes second with the same files is
    given what is there. Raises Conflict where that has other files."""
    _settle(folder, bundle)
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


def remove(folder: Path, root: Path, in_use: Callable[[str, str], str]) -> None:
    """in_use: given name and version, who needs it, in a few words; "" for nobody. It is asked last
    before the bundle goes. Raises Conflict, NotFound."""
    with stage(root) as place:
        if why := in_use(folder.parent.name, folder.name):
            raise Conflict(
                f"bundle {folder.parent.name}:{folder.name} stays: {why}", "seed bundle list"
            )
        try:
            folder.rename(place / "gone")
        except FileNotFoundError as error:
            ref = f"{folder.parent.name}:{folder.name}"
            raise NotFound(f"there is no bundle {ref}", "seed bundle list") from error
        with suppress(OSError):  # other versions are there
            folder.parent.rmdir()
