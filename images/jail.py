"""A place where a foreign file can be looked at: no network, nothing to read but it, no way out.

bubblewrap makes it out of namespaces, as whoever runs us, without any right: user, network, mount,
process and IPC namespaces of its own, no capability, a read-only root of /usr, this environment and
the file. prlimit caps processor time, memory and files; nothing can be written. See ADR 0034.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from provisioning.errors import HostError

CPU_SECONDS: Final = 60
MEMORY: Final = 1 << 30
WALL_SECONDS: Final = 600  # reading the tables of a large qcow2 from a slow disk
MOST_SAID: Final = 1 << 16  # characters that anybody reads of an answer
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
        "--nofile=64", "--",
    ]  # fmt: skip
    return _ended([*walls, *limits, *argv])


def _ended(argv: list[str]) -> str:
    try:
        done = subprocess.run(
            argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=WALL_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise HostError(
            "disk images are looked at in a jail, and bubblewrap is not installed",
            "apt-get install bubblewrap",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise Broke(f"it took more than {WALL_SECONDS} s") from error
    out, said = (text.decode(errors="replace")[:MOST_SAID] for text in (done.stdout, done.stderr))
    if done.returncode and said.startswith("bwrap: "):
        raise HostError(
            f"this machine makes no jail for disk images: {said.splitlines()[0]}",
            "sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000",
        )
    if done.returncode:
        lines = said.strip().splitlines()
        raise Broke(lines[-1] if lines else f"it ended with {done.returncode}")
    return out


def python(script: Path, file: Path) -> str:
    """What a script of ours prints about the file, by this very interpreter and its libraries."""
    here = {Path(sys.prefix), Path(sys.base_prefix)} - {Path("/usr")}
    # -I: neither the environment nor the working folder; -B: nothing is written.
    return run([sys.executable, "-I", "-B", str(script), DISK], file, script, *sorted(here))
