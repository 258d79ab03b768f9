"""`seed cluster kubeconfig` and `seed cluster check` as people type them, by HTTP."""

import base64
import json
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from api.roles import Role
from provisioning import kube_check, kube_steps, overcloud_access
from provisioning.cluster_rows import ClusterCheck, KubeCertificate, Member
from provisioning.states import ClusterState
from seed.cli import app
from tests.contract.test_cluster_verbs import Place, place
from tests.fakes.api import a_token, some_parts
from tests.unit.test_cluster_access import PAUSE, with_dns
from tests.unit.test_cluster_life import cluster, rounds, tell
from tests.unit.test_clusters import a_spec, desk, house
from tests.unit.test_pki import public_of, shown, verified

__all__ = ["house", "place"]


@pytest.fixture
def web(place: Place) -> Place:
    """Five members that joined; it is ready."""
    house = place.house
    desk(house).create(a_spec(), "p", "me")
    rounds(house, ClusterState.BOOTSTRAPPING)
    for member in house.rows(Member):
        tell(house, member)
    rounds(house, ClusterState.READY)
    return place


@contextmanager
def reconciled(place: Place) -> Iterator[None]:
    """As long as somebody waits, the reconciler does what is due."""
    over = threading.Event()

    def work() -> None:
        parts = place.house.reconciler.parts
        while not over.wait(0.05):
            with place.house.store.read() as session:
                certificates, checks = kube_steps.due(session)
                clouds = overcloud_access.due(session)
            for identity in clouds:
                overcloud_access.seal(parts, identity)
            for identity in certificates:
                kube_steps.sign(parts, identity)
            for identity in checks:
                kube_check.step(parts, identity)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def part(config: dict[str, Any], what: str) -> str:
    return base64.b64decode(config["users"][0]["user"][what]).decode()


def test_a_kubeconfig_is_the_callers_and_nobody_else_reads_it(web: Place) -> None:
    file = web.folder / "k.yaml"
    before = os.umask(0)
    try:
        with reconciled(web):
            code, said = web.seed("cluster", "kubeconfig", "web", "--out", str(file))
    finally:
        os.umask(before)
    assert code == 0, said
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    config = yaml.safe_load(file.read_text())
    certificate = part(config, "client-certificate-data")
    assert shown(certificate, "-subject") == "subject=O = seed:p, CN = me"
    assert public_of(part(config, "client-key-data")) == shown(certificate, "-pubkey") + "\n"
    (row,) = web.house.rows(KubeCertificate)
    assert verified(web.folder, row.ca, certificate, row.signed_at, "sslclient") == "OK"
    server = config["clusters"][0]["cluster"]["server"]
    assert server == f"https://{cluster(web.house).vip}:6443"
    assert "PRIVATE" not in row.csr + said
    assert sorted(p.name for p in web.folder.iterdir() if "k.yaml" in p.name) == ["k.yaml"]
    with reconciled(web):  # again, over its own
        assert web.seed("cluster", "kubeconfig", "web", "--out", str(file))[0] == 0
    assert yaml.safe_load(file.read_text()) != config


def test_it_is_printed_where_that_is_asked_for(web: Place) -> None:
    with reconciled(web):
        words = ["cluster", "kubeconfig", "web", "--out", "-"]
        plain = CliRunner().invoke(app, words, env=web.env)
        told = CliRunner().invoke(app, [*words, "-o", "json"], env=web.env)
        facts = web.json("cluster", "kubeconfig", "web", "--out", str(web.folder / "k"))
    assert yaml.safe_load(plain.stdout)["current-context"] == "me@web"
    assert json.loads(told.stdout)["current-context"] == "me@web"
    assert facts["file"] == str(web.folder / "k")
    assert not [word for word in facts if "key" in word]


def test_no_other_file_is_lost(web: Place) -> None:
    for n, content in enumerate(("apiVersion: v1\nclusters: [{name: other}]\n", "", "- x", "{")):
        file = web.folder / f"config-{n}"
        file.write_text(content)
        code, said = web.seed("cluster", "kubeconfig", "web", "--out", str(file))
        assert (code, file.read_text()) == (1, content)
        assert "try: Name another: `--out FILE`." in said
    assert not web.house.rows(KubeCertificate), "nothing was asked for"


def test_who_waits_is_told_for_what_and_not_for_ever(place: Place) -> None:
    desk(place.house).create(a_spec(), "p", "me")
    words = ("cluster", "kubeconfig", "web", "--out", "-", "--timeout", "1")
    code, said = place.seed(*words)
    assert code == 4
    assert "web is claiming" in said
    assert "PRIVATE" not in said


def test_another_projects_cluster_is_not_there(web: Place) -> None:
    (web.folder / "parts").mkdir()
    parts = replace(some_parts(web.folder / "parts"), store=web.house.store)
    (web.folder / "token").write_text(a_token(parts, "you", Role.CLAIMER, project="q"))
    for verb in ("kubeconfig", "check"):
        code, said = web.seed("cluster", verb, "web")
        assert code == 1
        assert "there is no cluster 'web'" in said


def test_a_swarm_has_no_kubeconfig(place: Place) -> None:
    desk(place.house).create(a_spec(kind="swarm", version=""), "p", "me")
    code, said = place.seed("cluster", "kubeconfig", "web", "--out", "-")
    assert code == 1
    assert "web is of kind swarm: it has no Kubernetes API" in said
    assert "seed claim ssh-config web-control-0" in said


def test_a_check_is_a_table_and_its_exit_code(web: Place) -> None:
    house = web.house
    house.node_images = (PAUSE,)
    assert house.kube
    with_dns(house.kube)
    with reconciled(web):
        code, said = web.seed("cluster", "check", "web")
    assert code == 0, said
    lines = said.splitlines()
    assert all(len(line) <= 80 for line in lines), said
    assert any(line.split()[:2] == ["nodes", "ok"] for line in lines), said
    assert "there is no StorageClass" in said
    house.unready = {"web-worker-0": "KubeletNotReady"}
    with reconciled(web):
        done = CliRunner().invoke(app, ["cluster", "check", "web", "-o", "json"], env=web.env)
    found = json.loads(done.stdout)
    assert (done.exit_code, found["state"]) == (1, "failed")
    states = {item["name"]: item["state"] for item in found["items"]}
    assert states["nodes"] == "failed"
    assert states["clean-up"] == "ok"
    assert all(row.ended_at for row in house.rows(ClusterCheck))
