"""Timelines: a claimer reads what became of its claim and its nodes, and nothing else."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlmodel import Session, select
from typer.testing import CliRunner

from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from provisioning import holding, orders
from provisioning.models import Bmc, Claim, Hold, now
from provisioning.pool import REFUSED
from provisioning.states import ClaimState, OrderKind
from provisioning.store import record
from provisioning.tenants import Project
from seed.cli import app
from tests.fakes.api import a_token, bearer, some_parts
from tests.fakes.claims import an_active_claim
from tests.fakes.ironic import FakeIronic
from tests.fakes.serving import api_on_a_port
from tests.unit.test_claims import House

BMC = "192.0.2.1"
SECRET = f"BMC {BMC} says serial X"


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return some_parts(tmp_path)


@pytest.fixture
def house(parts: Parts) -> House:
    house = House(parts.store, FakeIronic())
    house.add("sn-0001")
    house.add("sn-0002")
    with parts.store.write() as session:
        session.add_all([Project(name="red"), Project(name="blue")])
    return house


@pytest.fixture
def web(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_app(parts, Door.WEB)) as client:
        yield client


def moved(parts: Parts, claim: Claim, *states: ClaimState) -> None:
    """As the reconciler writes it."""
    for state in states:
        with parts.store.write() as session:
            row = session.get_one(Claim, claim.id)
            row.state = state
            record(session, f"claim.{state}", row.id, row.name, project=row.project)
            if state is ClaimState.RELEASED:
                row.ended_at = now()


def worked(session: Session, node: UUID, kind: OrderKind) -> None:
    """One order on a node, from the ramdisk's boot to the proof."""
    bmc = session.exec(select(Bmc).where(Bmc.node_uuid == node)).one()
    order = orders.open_order(session, bmc, kind, session.get_one(Hold, node).generation, [])
    order.opened_at = now() - timedelta(seconds=90)
    order.ironic_done_at = now() - timedelta(seconds=30)
    order.proof_at = now() if kind is OrderKind.DEPLOY else None
    record(session, "node.stuck", node, SECRET, remedy=f"seed bmc show {BMC}")
    record(session, "node.moved", node, SECRET)
    record(session, "order.alarm", node, SECRET, order=str(order.id))
    orders.close(session, order, "proved")


def let_go(parts: Parts, node: UUID) -> None:
    with parts.store.write() as session:
        holding.let_go(session, session.get_one(Hold, node))


def lived(parts: Parts, house: House, name: str, project: str) -> Claim:
    """A claim from its request to its end."""
    claim = house.ask(name, count=2, project=project)
    nodes = list(map(UUID, house.ironic.by_uuid))
    moved(parts, claim, ClaimState.ALLOCATED, ClaimState.DEPLOYING)
    with parts.store.write() as session:
        for node in nodes:
            worked(session, node, OrderKind.DEPLOY)
    moved(parts, claim, ClaimState.ACTIVE, ClaimState.RELEASING, ClaimState.CLEANING)
    with parts.store.write() as session:
        for node in nodes:
            worked(session, node, OrderKind.CLEAN)
    for node in nodes:
        let_go(parts, node)
    moved(parts, claim, ClaimState.RELEASED)
    return claim


def test_a_claimer_reads_what_became_of_its_claim_and_nothing_of_others(
    parts: Parts, house: House, web: TestClient
) -> None:
    lived(parts, house, "before", "blue")
    lived(parts, house, "web", "red")
    lived(parts, house, "after", "blue")
    red = bearer(a_token(parts, "red", Role.CLAIMER, project="red"))
    answer = web.get("/v1/claims/web/timeline", headers=red)
    told = answer.json()
    assert [s["name"] for s in told["steps"] if not s["node"]] == [
        "requested", "allocated", "deploying", "active", "releasing", "cleaning",
    ]  # fmt: skip
    per_node = [(s["node"], s["name"], s["seconds"]) for s in told["steps"] if s["node"]]
    assert sorted(per_node) == [
        (node, name, seconds)
        for node in ("sn-0001", "sn-0002")
        for name, seconds in (("clean", 60.0), ("deploy", 60.0), ("first boot", 30.0))
    ]
    kinds = [e["kind"] for e in told["entries"] if e["node"] == "sn-0001"]
    assert kinds == [
        "node.held", "order.opened", "node.stuck", "order.alarm", "order.closed",
        "order.opened", "node.stuck", "order.alarm", "order.closed", "node.let-go",
    ]  # fmt: skip
    assert [e["id"] for e in told["entries"]] == sorted(e["id"] for e in told["entries"])
    for word in (BMC, "serial X", "blue", "before", "after"):
        assert word not in answer.text


def test_another_projects_claim_is_not_there(parts: Parts, house: House, web: TestClient) -> None:
    claim = lived(parts, house, "web", "red")
    blue = bearer(a_token(parts, "blue", Role.CLAIMER, project="blue"))
    for name in ("web", claim.id, "nothing"):
        assert web.get(f"/v1/claims/{name}/timeline", headers=blue).status_code == 404


def test_a_gang_that_was_chosen_anew(parts: Parts, house: House, web: TestClient) -> None:
    """Ironic refused a node: the first choice ends, and what that node does then is another's."""
    claim = house.ask("web", count=1, project="red")
    first, second = map(UUID, house.ironic.by_uuid)
    with parts.store.write() as session:
        holding.let_go(session, session.get_one(Hold, first))
        record(session, REFUSED, claim.id, "taken", project="red", node=str(first))
        session.flush()
        assert holding.take_anew(session, session.get_one(Claim, claim.id)) == ""
    with parts.store.write() as session:
        worked(session, first, OrderKind.CLEAN)
        worked(session, second, OrderKind.DEPLOY)
    red = bearer(a_token(parts, "red", Role.CLAIMER, project="red"))
    told = web.get("/v1/claims/web/timeline", headers=red).json()
    assert [(s["node"], s["name"]) for s in told["steps"]] == [
        ("sn-0002", "deploy"), ("sn-0002", "first boot"), ("", "requested"),
    ]  # fmt: skip
    assert [s["end"] for s in told["steps"] if s["name"] == "requested"] == [None]
    assert [e["kind"] for e in told["entries"] if e["node"] == "sn-0001"] == [
        "node.held", "node.let-go",
    ]  # fmt: skip


def test_a_claim_from_before_holds_were_recorded(
    parts: Parts, house: House, web: TestClient
) -> None:
    claim = Claim(name="old", image="debian", project="red")
    node = UUID(next(iter(house.ironic.by_uuid)))
    with parts.store.write() as session:
        record(session, "node.moved", node, "before")
        session.add(claim)
        session.flush()
        session.get_one(Hold, node).claim_id = claim.id
        record(session, "claim.requested", claim.id, project="red")
    with parts.store.write() as session:
        worked(session, node, OrderKind.DEPLOY)
    viewer = bearer(a_token(parts, "viewer", Role.VIEWER))
    told = web.get("/v1/claims/old/timeline", headers=viewer).json()
    assert [e["kind"] for e in told["entries"] if e["node"]] == [
        "order.opened", "node.stuck", "node.moved", "order.alarm", "order.closed",
    ]  # fmt: skip


def test_a_node_tells_whose_it_was(parts: Parts, house: House, web: TestClient) -> None:
    lived(parts, house, "web", "red")
    with parts.store.write() as session:
        record(session, "bmc.survey-asked", BMC, who="ada")
    viewer = bearer(a_token(parts, "viewer", Role.VIEWER))
    told = web.get("/v1/nodes/sn-0001/timeline", headers=viewer).json()
    assert [s["name"] for s in told["steps"]] == ["deploy", "first boot", "clean"]
    entries = [(e["kind"], e["message"]) for e in told["entries"]]
    assert ("node.held", "web") in entries
    assert ("node.stuck", SECRET) in entries
    assert told["entries"][-1]["kind"] == "bmc.survey-asked"


def test_the_verbs_print_it_in_eighty_columns(parts: Parts, house: House, tmp_path: Path) -> None:
    lived(parts, house, "web", "red")
    (tmp_path / "token").write_text(a_token(parts, "viewer", Role.VIEWER))
    with api_on_a_port(create_app(parts, Door.WEB)) as url:
        env = {
            "SEED_SERVER": url, "SEED_TOKEN_FILE": str(tmp_path / "token"), "COLUMNS": "80",
        }  # fmt: skip
        for words in (["claim", "timeline", "web"], ["node", "timeline", "sn-0001"]):
            done = CliRunner().invoke(app, words, env=env)
            assert done.exit_code == 0, done.output
            assert max(map(len, done.stdout.splitlines())) <= 80
            assert "first boot" in done.stdout
            assert "0:01:00" in done.stdout
        done = CliRunner().invoke(app, ["claim", "timeline", "web", "-o", "json"], env=env)
        assert json.loads(done.stdout)["name"] == "web"
        an_active_claim(parts.store, "still", 0)
        done = CliRunner().invoke(app, ["claim", "timeline", "still"], env=env)
        assert done.stdout == "nothing happened to it yet\n"
