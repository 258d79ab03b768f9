"""Idempotency-Key: a retry gets the first answer, also after a crash, and nothing is done twice."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from sqlalchemy import func
from sqlmodel import select

from api import app as api_app
from api.auth import Anyone
from api.parts import Door, Here, Parts
from api.roles import Role
from provisioning.kept import Ask, Kept
from provisioning.models import Event, Token, now
from provisioning.store import record
from provisioning.tenants import KeptAnswer
from tests.fakes.api import a_token, bearer, some_parts

ROOT = ("uid:0", 1)


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return some_parts(tmp_path)


@pytest.fixture
def root(parts: Parts) -> Iterator[TestClient]:
    with TestClient(api_app.create_app(parts, Door.LOCAL), client=ROOT) as client:
        yield client


def login(name: str, word: str = "Pa55-of-a-bmc") -> dict[str, str]:
    return {"name": name, "username": "admin", "password": word}


def post(client: TestClient, key: str, path: str, body: Any, **headers: str) -> Any:
    return client.post(path, json=body, headers={"Idempotency-Key": key, **headers})


def count(parts: Parts, table: Any) -> int:
    with parts.store.read() as session:
        return session.exec(select(func.count()).select_from(table)).one()


def test_a_retry_gets_the_first_answer_and_is_told_so(parts: Parts, root: TestClient) -> None:
    first = post(root, "k1", "/v1/credentials", login("rack-a"))
    again = post(root, "k1", "/v1/credentials", login("rack-a"))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert post(root, "k2", "/v1/credentials", login("rack-a")).status_code == 409
    assert count(parts, Event) == 1


def test_a_refusal_is_kept_too(root: TestClient) -> None:
    root.post("/v1/credentials", json=login("rack-a"))
    refused = [post(root, "k", "/v1/credentials", login("rack-a")) for _ in range(2)]
    assert [a.status_code for a in refused] == [409, 409]
    assert refused[1].headers["idempotency-replayed"] == "true"
    assert refused[1].headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/credentials", login("rack-b")),
        ("POST", "/v1/credentials", login("rack-a", "another-one")),
        ("POST", "/v1/credentials?x=1", login("rack-a")),
        ("PUT", "/v1/credentials/rack-a", login("rack-a")),
        ("POST", "/v1/tokens", login("rack-a")),
        ("DELETE", "/v1/tokens/rack-a", None),
    ],
)
def test_a_key_is_for_one_request(root: TestClient, method: str, path: str, body: Any) -> None:
    post(root, "k", "/v1/credentials", login("rack-a"))
    answer = root.request(method, path, json=body, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")
    assert answer.json()["remedy"]


def test_keys_of_two_callers_are_two_keys(parts: Parts) -> None:
    with TestClient(api_app.create_app(parts, Door.WEB)) as web:
        one, two = (bearer(a_token(parts, name, Role.OPERATOR)) for name in ("one", "two"))
        assert post(web, "k", "/v1/credentials", login("a"), **one).status_code == 201
        answer = post(web, "k", "/v1/credentials", login("b"), **two)
    assert (answer.status_code, answer.json()["name"]) == (201, "b")


def test_no_secret_is_kept(parts: Parts, root: TestClient, tmp_path: Path) -> None:
    made = post(root, "k", "/v1/tokens", {"name": "ci", "roles": ["viewer"]})
    assert made.status_code == 201
    again = post(root, "k", "/v1/tokens", {"name": "ci", "roles": ["viewer"]})
    assert (again.status_code, again.json()["code"]) == (409, "idempotency-answer-not-kept")
    assert "seed token revoke" in again.json()["remedy"]
    assert count(parts, Token) == 1
    post(root, "key-in-clear", "/v1/credentials", login("rack-a"))
    raw = b"".join(file.read_bytes() for file in tmp_path.glob("seed.db*"))
    for secret in (made.json()["token"], "Pa55-of-a-bmc", "key-in-clear"):
        assert secret.encode() not in raw


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "ä", "\x7f", '"'])
def test_what_is_no_key(root: TestClient, key: str) -> None:
    headers = {"Idempotency-Key": key.encode("utf-8")}
    answer = root.post("/v1/credentials", json=login("a"), headers=headers)  # type: ignore[arg-type]
    if key == '"':
        assert answer.status_code == 201  # one printable character
    else:
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


def test_a_quoted_key_is_the_same_key(root: TestClient) -> None:
    post(root, '"k 1"', "/v1/credentials", login("rack-a"))
    assert post(root, "k 1", "/v1/credentials", login("rack-a")).status_code == 201


def test_reads_need_no_key(root: TestClient) -> None:
    for _ in range(2):
        answer = root.get("/v1/images", headers={"Idempotency-Key": "k"})
        assert "idempotency-replayed" not in answer.headers


def test_a_key_is_forgotten_after_a_day(parts: Parts, root: TestClient) -> None:
    post(root, "k", "/v1/credentials", login("rack-a"))
    with parts.store.write() as session:
        row = session.exec(select(KeptAnswer)).one()
        row.created_at = now() - timedelta(hours=24, seconds=1)
    assert post(root, "k", "/v1/credentials", login("rack-b")).status_code == 201
    assert count(parts, KeptAnswer) == 1


# --- routes that wait, break, and crash ---------------------------------------------------------


class Slow:
    """A route that counts, and does what `how` says; `go` lets it end."""

    def __init__(self) -> None:
        self.go, self.began, self.times = threading.Event(), threading.Event(), 0


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def odd(parts: Parts, slow: Slow, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    router = APIRouter()

    @router.post("/v1/odd/{how}")
    def odd(how: str, caller: Anyone, parts: Here) -> dict[str, int]:
        slow.times += 1
        if how == "waits":
            slow.began.set()
            assert slow.go.wait(30)
        if how == "writes-and-breaks":
            with parts.store.write() as session:
                record(session, "odd.done")
        if "breaks" in how:
            raise ZeroDivisionError
        return {"times": slow.times}

    monkeypatch.setattr(api_app, "ROUTERS", (*api_app.ROUTERS, router))
    with TestClient(api_app.create_app(parts, Door.LOCAL), client=ROOT) as client:
        yield client


def test_while_the_first_is_at_work_the_second_is_told_to_wait(odd: TestClient, slow: Slow) -> None:
    answers: list[Any] = []
    first = threading.Thread(target=lambda: answers.append(post(odd, "k", "/v1/odd/waits", {})))
    first.start()
    assert slow.began.wait(30)
    second = post(odd, "k", "/v1/odd/waits", {})
    slow.go.set()
    first.join(30)
    assert (second.status_code, second.json()["code"]) == (409, "idempotency-at-work")
    assert second.headers["retry-after"]
    assert answers[0].json() == {"times": 1}
    assert post(odd, "k", "/v1/odd/waits", {}).json() == {"times": 1}


def test_what_broke_before_it_wrote_is_done_again(odd: TestClient, slow: Slow) -> None:
    assert post(odd, "k", "/v1/odd/breaks", {}).status_code == 503
    assert post(odd, "k", "/v1/odd/breaks", {}).status_code == 503
    assert slow.times == 2


def test_what_broke_after_it_wrote_is_not_done_again(
    parts: Parts, odd: TestClient, slow: Slow
) -> None:
    assert post(odd, "k", "/v1/odd/writes-and-breaks", {}).status_code == 503
    answer = post(odd, "k", "/v1/odd/writes-and-breaks", {})
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency-cut-off")
    assert slow.times == count(parts, Event) == 1


DIES = """
import os, signal, sys
from provisioning.kept import Ask, Kept
from provisioning.store import Store, record
store = Store(sys.argv[1])
ask = Ask("default/root/root", "k", "POST", sys.argv[2], sys.argv[3].encode(), False)
kept = Kept(store)
assert kept.begin(ask) is None
kept.working(ask)
if sys.argv[4] == "after":
    with store.write() as session:
        record(session, "odd.done")
else:
    try:
        with store.write() as session:
            record(session, "odd.done")
            session.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    finally:
        pass
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("when", "status", "events"), [("before", 200, 0), ("after", 409, 1)])
def test_a_process_killed_in_the_middle_does_not_lock_the_key(
    parts: Parts, odd: TestClient, slow: Slow, when: str, status: int, events: int
) -> None:
    url = str(parts.store.engine.url)
    died = subprocess.run(
        [sys.executable, "-c", DIES, url, "/v1/odd/fine", "{}", when], timeout=60, check=False
    )
    assert died.returncode == -9
    answer = post(odd, "k", "/v1/odd/fine", {})
    assert answer.status_code == status
    assert count(parts, Event) == events
    assert slow.times == (status == 200)


def test_a_repeatable_request_is_done_again_also_after_it_wrote(parts: Parts) -> None:
    ask = Ask("p/me", "k", "PUT", "/v1/x", b"", repeatable=True)
    first = Kept(parts.store)
    assert first.begin(ask) is None
    reset = first.working(ask)
    with parts.store.write() as session:
        record(session, "odd.done")
    reset.var.reset(reset)
    first.give_up(ask)
    assert Kept(parts.store).begin(ask) is None


def test_who_was_overtaken_writes_nothing(parts: Parts) -> None:
    """A request that outlived its claim on the key must not write beside its successor."""
    old = Ask("p/me", "k", "POST", "/v1/x", b"", repeatable=False)
    kept = Kept(parts.store)
    kept.begin(old)
    reset = kept.working(old)
    with parts.store.engine.begin() as connection:
        connection.exec_driver_sql('UPDATE keptanswer SET headers = \'{"worker": "other"}\'')
    with pytest.raises(Exception, match="another's by now"), parts.store.write() as session:
        record(session, "odd.done")
    reset.var.reset(reset)
    assert count(parts, Event) == 0
