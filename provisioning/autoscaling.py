"""A cluster's workers as Cluster Autoscaler sees them: one node group, its nodes and its size.

What is, is read from rows alone; sizes are changed by `Clusters`. autoscalers.py says who calls.
Every method is of one living cluster, by its id, and raises errors.py's family. A size is read and
then set: whoever serves it makes one change after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final
from uuid import UUID

from sqlmodel import Session, col, select

from provisioning.cluster_changes import Clusters
from provisioning.cluster_rows import Cluster, Member
from provisioning.cluster_spec import Autoscale, ClusterSpec, Group
from provisioning.errors import Conflict, Invalid, NotFound
from provisioning.hardware import Inventory
from provisioning.models import Bmc, Claim, Hold
from provisioning.states import ClaimState, MemberGoal, Wanted
from provisioning.store import Store

WHO: Final = "cluster-autoscaler"
"""As events name it."""
SCHEME: Final = "seed://"
"""kubelets say providerID seed://NODE-UUID."""
NOT_BEGUN: Final = (ClaimState.QUEUED, ClaimState.RESERVED, ClaimState.REQUESTED)
"""No disk of it was touched."""
GOING: Final = (ClaimState.RELEASING, ClaimState.CLEANING, ClaimState.RELEASED)
OUT_OF_RESOURCES, OTHER = 1, 99  # InstanceErrorClass of kubernetes/autoscaler's cloudprovider
SHOWN: Final = 80  # characters of what a caller wrote
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


class State(IntEnum):
    """InstanceState of the protocol."""

    RUNNING = 1
    CREATING = 2
    DELETING = 3


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Workers of one class with one image in one cluster. debug: for people."""

    id: str
    min: int
    max: int
    debug: str


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the caller names it; either may be empty, or both the same (never registered)."""

    provider_id: str
    name: str

    def __str__(self) -> str:
        return repr((self.name or self.provider_id)[:SHOWN])


@dataclass(frozen=True, slots=True)
class Instance:
    """id: its providerID. error: of one that does not come up; empty: none. error_class: of it."""

    id: str
    state: State
    error: str = ""
    error_class: int = OTHER


@dataclass(frozen=True, slots=True)
class Template:
    """A worker that could be added, at its smallest. taints: "key=value:Effect"."""

    labels: dict[str, str]
    taints: tuple[str, ...]
    cpus: int
    memory_bytes: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class _Worker:
    member: Member
    claim: Claim
    node_uuid: UUID | None

    @property
    def going(self) -> bool:
        return (
            self.member.goal is not MemberGoal.JOINED
            or self.claim.wanted is Wanted.RELEASED
            or self.claim.state in GOING
        )

    @property
    def id(self) -> str:
        """Without a node yet, it cannot be one that is registered."""
        return f"{SCHEME}{self.node_uuid or self.member.id}"

    def instance(self, cluster: str) -> Instance:
        if self.going:
            return Instance(self.id, State.DELETING)
        if self.member.joined_at is not None:
            return Instance(self.id, State.RUNNING)
        if self.claim.state in (ClaimState.QUEUED, ClaimState.RESERVED):
            said = f"{self.member.name} waits for a node"
            return Instance(self.id, State.CREATING, said, OUT_OF_RESOURCES)
        failed = self.member.step_state == "failed" or self.member.missing
        if self.claim.problem or self.claim.state is ClaimState.FAILED or failed:
            said = f"{self.member.name} does not come up: `seed cluster show {cluster}`"
            return Instance(self.id, State.CREATING, said)
        return Instance(self.id, State.CREATING)


@dataclass(frozen=True, slots=True)
class _Seen:
    """One look. gone: names of members that were, or are control planes."""

    cluster: Cluster
    spec: ClusterSpec
    workers: tuple[_Worker, ...]
    ended: frozenset[str]
    control: dict[str, str]  # name and providerID -> name

    @property
    def staying(self) -> list[_Worker]:
        return [w for w in self.workers if not w.going]

    @property
    def group(self) -> NodeGroup | None:
        limits, workers = self.spec.workers.autoscale, self.spec.workers
        if limits is None:
            return None
        image = workers.image or self.spec.image
        debug = (
            f"{len(self.staying)} workers of class {workers.resource_class} with image {image} "
            f"in cluster {self.cluster.name}"
        )
        return NodeGroup(group_id(self.cluster), limits.min, limits.max, debug)


@dataclass(frozen=True)
class Autoscaling:
    store: Store
    sizes: Clusters

    def groups(self, cluster: UUID) -> list[NodeGroup]:
        """One, or none where nobody gave limits: then the autoscaler touches nothing."""
        with self.store.read() as session:
            return seen_groups(session, cluster)

    def group_of(self, cluster: UUID, node: Node) -> NodeGroup | None:
        """None: not to be touched: a control plane, or no node of this cluster."""
        with self.store.read() as session:
            seen = _look(session, cluster)
        return seen.group if _worker(seen, node) else None

    def target_size(self, cluster: UUID, group: str) -> int:
        """Workers that are there or come, without those that go."""
        with self.store.read() as session:
            return len(_grouped(session, cluster, group)[0].staying)

    def nodes(self, cluster: UUID, group: str) -> list[Instance]:
        with self.store.read() as session:
            seen, _limits = _grouped(session, cluster, group)
        return [w.instance(seen.cluster.name) for w in seen.workers]

    def increase(self, cluster: UUID, group: str, delta: int) -> None:
        """So many workers more. Raises Invalid, Conflict (beyond the limit), NoCapacity."""
        if delta <= 0:
            raise Invalid(f"delta: {delta} is no growth", "Give 1 or more.")
        with self.store.read() as session:
            seen, limits = _grouped(session, cluster, group)
        row, size = seen.cluster, len(seen.staying) + delta
        if size > limits.max:
            raise Conflict(
                f"delta: {size} workers are more than the {limits.max} that {group} may have",
                f"Raise it: `seed cluster autoscaler {row.name} --max {size}`.",
            )
        grows = replace(self.sizes, agreed=_nobody_goes)
        grows.scale(row.project, row.name, WHO, workers=size)

    def decrease(self, cluster: UUID, group: str, delta: int) -> None:
        """So many fewer of those that are still to be deployed; nodes that exist stay."""
        if delta >= 0:
            raise Invalid(f"delta: {delta} is no shrinking", "Give -1 or less.")
        with self.store.read() as session:
            seen, limits = _grouped(session, cluster, group)
        fresh = [w for w in seen.staying if w.claim.state in NOT_BEGUN]
        if len(fresh) < -delta:
            raise Conflict(
                f"delta: only {len(fresh)} of {len(seen.staying)} workers do not exist yet",
                "Say which ones go: NodeGroupDeleteNodes.",
            )
        newest = sorted(fresh, key=lambda w: w.member.number)[delta:]
        self._remove(seen, limits, [w.member.name for w in newest])

    def delete(self, cluster: UUID, group: str, nodes: Sequence[Node]) -> None:
        """These workers go, and the group shrinks. Who goes already, or went, is passed over.

        Raises Invalid (a control plane), NotFound (no worker of this cluster), Conflict (fewer
        than the group must have); then none of them goes.
        """
        if not nodes:
            raise Invalid("nodes: none is named", "Name those that go.")
        with self.store.read() as session:
            seen, limits = _grouped(session, cluster, group)
        found = (_to_delete(seen, node) for node in nodes)
        names = {w.member.name for w in found if w and not w.going}
        if names:
            self._remove(seen, limits, sorted(names))

    def _remove(self, seen: _Seen, limits: Autoscale, names: Sequence[str]) -> None:
        row, left = seen.cluster, len(seen.staying) - len(names)
        if left < limits.min:
            raise Conflict(
                f"nodes: {left} workers are fewer than the {limits.min} that {row.name} must have",
                f"Lower it: `seed cluster autoscaler {row.name} --min {left}`.",
            )
        self.sizes.remove(row.project, row.name, names, WHO)

    def template(self, cluster: UUID, group: str) -> Template | None:
        """The smallest of its own workers, or what its group demands; None: neither is known."""
        with self.store.read() as session:
            seen, _limits = _grouped(session, cluster, group)
            uuids = [w.node_uuid for w in seen.workers if w.node_uuid]
            rows = session.exec(select(Bmc).where(col(Bmc.node_uuid).in_(uuids))).all()
        told = [Inventory.model_validate(bmc.ramdisk or bmc.inventory) for bmc in rows]
        return _template(seen.spec.workers, told)


def _nobody_goes(session: Session, cluster: Cluster, erased: Sequence[Member]) -> None:
    """A person may have made it larger between our look and this."""
    if erased:
        raise Conflict(
            f"{cluster.name} was made larger meanwhile", "Ask for its size, NodeGroupTargetSize."
        )


def group_id(cluster: Cluster) -> str:
    """Unique where it is seen: each cluster sees its own alone. Its image and size may change."""
    return f"{cluster.name}-worker"


def seen_groups(session: Session, cluster_id: UUID) -> list[NodeGroup]:
    found = _look(session, cluster_id).group
    return [found] if found else []


def _look(session: Session, cluster_id: UUID) -> _Seen:
    row = session.get_one(Cluster, cluster_id)
    query = select(Member, Claim, Hold.node_uuid).where(Member.cluster_id == row.id)
    query = query.join(Claim, col(Claim.id) == col(Member.claim_id))
    query = query.join(Hold, col(Hold.claim_id) == col(Claim.id), isouter=True)
    found = [_Worker(*one) for one in session.exec(query.order_by(col(Member.number))).all()]
    living = [w for w in found if w.member.ended_at is None]
    control = [w for w in living if w.member.role == "control"]
    return _Seen(
        cluster=row,
        spec=ClusterSpec.model_validate(row.spec),
        workers=tuple(w for w in living if w.member.role == "worker"),
        ended=frozenset(w.member.name for w in found if w.member.ended_at is not None),
        control={key: w.member.name for w in control for key in (w.member.name, w.id)},
    )


def _grouped(session: Session, cluster_id: UUID, group: str) -> tuple[_Seen, Autoscale]:
    seen = _look(session, cluster_id)
    name, limits = seen.cluster.name, seen.spec.workers.autoscale
    if group != group_id(seen.cluster):
        raise NotFound(
            f"id: {name} has no node group {group[:SHOWN]!r}", f"It has {group_id(seen.cluster)}."
        )
    if limits is None:
        raise Conflict(
            f"nobody said how many workers {name} may have",
            f"Say so: `seed cluster autoscaler {name} --min 1 --max 5`.",
        )
    return seen, limits


def _worker(seen: _Seen, node: Node) -> _Worker | None:
    """By name first: names are never used again, and a node may come back as another member."""
    for worker in seen.workers:
        if worker.member.name == node.name:
            return worker if node.provider_id in ("", worker.id) else None
    known = node.name in seen.ended or node.name in seen.control
    return None if known else next((w for w in seen.workers if w.id == node.provider_id), None)


def _to_delete(seen: _Seen, node: Node) -> _Worker | None:
    """None: it went already."""
    name = seen.control.get(node.name) or seen.control.get(node.provider_id)
    if name:
        raise Invalid(
            f"nodes: {name} is a control plane, and only workers are removed",
            f"seed cluster show {seen.cluster.name}",
        )
    found = _worker(seen, node)
    if found is None and node.name not in seen.ended:
        raise NotFound(
            f"nodes: {node} is no worker of {seen.cluster.name}",
            f"seed cluster show {seen.cluster.name}",
        )
    return found


def _template(group: Group, told: Sequence[Inventory]) -> Template | None:
    cpus = min((t.cpu_threads for t in told if t.cpu_threads), default=group.cpus)
    memory = min((t.memory_mib for t in told if t.memory_mib), default=group.memory_gib << 10)
    sizes = (d.size_bytes for t in told for d in t.drives if d.size_bytes)
    if not (cpus and memory):
        return None
    architecture = next((t.cpu_arch for t in told if t.cpu_arch), "x86_64")
    labels = {
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": ARCHITECTURES.get(architecture, architecture),
        "seed.class": group.resource_class,
    }
    return Template(
        labels=labels | dict(group.node_labels),
        taints=group.node_taints,
        cpus=cpus,
        memory_bytes=memory << 20,
        disk_bytes=min(sizes, default=group.disk_gib << 30),
    )
