"""Debian for the servers that are handed out: whole disk, BIOS and UEFI, cloud-init, OpenSSH."""

import inspect
from dataclasses import dataclass
from pathlib import Path

from images import bootstrap, disk, drivers
from images.bootstrap import SUITE, write
from images.disk import MIB, Identity, Loaders
from images.drivers import FIRMWARE_PACKAGES, Modules
from images.recipes import Made
from images.workbench import Workbench, remove, size_of, words
from provisioning.image import Firmware, Format

PACKAGES = (
    *words("""
linux-image-amd64 initramfs-tools zstd kmod e2fsprogs dosfstools
grub-pc-bin grub-efi-amd64-bin grub-efi-amd64-signed shim-signed grub2-common
systemd-sysv systemd-resolved systemd-timesyncd libpam-systemd dbus udev
cloud-init cloud-guest-utils fdisk openssh-server sudo python3
ca-certificates curl ethtool iproute2 iputils-ping ipmitool less netbase nvme-cli pciutils procps
smartmontools vim-tiny
"""),
    *FIRMWARE_PACKAGES,
)
SPARE_MIB = 400
"""Free space of the root before it grows: what the first boot writes."""

BOOT_DRIVERS = words("""
ahci ata_piix ata_generic nvme megaraid_sas mpt3sas smartpqi hpsa aacraid arcmsr mpi3mr isci mptsas
mptspi pm80xx mvsas qla2xxx lpfc sd_mod sr_mod ses virtio_blk virtio_scsi virtio_pci vmw_pvscsi
hv_storvsc xen-blkfront usb_storage uas xhci_pci ehci_pci usbhid hid_generic ext4 dm_mod
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
UUID={root} / ext4 defaults,errors=remount-ro 0 1
UUID={esp} /boot/efi vfat umask=0077,nofail,noauto,x-systemd.automount 0 2
"""
CLOUD = """\
# The config drive written with the image is the only place settings come from.
datasource_list: [ConfigDrive, None]
ssh_genkeytypes: [ed25519]
locale: false
apt:
  preserve_sources_list: true
system_info:
  network:
    renderers: [networkd]
"""
# A server may have ports that nobody plugged in: one that works is enough to go on.
WAIT = """\
[Service]
ExecStart=
ExecStart=/usr/lib/systemd/systemd-networkd-wait-online --any --timeout=60
"""
FILES = {
    "etc/hostname": "localhost\n",
    "etc/machine-id": "",
    "etc/default/grub": GRUB_DEFAULTS,
    "etc/cloud/cloud.cfg.d/90-seed.cfg": CLOUD,
    "etc/systemd/system/systemd-networkd-wait-online.service.d/any.conf": WAIT,
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
"""
QUIET = words("""
apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service
smartmontools.service openipmi.service ipmievd.service systemd-pstore.service
nvmf-autoconnect.service nvmefc-boot-connections.service grub-common.service
""")
"""Units that are off, and on again by one `systemctl enable`: first boot waits for none of them."""


@dataclass(frozen=True, slots=True)
class Debian:
    """Whole disk; login `debian` with the caller's keys, nobody with a password."""

    name: str = "debian"
    suite: str = SUITE
    architecture: str = "amd64"
    firmware: tuple[Firmware, ...] = ("bios", "uefi")
    format: Format = "qcow2"
    packages: tuple[str, ...] = PACKAGES
    ssh_user: str | None = "debian"
    min_disk_gib: int = 4
    scratch_gib: int = 5

    @property
    def inputs(self) -> tuple[Path, ...]:
        helpers = (inspect.getfile(module) for module in (bootstrap, disk, drivers))
        return (Path(__file__), *(Path(file) for file in helpers))

    def make(self, bench: Workbench) -> Made:
        identity = Identity.new()
        bench.step("Debian packages")
        packages = bootstrap.bootstrap(bench, self.packages, early=EARLY)
        _configure(bench, identity)
        (folder,) = (bench.root / "usr/lib/modules").iterdir()
        modules = Modules(bench, bench.root, folder.name)
        contents = drivers.contents(modules, bench.root / "usr/lib/firmware")
        weights = _weights(bench.root)
        bench.step("disk with BIOS and UEFI loaders")
        mib = sum(weights.values()) // MIB * 11 // 10 + SPARE_MIB
        raw, size = disk.assemble(bench, mib, identity, _loaders(bench.root))
        bench.step("compressing the disk")
        disk.compress(bench, raw, "disk.qcow2")
        return Made({"disk": "disk.qcow2"}, size, weights, contents, packages)


def _configure(bench: Workbench, identity: Identity) -> None:
    root = bench.root
    write(root, FILES)
    write(root, {"etc/fstab": FSTAB.format(root=identity.root, esp=identity.esp)})
    write(root, {"boot/grub/grub.cfg": GRUB_MENU.format(root=identity.root, args=KERNEL_ARGS)})
    (root / "boot/efi").mkdir(exist_ok=True)
    enabled = ("systemd-networkd", "systemd-resolved", "systemd-timesyncd", "ssh")
    bench.run(["systemctl", f"--root={root}", "enable", *enabled], 60)
    bench.run(["systemctl", f"--root={root}", "disable", *_present(root, QUIET)], 60)
    # Identities are made on first boot, not shared by every server with this image.
    for path in [*(root / "etc/ssh").glob("ssh_host_*"), root / "var/lib/dbus/machine-id"]:
        remove(path)
    for name in ("var/cache/apt", "var/lib/apt/lists", "var/log"):
        for path in (root / name).glob("*"):
            remove(path)
    # All that systemd refreshes after /usr changed is fresh: first boot need not do it again.
    for name in ("etc/.updated", "var/.updated"):
        (root / name).touch()


def _present(root: Path, units: tuple[str, ...]) -> list[str]:
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


def _weights(root: Path) -> dict[str, int]:
    kernels = [path for path in (root / "boot").iterdir() if path.name.startswith("vmlinuz")]
    initrds = [path for path in (root / "boot").iterdir() if path.name.startswith("initrd")]
    parts = {
        "kernel": sum(size_of(path) for path in kernels),
        "initrd": sum(size_of(path) for path in initrds),
        "modules": size_of(root / "usr/lib/modules"),
        "firmware": size_of(root / "usr/lib/firmware"),
        "python": size_of(root / "usr/lib/python3") + size_of(root / "usr/lib/python3.13"),
        "libraries": size_of(root / "usr/lib/x86_64-linux-gnu"),
        "programs": size_of(root / "usr/bin") + size_of(root / "usr/sbin"),
        "boot loaders": size_of(root / "usr/lib/grub") + size_of(root / "usr/lib/shim"),
    }
    return {**parts, "other": size_of(root) - sum(parts.values())}


PLUGIN = Debian()
