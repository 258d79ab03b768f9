"""Plan, then apply: a destructive verb shows what it will do, and does only that.

The hash covers the verb and all facts shown. Apply computes the facts anew: if one changed, the
plan is older than 15 minutes or was applied before, nothing happens.
"""

import hashlib
import json
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from sqlmodel import Session

from provisioning.errors import Conflict, Invalid
from provisioning.models import Plan, now

LIFETIME = timedelta(minutes=15)


class Disk(BaseModel):
    name: str
    serial: str = ""
    wwn: str = ""
    size_bytes: int = 0


class PlannedNode(BaseModel):
    """One server that something will happen to."""

    uuid: str
    name: str
    serial: str
    generation: int
    disks: list[Disk]
    holder: str = ""
    change: str = ""  # what becomes of it, where that is not that its disks are erased


class PlanOut(BaseModel):
    """What a person sees before saying yes."""

    verb: str
    sentence: str
    nodes: list[PlannedNode]
    hash: str
    expires_in_seconds: int


def _digest(verb: str, nodes: list[PlannedNode]) -> str:
    facts = {"verb": verb, "nodes": [n.model_dump() for n in nodes]}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def make(session: Session, verb: str, sentence: str, nodes: list[PlannedNode]) -> PlanOut:
    if not nodes:
        raise Invalid("the plan names no node", "Name the nodes or the claim.")
    key = _digest(verb, nodes)
    session.merge(Plan(hash=key, verb=verb, expires_at=now() + LIFETIME))
    return PlanOut(
        verb=verb,
        sentence=sentence,
        nodes=nodes,
        hash=key,
        expires_in_seconds=int(LIFETIME.total_seconds()),
    )


def use(session: Session, verb: str, nodes: list[PlannedNode], given: str) -> None:
    """Use the plan up; Conflict unless `given` is the hash of a living one for these very facts.

    Once only: a release that was undone leaves all facts as they were, and must not happen again
    because somebody repeats the old request.
    """
    known = session.get(Plan, given) if given else None
    remedy = "Ask for a new plan, read it, and apply that one."
    if known is None or known.verb != verb:
        raise Conflict(f"there is no such plan to {verb}, or it was applied already", remedy)
    if known.expires_at < now():
        raise Conflict("the plan is older than 15 minutes", remedy)
    if _digest(verb, nodes) != given:
        raise Conflict("something changed since the plan was made", remedy)
    session.delete(known)


def disks_of(inventory: dict[str, Any] | None) -> list[Disk]:
    """From Ironic's inventory of an inspected node; not what has no medium, as an array that does
    not run: there is nothing to erase. One whose size nobody told is among them."""
    found = (inventory or {}).get("inventory", {}).get("disks") or []
    return [
        Disk(
            name=str(d.get("name") or ""),
            serial=str(d.get("serial") or ""),
            wwn=str(d.get("wwn") or ""),
            size_bytes=int(d.get("size") or 0),
        )
        for d in found
        if d.get("size") != 0
    ]
