"""Boxes: what sweeps, leases, ramdisks, packing lists and imports saw, merged into one per server.

Computed on each read from the rows, never stored: a word that is corrected or forgotten leaves no
trace. Serial, system UUID and BMC MAC say that two words are of one server, and if such words
disagree in another of the three, that is the box's problem. A BMC's address and a NIC's MAC are
weaker, as addresses move and USB NICs share MACs: they join only what does not disagree.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, delete, select

from provisioning.errors import NotFound
from provisioning.identity import address_key, mac_key, serial_key, uuid_key
from provisioning.models import Bmc, Credential, Discovery
from provisioning.room import Observation, Rotation
from provisioning.store import record

SWEEP, RAMDISK, LIST, IMPORT, LEASE = "sweep", "ramdisk", "packing-list", "import", "lease"
ONE_BY_ONE = "one-by-one"
SEEN = frozenset({SWEEP, RAMDISK, LEASE, ONE_BY_ONE})
"""Sources that saw the server itself; the others only announce it."""
_PRIORITY = (SWEEP, RAMDISK, ONE_BY_ONE, LIST, IMPORT, LEASE)


@dataclass(frozen=True, slots=True)
class Word:
    """What one source said of one server. `id` is its row's; `node` is empty until accepted."""

    source: str
    id: UUID
    origin: str
    serial: str
    system_uuid: str
    bmc_mac: str
    bmc_address: str
    macs: tuple[str, ...]
    vendor: str
    model: str
    name: str
    node: str
    seen_at: datetime
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Box:
    """One server: its words, the strongest source first, and what is wrong with them."""

    words: tuple[Word, ...]
    problems: tuple[str, ...] = ()

    def first(self, name: str) -> Any:  # noqa: ANN401
        """The strongest source's word that is not empty."""
        return next((v for w in self.words if (v := getattr(w, name))), "")

    def meaningful(self, name: str, key: Callable[[str], str]) -> str:
        """The same, but no placeholder as long as somebody knows better."""
        said: list[str] = [getattr(w, name) for w in self.words]
        return next((s for s in said if key(s)), str(self.first(name)))

    @property
    def sources(self) -> list[str]:
        return list(dict.fromkeys(w.source for w in self.words))

    @property
    def macs(self) -> list[str]:
        return sorted({m for w in self.words for m in w.macs})

    @property
    def state(self) -> str:
        """accepted, observed, or expected: announced, but nobody saw it."""
        if self.first("node"):
            return "accepted"
        return "observed" if SEEN & set(self.sources) else "expected"

    @property
    def keys(self) -> set[str]:
        """Every word that a person may call it by, as `wanted` writes them."""
        return {k for w in self.words for k in _names(w)}


def boxes(session: Session) -> list[Box]:
    """Every server that anybody saw or announced, by its name or serial."""
    found = merged([*_swept(session), *_observed(session)])
    return sorted(found, key=lambda b: (b.first("bmc_address"), b.first("serial")))


def one(session: Session, name: str) -> Box:
    """The box with this serial, UUID, MAC, BMC address or node name. NotFound for none."""
    names = {name.casefold(), serial_key(name), uuid_key(name), mac_key(name), address_key(name)}
    found = [b for b in boxes(session) if b.keys & (names - {""})]
    if not found:
        raise NotFound(f"nobody saw or announced {name!r}", "See all: `seed observation list`.")
    return found[0]


def forget(session: Session, name: str, source: str | None, who: str) -> int:
    """Drop what was said of this server; what a sweep found stays: that is `seed bmc forget`."""
    box = one(session, name)
    doomed = [w for w in box.words if w.source != SWEEP and source in (None, w.source)]
    if not doomed:
        raise NotFound(
            f"{source or 'no other source than a sweep'} says nothing of {name!r}"
            if source
            else f"only a sweep found {name!r}",
            f"See who does: `seed observation show {name}`; or `seed bmc forget ADDRESS`.",
        )
    drop(session, [w.id for w in doomed])
    said = ", ".join(sorted({w.source for w in doomed}))
    record(session, "observation.forgotten", name, f"what {said} said", who=who)
    return len(doomed)


def drop(session: Session, rows: Sequence[UUID]) -> None:
    """Delete observations, and the logins they brought unless a BMC uses them."""
    for begin in range(0, len(rows), 5000):
        part = rows[begin : begin + 5000]
        mine = col(Observation.id).in_(part)
        logins = [c for c in session.exec(select(Observation.credential_id).where(mine)) if c]
        session.execute(delete(Observation).where(mine))
        used = _used(session, logins)
        session.execute(delete(Credential).where(col(Credential.id).in_(set(logins) - used)))


def _used(session: Session, logins: list[UUID]) -> set[UUID]:
    columns: tuple[Any, ...] = (
        Bmc.credential_id, Bmc.told_ironic, Discovery.credential_id, Rotation.candidate_id,
        Observation.credential_id,
    )  # fmt: skip
    return {c for column in columns for c in session.exec(select(column).where(column.in_(logins)))}


# --- words ----------------------------------------------------------------------------------------


def _swept(session: Session) -> Iterator[Word]:
    columns: tuple[Any, ...] = (
        Bmc.id, Bmc.serial, Bmc.system_uuid, Bmc.manager_mac, Bmc.address, Bmc.macs, Bmc.vendor,
        Bmc.model, Bmc.node_name, Bmc.seen_at,
    )  # fmt: skip
    for row in session.exec(select(*columns)):
        facts = dict(zip((c.key for c in columns), row, strict=True))
        name = facts.pop("node_name") or ""
        yield Word(
            source=SWEEP,
            origin="",
            bmc_mac=facts.pop("manager_mac"),
            bmc_address=facts.pop("address"),
            macs=tuple(facts.pop("macs")),
            name=name,
            node=name,
            **facts,
        )


def _observed(session: Session) -> Iterator[Word]:
    for row in session.exec(select(Observation)):
        yield Word(
            source=row.source,
            id=row.id,
            origin=row.origin,
            serial=row.serial,
            system_uuid=row.system_uuid,
            bmc_mac=row.bmc_mac,
            bmc_address=row.bmc_address,
            macs=tuple(row.macs),
            vendor=str(row.facts.get("vendor") or ""),
            model=str(row.facts.get("model") or ""),
            name=row.node_name,
            node="",
            seen_at=row.seen_at,
            facts=row.facts,
        )


def _names(word: Word) -> Iterator[str]:
    yield from (serial_key(word.serial), uuid_key(word.system_uuid), word.name.casefold())
    yield from (mac_key(word.bmc_mac), address_key(word.bmc_address), word.node.casefold())
    yield from word.macs


# --- merging --------------------------------------------------------------------------------------

IDENTITY: dict[str, Callable[[str], str]] = {
    "serial": serial_key, "system_uuid": uuid_key, "bmc_mac": mac_key,
}  # fmt: skip
_CALLED = {"serial": "serial number", "system_uuid": "system UUID", "bmc_mac": "BMC MAC"}


class _Groups:
    """Union-find over words, with what each group says of its identity."""

    def __init__(self, words: Sequence[Word]) -> None:
        self.words = words
        self.parent = list(range(len(words)))
        self.said = [
            {n: {k} if (k := key(getattr(w, n))) else set() for n, key in IDENTITY.items()}
            for w in words
        ]
        # A list names each of its servers once: two rows of one list are two servers.
        self.lists = [
            {(w.source, w.origin)} if w.source in (LIST, IMPORT) else set() for w in words
        ]

    def root(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def roots(self, members: Iterable[int]) -> list[int]:
        return sorted({self.root(i) for i in members})

    def join(self, roots: list[int]) -> None:
        first, *others = roots
        for other in others:
            self.parent[other] = first
            for name, keys in self.said[other].items():
                self.said[first][name] |= keys
            self.lists[first] |= self.lists[other]

    def agree(self, roots: list[int]) -> bool:
        return all(
            len(set().union(*(self.said[r][name] for r in roots))) <= 1 for name in IDENTITY
        ) and len(set().union(*(self.lists[r] for r in roots))) == sum(
            len(self.lists[r]) for r in roots
        )


def merged(words: Sequence[Word]) -> list[Box]:
    """One box per server. Linear in the number of words, but for the sorting."""
    groups = _Groups(words)
    for members in _sharing(words, _strong):
        groups.join(groups.roots(members))
    doubts: dict[int, list[str]] = defaultdict(list)
    for (what, value), members in sorted(_by_key(words, _weak).items()):
        roots = groups.roots(members)
        if len(roots) > 1 and groups.agree(roots):
            groups.join(roots)
        elif len(roots) > 1:
            told = f"{what} {value} is told of {len(roots)} servers"
            for root in roots:
                doubts[root].append(told)
    inside: dict[int, list[Word]] = defaultdict(list)
    for i, word in enumerate(words):
        inside[groups.root(i)].append(word)
    problems: dict[int, list[str]] = defaultdict(list)
    for root, told_of in doubts.items():
        problems[groups.root(root)] += told_of
    return [_box(found, problems[root]) for root, found in inside.items()]


def _box(words: list[Word], doubts: list[str]) -> Box:
    words.sort(key=lambda w: (_PRIORITY.index(w.source), w.origin, w.bmc_address))
    return Box(tuple(words), (*_contradictions(words), *doubts))


def _contradictions(words: list[Word]) -> Iterator[str]:
    for name, key in IDENTITY.items():
        said: dict[str, list[str]] = defaultdict(list)
        spelled: dict[str, str] = {}
        for word in words:
            if meant := key(getattr(word, name)):
                spelled.setdefault(meant, getattr(word, name))
                said[meant].append(" ".join(filter(None, (word.source, word.origin))))
        if len(said) > 1:
            told = "; ".join(f"{spelled[k]} ({', '.join(sorted(set(s)))})" for k, s in said.items())
            yield f"its {_CALLED[name]} differs: {told}"


def _strong(word: Word) -> Iterator[tuple[str, str]]:
    for name, key in IDENTITY.items():
        if meant := key(getattr(word, name)):
            yield name, meant


def _weak(word: Word) -> Iterator[tuple[str, str]]:
    if address := address_key(word.bmc_address):
        yield "BMC address", address
    for mac in {mac_key(m) for m in word.macs} - {""}:
        yield "NIC MAC", mac


def _by_key(
    words: Sequence[Word], keys: Callable[[Word], Iterator[tuple[str, str]]]
) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, word in enumerate(words):
        for key in keys(word):
            found[key].append(i)
    return found


def _sharing(
    words: Sequence[Word], keys: Callable[[Word], Iterator[tuple[str, str]]]
) -> Iterator[list[int]]:
    return (members for members in _by_key(words, keys).values() if len(members) > 1)
