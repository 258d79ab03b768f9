"""How many requests there are, and how long they take: counted around everything else."""

import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0, 60.0)
"""Seconds; 0.12 and 0.2 are what lists and a busy API are measured by."""
UNROUTED: Final = "none"


class Traffic:
    """The numbers of one process, and the registry that they are in.

    Labels are bounded: a route is its template, never the path that somebody asked for.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "seed_http_requests", "Answers by route, method and status.",
            ["route", "method", "status"], registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "seed_http_request_seconds", "From the request's first byte to the answer's.",
            ["route", "method"], registry=self.registry, buckets=BUCKETS,
        )  # fmt: skip
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        key = (route, method, status)
        found = self._children.get(key)
        if found is None:  # looking them up by labels costs more than counting
            found = self._children[key] = (
                self._requests.labels(route, method, str(status)),
                self._seconds.labels(route, method),
            )
        found[0].inc()
        found[1].observe(seconds)


class Measured:
    """Outermost of all, so that refusals and failures count, too."""

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self.app, self.traffic = app, traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", UNROUTED)
                method = scope["method"] if scope["method"] in METHODS else "other"
                self.traffic.count(route, method, message["status"], time.perf_counter() - begin)
            await send(message)

        await self.app(scope, receive, counted)
