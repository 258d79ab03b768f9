"""A place where a foreign file can be looked at: no network, nothing to read but it, no way out.

bubblewrap makes it out of namespaces, as whoever runs us, without any right: user, network, mount,
process and IPC namespaces of its own, no capability, a read-only root of /usr, this environment and
the file. prlimit caps processor time, memory, processes and files; nothing can be written, and who
says too much is ended. See ADR 0034.
"""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from provisioning.errors import HostError

CPU_SECONDS: Final = 60
MEMORY: Final = 1 << 30
WALL_SECONDS: Final = 600  # reading the tables of a large qcow2 from a slow disk
MOST_SAID: Final = 1 << 16  # bytes of stdout, and of stderr
PROCESSES: Final = 256  # with threads, of which qemu-img may start 64
DISK: Final = "/disk"
"""Where the file is, inside."""
_MERGED: Final = ("bin", "sbin", "lib", "lib64")


class Broke(Exception):
    """What ran inside ended badly; `said` is the end of what it wrote to stderr."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


def run(argv: Sequence[str], file: Path, *more: Path) -> str:
    """What `argv` prints, run in the jail with `file` as /disk; `more` is there under its own path.

    Raises Broke if it failed or went over a limit, HostError if this machine makes no jail.
    """
    walls = [
        "bwrap", "--unshare-user", "--unshare-all", "--die-with-parent", "--new-session",
        "--cap-drop", "ALL", "--uid", "65534", "--gid", "65534", "--clearenv",
        "--setenv", "LC_ALL", "C.UTF-8", "--ro-bind", "/usr", "/usr",
    ]  # fmt: skip
    for name in _MERGED:
        if Path("/", name).exists():
            walls += ["--symlink", f"usr/{name}", f"/{name}"]
    for path in more:
        walls += ["--ro-bind", str(path), str(path)]
    walls += ["--dev-bind", "/dev/null", "/dev/null", "--ro-bind", str(file), DISK]
    walls += ["--remount-ro", "/", "--chdir", "/", "--"]
    limits = [
        "prlimit", f"--cpu={CPU_SECONDS}", f"--as={MEMORY}", "--fsize=0", "--core=0",
        "--nofile=64", f"--nproc={PROCESSES}", "--",
    ]  # fmt: skip
    return _ended([*walls, *limits, *argv])


def _ended(argv: list[str]) -> str:
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            process_group=0,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise HostError(
            "disk images are looked at in a jail, and bubblewrap is not installed",
            "apt-get install bubblewrap",
        ) from error
    with process:
        try:
            out, said = _heard(process)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode and said.startswith("bwrap: "):
        raise HostError(
            f"this machine makes no jail for disk images: {said.splitlines()[0]}",
            "sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000",
        )
    if process.returncode:
        lines = said.strip().splitlines()
        raise Broke(lines[-1] if lines else f"it ended with {process.returncode}")
    return out


def _heard(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """What it writes to stdout and stderr until it ends. Raises Broke for too much or too late."""
    late = Broke(f"it took more than {WALL_SECONDS} s")
    until, said = time.monotonic() + WALL_SECONDS, {1: bytearray(), 2: bytearray()}
    with selectors.DefaultSelector() as open_ones:
        for number, pipe in ((1, process.stdout), (2, process.stderr)):
            if pipe:
                open_ones.register(pipe, selectors.EVENT_READ, number)
        while open_ones.get_map():
            ready = open_ones.select(until - time.monotonic())
            if time.monotonic() >= until:
                raise late
            for key, _ in ready:
                if not _more(key.fd, said[key.data]):
                    open_ones.unregister(key.fileobj)
    try:
        process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise late from None
    return said[1].decode(errors="replace"), said[2].decode(errors="replace")


def _more(pipe: int, said: bytearray) -> bool:
    """Read on; False at the end. Raises Broke."""
    piece = os.read(pipe, MOST_SAID)
    said += piece
    if len(said) > MOST_SAID:
        raise Broke(f"it says more than {MOST_SAID >> 10} KiB")
    return bool(piece)


def python(script: Path, file: Path) -> str:
    """What a script of ours prints about the file, by this very interpreter and its libraries."""
    here = {Path(sys.prefix), Path(sys.base_prefix)} - {Path("/usr")}
    # -I: neither the environment nor the working folder; -B: nothing is written.
    return run([sys.executable, "-I", "-B", str(script), DISK], file, script, *sorted(here))
