"""A server as a libvirt domain."""

from collections.abc import Collection
from typing import Literal
from xml.etree import ElementTree as ET

from seed.lab.scenario import Disk, Nic, Scenario, Server
from seed.lab.state import Layout

QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
ET.register_namespace("qemu", QEMU)

BootFirst = Literal["network", "disk"]

OVMF_CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
OVMF_VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd"
KCS_PORT = 9002
"""TCP port of a BMC's system interface, on the BMC's own loopback address."""


def bmc_loopback(scenario: Scenario, server: Server) -> str:
    """A loopback address of the server's own, for what its BMC and its VM say to each other."""
    return f"127.0.1.{scenario.servers.index(server) + 1}"


def tap(scenario: Scenario, server: Server, number: int) -> str:
    """The interface at the other end of a NIC's cable; it exists while the server is on."""
    return f"lab{scenario.servers.index(server)}n{number}"


def _add(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    child = ET.SubElement(parent, tag, attributes)
    child.text = text
    return child


def render(
    scenario: Scenario,
    server: Server,
    layout: Layout,
    first: BootFirst,
    unplugged: Collection[str] = (),
) -> str:
    """The domain's XML, booting from `first` and then from the other. unplugged: MACs."""
    root = ET.Element("domain", {"type": "kvm" if scenario.accelerator == "kvm" else "qemu"})
    _add(root, "name", server.name)
    _add(root, "uuid", str(server.uuid))
    _add(root, "memory", str(server.memory_mib), unit="MiB")
    # Several only without cx16: QEMU 7.2 under TCG corrupts flags (panics at cmpxchg16b).
    _add(root, "vcpu", str(server.cpus))
    _firmware(root, server, layout, first)
    _smbios(root, server)
    _processor(root, scenario, server)
    _add(root, "clock", offset="utc")
    for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", "restart")):
        _add(root, f"on_{event}", action)
    _devices(root, scenario, server, layout, unplugged)
    _raw_arguments(root, scenario, server, layout, first)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _firmware(root: ET.Element, server: Server, layout: Layout, first: BootFirst) -> None:
    os_ = _add(root, "os")
    _add(os_, "type", "hvm", arch="x86_64", machine="q35")
    if server.firmware == "uefi":
        _add(os_, "loader", OVMF_CODE, readonly="yes", type="pflash")
        _add(os_, "nvram", str(layout.nvram(server.name)), template=OVMF_VARS)
    else:
        _add(os_, "bios", useserial="yes")
    order = ("network", "hd") if first == "network" else ("hd", "network")
    for device in order:
        _add(os_, "boot", dev=device)
    _add(os_, "smbios", mode="sysinfo")


def _smbios(root: ET.Element, server: Server) -> None:
    """What dmidecode shows in the server equals what its BMC says."""
    info = _add(root, "sysinfo", type="smbios")
    system = _add(info, "system")
    for name, value in (
        ("manufacturer", server.manufacturer),
        ("product", server.model),
        ("serial", server.serial),
        ("uuid", str(server.uuid)),
    ):
        _add(system, "entry", value, name=name)
    for area in ("baseBoard", "chassis"):
        part = _add(info, area)
        _add(part, "entry", server.manufacturer, name="manufacturer")
        _add(part, "entry", server.serial, name="serial")


SLOW = ("avx2", "avx", "ssse3", "sse4.1", "sse4.2", "aes", "pclmuldq")
"""Emulated, code made for these is slower than what it replaces. OpenSSL under QEMU 7.2: SHA-256 45
MB/s with all but AVX and 96 without, ChaCha20-Poly1305 46 and 150; AES-GCM is the same. Not one
alone: OpenSSL's code for AES wants SSSE3, too."""


def _processor(root: ET.Element, scenario: Scenario, server: Server) -> None:
    features = _add(root, "features")
    _add(features, "acpi")
    _add(features, "apic")
    if scenario.accelerator == "kvm":
        _add(root, "cpu", mode="host-passthrough")
        return
    # The default, 1 GiB of translated code per VM, doubles what a small server takes.
    _add(_add(features, "tcg"), "tb-cache", "256", unit="MiB")
    cpu = _add(root, "cpu", mode="maximum")
    for name in (*(() if server.cx16 else ("cx16",)), *SLOW):
        _add(cpu, "feature", policy="disable", name=name)


def _devices(
    root: ET.Element,
    scenario: Scenario,
    server: Server,
    layout: Layout,
    unplugged: Collection[str],
) -> None:
    devices = _add(root, "devices")
    _add(devices, "emulator", "/usr/bin/qemu-system-x86_64")
    _add(devices, "controller", type="usb", model="none")
    if any(disk.bus == "virtio-scsi" for disk in server.disks):
        _add(devices, "controller", type="scsi", index="0", model="virtio-scsi")
    for number, disk in enumerate(server.disks):
        if disk.bus != "nvme":
            _disk(devices, layout, server, number, disk)
    for number, nic in enumerate(server.nics):
        element = _nic(devices, server, nic, tap(scenario, server, number))
        if nic.mac in unplugged:
            _add(element, "link", state="down")
    for tag in ("serial", "console"):
        port = _add(devices, tag, type="file")
        _add(port, "source", path=str(layout.console(server.name)), append="on")
        _add(port, "target", port="0", **({"type": "serial"} if tag == "console" else {}))
    if server.virtio:
        rng = _add(devices, "rng", model="virtio")
        _add(rng, "backend", "/dev/urandom", model="random")
    _add(devices, "memballoon", model="none")
    _add(_add(devices, "video"), "model", type="vga", vram="16384")


def _disk(
    devices: ET.Element, layout: Layout, server: Server, number: int, disk: Disk
) -> ET.Element:
    element = _add(devices, "disk", type="file", device="disk")
    # unsafe: nobody needs these disks after a power cut of the machine itself.
    _add(element, "driver", name="qemu", type="qcow2", cache="unsafe", discard="unmap")
    _add(element, "source", file=str(layout.disk(server.name, number)))
    bus = "scsi" if disk.bus == "virtio-scsi" else "sata"
    _add(element, "target", dev=f"sd{chr(ord('a') + number)}", bus=bus)
    _add(element, "serial", disk.serial)
    return element


def _nic(devices: ET.Element, server: Server, nic: Nic, interface: str) -> ET.Element:
    element = _add(devices, "interface", type="bridge")
    _add(element, "mac", address=nic.mac)
    _add(element, "source", bridge=nic.network)
    _add(element, "target", dev=interface)
    _add(element, "model", type=nic.model)
    if server.firmware == "uefi":
        # QEMU's own iPXE ROM would hide the firmware's PXE client, which real servers have.
        _add(element, "rom", enabled="no")
    return element


def _raw_arguments(
    root: ET.Element, scenario: Scenario, server: Server, layout: Layout, first: BootFirst
) -> None:
    """What libvirt has no words for: NVMe disks, and the wire to an outside BMC."""
    arguments: list[str] = []
    for number, disk in enumerate(server.disks):
        if disk.bus == "nvme":
            file = f"file={layout.disk(server.name, number)},format=qcow2,cache=unsafe"
            arguments += ["-drive", f"if=none,id=nvme{number},{file}"]
            boot = number if first == "disk" else 90 + number
            device = f"nvme,drive=nvme{number},serial={disk.serial},bootindex={boot}"
            arguments += ["-device", f"{device},bus=pcie.0,addr={0x10 + number:#x}"]
    if server.bmc.protocol == "ipmi":
        host = bmc_loopback(scenario, server)
        wire = f"socket,id=ipmi0,host={host},port={KCS_PORT},reconnect=1"
        arguments += ["-chardev", wire, "-device", "ipmi-bmc-extern,id=bmc0,chardev=ipmi0"]
        arguments += ["-device", "isa-ipmi-kcs,bmc=bmc0"]
    if not arguments:
        return
    line = ET.SubElement(root, f"{{{QEMU}}}commandline")
    for value in arguments:
        ET.SubElement(line, f"{{{QEMU}}}arg", {"value": value})
