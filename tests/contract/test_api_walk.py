"""A claimer walks every route, and learns of no other project and of no BMC; nobody else does."""

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from api.app import create_app, route_table
from api.auth import PUBLIC
from api.gateway import create_gateway
from api.parts import Door
from api.roles import Role
from provisioning.secrets import Envelope
from tests.fakes.api import bearer
from tests.fakes.autoscaler import a_key
from tests.fakes.kubeconfigs import a_request, parted
from tests.fakes.two_projects import (
    ASKED,
    CANARIES,
    CLOUD_CHECK,
    COUNT,
    NAMES,
    OTHER_ASKED,
    OWN,
    World,
    two_projects,
)

Row = tuple[str, str]
ROWS = sorted(route_table())
RAW = "/baremetal{path:path}"
OF_CLUSTERS = ("{certificate_id}", "{check_id}", "{clouds_id}")
FEW = ("own-claim", "canary-claim", "canary-node", "10.66.6.2")
KEY = (
    Ed25519PrivateKey.generate()
    .public_key()
    .public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    .decode()
)
SAID = MappingProxyType({"image": "debian", "ssh_keys": [KEY]})


SWARM = MappingProxyType(
    {
        "kind": "swarm", **SAID, "api": {"network": "grove"},
        "control": {"count": 1, "layout": "grove"},
    }
)  # fmt: skip

CLOUD = MappingProxyType(
    {
        "installer": "debian", **SAID, "networks": {"api": "grove"},
        "control": {"count": 1, "layout": "grove"},
    }
)  # fmt: skip
ENVELOPE = b64encode(Envelope.new().public).decode()


def plan(walk: "Walk") -> list[dict[str, Any]]:
    """Bodies of a release: with a plan that was just made, and with one of nobody's."""
    made = walk.send("POST", "/v1/claims/own-claim:plan-release").json()
    return [{"plan": made.get("hash", "")}, {"plan": "0" * 64}, {"plan": made.get("hash", "")}]


# What a claimer sends to routes that want a body; one that is new and open to claimers needs a row.
BODIES: MappingProxyType[Row, Any] = MappingProxyType(
    {
        ("POST", "/v1/sessions"): [
            {"user": "canary-user", "password": "x" * 12},
            {"user": "no-such", "password": "x" * 12},
        ],
        ("POST", "/v1/tokens"): [
            {"name": "own.new", "roles": ["claimer"], "project": OWN},
            {"name": "canary-token", "roles": ["claimer"], "project": OWN},
            {"name": "own.x", "roles": ["claimer"], "project": "canary-project"},
        ],
        ("PUT", "/v1/users/{name}/password"): [{"password": "x" * 12, "old": "y" * 12}],
        ("POST", "/v1/claims"): [
            {"name": "own-new", "count": 1, **SAID},
            {"name": "own-many", "count": 9, **SAID},
            {"name": "canary-claim", "count": 9, **SAID},
            {"name": "own-nodes", "nodes": ["canary-node"], **SAID},
        ],
        ("PUT", "/v1/claims/{name}"): [
            {"name": name, "count": count, **SAID}
            for name, count in (("own-claim", 1), ("no-such", 1), ("canary-claim", 9))
        ],
        ("POST", "/v1/clusters"): [
            {"name": "own-new", **SWARM},
            {"name": "canary-cluster", **SWARM},
            {"name": "own-many", **SWARM, "workers": {"count": 9, "layout": "grove"}},
            {"name": "own-nodes", **SWARM, "workers": {"count": 1, "nodes": ["canary-node"]}},
        ],
        ("PUT", "/v1/clusters/{name}"): [
            {"name": name, **SWARM} for name in ("own", "no-such", "canary-claim")
        ],
        ("POST", "/v1/clusters:plan"): [
            {"name": "own-new", **SWARM},
            {"name": "own-many", **SWARM, "workers": {"count": 9, "layout": "grove"}},
        ],
        ("POST", "/v1/clusters/{name}:plan-release"): [None],
        ("POST", "/v1/clusters/{name}:release"): [{"plan": ""}, {"plan": "0" * 64}],
        ("POST", "/v1/clusters/{name}:undo"): [None],
        ("POST", "/v1/clusters/{name}:plan-scale"): [{"workers": 0}, {"workers": 9}],
        ("POST", "/v1/clusters/{name}:scale"): [{"workers": 0}, {"workers": 9}],
        ("POST", "/v1/clusters/{name}:plan-replace"): [{"member": "canary-claim"}],
        ("POST", "/v1/clusters/{name}:replace"): [{"member": "canary-claim"}],
        ("POST", "/v1/clusters/{name}:plan-upgrade"): [{"image": "debian"}],
        ("POST", "/v1/clusters/{name}:upgrade"): [{"image": "debian"}],
        ("POST", "/v1/clusters/{name}/certificates"): [{"csr": parted(a_request())[1]}],
        ("POST", "/v1/clusters/{name}/checks"): [None],
        ("POST", "/v1/overclouds"): [
            {"name": "own-new", **CLOUD},
            {"name": "canary-cloud", **CLOUD},
            {"name": "own-many", **CLOUD, "compute": {"count": 9, "layout": "grove"}},
            {"name": "own-nodes", **CLOUD, "compute": {"count": 1, "nodes": ["canary-node"]}},
        ],
        ("PUT", "/v1/overclouds/{name}"): [
            {"name": name, **CLOUD} for name in ("own", "no-such", "canary-claim")
        ],
        ("POST", "/v1/overclouds:plan"): [
            {"name": "own-new", **CLOUD},
            {"name": "own-many", **CLOUD, "compute": {"count": 9, "layout": "grove"}},
        ],
        ("POST", "/v1/overclouds/{name}:plan-release"): [None],
        ("POST", "/v1/overclouds/{name}:release"): [{"plan": ""}, {"plan": "0" * 64}],
        ("POST", "/v1/overclouds/{name}:undo"): [None],
        ("POST", "/v1/overclouds/{name}:resume"): [{"stage": "hosts"}, {"stage": "canary"}],
        ("POST", "/v1/overclouds/{name}:plan-scale"): [{"compute": 0}, {"compute": 9}],
        ("POST", "/v1/overclouds/{name}:scale"): [{"compute": 0}, {"compute": 9}],
        ("POST", "/v1/overclouds/{name}:plan-replace"): [{"node": "canary-claim"}],
        ("POST", "/v1/overclouds/{name}:replace"): [{"node": "canary-claim"}],
        ("POST", "/v1/overclouds/{name}:export"): [{}, {"installer": "canary"}],
        ("POST", "/v1/overclouds/{name}:give"): [{"give": "clouds"}, {"give": "canary"}],
        ("POST", "/v1/overclouds/{name}/checks"): [None],
        ("POST", "/v1/overclouds/{name}/clouds"): [{"key": ENVELOPE}],
        ("POST", "/v1/clusters/{name}:autoscaler"): [{"csr": a_key().csr, "min": 1, "max": 5}],
        ("POST", "/v1/claims/{name}:plan-release"): [None],
        ("POST", "/v1/claims/{name}:release"): plan,
        ("POST", "/v1/claims/{name}:undo"): [None],
        ("POST", "/v1/claims:explain"): [
            {"name": "own-new", "count": 1, **SAID},
            {"name": "own-many", "count": 9, **SAID},
            {"name": "own-nodes", "nodes": ["canary-node", "own-node", "no-such"], **SAID},
            {"name": "own-racks", "racks": ["canary-rack"], **SAID},
        ],
        ("POST", "/v1/claims:preview"): [
            {"name": "own-new", "count": 1, **SAID},
            {"name": "own-nodes", "nodes": ["canary-node", "own-node", "no-such"], **SAID},
            {"name": "own-free", "secret_files": [{"path": "/etc/x", "content": "x"}], **SAID},
        ],
        ("POST", "/v1/claims/{name}:renew"): [{"lease_seconds": 3600}],
        ("POST", "/v1/claims/{name}:protect"): [{"why": "it is ours"}],
        ("POST", "/v1/claims/{name}:unprotect"): [{"why": "it is ours"}],
        ("POST", "/v1/webhooks"): [
            {"name": "own-new", "url": "https://own.example/x"},
            {"name": "own-other", "url": "https://own.example/x", "project": "canary-project"},
            {"name": "canary-hook", "url": "https://own.example/x"},
        ],
        ("POST", "/v1/webhooks/{name}:redeliver"): [{"dead": True}],
    }
)
REFUSED_ONLY = {
    ("POST", "/v1/clusters/{name}:plan-replace"): "its cluster has no member",
    ("POST", "/v1/clusters/{name}:replace"): "its cluster has no member",
    ("POST", "/v1/overclouds/{name}:plan-replace"): "its overcloud has no node",
    ("POST", "/v1/overclouds/{name}:replace"): "its overcloud has no node",
    ("POST", "/v1/overclouds/{name}:export"): "its overcloud has no node",
    ("DELETE", "/v1/sessions/current"): "a token is no session",
    ("PUT", "/v1/users/{name}/password"): "the caller is no user",
    ("GET", "/v1/users/{name}"): "the caller is no user",
}
"""Open to claimers, and yet this one never gets in."""
LEAKS: MappingProxyType[Row, set[str]] = MappingProxyType({})
"""Words of known leaks, not mended yet; the test fails when one of them leaks no more, too."""


_WORDS = re.compile(
    rf"[\w-]*(?:{'|'.join(map(re.escape, CANARIES))})[\w.:-]*|(?<![\w-]){COUNT}(?!\w)"
)


@dataclass
class Walk:
    """A caller's requests, and what it read in the answers that it had not said itself."""

    client: TestClient
    headers: dict[str, str]
    found: list[str] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)

    def send(self, method: str, url: str, **more: Any) -> httpx.Response:
        answer = self.client.request(method, url, headers=self.headers, **more)
        assert answer.status_code < 500, (method, url, answer.text)
        self.statuses.add(answer.status_code)
        said = f"{url} {more}".lower()
        words = _WORDS.findall(f"{answer.text}\n{answer.headers}".lower())
        new = [word for word in words if word.strip(".:-") not in said]
        self.found += [f"{method} {url} {answer.status_code}: {word}" for word in new]
        return answer

    def words(self) -> set[str]:
        return {told.rpartition(" ")[2] for told in self.found}

    def row(self, row: Row, names: Sequence[str] = NAMES) -> "Walk":
        bodies = BODIES.get(row, [None])
        for url in urls(row[1], names):
            for body in bodies(self) if callable(bodies) else bodies:
                self.send(row[0], url, json=body)
        for params in queries(row):
            for url in urls(row[1], names)[:3]:
                self.send(row[0], url, params=params)
        return self


def urls(path: str, names: Sequence[str]) -> list[str]:
    """The path with every one of these names in it."""
    path = path.replace("{path:path}", "/v1/nodes/{name}")
    if "{" not in path:
        return [path]
    first, *rest = re.findall(r"\{[^}]*\}", path)
    paths = [path]
    for other in rest:
        words = (
            (str(ASKED), str(OTHER_ASKED), str(CLOUD_CHECK))
            if other in OF_CLUSTERS
            else ("baremetal",)
        )
        paths = [path.replace(other, word) for path in paths for word in words]
    return [path.replace(first, name) for name in names for path in paths]


def queries(row: Row) -> list[dict[str, Any]]:
    """Every query parameter with words of the other project, or switched on."""
    return [
        {name: value}
        for route in routes()
        if route.path == row[1] and row[0] in (route.methods or ())
        for name in (param.alias for param in route.dependant.query_params)
        for value in ("true", "canary-project", "canary-node", "1", "10.66.6.2")
    ]


def routes() -> list[APIRoute]:
    from api.app import ROUTERS

    return [r for router in ROUTERS for r in router.routes if isinstance(r, APIRoute)]


Place = tuple[World, TestClient]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """For rows that change nothing: what is read, and what a claimer is refused."""
    yield from _place(tmp_path_factory.mktemp("walk"))


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Place]:
    yield from _place(tmp_path)


def _place(folder: Path) -> Iterator[Place]:
    with two_projects(folder) as world, TestClient(create_app(world.parts, Door.WEB)) as client:
        yield world, client


def open_to_claimers(row: Row) -> bool:
    return Role.CLAIMER in route_table()[row] and row[1] != RAW


def _changes(row: Row) -> bool:
    return row[0] != "GET" and open_to_claimers(row)


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_a_claimer_learns_of_nothing_but_its_own(row: Row, request: pytest.FixtureRequest) -> None:
    world, client = request.getfixturevalue("fresh" if _changes(row) else "shared")
    names = NAMES if open_to_claimers(row) else FEW  # refused before the name is looked at
    walk = Walk(client, bearer(world.own)).row(row, names)
    assert walk.words() == LEAKS.get(row, set()), walk.found
    if open_to_claimers(row) and row not in REFUSED_ONLY:
        assert {200, 201, 202, 204} & walk.statuses, "it saw refusals only: give it a body"


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_a_stranger_learns_nothing(row: Row, shared: Place) -> None:
    world, client = shared
    for headers in ({}, bearer("unknown"), bearer(world.expired)):
        walk = Walk(client, headers).row(row, FEW)
        assert walk.found == []
        assert walk.statuses == {401} or row in PUBLIC


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_scopes_hold_on_every_route(row: Row, shared: Place) -> None:
    world, client = shared
    walk = Walk(client, bearer(world.scoped)).row(row, FEW)
    read = row[0] == "GET" and row[1].startswith("/v1/claims")
    assert walk.statuses <= {403} or read or row in PUBLIC
    assert walk.words() == (LEAKS.get(row, set()) if read else set()), walk.found


@pytest.fixture(scope="module")
def gateway(shared: Place) -> Iterator[Walk]:
    world, _ = shared
    headers = {**bearer(world.every), "x-real-ip": "10.77.7.77"}
    with TestClient(create_gateway(world.parts)) as client:
        yield Walk(client, headers)


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_the_node_gateway_has_no_such_route(row: Row, gateway: Walk) -> None:
    walk = Walk(gateway.client, gateway.headers).row(row, FEW)
    assert walk.found == []
    assert walk.statuses <= {404, 405}


def test_the_walk_sees_what_is_there_to_see(shared: Place) -> None:
    """An insider who walks the same way meets every canary."""
    world, client = shared
    rows = [row for row in ROWS if row[0] == "GET" and row[1] != RAW]
    met = {f for row in rows for f in Walk(client, bearer(world.every)).row(row).found}
    named = ("claim", "node", "user", "token", "message", "login", "class", "rack")
    for word in (*CANARIES, str(COUNT), *(f"canary-{name}" for name in named)):
        assert any(word in text for text in met), word
