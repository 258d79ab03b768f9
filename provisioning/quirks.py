"""Vendors' quirks as data: quirks.yaml says who, which firmware, and what is so in truth."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from provisioning.abilities import Abilities
from provisioning.hardware import Inventory

TABLE = Path(__file__).with_suffix(".yaml")


class Reads(BaseModel):
    """Where this BMC tells something that the standard has elsewhere.

    serial:   the ComputerSystem's property with the server's serial number.
    switches: the way from the Manager to a collection of what its NICs hear of their switches.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    serial: str = "SerialNumber"
    switches: tuple[str, ...] = ()


class Quirk(BaseModel):
    """One row of the table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    vendor: str = ""
    model: str = ""
    since: str = Field(default="", alias="from")
    below: str = ""
    abilities: dict[str, Any] = Field(default_factory=dict)
    reads: dict[str, Any] = Field(default_factory=dict)
    source: str

    def fits(self, seen: Inventory) -> bool:
        """Does it speak of this server? A firmware range fits no BMC that hides its version."""
        if not (_found(self.vendor, seen.vendor) and _found(self.model, seen.model)):
            return False
        if not (self.since or self.below):
            return True
        version = numbers(seen.bmc_version)
        late_enough = not self.since or version >= numbers(self.since)
        return bool(version) and late_enough and (not self.below or version < numbers(self.below))


def _found(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.IGNORECASE) is not None


def numbers(version: str) -> tuple[int, ...]:
    """ "iDRAC 6.10.30.00" -> (6, 10, 30, 0): the first run of numbers with dots."""
    run = re.search(r"\d+(\.\d+)*", version)
    return tuple(int(part[:9]) for part in run[0].split(".")) if run else ()


@cache
def table() -> tuple[Quirk, ...]:
    return tuple(Quirk.model_validate(row) for row in yaml.safe_load(TABLE.read_text("utf-8")))


def applied(abilities: Abilities, seen: Inventory) -> Abilities:
    """The abilities as they are in truth, with the names of the rows that said so."""
    fitting = [quirk for quirk in table() if quirk.abilities and quirk.fits(seen)]
    changed = {name: value for quirk in fitting for name, value in quirk.abilities.items()}
    return abilities.model_copy(update=changed | {"quirks": tuple(q.name for q in fitting)})


def reads(seen: Inventory) -> Reads:
    """How to read this BMC. seen: vendor, model and BMC version are enough."""
    fitting = [quirk for quirk in table() if quirk.fits(seen)]
    return Reads.model_validate({k: v for quirk in fitting for k, v in quirk.reads.items()})
