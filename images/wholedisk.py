"""What all of our Debian disks have in common: one GPT for BIOS and UEFI, cloud-init, OpenSSH."""

import hashlib
import inspect
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from images import bootstrap, disk, drivers, layers, mirror, reproducible, tools, workbench
from images.bootstrap import SUITE, write
from images.disk import MIB, Identity, Loaders
from images.drivers import FIRMWARE_PACKAGES, Modules
from images.recipes import Made
from images.workbench import Workbench, size_of, words
from provisioning.image import Firmware, Format

PACKAGES = (
    *words("""
linux-image-amd64 initramfs-tools zstd kmod e2fsprogs dosfstools mdadm
grub-pc-bin grub-efi-amd64-bin grub-efi-amd64-signed shim-signed grub2-common
systemd-sysv systemd-repart systemd-resolved systemd-timesyncd libpam-systemd dbus udev
cloud-init cloud-guest-utils fdisk openssh-server sudo python3
ca-certificates curl ethtool iproute2 iputils-ping ipmitool less netbase nvme-cli pciutils procps
smartmontools vim-tiny
"""),
    *FIRMWARE_PACKAGES,
)
SPARE_MIB = 100
"""Free space of the root until it grows, which is early in the first boot: all of it is written to
each disk."""

BOOT_DRIVERS = words("""
ahci ata_piix ata_generic nvme megaraid_sas mpt3sas smartpqi hpsa aacraid arcmsr mpi3mr isci mptsas
mptspi pm80xx mvsas qla2xxx lpfc sd_mod sr_mod ses virtio_blk virtio_scsi virtio_pci vmw_pvscsi
hv_storvsc xen-blkfront usb_storage uas xhci_pci ehci_pci usbhid hid_generic ext4 dm_mod raid1
""")
"""Where the initrd can find its root. A list, because Debian's "most" is four times as large and
every boot waits for it; udev loads those of them whose hardware is there."""

KERNEL_ARGS = "console=tty0 console=ttyS0,115200n8"
GRUB_MENU = """\
# Boots whatever kernel is installed; update-grub replaces it when the first other one is.
set timeout=0
menuentry "Debian" {{
  search --no-floppy --fs-uuid --set=root {root}
  linux /vmlinuz root=UUID={root} ro {args}
  initrd /initrd.img
}}
"""
GRUB_DEFAULTS = f"""\
# More arguments of the kernel: a file of your own in /etc/default/grub.d, then update-grub.
GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_CMDLINE_LINUX="{KERNEL_ARGS}"
GRUB_TERMINAL="console serial"
GRUB_SERIAL_COMMAND="serial --speed=115200"
GRUB_DISABLE_OS_PROBER=true
"""
FSTAB = """\
UUID={root} / ext4 defaults,errors=remount-ro,x-systemd.growfs 0 1
UUID={esp} /boot/efi vfat umask=0077,nofail,noauto,x-systemd.automount 0 2
"""
CLOUD = """\
# The config drive written with the image is the only place settings come from.
datasource_list: [ConfigDrive, None]
ssh_genkeytypes: [ed25519]
locale: false
growpart: {mode: "off"}
resize_rootfs: false
apt:
  preserve_sources_list: true
system_info:
  network:
    renderers: [networkd]
"""
# The root grows to its disk by systemd-repart and fstab, beside all else that starts: cloud-init's
# growpart is a script of a dozen programs for which the rest of it waits.
REPART = "[Partition]\nType=root\n"
# A server may have ports that nobody plugged in: one that works is enough to go on. Of bonds, VLANs
# and bridges cloud-init's files for networkd have only the addresses; the devices come by Seed's
# files, in the next stage of its first boot: there is nothing to wait for until then.
ONLINE = """\
#!/bin/sh
later=
for file in /etc/systemd/network/*.network; do
    grep -qs -e ^Address= -e ^DHCP=[^n] "$file" || continue
    name=$(sed -n s/^Name=//p "$file")
    if [ -n "${name##*[!a-z0-9.-]*}" ] && [ ! -e "/sys/class/net/$name" ] &&
        ! grep -qsx "Name=$name" /etc/systemd/network/*.netdev; then
        later=yes
    else
        later=
        break
    fi
done
[ -z "$later" ] || exit 0
exec /usr/lib/systemd/systemd-networkd-wait-online --any --timeout=60
"""
WAIT = """\
[Service]
ExecStart=
ExecStart=/bin/sh /usr/lib/seed-online
"""
FILES = {
    "etc/hostname": "localhost\n",
    "etc/machine-id": "",
    "etc/default/grub": GRUB_DEFAULTS,
    "etc/cloud/cloud.cfg.d/90-seed.cfg": CLOUD,
    "etc/repart.d/50-root.conf": REPART,
    "etc/systemd/system/systemd-networkd-wait-online.service.d/any.conf": WAIT,
    "usr/lib/seed-online": ONLINE,
    "etc/ssh/sshd_config.d/90-seed.conf": (
        "PasswordAuthentication no\nHostKey /etc/ssh/ssh_host_ed25519_key\n"
    ),
}
# Listed in initramfs-tools' own "modules" file they would all be loaded at each boot.
INITRD_HOOK = f"""\
#!/bin/sh
[ "$1" = prereqs ] && exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules {" ".join(BOOT_DRIVERS)}
"""
# mmdebstrap asks for the initrd's settings before the kernel's package makes the initrd.
EARLY = f"""\
set -eu
mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/etc/initramfs-tools/hooks"
printf 'MODULES=list\\nCOMPRESS=zstd\\n' > "$1/etc/initramfs-tools/conf.d/seed"
cat > "$1/etc/initramfs-tools/hooks/seed" <<'END'
{INITRD_HOOK}END
chmod 755 "$1/etc/initramfs-tools/hooks/seed"
# The package's own would name the day it was made. Whoever made an array, it is this server's.
mkdir -p "$1/etc/mdadm"
printf 'HOMEHOST <ignore>\\nMAILADDR root\\n' > "$1/etc/mdadm/mdadm.conf"
"""
ENABLED = ("systemd-networkd.service", "systemd-resolved.service", "ssh.service")
CLOCK = ("systemd-timesyncd.service",)
QUIET = words("""
apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service
smartmontools.service openipmi.service ipmievd.service systemd-pstore.service
nvmf-autoconnect.service nvmefc-boot-connections.service grub-common.service
""")
"""Units that are off, and on again by one `systemctl enable`: first boot waits for none of them."""


def _nothing(bench: Workbench) -> None:
    """No more than all disks have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeDisk:
    """Login `ssh_user` with the caller's keys, nobody with a password.

    file:    the recipe's own.
    more:    packages beside PACKAGES; without: those of PACKAGES that it does not have.
    texts:   path below / -> text. enabled, quiet: units that are on or off after boot.
    finish:  the rest, once all is configured. export: makes more files from the finished disk.
    """

    file: Path
    name: str
    suite: str = SUITE
    architecture: str = "amd64"
    firmware: tuple[Firmware, ...] = ("bios", "uefi")
    format: Format = "qcow2"
    more: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    texts: dict[str, str] = field(default_factory=dict)
    enabled: tuple[str, ...] = ENABLED + CLOCK
    quiet: tuple[str, ...] = ()
    finish: Callable[[Workbench], None] = _nothing
    export: Callable[[Workbench, int], dict[str, str]] = lambda bench, size: {}
    late: str = ""
    ssh_user: str | None = "debian"
    min_disk_gib: int = 4
    scratch_gib: int = 6
    services: tuple[str, ...] = ("ssh.service",)
    root_raid: bool = True
    takes: frozenset[str] = layers.ALL

    @property
    def packages(self) -> tuple[str, ...]:
        return tuple(name for name in (*PACKAGES, *self.more) if name not in self.without)

    @property
    def inputs(self) -> tuple[Path, ...]:
        modules = (bootstrap, disk, drivers, layers, mirror, reproducible, tools, workbench)
        helpers = (inspect.getfile(module) for module in modules)
        return (self.file, Path(__file__), *(Path(file) for file in helpers))

    def make(self, bench: Workbench) -> Made:
        bench = tools.equip(bench, mirror.of_suite(bench.sources, tools.SUITE))
        bench = replace(bench, sources=mirror.of_suite(bench.sources, self.suite))
        base = self.packages
        bootstrap.base(bench, base, suite=self.suite, early=EARLY, late=self.late)
        since = time.time()
        layers.add(bench)
        bill = bootstrap.bill(bench)
        packages = {part.name: part.version for part in bill}
        asked = [self.name, bench.inputs, packages, bench.tools.versions, bench.sources]
        identity = Identity(hashlib.sha256(json.dumps(asked).encode()).hexdigest())
        self._configure(bench, identity)
        (kernel,) = (bench.root / "usr/lib/modules").iterdir()
        modules = Modules(bench, bench.root, kernel.name)
        contents = drivers.contents(modules, bench.root / "usr/lib/firmware")
        weights = weigh(bench.root)
        reproducible.settle(bench.root, since)
        bench.step("disk with BIOS and UEFI loaders")
        mib = sum(weights.values()) // MIB * 11 // 10 + SPARE_MIB
        raw, size = disk.assemble(bench, mib, identity, _loaders(bench.root))
        bench.step("compressing the disk")
        disk.compress(bench, raw, "disk.qcow2")
        files = {"disk": "disk.qcow2", **self.export(bench, size)}
        tooling = bench.tools.versions
        return Made(files, size, weights, contents, packages, kernel.name, tooling, bill)

    def _configure(self, bench: Workbench, identity: Identity) -> None:
        bench.step("settings")
        root = bench.root
        write(root, {**FILES, **self.texts})
        write(root, {"etc/fstab": FSTAB.format(root=identity.root, esp=identity.esp)})
        write(root, {"boot/grub/grub.cfg": GRUB_MENU.format(root=identity.root, args=KERNEL_ARGS)})
        for folder in ("boot/efi", "etc/default/grub.d"):
            (root / folder).mkdir(exist_ok=True)
        quiet = present(root, (*QUIET, *self.quiet))
        bench.run(["systemctl", f"--root={root}", "enable", *self.enabled], 60)
        bench.run(["systemctl", f"--root={root}", "disable", *quiet], 60)
        self.finish(bench)
        # All that systemd refreshes after /usr changed is fresh: first boot need not do it again.
        for name in ("etc/.updated", "var/.updated"):
            (root / name).touch()


def present(root: Path, units: tuple[str, ...]) -> list[str]:
    """Those of `units` that there are."""
    return [unit for unit in units if (root / "usr/lib/systemd/system" / unit).exists()]


def _loaders(root: Path) -> Loaders:
    """shim and signed GRUB where firmware looks without a boot entry, so Secure Boot works too."""
    lib = root / "usr/lib"
    return Loaders(
        lib / "grub/i386-pc",
        {
            "EFI/BOOT/BOOTX64.EFI": lib / "shim/shimx64.efi.signed",
            "EFI/BOOT/grubx64.efi": lib / "grub/x86_64-efi-signed/grubx64.efi.signed",
            "EFI/BOOT/mmx64.efi": lib / "shim/mmx64.efi.signed",
        },
    )


def weigh(root: Path) -> dict[str, int]:
    """Part -> bytes, unpacked."""
    kernels = [path for path in (root / "boot").iterdir() if path.name.startswith("vmlinuz")]
    initrds = [path for path in (root / "boot").iterdir() if path.name.startswith("initrd")]
    parts = {
        "kernel": sum(size_of(path) for path in kernels),
        "initrd": sum(size_of(path) for path in initrds),
        "modules": size_of(root / "usr/lib/modules"),
        "firmware": size_of(root / "usr/lib/firmware"),
        "python": sum(size_of(path) for path in (root / "usr/lib").glob("python3*")),
        "libraries": size_of(root / "usr/lib/x86_64-linux-gnu"),
        "programs": size_of(root / "usr/bin") + size_of(root / "usr/sbin"),
        "boot loaders": size_of(root / "usr/lib/grub") + size_of(root / "usr/lib/shim"),
    }
    return {**parts, "other": size_of(root) - sum(parts.values())}
