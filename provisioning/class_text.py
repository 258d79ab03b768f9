"""A class document as YAML text: read, with one sentence for what is wrong, and written."""

from collections.abc import Iterator
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from provisioning.classes import Document
from provisioning.errors import Invalid
from provisioning.names import IN_WORDS, NAME

LARGEST = 64 * 1024  # bytes of a document
DEEPEST = 8
Model = TypeVar("Model", bound=BaseModel)
EXAMPLE = "Make one from a server: `seed class from NODE --name NAME`."


def parse(text: str) -> Document:
    """A document from YAML. Raises Invalid, with one sentence that names the place."""
    return parse_as(Document, text, "class", EXAMPLE)


def parse_as(model: type[Model], text: str, noun: str, remedy: str) -> Model:
    """A document of another kind from YAML, with the same care. noun: what it is called."""
    if len(text.encode(errors="replace")) > LARGEST:
        raise Invalid(f"the {noun} is longer than {LARGEST // 1024} KiB", remedy)
    try:
        told = yaml.load(text, Loader=_Plain)  # noqa: S506 - makes nothing but text, lists and maps
    except yaml.YAMLError as error:
        raise Invalid(
            f"the {noun} is no YAML as it must be: {_line(_where(error))}", remedy
        ) from error
    if not isinstance(told, dict):
        raise Invalid(f"the {noun} is not a map of keys and values", remedy)
    try:
        return model.model_validate(told)
    except ValidationError as error:
        raise Invalid(f"the {noun} is wrong at {_line(_fault(error))}", remedy) from error


def written(document: Document) -> str:
    """The document as YAML."""
    text = yaml.safe_dump(_short(document.stored()), sort_keys=False, width=100)
    return str(text)


def _short(value: Any) -> Any:  # noqa: ANN401
    """Spans and versions of one value as this value, lists of one glob as this glob."""
    if isinstance(value, list):
        return [_short(v) for v in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"min", "max"} and value["min"] == value["max"]:
        return value["min"]
    if set(value) == {"exact"}:
        return value["exact"]
    globs = {"vendor", "model", "cpu_model", "cpu_arch", "name"}
    return {
        k: v[0] if k in globs and isinstance(v, list) and len(v) == 1 else _short(v)
        for k, v in value.items()
    }


class _Plain(yaml.BaseLoader):
    """Text, lists and maps only: 2.10 stays the version 2.10. No aliases, so no bombs of them."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refused("aliases (*) are not taken", event)
        self.depth += 1
        if self.depth > DEEPEST:
            raise _refused(f"more than {DEEPEST} levels", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: ANN401
        for key in _doubles([k.value for k, _ in node.value]):
            raise _refused(f"{key} twice", node)
        return super().construct_mapping(node, deep=deep)


def _refused(why: str, at: Any) -> yaml.MarkedYAMLError:  # noqa: ANN401
    return yaml.MarkedYAMLError(problem=why, problem_mark=at.start_mark)


def _doubles(keys: list[Any]) -> Iterator[str]:
    seen: list[Any] = []
    for key in keys:
        if key in seen:
            yield str(key)
        seen.append(key)


def _line(text: str) -> str:
    """What was sent may stand in it: no line ends, no end of the world."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return words if len(words) <= 200 else f"{words[:200]}..."


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it cannot be read"
    return f"{problem} (line {mark.line + 1})" if mark else str(problem)


def _fault(error: ValidationError) -> str:
    """The first fault: its place as a path, and what is wrong there."""
    first = error.errors()[0]
    place = ".".join(str(p) for p in first["loc"] if p != "[key]") or "the top"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{place}: there is no such key{more}"
    if first["type"] == "string_pattern_mismatch" and first["ctx"]["pattern"] == NAME:
        return f"{place}: {IN_WORDS[NAME]}{more}"
    message = _KINDS.get(first["type"], str(first["msg"]).removeprefix("Value error, "))
    return f"{place}: {message[:1].lower()}{message[1:]}{more}"


_KINDS = {
    "model_type": "a map of keys and values must stand here",
    "dict_type": "a map of keys and values must stand here",
    "tuple_type": "a list must stand here",
    "string_type": "a text must stand here",
    "int_type": "a whole number must stand here",
    "int_parsing": "a whole number must stand here",
    "int_parsing_size": "the number is absurd",
}
"""pydantic's kinds of faults, for people."""
