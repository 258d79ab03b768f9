"""Logins of a Redfish BMC: accounts on file, sessions in memory. Standard library only."""

import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

MAX_SESSIONS = 8
IDLE_SECONDS = 600.0
MIN_PASSWORD, MAX_PASSWORD = 8, 40


def _digest(password: str, salt: str) -> str:
    # Few rounds: every basic-auth request pays them, and this BMC lives for an hour.
    return hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), n=2**8, r=8, p=1).hex()


@dataclass
class Account:
    id: str
    username: str
    role: str
    salt: str
    digest: str
    enabled: bool = True

    def set_password(self, password: str) -> None:
        self.salt = secrets.token_hex(16)
        self.digest = _digest(password, self.salt)

    def accepts(self, password: str) -> bool:
        return self.enabled and hmac.compare_digest(_digest(password, self.salt), self.digest)


class Accounts:
    """Accounts by id. Changes are on file before they are answered."""

    def __init__(self, path: Path, username: str, password: str) -> None:
        """Read `path`, or begin with one administrator."""
        self.path = path
        self._lock = threading.RLock()
        self._by_id: dict[str, Account] = {}
        if path.exists():
            self._by_id = {row["id"]: Account(**row) for row in json.loads(path.read_text())}
        else:
            self.add(username, password, "Administrator")

    def all(self) -> list[Account]:
        return list(self._by_id.values())

    def get(self, account_id: str) -> Account | None:
        return self._by_id.get(account_id)

    def find(self, username: str) -> Account | None:
        return next((a for a in self._by_id.values() if a.username == username), None)

    def check(self, username: str, password: str) -> bool:
        account = self.find(username)
        return account is not None and account.accepts(password)

    def add(self, username: str, password: str, role: str) -> Account:
        """A new account; the name must be free."""
        with self._lock:
            number = next(str(n) for n in range(1, 1000) if str(n) not in self._by_id)
            account = Account(number, username, role, salt="", digest="")
            account.set_password(password)
            self._by_id[number] = account
            self.save()
            return account

    def remove(self, account_id: str) -> None:
        with self._lock:
            self._by_id.pop(account_id, None)
            self.save()

    def save(self) -> None:
        """Write all accounts, readable by root only."""
        with self._lock:
            fresh = self.path.with_name(self.path.name + ".new")
            fresh.unlink(missing_ok=True)
            descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump([asdict(account) for account in self._by_id.values()], file)
            fresh.replace(self.path)


@dataclass
class Session:
    id: str
    username: str
    token: str
    used: float


class Sessions:
    """At most MAX_SESSIONS living sessions; one idle for IDLE_SECONDS is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_id: dict[str, Session] = {}
        self._count = 0

    def _expire(self) -> None:
        now = time.monotonic()
        for session in list(self._by_id.values()):
            if now - session.used > IDLE_SECONDS:
                del self._by_id[session.id]

    def open(self, username: str) -> Session | None:
        """A new session, None if all are taken."""
        with self._lock:
            self._expire()
            if len(self._by_id) >= MAX_SESSIONS:
                return None
            self._count += 1
            number = str(self._count)
            session = Session(number, username, secrets.token_urlsafe(24), time.monotonic())
            self._by_id[number] = session
            return session

    def use(self, token: str) -> Session | None:
        """The living session of `token`, which is then no longer idle."""
        with self._lock:
            self._expire()
            for session in self._by_id.values():
                if hmac.compare_digest(session.token.encode(), token.encode()):
                    session.used = time.monotonic()
                    return session
            return None

    def all(self) -> list[Session]:
        with self._lock:
            self._expire()
            return list(self._by_id.values())

    def close(self, session_id: str) -> bool:
        with self._lock:
            return self._by_id.pop(session_id, None) is not None

    def close_of(self, username: str) -> None:
        """Close every session of a user whose login changed."""
        with self._lock:
            for session in [s for s in self._by_id.values() if s.username == username]:
                del self._by_id[session.id]
