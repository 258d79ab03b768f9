"""Engine and sessions of our own database.

SQLite in WAL with full sync: an acknowledged write survives a power cut. Writers take the write
lock at BEGIN, because a deferred transaction that reads first and writes later fails at once with
"database is locked" in WAL, whatever the busy timeout.
"""

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, PoolProxiedConnection, create_engine, event
from sqlmodel import Session

from provisioning import chain, models, request_ids

BUSY_SECONDS = 30.0
THREADS = 20  # of one process that may work with the database at once, most of the time

AtWrite = Callable[[Session], None]
at_write: ContextVar[AtWrite | None] = ContextVar("at_write", default=None)
"""What else belongs into every write transaction of this context, right before its commit."""


class _Writer(Session):
    """A session that holds the write lock: events are chained as they are written."""


@event.listens_for(_Writer, "before_flush")
def _chained(session: Session, *_: object) -> None:
    chain.link(session)


class Store:
    """Read sessions see a snapshot; write sessions exclude each other and commit at their end."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._writer = self.engine.execution_options(seed_write=True)
        self.commits = 0
        """Of this process; it only ever rises."""
        self._probe: PoolProxiedConnection | None = None
        self._probing = threading.Lock()
        weakref.finalize(self, self.engine.dispose)  # the pool's connections are closed, not lost
        self._writing = threading.Lock()

    def create(self) -> None:
        """Make the tables of an empty database, or bring an older one up to date."""
        from provisioning import migrations  # Alembic is a fifth of our start

        with self._writer.begin() as connection:
            migrations.upgrade(connection)

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
            with _Writer(self._writer, expire_on_commit=False) as session, session.begin():
                yield session
                if (also := at_write.get()) is not None:
                    also(session)
        finally:
            if mine:
                self._writing.release()
        self.commits += 1

    def version(self) -> int:
        """Another number after each commit of anybody, seen at once; costs some microseconds.

        On other databases than SQLite: after each second.
        """
        if self.engine.dialect.name != "sqlite":
            return int(time.monotonic())
        with self._probing:
            if self._probe is None:  # of its own: a connection does not count what it wrote itself
                self._probe = self.engine.raw_connection()
                weakref.finalize(self, self._probe.close)
            return int(self._probe.cursor().execute("PRAGMA data_version").fetchone()[0])


def _engine(url: str) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        json_deserializer=orjson.loads,  # a look at the pool reads thousands of small documents
        pool_size=THREADS,  # more are closed after each use, and cost four statements to open
    )

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
    session: Session,
    kind: str,
    subject: object = "",
    message: str = "",
    *,
    who: str = "",
    project: str = "",
    why: str = "",
    plan: str = "",
    request_id: str = "",
    **data: Any,
) -> None:
    """Append one event in the caller's transaction; it is numbered and chained when written.

    why:        the reason that a person gave. plan: the hash of the plan that is applied.
    request_id: of the API request that this thread answers, unless another is given.
    """
    session.add(
        models.Event(
            kind=kind,
            subject=str(subject),
            message=message,
            who=who,
            project=project,
            why=why,
            plan=plan,
            request_id=request_id or request_ids.current(),
            data=data,
        )
    )
