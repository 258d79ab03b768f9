"""What a claim's node gets because it is a member of a cluster: files, steps and its own token."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID

from sqlmodel import Session, col, select

from provisioning import chosen_addons, cluster_bundles, cluster_secrets, clusters, on_node
from provisioning.cluster_rows import Cluster, Member
from provisioning.kinds import ClusterFacts, Kind, MemberFacts, Tries
from provisioning.models import Claim
from provisioning.secrets import digest
from provisioning.states import ClaimState
from provisioning.targets import PartSpec

Unseal = Callable[[bytes, str], str]


@dataclass(frozen=True, slots=True)
class Membership:
    """shell: for cloud-init's vendor data, after the proof's."""

    shell: str
    parts: tuple[PartSpec, ...]


def sealed_for(cluster_id: UUID) -> str:
    """What a cluster's secrets are bound to: no other row opens them."""
    return f"cluster/{cluster_id}"


def of_claim(session: Session, claim: Claim) -> Member | None:
    return session.exec(select(Member).where(Member.claim_id == claim.id)).first()


def waits(session: Session, claim: Claim) -> str:
    """Why its node is not deployed yet; empty: it may be. Files name the other members' addresses,
    and Ironic may still refuse one of their nodes, so that another is taken."""
    member = of_claim(session, claim)
    if member is None:
        return ""
    cluster = session.get_one(Cluster, member.cluster_id)
    if not cluster.sealed:
        return "its cluster's secrets are being made"
    late = session.exec(
        select(Claim.name).join(Member)
        .where(Member.cluster_id == cluster.id, col(Member.ended_at).is_(None))
        .where(Claim.state == ClaimState.REQUESTED)
    ).first()  # fmt: skip
    return f"Ironic locks the node of {late}" if late else ""


def make(
    session: Session,
    claim: Claim,
    unseal: Unseal,
    token: Callable[[str], str],
    gateway_url: str,
    ca_pem: str,
    wire_url: str,
) -> Membership | None:
    """In the transaction that opens its order; None: it is no member. token: fixed by its purpose,
    so that a life after a crash gives the same one. gateway_url, wire_url: https:// and
    http://ADDRESS of the provisioning wire."""
    member = of_claim(session, claim)
    if member is None:
        return None
    cluster = session.get_one(Cluster, member.cluster_id)
    secrets: dict[str, str] = json.loads(unseal(cluster.sealed, sealed_for(cluster.id)))
    given = cluster_secrets.opened(session, unseal, cluster.id)
    secrets |= {f"{chosen_addons.GIVEN}{name}": told for name, told in given.items()}
    facts = clusters.facts_of(session, cluster, gateway_url, wire_url)
    if cluster_bundles.is_own(facts.registry, gateway_url):
        facts = replace(facts, registry_ca=ca_pem)
    mine = next(m for m in facts.members if m.name == member.name)
    kind = clusters.known()[cluster.spec["kind"]]
    files = kind.files(facts, mine, secrets)
    said = token(f"member:{member.id}")
    member.token_hash, member.leads = digest(said), mine.leads
    session.add(member)
    secret = [part.path for part in files if not part.mode & 0o077]
    shell, own = on_node.member(
        gateway_url, said, ca_pem, cluster.name, member.name, kind.steps(facts, mine),
        kind.check(facts, mine), secret, _changes(kind, facts, mine),
    )  # fmt: skip
    return Membership(shell, (*files, *own))


def _changes(kind: Kind, facts: ClusterFacts, mine: MemberFacts) -> on_node.Changes:
    """Only control planes act for others."""
    leave = kind.leave(facts, mine)
    if mine.role != "control":
        return on_node.Changes(leave=leave)
    return on_node.Changes(
        kind.drain(facts, mine), leave, kind.forget(facts, mine),
        {one.path: one.unit for one in kind.fresh(facts, mine)},
        kind.tries(facts, mine) if isinstance(kind, Tries) else (),
    )  # fmt: skip
