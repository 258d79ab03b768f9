"""What tests see of the machine they run on: conditions to wait for, traces that runs leave."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def until(condition: Callable[[], Any], seconds: float, what: str) -> None:
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.5)


def traces(namespace: str) -> dict[str, str]:
    """What a lab in this namespace could leave on the machine."""

    def told(*argv: str) -> str:
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True).stdout

    names = Path("/proc").glob("[0-9]*/cmdline")
    mine = sorted(c for c in map(_cmdline, names) if namespace in c and "pytest" not in c)
    return {
        "ip netns": "\n".join(n for n in told("ip", "netns").splitlines() if namespace in n),
        "ip link": "\n".join(
            line["ifname"]
            for line in json.loads(told("ip", "-j", "link"))
            if "prov0" in line["ifname"]
        ),
        "processes": "\n".join(mine),
    }


def _cmdline(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
