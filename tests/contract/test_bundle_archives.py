"""Archives that are no bundles': each is refused for what it is, and nothing of it stays."""

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from images import archives
from images.bundle import load
from provisioning.bundle import listed
from provisioning.errors import Conflict, Invalid
from tests.fakes.bundles import archive, by_hand, made, root

__all__ = ["archive", "by_hand", "made", "root"]

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
    """32 MiB of zeros in a little gzip: neither kept in memory nor on the disk."""
    zeros, found = bytes(32 << 20), entries(archive)
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
        "in a file": "33554432 bytes, and bundle.json says",
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
        "resource.setrlimit(resource.RLIMIT_AS, (at + (16 << 20), -1))\n"
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
