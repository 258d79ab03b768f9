"""What powers a server or erases a disk is in the chain of events, committed, before it happens."""

from collections.abc import Iterator
from dataclasses import replace as dataclass_replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlmodel import col, select

from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from provisioning import chain
from provisioning.claim_steps import Claiming
from provisioning.enrollment import Enrollment
from provisioning.ironic import Ironic
from provisioning.models import Bmc, Claim, Credential, Event, now
from provisioning.parts import Parts as StepParts
from provisioning.states import BmcGoal, ClaimState, Login
from provisioning.store import Store
from tests.contract.test_stopping import a_reconciler
from tests.fakes.api import a_token, bearer, some_parts
from tests.fakes.crashing import FakeBmc, identity_of
from tests.fakes.ironic import FakeIronic
from tests.unit.test_claims import House


class Watched(FakeIronic):
    """Notes what was already recorded at each call that powers or erases."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self.calls: list[tuple[str, list[Event]]] = []

    def _note(self, what: str) -> None:
        with self._store.read() as session:  # sees what is committed, and nothing else
            told = session.exec(select(Event).order_by(col(Event.id))).all()
        self.calls.append((what, list(told)))

    def power(self, uuid: object, target: str) -> None:
        self._note(target)
        self.change(uuid, power_state=target)

    def provision(
        self, uuid: object, target: str, config_drive: Any = None, steps: Any = ()
    ) -> None:
        self._note(target)

    def ports(self, uuid: object) -> dict[str, bool]:
        return {}


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return some_parts(tmp_path)


@pytest.fixture
def house(parts: Parts) -> House:
    house = House(parts.store, Watched(parts.store))
    number = identity_of("192.0.2.1")
    house.add("sn-0001", {"serial": number.serial, "system_uuid": number.system_uuid})
    with parts.store.write() as session:
        login = Credential(name="c", username="admin", sealed=b"")
        session.add(login)
        session.flush()
        bmc = session.exec(select(Bmc)).one()
        bmc.credential_id = bmc.told_ironic = login.id
        bmc.login = Login.OK
    parts.__dict__["desk"] = house.desk()
    return house


@pytest.fixture
def steps(tmp_path: Path, house: House) -> StepParts:
    folder = tmp_path / "reconciler"
    folder.mkdir()
    parts = a_reconciler(folder).parts
    return dataclass_replace(
        parts, store=house.store, ironic=cast(Ironic, house.ironic), protocols={"fake": FakeBmc()}
    )


@pytest.fixture
def web(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_app(parts, Door.WEB)) as client:
        yield client


@pytest.fixture
def destroyer(parts: Parts) -> dict[str, str]:
    return bearer(a_token(parts, "ada", Role.DESTROYER)) | {"X-Request-ID": "req-7"}


def calls(house: House) -> list[tuple[str, list[Event]]]:
    return cast(Watched, house.ironic).calls


def an_active_claim(house: House, **facts: Any) -> Claim:
    claim = house.ask("web")
    node = next(iter(house.ironic.by_uuid))
    house.ironic.change(node, provision_state="active", power_state="power on")
    with house.store.write() as session:
        row = session.get_one(Claim, claim.id)
        row.state = ClaimState.ACTIVE
        for name, value in facts.items():
            setattr(row, name, value)
        session.add(row)
    return row


def step(steps: StepParts, claim: Claim) -> None:
    with steps.store.read() as session:
        Claiming(steps).step(session.get_one(Claim, claim.id))


def test_a_release_is_recorded_with_who_why_plan_and_request(
    house: House, steps: StepParts, web: TestClient, destroyer: dict[str, str]
) -> None:
    claim = an_active_claim(house)
    plan = web.post("/v1/claims/web:plan-release", headers=destroyer).json()["hash"]
    body = {"plan": plan, "why": "moved out"}
    assert web.post("/v1/claims/web:release", json=body, headers=destroyer).status_code == 202
    step(steps, claim)
    ((what, told),) = calls(house)
    asked = told[-1]
    assert (what, asked.kind, asked.subject) == ("power off", "claim.release-asked", str(claim.id))
    assert (asked.who, asked.why, asked.plan, asked.request_id) == (
        "ada", "moved out", plan, "req-7",
    )  # fmt: skip
    assert chain.verify(house.store.read).why == ""


def test_the_undo_window_cut_short_is_recorded(
    house: House, web: TestClient, destroyer: dict[str, str]
) -> None:
    an_active_claim(house)
    plan = web.post("/v1/claims/web:plan-release", headers=destroyer).json()["hash"]
    web.post("/v1/claims/web:release", json={"plan": plan}, headers=destroyer)
    with house.store.write() as session:
        session.exec(select(Claim)).one().state = ClaimState.RELEASING
    body = {"now": True, "why": "needed at once"}
    assert web.post("/v1/claims/web:release", json=body, headers=destroyer).status_code == 202
    with house.store.read() as session:
        last = session.exec(select(Event).order_by(col(Event.id).desc())).first()
    assert last is not None
    assert (last.message, last.who, last.why) == ("at once", "ada", "needed at once")


def test_a_lease_that_is_over_is_recorded_once_before_anything_is_switched_off(
    house: House, steps: StepParts
) -> None:
    claim = an_active_claim(house, ends_at=now() - timedelta(minutes=1), grace_seconds=0)
    step(steps, claim)
    step(steps, claim)
    (what, told), *_ = calls(house)
    over = [e for e in told if e.kind == "claim.lease-over"]
    assert (what, len(over), over[0].who, over[0].project) == ("power off", 1, "seed", "default")
    assert "its lease and grace ended" in over[0].why
    with house.store.read() as session:
        rows = session.exec(select(Event).where(Event.kind == "claim.lease-over")).all()
    assert len(rows) == 1


def test_an_erase_follows_an_open_order(house: House, steps: StepParts) -> None:
    claim = an_active_claim(house, state=ClaimState.CLEANING)
    step(steps, claim)  # switches it off
    step(steps, claim)
    what, told = calls(house)[-1]
    assert what == "deleted"
    assert (told[-1].kind, told[-1].message) == ("order.opened", "clean")


def test_provide_is_recorded_with_who_why_plan_and_request(
    house: House, steps: StepParts, web: TestClient, destroyer: dict[str, str]
) -> None:
    uuid = UUID(next(iter(house.ironic.by_uuid)))
    house.ironic.change(uuid, provision_state="manageable", inspected_at="2026-11-20")
    with house.store.write() as session:
        session.exec(select(Bmc)).one().goal = BmcGoal.MANAGED
    names = {"nodes": ["sn-0001"]}
    plan = web.post("/v1/nodes:plan-provide", json=names, headers=destroyer).json()["hash"]
    body = names | {"plan": plan, "why": "to be handed out"}
    assert web.post("/v1/nodes:provide", json=body, headers=destroyer).status_code == 202
    with house.store.read() as session:
        bmc = session.exec(select(Bmc)).one()
    Enrollment(steps).step(bmc)
    what, told = calls(house)[-1]
    (asked,) = [e for e in told if e.kind == "node.provide-asked"]
    assert (what, asked.subject) == ("provide", str(uuid))
    assert (asked.who, asked.why, asked.plan, asked.request_id) == (
        "ada", "to be handed out", plan, "req-7",
    )  # fmt: skip
    assert told[-1].kind == "order.opened"


def test_forget_is_recorded_with_who_and_why(
    house: House, web: TestClient, destroyer: dict[str, str]
) -> None:
    path = "/v1/bmcs/192.0.2.1:forget"
    answer = web.post(path, json={"why": "sold"}, headers=destroyer)
    assert answer.status_code == 202
    assert web.post(path, headers=destroyer).status_code == 202  # no reason is given
    with house.store.read() as session:
        told = session.exec(select(Event).where(Event.kind == "bmc.forget-asked")).all()
    assert [(e.who, e.why, e.request_id) for e in told] == [
        ("ada", "sold", "req-7"), ("ada", "", "req-7"),
    ]  # fmt: skip
