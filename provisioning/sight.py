"""A read cache of Ironic's nodes: what the reconciler saw last, and when.

It is a cache and never the truth: who acts on a node asks Ironic first. `Sight.seen_at` says when
a row was last read one by one or as one that changed; `Pass` when all of them were. watching.py
keeps it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, insert, update
from sqlmodel import Field, Session, SQLModel, col, select

from provisioning.ironic import Node
from provisioning.models import now, stored_json, stored_time

FACTS = tuple(f.name for f in fields(Node) if f.name != "uuid")
ALL: Final = 1
CHANGES: Final = 2


class Sight(SQLModel, table=True):
    """One node as Ironic told it last. `facts` are those of ironic.Node, but for `uuid`."""

    node_uuid: UUID = Field(primary_key=True)
    facts: dict[str, Any] = stored_json(default={})
    seen_at: datetime = stored_time(default_factory=now)


class Pass(SQLModel, table=True):
    """The last time that every node was read (row ALL), or asked which changed (row CHANGES).

    Ironic tells of every change but a node made or deleted behind our back; so a row is as old as
    the younger of the two says, or younger.
    """

    id: int = Field(default=ALL, primary_key=True)
    at: datetime = stored_time(default_factory=now)


def nodes(session: Session) -> list[Node]:
    """All of them, as they were seen last."""
    return [node_of(row) for row in session.exec(select(Sight)).all()]


def node(session: Session, uuid: UUID) -> Node | None:
    """As it was seen last; None: never."""
    row = session.get(Sight, uuid)
    return node_of(row) if row else None


def uuids(session: Session) -> list[UUID]:
    """Which there are."""
    return list(session.exec(select(Sight.node_uuid)).all())


def node_of(row: Sight) -> Node:
    return node_from(row.node_uuid, row.facts)


def node_from(uuid: UUID, stored: dict[str, Any]) -> Node:
    facts = {name: stored[name] for name in FACTS if name in stored}
    return Node(uuid=str(uuid), **facts | {"traits": tuple(facts.get("traits", ()))})


def write(session: Session, seen: Iterable[Node], *, all_of_them: bool, at: datetime) -> None:
    """Keep what was read at `at`. all_of_them: who is missing is no longer there."""
    by_uuid = {UUID(node.uuid): node for node in seen}
    query = select(Sight.node_uuid, Sight.facts)
    if not all_of_them and len(by_uuid) < 500:  # as many as one statement may name
        query = query.where(col(Sight.node_uuid).in_(by_uuid))
    known = dict(session.exec(query).all()) if by_uuid or all_of_them else {}
    new, changed = [], []
    for uuid, node in by_uuid.items():
        facts = _facts(node, known.get(uuid, {}))
        row = {"node_uuid": uuid, "facts": facts, "seen_at": at}
        if uuid not in known:
            new.append(row)
        elif known[uuid] != facts or not all_of_them:
            changed.append(row)
    if new:
        session.execute(insert(Sight), new)
    if changed:
        session.execute(update(Sight), changed)
    if all_of_them:
        forget(session, known.keys() - by_uuid.keys())
        passed(session, ALL, at)


def forget(session: Session, gone: Iterable[UUID]) -> None:
    """They are no longer there."""
    for uuid in gone:
        session.execute(delete(Sight).where(col(Sight.node_uuid) == uuid))


def passed(session: Session, which: int, at: datetime) -> None:
    """`which`: ALL or CHANGES."""
    session.merge(Pass(id=which, at=at))


def _facts(node: Node, before: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives them back, so that what did not change is equal."""
    told = {name: getattr(node, name) for name in FACTS}
    if not node.updated_at:  # a list does not say it
        told["updated_at"] = before.get("updated_at", "")
    return dict(json.loads(json.dumps(told)))
