"""The ramdisk's own step: which arrays are forgotten. The agent is a double here; the end-to-end
chain runs it in a ramdisk, on a server with three arrays of which one is kept."""

import errno
import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class BlockDeviceError(Exception):
    pass


class CleaningError(Exception):
    """As the agent's: what is said is `details`."""


@pytest.fixture
def arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, with a server of its own: `free` names, `fstypes`, and what was `run`."""
    agent: Any = ModuleType("ironic_python_agent")
    free: list[str] = []
    fstypes: dict[str, str] = {}
    ran: list[str] = []

    def execute(*argv: str, timeout: float) -> tuple[str, str]:
        """As the programs would: a stopped array is gone, and one that carries another is busy."""
        ran.append(" ".join(argv))
        if argv[:2] == ("mdadm", "--stop"):
            name = argv[2].removeprefix("/dev/")
            assert not list(tmp_path.glob(f"*/slaves/{name}")), f"{name} is busy"
            shutil.rmtree(tmp_path / name)
            free[:] = [other for other in free if other != argv[2]]
        elif argv[0] != "udevadm":
            assert argv[-1] in free, f"{argv[-1]}: not a block device"
        return fstypes.get(argv[-1], "") + "\n", ""

    def dispatch(method: str, node: Any, **told: Any) -> list[Any]:
        assert (method, node, told) == (
            "list_block_devices_check_skip_list", "the node", {"include_partitions": True},
        )  # fmt: skip
        return [SimpleNamespace(name=name) for name in free]

    agent.hardware = SimpleNamespace(
        HardwareManager=object, HardwareSupport=SimpleNamespace(MAINLINE=2),
        dispatch_to_managers=dispatch,
    )  # fmt: skip
    agent.errors = SimpleNamespace(CleaningError=CleaningError, BlockDeviceError=BlockDeviceError)
    agent.utils = SimpleNamespace(execute=execute)
    monkeypatch.setitem(sys.modules, "ironic_python_agent", agent)
    sys.modules.pop("images.in_ramdisk.seed_arrays", None)
    module: Any = importlib.import_module("images.in_ramdisk.seed_arrays")
    monkeypatch.setattr(module, "BLOCK", tmp_path)
    module.free, module.fstypes, module.ran, module.folder = free, fstypes, ran, tmp_path
    yield module
    del sys.modules["images.in_ramdisk.seed_arrays"]


def array(arrays: Any, name: str, *members: str) -> None:
    for member in members:
        (arrays.folder / name / "slaves" / member).mkdir(parents=True)


def changes(arrays: Any) -> list[str]:
    arrays.Arrays().forget_arrays("the node", [])
    return [line for line in arrays.ran if line.startswith("mdadm")]


def test_arrays_on_free_disks_go_and_those_of_kept_ones_stay(arrays: Any) -> None:
    array(arrays, "md125", "sda2", "sdb2")
    array(arrays, "md127", "sdc2")  # sdc is kept
    arrays.free += ["/dev/sda", "/dev/sda1", "/dev/sda2", "/dev/sdb", "/dev/sdb2"]
    arrays.fstypes.update({f"/dev/{n}2": "linux_raid_member" for n in ("sda", "sdb", "sdc")})
    assert changes(arrays) == [
        "mdadm --stop /dev/md125", "mdadm --zero-superblock /dev/sda2",
        "mdadm --zero-superblock /dev/sdb2",
    ]  # fmt: skip


def test_where_nothing_is_kept_arrays_are_disks_themselves_until_they_are_stopped(
    arrays: Any,
) -> None:
    array(arrays, "md126", "sda2")
    array(arrays, "md125", "md126")  # one on the other
    arrays.free += ["/dev/sda", "/dev/sda2", "/dev/md126", "/dev/md125"]
    arrays.fstypes |= {"/dev/sda2": "linux_raid_member", "/dev/md126": "linux_raid_member"}
    assert changes(arrays) == [
        "mdadm --stop /dev/md125", "mdadm --stop /dev/md126", "mdadm --zero-superblock /dev/sda2",
    ]  # fmt: skip


def test_a_member_that_no_array_runs_of_is_forgotten(arrays: Any) -> None:
    arrays.free += ["/dev/sda", "/dev/sda1"]
    arrays.fstypes["/dev/sda1"] = "linux_raid_member"
    assert changes(arrays) == ["mdadm --zero-superblock /dev/sda1"]


def test_what_is_no_array_is_left_alone(arrays: Any) -> None:
    for name in ("sda", "md0"):
        (arrays.folder / name / "slaves").mkdir(parents=True)
    arrays.free += ["/dev/sda", "/dev/sda1"]
    arrays.fstypes["/dev/sda1"] = "ext4"
    assert changes(arrays) == []


def test_an_array_on_a_kept_disk_and_on_another_fails_the_clean_and_nothing_is_zeroed(
    arrays: Any,
) -> None:
    array(arrays, "md125", "sda3")
    array(arrays, "md126", "sda2", "sdc2")
    arrays.free += ["/dev/sda", "/dev/sda2", "/dev/sda3"]
    arrays.fstypes["/dev/sda2"] = "linux_raid_member"
    with pytest.raises(CleaningError, match="/dev/sdc2 is to be kept, the rest is not"):
        changes(arrays)
    assert not [line for line in arrays.ran if line.startswith("mdadm")]


def test_the_step_comes_before_the_agent_erases(arrays: Any) -> None:
    """By the numbers that Ironic is given."""
    conf = (Path(__file__).parents[2] / "seed/host/templates/ironic.conf").read_text()
    told = dict(line.split(" = ") for line in conf.splitlines() if "_priority = " in line)
    (step,) = arrays.Arrays().get_clean_steps("the node", [])
    assert step["priority"] > int(told["erase_devices_metadata_priority"]) > 0
    assert told["delete_configuration_priority"] == "0"
    assert callable(getattr(arrays.Arrays, step["step"]))


def test_each_disk_is_told_to_write_what_it_has_cached(
    arrays: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (("sda", True), ("sdb", True), ("sdc", True), ("loop0", False), ("sr0", True))
    for name, is_one in names:
        (arrays.folder / name).mkdir()
        if is_one:
            (arrays.folder / name / "device").mkdir()
    opened: dict[int, str] = {}
    broken: set[str] = set()
    synced: list[str] = []

    def open_it(path: str, flags: int) -> int:
        if path == "/dev/sr0":
            raise OSError(errno.ENOMEDIUM, "No medium found")
        if path in broken:
            raise OSError(errno.EIO, "Input/output error")
        opened[len(opened) + 1000] = path
        return len(opened) + 999

    told = SimpleNamespace(
        open=open_it, fsync=lambda fd: synced.append(opened[fd]), close=opened.pop,
        O_RDONLY=os.O_RDONLY,
    )  # fmt: skip
    monkeypatch.setattr(arrays, "os", told)
    arrays.Arrays().full_sync()
    assert synced == ["/dev/sda", "/dev/sdb", "/dev/sdc"]
    assert opened == {}
    synced.clear()
    broken.add("/dev/sdb")
    with pytest.raises(
        arrays.errors.BlockDeviceError, match="not flushed: sdb: Input/output error"
    ):
        arrays.Arrays().full_sync()
    assert synced == ["/dev/sda", "/dev/sdc"], "the others are"
