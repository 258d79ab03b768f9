"""Adoption by the API: a plan changes nothing; taking is done once; no password is taken in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from api.app import create_app
from api.parts import Door, Parts
from provisioning.models import Bmc, Event, Hold
from provisioning.states import BmcGoal, Login
from tests.fakes.api import some_parts

NODE = {
    "uuid": str(uuid4()), "name": "web-1", "driver": "redfish", "provision_state": "active",
    "driver_info": {"redfish_password": "hush"}, "bmc_address": "10.0.0.1", "power_state": None,
    "ports": [{"address": "52:54:00:00:00:01", "uuid": "x", "extra": {}}],
}  # fmt: skip


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return some_parts(tmp_path)


@pytest.fixture
def http(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_app(parts, Door.LOCAL), client=("uid:0", 1)) as client:
        yield client


def ask(http: TestClient, path: str, *nodes: dict[str, Any]) -> Any:
    return http.post(f"/v1/adoptions{path}", json={"cloud": "bifrost", "nodes": list(nodes)})


def test_plan_then_take(http: TestClient, parts: Parts) -> None:
    (line,) = ask(http, ":plan", NODE).json()
    assert (line["action"], line["state"]) == ("cannot", "active")
    assert "seed discover 10.0.0.1" in line["remedy"]
    with parts.store.write() as session:
        session.add(Bmc(address="10.0.0.1", protocol="redfish", serial="S1", login=Login.OK))
    assert [x["action"] for x in ask(http, ":plan", NODE).json()] == ["take"]
    with parts.store.read() as session:
        assert session.exec(select(Hold)).all() == [], "a plan changes nothing"
    taken = ask(http, "", NODE)
    assert (taken.status_code, taken.json()[0]["action"]) == (202, "take")
    assert [x["action"] for x in ask(http, "", NODE).json()] == ["ours"]
    with parts.store.read() as session:
        bmc = session.exec(select(Bmc)).one()
        told = str([e.model_dump() for e in session.exec(select(Event))])
    assert bmc.goal is BmcGoal.ADOPTED
    assert "hush" not in str(bmc.model_dump()) + told


@pytest.mark.parametrize(
    "change",
    [
        {"uuid": "no uuid"},
        {"provision_state": None},
        {"ports": "none"},
        {"name": "x" * 300},
        {"properties": []},
    ],
)
def test_a_node_of_another_shape_is_refused(http: TestClient, change: dict[str, Any]) -> None:
    answer = ask(http, "", NODE | change)
    assert answer.status_code == 422
    assert answer.json()["remedy"]
