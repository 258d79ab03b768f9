"""seed project, quota, user, login, logout and token as people type them."""

import json
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlmodel import select
from typer.testing import CliRunner, Result

from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from provisioning.models import Claim, Token
from seed.cli import app
from tests.fakes.api import a_token, some_parts
from tests.fakes.serving import api_on_a_port

PASSWORD = "correct horse battery"


@dataclass
class Terminal:
    """A person at another machine, with a token that may do everything in project default."""

    folder: Path
    parts: Parts
    url: str
    token: bool = True

    project: str = ""

    def seed(self, *words: str, typed: str = "", server: str = "") -> Result:
        env = {
            "SEED_CONFIG": "/nowhere", "SEED_SERVER": server or self.url, "NO_COLOR": "1",
            "SEED_PROJECT": self.project,
            "SEED_TOKEN_FILE": str(self.folder / "token") if self.token else "",
            "SEED_TOKEN_DIR": str(self.folder / "made"), "HOME": str(self.folder),
            "COLUMNS": "80",
        }  # fmt: skip
        return CliRunner().invoke(app, words, input=typed, env=env)

    def done(self, *words: str, typed: str = "") -> str:
        result = self.seed(*words, typed=typed)
        assert result.exit_code == 0, result.output
        return result.stdout

    def sessions(self) -> list[Path]:
        return sorted((self.folder / ".config" / "seed").glob("session-*"))


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    parts = some_parts(tmp_path)
    (tmp_path / "token").write_text(a_token(parts, "boss", *Role))
    with api_on_a_port(create_app(parts, Door.WEB)) as url:
        yield Terminal(tmp_path, parts, url)


def test_projects_and_quotas(terminal: Terminal) -> None:
    terminal.done("project", "create", "web", "--description", "shop", "--max-lease-days", "30")
    with terminal.parts.store.write() as session:
        session.add(Claim(name="c", image="debian", project="web", count=3))
    terminal.done("quota", "set", "web", "baremetal", "--nodes", "20")
    terminal.done("quota", "set", "web", "--all", "--nodes", "25")
    listed = [line.split() for line in terminal.done("quota", "list", "web").splitlines()]
    assert listed == [["CLASS", "MAY", "HOLD", "HOLDS"], ["*", "25", "3"], ["baremetal", "20", "3"]]
    rows = [line.split() for line in terminal.done("project", "list").splitlines()]
    assert rows[2] == ["web", "enabled", "3", "30", "d", "shop"]
    shown = terminal.done("project", "show", "web")
    assert "MAY HOLD" in shown
    assert re.search(r"max lease +30 d", shown)
    told = json.loads(terminal.done("project", "show", "web", "-o", "json"))
    assert [q["nodes"] for q in told["quotas"]] == [25, 20]
    changed = terminal.done("project", "change", "web", "--max-priority", "9", "-o", "json")
    assert json.loads(changed)["max_priority"] == 9
    terminal.done("quota", "remove", "web", "--all")
    terminal.done("project", "disable", "web")
    refused = terminal.seed("token", "create", "ci", "--role", "viewer", "--project", "web")
    assert refused.exit_code == 1
    assert "`seed project enable web`" in refused.stderr
    terminal.done("project", "enable", "web")
    refused = terminal.seed("project", "delete", "web")
    assert (refused.exit_code, "claim c" in refused.stderr) == (1, True)


@pytest.mark.parametrize(
    "words",
    [
        ("quota", "set", "web", "--nodes", "2"),
        ("quota", "set", "web", "baremetal", "--all", "--nodes", "2"),
        ("quota", "set", "web", "baremetal"),
        ("project", "change", "web"),
        ("project", "show", "../x"),
    ],
)
def test_what_is_not_said_clearly_is_refused(terminal: Terminal, words: tuple[str, ...]) -> None:
    assert terminal.seed(*words).exit_code in (1, 2)


def test_a_made_up_password_is_in_a_file_of_ones_own_only(terminal: Terminal) -> None:
    said = terminal.done("user", "create", "alice", "--role", "claimer", "-o", "json")
    file = Path(json.loads(said)["password_file"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    password = file.read_text().strip()
    assert password not in said
    assert terminal.seed("user", "create", "alice", "--role", "claimer").exit_code == 1
    terminal.token = False
    terminal.done("login", "--user", "alice", "--password-stdin", typed=f"{password}\n")
    assert terminal.done("project", "list").splitlines()[1].startswith("default")


def test_a_session_from_login_to_logout(terminal: Terminal) -> None:
    made = terminal.done(
        "user", "create", "alice", "--role", "operator", "--password-stdin", typed=PASSWORD
    )
    assert PASSWORD not in made
    terminal.token = False
    refused = terminal.seed("user", "list")
    assert (refused.exit_code, "`seed login`" in refused.stderr) == (2, True)
    said = terminal.seed("login", typed=f"alice\n{PASSWORD}\n")
    assert said.exit_code == 0
    assert PASSWORD not in said.output
    (file,) = terminal.sessions()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["token"] not in said.output
    rows = [line.split() for line in terminal.done("user", "list").splitlines()]
    assert rows == [
        ["USER", "ROLES", "PROJECT", "STATE", "SESSIONS"],
        ["alice", "operator", "default", "enabled", "1"],
    ]
    elsewhere = terminal.seed("user", "list", server="https://elsewhere.example:8443")
    assert (elsewhere.exit_code, "no token" in elsewhere.stderr) == (2, True)
    terminal.done("logout")
    assert terminal.sessions() == []
    assert terminal.seed("user", "list").exit_code == 2
    assert terminal.seed("logout").exit_code == 1


def test_passwords_are_changed_with_the_old_one_or_reset(terminal: Terminal) -> None:
    terminal.done("user", "create", "alice", "--role", "viewer", "--password-stdin", typed=PASSWORD)
    terminal.token = False
    terminal.done("login", "--user", "alice", "--password-stdin", typed=PASSWORD)
    both = f"{PASSWORD}\nanother horse battery\n"
    terminal.done("user", "password", "alice", "--password-stdin", typed=both)
    assert terminal.seed("user", "show", "alice").exit_code == 1  # its session ended
    terminal.token = True
    terminal.done("user", "password", "alice", "--reset", "--password-stdin", typed=PASSWORD)
    terminal.done("user", "password", "alice", "--reset", "--generate")
    assert (terminal.folder / "made" / "alice.password").exists()
    for verb in ("disable", "enable", "delete"):
        terminal.done("user", verb, "alice")
    assert terminal.done("user", "list") == "none\n"


def test_a_wrong_login_says_what_to_do(terminal: Terminal) -> None:
    refused = terminal.seed("login", "--user", "nobody", "--password-stdin", typed="x" * 12)
    assert refused.exit_code == 1
    assert "this user and password are not known here" in refused.stderr
    assert terminal.sessions() == []


def test_a_login_is_for_the_project_that_it_names_or_there_is_none(terminal: Terminal) -> None:
    who = ("alice", "--role", "claimer", "--password-stdin")
    terminal.done("user", "create", *who, typed=PASSWORD)
    terminal.token = False
    login = ("login", "--user", "alice", "--password-stdin")
    refused = terminal.seed(*login, "--project", "web", typed=PASSWORD)
    assert (refused.exit_code, terminal.sessions()) == (1, [])
    assert "alice is of the project default only, not of web" in refused.stderr
    with terminal.parts.store.read() as session:
        assert session.exec(select(Token.name).where(Token.user == "alice")).all() == []
    assert "seed login --user alice --project default" in refused.stderr
    terminal.project = "web"  # what is said at the login wins over the environment
    terminal.done(*login, "--project", "default", typed=PASSWORD)
    terminal.project = ""
    terminal.done("claim", "list")


def test_a_login_that_a_token_file_hides_is_told(terminal: Terminal) -> None:
    who = ("alice", "--role", "viewer", "--password-stdin")
    terminal.done("user", "create", *who, typed=PASSWORD)
    login = ("login", "--user", "alice", "--password-stdin")
    assert "Verbs use SEED_TOKEN_FILE" in terminal.seed(*login, typed=PASSWORD).stderr
    terminal.token = False
    assert "SEED_TOKEN_FILE" not in terminal.seed(*login, typed=PASSWORD).stderr


def test_a_project_of_others_is_refused_and_nothing_is_done_elsewhere(terminal: Terminal) -> None:
    terminal.done("project", "create", "web")
    terminal.done("--project", "default", "claim", "list")
    for project, words in (("", ("--project", "web")), ("web", ())):
        terminal.project = project
        refused = terminal.seed(*words, "claim", "list")
        assert refused.exit_code == 1
        assert "boss is of the project default, not of web" in refused.stderr
        assert "SEED_PROJECT" in refused.stderr
    terminal.done("--project", "default", "claim", "list")  # it wins over the environment
    assert terminal.seed("--project", "a b", "claim", "list").exit_code == 2


@pytest.mark.parametrize(
    "words", [("--oidc", "--keystone"), ("--oidc", "--user", "a"), ("--keystone", "--user", "a")]
)
def test_of_three_ways_to_log_in_one_is_taken(terminal: Terminal, words: tuple[str, ...]) -> None:
    refused = terminal.seed("login", *words)
    assert (refused.exit_code, "take one" in refused.stderr) == (2, True)


def test_a_login_by_what_is_not_here_says_so(terminal: Terminal) -> None:
    for word, what in (("--oidc", "single sign-on with OIDC"), ("--keystone", "Keystone")):
        refused = terminal.seed("login", word)
        assert (refused.exit_code, what in refused.stderr) == (1, True)
        assert terminal.sessions() == []


def test_scopes_of_a_token(terminal: Terminal) -> None:
    words = ("--scope", "claims", "--scope", "events:read", "-o", "json")
    made = json.loads(terminal.done("token", "create", "ci", "--role", "claimer", *words))
    assert made["scopes"] == ["claims", "events:read"]
    table = terminal.done("token", "list").splitlines()
    assert max(len(line) for line in table) <= 80
    assert table[0].split()[:4] == ["TOKEN", "PROJECT", "USED", "EXPIRES"]
    assert any("claimer, for claims events:read only" in line for line in table)
    refused = terminal.seed("token", "create", "x", "--role", "claimer", "--scope", "claim")
    assert refused.exit_code == 1
