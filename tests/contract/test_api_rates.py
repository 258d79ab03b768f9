"""Rate limits: a caller's reads and writes, and an address that does not say who it is."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.parts import Door, Parts, Rate, Rates
from api.rates import Bucket
from api.roles import Role
from tests.fakes.api import a_token, bearer, some_parts
from tests.fakes.appliance import until

FEW = Rates(reads=Rate(1, 5), writes=Rate(1, 3), failures=Rate(1, 4))


@pytest.fixture(autouse=True)
def no_window_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows end at multiples of their length, and what was counted fades from then on: a test
    that happens to begin just before such an end would be allowed one request more."""
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.5)


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return replace(some_parts(tmp_path), rates=FEW)


@pytest.fixture
def web(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_app(parts, Door.WEB)) as client:
        yield client


def test_a_caller_gets_its_burst_and_then_a_refusal_that_says_when(
    parts: Parts, web: TestClient
) -> None:
    eager = bearer(a_token(parts, "eager", Role.VIEWER))
    calm = bearer(a_token(parts, "calm", Role.VIEWER))
    answers = [web.get("/v1/images", headers=eager) for _ in range(6)]
    assert [a.status_code for a in answers] == [200] * 5 + [429]
    assert answers[0].headers["ratelimit-policy"] == '"reads";q=5;w=5'
    assert answers[0].headers["ratelimit"].startswith('"reads";r=4;t=')
    last = answers[-1]
    assert (last.headers["retry-after"], last.json()["code"]) == ("1", "too-many-requests")
    assert last.headers["ratelimit"].startswith('"reads";r=0;')
    assert last.headers["content-type"] == "application/problem+json"
    assert last.json()["remedy"]
    assert web.get("/v1/images", headers=calm).status_code == 200


def test_reads_do_not_use_up_writes(parts: Parts, web: TestClient) -> None:
    operator = bearer(a_token(parts, "op", Role.OPERATOR))
    for _ in range(6):
        web.get("/v1/images", headers=operator)
    made = [web.delete("/v1/tokens/none", headers=operator).status_code for _ in range(4)]
    assert made == [404, 404, 404, 429]


def test_an_address_that_fails_too_often_is_not_looked_at_any_more(
    parts: Parts, web: TestClient
) -> None:
    good = bearer(a_token(parts, "good", Role.VIEWER))

    def ask(address: str, who: dict[str, str]) -> int:
        return web.get("/v1/images", headers={**who, "X-Real-IP": address}).status_code

    wrong = [ask("192.0.2.1", bearer(f"guess-{n}")) for n in range(5)]
    assert wrong == [401, 401, 401, 401, 429]
    assert ask("192.0.2.1", good) == 429
    assert ask("192.0.2.2", good) == 200


def test_right_tokens_do_not_count_as_failures(parts: Parts, web: TestClient) -> None:
    headers = bearer(a_token(parts, "good", Role.VIEWER)) | {"X-Real-IP": "192.0.2.1"}
    assert [web.get("/v1/ca", headers=headers).status_code for _ in range(5)] == [200] * 5
    assert web.get("/v1/images", headers={"X-Real-IP": "192.0.2.1"}).status_code == 401


def test_health_is_for_everybody_always(web: TestClient) -> None:
    headers = {"X-Real-IP": "192.0.2.1"}
    assert {web.get("/v1/ca", headers=headers).status_code for _ in range(9)} == {401, 429}
    assert web.get("/healthz", headers=headers).status_code == 200


def test_counting_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop would wait for its start, behind every thread that works."""
    bucket, started = Bucket("reads", Rate(5, 1)), []
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda t: (started.append(t), start(t)))
    until(
        lambda: not any(isinstance(t, threading.Timer) for t in threading.enumerate()), 5, "timers"
    )
    for n in range(20):
        bucket.hit(f"caller-{n}")
    assert started == []


def test_who_does_not_come_back_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Bucket("failures", Rate(5, 1))
    for n in range(100):
        bucket.hit(f"192.0.2.{n}")
    real, monotonic = time.time, time.monotonic
    monkeypatch.setattr(time, "time", lambda: real() + 60)
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + 60)
    bucket.hit("somebody")
    assert len(bucket._limiter.storage.expirations) == 1
