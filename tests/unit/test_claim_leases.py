"""Leases, reservations and the queue, one sentence of what people are promised at a time."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlmodel import select

from provisioning import holders
from provisioning.claim_steps import Claiming
from provisioning.errors import Conflict, Invalid, NoCapacity
from provisioning.fabric import Layout, Network
from provisioning.hardware import Inventory, Nic
from provisioning.models import Bmc, Booking, Claim, Event
from provisioning.outcome import Move
from provisioning.states import ClaimState, IfFull, Wanted
from tests.fakes.crashing import identity_of
from tests.fakes.fabric import a_layout, a_network
from tests.fakes.life import GRACE, TURNAROUND, UNDO, Clock, House, clock
from tests.unit.test_claims import a_spec

S = ClaimState
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


class Days(House):
    """A house whose claims are asked for by name, and whose clock is moved by hand."""

    def ask(self, name: str, project: str = "p", **wish: Any) -> Claim:
        return self.desk.request(a_spec(name, **wish), project, "me", True)[0]

    def queue(self, name: str, **wish: Any) -> Claim:
        return self.ask(name, if_full=IfFull.QUEUE, **wish)

    def claim(self, name: str) -> Claim:
        return next(c for c in reversed(self.rows(Claim)) if c.name == name)

    def nodes(self, name: str) -> set[str]:
        return {self.ironic.node(u).name for u in self.held_by(self.claim(name).id)}

    def later(self, time: timedelta) -> None:
        Clock.at += time
        self.rounds(1)

    def rounds(self, times: int = 8) -> None:
        for _ in range(times):
            self.round()

    def until(self, name: str, state: ClaimState) -> None:
        for _ in range(40):
            if self.claim(name).state is state:
                return
            self.round()
        raise AssertionError(f"{name} is {self.claim(name).state}, not {state}")

    def active(self, name: str, **wish: Any) -> Claim:
        self.ask(name, **wish)
        self.until(name, S.ACTIVE)
        return self.claim(name)

    def release(self, name: str, at_once: bool = True) -> None:
        plan = self.desk.plan_release("p", name)
        self.desk.release("p", name, plan.hash, "me", at_once)

    def kinds(self, kind: str) -> list[Event]:
        return [e for e in self.rows(Event) if e.kind == kind]


def a_house(nodes: int) -> Iterator[Days]:
    with clock():
        house = Days(nodes)
        try:
            yield house
        finally:
            house.close()


@pytest.fixture
def one() -> Iterator[Days]:
    yield from a_house(1)


@pytest.fixture
def two() -> Iterator[Days]:
    yield from a_house(2)


@pytest.fixture
def four() -> Iterator[Days]:
    yield from a_house(4)


def at(hours: float) -> datetime:
    return Clock.at + hours * HOUR


# --- leases ---------------------------------------------------------------------------------------


def test_a_lease_counts_from_when_its_nodes_were_its_own(one: Days) -> None:
    begin = Clock.at
    claim = one.active("web", lease_seconds=3600)
    assert claim.lease_end == begin + HOUR


def test_a_claim_without_a_lease_never_ends_by_itself(one: Days) -> None:
    one.active("web")
    one.later(timedelta(days=400))
    assert one.claim("web").state is S.ACTIVE


def test_its_end_is_warned_of_a_day_an_hour_and_right_before_each_once(one: Days) -> None:
    one.active("web", lease_seconds=2 * 86400)
    end = one.claim("web").lease_end
    assert end is not None
    for ahead, events in ((25, 0), (23, 1), (2, 1), (0.5, 2)):
        Clock.at = end - ahead * HOUR
        one.rounds(3)
        assert len(one.kinds("claim.lease-ends")) == events, f"{ahead} hours ahead"
    Clock.at = end + MINUTE
    one.rounds(3)
    assert len(one.kinds("claim.lease-ended")) == 1
    assert one.claim("web").state is S.ACTIVE, "its grace has begun"
    assert one.kinds("claim.lease-ends")[0].project == "p"


def test_after_its_grace_it_is_off_and_after_the_undo_window_it_is_cleaned(one: Days) -> None:
    one.active("web", lease_seconds=3600)
    one.later(HOUR + GRACE - MINUTE)
    assert one.claim("web").state is S.ACTIVE
    one.later(MINUTE)
    assert one.claim("web").state is S.RELEASING
    assert one.ironic.nodes()[0].power_state == "power off"
    assert one.ironic.nodes()[0].provision_state == "active", "its disk is untouched"
    one.later(UNDO)
    one.until("web", S.RELEASED)
    assert one.nodes("web") == set()
    assert one.claim("web").ended_at is not None


def test_a_renewal_takes_an_ended_lease_back(one: Days) -> None:
    one.active("web", lease_seconds=3600)
    one.later(HOUR + GRACE)
    assert one.claim("web").state is S.RELEASING
    one.desk.renew("p", "web", "me", lease_seconds=7200)
    one.rounds(1)
    assert one.claim("web").state is S.ACTIVE
    assert one.ironic.nodes()[0].power_state == "power on"
    assert one.claim("web").lease_end == Clock.at + 2 * HOUR


def test_undo_of_an_ended_lease_says_to_renew(one: Days) -> None:
    one.active("web", lease_seconds=3600)
    one.later(HOUR + GRACE)
    with pytest.raises(Conflict, match="the lease of claim web is over") as error:
        one.desk.take_back("p", "web", "me")
    assert "seed claim renew web" in error.value.remedy


def test_the_undo_window_begins_when_it_was_switched_off_not_when_the_clock_says(one: Days) -> None:
    """The reconciler was down when the lease ended, or a person unprotects it days later."""
    one.active("web", lease_seconds=3600, protected=True)
    one.later(timedelta(days=3))
    assert one.claim("web").state is S.ACTIVE
    one.desk.protect("p", "web", False, "me", "why")
    one.rounds(3)
    assert one.claim("web").state is S.RELEASING, "nobody had a chance to look"
    one.desk.renew("p", "web", "me", lease_seconds=3600)
    one.rounds(1)
    assert one.claim("web").state is S.ACTIVE


def test_a_renewal_that_was_acknowledged_is_never_cleaned(one: Days) -> None:
    """The step that ends the undo window read the claim right before the renewal."""
    one.active("web", lease_seconds=3600)
    one.later(HOUR + GRACE)
    stale = one.claim("web")
    one.desk.renew("p", "web", "me", lease_seconds=7200)
    one.reconciler._write_claim(stale, S.CLEANING, Move(S.CLEANING))
    assert one.claim("web").state is S.RELEASING
    one.rounds(1)
    assert one.claim("web").state is S.ACTIVE


def test_a_protected_claim_is_warned_and_stays(one: Days) -> None:
    one.active("web", lease_seconds=3600, protected=True)
    one.later(5 * HOUR)
    assert one.claim("web").state is S.ACTIVE
    (event,) = one.kinds("claim.lease-ended")
    assert event.data["protected"] is True
    with pytest.raises(Conflict, match="claim web is protected"):
        one.desk.plan_release("p", "web")


@pytest.mark.parametrize("wish", [{}, {"ends_at": 1, "lease_seconds": 60}])
def test_a_renewal_says_one_end(one: Days, wish: dict[str, Any]) -> None:
    one.active("web", lease_seconds=3600)
    if wish:
        wish = {"ends_at": at(3), "lease_seconds": 60}
    with pytest.raises(Invalid, match="say one end"):
        one.desk.renew("p", "web", "me", **wish)


def test_what_is_being_cleaned_is_neither_renewed_protected_nor_taken_back(one: Days) -> None:
    one.active("web", lease_seconds=3600)
    one.later(HOUR + GRACE)
    one.later(UNDO)
    one.until("web", S.CLEANING)
    with pytest.raises(Conflict, match="is being given back"):
        one.desk.renew("p", "web", "me", lease_seconds=3600)
    with pytest.raises(Conflict, match="is being given back"):
        one.desk.protect("p", "web", True, "me", "why")
    with pytest.raises(Conflict, match="undo window of claim web is over"):
        one.desk.take_back("p", "web", "me")


# --- released, and taken back ---------------------------------------------------------------------


def test_a_claim_that_was_still_being_deployed_goes_on_when_it_is_taken_back(two: Days) -> None:
    two.ask("web", count=2)
    two.until("web", S.DEPLOYING)
    two.release("web", at_once=False)
    two.step(two.claim("web").id)
    assert two.claim("web").state is S.RELEASING
    two.desk.take_back("p", "web", "me")
    two.step(two.claim("web").id)
    assert two.claim("web").state is not S.ACTIVE, "no node is deployed"
    two.until("web", S.ACTIVE)
    assert {n.provision_state for n in two.ironic.nodes()} == {"active"}


def test_a_claim_that_failed_is_not_active_because_it_was_taken_back(one: Days) -> None:
    one.ask("web")
    one.until("web", S.DEPLOYING)
    one.ironic.work(one.uuids[0], fails=True)
    one.step(one.claim("web").id)
    assert one.claim("web").state is S.FAILED
    one.release("web", at_once=False)
    one.rounds(1)
    one.desk.take_back("p", "web", "me")
    one.rounds(2)
    assert one.claim("web").state is S.FAILED


def test_what_has_no_node_any_more_is_not_taken_back(one: Days) -> None:
    """The reconciler died right after it had given the holds of a young claim back."""
    one.ask("web")
    one.release("web", at_once=False)
    Claiming(one.reconciler.parts).step(one.claim("web"))
    assert one.nodes("web") == set()
    with pytest.raises(Conflict):
        one.desk.take_back("p", "web", "me")
    one.rounds(2)
    assert one.claim("web").state is S.RELEASED


# --- reservations ---------------------------------------------------------------------------------


def test_a_reservation_holds_nothing_before_its_time(one: Days) -> None:
    later = one.ask("later", starts_at=at(4), lease_seconds=3600)
    assert later.state is S.RESERVED
    assert one.nodes("later") == set()
    (booking,) = one.rows(Booking)
    assert (booking.starts_at, booking.ends_at) == (at(4), at(5) + GRACE)


def test_what_would_last_into_a_reservation_is_refused_with_the_nearest_free_time(
    one: Days,
) -> None:
    one.ask("later", starts_at=at(4), lease_seconds=3600)
    with pytest.raises(NoCapacity) as error:
        one.ask("web")
    assert error.value.reasons == {"node-1": "it is reserved by another claim"}
    assert error.value.free_at == at(5) + GRACE + TURNAROUND
    with pytest.raises(NoCapacity):
        one.ask("web", lease_seconds=5 * 3600)
    assert one.active("short", lease_seconds=3600).state is S.ACTIVE


def test_undo_window_and_cleaning_end_before_a_reservation_begins(one: Days) -> None:
    one.ask("later", starts_at=at(4), lease_seconds=3600)
    with pytest.raises(NoCapacity):
        one.ask("web", ends_at=at(4) - MINUTE)
    one.ask("web", ends_at=at(4) - TURNAROUND - GRACE)


def test_reserved_nodes_are_held_at_their_time(two: Days) -> None:
    two.ask("later", count=2, starts_at=at(4), lease_seconds=3600)
    two.later(4 * HOUR - MINUTE)
    assert two.claim("later").state is S.RESERVED
    two.later(MINUTE)
    assert two.nodes("later") == {"node-1", "node-2"}
    assert two.rows(Booking) == []
    two.until("later", S.ACTIVE)


def test_another_fitting_node_replaces_a_reserved_one_that_broke(two: Days) -> None:
    two.ask("later", starts_at=at(4))
    two.ironic.set_maintenance(two.uuids[0], True, "a fan")
    two.later(4 * HOUR)
    assert two.nodes("later") == {"node-2"}


def test_a_reservation_that_cannot_begin_says_why_and_begins_when_it_can(one: Days) -> None:
    one.ask("later", starts_at=at(4))
    one.ironic.set_maintenance(one.uuids[0], True, "a fan")
    one.later(4 * HOUR)
    late = one.claim("later")
    assert late.state is S.RESERVED
    assert late.detail == "its time has come; node-1: it is in maintenance"
    one.ironic.set_maintenance(one.uuids[0], False)
    one.rounds(2)
    assert one.nodes("later") == {"node-1"}


def test_a_reservation_that_begins_late_ends_when_it_was_to_end(one: Days) -> None:
    """Somebody else may have reserved the time after it."""
    end = at(5)
    one.ask("first", starts_at=at(4), lease_seconds=3600)
    one.ask("second", starts_at=end + GRACE + TURNAROUND, lease_seconds=3600)
    one.ironic.set_maintenance(one.uuids[0], True, "a fan")
    one.later(4.5 * HOUR)
    one.ironic.set_maintenance(one.uuids[0], False)
    one.until("first", S.ACTIVE)
    assert one.claim("first").lease_end == end


def test_who_waits_does_not_get_the_node_that_a_late_reservation_needs(two: Days) -> None:
    two.active("old")  # node-1
    two.ask("later", starts_at=at(4))  # node-2
    two.ironic.set_maintenance(two.uuids[1], True, "a fan")
    two.queue("waiter", priority=9)
    two.later(4 * HOUR)
    two.release("old")
    for _ in range(30):
        two.see()
        two.serve()  # the queue is looked at far more often than a late reservation
        two.step(two.claim("old").id) if two.claim("old").ended_at is None else None
        two.work()
        if two.nodes("waiter"):
            break
        if two.claim("old").ended_at:
            two.serve()
            two.step(two.claim("later").id)
    assert two.nodes("later") == {"node-1"}
    assert two.nodes("waiter") == set()


def test_renewing_into_somebodys_reservation_is_refused_and_says_until_when(one: Days) -> None:
    one.active("web", lease_seconds=3600)
    begin = at(4)
    one.ask("later", starts_at=begin, lease_seconds=3600)
    with pytest.raises(Conflict, match="a node of claim web is reserved from") as error:
        one.desk.renew("p", "web", "me", ends_at=begin)
    latest = begin - GRACE - TURNAROUND
    assert f"{latest:%Y-%m-%d %H:%M} UTC" in error.value.remedy
    assert one.desk.renew("p", "web", "me", ends_at=latest).lease_end == latest


def test_protecting_into_somebodys_reservation_is_refused(one: Days) -> None:
    one.active("web", lease_seconds=3600)
    one.ask("later", starts_at=at(4), lease_seconds=3600)
    with pytest.raises(Conflict, match="is reserved from"):
        one.desk.protect("p", "web", True, "me", "why")


def test_what_can_still_be_taken_back_is_not_reserved_for_somebody_else(one: Days) -> None:
    one.active("web")
    one.release("web", at_once=False)
    one.rounds(1)
    with pytest.raises(NoCapacity) as error:
        one.ask("later", starts_at=at(4))
    assert error.value.reasons == {"node-1": "its claim can still be taken back"}
    one.desk.take_back("p", "web", "me")
    one.until("web", S.ACTIVE)


def test_a_released_reservation_frees_its_time(one: Days) -> None:
    one.ask("later", starts_at=at(4))
    one.release("later")
    one.rounds(1)
    assert one.claim("later").state is S.RELEASED
    assert one.rows(Booking) == []
    one.ask("web")


# --- the queue ------------------------------------------------------------------------------------


def test_who_waits_is_served_by_priority_then_by_age(four: Days) -> None:
    four.active("every", count=4)
    for name, priority in (("old", 0), ("young", 0), ("urgent", 5)):
        four.queue(name, count=2, priority=priority)
        Clock.at += MINUTE
    assert {four.claim(n).state for n in ("old", "young", "urgent")} == {S.QUEUED}
    four.release("every")
    four.rounds(12)
    assert len(four.nodes("urgent")) == len(four.nodes("old")) == 2
    assert four.claim("young").state is S.QUEUED


def test_who_waits_for_addresses_keeps_no_nodes_from_others(one: Days) -> None:
    nics = tuple(Nic(mac=mac) for mac in identity_of("192.0.2.1").macs)
    layout = a_layout(
        nics={"up": {"count": len(nics), "boot": True}},
        bonds=[{"name": "bond0", "nics": ["up"], "mode": "active-backup"}],
    )
    with one.store.write() as session:
        session.add(Network(name="storage", document=a_network().stored()))
        session.add(Layout(name="bonded", document=layout.stored()))
        (bmc,) = session.exec(select(Bmc)).all()
        bmc.ramdisk, bmc.ramdisk_at = Inventory(nics=nics).model_dump(mode="json"), Clock.at
        for n in range(10, 20):
            holders.reserve(session, "storage", f"10.40.0.{n}", "a filer", "me")
    one.queue("bonded", layout="bonded")
    one.rounds(2)
    assert one.claim("bonded").state is S.QUEUED
    one.ask("plain")
    assert one.nodes("plain") == {"node-1"}


def test_nobody_behind_takes_what_one_ahead_waits_for(four: Days) -> None:
    four.active("three", count=3)
    four.queue("gang", count=2)
    Clock.at += MINUTE
    with pytest.raises(NoCapacity) as error:
        four.ask("quick")
    assert error.value.reasons["node-4"] == "it is kept for claims that wait longer"
    four.queue("behind")
    four.rounds(2)
    assert four.claim("behind").state is S.QUEUED
    four.ask("urgent", priority=1)
    assert four.nodes("urgent") == {"node-4"}, "who is more urgent goes first"


def test_a_reservation_does_not_take_the_time_that_one_ahead_waits_for(one: Days) -> None:
    one.active("web", lease_seconds=3600)
    one.queue("waiter")
    with pytest.raises(NoCapacity):
        one.ask("later", starts_at=at(4))


def test_who_waits_is_told_about_when(one: Days) -> None:
    claim = one.active("web", lease_seconds=3600)
    first = one.queue("first", lease_seconds=7200)
    Clock.at += MINUTE
    second = one.queue("second")
    assert claim.lease_end is not None
    free = claim.lease_end + GRACE + TURNAROUND
    assert one.desk.expected()[first.id] == free
    assert one.desk.expected()[second.id] == free + 2 * HOUR + GRACE + TURNAROUND
    one.desk.renew("p", "web", "me", lease_seconds=5 * 3600)
    assert one.desk.expected()[first.id] == Clock.at + 5 * HOUR + GRACE + TURNAROUND


def test_nobody_knows_when_what_has_no_end_is_free(one: Days) -> None:
    one.active("web")
    waiter = one.queue("waiter")
    assert one.desk.expected() == {waiter.id: None}


@pytest.mark.parametrize("wish", [{"count": 3}, {"resource_class": "gold"}, {"racks": ["r9"]}])
def test_what_could_never_be_had_is_refused_even_by_the_queue(
    two: Days, wish: dict[str, Any]
) -> None:
    with pytest.raises(NoCapacity):
        two.queue("web", **wish)
    assert two.rows(Claim) == []


def test_a_claim_whose_time_is_over_leaves_the_queue(one: Days) -> None:
    one.active("web")
    one.queue("waiter", ends_at=at(2))
    one.later(2 * HOUR)
    one.rounds(2)
    assert one.claim("waiter").state is S.RELEASED
    assert one.kinds("claim.ran-out")
    one.release("web")
    one.rounds(12)
    assert one.claim("waiter").held_at is None


def test_a_waiting_claim_is_taken_out_of_the_queue_at_once(one: Days) -> None:
    one.active("web")
    one.queue("waiter")
    one.release("waiter")
    one.rounds(1)
    assert one.claim("waiter").state is S.RELEASED


# --- repeated -------------------------------------------------------------------------------------


def test_the_same_wish_is_the_same_claim_after_its_time_has_come(one: Days) -> None:
    wish = {"starts_at": at(1), "lease_seconds": 7200}
    first = one.ask("later", **wish)
    one.later(1.5 * HOUR)
    one.until("later", S.ACTIVE)
    assert one.ask("later", **wish).id == first.id
    one.desk.renew("p", "later", "me", lease_seconds=7200)
    assert one.ask("later", **wish).id == first.id, "renewed is no other wish"


def test_one_name_in_two_projects_is_not_guessed(two: Days) -> None:
    first, _ = two.ask("web", project="p"), two.ask("web", project="q")
    with two.store.read() as session:
        with pytest.raises(Conflict, match="more than one claim is named web"):
            two.desk.find(session, None, "web")
        assert two.desk.find(session, None, str(first.id)).id == first.id


def test_a_release_that_is_asked_twice_is_one(one: Days) -> None:
    one.active("web")
    plan = one.desk.plan_release("p", "web").hash
    first = one.desk.release("p", "web", plan, "me", False)
    again = one.desk.release("p", "web", plan, "me", False)
    assert (first.id, first.undo_until) == (again.id, again.undo_until)
    assert one.claim("web").wanted is Wanted.RELEASED
