"""`seed class ...`, and parts in `seed node ...`: typed as people do, on a real socket."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from provisioning.models import Bmc, Hold, now
from provisioning.states import BmcGoal
from seed.cli import app
from tests.fakes.api import Asked, a_token, empty_ironic, ironic_double, some_parts
from tests.fakes.hardware import an_inventory
from tests.fakes.serving import api_on_a_port

NOTHING_ELSE: dict[str, Any] = dict.fromkeys(
    ("driver", "target_provision_state", "power_state", "resource_class", "last_error",
     "maintenance", "maintenance_reason", "instance_uuid", "reservation",
     "properties", "extra", "updated_at"),
) | {"provision_state": "available"}  # fmt: skip


@dataclass
class Desk:
    folder: Path
    parts: Parts
    url: str
    nodes: list[dict[str, Any]]

    def seed(self, *words: str) -> tuple[int, str]:
        """Exit code, and everything that was printed, as one line."""
        code, text = self.raw(*words)
        return code, " ".join(text.split())

    def raw(self, *words: str) -> tuple[int, str]:
        env = {
            "SEED_CONFIG": "/nowhere", "SEED_SERVER": self.url, "NO_COLOR": "1",
            "SEED_TOKEN_FILE": str(self.folder / "token"),
        }  # fmt: skip
        done = CliRunner().invoke(app, words, env=env)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    def add(self, name: str, **facts: Any) -> None:
        uuid = uuid4()
        told = {
            "address": f"192.0.2.{name[1:]}", "protocol": "fake", "serial": name,
            "node_name": name, "node_uuid": uuid, "goal": BmcGoal.AVAILABLE,
            "inventory": an_inventory(), "inventory_at": now(),
        } | facts  # fmt: skip
        self.nodes.append(
            NOTHING_ELSE | {"uuid": str(uuid), "name": name, "inspection_finished_at": "then"}
        )
        with self.parts.store.write() as session:
            session.add(Bmc(**told))
            session.add(Hold(node_uuid=uuid))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with ironic_double() as ironic:
        nodes: list[dict[str, Any]] = []
        empty = empty_ironic(ironic)

        def answer(asked: Asked) -> tuple[int, dict[str, str], Any]:
            if asked.path.startswith("/v1/nodes?"):
                return 200, {}, {"nodes": nodes}
            return empty(asked)

        ironic.answer = answer
        parts = some_parts(tmp_path, ironic.url)
        (tmp_path / "token").write_text(a_token(parts, "me", Role.OPERATOR))
        with api_on_a_port(create_app(parts, Door.WEB)) as url:
            yield Desk(tmp_path, parts, url, nodes)


def test_from_a_golden_server_to_a_class_and_back(desk: Desk) -> None:
    desk.add("r1")
    desk.add("r2", inventory=an_inventory(ssds=3))
    desk.add("r3", inventory=an_inventory(model="PowerEdge R640"))
    file = desk.folder / "storage.yaml"
    code, text = desk.raw("class", "from", "r1", "--name", "storage")
    assert code == 0
    file.write_text(text)
    code, said = desk.seed("class", "test", str(file))
    assert code == 0
    assert "r1 yes storage class none -> storage; resource class" in said
    assert "r2 differs storage drives: 3 x ssd 960 GB, class wants 4" in said
    assert "r3 no model: PowerEdge R640, class wants PowerEdge R740xd" in said
    assert desk.seed("class", "list")[1] == "none"
    assert desk.seed("class", "put", str(file))[0] == 0
    code, said = desk.seed("class", "apply", "--all", "--yes")
    assert code == 0
    assert "Re-apply the rules: 2 node(s) change, 1 stay as they are." in said
    assert "r3 stays: no class fits it" in said
    code, said = desk.seed("node", "list")
    assert code == 0
    assert "r2: not handed out: drives: 3 x ssd 960 GB, class wants 4" in said
    assert "r1: not handed out" not in said
    assert desk.seed("class", "apply", "--all")[1].endswith("nothing changes")
    code, said = desk.seed("class", "show", "storage")
    assert code == 0
    assert "size_gb: 960" in said
    code, said = desk.seed("class", "delete", "storage")
    assert (code, said.split()[-2:]) == (0, ["r1", "r2"])


def test_drift_is_listed_and_accepted(desk: Desk) -> None:
    desk.add("r1", baseline=an_inventory(ssds=3), drift=["drive D3 is new"])
    desk.add("r2")
    for words in (("node", "drift"), ("node", "drift", "r1")):
        code, said = desk.seed(*words)
        assert (code, said) == (0, "NODE CHANGED r1 drive D3 is new")
    assert "r1: changed: drive D3 is new" in desk.seed("node", "list")[1]
    code, said = desk.seed("node", "accept-drift", "r1")
    assert (code, "drive D3 is new" in said) == (0, True)
    assert desk.seed("node", "drift")[1] == "none"


def test_a_node_of_the_pool_is_inspected_again_after_the_plan_was_read(desk: Desk) -> None:
    desk.add("r1", detail="available")
    code, said = desk.seed("node", "inspect", "r1")
    assert code == 1, "nobody typed the number"
    assert "r1 leaves the pool and is inspected; `seed node provide` cleans and offers" in said
    code, said = desk.seed("node", "inspect", "r1", "--yes")
    assert (code, "is to be inspected again" in said) == (0, True)
    code, said = desk.seed("node", "inspect", "r1", "--yes")
    assert (code, "r1 is not inspected yet; it will be" in said) == (1, True)
    desk.add("r2")
    desk.nodes[1]["provision_state"] = "active"
    code, said = desk.seed("node", "inspect", "r2")
    assert (code, "r2 is active; only manageable and available nodes" in said) == (1, True)
    assert desk.seed("node", "inspect", "r9")[1].startswith("error: there is no node 'r9'")


@pytest.mark.parametrize(
    ("words", "content", "sentence"),
    [
        pytest.param(("put", "{}"), b"a: &a [1]\nb: *a", "aliases (*) are not taken", id="bomb"),
        pytest.param(("put", "{}"), b"\xff\xfe", "is not UTF-8 text", id="bytes"),
        pytest.param(("put", "{}"), b"#" * 1_100_000, "is longer than 1 MiB", id="long"),
        pytest.param(("put", "{}.none"), b"", "cannot be read: No such file", id="no file"),
        pytest.param(("test", "none"), b"", "there is no class 'none'", id="no class"),
        pytest.param(("test", "../x"), b"", "is no name or address", id="no name"),
        pytest.param(("from", "r9", "--name", "x"), b"", "there is no node 'r9'", id="no node"),
        pytest.param(("from", "r9", "--name", "a b"), b"", "name: only letters", id="odd name"),
        pytest.param(("apply",), b"", "name the nodes, or say all of them", id="nobody"),
        pytest.param(("apply", "r9"), b"", "there is no node 'r9'", id="apply to nobody"),
        pytest.param(("delete", "none"), b"", "there is no class 'none'", id="delete none"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_a_remedy(
    desk: Desk, words: tuple[str, ...], content: bytes, sentence: str
) -> None:
    file = desk.folder / "class.yaml"
    file.write_bytes(content)
    code, said = desk.seed("class", *(w.format(file) for w in words))
    assert code in (1, 2)
    assert sentence in said
    assert said.count("error: ") == 1
    assert said.count(" try: ") == 1
