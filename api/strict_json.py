"""What JSON says twice, or says so that two readers read it differently, is refused.

A parser keeps the last of two equal keys, a proxy may have looked at the first; NaN is no JSON;
1e400 becomes infinity and 2^63 another number elsewhere; half of a surrogate pair is no character.
"""

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from api.problems import Malformed
from provisioning.errors import Invalid

MAX_INT = 2**63 - 1
MIN_INT = -(2**63)
_INT_DIGITS = 20


def check(body: bytes) -> None:
    """Raises Malformed or Invalid. What is no JSON at all is left to the one who wants JSON."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Malformed(
            f"the body is not UTF-8: byte {error.start} begins no character", "send JSON in UTF-8"
        ) from error
    try:
        found = json.loads(
            text,
            object_pairs_hook=_once,
            parse_constant=_no_constant,
            parse_int=_int,
            parse_float=_float,
        )
    except json.JSONDecodeError:
        return
    for where, word in _words(found):
        _check_word(where, word)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Malformed(f"the key {twice[:80]!r} is there twice in one object", "say it once")
    return found


def _no_constant(word: str) -> NoReturn:
    raise Malformed(f"{word} is no number in JSON", "leave it out, or send null")


def _int(digits: str) -> int:
    value = int(digits) if len(digits) <= _INT_DIGITS else MAX_INT + 1
    if not MIN_INT <= value <= MAX_INT:
        raise Malformed(
            f"{digits[:24]} does not fit into 64 bits", "send a smaller number, or a string"
        )
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise Malformed(f"{digits[:24]} is larger than any number here", "send a smaller number")
    return value


def _words(value: Any, where: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401
    """Every string, keys too, and its place as problems name it: "nodes.0.name"."""
    match value:
        case str():
            yield where, value
        case dict():
            for key, inner in value.items():
                yield where, key
                yield from _words(inner, f"{where}.{key}" if where else key)
        case list():
            for n, inner in enumerate(value):
                yield from _words(inner, f"{where}.{n}" if where else str(n))


def _check_word(where: str, word: str) -> None:
    if "\0" in word:
        raise Invalid(_at(where, "a NUL character is in it"), "Leave the NUL out.")
    if not word.isascii() and any("\ud800" <= c <= "\udfff" for c in word):
        raise Invalid(
            _at(where, "half of a surrogate pair is no unicode character"),
            "Send whole characters: UTF-8, or both halves as \\uXXXX\\uXXXX.",
        )


def _at(where: str, what: str) -> str:
    place = where.encode("ascii", "backslashreplace").decode()[:120] or "body"
    return f"{place}: {what}"
