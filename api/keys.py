"""Who holds a token: looked up once, and again as soon as anything in the database changed."""

import base64
import binascii
import hmac
import sqlite3
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import structlog
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from api.roles import EVERYONE, Caller, Role
from provisioning.errors import Unauthenticated
from provisioning.models import Token, now
from provisioning.secrets import digest
from provisioning.store import Store

log = structlog.get_logger()

REMEDY = "seed token create NAME --role viewer  (as root on the Seed host)"


@dataclass
class Key:
    """A token that was found good. used: the minute of its last use, as far as it was written."""

    token_id: UUID
    caller: Caller
    expires_at: datetime
    used: datetime | None


@dataclass
class Keys:
    """The lookups of one process.

    SQLite counts the commits of all others, whichever process made them (`PRAGMA data_version`):
    while that number stands still, what was looked up is still so, and a revocation counts at once.
    Any other database is asked each time.
    """

    store: Store
    _known: dict[str, Key] = field(default_factory=dict)
    _version: int | None = None
    _uses: dict[UUID, datetime] = field(default_factory=dict)
    _noting: bool = False

    async def find(self, header: str) -> Key:
        """The key in an Authorization header. Raises Unauthenticated."""
        mark, version = digest(header), self._commits()
        if version is None or version != self._version:
            self._known, self._version = {}, version
        key = self._known.get(mark)
        if key is None:
            key = await run_in_threadpool(look_up, self.store, header)
            # A commit since `version` was read is seen next time: the number differs then.
            if version is not None and version == self._version:
                self._known[mark] = key
        if key.expires_at <= now():
            raise _expired(key.caller.token, key.expires_at)
        return key

    async def note_use(self, key: Key) -> None:
        """Keep when it was used, to the minute: one write in a minute at most.

        What others use while one is written is written at once after it, by whoever writes: each
        write waits for the disk, and lets everybody look at the nodes anew.
        """
        minute = now().replace(second=0, microsecond=0)
        if key.used is not None and key.used >= minute:
            return
        key.used = minute
        self._uses[key.token_id] = minute
        if self._noting:
            return
        self._noting = True
        try:
            while self._uses:
                uses, self._uses = self._uses, {}
                await run_in_threadpool(_write_uses, self.store, uses)
        finally:
            self._noting = False

    def _commits(self) -> int | None:
        """Changes with every commit of anybody's; None: not known at once."""
        if self.store.engine.url.get_backend_name() != "sqlite":
            return None
        try:
            return self.store.version()
        except (sqlite3.Error, SQLAlchemyError):
            return None


def look_up(store: Store, header: str) -> Key:
    """The token in an Authorization header, and who holds it. Raises Unauthenticated."""
    name, secret = _parse(header)
    given = digest(secret)
    wanted = Token.name == name if name is not None else Token.hash == given
    with store.read() as session:
        token = session.exec(select(Token).where(wanted)).first()
    known = token.hash if token else digest("")  # compared in any case: the time says nothing
    if not hmac.compare_digest(known, given) or token is None:
        raise Unauthenticated("this token is not known here", REMEDY)
    if token.expires_at <= now():
        raise _expired(token.name, token.expires_at)
    caller = Caller(
        token.user or token.name,
        frozenset(Role(role) for role in token.roles if role in EVERYONE),
        token.project,
        user=token.user,
        token=token.name,
        scopes=frozenset(token.scopes),
        expires_at=token.expires_at,
    )
    return Key(token.id, caller, token.expires_at, token.last_used_at)


def _expired(name: str, when: datetime) -> Unauthenticated:
    return Unauthenticated(f"the token {name} expired on {when:%Y-%m-%d %H:%M} UTC", REMEDY)


def _write_uses(store: Store, uses: dict[UUID, datetime]) -> None:
    """Not worth a refusal: who may not write it down is served all the same."""
    try:
        with store.write() as session:
            for token_id, minute in uses.items():
                session.execute(
                    update(Token).where(col(Token.id) == token_id).values(last_used_at=minute)
                )
    except SQLAlchemyError as error:
        log.warning("token.use-not-noted", error=type(error).__name__)


def _parse(header: str) -> tuple[str | None, str]:
    """(token's name if Basic, the secret) of `Bearer TOKEN` or `Basic base64(NAME:TOKEN)`."""
    scheme, _, value = header.strip().partition(" ")
    if not header:
        raise Unauthenticated("there is no token in this request", REMEDY)
    match scheme.lower():
        case "bearer":
            return None, value.strip()
        case "basic":
            return _basic(value.strip())
    raise Unauthenticated("only Bearer and Basic authorization is known here", REMEDY)


def _basic(value: str) -> tuple[str, str]:
    try:
        name, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Unauthenticated("the Basic authorization is not readable", REMEDY) from error
    return name, secret
