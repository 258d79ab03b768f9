"""What a request for nodes looks like, with all of it in the API's document that a schema can say.

It is for the document alone: provisioning/wishes.py refuses, and says how to write it.
"""

import re
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, ConfigDict, Field, StrictInt, WithJsonSchema

from provisioning import wishes
from provisioning.models import ClaimSpec
from provisioning.names import NAME
from provisioning.root_device import HINTS
from provisioning.secret_files import SecretFiles

LONGEST: Final = 10 * 365 * 86400
EXAMPLE: Final[dict[str, Any]] = {
    "name": "web",
    "count": 2,
    "image": "debian",
    "ssh_keys": [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKE02EXZopJm+V+0QfxedG6Gy6HeCx4/dROzGkxDOS5X me"
    ],
    "spread": "rack",
    "memory_gib": 256,
    "lease_seconds": 604800,
}


def _written(value: object) -> object:
    """A number would be read as seconds since 1970, a day as its midnight somewhere."""
    if isinstance(value, datetime) or value is None:
        return value
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d[Tt ]", value):
        return value
    raise ValueError("a time is written like 2026-11-28T12:00:00Z")


def _shape(default: Any, **schema: Any) -> Any:  # noqa: ANN401
    return Field(default=default, json_schema_extra=schema)


def _word(**schema: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **schema})


Time = Annotated[datetime, BeforeValidator(_written)]
_Trait = Annotated[str, _word(pattern=wishes.TRAIT)]
_Value = Annotated[str, _word(maxLength=wishes.VALUE)]
_Rack = Annotated[str, _word(pattern=wishes.RACK)]
_Node = Annotated[str, _word(pattern=NAME)]
_KEY: Final = {"pattern": NAME}


class ClaimAsk(ClaimSpec):
    """What to claim. Unknown fields are refused: a typo must not be silent.

    `count` may be left out where `nodes` are named: it is their number then.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": EXAMPLE})  # type: ignore[assignment]

    ssh_keys: list[str] = _shape([], maxItems=wishes.KEYS)
    traits: list[_Trait] = _shape([], maxItems=wishes.MANY)
    labels: dict[str, _Value] = _shape({}, maxProperties=wishes.MANY, propertyNames=_KEY)
    racks: list[_Rack] = _shape([], maxItems=wishes.MANY)
    nodes: list[_Node] = _shape([], maxItems=wishes.MANY, uniqueItems=True)
    spread: str = _shape("", enum=["", *wishes.DOMAINS])
    pack: str = _shape("", enum=["", "rack"])
    root_device: dict[str, Any] = _shape({}, propertyNames={"enum": sorted(HINTS)})
    layout: str = _shape("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,79})?$")
    disks: list[dict[str, Any]] = _shape([], maxItems=wishes.DISKS)
    root_raid: StrictInt = _shape(0, enum=[0, 1])
    kernel_args: list[str] = _shape([], maxItems=wishes.KERNEL_ARGS)
    hostnames: str = _shape("", pattern=wishes.HOSTNAMES)
    starts_at: Time | None = None
    ends_at: Time | None = None
    secret_files: SecretFiles = Field(default=[])

    @property
    def spec(self) -> ClaimSpec:
        told = self.model_dump(exclude={"secret_files"})
        if self.nodes and "count" not in self.model_fields_set:
            told["count"] = min(len(self.nodes), wishes.MANY)  # more are refused in words
        return ClaimSpec.model_validate(told)
