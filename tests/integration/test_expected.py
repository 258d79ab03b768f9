"""A packing list imported with --accept-matches, and a room of BMCs that a sweep finds afterwards:
the running appliance accepts what tells a row's BMC MAC and serial, and nobody else. Real Ironic.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from seed.lab.fleet.running import running
from seed.lab.fleet.spec import Spec
from tests.fakes.appliance import base_folder, initialised, until
from tests.fakes.wire import appliance_namespace, ip

PASSWORD = "fleet-password"
SPEC = Spec(range="10.64.0.0/24", bmcs=4, speaks=("redfish",), password=SecretStr(PASSWORD))
LIMIT = 120  # seconds


@dataclass
class Room:
    """A running appliance, and the BMCs that it reaches, in the order of their addresses."""

    base: Path
    bmcs: list[dict[str, Any]]

    def seed(self, *words: str, stdin: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "seed", *words], input=stdin, capture_output=True, text=True,
            timeout=2 * LIMIT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, *words: str) -> Any:
        return json.loads(self.seed(*words, "-o", "json"))

    def accepted(self) -> dict[str, str]:
        """Address -> node, of those that anybody accepted."""
        boxes = self.ask("observation", "list")
        return {b["bmc_address"]: b["name"] for b in boxes if b["state"] == "accepted"}


@pytest.fixture(scope="module")
def room() -> Iterator[Room]:
    fleet = f"seed-tx-{os.getpid()}-f"
    with ExitStack() as stack:
        base = stack.enter_context(base_folder())
        stack.enter_context(pytest.MonkeyPatch.context()).setenv(
            "SEED_CONFIG", str(base / "seed.toml")
        )
        here = stack.enter_context(appliance_namespace(f"seed-tx-{os.getpid()}"))
        ip("netns", "add", fleet)
        stack.callback(ip, "netns", "delete", fleet)
        control = stack.enter_context(running(SPEC, fleet, attach=here))
        initialised(base, here)
        room = Room(base, control.bmcs())
        stack.callback(room.seed, "down")
        room.seed("up")
        yield room


def test_who_tells_a_rows_mac_and_serial_becomes_a_node_by_itself(room: Room) -> None:
    """One right, one with another's serial, one with another's MAC, one on no list."""
    right, wrong_serial, wrong_mac, _ = room.bmcs
    listed = room.base / "pallet-7.csv"
    rows = [
        (right["serial"], right["mac"], "right"),
        ("SN-NEVER-MADE", wrong_serial["mac"], "wrong-serial"),
        (wrong_mac["serial"], "52:54:00:de:ad:01", "wrong-mac"),
    ]
    lines = ["Serial,BMC MAC,Hostname", *(",".join(row) for row in rows)]
    listed.write_text("\n".join(lines))
    room.seed("packing-list", "import", str(listed), "--accept-matches")
    assert room.accepted() == {}, "nobody saw them yet"
    room.seed("discover", SPEC.range, "--username", "admin", "--password-stdin", stdin=PASSWORD)
    until(lambda: room.accepted() != {}, LIMIT, "the match")
    (node,) = room.ask("node", "list")
    until(
        lambda: room.ask("node", "show", "right")["provision_state"] == "manageable",
        LIMIT, "Ironic has it, with a login of its own",
    )  # fmt: skip
    assert (node["name"], node["serial"]) == ("right", right["serial"])
    assert room.accepted() == {right["address"]: "right"}, "and nobody else, some seconds later"


def test_a_list_that_comes_after_the_sweep_counts_too(room: Room) -> None:
    late = room.bmcs[3]
    listed = room.base / "late.csv"
    listed.write_text(f"Serial,BMC MAC,Hostname\n{late['serial']},{late['mac']},late\n")
    room.seed("packing-list", "import", str(listed))
    before = room.accepted()
    listed.write_text(listed.read_text() + "SN-OTHER,52:54:00:de:ad:02,other\n")
    room.seed("packing-list", "import", str(listed), "--accept-matches")
    assert late["address"] not in before, "a list without --accept-matches accepts nobody"
    until(lambda: room.accepted().get(late["address"]) == "late", LIMIT, "the match")
