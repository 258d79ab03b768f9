"""What every route has in common: problems, limits, request ids, tokens; and the small nouns."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from sqlmodel import select

from api import app as api_app
from api.auth import Anyone
from api.parts import Door, Parts
from api.roles import Role
from provisioning.errors import BmcUnreachable, HostError, NoCapacity
from provisioning.models import Credential
from provisioning.secrets import Unsealer
from provisioning.store import record
from tests.fakes.api import (
    IRONIC_PASSWORD,
    a_project,
    a_token,
    bearer,
    ironic_double,
    some_parts,
)

ROOT = ("uid:0", 1)
PROBLEM = {"type", "title", "status", "detail", "code", "remedy", "request_id"}


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return some_parts(tmp_path)


@pytest.fixture
def root(parts: Parts) -> Iterator[TestClient]:
    with TestClient(api_app.create_app(parts, Door.LOCAL), client=ROOT) as client:
        yield client


@pytest.fixture
def web(parts: Parts) -> Iterator[TestClient]:
    with TestClient(api_app.create_app(parts, Door.WEB)) as client:
        yield client


@pytest.fixture
def broken(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """An API with routes that fail in every way, and one that says who calls."""
    router = APIRouter()
    errors = {
        "full": NoCapacity("no room", "wait", {"node-1": "too small"}),
        "slow": BmcUnreachable("BMC 192.0.2.1 did not answer", "seed bmc show 192.0.2.1"),
        "host": HostError("no disk", "df"),
        "bug": ZeroDivisionError("password=hunter2"),
    }

    @router.get("/v1/broken/{how}")
    def broken(how: str, caller: Anyone) -> None:
        raise errors[how]

    @router.get("/v1/whose")
    def whose(caller: Anyone) -> str:
        return caller.project

    monkeypatch.setattr(api_app, "ROUTERS", (*api_app.ROUTERS, router))
    with TestClient(api_app.create_app(parts, Door.LOCAL), client=ROOT) as client:
        yield client


@pytest.mark.parametrize(
    ("how", "status", "code", "retry"),
    [
        ("full", 409, "no-capacity", False),
        ("slow", 504, "bmc-unreachable", True),
        ("host", 503, "host", False),
        ("bug", 503, "internal", True),
    ],
)
def test_every_error_is_a_problem(
    broken: TestClient, how: str, status: int, code: str, retry: bool
) -> None:
    answer = broken.get(f"/v1/broken/{how}")
    body = answer.json()
    assert (answer.status_code, body["code"], body["status"]) == (status, code, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert body.keys() >= PROBLEM
    assert body["remedy"]
    assert ("retry-after" in answer.headers) is retry
    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text


def test_no_capacity_says_why(broken: TestClient) -> None:
    assert broken.get("/v1/broken/full").json()["reasons"] == {"node-1": "too small"}


def test_the_log_has_the_cause_of_an_unexpected_error(
    broken: TestClient, capsys: pytest.CaptureFixture[str]
) -> None:
    request_id = broken.get("/v1/broken/bug").json()["request_id"]
    out = capsys.readouterr().out
    assert "ZeroDivisionError" in out
    assert request_id in out


def test_request_ids(root: TestClient) -> None:
    given = root.get("/v1/images", headers={"X-Request-ID": "mine.1"})
    assert given.headers["x-request-id"] == "mine.1"
    evil = root.get("/v1/images/x", headers={"X-Request-ID": "a b\\n"})
    assert evil.headers["x-request-id"] == evil.json()["request_id"] != "a b\\n"


def test_unknown_path_and_method(root: TestClient) -> None:
    assert root.get("/v1/nix").json()["code"] == "not-found"
    answer = root.delete("/v1/images")
    assert (answer.status_code, answer.json()["code"]) == (405, "method-not-allowed")
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"name": "a b", "roles": ["viewer"]}, "name: "),
        ({"name": "a", "roles": ["king"]}, "roles.0: "),
        ({"name": "a", "roles": ["viewer"], "days": 0}, "days: "),
        ({"name": "a", "roles": ["viewer"], "extra": 1}, "extra: "),
        ({"name": "\ud800", "roles": ["viewer"]}, "name: "),
    ],
)
def test_a_wrong_field_is_named(root: TestClient, body: object, says: str) -> None:
    answer = root.post(
        "/v1/tokens", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert answer.json()["detail"].startswith(says)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"{", 422, id="cut off"),
        pytest.param(b"[" * 26 + b"]" * 26, 400, id="too deep"),
        pytest.param(b'{"name": ' * 3000, 400, id="absurdly deep"),
        pytest.param('{"name": "a"}'.encode("utf-16"), 400, id="UTF-16"),
        pytest.param(b'{"days": ' + b"9" * 5000 + b"}", 400, id="a number of 5000 digits"),
        pytest.param(b'"' + b"x" * 1024 * 1024 + b'"', 413, id="over 1 MiB"),
        pytest.param(b'"' + b"[" * 100 + b'"', 422, id="brackets in a string are not depth"),
    ],
)
def test_bad_bodies(root: TestClient, body: bytes, status: int) -> None:
    answer = root.post("/v1/tokens", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.json().keys() >= PROBLEM


def test_a_chunked_body_is_measured_too(root: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(1025):
            yield b" " * 1024

    answer = root.post("/v1/tokens", content=chunks())
    assert answer.status_code == 413


def test_openapi(root: TestClient) -> None:
    spec = root.get("/v1/openapi.json").json()
    assert spec["openapi"].startswith("3.1")
    assert "/v1/tokens" in spec["paths"]
    for path in ("/redoc", "/openapi.json"):
        assert root.get(path).status_code == 404


# --- health -------------------------------------------------------------------------------------


def test_ready_only_with_ironic(parts: Parts, root: TestClient) -> None:
    assert root.get("/healthz").json() == {"status": "ok"}
    answer = root.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "not-ready")
    assert (answer.json()["store"], answer.json()["ironic"]) == (True, False)
    with ironic_double() as ironic:
        there = api_app.create_app(replace(parts, ironic_url=ironic.url), Door.WEB)
        with TestClient(there) as client:
            assert client.get("/readyz").status_code == 200


# --- tokens -------------------------------------------------------------------------------------


def test_a_token_is_shown_once_and_works(root: TestClient, web: TestClient) -> None:
    made = root.post("/v1/tokens", json={"name": "ci", "roles": ["operator"]})
    assert made.status_code == 201
    secret = made.json()["token"]
    assert secret not in root.get("/v1/tokens").text
    assert web.get("/v1/credentials", headers=bearer(secret)).status_code == 200
    assert root.delete("/v1/tokens/ci").status_code == 204
    assert web.get("/v1/credentials", headers=bearer(secret)).status_code == 401


def test_basic_takes_the_token_with_its_own_name_only(parts: Parts, web: TestClient) -> None:
    secret = a_token(parts, "cloud", Role.VIEWER)
    a_token(parts, "other", Role.OPERATOR)
    assert web.get("/v1/images", auth=("cloud", secret)).status_code == 200
    assert web.get("/v1/images", auth=("other", secret)).status_code == 401
    for header in ("Basic", "Basic ???", "Basic " + base64.b64encode(b"\xff").decode(), "Digest x"):
        answer = web.get("/v1/images", headers={"Authorization": header})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_an_expired_token_says_so_to_its_holder_only(parts: Parts, web: TestClient) -> None:
    secret = a_token(parts, "old", Role.VIEWER, days=-1)
    assert "expired" in web.get("/v1/images", headers=bearer(secret)).json()["detail"]
    assert "expired" not in web.get("/v1/images", auth=("old", "guess")).json()["detail"]


def test_nobody_mints_what_they_do_not_have(parts: Parts, web: TestClient) -> None:
    operator = bearer(a_token(parts, "op", Role.OPERATOR, Role.CLAIMER, project="blue"))

    def mint(**asked: object) -> int:
        return web.post("/v1/tokens", json={"name": "new", **asked}, headers=operator).status_code

    assert mint(roles=["operator", "destroyer"]) == 403
    assert mint(roles=["viewer"]) == 403
    assert mint(roles=["claimer"], project="red") == 403
    assert mint(roles=["claimer"], project="blue") == 201
    assert mint(roles=["operator"]) == 409  # the name is taken


def test_root_mints_for_every_project(parts: Parts, root: TestClient) -> None:
    a_project(parts, "red")
    body = {"name": "red-1", "roles": ["claimer"], "project": "red"}
    assert root.post("/v1/tokens", json=body).json()["project"] == "red"


# --- credentials --------------------------------------------------------------------------------


def test_a_password_goes_in_and_never_out(parts: Parts, root: TestClient, tmp_path: Path) -> None:
    login = {"name": "rack-a", "username": "admin", "password": "s3cret-of-bmc"}
    made = root.post("/v1/credentials", json=login)
    assert made.status_code == 201
    assert root.post("/v1/credentials", json=login).status_code == 409
    assert (
        "s3cret" not in made.text + root.get("/v1/credentials").text + root.get("/v1/events").text
    )
    with parts.store.read() as session:
        row = session.exec(select(Credential)).one()
    opened = Unsealer(tmp_path / "master.key").open(row.sealed, f"credential:{row.id}")
    assert opened == "s3cret-of-bmc"
    assert b"s3cret" not in (tmp_path / "seed.db").read_bytes()


def test_put_keeps_the_credential_that_bmcs_point_to(root: TestClient) -> None:
    first = root.put("/v1/credentials/rack-a", json={"username": "a", "password": "one"})
    second = root.put("/v1/credentials/rack-a", json={"username": "b", "password": "two"})
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["id"] == second.json()["id"]
    assert [row["username"] for row in root.get("/v1/credentials").json()] == ["b"]


def test_a_password_of_half_characters_is_refused(root: TestClient) -> None:
    body = json.dumps({"username": "a", "password": "s3cret\ud800"})
    headers = {"content-type": "application/json"}
    answer = root.put("/v1/credentials/x", content=body, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("password: half of a surrogate pair")
    assert root.get("/v1/credentials").json() == []


def test_a_wrong_login_is_not_repeated_to_the_caller(root: TestClient) -> None:
    answer = root.put("/v1/credentials/x", json={"username": "a b", "password": ["s3cret"]})
    assert answer.status_code == 422
    assert "s3cret" not in answer.text


# --- images, events, ca -------------------------------------------------------------------------


def test_images_of_an_empty_catalogue(root: TestClient) -> None:
    assert root.get("/v1/images").json() == []
    answer = root.get("/v1/images/debian")
    assert (answer.status_code, answer.json()["remedy"]) == (404, "seed image build debian")


def test_events_by_cursor_and_project(parts: Parts, root: TestClient, web: TestClient) -> None:
    with parts.store.write() as session:
        for n in range(3):
            record(session, "claim.moved", f"c{n}", project="red" if n == 1 else "blue")
    first = root.get("/v1/events?limit=2").json()
    assert [e["subject"] for e in first] == ["c0", "c1"]
    rest = root.get(f"/v1/events?after={first[-1]['id']}").json()
    assert [e["subject"] for e in rest] == ["c2"]
    red = bearer(a_token(parts, "red", Role.CLAIMER, project="red"))
    assert [e["subject"] for e in web.get("/v1/events", headers=red).json()] == ["c1"]
    assert web.get("/v1/events?subject=c0", headers=red).json() == []
    assert root.get("/v1/events?subject=c0").json()[0]["kind"] == "claim.moved"


def test_ca(root: TestClient) -> None:
    assert root.get("/v1/ca").text.startswith("-----BEGIN CERTIFICATE-----")


# --- /baremetal ---------------------------------------------------------------------------------


def test_ironic_never_sees_the_callers_credentials(parts: Parts) -> None:
    with ironic_double() as ironic:
        ironic.answer = lambda asked: (
            200,
            {"X-OpenStack-Ironic-API-Version": "1.95", "Set-Cookie": "a=b"},
            {"href": f"{ironic.url}/v1/nodes", "text": f"see {ironic.url}/v1"},
        )
        app = api_app.create_app(replace(parts, ironic_url=ironic.url), Door.WEB)
        secret = a_token(parts, "cloud", Role.VIEWER)
        headers = {"X-OpenStack-Ironic-API-Version": "1.95", "Cookie": "c=d", "Host": "seed:8443"}
        with TestClient(app) as client:
            answer = client.get(
                "/baremetal//v1/nodes/?fields=uuid,name", auth=("cloud", secret), headers=headers
            )
    (asked,) = ironic.asked
    own = base64.b64encode(f"seed-api:{IRONIC_PASSWORD}".encode()).decode()
    assert asked.path == "/v1/nodes?fields=uuid%2Cname"
    assert asked.headers["authorization"] == f"Basic {own}"
    assert asked.headers["x-openstack-ironic-api-version"] == "1.95"
    assert "cookie" not in asked.headers
    assert answer.headers["x-openstack-ironic-api-version"] == "1.95"
    assert "set-cookie" not in answer.headers
    assert answer.json()["href"] == "https://seed:8443/baremetal/v1/nodes"
    assert answer.json()["text"] == f"see {ironic.url}/v1"


@pytest.mark.parametrize("status", [401, 500, 503])
def test_ironics_own_trouble_is_503(parts: Parts, status: int) -> None:
    with ironic_double() as ironic:
        ironic.answer = lambda _: (status, {}, {"error_message": "secret trouble"})
        app = api_app.create_app(replace(parts, ironic_url=ironic.url), Door.LOCAL)
        with TestClient(app, client=ROOT) as client:
            answer = client.get("/baremetal/v1/nodes")
    assert (answer.status_code, answer.json()["code"]) == (503, "ironic-unavailable")
    assert answer.headers["retry-after"]
    assert "secret trouble" not in answer.text


def test_ironic_down(root: TestClient) -> None:
    answer = root.get("/baremetal/v1/nodes")
    assert (answer.status_code, answer.json()["remedy"]) == (503, "seed status ironic")


def test_a_refusal_names_the_verb_and_ironics_clients_can_read_it(root: TestClient) -> None:
    answer = root.put("/baremetal/v1/nodes/n1/states/provision", json={"target": "active"})
    body = answer.json()
    assert answer.status_code == 403
    assert "seed claim create" in body["remedy"]
    assert "seed claim create" in json.loads(body["error_message"])["faultstring"]


def test_root_speaks_for_the_project_it_names(broken: TestClient, parts: Parts) -> None:
    a_project(parts, "web")
    for project in ("web", "default"):
        told = broken.get("/v1/whose", headers={"X-Seed-Project": project})
        assert (told.status_code, told.json()) == (200, project)
    assert broken.get("/v1/whose").json() == "default"
    refused = broken.get("/v1/claims", headers={"X-Seed-Project": "gone"})
    assert (refused.status_code, refused.json()["detail"]) == (403, "there is no project gone")


@pytest.mark.parametrize("role", Role)
def test_a_token_acts_for_its_own_project_only(web: TestClient, parts: Parts, role: Role) -> None:
    a_project(parts, "db")
    secret = a_token(parts, "t", role, project="web")
    same = web.get("/v1/images", headers={**bearer(secret), "X-Seed-Project": "web"})
    assert same.status_code == 200
    details = []
    for project in ("db", "gone", "x\udcff".encode("utf-8", "surrogateescape")):
        refused = web.get("/v1/images", headers={**bearer(secret), "X-Seed-Project": project})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        details.append(refused.json()["detail"])
    assert details[0].replace("db", "gone") == details[1]  # nothing is learned of what there is


def test_who_is_on_the_machine_but_not_root_has_one_project(parts: Parts) -> None:
    a_project(parts, "web")
    with TestClient(api_app.create_app(parts, Door.LOCAL), client=("uid:4242", 1)) as http:
        assert http.get("/v1/images").status_code == 200
        assert http.get("/v1/images", headers={"X-Seed-Project": "web"}).status_code == 403
