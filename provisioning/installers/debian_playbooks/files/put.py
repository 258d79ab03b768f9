"""Writes the files of a stage, told on stdin, and prints the paths of those that it changed.

stdin: a JSON list of {path, text, owner, group, mode}, or {path, link} for a symbolic link, or
{path, gone: true}. Each file is whole or not at all, and never readable by more than its mode says.
"""

import grp
import json
import os
import pwd
import sys
from pathlib import Path
from typing import Any


def put(told: dict[str, Any]) -> bool:
    """Whether anything was done."""
    path = Path(told["path"])
    if told.get("gone"):
        there = path.is_symlink() or path.exists()
        path.unlink(missing_ok=True)
        return there
    path.parent.mkdir(parents=True, exist_ok=True)
    if "link" in told:
        return _link(path, told["link"])
    wanted = (
        pwd.getpwnam(told.get("owner", "root")).pw_uid,
        grp.getgrnam(told.get("group", "root")).gr_gid,
        int(told.get("mode", "0644"), 8),
    )
    content = told["text"].encode()
    if path.is_file() and not path.is_symlink() and path.read_bytes() == content:
        return _settle(path, wanted)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    _settle(fresh, wanted)
    fresh.replace(path)
    return True


def _link(path: Path, to: str) -> bool:
    if path.is_symlink() and str(path.readlink()) == to:
        return False
    path.unlink(missing_ok=True)
    path.symlink_to(to)
    return True


def _settle(path: Path, wanted: tuple[int, int, int]) -> bool:
    uid, gid, mode = wanted
    now = path.stat()
    if (now.st_uid, now.st_gid, now.st_mode & 0o7777) == wanted:
        return False
    os.chown(path, uid, gid)
    path.chmod(mode)
    return True


def main() -> None:
    json.dump([told["path"] for told in json.load(sys.stdin) if put(told)], sys.stdout)


if __name__ == "__main__":
    main()
