"""Publish images: <image_dir>/<name>/<version>/ is complete from the moment it exists."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from images import cpio
from images.build import GIB, SBOM, Build
from images.diskfile import DiskFile, verify
from images.workbench import remove
from provisioning.errors import HostError, Invalid
from provisioning.image import CURRENT, MANIFEST, NAME_PATTERN, Image, ImageFile

CHUNK = 1 << 20
SITE_ROLE = "initramfs"
"""The file that this appliance's own settings are appended to."""


def publish(build: Build, image_dir: Path, site_files: dict[str, bytes]) -> Image:
    """Publish a build; return what now is its recipe's current version.

    site_files: absolute path in the ramdisk -> content, e.g. this appliance's CA certificate; for
    an image with no initramfs it must be empty. Anyone on the wire can read them. The same build
    with the same site_files is the same version and published once. Raises HostError without the
    space for it, Invalid for site files that cannot be.
    """
    if site_files and SITE_ROLE not in build.files:
        raise Invalid(
            f"image {build.recipe} has no {SITE_ROLE} to put site files in",
            f"seed image build {build.recipe}",
        )
    site = cpio.archive(site_files) if site_files else b""
    mark = hashlib.sha256(build.digest.encode() + site).hexdigest()[:8]
    done = image_dir / build.recipe / f"{build.built_at:%Y%m%d%H%M%S}-{mark}"
    if not (done / MANIFEST).exists():
        sources = {role: build.directory / name for role, name in build.files.items()}
        with _shelved(done, sum(path.stat().st_size for path in sources.values())) as folder:
            files = {
                role: _append(path, folder / path.name, site)
                if role == SITE_ROLE and site
                else _link(path, folder / path.name)
                for role, path in sources.items()
            }
            if (build.directory / SBOM).exists():
                _link(build.directory / SBOM, folder / SBOM)
            _write(folder, _image(build, done.name, files))
    switch(done)
    return Image.model_validate_json((done / MANIFEST).read_bytes())


def publish_file(path: Path, name: str, sha256: str, image_dir: Path, ssh_user: str = "") -> Image:
    """Publish a whole-disk image that somebody brings, raw or qcow2.

    sha256: what its maker says, hex. ssh_user: the login it makes for the caller's keys, if known.
    The file is copied, so that it cannot change later. Raises Invalid for a name, file or digest
    that is not right, and HostError without the space for it; nothing of it stays then.
    """
    sha256 = sha256.strip().lower()
    _check_asked(path, name, sha256)
    now = datetime.now(UTC).replace(microsecond=0)
    done = image_dir / name / f"{now:%Y%m%d%H%M%S}-{sha256[:8]}"
    with _shelved(done, path.stat().st_size) as folder:
        file = _append(path, folder / "disk", b"")
        if file.sha256 != sha256:
            raise Invalid(
                f"{path.name} is not the file asked for: its SHA-256 is {file.sha256}",
                f"sha256sum {path}; compare it with its maker's list, then fetch it again",
            )
        disk = verify(folder / "disk", path)
        image = describe(folder, file, disk, name=name, version=done.name, at=now, user=ssh_user)
    switch(done)
    return image


def describe(
    folder: Path,
    file: ImageFile,
    disk: DiskFile,
    *,
    name: str,
    version: str,
    at: datetime,
    user: str = "",
    source: str = "",
    architecture: str = "amd64",
) -> Image:
    """Write the manifest of folder/disk, which was verified; what is in the folder is the image."""
    file = file.model_copy(update={"name": f"disk.{disk.format}"})
    (folder / "disk").rename(folder / file.name)
    image = Image(
        name=name,
        version=version,
        recipe="",
        architecture=architecture,
        firmware=("bios", "uefi"),
        format=disk.format,
        files={"disk": file},
        virtual_size=disk.virtual_size,
        min_disk_gib=-(-disk.virtual_size // GIB),
        built_at=at,
        build_seconds=0,
        ssh_user=user or None,
        source=source,
    )
    _write(folder, image)
    return image


def _image(build: Build, version: str, files: dict[str, ImageFile]) -> Image:
    same = {"architecture", "firmware", "format", "virtual_size", "min_disk_gib"}
    same |= {"built_at", "build_seconds", "weights", "ssh_user"}
    same |= {"kernel", "services", "root_raid"} & set(Image.model_fields)
    return Image(
        name=build.recipe,
        version=version,
        recipe=build.recipe,
        files=files,
        **build.model_dump(include=same),
    )


def _check_asked(path: Path, name: str, sha256: str) -> None:
    again = f"seed image publish NAME {path} --sha256 DIGEST"
    if not re.match(NAME_PATTERN, name):
        raise Invalid(f"{name!r} is no image name: a-z, 0-9, '.' and '-', at most 63", again)
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise Invalid(f"{sha256!r} is no SHA-256: 64 hex digits", f"sha256sum {path}")
    if not path.is_file():
        raise Invalid(f"there is no file {path}", f"ls -l {path.parent}")


@contextmanager
def _shelved(done: Path, size: int) -> Iterator[Path]:
    """A folder that becomes `done` at the end, in one rename, or leaves nothing behind."""
    done.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(done.parent).free
    if free < size + GIB // 4:
        raise HostError(
            f"publishing needs {size / GIB:.1f} GiB free in {done.parent}, "
            f"there are {free / GIB:.1f}",
            f"df -h {done.parent}",
        )
    folder = Path(tempfile.mkdtemp(prefix=".new-", dir=done.parent))
    try:
        yield folder
        shelve(folder, done)
    except BaseException:
        remove(folder)
        with suppress(OSError):  # the first version of this name, and it failed
            done.parent.rmdir()
        raise


def shelve(folder: Path, done: Path) -> None:
    """Make a whole folder the version `done`, in one rename. Root gives it to who collects it."""
    folder.chmod(0o755)
    done.parent.mkdir(parents=True, exist_ok=True)
    done.parent.chmod(0o755)
    if not (done / MANIFEST).exists():
        remove(done)  # without a manifest: nobody's
    for path in (folder, done.parent):
        _give(path, done.parent.parent)
    folder.rename(done)


def _give(path: Path, image_dir: Path) -> None:
    """To the owner of the image folder, who may remove it then. Never the files: those of a build
    are its cache's own, under a second name."""
    if os.geteuid() == 0:
        status = image_dir.stat()
        os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)


def switch(done: Path) -> None:
    """Make `done` the current version; a reader sees the old one or the new one."""
    link = done.parent / f".{CURRENT}-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(done.name)
    _give(link, done.parent.parent)  # nginx follows a link only to what has the same owner
    link.replace(done.parent / CURRENT)


def _write(folder: Path, image: Image) -> None:
    (folder / MANIFEST).write_text(image.model_dump_json(indent=1) + "\n")
    for path in folder.iterdir():
        path.chmod(0o644)


def _link(source: Path, target: Path) -> ImageFile:
    """The same file under a second name where the file system can, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        return _append(source, target, b"")
    with target.open("rb") as file:
        return _digested(target.name, file, None)


def _append(source: Path, target: Path, site: bytes) -> ImageFile:
    """Copy, with `site` behind it from the next 4-byte border on."""
    with source.open("rb") as file, target.open("xb") as copy:
        return _digested(target.name, file, copy, site)


def _digested(name: str, file: IO[bytes], copy: IO[bytes] | None, site: bytes = b"") -> ImageFile:
    """Size and both digests in one pass over the file and what is appended to it."""
    short, long, size = hashlib.sha256(), hashlib.sha512(), 0

    def pieces() -> Iterator[bytes]:
        while chunk := file.read(CHUNK):
            yield chunk
        if site:
            yield cpio.padding(size) + site

    for piece in pieces():
        size += len(piece)
        short.update(piece)
        long.update(piece)
        if copy:
            copy.write(piece)
    return ImageFile(name=name, size=size, sha256=short.hexdigest(), sha512=long.hexdigest())
