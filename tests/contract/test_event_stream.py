"""Events as a stream: resumed, filtered, bounded, cut off with the right to see them, and stopped.

The API listens on a real port; a test's own client could not read an answer that has no end.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlmodel import select

from api import feed
from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from api.routes import events as events_route
from provisioning.models import Token, now
from provisioning.store import record
from tests.fakes.api import a_token, bearer, some_parts
from tests.fakes.appliance import until
from tests.fakes.serving import api_on_a_port

STREAM = {"Accept": "text/event-stream"}
TIMEOUT = httpx.Timeout(20)


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return some_parts(tmp_path)


@pytest.fixture
def api(parts: Parts) -> Iterator[str]:
    with api_on_a_port(create_app(parts, Door.WEB)) as url:
        yield url


@pytest.fixture
def viewer(parts: Parts) -> dict[str, str]:
    return bearer(a_token(parts, "viewer", Role.VIEWER))


def happen(parts: Parts, *subjects: str, kind: str = "claim.moved", project: str = "red") -> None:
    with parts.store.write() as session:
        for subject in subjects:
            record(session, kind, subject, project=project)


class Following:
    """One stream, read line by line in a thread."""

    def __init__(self, api: str, headers: dict[str, str], **params: Any) -> None:
        self.lines: list[str] = []
        self.status = 0
        self.ended = False
        self._stack = ExitStack()
        client = self._stack.enter_context(httpx.Client(timeout=TIMEOUT))
        self._answer = self._stack.enter_context(
            client.stream("GET", f"{api}/v1/events", headers=headers | STREAM, params=params)
        )
        self.status, self.headers = self._answer.status_code, self._answer.headers
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for line in self._answer.iter_lines():
                self.lines.append(line)
        except (httpx.HTTPError, httpx.StreamError, OSError):
            pass  # ended by `close`, or cut
        self.ended = True

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(li.removeprefix("data: ")) for li in self.lines if li[:5] == "data:"]

    @property
    def subjects(self) -> list[str]:
        return [e["subject"] for e in self.events]

    def close(self) -> None:
        sock = self._answer.extensions["network_stream"].get_extra_info("socket")
        with suppress(OSError):  # it is closed already
            sock.shutdown(socket.SHUT_RDWR)  # the thread that reads wakes up
        self._thread.join(20)
        self._stack.close()


@contextmanager
def following(api: str, headers: dict[str, str], **params: Any) -> Iterator[Following]:
    stream = Following(api, headers, **params)
    try:
        until(lambda: bool(stream.lines), 20, "the first line")
        yield stream
    finally:
        stream.close()


def test_it_begins_now_or_after_a_number_or_where_it_was_cut(
    parts: Parts, api: str, viewer: dict[str, str]
) -> None:
    happen(parts, "a", "b", "c")
    again = viewer | {"Last-Event-ID": "2"}
    with (
        following(api, viewer) as fresh,
        following(api, viewer, after=1) as after,
        following(api, again, after=0) as resumed,  # a header of the browser goes before the URL
    ):
        until(lambda: after.subjects == ["b", "c"], 20, "what was before")
        happen(parts, "d")
        until(lambda: "d" in fresh.subjects and "d" in after.subjects, 20, "what is new")
        until(lambda: "d" in resumed.subjects, 20, "what is new")
        assert fresh.subjects == ["d"]
        assert after.subjects == ["b", "c", "d"]
        assert resumed.subjects == ["c", "d"]
        assert [li for li in resumed.lines if li.startswith("id:")] == [
            "id: 2", "id: 3", "id: 4",
        ]  # fmt: skip
        assert [li for li in fresh.lines if li.startswith("id:")] == ["id: 3", "id: 4"]
        assert fresh.headers["content-type"].startswith("text/event-stream")
        assert (fresh.headers["cache-control"], fresh.headers["x-accel-buffering"]) == (
            "no-store", "no",
        )  # fmt: skip
        assert "retry: 2000" in fresh.lines


def test_a_page_and_a_stream_tell_the_same(parts: Parts, api: str, viewer: dict[str, str]) -> None:
    happen(parts, "a", "b")
    with following(api, viewer, after=0) as stream:
        until(lambda: len(stream.events) == 2, 20, "both")
        assert stream.events == httpx.get(f"{api}/v1/events", headers=viewer).json()


def test_filters(parts: Parts, api: str, viewer: dict[str, str]) -> None:
    with (
        following(api, viewer, subject="a") as one,
        following(api, viewer, kind="claim.") as claims,
        following(api, viewer) as everything,
    ):
        happen(parts, "a", "b")
        happen(parts, "a", kind="node_moved")
        happen(parts, "b", kind="claimed")
        until(lambda: len(everything.events) == 4, 20, "all")
        happen(parts, "a", kind="claim.end")
        until(lambda: len(claims.events) == 3 and len(one.events) == 3, 20, "the end")
        assert one.subjects == ["a", "a", "a"]
        assert claims.subjects == ["a", "b", "a"]
    pages = {"subject=a": 3, "kind=claim.": 3, "kind=node_": 1, "kind=%25": 0, "kind=": 5}
    for query, count in pages.items():
        assert len(httpx.get(f"{api}/v1/events?{query}", headers=viewer).json()) == count


def test_a_claimer_sees_its_project_and_no_digest_of_others(parts: Parts, api: str) -> None:
    red = bearer(a_token(parts, "red", Role.CLAIMER, project="red"))
    with following(api, red) as stream:
        happen(parts, "hidden", project="blue")
        happen(parts, "hidden, too", project="")
        happen(parts, "seen")
        until(lambda: bool(stream.events), 20, "its own")
        assert stream.subjects == ["seen"]
        assert (stream.events[0]["hash"], stream.events[0]["previous"]) == ("", "")


@pytest.mark.parametrize("how", ["revoked", "expired", "given another project", "made anew"])
def test_who_may_not_see_it_any_more_is_cut_off(
    parts: Parts, api: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_route, "FRESH_SECONDS", 0.0)  # no event on an old look
    red = bearer(a_token(parts, "red", Role.CLAIMER, project="red"))
    with following(api, red) as stream:
        happen(parts, "before")
        until(lambda: stream.subjects == ["before"], 20, "the first")
        with parts.store.write() as session:
            token = session.exec(select(Token).where(Token.name == "red")).one()
            match how:
                case "revoked":
                    session.delete(token)
                case "expired":
                    token.expires_at = now()
                case "given another project":
                    token.project = "blue"
                case "made anew":
                    token.hash = "0" * 64
        happen(parts, "after")
        until(lambda: stream.ended, 20, "the end")
        assert stream.subjects == ["before"]


def test_who_is_revoked_is_cut_off_though_nothing_happens(
    parts: Parts, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_route, "LOOK_AGAIN_SECONDS", 0.2)
    with following(api, bearer(a_token(parts, "red", Role.CLAIMER))) as stream:
        with parts.store.write() as session:
            session.delete(session.exec(select(Token)).one())
        until(lambda: stream.ended, 20, "the end")


def test_streams_are_counted_per_caller_and_in_all(
    parts: Parts, api: str, viewer: dict[str, str]
) -> None:
    parts.feed.per_caller, parts.feed.in_all = 2, 3
    other = bearer(a_token(parts, "other", Role.VIEWER))
    with following(api, viewer), following(api, viewer):
        refused = httpx.get(f"{api}/v1/events", headers=viewer | STREAM)
        assert (refused.status_code, refused.json()["code"]) == (429, "too-many-streams")
        assert refused.headers["retry-after"]
        with following(api, other):
            full = httpx.get(f"{api}/v1/events", headers=other | STREAM)
            assert (full.status_code, full.json()["code"]) == (503, "streams-full")
            assert httpx.get(f"{api}/v1/events", headers=viewer).status_code == 200  # pages go on
    until(lambda: not parts.feed._open, 20, "the places given back")
    with following(api, viewer) as stream:
        happen(parts, "a")
        until(lambda: stream.subjects == ["a"], 20, "a new one")


def test_the_database_is_asked_as_often_for_many_followers_as_for_one(
    parts: Parts, api: str, viewer: dict[str, str]
) -> None:
    parts.feed.per_caller = 100
    asked: list[str] = []

    def looks(during: int) -> int:
        """Questions about events while the feed looked so often."""
        happen(parts, "a")
        until(lambda: streams[-1].subjects[-1:] == ["a"], 20, "a")  # caught up
        before = len(asked)
        until(lambda: len(asked) >= before + during, 20, "looks")
        begin, count = time.monotonic(), len(asked)
        until(lambda: len(asked) >= count + during, 20, "looks")
        return round((time.monotonic() - begin) / feed.LOOK_SECONDS)

    with ExitStack() as stack:
        streams = [stack.enter_context(following(api, viewer)) for _ in range(20)]
        sqlalchemy_event.listen(
            parts.store.engine, "before_cursor_execute",
            lambda *a: asked.append(a[2]) if "FROM event" in str(a[2]) else None,
        )  # fmt: skip
        assert looks(4) >= 4  # one question a look: twenty followers would ask twenty
    until(lambda: not parts.feed._open, 20, "all gone")
    window = next(iter(parts.feed._loops.values()))
    assert window._task is None  # nobody follows: nobody asks


def test_one_that_is_far_behind_misses_nothing(
    parts: Parts, api: str, viewer: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a page, and more than what is kept in memory."""
    monkeypatch.setattr(feed, "PAGE", 50)
    monkeypatch.setattr(feed, "KEPT", 20)
    happen(parts, *map(str, range(230)))
    with following(api, viewer, after=0) as stream:
        happen(parts, *map(str, range(230, 400)))
        until(lambda: len(stream.events) >= 400, 20, "all")
        happen(parts, "400")
        until(lambda: len(stream.events) >= 401, 20, "the last")
        assert stream.subjects == [str(n) for n in range(401)]


def test_a_number_of_a_database_that_was_lost_follows_from_now(
    parts: Parts, api: str, viewer: dict[str, str]
) -> None:
    with following(api, viewer | {"Last-Event-ID": "100000"}) as stream:
        happen(parts, "a")
        until(lambda: stream.subjects == ["a"], 20, "a")


@pytest.mark.parametrize("number", ["-1", "x", "1.5", str(2**63), "9" * 400])
def test_a_wrong_number_is_refused(api: str, viewer: dict[str, str], number: str) -> None:
    for headers, query in (({"Last-Event-ID": number}, ""), ({}, f"?after={number}")):
        answer = httpx.get(f"{api}/v1/events{query}", headers=viewer | STREAM | headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


def test_heartbeats_are_comments(
    parts: Parts, api: str, viewer: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_route, "HEARTBEAT_SECONDS", 0.1)
    with following(api, viewer) as stream:
        until(lambda: stream.lines.count(": still here") > 1, 20, "heartbeats")


SERVE = """
import sys, seed.serve, asyncio
from pathlib import Path
from api.app import create_app
from api.parts import Door
from provisioning.store import Store
from tests.fakes.api import some_parts
parts = some_parts(Path(sys.argv[1]))
with seed.serve.listening(Path(sys.argv[1]) / "s.sock", "nogroup") as listener:
    servers = {seed.serve._server(create_app(parts, Door.LOCAL), seed.serve.PeerProtocol): listener}
    asyncio.run(seed.serve._until_told(servers, parts.feed))
"""


def test_a_server_that_is_told_to_stop_is_not_kept_by_its_streams(tmp_path: Path) -> None:
    """As the service runs: the streams end at once, not when the grace of 2 s is over."""
    path = tmp_path / "s.sock"
    server = subprocess.Popen([sys.executable, "-c", SERVE, str(tmp_path)], cwd=Path.cwd())
    try:
        until(path.exists, 60, "the API")
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, timeout=TIMEOUT) as client:
            with client.stream("GET", "http://seed/v1/events", headers=STREAM) as answer:
                lines = answer.iter_lines()
                next(lines)
                os.kill(server.pid, signal.SIGTERM)
                list(lines)  # raises if it was cut, as it is when the grace is over
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()
