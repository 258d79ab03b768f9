"""`seed rack work --watch` as one sees it on a terminal, until Ctrl-C."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlmodel import select as select_rows
from typer.testing import Result

from api.parts import Parts
from api.roles import Role
from provisioning.models import Bmc
from tests.contract.test_rack_verbs import parts, plan, room, seed, server, url
from tests.fakes.api import a_token

__all__ = ["parts", "plan", "room", "seed", "url"]  # fixtures
SECONDS = 30.0
INTERRUPT = b"\x03"  # what Ctrl-C sends; the terminal makes SIGINT of it


class Terminal:
    """A program at a terminal of its own, and what it has shown since it was last asked."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *argv], env=env, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)

    def shows(self, word: str) -> str:
        """Everything up to this word."""
        seen, end = "", time.monotonic() + SECONDS
        while word not in seen:
            ready, _, _ = select.select([self.master], [], [], max(end - time.monotonic(), 0.0))
            assert ready, f"{word!r} is not shown within {SECONDS} s, but {seen!r}"
            seen += os.read(self.master, 65536).decode()
        return seen

    def types(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def rest(self) -> str:
        """What it shows until its end."""
        seen = b""
        while True:
            try:
                seen += os.read(self.master, 65536)
            except OSError:  # EIO: nobody has the other end any more
                return seen.decode()


@pytest.fixture
def watching(
    room: Callable[..., Result], parts: Parts, url: str, tmp_path: Path
) -> Iterator[Terminal]:
    token = tmp_path / "token"
    token.write_text(a_token(parts, "watcher", Role.OPERATOR))
    env = {**os.environ, "SEED_CONFIG": "/nowhere", "SEED_SERVER": url, "TERM": "xterm"}
    env |= {"SEED_TOKEN_FILE": str(token), "COLUMNS": "120", "LINES": "60"}
    terminal = Terminal([sys.executable, "-m", "seed", "rack", "work", "--watch"], env)
    try:
        yield terminal
    finally:
        terminal.process.kill()
        terminal.process.wait(30)
        os.close(terminal.master)


def test_it_follows_the_room_until_ctrl_c(watching: Terminal, parts: Parts) -> None:
    assert "r3u19 is empty, serial SN-1019 expected" in watching.shows("4 to do, 1 not known")
    with parts.store.write() as session:
        session.add(server(30, "SN-1019", ("leaf1:19", "leaf2:19")))
    try:
        fresh = watching.shows("3 to do, 1 not known")
    finally:
        with parts.store.write() as session:
            session.delete(session.exec(select_rows(Bmc).where(Bmc.serial == "SN-1019")).one())
    assert "r3u21 and r3u22 are swapped" in fresh
    watching.shows("4 to do, 1 not known")
    watching.types(INTERRUPT)
    said = watching.rest()
    assert watching.process.wait(30) == 130, "as README says of Ctrl-C"
    assert "Traceback" not in said
    assert "Aborted" not in said
    assert "\x1b[?25h" in said, "the cursor is back"
