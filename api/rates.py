"""How often one caller may ask, and one address may fail to say who it is.

In memory and per process: of n API processes a caller gets n times as much. Counting a request and
writing its headers takes some 15 µs (measured, 100 callers). nginx has a coarser limit in front.
"""

import threading
import time
from typing import ClassVar, Final

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import PUBLIC
from api.parts import Door, Rate, Rates
from provisioning.errors import SeedError, Unauthenticated

READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
SWEEP_SECONDS: Final = 5.0


class TooMany(SeedError):
    code: ClassVar[str] = "too-many-requests"
    status: ClassVar[int] = 429
    retryable: ClassVar[bool] = True

    def __init__(self, what: str, remedy: str, headers: dict[str, str]) -> None:
        super().__init__(what, remedy)
        self.headers = headers


class _NeverDue(threading.Timer):
    """Looks as if it ran: nobody starts another one."""

    def is_alive(self) -> bool:
        return True


class Counts(MemoryStorage):
    """Forgets what is over while it counts.

    The library does it in a thread that it starts at a hit, every 10 ms, and whose start it waits
    for: here in the event loop, behind all threads that work at that moment (5 ms each).
    """

    def __init__(self) -> None:
        super().__init__()
        self.timer.cancel()
        self.timer = _NeverDue(0.0, lambda: None)
        self._swept = time.monotonic()

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        if time.monotonic() - self._swept > SWEEP_SECONDS:
            self._swept = time.monotonic()
            over = [k for k, end in self.expirations.items() if end <= time.time()]
            for old in over:
                self.clear(old)
        return super().incr(key, expiry, amount)


class Bucket:
    """One Rate, counted per name. RateLimit headers: draft-ietf-httpapi-ratelimit-headers-10."""

    def __init__(self, policy: str, rate: Rate) -> None:
        self.policy, self.rate = policy, rate
        self._item = RateLimitItemPerSecond(rate.burst, rate.window)
        self._limiter = SlidingWindowCounterRateLimiter(Counts())

    def hit(self, name: str) -> bool:
        """Count one; whether it was within the limit."""
        return self._limiter.hit(self._item, name)

    def full(self, name: str) -> bool:
        """Whether the next one would be too many."""
        return not self._limiter.test(self._item, name)

    def headers(self, name: str) -> dict[str, str]:
        stats = self._limiter.get_window_stats(self._item, name)
        seconds = max(1, round(stats.reset_time - time.time()))
        return {
            "RateLimit-Policy": f'"{self.policy}";q={self.rate.burst};w={self.rate.window}',
            "RateLimit": f'"{self.policy}";r={max(0, stats.remaining)};t={seconds}',
        }

    def refusal(self, name: str, what: str, remedy: str) -> TooMany:
        """Retry-After: until some of it has come back, not all."""
        return TooMany(what, remedy, {"Retry-After": "1", **self.headers(name)})


class Failing:
    """Outside of Authenticate: an address that fails too often is not even looked at.

    Every 401 counts, also that of a route which takes a password. The address is the one that
    nginx writes into X-Real-IP (nobody else reaches that socket); at our own socket the kernel says
    who calls, and there is nothing to guess.
    """

    def __init__(self, app: ASGIApp, door: Door, rates: Rates) -> None:
        self.app, self.door = app, door
        self._bucket = Bucket("failures", rates.failures)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["type"] == "http" and self.door is Door.WEB and not _is_open(scope)
        source = _source(scope) if asked else ""
        if not source:
            await self.app(scope, receive, send)
            return
        if self._bucket.full(source):
            raise self._bucket.refusal(
                source,
                "too many requests from this address did not say who they are",
                "Wait, and use a token that is valid: `seed token list` (as root on the Seed host)",
            )

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401:
                self._bucket.hit(source)
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Unauthenticated:
            self._bucket.hit(source)
            raise


class PerCaller:
    """Inside of Authenticate: reads and writes of one caller are counted apart."""

    def __init__(self, app: ASGIApp, rates: Rates) -> None:
        self.app = app
        self._reads = Bucket("reads", rates.reads)
        self._writes = Bucket("writes", rates.writes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = scope.get("state", {}).get("caller")
        if scope["type"] != "http" or caller is None:
            await self.app(scope, receive, send)
            return
        bucket = self._reads if scope["method"] in READING else self._writes
        name = f"{caller.project}/{caller.name}"
        if not bucket.hit(name):
            raise bucket.refusal(
                name, f"{caller.name} asks too often", "Ask again after Retry-After seconds."
            )

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(bucket.headers(name))
            await send(message)

        await self.app(scope, receive, told)


def _is_open(scope: Scope) -> bool:
    """Whether Seed is well is told to everybody, always. A login is no such question."""
    return scope["method"] == "GET" and (scope["method"], scope["path"]) in PUBLIC


def _source(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-real-ip":
            return str(value.decode("latin-1"))[:64]
    return ""
