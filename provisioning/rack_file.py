"""A rack plan as people write it: a spreadsheet (CSV or XLSX), or YAML. Shapes: docs/racks.md.

All or nothing: the first row that cannot be is named, and nothing of the file counts.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

import yaml

from provisioning import cabling, tables
from provisioning.cabling import Port
from provisioning.errors import Invalid
from provisioning.identity import serial_key
from provisioning.names import IN_WORDS, NAME
from provisioning.networks import mac
from provisioning.rack_plan import Place, Rack

MAX_BYTES: Final = tables.MAX_BYTES
TOP_UNIT: Final = 100
LONGEST: Final = 80  # characters of a cell
COLUMNS: Final = (
    "site", "row", "rack", "unit", "height", "serial", "bmc_mac", "class", "technician",
    "feed",
)  # fmt: skip
OTHER_NAMES: Final = {"u": "unit", "resource_class": "class", "bmc": "bmc_mac"}

_EXAMPLE = "Write it like this: rack,unit,serial,NIC1,NIC2 and below it r3,17,SN1,leaf1:18,leaf2:18"
_PLAIN = re.compile(r"[^\x00-\x1f\x7f]*")
_NIC = re.compile(r"nic[ _:.-]*(?=\S)", re.IGNORECASE)
Row = Mapping[str, Any]


def read(body: bytes, file_format: str) -> list[tuple[str, Place]]:
    """(where it is said, the slot) of each row; file_format: "table" or "yaml". Raises Invalid."""
    rows = _of_yaml(body) if file_format == "yaml" else _of_table(body)
    planned = [(where, _slot(where, row)) for where, row in rows]
    if not planned:
        raise Invalid("the plan has no rows", _EXAMPLE)
    return planned


# --- a table --------------------------------------------------------------------------------------


def _of_table(body: bytes) -> Iterator[tuple[str, Row]]:
    heads, rows = tables.read(
        body, _are_heads, opaque=lambda head: head.startswith("#"), remedy=_EXAMPLE
    )
    columns = {head: _column(head) for head in heads}
    named = [column for column in columns.values() if column]
    if twice := sorted({column for column in named if named.count(column) > 1}):
        raise Invalid(f"the column {twice[0]} is there twice", "Remove or rename one of them.")
    for row in rows:
        where = f"row {row.number}"
        cells = {columns[h]: _cell(where, text) for h, text in row.cells.items() if columns[h]}
        nics = {column[4:]: text for column, text in cells.items() if column.startswith("nic:")}
        yield where, {c: text for c, text in cells.items() if c in COLUMNS} | {"nics": nics}


def _are_heads(cells: list[str]) -> bool:
    return {"rack", "unit"} <= {OTHER_NAMES.get(c.lower(), c.lower()) for c in cells}


def _column(head: str) -> str:
    """A column's name as we have it, "nic:..." for a NIC's; empty for one that does not count."""
    plain = head.lower().replace(" ", "_").replace("-", "_")
    name = OTHER_NAMES.get(plain, plain)
    if not head or head.startswith("#"):
        return ""
    if name in COLUMNS:
        return name
    if nic := _NIC.match(head):
        return f"nic:{head[nic.end() :]}"
    raise Invalid(
        f"there is no column {head[:LONGEST]!r}",
        f"Known are {', '.join(COLUMNS)}, NIC1, NIC2, nic:NAME and nic:MAC; "
        "begin a heading with # to leave its column out.",
    )


# --- YAML -----------------------------------------------------------------------------------------


class _Loader(getattr(yaml, "CBaseLoader", yaml.BaseLoader)):  # type: ignore[misc]
    """Every scalar stays the text it is: 0123 is a serial number, 1:18 a port."""


def _of_yaml(body: bytes) -> Iterator[tuple[str, Row]]:
    """A list of slots, or of racks that hold slots; also below the key `racks` or `slots`."""
    if len(body) > MAX_BYTES:
        raise Invalid(f"the plan is larger than {MAX_BYTES // 2**20} MiB", "Import it in parts.")
    try:
        text = body.decode("utf-8-sig")
        document = yaml.load(text, Loader=_Loader)  # noqa: S506  it makes nothing but text
    except (yaml.YAMLError, RecursionError, ValueError) as err:  # ValueError: not UTF-8
        mark = getattr(err, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise Invalid(f"the plan is not YAML{line}", "Mend that line; tabs do not indent.") from err
    if isinstance(document, dict) and len(document) == 1:
        document = next((document[key] for key in ("racks", "slots") if key in document), document)
    if not isinstance(document, list):
        raise Invalid(
            "the plan is no list of slots or racks",
            "Write each as `- {rack: r3, unit: 17, serial: SN123, nics: {NIC1: leaf1:18}}`.",
        )
    for number, entry in enumerate(document, 1):
        yield from _entries(f"slot {number}", entry)


def _entries(where: str, entry: Any) -> Iterator[tuple[str, Row]]:  # noqa: ANN401
    if not isinstance(entry, dict):
        _bad(where, "it is not `name: value` lines", "Write {rack: r3, unit: 17, serial: SN123}.")
    if "slots" not in entry:
        yield where, _known(where, entry)
        return
    shared = {key: value for key, value in entry.items() if key != "slots"}
    slots = entry["slots"] if isinstance(entry["slots"], list) else [None]
    for number, slot in enumerate(slots, 1):
        rack = entry.get("rack")
        name = f"slot {number} of rack {rack[:LONGEST] if isinstance(rack, str) else '?'}"
        if not isinstance(slot, dict):
            _bad(name, "it is not `name: value` lines", "Write {unit: 17, serial: SN123}.")
        yield name, _known(name, {**shared, **slot})


def _known(where: str, entry: dict[Any, Any]) -> Row:
    row: dict[str, Any] = {"nics": {}}
    for key, value in entry.items():
        name = OTHER_NAMES.get(str(key), str(key))
        if name == "nics" and isinstance(value, dict):
            row["nics"] = {
                _cell(where, str(nic)): _cell(where, _port_text(port))
                for nic, port in value.items()
            }
        elif name in COLUMNS and isinstance(value, str):
            row[name] = _cell(where, value)
        else:
            _bad(
                where,
                f"{name[:LONGEST]!r} is unknown or has no plain value",
                f"Known are {', '.join(COLUMNS)} and nics, such as {{NIC1: leaf1:18}}.",
            )
    return row


def _port_text(port: Any) -> str:  # noqa: ANN401
    """ "leaf1:18", or {switch: leaf1, port: 18}."""
    if isinstance(port, dict):
        return f"{port.get('switch', '')}:{port.get('port', '')}"
    return port if isinstance(port, str) else ""


# --- one row --------------------------------------------------------------------------------------


def _slot(where: str, row: Row) -> Place:
    slot = Place(
        Rack(*(_name(where, key, row.get(key, "")) for key in ("site", "row", "rack"))),
        unit=_number(where, "unit", row.get("unit", "")),
        height=_number(where, "height", row.get("height") or "1"),
        serial=row.get("serial", "") if serial_key(row.get("serial", "")) else "",
        bmc_mac=_mac(where, row.get("bmc_mac", "")),
        resource_class=_name(where, "class", row.get("class", "")),
        technician=row.get("technician", ""),
        feed=_name(where, "feed", row.get("feed", "")),
        ports=dict(_nic(where, nic, text) for nic, text in row["nics"].items() if text),
    )
    if not slot.rack.rack:
        _bad(where, "it names no rack", "Fill in the rack's name, such as r3.")
    if slot.unit + slot.height - 1 > TOP_UNIT:
        _bad(where, f"it ends above unit {TOP_UNIT}", "Unit is the lowest one, height the number.")
    if not (slot.serial or slot.bmc_mac or slot.ports):
        _bad(
            where,
            "it says neither serial, nor BMC MAC, nor a switch port",
            "Give one of them, or leave the row out.",
        )
    return slot


def _nic(where: str, nic: str, text: str) -> tuple[str, Port]:
    port = cabling.parse(text)
    if port is None:
        _bad(where, f"{text!r} is no switch port for NIC {nic}", "Write SWITCH:PORT: leaf1:18.")
    return f"NIC{int(nic)}" if nic.isdecimal() else nic, port


def _name(where: str, column: str, text: str) -> str:
    if text and not re.fullmatch(NAME, text):
        _bad(where, f"{column} {text!r} is no name", f"Take {IN_WORDS[NAME]}.")
    return text


def _number(where: str, column: str, text: str) -> int:
    plain = text[1:] if text[:1] in ("U", "u") else text
    if not plain.isascii() or not plain.isdecimal() or not 1 <= int(plain[:9]) <= TOP_UNIT:
        _bad(where, f"{column} {text!r} is no number from 1 to {TOP_UNIT}", "Unit 1 is lowest.")
    return int(plain)


def _mac(where: str, text: str) -> str:
    try:
        return mac(text) if text else ""
    except Invalid as err:
        _bad(where, str(err), err.remedy)


def _cell(where: str, cell: str) -> str:
    """Trimmed; a lone dash says "none"."""
    text = cell.strip()
    if text == "-":
        return ""
    if len(text) > LONGEST or not _PLAIN.fullmatch(text):
        _bad(where, f"the cell {text[:LONGEST]!r} is too long or not text", "Type it again.")
    return text


def _bad(where: str, what: str, remedy: str) -> NoReturn:
    raise Invalid(f"{where}: {what}; nothing was imported", remedy)
