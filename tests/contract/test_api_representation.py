"""Lists page by page, filtered, sorted, with some fields; ETag, If-None-Match, If-Match."""

import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import select

from api import lists
from api.app import create_app
from api.parts import Door, Parts
from api.representation import PARTIAL
from provisioning.models import Bmc, Credential
from provisioning.store import record
from seed.client import Seed
from tests.fakes.api import some_parts


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return some_parts(tmp_path)


@pytest.fixture
def http(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_app(parts, Door.LOCAL), client=("uid:0", 1)) as client:
        yield client


@pytest.fixture
def bmcs(parts: Parts) -> list[str]:
    """Seven BMCs, two of one maker."""
    addresses = [f"10.0.0.{n}" for n in range(1, 8)]
    with parts.store.write() as session:
        for n, address in enumerate(addresses):
            vendor = "Dell" if n in (2, 5) else "HPE"
            macs = [f"52:54:00:00:00:0{n}"]
            session.add(Bmc(address=address, protocol="redfish", vendor=vendor, macs=macs))
    return addresses


def pages(http: TestClient, path: str) -> Iterator[list[dict[str, Any]]]:
    """Every page, by the header Link."""
    while path:
        answer = http.get(path)
        assert answer.status_code == 200, answer.text
        yield answer.json()
        path = answer.links.get("next", {}).get("url", "")


def test_pages_are_the_whole_list_once(http: TestClient, bmcs: list[str]) -> None:
    found = list(pages(http, "/v1/bmcs?limit=3"))
    assert [len(page) for page in found] == [3, 3, 1]
    assert [row["address"] for page in found for row in page] == bmcs


def test_the_last_page_has_no_link(http: TestClient, bmcs: list[str]) -> None:
    for limit in (7, 8, 1000):
        assert "link" not in http.get(f"/v1/bmcs?limit={limit}").headers


def test_a_page_goes_on_after_the_last_row_wherever_that_is_now(
    http: TestClient, parts: Parts, bmcs: list[str]
) -> None:
    first = http.get("/v1/bmcs?limit=3")
    with parts.store.write() as session:
        session.add(Bmc(address="10.0.0.0", protocol="redfish"))  # before all that was shown
    rest = http.get(first.links["next"]["url"]).json()
    assert [row["address"] for row in rest] == bmcs[3:6]


def test_filters_are_the_nouns_own_fields(http: TestClient, bmcs: list[str]) -> None:
    def found(query: str) -> list[str]:
        return [row["address"] for row in http.get(f"/v1/bmcs?{query}").json()]

    assert found("vendor=Dell") == [bmcs[2], bmcs[5]]
    assert found("vendor=Dell&vendor=HPE") == bmcs
    assert found("vendor=Dell&state=accepted") == []
    assert found("macs=52:54:00:00:00:04") == [bmcs[4]]
    assert found("vendor=Dell&sort=-address") == [bmcs[5], bmcs[2]]
    assert found("sort=vendor,-address") == [bmcs[i] for i in (5, 2, 6, 4, 3, 1, 0)]
    assert [r["address"] for p in pages(http, "/v1/bmcs?vendor=HPE&sort=-address&limit=2")
            for r in p] == [bmcs[i] for i in (6, 4, 3, 1, 0)]  # fmt: skip


def test_only_some_fields(http: TestClient, bmcs: list[str]) -> None:
    many = http.get("/v1/bmcs?fields=address,vendor&limit=1")
    assert many.json() == [{"address": bmcs[0], "vendor": "HPE"}]
    assert many.headers["content-type"] == PARTIAL
    assert "fields=address%2Cvendor" in many.links["next"]["url"]
    one = http.get(f"/v1/bmcs/{bmcs[0]}?fields=vendor")
    assert one.json() == {"vendor": "HPE"}
    whole = http.get(f"/v1/bmcs/{bmcs[0]}")
    assert whole.headers["content-type"] == "application/json"
    assert one.headers["etag"] != whole.headers["etag"]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("limit=0", "limit: not a number from 1 to 1000"),
        ("limit=-1", "limit: "),
        ("limit=1001", "limit: "),
        ("limit=1e3", "limit: "),
        ("limit=٣", "limit: "),
        ("limit=", "limit: "),
        ("limit=99999999999999999999999999", "limit: "),
        ("limit=1&limit=2", "limit: it is there 2 times"),
        ("fields=password", "fields: there is no field 'password'"),
        ("fields=", "fields: there is no field ''"),
        ("fields=-address", "fields: there is no field"),
        ("sort=password", "sort: there is no field"),
        ("sort=--address", "sort: there is no field"),
        ("colour=red", "query: there is no 'colour' to ask for here"),
        ("vendor=" + "x" * 256, "vendor: longer than 255 characters"),
        ("vendor=%00", "vendor: a NUL character"),
        ("cursor=", ""),
        ("cursor=x", "cursor: it is not one of this list"),
        ("cursor=" + base64.urlsafe_b64encode(b"a.1.b").decode(), "cursor: "),
        ("cursor=%ff%fe", "cursor: "),
    ],
)
def test_a_wrong_query_is_told(
    http: TestClient, bmcs: list[str], query: str, sentence: str
) -> None:
    answer = http.get(f"/v1/bmcs?{query}")
    if not sentence:  # an empty cursor is none: forms send it
        assert len(answer.json()) == 7
        return
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert answer.json()["detail"].startswith(sentence)
    assert answer.json()["remedy"]


def test_a_cursor_is_for_its_own_list_and_filters(http: TestClient, bmcs: list[str]) -> None:
    url = http.get("/v1/bmcs?limit=3").links["next"]["url"]
    cursor = url.partition("cursor=")[2]
    for path in ("/v1/bmcs?vendor=HPE", "/v1/bmcs?sort=vendor", "/v1/credentials?"):
        assert http.get(f"{path}&cursor={cursor}").status_code == 422
    flipped = cursor[:4] + ("A" if cursor[4] != "A" else "B") + cursor[5:]
    assert http.get(f"/v1/bmcs?cursor={flipped}").status_code == 422
    assert http.get(f"/v1/bmcs?limit=7&cursor={cursor}").status_code == 200


def test_a_list_is_never_longer_than_a_thousand(http: TestClient, parts: Parts) -> None:
    with parts.store.write() as session:
        for n in range(1500):
            session.add(Credential(name=f"c{n:04}", username="u", sealed=b"x"))
    assert [len(page) for page in pages(http, "/v1/credentials")] == [1000, 500]
    command = Seed(socket=Path("/nowhere"))  # the CLI's, over this connection
    command._http = http
    assert len(command.get("/credentials")) == 1500
    assert len(command.get("/credentials", limit=10)) == 10
    assert command.get("/credentials/c0007")["name"] == "c0007"


def test_a_single_noun_has_no_pages(http: TestClient, bmcs: list[str]) -> None:
    assert http.get(f"/v1/bmcs/{bmcs[0]}?limit=3").status_code == 422


ROWS = st.lists(
    st.fixed_dictionaries(
        {"a": st.none() | st.booleans() | st.integers() | st.text(), "b": st.lists(st.text())}
    ),
    max_size=30,
)


@given(ROWS, st.integers(1, 9), st.sampled_from(["", "a", "-a", "b", "a,-b"]))
def test_whatever_is_in_a_list_its_pages_come_to_an_end(
    rows: list[dict[str, Any]], limit: int, sort: str
) -> None:
    rows = [{"id": n, **row} for n, row in enumerate(rows)]
    query = f"limit={limit}" + (f"&sort={sort}" if sort else "")
    seen: list[Any] = []
    link = "first"
    while link:
        wish = lists.read(query, ["id", "a", "b"], [], many=True)
        found, link = lists.page(list(rows), wish, "/v1/x")
        seen += [row["id"] for row in found]
        query = link.partition("?")[2].partition(">")[0]
    assert sorted(seen) == list(range(len(rows)))


# --- ETag ---------------------------------------------------------------------------------------


def test_what_did_not_change_is_not_sent_again(http: TestClient, bmcs: list[str]) -> None:
    for path in (f"/v1/bmcs/{bmcs[0]}", "/v1/bmcs", "/v1/bmcs?fields=address"):
        etag = http.get(path).headers["etag"]
        for sent in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            answer = http.get(path, headers={"If-None-Match": sent})
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == etag
        assert http.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def login(username: str) -> dict[str, str]:
    return {"username": username, "password": "Pa55-of-a-bmc"}


def put(http: TestClient, username: str, **headers: str) -> Any:
    return http.put("/v1/credentials/rack-a", json=login(username), headers=headers)


def test_a_change_with_a_stale_etag_changes_nothing(http: TestClient) -> None:
    put(http, "one")
    etag = http.get("/v1/credentials/rack-a").headers["etag"]
    assert put(http, "two", **{"If-Match": etag}).status_code == 200
    refused = put(http, "three", **{"If-Match": etag})
    assert (refused.status_code, refused.json()["code"]) == (412, "precondition-failed")
    current = http.get("/v1/credentials/rack-a")
    assert refused.headers["etag"] == current.headers["etag"] != etag
    assert current.json()["username"] == "two"
    assert put(http, "four", **{"If-Match": f'"old", {refused.headers["etag"]}'}).is_success
    assert put(http, "five", **{"If-Match": "*"}).is_success
    assert put(http, "six").is_success  # nobody has to


def test_a_verb_is_compared_with_its_noun(http: TestClient, parts: Parts, bmcs: list[str]) -> None:
    path = f"/v1/bmcs/{bmcs[0]}"
    body = {"name": "web-1"}
    etag = http.get(path).headers["etag"]
    with parts.store.write() as session:
        session.exec(select(Bmc).where(Bmc.address == bmcs[0])).one().vendor = "Other"
    stale = http.post(f"{path}:accept", json=body, headers={"If-Match": etag})
    assert stale.status_code == 412
    assert http.get(path).json()["state"] == "observed"
    fresh = {"If-Match": stale.headers["etag"]}
    answer = http.post(f"{path}:accept", json=body, headers=fresh)
    assert answer.json()["code"] != "precondition-failed"  # the route's own word, whatever it is


@pytest.mark.parametrize("sent", ["5f0c", '"a" "b"', '"a', "W/", '"a",', "'a'", '"ä"'])
def test_what_is_no_etag(http: TestClient, sent: str) -> None:
    for name in ("If-Match", "If-None-Match"):
        headers = {name: sent.encode()}
        answer = http.request(
            "PUT" if name == "If-Match" else "GET",
            "/v1/credentials/rack-a",
            json=login("x") if name == "If-Match" else None,
            headers=headers,  # type: ignore[arg-type]
        )
        if name == "If-None-Match" and answer.status_code == 404:
            continue  # nothing there to compare with
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


def test_if_match_on_what_is_not_there(http: TestClient) -> None:
    answer = put(http, "one", **{"If-Match": "*"})
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition-failed")
    assert http.get("/v1/credentials").json() == []


def test_of_two_changes_at_once_with_one_etag_one_wins(http: TestClient, parts: Parts) -> None:
    put(http, "start")
    etag = http.get("/v1/credentials/rack-a").headers["etag"]
    gate, statuses = threading.Barrier(8), list[int]()

    def change(n: int) -> None:
        gate.wait(30)
        statuses.append(put(http, f"user-{n}", **{"If-Match": etag}).status_code)

    threads = [threading.Thread(target=change, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(statuses) == [200] + [412] * 7


def test_a_kept_answer_does_not_care_for_etags(http: TestClient) -> None:
    """The first one changed the noun, so its retry comes with a stale ETag."""
    put(http, "one")
    headers = {"If-Match": http.get("/v1/credentials/rack-a").headers["etag"]}
    headers["Idempotency-Key"] = "k"
    assert [put(http, "two", **headers).status_code for _ in range(2)] == [200, 200]


def test_the_age_of_an_event_list_is_its_etag(http: TestClient, parts: Parts) -> None:
    etag = http.get("/v1/events").headers["etag"]
    with parts.store.write() as session:
        record(session, "odd.done")
    assert http.get("/v1/events", headers={"If-None-Match": etag}).status_code == 200
