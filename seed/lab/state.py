"""Where a lab keeps its things, and the processes it started."""

import json
import os
import secrets
import signal
import string
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from provisioning.errors import HostError, Invalid

MARK = "SEED_LAB_STATE"
"""In the environment of every process a lab starts: the lab's state directory."""


@dataclass(frozen=True)
class Layout:
    """Paths below one lab's state directory."""

    root: Path

    def __post_init__(self) -> None:
        if len(str(self.libvirt_socket)) > 100:  # sockaddr_un takes 107
            raise Invalid(
                f"the state directory's path {self.root} is too long for a socket in it",
                "seed lab up --state-dir /var/lib/seed-lab/short",
            )

    @property
    def libvirt(self) -> Path:
        return self.root / "libvirt"

    @property
    def libvirt_socket(self) -> Path:
        return self.libvirt / "run" / "libvirt-sock"

    @property
    def libvirt_uri(self) -> str:
        return f"qemu+unix:///system?socket={self.libvirt_socket}"

    @property
    def password_file(self) -> Path:
        return self.root / "bmc-password"

    @property
    def record(self) -> Path:
        """The scenario of the running lab, and its namespace's identity."""
        return self.root / "lab.json"

    @property
    def python_path(self) -> Path:
        """Holds a link to this package alone, for the BMCs' own environment."""
        return self.root / "python"

    @property
    def cabling(self) -> Path:
        """Which NIC's cable is in which port, by MAC."""
        return self.root / "cabling.json"

    @property
    def parts(self) -> Path:
        """Which servers have other parts than in the scenario."""
        return self.root / "parts.json"

    @property
    def frames(self) -> Path:
        """What the switches send: LLDP frames in hex, by interface."""
        return self.root / "frames.json"

    def console(self, server: str) -> Path:
        return self.root / "console" / f"{server}.log"

    def bmc(self, server: str) -> Path:
        return self.root / "bmc" / server

    def disk(self, server: str, number: int) -> Path:
        return self.root / "vm" / f"{server}-{number}.qcow2"

    def nvram(self, server: str) -> Path:
        # The Redfish emulator renames other suffixes when the boot mode is set.
        return self.root / "vm" / f"{server}.nosecboot.fd"

    def domain_xml(self, server: str, first: str) -> Path:
        """The domain with its network or its disk first in boot order."""
        return self.root / "vm" / f"{server}-{first}.xml"

    def log(self, service: str) -> Path:
        return self.root / "log" / f"{service}.log"

    def pid_file(self, service: str) -> Path:
        return self.root / "pid" / f"{service}.json"

    def make(self) -> None:
        """Create every directory; only root may look inside."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        for name in ("bmc", "console", "log", "pid", "python", "vm"):
            (self.root / name).mkdir(exist_ok=True)

    def password(self) -> str:
        """The lab's BMC password, made once. 16 characters: IPMI 1.5 knows no more."""
        if not self.password_file.exists():
            alphabet = string.ascii_letters + string.digits
            write_secret(
                self.password_file, "".join(secrets.choice(alphabet) for _ in range(16)) + "\n"
            )
        return self.password_file.read_text().strip()


def write_secret(path: Path, text: str) -> None:
    """Write a file that only root can read, whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def started_at(pid: int) -> int | None:
    """The process's start time in clock ticks since boot, None if it is gone or a zombie."""
    try:
        # The command's name, in parentheses, may hold anything; the fields come after it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


class Processes:
    """The lab's long-running processes, one pid file each."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def pid(self, service: str) -> int | None:
        """The service's pid, if the process we started still runs."""
        try:
            record = json.loads(self.layout.pid_file(service).read_text())
        except (OSError, ValueError):
            return None
        alive = started_at(record["pid"]) == record["started"]
        return int(record["pid"]) if alive else None

    def start(self, service: str, argv: list[str], extra: dict[str, str] | None = None) -> None:
        """Start `argv` in a session of its own, output to its log. Does nothing if it runs."""
        if self.pid(service):
            return
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            MARK: str(self.layout.root),
            **(extra or {}),
        }
        with self.layout.log(service).open("ab") as log:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        record = {"pid": process.pid, "started": started_at(process.pid)}
        self.layout.pid_file(service).write_text(json.dumps(record))

    def wait_ready(self, service: str, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `ready`; HostError with the log's place if the process dies or is late."""

        def ready_or_dead() -> bool:
            return ready() or self.pid(service) is None

        if not wait_for(ready_or_dead, seconds) or not ready():
            raise HostError(
                f"the lab's {service} did not come up", f"tail {self.layout.log(service)}"
            )

    def stop(self, service: str, seconds: float = 10.0) -> None:
        """Stop the service and forget it; SIGKILL if it has not gone after `seconds`."""
        pid = self.pid(service)
        if pid is not None:
            stop_pid(pid, seconds)
        self.layout.pid_file(service).unlink(missing_ok=True)

    def services(self) -> list[str]:
        """Names of all services that have a pid file."""
        return sorted(path.stem for path in (self.layout.root / "pid").glob("*.json"))

    def strays(self) -> list[int]:
        """Our processes that no pid file names: left by a crash between start and record."""
        mark = f"{MARK}={self.layout.root}".encode()
        disks = f"{self.layout.root}/".encode()
        return [pid for pid in _pids() if _is_ours(pid, mark, disks)]


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _is_ours(pid: int, mark: bytes, disks: bytes) -> bool:
    """Whether the process carries our mark, or is a QEMU on one of our disks."""
    if pid == os.getpid():
        return False
    try:
        if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return True
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"qemu-system" in command.split(b"\0")[0] and disks in command


def stop_pid(pid: int, seconds: float) -> None:
    """SIGTERM, and SIGKILL after `seconds`; returns when the process is gone."""
    born = started_at(pid)
    if born is None:
        return

    def gone() -> bool:
        _reap(pid)
        return started_at(pid) != born

    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        if wait_for(gone, seconds):
            return


def _reap(pid: int) -> None:
    """Collect the process if it is this one's own child."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll `condition` until it holds; False after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
