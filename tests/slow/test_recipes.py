"""Images that the gate does not build: each is built, and the disks are booted."""

import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from images import build as builder
from images import mirror
from images.__main__ import CACHE
from images.build import Build
from tests.slow.log import Log
from tests.slow.vm import machine

COMMON = ("images/wholedisk.py", "images/disk.py", "images/bootstrap.py", "images/reproducible.py")
HOUR = 3600


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="seed-slow-", dir="/var/tmp") as name:
        yield Path(name)


def built(name: str, log: Log) -> Build:
    made = builder.build(name, CACHE, mirror.sources(""), log.say, CACHE / "logs")
    sizes = {file: (made.directory / file).stat().st_size for file in made.files.values()}
    log.say(f"{name} {made.digest}: {made.build_seconds} s, {sizes}, {made.virtual_size} bytes")
    return made


def boots(made: Build, log: Log, folder: Path) -> None:
    """First boot ends with no unit failed, all services on, and the kernel that was said."""
    with machine(log, folder, made.directory / "disk.qcow2") as vm:
        vm.wait()
        assert vm.run("systemctl --failed --no-legend --plain", ok=False).strip() == ""
        assert "status: done" in vm.run("cloud-init status", ok=False)
        assert vm.run("uname -r").strip() == made.kernel
        for unit in made.services:
            assert vm.run(f"systemctl is-active {unit}", ok=False).strip() == "active", unit
        assert vm.run("stat -c %s /etc/machine-id").strip() == "33"
        log.say(vm.run("df -h /; systemd-analyze; swapon --show; free -m"))
        vm.run(f"echo '{DROP_IN}' > /etc/default/grub.d/50-slow.cfg && update-grub", 300)
        assert "seed.slow=1" in vm.run("cat /boot/grub/grub.cfg")
        more = CHECKS.get(made.recipe, {})
        for command, wanted in more.items():
            assert re.search(wanted, vm.run(command, ok=False)), command


DROP_IN = 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX seed.slow=1"'
PODMAN = """\
python3 -c 'import podman, dbus, docker
print(podman.PodmanClient(base_url="unix:///run/podman/podman.sock").ping())'"""
CHECKS = {
    "kubernetes-node": {
        "sysctl -n net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables": r"^1\n1$",
        "systemctl is-enabled docker haproxy keepalived | sort -u": r"^disabled$",
        "swapon --show": r"^$",
        "ctr version | grep -c Version": r"^2$",
        "ls /opt/cni/bin": r"\bbridge\b",
        "systemctl start docker && docker info --format '{{.Driver}} {{.CgroupVersion}}'": r" 2$",
    },
    "overcloud-node": {
        PODMAN: "True",  # the socket of root's that Kolla's own module names
        "chronyc -n sources >/dev/null && echo ok": "ok",
    },
    "openstack-node": {
        "systemctl list-units --state=running --plain | grep -cE 'nova|neutron|maria'": r"^0$",
        "ls /var/lib/mysql | wc -l": r"^0$",
        "systemctl start mariadb && mariadb -e 'select 1'": r"1",
        "nova-manage --version": r"^31\.",
    },
    "debian-bookworm": {"cat /etc/debian_version": r"^12\."},
}


@pytest.mark.slow("images/recipes/kubernetes_node.py", *COMMON)
@pytest.mark.timeout(2 * HOUR)
def test_kubernetes_node(log: Log, folder: Path) -> None:
    boots(built("kubernetes-node", log), log, folder)


@pytest.mark.slow("images/recipes/overcloud_node.py", *COMMON)
@pytest.mark.timeout(2 * HOUR)
def test_overcloud_node(log: Log, folder: Path) -> None:
    boots(built("overcloud-node", log), log, folder)


@pytest.mark.slow("images/recipes/openstack_node.py", *COMMON)
@pytest.mark.timeout(2 * HOUR)
def test_openstack_node(log: Log, folder: Path) -> None:
    boots(built("openstack-node", log), log, folder)


@pytest.mark.slow("images/recipes/debian_bookworm.py", *COMMON)
@pytest.mark.timeout(2 * HOUR)
def test_debian_bookworm(log: Log, folder: Path) -> None:
    boots(built("debian-bookworm", log), log, folder)


@pytest.mark.slow("images/recipes/vagrant_box.py", *COMMON)
@pytest.mark.timeout(2 * HOUR)
def test_vagrant_box(log: Log) -> None:
    made = built("vagrant-box", log)
    with tarfile.open(made.directory / made.files["box"]) as box:
        names = box.getnames()
    assert names == ["metadata.json", "Vagrantfile", "box.img"]


@pytest.mark.slow("images/recipes/rescue.py", "images/inmemory.py")
@pytest.mark.timeout(2 * HOUR)
def test_rescue(log: Log) -> None:
    made = built("rescue", log)
    argv = f"zstd -dc {made.directory / 'initramfs'} | cpio -it --quiet"
    names = subprocess.run(
        ["sh", "-c", argv], capture_output=True, text=True, timeout=300, check=True
    ).stdout.splitlines()
    assert {"usr/sbin/sshd", "usr/bin/ddrescue", "etc/ipa-rescue-config/README"} <= set(names)
    assert not [name for name in names if "ssh_host_" in name]
