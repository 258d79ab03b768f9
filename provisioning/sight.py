"""A read cache of Ironic's nodes: what the reconciler saw last, and when.

It is a cache and never the truth: who acts on a node asks Ironic first. `Sight.seen_at` says when
a row was last read one by one or as one that changed; `Pass` when all of them were.
"""

import json
from collections.abc import Iterable
from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete
from sqlmodel import Field, Session, SQLModel, col, select

from provisioning.ironic import Node
from provisioning.models import now, stored_json, stored_time

FACTS = tuple(f.name for f in fields(Node) if f.name != "uuid")


class Sight(SQLModel, table=True):
    """One node as Ironic told it last. `facts` are those of ironic.Node, but for `uuid`."""

    node_uuid: UUID = Field(primary_key=True)
    facts: dict[str, Any] = stored_json(default={})
    seen_at: datetime = stored_time(default_factory=now)


class Pass(SQLModel, table=True):
    """The last time that every node was read. One row, number 1."""

    id: int = Field(default=1, primary_key=True)
    at: datetime = stored_time(default_factory=now)


def nodes(session: Session) -> list[Node]:
    """All of them, as they were seen last."""
    return [node_of(row) for row in session.exec(select(Sight)).all()]


def node_of(row: Sight) -> Node:
    facts = {name: row.facts[name] for name in FACTS if name in row.facts}
    return Node(uuid=str(row.node_uuid), **facts | {"traits": tuple(facts.get("traits", ()))})


def write(session: Session, seen: Iterable[Node], *, all_of_them: bool, at: datetime) -> None:
    """Keep what was read at `at`. all_of_them: who is missing is no longer there."""
    seen = list(seen)
    known = {row.node_uuid: row for row in session.exec(select(Sight)).all()}
    for node in seen:
        facts = _facts(node)
        row = known.pop(UUID(node.uuid), None)
        if row is None:
            session.add(Sight(node_uuid=UUID(node.uuid), facts=facts, seen_at=at))
        elif row.facts != facts or not all_of_them:
            row.facts, row.seen_at = facts, at
            session.add(row)
    if all_of_them:
        if known:
            session.execute(delete(Sight).where(col(Sight.node_uuid).in_(known)))
        session.merge(Pass(at=at))


def _facts(node: Node) -> dict[str, Any]:
    """As JSON gives them back, so that what did not change is equal."""
    told = {name: getattr(node, name) for name in FACTS}
    return dict(json.loads(json.dumps(told)))
