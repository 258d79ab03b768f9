"""A bootable whole disk in a file: one GPT for BIOS and UEFI, without loop devices or mounts.

Layout, in sectors of 512 bytes: partition 1 "bios" (1 MiB, GRUB's core), 2 "esp" (FAT, UEFI's
loaders), 4 "config" (1 MiB, where the agent puts a config drive), 3 "root" (ext4, last on the disk,
so that it can grow on first boot).

The agent looks for a file system labelled config-2 and writes the config drive over it; else it
makes a partition at the end of the disk, a dozen programs and four looks of udev. Ours are smaller
than half of it: provisioning/drive.py.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

from images import reproducible
from images.workbench import Argv, Workbench, words

SECTOR = 512
MIB = 1 << 20
BIOS_START, ESP_START, ESP_MIB = 1 * MIB, 2 * MIB, 64
CONFIG_START, CONFIG_MIB, CONFIG_LABEL = ESP_START + ESP_MIB * MIB, 1, "config-2"
ROOT_START = CONFIG_START + CONFIG_MIB * MIB
GPT_TAIL = MIB  # the backup table needs 33 sectors; a whole MiB keeps the end aligned

# GPT type codes: UEFI 2.10, section 5.3.3, and the Discoverable Partitions Specification.
TABLE = """\
label: gpt
label-id: {disk}
start={bios}, size=2048, name=bios, uuid={bios_id}, type=21686148-6449-6E6F-744E-656564454649
start={esp}, size={esp_size}, name=esp, uuid={esp_id}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
start={root}, size={root_size}, name=root, uuid={root_id}, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709
start={config}, size={config_size}, name=config, uuid={config_id}, type={data}
"""

DATA = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"

# Everything the menu written by update-grub loads is inside already, so that no module file has
# to be found on disk.
BIOS_MODULES = words("""
biosdisk part_gpt part_msdos ext2 search search_fs_uuid search_label normal configfile linux
gzio echo test serial terminal loadenv regexp sleep reboot halt ls cat minicmd all_video
gfxterm true mdraid1x mdraid09 diskfilter
""")

# GRUB before 2.12-9 cannot read these; mkfs of newer hosts would switch them on.
EXT4_FEATURES = "^metadata_csum_seed,^orphan_file"


@dataclass(frozen=True, slots=True)
class Identity:
    """What partitions are found by, derived from all that the image is made of. Never a label: a
    server may have two disks with an image of ours on them."""

    inputs: str

    def guid(self, what: str) -> str:
        return str(reproducible.identity(self.inputs, what))

    @property
    def root(self) -> str:
        """UUID of the root file system."""
        return self.guid("root file system")

    @property
    def esp(self) -> str:
        """Serial number of the ESP as blkid writes it: 1A2B-3C4D."""
        serial = self.guid("esp file system")[:8].upper()
        return f"{serial[:4]}-{serial[4:]}"

    def early_config(self) -> str:
        """What GRUB runs first, however it was started: find the root, read its menu."""
        return (
            f"search --no-floppy --fs-uuid --set=root {self.root}\n"
            "set prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n"
        )


@dataclass(frozen=True, slots=True)
class Loaders:
    """GRUB and shim, as files of Debian's packages in the image.

    bios: folder with GRUB's modules for i386-pc. efi: path on the ESP -> file.
    """

    bios: Path
    efi: dict[str, Path]


def assemble(
    bench: Workbench, root_mib: int, identity: Identity, loaders: Loaders
) -> tuple[Path, int]:
    """Make the disk of bench.root, which is gone then; return its sparse raw file and its size in
    bytes."""
    raw = bench.work / "disk.raw"
    size = ROOT_START + root_mib * MIB + GPT_TAIL
    with raw.open("wb") as disk:
        disk.truncate(size)
    table = TABLE.format(
        disk=identity.guid("disk"),
        bios=BIOS_START // SECTOR,
        bios_id=identity.guid("bios partition"),
        esp=ESP_START // SECTOR,
        esp_size=ESP_MIB * MIB // SECTOR,
        esp_id=identity.guid("esp partition"),
        root=ROOT_START // SECTOR,
        root_size=root_mib * MIB // SECTOR,
        root_id=identity.guid("root partition"),
        config=CONFIG_START // SECTOR,
        config_size=CONFIG_MIB * MIB // SECTOR,
        config_id=identity.guid("config partition"),
        data=DATA,
    )
    bench.run(bench.tools.argv("sfdisk", "--quiet", raw), 60, given=table)
    _insert(raw, _esp(bench, identity, loaders), ESP_START)
    _insert(raw, _config(bench, identity), CONFIG_START)
    _bios(bench, raw, identity, loaders)
    _root(bench, raw, root_mib, identity)
    return raw, size


def _root(bench: Workbench, disk: Path, mib: int, identity: Identity) -> None:
    """The root file system, written into its place from a sorted archive: a folder's order is not
    the same on another machine, nor are its times of change."""
    archive = bench.work / "root.tar"
    reproducible.pack(bench, bench.root, archive)
    bench.discard(bench.root)
    options = f"offset={ROOT_START},hash_seed={identity.guid('hash')},root_owner=0:0"
    argv: Argv = ["-t", "ext4", "-q", "-F", "-L", "root", "-U", identity.root, "-m", "1"]
    argv += ["-E", options, "-O", EXT4_FEATURES, "-d", archive, disk, f"{mib}m"]
    bench.run(bench.tools.argv("mke2fs", *argv), 600)
    archive.unlink()


def _esp(bench: Workbench, identity: Identity, loaders: Loaders) -> Path:
    part = bench.work / "esp.part"
    config = bench.work / "esp-grub.cfg"
    config.write_text(identity.early_config())
    serial = identity.esp.replace("-", "")
    kib = ESP_MIB * MIB // 1024
    argv: Argv = ["--invariant", "-F", "32", "-n", "ESP", "-i", serial, "-C", part, str(kib)]
    bench.run(bench.tools.argv("mkfs.fat", *argv), 60)
    folders = ("::/EFI", "::/EFI/BOOT", "::/EFI/debian")
    bench.run(bench.tools.argv("mmd", "-i", part, *folders), 60)
    for target, source in {**loaders.efi, "EFI/debian/grub.cfg": config}.items():
        bench.run(bench.tools.argv("mcopy", "-i", part, source, f"::/{target}"), 60)
    return part


def _config(bench: Workbench, identity: Identity) -> Path:
    """Empty: a system that finds nothing in it goes on without a config drive."""
    part = bench.work / "config.part"
    serial = identity.guid("config file system")[:8]
    argv: Argv = ["--invariant", "-n", CONFIG_LABEL, "-i", serial, "-C", part]
    bench.run(bench.tools.argv("mkfs.fat", *argv, str(CONFIG_MIB * MIB // 1024)), 60)
    return part


def _insert(disk: Path, part: Path, offset: int) -> None:
    """Copy a partition into the disk; zeros stay holes, so the file stays sparse."""
    with part.open("rb") as source, disk.open("r+b") as target:
        target.seek(offset)
        while chunk := source.read(MIB):
            if any(chunk):
                target.write(chunk)
            else:
                target.seek(len(chunk), 1)
    part.unlink()


def _bios(bench: Workbench, disk: Path, identity: Identity, loaders: Loaders) -> None:
    """GRUB for BIOS: boot.img in the first sector, its core in partition 1.

    What grub-bios-setup would do, which wants a real block device. Offsets from GRUB's
    include/grub/i386/pc/boot.h and grub-core/boot/i386/pc/diskboot.S.
    """
    config, core = bench.work / "bios-grub.cfg", bench.work / "core.img"
    config.write_text(identity.early_config())
    argv: Argv = ["-d", loaders.bios, "-O", "i386-pc", "-p", "/boot/grub", "-c", config]
    bench.run(bench.tools.argv("grub-mkimage", *argv, "-o", core, *BIOS_MODULES), 120)
    with disk.open("r+b") as target:
        protective = target.read(SECTOR)
        boot = (loaders.bios / "boot.img").read_bytes()
        target.seek(0)
        target.write(boot_sector(boot, protective, BIOS_START // SECTOR))
        target.seek(BIOS_START)
        target.write(core_image(core.read_bytes(), BIOS_START // SECTOR))


def boot_sector(boot: bytes, protective: bytes, core_sector: int) -> bytes:
    """GRUB's boot.img over the MBR that sfdisk wrote, told where its core starts.

    The disk's signature and partition table, from byte 440 on, stay. At 0x66 lies a jump that
    is only right on floppies; on hard disks it is two NOPs.
    """
    sector = bytearray(boot[:440] + protective[440:SECTOR])
    struct.pack_into("<Q", sector, 0x5C, core_sector)
    sector[0x66:0x68] = b"\x90\x90"
    return bytes(sector)


def core_image(core: bytes, core_sector: int) -> bytes:
    """GRUB's core, told where its second sector and all that follow are. At most 1 MiB.

    The last 12 bytes of its first sector are its block list: start (8), count (2), segment (2).
    """
    if len(core) > ESP_START - BIOS_START:
        raise ValueError(f"GRUB's core has {len(core)} bytes and does not fit its partition")
    patched = bytearray(core)
    struct.pack_into("<Q", patched, SECTOR - 12, core_sector + 1)
    return bytes(patched)


def compress(bench: Workbench, raw: Path, name: str) -> None:
    """raw -> compressed qcow2 in out/; the raw file goes.

    In order: written out of order (-W) it is another file each time, and with zstd not faster.
    The agent writes a compressed image cluster by cluster, and waits for the disk after each: for
    `debian` 7,397 times with the usual 64 KiB, 587 with 1 MiB, and that is a twentieth smaller
    (2 MiB: 339, and larger again).
    """
    options = ["-c", "-o", "compression_type=zstd,cluster_size=1M", "-m", "8"]
    argv = bench.tools.argv("qemu-img", "convert", "-O", "qcow2", *options, raw, bench.out / name)
    bench.run(argv, 1200)
    raw.unlink()
