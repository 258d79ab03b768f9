"""Lists as people ask for them: filtered, sorted, page by page, and only some of the fields.

One place for every noun: routes answer whole lists, in their own order, of what the caller may
see. A route that has an argument `limit` of its own pages by itself and is left alone.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

from provisioning.errors import Invalid

MAX_LIMIT: Final = 1000
RESERVED: Final = frozenset({"limit", "cursor", "sort", "fields"})
LONGEST: Final = 255
_IDS = ("id", "uuid", "name", "address")

Row = dict[str, Any]


@dataclass(frozen=True)
class Wish:
    """What the query of a request asks for."""

    filters: dict[str, list[str]]
    sort: tuple[str, ...]
    fields: tuple[str, ...]
    limit: int
    cursor: str
    query: tuple[tuple[str, str], ...]

    @property
    def scope(self) -> str:
        """What a cursor is good for: any page of the same question."""
        same = sorted(pair for pair in self.query if pair[0] not in ("cursor", "limit", "fields"))
        return urlencode(same)


def read(query: str, known: Iterable[str], declared: Iterable[str], *, many: bool) -> Wish:
    """Raises Invalid for what the noun does not have, names what it has.

    known: the noun's fields. declared: arguments that the route reads itself.
    """
    known, declared = sorted(known), frozenset(declared)
    pairs = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] not in declared]
    _check_names(pairs, known, many=many)
    single = {name: _single(pairs, name) for name in RESERVED}
    return Wish(
        filters=_filters(pairs),
        sort=_names(single["sort"], known, "sort"),
        fields=_names(single["fields"], known, "fields"),
        limit=_limit(single["limit"]),
        cursor=single["cursor"] or "",
        query=tuple(parse_qsl(query, keep_blank_values=True)),
    )


def _check_names(pairs: list[tuple[str, str]], known: list[str], *, many: bool) -> None:
    allowed = {*known, *RESERVED} if many else {"fields"}
    for name, value in pairs:
        if name not in allowed:
            raise Invalid(
                f"query: there is no {name[:80]!r} to ask for here",
                f"What there is: {', '.join(sorted(allowed))}.",
            )
        if len(value) > LONGEST and name != "fields":
            raise Invalid(f"{name}: longer than {LONGEST} characters", "Ask for less at once.")
        if "\0" in value:
            raise Invalid(f"{name}: a NUL character is in it", "Leave the NUL out.")


def _single(pairs: list[tuple[str, str]], name: str) -> str | None:
    values = [value for key, value in pairs if key == name]
    if len(values) > 1:
        raise Invalid(f"{name}: it is there {len(values)} times", f"Say {name} once.")
    return values[0] if values else None


def _filters(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in RESERVED:
            found.setdefault(name, []).append(value)
    return found


def _names(value: str | None, known: list[str], what: str) -> tuple[str, ...]:
    names = tuple(value.split(",")) if value is not None else ()
    for name in names:
        if name.removeprefix("-" if what == "sort" else "") not in known:
            raise Invalid(
                f"{what}: there is no field {name[:80]!r}", f"The fields: {', '.join(known)}."
            )
    return names


def _limit(value: str | None) -> int:
    if value is None:
        return MAX_LIMIT
    if not (value.isascii() and value.isdecimal() and 1 <= int(value[:9]) <= MAX_LIMIT):
        raise Invalid(f"limit: not a number from 1 to {MAX_LIMIT}", "Ask for limit=100.")
    return int(value)


def page(rows: list[Row], wish: Wish, path: str) -> tuple[list[Row], str]:
    """(the rows of this page, the Link header to the next one or empty)."""
    rows = [row for row in rows if _fits(row, wish.filters)]
    for name in reversed(wish.sort):
        rows.sort(key=_order(name.removeprefix("-")), reverse=name.startswith("-"))
    mark = _mark(rows)
    begin = _after(rows, mark, wish, path) if wish.cursor else 0
    found = rows[begin : begin + wish.limit]
    end = begin + len(found)
    if end >= len(rows) or not found:
        return found, ""
    cursor = _cursor(mark(found[-1]), end, wish, path)
    rest = [pair for pair in wish.query if pair[0] != "cursor"]
    return found, f'<{quote(path)}?{urlencode([*rest, ("cursor", cursor)])}>; rel="next"'


def only(row: Row, fields: tuple[str, ...]) -> Row:
    return {name: row[name] for name in fields if name in row}


def _fits(row: Row, filters: dict[str, list[str]]) -> bool:
    return all(_told(row.get(name)) & set(values) for name, values in filters.items())


def _told(value: Any) -> set[str]:  # noqa: ANN401
    """A field's value as a query says it; of a list, each of its items."""
    match value:
        case None:
            return {""}
        case bool():
            return {"true" if value else "false"}
        case list():
            return {text for item in value for text in _told(item)}
        case dict():
            return {f"{key}={inner}" for key, inner in value.items()}
        case _:
            return {str(value)}


def _order(name: str) -> Callable[[Row], tuple[int, float, str]]:
    """Nothing first, then numbers, then words; ends and lists by their JSON."""

    def key(row: Row) -> tuple[int, float, str]:
        match row.get(name):
            case None:
                return 0, 0.0, ""
            case bool() | int() | float() as number:
                return 1, float(number), ""
            case str() as word:
                return 2, 0.0, word
            case other:
                return 3, 0.0, json.dumps(other, sort_keys=True)

    return key


def _mark(rows: list[Row]) -> Callable[[Row], str]:
    """How a row is found again: by a field that no two share, else by all that it says."""
    for name in _IDS:
        values = {str(row[name]) for row in rows if row.get(name)}
        if rows and len(values) == len(rows):
            return lambda row: _digest(str(row.get(name)))
    return lambda row: _digest(json.dumps(row, sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _cursor(mark: str, end: int, wish: Wish, path: str) -> str:
    said = f"{mark}.{end}"
    return base64.urlsafe_b64encode(f"{said}.{_check(said, wish, path)}".encode()).decode()


def _check(said: str, wish: Wish, path: str) -> str:
    """No secret: a cursor opens nothing, it only must not be mistaken for another's."""
    return _digest(f"{said}\n{path}\n{wish.scope}")


def _after(rows: list[Row], mark: Callable[[Row], str], wish: Wish, path: str) -> int:
    """Where the next page begins: after the last row that was shown, wherever it is by now."""
    try:
        said, _, check = (
            base64.b64decode(wish.cursor, b"-_", validate=True).decode().rpartition(".")
        )
        shown, _, end = said.partition(".")
        right = check == _check(said, wish, path) and end.isdecimal()
    except (binascii.Error, ValueError):
        right = False
    if not right:
        raise Invalid(
            "cursor: it is not one of this list with these filters",
            "Begin without cursor; then take the address in the header Link as it is.",
        )
    places = (n for n, row in enumerate(rows) if mark(row) == shown)
    return next(places, int(end) - 1) + 1
