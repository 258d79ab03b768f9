"""The same inputs make the same bytes: a small disk, really built, from scratch and from the cache.

Takes two runs of mmdebstrap with few packages. The whole `debian` was compared by hand.
"""

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from images import bootstrap, build, disk, layers, mirror, reproducible, tools
from images.drivers import Contents
from images.extras import Extras, parse
from images.recipes import Made
from images.workbench import Workbench
from provisioning.image import Firmware, Format
from tests.unit.test_image_extras import KEY, certificate

MIB = 512


@dataclass
class Small:
    """Real partitions, file system, loader and qcow2; no kernel, so it boots nothing."""

    inputs: tuple[Path, ...] = (Path(__file__),)
    name: str = "small"
    suite: str = "trixie"
    architecture: str = "amd64"
    firmware: tuple[Firmware, ...] = ("bios",)
    format: Format = "qcow2"
    packages: tuple[str, ...] = ("grub-pc-bin", "python3-minimal", "ca-certificates")
    ssh_user: str | None = None
    min_disk_gib: int = 1
    scratch_gib: int = 1
    services: tuple[str, ...] = ()
    root_raid: bool = False
    takes: frozenset[str] = layers.ALL
    seen: dict[str, str] = field(default_factory=dict)

    def make(self, bench: Workbench) -> Made:
        bench = tools.equip(bench, bench.sources)
        bootstrap.base(bench, self.packages)
        since = time.time()
        layers.add(bench)
        bill = bootstrap.bill(bench)
        reproducible.settle(bench.root, since)
        for name in ("etc/passwd", "etc/motd", "etc/apt/apt.conf.d/90-site-proxy"):
            path = bench.root / name
            self.seen[name] = path.read_text() if path.is_file() else ""
        keys = bench.root / "home/ops/.ssh/authorized_keys"
        self.seen["keys"] = keys.read_text() if keys.exists() else ""
        trusted = bench.root / "etc/ssl/certs/ca-certificates.crt"
        self.seen["trusted"] = trusted.read_text()
        identity = disk.Identity(hashlib.sha256(json.dumps(self.packages).encode()).hexdigest())
        loaders = disk.Loaders(bench.root / "usr/lib/grub/i386-pc", {})
        raw, size = disk.assemble(bench, MIB, identity, loaders)
        disk.compress(bench, raw, "disk.qcow2")
        packages = {part.name: part.version for part in bill}
        versions = bench.tools.versions
        none = Contents((), (), ())
        return Made({"disk": "disk.qcow2"}, size, {}, none, packages, "", versions, bill)


def run(small: Small, folder: Path, *, extras: Extras | None = None, fresh: bool = False) -> str:
    wanted = build.Wanted(extras or Extras(), fresh)
    made = build.build_recipe(
        small, folder / "cache", mirror.sources(""), print, folder / "logs", wanted
    )
    return hashlib.sha256((made.directory / "disk.qcow2").read_bytes()).hexdigest()


@pytest.mark.timeout(900)
def test_the_same_inputs_make_the_same_bytes_and_an_extra_makes_others(tmp_path: Path) -> None:
    small = Small()
    (tmp_path / "cache").mkdir()
    kept = Path("/var/cache/seed/images/tools")
    kept.mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache/tools").symlink_to(kept)
    first = run(small, tmp_path)
    assert run(small, tmp_path, fresh=True) == first

    authority = certificate(ca=True)
    extras = parse(
        {
            "ca": [authority],
            "proxy": "http://proxy.site:3128",
            "packages": ["hostname", "sudo"],
            "users": [{"name": "ops", "ssh_keys": [KEY], "sudo": True}],
            "files": [{"path": "/etc/motd", "content": "hello"}],
        }
    )
    with_extras = run(small, tmp_path, extras=extras)
    assert with_extras != first
    assert small.seen["etc/motd"] == "hello"
    assert small.seen["keys"] == KEY + "\n"
    assert "ops:x:1000:1000" in small.seen["etc/passwd"]
    assert "proxy.site" in small.seen["etc/apt/apt.conf.d/90-site-proxy"]
    assert authority.strip() in small.seen["trusted"]
    (found,) = [
        made
        for path in (tmp_path / "cache/small").glob("*/build.json")
        if (made := build.load(path.parent)).extras
    ]
    assert "sudo" in found.packages
    assert "base from the cache" in found.phases

    # From the kept base, without extras: as from scratch.
    for path in (tmp_path / "cache/small").glob("*/build.json"):
        path.unlink()
    assert run(small, tmp_path) == first

    logs = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert len(logs) == 2
    assert all(name.startswith("small-") for name in logs)


def test_what_a_disk_says_of_itself_follows_from_its_inputs() -> None:
    one, again, other = (disk.Identity(text) for text in ("a" * 64, "a" * 64, "b" * 64))
    assert (one.root, one.esp) == (again.root, again.esp)
    assert one.root != other.root
    assert len({one.guid(what) for what in ("disk", "hash", "bios partition")}) == 3
