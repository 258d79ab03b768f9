"""Row `rebuild`: seconds until an image with one extra changed is built anew, by phase.

The base is in the cache, as it is for whoever changes an extra; only the first round may have to
make it, and is not counted.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from images import build, mirror
from images.extras import Extras, parse
from images.workbench import remove
from tests.bench.measure import ROUNDS, Row

CACHE = Path("/var/cache/seed/images")
RECIPE = "debian"


def rebuild() -> list[Row]:
    """Whole seconds, and of each phase; what was built for it is removed again."""
    sources = mirror.sources("")
    made = [_run(sources, number) for number in range(ROUNDS + 1)]
    shelf = CACHE / RECIPE
    for one in made:
        remove(shelf / one[0].digest)
        remove(Path(one[0].log))
    counted = made[1:]
    rows = [Row("rebuild: a changed extra", round(median(s for _, s in counted), 1), "s")]
    for phase in counted[0][0].phases:
        seconds = median(one.phases.get(phase, 0.0) for one, _ in counted)
        rows.append(Row(f"rebuild: {phase}", round(seconds, 1), "s"))
    return rows


def _run(sources: tuple[str, ...], number: int) -> tuple[build.Build, float]:
    begin = time.monotonic()
    wanted = build.Wanted(_extras(number))
    made = build.build(RECIPE, CACHE, sources, lambda _: None, CACHE / "logs", wanted)
    return made, time.monotonic() - begin


def _extras(number: int) -> Extras:
    """A package and a file that is another one each time."""
    motd = {"path": "/etc/motd", "content": f"{time.time_ns()} {number}\n"}
    return parse({"packages": ["htop"], "files": [motd]})


ROWS: dict[str, Callable[[], list[Row]]] = {"rebuild": rebuild}
