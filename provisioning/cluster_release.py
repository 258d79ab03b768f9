"""A cluster is given back, or that is taken back. The API's half; cluster_steps.py is the rest.

All of its claims get the wish in one transaction with it, and one undo window.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlmodel import Session, select

from provisioning import clusters, plans
from provisioning.claim_changes import GONE, Disks
from provisioning.claims import Desk
from provisioning.cluster_rows import Cluster, Member
from provisioning.errors import Conflict
from provisioning.models import Claim, Hold, now
from provisioning.plans import PlannedNode, PlanOut
from provisioning.states import Noun, Wanted
from provisioning.store import Store, record

RELEASE = "release-cluster"
Agreed = Callable[[Session, Cluster, Sequence[Member]], None]
"""Told, in the transaction, whose disks a change erases; raises where that was not agreed to."""


class Shown(Exception):
    """A change was tried and not made. nodes: whose disks it would have erased."""

    def __init__(self, name: str, nodes: list[PlannedNode]) -> None:
        super().__init__(name)
        self.nodes = nodes


@dataclass(frozen=True)
class Giving:
    """Where clusters are given back."""

    store: Store
    desk: Desk
    noun: Noun = Noun.CLUSTER

    def plan(self, project: str | None, name: str) -> PlanOut:
        """What the release of this cluster erases."""
        disks = self.disks(project, name)
        with self.store.write() as session:
            cluster = clusters.find(session, project, name, self.noun)
            nodes = self._at_stake(session, cluster, disks)
            minutes = int(self.desk.undo.total_seconds() // 60)
            sentence = (
                f"Release {self.noun} {cluster.name}: {len(nodes)} node(s) are powered off now and "
                f"their disks are erased after {minutes} minutes (at once with --now)."
            )
            if nodes:
                return plans.make(session, RELEASE, sentence, nodes)
        sentence = f"Release {self.noun} {cluster.name}: it has no node, nothing is erased."
        return PlanOut(verb=RELEASE, sentence=sentence, nodes=[], hash="", expires_in_seconds=0)

    def release(
        self, project: str | None, name: str, plan: str, who: str, at_once: bool, why: str = ""
    ) -> Cluster:
        """Its servers go off now and are cleaned when the undo window is over; said twice with
        `at_once`, the window is over. Raises Conflict unless `plan` is the hash of what it erases.
        """
        disks = self.disks(project, name)
        with self.store.write() as session:
            cluster = clusters.find(session, project, name, self.noun)
            if cluster.ended_at is not None or (cluster.released and not at_once):
                return cluster
            nodes = self._at_stake(session, cluster, disks)
            if nodes and not cluster.released:
                plans.use(session, RELEASE, nodes, plan)
            cluster.released = True
            cluster.undo_until = now() if at_once else now() + self.desk.undo
            for claim in _claims(session, cluster):
                claim.wanted, claim.undo_until = Wanted.RELEASED, cluster.undo_until
                session.add(claim)
            session.add(cluster)
            record(
                session, "cluster.release-asked", cluster.id, cluster.name, who=who, why=why,
                project=cluster.project,
            )  # fmt: skip
            return cluster

    def take_back(self, project: str | None, name: str, who: str) -> Cluster:
        """Undo a release while all disks are untouched."""
        with self.store.write() as session:
            cluster = clusters.find(session, project, name, self.noun)
            if not cluster.released:
                return cluster
            claims = _claims(session, cluster)
            late = cluster.undo_until is None or cluster.undo_until <= now()
            if cluster.ended_at or late or any(claim.state in GONE for claim in claims):
                raise Conflict(
                    f"the undo window of {self.noun} {cluster.name} is over",
                    f"Its disks are being cleaned; ask for a new one: `seed {self.noun} create`.",
                )
            cluster.released, cluster.undo_until = False, None
            for claim in claims:
                claim.wanted, claim.undo_until = Wanted.ACTIVE, None
                session.add(claim)
            session.add(cluster)
            record(
                session, "cluster.taken-back", cluster.id, cluster.name, who=who,
                project=cluster.project,
            )  # fmt: skip
            return cluster

    def change(self, verb: str, plan: str, disks: Disks) -> Agreed:
        """For a change of a cluster that erases some of its disks: `plan` is the hash of just that.
        Raises Conflict else. disks: as `disks` told them."""

        def agreed(session: Session, cluster: Cluster, erased: Sequence[Member]) -> None:
            if nodes := self._planned(session, erased, disks):
                plans.use(session, verb, nodes, plan)

        return agreed

    def shown(self, verb: str, disks: Disks) -> Agreed:
        """Ends a change by raising Shown: nothing is kept of it, but what it would erase."""

        def agreed(session: Session, cluster: Cluster, erased: Sequence[Member]) -> None:
            raise Shown(cluster.name, self._planned(session, erased, disks))

        return agreed

    def offer(self, verb: str, sentence: str, nodes: list[PlannedNode]) -> PlanOut:
        """A plan of these nodes that can be applied once."""
        if not nodes:
            sentence = f"{sentence}: nothing is erased."
            return PlanOut(verb=verb, sentence=sentence, nodes=[], hash="", expires_in_seconds=0)
        sentence = f"{sentence}: the disks of {len(nodes)} node(s) are erased."
        with self.store.write() as session:
            return plans.make(session, verb, sentence, nodes)

    def _planned(
        self, session: Session, members: Sequence[Member], disks: Disks
    ) -> list[PlannedNode]:
        found = []
        for member in members:
            hold = session.exec(select(Hold).where(Hold.claim_id == member.claim_id)).first()
            if hold is not None:
                found.append(self.desk.planned(session, hold, member.name, disks))
        return found

    def disks(self, project: str | None, name: str) -> Disks:
        """Asked of Ironic before anything is written: no other writer waits for it."""
        with self.store.read() as session:
            holds = _holds(session, clusters.find(session, project, name, self.noun))
        nodes = [hold.node_uuid for hold, _claim in holds]
        return {node: plans.disks_of(self.desk.ironic.inventory(node)) for node in nodes}

    def _at_stake(self, session: Session, cluster: Cluster, disks: Disks) -> list[PlannedNode]:
        return [
            self.desk.planned(session, hold, claim.name, disks)
            for hold, claim in _holds(session, cluster)
        ]


def _claims(session: Session, cluster: Cluster) -> list[Claim]:
    return [session.get_one(Claim, m.claim_id) for m in clusters.members(session, cluster)]


def _holds(session: Session, cluster: Cluster) -> list[tuple[Hold, Claim]]:
    found = []
    for claim in _claims(session, cluster):
        hold = session.exec(select(Hold).where(Hold.claim_id == claim.id)).first()
        if hold is not None:
            found.append((hold, claim))
    return found
