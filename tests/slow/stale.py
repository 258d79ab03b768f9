"""python -m tests.slow.stale: say loudly which rows of the slow lane tell nothing any more.

A row is stale if its test never ran, if its commit is unknown here, or if more than 30 commits
have touched its paths since. The exit code is 0: what to do about it is a person's decision.
"""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.slow.rows import NEVER, Row, git, read

COMMITS = 30


def stale(row: Row) -> str:
    """Why this row is stale; empty if it is not."""
    if row.date == NEVER:
        return "never ran"
    try:
        count = int(git("rev-list", "--count", f"{row.commit}..HEAD", "--", *row.covers.split()))
    except subprocess.CalledProcessError:
        return f"ran on {row.commit}, which this repository does not have"
    return f"{count} commits have touched {row.covers} since" if count > COMMITS else ""


def names() -> Iterator[str]:
    """Every slow test there is, by its source."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield node.name


def main() -> None:
    rows = {row.test: row for row in read()}
    found = {name: stale(rows.get(name, Row(name, ""))) for name in [*rows, *names()]}
    bad = {name: why for name, why in found.items() if why}
    if not bad:
        print(f"slow lane: {len(found)} tests, none stale")
        return
    lines = [f"{name}: {why}" for name, why in bad.items()]
    width = max(map(len, lines)) + 4
    print("!" * width)
    print("!! THE SLOW LANE IS STALE: make test-slow, then commit docs/slow-lane.md")
    for line in lines:
        print(f"!! {line}")
    print("!" * width)


if __name__ == "__main__":
    main()
