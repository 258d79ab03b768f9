"""Builds: same inputs, one build; a failed one leaves its log and nothing else."""

import os
import threading
import time
from pathlib import Path

import pytest

from images import build as builder
from images.bootstrap import SUITE
from images.disk import CONFIG_MIB, MIB, SECTOR, boot_sector, core_image
from images.drivers import Contents
from images.recipes import Made
from images.workbench import Workbench
from provisioning import drive
from provisioning.errors import HostError, NotFound
from provisioning.image import Firmware, Format


class Tiny:
    """A recipe of one file, made by a real command."""

    name, suite, architecture, packages = "tiny", SUITE, "amd64", ("nothing",)
    firmware: tuple[Firmware, ...] = ("bios",)
    format: Format = "raw"
    ssh_user: str | None = None
    min_disk_gib = 0
    scratch_gib = 0
    services: tuple[str, ...] = ()
    root_raid = False
    takes: frozenset[str] = frozenset({"files"})

    def __init__(self, folder: Path, command: list[str], seconds: float = 30) -> None:
        self.inputs = (folder / "input",)
        self.inputs[0].write_text("one")
        self.command, self.seconds, self.made = command, seconds, 0

    def make(self, bench: Workbench) -> Made:
        self.made += 1
        bench.step("running")
        (bench.out / "disk").write_text(bench.run(self.command, self.seconds))
        return Made({"disk": "disk"}, 4, {"all": 4}, Contents((), (), ()), {})


def run(recipe: Tiny, folder: Path) -> builder.Build:
    return builder.build_recipe(recipe, folder / "cache", ("deb x",), print, folder / "logs")


def test_the_same_inputs_are_built_once(tmp_path: Path) -> None:
    recipe = Tiny(tmp_path, ["echo", "disk"])
    first = run(recipe, tmp_path)
    assert run(recipe, tmp_path) == first
    assert recipe.made == 1
    recipe.inputs[0].write_text("two")
    assert run(recipe, tmp_path).digest != first.digest
    assert recipe.made == 2


@pytest.mark.parametrize(
    ("command", "seconds", "why"),
    [
        pytest.param(["false"], 30, "exit code 1", id="fails"),
        pytest.param(["sh", "-c", "sleep 1000 & sleep 1000"], 0.2, "longer than", id="hangs"),
        pytest.param(["no-such-program"], 30, "not installed", id="is missing"),
    ],
)
def test_a_failed_build_leaves_only_its_log(
    tmp_path: Path,
    command: list[str],
    seconds: float,
    why: str,
) -> None:
    with pytest.raises(HostError, match=why) as caught:
        run(Tiny(tmp_path, command, seconds), tmp_path)
    assert caught.value.remedy
    assert [path.name for path in (tmp_path / "cache/tiny").iterdir()] == ["lock"]
    assert command[0] in next((tmp_path / "logs").glob("tiny-*.log")).read_text()


def test_too_little_space_is_said_before_anything_starts(tmp_path: Path) -> None:
    recipe = Tiny(tmp_path, ["echo"])
    recipe.scratch_gib = 1 << 30
    with pytest.raises(HostError, match="GiB free"):
        run(recipe, tmp_path)
    assert recipe.made == 0


def test_what_a_killed_build_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "cache/tiny/work-old/root").mkdir(parents=True)
    run(Tiny(tmp_path, ["echo"]), tmp_path)
    assert not (tmp_path / "cache/tiny/work-old").exists()


def test_two_builds_at_once_make_one(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    recipe = Tiny(tmp_path, ["cat", str(gate)])
    results: list[builder.Build] = []
    threads = [
        threading.Thread(target=lambda: results.append(run(recipe, tmp_path))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while recipe.made == 0 and time.monotonic() < deadline:
        threads[0].join(0.01)
    gate.write_text("disk")  # returns once the command reads
    for thread in threads:
        thread.join(20)
    assert recipe.made == 1
    assert results[0] == results[1]


def test_the_builds_asked_for_last_stay_and_older_ones_go(tmp_path: Path) -> None:
    recipe = Tiny(tmp_path, ["echo", "disk"])
    (tmp_path / "cache/tiny/base").mkdir(parents=True)  # no build: not counted, never goes

    def asked(content: str) -> builder.Build:
        recipe.inputs[0].write_text(content)
        build = run(recipe, tmp_path)
        for mark in (tmp_path / "cache/tiny").glob("*/build.json"):  # time passes
            os.utime(mark, (mark.stat().st_mtime - 100,) * 2)
        return build

    built = {content: asked(content) for content in ("one", "two", "three")}
    assert asked("one") == built["one"], "it is found, and has been used"
    built["four"] = asked("four")

    there = {path.name for path in (tmp_path / "cache/tiny").iterdir()}
    assert there == {built[name].digest for name in ("one", "three", "four")} | {"lock", "base"}
    recipe.command = ["false"]
    with pytest.raises(HostError):
        asked("five")
    assert {path.name for path in (tmp_path / "cache/tiny").iterdir()} == there


def test_an_unknown_recipe_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"debian, .*, ramdisk, "):
        builder.build("windows", tmp_path, (), print, tmp_path)


def test_the_boot_sector_keeps_the_partition_table() -> None:
    boot, table = b"\1" * SECTOR, b"\2" * SECTOR
    sector = boot_sector(boot, table, 2048)
    assert len(sector) == SECTOR
    assert sector[440:] == table[440:]
    assert sector[0x5C:0x64] == (2048).to_bytes(8, "little")


def test_a_core_that_does_not_fit_is_refused() -> None:
    assert core_image(b"\0" * 1024, 2048)[500:508] == (2049).to_bytes(8, "little")
    with pytest.raises(ValueError, match="does not fit"):
        core_image(b"\0" * ((1 << 20) + 1), 2048)


def test_the_largest_config_drive_fits_its_partition() -> None:
    """mkisofs pads its file with 150 sectors, and a drive has each file twice."""
    files = drive.LARGEST + 4 * drive.SECTOR
    assert drive.HEAD + 2 * files + 150 * drive.SECTOR < CONFIG_MIB * MIB // 2
