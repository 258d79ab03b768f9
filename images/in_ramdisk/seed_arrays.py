"""A hardware manager of ironic-python-agent 13: arrays without a part on a kept disk are forgotten,
and disks write what they keep in caches of their own.

The agent erases no disk that is, or has a partition that is, a member of an md array. It leaves
those to `raid.delete_configuration`, which asks nobody what is kept, and fails on an array that
does not run, as a disk from another server brings it: "Unable to clean all softraid correctly". So
that is off. Runs in the ramdisk, before `erase_devices_metadata`; its errors fail the clean.
"""

import errno
import os
from pathlib import Path
from typing import Any, ClassVar

from ironic_python_agent import errors, hardware, utils

BLOCK = Path("/sys/block")
MEMBER, TIMEOUT = "linux_raid_member", 180  # as blkid calls it; seconds, more than udevadm's own
STEP: dict[str, Any] = {
    "step": "forget_arrays",
    "priority": 15,  # erase_devices_metadata has 10 (ironic.conf)
    "interface": "deploy",
    "reboot_requested": False,
    "abortable": True,
}


class Arrays(hardware.HardwareManager):  # type: ignore[misc]  # the agent has no types
    HARDWARE_MANAGER_NAME: ClassVar[str] = "SeedArrays"
    HARDWARE_MANAGER_VERSION: ClassVar[str] = "1"

    def evaluate_hardware_support(self) -> int:
        return int(hardware.HardwareSupport.MAINLINE)

    def get_clean_steps(self, node: Any, ports: Any) -> list[dict[str, Any]]:  # noqa: ANN401
        return [STEP]

    def full_sync(self) -> None:
        """Before the power goes. The agent's own leaves what a disk itself has not written yet;
        fsync of a block device has it flushed (block/fops.c, blkdev_fsync)."""
        failed = []
        for name in sorted(path.name for path in BLOCK.iterdir() if (path / "device").exists()):
            try:
                _flush(f"/dev/{name}")
            except OSError as problem:  # the others are still to be flushed
                failed.append(f"{name}: {problem.strerror}")
        if failed:
            raise errors.BlockDeviceError(f"not flushed: {', '.join(failed)}")

    def forget_arrays(self, node: Any, ports: Any) -> None:  # noqa: ANN401
        """Of disks that may be erased: arrays are stopped, then their superblocks zeroed.

        Raises CleaningError for an array of which a kept disk has one part and another the other.
        """
        free = _free(node)
        arrays = {array: members for array, members in _arrays().items() if members & free}
        for array, members in arrays.items():
            if members - free:
                raise errors.CleaningError(
                    f"the array {array} is on {', '.join(sorted(members))}, and "
                    f"{', '.join(sorted(members - free))} is to be kept, the rest is not"
                )
        stacked = {member for members in arrays.values() for member in members}
        for array in sorted(arrays, key=lambda name: name in stacked):  # the upper ones first
            _run("mdadm", "--stop", array)
        _run("udevadm", "settle")
        for name in sorted(_free(node)):  # without the arrays that were among them
            if _run("lsblk", "--nodeps", "--noheadings", "-o", "FSTYPE", name) == MEMBER:
                _run("mdadm", "--zero-superblock", name)
        _run("udevadm", "settle")


def _flush(path: str) -> None:
    try:
        disk = os.open(path, os.O_RDONLY)
    except OSError as problem:
        if problem.errno in (errno.ENOMEDIUM, errno.ENXIO):
            return  # a drive without a medium
        raise
    try:
        os.fsync(disk)
    finally:
        os.close(disk)


def _run(*argv: str) -> str:
    """What it printed; raises the agent's own errors."""
    told, _ = utils.execute(*argv, timeout=TIMEOUT)
    return str(told).strip()


def _free(node: Any) -> set[str]:  # noqa: ANN401
    """Disks, partitions and arrays that are to be erased. An array is none where a disk is kept."""
    listed = hardware.dispatch_to_managers(
        "list_block_devices_check_skip_list", node, include_partitions=True
    )
    return {device.name for device in listed}


def _arrays() -> dict[str, set[str]]:
    """/dev/md127 -> the devices that it is on, whether it runs or lacks some. Those on none are no
    arrays: the driver makes one where somebody opened its name."""
    found = {
        f"/dev/{path.name}": {f"/dev/{member.name}" for member in path.glob("slaves/*")}
        for path in sorted(BLOCK.glob("md*"))
    }
    return {array: members for array, members in found.items() if members}
