"""Events hold the digest of the one before: who changes or removes one breaks all that follow.

The digest of a row is SHA-256, in hex, over the canonical JSON of all its other columns, `previous`
among them. Canonical is what `json.dumps(row, sort_keys=True, separators=(",", ":"))` gives: keys
in the order of their code points, no space, ASCII only. Times are `2026-11-28T09:05:00.000123Z`.
`previous` is the digest of the row before; empty in the first one. docs/events.md says it for those
who check it elsewhere.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlmodel import Session, col, select

from provisioning.errors import Invalid
from provisioning.models import Event

PAGE = 2000
COLUMNS: tuple[Any, ...] = (
    Event.id, Event.at, Event.kind, Event.subject, Event.project, Event.who, Event.why,
    Event.plan, Event.request_id, Event.message, Event.data, Event.previous, Event.hash,
)  # fmt: skip
NAMES = tuple(column.key for column in COLUMNS)

Reading = Callable[[], AbstractContextManager[Session]]


@dataclass(frozen=True)
class Head:
    """The last event of a chain. Kept elsewhere, it shows later that none was cut off."""

    id: int
    hash: str

    def __str__(self) -> str:
        return f"{self.id}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> "Head":
        """From `ID:HASH`. Raises Invalid."""
        number, _, digest = text.partition(":")
        plain = number.isascii() and number.isdigit() and len(number) < 19
        if not plain or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise Invalid(
                f"{text!r} is no head of the chain",
                "Give one as `seed event verify` prints it: the event's number, a colon, its hash.",
            )
        return cls(int(number), digest)


@dataclass(frozen=True)
class Verdict:
    """What a walk along the chain found.

    events:    how many are chained and were checked, up to the first that is wrong.
    unchained: how many are older than the chain: nothing protects them.
    broken:    the number of the first wrong row; 0: none. why: what is wrong with it.
    """

    events: int
    unchained: int
    head: Head | None
    broken: int = 0
    why: str = ""


def in_words(at: datetime) -> str:
    """A time as it is digested, and as the API shows it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def digest(row: dict[str, Any]) -> str:
    """Of a row's columns by name; `hash` itself is left out, `at` may be a time or its text."""
    told = {name: value for name, value in row.items() if name != "hash"}
    if isinstance(told["at"], datetime):
        told["at"] = in_words(told["at"])
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def link(session: Session) -> None:
    """Number and chain the events that this session is about to write, in the order of adding.

    Needs the write lock: nobody else appends meanwhile.
    """
    rows = [row for row in session.new if isinstance(row, Event)]
    if not rows:
        return
    newest = select(Event.id, Event.hash).order_by(col(Event.id).desc()).limit(1)
    last = session.connection().execute(newest).first()
    number, previous = (last[0], last[1]) if last else (0, "")
    for row in rows:
        number += 1
        row.id, row.previous = number, previous
        row.data = json.loads(json.dumps(row.data))  # as it will be read back
        previous = row.hash = digest({name: getattr(row, name) for name in NAMES})


def verify(read: Reading, head: Head | None = None) -> Verdict:
    """Walk all events, oldest first. head: one that was kept elsewhere, and must still be there."""
    walk = _Walk(head)
    for row in _rows(read):
        walk.look(row)
        if walk.why:
            return Verdict(walk.events, walk.unchained, walk.last, row["id"], walk.why)
    if head and not walk.met:
        why = f"the chain ends before it: event {head.id} is not there any more"
        return Verdict(walk.events, walk.unchained, walk.last, head.id, why)
    return Verdict(walk.events, walk.unchained, walk.last)


def _rows(read: Reading) -> Iterator[dict[str, Any]]:
    """Page by page, each in a session of its own: no long reader holds SQLite's log back."""
    after = -(2**63)
    while True:
        query = select(*COLUMNS).where(col(Event.id) > after).order_by(col(Event.id)).limit(PAGE)
        with read() as session:
            page: Iterable[Any] = session.exec(query).all()
        found = [dict(zip(NAMES, row, strict=True)) for row in page]
        yield from found
        if len(found) < PAGE:
            return
        after = found[-1]["id"]


class _Walk:
    def __init__(self, wanted: Head | None) -> None:
        self.events = self.unchained = 0
        self.last: Head | None = None
        self.why, self.met = "", False
        self._wanted = wanted

    def look(self, row: dict[str, Any]) -> None:
        if not row["hash"] and self.last is None:
            self.unchained += 1
            return
        self.why = self._wrong(row)
        if not self.why:
            self.events += 1
            self.last = Head(row["id"], row["hash"])

    def _wrong(self, row: dict[str, Any]) -> str:
        previous = self.last.hash if self.last else ""
        if row["previous"] != previous:
            return "it does not follow the one before: a row was removed, put in or changed"
        if row["hash"] != digest(row):
            return "it was changed after it was written"
        if self._wanted and row["id"] == self._wanted.id:
            self.met = True
            if row["hash"] != self._wanted.hash:
                return "it is another one than the head you gave: all was written anew"
        return ""
