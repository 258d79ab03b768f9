"""Classes through the API: put, show, try, make from a server, apply; what is refused, and how."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from api.app import create_app
from api.parts import Door, Parts
from provisioning.class_text import written
from provisioning.models import Bmc, Hold, now
from provisioning.room import HardwareClass
from provisioning.states import BmcGoal
from tests.fakes.api import empty_ironic, ironic_double, some_parts
from tests.fakes.hardware import a_class, an_inventory

JSON = {"content-type": "application/json"}
TEXT = written(a_class())


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    with ironic_double() as ironic:
        ironic.answer = empty_ironic(ironic)
        yield some_parts(tmp_path, ironic.url)


@pytest.fixture
def http(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_app(parts, Door.LOCAL), client=("uid:0", 1)) as client:
        yield client


def add(parts: Parts, name: str, **facts: Any) -> None:
    uuid = uuid4()
    told = {
        "address": f"192.0.2.{len(name)}", "protocol": "fake", "serial": name, "node_name": name,
        "node_uuid": uuid, "goal": BmcGoal.MANAGED, "inventory": an_inventory(),
        "inventory_at": now(),
    } | facts  # fmt: skip
    with parts.store.write() as session:
        session.add(Bmc(**told))
        session.add(Hold(node_uuid=uuid))


def test_a_class_is_kept_shown_listed_replaced_and_forgotten(http: TestClient) -> None:
    assert http.post("/v1/classes", json={"text": TEXT}).status_code == 200
    shown = http.get("/v1/classes/storage").json()
    assert shown["text"] == TEXT
    assert (shown["put_by"], shown["nodes"]) == ("root", 0)
    newer = TEXT.replace("resource_class: storage", "resource_class: other")
    http.post("/v1/classes", json={"text": newer})
    assert [c["resource_class"] for c in http.get("/v1/classes").json()] == ["other"]
    assert http.delete("/v1/classes/storage").json() == []
    gone = http.get("/v1/classes/storage")
    assert (gone.status_code, gone.json()["remedy"]) == (
        404, "See what there is: `seed class list`.",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("a: &a [1]\nb: [*a, *a]", "aliases", id="bomb"),
        pytest.param(TEXT + "colour: red\n", "at colour: there is no such key", id="wrong key"),
        pytest.param(TEXT.replace("count: 4", "count: 10000000000"), "more than 512", id="absurd"),
        pytest.param("\ud800", "unicode", id="half a character"),
    ],
)
def test_a_document_that_is_no_class_is_refused_and_not_kept(
    http: TestClient, parts: Parts, text: str, sentence: str
) -> None:
    for path in ("/v1/classes", "/v1/classes:test"):
        # json= would refuse half a character by itself
        answer = http.post(path, content=json.dumps({"text": text}), headers=JSON)
        assert answer.status_code == 422
        assert sentence in answer.json()["detail"]
        assert answer.json()["remedy"]
    with parts.store.read() as session:
        assert session.exec(select(HardwareClass)).all() == []


def test_a_trial_of_a_text_and_of_a_kept_class_say_the_same(http: TestClient, parts: Parts) -> None:
    add(parts, "a")
    add(parts, "bb", inventory=an_inventory(ssds=3))
    of_text = http.post("/v1/classes:test", json={"text": TEXT}).json()
    http.post("/v1/classes", json={"text": TEXT})
    of_name = http.post("/v1/classes:test", json={"name": "storage"}).json()
    assert of_text == of_name
    assert [t["misfit"] for t in of_name] == [[], ["drives: 3 x ssd 960 GB, class wants 4"]]
    one = http.post("/v1/classes:test", json={"name": "storage", "nodes": ["bb"]}).json()
    assert [t["name"] for t in one] == ["bb"]


def test_a_class_made_from_a_server_takes_this_server(http: TestClient, parts: Parts) -> None:
    add(parts, "a")
    made = http.post("/v1/classes:from-node", json={"node": "a", "name": "gold"}).json()["text"]
    (trial,) = http.post("/v1/classes:test", json={"text": made}).json()
    assert (trial["fits"], trial["misfit"], trial["becomes"]) == (True, [], "gold")
    add(parts, "bb", inventory={})
    for node, status in (("bb", 409), ("none", 404)):
        answer = http.post("/v1/classes:from-node", json={"node": node, "name": "gold"})
        assert answer.status_code == status


def test_apply_needs_a_word_and_a_plan(http: TestClient, parts: Parts) -> None:
    add(parts, "a")
    http.post("/v1/classes", json={"text": TEXT})
    for ask in ({}, {"nodes": ["a"], "every": True}):
        assert http.post("/v1/classes:plan-apply", json=ask).status_code == 409
    plan = http.post("/v1/classes:plan-apply", json={"every": True}).json()
    assert [n["name"] for n in plan["nodes"]] == ["a"]
    wrong = http.post("/v1/classes:apply", json={"every": True, "plan": "0" * 64})
    assert wrong.status_code == 409
    done = http.post("/v1/classes:apply", json={"every": True, "plan": plan["hash"]})
    assert (done.status_code, done.json()[0]["hardware_class"]) == (202, "storage")
    assert http.get("/v1/classes/storage").json()["nodes"] == 1
    plan = http.post("/v1/classes:plan-apply", json={"every": True}).json()
    assert (plan["nodes"], plan["left"]) == ([], {"a": "it is so already"})


def test_drift_is_accepted_as_it_was_read(http: TestClient, parts: Parts) -> None:
    add(parts, "a", baseline=an_inventory(ssds=3))
    unread = http.post("/v1/nodes/a:accept-drift", json={"drift": []})
    assert (unread.status_code, unread.json()["remedy"]) == (
        409, "Look again: `seed node drift a`.",
    )  # fmt: skip
    read = http.post("/v1/nodes/a:accept-drift", json={"drift": ["drive D3 is new"]})
    assert (read.status_code, read.json()["drift"]) == (200, [])
