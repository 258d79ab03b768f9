"""A Debian box for Vagrant's libvirt provider: what is tried on a laptop is what servers get.

Vagrant logs in as `vagrant` with a key that is no secret and that it replaces at the first start;
its public half is taken from Debian's own package of Vagrant. Never deploy this image to a server
that others can reach: its manifest names no login of yours, and anybody has that key.
"""

import gzip
import io
import json
import tarfile
from pathlib import Path

from images.tools import EPOCH
from images.wholedisk import WholeDisk
from images.workbench import Workbench, remove

GIB = 1 << 30
KEYS = "var/lib/vagrant-keys"
FETCH = f"""\
set -eu
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
mkdir -p "$1/{KEYS}/deb"
cd "$1/{KEYS}/deb"
apt-get -qq download vagrant
dpkg-deb -x vagrant_*.deb .
find . -path '*/keys/vagrant.pub' -exec cp '{{}}' ../vagrant.pub ';'
cd ..
rm -rf deb
test -s vagrant.pub
"""
VAGRANTFILE = """\
Vagrant.configure("2") do |config|
  config.vm.synced_folder ".", "/vagrant", disabled: true
  config.vm.provider :libvirt do |libvirt|
    libvirt.driver = "kvm"
    libvirt.disk_bus = "virtio"
  end
end
"""
# No config drive here: an address by DHCP on whatever card there is.
NETWORK = "[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n"


# Without cloud-init nobody else makes it; before the check of the settings, which wants it.
HOST_KEY = "[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\n"


def _login(bench: Workbench) -> None:
    root = bench.root
    bench.run(["chroot", root, "useradd", "-m", "-s", "/bin/bash", "vagrant"], 60)
    (line,) = [
        line for line in (root / "etc/passwd").read_text().splitlines() if line[:8] == "vagrant:"
    ]
    owner = f"{line.split(':')[2]}:{line.split(':')[3]}"
    folder = root / "home/vagrant/.ssh"
    folder.mkdir(mode=0o700)
    (root / KEYS / "vagrant.pub").rename(folder / "authorized_keys")
    remove(root / KEYS)
    (folder / "authorized_keys").chmod(0o600)
    bench.run(["chown", "-R", owner, folder], 60)
    rule = root / "etc/sudoers.d/vagrant"
    rule.write_text("vagrant ALL=(ALL) NOPASSWD:ALL\n")
    rule.chmod(0o440)


def _box(bench: Workbench, size: int) -> dict[str, str]:
    """A tar.gz of metadata.json, Vagrantfile and box.img, as vagrant-libvirt reads it."""
    about = {"provider": "libvirt", "format": "qcow2", "virtual_size": -(-size // GIB)}
    texts = {"metadata.json": json.dumps(about) + "\n", "Vagrantfile": VAGRANTFILE}
    disk = bench.out / "disk.qcow2"
    bench.step("box")
    with (
        (bench.out / "debian.box").open("wb") as file,
        # The disk is compressed already: 1 costs little and gains the header's zeros.
        gzip.GzipFile("", "wb", 1, file, mtime=EPOCH) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as box,
    ):
        for name, text in texts.items():
            box.addfile(_member(name, len(text)), io.BytesIO(text.encode()))
        with disk.open("rb") as content:
            box.addfile(_member("box.img", disk.stat().st_size), content)
    return {"box": "debian.box"}


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, EPOCH, 0o644
    return member


PLUGIN = WholeDisk(
    file=Path(__file__),
    name="vagrant-box",
    late=FETCH,
    texts={
        "etc/systemd/network/90-vagrant.network": NETWORK,
        "etc/cloud/cloud-init.disabled": "",
        "etc/systemd/system/ssh.service.d/keys.conf": HOST_KEY,
    },
    finish=_login,
    export=_box,
    ssh_user="vagrant",
)
