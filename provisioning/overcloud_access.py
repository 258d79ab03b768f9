"""What people ask of an overcloud that is there: its clouds.yaml, and a stage once more.

clouds.yaml has the administrator's password, which only the reconciler can read: it seals the file
to a key that whoever asked made for this one question. So neither the API nor a log has it.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlmodel import Session, col, select

from provisioning import clusters
from provisioning.cluster_access import JOINED
from provisioning.cluster_rows import Cluster, OvercloudAccess, OvercloudStage
from provisioning.errors import Conflict, Invalid, NotFound, TooMany
from provisioning.models import now
from provisioning.overcloud_stages import LEAVE, Stages, rows_of
from provisioning.parts import Parts
from provisioning.secrets import seal_to
from provisioning.states import Noun, StageState
from provisioning.store import Store, record

LIFE: Final = timedelta(hours=1)
MANY: Final = 32
KEY_BYTES: Final = 32
LATER: Final = 5.0


def info(identity: UUID) -> str:
    """What a sealed answer is bound to."""
    return f"overcloud-access:{identity}"


def ask(store: Store, project: str | None, name: str, who: str, key: bytes) -> OvercloudAccess:
    """Raises NotFound, Invalid (key), Conflict: not there yet or no more, TooMany."""
    try:
        if len(key) != KEY_BYTES:
            raise ValueError
        seal_to(key, "", "")
    except ValueError:
        raise Invalid(
            "key is no X25519 public key",
            "It is made anew for each question: `seed overcloud clouds`.",
        ) from None
    with store.write() as session:
        cluster = living(session, project, name)
        for row in _asked(session, cluster):
            if now() - row.asked_at > LIFE:
                session.delete(row)
        session.flush()
        if len(_asked(session, cluster)) >= MANY:
            raise TooMany(f"{MANY} people asked for clouds.yaml within the hour", "Ask later.", 60)
        row = OvercloudAccess(cluster_id=cluster.id, project=cluster.project, who=who, key=key)
        session.add(row)
        record(
            session, "overcloud.clouds", cluster.id, f"{cluster.name}: clouds.yaml was asked for",
            who=who, project=cluster.project,
        )  # fmt: skip
    return row


def find(session: Session, project: str | None, name: str, identity: UUID) -> OvercloudAccess:
    cluster = clusters.find(session, project, name, Noun.OVERCLOUD)
    row = session.get(OvercloudAccess, identity)
    if row is None or row.cluster_id != cluster.id or now() - row.asked_at > LIFE:
        raise NotFound(
            f"{cluster.name} has no answer {identity}: it ended, or was never asked for",
            f"Ask anew: `seed overcloud clouds {cluster.name}`.",
        )
    return row


def due(session: Session) -> list[UUID]:
    """Those that wait for the reconciler."""
    query = select(OvercloudAccess.id).where(col(OvercloudAccess.sealed_at).is_(None))
    return list(session.exec(query.where(col(OvercloudAccess.asked_at) > now() - LIFE)).all())


def seal(parts: Parts, identity: UUID) -> float:
    """The reconciler's part. Answers the pause in seconds."""
    with parts.store.read() as session:
        row = session.get(OvercloudAccess, identity)
        cluster = session.get(Cluster, row.cluster_id) if row else None
    if row is None or cluster is None or row.sealed_at or not cluster.sealed:
        return LATER
    text = Stages(parts).clouds(cluster)
    with parts.store.write() as session:
        fresh = session.get(OvercloudAccess, identity)
        if fresh is not None:
            fresh.sealed, fresh.sealed_at = seal_to(row.key, text, info(identity)), now()
            session.add(fresh)
    return LATER


def resume(store: Store, project: str | None, name: str, who: str, stage: str = "") -> Cluster:
    """The stage that failed is tried again; with `stage` that one, and none after it unless it
    failed, too. Raises NotFound, Conflict where nothing stands still."""
    with store.write() as session:
        cluster = living(session, project, name)
        rows = rows_of(session, cluster)
        wanted = [row for row in rows if row.name == stage or row.state is StageState.FAILED]
        if stage and stage not in {row.name for row in rows}:
            known = ", ".join(row.name for row in rows if not row.name.startswith(LEAVE))
            raise NotFound(
                f"stage: {cluster.name} has no stage {stage[:64]!r}",
                f"It has these: {known}." if known else "It has none yet.",
            )
        if not wanted:
            raise Conflict(
                f"no stage of {cluster.name} failed",
                f"Name one to run it again: `seed overcloud resume {cluster.name} --stage STAGE`.",
            )
        for row in wanted:
            if row.state is StageState.RUNNING:
                raise Conflict(
                    f"stage: {row.name} runs", f"Wait: `seed overcloud show {cluster.name}`."
                )
            again(session, row)
        cluster.changes += 1
        cluster.detail, cluster.problem, cluster.remedy = "", "", ""
        session.add(cluster)
        names = ", ".join(row.name for row in wanted)
        record(
            session, "overcloud.resumed", cluster.id, f"{cluster.name}: {names}", who=who,
            project=cluster.project,
        )  # fmt: skip
        return cluster


def again(session: Session, row: OvercloudStage) -> None:
    row.state, row.wanted = StageState.WAITING, row.tries + 1
    row.hosts, row.unreachable = [], False
    session.add(row)


def living(session: Session, project: str | None, name: str) -> Cluster:
    """One that has something to get into. Raises NotFound, Conflict."""
    cluster = clusters.find(session, project, name, Noun.OVERCLOUD)
    if cluster.released or cluster.ended_at is not None:
        raise Conflict(
            f"{cluster.name} is given back", "See which ones there are: `seed overcloud list`."
        )
    if cluster.state not in JOINED:
        raise Conflict(
            f"{cluster.name} is {cluster.state}: nothing is installed yet",
            f"Wait until it is ready: `seed overcloud show {cluster.name}`.",
        )
    return cluster


def _asked(session: Session, cluster: Cluster) -> list[OvercloudAccess]:
    query = select(OvercloudAccess).where(OvercloudAccess.cluster_id == cluster.id)
    return list(session.exec(query).all())
