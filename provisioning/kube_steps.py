"""The reconciler at a cluster's Kubernetes API: who is Ready, who may in, whose token must not end.

It signs a certificate for itself for each look, and keeps none: only it can open the cluster's CA.
"""

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlmodel import Session, col, select

from provisioning import addons, chosen_addons, clusters, kube_api, pki
from provisioning.cluster_access import JOINED, group_of
from provisioning.cluster_rows import Cluster, ClusterCheck, KubeCertificate, Member
from provisioning.errors import KubeRefused, KubeUnavailable
from provisioning.kinds import KubeApi as Ways
from provisioning.kube_api import KubeAccess, KubeApi, Seen
from provisioning.memberships import sealed_for
from provisioning.models import Address, Claim, Hold, now
from provisioning.network_doc import WIRE
from provisioning.overcloud_spec import spec_of
from provisioning.parts import Parts
from provisioning.states import ClusterState
from provisioning.store import record

OFTEN, SELDOM = 5.0, 30.0
"""Seconds between two looks: while it comes up, and then."""
OWN_LIFE: Final = timedelta(minutes=10)
OWN: Final = pki.Person("seed-reconciler", ("system:masters",))
"""Kubernetes' own group that may do all, whatever its RBAC says: nobody can lock Seed out."""
TOKEN_LIFE, TOKEN_SPARE = timedelta(hours=2), timedelta(hours=1)
"""A joining node's token is good for so long at a time, and renewed so long before its end."""
AT_ONCE: Final = 8
"""So many members' objects are made with one look."""
DOORS: Final = 8
"""Of so many addresses one is tried."""
BINDINGS: Final = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
SECRETS: Final = "/api/v1/namespaces/kube-system/secrets"
WAITS_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Look:
    """What the API says of members that joined. problems: sentences; empty: all are Ready."""

    problems: tuple[str, ...] = ()
    remedy: str = ""
    detail: str = ""


def look(parts: Parts, cluster: Cluster, pairs: Sequence[tuple[Member, Claim]]) -> Look | None:
    """None: it is not asked, as its kind has no such API, or no control plane has joined. At most
    kube_api.LOOK_SECONDS. What goes wrong is a problem, no exception.
    """
    ways = ways_into(cluster)
    joined = [member for member, _claim in pairs if member.joined_at is not None]
    if ways is None or not any(member.role == "control" for member in joined):
        return None
    with parts.store.read() as session:
        wanted = node_uuids(session, joined)
        ways_there = doors(session, cluster)
        bare = [m for m in joined if is_bare(cluster, m)][:AT_ONCE]
        objects = _objects(session, cluster, bare)
    secrets = _secrets(parts, cluster)
    tokens = [secrets[ways.token]] if ways.token and len(joined) < len(pairs) else []

    made: list[Member] = []
    problems: list[str] = []

    async def ask(api: KubeApi) -> Seen:
        seen = await kube_api.look(api)
        if not cluster.bound:
            await bind(api, cluster.project)
        for token in tokens:
            await keep_token(api, token, ways.token_groups, now())
        for member in bare:
            if why := await furnish(api, objects.get(member.name)):
                problems.append(f"{member.name}: {why}")
            else:
                made.append(member)
        return seen

    try:
        seen = kube_api.talk(parts.kube, access(cluster, secrets, ways_there), ask)
    except (KubeUnavailable, KubeRefused) as problem:
        return Look((str(problem),), problem.remedy.replace("NAME", cluster.name))
    _made(parts, cluster, made)
    return judge(cluster.name, seen, wanted, problems)


def judge(cluster: str, seen: Seen, wanted: dict[str, UUID], beside: Sequence[str] = ()) -> Look:
    """wanted: member -> its node. Matched by what Seed told kubelet, not by name: a server that was
    put in another's place is not taken for it. beside: other problems."""
    there = {node.provider_id: node for node in seen.nodes}
    problems = [f"the Kubernetes API is not ready: {seen.unready}"] if seen.unready else []
    problems += beside
    bad = []
    for name, uuid in wanted.items():
        node = there.get(f"seed://{uuid}")
        if node is None or node.why:
            bad.append(name)
            problems.append(f"{name}: {node.why}" if node else f"{name} is no Node of it")
    remedy = f"seed cluster show {cluster}"
    if bad:
        remedy = (
            f"`seed cluster kubeconfig {cluster}`, then `kubectl describe node {bad[0]}`; "
            f"another in its place: `seed cluster replace {cluster} {bad[0]}`."
        )
    return Look(tuple(problems), remedy, "; ".join(f"kube-system/{pod}" for pod in seen.pods[:2]))


def node_uuids(session: Session, members: Iterable[Member]) -> dict[str, UUID]:
    """Member -> the node that its claim holds."""
    names = {member.claim_id: member.name for member in members}
    holds = session.exec(select(Hold).where(col(Hold.claim_id).in_(list(names)))).all()
    found = {names[hold.claim_id]: hold.node_uuid for hold in holds if hold.claim_id}
    return {name: found[name] for name in names.values() if name in found}


# --- getting in -----------------------------------------------------------------------------------


def ways_into(cluster: Cluster) -> Ways | None:
    return clusters.known()[cluster.spec["kind"]].kube


def server_of(cluster: Cluster) -> str:
    host = f"[{cluster.vip}]" if ":" in cluster.vip else cluster.vip
    return f"https://{host}:{cluster.spec['api']['port']}"


def own_access(parts: Parts, cluster: Cluster) -> KubeAccess:
    with parts.store.read() as session:
        ways_there = doors(session, cluster)
    return access(cluster, _secrets(parts, cluster), ways_there)


def doors(session: Session, cluster: Cluster) -> tuple[tuple[str, int], ...]:
    """Its API servers as they are on the provisioning wire, which this machine is on: where the
    network of the cluster is apart from all that it reaches, this is the one way in."""
    ways = ways_into(cluster)
    query = (
        select(Address.address)
        .join(Hold, col(Hold.node_uuid) == col(Address.node_uuid))
        .join(Member, col(Member.claim_id) == col(Hold.claim_id))
        .where(Address.network == WIRE, Member.cluster_id == cluster.id, Member.role == "control")
        .where(col(Member.joined_at).is_not(None), col(Member.ended_at).is_(None))
        .order_by(col(Member.number), col(Address.address))
    )
    ports = [port for port in ways.behind if port != spec_of(cluster).port] if ways else []
    return tuple((found, port) for found in session.exec(query.limit(DOORS)) for port in ports)


def access(
    cluster: Cluster, secrets: dict[str, str], beside: tuple[tuple[str, int], ...] = ()
) -> KubeAccess:
    """Seed's own, with a new key, for some minutes. Raises TypeError for a kind without an API."""
    ways = ways_into(cluster)
    if ways is None:
        raise TypeError(f"{cluster.spec['kind']} has no Kubernetes API")
    key = ec.generate_private_key(ec.SECP256R1())
    told = pki.client_certificate(_ca(ways, secrets), key.public_key(), OWN, now(), OWN_LIFE)
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return KubeAccess(server_of(cluster), secrets[f"{ways.server_ca}.crt"], told, plain, beside)


def _secrets(parts: Parts, cluster: Cluster) -> dict[str, str]:
    found: dict[str, str] = json.loads(parts.unseal(cluster.sealed, sealed_for(cluster.id)))
    return found


def _ca(ways: Ways, secrets: dict[str, str]) -> pki.Pair:
    return pki.Pair(secrets[f"{ways.client_ca}.crt"], secrets[f"{ways.client_ca}.key"])


# --- rights ---------------------------------------------------------------------------------------


async def bind(api: KubeApi, project: str) -> None:
    """The people of the cluster's project may do all in it, until somebody deletes this binding:
    a group like system:masters could not be taken back before the certificates end."""
    group, rbac = group_of(project), "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": group},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": rbac, "kind": "Group", "name": group}],
    }
    await api.apply(f"{BINDINGS}/{group}", binding)


def is_bare(cluster: Cluster, member: Member) -> bool:
    """Whether its add-ons may want objects of it that were not made yet."""
    joined = member.joined_at is not None
    return joined and bool(cluster.spec["addons"]) and not member.furnished


async def furnish(api: KubeApi, objects: dict[str, addons.Document] | None) -> str:
    """By path; what is there already stays as it is. None: they are not known now. Answers why it
    is not done; empty: it is."""
    if objects is None:
        return "its data disks are not those that it was given: see `seed node drift`"
    try:
        for path, document in objects.items():
            if await api.find(path) is None:
                await api.apply(path, document)
    except (KubeUnavailable, KubeRefused) as problem:
        return f"its volumes are not made: {problem}"
    return ""


def _made(parts: Parts, cluster: Cluster, made: Sequence[Member]) -> None:
    """Once: what an administrator of the cluster changed or took away stays so."""
    if cluster.bound and not made:
        return
    with parts.store.write() as session:
        row = session.get_one(Cluster, cluster.id)
        row.bound = True
        session.add(row)
        for member in made:
            one = session.get_one(Member, member.id)
            one.furnished = True
            session.add(one)


def _objects(
    session: Session, cluster: Cluster, bare: Sequence[Member]
) -> dict[str, dict[str, addons.Document]]:
    """Member -> what add-ons want of it in the API, by path. Whose disks are not found is left out:
    another number of volumes would stay so."""
    if not bare:
        return {}
    facts, found = clusters.facts_of(session, cluster), {}
    claims = {member.name: session.get_one(Claim, member.claim_id) for member in bare}
    for member in facts.members:
        if member.name in claims and (member.disks or not claims[member.name].disks):
            found[member.name] = chosen_addons.objects(facts, member)
    return found


async def keep_token(api: KubeApi, token: str, groups: Sequence[str], at: datetime) -> None:
    """While a node is on its way its token does not end, however long servers take to boot; when
    none is, nobody renews it. kubernetes.io: "Authenticating with Bootstrap Tokens"."""
    identity, _, secret = token.partition(".")
    path = f"{SECRETS}/bootstrap-token-{identity}"
    found = await api.find(path)
    if found is not None and not _ends_soon(found, at):
        return
    told = {
        "token-id": identity,
        "token-secret": secret,
        "expiration": (at + TOKEN_LIFE).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": ",".join(groups),
    }
    await api.apply(
        path,
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"bootstrap-token-{identity}", "namespace": "kube-system"},
            "type": "bootstrap.kubernetes.io/token",
            "data": {key: base64.b64encode(word.encode()).decode() for key, word in told.items()},
        },
    )


def _ends_soon(secret: kube_api.Document, at: datetime) -> bool:
    told = kube_api.part(secret, "data", "expiration")
    if told is None:
        return False  # somebody wants it for ever
    try:
        ends = datetime.fromisoformat(base64.b64decode(str(told)).decode().replace("Z", "+00:00"))
        return ends < at + TOKEN_SPARE
    except (ValueError, TypeError):
        return True  # the API server takes such a token for one that ended


# --- people ---------------------------------------------------------------------------------------


def due(session: Session) -> tuple[Sequence[UUID], Sequence[UUID]]:
    """Certificates to be signed, checks to be done."""
    certificates = select(KubeCertificate.id).where(col(KubeCertificate.signed_at).is_(None))
    checks = select(ClusterCheck.id).where(col(ClusterCheck.ended_at).is_(None))
    return session.exec(certificates).all(), session.exec(checks).all()


def sign(parts: Parts, identity: UUID) -> float:
    """One person's certificate. Answers the pause in seconds."""
    with parts.store.read() as session:
        row = session.get(KubeCertificate, identity)
        cluster = session.get_one(Cluster, row.cluster_id) if row else None
    if row is None or cluster is None or row.signed_at is not None:
        return SELDOM
    ways = ways_into(cluster)
    if ways is None or cluster.state not in JOINED:
        return WAITS_SECONDS
    secrets, at = _secrets(parts, cluster), now()
    person = pki.Person(row.who, tuple(row.groups))
    pem = pki.client_certificate(_ca(ways, secrets), pki.own_key(row.csr), person, at)
    with parts.store.write() as session:
        row = session.get(KubeCertificate, identity)
        if row is None or row.signed_at is not None:
            return SELDOM
        row.certificate, row.ca = pem, secrets[f"{ways.server_ca}.crt"]
        row.server, row.signed_at = server_of(cluster), at
        row.expires_at = at + pki.KUBECONFIG_LIFE
        session.add(row)
        record(
            session, "cluster.certificate", cluster.id,
            f"{row.who} may use {cluster.name} until {row.expires_at:%Y-%m-%d %H:%M} UTC",
            who=row.who, project=row.project, groups=row.groups,
            serial=f"{x509.load_pem_x509_certificate(pem.encode()).serial_number:x}",
        )  # fmt: skip
    return SELDOM


def forget(session: Session, cluster: Cluster) -> None:
    """Of a cluster that is given back: nobody gets in any more."""
    for kind in (KubeCertificate, ClusterCheck):
        for row in session.exec(select(kind).where(kind.cluster_id == cluster.id)).all():
            session.delete(row)


def pause(state: ClusterState) -> float:
    return OFTEN if state is ClusterState.BOOTSTRAPPING else SELDOM
