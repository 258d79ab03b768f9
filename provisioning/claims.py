"""Claims: ask for nodes, keep them longer, give them back.

holding.py has the rows that it writes, claim_steps.py the reconciler's side.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import or_
from sqlmodel import Session, col, select

from provisioning import (
    choosing,
    holding,
    leasing,
    plans,
    pool,
    projects,
    quotas,
    refusing,
    wishes,
)  # fmt: skip
from provisioning.choosing import Wish
from provisioning.errors import Conflict, Invalid, NotFound
from provisioning.image import Image
from provisioning.ironic import Ironic
from provisioning.models import Bmc, Booking, Claim, ClaimSpec, Hold, now
from provisioning.plans import PlannedNode, PlanOut
from provisioning.pool import Inventories, Pool
from provisioning.states import ClaimState, IfFull, Wanted
from provisioning.store import Store, record
from provisioning.tenants import Project

RELEASE = "release"
Disks = Mapping[UUID, list[plans.Disk]]
AS_NEW = timedelta(seconds=5)  # what only the clock changes is told anew after that
CHANGEABLE = frozenset({"protected", "priority", "if_full"})
"""Parts of a wish that have verbs of their own: they may differ when a wish is repeated."""


@dataclass(frozen=True)
class Explained:
    """What would become of a claim. rules: a node's name -> what keeps it from it; none: it fits.

    nearest: those that lack least. free_at: when all of it could be had; None: nobody knows.
    """

    chosen: list[str]
    rules: dict[str, list[str]]
    nearest: dict[str, list[str]]
    free_at: datetime | None
    sentence: str


@dataclass(frozen=True)
class Desk:
    """Where claims are asked for and taken back: the API's half."""

    store: Store
    ironic: Ironic
    image: Callable[[str], Image]
    undo: timedelta
    turnaround: timedelta = holding.TURNAROUND
    grace: timedelta = timedelta(0)
    _parts: Inventories = field(default_factory=Inventories)
    _seen: list[tuple[int, Pool]] = field(default_factory=list)
    _looking: threading.Lock = field(default_factory=threading.Lock)

    def request(
        self, spec: ClaimSpec, project: str, who: str, insider: bool = False
    ) -> tuple[Claim, bool]:
        """Claim and holds in one transaction, or nothing; (claim, was it new).

        The same name with the same wish is the same claim. insider: may read which others hold
        what. Raises Invalid, NotFound (image), Conflict (name, quota), NoCapacity with the rule
        that rejected each node. Ironic is not asked.
        """
        wishes.check(spec)
        with self.store.read() as session:
            if same := _living(session, project, spec.name):
                return _same_wish(same, spec), False
        wishes.check_times(spec, now())
        image = self.image(spec.image)
        if spec.if_full is IfFull.REFUSE:
            self._refuse_early(spec, image, project, insider)
        with self.store.write() as session:
            same = _living(session, project, spec.name)
            if same is not None:
                return _same_wish(same, spec), False
            claim = Claim(**spec.model_dump(), project=project, asked_by=who)
            claim.grace_seconds = int(self.grace.total_seconds())
            admit(session, claim, now())
            session.add(claim)
            session.flush()
            seen = self._look(session)
            w = self._wish(session, claim, seen, image)
            self._begin(session, claim, seen, w, insider)
            record(
                session, "claim.requested", claim.id, f"{spec.count} x {spec.resource_class}",
                who=who, project=project, state=str(claim.state),
            )  # fmt: skip
            return claim, True

    def _begin(self, session: Session, claim: Claim, seen: Pool, w: Wish, insider: bool) -> None:
        try:
            holding.take(session, claim, seen, w) if w.now else holding.book(
                session, claim, seen, w
            )
            claim.state = ClaimState.REQUESTED if w.now else ClaimState.RESERVED
        except holding.Short as short:
            if claim.if_full is IfFull.REFUSE:
                raise refusing.refusal(seen, w, short.choice, claim.project, insider) from short
            if not refusing.could_ever(seen, w, claim.count):
                raise refusing.refusal(seen, w, short.choice, claim.project, insider) from short
            claim.state = ClaimState.QUEUED
        session.add(claim)

    def _refuse_early(self, spec: ClaimSpec, image: Image, project: str, insider: bool) -> None:
        """Most refusals need no write lock, and share one look at the pool."""
        with self.store.read() as session:
            seen = self._look(session)
            w = self._wish(session, spec, seen, image)
        choice = choosing.choose(seen, w)
        if len(choice.chosen) < spec.count:
            raise refusing.refusal(seen, w, choice, project, insider)

    def _look(self, session: Session) -> Pool:
        """The pool now; the last look again while nobody wrote anything since.

        One looks while the others wait: hundreds who ask at once share it. `session` must not
        have read anything yet, or be a writer, which nobody else's commit can overtake.
        """
        with self._looking:
            version, at = self.store.version(), now()
            kept = self._seen[-1] if self._seen else None
            if kept and kept[0] == version and timedelta(0) <= at - kept[1].at < AS_NEW:
                return replace(kept[1], at=at)
            seen = pool.look(session, at, self.turnaround)
            self._seen[:] = [(version, seen)]
            return seen

    def _wish(self, session: Session, claim: ClaimSpec, seen: Pool, image: Image | None) -> Wish:
        return holding.wish(session, claim, seen, self._parts, image.min_disk_gib if image else 0)

    def explain(self, spec: ClaimSpec, project: str, insider: bool) -> Explained:
        """What request() would do with it now, and why. Nothing is written."""
        wishes.check(spec, keys=bool(spec.ssh_keys))  # who only asks may leave them out
        wishes.check_times(spec, now())
        image = self.image(spec.image)
        with self.store.read() as session:
            seen = self._look(session)
            w = self._wish(session, spec, seen, image)
        choice = choosing.choose(seen, w)
        full = len(choice.chosen) < spec.count
        told = refusing.refusal(seen, w, choice, project, insider)
        visible = [c for c in seen.candidates if refusing.is_visible(c, project, insider)]
        return Explained(
            chosen=[] if full else [c.name for c in choice.chosen],
            rules={
                c.name: refusing.whys(choice.rejected.get(c.uuid, ()), insider) for c in visible
            },
            nearest=told.nearest,
            free_at=told.free_at if full else seen.at,
            sentence=str(told) if full else f"claim {spec.name} can be had now",
        )

    def expected(self) -> dict[UUID, datetime | None]:
        """When each claim in the queue will probably begin; None: nobody knows."""
        with self.store.read() as session:
            seen = self._look(session)
            queue = [
                (c.id, holding.plain_wish(session, c, seen, self._parts))
                for c in holding.waiting(session)
            ]
        return refusing.expected(seen, queue)

    def find(self, session: Session, project: str | None, name: str) -> Claim:
        """A claim by name (the living one first) or UUID. `project` None sees all projects."""
        query = select(Claim).where(or_(col(Claim.name) == name, col(Claim.id) == _uuid(name)))
        if project is not None:
            query = query.where(Claim.project == project)
        rows = session.exec(query.order_by(col(Claim.created_at).desc())).all()
        living = [c for c in rows if c.ended_at is None] or list(rows)
        if not living:
            raise NotFound(f"there is no claim {name!r}", "See yours: `seed claim list`.")
        if len({c.project for c in living}) > 1 and not any(str(c.id) == name for c in living):
            raise Conflict(
                f"more than one claim is named {name}",
                "Say which by its id: `seed claim list -o json`.",
            )
        return living[0]

    # --- leases ---------------------------------------------------------------------------------

    def renew(
        self,
        project: str | None,
        name: str,
        who: str,
        ends_at: datetime | None = None,
        lease_seconds: int | None = None,
    ) -> Claim:
        """Another end for the lease: at `ends_at`, or so long from now.

        Raises Conflict where somebody reserved a node of it for that time, or it is too late.
        """
        at = now()
        wishes.check_time("ends_at", ends_at, at)
        if (ends_at is None) == (lease_seconds is None):
            raise Invalid("say one end", "Give ends_at, or lease_seconds from now on.")
        end = ends_at or at + timedelta(seconds=lease_seconds or 0)
        if end < at + wishes.SHORTEST:
            raise Invalid("the lease would end now", f"`seed claim release {name}` ends it.")
        with self.store.write() as session:
            claim = self.find(session, project, name)
            self._may_renew(session, claim, end, at)
            claim.renewed_to = end
            session.add(claim)
            record(
                session, "claim.renewed", claim.id, f"until {end:%Y-%m-%d %H:%M} UTC", who=who,
                project=claim.project,
            )  # fmt: skip
            return claim

    def _may_renew(self, session: Session, claim: Claim, end: datetime, at: datetime) -> None:
        until = leasing.undo_until(claim, self.undo)
        gone = claim.wanted is Wanted.RELEASED or claim.state in GONE
        if gone or (claim.state is ClaimState.RELEASING and until and until <= at):
            raise Conflict(
                f"claim {claim.name} is being given back",
                f"`seed claim undo {claim.name}` while that goes; else claim anew.",
            )
        if claim.state in holding.WAITING:
            raise Conflict(
                f"claim {claim.name} did not begin yet",
                f"Release it and ask again: `seed claim release {claim.name}`.",
            )
        _may_last(projects.find(session, claim.project), end - at)
        booking = holding.next_booking(session, claim)
        tail = timedelta(seconds=claim.grace_seconds) + self.turnaround
        if booking and booking.starts_at < end + tail:
            raise _is_reserved(claim, booking, tail)

    def protect(self, project: str | None, name: str, on: bool, who: str, why: str) -> Claim:
        """While protected it is neither released nor ends by itself."""
        with self.store.write() as session:
            claim = self.find(session, project, name)
            if claim.wanted is Wanted.RELEASED or claim.state in GONE:
                raise Conflict(
                    f"claim {claim.name} is being given back", f"`seed claim undo {claim.name}`."
                )
            if claim.protected is not on:
                booking = holding.next_booking(session, claim) if on else None
                if booking:
                    tail = timedelta(seconds=claim.grace_seconds) + self.turnaround
                    raise _is_reserved(claim, booking, tail)
                claim.protected = on
                session.add(claim)
                holding.stretch(session, claim)
                kind = "claim.protected" if on else "claim.unprotected"
                record(session, kind, claim.id, claim.name, who=who, project=claim.project, why=why)
            return claim

    def prioritize(self, name: str, priority: int, who: str) -> Claim:
        """Where a claim stands in the queue: higher first."""
        with self.store.write() as session:
            claim = self.find(session, None, name)
            claim.priority = priority
            session.add(claim)
            record(
                session, "claim.prioritized", claim.id, f"priority {priority}", who=who,
                project=claim.project,
            )  # fmt: skip
            return claim

    # --- and back -------------------------------------------------------------------------------

    def plan_release(self, project: str | None, name: str) -> PlanOut:
        with self.store.read() as session:
            claim = self.find(session, project, name)
            _unprotected(claim)
            nodes = self._at_stake(session, claim)
        if not nodes:
            sentence = f"Release claim {claim.name}: it has no node, nothing is erased."
            return PlanOut(verb=RELEASE, sentence=sentence, nodes=[], hash="", expires_in_seconds=0)
        with self.store.write() as session:
            return plans.make(session, RELEASE, _sentence(claim, nodes, self.undo), nodes)

    def release(
        self, project: str | None, name: str, plan: str, who: str, at_once: bool, why: str = ""
    ) -> Claim:
        """Give the nodes back: off now, cleaned when the undo window is over."""
        disks = self._disks(project, name)
        with self.store.write() as session:
            claim = self.find(session, project, name)
            if claim.wanted is Wanted.RELEASED or claim.ended_at:
                if at_once and claim.state is ClaimState.RELEASING:
                    claim.undo_until = now()
                    record(
                        session, "claim.release-asked", claim.id, "at once", who=who, why=why,
                        project=claim.project,
                    )  # fmt: skip
                return claim
            _unprotected(claim)
            nodes = self._at_stake(session, claim, disks)
            if nodes:
                plans.use(session, RELEASE, nodes, plan)
            claim.wanted = Wanted.RELEASED
            claim.undo_until = now() if at_once else now() + self.undo
            session.add(claim)
            record(
                session, "claim.release-asked", claim.id, claim.name, who=who, why=why,
                project=claim.project, plan=plan,
            )  # fmt: skip
            return claim

    def take_back(self, project: str | None, name: str, who: str) -> Claim:
        """Undo a release while the disks are untouched."""
        with self.store.write() as session:
            claim = self.find(session, project, name)
            if claim.wanted is Wanted.ACTIVE and claim.state not in GONE:
                if claim.state is ClaimState.RELEASING:
                    raise Conflict(
                        f"the lease of claim {claim.name} is over",
                        f"Keep it longer: `seed claim renew {claim.name} --for 1d`.",
                    )
                return claim
            too_late = claim.undo_until is None or claim.undo_until <= now()
            if too_late or claim.state in GONE:
                raise Conflict(
                    f"the undo window of claim {claim.name} is over",
                    "Its disks are being cleaned; claim new nodes: `seed claim create`.",
                )
            if claim.state is not ClaimState.QUEUED and not holding.keeps_any(session, claim):
                raise Conflict(
                    f"claim {claim.name} has no node any more", "Claim anew: `seed claim create`."
                )
            claim.wanted, claim.undo_until = Wanted.ACTIVE, None
            session.add(claim)
            record(
                session, "claim.taken-back", claim.id, claim.name, who=who, project=claim.project
            )
            return claim

    def _disks(self, project: str | None, name: str) -> Disks:
        """Asked of Ironic before anything is written: no other writer waits for it."""
        with self.store.read() as session:
            claim = self.find(session, project, name)
            if claim.wanted is Wanted.RELEASED or claim.ended_at or claim.protected:
                return {}
            nodes = [hold.node_uuid for hold in _holds(session, claim)]
        return {node: plans.disks_of(self.ironic.inventory(node)) for node in nodes}

    def _at_stake(
        self, session: Session, claim: Claim, disks: Disks | None = None
    ) -> list[PlannedNode]:
        return [self.planned(session, h, claim.name, disks) for h in _holds(session, claim)]

    def planned(
        self, session: Session, hold: Hold, holder: str, disks: Disks | None = None
    ) -> PlannedNode:
        """disks: of nodes that were asked for before; None: Ironic is asked now."""
        bmc = session.exec(select(Bmc).where(Bmc.node_uuid == hold.node_uuid)).one()
        if disks is None:
            disks = {hold.node_uuid: plans.disks_of(self.ironic.inventory(hold.node_uuid))}
        return PlannedNode(
            uuid=str(hold.node_uuid),
            name=bmc.node_name or "",
            serial=bmc.serial,
            generation=hold.generation,
            disks=disks.get(hold.node_uuid, []),  # held since: no plan is of that
            holder=holder,
        )


def _holds(session: Session, claim: Claim) -> Sequence[Hold]:
    return session.exec(
        select(Hold).where(Hold.claim_id == claim.id).order_by(col(Hold.position))
    ).all()


GONE = (ClaimState.CLEANING, ClaimState.RELEASED)


# --- who may ------------------------------------------------------------------------------------


def admit(session: Session, claim: Claim, at: datetime) -> None:
    """Its project's rules: is it there, how urgent, how long, how many. Before it is added."""
    project = projects.may_claim(session, claim.project)
    if claim.priority > project.max_priority:
        raise Conflict(
            f"project {project.name} may ask for priority {project.max_priority} at most",
            f"Ask for that, or an operator moves it: `seed claim prioritize {claim.name}`.",
        )
    begin = max(claim.starts_at or at, at)
    length = claim.ends_at - begin if claim.ends_at else None
    if claim.lease_seconds:
        length = timedelta(seconds=claim.lease_seconds)
    _may_last(project, length)
    quotas.check(session, claim.project, claim.resource_class, claim.count)


def _may_last(project: Project, length: timedelta | None) -> None:
    longest = project.max_lease_seconds
    if longest and (length is None or length > timedelta(seconds=longest)):
        raise Conflict(
            f"project {project.name} may keep servers for {timedelta(seconds=longest)} at a time",
            f"Give an end: lease_seconds={longest} at most, and renew it in time.",
        )


def _living(session: Session, project: str, name: str) -> Claim | None:
    return session.exec(
        select(Claim).where(
            Claim.project == project, Claim.name == name, col(Claim.ended_at).is_(None)
        )
    ).first()


def _same_wish(claim: Claim, spec: ClaimSpec) -> Claim:
    said = (f for f in ClaimSpec.model_fields if f not in CHANGEABLE)
    differs = [f for f in said if getattr(claim, f) != getattr(spec, f)]
    if differs:
        raise Conflict(
            f"a claim named {claim.name} lives already and differs in {', '.join(differs)}",
            f"Choose another name, or release it first: `seed claim release {claim.name}`.",
        )
    return claim


def _unprotected(claim: Claim) -> None:
    if claim.protected:
        raise Conflict(
            f"claim {claim.name} is protected",
            f"If it shall end all the same: `seed claim unprotect {claim.name}`, then release it.",
        )


def _is_reserved(claim: Claim, booking: Booking, tail: timedelta) -> Conflict:
    return Conflict(
        f"a node of claim {claim.name} is reserved from {booking.starts_at:%Y-%m-%d %H:%M} UTC on",
        f"It can be kept until {booking.starts_at - tail:%Y-%m-%d %H:%M} UTC at most.",
    )


def _sentence(claim: Claim, nodes: list[PlannedNode], undo: timedelta) -> str:
    minutes = int(undo.total_seconds() // 60)
    return (
        f"Release claim {claim.name}: {len(nodes)} node(s) are powered off now and their disks are "
        f"erased after {minutes} minutes (at once with --now)."
    )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
