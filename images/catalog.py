"""Publish images: <image_dir>/<name>/<version>/ is complete from the moment it exists.

What lies in image_dir is seed-images', who has no other rights, and root publishes there too. So
root makes a version in a folder of its own beside it, and goes into image_dir by descriptors only:
a link that somebody puts there leads it nowhere.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from images import cpio
from images.build import GIB, SBOM, Build
from images.diskfile import DiskFile, verify
from images.workbench import remove
from provisioning.errors import HostError, Invalid
from provisioning.image import CURRENT, MANIFEST, NAME_PATTERN, Image, ImageFile, check_disk_name

CHUNK = 1 << 20
STAGING = ".publishing"
"""Beside image_dir, root's alone; there while something is published."""
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
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
    made = read(image_dir, build.recipe, done.name, MANIFEST)
    if made is None:
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
            image = _image(build, done.name, files)
            _write(folder, image)
    else:
        image = Image.model_validate_json(made)
    switch(done)
    return image


def publish_file(path: Path, name: str, sha256: str, image_dir: Path, ssh_user: str = "") -> Image:
    """Publish a whole-disk image that somebody brings, raw or qcow2.

    sha256: what its maker says, hex. ssh_user: the login it makes for the caller's keys, if known.
    The file is copied, so that it cannot change later. Raises Invalid for a name, file or digest
    that is not right, and HostError without the space for it; nothing of it stays then.
    """
    sha256 = sha256.strip().lower()
    _check_asked(path, name, sha256)
    check_disk_name(image_dir, name)
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


def read(image_dir: Path, *names: str) -> bytes | None:
    """The file image_dir/<names>, by no link; None if there is none such."""
    with ExitStack() as opened:
        try:
            fd = _open(opened, image_dir, FOLDER)
            for name in names[:-1]:
                fd = _open(opened, name, FOLDER, fd)
            # A pipe that somebody put there is empty, and keeps nobody waiting.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = _open(opened, names[-1], flags, fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _no_folder(image_dir.joinpath(*names), error) from error
        with os.fdopen(os.dup(file), "rb") as content:
            return content.read()


def _open(opened: ExitStack, path: str | Path, flags: int, within: int | None = None) -> int:
    fd = os.open(path, flags, dir_fd=within)
    opened.callback(os.close, fd)
    return fd


def _no_folder(path: Path, error: OSError) -> HostError:
    """For what open(2) says of a link where none may be; other errors are what they are."""
    if error.errno not in (errno.ELOOP, errno.ENOTDIR):
        raise error
    return HostError(
        f"there is a link on the way to {path}, and Seed makes none there",
        f"ls -ld {path.parent} {path}; remove the link",
    )


@contextmanager
def _within(folder: Path) -> Iterator[int]:
    """Descriptor of <image_dir>/<name>, which is made if need be, for all to read and image_dir's
    owner's. Raises HostError where one of them is a link."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened:
        try:
            shelf = _open(opened, folder.parent, FOLDER)
            with suppress(FileExistsError):
                os.mkdir(folder.name, dir_fd=shelf)
            fd = _open(opened, folder.name, FOLDER, shelf)
        except OSError as error:
            raise _no_folder(folder, error) from error
        _give(fd, folder.parent)
        os.fchmod(fd, 0o755)
        yield fd


@contextmanager
def _staging(image_dir: Path) -> Iterator[Path]:
    """A folder that nobody else gets into, on the file system of image_dir; one publication at a
    time has it, and what a killed one left is gone."""
    image_dir.mkdir(parents=True, exist_ok=True)
    place = image_dir.parent / STAGING
    with ExitStack() as opened:
        while True:
            place.mkdir(mode=0o700, exist_ok=True)
            with suppress(FileNotFoundError):  # the publication before us removed it
                fd = _open(opened, place, FOLDER)
                fcntl.flock(fd, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(fd), place.stat()):
                    break
        if image_dir.stat().st_dev != os.fstat(fd).st_dev:
            place.rmdir()
            raise HostError(
                f"{image_dir} is a file system of its own: nothing gets there in one step",
                f"findmnt -T {image_dir}; mount it at {image_dir.parent} instead",
            )
        for left in place.iterdir():
            remove(left)
        try:
            yield place
        finally:
            with suppress(OSError):
                place.rmdir()


@contextmanager
def _shelved(done: Path, size: int) -> Iterator[Path]:
    """A folder that becomes `done` at the end, in one rename, or leaves nothing behind."""
    with _staging(done.parent.parent) as place:
        free = shutil.disk_usage(place).free
        if free < size + GIB // 4:
            raise HostError(
                f"publishing needs {size / GIB:.1f} GiB free in {done.parent.parent}, "
                f"there are {free / GIB:.1f}",
                f"df -h {done.parent.parent}",
            )
        folder = Path(tempfile.mkdtemp(prefix="new-", dir=place))
        try:
            yield folder
            shelve(folder, done)
        except BaseException:
            remove(folder)
            with suppress(OSError):  # the first version of this name, and it failed
                done.parent.rmdir()
            raise


def shelve(folder: Path, done: Path) -> None:
    """Make a whole folder the version `done`, in one rename. Root gives it to who collects it.

    folder: where nobody gets in who may not write as the caller.
    """
    folder.chmod(0o755)
    whole = read(done.parent.parent, done.parent.name, done.name, MANIFEST) is not None
    with _within(done.parent) as shelf:
        if not whole:  # without a manifest: nobody's
            with suppress(FileNotFoundError):
                shutil.rmtree(done.name, dir_fd=shelf)
        if os.geteuid() == 0:
            owner = done.parent.parent.stat()
            os.chown(folder, owner.st_uid, owner.st_gid, follow_symlinks=False)
        os.rename(folder, done.name, dst_dir_fd=shelf)


def _give(fd: int, image_dir: Path) -> None:
    """To the owner of the image folder, who may remove it then. Never the files: those of a build
    are its cache's own, under a second name."""
    if os.geteuid() == 0:
        status = image_dir.stat()
        os.chown(f"/proc/self/fd/{fd}", status.st_uid, status.st_gid)


def switch(done: Path) -> None:
    """Make `done` the current version; a reader sees the old one or the new one."""
    link = f".{CURRENT}-{os.getpid()}"
    with _within(done.parent) as shelf, ExitStack() as opened:
        with suppress(FileNotFoundError):
            os.unlink(link, dir_fd=shelf)
        os.symlink(done.name, link, dir_fd=shelf)
        # nginx follows a link only to what has the same owner. What is given is the link that was
        # opened, and nothing that somebody put in its place: an O_PATH descriptor is of itself.
        fd = _open(opened, link, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, shelf)
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            _give(fd, done.parent.parent)
        os.replace(link, CURRENT, src_dir_fd=shelf, dst_dir_fd=shelf)


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
