"""Scripts of the ramdisk: its own address is that of the NIC that booted, whatever else is on its
wire; and partitions that the kernel knows already are no error."""

import subprocess
from pathlib import Path

import pytest

from images import inmemory


def network_of(folder: Path, cmdline: str) -> str:
    """What the script leaves for systemd-networkd; empty: nothing."""
    networks = folder / "etc/systemd/network"
    networks.mkdir(parents=True)
    (networks / "80-dhcp.network").write_text(inmemory.NETWORK)
    (folder / "cmdline").write_text(cmdline + "\n")
    script = inmemory.BOOT_NIC.replace("/proc/cmdline", f"{folder}/cmdline")
    script = script.replace("/run/", f"{folder}/run/").replace("/etc/", f"{folder}/etc/")
    subprocess.run(["sh", "-c", script], check=True, timeout=30)
    made = folder / "run/systemd/network/70-boot.network"
    return made.read_text() if made.exists() else ""


@pytest.mark.parametrize(
    "cmdline",
    [
        "quiet BOOTIF=52:54:00:22:00:0C initrd=x",
        "BOOTIF=52-54-00-22-00-0c",
        "quiet BOOTIF=01-52-54-00-22-00-0C",
        "BOOTIF=52:54:00:22:00:0c BOOTIF=52:54:00:22:00:0c",
    ],
)
def test_the_nic_that_booted_is_preferred(tmp_path: Path, cmdline: str) -> None:
    told = network_of(tmp_path, cmdline)
    assert told.startswith("[Match]\nPermanentMACAddress=52:54:00:22:00:0c\nType=ether\n")
    assert told.endswith("[DHCPv4]\nClientIdentifier=mac\nRouteMetric=10\n")


@pytest.mark.parametrize(
    "cmdline", ["quiet", "BOOTIF=", "BOOTIF=eth0", "XBOOTIF=52:54:00:22:00:0c"]
)
def test_without_a_word_of_it_all_are_alike(tmp_path: Path, cmdline: str) -> None:
    assert network_of(tmp_path, cmdline) == ""


def test_a_probe_waits_for_udev_and_ends_as_it_ended(tmp_path: Path) -> None:
    for name in ("partprobe", "udevadm"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/told\nexit 3\n')
        (tmp_path / name).chmod(0o755)
    script = inmemory.PARTPROBE.replace("/usr/sbin/partprobe", str(tmp_path / "partprobe"))
    script = script.replace("udevadm", str(tmp_path / "udevadm"))
    done = subprocess.run(["sh", "-c", script, "x", "/dev/sda"], check=False, timeout=30)
    assert done.returncode == 3
    told = (tmp_path / "told").read_text().splitlines()
    assert told == ["partprobe /dev/sda", "udevadm settle --timeout=60"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [(["-av", "/dev/sda"], "-uv /dev/sda"), (["-d", "/dev/sda"], "-d /dev/sda"), ([], "")],
)
def test_partitions_are_updated_where_the_agent_adds_them(
    tmp_path: Path, asked: list[str], told: str
) -> None:
    program = tmp_path / "partx"
    program.write_text('#!/bin/sh\necho "$@"\nexit 3\n')
    program.chmod(0o755)
    script = inmemory.PARTX.replace("/usr/bin/partx", str(program))
    argv = ["sh", "-c", script, "partx", *asked]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert (done.stdout.strip(), done.returncode) == (told, 3)
