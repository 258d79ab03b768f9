"""Every recipe says what it must, and what it builds has what real servers need.

Builds two images unless they are in the cache: some minutes then. The others are built in the slow
lane; here their packages are resolved against the mirror.
"""

import json
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from images import bootstrap, mirror, tools
from images import build as builder
from images.build import CONTENTS, Build
from images.dib import Dib
from images.drivers import REQUIRED
from images.recipes import Recipe
from images.workbench import Workbench
from provisioning.image import NAME_PATTERN

CACHE = Path("/var/cache/seed/images")
NAMES = sorted(builder.recipes())
BUILT = ("debian", "ramdisk")
OF_DEBIAN = [name for name in NAMES if not isinstance(builder.recipes()[name], Dib)]
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


class Enough(Exception):
    """No more of the build is needed."""


class Apt:
    """apt as if nothing were installed: what it would install is what a recipe can have."""

    def __init__(self, folder: Path, suite: str) -> None:
        for name in ("lists/partial", "cache/archives/partial", "etc/preferences.d"):
            (folder / name).mkdir(parents=True)
        lines = mirror.of_suite(mirror.sources(""), suite)
        (folder / "etc/sources.list").write_text("\n".join(lines) + "\n")
        (folder / "status").touch()
        settings = {
            "Dir::State": folder,
            "Dir::State::Lists": folder / "lists",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache",
            "Dir::Etc": folder / "etc",
            "APT::Architecture": "amd64",
            "APT::Install-Recommends": "false",
            "Acquire::Languages": "none",
            "APT::Sandbox::User": "root",
        }
        self.options = [word for k, v in settings.items() for word in ("-o", f"{k}={v}")]
        self("update", seconds=120)

    def __call__(self, *words: str, seconds: float = 60) -> str:
        done = subprocess.run(
            ["apt-get", "-qq", *self.options, *words],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@cache
def built(name: str) -> Build:
    return builder.build(name, CACHE, mirror.sources(""), print, CACHE / "logs")


@pytest.fixture(params=NAMES)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return builder.recipes()[request.param]


@pytest.fixture(params=BUILT)
def built_recipe(request: pytest.FixtureRequest) -> Recipe:
    return builder.recipes()[request.param]


def test_every_kind_is_there() -> None:
    kinds = "ramdisk rescue debian debian-bookworm kubernetes-node overcloud-node openstack-node"
    assert {*kinds.split(), "vagrant-box", "ubuntu", "rocky"} <= set(NAMES)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Apt]:
    """apt with a state of its own for each Debian release that a recipe is made of."""
    suites = {builder.recipes()[name].suite for name in OF_DEBIAN}
    return {suite: Apt(tmp_path_factory.mktemp(suite), suite) for suite in sorted(suites)}


@pytest.mark.parametrize("name", OF_DEBIAN)
@pytest.mark.timeout(300)
def test_the_mirror_has_what_a_recipe_asks_for(name: str, archives: dict[str, Apt]) -> None:
    recipe = builder.recipes()[name]
    # "-s" walks through the installation too, which takes a minute for a thousand packages.
    said = archives[recipe.suite]("--print-uris", "install", *recipe.packages)
    fetched = {line.split()[1].partition("_")[0] for line in said.splitlines()}
    assert set(recipe.packages) <= fetched


@pytest.mark.parametrize("name", OF_DEBIAN)
def test_packages_come_from_the_recipes_own_release(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, asked = builder.recipes()[name], []

    def base(bench: Workbench, *_: object, suite: str, **__: object) -> None:
        asked.append((suite, bench.sources))
        raise Enough

    monkeypatch.setattr(tools, "equip", lambda bench, _: bench)
    monkeypatch.setattr(bootstrap, "base", base)
    bench = Workbench(
        name,
        tmp_path,
        tmp_path,
        mirror.sources("http://mirror.test/debian"),
        tmp_path / "log",
        print,
    )
    with pytest.raises(Enough):
        recipe.make(bench)
    ((suite, given),) = asked
    assert suite == recipe.suite
    assert [line.split()[3] for line in given] == [suite, f"{suite}-updates"]


def test_a_package_that_is_not_there_is_noticed(archives: dict[str, Apt]) -> None:
    with pytest.raises(AssertionError, match="Unable to locate"):
        archives["trixie"]("-s", "install", "kubeadm-of-nobody")


def test_a_recipe_says_what_it_must(recipe: Recipe) -> None:
    assert re.match(NAME_PATTERN, recipe.name)
    assert recipe.architecture == "amd64"
    assert set(recipe.firmware) <= {"bios", "uefi"}
    assert recipe.firmware
    assert recipe.scratch_gib >= 1
    assert (recipe.min_disk_gib == 0) == (recipe.format == "ramdisk")
    assert (recipe.ssh_user is None) == (recipe.format == "ramdisk")


def test_the_inputs_hold_the_recipe_itself(recipe: Recipe) -> None:
    assert all(path.is_file() for path in recipe.inputs)
    assert recipe.inputs[0].stem.replace("_", "-") == recipe.name
    assert builder.digest_of(recipe) == builder.digest_of(recipe)


@pytest.mark.timeout(1500)
def test_the_build_has_every_file_it_names(built_recipe: Recipe) -> None:
    recipe, build = built_recipe, built(built_recipe.name)
    roles = {"ramdisk": {"kernel", "initramfs"}, "qcow2": {"disk"}, "raw": {"disk"}}
    assert set(build.files) == roles[recipe.format]
    assert all((build.directory / name).stat().st_size > 0 for name in build.files.values())
    assert build.virtual_size <= recipe.min_disk_gib << 30
    assert all(weight > 0 for weight in build.weights.values())
    assert {"kernel", "modules", "firmware", "libraries"} <= set(build.weights)
    assert re.match(r"^6\.\d+\.\d+.*-amd64$", build.kernel)


@pytest.mark.timeout(1500)
def test_the_build_has_a_bill_of_its_packages(built_recipe: Recipe) -> None:
    build = built(built_recipe.name)
    bill = json.loads((build.directory / builder.SBOM).read_text())
    listed = {part["name"]: part["versionInfo"] for part in bill["packages"][1:]}
    assert listed == build.packages
    assert any(name.startswith("linux-image-6") for name in listed)


@pytest.mark.timeout(1500)
def test_the_build_has_the_drivers_of_real_servers(built_recipe: Recipe) -> None:
    contents = json.loads((built(built_recipe.name).directory / CONTENTS).read_text())
    assert set(MODULES) - set(contents["modules"]) == set()


@pytest.mark.timeout(1500)
def test_the_build_has_their_firmware(built_recipe: Recipe) -> None:
    contents = json.loads((built(built_recipe.name).directory / CONTENTS).read_text())
    assert set(FIRMWARE) - set(contents["firmware"]) == set()


@pytest.mark.timeout(1500)
def test_the_ramdisk_travels_light() -> None:
    build = built("ramdisk")
    sizes = [(build.directory / name).stat().st_size for name in build.files.values()]
    assert sum(sizes) <= WIRE_LIMIT


@pytest.mark.timeout(1500)
def test_a_disk_is_written_in_large_pieces() -> None:
    """The agent's qemu-img waits for the disk after each cluster of a compressed image."""
    argv = ["qemu-img", "info", "--output=json", str(built("debian").directory / "disk.qcow2")]
    told = json.loads(subprocess.check_output(argv, timeout=60))
    assert told["cluster-size"] == 1 << 20
    assert told["format-specific"]["data"]["compression-type"] == "zstd"
