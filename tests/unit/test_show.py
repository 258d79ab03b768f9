"""Tables and fields as a terminal of 80 columns shows them."""

import time
from collections.abc import Iterator

import pytest
from rich.console import Console

from seed import show

NAMES = {"name": "TOKEN", "project": "PROJECT", "used": "USED", "may": "ROLES"}
LONG = "machine-learning-platform"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    console = Console(width=80, highlight=False, no_color=True, force_terminal=False)
    monkeypatch.setattr(show, "out", console)
    yield console
    monkeypatch.undo()
    time.tzset()


def test_one_long_column_leaves_room_for_its_neighbours(
    screen: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"name": f"{LONG}.ci-runner-of-the-night", "project": LONG, "used": "2026-11-28"}
    show.rows([row | {"may": "viewer claimer operator destroyer"}], NAMES, show.Format.TABLE)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 4, "no column is a few letters wide"
    assert "2026-11-28" in lines[1]


def test_times_are_this_machines_and_what_only_begins_like_one_stays(
    screen: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    show.fields({"at": "2026-11-28T22:20:51.069098Z", "name": "2026-11-28T22:20:51Z-backup"})
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "at    2026-11-28 23:20 CET",
        "name  2026-11-28T22:20:51Z-backup",
    ]
