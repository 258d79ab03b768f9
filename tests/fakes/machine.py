"""What tests see of the machine they run on: conditions to wait for, traces that runs leave."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seed.lab.demo import Demo


def until(condition: Callable[[], Any], seconds: float, what: str) -> None:
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.5)


def fresh(home: Path, namespace: str) -> Path:
    """An empty home, and nothing of a run that was killed: its lab, its appliance, and the
    namespaces of those who talked to it. The path of its scenario, to be written."""
    scenario = home / "lab.yaml"
    if scenario.exists():
        Demo(home, scenario).end()
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o755)
    for name in _told("ip", "netns").split():
        if name.startswith(namespace):
            _told("ip", "netns", "delete", name)
    return scenario


def traces(namespace: str) -> dict[str, str]:
    """What a lab in this namespace could leave on the machine."""
    names = Path("/proc").glob("[0-9]*/cmdline")
    mine = sorted(c for c in map(_cmdline, names) if namespace in c and "pytest" not in c)
    return {
        "ip netns": "\n".join(n for n in _told("ip", "netns").splitlines() if namespace in n),
        "ip link": "\n".join(
            line["ifname"]
            for line in json.loads(_told("ip", "-j", "link"))
            if "prov0" in line["ifname"]
        ),
        "processes": "\n".join(mine),
    }


def _told(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True).stdout


def _cmdline(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
