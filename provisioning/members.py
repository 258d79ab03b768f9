"""What members of clusters tell the node gateway, and hand on to each other through it.

A member has a token of its own from its deployment until its cluster is released. It is good from
its node's addresses only: from any other it was taken away, and is good for nothing from then on.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter
from sqlmodel import Session, col, func, select

from provisioning import clusters
from provisioning.cluster_rows import Cluster, ClusterCheck, Member, MemberValue
from provisioning.errors import Conflict, Invalid, NotFound, Unauthenticated
from provisioning.models import Address, Hold, now
from provisioning.secrets import digest
from provisioning.states import Parting
from provisioning.store import Store, record

LARGEST: Final = 64 * 1024
"""Bytes of a value."""
MANY: Final = 32
"""Values of a cluster."""
HEARD: Final = timedelta(minutes=1)
"""told_at is as exact as that: of 500 members 42 ask in a second, and 8 of these are writes."""
FOR_ANOTHER: Final = re.compile(r"(drain|forget) (.+)")
SIDE: Final = "reload "
TRY: Final = re.compile(r"try (\d{1,10})")
_FOUND: Final = TypeAdapter(dict[str, tuple[Literal["ok", "failed", "none"], str]])
Told = TypeVar("Told")
NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Report(BaseModel):
    """As on_node/member.py sends it. step: empty for all of them, "check" for what comes after,
    "left" once it is a member no more; "drain NAME" and "forget NAME" are of another member, "try
    NUMBER" of a check of the whole cluster.

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
        raise Conflict("this token is another member's", f"seed {cluster.noun} show {cluster.name}")
    member.told_at = now()
    session.add(member)
    if tried := TRY.fullmatch(told.step):
        _tried(session, member, cluster, int(tried[1]), told)
        return
    about = member
    if another := FOR_ANOTHER.fullmatch(told.step):
        about = _other(session, member, cluster, another[2])
    news = (told.step, told.state) != (about.step, about.step_state)
    if told.step.startswith(SIDE) and told.state == "done" and about.step != told.step:
        return  # it hides nothing that failed
    about.step, about.step_state = told.step, told.state
    about.step_detail, about.missing = told.detail, told.missing
    if told.state == "done":
        _over(session, cluster, about, another[1] if another else told.step)
    session.add(about)
    if news:
        lacks = f"; {told.missing} is missing" if told.missing else ""
        record(
            session, "member.step", cluster.id,
            f"{member.name}: {told.step or 'all steps'} {told.state}{lacks}",
            project=cluster.project, seconds=told.seconds,
        )  # fmt: skip


def _tried(session: Session, member: Member, cluster: Cluster, number: int, told: Report) -> None:
    """What a control plane found out, for kube_check.py. A second word on it changes nothing."""
    row = _asked(session, cluster)
    if member.role != "control" or row is None or row.number != number or row.told:
        return
    if told.state in ("done", "failed"):
        row.told = _items(told.detail) or {"": ["failed", told.detail or "it said nothing"]}
        session.add(row)


def _items(text: str) -> dict[str, list[str]]:
    try:
        return {name: list(one) for name, one in _FOUND.validate_json(text).items()}
    except ValueError:
        return {}


def _asked(session: Session, cluster: Cluster) -> ClusterCheck | None:
    """The check that goes on."""
    query = select(ClusterCheck).where(ClusterCheck.cluster_id == cluster.id)
    return session.exec(query.where(col(ClusterCheck.ended_at).is_(None))).first()


def _other(session: Session, member: Member, cluster: Cluster, name: str) -> Member:
    query = select(Member).where(Member.cluster_id == cluster.id, Member.name == name)
    found = session.exec(query).first()
    if member.role != "control" or found is None or found.id == member.id:
        raise Conflict(
            f"{member.name} does nothing for {name[:64]}",
            f"seed {cluster.noun} show {cluster.name}",
        )
    return found


def _over(session: Session, cluster: Cluster, about: Member, task: str) -> None:
    """Where `parting` waits for just that; else it was told before, or nobody asked for it."""
    then = {
        ("drain", Parting.DRAINING): Parting.LEAVING,
        ("left", Parting.LEAVING): Parting.LEFT,
        ("forget", Parting.LEFT): Parting.FORGOTTEN,
        ("forget", Parting.LOST): Parting.FORGOTTEN,
    }.get((task, about.parting))
    if task == "" and about.joined_at is None:
        if about.leads and about.revision == cluster.revision:
            cluster.applied = clusters.made_of(cluster)
            session.add(cluster)
        about.joined_at = now()
    if then and (task != "forget" or about.ended_at):
        about.parting, about.parted_at = then, now()


def orders(store: Store, token: str, source: str) -> dict[str, Any]:
    """What is wanted of it now, as on_node/member.py reads it. No secret is in it.

    A control plane that has joined drains and forgets others, whichever is first of them; and each
    knows its peers.
    """
    return _answer(store, token, source, _orders)


def _orders(session: Session, member: Member, cluster: Cluster) -> dict[str, Any]:
    goal = "leaving" if member.parting in (Parting.LEAVING, Parting.LEFT) else "joined"
    told: dict[str, Any] = {"goal": goal, "drain": [], "forget": [], "files": {}}
    if member.role != "control" or member.parting is not Parting.NO:
        return told
    if member.joined_at:
        moving = (Parting.DRAINING, Parting.LEFT, Parting.LOST)
        query = select(Member).where(
            Member.cluster_id == cluster.id, col(Member.parting).in_(moving)
        )
        rows = session.exec(query.order_by(col(Member.number))).all()
        told["drain"] = [m.name for m in rows if m.parting is Parting.DRAINING]
        told["forget"] = [m.name for m in rows if m.parting is not Parting.DRAINING and m.ended_at]
        check = _asked(session, cluster)
        if check is not None and not check.told:
            told["check"] = check.number
    facts = clusters.facts_of(session, cluster, role=member.role)
    mine = next((m for m in facts.members if m.name == member.name), None)
    if mine:
        kind = clusters.known()[cluster.spec["kind"]]
        told["files"] = {one.path: one.content for one in kind.fresh(facts, mine)}
    return told


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
        raise Conflict(
            f"{row.put_by} gave {name} already", f"seed {cluster.noun} show {cluster.name}"
        )
    if row is None:
        query = select(func.count()).where(MemberValue.cluster_id == cluster.id)
        if session.exec(query).one() >= MANY:
            raise Conflict(
                f"a cluster keeps {MANY} values", f"seed {cluster.noun} show {cluster.name}"
            )
        row = MemberValue(cluster_id=cluster.id, name=name, content=content, put_by=member.name)
    row.content, row.put_at = content, now()
    session.add(row)
    record(
        session, "member.value", cluster.id, f"{member.name} gave {name}", project=cluster.project
    )  # fmt: skip


def get(store: Store, token: str, source: str, name: str) -> bytes:
    """What another member gave. Raises NotFound while there is none."""
    _check(name)
    content = _answer(store, token, source, partial(_value, name))
    if not content:
        raise NotFound(f"nobody gave {name} yet", "Ask again.")
    return content


def _value(name: str, session: Session, _member: Member, cluster: Cluster) -> bytes:
    row = session.get(MemberValue, (cluster.id, name))
    return row.content if row else b""


# --- whose token it is ----------------------------------------------------------------------------


def _answer(
    store: Store, token: str, source: str, answer: Callable[[Session, Member, Cluster], Told]
) -> Told:
    """Members ask all the time, so that they are only read, but where the token was taken away, and
    once per HEARD. Raises Unauthenticated."""
    with store.read() as session:
        who = _who(session, token, source)
        told = answer(session, who.member, who.cluster) if who and who.at_home else None
    if who is None:
        raise _stranger()
    if told is not None and not _is_news(who.member):
        return told
    with store.write() as session:
        found = _of(session, token, source)
        if found is not None and _is_news(found[0]):
            found[0].told_at = now()
            session.add(found[0])
    if found is None or told is None:
        raise _stranger()
    return told


def _is_news(member: Member) -> bool:
    return member.told_at is None or now() - member.told_at >= HEARD


@dataclass(frozen=True, slots=True)
class _Who:
    """at_home: it asks from its node's own address."""

    member: Member
    cluster: Cluster
    at_home: bool


def _who(session: Session, token: str, source: str) -> _Who | None:
    """Whose token this is; only looks, in one query."""
    if not token:
        return None
    query = (
        select(Member, Cluster, Hold.node_uuid, Address.node_uuid)
        .join(Cluster, col(Cluster.id) == col(Member.cluster_id))
        .join(Hold, col(Hold.claim_id) == col(Member.claim_id))
        .outerjoin(Address, col(Address.address) == source)
        .where(Member.token_hash == digest(token))
        .where(col(Member.ended_at).is_(None), col(Cluster.ended_at).is_(None))
    )
    found = session.exec(query).first()
    if found is None:
        return None
    member, cluster, node, owner = found
    return _Who(member, cluster, owner == node)


def _of(session: Session, token: str, source: str) -> tuple[Member, Cluster] | None:
    """In a write session. From another's address the token ends, and the cluster says why."""
    who = _who(session, token, source)
    if who is None or who.at_home:
        return (who.member, who.cluster) if who else None
    who.member.token_hash = ""
    session.add(who.member)
    record(
        session, "member.alarm", who.cluster.id,
        f"the token of {who.member.name} was used from {source}: it is good for nothing now",
        project=who.cluster.project,
    )  # fmt: skip
    return None


def _check(name: str) -> None:
    if not NAME.fullmatch(name):
        raise Invalid(f"{name[:64]!r} is no name of a value", 'a-z, 0-9 and "-", at most 63.')


def _stranger() -> Unauthenticated:
    return Unauthenticated("this is no member's token, or not from its node", "seed cluster list")
