"""Start, ask and stop supervisord."""

import os
import signal
import subprocess
import time
import xmlrpc.client
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import httpx

from ipxe.render import write_atomic
from provisioning.errors import HostError, NotFound
from seed.host import netns, render_supervisor
from seed.host.paths import Paths
from seed.host.services import PATH, Service, table
from seed.settings import Settings

REAPER = "reaper"
"""supervisord's event listener: a part of supervision, no service."""

_TIMEOUT = 10.0  # seconds for one question


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """How one service is.

    state:     supervisor's words: RUNNING, STARTING, BACKOFF, STOPPED, EXITED, FATAL.
    pid:       0 if it does not run.
    since:     when it was last started; None if it does not run.
    restarts:  starts after the first one since `seed up`.
    memory_mb: PSS of it and its children, in MB.
    """

    name: str
    state: str
    pid: int
    since: datetime | None
    restarts: int
    memory_mb: float


def start(settings: Settings, services: Sequence[Service]) -> None:
    """Start supervisord, in the appliance's namespace, and with it all services."""
    paths = Paths(settings)
    text = render_supervisor.render(services, settings)
    write_atomic(paths.supervisord_conf, text, 0o600)
    program = settings.env_dir / "seed" / "bin" / "supervisord"
    argv = [*netns.prefix(settings.namespace), str(program), "-c", str(paths.supervisord_conf)]
    done = subprocess.run(
        argv,
        env={"PATH": PATH, "LANG": "C.UTF-8"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise HostError(
            f"supervisord did not start: {said[-1] if said else done.returncode}",
            f"see {settings.log_dir / 'supervisord.log'}",
        )


def pid(settings: Settings) -> int:
    """Process id of our running supervisord; 0 if there is none."""
    path = Paths(settings).supervisor_pid
    try:
        number = int(path.read_text(encoding="utf-8"))
        command = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return 0
    return number if str(Paths(settings).supervisord_conf).encode() in command else 0


def running(settings: Settings) -> bool:
    """supervisord runs: `seed up` was called, and `seed down` was not."""
    return pid(settings) != 0


def call(settings: Settings, method: str, *arguments: str) -> object:
    """Ask supervisord. Raises HostError if it does not answer."""
    path = Paths(settings).supervisor_socket
    body = xmlrpc.client.dumps(arguments, f"supervisor.{method}").encode()
    try:
        _owned_by_root(path)
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, timeout=_TIMEOUT) as client:
            answer = client.post(
                "http://supervisor/RPC2", content=body, headers={"Content-Type": "text/xml"}
            )
        return xmlrpc.client.loads(answer.content)[0][0]
    except xmlrpc.client.Fault as error:
        raise HostError(
            f"supervisord refused {method}: {error.faultString}", "seed status"
        ) from error
    except (httpx.HTTPError, OSError) as error:
        raise HostError("the appliance is not running", "seed up") from error


def _owned_by_root(path: Path) -> None:
    """The socket's folder is writable by the API: see that nobody put another one there."""
    if path.lstat().st_uid != 0:
        raise HostError(f"{path} does not belong to root", f"rm {path}, then seed up")


def status(settings: Settings) -> list[ServiceStatus]:
    """All services, in their order. Raises HostError if supervisord does not run."""
    spawned = _spawned(settings.log_dir / "supervisord.log")
    result = []
    for info in _all(settings):
        runs = info["pid"] != 0
        result.append(
            ServiceStatus(
                name=info["name"],
                state=info["statename"],
                pid=info["pid"],
                since=datetime.fromtimestamp(info["start"], UTC) if runs else None,
                restarts=max(0, spawned.get(info["name"], 1) - 1),
                memory_mb=memory_mb(info["pid"]) if runs else 0.0,
            )
        )
    return result


def states(settings: Settings) -> dict[str, str]:
    """Name to state of every service: `status` without what takes time to find out."""
    return {info["name"]: info["statename"] for info in _all(settings)}


def _all(settings: Settings) -> list[dict[str, Any]]:
    answer = cast(list[dict[str, Any]], call(settings, "getAllProcessInfo"))
    return [info for info in answer if info["group"] != REAPER]


def _spawned(log: Path) -> dict[str, int]:
    """How often each service was started since supervisord's last start, from its log."""
    counts: dict[str, int] = {}
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return counts
    for line in lines:
        if "supervisord started with pid" in line:
            counts.clear()
        elif "spawned: '" in line:
            name = line.split("'")[1]
            counts[name] = counts.get(name, 0) + 1
    return counts


def tree(root: int) -> set[int]:
    """`root` and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            children.setdefault(_parent(entry), []).append(int(entry.name))
    found, todo = set[int](), [root]
    while todo:
        found.add(todo[-1])
        todo.extend(children.get(todo.pop(), []))
    return found


def _parent(entry: Path) -> int:
    """Parent of a process, from /proc/<pid>/stat: the second word after the name's bracket."""
    try:
        return int((entry / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError):
        return -1


def memory_mb(root: int) -> float:
    """PSS of `root` and its descendants in MB: shared pages count once, divided by their users."""
    total_kb = 0
    for number in tree(root):
        try:
            text = Path(f"/proc/{number}/smaps_rollup").read_text(encoding="utf-8")
        except OSError:
            continue
        total_kb += sum(
            int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")
        )
    return total_kb / 1024


def stop(settings: Settings, timeout: float = 60.0) -> None:
    """Stop supervisord and everything below it; what is left after `timeout` is killed.

    Raises HostError if even then something remains.
    """
    root = pid(settings)
    if not root:
        return
    mine = tree(root)
    _signal(root, signal.SIGTERM)
    if not _wait_gone(mine, timeout):
        for number in mine:
            _signal(number, signal.SIGKILL)
        if not _wait_gone(mine, 10):
            left = ", ".join(str(n) for n in sorted(mine) if _alive(n))
            raise HostError(f"processes {left} do not end", f"kill -9 {left.replace(',', '')}")
    Paths(settings).supervisor_socket.unlink(missing_ok=True)


def _signal(number: int, sig: signal.Signals) -> None:
    try:
        os.kill(number, sig)
    except ProcessLookupError:
        pass


def _alive(number: int) -> bool:
    """Runs, and is not a zombie that its parent has yet to collect."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def _wait_gone(numbers: set[int], timeout: float) -> bool:
    end = time.monotonic() + timeout
    while any(_alive(number) for number in numbers):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def reload(settings: Settings, name: str) -> None:
    """Send SIGHUP to a service: dnsmasq forgets removed hosts, nginx takes new certificates."""
    call(settings, "signalProcess", name, "HUP")


def logs(settings: Settings, name: str, follow: bool, lines: int) -> Iterator[str]:
    """The last `lines` lines of a service's log, and with `follow` what is added, for ever."""
    path = _log_file(settings, name)
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from file.readlines()[-lines:]
        while follow:
            line = file.readline()
            if line:
                yield line
                continue
            time.sleep(0.2)
            if path.stat().st_ino != os.fstat(file.fileno()).st_ino:  # rotated
                yield from logs(settings, name, follow, lines)
                return


def _log_file(settings: Settings, name: str) -> Path:
    """Where a service logs. Raises NotFound if it never did."""
    table(settings, [name])
    path = settings.log_dir / f"{name}.log"
    if not path.exists():
        raise NotFound(f"{name} has not logged anything yet", "seed up")
    return path
