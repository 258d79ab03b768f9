"""A disk image as it comes in: written, digested, gone on with after a cut or a kill.

Beside the part lies what its sender called this very file (ETag): only with that is it resumed
(RFC 9110, If-Range); else it begins anew.
"""

import errno
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Final

import httpx

from images.web import Broken, Login, Look, Web
from provisioning.errors import Conflict, Invalid
from provisioning.image import ImageFile
from provisioning.sources import told

GIB: Final = 1 << 30
CHUNK: Final = 1 << 20
SPARE: Final = GIB // 4
"""Bytes that stay free on the disk: our databases are there, too."""
STEP: Final = 4 << 20
"""Bytes after which each stream looks whether so much is free still: several come in at once."""
TRIES: Final = 5
PAUSE_SECONDS: Final = 2.0
TOTAL_SECONDS: Final = 6 * 3600.0
STALL_SECONDS: Final = 60.0
STALL_BYTES: Final = 1 << 20
"""Fewer than this in STALL_SECONDS is a stall."""
_OK, _PARTIAL, _UNSATISFIABLE = 200, 206, 416


class Stopped(Exception):
    """We were told to stop: what came so far stays."""


class Stalled(Broken):
    """Too little came for too long."""


class Part:
    """A file that grows, with its digests. alive: asked while what is there already is digested."""

    def __init__(self, path: Path, alive: Look) -> None:
        self.path = path
        self._file = path.open("ab")
        self._start()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                alive()
                self._digest(chunk)

    def _start(self) -> None:
        self._short, self._long, self.size = hashlib.sha256(), hashlib.sha512(), 0

    def _digest(self, chunk: bytes) -> None:
        self._short.update(chunk)
        self._long.update(chunk)
        self.size += len(chunk)

    def append(self, chunk: bytes) -> None:
        """Raises Conflict when the disk is full, or nearly."""
        try:
            if self.size // STEP != (self.size + len(chunk)) // STEP:
                self._check_free()
            self._file.write(chunk)
        except OSError as error:
            raise _full(error, self.path) from error
        self._digest(chunk)

    def _check_free(self) -> None:
        disk = os.fstatvfs(self._file.fileno())
        if disk.f_bavail * disk.f_frsize < SPARE:
            raise _no_space(self.path)

    def restart(self) -> None:
        self._file.truncate(0)
        self._start()

    def close(self) -> None:
        """What came is on the disk then, as far as it goes."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _full(error, self.path) from error
        finally:
            with suppress(OSError):
                self._file.close()

    def facts(self, name: str) -> ImageFile:
        return ImageFile(
            name=name, size=self.size, sha256=self._short.hexdigest(), sha512=self._long.hexdigest()
        )


def _full(error: OSError, path: Path) -> Exception:
    return _no_space(path) if error.errno in (errno.ENOSPC, errno.EDQUOT) else error


def _no_space(path: Path) -> Conflict:
    return Conflict("the disk became full while the image came in", f"df -h {path.parent}")


def check_space(folder: Path, size: int) -> None:
    """Raises Conflict where `size` more bytes do not fit."""
    free = shutil.disk_usage(folder).free
    if free < size + SPARE:
        raise Conflict(
            f"the image needs {size / GIB:.1f} GiB free in {folder}, there are {free / GIB:.1f}",
            f"df -h {folder}",
        )


@dataclass
class Receiver:
    """most: bytes of a file. progress: told (bytes so far, of so many or 0). alive: raises to end
    it, and is asked often."""

    web: Web
    most: int
    progress: Callable[[int, int], None]
    stopping: threading.Event
    alive: Look
    _validator: str = field(default="", init=False)

    def fetch(self, url: str, path: Path, sha256: str, login: Login | None = None) -> ImageFile:
        """The file at `path`, whole and right. Raises SeedError, Stopped."""
        until, tries = time.monotonic() + TOTAL_SECONDS, 0
        part = Part(path, self.alive)
        try:
            if part.facts("disk").sha256 == sha256:  # killed after it was whole
                return part.facts("disk")
            self._validator = _kept(path, url)
            if not self._validator:
                part.restart()
            while True:
                before = part.size
                try:
                    self._once(url, part, until, login)
                    break
                except Broken as error:
                    little = STALL_BYTES if isinstance(error, Stalled) else 0
                    tries = 1 if part.size > before + little else tries + 1
                    if tries >= TRIES or time.monotonic() > until:
                        raise _given_up(error, part) from error
                    if self.stopping.wait(PAUSE_SECONDS):
                        raise Stopped from error
        finally:
            part.close()
        return _right(part, sha256, told(url).rpartition("/")[2])

    def _once(self, url: str, part: Part, until: float, login: Login | None) -> None:
        headers = {}
        if part.size and self._validator:
            headers = {"Range": f"bytes={part.size}-", "If-Range": self._validator}
        with self.web.get(url, headers, login, self._progressing(part)) as answer:
            if answer.status_code == _UNSATISFIABLE:  # it is shorter than what we have
                part.restart()
                self._validator = ""
                raise Broken("the file there became another one")
            total = self._begin(url, answer, part)
            self._receive(answer, part, total, until)
        if total and part.size < total:
            raise Broken(f"it ended after {part.size} of {total} bytes")

    def _progressing(self, part: Part) -> Look:
        """Raises Stalled, and what `alive` does."""
        size, at = part.size, time.monotonic()

        def look() -> None:
            nonlocal size, at
            self.alive()
            if not size <= part.size < size + STALL_BYTES:  # less: it was begun anew
                size, at = part.size, time.monotonic()
            elif time.monotonic() > at + STALL_SECONDS:
                raise Stalled(
                    f"it stalled: less than {STALL_BYTES >> 20} MiB came in {STALL_SECONDS:.0f} s"
                )

        return look

    def _begin(self, url: str, answer: httpx.Response, part: Part) -> int:
        """Where to write, and how much is to come in all; 0: nobody said."""
        if answer.status_code not in (_OK, _PARTIAL):
            raise _refused(url, answer.status_code)
        if (coding := answer.headers.get("content-encoding", "identity")) != "identity":
            raise Invalid(
                f"the file comes packed ({coding[:40]}), though we asked for it as it is",
                "Give a URL whose server does not pack.",
            )
        first = part.size if answer.status_code == _PARTIAL else 0
        if answer.status_code == _PARTIAL and not _continues(answer, part.size):
            raise Invalid(
                "the server sends another part of the file than we asked for",
                "Fetch it by hand, then: seed image add NAME FILE --sha256 DIGEST",
            )
        if answer.status_code == _OK and part.size:
            part.restart()
        length = answer.headers.get("content-length", "")
        total = first + int(length) if length.isdigit() else 0
        self._check_size(total)
        check_space(part.path.parent, max(0, total - part.size))
        self._validator = _strong(answer.headers.get("etag", ""))
        _keep(part.path, url, self._validator)
        return total

    def _receive(self, answer: httpx.Response, part: Part, total: int, until: float) -> None:
        for chunk in answer.iter_raw():
            self._check_size(part.size + len(chunk))
            part.append(chunk)
            self.progress(part.size, total)
            self.alive()
            if time.monotonic() > until:
                raise Broken(f"it took more than {TOTAL_SECONDS / 3600:.0f} hours")

    def _check_size(self, size: int) -> None:
        if size > self.most:
            raise Invalid(
                f"the file is larger than {self.most / GIB:g} GiB",
                "Raise `most_gib` of `[images]` in seed.toml, or take a smaller one (qcow2).",
            )

    def copy(self, source: Path, path: Path, sha256: str) -> ImageFile:
        """The same of a file that somebody uploaded, digested as it is copied."""
        path.unlink(missing_ok=True)
        if not source.exists():
            raise Invalid("what was uploaded is not here any more", "seed image add NAME FILE")
        total = source.stat().st_size
        self._check_size(total)
        check_space(path.parent, total)
        part = Part(path, self.alive)
        try:
            with source.open("rb") as file:
                self._copy(iter(lambda: file.read(CHUNK), b""), part, total)
        finally:
            part.close()
        return _right(part, sha256, "what was uploaded")

    def _copy(self, chunks: Iterable[bytes], part: Part, total: int) -> None:
        for chunk in chunks:
            part.append(chunk)
            self.progress(part.size, total)
            self.alive()


def _right(part: Part, sha256: str, named: str) -> ImageFile:
    facts = part.facts("disk")
    if facts.sha256 != sha256:
        part.path.unlink()
        raise Invalid(
            f"{named or 'the file'} is not the file asked for: its SHA-256 is {facts.sha256}, "
            f"not {sha256}",
            "Compare the digest with its maker's list, then add it again.",
        )
    return facts


def _refused(url: str, status: int) -> Exception:
    if status >= 500 or status == 429:
        return Broken(f"it answered {status}")
    return Invalid(f"the server answered {status} to {told(url)}", f"curl -I {quote(told(url))}")


def _given_up(error: Broken, part: Part) -> Conflict:
    return Conflict(
        f"given up after {TRIES} tries, with {part.size} bytes received: {error}",
        "Look at the server, then add the image again, or fetch it by hand: "
        "seed image add NAME FILE --sha256 DIGEST",
    )


def _continues(answer: httpx.Response, size: int) -> bool:
    return bool(answer.headers.get("content-range", "").startswith(f"bytes {size}-"))


def _strong(etag: str) -> str:
    """Weak ones say that two files are alike, not the same (RFC 9110, 8.8.1)."""
    return etag if etag.startswith('"') and len(etag) < 256 else ""


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.from")


def _keep(path: Path, url: str, validator: str) -> None:
    _beside(path).write_text(json.dumps({"url": url, "validator": validator}))


def _kept(path: Path, url: str) -> str:
    """What an earlier process was told of the part that lies there."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(_beside(path).read_text())
        return str(known["validator"]) if known["url"] == url else ""
    return ""
