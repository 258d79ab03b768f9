"""Owners and modes of files that this very process may have open."""

import grp
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from seed.host.users import Place, _apply
from tests.fakes.store import new_store

ME = pwd.getpwuid(os.geteuid()).pw_name
MINE = grp.getgrgid(os.getegid()).gr_name
LOCK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
"""


def is_locked(path: Path) -> bool:
    """As another process sees it: ours would get any lock that it has itself."""
    argv = [sys.executable, "-c", LOCK, str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0 or "BlockingIOError" in done.stderr, done.stderr
    return done.returncode != 0


def test_setting_the_database_s_owner_leaves_its_locks(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    files = [tmp_path / f"seed.db{suffix}" for suffix in ("", "-wal", "-shm")]
    with store.write() as session:
        session.connection()
        locked = [is_locked(path) for path in files]
        assert locked == [True, False, True], "SQLite locks other files than this test knows of"
        for path in files:
            _apply(Place(path, ME, MINE, 0o640))
        assert [is_locked(path) for path in files] == locked
    assert {path.stat().st_mode & 0o7777 for path in files} == {0o640}
    store.engine.dispose()


def test_no_owner_is_set_through_a_symlink(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.touch(mode=0o600)
    link.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        _apply(Place(link, ME, MINE, 0o666))
    assert target.stat().st_mode & 0o7777 == 0o600


def test_a_folder_keeps_its_setgid_bit(tmp_path: Path) -> None:
    _apply(Place(tmp_path, ME, MINE, 0o2770))
    assert tmp_path.stat().st_mode & 0o7777 == 0o2770
