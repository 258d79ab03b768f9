"""Files of strangers as JSON, YAML or CSV: small, flat, and without anything that grows."""

import csv
import json
from collections.abc import Iterator
from io import StringIO
from typing import Any, NoReturn

import yaml

from provisioning.errors import Invalid
from provisioning.intake import Document

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 30
MAX_NODES = 400_000  # of YAML, each alias counted as what it stands for
_REMEDY = "Compare it with the format's own example."

_ODD = (ValueError, AttributeError, TypeError, OverflowError)
"""What PyYAML raises besides its own errors, for tags such as `!!timestamp x`."""

_Safe: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Safe):  # type: ignore[misc]
    """Every scalar is text: no MAC becomes a number of base 60, no serial loses its zeros."""


_KEPT = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, how) for tag, how in pairs if tag in _KEPT]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def document(name: str, body: bytes) -> Document:
    """The file, parsed once for every format. Raises Invalid."""
    if len(body) > MAX_BYTES:
        raise Invalid(
            f"{name} is larger than {MAX_BYTES // 2**20} MiB", "Part it into several files."
        )
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise Invalid(f"{name} is not UTF-8 text", "Save it as UTF-8.") from err
    if "\0" in text or not text.strip():
        raise Invalid(f"{name} is empty or no text", _REMEDY)
    if text.lstrip()[0] in "{[":
        return Document(name, parts=(_json(name, text),))
    if name.lower().endswith(".csv"):
        return Document(name, rows=tuple(_csv(name, text)))
    return Document(name, parts=tuple(_yaml(name, text)))


def _json(name: str, text: str) -> Any:  # noqa: ANN401
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as err:
        line = f" at line {err.lineno}" if isinstance(err, json.JSONDecodeError) else ""
        raise Invalid(f"{name} is not JSON{line}", _REMEDY) from err
    _not_deep(name, found)
    return found


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _not_deep(name: str, value: Any) -> None:  # noqa: ANN401
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = (v.values() if isinstance(v, dict) else v for v in level)
        level = [x for values in inner for x in values if isinstance(x, (dict, list))]
        if not level:
            return
    raise _deep(name)


def _deep(name: str) -> Invalid:
    return Invalid(f"{name} nests deeper than {MAX_DEPTH} levels", _REMEDY)


def _yaml(name: str, text: str) -> Iterator[Any]:
    try:
        _not_growing(name, text)
        yield from (part for part in yaml.load_all(text, _Loader) if part is not None)
    except (yaml.YAMLError, RecursionError, *_ODD) as err:
        mark = getattr(err, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise Invalid(f"{name} is not YAML{line}", _REMEDY) from err


def _not_growing(name: str, text: str) -> None:
    """How much it is with every alias written out, counted before anything is built."""
    sizes: dict[str | None, int] = {}  # of each anchor, once it is whole
    stack: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(text, _Safe):
        if isinstance(event, yaml.CollectionStartEvent):
            stack.append((event.anchor, 1))
            if len(stack) > MAX_DEPTH:
                raise _deep(name)
            continue
        anchor, size = stack.pop() if isinstance(event, yaml.CollectionEndEvent) else (None, 0)
        if isinstance(event, yaml.AliasEvent):
            size = _known(name, str(event.anchor), sizes)
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        sizes[anchor] = size
        above, so_far = stack.pop()
        stack.append((above, so_far + size))
        if so_far + size > MAX_NODES:
            raise Invalid(f"{name} grows to more than {MAX_NODES} values", "Write it without `*`.")


def _known(name: str, anchor: str, sizes: dict[str | None, int]) -> int:
    """An alias of nobody, or of what it stands in, would never end."""
    if anchor not in sizes:
        raise Invalid(f"{name} refers to {anchor!r} before it is whole", _REMEDY)
    return sizes[anchor]


def _csv(name: str, text: str) -> Iterator[tuple[str, ...]]:
    try:
        for row in csv.reader(StringIO(text), strict=True):
            if any(cell.strip() for cell in row):
                yield tuple(cell.strip() for cell in row)
    except csv.Error as err:
        raise Invalid(f"{name} is not CSV: its quotes do not match", _REMEDY) from err
