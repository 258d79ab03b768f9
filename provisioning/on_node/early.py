"""Before anything of the caller's runs: write this server's files, and fetch its one-time parts.

Reads the JSON file named by its first argument (ca, files, parts). Writes what came of it to
parts.json beside it, which the proof tells on. A second run, with "late" behind it, fetches what
is missing and settles whom files belong to. Standard library only.
"""

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

EARLY_FOR, LATE_FOR, PAUSE, CALL_TIMEOUT = 60, 300, 2, 20  # seconds
LARGEST = 16 * 1024 * 1024  # bytes
NETWORK = "/etc/systemd/network/"
ONLINE = "/usr/lib/systemd/systemd-networkd-wait-online"
TOUCHED = {
    "/etc/systemd/timesyncd.conf.d/": "systemd-timesyncd.service",
    "/etc/systemd/resolved.conf.d/": "systemd-resolved.service",
    "/etc/chrony/": "chrony.service",
}


def write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, and never readable by more than in the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.seed")
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    new.replace(path)


def files(wanted: list[dict[str, Any]]) -> None:
    """Those that differ, and a word to whom they concern."""
    changed = []
    for one in wanted:
        path, content = Path(one["path"]), one["content"].encode()
        if not path.is_file() or path.read_bytes() != content:
            write(path, content, one["mode"])
            changed.append(one["path"])
    if any(path.startswith(NETWORK) for path in changed):
        network(wanted)
    for folder, unit in TOUCHED.items():
        if any(path.startswith(folder) for path in changed):
            run("systemctl", "try-restart", unit)


def run(*argv: str) -> bool:
    try:
        return subprocess.run(argv, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def network(wanted: list[dict[str, Any]]) -> None:
    """Tell networkd, and wait for what it makes. Reading its files again by a signal is what 257
    does; 252 asks itself by the bus, which is not up yet."""
    unit = "systemd-networkd.service"
    if not run("systemctl", "is-active", "--quiet", unit):
        return
    if not run("systemctl", "reload", unit):
        run("systemctl", "restart", unit)
    names = [
        one["content"].split("Name=", 1)[1].split("\n", 1)[0]
        for one in wanted
        if one["path"].startswith(NETWORK) and one["path"].endswith(".netdev")
    ]
    waited_for = [word for name in names for word in ("-i", name)] or ["--any"]
    run(ONLINE, "--timeout=30", *waited_for)


def fetched(url: str, trust: ssl.SSLContext) -> bytes:
    with urllib.request.urlopen(url, timeout=CALL_TIMEOUT, context=trust) as answer:  # noqa: S310
        content: bytes = answer.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError("it is too large")
    return content


def why(problem: Exception) -> str:
    """In words, without the URL, which is a secret."""
    if isinstance(problem, urllib.error.HTTPError):
        return f"the seed answered {problem.code}"
    if isinstance(problem, urllib.error.URLError):
        return f"the seed could not be reached: {type(problem.reason).__name__}"
    return f"{type(problem).__name__}: {getattr(problem, 'strerror', '') or 'it failed'}"


def part(one: dict[str, Any], trust: ssl.SSLContext, until: float) -> str:
    """Fetch and write it. Empty: done; else why not."""
    while True:
        try:
            write(Path(one["path"]), fetched(one["url"], trust), one["mode"])
        except Exception as problem:
            gone = isinstance(problem, urllib.error.HTTPError) and problem.code == 404
            if gone or time.monotonic() + PAUSE > until:
                return why(problem)
            time.sleep(PAUSE)
        else:
            return ""


def owned(one: dict[str, Any]) -> str:
    user, _, group = one["owner"].partition(":")
    try:
        if user:
            shutil.chown(one["path"], user=user)
        if group:
            shutil.chown(one["path"], group=group)
    except (LookupError, OSError) as problem:
        return f"it cannot belong to {one['owner']}: {type(problem).__name__}"
    return ""


def parts(config: dict[str, Any], seconds: float, before: dict[str, Any]) -> dict[str, Any]:
    """Name -> what came of it; `before` is what came of an earlier try."""
    trust = ssl.create_default_context(cadata=config["ca"])
    until = time.monotonic() + seconds
    told = {}
    for one in config["parts"]:
        had = before.get(one["name"], {}).get("fetched", False)
        problem = "" if had else part(one, trust, until)
        got = not problem
        if got and one["owner"]:
            problem = owned(one)
        told[one["name"]] = {"path": one["path"], "fetched": got, "problem": problem}
    return told


def main(path: Path, late: bool) -> None:
    os.umask(0o022)  # of folders that are made on the way
    config = json.loads(path.read_text())
    result = path.with_name("parts.json")
    before = json.loads(result.read_text()) if result.exists() else {}
    files(config["files"])
    if config["parts"]:
        told = parts(config, LATE_FOR if late else EARLY_FOR, before)
        write(result, json.dumps(told).encode(), 0o600)
    if late:
        path.unlink()  # its URLs are secrets


if __name__ == "__main__":
    main(Path(sys.argv[1]), "late" in sys.argv[2:])
