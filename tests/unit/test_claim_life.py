"""The whole life of claims against what must always hold: people, clock, failures, kill -9.

The rows, the desk, the steps and the queue are the real ones; Ironic is the strict double. What
must hold is computed here from the rows, never by the code under test. SEED_LIFE=seconds runs it
that long with random examples instead of the gate's fixed ones.
"""

import os
import time
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import combinations
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from provisioning.errors import SeedError
from provisioning.models import Bmc, Booking, Claim, Hold, Order
from provisioning.sight import Sight
from provisioning.states import ClaimState, IfFull, Wanted
from tests.fakes.life import GRACE, TURNAROUND, UNDO, House, Killed, clock
from tests.unit.test_claims import a_spec

LONG = float(os.environ.get("SEED_LIFE", "0"))
NAMES = [f"c{n}" for n in range(6)]
PROJECT = "p"
WHOLE = {ClaimState.ALLOCATED, ClaimState.DEPLOYING, ClaimState.PROVING, ClaimState.ACTIVE}

wishes = st.fixed_dictionaries(
    {
        "count": st.integers(1, 4),
        "if_full": st.sampled_from(IfFull),
        "priority": st.sampled_from([0, 0, 5]),
        "shape": st.sampled_from([{}, {}, {"spread": "rack"}, {"pack": "rack"}]),
        "starts": st.sampled_from([None, None, None, 20, 90, 240]),
        "lease": st.sampled_from([None, 15, 60, 120]),
        "ends": st.sampled_from([None, None, 90, 300]),
        "protected": st.sampled_from([False] * 7 + [True]),
    }
)
names = st.sampled_from(NAMES)
meddling = st.sampled_from(["release", "undo", "renew", "protect", "serve", "other", "request"])
disturbance = st.one_of(
    st.none(),
    st.none(),
    st.tuples(st.just("kill"), st.integers(0, 7)),
    st.tuples(meddling, st.integers(0, 7)),
)


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._clock = clock()
        self.clock = self._clock.__enter__()
        self.house = House()
        self.house.store.hook = self.at_effect
        self.stepping: UUID | None = None
        self.ambush: tuple[str, int] | None = None
        self.generations: dict[UUID, int] = {}
        self.spec: dict[UUID, Any] = {}

    def teardown(self) -> None:
        try:
            self.everything_ends()
        finally:
            self.house.close()
            self._clock.__exit__(None, None, None)

    # --- what people do -------------------------------------------------------------------------

    def ask(self, name: str, wish: dict[str, Any]) -> None:
        at = self.clock.at
        told = {"count": wish["count"], "if_full": wish["if_full"], "priority": wish["priority"]}
        told |= wish["shape"] | {"protected": wish["protected"]}
        if wish["starts"]:
            told["starts_at"] = at + timedelta(minutes=wish["starts"])
        if wish["lease"]:
            told["lease_seconds"] = wish["lease"] * 60
        elif wish["ends"]:
            told["ends_at"] = at + timedelta(minutes=wish["ends"])
        spec = a_spec(name, **told)
        claim, new = self.granting(lambda: self.house.desk.request(spec, PROJECT, "me", True))
        if new:
            self.spec[claim.id] = spec
        again, newer = self.house.desk.request(self.spec[claim.id], PROJECT, "me", True)
        assert (again.id, newer) == (claim.id, False), "a retry is another claim"

    def refused(self, what: Any) -> bool:
        try:
            what()
        except SeedError:
            return True
        return False

    @rule(name=names, wish=wishes, rounds=st.sampled_from([0, 0, 1, 3, 6]))
    def request(self, name: str, wish: dict[str, Any], rounds: int) -> None:
        self.refused(lambda: self.ask(name, wish))
        self.go_on(rounds)

    @rule(name=names, at_once=st.booleans())
    def release(self, name: str, at_once: bool) -> None:
        def ends() -> None:
            plan = self.house.desk.plan_release(PROJECT, name)
            self.house.desk.release(PROJECT, name, plan.hash, "me", at_once)

        self.refused(ends)

    @rule(name=names)
    def undo(self, name: str) -> None:
        self.refused(lambda: self.house.desk.take_back(PROJECT, name, "me"))

    @rule(name=names, minutes=st.sampled_from([2, 30, 200]))
    def renew(self, name: str, minutes: int) -> None:
        self.refused(lambda: self.house.desk.renew(PROJECT, name, "me", lease_seconds=minutes * 60))

    @rule(name=names, on=st.booleans())
    def protect(self, name: str, on: bool) -> None:
        self.refused(lambda: self.house.desk.protect(PROJECT, name, on, "me", "why"))

    @rule(name=names, priority=st.sampled_from([0, 5, 9]))
    def prioritize(self, name: str, priority: int) -> None:
        self.refused(lambda: self.house.desk.prioritize(name, priority, "me"))

    # --- what goes on by itself -----------------------------------------------------------------

    @rule(minutes=st.sampled_from([1, 6, 11, 31, 61, 130]), rounds=st.sampled_from([0, 1, 4]))
    def later(self, minutes: int, rounds: int) -> None:
        self.clock.at += timedelta(minutes=minutes)
        self.go_on(rounds)

    @rule(which=st.integers(0, 5), times=st.integers(1, 4), disturbed=disturbance)
    def step(self, which: int, times: int, disturbed: tuple[str, int] | None) -> None:
        living = self.house.living()
        if living:
            self.ambush = disturbed
            for _ in range(times):
                self.one_step(living[which % len(living)].id)
            self.ambush = None

    @rule(times=st.integers(1, 5))
    def rounds(self, times: int) -> None:
        self.go_on(times)

    def go_on(self, times: int) -> None:
        for _ in range(times):
            self.house.see()
            self.granting(self.house.serve)
            for claim in self.house.living():
                self.one_step(claim.id)
            self.house.work()

    @rule(disturbed=disturbance)
    def serve(self, disturbed: tuple[str, int] | None) -> None:
        self.ambush = disturbed if disturbed and disturbed[0] == "kill" else None
        try:
            self.granting(self.house.serve)
        except Killed:
            self.house.reconciler = self.house.a_life()
        self.ambush = None

    @rule()
    def see(self) -> None:
        self.house.see()

    @rule(which=st.integers(0, 5), fails=st.sampled_from([False, False, True]))
    def ironic_works(self, which: int, fails: bool) -> None:
        self.house.ironic.work(self.house.uuids[which], fails)
        self.house.prove()

    @rule(which=st.integers(0, 5), on=st.booleans())
    def maintenance(self, which: int, on: bool) -> None:
        self.house.ironic.set_maintenance(self.house.uuids[which], on, "a fan")

    def one_step(self, claim: UUID) -> None:
        if claim not in {c.id for c in self.house.living()}:
            return
        before, self.stepping = self.stepping, claim
        try:
            self.granting(lambda: self.house.step(claim))
        except Killed:
            self.house.reconciler = self.house.a_life()
        finally:
            self.stepping = before

    # --- at each effect -------------------------------------------------------------------------

    def at_effect(self, when: str, what: str, args: tuple[Any, ...]) -> None:
        if when == "before" and what == "provision":
            self.may_provision(UUID(str(args[0])), args[1])
        if self.ambush is None or (self.stepping is None and self.ambush[0] != "kill"):
            return
        kind, left = self.ambush
        self.ambush = (kind, left - 1) if left else None
        if left == 0:
            self.meddle(kind)

    def meddle(self, kind: str) -> None:
        if kind == "kill":
            raise Killed
        living = {c.id: c for c in self.house.living()}
        mine = living.get(self.stepping)
        name = mine.name if mine else NAMES[0]
        others = [i for i in living if i != self.stepping]
        acts: dict[str, Any] = {
            "release": lambda: self.release.__wrapped__(self, name, False),
            "undo": lambda: self.undo.__wrapped__(self, name),
            "renew": lambda: self.renew.__wrapped__(self, name, 200),
            "protect": lambda: self.protect.__wrapped__(self, name, True),
            "serve": self.house.serve,
            "other": lambda: [self.one_step(i) for i in others[:1]],
            "request": lambda: self.refused(
                lambda: self.house.desk.request(a_spec("meddler", count=2), PROJECT, "me", True)
            ),
        }
        acts[kind]()

    def may_provision(self, node: UUID, target: str) -> None:
        holder = next(h.claim_id for h in self.house.rows(Hold) if h.node_uuid == node)
        assert holder is not None, f"{target} of a node that nobody holds"
        assert holder == self.stepping, f"{target} of a node whose hold is another's"
        claim = next(c for c in self.house.rows(Claim) if c.id == holder)
        assert claim.ended_at is None
        if target == "deleted":
            assert claim.state is ClaimState.CLEANING, f"erased while {claim.state}"
            assert self.is_to_go(claim), "erased although somebody wants to keep it"

    def is_to_go(self, claim: Claim) -> bool:
        """By what was told to people: released and not taken back, or its time over."""
        if claim.wanted is Wanted.RELEASED:
            return claim.undo_until <= self.clock.at
        end = known_end(claim)
        return end is not None and not claim.protected and end + UNDO <= self.clock.at

    # --- nobody overtakes -----------------------------------------------------------------------

    def granting(self, what: Any) -> Any:
        """Whoever gets nodes by this leaves those ahead of it in the queue what they could have."""
        living = self.house.living()
        queue = [c for c in living if is_waiting(c, self.clock.at)]
        if not queue:
            return what()
        before = {c.id: self.house.held_by(c.id) for c in living}
        could = {c.id: self.could_have(c) for c in queue}
        bookings = {b.claim_id for b in self.house.rows(Booking)}
        try:
            return what()
        finally:
            self.nobody_overtook(before, queue, could, bookings)

    def nobody_overtook(
        self, before: Any, queue: list[Claim], could: Any, booked: set[UUID]
    ) -> None:
        living = {c.id: c for c in self.house.living()}
        for claim in living.values():
            got = self.house.held_by(claim.id) - before.get(claim.id, set())
            had_its_turn = claim.id in booked or before.get(claim.id)
            if not got or had_its_turn or not self.spec.get(claim.id):
                continue
            for other in queue:
                now_it = living.get(other.id)
                if other.id == claim.id or now_it is None or now_it.state is not ClaimState.QUEUED:
                    continue
                if is_ahead(now_it, claim, {c.id for c in queue}):
                    assert self.is_left_enough(now_it, could[other.id]), (
                        f"{claim.name} overtook {other.name}"
                    )

    def could_have(self, claim: Claim) -> set[UUID]:
        """Free nodes that fit it, by the rows and by what Ironic was seen to say."""
        seen = {s.node_uuid: s.facts for s in self.house.rows(Sight)}
        end = claim.ends_at
        if claim.lease_seconds:
            end = self.clock.at + timedelta(seconds=claim.lease_seconds)
        end = claim.renewed_to or end  # it had its turn already, and Ironic refused
        end = end + GRACE + TURNAROUND if end else None
        found = set()
        for hold in self.house.rows(Hold):
            facts = seen[hold.node_uuid]
            booked = any(
                b.node_uuid == hold.node_uuid and overlaps(self.clock.at, end, *whole(b))
                for b in self.house.rows(Booking)
            )
            usable = facts["provision_state"] == "available" and not facts["maintenance"]
            if hold.claim_id is None and usable and not booked:
                found.add(hold.node_uuid)
        return found

    def is_left_enough(self, claim: Claim, could: set[UUID]) -> bool:
        left = could & self.could_have(claim)
        if not claim.spread and not claim.pack:
            return len(left) >= min(claim.count, len(could))
        racks = Counter(self.house.uuids.index(u) // 2 for u in could)
        most = len(racks) if claim.spread else max(racks.values(), default=0)
        return most < claim.count or left == could

    # --- what must always hold ------------------------------------------------------------------

    @invariant()
    def holds_always(self) -> None:
        claims, holds, bookings = self.house.snapshot()
        self.seats_are_whole(claims, holds, bookings)
        living = {c.id: c for c in claims.values() if c.ended_at is None}
        self.active_is_deployed(living, holds)
        self.times_are_apart(living, holds, bookings)
        names = {name.rsplit("-", 1)[0] for name in self.house.ironic.allocations}
        assert names <= {str(c) for c in living}, "a lock of a claim that ended"

    def seats_are_whole(
        self, claims: dict[UUID, Claim], holds: list[Hold], bookings: list[Booking]
    ) -> None:
        held: dict[UUID, list[Hold]] = defaultdict(list)
        for hold in holds:
            assert hold.generation >= self.generations.get(hold.node_uuid, 0)
            self.generations[hold.node_uuid] = hold.generation
            if hold.claim_id:
                assert claims[hold.claim_id].ended_at is None, "an ended claim holds a node"
                held[hold.claim_id].append(hold)
        booked = Counter(b.claim_id for b in bookings)
        for claim in claims.values():
            mine = sorted(h.position for h in held[claim.id])
            assert mine in ([], list(range(claim.count))), f"half a gang: {claim.state} {mine}"
            assert booked[claim.id] in (0, claim.count), "half a gang is booked"
            if claim.state in WHOLE:
                assert mine, f"{claim.name} is {claim.state} without a node"
            if claim.state is ClaimState.RESERVED and claim.wanted is Wanted.ACTIVE:
                kept = mine or booked[claim.id] or self.ran_out(claim)
                assert kept, "reserved, and nothing is kept for it"
            if claim.ended_at:
                assert not booked[claim.id]
                assert claim.wanted is Wanted.RELEASED or self.ran_out(claim), "nobody ended it"

    def ran_out(self, claim: Claim) -> bool:
        end = known_end(claim) or claim.lease_end  # the latter: it never had a node
        return end is not None and end <= self.clock.at

    def active_is_deployed(self, living: dict[UUID, Claim], holds: list[Hold]) -> None:
        for claim in living.values():
            if claim.state is ClaimState.ACTIVE:
                nodes = [h.node_uuid for h in holds if h.claim_id == claim.id]
                states = {self.house.ironic.node(u).provision_state for u in nodes}
                assert states == {"active"}, f"{claim.name} is active on nodes that are {states}"

    def times_are_apart(
        self, claims: dict[UUID, Claim], holds: list[Hold], bookings: list[Booking]
    ) -> None:
        spans: dict[UUID, list[tuple[Any, ...]]] = defaultdict(list)
        for b in bookings:
            spans[b.node_uuid].append((b.claim_id, *whole(b)))
        for hold in holds:
            claim = claims.get(hold.claim_id) if hold.claim_id else None
            if claim and claim.wanted is Wanted.ACTIVE and claim.state in WHOLE:
                end = None if claim.protected else known_end(claim)
                if end is None or end > self.clock.at:
                    end = end + TURNAROUND if end else None
                    spans[hold.node_uuid].append((claim.id, self.clock.at, end))
        for node, taken in spans.items():
            for (claim_id, begin, end), (other, b, e) in combinations(taken, 2):
                apart = claim_id == other or not overlaps(begin, end, b, e)
                assert apart, f"{node} twice: {taken}"

    def everything_ends(self) -> None:
        self.ambush = None
        for _ in range(60):
            for claim in self.house.living():
                self.protect.__wrapped__(self, claim.name, False)
                self.release.__wrapped__(self, claim.name, True)
            for number, uuid in enumerate(self.house.uuids, 1):
                if self.house.ironic.node(uuid).maintenance:
                    self.house.ironic.set_maintenance(uuid, False)
                self.try_again(number)
            self.go_on(2)
            self.clock.at += timedelta(minutes=11)
            if not self.house.living():
                break
        told = [(c.name, c.state, c.detail, c.problem) for c in self.house.living()]
        assert not told, f"these never end: {told}"
        self.house.see()
        assert {n.provision_state for n in self.house.ironic.nodes()} == {"available"}
        assert not self.house.ironic.allocations
        assert not self.house.rows(Booking)
        assert all(h.claim_id is None for h in self.house.rows(Hold))
        assert all(o.closed_at for o in self.house.rows(Order)), "an order is open"
        self.holds_always()
        every = a_spec("last", count=len(self.house.uuids))
        assert self.house.desk.request(every, PROJECT, "me", True)[1], "not all can be had again"

    def try_again(self, number: int) -> None:
        """A person says so: `seed node retry`."""
        with self.house.store.write() as session:
            bmc = next(b for b in self.house.rows(Bmc) if b.node_name == f"node-{number}")
            row = session.get_one(Bmc, bmc.id)
            row.attempt += 1


def known_end(claim: Claim) -> datetime | None:
    """When it is given back by itself, with grace, as the API tells people."""
    end = claim.lease_end
    return end + timedelta(seconds=claim.grace_seconds) if end and claim.held_at else None


def whole(booking: Booking) -> tuple[datetime, datetime | None]:
    return booking.starts_at, booking.ends_at + TURNAROUND if booking.ends_at else None


def overlaps(a: datetime, b: datetime | None, c: datetime, d: datetime | None) -> bool:
    return (d is None or a < d) and (b is None or c < b)


def is_waiting(claim: Claim, at: datetime) -> bool:
    begun = claim.starts_at is None or claim.starts_at <= at
    end = claim.renewed_to or claim.ends_at
    ended = end is not None and end <= at
    return (
        claim.state is ClaimState.QUEUED and claim.wanted is Wanted.ACTIVE and begun and not ended
    )


def is_ahead(other: Claim, claim: Claim, queued: set[UUID]) -> bool:
    if claim.id not in queued:  # it comes in now
        return other.priority >= claim.priority
    return (-other.priority, other.created_at) < (-claim.priority, claim.created_at)


def test_the_whole_life_of_claims() -> None:
    until = time.monotonic() + LONG
    while True:
        run_state_machine_as_test(
            Life,
            settings=settings(
                max_examples=500 if LONG else 30, stateful_step_count=40, deadline=None,
                derandomize=not LONG, suppress_health_check=list(HealthCheck), database=None,
                phases=[Phase.generate], report_multiple_bugs=False,
            ),
        )  # fmt: skip
        if time.monotonic() >= until:
            return
