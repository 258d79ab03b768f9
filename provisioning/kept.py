"""Answers that were given to an Idempotency-Key, so that a retry gets the same one.

draft-ietf-httpapi-idempotency-key-header-07. A key's row is written before the work, as being at
work, and gets the answer after it. In between the row says who works on it, and whether anything
of it was committed: that mark is set within the very transaction that writes (`Store.write`). So
after a crash it is known whether the work can simply be done again.

What is kept says nothing without the key: the row holds the key's digest, and the request as an
HMAC under the key, so that a password in the request cannot be guessed from it.
"""

import hashlib
import hmac
import os
from contextvars import Token as Reset
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import ClassVar, Final
from uuid import uuid4

from sqlalchemy import delete
from sqlmodel import Session, col

from provisioning.errors import Conflict, Invalid
from provisioning.models import now
from provisioning.store import AtWrite, Store, at_write
from provisioning.tenants import KeptAnswer

KEPT_FOR: Final = timedelta(hours=24)
LONGEST: Final = timedelta(minutes=15)
"""A request that began longer ago, by a process that cannot be seen from here, has ended."""


_WORKING: Final = set[str]()
"""The tickets that this process works on, at whichever door."""


class KeyReused(Invalid):
    code = "idempotency-key-reused"


class StillAtWork(Conflict):
    code, retryable = "idempotency-at-work", True


class CutOff(Conflict):
    code = "idempotency-cut-off"


class NotKept(Conflict):
    code: ClassVar[str] = "idempotency-answer-not-kept"


@dataclass(frozen=True)
class Answer:
    """What goes out. why_lost: why the body is not kept; empty: it is."""

    status: int
    headers: dict[str, str]
    body: bytes
    why_lost: str = ""


@dataclass(frozen=True)
class Ask:
    """One request with a key.

    caller:     who asks; the same key of another caller is another key.
    repeatable: doing it twice is as good as once, so that after a crash it may be.
    """

    caller: str
    key: str
    method: str
    target: str
    body: bytes
    repeatable: bool
    ticket: str = field(default_factory=lambda: uuid4().hex)

    @property
    def row(self) -> tuple[str, str]:
        return self.caller, hashlib.sha256(self.key.encode()).hexdigest()

    @property
    def digest(self) -> str:
        """HMAC-SHA256 under the key over method, target and body, hex."""
        said = b"\n".join([self.method.encode(), self.target.encode(), self.body])
        return hmac.new(self.key.encode(), said, hashlib.sha256).hexdigest()


class Kept:
    """The answers of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, ask: Ask) -> Answer | None:
        """The kept answer, or None: the work is the caller's, until `end` or `give_up`.

        Raises KeyReused, StillAtWork, CutOff, and NotKept for an answer that may not be kept.
        """
        with self._store.write() as session:
            session.execute(delete(KeptAnswer).where(col(KeptAnswer.created_at) < now() - KEPT_FOR))
            row = session.get(KeptAnswer, ask.row)
            if row is None:
                row = KeptAnswer(caller=ask.caller, key=ask.row[1], request=ask.digest)
            elif answer := _known(row, ask):
                return answer
            row.headers, row.created_at = {"worker": f"{_process()} {ask.ticket}"}, now()
            session.add(row)
            _WORKING.add(ask.ticket)
        return None

    def working(self, ask: Ask) -> Reset[AtWrite | None]:
        """From here on, in this context, each write marks the key's row. `at_write.reset` ends."""
        return at_write.set(lambda session: self._mark(session, ask))

    def _mark(self, session: Session, ask: Ask) -> None:
        row = session.get(KeptAnswer, ask.row)
        if row is None or not row.headers.get("worker", "").endswith(ask.ticket):
            raise Conflict(
                "this request took so long that its Idempotency-Key is another's by now",
                "Ask again with the same key.",
            )
        if "wrote" not in row.headers:
            row.headers = row.headers | {"wrote": "yes"}

    def end(self, ask: Ask, answer: Answer) -> None:
        """This is what a retry gets."""
        with self._store.write() as session:
            row = session.get(KeptAnswer, ask.row)
            if row is not None:
                row.status = answer.status
                row.headers = {"lost": answer.why_lost} if answer.why_lost else answer.headers
                row.body = b"" if answer.why_lost else answer.body
        _WORKING.discard(ask.ticket)

    def give_up(self, ask: Ask) -> None:
        """It ended with nothing worth keeping: a retry is judged as after a crash."""
        _WORKING.discard(ask.ticket)
        with self._store.write() as session:
            row = session.get(KeptAnswer, ask.row)
            if row is not None and not row.headers.get("wrote"):
                session.delete(row)


def _known(row: KeptAnswer, ask: Ask) -> Answer | None:
    if not hmac.compare_digest(row.request, ask.digest):
        raise KeyReused(
            "this Idempotency-Key was used for another request",
            "Take a new key for each new thing: `uuidgen`.",
        )
    if row.status:
        return _answer(row, ask)
    if _alive(row):
        raise StillAtWork(
            "the first request with this Idempotency-Key is still at work",
            "Ask again after Retry-After seconds, with the same key.",
        )
    if row.headers.get("wrote") and not ask.repeatable:
        raise CutOff(
            "the first request with this Idempotency-Key was cut off after it had written",
            f"See whether it is done: `seed claim list`, `seed node list`, or GET "
            f"{ask.target.partition(':')[0]}. If it is not, ask with a new key.",
        )
    return None


def _alive(row: KeptAnswer) -> bool:
    where, _, ticket = row.headers.get("worker", "").rpartition(" ")
    if where == _process():
        return ticket in _WORKING
    machine, _, process = where.partition(" ")
    if machine == _machine():
        number, _, started = process.partition(" ")
        return bool(number) and _started(number) == started
    return row.created_at > now() - LONGEST


def _answer(row: KeptAnswer, ask: Ask) -> Answer:
    if why := row.headers.get("lost"):
        raise NotKept(
            f"this was done before, with the answer {row.status}, and {why}",
            f"See what is there with GET {ask.target.partition('?')[0]}; a token whose secret is "
            "lost is ended by `seed token revoke NAME` and made anew with a new key.",
        )
    return Answer(row.status, dict(row.headers), row.body)


def _process() -> str:
    """This process, such that no other one is ever called the same."""
    number = str(os.getpid())
    return f"{_machine()} {number} {_started(number)}"


@cache
def _machine() -> str:
    """This boot of this kernel, and which processes can be seen."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"


def _started(number: str) -> str:
    """When process `number` began, in ticks since boot (proc_pid_stat(5), field 22)."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]
