"""Bundles as they lie there: bundle.json, and whether all is as it says (docs/bundles.md).

<root>/<name>/<version>/bundle.json and files/...; such a folder is there whole or not at all. How
they come and go is images/bundle.py's work.
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from provisioning.errors import Conflict, Invalid, NotFound
from provisioning.image import NAME_PATTERN, Digest256, Name

BUNDLE: Final = "bundle.json"
SERVED: Final = "registry"
"""Beside the files: their images as images/served.py takes them out, in no list."""
MOST_BUNDLE: Final = 1 << 20
MOST_FILES: Final = 1000
MOST_FILE: Final = (8 << 30) - 1
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
    mode: Mode = "0644"
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


def folders(root: Path, name: str, version: str) -> list[Path]:
    """Of all versions of a bundle, or of one."""
    return sorted(path for path in root.glob(f"{name}/{version or '*'}") if path.is_dir())


def split(ref: str) -> tuple[str, str]:
    """(name, version) of NAME or NAME:VERSION. Raises Invalid."""
    name, _, version = ref.partition(":")
    if not re.match(NAME_PATTERN, name) or (version and not re.match(NAME_PATTERN, version)):
        raise Invalid(f"{ref[:130]!r} is no bundle: NAME, or NAME:VERSION", "seed bundle list")
    return name, version


def find(root: Path, ref: str) -> Path:
    """The folder of NAME, if it has one version, or NAME:VERSION. Raises NotFound, Conflict."""
    name, version = split(ref)
    found = folders(root, name, version)
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{path.parent.name}:{path.name}" for path in found)
    if found:
        raise Conflict(
            f"there is more than one {name}: {there}", f"Name one: {there.split(',')[0]}"
        )
    known = ", ".join(bundle.ref for bundle in listed(root))
    raise NotFound(f"there is no bundle {ref}, only: {known or 'none'}", "seed bundle list")


def hashed(path: Path) -> str:
    """SHA-256 of a file, read whole."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def verify(folder: Path, sha256: Callable[[Path], str] = hashed) -> list[str]:
    """One sentence for each file that is missing, unknown or not as bundle.json says."""
    try:
        bundle = read(folder)
    except (NotFound, Invalid) as error:
        return [str(error)]
    faults = [said for file in bundle.files if (said := _fault(folder, file, sha256))]
    known = {folder / file.path for file in bundle.files} | {folder / BUNDLE}
    for at, names, files in os.walk(folder):
        there = [Path(at, name) for name in files]
        there += [path for name in names if (path := Path(at, name)).is_symlink()]
        faults += [
            f"{path.relative_to(folder)} is not in {BUNDLE}"
            for path in sorted(there)
            if path not in known and (path.is_symlink() or folder / SERVED not in path.parents)
        ]
    return faults


def _fault(folder: Path, file: BundleFile, sha256: Callable[[Path], str]) -> str:
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
    try:
        found = sha256(path)
    except OSError as error:
        return f"{file.path} cannot be read: {error.strerror}"
    return "" if found == file.sha256 else f"{file.path} was changed: its SHA-256 is {found}"
