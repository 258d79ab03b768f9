"""Disks from a real registry (docker-registry of Debian), over TLS, with a login and without."""

import hashlib
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import bcrypt
import httpx
import pytest

from provisioning import image as images
from tests.contract.test_image_intakes import DISK, GOOD, Site, site
from tests.fakes.appliance import until
from tests.fakes.receiver import a_certificate

__all__ = ["site"]
NAME, USER, PASSWORD = "registry.test", "seed", "correct horse"
OCI = "application/vnd.oci.image.manifest.v1+json"


@dataclass
class Real:
    """url: of its API, on loopback. authority: as images name it."""

    url: str
    authority: str
    http: httpx.Client

    def push(self, repository: str, tag: str, content: bytes) -> str:
        """One disk as an artifact, as oras does it; the digest of its manifest."""
        empty = {"mediaType": "application/vnd.oci.empty.v1+json", **self._blob(repository, b"{}")}
        layer = {"mediaType": "application/x-qcow2", **self._blob(repository, content)}
        made = {"schemaVersion": 2, "mediaType": OCI, "config": empty, "layers": [layer]}
        body = json.dumps(made).encode()
        told = self.http.put(
            f"{self.url}/v2/{repository}/manifests/{tag}",
            content=body, headers={"content-type": OCI},
        )  # fmt: skip
        assert told.status_code == 201, told.text
        return f"sha256:{hashlib.sha256(body).hexdigest()}"

    def _blob(self, repository: str, content: bytes) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        begun = self.http.post(f"{self.url}/v2/{repository}/blobs/uploads/")
        where = httpx.URL(begun.headers["location"]).copy_merge_params({"digest": digest})
        path = where.raw_path.decode()
        told = self.http.put(
            f"{self.url}{path}", content=content,
            headers={"content-type": "application/octet-stream"},
        )  # fmt: skip
        assert told.status_code == 201, told.text
        return {"digest": digest, "size": len(content)}


@pytest.fixture
def registry(site: Site) -> Iterator[Real]:
    program = shutil.which("docker-registry")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert program, "apt-get install docker-registry"
    folder, ca = site.folder, site.folder / "ca.pem"
    pem = a_certificate(folder, NAME, ca)
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(5)).decode()
    (folder / "htpasswd").write_text(f"{USER}:{hashed}\n")
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {
            "addr": f"127.0.0.1:{port}", "secret": "x", "relativeurls": True,
            "tls": {"certificate": str(pem), "key": str(pem)},
        },
        "auth": {"htpasswd": {"realm": "seed", "path": str(folder / "htpasswd")}},
    }  # fmt: skip
    (folder / "config.yml").write_text(json.dumps(config))  # YAML's flow style
    site.allowed = (f"{NAME}:{port}",)
    site.trust = lambda: ssl.create_default_context(cafile=str(ca))
    with (folder / "registry.log").open("wb") as said:
        process = subprocess.Popen(
            [program, "serve", str(folder / "config.yml")], stdout=said, stderr=said
        )
    context = ssl.create_default_context(cafile=str(ca))
    context.check_hostname = False  # pushed to by its address
    try:
        with httpx.Client(verify=context, auth=(USER, PASSWORD), timeout=20) as http:
            real = Real(f"https://127.0.0.1:{port}", f"{NAME}:{port}", http)
            until(lambda: answers(real), 30, "the registry")
            yield real
    finally:
        process.terminate()
        process.wait(20)


def answers(real: Real) -> bool:
    try:
        return real.http.get(f"{real.url}/v2/").status_code == 200
    except httpx.TransportError:
        return False


def test_a_disk_of_a_real_registry_is_published(site: Site, registry: Real) -> None:
    digest = registry.push("os/fedora", "42", DISK)
    source = f"oci://{registry.authority}/os/fedora:42"

    told = site.refused(site.ask(source))
    assert told == f"the registry {registry.authority} does not let us read os/fedora"

    site.logins[registry.authority] = (USER, "wrong")
    assert "does not let us read" in site.refused(site.ask(source))

    site.logins[registry.authority] = (USER, PASSWORD)
    assert "answered 404 to os/fedora:41" in site.refused(site.ask(source[:-1] + "1"))
    assert "is not the image asked for" in site.refused(site.ask(source, "0" * 64))
    first = site.done(site.ask(source))
    pinned = site.done(site.ask(f"oci://{registry.authority}/os/fedora@{digest}", ""))

    for row in (first, pinned):
        image = images.find(site.image_dir, f"fedora:{row.version}")
        assert image.files["disk"].sha256 == GOOD
        assert image.path(site.image_dir, "disk").read_bytes() == DISK
