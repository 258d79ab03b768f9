"""Bundles' images pulled by those who pull: Debian's skopeo, dockerd and containerd, from nginx.

All of it is in network namespaces of this machine: a server's daemons trust no other address as
they trust loopback. Needs root.
"""

import hashlib
import io
import json
import os
import ssl
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

import httpx
import pytest

from images.bundle import remove
from images.collecting import make_from
from images.needs import Wanted
from provisioning.bundle import find
from provisioning.kinds.kubeadm import PLUGIN as KUBEADM
from provisioning.kinds.swarm import PLUGIN as SWARM
from provisioning.targets import PartSpec
from seed.host import netns, nginx_conf, tls
from seed.host.paths import Paths
from seed.settings import ProvisioningWire, Settings, Wire
from tests.contract.test_bundle_registry import nobody
from tests.fakes import a_kubeadm
from tests.fakes.appliance import base_folder, until
from tests.fakes.bundles import MANIFEST_KIND, as_layout, put
from tests.fakes.settings import some_settings
from tests.fakes.unpacked import NotThere, Unpacked, unpack
from tests.fakes.wire import appliance_namespace, client_namespace, ip

SEED, NODE = "172.22.0.1", "172.22.0.2/24"
APP = "shop.example/shop/web:1"
HUB = "docker.io/library/hello:2"
BOOT = """\
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount --bind {folder}/run /run
mount --bind {folder}/lib /var/lib
mount -t overlay -o lowerdir=/etc,upperdir={folder}/etc,workdir={folder}/work overlay /etc
exec dockerd --storage-driver vfs
"""


def saved(*names: str) -> bytes:
    """An image of one file, as `docker save` writes it: its layer is not packed."""
    layer, out = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as content:
        info = tarfile.TarInfo("word")
        info.size = 5
        content.addfile(info, io.BytesIO(b"hello"))
    diff = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    config = {
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/word"]},
        "rootfs": {"type": "layers", "diff_ids": [diff]},
    }  # fmt: skip
    told = [{"Config": "c.json", "RepoTags": list(names), "Layers": ["l/layer.tar"]}]
    files = {
        "manifest.json": json.dumps(told).encode(), "c.json": json.dumps(config).encode(),
        "l/layer.tar": layer.getvalue(),
    }  # fmt: skip
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return out.getvalue()


@dataclass
class Site:
    """top: the namespace that has nginx."""

    top: str
    base: Path
    settings: Settings

    @property
    def ca(self) -> Path:
        return Paths(self.settings).tls / "ca.pem"

    def get(self, path: str, method: str = "GET", scheme: str = "https") -> httpx.Response:
        def ask() -> httpx.Response:
            url = f"{scheme}://{SEED}{path}"
            trust = ssl.create_default_context(cafile=str(self.ca))
            return httpx.request(method, url, verify=trust, timeout=20)

        return netns.call(self.top, ask)


@pytest.fixture
def site() -> Iterator[Site]:
    if os.geteuid() != 0:
        pytest.skip("NOT CHECKED: namespaces need root")
    top = f"r{os.getpid() % 100000}"
    with base_folder() as base, appliance_namespace(top, {"prov0": f"{SEED}/24"}):
        provisioning = ProvisioningWire(
            interface="prov0", address=IPv4Interface(f"{SEED}/24"),
            pool_start=IPv4Address("172.22.0.10"), pool_end=IPv4Address("172.22.0.99"),
            unknown_start=IPv4Address("172.22.0.100"), unknown_end=IPv4Address("172.22.0.110"),
        )  # fmt: skip
        management = Wire(interface="lo", address=IPv4Interface("127.73.0.1/24"))
        settings = some_settings(base / "seed", management=management, provisioning=provisioning)
        found = Site(top, base, settings)
        images = base / "by-hand"
        put(images, "images/web_1.tar", saved(APP))
        put(images, "images/hello_2.tar", saved(HUB))
        put(images, "images/other_3.tar", as_layout("shop.example/other:3"))
        make_from(Wanted("apps", "20.10.24", kind="swarm"), images, Paths(settings).bundles)
        with nginx(found):
            yield found


@contextmanager
def nginx(site: Site) -> Iterator[None]:
    settings, paths = site.settings, Paths(site.settings)
    for folder in (paths.nginx, settings.log_dir / "nginx", settings.run_dir, settings.http_dir):
        folder.mkdir(parents=True, exist_ok=True)
    tls.ensure(settings)
    conf = paths.nginx / "nginx.conf"
    conf.write_text(nginx_conf.render(settings))
    argv = ["ip", "netns", "exec", site.top, "nginx", "-e", "stderr", "-c", str(conf)]
    process = subprocess.Popen(argv)
    try:
        until(lambda: answers(site), 60, "nginx")
        yield
    finally:
        process.terminate()
        process.wait(20)


def answers(site: Site) -> bool:
    try:
        return site.get("/v2/").status_code == 200
    except httpx.HTTPError:
        return False


def test_nginx_answers_as_a_registry_and_with_nothing_else(site: Site) -> None:
    greeting = site.get("/v2/")
    assert greeting.headers["docker-distribution-api-version"] == "registry/2.0"
    assert greeting.json() == {}
    path = "/v2/shop/web/manifests/1"
    answer = site.get(path)
    assert answer.headers["content-type"] == MANIFEST_KIND
    told = answer.json()
    assert site.get(path, "HEAD").headers["content-type"] == MANIFEST_KIND
    for one in (told["config"], *told["layers"]):
        blob = site.get(f"/v2/shop/web/blobs/{one['digest']}")
        assert len(blob.content) == one["size"]
        assert blob.headers["content-type"] == "application/octet-stream"
    for missing in (
        "/v2/shop/web/manifests/2", f"/v2/shop/web/manifests/sha256:{'0' * 64}",
        f"/v2/shop/web/blobs/sha256:{'0' * 64}", "/v2/nothing/manifests/1",
    ):  # fmt: skip
        answer = site.get(missing)
        assert answer.status_code == 404
        assert answer.json()["errors"][0]["code"] == "NAME_UNKNOWN", missing
    for elsewhere in (
        "/v2", "/v2/_catalog", "/v2/shop/web/tags/list", "/v2/shop/web/manifests/1.oci",
        "/v2/shop/../../../../../etc/passwd", "/v2/shop/web/_manifests/1.oci",
        "/v2/shop/web/manifests/..%2f..%2f..%2f..%2fblobs", "/v2/shop/web/blobs/uploads/",
        "/v2/%2e%2e/blobs/manifests/1", "/v2/a/blobs/sha256:..", "/v2/shop/web/manifests/1/",
    ):  # fmt: skip
        assert site.get(elsewhere).status_code in (400, 404), elsewhere
    for method in ("PUT", "POST", "PATCH", "DELETE"):
        for there in ("/v2/", path, f"/v2/shop/web/blobs/{told['config']['digest']}"):
            assert site.get(there, method).status_code == 405
    assert site.get(path, scheme="http").status_code == 404, "only what is verified tells a tag"

    folder = find(Paths(site.settings).bundles, "apps")
    remove(folder, Paths(site.settings).bundles, nobody)
    assert site.get(path).status_code == 404, "without a word to nginx"


def test_skopeo_copies_an_image_by_its_tag_and_refuses_a_stranger(site: Site) -> None:
    tools = debian(site.base, "skopeo")
    trusted = site.base / "trusted"
    trusted.mkdir()
    (trusted / "ca.crt").write_bytes(site.ca.read_bytes())
    for name in ("shop/web:1", "hello:2", "library/hello:2", "other:3"):
        target = site.base / "copied" / name.replace("/", "_").partition(":")[0]
        target.parent.mkdir(exist_ok=True)
        words = [tools.program("usr/bin/skopeo"), "--insecure-policy", "copy"]
        words += ["--src-cert-dir", str(trusted), f"docker://{SEED}/{name}", f"dir:{target}"]
        argv = ["nsenter", f"--net=/run/netns/{site.top}", *words]
        env = {**os.environ, **tools.env}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert json.loads((target / "manifest.json").read_text())["mediaType"] == MANIFEST_KIND
    words[4:5] = [str(site.base / "seed")]  # no CA is there
    argv = ["nsenter", f"--net=/run/netns/{site.top}", *words]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "certificate" in done.stderr


def debian(base: Path, package: str) -> Unpacked:
    try:
        return unpack(base, package)
    except NotThere as why:
        pytest.skip(f"NOT CHECKED: {package} cannot be had here: {why}")


# --- a server -------------------------------------------------------------------------------------


@dataclass
class Server:
    folder: Path
    docker: Unpacked
    pid: int

    def ask(self, path: str, method: str = "GET") -> list[Any]:
        argv = ["curl", "--silent", "--max-time", "100", "--request", method, "--unix-socket"]
        argv += [str(self.folder / "run/docker.sock"), f"http://docker{path}"]
        said = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout
        return [json.loads(line) for line in said.splitlines() if line]

    def pulled(self, repository: str, tag: str) -> str:
        """tag: or a digest. Empty: it was."""
        said = self.ask(f"/images/create?fromImage={repository}&tag={tag}", "POST")
        return str(next((one["message" if "message" in one else "error"] for one in said
                         if "error" in one or "message" in one), ""))  # fmt: skip

    def fetched(self, name: str) -> subprocess.CompletedProcess[str]:
        """By containerd's own client, as a node's runtime looks for it."""
        words = ["ctr", "--address", "/run/docker/containerd/containerd.sock", "content", "fetch"]
        words += ["--hosts-dir", "/etc/containerd/certs.d", "--platform", "linux/amd64", name]
        argv = ["nsenter", "-t", str(self.pid), "-m", "-n", *words]
        env = server_env(self.docker)
        return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120)


def server_env(docker: Unpacked) -> dict[str, str]:
    tools = ":".join(str(docker.root / part) for part in ("usr/bin", "usr/sbin"))
    return {**os.environ, **docker.env, "PATH": f"{tools}:{os.environ['PATH']}"}


@contextmanager
def a_server(site: Site, docker: Unpacked, files: list[PartSpec]) -> Iterator[Server]:
    folder = site.base / "server"
    for name in ("run", "lib", "work", "etc"):
        (folder / name).mkdir(parents=True)
    for part in files:
        path = folder / part.path[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(part.content)
    with client_namespace(site.top, f"{site.top}x") as name:
        ip("-n", name, "address", "add", NODE, "dev", "eth0")
        argv = ["nsenter", f"--net=/run/netns/{name}", "unshare", "-m", "-p", "-f",
                "--kill-child=SIGKILL", "sh", "-c", BOOT.format(folder=folder)]  # fmt: skip
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(argv, env=server_env(docker), stdout=log, stderr=log)
        try:
            socket = folder / "run/docker.sock"
            until(socket.exists, 120, f"dockerd: {(folder / 'log').read_text()[-500:]}")
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            yield Server(folder, docker, int(children.split()[0]))
        finally:
            process.kill()
            process.wait(20)


def test_a_servers_docker_and_containerd_pull_from_seed(site: Site) -> None:
    """With the very files that kinds give their members."""
    docker = debian(site.base, "docker.io")
    facts = replace(
        a_kubeadm.FACTS, options={}, bundle_url="", addons=(), registry=f"https://{SEED}",
        registry_ca=site.ca.read_text(),
    )  # fmt: skip
    worker = next(one for one in facts.members if one.role == "worker")
    given = [
        part
        for kind in (SWARM, KUBEADM)
        for part in kind.files(facts, worker, kind.secrets(facts))
        if part.path.startswith(("/etc/docker/", "/etc/containerd/certs.d/"))
    ]
    with a_server(site, docker, given) as server:
        assert server.pulled(f"{SEED}/shop/web", "1") == ""
        assert server.pulled("hello", "2") == "", "Docker Hub's, from its mirror"
        assert server.pulled(f"{SEED}/other", "9") != ""
        (images,) = server.ask("/images/json")
        names = {name for one in images for name in one["RepoTags"]}
        assert names == {f"{SEED}/shop/web:1", "hello:2"}
        # What a manager asks before it makes a service, so that all its nodes run the same.
        (told,) = server.ask(f"/distribution/{SEED}/shop/web:1/json")
        assert told["Descriptor"]["mediaType"] == MANIFEST_KIND
        digest = told["Descriptor"]["digest"]
        assert server.pulled(f"{SEED}/shop/web", digest) == ""

        for name in (f"{SEED}/shop/web:1", "elsewhere.invalid/shop/web:1"):
            done = server.fetched(name)
            assert done.returncode == 0, done.stdout + done.stderr
        (server.folder / "etc/containerd/certs.d/_default/ca.crt").write_text("")
        assert server.fetched("elsewhere.invalid/other:3").returncode != 0
