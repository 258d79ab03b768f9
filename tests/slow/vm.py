"""A virtual machine of our own Debian image, with systemd, on wires of its own; no way out."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.wire import ip
from tests.slow.log import Log

IMAGES = Path("/var/cache/seed/images/debian")
HERE, PORT = "172.22.2.254", 8000
# Interface of the namespace: (MAC in the machine, its address there). The first one is ours to
# reach it; all three are what `seed init` is told.
WIRES = {
    "mgmt": ("52:54:00:2e:00:01", "172.22.2.1"),
    "prov": ("52:54:00:2e:00:02", "172.22.0.1"),
    "oob": ("52:54:00:2e:00:03", "172.22.1.1"),
}
MIB, DISK = 4096, "14G"
BOOT_SECONDS = 900.0


def newest_image() -> Path:
    """The image to boot. Fails if none was built: then nothing of this can be tested."""
    found = sorted(IMAGES.glob("*/disk.qcow2"), key=lambda path: path.stat().st_mtime)
    assert found, f"no Debian image in {IMAGES}: make demo, or seed image build debian"
    return found[-1]


class Machine:
    """A running machine: `run` is root's shell on it."""

    def __init__(self, log: Log, folder: Path, namespace: str) -> None:
        self.log, self.folder, self.namespace = log, folder, namespace
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, command: str, timeout: float = 120, *, ok: bool = True) -> str:
        """What `command` prints. Fails unless it ends with 0, if `ok`."""
        return self.log.run([*self._ssh(), command], timeout, ok=ok)

    def python(self, source: str, *words: str, timeout: float = 120) -> str:
        """What a Python program prints there."""
        argv = [*self._ssh(), "python3", "-", *words]
        return self.log.run(argv, timeout, given=source)

    def _ssh(self) -> list[str]:
        options = {
            "UserKnownHostsFile": self.folder / "known_hosts",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": 30,
            "ServerAliveInterval": 30,
            "ControlMaster": "auto",
            "ControlPath": self.folder / "ssh",
            "ControlPersist": "yes",
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        inside = ["ip", "netns", "exec", self.namespace]
        key = str(self.folder / "key")
        return [*inside, "ssh", "-F", "none", "-i", key, *words, f"root@{WIRES['mgmt'][1]}"]

    def wait(self) -> float:
        """Wait until root can log in and first boot is over; return the seconds."""
        begin = time.monotonic()
        argv = [*self._ssh(), "cloud-init status --wait >/dev/null; systemctl is-system-running"]
        while True:
            assert self.process is not None
            assert self.process.poll() is None, "QEMU ended"
            took = time.monotonic() - begin
            assert took < BOOT_SECONDS, f"no login within {took:.0f} s, see {self.folder}/console"
            try:
                done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
            except subprocess.TimeoutExpired:
                continue
            if done.returncode != 255:  # ssh's own failure
                self.log.say(f"booted in {took:.0f} s: {done.stdout.strip()}")
                return took
            time.sleep(2)

    def disconnect(self) -> None:
        """End the shared connection, which runs in the background."""
        argv = [*self._ssh()[:-1], "-O", "exit", self._ssh()[-1]]
        subprocess.run(argv, capture_output=True, timeout=30, check=False)


def _config_drive(folder: Path) -> None:
    """What cloud-init reads: keys, addresses, no password."""
    drive = folder / "drive" / "openstack" / "latest"
    drive.mkdir(parents=True)
    for name in ("key", "host"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name]
        subprocess.run([*argv, "-f", str(folder / name)], check=True, timeout=30)
    public = (folder / "key.pub").read_text()
    host = (folder / "host.pub").read_text()
    (folder / "known_hosts").write_text(f"{WIRES['mgmt'][1]} {host}")
    user_data = {
        "disable_root": False,
        "ssh_authorized_keys": [public.strip()],
        "users": [{"name": "root", "ssh_authorized_keys": [public.strip()]}],
        "ssh_keys": {"ed25519_private": (folder / "host").read_text(), "ed25519_public": host},
    }
    network = {
        "links": [
            {"id": name, "type": "phy", "ethernet_mac_address": mac}
            for name, (mac, _) in WIRES.items()
        ],
        "networks": [
            {
                "id": f"{name}-4", "link": name, "type": "ipv4",
                "ip_address": address, "netmask": "255.255.255.0",
            }
            for name, (_, address) in WIRES.items()
        ],
        "services": [],
    }  # fmt: skip
    meta = {"uuid": "5eed0000-0000-4000-8000-000000000001", "hostname": "seed-slow"}
    (drive / "meta_data.json").write_text(json.dumps(meta))
    (drive / "network_data.json").write_text(json.dumps(network))
    (drive / "user_data").write_text(f"#cloud-config\n{json.dumps(user_data)}\n")
    argv = ["genisoimage", "-quiet", "-R", "-J", "-V", "config-2", "-o", str(folder / "drive.iso")]
    subprocess.run([*argv, str(folder / "drive")], check=True, timeout=60)


def _qemu(folder: Path) -> list[str]:
    disk = f"if=virtio,format=qcow2,cache=unsafe,file={folder / 'disk.qcow2'}"
    argv = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi"]
    argv += ["-m", str(MIB)]
    # One processor: with two of them and cx16 this kernel panics at times under bookworm's
    # emulation, and without cx16 (part of x86-64-v2) numpy's wheel refuses to start.
    argv += ["-cpu", "max", "-smp", "1", "-display", "none", "-nodefaults"]
    argv += ["-serial", f"file:{folder / 'console'}", "-device", "virtio-rng-pci"]
    argv += ["-drive", disk, "-drive", f"if=virtio,readonly=on,format=raw,file={folder}/drive.iso"]
    for name, (mac, _) in WIRES.items():
        argv += ["-netdev", f"tap,id={name},ifname={name},script=no,downscript=no"]
        argv += ["-device", f"virtio-net-pci,netdev={name},mac={mac},romfile="]
    return argv


@contextmanager
def _namespace(name: str) -> Iterator[str]:
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        for wire in WIRES:
            ip("-n", name, "tuntap", "add", wire, "mode", "tap")
            ip("-n", name, "link", "set", wire, "up")
        ip("-n", name, "address", "add", f"{HERE}/24", "dev", "mgmt")
        yield name
    finally:
        ip("netns", "delete", name)


@contextmanager
def machine(log: Log, folder: Path, image: Path | None = None) -> Iterator[Machine]:
    """Boot `image`, or the newest; `folder` takes its files and `folder`/served is at http://HERE:PORT."""
    image = image or newest_image()
    log.say(f"image {image}")
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(image)]
    log.run([*argv, str(folder / "disk.qcow2"), DISK], 60)
    _config_drive(folder)
    (folder / "served").mkdir(exist_ok=True)
    with _namespace(f"seed-slow-{os.getpid()}") as namespace:
        inside = ["ip", "netns", "exec", namespace]
        made = Machine(log, folder, namespace)
        web = [*inside, "python3", "-m", "http.server", str(PORT), "--bind", HERE]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        children = [subprocess.Popen([*web, "-d", str(folder / "served")], **quiet)]
        try:
            made.process = subprocess.Popen([*inside, *_qemu(folder)])
            children.append(made.process)
            yield made
        finally:
            made.disconnect()
            for child in children:
                child.kill()
                child.wait()
            if (folder / "console").exists():
                shutil.copyfile(folder / "console", log.path.with_suffix(".console"))
