"""Clusters that change: larger, smaller, a member replaced, another image or version.

The API's half: what is wanted is written here, with the claims of new members, or refused. Who
leaves when, and what an upgrade does next, is cluster_rolling.py's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError
from sqlmodel import Session

from provisioning import cluster_bundles, clusters
from provisioning.bundle import Bundle
from provisioning.cluster_release import Agreed
from provisioning.cluster_rows import Cluster, Member
from provisioning.cluster_spec import Spec
from provisioning.clusters import check_networks
from provisioning.errors import Conflict, Invalid, NoCapacity, NotFound
from provisioning.models import Claim, now
from provisioning.overcloud_spec import OvercloudSpec, keeps_roles, spec_of
from provisioning.states import ClusterState, MemberGoal, Parting
from provisioning.store import record

S = ClusterState
UP = (S.READY, S.DEGRADED)
SILENCE: Final = timedelta(minutes=5)
"""Who asks for no orders for so long is not there."""


def _as_asked(session: Session, cluster: Cluster, erased: Sequence[Member]) -> None:
    """Who calls has seen to it."""


@dataclass(frozen=True)
class Clusters(clusters.Clusters):
    """Each verb is one transaction, and none touches a server. What cannot be is refused before."""

    agreed: Agreed = _as_asked

    def scale(
        self,
        project: str | None,
        name: str,
        who: str,
        insider: bool = False,
        **counts: int | None,
    ) -> Cluster:
        """counts: by a group's field, such as workers=5; None: as many as there are.

        Raises Invalid or Conflict naming `control.count` or `workers.count`, NoCapacity.
        """
        with self.store.write() as session:
            cluster = self._changeable(session, project, name)
            _not_while(cluster, S.UPGRADING)
            old = spec_of(cluster)
            told = {group: {**cluster.spec[group], "count": n} for group, n in counts.items()
                    if n is not None}  # fmt: skip
            spec = _respecified(cluster, told)
            if spec == old:
                return cluster
            keeps_roles(old, spec)
            check_networks(session, spec)
            before = staying(session, cluster)
            cluster.spec = spec.model_dump(mode="json")
            for role, (_field, group) in spec.groups.items():
                self._resize(session, cluster, role, group.count, who, insider)
            self._fits(session, cluster)
            self.agreed(session, cluster, [m for m in before if m.goal is MemberGoal.LEAVING])
            _changed(session, cluster, who, "scaled", clusters.sizes(spec))
            return cluster

    def _resize(
        self, session: Session, cluster: Cluster, role: str, count: int, who: str, insider: bool
    ) -> None:
        have = [m for m in staying(session, cluster) if m.role == role]
        go = first_to_go(have)[: max(0, len(have) - count)]
        if role == "control" and count != len(have):
            _may_vote_on(cluster, have, [m for m in have if m not in go])
        for member in go:
            member.goal = MemberGoal.LEAVING
            session.add(member)
        session.flush()
        self.add_members(session, cluster, role, max(0, count - len(have)), who, insider)

    def remove(self, project: str | None, name: str, members: Sequence[str], who: str) -> Cluster:
        """These workers go, and their group has so many less. Those that go already stay told."""
        with self.store.write() as session:
            cluster = self._changeable(session, project, name)
            _not_while(cluster, S.UPGRADING)
            gone = []
            for word in members:
                member = _member(session, cluster, "members", word)
                if member.role == "control":
                    raise Invalid(
                        f"members: {word} is a control plane, and their number stays odd",
                        f"Say how many there shall be: `seed {cluster.noun} scale {name}`.",
                    )
                member.goal = MemberGoal.LEAVING
                session.add(member)
                gone.append(member)
            session.flush()
            count = sum(m.role == "worker" for m in staying(session, cluster))
            self.agreed(session, cluster, gone)
            if not members or count == cluster.spec["workers"]["count"]:
                return cluster
            spec = _respecified(cluster, {"workers": {**cluster.spec["workers"], "count": count}})
            cluster.spec = spec.model_dump(mode="json")
            _changed(session, cluster, who, "shrunk", ", ".join(members))
            return cluster

    def replace(
        self, project: str | None, name: str, member: str, who: str, insider: bool = False
    ) -> Cluster:
        """Another node in its place, with a name of its own: once that has joined, this one leaves;
        at once, if nobody hears of it.

        Said again of one that goes already, but fails to, or is not heard of: it is given up.
        """
        with self.store.write() as session:
            cluster = self._changeable(session, project, name)
            row = _member(session, cluster, "member", member)
            if row.goal is MemberGoal.LEAVING:
                if row.step_state != "failed" and heard(row, now()):
                    return cluster
                self.agreed(session, cluster, [row])
                row.parting, row.parted_at = Parting.LOST, now()
                _changed(session, cluster, who, "gave-up", row.name)
            else:
                _may_be_replaced(session, cluster, row)
                row.goal = MemberGoal.LEAVING
                self.add_members(session, cluster, row.role, 1, who, insider)
                self._fits(session, cluster)
                self.agreed(session, cluster, [row])
                _changed(session, cluster, who, "replaces", row.name)
            session.add(row)
            return cluster

    def upgrade(
        self,
        project: str | None,
        name: str,
        who: str,
        version: str = "",
        image: str = "",
        insider: bool = False,
    ) -> Cluster:
        """All members anew, one at a time, control planes first. image: of all groups.

        Raises Invalid naming `version` for a skew that its kind forbids; NotFound (image); Conflict
        while a member is not well; NoCapacity where the only control plane has no successor.
        """
        if not (version or image):
            raise Invalid("version: neither a version nor an image is given", "Say one of them.")
        with self.store.read() as session:
            cluster = self._changeable(session, project, name)
            spec = _aimed(session, cluster, version, image)
            now_is = clusters.version_of(cluster)
        bundle = cluster_bundles.choose(
            self.bundles, spec.bundle, spec.kind, version or (now_is if spec.bundle else "")
        )
        with self.store.write() as session:
            cluster = self._changeable(session, project, name)
            _not_while(cluster, S.CLAIMING, S.DEPLOYING, S.BOOTSTRAPPING)
            spec = _aimed(session, cluster, version, image)
            self._look(session, spec, bundle, insider)
            if self._is_there(session, cluster, spec, version or now_is, insider):
                return cluster
            cluster.spec = spec.model_dump(mode="json")
            if version:
                cluster.bundle = cluster_bundles.kept(bundle, self.bundles)
            before = staying(session, cluster)
            cluster.revision += 1
            _begin_anew(session, cluster)
            self._fits(session, cluster)
            self._has_successor(session, cluster, who, insider)
            self.agreed(session, cluster, before)
            words = [word for word in (version, image) if word]
            _changed(session, cluster, who, "upgrade-asked", " ".join(words))
            return cluster

    def _look(self, session: Session, spec: Spec, bundle: Bundle | None, insider: bool) -> None:
        """At what its members are to be made of."""
        cluster_bundles.check_there(self.bundles, spec, bundle)
        try:
            images = [self.desk.image(session, ref, insider) for ref in clusters.image_refs(spec)]
        except NotFound as problem:
            raise NotFound(f"image: {problem}", problem.remedy) from problem
        if bundle:
            cluster_bundles.check_architecture(bundle, images)

    def _is_there(
        self, session: Session, cluster: Cluster, spec: Spec, version: str, insider: bool
    ) -> bool:
        """Has each member this version and this image already?"""
        images = {
            role: self.desk.image(session, group.image or spec.image, insider)
            for role, (_field, group) in spec.groups.items()
        }
        for member in staying(session, cluster):
            claim, wanted = session.get_one(Claim, member.claim_id), images[member.role]
            has = (claim.image.partition(":")[0], claim.image_version, member.version)
            if has != (wanted.name, wanted.version, version):
                return False
        return True

    def _has_successor(self, session: Session, cluster: Cluster, who: str, insider: bool) -> None:
        """Of several one can go before its node is had anew; the only one cannot."""
        if spec_of(cluster).control.count != 1:
            return
        try:
            self.add_members(session, cluster, "control", 1, who, insider)
        except NoCapacity as full:
            raise NoCapacity(
                f"control.count: the only control plane goes once it has a successor: {full}",
                full.remedy, full.reasons, full.free_at, full.nearest,
            ) from full  # fmt: skip

    def _fits(self, session: Session, cluster: Cluster) -> None:
        """As it will be: those that go count no more."""
        facts = clusters.facts_of(session, cluster)
        names = {member.name for member in staying(session, cluster)}
        wanted = tuple(m for m in facts.members if m.name in names)
        kind = clusters.known()[cluster.spec["kind"]]
        self.no_faults(kind, replace(facts, members=wanted))

    def _changeable(self, session: Session, project: str | None, name: str) -> Cluster:
        cluster = clusters.find(session, project, name, self.noun)
        if cluster.ended_at or cluster.released:
            raise Conflict(
                f"{cluster.noun} {name} is being released", f"seed {cluster.noun} show {name}"
            )
        return cluster


# --- looks ----------------------------------------------------------------------------------------


def staying(session: Session, cluster: Cluster) -> list[Member]:
    """Those that nobody wants gone, control planes first."""
    return [m for m in clusters.members(session, cluster) if m.goal is MemberGoal.JOINED]


def heard(member: Member, at: datetime, within: timedelta = SILENCE) -> bool:
    """Is it a member, and was it heard of lately?"""
    told = member.told_at
    return bool(member.joined_at and told and at - told < within)


def majority(members: Sequence[Member], at: datetime) -> bool:
    """Can these decide anything, were they all that vote?"""
    return 2 * sum(heard(member, at) for member in members) > len(members)


def first_to_go(members: Sequence[Member]) -> list[Member]:
    """In which order a group shrinks: who is not there, then the newest."""
    at = now()
    return sorted(members, key=lambda m: (heard(m, at), -m.number))


# --- refusals -------------------------------------------------------------------------------------


def _not_while(cluster: Cluster, *states: ClusterState) -> None:
    if cluster.state in states:
        raise Conflict(
            f"{cluster.noun} {cluster.name} is {cluster.state}: not now",
            f"Wait until it is ready: `seed {cluster.noun} show {cluster.name}`.",
        )


def _respecified(cluster: Cluster, told: dict[str, Any]) -> Spec:
    """Its spec with these fields anew; Invalid names the one that cannot be."""
    try:
        spec = spec_of(cluster, cluster.spec | told)
    except ValidationError as problem:
        first = problem.errors()[0]
        says = first["msg"].removeprefix("Value error, ")
        where = ".".join(str(word) for word in first["loc"])
        raise Invalid(
            f"{where}: {says}" if where else says, f"See `seed {cluster.noun} show {cluster.name}`."
        ) from None
    return spec


def _aimed(session: Session, cluster: Cluster, version: str, image: str) -> Spec:
    """Its spec as an upgrade would have it; Invalid for a skew that its kind forbids."""
    told: dict[str, Any] = {}
    if version:
        name, _, _ = cluster.spec["bundle"].partition(":")
        told |= {"version": version, "bundle": name}
    if image:
        fields = [field for field, _group in spec_of(cluster).groups.values()]
        none = {group: {**cluster.spec[group], "image": ""} for group in fields}
        told |= {"image": image, **none}
    spec = _respecified(cluster, told)
    kind = clusters.known()[spec.kind]
    for was in sorted({m.version for m in clusters.members(session, cluster)} - {""}):
        if version and (fault := kind.skew(was, version)):
            raise Invalid(f"{fault.field}: {fault.sentence}", fault.remedy)
    return spec


def _member(session: Session, cluster: Cluster, field: str, word: str) -> Member:
    for member in clusters.members(session, cluster):
        if member.name == word:
            return member
    raise NotFound(
        f"{field}: {word[:64]} is no member of {cluster.name}",
        f"See them: `seed {cluster.noun} show {cluster.name}`.",
    )


def _may_vote_on(cluster: Cluster, before: Sequence[Member], after: Sequence[Member]) -> None:
    """Each control plane that comes or goes is voted on by those that are there."""
    if cluster.state not in UP:
        raise Conflict(
            f"control.count: {cluster.noun} {cluster.name} is {cluster.state}, its control planes "
            "are not all there",
            f"Wait until it is ready: `seed {cluster.noun} show {cluster.name}`.",
        )  # fmt: skip
    at = now()
    for members in (before, after):
        if not majority(members, at):
            silent = ", ".join(m.name for m in members if not heard(m, at))
            raise Conflict(
                f"control.count: of {len(members)} control planes no majority is heard of: {silent}"
                " is silent",
                f"Bring them up, or `seed {cluster.noun} replace {cluster.name} MEMBER`.",
            )  # fmt: skip


def _may_be_replaced(session: Session, cluster: Cluster, member: Member) -> None:
    if member.role != "control":
        return
    control = [m for m in clusters.members(session, cluster) if m.role == "control"]
    joined, at = [m for m in control if m.joined_at], now()
    if not joined:
        raise Conflict(
            f"member: {member.name} is to begin this cluster with the others, and nothing is there",
            f"Release it and create it anew: `seed {cluster.noun} release {cluster.name}`.",
        )
    if member.joined_at is None:
        return
    others = [m for m in joined if m.id != member.id]
    if not others and isinstance(spec_of(cluster), OvercloudSpec):
        raise Conflict(
            f"member: {member.name} is the only control node, and all databases are on it",
            f"First `seed overcloud scale {cluster.name} --control 3`, where its installer can.",
        )
    alone = not others and heard(member, at)
    if not alone and 2 * sum(heard(m, at) for m in others) <= len(joined):
        silent = ", ".join(m.name for m in joined if not heard(m, at))
        raise Conflict(
            f"member: without {member.name} no majority of its control planes is heard of"
            + (f" ({silent})" if silent else ""),
            f"Bring the others up first: `seed {cluster.noun} show {cluster.name}`.",
        )


def _begin_anew(session: Session, cluster: Cluster) -> None:
    """An upgrade begins where all is well, or where an earlier one stopped: who did not join then
    never will."""
    at = now()
    for member in staying(session, cluster):
        if heard(member, at):
            continue
        if member.joined_at or cluster.state is not S.UPGRADING:
            raise Conflict(
                f"member: {member.name} is not there, and an upgrade takes others away",
                f"First `seed {cluster.noun} replace {cluster.name} {member.name}`.",
            )
        member.goal = MemberGoal.LEAVING
        session.add(member)
    session.flush()


def _changed(session: Session, cluster: Cluster, who: str, what: str, words: str) -> None:
    cluster.changes += 1
    cluster.detail, cluster.problem, cluster.remedy = "", "", ""  # of before: what is left is told
    session.add(cluster)
    record(
        session, f"cluster.{what}", cluster.id, f"{cluster.name}: {words}", who=who,
        project=cluster.project,
    )  # fmt: skip
