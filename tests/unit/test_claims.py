"""Claims as they are asked for: who gets a node, who does not and why, and plans."""

import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pydantic import ValidationError
from sqlmodel import col, select

from provisioning import choosing, holding, plans, refusing
from provisioning.claims import Desk
from provisioning.errors import Conflict, Invalid, NoCapacity, NotFound, SeedError
from provisioning.holding import Short, let_go
from provisioning.image import find
from provisioning.models import Bmc, Claim, ClaimSpec, Event, Hold, Plan, now
from provisioning.plans import Disk, PlannedNode
from provisioning.pool import Inventories
from provisioning.states import TRANSITIONS, BmcGoal, ClaimState, Wanted
from provisioning.store import Store
from provisioning.wishes import _keys
from tests.fakes.crashing import resolved
from tests.fakes.ironic import FakeIronic
from tests.fakes.pool import a_look, see, why_not
from tests.fakes.store import new_store

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKE02EXZopJm+V+0QfxedG6Gy6HeCx4/dROzGkxDOS5X test"


@dataclass
class House:
    """A store and an Ironic that know the same nodes."""

    store: Store
    ironic: FakeIronic = field(default_factory=FakeIronic)

    def add(self, name: str, bmc: dict[str, Any] | None = None, **node: Any) -> UUID:
        number = len(self.ironic.by_uuid) + 1
        uuid = UUID(self.ironic.add(name, **node).uuid)
        facts: dict[str, Any] = {
            "address": f"192.0.2.{number}", "protocol": "fake", "serial": f"S-{number}",
            "goal": BmcGoal.AVAILABLE, "node_uuid": uuid, "node_name": name,
        }  # fmt: skip
        with self.store.write() as session:
            session.add(Bmc(**(facts | (bmc or {}))))
            session.add(Hold(node_uuid=uuid))
        return uuid

    def desk(self, undo: float = 600.0) -> Desk:
        see(self.store, self.ironic)
        return Desk(self.store, self.ironic, resolved, timedelta(seconds=undo))  # type: ignore[arg-type]

    def ask(self, name: str = "web", **wish: Any) -> Claim:
        return self.desk().request(
            a_spec(name, **wish), wish.pop("project", "default"), "me", True
        )[0]

    def holds(self) -> dict[str, UUID | None]:
        """Node name -> who holds it."""
        with self.store.read() as session:
            rows = session.exec(select(Hold)).all()
        return {self.ironic.node(h.node_uuid).name: h.claim_id for h in rows}

    def count(self, kind: type) -> int:
        with self.store.read() as session:
            return len(session.exec(select(kind)).all())


def a_spec(name: str = "web", **wish: Any) -> ClaimSpec:
    wish.pop("project", None)
    facts = {"name": name, "image": "debian", "ssh_keys": [KEY]} | wish
    return ClaimSpec.model_validate(facts)


@pytest.fixture
def house(tmp_path: Path) -> House:
    store = new_store(tmp_path)
    return House(store)


# --- who gets a node ------------------------------------------------------------------------------


def test_the_first_by_name_are_held(house: House) -> None:
    for name in ("c", "a", "b"):
        house.add(name)
    claim = house.ask(count=2)
    assert house.holds() == {"a": claim.id, "b": claim.id, "c": None}
    with house.store.read() as session:
        held = session.exec(select(Hold).where(Hold.claim_id == claim.id)).all()
    assert sorted(h.position for h in held) == [0, 1]
    assert {h.generation for h in held} == {1}


@pytest.mark.parametrize(
    ("bmc", "node", "why"),
    [
        pytest.param({"goal": BmcGoal.MANAGED}, {}, "it was not provided", id="not provided"),
        pytest.param({}, {"resource_class": "gold"}, "its class is gold", id="other class"),
        pytest.param({}, {"provision_state": "manageable"}, "it is manageable", id="not clean"),
        pytest.param({}, {"provision_state": "active"}, "it is active", id="foreign instance"),
        pytest.param({}, {"maintenance": True}, "it is in maintenance", id="maintenance"),
        pytest.param({"problem": "fan broken"}, {}, "it is stuck: fan broken", id="stuck"),
    ],
)
def test_each_node_says_why_not(
    house: House, bmc: dict[str, Any], node: dict[str, Any], why: str
) -> None:
    house.add("good")
    house.add("bad", bmc, **node)
    with pytest.raises(NoCapacity) as error:
        house.ask(count=2)
    assert error.value.reasons == {"bad": why}
    assert "web wants 2 of class baremetal, free are 1" in str(error.value)
    assert set(house.holds().values()) == {None}, "the good one is not held either"
    assert house.count(Claim) == 0
    assert house.count(Event) == 0


def test_a_node_that_seed_did_not_enroll_is_never_taken(house: House) -> None:
    house.ironic.add("stranger")
    with pytest.raises(NoCapacity) as error:
        house.ask()
    assert error.value.reasons == {"stranger": "Seed did not enroll it"}


def test_a_held_node_is_not_given_twice(house: House) -> None:
    house.add("a")
    first = house.ask("one")
    with pytest.raises(NoCapacity) as error:
        house.ask("two")
    assert error.value.reasons == {"a": "it is held by another claim"}
    assert house.holds() == {"a": first.id}


def test_the_same_wish_is_refused_again_without_a_look_until_somebody_writes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[object] = []
    choose = choosing.choose
    monkeypatch.setattr(choosing, "choose", lambda *told: looks.append(told) or choose(*told))
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(refusing, "time", SimpleNamespace(monotonic=lambda: clock.now))
    house.add("bad", {"problem": "fan broken"})
    desk = house.desk()

    def refused(name: str, project: str = "default", insider: bool = True, **wish: Any) -> str:
        with pytest.raises(NoCapacity) as error:
            desk.request(a_spec(name, **wish), project, "me", insider)
        assert error.value.remedy
        assert error.value.reasons or not insider
        return str(error.value)

    first = refused("one")
    assert (refused("other"), len(looks)) == (first.replace("claim one", "claim other"), 1)
    clock.now += refusing.AS_NEW
    refused("one")
    assert len(looks) == 2, "what only the clock changes is told anew"
    refused("one", memory_gib=1)
    refused("one", project="theirs", insider=False)
    assert len(looks) == 4, "another wish, and others see less"
    house.add("good")
    see(house.store, house.ironic)
    assert desk.request(a_spec("one"), "default", "me", True)[1], "somebody wrote"
    refused("two")
    assert len(looks) > 5, "the answer from before is not told"


def test_an_unknown_class_names_those_there_are(house: House) -> None:
    with pytest.raises(NoCapacity, match="there are no nodes at all"):
        house.ask()
    house.add("a", resource_class="gold")
    house.add("b", resource_class="silver")
    with pytest.raises(NoCapacity, match="the classes are: gold, silver") as error:
        house.ask(resource_class="gold.")
    assert error.value.reasons == {"a": "its class is gold", "b": "its class is silver"}


def test_a_node_taken_in_between_is_seen_at_the_last_moment(house: House) -> None:
    """What Ironic told is older than the row: the row decides."""
    uuid = house.add("a")
    before = house.ironic.nodes()
    with house.store.write() as session:
        mine, other = (Claim(**a_spec(n).model_dump()) for n in ("mine", "other"))
        session.add_all([mine, other])
        session.flush()
        session.get_one(Hold, uuid).claim_id = other.id
        session.flush()
        assert why_not(session, mine, before[0]) == "it is held by another claim"
        seen = a_look(session)
        with pytest.raises(Short):
            holding.take(session, mine, seen, holding.wish(session, mine, seen, Inventories()))


def test_letting_go_makes_the_old_holder_a_stranger(house: House) -> None:
    uuid = house.add("a")
    house.ask()
    with house.store.write() as session:
        let_go(session, session.get_one(Hold, uuid))
    with house.store.read() as session:
        hold = session.get_one(Hold, uuid)
    assert (hold.claim_id, hold.generation) == (None, 2)


def test_32_at_once_want_10_nodes(house: House) -> None:
    for number in range(10):
        house.add(f"node-{number}")

    def want(number: int) -> Claim | None:
        try:
            return house.ask(f"web-{number}")
        except NoCapacity:
            return None

    with ThreadPoolExecutor(32) as pool:
        won = [claim for claim in pool.map(want, range(32)) if claim]
    assert len(won) == 10
    assert Counter(house.holds().values()) == Counter(claim.id for claim in won)
    assert house.count(Claim) == 10, "who got nothing left nothing"


def test_gangs_at_once_get_all_or_nothing(house: House) -> None:
    for number in range(10):
        house.add(f"node-{number}")

    def want(number: int) -> Claim | None:
        try:
            return house.ask(f"web-{number}", count=3)
        except NoCapacity:
            return None

    with ThreadPoolExecutor(16) as pool:
        won = [claim for claim in pool.map(want, range(16)) if claim]
    held = Counter(claim for claim in house.holds().values() if claim)
    assert len(won) == 3
    assert held == {claim.id: 3 for claim in won}


def test_one_name_at_once_is_one_claim(house: House) -> None:
    for number in range(8):
        house.add(f"node-{number}")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: house.ask("web").id, range(8)))
    assert len(set(found)) == 1
    assert Counter(house.holds().values())[found[0]] == 1


# --- the same wish, other wishes ------------------------------------------------------------------


def test_the_same_wish_is_the_same_claim(house: House) -> None:
    house.add("a")
    first, new = house.desk().request(a_spec(), "default", "me")
    again, newer = house.desk().request(a_spec(), "default", "me")
    assert (first.id, new, newer) == (again.id, True, False)


def test_another_wish_under_the_name_says_what_differs(house: House) -> None:
    house.add("a")
    house.ask()
    with pytest.raises(Conflict, match="differs in count, image"):
        house.ask(count=2, image="other")


def test_projects_do_not_see_each_other(house: House) -> None:
    house.add("a")
    house.ask()
    with house.store.read() as session, pytest.raises(NotFound, match="no claim 'web'"):
        house.desk().find(session, "other", "web")


def test_an_unknown_image_holds_nothing(house: House, tmp_path: Path) -> None:
    house.add("a")
    desk = Desk(house.store, house.ironic, lambda _s, n, _i: find(tmp_path, n), timedelta(0))  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="there is no image 'debian'; none is published"):
        desk.request(a_spec(), "default", "me")
    assert set(house.holds().values()) == {None}


@pytest.mark.parametrize(
    "wish",
    [
        {"count": 0}, {"count": -1}, {"count": 501}, {"count": "many"}, {"name": "Web"},
        {"name": ".."}, {"name": "-rf"}, {"name": "a" * 64}, {"image": "../x"}, {"image": ""},
        {"resource_class": "a b"}, {"resource_class": ""}, {"user_data": "x" * 50_000},
    ],
)  # fmt: skip
def test_wishes_that_cannot_be(wish: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        a_spec(**wish)


# --- SSH keys -------------------------------------------------------------------------------------


def public(key: Any) -> str:
    form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return str(key.public_key().public_bytes(*form).decode())


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(KEY, id="with a comment"),
        pytest.param(f"{KEY}\n", id="with the file's line end"),
        pytest.param(public(ed25519.Ed25519PrivateKey.generate()), id="ed25519"),
        pytest.param(public(ec.generate_private_key(ec.SECP256R1())), id="ecdsa"),
        pytest.param(public(rsa.generate_private_key(65537, 2048)), id="rsa"),
    ],
)
def test_keys_that_are_taken(key: str) -> None:
    _keys([key])


PRIVATE = ed25519.Ed25519PrivateKey.generate().private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.OpenSSH,
    serialization.NoEncryption(),
)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        pytest.param([], "no SSH key was given", id="none"),
        pytest.param([PRIVATE.decode()], "SSH key 1 is a private key", id="private"),
        pytest.param([KEY, PRIVATE.decode()], "SSH key 2 is a private key", id="the second"),
        pytest.param([""], "SSH key 1 is not", id="empty"),
        pytest.param(["garbage"], "SSH key 1 is not", id="garbage"),
        pytest.param([KEY[:40]], "SSH key 1 is not", id="cut off"),
        pytest.param([f"{KEY}\nruncmd: [reboot]"], "SSH key 1 is not", id="two lines"),
        pytest.param([f'command="reboot" {KEY}'], "SSH key 1 is not", id="with options"),
        pytest.param(["ssh-ed25519 \u00fc"], "SSH key 1 is not", id="no ASCII"),
        pytest.param(["ssh-dss AAAAB3NzaC1kc3M="], "SSH key 1 is not", id="retired kind"),
    ],
)
def test_keys_that_are_refused(keys: list[str], sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence) as error:
        _keys(keys)
    assert error.value.remedy
    assert not any(key and key in str(error.value) for key in keys), "a key is never repeated"


# --- plans ----------------------------------------------------------------------------------------

A_NODE = PlannedNode(
    uuid=str(uuid4()), name="a", serial="S-1", generation=1,
    disks=[Disk(name="/dev/sda", serial="D-1", size_bytes=10**10)],
)  # fmt: skip


def planned(house: House, verb: str = "provide") -> str:
    with house.store.write() as session:
        return plans.make(session, verb, "Clean.", [A_NODE]).hash


def applied(house: House, given: str, verb: str = "provide", **changes: Any) -> None:
    with house.store.write() as session:
        plans.use(session, verb, [A_NODE.model_copy(update=changes)], given)


def test_a_plan_can_be_applied_as_it_was_shown(house: House) -> None:
    applied(house, planned(house))


def test_a_plan_is_applied_once(house: House) -> None:
    given = planned(house)
    applied(house, given)
    with pytest.raises(Conflict, match="or it was applied already"):
        applied(house, given)


def test_a_refused_plan_is_not_used_up(house: House) -> None:
    given = planned(house)
    with pytest.raises(Conflict, match="something changed"):
        applied(house, given, generation=2)
    applied(house, given)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        pytest.param({"generation": 2}, "something changed", id="held and freed since"),
        pytest.param({"serial": "S-2"}, "something changed", id="another server"),
        pytest.param({"disks": []}, "something changed", id="other disks"),
        pytest.param({"holder": "web"}, "something changed", id="another holder"),
        pytest.param({"verb": "release"}, "no such plan to release", id="another verb"),
    ],
)
def test_a_plan_is_for_what_was_shown_only(
    house: House, changes: dict[str, Any], sentence: str
) -> None:
    given = planned(house)
    with pytest.raises(Conflict, match=sentence) as error:
        applied(house, given, **changes)
    assert "new plan" in error.value.remedy


@pytest.mark.parametrize("given", ["", "0" * 64, "x", "' or 1=1 --"])
def test_an_invented_plan_is_none(house: House, given: str) -> None:
    planned(house)
    with pytest.raises(Conflict, match="there is no such plan to provide"):
        applied(house, given)


def test_a_plan_ages(house: House) -> None:
    given = planned(house)
    with house.store.write() as session:
        session.get_one(Plan, given).expires_at = now() - timedelta(seconds=1)
    with pytest.raises(Conflict, match="older than 15 minutes"):
        applied(house, given)


def test_a_plan_of_nothing_is_refused(house: House) -> None:
    with house.store.write() as session, pytest.raises(Invalid, match="names no node"):
        plans.make(session, "provide", "Clean.", [])


# --- release and undo -----------------------------------------------------------------------------


def test_release_needs_the_plan_of_now(house: House) -> None:
    uuid = house.add("a")
    house.ask()
    desk = house.desk()
    stale = desk.plan_release("default", "web").hash
    with house.store.write() as session:
        session.get_one(Hold, uuid).generation += 1
    with pytest.raises(Conflict, match="something changed"):
        desk.release("default", "web", stale, "me", at_once=True)
    with pytest.raises(Conflict, match="no such plan"):
        desk.release("default", "web", "f" * 64, "me", at_once=True)
    with house.store.read() as session:
        assert desk.find(session, "default", "web").wanted is Wanted.ACTIVE
    fresh = desk.plan_release("default", "web")
    assert [n.name for n in fresh.nodes] == ["a"]
    assert desk.release("default", "web", fresh.hash, "me", False).wanted is Wanted.RELEASED


class WhileOthersWrite(FakeIronic):
    """Whoever asks for an inventory must not hold the database's write lock meanwhile."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def inventory(self, uuid: object) -> dict[str, Any] | None:
        with closing(sqlite3.connect(self.file, timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")
        return super().inventory(uuid)


def test_no_writer_waits_for_the_ironic_that_a_release_asks(tmp_path: Path) -> None:
    house = House(new_store(tmp_path), WhileOthersWrite(tmp_path / "seed.db"))
    house.add("a")
    house.ask()
    desk = house.desk()
    plan = desk.plan_release("default", "web").hash
    assert desk.release("default", "web", plan, "me", at_once=True).wanted is Wanted.RELEASED


def test_a_release_is_taken_back_in_time_only(house: House) -> None:
    house.add("a")
    house.ask()
    desk = house.desk()
    plan = desk.plan_release("default", "web").hash
    desk.release("default", "web", plan, "me", at_once=False)
    assert desk.take_back("default", "web", "me").wanted is Wanted.ACTIVE
    with pytest.raises(Conflict, match="or it was applied already"):  # all facts are as before
        desk.release("default", "web", plan, "me", at_once=True)
    desk.release("default", "web", desk.plan_release("default", "web").hash, "me", at_once=True)
    with pytest.raises(Conflict, match="undo window of claim web is over"):
        desk.take_back("default", "web", "me")


@pytest.mark.parametrize("verb", ["plan_release", "release", "take_back"])
def test_there_is_no_such_claim(house: House, verb: str) -> None:
    desk = house.desk()
    calls = {
        "plan_release": lambda: desk.plan_release("default", "nope"),
        "release": lambda: desk.release("default", "nope", "", "me", False),
        "take_back": lambda: desk.take_back("default", "nope", "me"),
    }
    with pytest.raises(SeedError, match="there is no claim 'nope'"):
        calls[verb]()


# --- states ---------------------------------------------------------------------------------------


def test_every_state_is_reached_from_the_first() -> None:
    reached, todo = {ClaimState.QUEUED}, [ClaimState.QUEUED]  # or a later one, at once
    while todo:
        here = todo.pop()
        after = {target for source, target in TRANSITIONS if source is here} - reached
        reached |= after
        todo += after
    assert reached == set(ClaimState)


def test_every_state_can_end_and_the_end_is_final() -> None:
    sources = {source for source, _ in TRANSITIONS}
    assert ClaimState.RELEASED not in sources
    assert sources == set(ClaimState) - {ClaimState.RELEASED}
    ends = {ClaimState.RELEASED}
    while more := {s for s, t in TRANSITIONS if t in ends} - ends:
        ends |= more
    assert ends == set(ClaimState)


def test_no_claim_changes_into_itself() -> None:
    assert not [source for source, target in TRANSITIONS if source is target]


def test_nothing_unclean_is_released() -> None:
    """Only a claim that wrote nowhere goes back without cleaning."""
    into = {source for source, target in TRANSITIONS if target is ClaimState.RELEASED}
    held_nothing = {ClaimState.QUEUED, ClaimState.RESERVED}
    assert into == {ClaimState.CLEANING, ClaimState.REQUESTED} | held_nothing


def test_a_living_name_is_one_per_project(house: House) -> None:
    house.add("a")
    claim = house.ask()
    with house.store.write() as session:
        row = session.get_one(Claim, claim.id)
        row.ended_at = now()
        for hold in session.exec(select(Hold).where(col(Hold.claim_id) == claim.id)).all():
            let_go(session, hold)
    assert house.ask().id != claim.id, "an ended claim's name is free again"
