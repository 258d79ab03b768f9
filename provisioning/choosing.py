"""Which nodes a claim may have, which it gets, and why it does not get the others.

Every rule is one line: whether it is broken, what people of the building are told, and what a
claimer is told, who must not learn of others' claims nor of BMCs. Rules that will hold at another
time (held, reserved, in maintenance) are told apart from those that never will (class, traits).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final
from uuid import UUID

from provisioning import disks, layouts, root_device
from provisioning.disks import GIB
from provisioning.hardware import Inventory
from provisioning.layouts import LayoutDoc, NodeNics
from provisioning.models import Claim
from provisioning.one_time import KeptDisk
from provisioning.pool import Candidate, Pool
from provisioning.states import BmcGoal

NOT_NOW: Final = "it is not in service at the moment"


@dataclass(frozen=True)
class Wish:
    """A claim, and when.

    begin, end: of the lease; None: open. now: it begins at once, so that the present counts.
    tail:       after its end: grace, undo window and cleaning, until its nodes are free again.
    kept:       nodes that claims ahead of it in the queue wait for.
    parts:      BMC -> what its server consists of; only where that decides (`looks_into`).
    layout, nics: how NICs are to be used, and BMC -> its server's NICs.
    kept_disks: node -> its disks that are never written.
    """

    claim: Claim
    begin: datetime
    end: datetime | None
    now: bool
    own: UUID | None = None
    tail: timedelta = timedelta(0)
    kept: frozenset[UUID] = frozenset()
    parts: Mapping[UUID, Inventory | None] = field(default_factory=dict)
    layout: LayoutDoc | None = None
    nics: Mapping[UUID, NodeNics] = field(default_factory=dict)
    kept_disks: Mapping[UUID, Sequence[KeptDisk]] = field(default_factory=dict)

    def looks_into(self, c: Candidate) -> bool:
        """Does it matter what this server consists of?"""
        return bool(self.must_know(c) or self.claim.min_disk_gib)

    def must_know(self, c: Candidate) -> bool:
        """Is a server that nobody looked into yet no answer?"""
        return self.asks_sizes or c.uuid in self.kept_disks

    @cached_property
    def asks_sizes(self) -> bool:
        claim = self.claim
        return bool(claim.cpus or claim.memory_gib or disks.needs_inventory(claim))

    @cached_property
    def rules(self) -> list["Rule"]:
        """Those it asks anything of: a thousand nodes are looked at for each wish."""
        claim = self.claim
        asked: dict[Rule, object] = {
            _named: claim.nodes, _words: claim.traits or claim.labels, _wires: self.layout,
            _place: claim.racks or claim.spread or claim.pack,
        }  # fmt: skip
        return [rule for rule in RULES if asked.get(rule, True)]

    @property
    def lasts(self) -> timedelta | None:
        return None if self.end is None else self.end - self.begin


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that keeps a node from a claim. lasting: waiting does not help."""

    why: str
    public: str
    lasting: bool = True


Rule = Callable[[Candidate, Wish], Iterable[Broken]]


def _enrolled(c: Candidate, w: Wish) -> Iterable[Broken]:
    if not c.known:
        yield Broken("Seed did not enroll it", NOT_NOW)
    elif c.goal is not BmcGoal.AVAILABLE:
        yield Broken("it was not provided", NOT_NOW)


def _class(c: Candidate, w: Wish) -> Iterable[Broken]:
    has = c.facts["resource_class"]
    if has != w.claim.resource_class:
        yield _same(f"its class is {has}")
    if c.becomes:
        yield Broken(f"its class becomes {c.becomes}", NOT_NOW, lasting=False)


def _words(c: Candidate, w: Wish) -> Iterable[Broken]:
    if missing := sorted(set(w.claim.traits) - set(c.facts.get("traits") or ())):
        yield _same(f"it has not the trait {', '.join(missing)}")
    for key, value in sorted(w.claim.labels.items()):
        if c.labels.get(key) != value:
            has = c.labels.get(key)
            yield _same(f"its label {key} is {has}" if has else f"it has no label {key}")


def _named(c: Candidate, w: Wish) -> Iterable[Broken]:
    if w.claim.nodes and not {c.name, str(c.uuid)} & set(w.claim.nodes):
        yield _same("it is not one of the nodes that were named")


def _place(c: Candidate, w: Wish) -> Iterable[Broken]:
    if w.claim.racks and not any(c.place.is_in(rack) for rack in w.claim.racks):
        yield _same(f"it is in rack {c.place.where}" if c.place.rack else NOT_PLANNED)
    apart = DOMAINS[w.claim.spread](c) if w.claim.spread else None
    if apart is not None and not apart:
        yield _same(f"nobody planned which {w.claim.spread} it is on")
    if w.claim.pack and not c.place.rack:
        yield _same(NOT_PLANNED)


NOT_PLANNED: Final = "the rack plan does not have it"


def _sizes(c: Candidate, w: Wish) -> Iterable[Broken]:
    if c.bmc_id is None or not w.looks_into(c):
        return
    seen = w.parts.get(c.bmc_id)
    if seen is None:
        if w.must_know(c):
            yield _same("nobody told yet what it consists of")
        return
    if seen.cpu_threads < w.claim.cpus:
        yield _same(f"it has {seen.cpu_threads} CPU threads of {w.claim.cpus}")
    if -(-seen.memory_mib // 1024) < w.claim.memory_gib:
        yield _same(f"it has {-(-seen.memory_mib // 1024)} GiB of memory of {w.claim.memory_gib}")
    yield from _disks(c, seen, w)


def _disks(c: Candidate, seen: Inventory, w: Wish) -> Iterable[Broken]:
    kept = w.kept_disks.get(c.uuid, ())
    if disks.others(kept, w.claim.project):
        yield Broken("it keeps disks with another project's data", NOT_NOW, lasting=False)
    elif gone := disks.vanished(seen, kept):
        yield Broken(gone[0], NOT_NOW, lasting=False)
    elif w.must_know(c) or (seen.drives and not _is_plain(seen, w)):
        yield from map(_same, disks.lacks(w.claim, seen, kept))


def _is_plain(seen: Inventory, w: Wish) -> bool:
    """Does it fit at a glance? Each disk has a name, and one is large enough."""
    least = max(w.claim.min_disk_gib, root_device.SMALLEST_GIB) * GIB
    large = any(d.size_bytes >= least for d in seen.drives)
    return large and all(d.serial or d.wwn for d in seen.drives)


def _wires(c: Candidate, w: Wish) -> Iterable[Broken]:
    if w.layout is None or c.bmc_id is None:
        return
    nics = w.nics.get(c.bmc_id)
    if nics is None:
        yield _same("nobody told yet which NICs it has")
    else:
        yield from map(_same, layouts.lacks(w.layout, nics))


def _others(c: Candidate, w: Wish) -> Iterable[Broken]:
    """Held or reserved by others, for any part of the time asked for."""
    if w.now and c.claim_id is not None and c.claim_id != w.own:
        yield Broken("it is held by another claim", "another claim has it", lasting=False)
    elif not free_at(c, w, w.begin):
        yield Broken("it is reserved by another claim", "another claim has it", lasting=False)
    elif c.undoable and c.claim_id != w.own:
        yield Broken("its claim can still be taken back", "another claim has it", lasting=False)
    if c.uuid in w.kept:
        yield Broken(
            "it is kept for claims that wait longer", "claims that wait longer get it first",
            lasting=False,
        )  # fmt: skip


def _present(c: Candidate, w: Wish) -> Iterable[Broken]:
    if w.now and c.claim_id is None and c.facts["provision_state"] != "available":
        state = c.facts["provision_state"]
        yield Broken(f"it is {state}", NOT_NOW, lasting=False)
    if w.now and c.moving:
        yield Broken("its BMC's login is being changed", NOT_NOW, lasting=False)
    if w.now and c.refused:
        yield Broken("Ironic refused to lock it a moment ago", NOT_NOW, lasting=False)
    if c.facts["maintenance"]:
        yield Broken("it is in maintenance", NOT_NOW, lasting=False)
    if c.problem:
        yield Broken(f"it is stuck: {c.problem}", NOT_NOW, lasting=False)
    if c.misfit:
        yield Broken(f"it is not as its class says: {'; '.join(c.misfit)}", NOT_NOW, lasting=False)


RULES: Final[tuple[Rule, ...]] = (
    _enrolled, _class, _named, _words, _place, _sizes, _wires, _others, _present,
)  # fmt: skip

DOMAINS: Final[Mapping[str, Callable[[Candidate], frozenset[str]]]] = {
    "rack": lambda c: frozenset({c.place.where} if c.place.rack else ()),
    "feed": lambda c: frozenset(f.strip() for f in c.place.feed.split("+") if f.strip()),
    "switch": lambda c: c.place.switches,
}


def _same(why: str) -> Broken:
    return Broken(why, why)


def broken(c: Candidate, w: Wish) -> list[Broken]:
    """Every rule that keeps this node from this claim."""
    return [b for rule in w.rules for b in rule(c, w)]


# --- time ---------------------------------------------------------------------------------------


def free_at(c: Candidate, w: Wish, begin: datetime) -> bool:
    """Is it free from `begin` on, as long as the claim lasts? Its own bookings do not count."""
    end = None if w.lasts is None else begin + w.lasts + w.tail
    return not any(
        owner != w.own and (end is None or start < end) and (stop is None or stop > begin)
        for start, stop, owner in c.busy
    )


def earliest(c: Candidate, w: Wish, after: datetime) -> datetime | None:
    """From when on it is free for as long as the claim lasts; None: nobody knows."""
    times = sorted({after, *(stop for _, stop, _owner in c.busy if stop and stop > after)})
    return next((t for t in times if free_at(c, w, t)), None)


def nearest_time(
    pool: Pool, w: Wish, rejected: Mapping[UUID, list[Broken]] | None = None
) -> datetime | None:
    """When the whole gang could begin, if nobody else comes; None: nobody knows.

    rejected: as choose() told it, where it was asked already.
    """
    rules = choose(pool, w).rejected if rejected is None else rejected
    fitting = [c for c in pool.candidates if not any(b.lasting for b in rules.get(c.uuid, ()))]
    begin = max(w.begin, pool.at)
    froms = {c.uuid: earliest(c, w, begin) for c in fitting}
    times = sorted({t for t in froms.values() if t})
    for t in times[_enough(froms.values(), w.claim.count) :][:LOOKS]:
        if len(seat(w.claim, [c for c in fitting if free_at(c, w, t)])) == w.claim.count:
            return t
    return None


LOOKS: Final = 200


def _enough(froms: Iterable[datetime | None], count: int) -> int:
    """Before the `count`-th node is free nobody needs to look: the index of its time."""
    known = sorted(t for t in froms if t)
    if len(known) < count:
        return len(known)
    return sorted(set(known)).index(known[count - 1])


# --- together -----------------------------------------------------------------------------------


def as_if_taken(pool: Pool, w: Wish, at: datetime, owner: UUID) -> Pool:
    """The pool as it will be once this wish has its nodes from `at` on."""
    fitting = [
        c for c in pool.candidates if free_at(c, w, at) and not any(b.lasting for b in broken(c, w))
    ]
    gone = {c.uuid for c in seat(w.claim, fitting)}
    span = (at, None if w.lasts is None else at + w.lasts + w.tail, owner)
    return replace(
        pool,
        candidates=tuple(
            replace(c, busy=(*c.busy, span)) if c.uuid in gone else c for c in pool.candidates
        ),
    )


def seat(claim: Claim, fitting: list[Candidate], own: UUID | None = None) -> list[Candidate]:
    """The nodes it gets, at most `count`: its own bookings, then those that nobody booked."""
    order = sorted(fitting, key=lambda c: (own not in c.booked, bool(c.booked), c.name))
    if claim.pack:
        return _packed(claim, order)
    if claim.spread:
        return _spread(claim, order)
    return order[: claim.count]


def _packed(claim: Claim, order: list[Candidate]) -> list[Candidate]:
    """The fullest rack that is enough, so that larger gaps stay whole."""
    racks: dict[str, list[Candidate]] = defaultdict(list)
    for c in order:
        racks[c.place.where].append(c)
    enough = [r for r in racks.values() if len(_spread_if(claim, r)) >= claim.count]
    best = min(enough, key=len) if enough else max(racks.values(), key=len, default=[])
    return _spread_if(claim, best)[: claim.count]


def _spread_if(claim: Claim, order: list[Candidate]) -> list[Candidate]:
    return _spread(claim, order) if claim.spread else order


def _spread(claim: Claim, order: list[Candidate]) -> list[Candidate]:
    """No two on one domain. Exact where each node is on one; those on several come last."""
    domain = DOMAINS[claim.spread]
    used: set[str] = set()
    chosen: list[Candidate] = []
    for c in sorted(order, key=lambda c: len(domain(c))):
        if not domain(c) & used:
            chosen.append(c)
            used |= domain(c)
    return chosen[: claim.count]


@dataclass(frozen=True)
class Choice:
    """chosen: fewer than asked for means that it cannot be had."""

    chosen: list[Candidate]
    rejected: dict[UUID, list[Broken]]
    fitting: int


def choose(pool: Pool, w: Wish) -> Choice:
    """Look at every node once."""
    rejected = {c.uuid: rules for c in pool.candidates if (rules := broken(c, w))}
    fitting = [c for c in pool.candidates if c.uuid not in rejected]
    return Choice(seat(w.claim, fitting, w.own), rejected, len(fitting))


def kept_for(pool: Pool, ahead: Iterable[Claim], wish: Callable[[Claim], Wish]) -> frozenset[UUID]:
    """The free nodes that claims ahead in the queue wait for: they do not overtake each other."""
    kept: frozenset[UUID] = frozenset()
    for claim in ahead:
        w = wish(claim)
        fitting = [c for c in pool.candidates if c.uuid not in kept and not broken(c, w)]
        kept |= {c.uuid for c in seat(claim, fitting, w.own)}
    return kept


def kept_later(
    pool: Pool, ahead: Iterable[Claim], wish: Callable[[Claim], Wish], later: Wish
) -> frozenset[UUID]:
    """Nodes that `later` would take in the time that claims ahead of it will probably have them."""
    after = pool
    for claim in ahead:
        w = wish(claim)
        at = nearest_time(after, w)
        if at is not None:
            after = as_if_taken(after, w, at, claim.id)
    return frozenset(
        c.uuid
        for c, before in zip(after.candidates, pool.candidates, strict=True)
        if free_at(before, later, later.begin) and not free_at(c, later, later.begin)
    )
