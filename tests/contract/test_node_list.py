"""GET /v1/nodes from memory: filters, order, pages, fields, ages, labels; who writes reads it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from api.app import create_app
from api.node_list import FIELDS
from api.parts import Door, Parts
from provisioning import sight, snapshot
from provisioning.models import Address, Bmc, Claim, Event, Hold, Order, now
from provisioning.room import Slot
from provisioning.states import BmcGoal, OrderKind
from provisioning.store import Store
from tests.fakes.api import empty_ironic, ironic_double, some_parts
from tests.fakes.appliance import until
from tests.fakes.ironic import BLANK

UUIDS = {n: UUID(int=n) for n in range(1, 8)}


def fill(parts: Parts) -> None:
    """Seven servers: 1-3 in rack r1, 4-7 in none; 2 and 5 held; 6 is not in Ironic yet."""
    with parts.store.write() as session:
        for name, project in (("web", "default"), ("db", "other")):
            session.add(Claim(id=UUID(name.encode().hex().zfill(32)), name=name, project=project,
                              image="i"))  # fmt: skip
        session.flush()
        for n, uuid in UUIDS.items():
            held = {2: "web", 5: "db"}.get(n)
            session.add(
                Bmc(
                    address=f"192.0.2.{n}", protocol="fake", serial=f"SN{n}", node_uuid=uuid,
                    node_name=f"sn-{n}", goal=BmcGoal.AVAILABLE, macs=[f"52:54:00:00:00:0{n}"],
                    resource_class="gpu" if n % 2 else "cpu", labels={"team": f"t{n % 3}"},
                )
            )  # fmt: skip
            claim = UUID(held.encode().hex().zfill(32)) if held else None
            session.add(Hold(node_uuid=uuid, claim_id=claim))
        for n in (1, 2, 3):
            session.add(Slot(site="s", row="a", rack="r1", unit=n, serial=f"sn{n}", feed="A"))
        seen = [replace(BLANK, uuid=str(u), name=f"sn-{n}", traits=("CUSTOM_X",),
                        provision_state="active" if n in (2, 5) else "available")
                for n, u in UUIDS.items() if n != 6]  # fmt: skip
        sight.write(session, seen, all_of_them=True, at=now() - timedelta(seconds=42))


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    with ironic_double() as ironic:
        ironic.answer = empty_ironic(ironic)
        found = some_parts(tmp_path, ironic.url)
        fill(found)
        yield found


@pytest.fixture
def http(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_app(parts, Door.LOCAL), client=("uid:0", 1)) as client:
        yield client


def names(http: TestClient, **query: Any) -> str:
    answer = http.get("/v1/nodes", params=query)
    assert answer.status_code == 200, answer.text
    return " ".join(node["name"].removeprefix("sn-") for node in answer.json())


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param({}, "1 2 3 4 5 6 7", id="all, by name"),
        pytest.param({"resource_class": "cpu"}, "2 4 6", id="class"),
        pytest.param({"provision_state": "active"}, "2 5", id="state"),
        pytest.param({"provision_state": "not in Ironic yet"}, "6", id="not seen yet"),
        pytest.param({"rack": "r1", "resource_class": "gpu"}, "1 3", id="rack and class"),
        pytest.param({"claim": "db"}, "5", id="claim"),
        pytest.param({"project": "default"}, "2", id="project"),
        pytest.param({"held": False, "rack": "r1"}, "1 3", id="free"),
        pytest.param({"held": True}, "2 5", id="held"),
        pytest.param({"label": "team=t1"}, "1 4 7", id="label"),
        pytest.param({"label": ["team", "team=t2"]}, "2 5", id="every label"),
        pytest.param({"label": "tea"}, "", id="no such label"),
        pytest.param({"sort": "-name", "limit": 2}, "7 6", id="the last ones"),
        pytest.param({"sort": "rack"}, "4 5 6 7 1 2 3", id="by rack, then by name"),
        pytest.param({"sort": "-rack"}, "3 2 1 7 6 5 4", id="the other way round"),
    ],
)
def test_nodes_are_chosen_and_sorted(http: TestClient, query: dict[str, Any], found: str) -> None:
    assert names(http, **query) == found


@pytest.mark.parametrize("sort", ["name", "-name", "provision_state", "-claim"])
@pytest.mark.parametrize("limit", [1, 3, 7, 1000])
def test_pages_are_together_the_whole_list(http: TestClient, sort: str, limit: int) -> None:
    whole = names(http, sort=sort)
    path, found, pages = f"/v1/nodes?sort={sort}&limit={limit}", [], 0
    while path:
        answer = http.get(path)
        found += [n["name"].removeprefix("sn-") for n in answer.json()]
        path, pages = answer.links.get("next", {}).get("url"), pages + 1
    assert (" ".join(found), pages) == (whole, -(-7 // limit))


def test_a_page_goes_on_where_it_was_though_nodes_come_and_go(
    http: TestClient, parts: Parts
) -> None:
    first = http.get("/v1/nodes?limit=3&held=false")
    with parts.store.write() as session:
        for bmc in session.exec(select(Bmc).where(Bmc.node_name == "sn-4")):
            session.delete(bmc)
        session.add(Bmc(address="192.0.2.9", protocol="fake", node_uuid=uuid4(), node_name="sn-0"))
    second = http.get(first.links["next"]["url"])
    assert [n["name"] for n in second.json()] == ["sn-6", "sn-7"]


def test_a_row_tells_rack_claim_and_how_old_it_is(http: TestClient) -> None:
    (row,) = http.get("/v1/nodes?name=sn-2").json()
    assert row.keys() == FIELDS
    told = ("claim", "project", "site", "row", "rack", "unit", "feed", "traits", "labels")
    assert [row[k] for k in told] == [
        "web", "default", "s", "a", "r1", 2, "A", ["CUSTOM_X"], {"team": "t2"}
    ]  # fmt: skip
    assert 42 <= row["age_seconds"] <= 47
    (unseen,) = http.get("/v1/nodes?name=sn-6").json()
    assert (unseen["seen_at"], unseen["age_seconds"]) == (None, None)


def test_a_look_at_changes_makes_all_rows_younger_and_none_older(
    http: TestClient, parts: Parts
) -> None:
    with parts.store.write() as session:
        sight.passed(session, sight.CHANGES, now() - timedelta(seconds=3))
    ages = {row["age_seconds"] for row in http.get("/v1/nodes").json()} - {None}
    assert ages <= {3, 4, 5}
    with parts.store.write() as session:
        node = replace(BLANK, uuid=str(UUIDS[1]), name="sn-1", power_state="power on")
        sight.write(session, [node], all_of_them=False, at=now())
    assert http.get("/v1/nodes?name=sn-1").json()[0]["age_seconds"] <= 1


def test_fields_are_chosen(http: TestClient) -> None:
    answer = http.get("/v1/nodes?fields=name, rack,age_seconds&limit=1")
    assert answer.json() == [
        {"name": "sn-1", "rack": "r1", "age_seconds": answer.json()[0]["age_seconds"]}
    ]


def test_an_open_order_is_told_with_its_age(http: TestClient, parts: Parts) -> None:
    with parts.store.write() as session:
        order = Order(node_uuid=UUIDS[1], kind=OrderKind.CLEAN, generation=0)
        order.opened_at = now() - timedelta(seconds=70)
        session.add(order)
        session.add(Address(address="172.22.0.9", mac="52:54:00:00:00:01", node_uuid=UUIDS[1]))
    (row,) = http.get("/v1/nodes?name=sn-1").json()
    assert row["address"] == "172.22.0.9"
    assert row["evidence"].startswith("clean for 7")
    assert row["evidence"].endswith(" s; no word from the ramdisk yet")
    assert row["waiting_since"]
    alone = http.get(f"/v1/nodes/{UUIDS[1]}").json()
    assert alone["evidence"].startswith("clean for 7")
    assert {k: alone[k] for k in ("rack", "unit", "labels")} == {
        k: row[k] for k in ("rack", "unit", "labels")
    }


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("limit=0", id="no page at all"),
        pytest.param("limit=1001", id="too large a page"),
        pytest.param("limit=x", id="no number"),
        pytest.param("sort=uuid;drop", id="no such order"),
        pytest.param("resource_clas=gpu", id="a filter that does not exist"),
        pytest.param("fields=name,password", id="a field that does not exist"),
        pytest.param("cursor=%00", id="no base64"),
        pytest.param("cursor=bnVsbA", id="JSON, but not ours"),
        pytest.param("cursor=WzEsMiwzXQ", id="a list, but not ours"),
        pytest.param("cursor=" + "W1tb" * 250, id="deep"),
        pytest.param("held=maybe", id="neither yes nor no"),
        pytest.param("name=" + "n" * 300, id="longer than any name"),
        pytest.param("&".join(["label=a"] * 21), id="too many labels"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_in_words(http: TestClient, query: str) -> None:
    answer = http.get(f"/v1/nodes?{query}")
    assert answer.status_code == 422, answer.text
    assert answer.json()["remedy"]


def test_a_cursor_of_another_order_is_refused(http: TestClient) -> None:
    after = http.get("/v1/nodes?limit=1").links["next"]["url"]
    assert http.get(f"{after}&sort=-name").status_code == 422


def test_who_writes_reads_what_he_wrote_and_others_within_a_moment(
    http: TestClient, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "APART_SECONDS", 3600.0)
    assert http.put("/v1/nodes/sn-1/labels", json={"a": "b"}).status_code == 200
    assert names(http, label="a=b") == "1"
    elsewhere = Store(str(parts.store.engine.url))
    with elsewhere.write() as session:
        session.exec(select(Bmc).where(Bmc.node_name == "sn-2")).one().labels = {"a": "b"}
    assert names(http, label="a=b") == "1", "read again though it was read a moment ago"
    parts.snapshots._not_before = 0.0
    until(lambda: names(http, label="a=b") == "1 2", 20, "what another process wrote")


def test_without_a_change_the_database_is_not_read_again(http: TestClient, parts: Parts) -> None:
    names(http)
    first = parts.snapshots.kept()
    parts.snapshots._not_before = 0.0
    names(http, limit=1)
    assert parts.snapshots.kept() is first
    before = {row.name: row for row in first.rows}
    http.put("/v1/nodes/sn-1/labels", json={"a": "b"})
    names(http)
    after = {row.name: row for row in parts.snapshots.current().rows}
    assert [n for n in after if after[n] is not before[n]] == ["sn-1"]


def test_labels_are_put_changed_and_taken_off_and_each_change_is_an_event(
    http: TestClient, parts: Parts
) -> None:
    for _ in range(2):
        answer = http.put("/v1/nodes/sn-1/labels", json={"tier": "gold", "old": ""})
        assert answer.json()["labels"] == {"old": "", "tier": "gold"}
    answer = http.patch("/v1/nodes/sn-1/labels", json={"old": None, "team": "ai"})
    assert answer.json()["labels"] == {"team": "ai", "tier": "gold"}
    with parts.store.read() as session:
        events = session.exec(select(Event).where(Event.kind == "node.labelled")).all()
    assert [(e.message, e.who) for e in events] == [
        ("old=, tier=gold", "root"), ("team=ai, tier=gold", "root")
    ]  # fmt: skip
    assert http.put("/v1/nodes/nobody/labels", json={}).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"": "x"}, id="empty key"),
        pytest.param({"a b": "x"}, id="space in a key"),
        pytest.param({"k": "v" * 64}, id="value too long"),
        pytest.param({"k": "a\r\nb"}, id="two lines"),
        pytest.param({"k": "a\n"}, id="a line's end"),
        pytest.param({"k" * 81: "v"}, id="key too long"),
        pytest.param({"k": 1}, id="a number"),
        pytest.param({"k": ["v"]}, id="a list"),
        pytest.param({f"k{n}": "v" for n in range(65)}, id="too many"),
        pytest.param(["a"], id="no object"),
    ],
)
def test_labels_of_no_good_shape_are_refused_whole(
    http: TestClient, parts: Parts, body: Any
) -> None:
    for verb in ("PUT", "PATCH"):
        answer = http.request(verb, "/v1/nodes/sn-1/labels", json=body)
        assert answer.status_code == 422, answer.text
    assert http.get("/v1/nodes?name=sn-1&fields=labels").json() == [{"labels": {"team": "t1"}}]


def test_more_labels_than_are_kept_are_refused_also_in_pieces(http: TestClient) -> None:
    many = {f"k{n}": "v" for n in range(63)}
    assert http.patch("/v1/nodes/sn-1/labels", json=many).status_code == 200
    answer = http.patch("/v1/nodes/sn-1/labels", json={"one-more": "v"})
    assert (answer.status_code, "65 labels" in answer.json()["detail"]) == (422, True)
