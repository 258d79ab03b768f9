"""Real firmware on the wire: OVMF with its own PXE, and SeaBIOS with iPXE's ROM, in QEMU.

From power-on over our DHCP, TFTP and HTTP to the disk, the order's script, or past us.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from ipxe import dnsmasq
from ipxe.bootspec import Standing, choose
from ipxe.render import write_boot_file
from seed.host import appliance, netns
from seed.host.paths import Paths
from seed.settings import Settings
from tests.fakes.settings import some_settings
from tests.fakes.wire import appliance_namespace, ip

MAC = "52:54:00:22:00:01"
DISK, ORDER = "SEED-LOCAL-DISK", "SEED-IRONIC-SCRIPT"
# OVMF has PXE over IPv6 and HTTP boot before the disk, each with a minute's patience: that it goes
# on to the next entry, and does not stop in its menu, is what our script decides.
# As EDK II 2022 begins with it, and as EDK II 2025 leaves it out for want of a router.
NEXT_ENTRIES = (">>Start PXE over IPv6", 'failed to load Boot0003 "UEFI PXEv6')
OVMF = Path("/usr/share/OVMF")


@pytest.fixture(scope="module")
def wire() -> Iterator[Settings]:
    """dnsmasq and nginx of the appliance, and a tap interface for one server on their wire."""
    base = Path(tempfile.mkdtemp(prefix="seed-test-", dir="/var/tmp"))
    base.chmod(0o755)
    try:
        with appliance_namespace(f"seed-tq-{os.getpid()}") as namespace:
            settings = some_settings(base, namespace=namespace, env_dir=Path(sys.prefix).parent)
            ip("-n", namespace, "tuntap", "add", "tap0", "mode", "tap")
            ip("-n", namespace, "link", "set", "tap0", "master", "prov0", "up")
            try:
                appliance.up(settings, names=["dnsmasq", "nginx"])
                yield settings
            finally:
                appliance.down(settings)
    finally:
        shutil.rmtree(base)


def bios_disk(path: Path) -> Path:
    """A disk whose boot sector writes DISK to the first serial port, and stops."""
    code = bytes.fromhex("fc 31c0 8ed8 be167c ac 84c0 7406 baf803 ee ebf5 f4 ebfd")
    sector = (code + DISK.encode() + b"\r\n\0").ljust(510, b"\0") + b"\x55\xaa"
    path.write_bytes(sector.ljust(2**20, b"\0"))
    return path


def uefi_disk(path: Path) -> Path:
    """An empty disk: OVMF is only followed to the entry after ours."""
    path.write_bytes(bytes(2**20))
    return path


def empty_disk(path: Path) -> list[str]:
    """QEMU's arguments for the first disk of a BIOS server."""
    path.write_bytes(bytes(2**20))
    drive = f"if=none,id=e,format=raw,file={path}"
    return ["-drive", drive, "-device", "ide-hd,drive=e,bus=ide.1,bootindex=2"]


def arguments(firmware: str, folder: Path) -> list[str]:
    """QEMU's arguments for a server that boots from the network first, then from its disk."""
    net = "tap,id=n,ifname=tap0,script=no,downscript=no"
    common = ["-m", "512", "-display", "none", "-monitor", "none", "-netdev", net]
    common += ["-serial", f"file:{folder}/console", "-drive"]
    if firmware.startswith("bios"):
        disk = bios_disk(folder / "disk")
        common += [f"if=none,id=d,format=raw,file={disk}", "-machine", "q35,graphics=off"]
        common += ["-device", f"e1000e,netdev=n,mac={MAC},bootindex=1"]
        common += ["-device", "ide-hd,drive=d,bootindex=3"]
        return common if firmware == "bios" else [*common, *empty_disk(folder / "empty")]
    shutil.copy(OVMF / "OVMF_VARS_4M.fd", folder / "vars")
    disk = uefi_disk(folder / "disk")
    common += [f"if=none,id=d,format=raw,file={disk}", "-machine", "q35"]
    common += ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF}/OVMF_CODE_4M.fd"]
    common += ["-drive", f"if=pflash,format=raw,file={folder}/vars"]
    # No ROM: OVMF's own PXE fetches our loader over TFTP, as a physical server's would.
    common += ["-device", f"virtio-net-pci,netdev=n,mac={MAC},bootindex=1,romfile="]
    # Firmware from 2024 on has no network without a source of randomness (CVE-2023-45237).
    common += ["-device", "virtio-rng-pci"]
    return [*common, "-device", "virtio-blk-pci,drive=d,bootindex=2"]


def console_until(settings: Settings, firmware: str, folder: Path, *wanted: str) -> str:
    """Power on, wait for one of `wanted` on the serial console, power off; return the console."""
    argv = ["qemu-system-x86_64", "-accel", "tcg", *arguments(firmware, folder)]
    console = folder / "console"
    server = subprocess.Popen([*netns.prefix(settings.namespace), *argv], stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 180
        while True:
            text = console.read_text("utf-8", "replace") if console.exists() else ""
            if any(word in text for word in wanted):
                return text
            assert server.poll() is None, server.stderr and server.stderr.read()
            assert time.monotonic() < end, f"no {wanted} on the console:\n{text}"
            time.sleep(0.1)
    finally:
        server.kill()
        server.wait(10)
        if server.stderr:
            server.stderr.close()


@pytest.mark.parametrize(
    ("firmware", "standing", "script", "wanted", "said"),
    [
        pytest.param("uefi", Standing.UNKNOWN, False, DISK, "nothing to boot", id="a stranger"),
        pytest.param("bios", Standing.IDLE, False, DISK, "booting the local disk", id="idle"),
        pytest.param(
            "bios+empty",
            Standing.IDLE,
            False,
            DISK,
            "booting the local disk",
            id="image on the second disk",
        ),
        pytest.param("bios", Standing.ORDERED, True, ORDER, "", id="an order"),
        pytest.param(
            "uefi", Standing.ORDERED, False, DISK, "is not there", id="an order that ended"
        ),
    ],
)
def test_boot(
    wire: Settings,
    tmp_path: Path,
    firmware: str,
    standing: Standing,
    script: bool,
    wanted: str,
    said: str,
) -> None:
    hyphened = MAC.replace(":", "-")
    dnsmasq.write_host(Paths(wire).hosts, MAC, IPv4Address("172.22.0.11"), "node-1")
    (wire.http_dir / "boot" / hyphened).unlink(missing_ok=True)
    if standing is not Standing.UNKNOWN:
        write_boot_file(wire.http_dir, MAC, choose(standing, MAC, wire.boot_url))
    order = Paths(wire).ironic_http / "pxelinux.cfg" / hyphened
    order.parent.mkdir(exist_ok=True)
    order.unlink(missing_ok=True)
    if script:
        order.write_text(f"#!ipxe\necho {ORDER}\nsleep 60\n", encoding="utf-8")
    begin = time.monotonic()
    if firmware == "uefi" and wanted == DISK:
        text = console_until(wire, firmware, tmp_path, *NEXT_ENTRIES)
    else:
        text = console_until(wire, firmware, tmp_path, wanted)
    print(f"{firmware}, {standing}: {time.monotonic() - begin:.0f} s")
    assert said in text
