"""Whom a cluster's nodes ask for images first, and by which CA they know it."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from images.collecting import make_from
from images.needs import Wanted
from provisioning import memberships
from provisioning.cluster_rows import Cluster
from provisioning.clusters import Clusters, facts_of, find, known
from provisioning.errors import Conflict
from provisioning.kinds import ClusterFacts
from tests.fakes import a_kubeadm
from tests.fakes.bundles import as_layout, by_hand, made, put, root
from tests.fakes.life import House
from tests.unit.test_cluster_life import can_seal, cluster
from tests.unit.test_clusters import a_spec, house

__all__ = ["by_hand", "house", "made", "root"]

SEED, CA = "https://172.22.0.1", "-----BEGIN CERTIFICATE-----\nseed's\n"
FACTS = replace(
    a_kubeadm.FACTS, options={}, bundle_url="", addons=(), registry=SEED, registry_ca=CA
)


def files(kind: str, facts: ClusterFacts) -> dict[str, str]:
    plugin = known()[kind]
    member = next(one for one in facts.members if one.role == "worker")
    parts = plugin.files(facts, member, plugin.secrets(facts))
    return {part.path: part.content.decode() for part in parts}


# --- what a node is given -------------------------------------------------------------------------


def test_docker_trusts_seed_for_its_images_alone() -> None:
    told = files("swarm", FACTS)
    assert told["/etc/docker/certs.d/172.22.0.1/ca.crt"] == CA
    daemon = json.loads(told["/etc/docker/daemon.json"])
    assert daemon["registry-mirrors"] == [SEED]
    assert "insecure-registries" not in daemon


def test_containerd_asks_seed_first_and_verifies_it() -> None:
    told = files("kubeadm", FACTS)
    (host,) = tomllib.loads(told["/etc/containerd/certs.d/_default/hosts.toml"])["host"].items()
    assert host == (SEED, {"capabilities": ["pull", "resolve"], "ca": (path := host[1]["ca"])})
    assert told[path] == CA


def test_k3s_asks_seed_first_and_verifies_it() -> None:
    told = files("k3s", FACTS)
    found = yaml.safe_load(told["/etc/rancher/k3s/registries.yaml"])
    assert found["mirrors"] == {"*": {"endpoint": [SEED]}}
    assert told[found["configs"]["172.22.0.1"]["tls"]["ca_file"]] == CA


@pytest.mark.parametrize("kind", ["swarm", "kubeadm", "k3s"])
def test_a_registry_of_somebody_else_is_trusted_as_the_image_trusts_it(kind: str) -> None:
    told = files(kind, replace(FACTS, registry="https://reg.example", registry_ca=""))
    assert CA not in told.values()
    assert "ca.crt" not in " ".join(path for path in told if "certs.d" in path)
    assert not [text for text in told.values() if "ca_file" in text]


@pytest.mark.parametrize("registry", ["172.22.0.1", f"{SEED}/"])
def test_however_seeds_own_is_written_docker_finds_its_ca(registry: str) -> None:
    assert files("swarm", replace(FACTS, registry=registry))[
        "/etc/docker/certs.d/172.22.0.1/ca.crt"
    ]


# --- which one ------------------------------------------------------------------------------------


def facts(house: House, gateway: str = SEED) -> ClusterFacts:
    with house.store.read() as session:
        return facts_of(session, find(session, "p", "web"), gateway, "http://172.22.0.1")


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        ({"bundle": "kubeadm"}, SEED),
        ({}, ""),
        ({"registry": "reg.example:5000"}, "reg.example:5000"),
        ({"bundle": "kubeadm", "registry": "https://reg.example"}, "https://reg.example"),
    ],
)
def test_seeds_own_is_asked_where_there_is_a_bundle_and_no_other_is_named(
    house: House, root: Path, made: object, told: dict[str, Any], asked: str
) -> None:
    Clusters(house.store, house.desk, root).create(a_spec(**told), "p", "me")
    assert facts(house).registry == asked
    assert known()["kubeadm"].faults(facts(house)) == []


def test_a_swarm_is_made_with_a_bundle_of_its_services_images(house: House, tmp_path: Path) -> None:
    put(tmp_path / "apps", "images/web_1.tar", as_layout("shop.example/web:1"))
    bundles = tmp_path / "bundles"
    make_from(Wanted("apps", "20.10.24", kind="swarm"), tmp_path / "apps", bundles)
    spec = a_spec(kind="swarm", version="", bundle="apps")
    Clusters(house.store, house.desk, bundles).create(spec, "p", "me")
    assert (facts(house).version, facts(house).registry) == ("20.10.24", SEED)
    assert known()["swarm"].faults(facts(house)) == []


@pytest.mark.parametrize(
    ("told", "trusted"),
    [
        ({"bundle": "kubeadm"}, True), ({"registry": "172.22.0.1"}, True),
        ({"registry": "reg.example"}, False), ({}, False),
    ],
)  # fmt: skip
def test_a_member_is_given_seeds_ca_for_seeds_registry_alone(
    house: House, root: Path, made: object, told: dict[str, Any], trusted: bool
) -> None:
    can_seal(house)
    Clusters(house.store, house.desk, root).create(a_spec(**told), "p", "me")
    for _ in range(2):
        house.see()
        house.reconciler._cluster(cluster(house).id)
    unseal = house.reconciler.parts.unseal
    with house.store.write() as session:
        claim = next(iter(house.living()))
        one = memberships.make(session, claim, unseal, str, SEED, CA, "http://172.22.0.1")
        session.rollback()
    assert one is not None
    given = [part.path for part in one.parts if part.content.decode() == CA]
    assert given == (["/etc/containerd/certs.d/_default/ca.crt"] if trusted else [])


@pytest.mark.parametrize("registry", ["https://reg.example/path", "a b", "ftp://x", "x" * 300, 1])
def test_what_cannot_be_asked_is_refused_by_its_field(registry: object) -> None:
    with pytest.raises(ValidationError, match="registry"):
        a_spec(registry=registry)


def test_a_cluster_from_before_there_was_the_field_is_the_same(house: House) -> None:
    desk = Clusters(house.store, house.desk)
    desk.create(a_spec(), "p", "me")
    with house.store.write() as session:
        row = session.get_one(Cluster, cluster(house).id)
        row.spec = {key: value for key, value in row.spec.items() if key != "registry"}
        session.add(row)
    assert desk.create(a_spec(), "p", "me")[1] is False
    with pytest.raises(Conflict, match="differs in registry"):
        desk.create(a_spec(registry="reg.example"), "p", "me")
