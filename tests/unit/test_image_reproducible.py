"""What differs between two builds is taken out; what a package brought stays as it was."""

import io
import json
import os
import struct
import time
from pathlib import Path

import pytest
from rich.console import Console

from images import build as builder
from images import sbom
from images.extras import parse
from images.reproducible import identity, settle
from images.sbom import Part
from images.tools import EPOCH
from images.watch import watched
from images.workbench import Tools
from tests.unit.test_image_build import Tiny, run

OLD = 1_500_000_000


def test_what_a_build_wrote_has_one_time_and_what_a_package_brought_its_own(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr").mkdir(parents=True)
    (root / "usr/packaged").write_text("x")
    os.utime(root / "usr/packaged", (OLD, OLD))
    since = time.time() - 1
    (root / "usr/made").write_text("x")
    (root / "usr/link").symlink_to("nowhere")
    (root / "var/log/nova").mkdir(parents=True)
    (root / "var/log/dpkg.log").write_text("now")
    (root / "etc/ssh").mkdir(parents=True)
    (root / "etc/ssh/ssh_host_ed25519_key").write_text("secret")
    settle(root, since)
    assert (root / "usr/packaged").stat().st_mtime == OLD
    for name in ("usr/made", "usr/link", "usr", "var/log/nova", "."):
        assert (root / name).lstat().st_mtime == EPOCH
    assert not (root / "var/log/dpkg.log").exists()
    assert not (root / "etc/ssh/ssh_host_ed25519_key").exists()


def test_byte_code_follows_its_source(tmp_path: Path) -> None:
    root = tmp_path / "root"
    cache = root / "lib/__pycache__"
    cache.mkdir(parents=True)
    (root / "lib/a.py").write_text("pass\n")
    (cache / "a.cpython-313.pyc").write_bytes(b"MAGC" + struct.pack("<III", 3, 1, 2) + b"code")
    (cache / "gone.cpython-313.pyc").write_bytes(b"MAGC" + bytes(12))
    settle(root, time.time() - 60)
    found = (cache / "a.cpython-313.pyc").read_bytes()
    assert found == b"MAGC" + struct.pack("<III", 0, EPOCH, 5) + b"code"
    assert (cache / "gone.cpython-313.pyc").read_bytes() == b"MAGC" + bytes(12)


def test_identities_are_uuids_of_the_inputs() -> None:
    assert identity("a", "disk") == identity("a", "disk")
    assert identity("a", "disk") != identity("b", "disk") != identity("b", "root")
    assert identity("a", "disk").version == 4


def test_tools_run_by_their_own_loader(tmp_path: Path) -> None:
    (tmp_path / "usr/sbin").mkdir(parents=True)
    (tmp_path / "usr/sbin/mke2fs").touch()
    argv = [str(word) for word in Tools(tmp_path).argv("mke2fs", "-V")]
    assert argv[0].endswith("ld-linux-x86-64.so.2")
    assert argv[-2:] == [str(tmp_path / "usr/sbin/mke2fs"), "-V"]
    assert Tools().argv("mke2fs", "-V") == ["mke2fs", "-V"]


def test_an_extra_is_an_image_of_its_own_and_the_same_extra_is_not(tmp_path: Path) -> None:
    recipe = Tiny(tmp_path, ["echo", "disk"])
    extras = parse({"files": [{"path": "/etc/motd", "content": "hi"}]})
    plain = run(recipe, tmp_path)
    wanted = builder.Wanted(extras)
    first, again = (
        builder.build_recipe(recipe, tmp_path / "cache", (), print, tmp_path / "logs", wanted)
        for _ in range(2)
    )
    assert first == again
    assert first.digest != plain.digest
    assert first.extras == extras.digest()
    assert recipe.made == 2


def test_a_fresh_build_says_what_differs_from_the_last_one(tmp_path: Path) -> None:
    recipe = Tiny(tmp_path, ["echo", "disk"])
    first = run(recipe, tmp_path)
    folder = first.directory
    described = json.loads((folder / builder.BUILD).read_text())
    described["packages"] = {"openssl": "1"}
    (folder / builder.BUILD).write_text(json.dumps(described))
    fresh = builder.Wanted(fresh=True)
    second = builder.build_recipe(recipe, tmp_path / "cache", (), print, tmp_path / "logs", fresh)
    assert recipe.made == 2
    log = Path(second.log).read_text()
    assert "openssl: 1 -> none" in log
    assert log.count("=== ") == 2  # the first build's log is still there
    assert set(second.phases) == {"running"}


def test_progress_has_a_share_once_a_build_was_timed(tmp_path: Path) -> None:
    recipe = Tiny(tmp_path, ["echo", "disk"])
    run(recipe, tmp_path)
    found = next((tmp_path / "cache/tiny").glob("*/build.json"))
    described = json.loads(found.read_text())
    described["phases"] = {"running": 30.0, "more": 10.0}
    found.write_text(json.dumps(described))
    said: list[str] = []
    builder.build_recipe(
        recipe, tmp_path / "cache", (), said.append, tmp_path / "logs", builder.Wanted(fresh=True)
    )
    assert said == ["tiny:   0 % running (0 s)"]


def test_a_build_of_another_seed_is_no_obstacle(tmp_path: Path) -> None:
    recipe = Tiny(tmp_path, ["echo", "disk"])
    for number, text in enumerate(("{", '{"unknown": 1}')):
        folder = tmp_path / f"cache/tiny/{number:012x}"
        folder.mkdir(parents=True)
        (folder / builder.BUILD).write_text(text)
    assert run(recipe, tmp_path).digest == builder.digest_of(recipe)


def test_progress_is_plain_lines_where_nobody_watches() -> None:
    console = Console(file=io.StringIO(), width=40)
    with watched(console) as say:
        say("debian: [bold] 35 % disk with BIOS and UEFI loaders (41 s)")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "debian: [bold] 35 % disk with BIOS and UEFI loaders (41 s)\n"


def test_a_line_lives_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with watched(console) as say:
        say("debian: disk (1 s)")
    assert isinstance(console.file, io.StringIO)
    assert "debian: disk (1 s)" in console.file.getvalue()
    assert "0:00:0" in console.file.getvalue()


def test_only_the_last_logs_are_kept(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    for number in range(30):
        path = logs / f"tiny-{number:012x}.log"
        path.touch()
        os.utime(path, (OLD + number, OLD + number))
    (logs / "tiny-other-00000000000a.log").touch()
    run(Tiny(tmp_path, ["echo", "disk"]), tmp_path)
    left = {path.name for path in logs.iterdir()}
    assert len(left) == builder.LOGS + 1
    assert "tiny-other-00000000000a.log" in left
    assert f"tiny-{0:012x}.log" not in left


PART = Part("libstdc++6", "1:14.2.0-19", "amd64", "gcc-14", "14.2.0-19", "Debian GCC <a@b>")


def test_a_bill_of_materials_is_spdx() -> None:
    made = sbom.document("debian", "trixie", "abc", [PART])
    assert made["spdxVersion"] == "SPDX-2.3"
    assert made == sbom.document("debian", "trixie", "abc", [PART])
    (top, package) = made["packages"]
    assert made["documentDescribes"] == [top["SPDXID"]]
    assert package["externalRefs"][0]["referenceLocator"] == (
        "pkg:deb/debian/libstdc%2B%2B6@1%3A14.2.0-19?arch=amd64&distro=trixie"
    )
    ids = [part["SPDXID"] for part in made["packages"]]
    assert len(ids) == len(set(ids))
    assert {one["relatedSpdxElement"] for one in made["relationships"]} == set(ids)


@pytest.mark.parametrize("text", ["libstdc++6", "a.b-c", "x+y"])
def test_every_name_makes_an_identifier_that_spdx_allows(text: str) -> None:
    part = Part(text, "1", "amd64", text, "1", "m")
    made = sbom.document("debian", "trixie", "abc", [part])["packages"][1]["SPDXID"]
    assert set(made.removeprefix("SPDXRef-")) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-"
    )
