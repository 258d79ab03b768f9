"""People with a password of ours: argon2id, wrong ones counted, few computed at once."""

import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Final

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlmodel import Session, col, select

from provisioning.errors import Conflict, Invalid, NotFound, TooMany, Unauthenticated
from provisioning.models import Token, now
from provisioning.secrets import digest, new_token
from provisioning.store import Store, record
from provisioning.tenants import User

log = structlog.get_logger()

SHORTEST: Final = 12  # characters; NIST SP 800-63B asks for 8 at least, and for no other rule
MOST_BYTES: Final = 1024
AT_ONCE: Final = 2
"""Each takes 64 MiB and some 0.2 s: a flood of logins must not eat the machine."""
FREE_TRIES: Final = 4
FIRST_BLOCK: Final = 10
LONGEST_BLOCK: Final = 900
"""Seconds. Longer ones would let anybody lock a person out for good."""
SESSION: Final = timedelta(hours=8)
SESSIONS: Final = 20
"""Of one user; a new one ends the oldest."""
_STRANGERS: Final = 10_000  # names that are no user's, whose wrong tries are counted in memory

_HASHER: Final = PasswordHasher()  # RFC 9106, second recommended: 64 MiB, 3 passes, 4 lanes
# Of a password that nobody knows, with the same parameters: an unknown name takes as long.
_NOBODYS: Final = (
    "$argon2id$v=19$m=65536,t=3,p=4$tpx29US1nTo04+Hq5tGoQg"
    "$8VknMsdQ61JVjNgHJt5kwt5H3DinkA4ABRJa6C0dAvY"
)


def find(session: Session, name: str) -> User:
    user = session.get(User, name)
    if user is None:
        raise NotFound(f"there is no user {name!r}", "`seed user list`")
    return user


def block_seconds(failed: int) -> int:
    """How long nothing may be tried after so many wrong passwords in a row."""
    over = min(failed - FREE_TRIES, 32)
    return min(FIRST_BLOCK * 2 ** (over - 1), LONGEST_BLOCK) if over > 0 else 0


def check_rule(name: str, password: str) -> None:
    """Raises Invalid for a password that is none."""
    why = ""
    if len(password) < SHORTEST:
        why = f"it takes {SHORTEST} characters at least"
    elif len(password.encode()) > MOST_BYTES:
        why = f"it takes {MOST_BYTES} bytes at most"
    elif password.casefold() == name.casefold():
        why = "it is the user's name"
    if why:
        raise Invalid(
            f"this is no password: {why}", "Choose some words that do not belong together."
        )


class Porter:
    """Hashes and proves passwords. One per process: it bounds what runs at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._room = threading.BoundedSemaphore(AT_ONCE)
        self._strangers: OrderedDict[str, tuple[int, datetime | None]] = OrderedDict()
        self._lock = threading.Lock()

    def hash(self, name: str, password: str) -> str:
        """What is kept of it. Raises Invalid (the rule), TooMany."""
        check_rule(name, password)
        with self._turn():
            return _HASHER.hash(_one_form(password))

    def prove(self, name: str, password: str) -> User:
        """The user of this name and password. Raises Unauthenticated, TooMany.

        A try is counted before it is made: who asks many times at once gains nothing. Unknown
        names are counted, blocked and computed alike, so that nobody learns who is a user.
        """
        with self._turn():
            user = self._counted(name)
            if not _right(user.password_hash if user else _NOBODYS, password) or user is None:
                if user:  # other names may be passwords, typed one field too early
                    log.info("login.refused", user=user.name, failed=user.failed)
                raise Unauthenticated("this user and password are not known here", "`seed login`")
            if user.disabled_at is not None:
                raise Unauthenticated(
                    f"the user {name} is disabled", f"`seed user enable {name}`, by an operator."
                )
            better = _HASHER.check_needs_rehash(user.password_hash)
            self._known(user, _HASHER.hash(_one_form(password)) if better else "")
            return user

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._room.acquire(blocking=False):
            raise TooMany("too many passwords are being checked at once", "`seed login`", 1)
        try:
            yield
        finally:
            self._room.release()

    def _counted(self, name: str) -> User | None:
        """One more try for this name. Raises TooMany while it is blocked."""
        with self._store.write() as session:
            user = session.get(User, name)
            failed, until = (user.failed, user.blocked_until) if user else self._stranger(name)
            at = now()
            if until is not None and until > at:
                raise TooMany(
                    f"too many wrong passwords for {name}", "`seed login`, when that time is over.",
                    int((until - at).total_seconds()) + 1,
                )  # fmt: skip
            seconds = block_seconds(failed + 1)
            until = at + timedelta(seconds=seconds) if seconds else None
            if user is None:
                self._note_stranger(name, failed + 1, until)
                return None
            user.failed, user.blocked_until = failed + 1, until
            return user

    def _stranger(self, name: str) -> tuple[int, datetime | None]:
        with self._lock:
            return self._strangers.get(name, (0, None))

    def _note_stranger(self, name: str, failed: int, until: datetime | None) -> None:
        with self._lock:
            self._strangers[name] = failed, until
            self._strangers.move_to_end(name)
            if len(self._strangers) > _STRANGERS:
                self._strangers.popitem(last=False)

    def _known(self, seen: User, better_hash: str) -> None:
        with self._store.write() as session:
            user = session.get(User, seen.name)
            if user is None:
                return  # deleted meanwhile: `open_session` says so
            if user.failed > FREE_TRIES + 1:
                record(
                    session, "user.tried", user.name,
                    f"{user.failed - 1} wrong passwords before the right one", who=user.name,
                )  # fmt: skip
            user.failed, user.blocked_until = 0, None
            if better_hash and user.password_hash == seen.password_hash:
                user.password_hash = seen.password_hash = better_hash


def _right(kept: str, password: str) -> bool:
    try:
        return _HASHER.verify(kept, _one_form(password))
    except (VerifyMismatchError, InvalidHashError):  # one that is no hash fits no password
        return False


def _one_form(password: str) -> str:
    """Keyboards write the same letter differently (RFC 8265, OpaqueString)."""
    return unicodedata.normalize("NFC", password)


def open_session(store: Store, proved: User) -> tuple[Token, str]:
    """A token that is the user for eight hours, and its secret. Raises Conflict."""
    secret = new_token()
    with store.write() as session:
        user = session.get(User, proved.name)
        if user is None or user.disabled_at or user.password_hash != proved.password_hash:
            raise Conflict(f"the user {proved.name} was just changed", "`seed login`")
        _make_room(session, user.name)
        token = Token(
            name=f"{user.name[:60]}.{token_hex(8)}",
            hash=digest(secret),
            roles=user.roles,
            project=user.project,
            user=user.name,
            created_by=user.name,
            expires_at=now() + SESSION,
        )
        session.add(token)
        record(session, "session.opened", user.name, f"session {token.name}", who=user.name)
    return token, secret


def _make_room(session: Session, name: str) -> None:
    """End the user's expired sessions, and the oldest of too many."""
    rows = session.exec(
        select(Token).where(Token.user == name).order_by(col(Token.created_at).desc())
    ).all()
    for number, row in enumerate(rows):
        if number >= SESSIONS - 1 or row.expires_at <= now():
            session.delete(row)


def end_sessions(session: Session, name: str) -> int:
    """At once, all of them; how many there were."""
    rows = session.exec(select(Token).where(Token.user == name)).all()
    for row in rows:
        session.delete(row)
    return len(rows)
