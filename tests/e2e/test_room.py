"""A rack plan, and a room that differs from it: the work list names what is to be done, and is
empty once that is done. Four servers; one of them boots, twice: its BMC tells nothing of cables.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seed.lab.demo import Demo
from tests.fakes.machine import traces

NAMESPACE = "seed-room-e2e"
HOME = Path("/var/tmp/seed-room-e2e")  # noqa: S108  the services' own users must be able to enter it
ROOM = Path(__file__).resolve().parents[2] / "vagrant" / "room.yaml"
PLAN = ROOM.with_suffix(".csv")
BOOTS = "server3"
pytestmark = pytest.mark.timeout(2400)


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return traces(NAMESPACE)


@pytest.fixture(scope="module")
def room(before: dict[str, str]) -> Iterator[Demo]:
    scenario = HOME / "lab.yaml"
    if scenario.exists():  # an earlier run was killed
        Demo(HOME, scenario).end()
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(mode=0o755)
    scenario.write_text(ROOM.read_text().replace("seed-room", NAMESPACE))
    demo = Demo(HOME, scenario)
    try:
        yield demo
    finally:
        demo.end()


def test_the_room_is_wired_otherwise_than_planned(room: Demo) -> None:
    room.start("ramdisk")
    lab(room, "cable", "swap", "server1:1", "server1:2")
    lab(room, "server", "swap", "server3", "server4")


def test_found_and_one_inspected(room: Demo) -> None:
    room.find()
    assert {bmc["serial"] for bmc in room.ask("bmc", "list")} == {
        f"LAB-000{n}" for n in range(1, 5)
    }
    address = str(room.scenario.server(BOOTS).bmc.address)
    room.seed("bmc", "accept", address, "--name", BOOTS)
    with room.phase("inspect"):
        room.follow_nodes("manageable")


def test_the_work_list_names_exactly_what_differs(room: Demo) -> None:
    put_plan(room, PLAN.read_text().replace("LAB-0002", "LAB-9999"))
    assert told(room) == {
        "swap cables NIC1 and NIC2 of r1u1: "
        "NIC1 belongs into leaf1:Ethernet1, NIC2 into leaf2:Ethernet1",
        "r1u2 holds serial LAB-0002, serial LAB-9999 expected",
        "r1u3 and r1u4 are swapped",
    }


def test_nothing_is_left_to_do_once_it_is_done(room: Demo) -> None:
    put_plan(room, PLAN.read_text())
    lab(room, "cable", "swap", "server1:1", "server1:2")
    lab(room, "server", "swap", "server3", "server4")
    redfish = [s for s in room.scenario.servers if s.bmc.protocol == "redfish"]
    room.seed("bmc", "inspect", *(str(s.bmc.address) for s in redfish))
    assert told(room) == {"move cable NIC1 of r1u3 from leaf1:Ethernet4 to leaf1:Ethernet3"}, (
        "its BMC knows nothing of cables, and its ramdisk was not asked since"
    )
    with room.phase("inspect again"):
        room.seed("node", "inspect", BOOTS, "--yes")
        room.follow_nodes("manageable")
    assert told(room) == set()


def test_nothing_is_left_behind(room: Demo, before: dict[str, str]) -> None:
    room.end()
    after = traces(NAMESPACE)
    for what, seen in before.items():
        assert after[what] == seen, what


# --- helpers ------------------------------------------------------------------------------------


def lab(room: Demo, *words: str) -> None:
    where = ("--scenario", str(room.scenario_file), "--state-dir", str(room.lab_dir))
    room.seed("lab", *words, *where)


def put_plan(room: Demo, text: str) -> None:
    path = HOME / "plan.csv"
    path.write_text(text)
    room.seed("rack", "plan", "import", str(path))


def told(room: Demo) -> set[str]:
    """The work list."""
    lines: list[dict[str, Any]] = room.ask("rack", "work")
    return {line["text"] for line in lines}
