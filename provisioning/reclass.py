"""Verbs on classes and many servers: what would happen, and re-applying the rules by a plan."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel
from sqlmodel import Session, col, select

from provisioning import classify, drift, plans
from provisioning.classes import Document
from provisioning.errors import NotFound
from provisioning.fitting import differences, strangeness
from provisioning.models import Bmc, Claim, Hold
from provisioning.plans import PlannedNode, PlanOut
from provisioning.states import BmcGoal
from provisioning.store import record

APPLY = "apply the classes"


class Trial(BaseModel):
    """One server against one class, and what the rules of all classes would make of it."""

    name: str
    fits: bool
    why_not: list[str]  # rules that do not hold
    misfit: list[str]  # differences from the bill of materials, where the rules hold
    hardware_class: str  # of now
    becomes: str
    change: str  # in words; empty: nothing would change


class ApplyPlan(PlanOut):
    """left: name -> why nothing is changed about it."""

    left: dict[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    bmc: Bmc
    document: Document
    words: str


def servers(session: Session, names: Sequence[str]) -> list[Bmc]:
    """Those named by node name, UUID or BMC address; with no name all. Raises NotFound."""
    rows = session.exec(select(Bmc).order_by(col(Bmc.node_name), col(Bmc.address))).all()
    if not names:
        return list(rows)
    known = {str(key): b for b in rows for key in (b.address, b.node_name, b.node_uuid) if key}
    for name in names:
        if name not in known:
            raise NotFound(f"there is no node {name!r}", "See what there is: `seed node list`.")
    return [known[name] for name in dict.fromkeys(names)]


def trial(session: Session, document: Document, names: Sequence[str]) -> list[Trial]:
    """Every stored server against this class, as if it were kept. Nothing is written."""
    known = classify.with_one(classify.documents(session), document)
    return [_tried(known, document, bmc) for bmc in servers(session, names)]


def _tried(known: list[Document], document: Document, bmc: Bmc) -> Trial:
    seen = drift.present(bmc)
    if seen is None:
        why, misfit, becomes = ["nobody told yet what it consists of"], [], classify.Choice()
    else:
        why = strangeness(document.match, seen)
        misfit = [] if why else differences(document.bom, seen)
        becomes = classify.choose(known, seen)
    winner = becomes.document
    return Trial(
        name=bmc.node_name or bmc.address,
        fits=not why,
        why_not=why,
        misfit=misfit,
        hardware_class=bmc.hardware_class,
        becomes=becomes.problem or (winner.name if winner else bmc.hardware_class),
        change=_words(bmc, winner) if winner else "",
    )


def _words(bmc: Bmc, document: Document) -> str:
    """What putting this server in this class changes."""
    wanted = classify.dressing(document)
    pairs = [
        ("class", bmc.hardware_class, document.name),
        ("resource class", bmc.resource_class, document.resource_class),
        ("traits", bmc.classed.get("traits", []), wanted["traits"]),
        ("capabilities", bmc.classed.get("capabilities", {}), wanted["capabilities"]),
    ]
    return "; ".join(f"{what} {_said(a)} -> {_said(b)}" for what, a, b in pairs if a != b)


def _said(value: object) -> str:
    if isinstance(value, dict):
        value = [f"{k}:{v}" for k, v in value.items()]
    if isinstance(value, list):
        value = ",".join(value)
    return str(value) or "none"


def due(session: Session, names: Sequence[str]) -> tuple[list[Change], dict[str, str]]:
    """Nodes that the rules change, and why others stay as they are. By name, or all."""
    known = classify.documents(session)
    changes, left = [], {}
    for bmc in servers(session, names):
        if bmc.node_uuid is None or bmc.goal is BmcGoal.FORGOTTEN:
            continue
        found = _change(session, known, bmc)
        if isinstance(found, Change):
            changes.append(found)
        else:
            left[bmc.node_name or bmc.address] = found
    return changes, left


def _change(session: Session, known: list[Document], bmc: Bmc) -> Change | str:
    hold = session.get_one(Hold, bmc.node)
    if hold.claim_id:
        return f"held by claim {session.get_one(Claim, hold.claim_id).name}"
    seen = drift.present(bmc)
    if seen is None:
        return "nobody told yet what it consists of"
    choice = classify.choose(known, seen)
    if choice.document is None:
        return choice.problem or "no class fits it"
    words = _words(bmc, choice.document)
    return Change(bmc, choice.document, words) if words else "it is so already"


def plan(session: Session, names: Sequence[str]) -> ApplyPlan:
    """What re-applying the rules changes. The plan is empty, without a hash, if that is nothing."""
    changes, left = due(session, names)
    sentence = f"Re-apply the rules: {len(changes)} node(s) change, {len(left)} stay as they are."
    if not changes:
        return ApplyPlan(
            verb=APPLY, sentence=sentence, nodes=[], hash="", expires_in_seconds=0, left=left
        )
    made = plans.make(session, APPLY, sentence, _planned(session, changes))
    return ApplyPlan(**made.model_dump(), left=left)


def apply(session: Session, names: Sequence[str], given: str, who: str) -> list[Bmc]:
    """Put the nodes of the plan in their classes; the reconciler tells Ironic. Raises Conflict."""
    changes, _ = due(session, names)
    plans.use(session, APPLY, _planned(session, changes), given)
    for change in changes:
        bmc = change.bmc
        classify.put_in(bmc, change.document)
        bmc.class_said = False
        classify.judge(session, bmc)
        record(session, "node.class-changed", bmc.node, change.words, who=who, plan=given)
    return [c.bmc for c in changes]


def _planned(session: Session, changes: list[Change]) -> list[PlannedNode]:
    return [
        PlannedNode(
            uuid=str(c.bmc.node),
            name=c.bmc.node_name or "",
            serial=c.bmc.serial,
            generation=session.get_one(Hold, c.bmc.node).generation,
            disks=[],
            change=c.words,
        )
        for c in changes
    ]
