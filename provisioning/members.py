"""What members of clusters tell the node gateway, and hand on to each other through it.

A member has a token of its own from its deployment until its cluster is released. It is good from
its node's addresses only: from any other it was taken away, and is good for nothing from then on.
"""

import re
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlmodel import Session, func, select

from provisioning.cluster_rows import Cluster, Member, MemberValue
from provisioning.errors import Conflict, Invalid, NotFound, Unauthenticated
from provisioning.models import Address, Hold, now
from provisioning.secrets import digest
from provisioning.store import Store, record

LARGEST: Final = 64 * 1024
"""Bytes of a value."""
MANY: Final = 32
"""Values of a cluster."""
NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Report(BaseModel):
    """As on_node/member.py sends it. step: empty for all of them, "check" for what comes after.

    missing: the file that the step wants and that is not there.
    """

    model_config = ConfigDict(extra="forbid")

    cluster: Annotated[str, StringConstraints(max_length=64)]
    member: Annotated[str, StringConstraints(max_length=64)]
    step: Annotated[str, StringConstraints(max_length=64)]
    state: Literal["running", "waiting", "done", "failed"]
    detail: Annotated[str, StringConstraints(max_length=4096)] = ""
    missing: Annotated[str, StringConstraints(max_length=1024)] = ""
    seconds: Annotated[float, Field(ge=0, le=10**8)] = 0.0


def report(store: Store, token: str, source: str, told: Report) -> None:
    """Keep what it told last; a step that begins, ends or fails is an event.

    Raises Unauthenticated, whatever was wrong with the token; Conflict for another's name.
    """
    with store.write() as session:
        found = _of(session, token, source)
        if found is not None:
            _take(session, *found, told)
    if found is None:
        raise _stranger()


def _take(session: Session, member: Member, cluster: Cluster, told: Report) -> None:
    if (told.cluster, told.member) not in {
        (cluster.name, member.name),
        (str(cluster.id), member.name),
    }:
        raise Conflict("this token is another member's", f"seed cluster show {cluster.name}")
    news = (told.step, told.state) != (member.step, member.step_state)
    member.step, member.step_state = told.step, told.state
    member.step_detail, member.missing, member.told_at = told.detail, told.missing, now()
    if told.step == "" and told.state == "done":
        member.joined_at = member.joined_at or now()
    session.add(member)
    if news:
        lacks = f"; {told.missing} is missing" if told.missing else ""
        record(
            session, "member.step", cluster.id,
            f"{member.name}: {told.step or 'all steps'} {told.state}{lacks}",
            project=cluster.project, seconds=told.seconds,
        )  # fmt: skip


def put(store: Store, token: str, source: str, name: str, content: bytes) -> None:
    """Keep it for the cluster's other members. Who put it may put it anew, nobody else."""
    _check(name)
    if not 0 < len(content) <= LARGEST:
        raise Invalid(f"a value has 1 to {LARGEST} bytes", "seed logs seed-api")
    with store.write() as session:
        found = _of(session, token, source)
        if found is not None:
            _keep(session, *found, name, content)
    if found is None:
        raise _stranger()


def _keep(session: Session, member: Member, cluster: Cluster, name: str, content: bytes) -> None:
    row = session.get(MemberValue, (cluster.id, name))
    if row is not None and row.put_by != member.name:
        raise Conflict(f"{row.put_by} gave {name} already", f"seed cluster show {cluster.name}")
    if row is None:
        query = select(func.count()).where(MemberValue.cluster_id == cluster.id)
        if session.exec(query).one() >= MANY:
            raise Conflict(f"a cluster keeps {MANY} values", f"seed cluster show {cluster.name}")
        row = MemberValue(cluster_id=cluster.id, name=name, content=content, put_by=member.name)
    row.content, row.put_at = content, now()
    session.add(row)
    record(
        session, "member.value", cluster.id, f"{member.name} gave {name}", project=cluster.project
    )  # fmt: skip


def get(store: Store, token: str, source: str, name: str) -> bytes:
    """What another member gave. Raises NotFound while there is none."""
    _check(name)
    with store.write() as session:  # a stranger is written down
        found = _of(session, token, source)
        row = session.get(MemberValue, (found[1].id, name)) if found else None
        content = row.content if row else b""
    if found is None:
        raise _stranger()
    if not content:
        raise NotFound(f"nobody gave {name} yet", "Ask again.")
    return content


def _of(session: Session, token: str, source: str) -> tuple[Member, Cluster] | None:
    """Who has this token. From another's address it ends, and the cluster says why."""
    member = session.exec(select(Member).where(Member.token_hash == digest(token))).first()
    if not token or member is None or member.ended_at is not None:
        return None
    cluster = session.get_one(Cluster, member.cluster_id)
    hold = session.exec(select(Hold).where(Hold.claim_id == member.claim_id)).first()
    owner = session.get(Address, source)
    if cluster.ended_at is not None or hold is None:
        return None
    if owner is None or owner.node_uuid != hold.node_uuid:
        member.token_hash = ""
        session.add(member)
        record(
            session, "member.alarm", cluster.id,
            f"the token of {member.name} was used from {source}: it is good for nothing now",
            project=cluster.project,
        )  # fmt: skip
        return None
    return member, cluster


def _check(name: str) -> None:
    if not NAME.fullmatch(name):
        raise Invalid(f"{name[:64]!r} is no name of a value", 'a-z, 0-9 and "-", at most 63.')


def _stranger() -> Unauthenticated:
    return Unauthenticated("this is no member's token, or not from its node", "seed cluster list")
