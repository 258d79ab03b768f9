"""After a start, who rests by all we know is looked at in its turn, and others at once."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from sqlmodel import col, select

from provisioning import enrollment, reconcile
from provisioning.models import Bmc, Claim, Credential, Hold, Order
from provisioning.states import BmcGoal, Login, OrderKind
from tests.fakes.life import House


@pytest.fixture
def house() -> Iterator[House]:
    found = House(3)
    with found.store.write() as session:
        for bmc in session.exec(select(Bmc)).all():
            bmc.detail = "available"
    yield found
    found.close()


def resting(house: House) -> set[str]:
    watch = house.reconciler.parts.watch
    watch.look(busy=False)
    with house.store.read() as session:
        ids = enrollment.resting(session, watch)
        return set(session.exec(select(Bmc.node_name).where(col(Bmc.id).in_(ids))).all())


def test_available_and_dressed_servers_rest(house: House) -> None:
    assert resting(house) == {"node-1", "node-2", "node-3"}


def _wanted_otherwise(bmc: Bmc) -> None:
    bmc.goal = BmcGoal.MANAGED


def _stuck(bmc: Bmc) -> None:
    bmc.problem = "no RAM"


def _refused(bmc: Bmc) -> None:
    bmc.login = Login.REFUSED


def _not_done(bmc: Bmc) -> None:
    bmc.detail = "booting the ramdisk for cleaning"


def _of_a_class(bmc: Bmc) -> None:
    bmc.hardware_class, bmc.classed = "gold", {"traits": ["CUSTOM_GOLD"]}


@pytest.mark.parametrize("change", [_wanted_otherwise, _stuck, _refused, _not_done, _of_a_class])
def test_a_row_that_wants_something_does_not_rest(
    house: House, change: Callable[[Bmc], None]
) -> None:
    with house.store.write() as session:
        change(session.exec(select(Bmc).where(Bmc.node_name == "node-1")).one())
    assert resting(house) == {"node-2", "node-3"}


def test_a_new_login_that_ironic_does_not_know_is_no_rest(house: House) -> None:
    with house.store.write() as session:
        login = Credential(name="new", username="u", sealed=b"y")
        session.add(login)
        session.flush()
        bmc = session.exec(select(Bmc).where(Bmc.node_name == "node-1")).one()
        bmc.credential_id = login.id
    assert resting(house) == {"node-2", "node-3"}


def test_a_node_in_another_state_or_with_an_open_order_does_not_rest(house: House) -> None:
    house.ironic.change(house.uuids[0], provision_state="cleaning")
    with house.store.write() as session:
        session.add(Order(node_uuid=house.uuids[1], kind=OrderKind.CLEAN, generation=0))
    assert resting(house) == {"node-3"}


def test_an_inspected_server_rests_until_it_is_to_be_inspected_again(house: House) -> None:
    for uuid in house.uuids:
        house.ironic.change(uuid, provision_state="manageable", inspected=True)
    with house.store.write() as session:
        for bmc in session.exec(select(Bmc)).all():
            bmc.goal, bmc.detail = BmcGoal.MANAGED, "inspected; `seed node provide` cleans it"
        bmc.stale_inspection = house.ironic.node(bmc.node).inspected_at
        again = bmc.node_name
    assert resting(house) == {"node-1", "node-2", "node-3"} - {again}


def test_a_held_node_rests_once_a_step_said_so(house: House) -> None:
    with house.store.write() as session:
        claim = Claim(project="p", name="web", count=2, image="debian", ssh_keys=[])
        session.add(claim)
        session.flush()
        for position, uuid in enumerate(house.uuids[:2]):
            hold = session.get_one(Hold, uuid)
            hold.claim_id, hold.position = claim.id, position
        bmc = session.exec(select(Bmc).where(Bmc.node_uuid == house.uuids[1])).one()
        bmc.detail = enrollment.HELD
    assert resting(house) == {"node-2", "node-3"}


@contextmanager
def living(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A reconciler that runs; the names of servers as they are stepped. Then each rests a minute.

    Real threads, for what is due is decided between them.
    """
    stepped: list[str] = []
    life = house.a_life()
    life.parts.__dict__["protocols"] = {}
    life.finder = NoFinder()  # type: ignore[assignment]
    stop = threading.Event()

    def step(identity: UUID) -> float:
        with house.store.read() as session:
            stepped.append(session.get_one(Bmc, identity).node_name or "")
        return 60.0

    monkeypatch.setattr(life, "_bmc", step)
    thread = threading.Thread(target=life.run, args=(stop,))
    thread.start()
    try:
        yield stepped
    finally:
        stop.set()
        thread.join(20)


def until(done: Callable[[], bool]) -> None:
    begin = time.monotonic()
    while not done():
        assert time.monotonic() - begin < 20
        time.sleep(0.02)


def test_after_a_start_only_who_does_not_rest_is_stepped_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "LOOKS_PER_SECOND", 0.01)
    with house.store.write() as session:
        _wanted_otherwise(session.exec(select(Bmc).where(Bmc.node_name == "node-2")).one())
    with living(house, monkeypatch) as stepped:
        until(lambda: bool(stepped))
    assert stepped == ["node-2"]


def test_a_wish_that_comes_back_is_due_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim of some seconds: nobody waits until the last look before it is old."""
    monkeypatch.setattr(reconcile, "LOOKS_PER_SECOND", 0.01)
    monkeypatch.setattr(reconcile.Reconciler, "_claim", lambda *_: 60.0)
    with house.store.write() as session:
        _not_done(session.exec(select(Bmc).where(Bmc.node_name == "node-1")).one())
    with living(house, monkeypatch) as stepped:
        until(lambda: stepped == ["node-1"])
        for claim_id in (_a_claim(house), None):
            with house.store.write() as session:
                session.get_one(Hold, house.uuids[0]).claim_id = claim_id
            before = len(stepped)
            until(lambda before=before: len(stepped) > before)
    assert stepped == ["node-1"] * 3


def _a_claim(house: House) -> UUID:
    with house.store.write() as session:
        claim = Claim(project="p", name="web", count=1, image="debian", ssh_keys=[])
        session.add(claim)
        session.flush()
        return claim.id


class NoFinder:
    """A finder that nobody asks."""

    stopping = threading.Event()
