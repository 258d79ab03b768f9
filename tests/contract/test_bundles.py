"""Bundles: by hand and from upstream, packed, loaded, killed, and refused for what they are."""

import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from images import archives, bundle, collecting, containers, needs, receiving
from images.bundle import Bundle, Faulty, find, listed, load, pack, read, remove, verify
from images.collecting import make, make_from
from images.containers import Containers
from images.needs import Wanted, image_file
from images.receiving import Receiver
from images.web import Web
from provisioning.errors import Conflict, Forbidden, Invalid, NotFound
from seed.cli import app
from seed.config import settings
from tests.contract.test_image_sbom import CONF
from tests.fakes.depot import Depot, a_depot, redirect, reply

AT = datetime(2026, 11, 29, tzinfo=UTC)
WANTED = Wanted("kubeadm", "1.36.2", made_at=AT)
HOST = "images.example.org"
IMAGES = (
    "kube-apiserver:v1.36.2", "kube-controller-manager:v1.36.2", "kube-proxy:v1.36.2",
    "kube-scheduler:v1.36.2", "coredns/coredns:v1.14.2", "etcd:3.6.8-0", "pause:3.10.2",
)  # fmt: skip
REF = "kubeadm:1.36.2"
MANIFEST_KIND = "application/vnd.oci.image.manifest.v1+json"


# --- what a person puts there ---------------------------------------------------------------------


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


# --- by hand --------------------------------------------------------------------------------------


def test_a_bundle_goes_through_its_archive_and_is_the_same(
    made: Bundle, archive: Path, root: Path, tmp_path: Path
) -> None:
    there = tmp_path / "elsewhere"
    assert load(archive, there) == made
    assert tree(there) == tree(root)
    assert verify(there / "kubeadm" / "1.36.2") == []
    assert listed(there) == [made]
    assert hidden(root) == hidden(there) == []
    modes = {file.path: file.mode for file in made.files if file.role == "binary"}
    assert modes["files/kubelet"] == "0755"
    assert modes["files/cni-plugins.tgz"] == "0644"
    sources = {file.source for file in made.files if file.role == "image"}
    assert f"oci://{HOST}/coredns/coredns:v1.14.2" in sources


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_the_same_files_are_the_same_bytes(by_hand: Path, tmp_path: Path, name: str) -> None:
    told = []
    for number in ("1", "2"):
        root = tmp_path / number
        make_from(WANTED, by_hand, root)
        for path in by_hand.rglob("*"):
            os.utime(path)  # times of files are no part of it
        digest = pack(root / "kubeadm" / "1.36.2", tmp_path / number / name)
        assert digest == hashlib.sha256((tmp_path / number / name).read_bytes()).hexdigest()
        told.append(digest)
    assert told[0] == told[1]


def test_an_archive_in_gzip_is_loaded_too(made: Bundle, root: Path, tmp_path: Path) -> None:
    pack(root / "kubeadm" / "1.36.2", tmp_path / "a.tar.gz")
    assert (tmp_path / "a.tar.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert load(tmp_path / "a.tar.gz", tmp_path / "elsewhere") == made


def test_a_bundle_has_one_digest_whenever_it_was_made(by_hand: Path, tmp_path: Path) -> None:
    later = replace(WANTED, made_at=datetime(2027, 1, 1, tzinfo=UTC))
    first = make_from(WANTED, by_hand, tmp_path / "1")
    assert make_from(later, by_hand, tmp_path / "2").digest == first.digest


def test_making_the_same_again_keeps_what_is_there(by_hand: Path, made: Bundle, root: Path) -> None:
    later = replace(WANTED, made_at=datetime(2027, 1, 1, tzinfo=UTC))
    assert make_from(later, by_hand, root) == made
    put(by_hand, "kubeadm", elf("another"))
    with pytest.raises(Conflict, match=r"kubeadm:1\.36\.2 is there with other files"):
        make_from(WANTED, by_hand, root)
    assert hidden(root) == []


def test_what_docker_saved_long_ago_is_taken(by_hand: Path, root: Path) -> None:
    put(by_hand, "images/pause_3.10.2.tar", as_saved(f"{HOST}/pause:3.10.2"))
    files = make_from(WANTED, by_hand, root).files
    assert f"oci://{HOST}/pause:3.10.2" in {file.source for file in files}


def test_addons_may_be_put_beside(by_hand: Path, root: Path) -> None:
    put(by_hand, "images/flannel_v0.27.0.tar", as_layout(f"{HOST}/net/flannel:v0.27.0"))
    put(by_hand, "manifests/flannel.yaml", b"apiVersion: v1\nkind: Namespace\n---\n")
    found = {file.path: file.role for file in make_from(WANTED, by_hand, root).files}
    assert found["files/images/flannel_v0.27.0.tar"] == "image"
    assert found["files/manifests/flannel.yaml"] == "manifest"


def test_every_missing_file_is_named_with_where_it_is_from(by_hand: Path, root: Path) -> None:
    for name in ("kubelet", "cni-plugins.tgz", "images/etcd_3.6.8-0.tar"):
        (by_hand / name).unlink()
    with pytest.raises(Faulty) as refused:
        make_from(WANTED, by_hand, root)
    assert refused.value.faults == [
        "cni-plugins.tgz is missing: https://github.com/containernetworking/plugins/releases/"
        "download/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz",
        "images/etcd_3.6.8-0.tar is missing: an archive of etcd:3.6.8-0",
        "kubelet is missing: https://dl.k8s.io/release/v1.36.2/bin/linux/amd64/kubelet",
    ]
    assert not root.exists()


WRONG: dict[str, tuple[str, bytes, str]] = {
    "another architecture": (
        "kubelet", elf("kubelet", 183), "kubelet is no Linux program for amd64",
    ),
    "a page instead of a program": (
        "kubectl", b"<html>not found</html>", "kubectl is no Linux program for amd64",
    ),
    "unpacked": ("crictl.tar.gz", elf("x"), "crictl.tar.gz is not in gzip"),
    "another version": (
        "images/pause_3.10.2.tar", as_layout(f"{HOST}/pause:3.9"),
        f"images/pause_3.10.2.tar holds '{HOST}/pause:3.9', and its file name says another",
    ),
    "an image without a name": (
        "images/pause_3.10.2.tar", as_layout(""),
        "images/pause_3.10.2.tar holds 'an image without a name'",
    ),
    "an image of another architecture": (
        "images/pause_3.10.2.tar", as_layout(f"{HOST}/pause:3.10.2", "arm64"),
        "images/pause_3.10.2.tar is for 'arm64', not for amd64",
    ),
    "an image without a layer": (
        "images/pause_3.10.2.tar", as_layout(f"{HOST}/pause:3.10.2", lacks=1),
        "images/pause_3.10.2.tar is no whole archive of a container image: 'blobs/sha256/",
    ),
    "no image": ("images/pause_3.10.2.tar", tar({"a": b"b"}), "neither an index.json"),
    "a packed image": ("images/pause_3.10.2.tar", packed("x"), "it is not a plain tar of images"),
    "a manifest without a kind": (
        "manifests/a.yaml", b"a: b\n", "manifests/a.yaml is no Kubernetes manifest",
    ),
    "a manifest that is none": ("manifests/a.yaml", b"a: [\n", "manifests/a.yaml is no YAML"),
    "unknown": ("kubeadm-1.36", b"", "kubeadm-1.36 is none of the files that are taken"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_is_not_what_it_is_called_is_named(
    by_hand: Path, root: Path, case: str
) -> None:
    name, content, told = WRONG[case]
    put(by_hand, name, content)
    with pytest.raises(Faulty) as refused:
        make_from(WANTED, by_hand, root)
    assert len(refused.value.faults) == 1
    assert told in refused.value.faults[0]
    assert listed(root) == []
    assert not root.exists() or list(root.iterdir()) == []


def test_a_link_in_the_folder_is_not_followed(by_hand: Path, root: Path) -> None:
    (by_hand / "kubeadm").unlink()
    (by_hand / "kubeadm").symlink_to("/etc/shadow")
    with pytest.raises(Faulty, match="kubeadm is a link, and files are taken"):
        make_from(WANTED, by_hand, root)


def test_a_lock_takes_the_very_same_files_only(by_hand: Path, made: Bundle, tmp_path: Path) -> None:
    locked = replace(WANTED, lock=made)
    assert make_from(locked, by_hand, tmp_path / "2").digest == made.digest
    put(by_hand, "kubeadm", elf("another"))
    with pytest.raises(Faulty, match="kubeadm is not the one in the lock"):
        make_from(locked, by_hand, tmp_path / "3")
    with pytest.raises(Invalid, match=r"version: the lock is of 1\.36\.2, not of 1\.37\.0"):
        make_from(replace(locked, version="1.37.0"), by_hand, tmp_path / "3")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": "1.30.0"}, "version: it is not written down what kubeadm 1.30.0 needs"),
        ({"version": "../1"}, "the bundle asked for is not as it must be: version:"),
        ({"name": "../../etc"}, "the bundle asked for is not as it must be: name:"),
        ({"kind": "k4s"}, "kind: 'k4s' is none of kubeadm"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(
    by_hand: Path, root: Path, change: dict[str, str], told: str
) -> None:
    with pytest.raises(Invalid) as refused:
        make_from(replace(WANTED, **change), by_hand, root)  # type: ignore[arg-type]
    assert str(refused.value).startswith(told)
    assert not root.exists()


# --- archives that are not ours -------------------------------------------------------------------


Entry = tuple[tarfile.TarInfo, bytes]


def entries(archive: Path) -> list[Entry]:
    with tarfile.open(archive) as tar:
        return [(info, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]


def rewritten(archive: Path, found: list[Entry]) -> Path:
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        for info, content in found:
            tar.addfile(info, io.BytesIO(content))
    return archive


def named(name: str, content: bytes = b"x", **more: Any) -> Entry:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


TOP = "kubeadm/1.36.2"
ADDED: dict[str, tuple[Entry, str]] = {
    "an absolute path": (named("/etc/cron.d/x"), "'/etc/cron.d/x' in the archive leads out of"),
    "a way out": (
        named(f"{TOP}/files/../../../x"), f"'{TOP}/files/../../../x' in the archive leads out of",
    ),
    "another bundle": (named("kubeadm/1.36.1/x"), "leads out of kubeadm/1.36.2/"),
    "a symbolic link": (
        named(f"{TOP}/files/x", b"", type=tarfile.SYMTYPE, linkname="/etc/shadow"),
        "in the archive is a symbolic link",
    ),
    "a hard link": (
        named(f"{TOP}/files/x", b"", type=tarfile.LNKTYPE, linkname="/etc/shadow"),
        "in the archive is a hard link",
    ),
    "a device": (
        named(f"{TOP}/files/x", b"", type=tarfile.BLKTYPE, devmajor=8),
        "in the archive is a device",
    ),
    "a terminal": (named(f"{TOP}/x", b"", type=tarfile.CHRTYPE), "in the archive is a device"),
    "a pipe": (named(f"{TOP}/x", b"", type=tarfile.FIFOTYPE), "in the archive is a pipe"),
    "a folder": (named(f"{TOP}/files/x", b"", type=tarfile.DIRTYPE), "in the archive is a folder"),
    "a header of any length": (named("x" * 300), "in the archive is no plain file"),
    "an unknown file": (named(f"{TOP}/files/x"), f"'{TOP}/files/x' in the archive is not in bund"),
    "a name that moves a terminal": (named(f"{TOP}/\x1b[2J"), r"\x1b[2J' in the archive is not"),
}  # fmt: skip


@pytest.mark.parametrize("case", ADDED)
def test_what_no_archive_of_ours_has_is_refused(archive: Path, tmp_path: Path, case: str) -> None:
    entry, told = ADDED[case]
    rewritten(archive, [*entries(archive), entry])
    refused(archive, tmp_path, told)


def refused(archive: Path, tmp_path: Path, told: str) -> None:
    """Nothing of it stays, in the root or beside it."""
    there = tmp_path / "deep" / "down" / "bundles"
    with pytest.raises(Invalid) as error:
        load(archive, there)
    assert told in str(error.value)
    assert error.value.remedy
    if there.parent.exists():
        assert [path for path in (tmp_path / "deep").rglob("*") if path.is_file()] == []
        assert list(there.iterdir()) == []


def first_of(found: list[Entry], name: str) -> int:
    return next(n for n, (info, _) in enumerate(found) if info.name.endswith(name))


def doubled(found: list[Entry]) -> list[Entry]:
    return [*found, found[first_of(found, "/kubeadm")]]


def changed(found: list[Entry]) -> list[Entry]:
    number = first_of(found, "/kubeadm")
    info, content = found[number]
    found[number] = (info, content[:-1] + b"X")
    return found


def longer(found: list[Entry]) -> list[Entry]:
    number = first_of(found, "/kubeadm")
    found[number] = named(found[number][0].name, found[number][1] + b"X")
    return found


def without(found: list[Entry]) -> list[Entry]:
    return [one for one in found if not one[0].name.endswith(("/kubeadm", "/kubelet"))]


def turned(found: list[Entry]) -> list[Entry]:
    return found[::-1]


def told_anew(change: Callable[[dict[str, Any]], Any]) -> Callable[[list[Entry]], list[Entry]]:
    def rewrite(found: list[Entry]) -> list[Entry]:
        document = json.loads(found[0][1])
        change(document)
        return [named(found[0][0].name, json.dumps(document).encode()), *found[1:]]

    return rewrite


def twice(document: dict[str, Any]) -> None:
    document["files"].insert(0, document["files"][0])


def out(document: dict[str, Any]) -> None:
    document["files"][0]["path"] = "files/../../x"


REWRITTEN: dict[str, tuple[Callable[[list[Entry]], list[Entry]], str]] = {
    "two of a name": (doubled, "in the archive is there twice"),
    "a changed file": (changed, "/files/kubeadm in the archive was changed: its SHA-256 is"),
    "a longer file": (longer, "bytes, and bundle.json says"),
    "files that are missing": (
        without,
        "not whole: kubeadm/1.36.2/files/kubeadm is missing; kubeadm/1.36.2/files/kubelet is miss",
    ),
    "another order": (turned, "this is no bundle's archive: it begins with"),
    "a bundle.json alone": (lambda found: found[:1], "the archive is not whole"),
    "nothing at all": (lambda _: [], "this is no bundle's archive: it begins with ''"),
    "a path twice": (told_anew(twice), "files/cni-plugins.tgz stands there twice"),
    "a path that leads out": (told_anew(out), "files.0.path: String should match pattern"),
    "another name": (told_anew(lambda d: d.update(name="other")), "holds other:1.36.2"),
    "a name that leads out": (told_anew(lambda d: d.update(name="..")), "name: String should"),
    "a mode of root": (
        told_anew(lambda d: d["files"][0].update(mode="4755")), "files.0.mode: Input should be",
    ),
    "a newer format": (told_anew(lambda d: d.update(format=2)), "format: Input should be 1"),
    "a source that moves a terminal": (
        told_anew(lambda d: d["files"][0].update(source="\x1b[2J")), "files.0.source: String",
    ),
    "a time without a zone": (
        told_anew(lambda d: d.update(made_at="2026-11-29T00:00:00")), "made_at: Input should have",
    ),
    "a size beyond all": (
        told_anew(lambda d: d["files"][0].update(size=1 << 60)), "files.0.size: Input should be",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REWRITTEN)
def test_an_archive_that_is_not_what_it_says_is_refused(
    archive: Path, tmp_path: Path, case: str
) -> None:
    change, told = REWRITTEN[case]
    rewritten(archive, change(entries(archive)))
    refused(archive, tmp_path, told)


@pytest.mark.parametrize("packing", [bytes, gzip.compress])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_an_archive_that_was_cut_off_is_refused(
    archive: Path, tmp_path: Path, share: float, packing: Callable[[bytes], bytes]
) -> None:
    whole = packing(archive.read_bytes().rstrip(b"\0"))
    archive.write_bytes(whole[: int(len(whole) * share)])
    refused(archive, tmp_path, "cut off")


def test_more_behind_the_end_of_an_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    archive.write_bytes(archive.read_bytes() + b"#!/bin/sh")
    refused(archive, tmp_path, "there is more in the archive behind its end")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"not a tar" * 999)
    refused(tmp_path / "x", tmp_path, "the archive is no tar, or damaged, behind its first header")
    refused(tmp_path / "y", tmp_path, "y cannot be read: No such file or directory")


@pytest.mark.parametrize("where", ["in a file", "behind the end", "in bundle.json", "in a header"])
def test_a_bomb_is_refused_while_it_is_small(archive: Path, tmp_path: Path, where: str) -> None:
    """64 MiB of zeros in 64 KiB of gzip: neither kept in memory nor on the disk."""
    zeros, found = bytes(64 << 20), entries(archive)
    number = first_of(found, "/kubeadm")
    if where == "in a file":
        found[number] = named(found[number][0].name, zeros)
    elif where == "in bundle.json":
        found[0] = named(found[0][0].name, zeros)
    elif where == "in a header":
        found.insert(1, named("x", zeros, type=tarfile.GNUTYPE_LONGNAME))
    rewritten(archive, found)
    plain = archive.read_bytes() + (zeros if where == "behind the end" else b"")
    archive.write_bytes(gzip.compress(plain, 1))
    assert archive.stat().st_size < 1 << 20
    told = {
        "in a file": "67108864 bytes, and bundle.json says",
        "behind the end": "behind its end",
        "in bundle.json": "this is no bundle's archive",
        "in a header": "is no plain file",
    }
    limited = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from images.bundle import load\n"
        "from provisioning.errors import Invalid\n"
        "at = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (at + (32 << 20), -1))\n"
        "try:\n"
        "    load(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except Invalid as error:\n"
        "    print(error)\n"
    )
    there = tmp_path / "elsewhere"
    argv = [sys.executable, "-c", limited, str(archive), str(there)]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert told[where] in ran.stdout
    assert not there.exists() or list(there.iterdir()) == []


def test_the_digest_of_the_archive_is_asked_for(archive: Path, root: Path, tmp_path: Path) -> None:
    right = hashlib.sha256(archive.read_bytes()).hexdigest()
    there = tmp_path / "elsewhere"
    with pytest.raises(Invalid, match=f"not the archive asked for: its SHA-256 is {right}"):
        load(archive, there, sha256="0" * 64)
    assert list(there.iterdir()) == []
    load(archive, there, sha256=right)
    assert len(listed(there)) == 1
    with pytest.raises(Invalid, match="not the archive asked for"):
        load(archive, there, sha256="0" * 64)  # also where the bundle is there already


def test_a_full_disk_is_told_before_anything_is_written(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "SPARE", 1 << 60)
    with pytest.raises(Conflict, match=r"the bundle needs .* GiB free in"):
        load(archive, tmp_path / "elsewhere")
    assert list((tmp_path / "elsewhere").iterdir()) == []


# --- what lies there ------------------------------------------------------------------------------


def test_verify_names_every_file_that_is_not_as_it_was(made: Bundle, root: Path) -> None:
    folder = root / "kubeadm" / "1.36.2"
    files = folder / "files"
    content = (files / "kubeadm").read_bytes()
    (files / "kubeadm").write_bytes(content[:-1] + b"X")
    (files / "kubelet").unlink()
    (files / "kubectl").chmod(0o600)
    (files / "crictl.tar.gz").write_bytes(b"")
    (files / "cni-plugins.tgz").unlink()
    (files / "cni-plugins.tgz").symlink_to("/etc/passwd")
    (files / "more").write_text("")
    (folder / "elsewhere").symlink_to("/etc")
    found = verify(folder)
    assert [fault.partition(", and")[0].partition(": its")[0] for fault in found] == [
        "files/cni-plugins.tgz is no plain file",
        "files/crictl.tar.gz has 0 bytes",
        "files/kubeadm was changed",
        "files/kubectl has the mode 0600",
        "files/kubelet is missing",
        "elsewhere is not in bundle.json",
        "files/more is not in bundle.json",
    ]
    (folder / "bundle.json").write_text("{")
    assert "bundle.json is not as it must be" in verify(folder)[0]
    with pytest.raises(Faulty):
        pack(folder, root.parent / "x.tar")


def test_a_bundle_that_is_broken_can_be_removed_and_loaded_anew(
    made: Bundle, archive: Path, root: Path
) -> None:
    folder = find(root, REF)
    (folder / "bundle.json").unlink()
    assert listed(root) == []
    with pytest.raises(Invalid, match=r"bundle\.json cannot be read") as refused:
        load(archive, root)
    assert refused.value.remedy == f"seed bundle remove {REF}, then make or load it anew"
    remove(find(root, REF), root, lambda *_: "")
    assert load(archive, root) == made


def test_a_bundle_is_found_by_its_name(made: Bundle, by_hand: Path, root: Path) -> None:
    assert find(root, "kubeadm") == find(root, REF) == root / "kubeadm" / "1.36.2"
    with pytest.raises(NotFound, match=r"no bundle other, only: kubeadm:1\.36\.2"):
        find(root, "other")
    with pytest.raises(Invalid, match=r"is no bundle: NAME, or NAME:VERSION"):
        find(root, "../..")
    second = root / "kubeadm" / "1.36.1"
    second.mkdir()
    told = made.model_copy(update={"version": "1.36.1"})
    (second / "bundle.json").write_text(told.model_dump_json())
    with pytest.raises(Conflict, match=r"kubeadm:1\.36\.1, kubeadm:1\.36\.2"):
        find(root, "kubeadm")


def test_a_bundle_in_use_stays(made: Bundle, root: Path) -> None:
    folder, asked = find(root, REF), list[tuple[str, str]]()

    def blue(name: str, version: str) -> str:
        asked.append((name, version))
        return "cluster blue is made of it"

    with pytest.raises(Conflict, match=r"kubeadm:1\.36\.2 stays: cluster blue is made of it"):
        remove(folder, root, blue)
    assert asked == [("kubeadm", "1.36.2")]
    assert verify(folder) == []
    remove(folder, root, lambda *_: "")
    assert list(root.iterdir()) == []
    with pytest.raises(NotFound):
        remove(folder, root, lambda *_: "")


# --- at once, and killed --------------------------------------------------------------------------


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


def test_loads_of_one_bundle_at_once_are_one(made: Bundle, archive: Path, tmp_path: Path) -> None:
    there, all_in = tmp_path / "elsewhere", threading.Barrier(3)
    met = threading.local()

    def say(_: str) -> None:
        """All are at work before one is done."""
        if not getattr(met, "once", False):
            met.once = True
            all_in.wait(30)

    assert at_once(*[lambda: load(archive, there, say)] * 3) == [made] * 3
    assert hidden(there) == []
    assert verify(find(there, REF)) == []


def test_of_two_bundles_of_a_name_at_once_one_is_refused(
    by_hand: Path, archive: Path, root: Path, tmp_path: Path
) -> None:
    put(by_hand, "kubeadm", elf("another"))
    make_from(WANTED, by_hand, tmp_path / "2")
    pack(tmp_path / "2" / "kubeadm" / "1.36.2", tmp_path / "2.tar")
    there, all_in = tmp_path / "elsewhere", threading.Barrier(2)
    met = threading.local()

    def say(_: str) -> None:
        if not getattr(met, "once", False):
            met.once = True
            all_in.wait(30)

    ended = at_once(lambda: load(archive, there, say), lambda: load(tmp_path / "2.tar", there, say))
    assert sorted(type(one).__name__ for one in ended) == ["Bundle", "Conflict"]
    assert verify(find(there, REF)) == []
    assert hidden(there) == []


def test_a_folder_that_is_swept_before_it_is_locked_is_made_anew(
    made: Bundle, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, flock, swept = tmp_path / "elsewhere", archives.fcntl.flock, list[Path]()

    def late(fd: int, how: int) -> None:
        if not swept:
            swept.extend(there.glob(".new-*"))
            shutil.rmtree(swept[0])
        flock(fd, how)

    monkeypatch.setattr(archives.fcntl, "flock", late)
    assert load(archive, there) == made
    assert len(swept) == 1
    assert hidden(there) == []


OURS = {str(Path(module.__file__)) for module in (archives, bundle, collecting)}


def killed_at(line: int, work: Callable[[], Any]) -> bool:
    """In a process of its own, by SIGKILL before that line of ours; False: it ended before."""
    child = os.fork()
    if child == 0:
        seen = 0

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal seen
            if frame.f_code.co_filename not in OURS:
                return None
            if event == "line":
                seen += 1
                if seen == line:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def whole_or_nothing(root: Path) -> bool:
    """Whether it is there; what is not whole is not there."""
    found = [path for path in root.glob("[!.]*/*")]
    for folder in found:
        assert verify(folder) == []
    return bool(found)


@pytest.mark.parametrize("verb", ["load", "make_from"])
def test_killed_at_any_line_a_bundle_is_whole_or_not_there(
    small: tuple[Path, Path], tmp_path: Path, verb: str
) -> None:
    folder, archive = small
    there, line, lives = tmp_path / "elsewhere", 0, {True: 0, False: 0}
    works = {
        "load": lambda: load(archive, there),
        "make_from": lambda: make_from(replace(WANTED, kind="small"), folder, there),
    }
    while killed_at(line := line + 1, works[verb]):
        there.mkdir(exist_ok=True)
        complete = whole_or_nothing(there)
        lives[complete] += 1
        if complete:
            remove(find(there, REF), there, lambda *_: "")
    assert whole_or_nothing(there)
    works[verb]()
    assert hidden(there) == [], "what the killed left is gone"
    assert min(lives.values()) >= 1
    assert sum(lives.values()) > 100


def test_killed_at_any_line_a_removal_is_done_or_not_begun(
    small: tuple[Path, Path], tmp_path: Path
) -> None:
    there, line = tmp_path / "elsewhere", 0
    load(small[1], there)
    work = lambda: remove(there / "kubeadm" / "1.36.2", there, lambda *_: "")  # noqa: E731
    while killed_at(line := line + 1, work):
        if not whole_or_nothing(there):
            load(small[1], there)
    assert line > 20
    assert list(there.iterdir()) == []


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A kind of two files, so that not too many lines are gone through: its folder and archive."""
    items = [
        needs.Item("files/kubeadm", "binary", "", "0755"),
        needs.Item("files/images/pause_3.10.2.tar", "image", ""),
    ]
    monkeypatch.setitem(needs.KINDS, "small", lambda _: items)
    folder = tmp_path / "small"
    put(folder, "kubeadm", elf("kubeadm"))
    put(folder, "images/pause_3.10.2.tar", as_layout(f"{HOST}/pause:3.10.2"))
    make_from(replace(WANTED, kind="small"), folder, tmp_path / "small-bundles")
    pack(tmp_path / "small-bundles" / "kubeadm" / "1.36.2", tmp_path / "small.tar")
    return folder, tmp_path / "small.tar"


def test_a_process_that_is_killed_in_the_middle_of_a_load_leaves_nothing_half(
    made: Bundle, archive: Path, tmp_path: Path
) -> None:
    """A real one, while it writes."""
    there = tmp_path / "elsewhere"
    code = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from images.bundle import load\n"
        "def say(line):\n"
        "    print(line, flush=True)\n"
        "    if line.startswith('files/images/kube-proxy'):\n"
        "        signal.pause()\n"
        "load(Path(sys.argv[1]), Path(sys.argv[2]), say)\n"
    )
    argv = [sys.executable, "-c", code, str(archive), str(there)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        while not process.stdout.readline().startswith("files/images/kube-proxy"):
            assert process.poll() is None
        assert len(hidden(there)) == 1
        process.kill()
    assert listed(there) == []
    assert load(archive, there) == made
    assert hidden(there) == []


# --- from upstream --------------------------------------------------------------------------------


@pytest.fixture
def depot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Depot]:
    """All of upstream as one server with TLS."""
    monkeypatch.setattr(receiving, "PAUSE_SECONDS", 0.01)
    with a_depot(tmp_path, "upstream.test", tls=True) as depot:
        depot.cut_at = 1000
        for name in ("RELEASES", "CRICTL", "CNI"):
            monkeypatch.setattr(needs, name, depot.url(f"/{name}", "https"))
        for name in ("kubeadm", "kubectl", "kubelet"):
            publish(depot, f"/RELEASES/v1.36.2/bin/linux/amd64/{name}", elf(name))
        publish(depot, "/CRICTL/v1.36.0/crictl-v1.36.0-linux-amd64.tar.gz", packed("crictl"))
        publish(depot, "/CNI/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz", packed("cni"))
        for name in IMAGES:
            push(depot, *name.split(":"))
        yield depot


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


@pytest.fixture
def fetch(depot: Depot, root: Path) -> Callable[..., Bundle]:
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
        wanted = replace(WANTED, **({"registry": f"{depot.authority}/k8s"} | more))
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


# --- the verbs ------------------------------------------------------------------------------------


@pytest.fixture
def seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    conf = tmp_path / "seed.toml"
    conf.write_text(CONF.format(state=tmp_path / "state"))
    monkeypatch.setenv("SEED_CONFIG", str(conf))
    settings.cache_clear()

    def run(*words: str | Path) -> Result:
        settings.cache_clear()
        return CliRunner().invoke(app, ["bundle", *map(str, words)])

    yield run
    settings.cache_clear()


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_verbs_make_list_verify_load_and_remove(
    seed: Callable[..., Result], by_hand: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "a.tar"
    words = ("make", "kubeadm", "--version", "1.36.2", "--from", by_hand, "--made-at", "0")
    made = told(seed(*words, "--archive", archive, "-o", "json"))
    assert made["name"] == "kubeadm"
    assert made["made_at"] == "1970-01-01T00:00:00Z"
    assert made["archive_sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    served = tmp_path / "state" / "http" / "bundles" / "kubeadm" / "1.36.2"
    assert read(served).digest == made["digest"]

    assert told(seed("list", "-o", "json"))[0]["files"] == made["files"]
    table = seed("list").stdout
    assert "kubeadm" in table
    assert made["digest"][:12] in table
    assert told(seed("verify", "kubeadm", "-o", "json"))["verdict"] == "right"
    assert told(seed("remove", REF, "-o", "json"))["removed"] is True
    assert told(seed("list", "-o", "json")) == []
    assert "none" in seed("list").stdout
    again = told(seed("load", archive, "--sha256", made["archive_sha256"], "-o", "json"))
    assert again["digest"] == made["digest"]
    assert "12" in seed("load", archive).stdout


def test_verbs_name_what_is_wrong_and_what_to_do(
    seed: Callable[..., Result], by_hand: Path, tmp_path: Path
) -> None:
    (by_hand / "kubelet").unlink()
    words = ("make", "kubeadm", "--version", "1.36.2", "--from", by_hand)
    done = seed(*words)
    assert done.exit_code == 1
    assert "  kubelet is missing: https://dl.k8s.io/release/v1.36.2/bin/" in done.stderr
    assert "docs/bundles.md has the names" in done.stderr
    put(by_hand, "kubelet", elf("kubelet"))
    assert seed(*words).exit_code == 0
    served = tmp_path / "state" / "http" / "bundles" / "kubeadm" / "1.36.2"
    (served / "files" / "kubelet").write_bytes(b"")
    done = seed("verify", "kubeadm", "-o", "json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["verdict"] == "faulty"
    assert "  files/kubelet has 0 bytes" in done.stderr
    assert "seed bundle remove kubeadm:1.36.2" in done.stderr


def test_a_verb_fetches_by_a_lock_from_an_allowed_host(
    seed: Callable[..., Result], by_hand: Path, tmp_path: Path
) -> None:
    """Through the settings' own allow-list, to this machine's loopback, named as itself."""
    with a_depot(tmp_path, "127.0.0.1") as depot:
        made = make_from(WANTED, by_hand, tmp_path / "1")
        files = []
        for file in made.files:
            content = (tmp_path / "1" / "kubeadm" / "1.36.2" / file.path).read_bytes()
            depot.files[f"/{file.path}"] = content
            files.append(file.model_copy(update={"source": depot.url(f"/{file.path}")}))
        lock = tmp_path / "lock.json"
        lock.write_text(made.model_copy(update={"files": tuple(files)}).model_dump_json())
        words = ("make", "kubeadm", "--version", "1.36.2", "--lock", lock, "-o", "json")
        done = seed(*words)
        assert isinstance(done.exception, Forbidden)
        with (tmp_path / "seed.toml").open("a") as conf:
            conf.write(f'[images]\nallowed_hosts = ["{depot.authority}"]\n')
        assert [file["sha256"] for file in told(seed(*words))["files"]] == [
            file.sha256 for file in made.files
        ]
