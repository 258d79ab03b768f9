"""Tar, written alike each time and read strictly; and folders that are there whole or not at all.

A bundle's archive holds plain files of ustar (POSIX.1-1988) alone and is read header by header:
tarfile would also read links, devices, and extended headers of any length into memory.
"""

import errno
import fcntl
import gzip
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from images.receiving import GIB, SPARE
from provisioning.errors import Conflict, HostError, Invalid

CHUNK: Final = 1 << 20
MOST_PADDING: Final = 1 << 20
"""Zeros behind the last file; GNU tar's own are 10 KiB."""
Say = Callable[[str], None]
"""Told one short line, often: how far a file is."""
AGAIN: Final = "Copy it again; `sha256sum` of it is what was told where it was made."
NEW: Final = ".new-"
MAKING: Final = ".make-"
KEPT_SECONDS: Final = 7 * 86400.0
"""So long stays what a `make` fetched that failed: the next one goes on with it."""
_KINDS: Final = {
    tarfile.LNKTYPE: "a hard link", tarfile.SYMTYPE: "a symbolic link", tarfile.DIRTYPE: "a folder",
    tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a pipe",
}  # fmt: skip


# --- tar ------------------------------------------------------------------------------------------


def write(out: IO[bytes], entries: Iterable[tuple[str, Path | bytes, int]]) -> None:
    """name, content and mode of each; owner 0 and time 0: the same entries are the same bytes."""
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content, mode in entries:
            info = tarfile.TarInfo(name)
            info.mode = mode
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
                continue
            info.size = content.stat().st_size
            with content.open("rb") as file:
                tar.addfile(info, file)


class _Hashed:
    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self.digest.update(piece)
        return piece


class Strict:
    """A tar, plain or in gzip, read once from its beginning. Raises Invalid for all that a bundle's
    archive has not."""

    def __init__(self, file: IO[bytes]) -> None:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self._raw = _Hashed(file)
        self._stream: Any = gzip.GzipFile(fileobj=self._raw, mode="rb") if packed else self._raw  # type: ignore[call-overload]

    def entries(self) -> Iterator[tuple[str, int]]:
        """Name and size of each file; whoever takes one reads its `pieces` before the next."""
        last = "its first header"
        while True:
            block = self._read(tarfile.BLOCKSIZE, last)
            if not any(block):
                self._end()
                return
            try:
                info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except (tarfile.HeaderError, ValueError) as error:
                raise Invalid(f"the archive is no tar, or damaged, behind {last}", AGAIN) from error
            last = ascii(info.name)
            if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                kind = _KINDS.get(info.type, "no plain file")
                raise Invalid(f"{last} in the archive is {kind}, and plain files are taken", AGAIN)
            yield info.name, info.size
            self._read(-info.size % tarfile.BLOCKSIZE, last)

    def pieces(self, name: str, size: int) -> Iterator[bytes]:
        while size > 0:
            piece = self._read(min(size, CHUNK), ascii(name))
            size -= len(piece)
            yield piece

    def sha256(self) -> str:
        """Of the archive as it lies there, once it was read to its end."""
        return self._raw.digest.hexdigest()

    def _read(self, size: int, where: str) -> bytes:
        """Exactly so much."""
        piece = self._some(size)
        if len(piece) < size:
            raise Invalid(f"the archive was cut off at {where}", AGAIN)
        return piece

    def _some(self, size: int) -> bytes:
        try:
            piece: bytes = self._stream.read(size)
            while piece and len(piece) < size and (more := self._stream.read(size - len(piece))):
                piece += more
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise Invalid("the archive is damaged, or was cut off", AGAIN) from error
        return piece

    def _end(self) -> None:
        rest = self._some(MOST_PADDING + 1)
        if any(rest) or len(rest) > MOST_PADDING:
            raise Invalid("there is more in the archive behind its end", AGAIN)


# --- folders that are whole, or not there ---------------------------------------------------------


def quiet(_: str) -> None:
    """Say nothing."""


def far(name: str, done: int, total: int) -> str:
    of = f" of {total / 10**6:.0f} MB ({100 * done // total} %)" if total else " MB"
    return f"{name}: {done / 10**6:.0f}{of}"


def store(target: Path, pieces: Iterable[bytes], name: str, total: int, say: Say) -> str:
    """Write a new file, down to the disk; its SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, done = hashlib.sha256(), 0
    with target.open("xb") as file:
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
            done += len(piece)
            say(far(name, done, total))
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def check_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + SPARE:
        raise Conflict(
            f"the bundle needs {size / GIB:.1f} GiB free in {folder.parent}, there are "
            f"{free / GIB:.1f}",
            f"df -h {folder.parent}",
        )


@contextmanager
def stage(root: Path, kept: str = "") -> Iterator[Path]:
    """A hidden folder that is gone at the end. kept: the name of one that stays if all fails."""
    try:
        with ExitStack() as held:
            root.mkdir(parents=True, exist_ok=True)
            root.chmod(0o755)  # whatever the umask is
            _sweep(root)
            place = _hold(root, kept, held)
            try:
                yield place
            except BaseException:
                if not kept:
                    shutil.rmtree(place)
                raise
            shutil.rmtree(place)
    except PermissionError as error:
        raise HostError(
            f"{error.filename or root} may not be read or written by this user",
            "sudo seed bundle list",
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Conflict("the disk became full", f"df -h {root}") from error


def _hold(root: Path, kept: str, held: ExitStack) -> Path:
    while True:
        place = root / kept if kept else Path(tempfile.mkdtemp(prefix=NEW, dir=root))
        place.mkdir(mode=0o700, exist_ok=True)
        lock = _lock(place)
        if lock is None and kept:
            raise Conflict(f"{kept.removeprefix(MAKING)} is being made", "seed bundle list, later")
        if lock is not None:
            held.callback(os.close, lock)
            with suppress(FileNotFoundError):  # swept between the two
                if os.path.samestat(os.fstat(lock), place.stat()):
                    os.utime(place)
                    return place


def _lock(place: Path) -> int | None:
    """Of a folder, for as long as the descriptor is open; None: somebody else has it."""
    try:
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _sweep(root: Path) -> None:
    """What the killed left; of what they fetched only the old."""
    old = time.time() - KEPT_SECONDS
    for place in [*root.glob(f"{NEW}*"), *root.glob(f"{MAKING}*")]:
        with suppress(FileNotFoundError):
            if place.name.startswith(NEW) or place.stat().st_mtime < old:
                if (lock := _lock(place)) is not None:
                    shutil.rmtree(place, ignore_errors=True)
                    os.close(lock)
