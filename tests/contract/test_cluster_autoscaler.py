"""`seed cluster autoscaler` and its routes, and seed-autoscaler as a process without any right."""

import base64
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest
import typer
import yaml
from fastapi.testclient import TestClient
from sqlmodel import select
from typer.testing import CliRunner

from api.app import create_app
from api.parts import AutoscalerDoor, Door, Parts
from api.roles import Role
from provisioning.autoscaling import Autoscaling
from provisioning.cluster_changes import Clusters
from provisioning.cluster_rows import Cluster
from provisioning.models import Event
from provisioning.store import Store
from seed.commands import cluster_autoscaler
from seed.commands.door import Verbs
from seed.host import ready
from seed.host.paths import Paths
from seed.host.setup import to_toml
from seed.settings import Settings
from tests.contract.test_image_jail import UNPRIVILEGED
from tests.fakes.api import a_token, bearer, some_parts
from tests.fakes.appliance import until
from tests.fakes.autoscaler import Door as Provider
from tests.fakes.autoscaler import a_door, a_key, make_keys, served_settings
from tests.fakes.life import House
from tests.fakes.serving import api_on_a_port
from tests.fakes.two_projects import IMAGE
from tests.unit.test_clusters import a_spec, house

__all__ = ["house"]
ROOT = Path(__file__).parents[2]
URL = "/v1/clusters/web:autoscaler"
seed = typer.Typer(cls=Verbs)
seed.command("autoscaler")(cluster_autoscaler.autoscaler)
seed.command("other")(lambda: None)  # with one verb alone typer would not ask for its name


@dataclass
class Site:
    house: House
    provider: Provider
    parts: Parts
    folder: Path

    @property
    def row(self) -> Cluster:
        (found,) = self.house.rows(Cluster)
        return found  # type: ignore[no-any-return]


@pytest.fixture
def site(house: House, tmp_path: Path) -> Iterator[Site]:
    """A cluster web of the project p, without limits, and an API that knows it."""
    Clusters(house.store, house.desk).create(a_spec(control={"count": 1}), "p", "me")
    (tmp_path / "api").mkdir()
    with a_door(tmp_path, Autoscaling(house.store, Clusters(house.store, house.desk))) as door:
        told = AutoscalerDoor(f"127.0.0.1:{door.port}", door.authority)
        parts = replace(
            some_parts(tmp_path / "api"), store=house.store, autoscaler=told,
            ca_pem=Paths(door.settings).tls / "ca.pem",
        )  # fmt: skip
        yield Site(house, door, parts, tmp_path)


@pytest.fixture
def web(site: Site) -> Iterator[TestClient]:
    with TestClient(create_app(site.parts, Door.WEB)) as client:
        client.headers.update(bearer(a_token(site.parts, "c", Role.CLAIMER, project="p")))
        yield client


# --- routes ---------------------------------------------------------------------------------------


def test_a_certificate_for_a_request_opens_the_provider(web: TestClient, site: Site) -> None:
    key = a_key()
    answer = web.post(URL, json={"csr": key.csr, "min": 1, "max": 3})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert {word: told[word] for word in ("cluster", "node_group", "min", "max", "address")} == {
        "cluster": "web", "node_group": "web-worker", "min": 1, "max": 3,
        "address": f"127.0.0.1:{site.provider.port}",
    }  # fmt: skip
    client = site.provider.client_with(key.pem, told["certificate"].encode(), told["ca"].encode())
    (group,) = client("NodeGroups").nodeGroups
    assert (group.minSize, group.maxSize) == (1, 3)
    again = web.post(URL, json={"csr": a_key().csr, "max": 5}).json()
    assert (again["min"], again["max"]) == (1, 5)
    with pytest.raises(grpc.RpcError, match="replaced"):
        client("NodeGroups")
    kinds = [e.kind for e in site.house.rows(Event) if e.kind.startswith("cluster.autoscaler")]
    assert kinds == ["cluster.autoscaler"] * 2
    assert web.post("/v1/clusters/web:revoke-autoscaler", json={}).json() == {"cluster": "web"}
    assert site.row.autoscaler == ""


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"min": 1, "max": 3}, 422, "csr"),
        ({"csr": "x", "min": 1, "max": 3}, 422, "csr: it is no certificate request"),
        ({"csr": "x" * 20_000, "min": 1, "max": 3}, 422, "csr"),
        ({"csr": "CSR", "min": 1}, 422, "nobody said how many workers web may have"),
        ({"csr": "CSR", "min": 3, "max": 2}, 422, "min: 3 is more than max, 2"),
        ({"csr": "CSR", "min": -1, "max": 2}, 422, "min"),
        ({"csr": "CSR", "min": 1, "max": 501}, 422, "max"),
        ({"csr": "CSR", "min": "1", "max": 2}, 422, "min"),
        ({"csr": "CSR", "min": 1, "max": 2, "project": "q"}, 422, "project"),
    ],
)
def test_bad_asks_name_the_field_and_change_nothing(
    web: TestClient, site: Site, asked: dict[str, object], status: int, said: str
) -> None:
    csr = a_key().csr
    body = {word: csr if value == "CSR" else value for word, value in asked.items()}
    answer = web.post(URL, json=body)
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text
    assert answer.json()["remedy"]
    assert (site.row.autoscaler, site.row.spec["workers"]["autoscale"]) == ("", None)


def test_a_request_that_another_key_signed_is_none(web: TestClient, site: Site) -> None:
    one, other = (base64.b64decode("".join(a_key().csr.splitlines()[1:-1])) for _ in range(2))
    forged = base64.encodebytes(one[:-60] + other[-60:]).decode()
    pem = f"-----BEGIN CERTIFICATE REQUEST-----\n{forged}-----END CERTIFICATE REQUEST-----\n"
    answer = web.post(URL, json={"csr": pem, "min": 1, "max": 2})
    assert (answer.status_code, site.row.autoscaler) == (422, "")


def test_only_its_own_project_and_destroyers_may(web: TestClient, site: Site) -> None:
    asked = {"csr": a_key().csr, "min": 1, "max": 2}
    for role, project, status in (
        (Role.CLAIMER, "q", 404), (Role.VIEWER, "p", 403), (Role.OPERATOR, "p", 403),
        (Role.DESTROYER, "q", 200),
    ):  # fmt: skip
        secret = a_token(site.parts, f"{role}-{project}", role, project=project)
        answer = web.post(URL, json=asked, headers=bearer(secret))
        assert answer.status_code == status, (role, answer.text)


def test_where_nobody_is_answered_no_certificate_is_given(site: Site) -> None:
    with TestClient(create_app(replace(site.parts, autoscaler=None), Door.WEB)) as web:
        token = bearer(a_token(site.parts, "c", Role.CLAIMER, project="p"))
        asked = {"csr": a_key().csr, "min": 1, "max": 2}
        answer = web.post(URL, json=asked, headers=token)
    assert (answer.status_code, "autoscaler" in answer.json()["remedy"]) == (409, True)
    assert site.row.autoscaler == ""


def test_a_cluster_that_is_given_back_gets_none(web: TestClient, site: Site) -> None:
    with site.house.store.write() as session:
        row = session.exec(select(Cluster)).one()
        row.released = True
        session.add(row)
    answer = web.post(URL, json={"csr": a_key().csr, "min": 1, "max": 2})
    assert (answer.status_code, answer.json()["detail"]) == (409, "cluster web is being given back")


# --- the verb -------------------------------------------------------------------------------------


def run(site: Site, *words: str, code: int = 0) -> str:
    token = site.folder / "token"
    if not token.exists():
        token.write_text(a_token(site.parts, "c", Role.CLAIMER, project="p"))
        token.chmod(0o600)
    with api_on_a_port(create_app(site.parts, Door.WEB)) as url:
        env = {"SEED_CONFIG": "/nowhere", "SEED_SERVER": url, "NO_COLOR": "1", "COLUMNS": "80",
               "SEED_TOKEN_FILE": str(token)}  # fmt: skip
        done = CliRunner().invoke(seed, ["autoscaler", *words], env=env)
    assert done.exit_code == code, done.output
    return done.output


def test_what_the_verb_writes_lets_the_autoscaler_in(site: Site) -> None:
    folder = site.folder / "given"
    before = os.umask(0)
    try:
        said = run(site, "web", "--min", "0", "--max", "3", "--directory", str(folder))
    finally:
        os.umask(before)
    assert "web-worker" in said
    assert f"kubectl apply -f {folder}/secret.yaml" in said.replace("\n", "")
    files = {path.name: path for path in folder.iterdir()}
    assert sorted(files) == ["ca.crt", "cloud-config", "secret.yaml", "tls.crt", "tls.key"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in files.values()} == {0o600}
    assert "PRIVATE KEY" not in said

    secret = yaml.safe_load(files["secret.yaml"].read_text())
    assert (secret["kind"], secret["metadata"]["namespace"]) == ("Secret", "kube-system")
    mounted = {name: base64.b64decode(text) for name, text in secret["data"].items()}
    config = yaml.safe_load(mounted["cloud-config"])
    assert config["address"] == f"127.0.0.1:{site.provider.port}"
    key, certificate, ca = (
        mounted[config[name].removeprefix("/etc/cluster-autoscaler/")]
        for name in ("key", "cert", "cacert")
    )
    client = site.provider.client_with(key, certificate, ca)
    assert client("NodeGroups").nodeGroups[0].maxSize == 3

    assert "web" in run(site, "web", "--revoke")
    with pytest.raises(grpc.RpcError):
        client("NodeGroups")
    assert "takes no --min" in run(site, "web", "--revoke", "--min", "1", code=2)
    refused = run(site, "shop", "--directory", str(site.folder / "none"), code=1)
    assert "there is no cluster 'shop'" in refused
    assert not list((site.folder / "none").iterdir()), "no key of a cluster that is not there"


# --- the process ----------------------------------------------------------------------------------


@pytest.fixture
def served(house: House) -> Iterator[Settings]:
    """Folders as `seed up` makes them, and a database with a cluster in it."""
    Clusters(house.store, house.desk).create(a_spec(control={"count": 1}), "p", "me")
    base = Path("/var/tmp") / f"seed-autoscaler-{os.getpid()}"  # noqa: S108
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = served_settings(base, port)
    paths = Paths(settings)
    image = settings.image_dir / "debian" / "1"
    for folder in (paths.db, image, paths.keys):
        folder.mkdir(parents=True)
    (image / "manifest.json").write_text(json.dumps(IMAGE))
    (image.parent / "current").symlink_to("1")
    make_keys(settings)
    with sqlite3.connect(house.folder / "seed.db") as connection:
        connection.execute("VACUUM INTO ?", [str(paths.db / "seed.db")])
    connection.close()
    paths.autoscaler_key.chmod(0o600)
    (base / "seed.toml").write_text(to_toml(settings))
    nobody = [str(paths.db), str(paths.db / "seed.db"), str(paths.tls / "autoscaler.key")]
    subprocess.run(["chown", "nobody", *nobody], check=True, timeout=30)
    try:
        yield settings
    finally:
        shutil.rmtree(base)


def test_it_answers_without_any_right_and_ends_when_told(served: Settings, tmp_path: Path) -> None:
    provider = Provider(Store(served.database_url), served, served.autoscaler.port)
    given, key = provider.give("web", min=1, max=4)
    files = [served.state_dir / "db" / f"seed.db{end}" for end in ("-wal", "-shm")]
    there = [str(path) for path in files if path.exists()]
    subprocess.run(["chown", "nobody", served.state_dir / "db", *there], check=True, timeout=30)
    argv = [*UNPRIVILEGED, sys.executable, "-m", "seed", "serve", "autoscaler"]
    told = os.environ | {
        "SEED_CONFIG": str(served.state_dir.parent / "seed.toml"), "GRPC_VERBOSITY": "NONE",
    }  # fmt: skip
    assert not ready.autoscaler(served)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(argv, env=told, stdout=log, stderr=log, cwd=ROOT)
    try:
        until(lambda: ready.autoscaler(served) or process.poll() is not None, 60, "its port")
        stranger = provider.client_with(None, None)
        with pytest.raises(grpc.RpcError):
            stranger("NodeGroups", timeout=3)
        client = provider.client_with(key.pem, given.certificate.encode())
        assert client("NodeGroupTargetSize", id="web-worker", timeout=20).targetSize == 2
        client("NodeGroupIncreaseSize", id="web-worker", delta=1)
        assert client("NodeGroupTargetSize", id="web-worker").targetSize == 3
        with pytest.raises(grpc.RpcError, match="more than the 4"):
            client("NodeGroupIncreaseSize", id="web-worker", delta=9)
    finally:
        for channel in provider.opened:
            channel.close()
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
    written = (tmp_path / "log").read_text()
    assert code == 0, written
    assert [word for word in ("autoscaler.started", "autoscaler.stopped") if word in written] == [
        "autoscaler.started", "autoscaler.stopped",
    ]  # fmt: skip
    assert "PRIVATE KEY" not in written
    assert written.count("\n") == 4, "a stranger is not worth a line: " + written
