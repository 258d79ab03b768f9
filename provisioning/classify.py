"""Which class each server is of, and whether it is as its class says: the rows' side of classes.

Rules choose while a server is not provided yet. From then on only `seed class apply` changes its
class; its bill of materials is looked at whenever something that tells of it changed.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from provisioning import drift
from provisioning.classes import Document, document_of
from provisioning.errors import Conflict, NotFound
from provisioning.fitting import differences, strangeness
from provisioning.hardware import Inventory
from provisioning.models import Bmc, Hold
from provisioning.room import HardwareClass
from provisioning.states import BmcGoal
from provisioning.store import record

ANY_CLASS = "baremetal"  # the resource class of a server nobody said anything about


@dataclass(frozen=True, slots=True)
class Choice:
    """problem: why no class can be told, in one sentence."""

    document: Document | None = None
    problem: str = ""


def documents(session: Session) -> list[Document]:
    rows = session.exec(select(HardwareClass).order_by(col(HardwareClass.name))).all()
    return [document_of(row.document) for row in rows]


def choose(known: list[Document], seen: Inventory) -> Choice:
    """The class of highest priority whose rules all hold. Two of one priority are a problem."""
    fitting = [d for d in known if not strangeness(d.match, seen)]
    best = [d for d in fitting if d.priority == max(f.priority for f in fitting)]
    if len(best) > 1:
        names = " and ".join(d.name for d in best)
        return Choice(
            problem=f"it fits the classes {names} alike: give one of them a higher priority"
        )
    return Choice(best[0]) if best else Choice()


def belongs(known: list[Document], bmc: Bmc) -> Choice:
    """The class by the rules. Where somebody said which, only classes of that name are asked."""
    seen = drift.present(bmc)
    if seen is None:
        return Choice()
    if not _said(bmc):
        return choose(known, seen)
    said = [d for d in known if d.resource_class == bmc.resource_class]
    choice = choose(said, seen)
    if choice == Choice() and said:
        nearest = max(said, key=lambda d: d.priority)
        why = "; ".join(strangeness(nearest.match, seen))
        return Choice(problem=f"it was accepted as {bmc.resource_class}, but {why}")
    return choice


def _said(bmc: Bmc) -> bool:
    """Did somebody say its resource class: a person, or the Ironic it was adopted from?"""
    return bmc.class_said or (not bmc.hardware_class and bmc.resource_class != ANY_CLASS)


def misfit(known: list[Document], bmc: Bmc) -> list[str]:
    """Why this server must not be handed out as what it is called; empty: it may."""
    mine = next((d for d in known if d.name == bmc.hardware_class), None)
    if mine is None:
        problem = belongs(known, bmc).problem
        return [problem] if problem else []
    seen = drift.present(bmc)
    if seen is None:
        return ["nobody told yet what it consists of"]
    return strangeness(mine.match, seen) + differences(mine.bom, seen)


def present_misfit(session: Session, bmc: Bmc) -> list[str]:
    """As of the rows now: for who is about to hand it out."""
    known = documents(session)
    return bmc.misfit if bmc.judged == _digest(known, bmc) else misfit(known, bmc)


def judge(session: Session, bmc: Bmc) -> None:
    """Bring class, misfit and drift of one row up to date. Cheap when nothing changed."""
    drift.begin(bmc)
    known = documents(session)
    if bmc.judged == _digest(known, bmc):
        return
    if bmc.goal is BmcGoal.MANAGED:
        _choose_for(session, known, bmc)
    _note(session, bmc, "misfit", misfit(known, bmc))
    _note(session, bmc, "drift", drift.drift(bmc))
    bmc.judged = _digest(known, bmc)
    session.add(bmc)


def _choose_for(session: Session, known: list[Document], bmc: Bmc) -> None:
    hold = session.get(Hold, bmc.node_uuid) if bmc.node_uuid else None
    found = belongs(known, bmc).document
    if found is None or (hold and hold.claim_id):
        return
    if bmc.hardware_class != found.name:
        record(session, "node.class-chosen", bmc.node_uuid or bmc.address, found.name)
    put_in(bmc, found)


def put_in(bmc: Bmc, document: Document) -> None:
    """From here on it is of this class; the reconciler tells Ironic."""
    bmc.hardware_class, bmc.resource_class = document.name, document.resource_class
    bmc.classed = dressing(document)


def dressing(document: Document) -> dict[str, Any]:
    """What a node has in Ironic because it is of this class."""
    return {"traits": sorted(document.traits), "capabilities": dict(document.capabilities)}


def _note(session: Session, bmc: Bmc, what: str, lines: list[str]) -> None:
    before = getattr(bmc, what)
    setattr(bmc, what, lines)
    if set(lines) - set(before):
        record(session, f"node.{what}", bmc.node_uuid or bmc.address, "; ".join(lines))


def accept_drift(session: Session, bmc: Bmc, read: list[str], who: str) -> None:
    """The changes that were read are right. Conflict if others came meanwhile."""
    judge(session, bmc)
    if sorted(read) != sorted(bmc.drift):
        raise Conflict(
            f"{bmc.node_name} changed since you looked",
            f"Look again: `seed node drift {bmc.node_name}`.",
        )
    drift.accept(bmc)
    judge(session, bmc)
    record(session, "node.drift-accepted", bmc.node, "; ".join(read), who=who)


def _digest(known: list[Document], bmc: Bmc) -> str:
    """Of all that misfit and drift come from."""
    facts = (
        bmc.inventory, bmc.ramdisk, bmc.baseline, bmc.ramdisk_baseline,
        bmc.hardware_class, bmc.resource_class, bmc.class_said, bmc.goal,
        str(bmc.inventory_at), str(bmc.ramdisk_at), [d.stored() for d in known],
    )  # fmt: skip
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


# --- the classes themselves -----------------------------------------------------------------------


def find(session: Session, name: str) -> HardwareClass:
    row = session.get(HardwareClass, name)
    if row is None:
        raise NotFound(f"there is no class {name!r}", "See what there is: `seed class list`.")
    return row


def with_one(known: list[Document], one: Document) -> list[Document]:
    return [*(d for d in known if d.name != one.name), one]


def put(session: Session, document: Document, who: str) -> HardwareClass:
    """Keep a class, or a new version of it. Conflict if a server would fit two alike then.

    No node changes by this: `seed class apply` does that. What its bill of materials says counts
    at once.
    """
    known = with_one(documents(session), document)
    for bmc in session.exec(select(Bmc)).all():
        seen = drift.present(bmc)
        problem = choose(known, seen).problem if seen else ""
        if problem and not choose(documents(session), seen or Inventory()).problem:
            raise Conflict(
                f"{bmc.node_name or bmc.address}: {problem}",
                "Put it again with another `priority:`; try it first: `seed class test FILE`.",
            )
    row = session.merge(HardwareClass(name=document.name, document=document.stored(), put_by=who))
    record(session, "class.put", document.name, document.resource_class, who=who)
    for bmc in session.exec(select(Bmc).where(Bmc.hardware_class == document.name)).all():
        _note(session, bmc, "misfit", misfit(known, bmc))
        session.add(bmc)
    return row


def delete(session: Session, name: str, who: str) -> list[str]:
    """Forget a class. Its nodes keep what they have in Ironic; nothing is demanded of them then.

    The names of these nodes.
    """
    session.delete(find(session, name))
    freed = session.exec(select(Bmc).where(Bmc.hardware_class == name)).all()
    for bmc in freed:
        bmc.hardware_class = ""
        session.add(bmc)
    session.flush()
    names = sorted(b.node_name or b.address for b in freed)
    record(session, "class.deleted", name, ", ".join(names), who=who)
    return names
