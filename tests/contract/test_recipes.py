"""Every recipe says what it must, and what it builds has what real servers need.

Builds both images unless they are in the cache: some minutes then.
"""

import json
import re
from functools import cache
from pathlib import Path

import pytest

from images import build as builder
from images import mirror
from images.build import CONTENTS, Build
from images.drivers import REQUIRED
from images.recipes import Recipe
from provisioning.image import NAME_PATTERN

CACHE = Path("/var/cache/seed/images")
NAMES = sorted(builder.recipes())
MODULES = (*REQUIRED, "ipmi_msghandler", "ext4", "vfat", "isofs")
FIRMWARE = (
    "tigon/tg3.bin",
    "tigon/tg357766.bin",
    "tigon/tg3_tso.bin",
    "intel/ice/ddp/ice.pkg",
    "qed/qed_init_values_zipped-8.59.1.0.bin",
    "bnx2x/bnx2x-e2-7.13.21.0.fw",
    "bnx2/bnx2-mips-09-6.2.1b.fw",
    "cxgb4/t5fw.bin",
    "ql2500_fw.bin",
    "isci/isci_firmware.bin",
)
WIRE_LIMIT = 200 << 20
"""Bytes of kernel and initramfs that each boot of a ramdisk may fetch."""


@cache
def built(name: str) -> Build:
    return builder.build(name, CACHE, mirror.sources(""), print, CACHE / "logs")


@pytest.fixture(params=NAMES)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return builder.recipes()[request.param]


def test_both_kinds_are_there() -> None:
    assert {"ramdisk", "debian"} <= set(NAMES)


def test_a_recipe_says_what_it_must(recipe: Recipe) -> None:
    assert re.match(NAME_PATTERN, recipe.name)
    assert recipe.architecture == "amd64"
    assert set(recipe.firmware) <= {"bios", "uefi"}
    assert recipe.firmware
    assert recipe.packages
    assert recipe.scratch_gib >= 1
    assert (recipe.min_disk_gib == 0) == (recipe.format == "ramdisk")
    assert (recipe.ssh_user is None) == (recipe.format == "ramdisk")


def test_the_inputs_hold_the_recipe_itself(recipe: Recipe) -> None:
    assert all(path.is_file() for path in recipe.inputs)
    assert recipe.inputs[0].stem == recipe.name
    assert builder.digest_of(recipe) == builder.digest_of(recipe)


@pytest.mark.timeout(1500)
def test_the_build_has_every_file_it_names(recipe: Recipe) -> None:
    build = built(recipe.name)
    roles = {"ramdisk": {"kernel", "initramfs"}, "qcow2": {"disk"}, "raw": {"disk"}}
    assert set(build.files) == roles[recipe.format]
    assert all((build.directory / name).stat().st_size > 0 for name in build.files.values())
    assert build.virtual_size <= recipe.min_disk_gib << 30
    assert all(weight > 0 for weight in build.weights.values())
    assert {"kernel", "modules", "firmware", "libraries"} <= set(build.weights)


@pytest.mark.timeout(1500)
def test_the_build_has_the_drivers_of_real_servers(recipe: Recipe) -> None:
    contents = json.loads((built(recipe.name).directory / CONTENTS).read_text())
    assert set(MODULES) - set(contents["modules"]) == set()


@pytest.mark.timeout(1500)
def test_the_build_has_their_firmware(recipe: Recipe) -> None:
    contents = json.loads((built(recipe.name).directory / CONTENTS).read_text())
    assert set(FIRMWARE) - set(contents["firmware"]) == set()


@pytest.mark.timeout(1500)
def test_the_ramdisk_travels_light() -> None:
    build = built("ramdisk")
    sizes = [(build.directory / name).stat().st_size for name in build.files.values()]
    assert sum(sizes) <= WIRE_LIMIT
