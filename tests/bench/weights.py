"""Row `weights`: what each part of the built images weighs. There is no peer."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from tests.bench.measure import Row

CACHE = Path("/var/cache/seed/images")
MB = 10**6


def weights() -> list[Row]:
    """Parts unpacked, and files as they travel, of the newest build of each recipe."""
    rows = []
    for recipe in ("ramdisk", "debian"):
        builds = sorted((CACHE / recipe).glob("*/build.json"), key=lambda p: p.stat().st_mtime)
        if not builds:
            sys.stderr.write(f"{recipe} is not built: seed image build {recipe}\n")
            continue
        build = json.loads(builds[-1].read_text())
        sizes = {f"{part}, unpacked": size for part, size in build["weights"].items()}
        files = [builds[-1].parent / name for name in build["files"].values()]
        sizes["on the wire"] = sum(file.stat().st_size for file in files)
        rows += [Row(f"weights {recipe}: {p}", round(s / MB, 1), "MB") for p, s in sizes.items()]
    return rows


ROWS: dict[str, Callable[[], list[Row]]] = {"weights": weights}
