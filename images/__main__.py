"""python -m images build <recipe> --cache DIR: build without the rest of the appliance."""

import argparse
import sys
from pathlib import Path

from images import mirror
from images.build import Wanted, build, recipes
from images.extras import NO_EXTRAS, read
from provisioning.errors import SeedError

CACHE = Path("/var/cache/seed/images")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m images", description=__doc__)
    parser.add_argument("verb", choices=["build"])
    parser.add_argument("recipe", choices=sorted(recipes()))
    parser.add_argument("--cache", type=Path, default=CACHE, help="default: %(default)s")
    parser.add_argument("--mirror", default="", help="default: this machine's apt sources")
    parser.add_argument("--extras", type=Path, help="TOML: what this site adds")
    parser.add_argument("--fresh", action="store_true", help="with today's packages")
    asked = parser.parse_args()
    try:
        sources = mirror.sources(asked.mirror)
        wanted = Wanted(read(asked.extras) if asked.extras else NO_EXTRAS, asked.fresh)
        done = build(asked.recipe, asked.cache, sources, _say, asked.cache / "logs", wanted)
    except SeedError as error:
        sys.stderr.write(f"error: {error}\n  try: {error.remedy}\n")
        return 1
    sys.stdout.write(f"{done.directory}\n")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
