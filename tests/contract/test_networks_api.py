"""Networks and layouts through the API: kept, shown, refused; what a claimer sees of them."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from provisioning import addressing
from provisioning.fabric_text import written
from provisioning.models import Claim
from provisioning.networks import networks
from tests.fakes.api import a_token, bearer, some_parts
from tests.fakes.fabric import a_layout, a_network, a_subnet

TEXT = written(a_network(vips={"filer": "10.40.0.200"}).stored())
LAYOUT = written(a_layout().stored())


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    wires = {"management": IPv4Interface("172.22.2.1/24")}
    return replace(some_parts(tmp_path), wires=wires)


@pytest.fixture
def http(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_app(parts, Door.LOCAL), client=("uid:0", 1)) as client:
        yield client


def put(http: TestClient, name: str, text: str, **headers: str) -> Any:
    return http.put(f"/v1/networks/{name}", json={"text": text}, headers=headers)


def test_a_network_is_kept_shown_listed_and_forgotten(http: TestClient) -> None:
    made = put(http, "storage", TEXT)
    assert made.status_code == 200, made.text
    shown = http.get("/v1/networks/storage").json()
    assert (shown["text"], shown["put_by"], shown["given"]) == (TEXT, "root", 1)
    assert (shown["cidrs"], shown["vips"]) == (["10.40.0.0/24"], {"filer": "10.40.0.200"})
    assert [n["name"] for n in http.get("/v1/networks").json()] == ["storage"]
    assert http.delete("/v1/networks/storage").json() == ["storage"]
    gone = http.get("/v1/networks/storage")
    assert (gone.status_code, gone.json()["remedy"]) == (
        404, "See what there is: `seed network list`.",
    )  # fmt: skip


def test_put_is_idempotent_and_if_match_keeps_two_people_apart(http: TestClient) -> None:
    put(http, "storage", TEXT)
    first = http.get("/v1/networks/storage")
    put(http, "storage", TEXT)
    again = http.get("/v1/networks/storage")
    assert again.headers["etag"] == first.headers["etag"]
    newer = TEXT.replace("vlan: 40", "vlan: 41")
    tag = {"If-Match": first.headers["etag"]}
    assert put(http, "storage", newer, **tag).status_code == 200
    late = put(http, "storage", TEXT, **tag)
    assert (late.status_code, late.json()["code"]) == (412, "precondition-failed")


@pytest.mark.parametrize(
    ("text", "status", "sentence"),
    [
        pytest.param(TEXT.replace("10.40.0.200", "10.40.0.15"), 422, "in the pool", id="VIP"),
        pytest.param(TEXT + "colour: red\n", 422, "colour: there is no such key", id="key"),
        pytest.param("name: storage\nrole: [", 422, "(line", id="no YAML"),
        pytest.param("a: &a [1]\nb: *a", 422, "aliases", id="alias"),
        pytest.param(
            TEXT.replace("name: storage", "name: other"), 422, "name is other, not", id="other name"
        ),
        pytest.param(
            TEXT.replace("10.40.0.", "172.22.2."), 409, "Seed's management network", id="overlap"
        ),
    ],
)
def test_a_wrong_network_is_refused_and_not_kept(
    http: TestClient, text: str, status: int, sentence: str
) -> None:
    answer = put(http, "storage", text)
    assert answer.status_code == status, answer.text
    assert sentence in answer.json()["detail"]
    assert answer.json()["remedy"]
    assert http.get("/v1/networks").json() == []


def test_vips_and_reservations(http: TestClient) -> None:
    put(http, "storage", TEXT)
    vip = http.put("/v1/networks/storage/vips/api", json={})
    assert (vip.status_code, vip.json()["address"]) == (200, "10.40.0.2")
    kept = http.put("/v1/networks/storage/addresses/10.40.0.12", json={"why": "old filer"})
    assert (kept.json()["kind"], kept.json()["label"]) == ("reserved", "old filer")
    found = http.get("/v1/networks/storage/addresses").json()
    assert [(a["address"], a["kind"], a["label"]) for a in found] == [
        ("10.40.0.2", "vip", "api"),
        ("10.40.0.12", "reserved", "old filer"),
        ("10.40.0.200", "vip", "filer"),
    ]
    assert http.delete("/v1/networks/storage/addresses/10.40.0.12").json() == ["10.40.0.12"]
    assert http.delete("/v1/networks/storage/addresses/10.40.0.12").status_code == 404
    assert http.put("/v1/networks/storage/addresses/x", json={}).status_code == 422
    assert http.put("/v1/networks/none/vips/api", json={}).status_code == 404


def test_layouts_are_kept_and_go_with_their_networks(http: TestClient) -> None:
    early = http.put("/v1/layouts/bonded", json={"text": LAYOUT})
    assert (early.status_code, early.json()["detail"]) == (
        422, "layout bonded: there is no network storage",
    )  # fmt: skip
    put(http, "storage", TEXT)
    made = http.put("/v1/layouts/bonded", json={"text": LAYOUT})
    assert (made.status_code, made.json()["nics"], made.json()["links"]) == (
        200, {"up": 2}, ["bond0"],
    )  # fmt: skip
    assert http.get("/v1/layouts/bonded").json()["text"] == LAYOUT
    refused = http.delete("/v1/networks/storage")
    assert (refused.status_code, "layout bonded uses" in refused.json()["detail"]) == (409, True)
    assert http.delete("/v1/layouts/bonded").json() == ["bonded"]
    assert http.delete("/v1/networks/storage").status_code == 200


def test_a_claimer_sees_documents_and_its_own_addresses(parts: Parts, http: TestClient) -> None:
    put(http, "storage", written(a_network(subnets=[a_subnet(40)]).stored()))
    http.put("/v1/layouts/bonded", json={"text": LAYOUT})
    http.put("/v1/networks/storage/addresses/10.40.0.19", json={"why": "secret"})
    secret = a_token(parts, "mine", Role.CLAIMER, project="mine")
    a_token(parts, "theirs", Role.CLAIMER, project="theirs")
    with parts.store.write() as session:
        for project in ("theirs", "mine"):
            claim = Claim(name=f"web-{project}", image="debian", project=project)
            session.add(claim)
            session.flush()
            addressing.assign(session, claim.id, a_layout(), networks(session), [(uuid4(), 0)])
    with TestClient(create_app(parts, Door.WEB), headers=bearer(secret)) as web:
        (listed,) = web.get("/v1/networks").json()
        assert (listed["given"], listed["put_by"]) == (None, "")
        assert web.get("/v1/networks/storage").json()["document"]["vlan"] == 40
        assert web.get("/v1/layouts/bonded").json()["text"] == LAYOUT
        (own,) = web.get("/v1/networks/storage/addresses").json()
        assert (own["address"], own["claim"]) == ("10.40.0.11", "web-mine")
        assert put(web, "storage", TEXT).status_code == 403
