"""Which kernel modules and firmware files an image carries, and which a server needs."""

import fnmatch
import hashlib
from dataclasses import dataclass
from pathlib import Path

from images.workbench import Workbench, remove, words

REQUIRED = words("""
tg3 bnxt_en igb ixgbe i40e ice mlx5_core qede e1000e
ahci nvme megaraid_sas mpt3sas smartpqi sd_mod
virtio_net virtio_blk virtio_scsi virtio_pci
ipmi_si ipmi_devintf  # the BMC, from inside
""")
"""Drivers of real servers that every image must have, with all the firmware they name."""

FIRMWARE_PACKAGES = (
    "firmware-bnx2",
    "firmware-bnx2x",
    "firmware-intel-misc",  # ice
    "firmware-linux-free",
    "firmware-misc-nonfree",  # tg3, cxgb4
    "firmware-qlogic",  # qede, qla2xxx
    "firmware-realtek",  # small servers and labs
)


@dataclass(frozen=True, slots=True)
class Contents:
    """What one image carries. missing: firmware that a carried module names and nobody ships."""

    modules: tuple[str, ...]
    firmware: tuple[str, ...]
    missing: tuple[str, ...]


class Modules:
    """The modules of one kernel in a root file system."""

    def __init__(self, bench: Workbench, root: Path, version: str) -> None:
        self.bench = bench
        self.folder = root / "usr/lib/modules" / version
        self.needs = dict(_rules(self.folder / "modules.dep"))

    def names(self) -> tuple[str, ...]:
        """Names as modprobe knows them, built-in ones too."""
        builtin = (self.folder / "modules.builtin").read_text().split()
        return tuple(sorted({_name(path) for path in [*self.needs, *builtin]}))

    def keep(self, wanted: tuple[str, ...]) -> None:
        """Delete every module that neither matches a pattern of `wanted` nor is needed by one.

        Patterns are paths below kernel/, "*" crosses folders.
        """
        kept: set[str] = set()
        for path in self.needs:
            if any(fnmatch.fnmatch(path, f"kernel/{pattern}") for pattern in wanted):
                kept |= {path, *self.needs[path]}
        for path in self.needs.keys() - kept:
            remove(self.folder / path)
        self.needs = {path: self.needs[path] for path in self.needs if path in kept}

    def firmware(self) -> set[str]:
        """Names of the firmware files that these modules may ask for.

        Kept in the cache: every module is unpacked for it, which takes a third of a build.
        """
        total = hashlib.sha256(" ".join(sorted(self.needs)).encode())
        for name in ("modules.alias", "modules.symbols", "modules.order"):
            total.update((self.folder / name).read_bytes())
        kept = self.bench.shelf / "base" / f"firmware-{total.hexdigest()[:12]}"
        if kept.exists() and not self.bench.fresh:
            return set(kept.read_text().split())
        argv = ["modinfo", "-F", "firmware", *sorted(self.needs)]
        names = set(self.bench.run(argv, 120, cwd=self.folder).split())
        kept.parent.mkdir(exist_ok=True)
        kept.write_text("\n".join(sorted(names)))
        return names


def _rules(depfile: Path) -> list[tuple[str, list[str]]]:
    """modules.dep: "<path>: <paths it needs>"; the needs are complete, not one level only."""
    rules = []
    for line in depfile.read_text().splitlines():
        path, _, needs = line.partition(":")
        rules.append((path, needs.split()))
    return rules


def _name(path: str) -> str:
    return Path(path).name.split(".ko")[0].replace("-", "_")


def contents(modules: Modules, firmware_dir: Path) -> Contents:
    """What is there, and which firmware named by a module is not."""
    there = {
        str(path.relative_to(firmware_dir)) for path in firmware_dir.rglob("*") if path.is_file()
    }
    named = modules.firmware()
    missing = {name for name in named if not any(fnmatch.filter(there, name))}
    return Contents(modules.names(), tuple(sorted(there)), tuple(sorted(missing)))


def copy_firmware(names: set[str], source: Path, target: Path) -> None:
    """Copy the named files (patterns), following links, from one firmware folder to another."""
    for path in sorted(source.rglob("*")):
        name = str(path.relative_to(source))
        if path.is_file() and any(fnmatch.fnmatch(name, pattern) for pattern in names):
            copied = target / name
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(path.read_bytes())
            copied.chmod(0o644)
