"""The catalogue: what is there is whole, and what failed left nothing."""

import fcntl
import hashlib
import os
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from images import catalog
from images.build import Build, recipes
from provisioning.errors import HostError, Invalid, NotFound, SeedError
from provisioning.image import RAMDISKS, Image, find, published
from tests.fakes.appliance import until
from tests.fakes.disks import a_raw_disk

DISK = a_raw_disk(1024)
SITE = {"/etc/ironic-python-agent/20-seed.conf": b"[DEFAULT]\ncafile = /etc/ca.pem\n"}


def a_build(folder: Path, files: dict[str, bytes], format: str = "ramdisk") -> Build:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return Build(
        recipe="ramdisk",
        digest="0123456789ab",
        directory=folder,
        architecture="amd64",
        firmware=("bios", "uefi"),
        format=format,  # type: ignore[arg-type]
        files={name: name for name in files},
        virtual_size=0,
        min_disk_gib=0,
        built_at=datetime(2026, 11, 20, tzinfo=UTC),
        build_seconds=1.5,
        weights={"kernel": 6},
        packages={"linux-image-amd64": "6.12"},
    )


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def ramdisk(tmp_path: Path) -> Build:
    return a_build(tmp_path / "cache", {"kernel": b"kernel", "initramfs": b"packed"})


def test_a_published_build_is_found(ramdisk: Build, tmp_path: Path) -> None:
    image = catalog.publish(ramdisk, tmp_path / "images", SITE)

    assert find(tmp_path / "images", "ramdisk") == image
    assert [found.name for found in published(tmp_path / "images")] == ["ramdisk"]
    for file in image.files.values():
        content = (tmp_path / "images/ramdisk" / image.version / file.name).read_bytes()
        assert len(content) == file.size
        assert hashlib.sha256(content).hexdigest() == file.sha256
        assert hashlib.sha512(content).hexdigest() == file.sha512


def test_the_site_lies_behind_the_initramfs(ramdisk: Build, tmp_path: Path) -> None:
    image = catalog.publish(ramdisk, tmp_path / "images", SITE)

    content = image.path(tmp_path / "images", "initramfs").read_bytes()
    assert content.startswith(b"packed\0\0" + b"070701")
    argv = ["cpio", "-i", "--quiet", "--to-stdout"]
    out = subprocess.run(argv, input=content[8:], capture_output=True, check=True, timeout=10)
    assert out.stdout == b"[DEFAULT]\ncafile = /etc/ca.pem\n"
    assert (tmp_path / "cache/initramfs").read_bytes() == b"packed"


def test_publishing_again_changes_nothing(ramdisk: Build, tmp_path: Path) -> None:
    first = catalog.publish(ramdisk, tmp_path / "images", SITE)
    before = everything(tmp_path / "images")
    assert catalog.publish(ramdisk, tmp_path / "images", SITE) == first
    assert everything(tmp_path / "images") == before


def test_another_certificate_is_another_version(ramdisk: Build, tmp_path: Path) -> None:
    first = catalog.publish(ramdisk, tmp_path / "images", SITE)
    second = catalog.publish(ramdisk, tmp_path / "images", {"/etc/ca.pem": b"other"})

    assert first.version != second.version
    assert find(tmp_path / "images", "ramdisk") == second
    assert first.path(tmp_path / "images", "kernel").exists()  # somebody may be reading it


def test_site_files_need_an_initramfs(tmp_path: Path) -> None:
    build = a_build(tmp_path / "cache", {"disk": DISK}, "raw")
    with pytest.raises(Invalid):
        catalog.publish(build, tmp_path / "images", SITE)
    assert not (tmp_path / "images").exists()


def test_a_failed_publication_leaves_nothing(ramdisk: Build, tmp_path: Path) -> None:
    (ramdisk.directory / "initramfs").unlink()
    (tmp_path / "images").mkdir()
    with pytest.raises(OSError, match="initramfs"):
        catalog.publish(ramdisk, tmp_path / "images", SITE)
    assert everything(tmp_path / "images") == []


def test_everything_is_readable_by_the_web_server(ramdisk: Build, tmp_path: Path) -> None:
    image = catalog.publish(ramdisk, tmp_path / "images", SITE)
    folder = tmp_path / "images/ramdisk" / image.version
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_a_file_with_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "own.img"
    path.write_bytes(DISK)
    digest = hashlib.sha256(DISK).hexdigest().upper()

    image = catalog.publish_file(path, "own", digest, tmp_path / "images", "admin")

    assert find(tmp_path / "images", "own") == image
    assert (image.format, image.virtual_size, image.min_disk_gib) == ("raw", len(DISK), 1)
    assert image.path(tmp_path / "images", "disk").read_bytes() == DISK
    assert image.ssh_user == "admin"


@pytest.mark.parametrize(
    ("name", "content", "digest"),
    [
        pytest.param("own", DISK, "0" * 64, id="another digest"),
        pytest.param("own", b"no disk", hashlib.sha256(b"no disk").hexdigest(), id="no disk"),
        pytest.param("own", DISK, "abc", id="no digest"),
        pytest.param("../own", DISK, hashlib.sha256(DISK).hexdigest(), id="a path as name"),
        pytest.param("Own", DISK, hashlib.sha256(DISK).hexdigest(), id="capital letters"),
    ],
)
def test_a_refused_file_leaves_nothing(
    tmp_path: Path, name: str, content: bytes, digest: str
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "own.img").write_bytes(content)
    with pytest.raises(Invalid) as caught:
        catalog.publish_file(tmp_path / "own.img", name, digest, tmp_path / "images")
    assert caught.value.remedy
    assert everything(tmp_path) == ["images", "own.img"]


def test_no_disk_gets_the_name_of_a_ramdisk(tmp_path: Path) -> None:
    made = {name for name, recipe in recipes().items() if recipe.format == "ramdisk"}
    assert made == set(RAMDISKS)
    (tmp_path / "own.img").write_bytes(DISK)
    digest = hashlib.sha256(DISK).hexdigest()
    other = a_build(tmp_path / "cache", {"kernel": b"k", "initramfs": b"i"})
    other = other.model_copy(update={"recipe": "site-ramdisk"})
    image = catalog.publish(other, tmp_path / "images", {})
    for name in (*RAMDISKS, "site-ramdisk"):
        with pytest.raises(Invalid, match="boot from memory"):
            catalog.publish_file(tmp_path / "own.img", name, digest, tmp_path / "images")
    assert find(tmp_path / "images", "site-ramdisk") == image


def test_a_refused_file_keeps_the_version_before(tmp_path: Path) -> None:
    (tmp_path / "own.img").write_bytes(DISK)
    digest = hashlib.sha256(DISK).hexdigest()
    image = catalog.publish_file(tmp_path / "own.img", "own", digest, tmp_path / "images")
    with pytest.raises(Invalid):
        catalog.publish_file(tmp_path / "own.img", "own", "1" * 64, tmp_path / "images")
    assert find(tmp_path / "images", "own") == image


def test_an_unknown_image_names_the_known(ramdisk: Build, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="none is published"):
        find(tmp_path / "images", "debian")
    catalog.publish(ramdisk, tmp_path / "images", {})
    with pytest.raises(NotFound, match="published are: ramdisk"):
        find(tmp_path / "images", "debian")


def test_a_damaged_manifest_is_said(ramdisk: Build, tmp_path: Path) -> None:
    image = catalog.publish(ramdisk, tmp_path / "images", {})
    (tmp_path / "images/ramdisk" / image.version / "manifest.json").write_text("{}")
    with pytest.raises(SeedError, match="cannot be read"):
        published(tmp_path / "images")


def _evil(tmp_path: Path) -> tuple[Path, Path]:
    """The image folder of another user, and a folder of root's that he would like to have."""
    images, outside = tmp_path / "images", tmp_path / "outside"
    images.mkdir()
    os.chown(images, 65534, 65534)
    outside.mkdir(mode=0o700)
    return images, outside


def test_root_publishes_through_no_link_in_place_of_an_image(
    ramdisk: Build, tmp_path: Path
) -> None:
    images, outside = _evil(tmp_path)
    (images / "ramdisk").symlink_to(outside)
    with pytest.raises(HostError, match="there is a link"):
        catalog.publish(ramdisk, images, SITE)
    assert everything(outside) == []
    assert (outside.stat().st_uid, outside.stat().st_mode & 0o777) == (0, 0o700)
    assert everything(tmp_path) == [
        "cache", "cache/initramfs", "cache/kernel", "images", "images/ramdisk", "outside",
    ]  # fmt: skip


def test_root_reads_no_manifest_and_removes_no_folder_through_a_link(
    ramdisk: Build, tmp_path: Path
) -> None:
    images, outside = _evil(tmp_path)
    image = catalog.publish(ramdisk, images, SITE)
    done = images / "ramdisk" / image.version
    done.rename(outside / "moved")
    done.symlink_to(outside / "moved")
    before = everything(outside)
    with pytest.raises(HostError, match="there is a link"):
        catalog.publish(ramdisk, images, SITE)
    assert everything(outside) == before
    (outside / "secret").write_bytes(b"x")
    (images / "ramdisk" / "leak").symlink_to(outside / "secret")
    with pytest.raises(HostError, match="there is a link"):
        catalog.read(images, "ramdisk", "leak")


def test_what_is_published_is_made_where_its_owner_gets_not(
    ramdisk: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, _ = _evil(tmp_path)
    seen: list[Path] = []
    write = catalog._write

    def look(folder: Path, image: Image) -> None:
        seen.append(folder)
        assert images not in folder.parents
        assert folder.parent.stat().st_uid == 0
        assert folder.parent.stat().st_mode & 0o777 == 0o700
        write(folder, image)

    monkeypatch.setattr(catalog, "_write", look)
    image = catalog.publish(ramdisk, images, SITE)
    assert len(seen) == 1
    assert everything(images) == [
        "ramdisk", f"ramdisk/{image.version}", *(
            f"ramdisk/{image.version}/{name}" for name in ("initramfs", "kernel", "manifest.json")
        ), "ramdisk/current",
    ]  # fmt: skip
    assert not (tmp_path / catalog.STAGING).exists()


def test_what_a_killed_publication_left_goes_with_the_next(ramdisk: Build, tmp_path: Path) -> None:
    (tmp_path / catalog.STAGING / "new-old").mkdir(parents=True)
    (tmp_path / catalog.STAGING / "new-old" / "disk").write_bytes(b"half")
    catalog.publish(ramdisk, tmp_path / "images", SITE)
    assert not (tmp_path / catalog.STAGING).exists()


def _waiting() -> str:
    """Of the kernel's locks those that somebody waits for."""
    return "".join(line for line in Path("/proc/locks").read_text().splitlines() if "->" in line)


def test_a_publication_waits_for_the_one_before(ramdisk: Build, tmp_path: Path) -> None:
    """Whose folder it would remove as left behind otherwise."""
    place = tmp_path / catalog.STAGING
    (place / "new-living").mkdir(parents=True)
    fd = os.open(place, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    thread = threading.Thread(
        target=catalog.publish, args=(ramdisk, tmp_path / "images", SITE), daemon=True
    )
    thread.start()
    until(lambda: f":{place.stat().st_ino} " in _waiting(), 10, "the second waits")
    assert (place / "new-living").is_dir()
    (place / "new-living").rmdir()
    place.rmdir()  # as the one before does at its end
    os.close(fd)
    thread.join(20)
    assert find(tmp_path / "images", "ramdisk").name == "ramdisk"
    assert not place.exists()
