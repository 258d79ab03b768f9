"""GET /v1/nodes: choosing, sorting and paging over the nodes in memory; pages are kept as bytes."""

import base64
import binascii
import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from provisioning.errors import Invalid
from provisioning.snapshot import Row, Snapshot


class NodeOut(BaseModel):
    """One node: what Ironic says now, and why it waits if it does.

    seen_at, age_seconds: when Ironic last said so, and how long ago that is.
    """

    uuid: UUID
    name: str
    bmc: str
    protocol: str
    firmware: str
    serial: str
    resource_class: str
    provision_state: str
    power_state: str
    maintenance: bool
    claim: str
    address: str
    macs: list[str]
    detail: str
    problem: str
    remedy: str
    last_error: str
    waiting_since: datetime | None = None
    evidence: str = ""
    hardware_class: str = ""
    misfit: list[str] = []
    drift: list[str] = []
    findings: list[str] = []
    labels: dict[str, str] = {}
    traits: list[str] = []
    project: str = ""
    site: str = ""
    row: str = ""
    rack: str = ""
    unit: int | None = None
    feed: str = ""
    seen_at: datetime | None = None
    age_seconds: int | None = None


_OPTIONAL: dict[str, Any] = {name: (f.annotation, None) for name, f in NodeOut.model_fields.items()}
NodeLine: Any = create_model("NodeLine", **_OPTIONAL)
"""One node of a list: all fields, or those that were asked for."""


Sort = Literal[
    "name", "-name", "resource_class", "-resource_class", "hardware_class", "-hardware_class",
    "provision_state", "-provision_state", "power_state", "-power_state", "rack", "-rack",
    "claim", "-claim", "project", "-project", "bmc", "-bmc", "serial", "-serial",
]  # fmt: skip
MAX_LIMIT: Final = 1000
KEPT_PAGES: Final = 500
FIELDS: Final = frozenset(NodeOut.model_fields)
Word = Annotated[str, StringConstraints(max_length=255)]
_ONE: Final = f" *({'|'.join(sorted(FIELDS))}) *"
_NAMES: Final = Field(json_schema_extra={"pattern": f"^({_ONE}(,{_ONE})*)?$"})  # _fields says more


class ListAsk(BaseModel):
    """Which nodes, in which order, how many and which fields of them.

    label:  "key=value", or "key" for any value; a node must have every one.
    held:   by a claim, or by none.
    sort:   a field's name, with "-" before it for the last one first. The name decides among
            equals.
    cursor: from the `Link: <...>; rel="next"` of the page before.
    fields: names, with commas between; none: all of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Word | None = None
    resource_class: Word | None = None
    hardware_class: Word | None = None
    provision_state: Word | None = None
    rack: Word | None = None
    claim: Word | None = None
    project: Word | None = None
    label: Annotated[tuple[Word, ...], Field(max_length=20)] = ()
    held: bool | None = None
    sort: Sort = "name"
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = MAX_LIMIT
    cursor: Annotated[str, StringConstraints(max_length=1000)] = ""
    fields: Annotated[str, StringConstraints(max_length=1000), _NAMES] = ""

    @property
    def chooses(self) -> tuple[Any, ...]:
        """What decides which rows there are, and in which order."""
        told = self.model_dump(exclude={"limit", "cursor", "fields", "sort"})
        return (self.sort.removeprefix("-"), *told.values())


WORDS: Final = (
    "name", "resource_class", "hardware_class", "provision_state", "rack", "claim", "project",
)  # fmt: skip


class Pages:
    """Of one process; used by its event loop alone."""

    def __init__(self) -> None:
        self._version = -1
        self._chosen: dict[tuple[Any, ...], _Chosen] = {}
        self._made: dict[ListAsk, tuple[int, bytes, str]] = {}
        self._bodies: dict[str, tuple[Row, bytes]] = {}

    def page(self, snapshot: Snapshot, ask: ListAsk, now: datetime) -> tuple[bytes, str]:
        """(a JSON array, the query of the next page or ""). Raises Invalid."""
        if snapshot.version != self._version:
            self._version = snapshot.version
            self._chosen.clear()
            self._made.clear()
        second = int(now.timestamp())  # ages rise each second
        made = self._made.get(ask)
        if made and made[0] == second:
            return made[1:]
        if len(self._made) >= KEPT_PAGES:
            self._made.clear()
        body, after = self._make(snapshot, ask, now)
        self._made[ask] = (second, body, after)
        return body, after

    def _make(self, snapshot: Snapshot, ask: ListAsk, now: datetime) -> tuple[bytes, str]:
        fields = _fields(ask.fields)
        chosen = self._chosen.get(ask.chooses)
        if chosen is None:
            if len(self._chosen) >= KEPT_PAGES:
                self._chosen.clear()
            chosen = self._chosen[ask.chooses] = _Chosen(snapshot, ask)
        rows, more = chosen.after(ask)
        body = b",".join(self._body(snapshot, row, fields, now) for row in rows)
        return b"[" + body + b"]", _next(ask, rows[-1]) if more else ""

    def _body(
        self, snapshot: Snapshot, row: Row, fields: frozenset[str] | None, now: datetime
    ) -> bytes:
        if fields is not None:
            facts = row.facts | moving(snapshot, row, now)
            return orjson.dumps({name: facts[name] for name in facts if name in fields})
        kept = self._bodies.get(row.name)
        if kept is None or kept[0] is not row:
            kept = self._bodies[row.name] = (row, orjson.dumps(row.facts)[:-1])
        return kept[1] + b"," + orjson.dumps(moving(snapshot, row, now))[1:]


class _Chosen:
    """The rows that a filter leaves, in order."""

    def __init__(self, snapshot: Snapshot, ask: ListAsk) -> None:
        rules = _rules(ask)
        field = ask.sort.removeprefix("-")
        found = [row for row in snapshot.rows if all(rule(row.facts) for rule in rules)]
        self._rows = sorted(found, key=lambda row: _key(row, field))
        self._keys = [_key(row, field) for row in self._rows]

    def after(self, ask: ListAsk) -> tuple[list[Row], bool]:
        """(one page, is there another)."""
        at = _cursor(ask)
        if ask.sort.startswith("-"):
            end = bisect_left(self._keys, at) if at else len(self._rows)
            begin = max(0, end - ask.limit)
            return self._rows[begin:end][::-1], begin > 0
        begin = bisect_right(self._keys, at) if at else 0
        end = begin + ask.limit
        return self._rows[begin:end], end < len(self._rows)


def _key(row: Row, field: str) -> tuple[str, str]:
    return str(row.facts[field]), row.name


def _rules(ask: ListAsk) -> list[Callable[[dict[str, Any]], bool]]:
    rules: list[Callable[[dict[str, Any]], bool]] = []
    for word in WORDS:
        wanted = getattr(ask, word)
        if wanted is not None:
            rules.append(lambda facts, word=word, wanted=wanted: facts[word] == wanted)  # type: ignore[misc]
    if ask.held is not None:
        rules.append(lambda facts: bool(facts["claim"]) is ask.held)
    for label in ask.label:
        key, equals, value = label.partition("=")
        rules.append(
            (lambda facts, k=key, v=value: facts["labels"].get(k) == v)  # type: ignore[misc]
            if equals
            else (lambda facts, k=key: k in facts["labels"])  # type: ignore[misc]
        )
    return rules


def moving(snapshot: Snapshot, row: Row, now: datetime) -> dict[str, Any]:
    """What changes by itself as time goes by."""
    seen = snapshot.seen_at(row)
    told: dict[str, Any] = {"waiting_since": row.opened_at, "evidence": ""}
    if row.opened_at:
        told["evidence"] = row.waits_for.replace("{age}", f"{_seconds(row.opened_at, now):.0f}")
    age = None if seen is None else round(max(0.0, _seconds(seen, now)))
    return told | {"seen_at": seen, "age_seconds": age}


def _seconds(since: datetime, now: datetime) -> float:
    return (now - since).total_seconds()


def _fields(asked: str) -> frozenset[str] | None:
    if not asked:
        return None
    names = frozenset(name.strip() for name in asked.split(","))
    strange = sorted(names - FIELDS)
    if strange:
        raise Invalid(
            f"a node has no field {strange[0][:80]!r}", f"Choose from: {', '.join(sorted(FIELDS))}."
        )
    return names


def _next(ask: ListAsk, last: Row) -> str:
    told = [ask.sort, *_key(last, ask.sort.removeprefix("-"))]
    cursor = base64.urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")
    rest = ask.model_dump(exclude_defaults=True, mode="json") | {"cursor": cursor}
    return urlencode(rest, doseq=True)


def _cursor(ask: ListAsk) -> tuple[str, str] | None:
    """Behind which key the page begins. Raises Invalid for what is no cursor of this list."""
    if not ask.cursor:
        return None
    try:
        padded = ask.cursor + "=" * (-len(ask.cursor) % 4)
        sort, value, name = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError, RecursionError):
        sort = value = name = None
    if sort != ask.sort or not isinstance(value, str) or not isinstance(name, str):
        raise Invalid(
            "this cursor is of no list with this order",
            "Take it from the Link header of the page before, or begin without one.",
        )
    return value, name
