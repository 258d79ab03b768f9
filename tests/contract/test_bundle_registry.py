"""Bundles' images as a registry's files: what is taken out, shared, served and gone."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from images.bundle import Faulty, load, pack, remove
from images.collecting import make_from
from images.needs import Wanted
from images.served import beside, refresh, repositories
from provisioning.bundle import Bundle, find, hashed, read, verify
from provisioning.errors import Invalid
from tests.contract.test_bundles import killed_at
from tests.fakes.bundles import (
    AT,
    MANIFEST_KIND,
    an_image,
    as_layout,
    as_saved,
    blob,
    hidden,
    packed,
    put,
    root,
    tar,
)

__all__ = ["root"]

APPS = Wanted("apps", "20.10.24", kind="swarm", made_at=AT)
WEB = "images.example.org:5000/shop/web:1"
MIB = 1 << 20


def make(folder: Path, root: Path, images: dict[str, bytes], **changes: Any) -> Bundle:
    for name, content in images.items():
        put(folder, f"images/{name}.tar", content)
    return make_from(replace(APPS, **changes), folder, root)


def served(root: Path) -> dict[str, bytes]:
    top = beside(root) / "current"
    return {str(p.relative_to(top)): p.read_bytes() for p in top.rglob("*") if p.is_file()}


def names(root: Path) -> dict[str, str]:
    """ "REPOSITORY:TAG" -> the ending of its manifest."""
    found = {}
    for path in (beside(root) / "current" / "names").rglob("_manifests/*"):
        if not path.name.startswith("sha256:"):
            repository = path.parent.parent.relative_to(beside(root) / "current" / "names")
            found[f"{repository}:{path.name.rpartition('.')[0]}"] = path.suffix[1:]
    return found


def manifest(root: Path, repository: str, reference: str, kind: str = "oci") -> Any:
    path = beside(root) / "current/names" / repository / "_manifests" / f"{reference}.{kind}"
    return json.loads(path.read_bytes())


def every_manifest_leads_to_its_blobs(root: Path) -> int:
    top, count = beside(root) / "current", 0
    for path in (top / "names").rglob("_manifests/*"):
        told = json.loads(path.read_bytes())
        reference = path.name.rpartition(".")[0]
        if reference.startswith("sha256:"):
            assert hashed(path) == reference[7:]
        if path.suffix == ".index":
            for one in told["manifests"]:
                ending = "oci" if one["mediaType"] == MANIFEST_KIND else "docker"
                assert (path.parent / f"{one['digest']}.{ending}").stat().st_size == one["size"]
            continue
        assert told["schemaVersion"] == 2
        for one in (told["config"], *told["layers"]):
            file = top / "blobs" / one["digest"][7:]
            assert (file.stat().st_size, hashed(file)) == (one["size"], one["digest"][7:])
            count += 1
    return count


def test_a_layout_is_served_byte_by_byte_as_its_maker_had_it(root: Path, tmp_path: Path) -> None:
    made = make(tmp_path / "1", root, {"web_1": as_layout(WEB)})
    config, layer, top = an_image(WEB)
    assert names(root) == {"shop/web:1": "oci"}
    assert served(root)["names/shop/web/_manifests/1.oci"] == an_image(WEB)[top]
    assert served(root)[f"names/shop/web/_manifests/{top}.oci"] == an_image(WEB)[top]
    for digest in (config, layer):
        assert served(root)[f"blobs/{digest[7:]}"] == an_image(WEB)[digest]
    assert every_manifest_leads_to_its_blobs(root) == 4
    assert verify(find(root, "apps")) == []
    assert [file.path for file in made.files] == ["files/images/web_1.tar"]


def test_what_docker_saved_is_given_a_manifest(root: Path, tmp_path: Path) -> None:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as content:
        content.addfile(tarfile.TarInfo("etc"))
    config = json.dumps({"architecture": "amd64", "os": "linux"}).encode()
    told = [{"Config": "c.json", "RepoTags": ["nginx:1"], "Layers": ["a/layer.tar", "b/layer.tar"]}]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as saved:
        for name, data in (
            ("c.json", config), ("a/layer.tar", layer.getvalue()),
            ("manifest.json", json.dumps(told).encode()),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.size = len(data)
            saved.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("b/layer.tar")  # as it does with a layer that two have
        link.type, link.linkname = tarfile.SYMTYPE, "../a/layer.tar"
        saved.addfile(link)
    make(tmp_path / "1", root, {"nginx_1": out.getvalue()})
    assert names(root) == {"nginx:1": "oci", "library/nginx:1": "oci"}
    made = manifest(root, "nginx", "1")
    assert made["mediaType"] == MANIFEST_KIND
    plain = "application/vnd.oci.image.layer.v1.tar"
    assert made["config"] == blob(config, "application/vnd.oci.image.config.v1+json")
    assert made["layers"] == [blob(layer.getvalue(), plain)] * 2
    assert every_manifest_leads_to_its_blobs(root)


def test_everybody_may_read_it_whatever_the_umask_is(root: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        make(tmp_path / "1", root, {"web_1": as_layout(WEB)})
    finally:
        os.umask(before)
    top = beside(root)
    for path in [top, *(p for p in top.rglob("*") if not p.is_symlink())]:
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_two_bundles_share_a_layer_and_each_takes_away_its_own(root: Path, tmp_path: Path) -> None:
    """The archives of both have it; on the disk it is there once."""
    layer, other = packed("of both"), as_layout(WEB)
    for name in ("one", "two"):
        config = json.dumps({"architecture": "amd64", "os": "linux", "salt": name}).encode()
        told = [{"Config": "c.json", "RepoTags": [f"h.test/{name}:1"], "Layers": ["l.tar"]}]
        saved = tar({"manifest.json": json.dumps(told).encode(), "c.json": config, "l.tar": layer})
        images = {f"{name}_1": saved} | ({"web_1": other} if name == "two" else {})
        make(tmp_path / name, root, images, name=name)
    digest = hashlib.sha256(layer).hexdigest()
    inodes = {
        path.stat().st_ino
        for path in (
            root / "one/20.10.24/registry/blobs" / digest,
            root / "two/20.10.24/registry/blobs" / digest,
            beside(root) / "current/blobs" / digest,
        )
    }
    assert len(inodes) == 1
    assert names(root) == {"one:1": "oci", "two:1": "oci", "shop/web:1": "oci"}
    remove(find(root, "two"), root, nobody)
    assert names(root) == {"one:1": "oci"}
    assert every_manifest_leads_to_its_blobs(root) == 4
    assert len(served(root)) == 5, "two names of a manifest, and three blobs"
    remove(find(root, "one"), root, nobody)
    assert served(root) == {}


@contextmanager
def nobody(_name: str, _version: str) -> Iterator[str]:
    yield ""


def test_of_one_name_the_newer_bundle_has_the_tag_and_both_their_digests(
    root: Path, tmp_path: Path
) -> None:
    def rebuilt(salt: str) -> bytes:
        config = json.dumps({"architecture": "amd64", "salt": salt}).encode()
        told = [{"Config": "c.json", "RepoTags": [WEB], "Layers": []}]
        return tar({"manifest.json": json.dumps(told).encode(), "c.json": config})

    make(tmp_path / "1", root, {"web_1": rebuilt("new")}, name="b", made_at=AT + timedelta(days=1))
    new = manifest(root, "shop/web", "1")
    make(tmp_path / "2", root, {"web_1": rebuilt("old")}, name="c")
    assert manifest(root, "shop/web", "1") == new
    folder = beside(root) / "current/names/shop/web/_manifests"
    assert len([path for path in folder.iterdir() if path.name.startswith("sha256:")]) == 2
    remove(find(root, "b"), root, nobody)
    assert manifest(root, "shop/web", "1") != new


def test_each_architecture_finds_its_own_by_one_tag(root: Path, tmp_path: Path) -> None:
    for architecture in ("arm64", "amd64"):
        make(
            tmp_path / architecture, root, {"web_1": as_layout(WEB, architecture)},
            name=architecture, architecture=architecture,
        )  # fmt: skip
    index = manifest(root, "shop/web", "1", "index")
    assert [one["platform"] for one in index["manifests"]] == [
        {"architecture": "amd64", "os": "linux"}, {"architecture": "arm64", "os": "linux"},
    ]  # fmt: skip
    for one in index["manifests"]:
        assert one["digest"] == list(an_image(WEB, one["platform"]["architecture"]))[-1]
    assert every_manifest_leads_to_its_blobs(root) == 4
    remove(find(root, "arm64"), root, nobody)
    assert names(root) == {"shop/web:1": "oci"}


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("registry.example:5000/a/b:1", ["a/b"]),
        ("localhost/a:1", ["a"]),
        ("docker.io/library/nginx:1", ["nginx", "library/nginx"]),
        ("nginx:1", ["nginx", "library/nginx"]),
        ("docker.io/some/one:1", ["some/one"]),
        ("quay.example/a.b__c-d/e:1", ["a.b__c-d/e"]),
        ("h.example/../etc:1", []),
        ("h.example/_manifests/a:1", []),
        ("h.example/a//b:1", []),
        ("h.example/A:1", []),
        ("h.example/a:..", []),
        ("h.example/a", []),
        ("h.example/a@sha256:0", []),
        ("h.example/" + "a/" * 200 + "a:1", []),
        ("a" * 10**6, []),
    ],
)
def test_a_name_loses_its_host_and_leads_nowhere_else(name: str, asked: list[str]) -> None:
    assert repositories(name) == [(repository, "1") for repository in asked]


# --- refused --------------------------------------------------------------------------------------


def forged(which: int) -> bytes:
    """A layout in which a blob's content was exchanged for one of the same size."""
    blobs = an_image(WEB)
    top = blob(list(blobs.values())[-1], MANIFEST_KIND) | {
        "annotations": {"io.containerd.image.name": WEB}
    }
    files = {f"blobs/{digest.replace(':', '/')}": content for digest, content in blobs.items()}
    path = list(files)[which]
    files[path] = files[path].replace(b"linux", b"l1nux").replace(b"\x1f\x8b", b"\x1f\x8c")
    files[path] = files[path].replace(b'"schemaVersion": 2', b'"schemaVersion": 3')
    assert files[path] != list(blobs.values())[which]
    index = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    return tar({"oci-layout": b"{}", "index.json": index, **files})


def saved_with(
    info: tarfile.TarInfo, content: bytes = b"", kind: int = tarfile.GNU_FORMAT
) -> bytes:
    """What docker saved, with one member more that its only layer is."""
    told = [{"Config": "c.json", "RepoTags": [WEB], "Layers": [info.name]}]
    config = b'{"architecture": "amd64"}'
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as made:
        for name, data in (("manifest.json", json.dumps(told).encode()), ("c.json", config)):
            one = tarfile.TarInfo(name)
            one.size = len(data)
            made.addfile(one, io.BytesIO(data))
        made.addfile(info, io.BytesIO(content))
    return out.getvalue()


def member(**told: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo("layer.tar")
    for key, value in told.items():
        setattr(info, key, value)
    return info


BAD = {
    "a config was changed": (forged(0), "is not what its digest says"),
    "a layer was changed": (forged(1), "is not what its digest says"),
    "a manifest was changed": (forged(2), "is not what its digest says"),
    "a layer is a file of this machine": (
        saved_with(member(type=tarfile.SYMTYPE, linkname="/etc/shadow")), "is not in it",
    ),
    "a layer leads out": (
        saved_with(member(type=tarfile.SYMTYPE, linkname="../../etc/shadow")), "is not in it",
    ),
    "a layer leads to itself": (
        saved_with(member(type=tarfile.SYMTYPE, linkname="layer.tar")), "is no file",
    ),
    "a layer is a device": (saved_with(member(type=tarfile.CHRTYPE)), "is no file"),
    "a layer has holes": (saved_with(member(type=tarfile.GNUTYPE_SPARSE)), "has holes"),
    "a header fills the memory": (
        saved_with(member(pax_headers={"comment": "x" * 2 * MIB}), kind=tarfile.PAX_FORMAT),
        "has a header that is not taken",
    ),
    "a header tells another size": (
        saved_with(member(pax_headers={"size": "9"}), kind=tarfile.PAX_FORMAT),
        "has a header that is not taken",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_an_image_that_is_not_whole_makes_no_bundle(root: Path, tmp_path: Path, case: str) -> None:
    content, said = BAD[case]
    with pytest.raises(Invalid) as refused:
        make(tmp_path / "1", root, {"web_1": content})
    assert "images/web_1.tar" in str(refused.value)
    assert said in str(refused.value)
    assert not (root / "apps").exists()
    assert hidden(root) == []
    assert not beside(root).exists() or served(root) == {}


def test_an_image_that_is_not_whole_is_not_loaded_either(root: Path, tmp_path: Path) -> None:
    """Who made that archive looked at nothing, and told the digests of what he made."""
    made = make(tmp_path / "1", tmp_path / "elsewhere", {"web_1": as_layout(WEB)})
    folder = find(tmp_path / "elsewhere", "apps")
    (folder / "files/images/web_1.tar").write_bytes(forged(1))
    path = folder / "files/images/web_1.tar"
    changed = made.files[0].model_copy(update={"sha256": hashed(path), "size": path.stat().st_size})
    told = made.model_copy(update={"files": (changed,)})
    (folder / "bundle.json").write_text(told.model_dump_json())
    pack(folder, tmp_path / "a.tar")
    with pytest.raises(
        Invalid, match=r"^files/images/web_1\.tar is no whole archive .* its digest"
    ):
        load(tmp_path / "a.tar", root)
    assert hidden(root) == []
    assert not (root / "apps").exists()


def test_a_bundle_for_swarm_is_what_is_put_there(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Invalid, match="a bundle for swarm is what is put there") as refused:
        make_from(APPS, tmp_path / "empty", root)
    assert refused.value.remedy.startswith("seed bundle make apps --kind swarm --version 20.10.24")


# --- killed ---------------------------------------------------------------------------------------


def whole(root: Path) -> None:
    """What is served is all of a bundle, or nothing; the next verb makes it so that it fits."""
    assert len(served(root)) in (0, 5)
    every_manifest_leads_to_its_blobs(root)


def test_killed_before_any_change_what_is_served_is_whole(root: Path, tmp_path: Path) -> None:
    make(tmp_path / "1", tmp_path / "made", {"web_1": as_layout(WEB)})
    archive = tmp_path / "a.tar"
    pack(find(tmp_path / "made", "apps"), archive)
    there = tmp_path / "2" / "bundles"
    there.parent.mkdir()
    change = 0
    while killed_at(change := change + 1, lambda: load(archive, there)):
        whole(there)
        if (there / "apps/20.10.24").exists():  # the next one links
            load(archive, there)
            assert len(served(there)) == 5
            remove(find(there, "apps"), there, nobody)
    assert change > 30
    change = 0
    while killed_at(change := change + 1, lambda: remove(there / "apps/20.10.24", there, nobody)):
        whole(there)
        if not (there / "apps/20.10.24").exists():
            load(archive, there)
    refresh(there)
    assert served(there) == {}
    left = [path.name for path in beside(there).iterdir()]
    assert len(left) == 2, left


def test_a_docker_manifest_is_told_as_one(root: Path, tmp_path: Path) -> None:
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    config, layer, top = an_image(WEB).values()
    own = json.loads(top) | {"mediaType": kind}
    body = json.dumps(own).encode()
    told = {**blob(body, kind), "annotations": {"io.containerd.image.name": WEB}}
    files = {f"blobs/sha256/{blob(one)['digest'][7:]}": one for one in (config, layer, body)}
    index = json.dumps({"schemaVersion": 2, "manifests": [told]}).encode()
    make(tmp_path / "1", root, {"web_1": tar({"oci-layout": b"{}", "index.json": index, **files})})
    assert names(root) == {"shop/web:1": "docker"}
    assert read(find(root, "apps")).kind == "swarm"


def test_what_an_older_docker_saved_is_served(root: Path, tmp_path: Path) -> None:
    make(tmp_path / "1", root, {"web_1": as_saved(WEB)})
    packed_kind = "application/vnd.oci.image.layer.v1.tar+gzip"
    assert [one["mediaType"] for one in manifest(root, "shop/web", "1")["layers"]] == [packed_kind]
    with pytest.raises(Faulty):
        make(tmp_path / "1", root, {"web_2": as_saved(WEB)})
