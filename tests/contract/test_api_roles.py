"""Every route, every door, every kind of caller. A new route needs a row here."""

import pwd
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient

from api import declared
from api.app import create_app, route_table
from api.parts import Door, Parts
from api.roles import Role
from tests.fakes.api import a_token, bearer, empty_ironic, ironic_double, some_parts

V, C, O, D = Role.VIEWER, Role.CLAIMER, Role.OPERATOR, Role.DESTROYER  # noqa: E741
ANYBODY: frozenset[Role] = frozenset()
EVERYONE = frozenset({V, C, O, D})
INSIDERS = frozenset({V, O, D})

TABLE = MappingProxyType(
    {
        ("GET", "/healthz"): ANYBODY,
        ("GET", "/readyz"): ANYBODY,
        ("GET", "/metrics"): INSIDERS,
        ("GET", "/v1/login-methods"): ANYBODY,
        ("GET", "/v1/openapi.json"): EVERYONE,
        ("GET", "/docs"): EVERYONE,
        ("GET", "/docs/{name}"): EVERYONE,
        ("GET", "/v1/ca"): EVERYONE,
        ("POST", "/v1/sessions"): ANYBODY,
        ("DELETE", "/v1/sessions/current"): EVERYONE,
        ("GET", "/v1/tokens"): {C, O, D},
        ("POST", "/v1/tokens"): {C, O, D},
        ("DELETE", "/v1/tokens/{name}"): {C, O, D},
        ("GET", "/v1/users"): {O, D},
        ("POST", "/v1/users"): {O, D},
        ("GET", "/v1/users/{name}"): EVERYONE,
        ("PUT", "/v1/users/{name}/password"): EVERYONE,
        ("POST", "/v1/users/{name}:disable"): {O, D},
        ("POST", "/v1/users/{name}:enable"): {O, D},
        ("DELETE", "/v1/users/{name}"): {O, D},
        ("GET", "/v1/projects"): EVERYONE,
        ("POST", "/v1/projects"): {O},
        ("GET", "/v1/projects/{name}"): EVERYONE,
        ("PATCH", "/v1/projects/{name}"): {O},
        ("POST", "/v1/projects/{name}:disable"): {O},
        ("POST", "/v1/projects/{name}:enable"): {O},
        ("DELETE", "/v1/projects/{name}"): {O},
        ("GET", "/v1/projects/{name}/quotas"): EVERYONE,
        ("PUT", "/v1/projects/{name}/quotas/{resource_class}"): {O},
        ("DELETE", "/v1/projects/{name}/quotas/{resource_class}"): {O},
        ("GET", "/v1/lendings"): INSIDERS,
        ("POST", "/v1/claims/{name}:lend"): {O},
        ("GET", "/v1/credentials"): INSIDERS,
        ("POST", "/v1/credentials"): {O},
        ("GET", "/v1/credentials/{name}"): INSIDERS,
        ("PUT", "/v1/credentials/{name}"): {O},
        ("GET", "/v1/images"): EVERYONE,
        ("GET", "/v1/images/{name}"): EVERYONE,
        ("GET", "/v1/images/{name}/versions"): EVERYONE,
        ("POST", "/v1/images/{name}/versions"): {O},
        ("GET", "/v1/images/{name}/versions/{version}"): EVERYONE,
        ("POST", "/v1/images/{name}/versions/{version}:publish"): {O},
        ("POST", "/v1/images/{name}/versions/{version}:deprecate"): {O},
        ("POST", "/v1/images/{name}/versions/{version}:withdraw"): {O},
        ("GET", "/v1/image-intakes"): INSIDERS,
        ("GET", "/v1/image-intakes/{intake_id}"): INSIDERS,
        ("PUT", "/v1/image-intakes/{intake_id}/content"): {O},
        ("POST", "/v1/image-intakes/{intake_id}:cancel"): {O},
        ("GET", "/v1/registry-logins"): INSIDERS,
        ("PUT", "/v1/registry-logins/{host}"): {O},
        ("DELETE", "/v1/registry-logins/{host}"): {O},
        ("GET", "/v1/events"): EVERYONE,
        ("GET", "/v1/events:verify"): INSIDERS,
        ("GET", "/v1/webhooks"): {C, O},
        ("POST", "/v1/webhooks"): {C, O},
        ("GET", "/v1/webhooks/{name}"): {C, O},
        ("DELETE", "/v1/webhooks/{name}"): {C, O},
        ("POST", "/v1/webhooks/{name}:enable"): {C, O},
        ("POST", "/v1/webhooks/{name}:disable"): {C, O},
        ("POST", "/v1/webhooks/{name}:test"): {C, O},
        ("GET", "/v1/webhooks/{name}/deliveries"): {C, O},
        ("POST", "/v1/webhooks/{name}:redeliver"): {C, O},
        ("GET", "/v1/claims/{name}/timeline"): EVERYONE,
        ("GET", "/v1/nodes/{name}/timeline"): INSIDERS,
        ("POST", "/v1/discoveries"): {O},
        ("GET", "/v1/discoveries/{discovery_id}"): INSIDERS,
        ("GET", "/v1/bmcs"): INSIDERS,
        ("GET", "/v1/bmcs/{address}"): INSIDERS,
        ("POST", "/v1/bmcs/{address}:accept"): {O},
        ("POST", "/v1/bmcs/{address}:inspect"): {O},
        ("POST", "/v1/bmcs/{address}:locate"): {O},
        ("POST", "/v1/bmcs/{address}:rotate"): {O},
        ("POST", "/v1/bmcs/{address}:trust"): {O},
        ("POST", "/v1/bmcs/{address}:forget"): {D},
        ("GET", "/v1/observations"): INSIDERS,
        ("POST", "/v1/observations:forget"): {O},
        ("GET", "/v1/packing-lists"): INSIDERS,
        ("POST", "/v1/packing-lists"): {O},
        ("GET", "/v1/packing-lists:diff"): INSIDERS,
        ("POST", "/v1/imports"): {O},
        ("POST", "/v1/adoptions:plan"): {O},
        ("POST", "/v1/adoptions"): {O},
        ("GET", "/v1/nodes"): INSIDERS,
        ("GET", "/v1/nodes/{name}"): INSIDERS,
        ("PUT", "/v1/nodes/{name}/labels"): {O},
        ("PATCH", "/v1/nodes/{name}/labels"): {O},
        ("POST", "/v1/nodes:plan-provide"): {D},
        ("POST", "/v1/nodes:provide"): {D},
        ("POST", "/v1/nodes/{name}:retry"): {O},
        ("POST", "/v1/nodes:plan-inspect"): {O},
        ("POST", "/v1/nodes:inspect"): {O},
        ("POST", "/v1/nodes/{name}:accept-drift"): {O},
        ("GET", "/v1/nodes/{name}/disks"): INSIDERS,
        ("POST", "/v1/nodes/{name}:keep-disk"): {O},
        ("POST", "/v1/nodes/{name}:plan-forget-disk"): {D},
        ("POST", "/v1/nodes/{name}:forget-disk"): {D},
        ("GET", "/v1/classes"): INSIDERS,
        ("POST", "/v1/classes"): {O},
        ("GET", "/v1/classes/{name}"): INSIDERS,
        ("DELETE", "/v1/classes/{name}"): {O},
        ("POST", "/v1/classes:test"): INSIDERS,
        ("POST", "/v1/classes:from-node"): INSIDERS,
        ("POST", "/v1/classes:plan-apply"): {O},
        ("POST", "/v1/classes:apply"): {O},
        ("GET", "/v1/networks"): EVERYONE,
        ("GET", "/v1/networks/{name}"): EVERYONE,
        ("PUT", "/v1/networks/{name}"): {O},
        ("DELETE", "/v1/networks/{name}"): {O},
        ("GET", "/v1/networks/{name}/addresses"): EVERYONE,
        ("PUT", "/v1/networks/{name}/addresses/{address}"): {O},
        ("DELETE", "/v1/networks/{name}/addresses/{address}"): {O},
        ("PUT", "/v1/networks/{name}/vips/{vip}"): {O},
        ("GET", "/v1/layouts"): EVERYONE,
        ("GET", "/v1/layouts/{name}"): EVERYONE,
        ("PUT", "/v1/layouts/{name}"): {O},
        ("DELETE", "/v1/layouts/{name}"): {O},
        ("GET", "/v1/clusters"): EVERYONE,
        ("POST", "/v1/clusters"): {C},
        ("POST", "/v1/clusters:plan"): {C, O},
        ("PUT", "/v1/clusters/{name}"): {C},
        ("GET", "/v1/clusters/{name}"): EVERYONE,
        ("POST", "/v1/clusters/{name}:plan-release"): EVERYONE,
        ("POST", "/v1/clusters/{name}:release"): EVERYONE,
        ("POST", "/v1/clusters/{name}:undo"): EVERYONE,
        ("POST", "/v1/clusters/{name}:plan-upgrade"): EVERYONE,
        ("POST", "/v1/clusters/{name}:upgrade"): EVERYONE,
        ("POST", "/v1/clusters/{name}:plan-replace"): EVERYONE,
        ("POST", "/v1/clusters/{name}:replace"): EVERYONE,
        ("POST", "/v1/clusters/{name}:plan-scale"): EVERYONE,
        ("POST", "/v1/clusters/{name}:scale"): EVERYONE,
        ("GET", "/v1/installers"): EVERYONE,
        ("GET", "/v1/overclouds"): EVERYONE,
        ("POST", "/v1/overclouds"): {C},
        ("POST", "/v1/overclouds:plan"): {C, O},
        ("PUT", "/v1/overclouds/{name}"): {C},
        ("GET", "/v1/overclouds/{name}"): EVERYONE,
        ("POST", "/v1/overclouds/{name}:export"): EVERYONE,
        ("GET", "/v1/overclouds/{name}/gives"): EVERYONE,
        ("POST", "/v1/overclouds/{name}:give"): EVERYONE,
        ("POST", "/v1/overclouds/{name}:resume"): EVERYONE,
        ("POST", "/v1/overclouds/{name}:plan-scale"): EVERYONE,
        ("POST", "/v1/overclouds/{name}:scale"): EVERYONE,
        ("POST", "/v1/overclouds/{name}:plan-replace"): EVERYONE,
        ("POST", "/v1/overclouds/{name}:replace"): EVERYONE,
        ("POST", "/v1/overclouds/{name}:plan-release"): EVERYONE,
        ("POST", "/v1/overclouds/{name}:release"): EVERYONE,
        ("POST", "/v1/overclouds/{name}:undo"): EVERYONE,
        ("POST", "/v1/overclouds/{name}/checks"): {C},
        ("GET", "/v1/overclouds/{name}/checks/{check_id}"): EVERYONE,
        ("POST", "/v1/overclouds/{name}/clouds"): {C},
        ("GET", "/v1/overclouds/{name}/clouds/{clouds_id}"): {C},
        ("GET", "/v1/claims"): EVERYONE,
        ("POST", "/v1/claims"): {C},
        ("POST", "/v1/claims:explain"): EVERYONE,
        ("POST", "/v1/claims:preview"): {C, O},
        ("GET", "/v1/claims/{name}/preview"): {C, O},
        ("PUT", "/v1/claims/{name}"): {C},
        ("GET", "/v1/claims/{name}"): EVERYONE,
        ("GET", "/v1/claims/{name}/known_hosts"): EVERYONE,
        ("GET", "/v1/claims/{name}/ssh_config"): EVERYONE,
        ("GET", "/v1/claims/{name}/inventory"): EVERYONE,
        ("GET", "/v1/inventory"): EVERYONE,
        ("GET", "/v1/prometheus-targets"): EVERYONE,
        ("POST", "/v1/claims/{name}:plan-release"): EVERYONE,
        ("POST", "/v1/claims/{name}:release"): EVERYONE,
        ("POST", "/v1/claims/{name}:undo"): EVERYONE,
        ("POST", "/v1/claims/{name}:renew"): EVERYONE,
        ("POST", "/v1/claims/{name}:protect"): EVERYONE,
        ("POST", "/v1/claims/{name}:unprotect"): EVERYONE,
        ("POST", "/v1/claims/{name}:prioritize"): {O},
        ("POST", "/v1/clusters/{name}:autoscaler"): EVERYONE,
        ("POST", "/v1/clusters/{name}:revoke-autoscaler"): EVERYONE,
        ("POST", "/v1/racks:import"): {O},
        ("GET", "/v1/racks"): INSIDERS,
        ("GET", "/v1/racks:work"): INSIDERS,
        ("GET", "/v1/racks:scan"): INSIDERS,
        ("GET", "/v1/racks:report"): INSIDERS,
        ("GET", "/v1/racks/{rack}"): INSIDERS,
        ("POST", "/v1/clusters/{name}/certificates"): {C},
        ("GET", "/v1/clusters/{name}/certificates/{certificate_id}"): {C},
        ("POST", "/v1/clusters/{name}/checks"): {C},
        ("GET", "/v1/clusters/{name}/checks/{check_id}"): EVERYONE,
        ("GET", "/v1/break-glass"): INSIDERS,
        ("POST", "/v1/break-glass"): {D},
        ("DELETE", "/v1/break-glass"): {D},
        **{
            (method, "/baremetal{path:path}"): INSIDERS
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
        },
    }
)
# Routes that let a caller in and then look closer: whose claim is it?
NARROWER = {
    ("POST", "/v1/clusters/{name}:plan-release"): {C, D},
    ("POST", "/v1/clusters/{name}:release"): {C, D},
    ("POST", "/v1/clusters/{name}:undo"): {C, D},
    ("POST", "/v1/clusters/{name}:plan-upgrade"): {C, D},
    ("POST", "/v1/clusters/{name}:upgrade"): {C, D},
    ("POST", "/v1/clusters/{name}:plan-replace"): {C, D},
    ("POST", "/v1/clusters/{name}:replace"): {C, D},
    ("POST", "/v1/clusters/{name}:plan-scale"): {C, D},
    ("POST", "/v1/clusters/{name}:scale"): {C, D},
    ("POST", "/v1/overclouds/{name}:resume"): {C, D},
    ("POST", "/v1/overclouds/{name}:plan-scale"): {C, D},
    ("POST", "/v1/overclouds/{name}:scale"): {C, D},
    ("POST", "/v1/overclouds/{name}:plan-replace"): {C, D},
    ("POST", "/v1/overclouds/{name}:replace"): {C, D},
    ("POST", "/v1/overclouds/{name}:plan-release"): {C, D},
    ("POST", "/v1/overclouds/{name}:release"): {C, D},
    ("POST", "/v1/overclouds/{name}:undo"): {C, D},
    ("POST", "/v1/claims/{name}:plan-release"): {C, D},
    ("POST", "/v1/claims/{name}:release"): {C, D},
    ("POST", "/v1/claims/{name}:undo"): {C, D},
    ("POST", "/v1/claims/{name}:renew"): {C, D},
    ("POST", "/v1/claims/{name}:protect"): {C, D},
    ("POST", "/v1/claims/{name}:unprotect"): {C, D},
    ("POST", "/v1/clusters/{name}:autoscaler"): {C, D},
    ("POST", "/v1/clusters/{name}:revoke-autoscaler"): {C, D},
}
BODIES = {
    ("POST", "/v1/clusters/{name}:release"): {"plan": "0" * 64},
    ("POST", "/v1/clusters/{name}:plan-upgrade"): {"version": "1.36.2"},
    ("POST", "/v1/clusters/{name}:upgrade"): {"version": "1.36.2"},
    ("POST", "/v1/clusters/{name}:plan-replace"): {"member": "x"},
    ("POST", "/v1/clusters/{name}:replace"): {"member": "x"},
    ("POST", "/v1/clusters/{name}:plan-scale"): {"workers": 1},
    ("POST", "/v1/clusters/{name}:scale"): {"workers": 1},
    ("POST", "/v1/overclouds/{name}:resume"): {"stage": "network"},
    ("POST", "/v1/overclouds/{name}:plan-scale"): {"compute": 1},
    ("POST", "/v1/overclouds/{name}:scale"): {"compute": 1},
    ("POST", "/v1/overclouds/{name}:plan-replace"): {"node": "x"},
    ("POST", "/v1/overclouds/{name}:replace"): {"node": "x"},
    ("POST", "/v1/overclouds/{name}:release"): {"plan": "0" * 64},
    ("POST", "/v1/claims/{name}:release"): {"plan": "0" * 64},
    ("POST", "/v1/claims/{name}:renew"): {"lease_seconds": 3600},
    ("POST", "/v1/claims/{name}:protect"): {},
    ("POST", "/v1/claims/{name}:unprotect"): {},
    ("POST", "/v1/clusters/{name}:autoscaler"): {"csr": ""},
}
RAW = "/baremetal{path:path}"
ROWS = sorted(TABLE)
CALLERS = ("nobody", "expired", "unknown", *Role)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with ironic_double() as ironic:  # an empty one: who is let in has nothing to do with it
        ironic.answer = empty_ironic(ironic)
        yield some_parts(tmp_path_factory.mktemp("api"), ironic.url)


@pytest.fixture(scope="module")
def headers(parts: Parts) -> dict[str, dict[str, str]]:
    return {
        "nobody": {},
        "unknown": bearer("no-such-token"),
        "expired": bearer(a_token(parts, "expired", *Role, days=-1)),
        **{role: bearer(a_token(parts, f"a-{role}", role)) for role in Role},
    }


def wanted(row: tuple[str, str], roles: frozenset[Role] | None) -> str:
    """The kind of answer that the table demands for a caller with these roles; None: a stranger."""
    if row in declared.PUBLIC:
        return "in"
    if roles is None:
        return "401"
    if row[1] == RAW and row[0] != "GET":
        return "403"  # whoever you are: this door is for reading
    return "in" if NARROWER.get(row, TABLE[row]) & roles else "403"


def kind(status: int) -> str:
    return str(status) if status in (401, 403) else "in"


def url(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "x", path.replace("{path:path}", "/v1/nodes"))


def test_the_table_has_a_row_for_every_route() -> None:
    assert {row: set(roles) for row, roles in route_table().items()} == {
        row: set(roles) for row, roles in TABLE.items()
    }


@pytest.fixture(scope="module")
def web(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_app(parts, Door.WEB)) as client:
        yield client


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_web_door(
    row: tuple[str, str], caller: str, web: TestClient, headers: dict[str, dict[str, str]]
) -> None:
    answer = web.request(row[0], url(row[1]), headers=headers[caller], json=BODIES.get(row))
    roles = frozenset({Role(caller)}) if caller in list(Role) else None
    assert kind(answer.status_code) == wanted(row, roles)
    assert answer.status_code < 500 or answer.status_code == 503


LOCAL = {
    "uid:0": EVERYONE,
    "uid:4242": frozenset({V}),
    "127.0.0.1": None,
}


@pytest.fixture(scope="module", params=LOCAL)
def local(parts: Parts, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    app = create_app(parts, Door.LOCAL)
    with TestClient(app, client=(request.param, 1), headers={"x-who": request.param}) as client:
        yield client


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_local_door(row: tuple[str, str], local: TestClient) -> None:
    answer = local.request(row[0], url(row[1]), json=BODIES.get(row))
    assert kind(answer.status_code) == wanted(row, LOCAL[local.headers["x-who"]])


def test_a_token_is_worth_nothing_at_the_local_door(
    parts: Parts, headers: dict[str, dict[str, str]]
) -> None:
    with TestClient(create_app(parts, Door.LOCAL), client=("uid:4242", 1)) as http:
        answer = http.get("/v1/tokens", headers=headers["operator"])
    assert answer.status_code == 403


def test_unknown_paths_are_not_even_told_apart_to_a_stranger(web: TestClient) -> None:
    assert web.get("/v1/no-such-thing").status_code == 401
    assert web.post("/v1/tokens", content=b"{" * 100).status_code == 401


def test_a_route_without_a_role_stops_the_start() -> None:
    router = APIRouter()

    @router.get("/v1/forgotten")
    def forgotten() -> None: ...

    with pytest.raises(TypeError, match="/v1/forgotten declares no role"):
        declared.table([router])


def test_local_roles_add_to_viewer(tmp_path: Path) -> None:
    name = pwd.getpwuid(1).pw_name
    parts = replace(some_parts(tmp_path), local_roles={name: frozenset({O})})
    with TestClient(create_app(parts, Door.LOCAL), client=("uid:1", 1)) as http:
        assert http.get("/v1/tokens").status_code == 200
