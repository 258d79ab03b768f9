"""Hardware classes as people write them: which servers belong, and what each must consist of.

A document is checked whole before anything is kept; class_text.py reads and writes it as YAML.
Units as in hardware.py, but drives in GB (10^9 bytes), as makers print them. fitting.py holds a
server against it.
"""

import json
import re
from fnmatch import translate
from functools import lru_cache
from typing import Annotated, Any, Literal

import os_traits
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from provisioning.hardware import Nic
from provisioning.names import Name

DRIVE_TOLERANCE = 0.02  # makers' drives of one printed size differ by so much

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


class NicRule(_Strict):
    """Which NICs have a role: all that is said must be so."""

    name: Globs | None = None
    model: Globs | None = None
    mac: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2}(:[0-9a-f]{2}){0,5})?$")] = ""
    speed_mbps: Speed | None = None

    def takes(self, nic: Nic) -> bool:
        return (
            (self.name is None or matches(self.name, nic.name))
            and (self.model is None or matches(self.model, nic.model))
            and nic.mac.lower().startswith(self.mac)
            and (self.speed_mbps is None or self.speed_mbps.holds(nic.speed_mbps))
        )


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
    """One class. priority: where two fit one server, the higher one takes it.

    nic_roles: what layouts may call its NICs (`class_role`).
    """

    name: Name
    priority: int = Field(default=0, ge=-1000, le=1000)
    match: Rules
    resource_class: Name
    traits: tuple[Trait, ...] = Field(default=(), max_length=50)  # Ironic's own limit
    capabilities: dict[CapabilityKey, Key] = Field(default={}, max_length=32)
    bom: Bom = Bom()
    nic_roles: dict[Key, NicRule] = Field(default={}, max_length=32)

    def stored(self) -> dict[str, Any]:
        """As a row keeps it: only what was said."""
        return self.model_dump(mode="json", exclude_unset=True)


@lru_cache(maxsize=256)
def _known(text: str) -> Document:
    return Document.model_validate_json(text)


def document_of(stored: dict[str, Any]) -> Document:
    """A row's document; the same row is checked once."""
    return _known(json.dumps(stored))


@lru_cache(maxsize=1024)
def _compiled(glob: str) -> re.Pattern[str]:
    return re.compile(translate(glob.casefold()))


def matches(globs: tuple[str, ...], text: str) -> bool:
    return any(_compiled(g).match(text.strip().casefold()) for g in globs)


def _words(globs: tuple[str, ...] | None) -> str:
    return " or ".join(globs or ())
