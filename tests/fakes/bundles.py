"""What a kubeadm bundle is made of: programs, images and manifests that only look like it."""

import gzip
import hashlib
import io
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from images import archives, containers
from images.bundle import pack
from images.collecting import make_from
from images.needs import Wanted, image_file
from provisioning.bundle import Bundle
from tests.fakes.depot import Depot

AT = datetime(2026, 11, 29, tzinfo=UTC)
WANTED = Wanted("kubeadm", "1.36.2", made_at=AT)
HOST = "images.example.org"
IMAGES = (
    "kube-apiserver:v1.36.2", "kube-controller-manager:v1.36.2", "kube-proxy:v1.36.2",
    "kube-scheduler:v1.36.2", "coredns/coredns:v1.14.2", "etcd:3.6.8-0", "pause:3.10.2",
)  # fmt: skip
REF = "kubeadm:1.36.2"
MANIFEST_KIND = "application/vnd.oci.image.manifest.v1+json"


def elf(salt: str, machine: int = 62) -> bytes:
    return b"\x7fELF\2\1\1" + bytes(9) + b"\2\0" + bytes([machine, 0]) + salt.encode() * 999


def packed(salt: str) -> bytes:
    return gzip.compress(salt.encode() * 999, mtime=0)


def blob(content: bytes, kind: str = "") -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"mediaType": kind, "digest": digest, "size": len(content)}


def an_image(salt: str, architecture: str = "amd64") -> dict[str, bytes]:
    """Its blobs by digest, the manifest last."""
    config = json.dumps({"architecture": architecture, "os": "linux", "salt": salt}).encode()
    layer = packed(f"layer of {salt}")
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_KIND,
            "config": blob(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [blob(layer, "application/vnd.oci.image.layer.v1.tar+gzip")],
        }
    ).encode()
    return {blob(content)["digest"]: content for content in (config, layer, manifest)}


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    archives.write(out, [(name, content, 0o644) for name, content in files.items()])
    return out.getvalue()


def as_layout(name: str, architecture: str = "amd64", lacks: int | None = None) -> bytes:
    """An image as an OCI layout. lacks: which of its blobs is left out."""
    blobs = an_image(name, architecture)
    top = blob(list(blobs.values())[-1], MANIFEST_KIND)
    top["annotations"] = {"io.containerd.image.name": name} if name else {}
    files = {f"blobs/{digest.replace(':', '/')}": content for digest, content in blobs.items()}
    if lacks is not None:
        del files[list(files)[lacks]]
    index = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    return tar({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index, **files})


def as_saved(name: str) -> bytes:
    """The same as an older `docker save` writes it."""
    config, layer, _ = an_image(name).values()
    told = [{"Config": "config.json", "RepoTags": [name], "Layers": ["1/layer.tar"]}]
    return tar(
        {"manifest.json": json.dumps(told).encode(), "config.json": config, "1/layer.tar": layer}
    )


def put(folder: Path, name: str, content: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    folder = tmp_path / "by-hand"
    for name in ("kubeadm", "kubectl", "kubelet"):
        put(folder, name, elf(name))
    for name in ("crictl.tar.gz", "cni-plugins.tgz"):
        put(folder, name, packed(name))
    for name in IMAGES:
        put(folder, f"images/{image_file(name)}", as_layout(f"{HOST}/{name}"))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "bundles"


@pytest.fixture
def made(by_hand: Path, root: Path) -> Bundle:
    return make_from(WANTED, by_hand, root)


@pytest.fixture
def archive(made: Bundle, root: Path, tmp_path: Path) -> Path:
    path = tmp_path / "kubeadm.tar"
    pack(root / "kubeadm" / "1.36.2", path)
    return path


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def hidden(root: Path) -> list[str]:
    return [path.name for path in root.glob(".*")]


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """What each returned or raised; all begin together."""
    start, ended = threading.Barrier(len(works)), [None] * len(works)

    def run(number: int) -> None:
        start.wait(30)
        try:
            ended[number] = works[number]()
        except Exception as error:
            ended[number] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return ended


def publish(depot: Depot, path: str, content: bytes) -> None:
    depot.files[path] = content
    digest = hashlib.sha256(content).hexdigest()
    depot.files[f"{path}.sha256"] = f"{digest}  {path.rpartition('/')[2]}\n".encode()


def push(depot: Depot, name: str, tag: str, salt: str = "") -> None:
    """One image, as an index of two architectures."""
    tops = []
    for architecture in ("arm64", "amd64"):
        blobs = an_image(f"{salt}{name}", architecture)
        for digest, content in blobs.items():
            depot.files[f"/v2/k8s/{name}/blobs/{digest}"] = content
        manifest = list(blobs.values())[-1]
        top = blob(manifest, MANIFEST_KIND)
        depot.files[f"/v2/k8s/{name}/manifests/{top['digest']}"] = manifest
        tops.append({**top, "platform": {"architecture": architecture, "os": "linux"}})
    index = {"schemaVersion": 2, "mediaType": containers.INDEXES[0], "manifests": tops}
    depot.files[f"/v2/k8s/{name}/manifests/{tag}"] = json.dumps(index).encode()
