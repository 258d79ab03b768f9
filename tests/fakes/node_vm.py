"""A server that really boots the Debian image, with a config drive and wires of its own."""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seed.lab.domain import SLOW
from tests.fakes.wire import ip

BOOT_SECONDS = 300  # on two busy cores without KVM


@dataclass
class NodeVm:
    folder: Path
    namespace: str
    address: str
    process: subprocess.Popen[bytes]

    def ssh(self, command: str, timeout: float = 60) -> str:
        options = (
            "BatchMode=yes", "StrictHostKeyChecking=no", f"UserKnownHostsFile={os.devnull}",
            "ConnectTimeout=5", "LogLevel=ERROR",
        )  # fmt: skip
        argv = ["ip", "netns", "exec", self.namespace, "ssh", "-F", "none"]
        argv += ["-i", str(self.folder / "key"), *(w for o in options for w in ("-o", o))]
        done = subprocess.run(
            [*argv, f"debian@{self.address}", command], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        # Not our stdin: ssh makes it non-blocking, for all who have it, and Ansible refuses that.
        if done.returncode:
            raise ConnectionError(done.stderr.strip())
        return done.stdout

    def wait(self) -> float:
        """Until its keys let us in and first boot is over; the seconds."""
        begin = time.monotonic()
        while True:
            assert self.process.poll() is None, "QEMU ended"
            took = time.monotonic() - begin
            assert took < BOOT_SECONDS, self.console()[-4000:]
            try:
                self.ssh("cloud-init status --wait >/dev/null; test $? -ne 1", 200)
            except (ConnectionError, subprocess.TimeoutExpired):
                time.sleep(1)
            else:
                return time.monotonic() - begin

    def console(self) -> str:
        return (self.folder / "console").read_text(errors="replace")


def config_drive(folder: Path, network_data: dict[str, Any], vendor: str) -> None:
    """As Ironic writes it: openstack/latest with four files, label config-2."""
    drive = folder / "drive" / "openstack" / "latest"
    drive.mkdir(parents=True)
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")]
    subprocess.run(argv, check=True, timeout=30)
    public = (folder / "key.pub").read_text().strip()
    meta = {"uuid": "5eed0000-0000-4000-8000-000000000002", "hostname": "wired", "name": "wired"}
    told = {
        "meta_data.json": {**meta, "public_keys": {"0": public}},
        "network_data.json": network_data,
        "vendor_data2.json": {"cloud-init": vendor},
    }
    for name, content in told.items():
        (drive / name).write_text(json.dumps(content))
    (drive / "user_data").write_text("#cloud-config\n{}\n")
    argv = ["genisoimage", "-quiet", "-R", "-J", "-V", "config-2", "-o", str(folder / "drive.iso")]
    subprocess.run([*argv, str(folder / "drive")], check=True, timeout=60)


@contextmanager
def node_vm(
    folder: Path, image: Path, address: str, host: str, macs: Sequence[str]
) -> Iterator[NodeVm]:
    """NICs are taps on one bridge, which has the address `host`; all of it goes afterwards."""
    namespace = f"seed-node-{os.getpid()}"
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(image)]
    subprocess.run([*argv, str(folder / "disk.qcow2"), "6G"], check=True, timeout=60)
    disk = f"if=virtio,format=qcow2,cache=unsafe,file={folder / 'disk.qcow2'}"
    argv = ["ip", "netns", "exec", namespace, "qemu-system-x86_64", "-machine", "q35"]
    cpu = ",".join(("max", *(f"{name}=off" for name in ("cx16", *SLOW))))
    argv += ["-accel", "tcg", "-m", "1024", "-cpu", cpu, "-smp", "2"]
    argv += ["-display", "none", "-nodefaults", "-device", "virtio-rng-pci"]
    argv += ["-serial", f"file:{folder / 'console'}", "-drive", disk]
    argv += ["-drive", f"if=virtio,readonly=on,format=raw,file={folder}/drive.iso"]
    for number, mac in enumerate(macs):
        argv += ["-netdev", f"tap,id=n{number},ifname=n{number},script=no,downscript=no"]
        argv += ["-device", f"virtio-net-pci,netdev=n{number},mac={mac},romfile=,host_mtu=9000"]
    ip("netns", "add", namespace)
    process = None
    try:
        ip("-n", namespace, "link", "set", "lo", "up")
        ip("-n", namespace, "link", "add", "wire0", "type", "bridge")
        for number, _ in enumerate(macs):
            ip("-n", namespace, "tuntap", "add", f"n{number}", "mode", "tap")
            ip("-n", namespace, "link", "set", f"n{number}", "mtu", "9000", "master", "wire0", "up")
        ip("-n", namespace, "address", "add", host, "dev", "wire0")
        ip("-n", namespace, "link", "set", "wire0", "up")
        process = subprocess.Popen(argv)
        yield NodeVm(folder, namespace, address, process)
    finally:
        if process:
            process.kill()
            process.wait(30)
        ip("netns", "delete", namespace)


def newest_debian() -> Path | None:
    folders = [Path("/var/cache/seed/images/debian")]
    found = [path for folder in folders for path in folder.glob("*/disk.qcow2")]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)
