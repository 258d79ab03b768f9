"""Debian with ironic-python-agent that runs from memory: what all of our ramdisks have in common.

Kernel and initramfs, no initramfs-tools and no second root: the whole system runs from memory.
Every MB costs each boot of each server, so what no server needs is left out.
"""

import fnmatch
import inspect
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from images import bootstrap, drivers, layers, mirror, reproducible, tools, workbench
from images.bootstrap import SUITE, mask, write
from images.drivers import FIRMWARE_PACKAGES, Modules
from images.recipes import Made
from images.workbench import Argv, Workbench, remove, size_of, words
from provisioning.image import Firmware, Format

LOCK = Path(__file__).with_name("recipes") / "agent.lock.txt"
ARRAYS = Path(__file__).with_name("in_ramdisk") / "seed_arrays.py"
# The agent finds its hardware managers by what is installed beside it.
ARRAYS_INSTALLED = {
    "METADATA": "Metadata-Version: 2.1\nName: seed-arrays\nVersion: 1\n",
    "entry_points.txt": "[ironic_python_agent.hardware_managers]\nseed = seed_arrays:Arrays\n",
}
AGENT = "opt/ironic-python-agent"
PYTHON = "3.13"  # of Debian trixie; the lock is made for it

PACKAGES = words("""
systemd-sysv udev iproute2 kmod python3 procps psmisc ca-certificates
# what the agent runs to list, erase, partition and write disks
util-linux-extra fdisk gdisk parted dosfstools e2fsprogs mdadm hdparm nvme-cli smartmontools
qemu-utils bsdextrautils efibootmgr
# what is in the server, and its BMC from inside
dmidecode lshw pciutils usbutils ethtool ipmitool chrony
""")

# Paths below kernel/ of the modules to keep; what they need comes along.
MODULES = words("""
drivers/net/ethernet/* drivers/net/phy/* drivers/net/mdio/* drivers/net/virtio_net*
drivers/net/bonding/* drivers/net/vmxnet3/* drivers/net/hyperv/* net/8021q/* net/802/* net/packet/*
drivers/net/usb/cdc_ether* drivers/net/usb/rndis_host*  # the network of a BMC by USB
drivers/scsi/* drivers/ata/* drivers/nvme/* drivers/message/* drivers/md/* drivers/cdrom/*
drivers/block/loop.* drivers/block/virtio_blk.* drivers/block/xen-blkfront.* drivers/nvdimm/*
drivers/dax/* drivers/ufs/* drivers/mmc/* drivers/virtio/* drivers/hv/* drivers/pci/*
drivers/char/ipmi/* drivers/char/hw_random/* drivers/firmware/* drivers/edac/* drivers/acpi/*
drivers/usb/host/* drivers/usb/storage/* drivers/usb/core/* drivers/usb/common/*
drivers/hid/hid.* drivers/hid/hid-generic.* drivers/hid/usbhid/*
drivers/dca/* drivers/dma/ioat/* drivers/ptp/ptp.* drivers/pps/* drivers/i2c/busses/i2c-i801*
fs/ext4/* fs/xfs/* fs/fat/* fs/isofs/* fs/udf/* fs/squashfs/* fs/efivarfs/*
fs/nls/nls_ascii* fs/nls/nls_cp437* fs/nls/nls_iso8859-1.* fs/nls/nls_utf8* crypto/crc*
arch/x86/crypto/crc*
""")
# Blobs of MBs each for cards that are not sold for years now: every server would pay for them at
# each boot.
UNWANTED_FIRMWARE = words("liquidio/* netronome/* ct*fw* cbfw*")

MASKED = words("""
# nobody logs in here
getty@.service serial-getty@.service container-getty@.service console-getty.service getty.target
autovt@.service debug-shell.service systemd-logind.service systemd-user-sessions.service
systemd-ask-password-console.path systemd-ask-password-wall.path
# nothing is kept, so there is nothing to tidy, flush or refresh
apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_all.timer
e2scrub_reap.service systemd-tmpfiles-clean.timer systemd-journal-flush.service ldconfig.service
systemd-random-seed.service systemd-pstore.service systemd-hwdb-update.service
systemd-firstboot.service systemd-sysusers.service systemd-machine-id-commit.service
systemd-remount-fs.service systemd-update-done.service systemd-journal-catalog-update.service
systemd-networkd-persistent-storage.service systemd-udev-load-credentials.service
# not used here
systemd-timesyncd.service modprobe@.service systemd-hibernate-clear.service systemd-binfmt.service
systemd-pcrmachine.service systemd-pcrphase.service systemd-pcrphase-sysinit.service
systemd-tpm2-setup.service systemd-tpm2-setup-early.service chrony.service hdparm.service
proc-sys-fs-binfmt_misc.automount sys-fs-fuse-connections.mount sys-kernel-tracing.mount
sys-kernel-debug.mount dev-hugepages.mount uuidd.socket systemd-hostnamed.socket
systemd-sysext.socket openipmi.service ipmievd.service ipmitool.service
# these watch or change disks on their own, which here is the agent's work alone
smartmontools.service smartd.service mdmonitor.service mdmonitor-oneshot.timer mdcheck_start.timer
mdcheck_continue.timer nvmf-autoconnect.service nvmefc-boot-connections.service
""")

DROPPED = words("""
usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/lintian usr/share/bug
usr/share/bash-completion usr/share/zsh usr/share/perl5 usr/share/zoneinfo usr/share/pixmaps
usr/share/common-licenses usr/share/i18n usr/share/debconf usr/share/metainfo
usr/lib/python3.13/test usr/lib/python3.13/idlelib usr/lib/python3.13/ensurepip
usr/lib/python3.13/turtledemo usr/lib/python3.13/tkinter usr/lib/python3.13/pydoc_data
opt/ironic-python-agent/netaddr/eui/*.txt opt/ironic-python-agent/tzdata/zoneinfo/*/
usr/lib/udev/hwdb.bin usr/lib/udev/hwdb.d usr/lib/x86_64-linux-gnu/gconv boot
# nothing is installed any more
var/lib/apt var/lib/dpkg var/cache var/log etc/apt etc/cron.daily usr/lib/apt usr/lib/dpkg
usr/bin/apt* usr/bin/dpkg* usr/bin/sqv usr/bin/perl* usr/lib/x86_64-linux-gnu/perl-base
usr/lib/x86_64-linux-gnu/libapt-p* usr/lib/x86_64-linux-gnu/libdb-5*
usr/bin/qemu-storage-daemon usr/bin/qemu-nbd usr/bin/qemu-io usr/bin/localedef usr/bin/openssl
usr/sbin/smartd usr/sbin/ipmievd usr/sbin/debugfs usr/sbin/tc
# no login, swap, root or resume to be generated; the one for ESPs would mount a server's disk
usr/lib/systemd/system-generators
""")

UNIT = """\
[Unit]
Description=Ironic Python Agent
Wants=network-online.target
After=network-online.target
[Service]
ExecStart=/usr/bin/python3 /usr/lib/ironic-python-agent --config-dir /etc/ironic-python-agent
Restart=always
RestartSec=5
StandardOutput=journal+console
StandardError=journal+console
[Install]
WantedBy=multi-user.target
"""
# Its log of requests has the token by which it does what it is told; the console shows that log.
SETTINGS = """\
[DEFAULT]
use_stderr = true
default_log_levels = urllib3=WARN,stevedore=WARN,ironic_python_agent.api=WARN
"""
# Agent 13 looks only each five seconds whether what it was told to do is done, and tells Ironic
# then (agent.py, IronicPythonAgentHeartbeater): at each step of a deploy or a clean half of that
# is lost. After an error it waits 5 to 10 s as before.
START = """\
from ironic_python_agent.agent import IronicPythonAgentHeartbeater as Heartbeater
from ironic_python_agent.cmd.agent import run

Heartbeater.min_heartbeat_interval = 1
Heartbeater.min_error_jitter_multiplier, Heartbeater.max_error_jitter_multiplier = 5.0, 10.0
run()
"""
NETWORK = """\
[Match]
Type=ether
Kind=!*
[Link]
RequiredForOnline=routable
[Network]
DHCP=ipv4
LinkLocalAddressing=ipv6
LLDP=no
[DHCPv4]
ClientIdentifier=mac
"""
# Several NICs may be on the provisioning wire (a bond's, say), and only the one that booted has an
# address that is the node's: what is said to Seed goes out by that one. iPXE names it in BOOTIF,
# as 52:54:00:12:34:56 or, pxelinux's way, as 01-52-54-00-12-34-56.
BOOT_NIC = """\
#!/bin/sh
set -eu
mac=
for word in $(cat /proc/cmdline); do
    case $word in BOOTIF=*) mac=$(printf %s "${word#BOOTIF=}" | tr A-F- a-f:) ;; esac
done
case $mac in ??:??:??:??:??:??:??) mac=${mac#??:} ;; esac
case $mac in ??:??:??:??:??:??) ;; *) exit 0 ;; esac
mkdir -p /run/systemd/network
{
    printf '[Match]\\nPermanentMACAddress=%s\\n' "$mac"
    sed 1d /etc/systemd/network/80-dhcp.network
    printf 'RouteMetric=10\\n'
} >/run/systemd/network/70-boot.network
"""
BOOT_NIC_UNIT = """\
[Unit]
Description=The NIC that booted comes first
DefaultDependencies=no
Before=systemd-networkd.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /usr/lib/seed-boot-nic
"""
# One wired port of many is on the provisioning wire; the others may never come up. udev renames a
# NIC when it gets to it, and who waits for the old name waits in vain: so never for long at once,
# and the name is looked up anew each time.
ONLINE = """\
#!/bin/sh
online=/usr/lib/systemd/systemd-networkd-wait-online
mac=$(sed -n s/^PermanentMACAddress=//p /run/systemd/network/70-boot.network 2>/dev/null)
tries=0
while [ -n "$mac" ] && [ $tries -lt 30 ]; do
    name=
    for link in /sys/class/net/*; do
        [ "$(cat "$link/address")" != "$mac" ] || name=${link##*/}
    done
    if [ -z "$name" ]; then
        sleep 1
    elif "$online" --interface="$name" --ipv4 --timeout=2; then
        exit 0
    fi
    tries=$((tries + 1))
done
exec "$online" --any --ipv4 --timeout=120
"""
WAIT = """\
[Service]
ExecStart=
ExecStart=/bin/sh /usr/lib/seed-online
"""
FILES = {
    "etc/hostname": "ramdisk\n",
    "etc/machine-id": "",
    "etc/fstab": "",
    # 5 MB that ipmitool 1.8.19 reads at each start to name vendors. Without any entry it gives up:
    # "Failed to initialize the OEM info dictionary".
    "usr/share/misc/enterprise-numbers.txt": "0\n  Reserved\n    IANA\n      iana&iana.org\n",
    "etc/ironic-python-agent/10-base.conf": SETTINGS,
    "etc/systemd/system/ironic-python-agent.service": UNIT,
    "etc/systemd/network/80-dhcp.network": NETWORK,
    "etc/systemd/system/seed-boot-nic.service": BOOT_NIC_UNIT,
    "usr/lib/seed-boot-nic": BOOT_NIC,
    "usr/lib/seed-online": ONLINE,
    "etc/systemd/system/systemd-networkd-wait-online.service.d/any.conf": WAIT,
    "usr/lib/ironic-python-agent": START,
    # The journal goes with the deploy logs; memory is all there is.
    "etc/systemd/journald.conf.d/memory.conf": "[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\n",
    # qemu-img is started through `python3 -m oslo_concurrency.prlimit` with an empty environment:
    # PYTHONPATH does not reach it, a .pth file does.
    "usr/lib/python3/dist-packages/ironic-python-agent.pth": f"/{AGENT}\n",
}
# Agent 13 has the kernel look at a disk's partitions some six times in a deploy, by `partx -av`
# (utils.py, rescan_device) and `partprobe` (disk_utils.py). The first fails for those that the
# kernel knows already, and is tried three times with pauses; the second takes them all away and
# adds them again, so that udev looks into each anew, and who asks for a label meanwhile finds none:
# the agent makes a second partition for the config drive then (partition_utils.py,
# get_labelled_partition). So where the kernel knows the table as it is, nothing is done.
PARTITIONS = """\
#!/bin/sh
for disk; do :; done
# The shell's own words but for partx: each program costs an emulated server a tenth of a second.
known() {
    table=$(/usr/bin/partx -sgo NR,START,SECTORS "$disk" 2>/dev/null)
    [ -n "$table" ] || return 1
    block=/sys/class/block/${disk##*/} left=0
    for one in "$block"/*/partition; do [ ! -e "$one" ] || left=$((left + 1)); done
    case $disk in *[0-9]) parts=${disk##*/}p ;; *) parts=${disk##*/} ;; esac
    while read -r number start size; do
        one=$block/$parts$number
        [ -e "$one/start" ] && read -r has <"$one/start" && [ "$has" = "$start" ] || return 1
        read -r has <"$one/size" && [ "$has" = "$size" ] || return 1
        left=$((left - 1))
    done <<END
$table
END
    [ $left -eq 0 ]
}
case "${0##*/} $*" in
"partprobe ") exec /usr/sbin/partprobe ;;
"partx -av $disk") set -- /usr/bin/partx -uv "$disk" ;;
"partprobe $disk") set -- /usr/sbin/partprobe "$disk" ;;
partx*) exec /usr/bin/partx "$@" ;;
*) exec /usr/sbin/partprobe "$@" ;;
esac
udevadm settle --timeout=60
known && exit 0
"$@"
code=$?
udevadm settle --timeout=60
exit $code
"""
PROGRAMS = ("usr/local/bin/partx", "usr/local/sbin/partprobe")
"""They come before Debian's own in the path of services (systemd.exec(5), $PATH)."""
ENABLED = (
    ("multi-user.target.wants", ("/etc/systemd/system", "ironic-python-agent.service")),
    ("sysinit.target.wants", ("/usr/lib/systemd/system", "systemd-networkd.service")),
    ("sysinit.target.wants", ("/etc/systemd/system", "seed-boot-nic.service")),
    (
        "network-online.target.wants",
        ("/usr/lib/systemd/system", "systemd-networkd-wait-online.service"),
    ),
)

# Unpacked on this side of the chroot: installing a kernel would pull in initramfs-tools.
FETCH = f"""\
set -eu
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
apt-get -qq -y --no-install-recommends --download-only install \\
    linux-image-amd64 {" ".join(FIRMWARE_PACKAGES)}
cd "$1/var/cache/apt/archives"
for deb in linux-image-[0-9]*.deb firmware-*.deb; do dpkg-deb -x "$deb" "$1/extra"; done
# Their names and versions, for the list of packages: dpkg does not know them.
for deb in linux-image-[0-9]*.deb firmware-*.deb; do
    dpkg-deb -W --showformat='{bootstrap.FORM}' "$deb"
done > "$1/extra/bill"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramdisk:
    """Boots over the network or from virtual media, by BIOS and UEFI.

    file:    the recipe's own. more: packages beside PACKAGES. kept: what of DROPPED stays.
    texts:   path below / -> text. enabled: target.wants -> (folder, unit). unmasked: of MASKED.
    """

    file: Path
    name: str
    suite: str = SUITE
    architecture: str = "amd64"
    firmware: tuple[Firmware, ...] = ("bios", "uefi")
    format: Format = "ramdisk"
    more: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    texts: dict[str, str] = field(default_factory=dict)
    enabled: dict[str, tuple[str, str]] = field(default_factory=dict)
    unmasked: tuple[str, ...] = ()
    ssh_user: str | None = None
    min_disk_gib: int = 0
    scratch_gib: int = 4
    services: tuple[str, ...] = ()
    root_raid: bool = False
    takes: frozenset[str] = frozenset({"ca", "packages", "files"})

    @property
    def packages(self) -> tuple[str, ...]:
        return (*PACKAGES, *self.more)

    @property
    def inputs(self) -> tuple[Path, ...]:
        modules = (bootstrap, drivers, layers, mirror, reproducible, tools, workbench)
        helpers = (inspect.getfile(module) for module in modules)
        return (self.file, Path(__file__), LOCK, ARRAYS, *(Path(file) for file in helpers))

    def make(self, bench: Workbench) -> Made:
        bench = tools.equip(bench, mirror.of_suite(bench.sources, tools.SUITE))
        agent = bootstrap.After(_agent, LOCK.read_text() + ARRAYS.read_text())
        bootstrap.base(bench, self.packages, suite=self.suite, late=FETCH, after=agent)
        since = time.time()
        (bench.root / "extra").rename(bench.work / "extra")
        layers.add(bench)
        unpacked = bootstrap.parts((bench.work / "extra/bill").read_text())
        bill = (*bootstrap.bill(bench), *unpacked)
        modules = _kernel(bench)
        self._configure(bench.root)
        contents = drivers.contents(modules, bench.root / "usr/lib/firmware")
        weights = _weights(bench)
        reproducible.settle(bench.root, since)
        bench.step("packing the initramfs")
        _pack(bench)
        return Made(
            files={"kernel": "kernel", "initramfs": "initramfs"},
            virtual_size=0,
            weights=weights,
            contents=contents,
            packages={part.name: part.version for part in bill},
            kernel=modules.folder.name,
            tools=bench.tools.versions,
            bill=bill,
        )

    def _configure(self, root: Path) -> None:
        for pattern in DROPPED:
            for path in root.glob(pattern):
                if str(path.relative_to(root)) not in self.kept:
                    remove(path)
        write(root, {**FILES, **dict.fromkeys(PROGRAMS, PARTITIONS), **self.texts})
        for name in PROGRAMS:
            (root / name).chmod(0o755)
        mask(root, tuple(unit for unit in MASKED if unit not in self.unmasked))
        for wants, (folder, unit) in [*ENABLED, *self.enabled.items()]:
            link = root / "etc/systemd/system" / wants / unit
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(f"{folder}/{unit}")
        (root / "var/log").mkdir(exist_ok=True)
        (root / "init").symlink_to("/usr/lib/systemd/systemd")


def _kernel(bench: Workbench) -> Modules:
    """Kernel to out/, the modules and firmware a server may need to the root."""
    bench.step("kernel modules and firmware")
    extra = bench.work / "extra"
    (kernel,) = (extra / "boot").glob("vmlinuz-*")
    version = kernel.name.removeprefix("vmlinuz-")
    shutil.copyfile(kernel, bench.out / "kernel")
    shutil.copytree(
        extra / "usr/lib/modules" / version,
        bench.root / "usr/lib/modules" / version,
        symlinks=True,
    )
    bench.run(["depmod", "-b", bench.root, version], 120)
    modules = Modules(bench, bench.root, version)
    modules.keep(MODULES)
    bench.run(["depmod", "-b", bench.root, version], 120)
    named = {
        name
        for name in modules.firmware()
        if not any(fnmatch.fnmatch(name, unwanted) for unwanted in UNWANTED_FIRMWARE)
    }
    drivers.copy_firmware(named, extra / "usr/lib/firmware", bench.root / "usr/lib/firmware")
    return modules


def _agent(bench: Workbench) -> None:
    """ironic-python-agent for the ramdisk's Python, fetched from here: a chroot has no network."""
    bench.step("ironic-python-agent")
    target = bench.root / AGENT
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # The lock is complete for PYTHON; pip would ask this Python, not that one, about markers.
    pip += ["--no-deps", "--ignore-requires-python", "--require-hashes", "--no-compile"]
    pip += ["--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}"]
    pip += [f"--abi=cp{PYTHON.replace('.', '')}", "--abi=abi3", "--abi=none"]
    pip += [f"--platform=manylinux_2_{minor}_x86_64" for minor in (34, 28, 17)]
    pip += ["--platform=manylinux2014_x86_64", f"--target={target}", "-r", str(LOCK)]
    bench.run(pip, 900)
    for folder in [*target.rglob("tests"), target / "bin"]:
        remove(folder)
    shutil.copyfile(ARRAYS, target / ARRAYS.name)
    write(target, {f"seed_arrays-1.dist-info/{n}": text for n, text in ARRAYS_INSTALLED.items()})
    argv: Argv = ["chroot", bench.root, "python3", "-m", "compileall", "-q", "-j0", f"/{AGENT}"]
    bench.run(argv, 600)


def _weights(bench: Workbench) -> dict[str, int]:
    root = bench.root
    parts = {
        "modules": size_of(root / "usr/lib/modules"),
        "firmware": size_of(root / "usr/lib/firmware"),
        "agent": size_of(root / AGENT),
        "python": size_of(root / "usr/lib/python3.13") + size_of(root / "usr/lib/python3"),
        "libraries": size_of(root / "usr/lib/x86_64-linux-gnu"),
        "programs": size_of(root / "usr/bin") + size_of(root / "usr/sbin"),
        "systemd and udev": size_of(root / "usr/lib/systemd") + size_of(root / "usr/lib/udev"),
    }
    everything = size_of(root)
    return {
        "kernel": size_of(bench.out / "kernel"),
        **parts,
        "other": everything - sum(parts.values()),
    }


def _pack(bench: Workbench) -> None:
    """newc cpio, then zstd: the kernel unpacks both. Names are sorted, inodes counted anew."""
    archive = bench.work / "initramfs.cpio"
    names = sorted(str(path.relative_to(bench.root)) for path in bench.root.rglob("*"))
    argv = bench.tools.argv(
        "cpio", "-0", "--quiet", "--reproducible", "-o", "-H", "newc", "-F", archive
    )
    bench.run(argv, 300, given="\0".join([".", *names]) + "\0", cwd=bench.root)
    bench.discard(bench.root)
    argv = bench.tools.argv("zstd", "-q", "-T0", "-15", archive, "-o", bench.out / "initramfs")
    bench.run(argv, 900)
