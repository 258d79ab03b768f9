"""Surveys: when they are due, what they leave behind, and what a failed one must not spoil."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlmodel import select

from provisioning import survey
from provisioning.abilities import Abilities
from provisioning.acceptance import OnAccept, accept
from provisioning.bmc import Access, Contact, Identity, Survey
from provisioning.errors import BmcError, BmcLoginRefused, BmcUnreachable, Conflict, SeedError
from provisioning.hardware import Inventory
from provisioning.models import Bmc, Credential, Event, now
from provisioning.room import Rotation
from provisioning.states import Login
from provisioning.store import Store
from provisioning.survey import EVERY, Surveyor
from tests.fakes.store import new_store

ADDRESS = "192.0.2.1"


@dataclass
class Room:
    """One BMC that tells `told`, or raises it."""

    told: Survey | Exception
    asked: list[str] = field(default_factory=list)

    def survey(self, contact: Contact, access: Access, timeout: float) -> Survey:
        self.asked.append(access.username)
        if isinstance(self.told, Exception):
            raise self.told
        return self.told

    def locate(self, contact: Contact, access: Access, on: bool, timeout: float) -> None:
        self.asked.append("on" if on else "off")
        if isinstance(self.told, Exception):
            raise self.told


def a_survey(serial: str = "S-1", health: str = "OK", **more: Any) -> Survey:
    who = Identity(serial=serial, system_uuid="u-1", macs=("52:54:00:00:00:01",))
    facts = {"serial": serial, "health": health} | more
    return Survey(who, Inventory(**facts), Abilities(lldp=True), ("a finding",))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = new_store(tmp_path)
    with store.write() as session:
        login = Credential(name="login", username="u", sealed=b"")
        session.add(login)
        session.flush()
        session.add(
            Bmc(
                address=ADDRESS, protocol="redfish", login=Login.OK, credential_id=login.id,
                serial="S-1", system_uuid="u-1",
            )
        )  # fmt: skip
    return store


def bmc(store: Store) -> Bmc:
    with store.read() as session:
        return session.exec(select(Bmc)).one()


def change(store: Store, do: Callable[[Any, Bmc], None]) -> None:
    with store.write() as session:
        do(session, session.exec(select(Bmc)).one())


def events(store: Store, kind: str) -> list[str]:
    with store.read() as session:
        return [e.message for e in session.exec(select(Event).where(Event.kind == kind)).all()]


def look(store: Store, told: Survey | Exception, verb: str = "survey") -> Room:
    """Somebody asked for it."""
    room = Room(told)
    if verb == "survey":
        change(store, lambda _, row: setattr(row, "survey_asked_at", now()))
    turn(store, room, verb)
    return room


def turn(store: Store, room: Room, verb: str) -> None:

    def refused(row: Bmc) -> None:
        change(store, lambda _, same: setattr(same, "login", Login.REFUSED))

    surveyor = Surveyor(
        store, {"redfish": room}, lambda c: Access(c.username, SecretStr("x")), refused  # type: ignore[dict-item]
    )  # fmt: skip
    getattr(surveyor, verb)(bmc(store).id)


def due(store: Store) -> int:
    with store.read() as session:
        return len(survey.due(session))


def test_it_is_due_once_and_again_later_and_when_asked(store: Store) -> None:
    assert due(store) == 1
    look(store, a_survey())
    assert due(store) == 0
    change(store, lambda s, row: survey.request(s, row, "me"))
    assert due(store) == 1
    look(store, a_survey())
    assert due(store) == 0
    change(store, lambda _, row: setattr(row, "survey_at", now() - EVERY - timedelta(seconds=1)))
    assert due(store) == 1


@pytest.mark.parametrize("login", [Login.NONE, Login.REFUSED])
def test_without_a_working_login_nobody_asks(store: Store, login: Login) -> None:
    change(store, lambda _, row: setattr(row, "login", login))
    assert due(store) == 0
    for ask in (survey.request, lambda s, row, who: survey.locate(s, row, True, who)):
        with pytest.raises(Conflict, match=r"no login to BMC 192\.0\.2\.1 works"):
            change(store, lambda s, row, ask=ask: ask(s, row, "me"))


def test_a_bmc_whose_login_changes_is_left_alone(store: Store) -> None:
    row = bmc(store)
    change(store, lambda s, _: s.add(Rotation(bmc_id=row.id, candidate_id=row.credential_id)))
    change(store, lambda s, row: survey.locate(s, row, True, "me"))
    with store.read() as session:
        assert survey.due(session) == survey.led_due(session) == []


def test_what_it_told_is_kept(store: Store) -> None:
    look(store, a_survey(memory_mib=1024))
    row = bmc(store)
    assert Inventory.model_validate(row.inventory).memory_mib == 1024
    assert row.inventory_at is not None
    assert Abilities.model_validate(row.abilities).lldp
    assert row.findings == ["a finding"]
    assert row.macs == ["52:54:00:00:00:01"]
    assert row.baseline == {}, "not accepted yet"


@pytest.mark.parametrize(
    "failure",
    [BmcUnreachable("no answer", "cable"), BmcError("nonsense", "restart"), RuntimeError("bug")],
    ids=str,
)
def test_a_failure_keeps_the_last_inventory(store: Store, failure: Exception) -> None:
    look(store, a_survey(memory_mib=1024))
    before = bmc(store)
    look(store, failure)
    after = bmc(store)
    assert (after.inventory, after.inventory_at) == (before.inventory, before.inventory_at)
    assert after.login is Login.OK
    assert after.survey_problem
    assert after.survey_remedy
    assert due(store) == 0, "not again before its time"
    look(store, a_survey())
    assert bmc(store).survey_problem == ""


def test_a_refused_login_is_the_last_one(store: Store) -> None:
    look(store, BmcLoginRefused("the BMC refused the login", "seed discover"))
    assert bmc(store).login is Login.REFUSED
    assert due(store) == 0


def test_a_refusal_of_the_old_login_does_not_spoil_the_new_one(store: Store) -> None:
    class Late(Room):
        def survey(self, *_: Any) -> Survey:
            def replace(session: Any, row: Bmc) -> None:
                login = Credential(name="new", username="v", sealed=b"")
                session.add(login)
                session.flush()
                row.credential_id = login.id

            change(store, replace)
            raise BmcLoginRefused("the BMC refused the login", "seed discover")

    def refused(_: Bmc) -> None:
        raise AssertionError("the login that was refused is not this BMC's any more")

    late: Any = Late(a_survey())
    Surveyor(store, {"redfish": late}, lambda c: Access("u", SecretStr("x")), refused).survey(
        bmc(store).id
    )
    assert bmc(store).login is Login.OK


def test_the_baseline_is_what_it_was_at_acceptance(store: Store) -> None:
    look(store, a_survey(memory_mib=1024))
    change(store, lambda s, row: accept(s, row, "node-1", "baremetal", "me"))
    look(store, a_survey(memory_mib=2048))
    row = bmc(store)
    assert (row.baseline["memory_mib"], row.inventory["memory_mib"]) == (1024, 2048)


def test_accepted_unseen_the_first_survey_is_the_baseline(store: Store) -> None:
    change(store, lambda s, row: accept(s, row, "node-1", "baremetal", "me"))
    look(store, a_survey(memory_mib=1024))
    look(store, a_survey(memory_mib=2048))
    assert bmc(store).baseline["memory_mib"] == 1024


def test_another_server_behind_an_accepted_bmc_is_a_finding(store: Store) -> None:
    change(store, lambda s, row: accept(s, row, "node-1", "baremetal", "me"))
    look(store, a_survey(serial="S-9"))
    row = bmc(store)
    assert row.serial == "S-1", "it stays who it was accepted as"
    assert any("S-9" in finding and "S-1" in finding for finding in row.findings)


def test_health_is_told_when_it_changes(store: Store) -> None:
    for health in ("OK", "OK", "Critical", "Critical", "OK"):
        look(store, a_survey(health=health))
    assert events(store, "bmc.health") == [
        "health is Critical, it was OK", "health is OK, it was Critical"
    ]  # fmt: skip


def test_a_bmc_that_is_forgotten_meanwhile_is_no_error(store: Store) -> None:
    class Slow(Room):
        def survey(self, *_: Any) -> Survey:
            change(store, lambda s, row: s.delete(row))
            return a_survey()

    slow: Any = Slow(a_survey())
    Surveyor(store, {"redfish": slow}, lambda c: Access("u", SecretStr("x")), print).survey(
        bmc(store).id
    )


def test_the_led_is_switched_once(store: Store) -> None:
    change(store, lambda s, row: survey.locate(s, row, True, "me"))
    assert look(store, a_survey(), "locate").asked == ["on"]
    row = bmc(store)
    assert (row.led, row.led_problem) == ("on", "")
    with store.read() as session:
        assert survey.led_due(session) == []
    change(store, lambda s, row: survey.locate(s, row, False, "me"))
    look(store, BmcError("it has no locate LED", "look"), "locate")
    row = bmc(store)
    assert (row.led, row.led_problem) == ("on", "it has no locate LED")
    assert not survey.waits(row.led_asked_at, row.led_at)


def test_what_is_done_or_refused_by_its_turn_is_not_asked_again(store: Store) -> None:
    """Thousands wait in the queue, some of them twice."""
    room = Room(a_survey())
    for _ in range(2):
        turn(store, room, "survey")
    assert room.asked == ["u"]
    change(store, lambda s, row: survey.locate(s, row, True, "me"))
    for _ in range(2):
        turn(store, room, "locate")
    assert room.asked == ["u", "on"]
    angry = Room(BmcLoginRefused("the BMC refused the login", "seed discover"))
    change(store, lambda s, row: survey.request(s, row, "me"))
    change(store, lambda s, row: survey.locate(s, row, False, "me"))
    for verb in ("survey", "survey", "locate"):
        turn(store, angry, verb)
    assert angry.asked == ["u"], "a refused login is never sent again"


def test_problems_are_of_the_family(store: Store) -> None:
    assert isinstance(survey._as_ours(bmc(store), KeyError("x")), SeedError)


def test_what_was_swapped_with_the_power_off_is_drift_in_the_same_write(store: Store) -> None:
    """Not at the reconciler's next look at an idle node, which may be minutes away."""
    look(store, a_survey(memory_mib=262144))
    change(store, lambda s, row: accept(s, row, "r1", "baremetal", "me", OnAccept.KEEP))
    look(store, a_survey(memory_mib=262144))
    assert bmc(store).drift == []
    look(store, a_survey(memory_mib=229376))
    assert bmc(store).drift == ["memory in MiB: 229376, was 262144"]
