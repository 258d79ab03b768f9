"""Published images: the manifests on disk are the catalogue, there is no other record of them.

<image_dir>/<name>/<version>/manifest.json and the files beside it; <image_dir>/<name>/current is
a symlink to the version in use, replaced atomically. Whether a version may be used is a row
(standing.py): what is written here is what there is, not what people want of it.
"""

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from glob import glob
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from provisioning.errors import Invalid, NotFound
from provisioning.states import ImageState

NAME_PATTERN = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Digest256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Digest512 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]

Format = Literal["qcow2", "raw", "ramdisk"]
Firmware = Literal["bios", "uefi"]

MANIFEST = "manifest.json"
CURRENT = "current"


class ImageFile(BaseModel):
    """One file of an image, beside its manifest. `size` in bytes, digests in lower-case hex."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    size: int = Field(ge=0)
    sha256: Digest256
    sha512: Digest512


class Image(BaseModel):
    """A published version of an image.

    files:        role -> file; "disk" for qcow2 and raw, "kernel" and "initramfs" for a ramdisk.
    firmware:     what can boot it.
    virtual_size: bytes the disk has once written; 0 for a ramdisk.
    min_disk_gib: smallest disk it may be deployed to, GiB.
    weights:      part -> bytes, unpacked; empty for a file that was not built here.
    ssh_user:     the login it creates for the caller's keys; None if it has none or none is known.
    kernel:       `uname -r` of what it boots; "" if that is not known.
    services:     systemd units that must be active on a node with it.
    root_raid:    whether its initrd and loaders find a root on md RAID 1.
    source:       where it came from, without any login; "" for what was built here.
    min_memory_mib: what it needs to start; 0 if nobody said.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    version: Name
    recipe: str
    architecture: str
    firmware: tuple[Firmware, ...]
    format: Format
    files: dict[str, ImageFile]
    virtual_size: int = Field(ge=0)
    min_disk_gib: int = Field(ge=0)
    built_at: datetime
    build_seconds: float = Field(ge=0)
    weights: dict[str, int] = {}
    ssh_user: str | None = None
    kernel: str = ""
    services: tuple[str, ...] = ()
    root_raid: bool = False
    source: str = ""
    min_memory_mib: int = Field(default=0, ge=0)

    def path(self, image_dir: Path, role: str) -> Path:
        """Where the file of `role` lies. Raises NotFound for a role it does not have."""
        if role not in self.files:
            raise NotFound(
                f"image {self.name} has no {role}, only {', '.join(sorted(self.files))}",
                f"seed image show {self.name}",
            )
        return image_dir / self.name / self.version / self.files[role].name


RAMDISKS = ("ramdisk", "rescue")
"""Names that servers boot from memory; tests hold them to be those of the recipes."""


def check_disk_name(image_dir: Path, name: str) -> None:
    """Raises Invalid for the name of a ramdisk: no boot would find one if it became a disk's."""
    if name in RAMDISKS or any(one.format == "ramdisk" for one in versions(image_dir, name)):
        raise Invalid(
            f"{name} is what servers boot from memory, so no disk image can have this name",
            "Give it another name: `seed image add NAME SOURCE`.",
        )


Standing = Callable[[str, str], ImageState]
"""(name, version) -> whether it may be used."""


def split(ref: str) -> tuple[str, str]:
    """(name, version) of NAME or NAME:VERSION; the version is "" where none is named."""
    name, _, version = ref.partition(":")
    return name, version


def published(image_dir: Path) -> list[Image]:
    """The current version of every image, by name. Raises Invalid for a manifest nobody wrote."""
    return _all(link / MANIFEST for link in sorted(image_dir.glob(f"*/{CURRENT}")))


def names(image_dir: Path) -> list[str]:
    """Of all images that have a version, in order."""
    found = {path.parent.parent.name for path in there(image_dir, f"*/*/{MANIFEST}")}
    return sorted(name for name in found if re.match(NAME_PATTERN, name))


def versions(image_dir: Path, name: str) -> list[Image]:
    """Every version of an image that lies here, whatever its state; the newest first."""
    if not re.match(NAME_PATTERN, name):
        return []
    manifests = [
        path
        for path in there(image_dir / name, f"*/{MANIFEST}")
        if re.match(NAME_PATTERN, path.parent.name) and path.parent.name != CURRENT
    ]
    return _all(sorted(manifests, key=lambda p: (_age(p), p.parent.name), reverse=True))


def there(folder: Path, pattern: str) -> list[Path]:
    """As folder.glob(pattern), but what vanishes while it looks, be it `folder`, is not there."""
    found = glob(pattern, root_dir=folder, include_hidden=True)  # noqa: PTH207 (Path.glob raises)
    return [folder / name for name in found]


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _all(manifests: Iterable[Path]) -> list[Image]:
    """In this order, without those that are being removed at this moment."""
    return [image for path in manifests if (image := _read_if_there(path))]


def find(image_dir: Path, ref: str, standing: Standing | None = None) -> Image:
    """The version that NAME:VERSION names, or that NAME means: the one in use.

    standing: which may be used. With it, NAME means the version in use if that is published, else
    the newest that is; without, the one in use whatever its state.
    Raises NotFound, which lists what there is.
    """
    name, version = split(ref)
    if version:
        return _version(image_dir, name, version)
    current = image_dir / name / CURRENT / MANIFEST
    image = _read_if_there(current) if re.match(NAME_PATTERN, name) else None
    if standing is None:
        return image or _missing(image_dir, name)
    if image and standing(name, image.version) is ImageState.PUBLISHED:
        return image  # and most often no other manifest is read
    candidates = versions(image_dir, name)
    for one in candidates:
        if standing(name, one.version) is ImageState.PUBLISHED:
            return one
    if not candidates:
        return _missing(image_dir, name)
    raise NotFound(
        f"no version of the image {name} is published",
        f"seed image versions {name}",
    )


def _version(image_dir: Path, name: str, version: str) -> Image:
    manifest = image_dir / name / version / MANIFEST
    named = all(re.match(NAME_PATTERN, word) for word in (name, version))
    if named and version != CURRENT and (image := _read_if_there(manifest)):
        return image
    raise NotFound(
        f"there is no version {version!r} of the image {name!r}", "seed image versions NAME"
    )


def _missing(image_dir: Path, name: str) -> NoReturn:
    there = sorted(link.parent.name for link in image_dir.glob(f"*/{CURRENT}"))
    told = f"published are: {', '.join(there)}" if there else "none is published yet"
    remedy = "seed image list" if there else f"seed image build {name}"
    raise NotFound(f"there is no image {name!r}; {told}", remedy)


def _read_if_there(manifest: Path) -> Image | None:
    try:
        return Image.model_validate_json(manifest.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError) as error:
        name = manifest.parent.parent.name
        raise Invalid(
            f"the manifest {manifest} cannot be read",
            f"publish it anew: seed image build {name}",
        ) from error
