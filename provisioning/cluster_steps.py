"""The reconciler's half of clusters: one step of one, safe to repeat, never waiting inside."""

import json
from dataclasses import dataclass
from datetime import timedelta

from sqlmodel import Session, select

from provisioning import (
    cluster_ranges,
    cluster_secrets,
    clusters,
    holders,
    kube_api,
    kube_steps,
    overcloud_stages,
)
from provisioning.claim_changes import GONE
from provisioning.cluster_ansible import ByAnsible
from provisioning.cluster_rolling import Parted, Rolling, has_failed, is_calm, silent
from provisioning.cluster_rows import Cluster, Member, MemberValue
from provisioning.kube_steps import Look
from provisioning.memberships import sealed_for
from provisioning.models import Claim, now
from provisioning.outcome import Done, Stuck, Wait
from provisioning.overcloud_spec import spec_of
from provisioning.overcloud_stages import Stages
from provisioning.parts import Parts
from provisioning.states import ClaimState, ClusterState, MemberGoal
from provisioning.store import record

S = ClusterState
MANY = 4
"""Of how many members a sentence speaks."""
LINE = 200
"""Characters of a step's own words in a sentence."""
HINT = "To see the stack trace"
"""kubeadm's last line, whatever went wrong."""
PATIENCE = timedelta(minutes=10)
"""After the last one joined, until a Node that is not Ready is a person's problem."""


@dataclass(frozen=True, slots=True)
class On:
    """The cluster is now in `state`."""

    state: ClusterState


Outcome = Wait | Stuck | Done | On


@dataclass(frozen=True)
class Clustering:
    parts: Parts

    def step(self, cluster: Cluster) -> Outcome:
        if cluster.released and cluster.state not in (S.RELEASING, S.RELEASED):
            return On(S.RELEASING)
        match cluster.state:
            case S.CLAIMING:
                return self._seal(cluster)
            case S.RELEASING:
                ByAnsible(self.parts).forget(cluster)
                Stages(self.parts).forget(cluster)
                return self._release(cluster)
            case S.RELEASED:
                return Done()
        if cluster.state is not S.DEPLOYING and (goes := Stages(self.parts).leave(cluster)):
            return goes
        rolling = Rolling(self.parts)
        parted = rolling.part(cluster)
        match cluster.state:
            case S.DEPLOYING:
                return self._deploying(cluster)
            case S.UPGRADING:
                self._attend(cluster)
                return rolling.upgrade(cluster, parted) or On(S.READY)
        return self._joined(cluster, parted)

    def _seal(self, cluster: Cluster) -> Outcome:
        """Secrets are made once: a life that was killed in between made none that anybody has."""
        if self.parts.answers(cluster.vip, spec_of(cluster).port):
            return Stuck(
                f"{spec_of(cluster).vip[0]}: {cluster.vip} answers already, somebody has it; "
                "no disk was touched",
                f"seed {cluster.noun} release {cluster.name}, then create it anew after "
                f"`seed network reserve {cluster.network} {cluster.vip}`",
            )
        if lacks := ByAnsible(self.parts).lacks(cluster) or Stages(self.parts).lacks(cluster):
            return lacks
        drawn = {} if cluster.sealed else Stages(self.parts).drawn(cluster)
        with self.parts.store.write() as session:
            row = session.get_one(Cluster, cluster.id)
            if not row.sealed:
                kind = clusters.known()[row.spec["kind"]]
                made = kind.secrets(clusters.facts_of(session, row)) | drawn
                row.sealed = self.parts.sealer.seal(json.dumps(made), sealed_for(row.id))
                session.add(row)
        return On(S.DEPLOYING)

    def _deploying(self, cluster: Cluster) -> Outcome:
        with self.parts.store.read() as session:
            pairs = _claims(session, cluster)
        for member, claim in pairs:
            if claim.problem:
                return Stuck(f"{member.name}: {claim.problem}", claim.remedy)
        late = [m.name for m, claim in pairs if claim.state is not ClaimState.ACTIVE]
        return Wait(f"deploying {_some(late)}") if late else On(S.BOOTSTRAPPING)

    def _joined(self, cluster: Cluster, parted: Parted) -> Outcome:
        with self.parts.store.read() as session:
            pairs, calm = _claims(session, cluster), is_calm(session, cluster)
            pending = overcloud_stages.is_pending(session, cluster)
        members = [member for member, _claim in pairs]
        missing = [f"{m.name} lacks {m.missing}" for m in members if m.missing]
        failed = [_failed(m) for m in members if has_failed(m, calm)]
        coming = [member for member in members if member.joined_at is None]
        late = [f"{m.name}: {m.step or 'booting'}" for m in coming]
        api = kube_steps.look(self.parts, cluster, pairs)
        if cluster.state is S.BOOTSTRAPPING:
            # A check of those that are there fails while one of them is not: that may be why.
            bad = [*parted.stuck, *missing, *(_failed(m) for m in coming if has_failed(m, calm))]
            if bad:
                return Stuck("; ".join(bad[:MANY]), f"seed {cluster.noun} show {cluster.name}")
            way = _on_its_way(cluster, members, late, api)
            if not isinstance(way, On):
                return way
            return ByAnsible(self.parts).step(cluster) or Stages(self.parts).step(cluster) or way
        if late:  # members that came later
            return On(S.DEPLOYING)
        if any(member.revision < cluster.revision for member in members):
            return On(S.UPGRADING)
        if pending:  # a person wants a stage again
            return On(S.BOOTSTRAPPING)
        if parted.waits and not parted.stuck:  # their leaving is no failure of those that stay
            return Wait(_some(parted.waits))
        lost = [f"{m.name} is not active" for m, c in pairs if c.state is not ClaimState.ACTIVE]
        quiet = [f"{m.name} is not heard of" for m in members if silent(m, None, members)]
        return self._well(cluster, [*parted.stuck, *failed, *lost, *quiet], api)

    def _attend(self, cluster: Cluster) -> None:
        """Who joins in an upgrade needs a token, and volumes; what is not well, its steps tell."""
        with self.parts.store.read() as session:
            pairs = _claims(session, cluster)
        if any(member.joined_at is None or kube_steps.is_bare(cluster, member)
               for member, _claim in pairs):  # fmt: skip
            kube_steps.look(self.parts, cluster, pairs)

    def _well(self, cluster: Cluster, seen: list[str], api: Look | None) -> Outcome:
        bad = [*seen, *(api.problems if api else ())]
        if bad and cluster.state is S.READY:
            return On(S.DEGRADED)
        if not bad and cluster.state is S.DEGRADED:
            return On(S.READY)
        if not bad:
            return Done(api.detail if api else "")
        remedy = api.remedy if api and api.problems else f"seed {cluster.noun} show {cluster.name}"
        return Stuck("; ".join(bad[:MANY]), remedy, kube_steps.SELDOM)

    def _release(self, cluster: Cluster) -> Outcome:
        """Its claims have the wish already; a member's token is good until its disks are not."""
        with self.parts.store.write() as session:
            if not session.get_one(Cluster, cluster.id).released:  # taken back
                return On(S.DEPLOYING)
            pairs = _claims(session, cluster, leaving=True)
            for member, claim in pairs:
                if claim.state in GONE and member.goal is not MemberGoal.GONE:
                    member.goal, member.token_hash = MemberGoal.GONE, ""
                    session.add(member)
            if late := _going(pairs):
                return late
            for member, _claim in pairs:
                member.ended_at = now()
                session.add(member)
            for value in session.exec(
                select(MemberValue).where(MemberValue.cluster_id == cluster.id)
            ).all():
                session.delete(value)
            kube_steps.forget(session, cluster)
            row = session.get_one(Cluster, cluster.id)
            row.sealed = b""
            session.add(row)
            cluster_ranges.release(session, row, "seed")
            cluster_secrets.forget(session, row.id)
            if not spec_of(row).vip[1]:  # else somebody made it before
                holders.free_vip(session, row.network, row.vip, "seed")
        return On(S.RELEASED)

    def write(self, seen: Cluster, outcome: Outcome) -> None:
        """What came of a step, unless somebody moved it meanwhile."""
        with self.parts.store.write() as session:
            row = session.get_one(Cluster, seen.id)
            if (row.state, row.released, row.changes) != (seen.state, seen.released, seen.changes):
                return
            row.detail, row.problem, row.remedy = _told(outcome)
            if isinstance(outcome, On):
                row.state, row.since = outcome.state, now()
                record(
                    session, f"cluster.{row.state}", row.id, row.name, project=row.project
                )  # fmt: skip
                if row.state is S.RELEASED:
                    row.ended_at = now()
            session.add(row)


def _claims(
    session: Session, cluster: Cluster, leaving: bool = False
) -> list[tuple[Member, Claim]]:
    """Without those that leave, unless asked for."""
    rows = clusters.members(session, cluster)
    return [
        (m, session.get_one(Claim, m.claim_id))
        for m in rows if leaving or m.goal is not MemberGoal.LEAVING
    ]  # fmt: skip


def _on_its_way(
    cluster: Cluster, members: list[Member], late: list[str], api: Look | None
) -> Outcome:
    """All have done their steps; where there is a Kubernetes API, it has the last word."""
    if late or api is None:
        return Wait(_some(late), kube_steps.OFTEN if api else 2.0) if late else On(S.READY)
    if not api.problems:
        return On(S.READY)
    last = max(member.joined_at or cluster.since for member in members)
    if now() - last < PATIENCE:
        return Wait(_some(list(api.problems)), kube_steps.OFTEN)
    return Stuck("; ".join(api.problems[:MANY]), api.remedy, kube_steps.OFTEN)


def _going(pairs: list[tuple[Member, Claim]]) -> Outcome | None:
    """Whose node is not free yet; None: all are."""
    for member, claim in pairs:
        if claim.problem:
            return Stuck(f"{member.name}: {claim.problem}", claim.remedy)
    late = [member.name for member, claim in pairs if claim.ended_at is None]
    return Wait(f"releasing {_some(late)}") if late else None


def _told(outcome: Outcome) -> tuple[str, str, str]:
    match outcome:
        case Stuck(problem=problem, remedy=remedy):
            return "", problem, remedy
        case Wait(detail=detail) | Done(detail=detail):
            return detail, "", ""
        case On(state=state):
            return str(state), "", ""


def _failed(member: Member) -> str:
    """With the last line of what its step said: that is why."""
    lines = [kube_api.plain(line) for line in member.step_detail.splitlines()]
    said = [line for line in lines if line and not line.startswith(HINT)]
    why = f": {said[-1][-LINE:]}" if said else ""
    return f"{member.name}: {member.step} failed{why}"


def _some(words: list[str]) -> str:
    more = f" and {len(words) - MANY} more" if len(words) > MANY else ""
    return ", ".join(words[:MANY]) + more
