"""By which path a disk is found after any boot."""

from typing import Final

from provisioning.installers import NodeFacts
from provisioning.kinds import DataDisk

NVME: Final = ("eui.", "nvme.", "uuid.")
"""How the kernel's `wwid` of an NVMe namespace begins."""


def path_of(disk: DataDisk) -> str:
    """Empty: it told no WWN. "naa." is the ramdisk's or a BMC's word for the same number."""
    wwn = disk.wwn.strip().lower()
    if not wwn:
        return ""
    if wwn.startswith(NVME):
        return f"/dev/disk/by-id/nvme-{wwn}"
    bare = wwn.removeprefix("naa.").removeprefix("0x")
    return f"/dev/disk/by-id/wwn-0x{bare}"


def paths_of(node: NodeFacts, role: str) -> list[str]:
    """Of its disks of this role, by name."""
    return sorted(path_of(disk) for disk in node.disks if disk.role == role)
