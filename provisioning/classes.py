"""Hardware classes as people write them: which servers belong, and what each must consist of.

A document is YAML, checked whole before anything is kept. Units as in hardware.py, but drives in
GB (10^9 bytes), as makers print them. fitting.py holds servers against a document.
"""

import json
import re
from collections.abc import Iterator
from fnmatch import translate
from functools import lru_cache
from typing import Annotated, Any, Literal

import os_traits
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from provisioning.errors import Invalid
from provisioning.models import IN_WORDS, NAME, Name

LARGEST = 64 * 1024  # bytes of a document
DEEPEST = 8
DRIVE_TOLERANCE = 0.02  # makers' drives of one printed size differ by so much
EXAMPLE = "Make one from a server: `seed class from NODE --name NAME`."

MEMORY_MIB = 2**31  # 2 PiB
DRIVE_GB = 10**7
SPEED_MBPS = 10**7
PARTS = 512  # of one kind in a server, as in hardware.py


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Span(_Strict):
    """At least `min` and at most `max`; each may be missing."""

    min: int | None = Field(default=None, ge=0)
    max: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _in_order(self) -> "Span":
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}")
        return self

    def holds(self, value: float) -> bool:
        return (self.min or 0) <= value and (self.max is None or value <= self.max)

    def __str__(self) -> str:
        if self.min == self.max:
            return str(self.min)
        if self.max is None:
            return f"at least {self.min}"
        return f"at most {self.max}" if self.min is None else f"{self.min} to {self.max}"


def _exact(value: Any) -> Any:  # noqa: ANN401
    """A number alone means just this number."""
    return value if isinstance(value, dict | Span) else {"min": value, "max": value}


def _up_to(most: int) -> AfterValidator:
    def check(span: Span) -> Span:
        if max(span.min or 0, span.max or 0) > most:
            raise ValueError(f"more than {most}")
        return span

    return AfterValidator(check)


def _many(value: Any) -> Any:  # noqa: ANN401
    return value if isinstance(value, list | tuple) else [value]


class Firmware(_Strict):
    """One version exactly, or that one and what came after it."""

    exact: Annotated[str, StringConstraints(max_length=255)] = ""
    at_least: Annotated[str, StringConstraints(max_length=255)] = ""

    @model_validator(mode="after")
    def _one(self) -> "Firmware":
        if bool(self.exact) == bool(self.at_least):
            raise ValueError("give a version, or at_least and a version")
        return self


def _version(value: Any) -> Any:  # noqa: ANN401
    return value if isinstance(value, dict | Firmware) else {"exact": value}


Counted = Annotated[Span, BeforeValidator(_exact), _up_to(PARTS)]
Threads = Annotated[Span, BeforeValidator(_exact), _up_to(2**16)]
Memory = Annotated[Span, BeforeValidator(_exact), _up_to(MEMORY_MIB)]
Size = Annotated[Span, BeforeValidator(_exact), _up_to(DRIVE_GB)]
Speed = Annotated[Span, BeforeValidator(_exact), _up_to(SPEED_MBPS)]
Glob = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Globs = Annotated[tuple[Glob, ...], BeforeValidator(_many), Field(min_length=1, max_length=32)]
Version = Annotated[Firmware, BeforeValidator(_version)]


class DriveLine(_Strict):
    """Drives of one sort. size_gb: a number alone takes what makers print as this number."""

    count: Counted
    media: Literal["hdd", "ssd", "nvme"] | None = None
    size_gb: Size | None = None
    model: Globs | None = None

    def sizes(self) -> Span | None:
        """In bytes."""
        if self.size_gb is None:
            return None
        low, high = self.size_gb.min, self.size_gb.max
        slack = max(10**9 // 2, int((low or 0) * DRIVE_TOLERANCE * 10**9)) if low == high else 0
        return Span(
            min=None if low is None else max(0, low * 10**9 - slack),
            max=None if high is None else high * 10**9 + slack,
        )

    def __str__(self) -> str:
        size = f"{self.size_gb} GB" if self.size_gb else ""
        return " ".join(filter(None, [self.media, size, _words(self.model)])) or "any drive"


class NicLine(_Strict):
    """NICs of one sort. speed_mbps: of the link, as its source tells."""

    count: Counted
    speed_mbps: Speed | None = None
    model: Globs | None = None

    def __str__(self) -> str:
        speed = f"{self.speed_mbps} Mbit/s" if self.speed_mbps else ""
        return " ".join(filter(None, [speed, _words(self.model)])) or "any NIC"


Drives = Annotated[tuple[DriveLine, ...], Field(max_length=32)]
Nics = Annotated[tuple[NicLine, ...], Field(max_length=32)]


class Rules(_Strict):
    """Which servers belong: all that is said must be so. Text is a glob, upper or lower case.

    drives, nics: there are so many of each sort, whatever else there is.
    """

    vendor: Globs | None = None
    model: Globs | None = None
    cpu_model: Globs | None = None
    cpu_arch: Globs | None = None
    firmware: Literal["uefi", "bios"] | None = None
    cpu_count: Counted | None = None
    cpu_threads: Threads | None = None
    memory_mib: Memory | None = None
    drives: Drives = ()
    nics: Nics = ()

    @model_validator(mode="after")
    def _something(self) -> "Rules":
        if all(getattr(self, name) in (None, ()) for name in Rules.model_fields):
            raise ValueError("at least one rule, or every server would belong")
        return self


class Cpus(_Strict):
    count: Counted
    model: Globs | None = None


class Bom(_Strict):
    """Bill of materials. What is not listed is not looked at; a list is whole: more is wrong too.

    bios, bmc: versions of firmware.
    """

    cpus: Cpus | None = None
    memory_mib: Memory | None = None
    drives: Drives | None = None
    nics: Nics | None = None
    bios: Version | None = None
    bmc: Version | None = None


def _trait(name: str) -> str:
    """As Ironic takes it: one of os-traits', or a custom one. Raises ValueError."""
    custom = re.fullmatch(rf"{os_traits.CUSTOM_NAMESPACE}[A-Z0-9_]+", name)
    if not custom and name not in os_traits.get_traits():
        raise ValueError("a trait is CUSTOM_ and A-Z, 0-9 and '_', or one of os-traits")
    return name


def _capability(key: str) -> str:
    if key == "boot_mode":
        raise ValueError("boot_mode is learnt from each server")
    return key


Trait = Annotated[str, StringConstraints(max_length=255), AfterValidator(_trait)]
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
CapabilityKey = Annotated[Key, AfterValidator(_capability)]


class Document(_Strict):
    """One class. priority: where two fit one server, the higher one takes it."""

    name: Name
    priority: int = Field(default=0, ge=-1000, le=1000)
    match: Rules
    resource_class: Name
    traits: tuple[Trait, ...] = Field(default=(), max_length=50)  # Ironic's own limit
    capabilities: dict[CapabilityKey, Key] = Field(default={}, max_length=32)
    bom: Bom = Bom()

    def stored(self) -> dict[str, Any]:
        """As a row keeps it: only what was said."""
        return self.model_dump(mode="json", exclude_unset=True)


def parse(text: str) -> Document:
    """A document from YAML. Raises Invalid, with one sentence that names the place."""
    if len(text.encode(errors="replace")) > LARGEST:
        raise Invalid(f"the class is longer than {LARGEST // 1024} KiB", EXAMPLE)
    try:
        told = yaml.load(text, Loader=_Plain)  # noqa: S506 - makes nothing but text, lists and maps
    except yaml.YAMLError as error:
        raise Invalid(
            f"the class is no YAML as it must be: {_line(_where(error))}", EXAMPLE
        ) from error
    if not isinstance(told, dict):
        raise Invalid("the class is not a map of keys and values", EXAMPLE)
    return _checked(told)


def _checked(told: dict[str, Any]) -> Document:
    try:
        return Document.model_validate(told)
    except ValidationError as error:
        raise Invalid(f"the class is wrong at {_line(_fault(error))}", EXAMPLE) from error


@lru_cache(maxsize=256)
def _known(text: str) -> Document:
    return Document.model_validate_json(text)


def document_of(stored: dict[str, Any]) -> Document:
    """A row's document; the same row is checked once."""
    return _known(json.dumps(stored))


def written(document: Document) -> str:
    """The document as YAML."""
    text = yaml.safe_dump(_short(document.stored()), sort_keys=False, allow_unicode=True, width=100)
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
    globs = {"vendor", "model", "cpu_model", "cpu_arch"}
    return {
        k: v[0] if k in globs and isinstance(v, list) and len(v) == 1 else _short(v)
        for k, v in value.items()
    }


@lru_cache(maxsize=1024)
def _compiled(glob: str) -> re.Pattern[str]:
    return re.compile(translate(glob.casefold()))


def matches(globs: tuple[str, ...], text: str) -> bool:
    return any(_compiled(g).match(text.strip().casefold()) for g in globs)


def _words(globs: tuple[str, ...] | None) -> str:
    return " or ".join(globs or ())


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
