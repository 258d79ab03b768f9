"""Secret files go in and never out, and a claim's drives are shown before any disk is touched."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from provisioning import secret_files
from provisioning.errors import Conflict, HostError, Invalid
from provisioning.models import Address, Bmc, Claim, Hold
from provisioning.one_time import ClaimSecret
from provisioning.secret_files import Sealing, SecretFile
from provisioning.secrets import Unsealer
from tests.contract.test_leaks import everything_logged, leaked
from tests.fakes.api import a_token, bearer, some_parts

SECRET = 'c4n\u00e4ry "file"/+&=x'
MAC = "52:54:00:22:00:01"
FILES: list[dict[str, str]] = [
    {"path": "/etc/app/key", "content": SECRET},
    {"path": "/etc/app/blob", "content_b64": base64.b64encode(b"\xff\0" + SECRET.encode()).decode(),
     "mode": "0640", "owner": "svc:svc"},
]  # fmt: skip
USER_DATA = "#cloud-config\npackages: [jq]\n"


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    wires = {"provisioning": IPv4Interface("172.22.0.1/24")}
    return replace(some_parts(tmp_path), networks=wires)


def a_claim(parts: Parts, files: list[dict[str, str]] | None = None, **fields: Any) -> Claim:
    """A living one with one node, as `claims.request` makes it."""
    wanted = {"name": "web", "image": "debian", "user_data": USER_DATA, "ssh_keys": ["k"]} | fields
    claim, node = Claim(**wanted), uuid4()
    sealing = sealed(parts, files or [])
    with parts.store.write() as session:
        session.add(claim)
        session.add(
            Bmc(address="10.0.1.1", protocol="redfish", node_uuid=node, node_name="sn-1",
                macs=[MAC])
        )  # fmt: skip
        session.flush()
        session.add(Hold(node_uuid=node, claim_id=claim.id))
        session.add(Address(address="172.22.0.50", mac=MAC, node_uuid=node))
        sealing.keep(session, claim)
    return claim


def sealed(parts: Parts, files: list[dict[str, str]]) -> Sealing:
    found = Sealing(parts.sealer, [SecretFile.model_validate(f) for f in files])
    found.check()
    return found


@pytest.fixture
def web(parts: Parts) -> Iterator[TestClient]:
    with TestClient(create_app(parts, Door.WEB)) as client:
        yield client


@pytest.fixture
def callers(parts: Parts) -> dict[Role, dict[str, str]]:
    return {role: bearer(a_token(parts, f"a-{role}", role)) for role in Role}


# --- secret files -------------------------------------------------------------------------------


def test_only_the_reconciler_reads_them_back(parts: Parts, tmp_path: Path) -> None:
    claim = a_claim(parts, FILES)
    unseal = Unsealer(tmp_path / "master.key").open
    with parts.store.read() as session:
        blob, key = secret_files.specs(session, unseal, claim)
        assert secret_files.listed(session, claim) == [
            {"path": "/etc/app/key", "mode": "0600", "owner": ""},
            {"path": "/etc/app/blob", "mode": "0640", "owner": "svc:svc"},
        ]
    assert (key.path, key.mode, key.content, key.owner) == (
        "/etc/app/key", 0o600, SECRET.encode(), "",
    )  # fmt: skip
    assert (blob.mode, blob.content, blob.owner) == (0o640, b"\xff\0" + SECRET.encode(), "svc:svc")
    url = str(parts.store.engine.url).removeprefix("sqlite:///")
    kept = b"".join(p.read_bytes() for p in Path(url).parent.glob("seed.db*"))
    assert not leaked(kept, {"file": SECRET})


def test_they_open_for_their_claim_only(parts: Parts, tmp_path: Path) -> None:
    claim = a_claim(parts, FILES)
    other = Claim(name="other", image="debian")
    with parts.store.write() as session:
        session.add(other)
        session.flush()
        row = session.exec(select(ClaimSecret)).one()
        session.add(ClaimSecret(claim_id=other.id, sealed=row.sealed))
    unseal = Unsealer(tmp_path / "master.key").open
    with parts.store.read() as session:
        assert secret_files.specs(session, unseal, claim)
        with pytest.raises(HostError):
            secret_files.specs(session, unseal, other)


def test_the_same_wish_has_the_same_files(parts: Parts) -> None:
    claim = a_claim(parts, FILES)
    changed = [FILES[0] | {"content": "another"}, FILES[1]]
    with parts.store.read() as session:
        sealed(parts, FILES).same(session, claim)
        sealed(parts, FILES[::-1]).same(session, claim)
        for others in (changed, FILES[:1], []):
            with pytest.raises(Conflict, match="differs in secret_files"):
                sealed(parts, others).same(session, claim)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([{"path": "/etc/x", "content": "a", "content_b64": "YQ=="}], "content and content_b64"),
        ([{"path": "/etc/x", "content_b64": "not base64!"}], "is not base64"),
        ([{"path": "/etc/../x", "content": "a"}], "no file can be put at"),
        ([{"path": "/proc/x", "content": "a"}], "no file can be put at"),
        ([{"path": "/etc/seed-first-boot/x", "content": "a"}], "no file can be put at"),
        ([{"path": "/etc/x", "content": "a"}] * 2, "two secret files have one path"),
        ([{"path": "/etc/x", "content": "a" * (512 * 1024 + 1)}], "take 524289 bytes"),
    ],
)
def test_what_cannot_be_is_refused(parts: Parts, files: list[Any], reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        sealed(parts, files)


@pytest.mark.parametrize(
    "file",
    [
        {"path": "etc/x"}, {"path": "/etc/x/"}, {"path": "/etc/x y"}, {"path": "/etc/$(x)"},
        {"path": "/etc/x", "mode": "0999"}, {"path": "/etc/x", "mode": "04755"},
        {"path": "/etc/x", "owner": "Root"}, {"path": "/etc/x", "owner": "a:b:c"},
        {"path": "/etc/x", "more": 1}, {"path": "/etc/x", "mode": 384}, "x",
    ],
    ids=str,
)  # fmt: skip
def test_what_has_another_shape_is_refused_and_not_repeated(
    web: TestClient, callers: dict[Role, dict[str, str]], file: Any
) -> None:
    bad = file | {"content": SECRET} if isinstance(file, dict) else file
    body = {"name": "web", "image": "debian", "secret_files": [bad]}
    for path in ("/v1/claims", "/v1/claims:preview", "/v1/claims:explain"):
        answer = web.post(path, json=body, headers=callers[Role.CLAIMER])
        assert answer.status_code == 422
        assert not leaked(answer.content, {"file": SECRET})


def test_no_answer_and_no_log_has_their_content(
    parts: Parts, callers: dict[Role, dict[str, str]]
) -> None:
    a_claim(parts, FILES)
    body = {"name": "new", "image": "no-such", "secret_files": FILES, "ssh_keys": []}
    with everything_logged() as log, TestClient(create_app(parts, Door.WEB)) as web:
        for headers in callers.values():
            for path in ("/v1/claims", "/v1/claims/web", "/v1/claims/web/preview", "/v1/events"):
                assert not leaked(web.get(path, headers=headers).content, {"file": SECRET})
            for path in ("/v1/claims", "/v1/claims:preview", "/v1/claims:explain"):
                keyed = headers | {"Idempotency-Key": f"k{path}"}
                answer = web.post(path, json=body, headers=keyed)
                assert not leaked(answer.content, {"file": SECRET})
        said = log.getvalue()
    assert not leaked(said.encode(), {"file": SECRET})
    url = str(parts.store.engine.url).removeprefix("sqlite:///")
    kept = b"".join(p.read_bytes() for p in Path(url).parent.glob("seed.db*"))
    assert not leaked(kept, {"file": SECRET})


# --- previews -----------------------------------------------------------------------------------


def test_a_claims_drives_are_shown_without_their_tokens(
    parts: Parts, web: TestClient, callers: dict[Role, dict[str, str]]
) -> None:
    a_claim(parts, FILES, kernel_args=["quiet"])
    answer = web.get("/v1/claims/web/preview", headers=callers[Role.CLAIMER])
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    told = answer.json()
    (node,) = told["nodes"]
    assert (told["count"], node["hostname"], node["node"], node["faults"]) == (
        1, "web", "sn-1", [],
    )  # fmt: skip
    assert node["user_data"] == USER_DATA
    assert node["meta_data"]["public_keys"] == {"0": "k"}
    assert node["network_data"]["networks"][0]["ip_address"] == "172.22.0.50"
    assert [(p["name"], p["mode"], p["owner"]) for p in node["parts"]] == [
        ("/etc/app/key", "0600", ""), ("/etc/app/blob", "0640", "svc:svc"),
    ]  # fmt: skip
    assert len(node["vendor_data"]) == 2
    assert '"token": "<one-time>"' in node["vendor_data"][1]
    assert "/v1/parts/<one-time>" in node["vendor_data"][0]
    assert 4_000 < node["packed_bytes"] < 64_000


def test_what_would_be_refused_is_a_finding_there(
    parts: Parts, web: TestClient, callers: dict[Role, dict[str, str]]
) -> None:
    """Of a claim that is older than the rule."""
    layout = {
        "name": "rack-a", "nics": {"up": {"count": 9, "boot": True}},
        "bonds": [{"name": "bond0", "nics": "up"}],
    }  # fmt: skip
    a_claim(parts, user_data="hello", layout="rack-a", layout_document=layout)
    told = web.get("/v1/claims/web/preview", headers=callers[Role.OPERATOR]).json()
    (node,) = told["nodes"]
    assert "user_data: it starts with 'hello', which cloud-init would ignore" in node["faults"]
    assert any("rack-a" in fault for fault in node["faults"])


def test_nobody_else_sees_it(
    parts: Parts, web: TestClient, callers: dict[Role, dict[str, str]]
) -> None:
    a_claim(parts)
    other = bearer(a_token(parts, "other", Role.CLAIMER, project="other"))
    assert web.get("/v1/claims/web/preview", headers=other).status_code == 404
    for role in (Role.VIEWER, Role.DESTROYER):
        assert web.get("/v1/claims/web/preview", headers=callers[role]).status_code == 403


def test_user_data_that_is_not_what_it_says_is_refused_at_once(
    web: TestClient, callers: dict[Role, dict[str, str]]
) -> None:
    body = {"name": "web", "image": "debian", "user_data": "hello"}
    for path in ("/v1/claims:preview", "/v1/claims:explain"):
        answer = web.post(path, json=body, headers=callers[Role.CLAIMER])
        assert answer.status_code == 422
        assert "cloud-init would ignore" in answer.json()["detail"]
        assert "docs/node-data.md" in json.dumps(answer.json())
