"""Keeps the cache of Ironic's nodes: asks what changed, and goes through all of them in between.

Ironic sorts nodes by when they changed last, so one call tells of all changes of all nodes, whoever
made them. Measured with 5,000 nodes: 20 ms of Ironic's CPU where nothing changed, 2.1 s for all of
them. What that call cannot tell (a node is gone, a clock was set back) the pass over all does, page
after page, so that no look at changes waits for a whole pass.
"""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from provisioning import sight
from provisioning.errors import NotFound
from provisioning.ironic import PAGE, Ironic, Node
from provisioning.models import now
from provisioning.store import Store

IN_FLIGHT_SECONDS: Final = 1.0
"""Between two looks while Ironic works on something, or a pass goes on."""
IDLE_SECONDS: Final = 4.0
PASS_SECONDS: Final = 45.0
"""From the begin of one pass to the next: with its own time less than 60."""
NOTED_SECONDS: Final = 15.0
"""How often it is written down that nothing has changed: a row's age is that much too high."""
NOTED_BUSY_SECONDS: Final = 3.0
WHOLE_EACH: Final = 10
"""Of so many passes one reads all of each node. The others ask who there is: half of the price,
and Ironic tells of all changes of those by itself."""
FRESH_SECONDS: Final = 10.0
"""What was seen before is not taken for what is."""
SET_BACK = timedelta(minutes=1)
"""Changes so long before a clock was set back are asked for again."""


@dataclass
class _Pass:
    """One way through all nodes."""

    at: datetime
    after: str = ""
    seen: set[str] = field(default_factory=set)


class Watch:
    """What Ironic's nodes are. One thread looks; any thread may ask what was seen."""

    def __init__(self, store: Store, ironic: Ironic) -> None:
        self.store, self.ironic = store, ironic
        self._nodes: dict[str, Node] = {}
        self._looking = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        """As after a start: nothing counts until all of them were seen once more."""
        self._whole = False
        self._as_of = float("-inf")
        self._asked_at = now()
        self._since = self._asked_at
        self._expected = 0
        self._pass: _Pass | None = None
        self._passes = 0
        self._next_pass = 0.0
        self._noted = float("-inf")

    def seen(self, uuid: object) -> Node | None:
        """A node as it was within the last seconds, and after all that we did to it ourselves.

        None: Ironic must be asked. Good for waiting: who acts on a disk asks Ironic first.
        """
        as_of = self._as_of
        old = as_of < time.monotonic() - FRESH_SECONDS
        if old or not self._whole or self.ironic.touched.get(str(uuid), 0.0) >= as_of:
            return None
        return self._nodes.get(str(uuid))

    @property
    def whole(self) -> bool:
        """Were all nodes seen, since it began or since Ironic did not answer?"""
        return self._whole

    def behind(self) -> bool:
        """Did we change a node since the last look?"""
        return max(self.ironic.touched.values(), default=float("-inf")) >= self._as_of

    def look(self, busy: bool) -> float:
        """Ask once what changed, and go on with the pass; the seconds until the next look.

        busy: something is under way. Raises IronicUnavailable: then all that was seen gets older.
        """
        with self._looking:
            try:
                return self._look(busy)
            except BaseException:
                self._forget()
                raise

    def catch_up(self) -> None:
        """See what is now, unless somebody did so since this was asked for."""
        asked = time.monotonic()
        with self._looking:
            done = self._as_of >= asked
        if not done:
            self.look(busy=True)

    def _look(self, busy: bool) -> float:
        began, at = time.monotonic(), now()
        if at < self._asked_at:  # the clock was set back
            self._since = at - SET_BACK
        told = self.ironic.changes(self._since, self._expected)
        changed = self._news(told)
        if len(told) >= PAGE:  # more than it tells: a pass that reads all of each node
            self._pass, self._next_pass, self._passes = None, 0.0, -1
        gone = self._go_on(changed, at)
        noted = NOTED_BUSY_SECONDS if busy else NOTED_SECONDS
        if changed or gone is not None or began > self._noted + noted:
            with self.store.write() as session:
                sight.write(session, changed.values(), all_of_them=False, at=at)
                sight.passed(session, sight.CHANGES, at)
                if gone is not None:
                    sight.forget(session, gone)
                    sight.passed(session, sight.ALL, self._pass_ended().at)
            self._noted = began
        self._nodes.update(changed)
        self._as_of, self._asked_at, self._expected = began, at, len(told) + 2
        if told:
            self._since = min(at, datetime.fromisoformat(told[0].updated_at))
        took = time.monotonic() - began
        pause = IN_FLIGHT_SECONDS if busy or self._pass or changed else IDLE_SECONDS
        if not self._whole:
            pause = 0.0  # who waits for it asks for each node
        return max(0.1, pause - took, took)  # never more than half of the time

    def _news(self, told: Iterable[Node]) -> dict[str, Node]:
        """Those that are not as we know them."""
        found = {}
        for node in told:
            known = self._nodes.get(node.uuid)
            if known and not node.updated_at:
                node = replace(node, updated_at=known.updated_at)
            if node != known:
                found[node.uuid] = node
        return found

    def _go_on(self, changed: dict[str, Node], at: datetime) -> set[UUID] | None:
        """One page of the pass; at its end who is gone, else None."""
        if self._pass is None:
            if time.monotonic() < self._next_pass:
                return None
            self._pass, self._next_pass = _Pass(at), time.monotonic() + PASS_SECONDS
            self._passes += 1
        try:
            uuids = self._uuids(self._pass.after, changed)
        except NotFound:  # the last one of the page before is gone
            self._pass, self._next_pass = None, 0.0
            self._passes -= 1  # once more of its kind
            return None
        self._pass.seen.update(uuids)
        if len(uuids) == PAGE:
            self._pass.after = uuids[-1]
            return None
        gone = self._nodes.keys() - self._pass.seen - changed.keys()
        for uuid in gone:
            del self._nodes[uuid]
        return {UUID(uuid) for uuid in gone} | self._stale_rows(self._pass.seen | changed.keys())

    def _uuids(self, after: str, changed: dict[str, Node]) -> list[str]:
        """One page of who there is; what is new among them goes to `changed`."""
        if self._whole and self._passes % WHOLE_EACH:
            uuids = self.ironic.uuids(after)
            if all(uuid in self._nodes or uuid in changed for uuid in uuids):
                return uuids
        page = self.ironic.page(after)
        changed |= self._news(n for n in page if n.uuid not in changed)
        return [node.uuid for node in page]

    def _stale_rows(self, there: set[str]) -> set[UUID]:
        """Of an earlier life."""
        if self._whole:
            return set()
        with self.store.read() as session:
            return {n for n in sight.uuids(session) if str(n) not in there}

    def _pass_ended(self) -> _Pass:
        ended, self._pass, self._whole = self._pass, None, True
        assert ended  # noqa: S101
        return ended
