"""Members that come and go one after the other: the reconciler's half of cluster_changes.py.

What is next is read from the rows each time, so a life that was killed anywhere is gone on with:
who shall leave is LEAVING, and `parting` says how far. A server is only given back once it said
that it left, or once nobody hears of it.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlmodel import Session, col, select

from provisioning import clusters, overcloud_stages
from provisioning.claims import Desk
from provisioning.cluster_changes import SILENCE, Clusters, heard, majority, staying
from provisioning.cluster_rows import Cluster, Member
from provisioning.errors import Conflict
from provisioning.models import Claim, now
from provisioning.outcome import Stuck, Wait
from provisioning.overcloud_spec import spec_of
from provisioning.parts import Parts
from provisioning.states import ClaimState, ClusterState, MemberGoal, Parting, Wanted
from provisioning.store import record

CHECK: Final = "check"
"""The step that comes after all others, for ever."""
LATELY: Final = timedelta(minutes=2)
"""Somebody else was heard of in that time: so the seed can be reached, and silence means much."""
CALM: Final = timedelta(minutes=2)
"""After one went: by then each member's check, which comes twice a minute, ran without it."""
LEFTOVERS: Final = (Parting.LEFT, Parting.LOST)


@dataclass(slots=True)
class Parted:
    """waits: for whom, in words. stuck: what does not go on by itself."""

    waits: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rolling:
    parts: Parts

    # --- who leaves -----------------------------------------------------------------------------

    def part(self, cluster: Cluster) -> Parted:
        """Everybody who leaves, as far as it goes now."""
        told = Parted()
        with self.parts.store.read() as session:
            rows = _moving(session, cluster)
        if not rows:
            return told
        with self.parts.store.write() as session:
            for member in _moving(session, cluster):
                if member.ended_at:
                    _leftovers(member, told)
                else:
                    _part(session, cluster, member, told)
        return told

    # --- an upgrade -----------------------------------------------------------------------------

    def upgrade(self, cluster: Cluster, parted: Parted) -> Wait | Stuck | None:
        """The next of its steps; None: there is none."""
        show = f"seed {cluster.noun} show {cluster.name}"
        if parted.stuck:
            return Stuck("; ".join(parted.stuck), show)
        with self.parts.store.read() as session:
            rows = staying(session, cluster)
            claims = {m.id: session.get_one(Claim, m.claim_id) for m in rows}
            calm = is_calm(session, cluster)
        for member in rows:
            if stuck := _not_well(cluster, member, claims[member.id], calm):
                return stuck
        late = [m.name for m in rows if m.joined_at is None]
        if late or parted.waits:
            return Wait("; ".join([*parted.waits, *(f"{name} is to join" for name in late)]))
        for role, (_field, group) in spec_of(cluster).groups.items():
            have = [m for m in rows if m.role == role]
            old = [m for m in have if m.revision < cluster.revision]
            count = group.count
            if old or len(have) < count:
                return self._exchange(cluster, role, len(have) - count, old)
        return None

    def _exchange(self, cluster: Cluster, role: str, more: int, old: list[Member]) -> Wait | Stuck:
        """more: than there shall be. One comes first, if there is a node for it."""
        if more > 0:
            return self._goes(cluster, old[0])
        full = self._comes(cluster, role)
        if not full:
            return Wait(f"a {role} with the new image is to come", 0.1)
        if more < 0:
            return Wait(f"a {role} is to come: {full}")
        if role == "control" and cluster.spec["control"]["count"] == 1:
            return Stuck(f"{old[0].name} is the only control plane: {full}", "seed claim list")
        return self._goes(cluster, old[0])

    def _comes(self, cluster: Cluster, role: str) -> str:
        """Empty: it is asked for. Else why not, of which nobody's names are told."""
        parts = self.parts
        desk = Desk(
            parts.store, parts.ironic, lambda _session, ref, _insider: parts.image(ref), parts.undo,
            turnaround=parts.turnaround,
        )  # fmt: skip
        try:
            with parts.store.write() as session:
                row = session.get_one(Cluster, cluster.id)
                if _same(row, cluster):
                    Clusters(parts.store, desk).add_members(session, row, role, 1, "seed", True)
        except Conflict as full:
            return f"no node can be had for it now ({full.code})"
        return ""

    def _goes(self, cluster: Cluster, member: Member) -> Wait:
        with self.parts.store.write() as session:
            row = session.get_one(Member, member.id)
            if _same(session.get_one(Cluster, cluster.id), cluster):
                row.goal = MemberGoal.LEAVING
                session.add(row)
        return Wait(f"{member.name} is to leave", 0.1)


def silent(member: Member, since: datetime | None, others: list[Member]) -> bool:
    """Nobody hears of it, and not because nobody hears of anybody: the seed was down, or the wire.

    since: when it was last told or moved by us; None: never.
    """
    at = now()
    last = max((time for time in (member.told_at, since) if time), default=None)
    if last is None or at - last < SILENCE:
        return False
    return any(heard(m, at, LATELY) for m in others if m.id != member.id and m.role == "control")


def is_calm(session: Session, cluster: Cluster) -> bool:
    """Nobody leaves, nor did a moment ago: else a check may have failed because of that one."""
    goes = col(Member.parting).in_((Parting.DRAINING, Parting.LEAVING, Parting.LEFT, Parting.LOST))
    went = (col(Member.parting) == Parting.FORGOTTEN) & (col(Member.parted_at) > now() - CALM)
    query = select(Member.id).where(Member.cluster_id == cluster.id, goes | went)
    return session.exec(query).first() is None


def has_failed(member: Member, calm: bool) -> bool:
    return member.step_state == "failed" and (calm or member.step != CHECK)


def _moving(session: Session, cluster: Cluster) -> list[Member]:
    """Who leaves, and who left something behind, control planes first."""
    query = select(Member).where(Member.cluster_id == cluster.id).where(
        (col(Member.goal) == MemberGoal.LEAVING) | col(Member.parting).in_(LEFTOVERS)
    )  # fmt: skip
    rows = session.exec(query).all()
    return sorted(rows, key=lambda m: (m.role != "control", m.number))


def _leftovers(member: Member, told: Parted) -> None:
    if member.step_state == "failed":
        told.stuck.append(f"{member.name} is gone, its leftovers are not: {member.step_detail}")
    else:
        told.waits.append(f"{member.name} is to be forgotten")


def _part(session: Session, cluster: Cluster, member: Member, told: Parted) -> None:
    claim = session.get_one(Claim, member.claim_id)
    rows = clusters.members(session, cluster)
    if _never_was(member, claim):
        return _end(session, cluster, member, claim, Parting.FORGOTTEN)
    if member.parting in LEFTOVERS:
        parting: Parting = member.parting
    else:
        since = member.parted_at or (claim.since if claim.state is ClaimState.ACTIVE else None)
        parting = Parting.LOST if silent(member, since, rows) else Parting.NO
    if member.parting in (Parting.DRAINING, Parting.LEAVING) and parting is Parting.NO:
        return _goes_on(member, told)
    if why := overcloud_stages.holds(session, cluster, member) or _holds(
        session, cluster, member, rows, parting
    ):
        told.waits.append(f"{member.name} {why}")
    elif parting is Parting.NO:
        member.parting, member.parted_at = Parting.DRAINING, now()
        member.step, member.step_state, member.step_detail, member.missing = "", "", "", ""
        session.add(member)
        told.waits.append(f"{member.name} is drained")
    else:
        _end(session, cluster, member, claim, parting)
        told.waits.append(f"{member.name} is to be forgotten")
    return None


def _never_was(member: Member, claim: Claim) -> bool:
    """Its server never came so far that it could be a member."""
    booted = (ClaimState.PROVING, ClaimState.ACTIVE)
    return member.told_at is None and claim.state not in booted


def _goes_on(member: Member, told: Parted) -> None:
    step = member.step or str(member.parting)
    if member.step_state == "failed":
        told.stuck.append(f"{member.name}: {step} failed: {member.step_detail}"[:300])
    else:
        told.waits.append(f"{member.name}: {step}")


def _holds(
    session: Session, cluster: Cluster, member: Member, rows: list[Member], parting: Parting
) -> str:
    """Why it does not go now; empty: it goes."""
    alike = [m for m in rows if m.role == member.role and m.id != member.id]
    late = [m.name for m in alike if m.goal is MemberGoal.JOINED and m.joined_at is None]
    if late and member.joined_at and parting is Parting.NO:
        return f"waits until {late[0]} joined"
    if member.role != "control":
        return ""
    moving = [m for m in _moving(session, cluster) if m.role == "control" and m.id != member.id]
    under_way = (Parting.DRAINING, Parting.LEAVING, Parting.LEFT)
    first = [m.name for m in moving if m.ended_at or m.parting in under_way]
    if first:
        return f"waits for {first[0]}, which leaves first"
    at, stay = now(), [m for m in alike if m.joined_at]
    voters = [*stay, member] if member.joined_at else stay
    if not stay:
        return "is the last control plane"
    # Who left already votes no more; but nothing is lost by looking at those that stay.
    if not majority(stay, at) or (parting is not Parting.LEFT and not majority(voters, at)):
        return "stays: too few other control planes are heard of"
    return ""


def _end(
    session: Session, cluster: Cluster, member: Member, claim: Claim, parting: Parting
) -> None:
    """Its node is given back, and it is a member no more, in one transaction."""
    member.parting, member.parted_at, member.goal = parting, now(), MemberGoal.GONE
    member.ended_at, member.token_hash = now(), ""
    member.step, member.step_state, member.step_detail, member.missing = "", "", "", ""
    claim.wanted, claim.undo_until = Wanted.RELEASED, None
    session.add_all([member, claim])
    session.flush()
    record(
        session, "member.ended", cluster.id, f"{member.name}: {parting}", project=cluster.project
    )


def _not_well(cluster: Cluster, member: Member, claim: Claim, calm: bool) -> Stuck | None:
    """A member that stops an upgrade, its step named."""
    replace = f"seed {cluster.noun} replace {cluster.name} {member.name}"
    if claim.problem:
        return Stuck(f"{member.name}: {claim.problem}", claim.remedy)
    if member.missing:
        return Stuck(f"{member.name}: {member.step} lacks {member.missing}", replace)
    if has_failed(member, calm):
        says = f"{member.name}: {member.step} failed: {member.step_detail}"
        return Stuck(says[:300], replace)
    if member.joined_at and not heard(member, now()):
        return Stuck(f"{member.name} is not heard of", replace)
    return None


def _same(row: Cluster, seen: Cluster) -> bool:
    """Nobody wants it otherwise meanwhile."""
    return (row.state, row.changes, row.released) == (
        ClusterState.UPGRADING, seen.changes, False,
    )  # fmt: skip
