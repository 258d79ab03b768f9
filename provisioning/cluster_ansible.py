"""Clusters that Ansible installs: one run for each set of members, until it went well."""

import json
import time
from dataclasses import dataclass
from typing import Final

from sqlmodel import Session, select

from provisioning import clusters, handout, orders
from provisioning.cluster_rows import Cluster
from provisioning.kinds import ByPlaybook, Reach
from provisioning.memberships import sealed_for
from provisioning.models import Hold
from provisioning.outcome import Stuck, Wait
from provisioning.parts import Parts
from provisioning.playbooks import Run, digest
from provisioning.store import record
from provisioning.targets import PartSpec

AGAIN_SECONDS: Final = 600.0
"""After a run that failed: what it lacked may be there by then."""
LOOK_SECONDS: Final = 2.0


@dataclass(frozen=True)
class ByAnsible:
    parts: Parts

    def lacks(self, cluster: Cluster) -> Stuck | None:
        """Asked before any disk is touched. None: nothing, or it is of another kind."""
        kind = _kind(cluster)
        if kind is None:
            return None
        books = self.parts.playbooks.get(kind.environment)
        missing = books.lacks(kind.playbook) if books else "Ansible"
        if not missing:
            return None
        return Stuck(
            f"the kind {cluster.spec['kind']} wants {missing}, which is not on the Seed machine",
            "Install it, and name it in [ansible] of seed.toml; then `seed down` and `seed up`.",
        )

    def step(self, cluster: Cluster) -> Wait | Stuck | None:
        """None: it went well with the members of now, or it is of another kind."""
        kind = _kind(cluster)
        if kind is None:
            return None
        playbooks = self.parts.playbooks.get(kind.environment)
        if playbooks is None:
            return self.lacks(cluster)
        inputs, name = self._inputs(kind, cluster), str(cluster.id)
        key = digest(inputs)
        run = playbooks.look(name, key)
        match run.state:
            case "successful":
                return None
            case "running":
                return Wait(f"Ansible: {run.task or 'begins'}", LOOK_SECONDS)
            case "" | "died":
                pass
            case _ if (left := run.ended_at + AGAIN_SECONDS - time.time()) > 0:
                return _failed(cluster, run, left)
        if playbooks.begin(name, key, inputs, kind.playbook):
            with self.parts.store.write() as session:
                record(
                    session, "cluster.ansible-began", cluster.id,
                    f"{cluster.name}: try {run.tries + 1}", project=cluster.project,
                )  # fmt: skip
        return Wait("Ansible begins", LOOK_SECONDS)

    def forget(self, cluster: Cluster) -> None:
        """Its runs, with their SSH key. Never within a transaction: it may take seconds."""
        kind = _kind(cluster)
        playbooks = self.parts.playbooks.get(kind.environment) if kind else None
        if playbooks is not None:
            playbooks.forget(str(cluster.id))

    def _inputs(self, kind: ByPlaybook, cluster: Cluster) -> list[PartSpec]:
        opened = self.parts.unseal(cluster.sealed, sealed_for(cluster.id))
        secrets: dict[str, str] = json.loads(opened)
        with self.parts.store.read() as session:
            facts = clusters.facts_of(session, cluster, self.parts.gateway_url, self.parts.boot_url)
            reached = {
                m.name: _reach(session, m.claim_id) for m in clusters.members(session, cluster)
            }
        return kind.tree(facts, secrets, reached)


def _kind(cluster: Cluster) -> ByPlaybook | None:
    kind = clusters.known()[cluster.spec["kind"]]
    return kind if isinstance(kind, ByPlaybook) else None


def _reach(session: Session, claim_id: object) -> Reach:
    """By what its node boots with, and the host keys of its proof."""
    hold = session.exec(select(Hold).where(Hold.claim_id == claim_id)).one()
    order, boot = orders.of_deploy(session, hold), handout.boot_address(session, hold.node_uuid)
    proof = (order.proof if order else None) or {}
    return Reach(boot.address if boot else "", tuple(proof.get("host_keys", [])))


def _failed(cluster: Cluster, run: Run, left: float) -> Stuck:
    """What Ansible printed stays in its log: it may have secrets."""
    where = f" on {', '.join(run.hosts[:4])}" if run.hosts else ""
    how = "took too long" if run.state == "timeout" else "failed"
    return Stuck(
        f"Ansible {how} at {run.task or 'its begin'!r}{where}; it is run again in {left:.0f} s",
        f"Who runs Seed reads why in {run.log}; see `seed {cluster.noun} show {cluster.name}`.",
        min(left, 30.0),
    )
