"""A cluster's bundle through the API: refusals are one sentence that names the field."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from provisioning.bundle import Bundle
from provisioning.cluster_rows import Cluster
from tests.fakes.api import a_token, bearer, some_parts
from tests.fakes.bundles import by_hand, made, root
from tests.unit.test_clusters import a_spec

__all__ = ["by_hand", "made", "root"]


@pytest.fixture
def parts(tmp_path: Path, root: Path, made: Bundle) -> Parts:
    return replace(some_parts(tmp_path), bundle_dir=root)


@pytest.fixture
def http(parts: Parts) -> Iterator[TestClient]:
    headers = bearer(a_token(parts, "me", Role.CLAIMER))
    with TestClient(create_app(parts, Door.WEB), headers=headers) as client:
        yield client


@pytest.mark.parametrize(
    ("told", "status", "sentence"),
    [
        ({"bundle": "other"}, 404, "bundle: there is no bundle other, only: kubeadm:1.36.2"),
        ({"bundle": "kubeadm:1.35.0", "version": ""}, 404, "bundle: there is no kubeadm of"),
        ({"bundle": "kubeadm", "options": {"files": []}}, 422, "options.files: "),
        ({"bundle": "../x"}, 422, "bundle"),
        ({"bundle": "kubeadm:"}, 422, "bundle"),
        ({"bundle": ["kubeadm"]}, 422, "bundle"),
        ({"bundle": None}, 422, "bundle"),
        ({"bundle": "k" * 5000}, 422, "bundle"),
    ],
)
def test_a_bundle_that_cannot_be_is_refused_by_its_field(
    http: TestClient, parts: Parts, told: dict[str, Any], status: int, sentence: str
) -> None:
    body = a_spec().model_dump(mode="json") | told
    refused = http.post("/v1/clusters", json=body)
    assert refused.status_code == status, refused.text
    assert sentence in refused.json()["detail"], refused.text
    assert refused.json()["remedy"]
    planned = http.post("/v1/clusters:plan", json=body)
    assert (planned.status_code, planned.json().get("fits")) in ((200, False), (422, None))
    assert sentence in planned.json().get("sentence", planned.json().get("detail"))
    with parts.store.read() as session:
        assert session.exec(select(Cluster)).all() == []


def test_a_broken_bundle_is_named_with_its_file(http: TestClient, root: Path) -> None:
    (root / "kubeadm/1.36.2/files/kubelet").unlink()
    body = a_spec(bundle="kubeadm").model_dump(mode="json")
    refused = http.post("/v1/clusters", json=body)
    assert refused.status_code == 422
    assert "files/kubelet is missing" in refused.json()["detail"]
    assert "seed bundle verify kubeadm:1.36.2" in refused.json()["remedy"]
