"""What people ask of a cluster that is there: a way in, and whether it works. The API's half.

kube_steps.py and kube_check.py are the reconciler's. A private key never travels: who wants in
makes one, and sends a request for a certificate (PKCS #10).
"""

from typing import Final, Literal, TypedDict
from uuid import UUID

from sqlmodel import Session, col, select

from provisioning import clusters, pki
from provisioning.cluster_rows import Cluster, ClusterCheck, KubeCertificate
from provisioning.errors import Conflict, NotFound, TooMany
from provisioning.models import now
from provisioning.states import ClusterState, Noun
from provisioning.store import Store, record

LARGEST: Final = 16 * 1024
"""Characters of a request: one with an RSA key of 8192 bits has 3,000."""
MANY: Final = 32
"""Certificates of a cluster that wait to be signed."""
KEPT: Final = 20
"""Checks of a cluster."""
JOINED: Final = frozenset(
    {
        ClusterState.BOOTSTRAPPING, ClusterState.READY, ClusterState.DEGRADED,
        ClusterState.UPGRADING,
    }
)  # fmt: skip
"""Where there is something to get into, or to check."""


class Item(TypedDict):
    """One thing that was checked. state: "" while it is not known; none: there is no such thing."""

    name: str
    state: Literal["", "ok", "failed", "none"]
    sentence: str
    seconds: float


def group_of(project: str) -> str:
    """Who may work in a project's clusters: a group in the certificate, which a binding in the
    cluster gives its rights. To delete the binding is to take them back."""
    return f"seed:{project}"


def ask_certificate(
    store: Store, project: str | None, name: str, who: str, csr: str
) -> KubeCertificate:
    """Raises NotFound; Invalid (csr, or a name that no certificate takes); Conflict: no Kubernetes,
    or given back; TooMany."""
    pki.own_key(csr)
    with store.write() as session:
        cluster = _living(session, project, name)
        kind = cluster.spec["kind"]
        if clusters.known()[kind].kube is None:
            raise Conflict(
                f"{cluster.name} is of kind {kind}: it has no Kubernetes API to get into",
                f"Log in to a member: `seed claim ssh-config {cluster.name}-control-0`.",
            )
        groups = [group_of(cluster.project)]
        pki.check(pki.Person(who, tuple(groups)))
        _make_room(session, cluster)
        row = KubeCertificate(
            cluster_id=cluster.id, project=cluster.project, who=who, csr=csr, groups=groups
        )
        session.add(row)
    return row


def _make_room(session: Session, cluster: Cluster) -> None:
    """Those that ended are forgotten; events keep who had one."""
    rows = session.exec(
        select(KubeCertificate).where(KubeCertificate.cluster_id == cluster.id)
    ).all()
    for row in rows:
        if row.expires_at is not None and row.expires_at < now():
            session.delete(row)
    if sum(row.signed_at is None for row in rows) >= MANY:
        raise TooMany(
            f"{MANY} certificates of {cluster.name} wait to be signed",
            f"See how far it is: `seed cluster show {cluster.name}`.",
            30,
        )


def certificate(
    session: Session, project: str | None, name: str, identity: UUID
) -> tuple[Cluster, KubeCertificate]:
    cluster = clusters.find(session, project, name)
    row = session.get(KubeCertificate, identity)
    if row is None or row.cluster_id != cluster.id:
        raise NotFound(
            f"{cluster.name} has no certificate {identity}: it ended, or was never asked for",
            f"Ask anew: `seed cluster kubeconfig {cluster.name}`.",
        )
    return cluster, row


def ask_check(
    store: Store, project: str | None, name: str, who: str, noun: Noun = Noun.CLUSTER
) -> ClusterCheck:
    """A new one, or the one that runs. Raises NotFound, Conflict."""
    with store.write() as session:
        cluster = _living(session, project, name, noun)
        if cluster.state not in JOINED:
            raise Conflict(
                f"{cluster.name} is {cluster.state}: there is nothing to check yet",
                f"Wait until it is ready: `seed {cluster.noun} show {cluster.name}`.",
            )
        rows = _checks(session, cluster)
        if rows and rows[0].ended_at is None:
            return rows[0]
        for row in rows[KEPT - 1 :]:
            session.delete(row)
        row = ClusterCheck(cluster_id=cluster.id, project=cluster.project, who=who)
        session.add(row)
        record(
            session, "cluster.check", cluster.id, f"{cluster.name} is to be checked",
            who=who, project=cluster.project,
        )  # fmt: skip
    return row


def check(
    session: Session, project: str | None, name: str, identity: UUID, noun: Noun = Noun.CLUSTER
) -> ClusterCheck:
    cluster = clusters.find(session, project, name, noun)
    row = session.get(ClusterCheck, identity)
    if row is None or row.cluster_id != cluster.id:
        raise NotFound(
            f"{cluster.name} has no check {identity}",
            f"Ask anew: `seed {cluster.noun} check {cluster.name}`.",
        )
    return row


def _checks(session: Session, cluster: Cluster) -> list[ClusterCheck]:
    """Newest first."""
    query = select(ClusterCheck).where(ClusterCheck.cluster_id == cluster.id)
    return list(session.exec(query.order_by(col(ClusterCheck.asked_at).desc())).all())


def _living(session: Session, project: str | None, name: str, noun: Noun = Noun.CLUSTER) -> Cluster:
    cluster = clusters.find(session, project, name, noun)
    if cluster.released or cluster.ended_at is not None:
        raise Conflict(
            f"{cluster.name} is given back", f"See which ones there are: `seed {noun} list`."
        )
    return cluster
