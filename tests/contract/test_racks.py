"""The rack plan by the API: import, all or nothing; the room of stored BMCs; labels."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete
from sqlmodel import Session, func, select

from api.app import create_app
from api.parts import Door, Parts
from provisioning.hardware import Inventory, Neighbour, Nic
from provisioning.models import Bmc, Discovery, Event, now
from provisioning.room import Observation, Slot
from tests.fakes.api import some_parts

PLAN = """rack,unit,serial,class,technician,NIC1,NIC2
r3,21,SN-A11,compute,ann,leaf1:1,leaf2:1
r3,22,SN-B22,compute,bob,leaf1:2,leaf2:2
r4,1,SN-C3,compute,ann,leaf1:3,leaf2:3
"""


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return some_parts(tmp_path)


@pytest.fixture
def api(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_app(parts, Door.LOCAL), client=("uid:0", 1)) as client:
        yield client


def put(api: TestClient, text: str = PLAN, **more: Any) -> Any:
    query = {name: value for name, value in more.items() if value is not None}
    return api.post("/v1/racks:import", content=text.encode(), params=query)


def slots(parts: Parts) -> list[str]:
    with parts.store.read() as session:
        return sorted(f"{s.rack}u{s.unit} {s.serial}" for s in session.exec(select(Slot)))


def heard(*ports: str, minutes: int = 0, **more: Any) -> dict[str, Any]:
    """An inventory as a row keeps it, NICs in order."""
    nics = [
        Nic(
            mac=f"02:00:00:00:00:{int(port.rpartition(':')[2]):x}{n}",
            name=f"eno{n}",
            neighbours=(Neighbour(switch=port.partition(":")[0], port=port.rpartition(":")[2]),),
        )
        for n, port in enumerate(ports, 1)
    ]
    return Inventory(nics=tuple(nics), **more).model_dump(mode="json")


def bmc(session: Session, address: str, serial: str, *ports: str, **more: Any) -> None:
    row: dict[str, Any] = {"ramdisk": heard(*ports), "ramdisk_at": now()} if ports else {}
    session.add(Bmc(address=address, protocol="redfish", serial=serial, **(row | more)))


@pytest.fixture
def room(parts: Parts, api: TestClient) -> TestClient:
    """A1 and B2 are swapped, C3 never came, X9 is nobody's."""
    assert put(api).status_code == 200
    with parts.store.write() as session:
        bmc(session, "10.0.0.1", "SN-A11", "leaf1:2", "leaf2:2", manager_mac="02:00:00:00:0a:01")
        bmc(
            session,
            "10.0.0.2",
            "SN-B22",
            "leaf1:1",
            "leaf2:1",
            node_name="sn-b22",
            resource_class="compute",
        )
        bmc(session, "10.0.0.9", "SN-X9")
    return api


# --- import ---------------------------------------------------------------------------------------


def test_an_import_plans_the_racks_it_names_and_leaves_the_others(
    parts: Parts, api: TestClient
) -> None:
    assert put(api).json() == {"racks": ["r3", "r4"], "slots": 3, "removed": 0, "kept": 0}
    changed = put(api, "rack,unit,serial\nR3,5,SN-Z\n").json()
    assert changed == {"racks": ["R3"], "slots": 1, "removed": 2, "kept": 1}
    assert slots(parts) == ["R3u5 SN-Z", "r4u1 SN-C3"]
    with parts.store.read() as session:
        event = session.exec(select(Event).where(Event.kind == "racks.planned")).all()[-1]
    assert (event.subject, event.message, event.who) == (
        "R3", "1 slots planned, 2 removed", "root",
    )  # fmt: skip


def test_a_dry_run_tells_and_changes_nothing(parts: Parts, api: TestClient) -> None:
    put(api)
    told = put(api, "rack,unit,serial\nr9,5,SN-Z\n", replace=True, dry_run=True).json()
    assert told == {"racks": ["r9"], "slots": 1, "removed": 3, "kept": 0}
    assert len(slots(parts)) == 3


def test_replacing_everything_takes_the_number_that_was_shown(
    parts: Parts, api: TestClient
) -> None:
    put(api)
    other = "rack,unit,serial\nr9,5,SN-Z\n"
    for removes in (None, 2):
        answer = put(api, other, replace=True, removes=removes)
        assert answer.status_code == 409
        assert answer.json()["detail"] == f"this removes 3 planned slots, not {removes or 'none'}"
    assert len(slots(parts)) == 3
    assert put(api, other, replace=True, removes=3).status_code == 200
    assert slots(parts) == ["r9u5 SN-Z"]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("r5,1,sn-c3,", "serial sn-c3 is planned twice: r4u1 (planned before) and r5u1 (row 2)"),
        (
            "r5,1,NEW,leaf1:3",
            "switch port leaf1:3 is planned twice: "
            "NIC1 of r4u1 (planned before) and NIC1 of r5u1 (row 2)",
        ),
    ],
)
def test_what_another_rack_has_is_refused_with_both_places(
    parts: Parts, api: TestClient, row: str, sentence: str
) -> None:
    put(api)
    answer = put(api, f"rack,unit,serial,NIC1\n{row}\n")
    assert (answer.status_code, answer.json()["detail"]) == (409, sentence)
    assert answer.json()["remedy"]
    assert len(slots(parts)) == 3


def test_one_bad_row_of_many_leaves_the_old_plan(parts: Parts, api: TestClient) -> None:
    put(api)
    rows = [f"r{n // 40 + 3},{n % 40 + 1},S{n}" for n in range(20_000)]
    answer = put(api, "rack,unit,serial\n" + "\n".join([*rows, "r3,=1+1,S"]))
    assert answer.status_code == 422
    assert answer.json()["detail"] == "row 20002: the cell under 'unit' is a formula"
    assert len(slots(parts)) == 3


def test_a_plan_larger_than_other_bodies_is_taken(parts: Parts, api: TestClient) -> None:
    rows = [f"r{n // 40},{n % 40 + 1},SERIAL-{n:040}" for n in range(20_000)]
    text = "rack,unit,serial\n" + "\n".join(rows)
    assert len(text) > 1024 * 1024
    assert put(api, text).json()["slots"] == 20_000
    with parts.store.read() as session:
        assert session.exec(select(func.count()).select_from(Slot)).one() == 20_000


# --- the room -------------------------------------------------------------------------------------


def test_racks_are_counted(room: TestClient) -> None:
    rows = [
        {"rack": "r3", "site": "", "row": "", "planned": 2, "found": 2, "right": 0, "wrong": 2},
        {"rack": "r4", "site": "", "row": "", "planned": 1, "found": 0, "right": 0, "wrong": 0},
    ]
    assert room.get("/v1/racks").json() == rows


def test_one_line_of_work_is_all_of_this(room: TestClient) -> None:
    swapped, missing, unknown = room.get("/v1/racks:work").json()
    assert swapped.pop("at")
    assert swapped.pop("age_seconds") < 60
    assert swapped == {
        "id": swapped["id"],
        "kind": "swap-servers",
        "hint": False,
        "rack": "r3",
        "slot": "r3u21",
        "unit": 21,
        "part": "server",
        "text": "r3u21 and r3u22 are swapped",
        "from": "r3u21",
        "to": "r3u22",
        "serial": "SN-B22",
        "check": "Read the labels first: if both servers are where they belong, "
        "their cables are swapped.",
        "evidence": "serial SN-B22 has 2 of 2 cables planned for r3u21 (in band); "
        "serial SN-A11 has 2 of 2 cables planned for r3u22 (in band)",
        "technicians": ["ann", "bob"],
        "bmcs": ["10.0.0.2", "10.0.0.1"],
    }
    assert missing["text"] == "r4u1 is empty, serial SN-C3 expected"
    assert (unknown["text"], unknown["hint"]) == ("serial SN-X9 is in no plan", True)
    assert len(swapped["id"]) == 10


def test_the_list_is_cut_by_technician_and_rack(room: TestClient) -> None:
    def texts(**query: str) -> list[str]:
        return [line["text"] for line in room.get("/v1/racks:work", params=query).json()]

    assert texts(technician="bob") == ["r3u21 and r3u22 are swapped"]
    assert texts(rack="R4") == ["r4u1 is empty, serial SN-C3 expected"]
    assert texts(technician="bob", rack="r4") == []
    assert texts(technician="eve") == []
    assert room.get("/v1/racks:work", params={"rack": "r7"}).status_code == 404


def test_a_rack_tells_its_slots(room: TestClient) -> None:
    rack = room.get("/v1/racks/r3").json()
    first, second = rack["slots"]
    assert (first["slot"], first["verdict"], first["serial"]) == ("r3u21", "wrong", "SN-A11")
    assert (first["holds"], first["node"], first["sits"]) == ("SN-B22", "sn-b22", "r3u22")
    assert first["nics"] == {"NIC1": "leaf1:1", "NIC2": "leaf2:1"}
    assert second["sits"] == "r3u21"
    assert [line["slot"] for line in rack["work"]] == ["r3u21"]
    answer = room.get("/v1/racks/r7")
    assert (answer.status_code, answer.json()["remedy"]) == (
        404, "See which are: `seed rack list`.",
    )  # fmt: skip


def test_a_rack_whose_name_two_have_is_asked_for_by_its_row(api: TestClient) -> None:
    put(api, "row,rack,unit,serial\na,r3,1,SA\nb,r3,1,SB\n")
    answer = api.get("/v1/racks/r3")
    assert (answer.status_code, answer.json()["detail"]) == (409, "'r3' may be a/r3 or b/r3")
    assert api.get("/v1/racks/r3", params={"row": "b"}).json()["slots"][0]["serial"] == "SB"


def test_the_newer_of_both_bands_counts(parts: Parts, api: TestClient) -> None:
    put(api)
    nics = heard("leaf1:1", "leaf2:1")
    before = heard("leaf1:1", "leaf2:1")
    before["nics"][1]["neighbours"][0]["port"] = "9"
    for older, newer, verdict in ((before, nics, "right"), (nics, before, "wrong")):
        with parts.store.write() as session:
            session.execute(delete(Bmc))
            bmc(
                session, "10.0.0.1", "SN-A11", ramdisk=older, inventory=newer,
                ramdisk_at=now() - timedelta(hours=3), inventory_at=now(),
            )  # fmt: skip
        assert api.get("/v1/racks/r3").json()["slots"][0]["verdict"] == verdict
    (line, *_) = api.get("/v1/racks:work").json()
    assert line["text"] == "move cable NIC2 of r3u21 from leaf2:9 to leaf2:1"
    assert line["evidence"] == "LLDP out of band; overrules in band, older: leaf2:1"


def test_a_bmc_that_tells_the_switchs_id_alone_is_no_wrong_cable(
    parts: Parts, api: TestClient
) -> None:
    """Dell's: until somebody beside it hears id and name together, its cable is not judged."""
    put(api)
    told = heard("leaf1:1", "leaf2:1")
    for nic, chassis in zip(told["nics"], ("0c:42:a1:00:00:01", "0c:42:a1:00:00:02"), strict=True):
        nic["neighbours"][0] |= {"switch": "", "chassis": chassis}
    with parts.store.write() as session:
        bmc(session, "10.0.0.1", "SN-A11", inventory=told, inventory_at=now())

    def texts() -> list[str]:
        return [
            line["text"] for line in api.get("/v1/racks:work").json() if line["slot"] == "r3u21"
        ]

    assert texts() == ["r3u21: no LLDP heard at NIC1, NIC2"]
    beside = heard("leaf1:2", "leaf2:9")
    for nic, chassis in zip(
        beside["nics"], ("0c:42:a1:00:00:01", "0C-42-A1-00-00-02"), strict=True
    ):
        nic["neighbours"][0]["chassis"] = chassis
    with parts.store.write() as session:
        bmc(session, "10.0.0.2", "SN-B22", ramdisk=beside, ramdisk_at=now())
    assert texts() == []


def test_a_sweep_that_missed_a_bmc_makes_it_silent(parts: Parts, room: TestClient) -> None:
    with parts.store.write() as session:
        session.add(
            Discovery(
                ranges=["10.0.0.0/30", "10.0.0.7-10.0.0.9"],
                exclude=["10.0.0.2"],
                state="done",
                created_at=now() + timedelta(seconds=1),
            )
        )
        session.add(Discovery(ranges=["of another time"], state="done"))
    silent = [line for line in room.get("/v1/racks:work").json() if line["kind"] == "bmc-silent"]
    assert [(line["slot"], line["from"], line["bmcs"]) for line in silent] == [
        ("r3u22", "10.0.0.1", [])
    ]


def test_the_discovery_ramdisk_tells_of_servers_that_nobody_accepted(
    parts: Parts, api: TestClient
) -> None:
    put(api)
    with parts.store.write() as session:
        bmc(session, "10.0.0.1", "SN-A11")
        for key, serial, address, ports in (
            ("m1", "SN-A11", "10.0.0.1", ("leaf1:1", "leaf2:1")),
            ("m3", "SN-C3", "", ("leaf1:3", "leaf2:7")),
        ):
            session.add(
                Observation(
                    source="ramdisk", key=key, serial=serial, bmc_address=address,
                    facts=heard(*ports),
                )
            )  # fmt: skip
    verdicts = {
        slot["slot"]: slot["verdict"]
        for rack in api.get("/v1/racks:report").json()["racks"]
        for slot in rack["slots"]
    }
    assert verdicts == {"r3u21": "right", "r3u22": "planned", "r4u1": "wrong"}
    work = [(line["text"], line["bmcs"]) for line in api.get("/v1/racks:work").json()]
    assert work == [
        ("r3u22 is empty, serial SN-B22 expected", []),
        ("move cable NIC2 of r4u1 from leaf2:7 to leaf2:3", []),
    ]


def test_a_row_that_cannot_be_read_loses_nothing(parts: Parts, api: TestClient) -> None:
    put(api)
    with parts.store.write() as session:
        bmc(session, "10.0.0.1", "SN-A11", ramdisk={"nics": "nonsense"}, ramdisk_at=now())
    assert api.get("/v1/racks").json()[0]["found"] == 1


# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "SN-A11",
        " sn-a11\r\n",
        "S/N: SN-A11",
        "PN=123;SN=SN-A11;REV=A0",
        "https://example.com/support?tag=x&serial=SN%2DA11",
        "1SMTM7X06SN-A11",
        "MAC 02-00-00-00-0A-01",
        "02000000 0A01 020000000A01",
    ],
)
def test_a_label_is_read(room: TestClient, text: str) -> None:
    answer = room.get("/v1/racks:scan", params={"text": text})
    found = answer.json()
    assert (found["serial"], found["address"]) == ("SN-A11", "10.0.0.1"), text
    assert (found["slot"]["slot"], found["slot"]["sits"]) == ("r3u21", "r3u22")
    assert [line["kind"] for line in found["work"]] == ["swap-servers"]


def test_a_label_of_a_server_that_is_only_planned_or_only_found(room: TestClient) -> None:
    planned = room.get("/v1/racks:scan", params={"text": "SN-C3"}).json()
    assert (planned["slot"]["slot"], planned["address"]) == ("r4u1", "")
    found = room.get("/v1/racks:scan", params={"text": "SN-X9"}).json()
    assert (found["slot"], found["address"]) == (None, "10.0.0.9")


@pytest.mark.parametrize(
    ("text", "status", "sentence"),
    [
        ("SN-Q7", 404, "nothing in 'SN-Q7' is a serial or MAC of the plan or of a BMC"),
        ("SN-A11 SN-B22", 409, "'SN-A11 SN-B22' names serial SN-A11 and serial SN-B22"),
        ("x" * 5000, 422, "text: string should have at most 2000 characters"),
    ],
)
def test_a_label_is_refused(room: TestClient, text: str, status: int, sentence: str) -> None:
    answer = room.get("/v1/racks:scan", params={"text": text})
    assert (answer.status_code, answer.json()["detail"]) == (status, sentence)
