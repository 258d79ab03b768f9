"""Playbooks of kinds and installers, run by ansible-runner as a child of the reconciler.

A run's folder is ansible-runner's own: what goes in, and the artifacts of each try, which this
reads as they grow. So a reconciler that comes after the one that began a run goes on with it. A
lock that the child inherits says whether it lives. All files are 0600: inputs have the SSH key,
and what Ansible says may have anything.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal, TypedDict, cast

from provisioning.targets import PartSpec

LOCK, PID, KEY, ARTIFACTS = "lock", "pid", "key", "artifacts"
RUNNER: Final = "runner"
"""In a try's folder: what the runner itself said, where it ended before Ansible began."""
READ: Final = ("inventory", "env")
"""Folders that ansible-runner and Ansible read as a whole."""
END_SECONDS: Final = 5.0
"""For Ansible to end its own children; what is left then is killed."""
CONNECTIONS: Final = "cp"
"""Sockets of SSH connections that are kept between tasks; each has a process of its own."""
# The child says itself who it is: who began it may have died right behind. Connections that it kept
# end with it, also when it is told to end: then it waits for Ansible, which is told, too.
_BEGIN: Final = f"""\
echo $$ > pid
trap : TERM
code=0
"$@" || code=$?
for way in {CONNECTIONS}/*; do
    [ ! -S "$way" ] || ssh -q -o ControlPath="$way" -O exit none </dev/null >/dev/null 2>&1 || true
done
exit $code
"""

State = Literal["", "running", "successful", "failed", "timeout", "died"]


@dataclass(frozen=True, slots=True)
class Run:
    """The last try of a run. task: the one that goes on, or that failed on `hosts`; unreachable:
    because SSH did not get there.

    ended_at: Unix time; 0.0: not yet. log: what Ansible printed.
    """

    state: State = ""
    tries: int = 0
    task: str = ""
    hosts: tuple[str, ...] = ()
    unreachable: bool = False
    ended_at: float = 0.0
    log: Path = Path()


@dataclass(frozen=True)
class Playbooks:
    """Of one environment. runner: its program ansible-runner; ansible-core is there as well.
    project: the folder of the playbooks. folder: of all runs, the reconciler's alone.

    A run has a name and is of tries of several keys: of one set of inputs, or of one stage.
    """

    runner: Path
    project: Path
    folder: Path
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def lacks(self, playbook: str) -> str:
        """What is not there; empty: nothing."""
        wanted = (self.runner, self.project / playbook)
        return next((str(path) for path in wanted if not path.is_file()), "")

    def look(self, name: str, key: str) -> Run:
        """At the last try of this key; of others nothing is said."""
        found = self._tries(name, key)
        if not found:
            return Run()
        last = found[-1]
        told, going = _events(last), self.going(name)
        if going == key:
            return Run("running", len(found), **told, log=last / "stdout")
        if not going:
            self._reap(name)
        state, ended = _state(last), last.stat().st_mtime
        log = last / ("stdout" if (last / "stdout").exists() else RUNNER)
        return Run(state, len(found), **told, ended_at=ended, log=log)

    def going(self, name: str) -> str:
        """The key of the run that goes on, "?" before it has one; empty: none does."""
        if not (self.folder / name).is_dir():
            return ""
        with self._locked(name) as mine:
            return "" if mine is not None else self.kept(name, KEY).decode() or "?"

    def deaths(self, name: str, key: str) -> int:
        """How many tries, the last ones, ended without a word of what became of them."""
        states = [_state(path) for path in reversed(self._tries(name, key))]
        return next((n for n, state in enumerate(states) if state != "died"), len(states))

    def told(self, name: str, key: str, task: str) -> str:
        """What this task's program printed in the last try; empty: nothing, or it did not run."""
        found = self._tries(name, key)
        for event in _read(found[-1] / "job_events") if found else ():
            data = event.get("event_data") or {}
            if event.get("event") == "runner_on_ok" and data.get("task") == task:
                return str((data.get("res") or {}).get("stdout", ""))
        return ""

    def kept(self, name: str, path: str) -> bytes:
        """A file below the run's folder that a task left there; empty: there is none."""
        try:
            return (self.folder / name / path).read_bytes()
        except OSError:
            return b""

    def begin(self, name: str, key: str, parts: Sequence[PartSpec], playbook: str) -> bool:
        """False: one goes on already, whatever its key. Returns at once."""
        run = self.folder / name
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked(name) as lock:
            if lock is None:
                return False
            _write(run / KEY, key.encode())
            self._reap(name)
            for folder in READ:  # all that lies there counts: also what an earlier try was given
                shutil.rmtree(run / folder, ignore_errors=True)
            for part in parts:
                _write(run / part.path, part.content)
            (run / PID).unlink(missing_ok=True)
            ident = f"{key}-{len(self._tries(name, key)) + 1}"
            # The folder first: a try that died before it wrote anything is one, too.
            (run / ARTIFACTS / ident).mkdir(mode=0o700, parents=True)
            _link(run / "project", self.project)
            said = os.open(
                run / ARTIFACTS / ident / RUNNER, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            command = (self.runner, "run", run, "--playbook", playbook, "--ident", ident, "--quiet")
            try:
                self._children[name] = subprocess.Popen(
                    ["/bin/sh", "-euc", _BEGIN, "sh", *map(str, command)],
                    cwd=run, env=self._environment(run), stdin=subprocess.DEVNULL,
                    stdout=said, stderr=said, pass_fds=(lock,), start_new_session=True, umask=0o077,
                )  # fmt: skip
            finally:
                os.close(said)
        return True

    def forget(self, name: str) -> None:
        """End it if it goes on, and take away all of it."""
        run = self.folder / name
        if not run.exists():
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._is_over(name):
                break
            _signal(run / PID, number)
            until = time.monotonic() + END_SECONDS
            while not self._is_over(name) and time.monotonic() < until:
                time.sleep(0.05)
        self._reap(name)
        for way in (run / CONNECTIONS).glob("*"):  # of one that was killed
            argv = ["ssh", "-q", "-o", f"ControlPath={way}", "-O", "exit", "none"]
            subprocess.run(
                argv, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=30
            )  # fmt: skip
        shutil.rmtree(run, ignore_errors=True)

    def _is_over(self, name: str) -> bool:
        with self._locked(name) as mine:
            return mine is not None

    @contextmanager
    def _locked(self, name: str) -> Iterator[int | None]:
        """Its descriptor; None: a child has it."""
        fd = os.open(self.folder / name / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield fd
        finally:
            os.close(fd)

    def _tries(self, name: str, key: str) -> list[Path]:
        """Oldest first."""
        found = (self.folder / name / ARTIFACTS).glob(f"{key}-*")
        own = [path for path in found if path.name[len(key) + 1 :].isdigit()]
        return sorted(own, key=lambda path: int(path.name.rpartition("-")[2]))

    def _environment(self, run: Path) -> dict[str, str]:
        return {
            "PATH": f"{self.runner.parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(run),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_HOST_KEY_CHECKING": "True",
            "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
            "ANSIBLE_PIPELINING": "True",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(run / CONNECTIONS),
        }

    def _reap(self, name: str) -> None:
        """Of one that is over: it gave its lock away as it ended."""
        child = self._children.pop(name, None)
        if child is not None:
            child.wait(END_SECONDS)


def digest(parts: Sequence[PartSpec]) -> str:
    told = sha256()
    for part in sorted(parts, key=lambda part: part.path):
        told.update(f"{part.path}\0{len(part.content)}\0".encode() + part.content)
    return told.hexdigest()[:16]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    fresh.replace(path)


def _link(path: Path, to: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(to)


def _signal(pid: Path, number: signal.Signals) -> None:
    """Of the session that the lock says is alive."""
    try:
        os.killpg(int(pid.read_text()), number)
    except (OSError, ValueError):
        return


class Told(TypedDict):
    task: str
    hosts: tuple[str, ...]
    unreachable: bool


def _state(artifacts: Path) -> State:
    """As ansible-runner wrote it at its end; "died": it did not come so far."""
    try:
        return cast(State, (artifacts / "status").read_text().strip())
    except OSError:
        return "died"


def _events(artifacts: Path) -> Told:
    """Of the last failure that counts, else the task that began last."""
    task, failed, hosts, unreachable = "", "", dict[str, None](), False
    for event in _read(artifacts / "job_events"):
        data = event.get("event_data") or {}
        match event.get("event"):
            case "playbook_on_task_start":
                task = str(data.get("task", ""))
            case "runner_on_failed" | "runner_on_unreachable" if not data.get("ignore_errors"):
                failed = str(data.get("task", ""))
                hosts[str(data.get("host", ""))] = None
                unreachable = event["event"] == "runner_on_unreachable"
    if failed:
        return {"task": failed, "hosts": tuple(hosts), "unreachable": unreachable}
    return {"task": task, "hosts": (), "unreachable": False}


def _read(folder: Path) -> Iterator[dict[str, Any]]:
    """In their order; one that is being written is left out."""
    numbered = [path for path in folder.glob("*.json") if path.name.partition("-")[0].isdigit()]
    for path in sorted(numbered, key=lambda path: int(path.name.partition("-")[0])):
        try:
            told = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(told, dict):
            yield told
