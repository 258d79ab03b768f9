"""The table of docs/slow-lane.md: one row per slow test, written when it passed."""

import subprocess
from dataclasses import astuple, dataclass, fields
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TABLE = REPOSITORY / "docs" / "slow-lane.md"
HEAD = "| test | covers |"
NEVER = "never"


@dataclass(frozen=True)
class Row:
    """covers: paths, separated by spaces. commit: what was tested. log: sha256 of the run's log."""

    test: str
    covers: str
    date: str = NEVER
    commit: str = ""
    seconds: str = ""
    log: str = ""

    def __str__(self) -> str:
        return "| " + " | ".join(astuple(self)) + " |"


def read(table: Path = TABLE) -> list[Row]:
    lines = table.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(HEAD)) + 2
    rows = []
    for line in lines[start:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or len(cells) != len(fields(Row)):
            break
        rows.append(Row(*cells))
    return rows


def write(row: Row, table: Path = TABLE) -> None:
    """Put `row` in the place of the same test's, or at the end of the table."""
    old = {known.test: str(known) for known in read(table)}
    lines = table.read_text(encoding="utf-8").splitlines()
    if row.test in old:
        lines[lines.index(old[row.test])] = str(row)
    else:
        lines.insert(lines.index([*old.values()][-1]) + 1, str(row))
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")


def git(*words: str, timeout: float = 60) -> str:
    done = subprocess.run(
        ["git", *words], cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout, check=True
    )
    return done.stdout.strip()
