"""Scripts of the ramdisk: its own address is that of the NIC that booted, whatever else is on its
wire; and partitions that the kernel knows already are no error. And of disks: what a network that
comes later is waited for.
"""

import subprocess
from pathlib import Path

import pytest

from images import inmemory, wholedisk


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


MAC = "52:54:00:22:00:0c"


@pytest.mark.parametrize("boots", [MAC, "52:54:00:22:00:ff", ""])
def test_a_nic_that_is_renamed_while_it_is_waited_for_is_found_again(
    tmp_path: Path, boots: str
) -> None:
    for name, address in (("eth0", MAC), ("eth1", "52:54:00:22:02:04")):
        (tmp_path / "sys" / name).mkdir(parents=True)
        (tmp_path / "sys" / name / "address").write_text(f"{address}\n")
    if boots:
        (tmp_path / "70-boot.network").write_text(f"[Match]\nPermanentMACAddress={boots}\n")
    programs = {
        "sleep": "true",
        "online": f"""cd {tmp_path}; echo "$*" >>asked
            case "$*" in *=eth0*) mv sys/eth0 sys/enp1s0; exit 1 ;; esac""",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    script = inmemory.ONLINE.replace("/sys/class/net", f"{tmp_path}/sys")
    script = script.replace("/run/systemd/network", str(tmp_path))
    script = script.replace("/usr/lib/systemd/systemd-networkd-wait-online", f"{tmp_path}/online")
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(["sh", "-c", script], check=True, timeout=30, env=path)
    asked = (tmp_path / "asked").read_text().splitlines()
    any_nic = "--any --ipv4 --timeout=120"
    named = [f"--interface={name} --ipv4 --timeout=2" for name in ("eth0", "enp1s0")]
    assert asked == (named if boots == MAC else [any_nic])


STATIC = "[Address]\nAddress=10.30.0.10/24\n\n[Match]\nMACAddress=52:54:00:22:00:0b\nName={}\n"
PLAIN = "[Match]\nName={}\n\n[Network]\nDHCP=no\n"
LEASED = "[Match]\nName={}\n\n[Network]\nDHCP=ipv4\n"


@pytest.mark.parametrize(
    ("files", "waits"),
    [
        ({"eth0.network": STATIC.format("eth0")}, True),
        ({"eth0.network": LEASED.format("eth0")}, True),
        ({"eth0.network": LEASED.format("e*")}, True),
        ({"any.network": "[Match]\nType=ether\n[Network]\nDHCP=yes\n"}, True),
        ({"eth0.network": PLAIN.format("eth0"), "bond0.network": STATIC.format("bond0")}, False),
        ({"bond0.network": STATIC.format("bond0"), "v.network": LEASED.format("bond0.30")}, False),
        ({"bond0.network": STATIC.format("bond0"), "eth0.network": STATIC.format("eth0")}, True),
        (
            {"bond0.network": STATIC.format("bond0"), "b.netdev": "[NetDev]\nName=bond0\n"},
            True,
        ),
        ({}, True),
    ],
)
def test_a_disks_first_boot_does_not_wait_for_devices_that_come_later(
    tmp_path: Path, files: dict[str, str], waits: bool
) -> None:
    """As cloud-init 25.1 writes them for a bond with a VLAN."""
    (tmp_path / "sys/eth0").mkdir(parents=True)
    (tmp_path / "network").mkdir()
    for name, text in files.items():
        (tmp_path / "network" / name).write_text(text)
    online = "/usr/lib/systemd/systemd-networkd-wait-online"
    script = wholedisk.ONLINE.replace("/sys/class/net", f"{tmp_path}/sys")
    script = script.replace("/etc/systemd/network", f"{tmp_path}/network")
    script = script.replace(f"exec {online}", "echo waits")
    told = subprocess.run(
        ["sh", "-c", script], check=True, timeout=30, capture_output=True, text=True
    )
    assert (told.stdout, told.stderr) == ("waits --any --timeout=60\n" if waits else "", "")


KNOWN = "1 2048 2048\n2 4096 131072\n10 137216 1247232\n"
"""As `partx -sgo NR,START,SECTORS` has them, but for its spaces."""


@pytest.mark.parametrize(
    ("asked", "table", "told"),
    [
        ("partprobe {disk}", KNOWN, []),
        ("partx -av {disk}", KNOWN, []),
        ("partprobe {disk}", KNOWN[:14], ["partprobe {disk}"]),
        ("partprobe {disk}", KNOWN + "11 1384448 2048\n", ["partprobe {disk}"]),
        ("partx -av {disk}", KNOWN.replace("4096", "4098"), ["partx -uv {disk}"]),
        ("partprobe {disk}", "", ["partprobe {disk}"]),
        ("partprobe -d -s {disk}", KNOWN, ["partprobe -d -s {disk}"]),
        ("partx -d {disk}", KNOWN, ["partx -d {disk}"]),
        ("partx", KNOWN, ["partx"]),
        ("partprobe", KNOWN, ["partprobe"]),  # of all disks: UEFI on an array (efi_utils.py)
    ],
)
@pytest.mark.parametrize("disk", ["sda", "nvme0n1"])
def test_the_kernel_is_told_of_partitions_that_it_does_not_know(
    tmp_path: Path, asked: str, table: str, told: list[str], disk: str
) -> None:
    for number, start, size in (line.split() for line in KNOWN.splitlines()):
        folder = tmp_path / "sys" / disk / f"{disk}{'p' if disk[-1] == '1' else ''}{number}"
        folder.mkdir(parents=True)
        for name, content in (("partition", number), ("start", start), ("size", size)):
            (folder / name).write_text(content + "\n")
    (tmp_path / "table").write_text(table.replace(" ", "   "))
    for name in ("partx", "partprobe", "udevadm"):
        lists = f'[ "$1" = -sgo ] && exec cat {tmp_path}/table\n' if name == "partx" else ""
        says = f'echo "{name} $*" | sed "s/ $//" >> {tmp_path}/told\nexit 3\n'
        (tmp_path / f"real-{name}").write_text(f"#!/bin/sh\n{lists}{says}")
        (tmp_path / f"real-{name}").chmod(0o755)
    script = inmemory.PARTITIONS.replace("/sys/class/block", f"{tmp_path}/sys")
    for path in ("/usr/bin/partx", "/usr/sbin/partprobe", "udevadm"):
        script = script.replace(path, f"{tmp_path}/real-{path.rpartition('/')[2]}")
    name, *words = asked.format(disk=f"/dev/{disk}").split()
    (tmp_path / name).write_text(script)
    done = subprocess.run(["sh", str(tmp_path / name), *words], check=False, timeout=30)
    ran = (tmp_path / "told").read_text().splitlines()
    assert [line for line in ran if "settle" not in line] == [
        line.format(disk=f"/dev/{disk}") for line in told
    ]
    assert done.returncode == (3 if told else 0), "as the real one"
    if told == []:
        assert ran == ["udevadm settle --timeout=60"], "what udev is at is waited for"
