"""`seed class ...`, and parts in `seed node ...`: typed as people do, on a real socket."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import uvicorn

from api.app import create_app
from api.parts import Door, Parts
from api.peer import PeerProtocol
from provisioning.models import Bmc, Hold, now
from provisioning.states import BmcGoal
from seed.serve import listening
from tests.fakes.api import empty_ironic, ironic_double, some_parts
from tests.fakes.hardware import an_inventory

TOP = Path(__file__).resolve().parents[2]
WIRE = 'interface = "lo"\naddress = "127.0.0.1/8"\n'
SETTINGS = f"""\
run_dir = "{{run}}"
[management]
{WIRE}
[out_of_band]
{WIRE}
[provisioning]
{WIRE}
pool_start = "127.0.0.10"
pool_end = "127.0.0.99"
unknown_start = "127.0.0.100"
unknown_end = "127.0.0.110"
"""


@dataclass
class Desk:
    folder: Path
    parts: Parts

    def seed(self, *words: str) -> tuple[int, str]:
        """Exit code, and everything that was printed."""
        done = subprocess.run(
            [sys.executable, "-m", "seed", *words],
            env={**os.environ, "SEED_CONFIG": str(self.folder / "seed.toml"), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=120,
            cwd=TOP,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr

    def add(self, name: str, **facts: Any) -> None:
        uuid = uuid4()
        told = {
            "address": f"192.0.2.{name[1:]}", "protocol": "fake", "serial": name,
            "node_name": name, "node_uuid": uuid, "goal": BmcGoal.AVAILABLE,
            "inventory": an_inventory(), "inventory_at": now(),
        } | facts  # fmt: skip
        with self.parts.store.write() as session:
            session.add(Bmc(**told))
            session.add(Hold(node_uuid=uuid))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "seed.toml").write_text(SETTINGS.format(run=tmp_path))
    with ironic_double() as ironic, listening(tmp_path / "api.sock", "root") as socket:
        ironic.answer = empty_ironic(ironic)
        parts = some_parts(tmp_path, ironic.url)
        config = uvicorn.Config(
            create_app(parts, Door.LOCAL), http=PeerProtocol, log_config=None, ws="none"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
        thread.start()
        yield Desk(tmp_path, parts)
        server.should_exit = True
        thread.join(30)


def test_from_a_golden_server_to_a_class_and_back(desk: Desk) -> None:
    desk.add("r1")
    desk.add("r2", inventory=an_inventory(ssds=3))
    desk.add("r3", inventory=an_inventory(model="PowerEdge R640"))
    file = desk.folder / "storage.yaml"
    code, text = desk.seed("class", "from", "r1", "--name", "storage")
    assert code == 0
    file.write_text(text)
    code, said = desk.seed("class", "test", str(file))
    assert code == 0
    rows = {line.split()[0]: line for line in said.splitlines()[1:]}
    assert "yes" in rows["r1"]
    assert "differs" in rows["r2"]
    assert "drives: 3 x ssd 960 GB, class wants 4" in rows["r2"]
    assert "model: PowerEdge R640, class wants PowerEdge R740xd" in rows["r3"]
    assert desk.seed("class", "list")[1].strip() == "none"
    assert desk.seed("class", "put", str(file))[0] == 0
    code, said = desk.seed("class", "apply", "--all", "--yes")
    assert code == 0
    assert "Re-apply the rules: 2 node(s) change, 1 stay as they are." in said
    assert "r3  stays: no class fits it" in said
    code, said = desk.seed("node", "list")
    assert code == 0
    assert "r2: not handed out: drives: 3 x ssd 960 GB, class wants 4" in said
    assert "r1: not handed out" not in said
    assert desk.seed("class", "apply", "--all")[1].splitlines()[-1] == "nothing changes"
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
        assert (code, said.splitlines()[1:]) == (0, ["r1    drive D3 is new"])
    assert "r1: changed: drive D3 is new" in desk.seed("node", "list")[1]
    code, said = desk.seed("node", "accept-drift", "r1")
    assert (code, "drive D3 is new" in said) == (0, True)
    assert desk.seed("node", "drift")[1].strip() == "none"


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
    assert said.count("  try: ") == 1
