"""Lists by the API: a file is the body, no password comes out, a bad one changes nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.parts import Door, Parts
from api.routes.observations import FILES
from provisioning.models import Bmc
from tests.fakes.api import some_parts

SECRET = "Fac70ry-pa55"
LIST = f"serial,bmc mac,user,password\nS1,52:54:00:00:00:0a,root,{SECRET}\nS2,,,\n".encode()


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return some_parts(tmp_path)


@pytest.fixture
def http(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_app(parts, Door.LOCAL), client=("uid:0", 1)) as client:
        yield client


def upload(http: TestClient, path: str, body: bytes, **query: Any) -> Any:
    return http.post(path, params=query, content=body)


def test_from_a_list_to_the_difference(http: TestClient, parts: Parts) -> None:
    done = upload(http, "/v1/packing-lists", LIST, name="p.csv")
    assert done.status_code == 201
    assert done.json()["logins"] == 1
    with parts.store.write() as session:
        session.add(Bmc(address="10.0.0.5", protocol="redfish", serial="S1"))
    lines = http.get("/v1/packing-lists:diff", params={"name": "p.csv"}).json()
    assert [(line["status"], line["serial"], line["where"]) for line in lines] == [
        ("arrived", "S1", "row 2"), ("missing", "S2", "row 3")
    ]  # fmt: skip
    (box,) = http.get("/v1/observations", params={"match": "10.0.0.5"}).json()
    assert [w["source"] for w in box["words"]] == ["sweep", "packing-list"]
    told = [http.get(p).text for p in ("/v1/observations", "/v1/events", "/v1/credentials")]
    assert SECRET not in "".join([*told, done.text, str(lines), str(box)])
    assert http.get("/v1/packing-lists").json() == [
        {"name": "p.csv", "source": "packing-list", "servers": 2}
    ]
    answer = http.post("/v1/observations:forget", json={"name": "S2"})
    assert answer.json() == {"forgotten": 1}
    assert http.get("/v1/observations", params={"match": "S2"}).status_code == 404


def test_an_import_is_announced_not_enrolled(http: TestClient) -> None:
    node = {"name": "web-1", "driver": "ipmi", "driver_info": {"ipmi_address": "10.0.0.7"}}
    body = json.dumps({"nodes": [node]}).encode()
    done = upload(http, "/v1/imports", body, name="nodes.json").json()
    assert (done["format"], done["servers"]) == ("baremetal-create", 1)
    (box,) = http.get("/v1/observations").json()
    assert (box["state"], box["name"], box["bmc_address"]) == ("expected", "web-1", "10.0.0.7")
    assert http.get("/v1/bmcs").json() == []


@pytest.mark.parametrize("path", FILES)
def test_files_may_be_larger_than_json_but_not_endless(http: TestClient, path: str) -> None:
    body = b"serial,x\n" + b"\x01" * (FILES[path] + 1)
    answer = upload(http, path, body, name="x.csv")
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
    assert "KiB" in answer.json()["detail"]


def test_other_routes_keep_their_limit(http: TestClient) -> None:
    assert http.post("/v1/credentials", content=b" " * (1024 * 1024 + 1)).status_code == 413


@pytest.mark.parametrize(
    ("body", "name", "sentence"),
    [
        (b"serial\nS1\n=1\n", "p.csv", "row 3: the cell under 'serial' is a formula"),
        (b"", "p.csv", "the file is empty"),
        (b"serial\nS1\n", "../p", "is no name for a list"),
        (b"\0\1\2", "p.csv", "neither CSV nor XLSX"),
    ],
)
def test_a_bad_list_is_one_sentence(
    http: TestClient, body: bytes, name: str, sentence: str
) -> None:
    answer = upload(http, "/v1/packing-lists", body, name=name)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]
    assert answer.json()["remedy"]
    assert http.get("/v1/observations").json() == []
