"""What an overcloud takes from the bare metal. One module, one row of docs/overcloud-gives.md.

A row is pure: it is given facts and answers with files for people to put where its documentation
says; it calls nobody. What only people know is in the facts' `wishes`, under the row's name.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from provisioning import plugins
from provisioning.errors import Invalid
from provisioning.installers import OvercloudFacts
from provisioning.targets import PartSpec

SECRET: Final = 0o600
PLAIN: Final = re.compile(r"[^A-Za-z0-9_.-]+")
HEAD: Final = "# Made by Seed for the overcloud {name}."


@dataclass(frozen=True, slots=True)
class Give:
    """One row. files: where it lacks nothing; paths are below a folder of people's, and what has a
    secret is 0600.

    lacks: why it cannot be given, a sentence; empty: it can. Both raise Invalid for a wish that is
    none.
    """

    name: str
    summary: str
    files: Callable[[OvercloudFacts], list[PartSpec]]
    lacks: Callable[[OvercloudFacts], str]


class Wish(BaseModel):
    """What people say to a row."""

    model_config = ConfigDict(extra="forbid", frozen=True)


W = TypeVar("W", bound=Wish)


def known() -> dict[str, Give]:
    """All rows by name."""
    from provisioning import gives

    return plugins.load(gives)


def wish(facts: OvercloudFacts, row: str, kind: type[W]) -> W:
    """What was said to this row. Raises Invalid, naming the field."""
    try:
        return kind.model_validate(facts.wishes.get(row) or {})
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, [row, *first["loc"]]))
        raise Invalid(f"{where}: {first['msg']}", "See docs/overcloud-gives.md.") from err


def part(path: str, text: str, mode: int = 0o644) -> PartSpec:
    return PartSpec(path, path, mode, text.encode())


def as_yaml(facts: OvercloudFacts, *documents: Any, hint: str = "") -> str:
    """Documents after a line that says whose they are. hint: where they go."""
    text = yaml.safe_dump_all(documents, sort_keys=False, explicit_start=True, width=100)
    return f"{_head(facts, hint)}\n{text}"


def as_ini(
    facts: OvercloudFacts, sections: Mapping[str, Sequence[tuple[str, str]]], hint: str = ""
) -> str:
    """oslo.config's form: an option may be there more than once."""
    blocks = [
        "\n".join([f"[{name}]", *(f"{key} = {value}" for key, value in options)])
        for name, options in sections.items()
        if options
    ]
    return "\n\n".join([_head(facts, hint), *blocks]) + "\n"


def play(name: str, hosts: str, tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A playbook of one play."""
    return [{"name": name, "hosts": hosts, "gather_facts": False, "tasks": list(tasks)}]


def plain(text: str) -> str:
    """Letters, digits, '_', '.' and '-' alone: for names of others' things."""
    return PLAIN.sub("-", text).strip("-")


def _head(facts: OvercloudFacts, hint: str) -> str:
    return "\n".join(filter(None, [HEAD.format(name=facts.name), hint and f"# {hint}"]))
