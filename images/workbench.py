"""Where one build happens: a folder, a kept log, and commands with a time limit."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import IO

from images.extras import Extras
from provisioning.errors import HostError

Progress = Callable[[str], None]
Argv = list[str | Path]

# Debian's own tools, whatever the caller's PATH and language are.
SBIN = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def words(text: str) -> tuple[str, ...]:
    """The words of a table in a text; "#" starts a comment that ends with its line."""
    return tuple(word for line in text.splitlines() for word in line.split("#")[0].split())


@dataclass(frozen=True, slots=True)
class Tools:
    """Programs from a root file system beside the cache (images.tools); with none, this machine's.

    versions: Debian package -> version, of the programs and their libraries.
    """

    root: Path | None = None
    versions: dict[str, str] = field(default_factory=dict)

    def argv(self, program: str, *rest: str | Path) -> Argv:
        """A command line that runs `program` of these tools."""
        if self.root is None:
            return [program, *rest]
        found = next(p for f in ("usr/sbin", "usr/bin") if (p := self.root / f / program).exists())
        libraries = self.root / "usr/lib/x86_64-linux-gnu"
        return [libraries / "ld-linux-x86-64.so.2", "--library-path", libraries, found, *rest]


@dataclass(frozen=True, slots=True)
class Workbench:
    """What a recipe builds with.

    work:     scratch folder, removed afterwards.
    out:      folder for the files that make up the image.
    sources:  apt source lines (images.mirror).
    log:      file that everything said by external commands is appended to.
    progress: told one short line per step.
    shelf:    folder of this recipe in the cache; what is made faster by it is kept there.
    extras:   what this site adds. inputs: the build's digest.
    fresh:    nothing is taken from an earlier build. mirror: of a distribution that is not Debian.
    expected: step -> seconds it took last time; phases: the steps so far and when they began.
    """

    name: str
    work: Path
    out: Path
    sources: tuple[str, ...]
    log: Path
    progress: Progress
    environment: dict[str, str] = field(default_factory=dict)
    tools: Tools = field(default_factory=Tools)
    shelf: Path = Path()
    extras: Extras = field(default_factory=Extras)
    inputs: str = ""
    fresh: bool = False
    mirror: str = ""
    expected: dict[str, float] = field(default_factory=dict)
    phases: list[tuple[str, float]] = field(default_factory=list)
    clearing: list[Thread] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """The image's root file system while it is being made."""
        return self.work / "root"

    def step(self, what: str) -> None:
        """Say what comes next, to the person who waits and to the log."""
        now = time.monotonic()
        began = self.phases[0][1] if self.phases else now
        done = sum(self.expected.get(name, 0) for name, _ in self.phases)
        whole = sum(self.expected.values())
        share = f"{min(99, round(100 * done / whole)):3d} % " if whole else ""
        self.phases.append((what, now))
        self.progress(f"{self.name}: {share}{what} ({now - began:.0f} s)")
        self.note([f"--- {time.strftime('%H:%M:%S')} {what}"])

    def discard(self, path: Path) -> None:
        """Delete what is not needed any more beside the work that goes on: 50,000 files take as
        long as writing them. `cleared` waits for it."""
        thread = Thread(target=remove, args=(path,))
        self.clearing.append(thread)
        thread.start()

    def cleared(self) -> None:
        for thread in self.clearing:
            thread.join()

    def note(self, lines: list[str]) -> None:
        """Write lines to the log."""
        with self.log.open("a") as log:
            log.writelines(f"{line}\n" for line in lines)

    def seconds(self) -> dict[str, float]:
        """Step -> seconds it took; the last one ends now."""
        ends = [*(start for _, start in self.phases[1:]), time.monotonic()]
        taken: dict[str, float] = {}
        for (what, start), end in zip(self.phases, ends, strict=True):
            taken[what] = round(taken.get(what, 0) + end - start, 1)
        return taken

    def run(
        self,
        argv: Sequence[str | Path],
        seconds: float,
        given: str = "",
        cwd: Path | None = None,
        *,
        aside: bool = False,
    ) -> str:
        """Run a command for at most `seconds`; return its standard output.

        given: its standard input. aside: its standard output goes to the log too. Raises HostError
        if it is missing, fails or takes too long; no process of it is left then.
        """
        command = [str(word) for word in argv]
        with self.log.open("a") as log:
            log.write(f"$ {' '.join(command)[:2000]}\n")
            log.flush()
            process = self._start(command, log, cwd, aside=aside)
            try:
                said, _ = process.communicate(given, timeout=seconds)
            except BaseException as error:
                _end(process)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise self._failed(command[0], f"took longer than {seconds:.0f} s") from error
                raise
        if process.returncode != 0:
            raise self._failed(command[0], f"failed with exit code {process.returncode}")
        return said or ""

    def _start(
        self, command: list[str], log: IO[str], cwd: Path | None, *, aside: bool
    ) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PATH": SBIN,
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            **self.environment,
        }
        try:
            return subprocess.Popen(
                command,
                cwd=cwd or self.work,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log if aside else subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise HostError(
                f"{command[0]} is needed to build {self.name} and is not installed", "make packages"
            ) from error

    def _failed(self, program: str, why: str) -> HostError:
        return HostError(
            f"building {self.name}: {Path(program).name} {why}", f"tail -n 50 {self.log}"
        )


def _end(process: subprocess.Popen[str]) -> None:
    """Kill the command and all it started: mmdebstrap has children of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()


def _mounts() -> list[str]:
    return Path("/proc/self/mounts").read_text().splitlines()


def is_below(name: str, folder: Path) -> bool:
    """name: as /proc/self/mounts writes it, spaces as \\040."""
    return name.startswith(f"{folder.resolve()}/".replace(" ", "\\040"))


def size_of(path: Path) -> int:
    """Bytes in the files of a folder (or of one file), counted once per hard link, links unread."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size if path.exists() or path.is_symlink() else 0
    seen: dict[tuple[int, int], int] = {}
    for entry in path.rglob("*"):
        status = entry.lstat()
        if not entry.is_dir():
            seen[status.st_dev, status.st_ino] = status.st_size
    return sum(seen.values())


def remove(path: Path) -> None:
    """Delete a file or a whole folder; being absent already is fine.

    A folder that something is mounted in is left: what is deleted there would be another's.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    inside = [where for line in _mounts() if is_below(where := line.split()[1], path)]
    if inside:
        raise HostError(f"something is mounted in {path}", f"umount {' '.join(inside[::-1])}")
    shutil.rmtree(path)


def keep_newest(shelf: Path, mark: str, kept: int, going: str) -> None:
    """Delete the folders of `shelf` with a file `mark`, but the `kept` whose mark is the newest.

    going: begins the name of what goes, so that a kill leaves nothing that looks whole. What cannot
    go stays: the build that looks has succeeded.
    """
    marks = sorted(shelf.glob(f"*/{mark}"), key=lambda path: path.stat().st_mtime)
    for path in marks[:-kept]:
        with suppress(OSError, HostError):
            remove(path.parent.rename(shelf / f"{going}{path.parent.name}"))
