"""Disks that are kept, through the API and by the verbs."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select
from typer.testing import CliRunner

from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from provisioning import disks
from provisioning.models import Bmc, Event, Hold, now
from provisioning.states import BmcGoal
from seed.cli import app
from tests.fakes.api import a_project, a_token, bearer, empty_ironic, ironic_double, some_parts
from tests.fakes.serving import api_on_a_port

DRIVES = [
    {"serial": "S1", "model": "PM9A3", "size_bytes": 480 * 10**9, "media": "ssd",
     "name": "/dev/sda"},
    {"serial": "H1", "wwn": "0x5000c500a1b2c3d4", "size_bytes": 8 * 10**12, "media": "hdd",
     "name": "/dev/sdb"},
    {"serial": "", "wwn": "", "size_bytes": 10**9, "name": "/dev/sdc"},
]  # fmt: skip
NODE = "/v1/nodes/sn-1"


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    with ironic_double() as double:
        double.answer = empty_ironic(double)
        found = some_parts(tmp_path, double.url)
        with found.store.write() as session:
            uuid = uuid4()
            session.add(
                Bmc(address="10.0.0.1", protocol="fake", node_name="sn-1", node_uuid=uuid,
                    goal=BmcGoal.AVAILABLE, serial="LAB-1", ramdisk={"drives": DRIVES},
                    ramdisk_at=now())
            )  # fmt: skip
            session.add(Hold(node_uuid=uuid))
        yield found


def asks(parts: Parts, role: Role) -> TestClient:
    return TestClient(
        create_app(parts, Door.WEB), headers=bearer(a_token(parts, f"a-{role}", role))
    )


def kept(parts: Parts) -> list[tuple[str, str, str]]:
    with parts.store.read() as session:
        (uuid,) = session.exec(select(Bmc.node_uuid)).all()
        rows = disks.kept_of(session, UUID(str(uuid)))
        return [(k.serial, k.wwn, k.project) for k in rows]


def test_a_disk_is_kept_by_serial_or_wwn_and_shown(parts: Parts) -> None:
    a_project(parts, "ceph")
    operator = asks(parts, Role.OPERATOR)
    ask = {"serial": "0x5000C500A1B2C3D4", "why": "case 4711", "project": "ceph"}
    told = operator.post(f"{NODE}:keep-disk", json=ask).json()
    assert kept(parts) == [("H1", "0x5000c500a1b2c3d4", "ceph")]
    assert [(d["serial"], d["kept"], d["why"]) for d in told] == [
        ("S1", False, ""), ("H1", True, "case 4711"), ("", False, ""),
    ]  # fmt: skip
    assert operator.post(f"{NODE}:keep-disk", json=ask).status_code == 200, "safe to repeat"
    with parts.store.read() as session:
        events = session.exec(select(Event).where(Event.kind == "node.disk-kept")).all()
    assert [(e.who, e.why) for e in events] == [("a-operator", "case 4711")]


@pytest.mark.parametrize(
    ("ask", "status", "sentence"),
    [
        pytest.param({"serial": "S9", "why": "x"}, 404, "no disk", id="not its disk"),
        pytest.param({"serial": " ", "why": "x"}, 404, "no disk", id="blank names nothing"),
        pytest.param({"serial": "S1", "why": " "}, 422, "for a reason", id="no reason"),
        pytest.param({"serial": "S1"}, 422, "why", id="no reason at all"),
        pytest.param(
            {"serial": "S1", "why": "x", "project": "no"}, 404, "project", id="no project"
        ),
    ],
)  # fmt: skip
def test_refused_and_nothing_is_kept(
    parts: Parts, ask: dict[str, str], status: int, sentence: str
) -> None:
    answer = asks(parts, Role.OPERATOR).post(f"{NODE}:keep-disk", json=ask)
    assert (answer.status_code, sentence in answer.text) == (status, True), answer.text
    assert kept(parts) == []


def test_it_is_forgotten_by_a_plan_for_just_this_disk(parts: Parts) -> None:
    operator, destroyer = asks(parts, Role.OPERATOR), asks(parts, Role.DESTROYER)
    for serial in ("S1", "H1"):
        operator.post(f"{NODE}:keep-disk", json={"serial": serial, "why": "x"})
    plan = destroyer.post(f"{NODE}:plan-forget-disk", json={"serial": "S1"}).json()
    assert [d["serial"] for d in plan["nodes"][0]["disks"]] == ["S1"]
    other = destroyer.post(f"{NODE}:forget-disk", json={"serial": "H1", "plan": plan["hash"]})
    assert (other.status_code, len(kept(parts))) == (409, 2)
    done = destroyer.post(f"{NODE}:forget-disk", json={"serial": "S1", "plan": plan["hash"]})
    assert (done.status_code, [k[0] for k in kept(parts)]) == (200, ["H1"])
    again = destroyer.post(f"{NODE}:plan-forget-disk", json={"serial": "S1"})
    assert again.status_code == 404


def test_a_kept_disk_that_is_gone_is_shown_and_its_server_is_not_forgotten(parts: Parts) -> None:
    operator, destroyer = asks(parts, Role.OPERATOR), asks(parts, Role.DESTROYER)
    operator.post(f"{NODE}:keep-disk", json={"serial": "H1", "why": "x"})
    with parts.store.write() as session:
        bmc = session.exec(select(Bmc)).one()
        bmc.ramdisk = {"drives": DRIVES[:1]}
    told = operator.get(f"{NODE}/disks").json()
    assert [(d["serial"], d["kept"], d["seen"]) for d in told] == [
        ("S1", False, True), ("H1", True, False),
    ]  # fmt: skip
    answer = destroyer.post("/v1/bmcs/10.0.0.1:forget")
    assert (answer.status_code, "are kept" in answer.json()["detail"]) == (409, True)


def test_the_verbs(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(a_token(parts, "me", Role.OPERATOR, Role.DESTROYER))

    def seed(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, words, env=env)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    with api_on_a_port(create_app(parts, Door.WEB)) as url:
        env = {
            "SEED_CONFIG": "/nowhere", "SEED_SERVER": url, "NO_COLOR": "1", "COLUMNS": "80",
            "SEED_TOKEN_FILE": str(tmp_path / "token"),
        }  # fmt: skip
        code, said = seed("node", "keep-disk", "sn-1", "H1", "--why", "case 4711")
        assert (code, "case 4711" in said, "8000" in said) == (0, True, True), said
        assert max(len(line) for line in said.splitlines()) <= 80
        assert seed("node", "forget-disk", "sn-1", "S1", "--yes")[0] == 1, "it is not kept"
        code, said = seed("node", "forget-disk", "sn-1", "H1", "--yes", "--why", "closed")
        assert (code, "case" in said) == (0, False), said
        assert seed("node", "disks", "sn-1", "-o", "json")[1].count('"kept": false') == 3
    assert kept(parts) == []
