"""What a person sees while Seed takes its time."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Event

import pytest
from rich.console import Console
from typer.testing import CliRunner

from seed.cli import app
from seed.commands import door
from tests.fakes.serving import serving


class Screen(StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.told = Event()

    def write(self, text: str) -> int:
        count = super().write(text)
        if "waiting for Seed" in self.getvalue():
            self.told.set()
        return count


@pytest.mark.parametrize("terminal", [True, False])
def test_an_answer_that_takes_long_is_announced_to_people_only(
    terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen()
    monkeypatch.setattr(door, "err", Console(file=screen, force_terminal=terminal))
    monkeypatch.setattr(door, "LATE_SECONDS", 0.01)
    seen = []

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(screen.told.wait(20 if terminal else 0.2))
            body = json.dumps([]).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    (tmp_path / "token").write_text("secret")
    env = {
        "SEED_SERVER": f"http://127.0.0.1:{server.server_address[1]}",
        "SEED_TOKEN_FILE": str(tmp_path / "token"),
    }
    with serving(server):
        done = CliRunner().invoke(app, ["project", "list"], env=env)
    assert (done.exit_code, done.stdout) == (0, "none\n")
    assert seen == [terminal]
    assert screen.getvalue().count("waiting for Seed") == terminal
