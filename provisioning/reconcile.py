"""The loop: pick what is due, take it one step on, write down what came of it.

Threads, because openstacksdk, sushy and pyghmi block. One step per object at a time. Nothing is
kept between passes but when to look again: after a crash everything is simply due.
"""

import gc
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import String, type_coerce
from sqlmodel import col, select

from provisioning import (
    classify,
    enrollment,
    expected,
    holding,
    hook_delivery,
    kube_check,
    kube_steps,
    overcloud_access,
    request_ids,
    secret_files,
    survey,
)
from provisioning.claim_steps import Claiming
from provisioning.cluster_rows import Cluster
from provisioning.cluster_steps import Clustering, On
from provisioning.discovery import Finder
from provisioning.enrollment import Enrollment
from provisioning.errors import BmcLoginRefused, SeedError, told
from provisioning.hook_delivery import Courier
from provisioning.leases import LeaseWatch
from provisioning.lent import Lending
from provisioning.models import Bmc, Claim, Discovery, Hold, Order, now
from provisioning.outcome import Done, Move, Stuck, Wait
from provisioning.parts import Parts
from provisioning.room import Rotation
from provisioning.states import TRANSITIONS, BmcGoal, ClaimState, Wanted
from provisioning.store import record

log = structlog.get_logger()

PASS_SECONDS = 0.5  # how soon a new wish is seen
NAP_SECONDS = 0.05  # how soon what moved on is taken up again
ROWS_SECONDS = 15.0
"""Rows that nobody changed are read that seldom."""
SHARE = 10  # reading them takes one part of a core in so many, however often they change
THREADS = 16
GARBAGE = (50_000, 20, 50)
"""Python's thresholds. By its own (700, 10, 10) it searches all modules and rows for garbage while
thousands of rows are read: half of what reading them costs."""
LEASES_SECONDS = 1.0  # how soon a new lease is seen
EXPECTED_SECONDS = 2.0  # how soon a listed server that was found is accepted
QUEUE_SECONDS = 1.0  # how soon a free node goes to who waits for it
RETRY_SECONDS = 5.0  # after an error that a retry may cure
LOOKS_PER_SECOND = 2.0
"""At idle nodes, by asking Ironic: the more there are, the seldomer each is looked at. A wish, a
person's "try again" and whatever is under way do not wait for it."""
LOOK_AGAIN_SECONDS = 2.0  # at all nodes, after Ironic did not answer
FIRST_LOOK_SECONDS = 15.0
"""After a start servers wait so long for the first look at all of them: some calls instead of one
for each. Ironic takes 3 s for 5,000."""
STOP_SECONDS = 5.0  # for what goes on when it is told to stop
HANG_UP_SECONDS = 0.2  # how often conversations are told to end meanwhile

BMC_WISH: tuple[Any, ...] = tuple(
    type_coerce(column, String)  # as it is stored: thousands are only compared
    for column in (
        Bmc.id, Bmc.goal, Bmc.attempt, Bmc.stale_inspection, Bmc.hardware_class,
        Bmc.resource_class, Bmc.fingerprint, Hold.claim_id,
    )
)  # fmt: skip

BMC_ROTATED: Any = type_coerce(Rotation.bmc_id, String)

CLAIM_WISH: tuple[Any, ...] = (
    Claim.id, Claim.wanted, Claim.state, Claim.renewed_to, Claim.protected, Claim.undo_until,
    Lending.asked_at,
)  # fmt: skip
CLUSTER_WISH: tuple[Any, ...] = (
    Cluster.id, Cluster.state, Cluster.released, Cluster.changes,
)  # fmt: skip
OPEN = col(Order.closed_at).is_(None)
AT_REST = frozenset({ClaimState.QUEUED, ClaimState.RESERVED, ClaimState.ACTIVE, ClaimState.FAILED})

Outcome = Wait | Move | Stuck | Done
Job = tuple[tuple[Any, ...], Callable[[], float]]
"""(what is wanted of what; one step, which answers the pause in seconds). (kind, id) is first."""


@dataclass
class Reconciler:
    parts: Parts
    finder: Finder
    leases: LeaseWatch | None = None
    courier: Courier | None = None
    _due: dict[tuple[Any, ...], float] = field(default_factory=dict)
    _busy: set[Hashable] = field(default_factory=set)
    _accepted: int = 0
    _going: set[Future[None]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _moved: threading.Event = field(default_factory=threading.Event)

    def run(self, stop: threading.Event) -> bool:
        """Until `stop`, and a few seconds more. False: some steps go on; whoever kills them may."""
        gc.freeze()
        gc.set_threshold(*GARBAGE)
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="step")
        # After a start every node is due: no claim waits for thousands of them, and no look.
        first = ThreadPoolExecutor(THREADS, thread_name_prefix="first")
        looking = ThreadPoolExecutor(1, thread_name_prefix="sight")
        by_kind = {"bmc": pool, "sight": looking}
        surveying = survey.pools(self.parts.protocols)
        hooks = ThreadPoolExecutor(hook_delivery.THREADS, thread_name_prefix="hook")
        jobs: dict[str, list[Job]] = {}
        looks: dict[str, list[Job]] = {}
        known, earliest, again = -1, 0.0, 0.0
        blind: float | None = time.monotonic() + FIRST_LOOK_SECONDS
        while not stop.is_set():
            try:
                began = time.monotonic()
                version = self.parts.store.version()  # before: what is written meanwhile counts
                if (version != known and began > earliest) or began > again:
                    cost = time.thread_time()
                    self.parts.serve_wire()
                    jobs, looks = _by_kind(self._jobs()), self._surveys()
                    self._forget_past(jobs)
                    known, again = version, began + ROWS_SECONDS
                    earliest = began + SHARE * (time.thread_time() - cost)
                if blind and (self.parts.watch.whole or began > blind):
                    blind = None
                    self._let_rest(jobs.get("bmc", []))
                for kind, waiting in jobs.items():
                    if kind != "bmc" or blind is None:
                        self._start(by_kind.get(kind, first), waiting)
                for protocol, waiting in looks.items():
                    self._start(surveying[protocol], waiting)
                self._start(hooks, self._posts())
            except Exception:  # a pass that fails (disk full, say) must not end the loop
                log.exception("pass.failed")
            self._pause(stop)
        return self._wind_up([pool, first, looking, hooks, *surveying.values()])

    def _pause(self, stop: threading.Event) -> None:
        """Until the next pass: what moved on is due at once."""
        until = time.monotonic() + PASS_SECONDS
        while not stop.wait(NAP_SECONDS) and time.monotonic() < until and not self._moved.is_set():
            pass
        self._moved.clear()

    def _wind_up(self, pools: list[ThreadPoolExecutor]) -> bool:
        """Log out of BMCs that are only read; let all else end, as far as it does in time."""
        self.finder.stopping.set()
        if self.courier:
            self.courier.stopping.set()
        for pool in [self.parts.gang, *pools]:
            pool.shutdown(wait=False, cancel_futures=True)
        until = time.monotonic() + STOP_SECONDS
        while going := [step for step in tuple(self._going) if not step.done()]:
            if time.monotonic() > until:
                return False
            for protocol in self.parts.protocols.values():
                protocol.hang_up()
            wait(going, HANG_UP_SECONDS)
        return True

    def _let_rest(self, jobs: list[Job]) -> None:
        """After a start: who rests by all we know is looked at in its turn, and not at once."""
        with self.parts.store.read() as session:
            resting = enrollment.resting(session, self.parts.watch)
        begin = time.monotonic()
        keys = [key for key, _ in jobs if UUID(str(key[1])) in resting]
        with self._lock:
            for number, key in enumerate(keys):
                self._due[key] = begin + (number + 1) / LOOKS_PER_SECOND

    def _forget_past(self, jobs: dict[str, list[Job]]) -> None:
        """Who is wanted otherwise meanwhile is due at once, also when the old wish comes back."""
        wanted = {key for waiting in jobs.values() for key, _ in waiting}
        with self._lock:
            moment = time.monotonic()
            self._due = {
                key: due
                for key, due in self._due.items()
                if due > moment and (key in wanted or key[0] not in jobs)
            }

    def _jobs(self) -> list[Job]:
        with self.parts.store.read() as session:
            sweeps = session.exec(
                select(Discovery.id).where(col(Discovery.state).in_(["requested", "running"]))
            ).all()
            bmcs = session.exec(
                select(*BMC_WISH)
                .join(Hold, col(Hold.node_uuid) == col(Bmc.node_uuid), isouter=True)
                .where(Bmc.goal != BmcGoal.OBSERVED)
            ).all()
            asked = dict(session.exec(select(BMC_ROTATED, Rotation.asked_at)).all())
            wishes = session.exec(
                select(*CLAIM_WISH)
                .join(Lending, col(Lending.claim_id) == col(Claim.id), isouter=True)
                .where(col(Claim.ended_at).is_(None))
            ).all()
            ordered = session.exec(select(Order.id).where(OPEN)).first() is not None
            groups = session.exec(
                select(*CLUSTER_WISH).where(col(Cluster.ended_at).is_(None))
            ).all()
            certificates, checks = kube_steps.due(session)
            clouds = overcloud_access.due(session)
        busy = ordered or _in_flight(wishes) or self.parts.watch.behind()
        jobs: list[Job] = [
            (("expected", ""), self._expected),
            # At once when something begins, and seldomer when nothing goes on.
            (("sight", "", busy), lambda: self._look(busy)),
        ]
        if self.leases:
            jobs.append((("leases", ""), self._leases))
        jobs.append((("queue", ""), self._queue))
        jobs += [(("sweep", i), self._job(self._sweep, i)) for i in sweeps]
        # The wish is part of the key: a new wish is due at once, whatever the old one waits for.
        jobs += [
            (("bmc", *wish, asked.get(wish[0])), self._job(self._bmc, wish[0])) for wish in bmcs
        ]
        jobs += [(("claim", *wish), self._job(self._claim, wish[0])) for wish in wishes]
        jobs += [(("cluster", *wish), self._job(self._cluster, wish[0])) for wish in groups]
        jobs += [(("certificate", i), self._kube(kube_steps.sign, i)) for i in certificates]
        jobs += [(("check", i), self._kube(kube_check.step, i)) for i in checks]
        jobs += [(("clouds", i), self._kube(overcloud_access.seal, i)) for i in clouds]
        self._accepted = len(bmcs)
        return jobs

    def _surveys(self) -> dict[str, list[Job]]:
        """Hundreds at once, in pools of their own: no step waits for a slow BMC's inventory."""
        surveyor = survey.Surveyor(
            self.parts.store, self.parts.protocols, self.parts.access, self.parts.keep_ironic_off,
            self.parts.talks,
        )  # fmt: skip
        with self.parts.store.read() as session:
            surveys, leds = survey.due(session), survey.led_due(session)
        found: dict[str, list[Job]] = {protocol: [] for protocol in self.parts.protocols}
        # One conversation with a BMC at a time, so both have one name.
        for i, protocol in leds:
            if protocol in found:
                found[protocol].append((("look", i, "led"), self._job(surveyor.locate, i)))
        for i, protocol in surveys:
            if protocol in found:
                found[protocol].append((("look", i), self._job(surveyor.survey, i)))
        return found

    def _posts(self) -> list[Job]:
        """In a pool of their own: no step waits for a slow receiver."""
        if self.courier is None:
            return []
        turns = [(("hook", i), self._job(self.courier.turn, i)) for i in self.courier.due()]
        return [(("hooks", ""), self.courier.spread), *turns]

    @staticmethod
    def _job(work: Callable[[UUID], float], identity: object) -> Callable[[], float]:
        """identity: a UUID, or one as it is stored."""
        return lambda: work(UUID(str(identity)))

    def _start(self, pool: Executor, jobs: Iterable[Job]) -> None:
        """Those that are due, and of which nothing goes on."""
        moment = time.monotonic()
        with self._lock:
            for key, job in jobs:
                one_of_it = key[:2]
                if self._due.get(key, 0.0) > moment or one_of_it in self._busy:
                    continue
                self._busy.add(one_of_it)
                going = pool.submit(self._work, key, one_of_it, job)
                self._going.add(going)
                going.add_done_callback(self._going.discard)

    def _work(self, key: tuple[Any, ...], one_of_it: Hashable, job: Callable[[], float]) -> None:
        pause = RETRY_SECONDS
        try:
            with request_ids.a_new_one():
                pause = self._named(key, job)
        finally:
            with self._lock:
                self._due[key] = time.monotonic() + pause
                self._busy.discard(one_of_it)
            if pause == 0.0:
                self._moved.set()

    @staticmethod
    def _named(key: Hashable, job: Callable[[], float]) -> float:
        try:
            return job()
        except Exception:
            log.exception("step.failed", what=str(key))
            return RETRY_SECONDS

    # --- one step of each kind; the answer is the pause in seconds --------------------------------

    def _sweep(self, identity: UUID) -> float:
        try:
            self.finder.run(identity)
        except SeedError as err:
            with self.parts.store.write() as session:
                row = session.get_one(Discovery, identity)
                row.state, row.problems, row.ended_at = "failed", [told(err)], now()
        return RETRY_SECONDS

    def _leases(self) -> float:
        assert self.leases  # noqa: S101
        self.leases.look()
        return LEASES_SECONDS

    def _look(self, busy: bool) -> float:
        try:
            return self.parts.watch.look(busy)
        except SeedError as err:
            log.warning("sight.older", problem=str(err))
            return LOOK_AGAIN_SECONDS

    def _expected(self) -> float:
        expected.accept_matches(self.parts.store)
        return EXPECTED_SECONDS

    def _queue(self) -> float:
        holding.serve_queue(self.parts.store, self.parts.turnaround)
        return QUEUE_SECONDS

    def _bmc(self, identity: UUID) -> float:
        with self.parts.store.read() as session:
            bmc = session.get(Bmc, identity)
        if bmc is None:  # forgotten since it was told to be due
            return RETRY_SECONDS
        outcome = self._guarded(bmc, lambda: Enrollment(self.parts).step(bmc))
        with self.parts.store.write() as session:
            row = session.get(Bmc, identity)
            if row is None:  # forgotten
                return _pause(outcome)
            if row.goal is not BmcGoal.FORGOTTEN:
                classify.judge(session, row)
            before = (row.detail, row.problem)
            row.detail, row.problem, row.remedy = _told(outcome)
            if row.problem and row.problem != before[1]:
                record(session, "node.stuck", row.node, row.problem, remedy=row.remedy)
            elif row.detail != before[0] and ":" not in row.detail:
                record(session, "node.moved", row.node, row.detail)
        if isinstance(outcome, Wait):
            return outcome.seconds
        return max(_pause(outcome), self._accepted / LOOKS_PER_SECOND)

    def _claim(self, identity: UUID) -> float:
        with self.parts.store.read() as session:
            claim = session.get_one(Claim, identity)
        if claim.ended_at is not None:  # since it was told to be due
            return RETRY_SECONDS
        outcome = self._guarded(None, lambda: Claiming(self.parts).step(claim))
        if isinstance(outcome, Stuck) and (claim.state, ClaimState.FAILED) in TRANSITIONS:
            self._write_claim(claim, ClaimState.FAILED, outcome)
        elif isinstance(outcome, Move):
            self._write_claim(claim, outcome.state, outcome)
        else:
            self._write_claim(claim, claim.state, outcome)
        return _pause(outcome)

    def _cluster(self, identity: UUID) -> float:
        with self.parts.store.read() as session:
            cluster = session.get_one(Cluster, identity)
        if cluster.ended_at is not None:  # since it was told to be due
            return RETRY_SECONDS
        work = Clustering(self.parts)
        try:
            outcome = work.step(cluster)
        except SeedError as err:
            log.warning("cluster.error", code=err.code, problem=str(err))
            outcome = (
                Wait(str(err), RETRY_SECONDS) if err.retryable else Stuck(str(err), err.remedy)
            )
        work.write(cluster, outcome)
        return 0.0 if isinstance(outcome, On) else outcome.seconds

    def _kube(self, step: Callable[[Parts, UUID], float], identity: UUID) -> Callable[[], float]:
        """A wish of a person's in a cluster."""

        def work() -> float:
            try:
                return step(self.parts, identity)
            except SeedError as err:
                log.warning("kube.error", code=err.code, problem=str(err))
                return RETRY_SECONDS

        return work

    def _write_claim(self, seen: Claim, state: ClaimState, outcome: Outcome) -> None:
        with self.parts.store.write() as session:
            row = session.get_one(Claim, seen.id)
            final = state is not seen.state and state in (ClaimState.CLEANING, ClaimState.RELEASED)
            if row.state is not seen.state or (final and row.wish != seen.wish):
                return  # somebody moved it, or wants it otherwise, meanwhile: look again
            if row.state is not state:
                if (row.state, state) not in TRANSITIONS:
                    raise ValueError(f"no claim goes from {row.state} to {state}")
                row.state, row.since = state, now()
                record(
                    session, f"claim.{state}", row.id, row.name, project=row.project,
                )  # fmt: skip
            if state is not ClaimState.FAILED or isinstance(outcome, Stuck):
                row.detail, row.problem, row.remedy = _told(outcome)
            if state is ClaimState.RELEASED:
                row.ended_at = now()
                secret_files.forget(session, row.id)

    def _guarded(self, bmc: Bmc | None, step: Callable[[], Outcome]) -> Outcome:
        """An error of ours becomes an outcome: a retry cures it, or a person must."""
        try:
            return step()
        except SeedError as err:
            log.warning("step.error", code=err.code, problem=str(err), exc_info=not err.retryable)
            if isinstance(err, BmcLoginRefused) and bmc is not None:
                self.parts.keep_ironic_off(bmc)
            if err.retryable:
                return Wait(str(err), RETRY_SECONDS)
            return Stuck(str(err), err.remedy)


def _by_kind(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job[0][0], []).append(job)
    return found


def _in_flight(wishes: Iterable[Any]) -> bool:
    """Does Ironic work for a claim, or will it soon?"""
    return any(w == Wanted.RELEASED or s not in AT_REST for _, w, s, *_ in wishes)


def _told(outcome: Outcome) -> tuple[str, str, str]:
    match outcome:
        case Stuck(problem=problem, remedy=remedy):
            return "", problem, remedy
        case Wait(detail=detail) | Done(detail=detail):
            return detail, "", ""
        case Move(state=state):
            return str(state), "", ""


def _pause(outcome: Outcome) -> float:
    return 0.0 if isinstance(outcome, Move) else outcome.seconds
