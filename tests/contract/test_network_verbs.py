"""`seed network ...` and `seed layout ...`, typed as people do, on a real socket."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from api.app import create_app
from api.parts import Door
from api.roles import Role
from provisioning.fabric_text import written
from seed.cli import app
from tests.fakes.api import a_token, some_parts
from tests.fakes.fabric import a_layout, a_network
from tests.fakes.serving import api_on_a_port


@dataclass
class Desk:
    folder: Path
    url: str

    def seed(self, *words: str, code: int = 0) -> str:
        env = {
            "SEED_CONFIG": "/nowhere", "SEED_SERVER": self.url, "NO_COLOR": "1",
            "SEED_TOKEN_FILE": str(self.folder / "token"), "COLUMNS": "80",
        }  # fmt: skip
        done = CliRunner().invoke(app, words, env=env)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert done.exit_code == code, done.output
        if "-o" not in words and not code:
            assert max(map(len, done.output.splitlines()), default=0) <= 80
        return done.output

    def file(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return str(self.folder / name)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    parts = some_parts(tmp_path)
    (tmp_path / "token").write_text(a_token(parts, "ann", Role.OPERATOR))
    (tmp_path / "token").chmod(0o600)
    with api_on_a_port(create_app(parts, Door.WEB)) as url:
        yield Desk(tmp_path, url)


def test_networks_from_file_to_vip_and_away(desk: Desk) -> None:
    text = written(a_network().stored())
    assert "storage" in desk.seed("network", "put", desk.file("storage.yaml", text))
    assert "10.40.0.2" in desk.seed("network", "vip", "storage", "kube-api")
    desk.seed("network", "reserve", "storage", "10.40.0.12", "--why", "old filer")
    shown = desk.seed("network", "show", "storage")
    assert "pools: 10.40.0.10-10.40.0.19" in shown
    assert "old filer" in shown
    found = json.loads(desk.seed("network", "show", "storage", "-o", "json"))
    assert [a["kind"] for a in found["addresses"]] == ["vip", "reserved"]
    listed = json.loads(desk.seed("network", "list", "-o", "json"))
    assert (listed[0]["name"], listed[0]["given"]) == ("storage", 2)
    assert "10.40.0.12" in desk.seed("network", "free", "storage", "10.40.0.12")
    desk.seed("network", "delete", "storage")
    assert desk.seed("network", "list") == "none\n"


def test_layouts_from_file_and_away(desk: Desk) -> None:
    desk.seed("network", "put", desk.file("storage.yaml", written(a_network().stored())))
    text = written(a_layout().stored())
    assert "bond0" in desk.seed("layout", "put", desk.file("bonded.yaml", text))
    assert desk.seed("layout", "show", "bonded") == text
    assert "bonded" in desk.seed("layout", "list")
    desk.seed("layout", "delete", "bonded")
    assert json.loads(desk.seed("layout", "list", "-o", "json")) == []


def test_what_is_wrong_with_a_file_is_said_with_its_place(desk: Desk) -> None:
    text = written(a_network().stored()).replace("10.40.0.19", "10.41.0.19")
    said = " ".join(desk.seed("network", "put", desk.file("bad.yaml", text), code=1).split())
    assert "the network is wrong at subnets.0: pools: 10.40.0.10-10.41.0.19 is not within" in said
    assert "try:" in said or "docs/networks.md" in said
