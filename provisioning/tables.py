"""A table that a person made, as CSV or XLSX: its rows as {heading: cell}, by their number.

CSV may begin with a byte order mark (UTF-8 or UTF-16) and be parted by commas, semicolons or tabs.
Of a workbook the first sheet is read. Lines above the headings are skipped. Nothing is computed: a
formula is refused, because what it would show is not what it says.
"""

import csv
import re
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import Any

from provisioning.errors import Invalid

MAX_BYTES = 16 * 1024 * 1024
MAX_UNPACKED = 256 * 1024 * 1024  # of a workbook; 10^5 rows of ten cells take some 60 MB
MAX_ROWS = 200_000
MAX_COLUMNS = 128
MAX_CELL = 1000  # characters
TITLE_ROWS = 20  # so many rows may stand above the headings

_FORMULA = re.compile(r"[=@]|[+-](?![\d\s.,()/-]*$)")
_BROKEN = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError)
_HEADINGS = "Give the columns names: at least 'Serial' or 'BMC MAC'. See docs/packing-lists.md."
_AS_CSV = "Save it as CSV (UTF-8) and import that."


@dataclass(frozen=True, slots=True)
class Row:
    """number: as spreadsheets count, from 1. cells: heading -> text without blanks at its ends."""

    number: int
    cells: dict[str, str]


@dataclass(frozen=True, slots=True)
class Formula:
    """Stands for a cell that computes its value."""

    text: str


Cells = list[str | Formula]


def read(
    body: bytes,
    is_heading: Callable[[list[str]], bool],
    opaque: Callable[[str], bool],
    remedy: str = _HEADINGS,
) -> tuple[list[str], Iterator[Row]]:
    """The headings, and the rows below them; empty rows are left out.

    is_heading: whether these cells are the table's headings.
    opaque:     whether a heading's cells may begin with any sign, as passwords do.
    remedy:     what headings are needed.
    Raises Invalid, naming the row, at once or while the rows are read.
    """
    if len(body) > MAX_BYTES:
        raise Invalid(
            f"the file is larger than {MAX_BYTES // 2**20} MiB", "Part it into several files."
        )
    if not body.strip():
        raise Invalid("the file is empty", "Export the list again, with its headings.")
    rows = _workbook(body) if body.startswith(b"PK\x03\x04") else _csv(body, is_heading)
    for number, cells in rows:
        words = [str(c).strip() if isinstance(c, str) else "" for c in cells]
        if is_heading(words):
            return words, _below(number, words, rows, opaque)
        if number >= TITLE_ROWS:
            break
    raise Invalid(
        "no row of the file has the headings that are needed",
        remedy,
    )


def _below(
    above: int,
    headings: list[str],
    rows: Iterator[tuple[int, Cells]],
    opaque: Callable[[str], bool],
) -> Iterator[Row]:
    twice = {h for h in headings if h and headings.count(h) > 1}
    if twice:
        raise Invalid(
            f"row {above}: two columns are named {min(twice)!r}", "Give each column its own name."
        )
    for number, cells in rows:
        if number - above > MAX_ROWS:
            raise Invalid(f"there are more than {MAX_ROWS} rows", "Part it into several files.")
        if any(c if isinstance(c, Formula) else c.strip() for c in cells):
            yield Row(number, _named(number, headings, cells, opaque))


def _named(
    number: int, headings: list[str], cells: Cells, opaque: Callable[[str], bool]
) -> dict[str, str]:
    if any(str(c).strip() for c in cells[len(headings) :]):
        raise Invalid(
            f"row {number} has more cells than there are headings",
            "Put cells with commas into quotes, or give the column a heading.",
        )
    found: dict[str, str] = {}
    for heading, cell in zip(headings, cells, strict=False):
        if isinstance(cell, Formula) or (_FORMULA.match(cell.strip()) and not opaque(heading)):
            raise Invalid(
                f"row {number}: the cell under {heading!r} is a formula",
                "Put its value there: in the spreadsheet copy, then paste special, values.",
            )
        if len(cell) > MAX_CELL:
            raise Invalid(
                f"row {number}: the cell under {heading!r} is longer than {MAX_CELL} characters",
                "Shorten it, or leave the column out.",
            )
        if heading and cell.strip():
            found[heading] = cell.strip()
    return found


# --- CSV ------------------------------------------------------------------------------------------


def _csv(body: bytes, is_heading: Callable[[list[str]], bool]) -> Iterator[tuple[int, Cells]]:
    text = _text(body)
    for delimiter in ",;\t":  # the one that parts the headings
        if _parts_headings(text, delimiter, is_heading):
            return _parted(StringIO(text), delimiter)
    return _parted(StringIO(text), ",")


def _parts_headings(text: str, delimiter: str, is_heading: Callable[[list[str]], bool]) -> bool:
    try:
        for number, cells in _parted(StringIO(text), delimiter):
            if is_heading([str(c).strip() for c in cells]):
                return True
            if number >= TITLE_ROWS:
                break
    except Invalid:  # the quotes fit another delimiter
        pass
    return False


def _text(body: bytes) -> str:
    encoding = "utf-16" if body[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as err:
        raise Invalid(
            f"byte {err.start} of the file is not {encoding[:6].upper().rstrip('-')}", _AS_CSV
        ) from err
    if "\0" in text:
        raise Invalid("the file is neither CSV nor XLSX", _AS_CSV)
    return text


def _parted(text: StringIO, delimiter: str) -> Iterator[tuple[int, Cells]]:
    number = 0
    try:
        for number, cells in enumerate(csv.reader(text, delimiter=delimiter, strict=True), 1):
            yield number, _few(number, list(cells))
    except csv.Error as err:
        raise Invalid(
            f"row {number + 1} is not CSV: its quotes do not match, or it is too long", _AS_CSV
        ) from err


def _few(number: int, cells: Cells) -> Cells:
    if len(cells) > MAX_COLUMNS:
        raise Invalid(f"row {number} has more than {MAX_COLUMNS} columns", "Leave some out.")
    return cells


# --- XLSX (ECMA-376) ------------------------------------------------------------------------------


def _workbook(body: bytes) -> Iterator[tuple[int, Cells]]:
    try:
        import openpyxl
    except ImportError as err:
        raise Invalid(
            "XLSX files are not read by this installation: openpyxl is not there",
            f"{_AS_CSV} Or install it: {sys.prefix}/bin/pip install openpyxl",
        ) from err
    _not_a_bomb(body)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and validations that are of no concern
            book = openpyxl.load_workbook(BytesIO(body), read_only=True, data_only=False)
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # what the file says of its size may be a lie
            for number, row in enumerate(sheet.iter_rows(), 1):
                yield number, _few(number, [_cell(number, c) for c in row])
    except Invalid:
        raise
    except Exception as err:  # whatever a broken file makes the library stumble over
        raise Invalid("the XLSX file is damaged", _AS_CSV) from err


def _not_a_bomb(body: bytes) -> None:
    """Small when unpacked, and without a document type: no entity can grow."""
    room = MAX_UNPACKED
    try:
        with zipfile.ZipFile(BytesIO(body)) as packed:
            for member in packed.infolist():
                room -= _unpacked(packed, member, room)
    except _BROKEN as err:
        raise Invalid("the XLSX file is damaged", _AS_CSV) from err


def _unpacked(packed: zipfile.ZipFile, member: zipfile.ZipInfo, room: int) -> int:
    size, tail = 0, b""
    with packed.open(member) as file:
        while part := file.read(1 << 16):
            size += len(part)
            if size > room:
                raise Invalid(
                    f"the XLSX file unpacks to more than {MAX_UNPACKED // 2**20} MiB", _AS_CSV
                )
            if b"<!DOCTYPE" in tail + part or b"<!ENTITY" in tail + part:
                raise Invalid("the XLSX file declares XML entities", _AS_CSV)
            tail = part[-16:]
    return size


def _cell(number: int, cell: Any) -> str | Formula:  # noqa: ANN401
    value = cell.value
    match getattr(cell, "data_type", "n"):
        case "f":
            return Formula(str(value))
        case "e":
            raise Invalid(f"row {number} has an error for a value: {value}", "Correct that cell.")
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a serial number that was typed as a number
    return str(value)
