"""Bundles from upstream: a double with TLS stands for all makers' servers and the registry."""

import json
import os
import signal
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from images import archives, receiving
from images.bundle import Faulty
from images.collecting import make
from images.containers import Containers, look
from images.receiving import Receiver
from images.web import Web
from provisioning.bundle import Bundle, find, listed, verify
from provisioning.errors import Conflict, Forbidden, Invalid
from tests.fakes.bundles import (
    IMAGES,
    REF,
    WANTED,
    an_image,
    at_once,
    blob,
    elf,
    hidden,
    packed,
    publish,
    push,
    root,
    tree,
)
from tests.fakes.depot import Depot, a_depot, redirect, reply

__all__ = ["root"]


@pytest.fixture
def depot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Depot]:
    """All of upstream as one server with TLS."""
    monkeypatch.setattr(receiving, "PAUSE_SECONDS", 0.01)
    with a_depot(tmp_path, "upstream.test", tls=True) as depot:
        depot.cut_at = 1000
        for name in ("kubeadm", "kubectl", "kubelet"):
            publish(depot, f"/RELEASES/v1.36.2/bin/linux/amd64/{name}", elf(name))
        publish(depot, "/CRICTL/v1.36.0/crictl-v1.36.0-linux-amd64.tar.gz", packed("crictl"))
        publish(depot, "/CNI/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz", packed("cni"))
        for name in IMAGES:
            push(depot, *name.split(":"))
        yield depot


@pytest.fixture
def fetch(depot: Depot, root: Path) -> Callable[..., Bundle]:
    folders = {"kubernetes": "RELEASES", "cri-tools": "CRICTL", "cni-plugins": "CNI"}
    downloads = {maker: depot.url(f"/{name}", "https") for maker, name in folders.items()}

    def fetched(into: Path = root, **more: Any) -> Bundle:
        web = Web(
            more.pop("allowed", (depot.authority,)),
            lambda _: False,
            lambda: ssl.create_default_context(cafile=str(depot.ca)),
            lambda *_: [ip_address("127.0.0.1")],
        )
        receiver = Receiver(web, 64 << 20, lambda *_: None, threading.Event(), lambda: None)
        logins: dict[str, tuple[str, str]] = more.pop("logins", {})
        registry = Containers(web, logins.get, lambda: None)
        say = more.pop("say", archives.quiet)
        upstream = {"registry": f"{depot.authority}/k8s", "downloads": downloads}
        wanted = replace(WANTED, **(upstream | more))
        return make(wanted, into, receiver, registry, say)

    return fetched


def test_a_bundle_is_fetched_whole(fetch: Callable[..., Bundle], depot: Depot, root: Path) -> None:
    said: list[str] = []
    made = fetch(say=said.append)
    assert verify(find(root, REF)) == []
    assert hidden(root) == []
    assert [file.path for file in made.files] == [
        "files/cni-plugins.tgz", "files/crictl.tar.gz", "files/images/coredns_v1.14.2.tar",
        "files/images/etcd_3.6.8-0.tar", "files/images/kube-apiserver_v1.36.2.tar",
        "files/images/kube-controller-manager_v1.36.2.tar", "files/images/kube-proxy_v1.36.2.tar",
        "files/images/kube-scheduler_v1.36.2.tar", "files/images/pause_3.10.2.tar",
        "files/kubeadm", "files/kubectl", "files/kubelet",
    ]  # fmt: skip
    assert {file.license for file in made.files} == {"Apache-2.0"}
    assert "kubeadm: 0 of 0 MB (100 %)" in said
    sources = {file.path: file.source for file in made.files}
    assert sources["files/kubelet"].endswith("/RELEASES/v1.36.2/bin/linux/amd64/kubelet")
    assert sources["files/images/pause_3.10.2.tar"] == f"oci://{depot.authority}/k8s/pause:3.10.2"
    assert not any("arm64" in asked.path for asked in depot.asked)
    before = len(depot.asked)
    assert fetch() == made
    assert len(depot.asked) == before, "it is there"


def test_what_was_cut_off_is_gone_on_with(
    fetch: Callable[..., Bundle], depot: Depot, root: Path
) -> None:
    path = "/RELEASES/v1.36.2/bin/linux/amd64/kubeadm"

    def cut(depot: Depot, handler: Any, asked: Any) -> None:
        depot.cuts = 0 if "range" in asked.headers else 1
        depot.send(handler, asked, depot.files[path])

    depot.replies[path] = cut
    fetch()
    ranges = [asked.headers.get("range") for asked in depot.asked if asked.path == path]
    assert ranges == [None, "bytes=1000-"]
    assert verify(find(root, REF)) == []


def test_what_came_before_a_failure_is_not_fetched_again(
    fetch: Callable[..., Bundle], depot: Depot, root: Path
) -> None:
    path = "/RELEASES/v1.36.2/bin/linux/amd64/kubelet"
    depot.replies[path] = reply(404)
    with pytest.raises(Invalid, match="kubelet did not come: the server answered 404") as refused:
        fetch()
    assert "seed image" not in refused.value.remedy
    assert listed(root) == []
    del depot.replies[path]
    depot.asked.clear()
    fetch()
    assert [asked.path for asked in depot.asked] == [f"{path}.sha256", path]
    assert hidden(root) == []


def test_a_make_that_is_killed_is_gone_on_with(
    fetch: Callable[..., Bundle], depot: Depot, root: Path
) -> None:
    def say(line: str) -> None:
        if line.startswith("kubectl"):
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            fetch(say=say)
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert listed(root) == []
    assert len(hidden(root)) == 1
    depot.asked.clear()
    fetch()
    own = "/RELEASES/v1.36.2/bin/linux/amd64"
    asked = {asked.path for asked in depot.asked if not asked.path.endswith(".sha256")}
    assert asked == {f"{own}/kubelet"}, "kubectl was whole already"
    assert verify(find(root, REF)) == []
    assert hidden(root) == []


def test_a_make_that_is_at_work_is_not_disturbed(
    fetch: Callable[..., Bundle], depot: Depot, root: Path
) -> None:
    ended: list[Any] = []

    def say(line: str) -> None:
        if line.startswith("kubelet") and not ended:
            ended.extend(at_once(fetch))

    fetch(say=say)
    assert isinstance(ended[0], Conflict)
    assert str(ended[0]).endswith("is being made")


def test_a_file_that_is_not_what_its_maker_published_is_refused(
    fetch: Callable[..., Bundle], depot: Depot, root: Path
) -> None:
    depot.files["/RELEASES/v1.36.2/bin/linux/amd64/kubeadm"] = elf("evil")
    with pytest.raises(Invalid, match="kubeadm did not come: kubeadm is not the file asked for"):
        fetch()
    assert listed(root) == []


@pytest.mark.parametrize("told", [b"", b"<html>", b"d41d8cd98f00b204e9800998ecf8427e", None])
def test_without_a_published_digest_nothing_is_fetched(
    fetch: Callable[..., Bundle], depot: Depot, told: bytes | None
) -> None:
    path = "/RELEASES/v1.36.2/bin/linux/amd64/kubeadm"
    depot.replies[f"{path}.sha256"] = reply(200, told) if told is not None else reply(404)
    with pytest.raises(Invalid, match=r"kubeadm did not come: .*/kubeadm\.sha256 tells no SHA-256"):
        fetch()
    assert path not in [asked.path for asked in depot.asked]


def test_a_host_that_is_not_allowed_is_not_asked(
    fetch: Callable[..., Bundle], depot: Depot
) -> None:
    with pytest.raises(Forbidden, match="images are fetched from no host at all"):
        fetch(allowed=())
    depot.replies["/CNI/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz"] = redirect("https://evil.test/")
    with pytest.raises(Forbidden, match=r"sends us on to evil\.test"):
        fetch()


def test_a_registry_is_named_or_it_is_asked_for(fetch: Callable[..., Bundle]) -> None:
    with pytest.raises(Invalid, match="registry: it is not said where the container images"):
        fetch(registry="")
    with pytest.raises(Invalid, match=r"registry: .* is no place to fetch from"):
        fetch(registry="user:word@images.test")


def test_from_a_mirror_images_keep_their_names(
    fetch: Callable[..., Bundle], depot: Depot, root: Path
) -> None:
    made = fetch(registry="elsewhere.test/k8s", mirror=depot.authority)
    sources = {file.path: file.source for file in made.files}
    pause = "files/images/pause_3.10.2.tar"
    assert sources[pause] == "oci://elsewhere.test/k8s/pause:3.10.2"
    found = look(find(root, REF) / pause)
    assert found.names == {"elsewhere.test/k8s/pause:3.10.2"}
    assert fetch(root.parent / "2", lock=made, mirror=depot.authority) == made
    with pytest.raises(Invalid, match=r"mirror: .* is no place to fetch from"):
        fetch(root.parent / "3", mirror="https://x.test")


def test_a_registry_that_wants_a_token_gives_one(
    fetch: Callable[..., Bundle], depot: Depot, root: Path
) -> None:
    realm = depot.url("/token", "https")
    depot.files["/token"] = b'{"token": "t0ken"}'
    index = depot.files["/v2/k8s/pause/manifests/3.10.2"]

    def guarded(depot: Depot, handler: Any, asked: Any) -> None:
        if asked.headers.get("authorization") == "Bearer t0ken":
            depot.say(handler, 200, index)
        else:
            challenge = f'Bearer realm="{realm}",service="s"'
            depot.say(handler, 401, www_authenticate=challenge)

    depot.replies["/v2/k8s/pause/manifests/3.10.2"] = guarded
    fetch()
    assert verify(find(root, REF)) == []
    depot.files["/token"] = b"{}"
    with pytest.raises(Invalid, match=r"pause_3\.10\.2\.tar did not come: the registry answered 4"):
        fetch(root.parent / "2")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"[", "has no manifest we can read"),
        (b'{"schemaVersion": 2}', "is no container image"),
        (b'{"manifests": [{"digest": "md5:1", "size": 1}]}', "has no manifest we can read"),
        (
            json.dumps({"manifests": [blob(b"x") | {"platform": {"os": "linux"}}]}).encode(),
            "is not there for amd64",
        ),
    ],
)
def test_a_registry_that_answers_nonsense_is_refused(
    fetch: Callable[..., Bundle], depot: Depot, body: bytes, told: str
) -> None:
    depot.files["/v2/k8s/pause/manifests/3.10.2"] = body
    with pytest.raises(Invalid) as refused:
        fetch()
    assert str(refused.value).startswith("images/pause_3.10.2.tar did not come: ")
    assert told in str(refused.value)


def test_a_swapped_manifest_or_layer_is_refused(fetch: Callable[..., Bundle], depot: Depot) -> None:
    manifest = list(an_image("pause").values())[-1]
    path = f"/v2/k8s/pause/manifests/{blob(manifest)['digest']}"
    depot.files[path] = b"{}"
    with pytest.raises(Invalid, match="is not what was asked for"):
        fetch()
    depot.files[path] = manifest
    layer = json.loads(manifest)["layers"][0]["digest"]
    depot.files[f"/v2/k8s/pause/blobs/{layer}"] = b"evil"
    with pytest.raises(Invalid, match=r"pause_3\.10\.2\.tar did not come: .* not the file asked"):
        fetch()


def test_a_lock_brings_the_very_same_bytes_or_nothing(
    fetch: Callable[..., Bundle], depot: Depot, root: Path
) -> None:
    made = fetch()
    for path in [path for path in depot.files if path.endswith(".sha256")]:
        del depot.files[path]  # the lock's digests are enough
    assert fetch(root.parent / "2", lock=made) == made
    assert tree(root.parent / "2") == tree(root)
    assert fetch(lock=made) == made
    push(depot, "pause", "3.10.2", "moved")
    with pytest.raises(Invalid, match=r"pause_3\.10\.2\.tar is not the one in the lock"):
        fetch(root.parent / "3", lock=made)
    by_hand = made.model_copy(
        update={"files": tuple(f.model_copy(update={"source": ""}) for f in made.files[:2])}
    )
    with pytest.raises(Faulty, match=r"cni-plugins\.tgz was put there by hand"):
        fetch(root.parent / "4", lock=by_hand)
