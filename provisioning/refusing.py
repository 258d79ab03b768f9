"""Why a claim is refused, and when it could be had: for people, and for claimers who see less."""

import time
from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from provisioning import choosing
from provisioning.choosing import Broken, Choice, Wish
from provisioning.errors import NoCapacity
from provisioning.models import Claim
from provisioning.pool import Candidate, Pool
from provisioning.states import BmcGoal

NEAREST: Final = 5
AS_NEW: Final = 5.0
"""Seconds; what only the clock changes is told anew after that."""
MOST_KEPT: Final = 100


class Refusals:
    """What was just refused, to be refused again without a look: hundreds ask for the same at once.

    As long as nobody wrote anything (version: as Store.version() says it), and AS_NEW seconds. key:
    all that the answer depends on but the claim's name.
    """

    def __init__(self) -> None:
        self._told: dict[object, tuple[int, float, str, NoCapacity]] = {}
        self._version = -1

    def again(self, key: object, version: int, name: str) -> NoCapacity | None:
        """One of its own for each: who raises it adds its traceback."""
        kept = self._told.get(key)
        if kept is None or kept[0] != version or time.monotonic() - kept[1] >= AS_NEW:
            return None
        _, _, sentence, told = kept
        return NoCapacity(
            f"claim {name}{sentence}", told.remedy, told.reasons, told.free_at, told.nearest
        )

    def keep(self, key: object, version: int, name: str, told: NoCapacity) -> None:
        """version: from before the look. `told` itself is raised, and its traceback would keep the
        whole look; what was told of other versions is of no more use."""
        if len(self._told) >= MOST_KEPT or version != self._version:
            self._told, self._version = {}, version
        sentence = str(told).removeprefix(f"claim {name}")
        same = NoCapacity("", told.remedy, told.reasons, told.free_at, told.nearest)
        self._told[key] = (version, time.monotonic(), sentence, same)


def could_ever(seen: Pool, w: Wish, count: int) -> bool:
    """Is it worth waiting: would it fit if all nodes were free?"""
    fitting = [c for c in seen.candidates if not any(b.lasting for b in choosing.broken(c, w))]
    return len(choosing.seat(w.claim, fitting)) >= count


def refusal(seen: Pool, w: Wish, choice: Choice, project: str, insider: bool) -> NoCapacity:
    """Which rule rejected each node, what is nearest, and when it could be had."""
    visible = {c.uuid: c for c in seen.candidates if is_visible(c, project, insider)}
    rejected = {u: rules for u, rules in choice.rejected.items() if u in visible}
    reasons = {visible[u].name: _said(rules[0], insider) for u, rules in rejected.items()}
    fewest = sorted(rejected.items(), key=lambda item: (len(item[1]), visible[item[0]].name))
    claim = w.claim
    return NoCapacity(
        f"claim {claim.name} wants {claim.count} of class {claim.resource_class}"
        f"{_apart(claim)}, free are {len(choice.chosen) if _apart(claim) else choice.fitting}"
        f"{_other_classes(claim, seen, visible)}",
        _remedy(seen, choice, claim.count),
        reasons,
        choosing.nearest_time(seen, w, choice.rejected),
        {visible[u].name: whys(rules, insider) for u, rules in fewest[:NEAREST]},
    )


def _remedy(seen: Pool, choice: Choice, count: int) -> str:
    """Waiting is a cure only where enough nodes would fit once they are free."""
    lasting = sum(any(b.lasting for b in rules) for rules in choice.rejected.values())
    if len(seen.candidates) - lasting < count:
        return "Ask for another class, or less; node by node: `seed claim explain`."
    return "Ask for fewer, wait in the queue (--queue), or see why: `seed claim explain`."


def _apart(claim: Claim) -> str:
    together = f" in one {claim.pack}" if claim.pack else ""
    apart = {"switch": "switches"}.get(claim.spread, f"{claim.spread}s")
    return f"{together} on different {apart}" if claim.spread else together


def is_visible(c: Candidate, project: str, insider: bool) -> bool:
    """A claimer sees what is in the pool, and its own: nothing of others' claims."""
    mine = (c.claim_id is None or c.project == project) and c.bookers <= {project}
    return insider or (c.goal is BmcGoal.AVAILABLE and c.known and mine)


def whys(rules: Iterable[Broken], insider: bool) -> list[str]:
    return list(dict.fromkeys(_said(b, insider) for b in rules))


def _said(b: Broken, insider: bool) -> str:
    return b.why if insider else b.public


def _other_classes(claim: Claim, seen: Pool, visible: dict[UUID, Candidate]) -> str:
    """Most wrong classes are typing errors: say which there are."""
    classes = sorted({c.facts["resource_class"] for c in visible.values()} - {""})
    if claim.resource_class in classes:
        return ""
    return f"; the classes are: {', '.join(classes)}" if classes else "; there are no nodes at all"


def expected(seen: Pool, queue: Iterable[tuple[UUID, Wish]]) -> dict[UUID, datetime | None]:
    """Go through the queue as if nobody else came and every lease ended in time."""
    found: dict[UUID, datetime | None] = {}
    for identity, w in queue:
        at = choosing.nearest_time(seen, w)
        found[identity] = at
        if at is not None:
            seen = choosing.as_if_taken(seen, w, at, identity)
    return found
