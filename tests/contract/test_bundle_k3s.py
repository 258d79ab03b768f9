"""A bundle for k3s: its program and its archive of all images, by hand and from upstream."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from images.bundle import Faulty, load, pack
from images.collecting import make, make_from
from images.containers import Containers
from images.needs import Wanted
from images.receiving import Receiver
from images.web import Web
from provisioning.bundle import Bundle, find, verify
from provisioning.clusters import Clusters, known
from provisioning.errors import Invalid
from tests.contract.test_bundles import seed, told
from tests.fakes.bundles import (
    AT,
    MANIFEST_KIND,
    an_image,
    as_layout,
    blob,
    elf,
    hidden,
    packed,
    put,
    root,
    tar,
    tree,
)
from tests.fakes.depot import Depot, a_depot
from tests.fakes.life import House
from tests.unit.test_clusters import a_spec, house, nothing_is_there

__all__ = ["house", "root", "seed"]

WANTED = Wanted("k3s", "1.36.2", kind="k3s", made_at=AT)
ARCHIVE = "images/k3s-airgap-images-amd64.tar"
RELEASE = "/K3S/v1.36.2%2Bk3s1"
NAMES = ("docker.io/rancher/mirrored-pause:3.6", "docker.io/rancher/klipper-lb:v0.4.13")


def as_saved(*names: str, architecture: str = "amd64") -> bytes:
    """Several images as `docker save` before 25 writes them."""
    told, files = list[dict[str, Any]](), dict[str, bytes]()
    for name in names:
        config, layer, _ = an_image(name, architecture).values()
        own = blob(config)["digest"][7:]
        files |= {f"{own}.json": config, f"{own}/layer.tar": layer}
        told.append({"Config": f"{own}.json", "RepoTags": [name], "Layers": [f"{own}/layer.tar"]})
    return tar({**files, "manifest.json": json.dumps(told).encode()})


def as_one_layout(*names: str) -> bytes:
    """The same as Docker 25 and later: a layout beside it."""
    tops, files = list[dict[str, Any]](), dict[str, bytes]()
    for name in names:
        blobs = an_image(name)
        top = blob(list(blobs.values())[-1], MANIFEST_KIND)
        tops.append({**top, "annotations": {"io.containerd.image.name": name}})
        files |= {f"blobs/{digest.replace(':', '/')}": one for digest, one in blobs.items()}
    index = json.dumps({"schemaVersion": 2, "manifests": tops}).encode()
    return tar({"index.json": index, "oci-layout": b'{"imageLayoutVersion":"1.0.0"}', **files})


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    put(tmp_path / "by-hand", "k3s", elf("k3s"))
    put(tmp_path / "by-hand", ARCHIVE, as_saved(*NAMES))
    return tmp_path / "by-hand"


@pytest.mark.parametrize("write", [as_saved, as_one_layout])
def test_a_cluster_of_kind_k3s_is_made_of_what_was_put_there_and_loaded(
    by_hand: Path, root: Path, tmp_path: Path, house: House, write: Callable[..., bytes]
) -> None:
    put(by_hand, ARCHIVE, write(*NAMES))
    put(by_hand, "images/web_1.tar", as_layout("images.example.org/web:1"))
    made = make_from(WANTED, by_hand, root)
    pack(find(root, "k3s"), tmp_path / "k3s.tar")
    there = tmp_path / "elsewhere"
    assert load(tmp_path / "k3s.tar", there) == made
    assert verify(find(there, "k3s:1.36.2")) == []
    assert tree(there) == tree(root)
    assert {(file.path, file.role, file.mode) for file in made.files} == {
        (f"files/{ARCHIVE}", "image", "0644"),
        ("files/images/web_1.tar", "image", "0644"),
        ("files/k3s", "binary", "0755"),
    }
    desk = Clusters(house.store, house.desk, there)
    facts = desk.plan(a_spec(kind="k3s", version="", bundle="k3s"), "p", "me")
    assert (facts.version, facts.bundle_url) == ("1.36.2", "/bundles/k3s/1.36.2")
    kind = known()["k3s"]
    assert kind.faults(facts) == []
    for member in facts.members:
        copied = {
            step.argv[step.argv.index("-t") + 1]: {*step.argv[step.argv.index("-t") + 2 :]}
            for step in kind.steps(facts, member)
            if "-t" in step.argv
        }
        fetched = "/var/lib/seed/bundle/files"
        assert copied == {
            "/usr/local/bin": {f"{fetched}/k3s"},
            "/var/lib/rancher/k3s/agent/images": {
                f"{fetched}/{ARCHIVE}", f"{fetched}/images/web_1.tar",
            },
        }  # fmt: skip


def test_a_bundle_of_another_kind_is_refused_by_its_field(
    by_hand: Path, root: Path, house: House
) -> None:
    make_from(WANTED, by_hand, root)
    desk = Clusters(house.store, house.desk, root)
    with pytest.raises(Invalid, match=r"^bundle: k3s:1\.36\.2 is for the kind k3s, not for kubead"):
        desk.plan(a_spec(bundle="k3s"), "p", "me")
    assert nothing_is_there(house)


def test_missing_files_are_named_with_where_they_are_from(by_hand: Path, root: Path) -> None:
    for path in (by_hand / "k3s", by_hand / ARCHIVE):
        path.unlink()
    with pytest.raises(Faulty) as refused:
        make_from(replace(WANTED, downloads={"k3s": "https://mirror.test/k3s"}), by_hand, root)
    base = "https://mirror.test/k3s/v1.36.2%2Bk3s1"
    assert refused.value.faults == [
        f"{ARCHIVE} is missing: {base}/k3s-airgap-images-amd64.tar",
        f"k3s is missing: {base}/k3s",
    ]
    with pytest.raises(Faulty, match=r"k3s is missing: k3s/v1\.36\.2%2Bk3s1/k3s-arm64"):
        make_from(replace(WANTED, architecture="arm64"), by_hand, root)


WRONG = {
    "another's images": (as_saved(NAMES[1]), "has no image mirrored-pause: it is not k3s' archive"),
    "of another machine": (as_saved(*NAMES, architecture="arm64"), "has images for 'arm64'"),
    "half": (as_saved(*NAMES)[:3000], "is no whole archive of a container image"),
    "packed": (packed("x"), "it is not a plain tar of images"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_archive_that_is_not_k3s_own_is_refused(by_hand: Path, root: Path, case: str) -> None:
    content, said = WRONG[case]
    put(by_hand, ARCHIVE, content)
    with pytest.raises(Faulty) as refused:
        make_from(WANTED, by_hand, root)
    assert len(refused.value.faults) == 1
    assert refused.value.faults[0].startswith(f"{ARCHIVE} ")
    assert said in refused.value.faults[0]
    assert not root.exists() or list(root.iterdir()) == []


def test_a_version_is_that_of_the_kubernetes_in_it(by_hand: Path, root: Path) -> None:
    with pytest.raises(Invalid, match=r"^version: a k3s is called by the Kubernetes in it, and v1"):
        make_from(replace(WANTED, version="v1.36.2"), by_hand, root)


def test_the_verb_takes_the_kind(seed: Callable[..., Any], by_hand: Path, tmp_path: Path) -> None:
    words = ("make", "k3s", "--kind", "k3s", "--version", "1.36.2", "--from", by_hand)
    made = told(seed(*words, "--archive", tmp_path / "k3s.tar", "-o", "json"))
    assert (made["kind"], len(made["files"])) == ("k3s", 2)
    assert told(seed("remove", "k3s", "-o", "json"))["removed"] is True
    assert told(seed("load", tmp_path / "k3s.tar", "-o", "json"))["digest"] == made["digest"]
    assert told(seed("verify", "k3s", "-o", "json"))["verdict"] == "right"


# --- from upstream --------------------------------------------------------------------------------


@pytest.fixture
def depot(tmp_path: Path) -> Iterator[Depot]:
    with a_depot(tmp_path, "upstream.test", tls=True) as depot:
        files = {"k3s": elf("k3s"), "k3s-airgap-images-amd64.tar": as_saved(*NAMES)}
        for name, content in files.items():
            depot.files[f"{RELEASE}/{name}"] = content
        told = [f"{blob(one)['digest'][7:]}  {name}\n" for name, one in files.items()]
        told.insert(0, f"{'0' * 64}  k3s-airgap-images-amd64.tar.zst\n")
        depot.files[f"{RELEASE}/sha256sum-amd64.txt"] = "".join(told).encode()
        yield depot


def fetch(depot: Depot, into: Path, **more: Any) -> Bundle:
    web = Web(
        (depot.authority,), lambda _: False,
        lambda: ssl.create_default_context(cafile=str(depot.ca)),
        lambda *_: [ip_address("127.0.0.1")],
    )  # fmt: skip
    receiver = Receiver(web, 64 << 20, lambda *_: None, threading.Event(), lambda: None)
    logins: dict[str, tuple[str, str]] = {}
    wanted = replace(WANTED, downloads={"k3s": depot.url("/K3S", "https")}, **more)
    return make(wanted, into, receiver, Containers(web, logins.get, lambda: None))


def test_it_comes_from_upstream_by_the_releases_own_list_of_digests(
    depot: Depot, root: Path
) -> None:
    made = fetch(depot, root)
    assert verify(find(root, "k3s")) == []
    assert hidden(root) == []
    assert {file.source for file in made.files} == {
        depot.url(f"{RELEASE}/{name}", "https") for name in ("k3s", "k3s-airgap-images-amd64.tar")
    }
    del depot.files[f"{RELEASE}/sha256sum-amd64.txt"]
    assert fetch(depot, root.parent / "2", lock=made) == made, "the lock's digests are enough"


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("k3s", elf("evil"), "k3s did not come: k3s is not the file asked for"),
        ("sha256sum-amd64.txt", b"", "tells no SHA-256 of k3s-airgap-images-amd64.tar "),
        ("sha256sum-amd64.txt", b"k3s", "tells no SHA-256 of k3s"),
        ("sha256sum-amd64.txt", b"0 k3s-airgap-images-amd64.tar", "tells no SHA-256 of k3s"),
    ],
)
def test_what_the_list_does_not_name_so_is_refused(
    depot: Depot, root: Path, path: str, content: bytes, said: str
) -> None:
    depot.files[f"{RELEASE}/{path}"] = content
    with pytest.raises(Invalid, match=said) as refused:
        fetch(depot, root)
    assert "seed bundle make k3s --kind k3s --version 1.36.2 goes on" in refused.value.remedy
    assert not (root / "k3s").exists()
