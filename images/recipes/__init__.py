"""What an image recipe is. One more image is one more module here that states PLUGIN."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from images.drivers import Contents
from images.sbom import Part
from images.workbench import Workbench
from provisioning.image import Firmware, Format


@dataclass(frozen=True, slots=True)
class Made:
    """What a recipe left in its bench's `out` folder.

    files:        role -> file name; "disk" for a qcow2, "kernel" and "initramfs" for a ramdisk.
    virtual_size: bytes of the disk once written; 0 for a ramdisk.
    weights:      part -> bytes, unpacked.
    packages:     Debian package -> version.
    kernel:       `uname -r` of what it boots.
    tools:        Debian package -> version, of the programs that wrote the files.
    bill:         what the bill of materials is made of.
    """

    files: Mapping[str, str]
    virtual_size: int
    weights: Mapping[str, int]
    contents: Contents
    packages: Mapping[str, str]
    kernel: str = ""
    tools: Mapping[str, str] = field(default_factory=dict)
    bill: tuple[Part, ...] = ()


class Recipe(Protocol):
    """How one image is made.

    name:         also the name it is published under.
    suite:        Debian release it is made of.
    architecture: Debian's name for it.
    firmware:     what can boot the result.
    packages:     Debian packages asked for; theirs come along.
    inputs:       every file of ours that decides what comes out; its digest is the build's.
    ssh_user:     login it creates for the caller's keys, or None.
    min_disk_gib: smallest disk it may be deployed to, GiB; 0 for a ramdisk.
    scratch_gib:  free space its build needs, GiB.
    services:     systemd units that are active on a server with it.
    root_raid:    its initrd and loaders find a root on software RAID 1.
    takes:        parts of a site's extras (images.extras.Extras) that it can have.
    """

    @property
    def name(self) -> str: ...
    @property
    def suite(self) -> str: ...
    @property
    def architecture(self) -> str: ...
    @property
    def firmware(self) -> tuple[Firmware, ...]: ...
    @property
    def format(self) -> Format: ...
    @property
    def packages(self) -> tuple[str, ...]: ...
    @property
    def inputs(self) -> tuple[Path, ...]: ...
    @property
    def ssh_user(self) -> str | None: ...
    @property
    def min_disk_gib(self) -> int: ...
    @property
    def scratch_gib(self) -> int: ...
    @property
    def services(self) -> tuple[str, ...]: ...
    @property
    def root_raid(self) -> bool: ...
    @property
    def takes(self) -> frozenset[str]: ...

    def make(self, bench: Workbench) -> Made:
        """Make the image in bench.out. Raises HostError when a command fails."""
        ...
