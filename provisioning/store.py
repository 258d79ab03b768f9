"""Engine and sessions of our own database.

SQLite in WAL with full sync: an acknowledged write survives a power cut. Writers take the write
lock at BEGIN, because a deferred transaction that reads first and writes later fails at once with
"database is locked" in WAL, whatever the busy timeout.
"""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlmodel import Session

from provisioning import migrations, models

BUSY_SECONDS = 30.0


class Store:
    """Read sessions see a snapshot; write sessions exclude each other and commit at their end."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._writer = self.engine.execution_options(seed_write=True)
        weakref.finalize(self, self.engine.dispose)  # the pool's connections are closed, not lost
        self._watch: Connection | None = None
        self._watching = threading.Lock()
        self._writing = threading.Lock()

    def create(self) -> None:
        """Make the tables of an empty database, or bring an older one up to date."""
        with self._writer.begin() as connection:
            migrations.upgrade(connection)

    def version(self) -> int:
        """Another number after each commit of anybody, also of another process.

        https://www.sqlite.org/pragma.html#pragma_data_version, on a connection kept for it that
        writes nothing. A few microseconds: what was read at one number need not be read again.
        """
        with self._watching:
            if self._watch is None:
                self._watch = self.engine.connect()
                weakref.finalize(self, self._watch.close)
            number: int = (
                self._watch.connection.cursor().execute("PRAGMA data_version").fetchone()[0]
            )
            return number

    @contextmanager
    def read(self) -> Iterator[Session]:
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Commits when the block ends, rolls back when it raises.

        Writers of one process wait for each other here: SQLite's own waiting sleeps and looks
        again, and dozens of them keep the one who writes from getting on.
        """
        mine = self._writing.acquire(timeout=BUSY_SECONDS)
        try:
            with Session(self._writer, expire_on_commit=False) as session, session.begin():
                yield session
        finally:
            if mine:
                self._writing.release()


def _engine(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: object) -> None:  # noqa: ANN401
        connection.isolation_level = None  # we say BEGIN ourselves
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("seed_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def record(
    session: Session, kind: str, subject: object = "", message: str = "", **more: Any
) -> None:
    """Append one event in the caller's transaction. `who`, `project` are columns, the rest data."""
    session.add(
        models.Event(
            kind=kind,
            subject=str(subject),
            message=message,
            who=str(more.pop("who", "")),
            project=str(more.pop("project", "")),
            data=more,
        )
    )
