"""A new database for a test: the migrations make one per process, each test gets a copy of it."""

import tempfile
from functools import cache
from pathlib import Path

from provisioning.store import Store


def new_store(folder: Path, kind: type[Store] = Store) -> Store:
    """folder/seed.db, with all tables and no row."""
    path = folder / "seed.db"
    path.write_bytes(_empty())
    return kind(f"sqlite:///{path}")


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.db"
        store = Store(f"sqlite:///{path}")
        store.create()
        store.engine.dispose()  # the last to close writes the log into the file
        return path.read_bytes()
