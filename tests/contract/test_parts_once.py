"""One-time parts at the node gateway: who gets them, how long, and what nobody learns."""

import io
import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import col, select

from api import gateway
from api.gateway import create_gateway
from api.parts import Parts
from provisioning import orders, parts_once
from provisioning.errors import NotFound
from provisioning.models import Address, Event, Order, now
from provisioning.one_time import OneTimePart
from provisioning.secrets import digest
from provisioning.states import AddressKind, OrderKind
from provisioning.targets import PartSpec, PartUrl
from tests.contract.test_gateway import ADDRESS, FOREIGN, MAC, OTHER_ADDRESS, PROOF, TOKEN, an_order
from tests.contract.test_leaks import everything_logged, leaked
from tests.fakes.api import some_parts

CONTENT = 'join t0ken "c4n\u00e4ry"/+&={part}'
SPECS = [
    PartSpec("join", "/etc/join", 0o600, CONTENT.encode()),
    PartSpec("large", "/srv/large", 0o644, bytes(range(256)) * 4096, "svc:svc"),
]
GATEWAY = "https://172.22.0.1"
HOUR = timedelta(hours=1)


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return some_parts(tmp_path)


@pytest.fixture
def http(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_gateway(parts)) as client:
        yield client


def deploying(parts: Parts, **fields: Any) -> tuple[Order, list[PartUrl]]:
    wanted = {"proof_hash": digest(TOKEN)} | fields
    order = an_order(parts, OrderKind.DEPLOY, **wanted)
    return order, made(parts, order)


def made(parts: Parts, order: Order) -> list[PartUrl]:
    with parts.store.write() as session:
        return parts_once.make(session, order, SPECS, GATEWAY, now() + HOUR)


def fetch(http: TestClient, url: str, source: str = ADDRESS) -> httpx.Response:
    return http.get(url.removeprefix(GATEWAY), headers={"X-Real-IP": source})


def rows(parts: Parts, kind: type[Any]) -> list[Any]:
    with parts.store.read() as session:
        return list(session.exec(select(kind)).all())


def events(parts: Parts, kind: str) -> list[Event]:
    with parts.store.read() as session:
        return list(session.exec(select(Event).where(Event.kind == kind).order_by(col(Event.id))))


def alarm(parts: Parts, order: Order) -> str:
    with parts.store.read() as session:
        return session.get_one(Order, order.id).alarm


def test_the_node_gets_its_parts_and_each_read_is_an_event(http: TestClient, parts: Parts) -> None:
    order, (join, large) = deploying(parts)
    for expected, url in zip(SPECS, (join, large), strict=True):
        answer = fetch(http, url.url)
        assert (answer.status_code, answer.content) == (200, expected.content)
        assert answer.headers["cache-control"] == "no-store"
        assert (url.name, url.path, url.mode, url.owner) == (
            expected.name, expected.path, expected.mode, expected.owner,
        )  # fmt: skip
    assert fetch(http, join.url).status_code == 200  # the same boot attempt, once more
    told = events(parts, "order.part-read")
    assert [e.message for e in told] == ["join, time 1", "large, time 1", "join, time 2"]
    assert {e.data["order"] for e in told} == {str(order.id)}
    assert alarm(parts, order) == ""


def test_an_address_that_a_claim_gave_the_node_is_the_nodes(http: TestClient, parts: Parts) -> None:
    order, (join, _) = deploying(parts)
    with parts.store.write() as session:
        session.add(Address(address="10.30.0.5", kind=AddressKind.NODE, node_uuid=order.node_uuid))
    assert fetch(http, join.url, "10.30.0.5").status_code == 200


@pytest.mark.parametrize("source", [FOREIGN, OTHER_ADDRESS])
def test_a_read_from_another_address_stops_the_order(
    http: TestClient, parts: Parts, source: str
) -> None:
    order, (join, large) = deploying(parts)
    refused = fetch(http, join.url, source)
    nothing = http.get(f"/v1/parts/{'x' * 43}", headers={"X-Real-IP": source})
    assert (refused.status_code, nothing.status_code) == (404, 404)
    same = ("detail", "remedy", "code", "title")
    assert [refused.json()[k] for k in same] == [nothing.json()[k] for k in same]
    assert f"its part join was asked for from {source}" in alarm(parts, order)
    assert len(events(parts, "order.alarm")) == 1
    for url in (join, large):  # the right one is too late
        assert fetch(http, url.url).status_code == 404
    proof = http.post("/v1/phone-home", json=PROOF, headers={"X-Real-IP": ADDRESS})
    assert proof.status_code == 404
    assert {row.content for row in rows(parts, OneTimePart)} == {b""}


def test_the_proof_burns_them(http: TestClient, parts: Parts) -> None:
    order, (join, large) = deploying(parts)
    assert fetch(http, join.url).status_code == 200
    proof = http.post("/v1/phone-home", json=PROOF, headers={"X-Real-IP": ADDRESS})
    assert proof.status_code == 204
    for source in (ADDRESS, FOREIGN):
        assert fetch(http, join.url, source).status_code == 404
        assert fetch(http, large.url, source).status_code == 404
    assert alarm(parts, order) == ""
    assert {row.content for row in rows(parts, OneTimePart)} == {b""}


def test_they_are_good_for_an_hour_at_most(
    http: TestClient, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = an_order(parts, OrderKind.DEPLOY)
    with parts.store.write() as session:
        urls = parts_once.make(session, order, SPECS, GATEWAY, now() + 5 * HOUR)
    early = now() + timedelta(minutes=59)
    monkeypatch.setattr(parts_once, "now", lambda: early)
    assert fetch(http, urls[0].url).status_code == 200
    late = now() + timedelta(minutes=61)
    monkeypatch.setattr(parts_once, "now", lambda: late)
    assert fetch(http, urls[0].url).status_code == 404
    assert fetch(http, urls[0].url, FOREIGN).status_code == 404
    assert alarm(parts, order) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"closed_at": now()}, {"alarm": "somebody was here"}, {"kind": OrderKind.CLEAN},
        {"generation": 2}, {"node_uuid": uuid4()}, {"proof_at": now()},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_they_are_of_one_order_and_generation(
    http: TestClient, parts: Parts, changes: dict[str, Any]
) -> None:
    order, (join, _) = deploying(parts)
    with parts.store.write() as session:
        row = session.get_one(Order, order.id)
        for name, value in changes.items():
            setattr(row, name, value)
    assert fetch(http, join.url).status_code == 404
    assert events(parts, "order.part-read") == []


def test_a_closed_order_has_none(parts: Parts) -> None:
    order, _ = deploying(parts)
    with parts.store.write() as session:
        orders.close(session, session.get_one(Order, order.id), "replaced")
    assert {(row.content, row.burned_at is None) for row in rows(parts, OneTimePart)} == {
        (b"", False)
    }


def test_made_again_after_a_crash_both_are_good(http: TestClient, parts: Parts) -> None:
    """Ironic may have been told the first ones, or the second ones: nobody knows."""
    order, first = deploying(parts)
    second = made(parts, order)
    assert {u.url for u in first}.isdisjoint(u.url for u in second)
    for url in (*first, *second):
        assert fetch(http, url.url).status_code == 200


def test_the_row_alone_opens_nothing(http: TestClient, parts: Parts) -> None:
    """Not swapped with another part's either, nor with a changed name."""
    _, (join, large) = deploying(parts)
    with parts.store.write() as session:
        one, two = session.exec(select(OneTimePart).order_by(col(OneTimePart.name))).all()
        assert CONTENT.encode() not in one.content
        one.content, two.content = two.content, one.content
    assert [fetch(http, u.url).status_code for u in (join, large)] == [404, 404]


def test_reads_are_counted_and_end(http: TestClient, parts: Parts) -> None:
    _, (join, _) = deploying(parts)
    with parts.store.write() as session:
        for row in session.exec(select(OneTimePart)):
            row.reads = parts_once.READS - 1
    assert [fetch(http, join.url).status_code for _ in range(3)] == [200, 404, 404]
    assert len(events(parts, "order.part-read")) == 1


@pytest.mark.parametrize(
    "path",
    ["/v1/parts/", "/v1/parts/x", f"/v1/parts/{'x' * 44}", f"/v1/parts/{'x' * 42}%0a",
     f"/v1/parts/{'é' * 43}", f"/v1/parts/{'x' * 43}/", "/v1/parts"],
)  # fmt: skip
def test_what_is_no_token_is_nothing(http: TestClient, path: str) -> None:
    assert http.get(path, headers={"X-Real-IP": ADDRESS}).status_code == 404


@settings(
    max_examples=200, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(token=st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]{43}", fullmatch=True))
def test_no_guess_is_ever_right(parts: Parts, token: str) -> None:
    if not rows(parts, OneTimePart):
        deploying(parts)
    with pytest.raises(NotFound):
        parts_once.read(parts.store, token, ADDRESS)


def test_neither_url_nor_content_is_told_anywhere(parts: Parts, tmp_path: Path) -> None:
    """Logs at DEBUG, events, the database: a backup may be read by others."""
    with everything_logged() as log, TestClient(create_gateway(parts)) as http:
        _, urls = deploying(parts)
        tokens = {u.name: u.url.rpartition("/")[2] for u in urls}
        for source in (ADDRESS, FOREIGN):
            assert fetch(http, urls[0].url, source).status_code in (200, 404)
        http.post(urls[0].url.removeprefix(GATEWAY), headers={"X-Real-IP": ADDRESS})
        logging.getLogger("seed").debug("the end")
        text = _without_client(log)
    secrets = tokens | {"content": CONTENT}
    assert not leaked(text.encode(), secrets)
    assert not leaked(str([e.model_dump() for e in rows(parts, Event)]).encode(), secrets)
    url = str(parts.store.engine.url).removeprefix("sqlite:///")
    kept = b"".join(p.read_bytes() for p in Path(url).parent.glob("seed.db*"))
    assert not leaked(kept, secrets)


def _without_client(log: io.StringIO) -> str:
    """httpx is the caller here, and logs what it asks for."""
    return "\n".join(line for line in log.getvalue().splitlines() if "HTTP Request" not in line)


def test_a_request_that_breaks_does_not_tell_the_url(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("it broke")

    monkeypatch.setattr(gateway.parts_once, "read", broken)
    with (
        everything_logged() as log,
        TestClient(create_gateway(parts), raise_server_exceptions=False) as http,
    ):
        answer = http.get(f"/v1/parts/{'y' * 43}", headers={"X-Real-IP": ADDRESS})
        text = _without_client(log)
    assert answer.status_code == 503
    assert "request.broke" in text
    assert "y" * 43 not in text + answer.text


def test_the_macs_of_the_order_have_nothing_to_do_with_it(http: TestClient, parts: Parts) -> None:
    _, (join, _) = deploying(parts, macs=[])
    assert fetch(http, join.url).status_code == 200
    assert MAC not in fetch(http, join.url).text
