"""New events for those who follow them: the database is asked once per process, not per follower.

While somebody follows, one task per event loop (the service has one) looks for new rows and keeps
the youngest. A follower takes from those; one that is further behind reads its pages itself.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final
from weakref import WeakKeyDictionary

import structlog
from fastapi.concurrency import run_in_threadpool
from sqlmodel import Session, col, func, select

from provisioning.errors import SeedError
from provisioning.models import Event
from provisioning.store import Store

log = structlog.get_logger()

LOOK_SECONDS: Final = 0.25
PAGE: Final = 500
KEPT: Final = 2000
PER_CALLER: Final = 8
IN_ALL: Final = 64
_FEWER = "End one of them, or ask for pages: `seed event list`."


class TooManyStreams(SeedError):
    code: ClassVar[str] = "too-many-streams"
    status: ClassVar[int] = 429
    retryable: ClassVar[bool] = True


class StreamsFull(SeedError):
    code: ClassVar[str] = "streams-full"
    status: ClassVar[int] = 503
    retryable: ClassVar[bool] = True


@dataclass(frozen=True)
class Filter:
    """Which events. project None: of all. subject None: of all. kind: how it begins."""

    project: str | None = None
    subject: str | None = None
    kind: str = ""

    def matches(self, event: Event) -> bool:
        return (
            self.project in (None, event.project)
            and self.subject in (None, event.subject)
            and event.kind.startswith(self.kind)
        )

    def page(self, session: Session, after: int, limit: int) -> list[Event]:
        """The first `limit` of them that are younger than the one numbered `after`."""
        wanted = select(Event).where(col(Event.id) > after)
        if self.project is not None:
            wanted = wanted.where(Event.project == self.project)
        if self.subject is not None:
            wanted = wanted.where(Event.subject == self.subject)
        if self.kind:
            wanted = wanted.where(col(Event.kind).startswith(self.kind, autoescape=True))
        return list(session.exec(wanted.order_by(col(Event.id)).limit(limit)))


@dataclass
class Feed:
    """Of one database, for one process. `close` ends every stream."""

    store: Store
    per_caller: int = PER_CALLER
    in_all: int = IN_ALL
    _open: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _loops: WeakKeyDictionary[asyncio.AbstractEventLoop, "_Window"] = field(
        default_factory=WeakKeyDictionary
    )
    closed: bool = False

    @contextmanager
    def place(self, caller: str) -> Iterator[None]:
        """One of the places for streams. Raises TooManyStreams, StreamsFull."""
        with self._lock:
            if self._open.get(caller, 0) >= self.per_caller:
                raise TooManyStreams(f"{caller} follows {self.per_caller} streams already", _FEWER)
            if sum(self._open.values()) >= self.in_all:
                raise StreamsFull(f"all {self.in_all} streams of events are taken", _FEWER)
            self._open[caller] = self._open.get(caller, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._open[caller] -= 1
                if not self._open[caller]:
                    del self._open[caller]

    def newest(self) -> int:
        """The number of the last event; 0: there is none."""
        with self.store.read() as session:
            return session.exec(select(func.max(Event.id))).one() or 0

    @contextmanager
    def window(self) -> Iterator["_Window"]:
        """This loop's view of the youngest events; looked at anew while it is held."""
        loop = asyncio.get_running_loop()
        window = self._loops.get(loop)
        if window is None:
            window = self._loops[loop] = _Window(self)
        with window.held():
            yield window

    def close(self) -> None:
        """Call it in the loop of the streams: each ends at once."""
        self.closed = True
        for window in list(self._loops.values()):
            window.wake()


class _Window:
    """The youngest events: all of those numbered above `since`, up to `upto`."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._rows: deque[Event] = deque(maxlen=KEPT)
        self.since = self.upto = -1  # nothing was looked at yet
        self._changed = asyncio.Event()
        self._holders = 0
        self._task: asyncio.Task[Any] | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        self._holders += 1
        if self._task is None or self._task.done():
            self.since = -1
            self._task = asyncio.create_task(self._look())
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders and self._task is not None:
                self._task.cancel()
                self._task = None

    def wake(self) -> None:
        """Everybody who waits looks up."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def after(self, last: int, wanted: Filter, seconds: float) -> tuple[list[Event], int]:
        """(events younger than `last`, the number up to which that is all). Waits so long."""
        if 0 <= self.upto <= last:
            changed = self._changed
            try:
                await asyncio.wait_for(changed.wait(), seconds)
            except TimeoutError:
                return [], last
        if self._feed.closed:
            return [], last
        if 0 <= self.since <= last:
            return [e for e in self._rows if (e.id or 0) > last and wanted.matches(e)], self.upto
        return await run_in_threadpool(self._page, last, wanted)

    def _page(self, last: int, wanted: Filter) -> tuple[list[Event], int]:
        with self._feed.store.read() as session:
            newest = session.exec(select(func.max(Event.id))).one() or 0
            found = wanted.page(session, last, PAGE)
        if len(found) == PAGE:
            return found, found[-1].id or last
        return found, max(newest, last)

    async def _look(self) -> None:
        """Until nobody holds it. A database that cannot be read now is asked again."""
        while True:
            try:
                await self._read()
            except Exception:
                log.exception("feed.failed")
            await asyncio.sleep(LOOK_SECONDS)

    async def _read(self) -> None:
        if self.since < 0:
            self._rows.clear()
            self.upto = self.since = await run_in_threadpool(self._feed.newest)
            self.wake()
            return
        while rows := await run_in_threadpool(self._newer):
            self._keep(rows)

    def _newer(self) -> list[Event]:
        with self._feed.store.read() as session:
            return Filter().page(session, self.upto, PAGE)

    def _keep(self, rows: list[Event]) -> None:
        for row in rows:
            if len(self._rows) == KEPT:
                self.since = self._rows[0].id or 0
            self._rows.append(row)
        self.upto = rows[-1].id or 0
        self.wake()
