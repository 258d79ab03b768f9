"""`seed break-glass` as people type it, by HTTP; and who else is told of it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from seed.cli import app
from tests.fakes.api import a_token, some_parts
from tests.fakes.serving import api_on_a_port

WHY = "node r1 hangs [in] deploying, ticket 4711"


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return some_parts(tmp_path)


@pytest.fixture
def seed(parts: Parts, tmp_path: Path) -> Iterator[Callable[..., Result]]:
    for name, role in (("fire", Role.DESTROYER), ("staff", Role.OPERATOR)):
        (tmp_path / name).write_text(a_token(parts, name, role))
    with api_on_a_port(create_app(parts, Door.WEB)) as url:
        env = {"SEED_CONFIG": "/nowhere", "SEED_SERVER": url, "COLUMNS": "120", "NO_COLOR": "1"}

        def run(who: str, *words: str) -> Result:
            more = {"SEED_TOKEN_FILE": str(tmp_path / who)}
            return CliRunner().invoke(app, ["break-glass", *words], env=env | more)

        yield run


def test_open_show_close(seed: Callable[..., Result]) -> None:
    assert json.loads(seed("staff", "show", "-o", "json").stdout) == []
    assert seed("fire", "open", "--why", WHY).exit_code == 0
    (row,) = json.loads(seed("staff", "show", "-o", "json").stdout)
    assert (row["who"], row["why"]) == ("fire", WHY)
    done = seed("fire", "open", "--why", WHY)
    assert (done.exit_code, "open for fire until" in done.stderr) == (1, True)
    done = seed("fire", "close")
    assert (done.exit_code, done.stdout.endswith("break-glass is closed\n")) == (0, True)
    done = seed("fire", "close")
    assert (done.exit_code, "is not open for fire" in done.stderr) == (1, True)


def test_who_may_not_is_told_what_it_takes(seed: Callable[..., Result]) -> None:
    done = seed("staff", "open", "--why", WHY)
    assert (done.exit_code, "takes the role destroyer" in done.stderr) == (1, True)
    done = seed("fire", "open", "--why", "because")
    assert (done.exit_code, "at least 10 characters" in done.stderr) == (1, True)
    assert seed("fire", "open").exit_code == 2


def test_another_destroyer_closes_it_by_name(
    parts: Parts, seed: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "chief").write_text(a_token(parts, "chief", Role.DESTROYER))
    seed("fire", "open", "--why", WHY)
    assert seed("chief", "close", "--who", "fire").exit_code == 0
    assert json.loads(seed("staff", "show", "-o", "json").stdout) == []
