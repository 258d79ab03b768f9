"""Start, ask and stop the services as units of this machine's systemd; same verbs as supervisor.

Units carry fixed names, so there is one such appliance per machine: the one that `make install`
put there and that /etc/seed/seed.toml describes. All others, of tests and demos, use supervisor.
Logs are the journal's: it rotates them and bounds their size.
"""

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ipxe.render import write_atomic
from provisioning.errors import HostError
from seed.host import render_systemd
from seed.host.render_systemd import TARGET, unit_name
from seed.host.services import PATH, Service, table
from seed.host.supervisor import ServiceStatus, memory_mb
from seed.settings import Settings, config_file

UNITS = Path("/etc/systemd/system")
TMPFILES = Path("/etc/tmpfiles.d/seed.conf")
HOST_CONFIG = Path("/etc/seed/seed.toml")
INSTALLED = "installed"
"""`make install` leaves a file of this name beside the environments."""

_RUNS = Path("/run/systemd/system")  # sd_booted(3)
_TIMEOUT = 20.0  # seconds for one question
_START_SECONDS = 60.0
_PROPERTIES = "Id,ActiveState,SubState,MainPID,NRestarts,ExecMainStartTimestamp"
# systemd's words to supervisor's, which `seed status` shows everywhere.
_STATES = {
    "active": "RUNNING",
    "reloading": "RUNNING",
    "activating": "STARTING",
    "deactivating": "STOPPING",
    "inactive": "STOPPED",
    "failed": "FATAL",
}


def present() -> bool:
    """Process 1 of this machine is systemd."""
    return _RUNS.is_dir()


def responsible(settings: Settings) -> bool:
    """These settings are those of the installed appliance, and systemd is there to run it."""
    installed = (settings.env_dir.parent / INSTALLED).exists()
    return present() and installed and config_file() == HOST_CONFIG


def control(*arguments: str, timeout: float = _TIMEOUT) -> str:
    """What systemctl prints. Raises HostError with its last line if it refuses."""
    done = subprocess.run(
        ["systemctl", "--no-pager", "--no-ask-password", *arguments],
        env={"PATH": PATH, "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise HostError(
            f"systemctl {arguments[0]} failed: {said[-1] if said else done.returncode}",
            f"systemctl status {TARGET} 'seed-*'",
        )
    return done.stdout


def write_units(settings: Settings, services: Sequence[Service]) -> bool:
    """Make the unit files those of `services` and no others; return whether any was changed."""
    texts = render_systemd.render(services, settings)
    changed = [_write(place(name), text) for name, text in texts.items()]
    ours = {unit_name(service) for service in table(settings)}
    removed = [remove(place(name)) for name in ours - set(texts)]
    return any(changed + removed)


def place(name: str) -> Path:
    """Where the file that the renderer calls `name` belongs."""
    return TMPFILES if name.endswith(".tmpfiles.conf") else UNITS / name


def _write(path: Path, text: str) -> bool:
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)
    return True


def remove(path: Path) -> bool:
    """Remove a file; False if it was not there."""
    if not path.exists():
        return False
    path.unlink()
    return True


def start(settings: Settings, services: Sequence[Service]) -> None:
    """Start the units of `services`, now and after each boot of this machine."""
    write_units(settings, services)
    control("daemon-reload", timeout=_START_SECONDS)
    control("enable", "--now", TARGET, timeout=_START_SECONDS)


def running(settings: Settings) -> bool:
    """seed.target is active: `seed up` was called, and `seed down` was not."""
    return active(TARGET)


def active(unit: str) -> bool:
    """A unit of anybody's is active or about to be."""
    return _show([unit])[0]["ActiveState"] in ("active", "activating")


def stop(settings: Settings, timeout: float = 60.0) -> None:
    """Stop every unit of ours, also for the next boot. Raises HostError if one remains."""
    names = [unit_name(service) for service in table(settings)]
    known = [name for name in (TARGET, *names) if place(name).exists()]
    if not known:
        return
    control("disable", TARGET, timeout=_START_SECONDS)
    control("stop", *known, timeout=timeout + _TIMEOUT)
    shown = _show(known)
    left = [one["Id"] for one in shown if one.get("MainPID", "0") != "0"]
    if left:
        raise HostError(f"{', '.join(left)} does not end", f"systemctl kill -s KILL {left[0]}")
    if failed := [one["Id"] for one in shown if one["ActiveState"] == "failed"]:
        control("reset-failed", *failed)  # killed because it took too long to stop


def status(settings: Settings) -> list[ServiceStatus]:
    """All services, in their order. Raises HostError if they were not started."""
    if not running(settings):
        raise HostError("the appliance is not running", "seed up")
    return [
        ServiceStatus(
            name=name,
            state=state_of(unit),
            pid=int(unit["MainPID"]),
            since=_time(unit["ExecMainStartTimestamp"]) if unit["MainPID"] != "0" else None,
            restarts=int(unit["NRestarts"]),
            memory_mb=memory_mb(int(unit["MainPID"])) if unit["MainPID"] != "0" else 0.0,
        )
        for name, unit in _services(settings)
    ]


def states(settings: Settings) -> dict[str, str]:
    """Name to state of every service: `status` without what takes time to find out."""
    return {name: state_of(unit) for name, unit in _services(settings)}


def _services(settings: Settings) -> list[tuple[str, dict[str, str]]]:
    names = [s.name for s in table(settings) if place(unit_name(s)).exists()]
    units = [unit_name(s) for s in table(settings, names)]
    return list(zip(names, _show(units), strict=True)) if units else []


def _show(units: Iterable[str]) -> list[dict[str, str]]:
    return parse(control("show", "--timestamp=unix", f"--property={_PROPERTIES}", *units))


def parse(text: str) -> list[dict[str, str]]:
    """`systemctl show`: one block of NAME=VALUE lines per unit, in the order asked for."""
    return [
        dict(line.split("=", 1) for line in block.splitlines())
        for block in text.strip().split("\n\n")
    ]


def state_of(unit: dict[str, str]) -> str:
    """In supervisor's words; BACKOFF is a service that ended and waits for its next start."""
    if unit["SubState"] == "auto-restart":
        return "BACKOFF"
    return _STATES.get(unit["ActiveState"], unit["ActiveState"].upper())


def _time(said: str) -> datetime | None:
    """ "@1700000000" (--timestamp=unix) as a time."""
    return datetime.fromtimestamp(int(said[1:]), UTC) if said.startswith("@") else None


def reload(settings: Settings, name: str) -> None:
    """Send SIGHUP to a service: dnsmasq forgets removed hosts, nginx takes new certificates."""
    (service,) = table(settings, [name])
    control("kill", "--signal=HUP", "--kill-whom=main", unit_name(service))


def logs(settings: Settings, name: str, follow: bool, lines: int) -> Iterator[str]:
    """The last `lines` lines of a service in the journal, and with `follow` what is added."""
    (service,) = table(settings, [name])
    argv = ["journalctl", "--no-pager", "--quiet", "--output=cat", f"--unit={unit_name(service)}"]
    argv += [f"--lines={lines}", *(["--follow"] if follow else [])]
    # No timeout: it ends by itself, or with `follow` when the reader goes away.
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, errors="replace") as child:
        try:
            yield from child.stdout or ()
        finally:
            child.terminate()
