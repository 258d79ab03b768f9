"""`python -m tests.bench [ROW]`: one JSON line per row, medians of three interleaved rounds.

Nothing is asserted: figures of a busy machine say little, ratios of one run say more. Needs root.
"""

import json
import sys
from dataclasses import asdict

from tests.bench import (
    claims,
    deploy,
    inventory,
    lists,
    orders,
    rebuild,
    room,
    serving,
    start,
    sweep,
    weights,
)

ROWS = {
    **weights.ROWS,
    **sweep.ROWS,
    **inventory.ROWS,
    **start.ROWS,
    **room.ROWS,
    **lists.ROWS,
    **claims.ROWS,
    **rebuild.ROWS,
    **serving.ROWS,
    **deploy.ROWS,
    **orders.ROWS,
}
ORDER = ("row", "ours", "peer", "ratio", "cpu_ratio", "unit")


def main(asked: list[str]) -> int:
    unknown = [name for name in asked if name not in ROWS]
    if unknown:
        sys.stderr.write(f"error: there is no row {unknown[0]!r}\n  try: {', '.join(ROWS)}\n")
        return 2
    for name in asked or ROWS:
        for row in ROWS[name]():
            facts = asdict(row)
            print(json.dumps({key: facts[key] for key in ORDER}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
