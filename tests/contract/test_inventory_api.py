"""ssh config, Ansible's inventory and Prometheus' targets by HTTP: each project its own."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from provisioning.states import ClaimState
from tests.fakes.api import a_token, bearer, some_parts
from tests.fakes.claims import KEYS, NETWORKS, an_active_claim


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """Ironic answers nobody here: nothing of this asks it."""
    made = replace(some_parts(tmp_path), networks=NETWORKS)
    an_active_claim(made.store)
    an_active_claim(made.store, "theirs", 1, project="other")
    return made


@pytest.fixture
def web(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_app(parts, Door.WEB)) as client:
        yield client


@pytest.fixture
def mine(parts: Parts) -> dict[str, str]:
    return bearer(a_token(parts, "mine", Role.CLAIMER))


@pytest.fixture
def viewer(parts: Parts) -> dict[str, str]:
    return bearer(a_token(parts, "viewer", Role.VIEWER))


PATHS = ("/v1/inventory", "/v1/prometheus-targets")


def test_a_claim_as_openssh_reads_it(web: TestClient, mine: dict[str, str]) -> None:
    config = web.get("/v1/claims/web/ssh_config", headers=mine)
    assert config.headers["content-type"] == "text/plain; charset=utf-8"
    assert "Host web-1\n    HostName 172.22.0.11\n" in config.text
    keys = web.get("/v1/claims/web/known_hosts", headers=mine)
    assert keys.text == (f"172.22.0.10,web-0 {KEYS[1]}\n172.22.0.11,web-1 {KEYS[0]}\n")


def test_the_inventory_of_a_claimer_is_its_projects(
    web: TestClient, mine: dict[str, str], viewer: dict[str, str]
) -> None:
    hosts = web.get("/v1/inventory", headers=mine).json()["baremetal"]["hosts"]
    assert hosts == ["web-0", "web-1"]
    everybodys = web.get("/v1/inventory", headers=viewer).json()
    assert everybodys["baremetal"]["hosts"] == ["theirs", "web-0", "web-1"]
    other = web.get("/v1/inventory", params={"project": "other"}, headers=viewer).json()
    assert other["baremetal"]["hosts"] == ["theirs"]
    one = web.get("/v1/claims/web/inventory", headers=mine).json()
    assert one["claim_web"]["hosts"] == ["web-0", "web-1"]


@pytest.mark.parametrize("path", PATHS)
def test_another_project_is_refused_alike_whether_there_is_one(
    path: str, web: TestClient, mine: dict[str, str]
) -> None:
    said = [web.get(path, params={"project": p}, headers=mine) for p in ("other", "no-such")]
    assert [answer.status_code for answer in said] == [403, 403]
    details = [{**a.json(), "request_id": ""} for a in said]
    assert details[0] == details[1]
    assert web.get(path, params={"project": "default"}, headers=mine).status_code == 200


@pytest.mark.parametrize("what", ["ssh_config", "inventory", "known_hosts"])
def test_anothers_claim_is_not_there(what: str, web: TestClient, mine: dict[str, str]) -> None:
    assert web.get(f"/v1/claims/theirs/{what}", headers=mine).status_code == 404


def test_targets_for_prometheus(web: TestClient, mine: dict[str, str]) -> None:
    found = web.get("/v1/prometheus-targets", params={"port": 9200}, headers=mine)
    assert found.headers["content-type"] == "application/json", "Prometheus takes nothing else"
    assert [entry["targets"] for entry in found.json()] == [
        ["172.22.0.10:9200"], ["172.22.0.11:9200"],
    ]  # fmt: skip
    labels = found.json()[0]["labels"]
    assert labels["instance"] == "web-0"
    assert labels["__meta_seed_feed"] == "B"


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/v1/prometheus-targets", {"port": "0"}),
        ("/v1/prometheus-targets", {"port": "65536"}),
        ("/v1/prometheus-targets", {"port": "x"}),
        ("/v1/inventory", {"project": "A b"}),
        ("/v1/inventory", {"project": "x" * 100}),
    ],
)
def test_what_cannot_be_is_refused(
    path: str, params: dict[str, str], web: TestClient, viewer: dict[str, str]
) -> None:
    answer = web.get(path, params=params, headers=viewer)
    assert answer.status_code == 422
    assert answer.json()["remedy"]


def test_a_claim_that_is_not_active_hands_out_nothing(
    parts: Parts, web: TestClient, mine: dict[str, str]
) -> None:
    an_active_claim(parts.store, "soon", state=ClaimState.DEPLOYING)
    assert web.get("/v1/claims/soon/ssh_config", headers=mine).text == ""
    empty = {"_meta": {"hostvars": {}}, "baremetal": {"hosts": []}}
    assert web.get("/v1/claims/soon/inventory", headers=mine).json() == empty
    assert len(web.get("/v1/prometheus-targets", headers=mine).json()) == 2
