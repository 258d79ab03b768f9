"""The room on paper: a sheet (CSV), or a page to print (HTML)."""

import csv
from io import StringIO
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from seed.rack_text import LEGEND, LOWEST_TOP, SIGNS, ago

COLUMNS: Final = (
    "site", "row", "rack", "unit", "slot", "verdict", "serial", "holds", "class", "technician",
    "feed", "to do", "not known",
)  # fmt: skip
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_pages = Environment(
    loader=PackageLoader("seed"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=True,
)


def sheet(report: dict[str, Any]) -> str:
    """One row per slot, then one per line without a slot. No cell is a formula."""
    text = StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(COLUMNS)
    for rack in report["racks"]:
        for slot in rack["slots"]:
            rows.writerow(map(_defused, _row(rack, slot)))
    for line in report["unplaced"]:
        said = ["", line["text"]] if line["hint"] else [line["text"], ""]
        rows.writerow(map(_defused, [*[""] * (len(COLUMNS) - 2), *said]))
    return text.getvalue()


def _row(rack: dict[str, Any], slot: dict[str, Any]) -> list[str]:
    mine = [line for line in rack["work"] if line["slot"] == slot["slot"]]
    return [
        rack["site"], rack["row"], rack["rack"], str(slot["unit"]), slot["slot"], slot["verdict"],
        slot["serial"] or slot["bmc_mac"], slot["holds"], slot["resource_class"],
        slot["technician"], slot["feed"], _texts(mine, hint=False), _texts(mine, hint=True),
    ]  # fmt: skip


def _texts(lines: list[dict[str, Any]], hint: bool) -> str:
    return "; ".join(line["text"] for line in lines if line["hint"] is hint)


def _defused(cell: str) -> str:
    """Spreadsheets run what begins like a formula; with an apostrophe before it they show it."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def page(report: dict[str, Any]) -> str:
    """One page per rack: a drawing, and its work with boxes to tick."""
    return _pages.get_template("rack_report.html").render(
        report=report,
        ago=ago,
        signs=SIGNS,
        legend=LEGEND,
        units=_units,
    )


def _units(rack: dict[str, Any]) -> list[tuple[int, dict[str, Any] | None, int]]:
    """(unit, the slot whose top is here, its height); units below a slot's top are left out."""
    tops = {s["unit"] + s["height"] - 1: s for s in rack["slots"]}
    below = {u for s in rack["slots"] for u in range(s["unit"], s["unit"] + s["height"] - 1)}
    top = max([LOWEST_TOP, *tops])
    return [
        (unit, tops.get(unit), tops[unit]["height"] if unit in tops else 1)
        for unit in range(top, 0, -1)
        if unit not in below
    ]
