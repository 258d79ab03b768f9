"""A rack plan, and a room that differs from it: the work list names what is to be done, and is
empty once that is done. Four servers. One is accepted and boots twice: its BMC tells nothing of
cables. Beside it one boots that nobody accepted, because somebody pressed its button.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from seed.host import netns
from seed.lab.demo import Demo
from tests.fakes.machine import fresh, traces, until
from tests.fakes.turn import CHAIN_SECONDS, Turn

NAMESPACE = "seed-room-e2e"
HOME = Path("/var/tmp/seed-room-e2e")  # noqa: S108  the services' own users must be able to enter it
ROOM = Path(__file__).resolve().parents[2] / "vagrant" / "room.yaml"
PLAN = ROOM.with_suffix(".csv")
BOOTS, STRANGER = "server3", "server4"
pytestmark = pytest.mark.timeout(2400)


@pytest.fixture(scope="module")
def before(turn: Turn) -> dict[str, str]:
    turn.wait()
    fresh(HOME, NAMESPACE)
    return traces(NAMESPACE)


@pytest.fixture(scope="module")
def room(before: dict[str, str]) -> Iterator[Demo]:
    scenario = HOME / "lab.yaml"
    scenario.write_text(ROOM.read_text().replace("seed-room", NAMESPACE))
    demo = Demo(HOME, scenario, discovery_ramdisk=True)
    try:
        yield demo
    finally:
        demo.end()


@pytest.mark.timeout(CHAIN_SECONDS + 2400)
def test_the_room_is_wired_otherwise_than_planned(room: Demo) -> None:
    room.start("ramdisk")
    lab(room, "cable", "swap", "server1:1", "server1:2")
    lab(room, "server", "swap", "server3", "server4")
    lab(room, "power", STRANGER, "on")


def test_found_and_one_inspected(room: Demo) -> None:
    room.find()
    assert {bmc["serial"] for bmc in room.ask("bmc", "list")} == {
        f"LAB-000{n}" for n in range(1, 5)
    }
    address = str(room.scenario.server(BOOTS).bmc.address)
    room.seed("bmc", "accept", address, "--name", BOOTS)
    with room.phase("inspect"):
        room.follow_nodes("manageable")


def test_an_unknown_server_told_what_it_is_and_is_one_record_with_its_bmc(room: Demo) -> None:
    server = room.scenario.server(STRANGER)

    def record() -> dict[str, Any]:
        found: dict[str, Any] = room.look_at(f"/observations?match={server.serial}")[0]
        return found

    with room.phase("the ramdisk of a server that nobody accepted"):
        until(lambda: "ramdisk" in record()["sources"], 600, "its observation")
    lab(room, "power", STRANGER, "off")
    assert len(room.look_at("/observations")) == 4, "one record per server"
    box = record()
    assert (box["state"], box["sources"], box["problem"]) == ("observed", ["sweep", "ramdisk"], "")
    assert (box["bmc_address"], box["macs"]) == (str(server.bmc.address), [server.nics[0].mac])
    facts = next(word["facts"] for word in box["words"] if word["source"] == "ramdisk")
    assert facts["nics"][0]["neighbours"][0]["port"] == "Ethernet3", "it is in server3's place"
    assert [drive["serial"] for drive in facts["drives"]] == [server.disks[0].serial]
    assert [node["name"] for node in room.look_at("/nodes")] == [BOOTS], "seen, not enrolled"


def test_the_work_list_names_exactly_what_differs(room: Demo) -> None:
    put_plan(room, PLAN.read_text().replace("LAB-0002", "LAB-9999"))
    assert told(room) == {
        "swap cables NIC1 and NIC2 of r1u1: "
        "NIC1 belongs into leaf1:Ethernet1, NIC2 into leaf2:Ethernet1",
        "r1u2 holds serial LAB-0002, serial LAB-9999 expected",
        "r1u3 and r1u4 are swapped",
    }


def test_only_parts_are_left_to_do_once_the_cables_are_right(room: Demo) -> None:
    put_class(room)
    put_plan(room, PLAN.read_text())
    lab(room, "cable", "swap", "server1:1", "server1:2")
    lab(room, "server", "swap", "server3", "server4")
    redfish = [s for s in room.scenario.servers if s.bmc.protocol == "redfish"]
    room.seed("bmc", "inspect", *(str(s.bmc.address) for s in redfish))
    assert told(room) == {"move cable NIC1 of r1u3 from leaf1:Ethernet4 to leaf1:Ethernet3"}, (
        "its BMC knows nothing of cables, and its ramdisk was not asked since"
    )
    lab(room, "server", "change", BOOTS, "--memory-mib", "2560", "--disk", "1:LAB-0003-D9")
    with room.phase("inspect again"):
        room.seed("node", "inspect", BOOTS, "--yes")
        room.follow_nodes("manageable")
    assert told(room) == {
        "r1u3 differs from its class baremetal: memory: 2560 MiB, class wants 1987 to 2109"
    }
    assert changed(room) == {
        "memory in MiB: 2560, was 2048", "drive LAB-0003-D0 is gone", "drive LAB-0003-D9 is new",
    }  # fmt: skip


def test_nothing_is_left_to_do_once_the_new_parts_are_accepted(room: Demo) -> None:
    room.seed("node", "accept-drift", BOOTS)
    assert changed(room) == set()
    put_class(room)
    assert told(room) == set()


def test_the_server_that_is_meant_blinks(room: Demo) -> None:
    assert leds(room) == {"server1": "Off", "server2": "Off", "server4": "Off"}
    room.seed("rack", "locate", "r1u1", "--on")
    assert leds(room) == {"server1": "Blinking", "server2": "Off", "server4": "Off"}
    room.seed("rack", "locate", "r1u1", "--off")
    room.seed("rack", "scan", "https://label.example/?sn=LAB-0002")
    assert leds(room) == {"server1": "Off", "server2": "Blinking", "server4": "Off"}
    labels = HOME / "labels"
    labels.write_text("LAB-0002\nLAB-0004\n")
    room.seed("rack", "scan", stdin=labels)
    assert set(leds(room).values()) == {"Off"}, "the one before stops, and the last at the end"


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


def put_class(room: Demo) -> None:
    """The server that boots is as all of its class shall be."""
    path = HOME / "class.yaml"
    path.write_text(room.seed("class", "from", BOOTS, "--name", "baremetal"))
    room.seed("class", "put", str(path))


def told(room: Demo) -> set[str]:
    """The work list."""
    lines: list[dict[str, Any]] = room.ask("rack", "work")
    return {line["text"] for line in lines}


def changed(room: Demo) -> set[str]:
    """What `seed node drift` says, of all nodes."""
    rows: list[dict[str, Any]] = room.ask("node", "drift")
    return {line for row in rows for line in row["drift"]}


def leds(room: Demo) -> dict[str, str]:
    """Of the Redfish BMCs, as each tells it to somebody else. They have the lab's login still."""
    password = (room.lab_dir / "bmc-password").read_text().strip()

    def ask(address: str, uuid: str) -> str:
        # A BMC's own self-signed certificate, on this machine's own wire.
        url = f"https://{address}/redfish/v1/Systems/{uuid}"
        answer = httpx.get(url, auth=("admin", password), verify=False, timeout=30)  # noqa: S501
        return str(answer.raise_for_status().json()["IndicatorLED"])

    servers = [s for s in room.scenario.servers if s.bmc.protocol == "redfish"]
    asked = [(s.name, str(s.bmc.address), str(s.uuid)) for s in servers]
    return netns.call(NAMESPACE, lambda: {name: ask(a, u) for name, a, u in asked})
