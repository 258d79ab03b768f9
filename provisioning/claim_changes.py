"""What can be changed of a claim that is there: kept longer, protected, given back, taken back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from sqlalchemy import or_
from sqlmodel import Session, col, select

from provisioning import (
    holding,
    leasing,
    plans,
    projects,
    wishes,
)  # fmt: skip
from provisioning.cluster_rows import Cluster, Member
from provisioning.disks import kept_of
from provisioning.errors import Conflict, Invalid, NotFound
from provisioning.image import Image
from provisioning.ironic import Ironic
from provisioning.models import Bmc, Booking, Claim, Hold, now
from provisioning.plans import PlannedNode, PlanOut
from provisioning.pool import WAITING
from provisioning.states import ClaimState, Wanted
from provisioning.store import Store, record
from provisioning.tenants import Project

RELEASE = "release"
Row = TypeVar("Row", Claim, Cluster)
Disks = Mapping[UUID, list[plans.Disk]]
GONE = (ClaimState.CLEANING, ClaimState.RELEASED)


@dataclass(frozen=True)
class Changes:
    """Of one claim each, found by its name."""

    store: Store
    ironic: Ironic
    image: Callable[[Session, str, bool], Image]
    undo: timedelta
    turnaround: timedelta = holding.TURNAROUND
    grace: timedelta = timedelta(0)

    def find(self, session: Session, project: str | None, name: str) -> Claim:
        """A claim by name (the living one first) or UUID. `project` None sees all projects."""
        return named(session, Claim, "claim", project, name)

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
            claim = _alone(session, self.find(session, project, name))
            self._may_renew(session, claim, end, at)
            claim.renewed_to = end
            session.add(claim)
            record(
                session, "claim.renewed", claim.id,
                f"{claim.name}: until {end:%Y-%m-%d %H:%M} UTC", who=who,
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
        if claim.state in WAITING:
            raise Conflict(
                f"claim {claim.name} did not begin yet",
                f"Release it and ask again: `seed claim release {claim.name}`.",
            )
        may_last(projects.find(session, claim.project), end - at)
        booking = holding.next_booking(session, claim)
        tail = timedelta(seconds=claim.grace_seconds) + self.turnaround
        if booking and booking.starts_at < end + tail:
            raise _is_reserved(claim, booking, tail)

    def protect(self, project: str | None, name: str, on: bool, who: str, why: str) -> Claim:
        """While protected it is neither released nor ends by itself."""
        with self.store.write() as session:
            claim = _alone(session, self.find(session, project, name))
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
            claim = _alone(session, self.find(session, None, name))
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
            claim = _alone(session, self.find(session, project, name))
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
            claim = _alone(session, self.find(session, project, name))
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
            claim = _alone(session, self.find(session, project, name))
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
            disks=_erased(session, hold.node_uuid, disks),
            holder=holder,
        )


def _erased(session: Session, node_uuid: UUID, disks: Disks) -> list[plans.Disk]:
    """Without those that are kept. Held since they were asked for: no plan is of that."""
    kept = {k.serial for k in kept_of(session, node_uuid)}
    return [d for d in disks.get(node_uuid, []) if not {d.serial, d.wwn} & kept]


def _holds(session: Session, claim: Claim) -> Sequence[Hold]:
    return session.exec(
        select(Hold).where(Hold.claim_id == claim.id).order_by(col(Hold.position))
    ).all()


def may_last(project: Project, length: timedelta | None) -> None:
    longest = project.max_lease_seconds
    if longest and (length is None or length > timedelta(seconds=longest)):
        raise Conflict(
            f"project {project.name} may keep servers for {timedelta(seconds=longest)} at a time",
            f"Give an end: lease_seconds={longest} at most, and renew it in time.",
        )


def may_have_no_end(project: Project) -> None:
    """A cluster has no lease: it is there until somebody releases it."""
    if project.max_lease_seconds:
        longest = timedelta(seconds=project.max_lease_seconds)
        raise Conflict(
            f"project {project.name} may keep servers for {longest} at a time, and a cluster has "
            "no end",
            "Take another project, or an operator lets this one keep them: "
            f"`seed project change {project.name} --max-lease-days 0`.",
        )


def _alone(session: Session, claim: Claim) -> Claim:
    """A cluster's node is not taken from under it: the cluster has verbs of its own."""
    member = session.exec(select(Member).where(Member.claim_id == claim.id)).first()
    if member is not None and claim.ended_at is None:
        cluster = session.get_one(Cluster, member.cluster_id)
        raise Conflict(
            f"claim {claim.name} is a node of the {cluster.noun} {cluster.name}",
            f"Change that: `seed {cluster.noun} show {cluster.name}`.",
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


def named(session: Session, table: type[Row], noun: str, project: str | None, name: str) -> Row:
    """By name (the living one first) or UUID; `project` None sees all projects. Raises NotFound,
    and Conflict where several projects have one of that name."""
    query = select(table).where(or_(col(table.name) == name, col(table.id) == _uuid(name)))
    if project is not None:
        query = query.where(table.project == project)
    rows = session.exec(query.order_by(col(table.created_at).desc())).all()
    living = [row for row in rows if row.ended_at is None] or list(rows)
    if not living:
        raise NotFound(f"there is no {noun} {name!r}", f"See yours: `seed {noun} list`.")
    if len({row.project for row in living}) > 1 and not any(str(r.id) == name for r in living):
        raise Conflict(
            f"more than one {noun} is named {name}",
            f"Say which by its id: `seed {noun} list -o json`.",
        )
    return living[0]


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
