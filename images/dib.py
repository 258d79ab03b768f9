"""Other distributions, by OpenStack's diskimage-builder in an environment of its own.

Not the same bytes twice: diskimage-builder takes what the distribution has that day and the time.
"""

import inspect
import json
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from images import workbench
from images.drivers import Contents
from images.recipes import Made
from images.sbom import Part
from images.workbench import Argv, Workbench, words
from provisioning.errors import HostError, Invalid
from provisioning.image import Firmware, Format

ELEMENTS = words("""
vm block-device-efi cloud-init-datasources growroot openssh-server enable-serial-console
package-installs
""")
"""Beside the distribution's own: one GPT for BIOS and UEFI, a root that grows, a config drive."""

PROGRAMS = Path(sys.prefix).parent / "dib" / "bin"
"""Of the locked environment "dib", beside the one this runs in; locks/dib.txt."""

NEEDS = {"sudo": "sudo", "kpartx": "kpartx", "qemu-img": "qemu-utils"}
"""Program that it runs on this machine -> Debian package."""

HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dib:
    """element: the distribution's. suite: its release. mirror: the setting that says where it
    comes from. needs: program -> Debian package, on this machine. packages: beside those of the
    elements. settings: diskimage-builder's."""

    file: Path
    name: str
    element: str
    suite: str
    mirror: str
    ssh_user: str
    packages: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    architecture: str = "amd64"
    firmware: tuple[Firmware, ...] = ("bios", "uefi")
    format: Format = "qcow2"
    min_disk_gib: int = 10
    scratch_gib: int = 15
    services: tuple[str, ...] = ()
    root_raid: bool = False
    takes: frozenset[str] = frozenset({"packages"})
    programs: Path = PROGRAMS
    needs: dict[str, str] = field(default_factory=lambda: dict(NEEDS))

    @property
    def inputs(self) -> tuple[Path, ...]:
        lock = Path(__file__).parents[1] / "locks" / "dib.txt"
        own = (self.file, Path(__file__), Path(inspect.getfile(workbench)))
        return (*own, lock) if lock.exists() else own

    def make(self, bench: Workbench) -> Made:
        program = self.programs / "disk-image-create"
        if not program.exists():
            raise HostError(
                f"image {self.name} is made by diskimage-builder, which is not installed here",
                "make env-dib",
            )
        self._check()
        bench = replace(bench, environment=self._environment(bench))
        bench.step(f"diskimage-builder: {self.element} {self.suite}")
        argv: Argv = [program, "-a", self.architecture, "-t", "qcow2", "-o", bench.work / "disk"]
        wanted = (*self.packages, *bench.extras.packages)
        argv += ["-p", ",".join(wanted)] if wanted else []
        bench.run([*argv, self.element, *ELEMENTS], 2 * HOUR, aside=True)
        (bench.work / "disk.qcow2").rename(bench.out / "disk.qcow2")
        bill = self._bill(bench)
        info: Argv = ["qemu-img", "info", "--output=json", bench.out / "disk.qcow2"]
        size = int(json.loads(bench.run(info, 60))["virtual-size"])
        packages = {part.name: part.version for part in bill}
        weights = {"disk": (bench.out / "disk.qcow2").stat().st_size}
        return Made(
            {"disk": "disk.qcow2"}, size, weights, Contents((), (), ()), packages, bill=bill
        )

    def _check(self) -> None:
        missing = {
            program: package
            for program, package in self.needs.items()
            if not shutil.which(program, path=workbench.SBIN)
        }
        if missing:
            raise HostError(
                f"diskimage-builder needs {', '.join(missing)} here to make {self.name}",
                f"apt-get install --no-install-recommends {' '.join(missing.values())}",
            )

    def _environment(self, bench: Workbench) -> dict[str, str]:
        if bench.mirror and not bench.mirror.startswith(("http://", "https://")):
            raise Invalid(
                f"{bench.mirror!r} is no address of a mirror",
                f"seed image build {self.name} --mirror https://<mirror>/",
            )
        return {
            **self.settings,
            "DIB_RELEASE": self.suite,
            "DIB_CLOUD_INIT_DATASOURCES": "ConfigDrive, None",
            "DIB_SHOW_IMAGE_USAGE": "1",
            "DIB_IMAGE_CACHE": str(bench.shelf / "downloads"),
            "TMP_DIR": str(bench.work),
            "PATH": f"{self.programs}:{workbench.SBIN}",
            **({self.mirror: bench.mirror} if bench.mirror else {}),
        }

    def _bill(self, bench: Workbench) -> tuple[Part, ...]:
        """diskimage-builder's manifest of packages, where its elements write one."""
        found = sorted((bench.work / "disk.d").rglob("dib-manifest-*"))
        parts = []
        for line in (line for path in found for line in path.read_text().splitlines()):
            name, _, version = line.partition("\t" if "\t" in line else " ")
            if version:
                parts.append(
                    Part(name, version.strip(), self.architecture, name, version, "unknown")
                )
        return tuple(parts)
