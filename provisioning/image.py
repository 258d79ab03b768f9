"""Published images: the manifests on disk are the catalogue, there is no other record of them.

<image_dir>/<name>/<version>/manifest.json and the files beside it; <image_dir>/<name>/current is
a symlink to the version in use, replaced atomically.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from provisioning.errors import Invalid, NotFound

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

    def path(self, image_dir: Path, role: str) -> Path:
        """Where the file of `role` lies. Raises NotFound for a role it does not have."""
        if role not in self.files:
            raise NotFound(
                f"image {self.name} has no {role}, only {', '.join(sorted(self.files))}",
                f"seed image show {self.name}",
            )
        return image_dir / self.name / self.version / self.files[role].name


def published(image_dir: Path) -> list[Image]:
    """The current version of every image, by name. Raises Invalid for a manifest nobody wrote."""
    return [_read(link / MANIFEST) for link in sorted(image_dir.glob(f"*/{CURRENT}"))]


def find(image_dir: Path, name: str) -> Image:
    """The current version of `name`. Raises NotFound, which lists what there is."""
    for image in published(image_dir):
        if image.name == name:
            return image
    names = [image.name for image in published(image_dir)]
    there = f"published are: {', '.join(names)}" if names else "none is published yet"
    remedy = "seed image list" if names else f"seed image build {name}"
    raise NotFound(f"there is no image {name!r}; {there}", remedy)


def _read(manifest: Path) -> Image:
    try:
        return Image.model_validate_json(manifest.read_bytes())
    except (OSError, ValidationError) as error:
        name = manifest.parent.parent.name
        raise Invalid(
            f"the manifest {manifest} cannot be read",
            f"publish it anew: seed image build {name}",
        ) from error
