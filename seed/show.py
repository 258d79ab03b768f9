"""Tables that fit a terminal, and `-o json|yaml` of the very same data."""

import json
import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
import yaml
from rich.console import Console, Group, RenderableType
from rich.table import Table

from seed import when

WIDE: Final = 20
"""Letters of a cell; a column of longer ones may wrap, so that its neighbours stay readable."""
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d\S*(Z|[+-]\d\d:\d\d)")

out = Console(highlight=False)


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


Output = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]


def rows(data: list[dict[str, Any]], columns: dict[str, str], output: Format) -> None:
    """`columns`: key -> heading. What is stuck, and what to do, stands whole below the table."""
    if output is not Format.TABLE:
        one(data, output)
    elif not data:
        out.print("none")
    else:
        out.print(group(data, columns))


def group(data: list[dict[str, Any]], columns: dict[str, str]) -> Group:
    """A table that fits 80 columns: empty ones are left out; the first, the last and WIDE wrap."""
    filled = [key for key in columns if any(row.get(key) for row in data)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for key in filled:
        wide = max(len(cell(row.get(key))) for row in data) > WIDE
        table.add_column(
            columns[key], no_wrap=not wide and key not in (filled[0], filled[-1]), overflow="fold"
        )
    for row in data:
        table.add_row(*(cell(row.get(key)) for key in filled))
    lines: list[RenderableType] = [table]
    for row in data:
        if row.get("problem"):
            name = row.get("name") or row.get("address")
            lines.append(f"[red]{cell(name)}:[/red] {cell(row['problem'])}")
            lines.append(f"  try: {cell(row.get('remedy'))}")
        lines += _of_parts(row)
    return Group(*lines)


def _of_parts(row: dict[str, Any]) -> list[str]:
    """A node that is not as its class says, or not as it was when it was accepted."""
    name = cell(row.get("name"))
    lines = []
    if row.get("misfit"):
        lines += [
            f"[yellow]{name}:[/yellow] not handed out: {cell('; '.join(row['misfit']))}",
            f"  try: put the part right, then `seed node inspect {name}`; or change its class",
        ]
    if row.get("drift") and row.get("provision_state"):
        lines += [
            f"[yellow]{name}:[/yellow] changed: {cell('; '.join(row['drift']))}",
            f"  try: `seed node accept-drift {name}` if that is right",
        ]
    return lines


def one(data: Any, output: Format) -> None:  # noqa: ANN401
    if output is Format.JSON:
        typer.echo(json.dumps(data, indent=2, default=str))
    elif output is Format.YAML:
        typer.echo(yaml.safe_dump(json.loads(json.dumps(data, default=str)), sort_keys=False))
    else:
        fields(data)


def fields(data: dict[str, Any]) -> None:
    """One noun as `name  value` lines; empty values are left out."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in data.items():
        if value not in (None, "", [], {}):
            table.add_row(key.replace("_", " "), cell(_time(value)))
    out.print(table)


def _time(value: Any) -> Any:  # noqa: ANN401
    """What is a time, as people read it."""
    told = value.isoformat() if isinstance(value, datetime) else value
    return when.local(told) if isinstance(told, str) and _TIME.fullmatch(told) else value


def cell(value: Any) -> str:  # noqa: ANN401
    if value is None:
        return ""
    if isinstance(value, list):
        text = ", ".join(cell(v) for v in value)
    elif isinstance(value, dict):
        text = ", ".join(f"{k}={cell(v)}" for k, v in value.items())
    else:
        text = str(value)
    return text.replace("[", r"\[")
