"""Racks and work lists as text of 80 columns, for a terminal, a phone, or paper."""

from collections.abc import Iterator
from typing import Any, Final

from seed.show import cell

SIGNS: Final = {"right": "=", "wrong": "!", "found": "?", "planned": "."}
"""What colour says, for those who do not see it."""
COLOURS: Final = {"right": "green", "wrong": "red", "found": "yellow", "planned": "dim"}
LEGEND: Final = "= right   ! wrong   ? found, not all cables heard   . planned, not found yet"
LOWEST_TOP: Final = 42
INNER: Final = 74  # characters between the rails


def drawing(rack: dict[str, Any]) -> Iterator[str]:
    """The rack, top unit first, in rich's markup. rack: as the API tells it."""
    where = ", ".join(f"{k} {rack[k]}" for k in ("site", "row") if rack[k])
    yield f"[bold]{cell(rack['rack'])}[/bold]  {cell(where)}"
    yield ", ".join(f"{rack[k]} {k}" for k in ("planned", "found", "right", "wrong"))
    yield ""
    top = max([LOWEST_TOP, *(s["unit"] + s["height"] - 1 for s in rack["slots"])])
    filled = {s["unit"] + n: (s, n) for s in rack["slots"] for n in range(s["height"])}
    for unit in range(top, 0, -1):
        slot, above = filled.get(unit, (None, 0))
        yield _unit(unit, slot, above)
    yield ""
    yield LEGEND


def _unit(unit: int, slot: dict[str, Any] | None, above: int) -> str:
    if slot is None:
        return f"{unit:>3} |{'':{INNER}}|"
    colour, sign = COLOURS[slot["verdict"]], SIGNS[slot["verdict"]]
    text = f'{sign}  "' if above else f"{sign} {slot['verdict']:<8}{_what(slot)}"
    return f"{unit:>3} |[{colour}]{cell(f'{text:{INNER}.{INNER}}')}[/{colour}]|"


def _what(slot: dict[str, Any]) -> str:
    planned = slot["serial"] or slot["bmc_mac"] or slot["resource_class"] or "by its cables"
    words = [f"{planned:<22}"]
    if slot["holds"] and slot["holds"].lower() != planned.lower():
        words.append(f"holds {slot['holds']}")
    words += [slot["node"], slot["resource_class"] if slot["resource_class"] != planned else ""]
    return " ".join(filter(None, words))


def work(lines: list[dict[str, Any]]) -> Iterator[str]:
    """What to do, then what nobody knows; in rich's markup."""
    doing = [line for line in lines if not line["hint"]]
    hints = [line for line in lines if line["hint"]]
    for line in doing:
        yield from _line(line, "bold")
    if hints:
        yield "[dim]Not known:[/dim]"
        for line in hints:
            yield from _line(line, "dim")
    yield f"{len(doing)} to do, {len(hints)} not known" if lines else "nothing to do"


def _line(line: dict[str, Any], style: str) -> Iterator[str]:
    yield f"[{style}]{cell(line['text'])}[/{style}]"
    if line["check"]:
        yield f"    look: {cell(line['check'])}"
    told = ", ".join(filter(None, (line["evidence"], ago(line["age_seconds"]))))
    if told:
        yield f"    seen: {cell(told)}"
    yield f"    line {line['id']}  {cell(', '.join(line['technicians']))}".rstrip()


def ago(seconds: int | None) -> str:
    """The age of evidence, in one unit."""
    if seconds is None:
        return ""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{max(seconds, 0)} s ago"
