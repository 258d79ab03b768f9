"""`seed event ...` against an API on a port, and `seed event watch` through a restart of it."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
import uvicorn
from typer.testing import CliRunner, Result

from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from provisioning.store import record
from seed.cli import app
from tests.fakes.api import a_token, some_parts
from tests.fakes.appliance import until
from tests.fakes.serving import api_on_a_port

Verb = Callable[..., Result]


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return some_parts(tmp_path)


def environment(parts: Parts, tmp_path: Path, url: str) -> dict[str, str]:
    file = tmp_path / "token"
    file.write_text(a_token(parts, "viewer", Role.VIEWER))
    return {"SEED_SERVER": url, "SEED_TOKEN_FILE": str(file), "COLUMNS": "80"}


@pytest.fixture
def seed(parts: Parts, tmp_path: Path) -> Iterator[Verb]:
    with api_on_a_port(create_app(parts, Door.WEB)) as url:
        env = environment(parts, tmp_path, url)
        yield lambda *words: CliRunner().invoke(app, words, env=env)


def happen(parts: Parts, *subjects: str) -> None:
    for subject in subjects:
        with parts.store.write() as session:
            record(session, "claim.moved", subject, "[somewhere]", who="ada", why="because")


def test_list_fits_a_terminal_and_gives_all_as_json(parts: Parts, seed: Verb) -> None:
    happen(parts, "0c5f4ec0-7c1b-4f0e-9f6e-3a5d0f4d1c11", "b")
    table = seed("event", "list")
    assert table.exit_code == 0, table.output
    assert max(map(len, table.stdout.splitlines())) <= 80
    assert "[somewhere]" in table.stdout
    assert "ada" in table.stdout
    told = json.loads(
        seed("event", "list", "--after", "1", "--kind", "claim.", "-o", "json").stdout
    )
    assert [(e["id"], e["subject"], e["why"]) for e in told] == [(2, "b", "because")]


def test_verify_prints_the_head_and_takes_it(parts: Parts, seed: Verb, tmp_path: Path) -> None:
    happen(parts, "a", "b", "c")
    found = json.loads(seed("event", "verify", "-o", "json").stdout)
    assert (found["ok"], found["events"]) == (True, 3)
    happen(parts, "d")
    assert seed("event", "verify", "--head", found["head"]).exit_code == 0
    with sqlite3.connect(tmp_path / "seed.db") as database:
        database.execute("DROP TRIGGER event_never_goes")
        database.execute("DELETE FROM event WHERE id > 2")
    database.close()
    assert seed("event", "verify").exit_code == 0
    cut = seed("event", "verify", "--head", found["head"])
    assert cut.exit_code == 1
    assert "broken at 3" in cut.stderr
    wrong = seed("event", "verify", "--head", "3:abc")
    assert (wrong.exit_code, "no head of the chain" in wrong.stderr) == (1, True)


def test_the_documents_own_check(parts: Parts, seed: Verb) -> None:
    """docs/events.md: what verifies the chain elsewhere, run as it stands there."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "events.md").read_text()
    program = text.split("```python\n")[1].split("```")[0]
    happen(parts, "a", "ü", "c")
    told = seed("event", "list", "-o", "json").stdout

    def check(answer: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", program]
        return subprocess.run(argv, input=answer, capture_output=True, text=True, check=False)

    good = check(told)
    assert good.returncode == 0, good.stderr
    assert good.stdout.strip() == json.loads(told)[-1]["hash"]
    for change in (("ada", "bob"), ('"id": 2', '"id": 7')):
        assert "event" in check(told.replace(*change)).stderr
    cut = json.dumps([e for e in json.loads(told) if e["id"] != 2])
    assert "event 3 is not as it was written" in check(cut).stderr


def test_watch_ends_after_a_count(parts: Parts, seed: Verb) -> None:
    happen(parts, "a", "b", "c")
    done = seed("event", "watch", "--after", "1", "--count", "2", "-o", "json")
    assert [json.loads(line)["subject"] for line in done.stdout.splitlines()] == ["b", "c"]


def test_watch_says_at_once_that_it_is_refused(parts: Parts, tmp_path: Path) -> None:
    with api_on_a_port(create_app(parts, Door.WEB)) as url:
        env = environment(parts, tmp_path, url)
        Path(env["SEED_TOKEN_FILE"]).write_text("nobody's")
        assert CliRunner().invoke(app, ["event", "watch"], env=env).exit_code == 1
    assert CliRunner().invoke(app, ["event", "watch"], env=env).exit_code == 3


def lines_of(stream: IO[str]) -> list[str]:
    found: list[str] = []
    threading.Thread(target=lambda: found.extend(iter(stream.readline, "")), daemon=True).start()
    return found


def test_watch_goes_on_where_it_was_when_the_api_comes_back(parts: Parts, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | environment(parts, tmp_path, f"http://127.0.0.1:{port}")

    def start() -> tuple[uvicorn.Server, threading.Thread]:
        config = uvicorn.Config(
            create_app(parts, Door.WEB), port=port, log_config=None, ws="none",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        until(lambda: server.started, 20, "the API")
        return server, thread

    server, thread = start()
    watching = subprocess.Popen(
        [sys.executable, "-m", "seed", "event", "watch", "-o", "json"],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path.cwd(),
    )  # fmt: skip
    try:
        assert watching.stdout and watching.stderr  # noqa: PT018
        seen, said = lines_of(watching.stdout), lines_of(watching.stderr)
        until(lambda: bool(parts.feed._open), 30, "the stream")
        window = next(iter(parts.feed._loops.values()))
        until(lambda: window.upto >= 0, 20, "its beginning")
        server.should_exit = True
        thread.join(20)
        happen(parts, "while nobody listened")
        until(lambda: bool(said), 20, "the cut was seen")
        server, thread = start()
        until(lambda: len(seen) == 1, 60, "what was missed")
        happen(parts, "after")
        until(lambda: len(seen) == 2, 20, "what is new")
        assert [json.loads(line)["subject"] for line in seen] == ["while nobody listened", "after"]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 130
    finally:
        watching.kill()
        watching.communicate()
        server.should_exit = True
        thread.join(20)
