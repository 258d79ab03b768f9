"""`seed node list` and `seed node label`, against the API on a port."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from typer.testing import CliRunner

from api.app import create_app
from api.parts import Door
from api.roles import Role
from provisioning import sight
from provisioning.models import Bmc, Hold, now
from provisioning.states import BmcGoal
from seed.cli import app
from tests.fakes.api import a_token, empty_ironic, ironic_double, some_parts
from tests.fakes.ironic import FakeIronic
from tests.fakes.serving import api_on_a_port

NODES = 1003  # more than one page


class Desk:
    def __init__(self, folder: Path, url: str) -> None:
        self.env = {
            "SEED_CONFIG": "/nowhere", "SEED_SERVER": url, "NO_COLOR": "1",
            "SEED_TOKEN_FILE": str(folder / "token"), "COLUMNS": "80",
        }  # fmt: skip

    def seed(self, *words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, words, env=self.env)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    base = tmp_path_factory.mktemp("verbs")
    ironic = FakeIronic()
    with ironic_double() as double:
        double.answer = empty_ironic(double)
        parts = some_parts(base, double.url)
        with parts.store.write() as session:
            for n in range(NODES):
                node = ironic.add(f"sn-{n:04}", provision_state="active" if n == 7 else "available")
                session.add(
                    Bmc(address=f"10.0.{n // 250}.{n % 250}", protocol="fake", node_name=node.name,
                        node_uuid=UUID(node.uuid), goal=BmcGoal.AVAILABLE)
                )  # fmt: skip
                session.add(Hold(node_uuid=UUID(node.uuid)))
            before = now() - timedelta(seconds=200)
            sight.write(session, ironic.nodes(), all_of_them=True, at=before)
        (base / "token").write_text(a_token(parts, "me", Role.OPERATOR))
        with api_on_a_port(create_app(parts, Door.WEB)) as url:
            yield Desk(base, url)


def test_all_pages_are_listed_and_an_old_sight_is_said(desk: Desk) -> None:
    code, said = desk.seed("node", "list")
    assert (code, said.count("available"), said.count("active")) == (0, NODES - 1, 1)
    assert re.search(r"seen [34] m ago", said)
    assert "is Ironic up? `seed status`" in said
    assert max(len(line) for line in said.splitlines()) <= 80


def test_labels_are_put_on_and_taken_off_and_choose(desk: Desk) -> None:
    assert desk.seed("node", "label", "sn-0003", "team=ai", "old=") == (
        0, "sn-0003: old=, team=ai\n"
    )  # fmt: skip
    assert desk.seed("node", "label", "sn-0003", "old-")[1] == "sn-0003: team=ai\n"
    _, said = desk.seed("node", "list", "--label", "team=ai", "--free")
    assert ("sn-0003" in said, "sn-0004" in said) == (True, False)
    _, said = desk.seed("node", "list", "--state", "active", "-o", "json")
    assert ('"sn-0007"' in said, '"sn-0003"' in said) == (True, False)


@pytest.mark.parametrize(
    ("word", "code", "told"),
    [
        pytest.param("team", 2, "key=value", id="neither set nor taken off"),
        pytest.param("=x", 2, "key=value", id="no key"),
        pytest.param("k=" + "v" * 64, 1, "error", id="too long"),
    ],
)
def test_a_label_that_is_none_is_refused_in_words(
    desk: Desk, word: str, code: int, told: str
) -> None:
    got, said = desk.seed("node", "label", "sn-0001", word)
    assert (got, told in said) == (code, True), said
