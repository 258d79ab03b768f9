"""Installers' files as they lie in tests/golden/overcloud, compared as a whole.

`SEED_GOLDEN=write` writes them anew, for a person to read the difference.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from provisioning.targets import PartSpec

GOLDEN = Path(__file__).parents[1] / "golden" / "overcloud"


def same(name: str, size: str, parts: Sequence[PartSpec]) -> None:
    folder = GOLDEN / name / size
    made = {one.path: one.content.decode() for one in parts}
    assert len(made) == len(parts), "a path stands there twice"
    if os.environ.get("SEED_GOLDEN") == "write":
        for path, content in made.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content)
    there = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    assert set(there) == set(made)
    for path, content in made.items():
        assert content == there[path].read_text(), path
