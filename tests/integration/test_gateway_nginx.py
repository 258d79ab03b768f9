"""The node gateway through the real nginx, with the scripts that nodes run. Needs root."""

import dataclasses
import hashlib
import json
import os
import shutil
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import httpx
import pytest
import uvicorn

from api.gateway import create_gateway
from api.parts import Parts
from images.collecting import make_from
from provisioning import on_node, parts_once
from provisioning.cluster_bundles import kept
from provisioning.kinds.kubeadm import PLUGIN as KUBEADM
from provisioning.models import Order, now
from provisioning.states import OrderKind
from provisioning.targets import PartSpec, PartUrl
from seed.host import nginx_conf, tls
from seed.host.paths import Paths
from seed.settings import ProvisioningWire, Settings, Wire
from tests.contract.test_gateway import an_order
from tests.fakes.a_kubeadm import FACTS, FIRST, made_secrets, step
from tests.fakes.api import some_parts
from tests.fakes.appliance import base_folder, until
from tests.fakes.bundles import WANTED, by_hand
from tests.fakes.members import a_cluster
from tests.fakes.settings import some_settings

__all__ = ["by_hand"]
MANAGEMENT, WIRE, NODE, STRANGER = "127.73.0.1", "127.74.0.1", "127.74.0.50", "127.74.0.60"
EARLY = Path(on_node.__file__).with_name("early.py")
CONTENT = b"join=s3cr3t-of-the-cluster\n"


@pytest.fixture
def settings() -> Iterator[Settings]:
    assert os.geteuid() == 0, "nginx listens on ports below 1024"
    with base_folder() as base:
        provisioning = ProvisioningWire(
            interface="lo", address=IPv4Interface(f"{WIRE}/24"),
            pool_start=IPv4Address("127.74.0.10"), pool_end=IPv4Address("127.74.0.99"),
            unknown_start=IPv4Address("127.74.0.100"), unknown_end=IPv4Address("127.74.0.110"),
        )  # fmt: skip
        management = Wire(interface="lo", address=IPv4Interface(f"{MANAGEMENT}/24"))
        yield some_settings(base, management=management, provisioning=provisioning)


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return some_parts(tmp_path)


@contextmanager
def nginx(settings: Settings) -> Iterator[Path]:
    """Its log on stderr goes to the file that is given."""
    paths = Paths(settings)
    for folder in (paths.nginx, settings.log_dir / "nginx", settings.run_dir, settings.http_dir):
        folder.mkdir(parents=True, exist_ok=True)
    tls.ensure(settings)
    conf, said = paths.nginx / "nginx.conf", settings.log_dir / "stderr"
    conf.write_text(nginx_conf.render(settings))
    with said.open("wb") as stderr:
        argv = ["nginx", "-e", "stderr", "-c", str(conf)]
        process = subprocess.Popen(argv, stderr=stderr)
    try:
        until(lambda: answers(settings), 30, "nginx")
        yield said
    finally:
        process.terminate()
        process.wait(20)


def answers(settings: Settings) -> bool:
    try:
        with client(settings) as http:
            http.get("/nothing")
    except httpx.HTTPError:
        return False
    return True


def client(settings: Settings, source: str = NODE, host: str = WIRE) -> httpx.Client:
    trust = ssl.create_default_context(cafile=str(Paths(settings).tls / "ca.pem"))
    transport = httpx.HTTPTransport(verify=trust, local_address=source)
    return httpx.Client(base_url=f"https://{host}", transport=transport, timeout=20)


@contextmanager
def gateway(parts: Parts, settings: Settings) -> Iterator[None]:
    config = uvicorn.Config(
        create_gateway(parts), uds=str(settings.gateway_socket), log_config=None, ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started, 30, "the gateway")
        settings.gateway_socket.chmod(0o666)
        yield
    finally:
        server.should_exit = True
        thread.join(30)


def deploying(parts: Parts, *specs: PartSpec) -> tuple[Order, list[PartUrl]]:
    order = an_order(parts, OrderKind.DEPLOY)
    with parts.store.write() as session:
        from provisioning.models import Address

        session.add(Address(address=NODE, mac="52:54:00:77:00:01", node_uuid=order.node_uuid))
        session.add(Address(address=STRANGER, mac="52:54:00:77:00:02", node_uuid=None))
        urls = parts_once.make(
            session, order, specs, f"https://{WIRE}", now() + timedelta(minutes=60)
        )
    return order, urls


def early(folder: Path, settings: Settings, urls: list[PartUrl], *late: str) -> None:
    """As a boothook runs it, from the node's address."""
    config = {
        "ca": (Paths(settings).tls / "ca.pem").read_text(),
        "files": [{"path": str(folder / "etc/seed.conf"), "mode": 0o640, "content": "a=ü\n"}],
        "parts": [
            {"name": u.name, "path": u.path, "mode": u.mode, "owner": u.owner, "url": u.url}
            for u in urls
        ],
    }
    (folder / "early.json").write_text(json.dumps(config))
    # From the address of the node: what urllib binds to is said by nothing else.
    bound = (
        "import runpy, socket, sys\n"
        "real = socket.create_connection\n"
        f"socket.create_connection = lambda a, *r, **k: real(a, r[0], ({NODE!r}, 0))\n"
        f"sys.argv = ['early.py', {str(folder / 'early.json')!r}, *{list(late)!r}]\n"
        f"runpy.run_path({str(EARLY)!r}, run_name='__main__')\n"
    )
    subprocess.run([sys.executable, "-I", "-c", bound], check=True, timeout=120)


def told(folder: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((folder / "parts.json").read_text())
    return found


def test_a_node_fetches_its_parts_and_no_log_has_their_urls(
    settings: Settings, parts: Parts, tmp_path: Path
) -> None:
    home = tmp_path / "node"
    home.mkdir()
    specs = (
        PartSpec("join", str(home / "etc/join"), 0o600, CONTENT, "root:root"),
        PartSpec("tool", str(home / "opt/tool"), 0o755, b"\0" * 3_000_000, "no-such-user"),
    )
    _, urls = deploying(parts, *specs)
    with nginx(settings) as said:
        with client(settings) as http:
            down = http.get(urls[0].url)
            assert down.status_code == 503
        with gateway(parts, settings):
            early(home, settings, urls)
            assert (home / "etc/join").read_bytes() == CONTENT
            assert stat.S_IMODE((home / "etc/join").stat().st_mode) == 0o600
            assert stat.S_IMODE((home / "opt/tool").stat().st_mode) == 0o755
            assert stat.S_IMODE((home / "opt").stat().st_mode) == 0o755
            assert (home / "etc/seed.conf").read_text() == "a=ü\n"
            assert [told(home)[n]["problem"] == "" for n in ("join", "tool")] == [True, False]
            early(home, settings, urls, "late")
            assert "no-such-user" in str(told(home)["tool"]["problem"])
            assert not (home / "early.json").exists()
            with client(settings) as http:
                token = urls[0].url.rpartition("/")[2]
                for path in (
                    f"/v1/parts/{token}/",
                    f"/v1/parts/{token[:-1]}",
                    f"/v1/parts/{token}x",
                    f"//v1//parts/{token}%00",
                    f"/v1/./parts/{token}",
                    f"/v1/parts/{token}?{token}",
                ):
                    http.get(path)
                http.post(f"/v1/parts/{token}")
                assert http.request("HEAD", f"/v1/parts/{token}").status_code == 404
            with client(settings, STRANGER) as http:
                assert http.get(urls[0].url).status_code == 404
            with client(settings) as http:
                assert http.get(urls[0].url).status_code == 404  # the order is stopped
        logs = said.read_text() + (settings.log_dir / "nginx/access.log").read_text()
    assert '"path":"/v1/parts/-","status":503' in logs
    assert '"path":"/v1/parts/-","status":200' in logs
    for url in urls:
        assert url.url.rpartition("/")[2][:42] not in logs


def test_a_part_that_cannot_be_had_is_told(
    settings: Settings, parts: Parts, tmp_path: Path
) -> None:
    _, urls = deploying(parts, PartSpec("join", str(tmp_path / "join"), 0o600, CONTENT))
    with parts.store.write() as session:
        parts_once.burn(session, session.exec(parts_once.select(Order)).one().id)
    with nginx(settings), gateway(parts, settings):
        early(tmp_path, settings, urls)
    assert told(tmp_path)["join"] == {
        "path": str(tmp_path / "join"), "fetched": False, "problem": "the seed answered 404",
    }  # fmt: skip
    assert not (tmp_path / "join").exists()


WALK = [
    ("GET", "/"), ("GET", "/v1"), ("GET", "/v1/lookup"),
    ("POST", "/v1/heartbeat/ffffffff-0000-4000-8000-000000000000"),
    ("POST", "/v1/continue_inspection"), ("POST", "/v1/phone-home"),
    ("GET", f"/v1/parts/{'x' * 43}"), ("POST", "/v1/members"),
    ("PUT", "/v1/members/values/join"), ("GET", "/v1/members/values/join"),
]  # fmt: skip


def test_members_report_and_hand_values_on_up_to_64_kib(settings: Settings, parts: Parts) -> None:
    a_cluster(parts.store, {NODE: "of-the-node", STRANGER: "of-another"})
    value, path = bytes(range(256)) * 256, "/v1/members/values/join"
    mine = {"Authorization": "Bearer of-the-node"}
    theirs = {"Authorization": "Bearer of-another", "X-Real-IP": NODE}
    report = {"cluster": "web", "member": "web-worker-0", "step": "images", "state": "running"}
    with nginx(settings) as said, gateway(parts, settings):
        with client(settings) as http:
            assert http.post("/v1/members", json=report, headers=mine).status_code == 204
            assert http.put(path, content=value, headers=mine).status_code == 204
            for method, to in (("POST", "/v1/members"), ("PUT", path)):
                for size in (64 * 1024 + 1, 65 * 1024):
                    large = http.request(method, to, content=bytes(size), headers=mine)
                    assert large.status_code == 413, (method, size)
                    assert "request_id" not in large.text, "nginx ends it"
            for other in (
                "/v1/members/values/",
                f"{path}/x",
                "/v1/members/values/A",
                "/v1/members/",
            ):
                assert "request_id" not in http.put(other, content=b"x", headers=mine).text
            assert http.delete(path, headers=mine).status_code == 404
        with client(settings, STRANGER) as http:
            assert http.get(path, headers=theirs).content == value
            assert http.get(path, headers=mine).status_code == 401, "a token that was taken away"
        with client(settings) as http:
            assert http.get(path, headers=mine).status_code == 401, "and is good for nothing now"
            plain = httpx.put(f"http://{WIRE}{path}", content=b"x", headers=mine, timeout=20)
            assert plain.status_code in (404, 405)
        logs = said.read_text() + (settings.log_dir / "nginx/access.log").read_text()
    assert '"path":"/v1/members","status":204' in logs
    assert "of-the-node" not in logs
    assert "temporary file" not in logs, "nginx warns of each"


def test_a_node_fetches_its_bundle_over_plain_http_and_nothing_beside_it(
    settings: Settings, by_hand: Path, tmp_path: Path
) -> None:
    root = Paths(settings).bundles
    bundle = make_from(WANTED, by_hand, root)
    (root / ".new-half").mkdir()
    (root / ".new-half" / "kubelet").touch()
    url = f"http://{WIRE}/bundles/kubeadm/1.36.2"
    with nginx(settings):
        done = fetched(kept(bundle)["files"], url, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        for file in bundle.files:
            answer = httpx.get(f"{url}/{file.path}", timeout=20)
            assert hashlib.sha256(answer.content).hexdigest() == file.sha256
        served = httpx.get(f"{url}/bundle.json", timeout=20)
        assert served.content == (root / "kubeadm/1.36.2/bundle.json").read_bytes()
        for path in ("", "/kubeadm/", "/kubeadm/1.36.2/files/", "/.new-half/kubelet",
                     "/kubeadm/1.36.2/files/../../../../boot/default"):  # fmt: skip
            assert httpx.get(f"http://{WIRE}/bundles{path}", timeout=20).status_code != 200, path
        assert httpx.get(f"http://{WIRE}/bundles/", timeout=20).status_code == 404
        for method in ("PUT", "POST", "DELETE"):
            assert httpx.request(method, f"{url}/bundle.json", timeout=20).status_code == 405
        kubelet = root / "kubeadm/1.36.2/files/kubelet"
        kubelet.write_bytes(b"another")
        shutil.rmtree(tmp_path / "bundle")
        changed = fetched(kept(bundle)["files"], url, tmp_path)
    assert changed.returncode == 1
    assert "files/kubelet of the bundle is not what it should be" in changed.stdout


def fetched(
    files: list[dict[str, str]], url: str, tmp_path: Path
) -> subprocess.CompletedProcess[str]:
    """The very step `bundle` of a control plane, in folders below tmp_path."""
    facts = dataclasses.replace(FACTS, bundle_url=url, options={"files": files})
    listed = tmp_path / "listed"
    told = {part.path: part.content for part in KUBEADM.files(facts, FIRST, made_secrets())}
    listed.write_bytes(told["/etc/seed/kubeadm/bundle.sha256"])
    argv = [
        word.replace("/var/lib/seed/bundle", str(tmp_path / "bundle")).replace(
            "/etc/seed/kubeadm/bundle.sha256", str(listed)
        )
        for word in step(FIRST, "bundle", facts).argv
    ]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def test_each_listener_has_its_own_routes_only(settings: Settings, parts: Parts) -> None:
    """What passes nginx to the gateway is told apart from what nginx ends: the body is ours."""
    with nginx(settings), gateway(parts, settings):
        with client(settings) as http:
            for method, path in WALK:
                other = "GET" if method == "POST" else "POST"
                passed = http.request(method, path, json={})
                assert "request_id" in passed.text, path
                assert "request_id" not in http.request(other, path, json={}).text, path
        for method, path in WALK[3:]:
            plain = httpx.request(method, f"http://{WIRE}{path}", timeout=20)
            assert plain.status_code in (404, 405)
        with client(settings, "127.0.0.1", f"{MANAGEMENT}:{settings.api_port}") as http:
            # The API is down here: nginx says so, and hands nothing to the gateway.
            assert {http.request(m, p, json={}).status_code for m, p in WALK} == {503}
