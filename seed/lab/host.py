"""Commands on the machine the lab runs on."""

import shutil
import subprocess
from pathlib import Path

from provisioning.errors import HostError

PACKAGES = {
    "libvirt-daemon-system": ["/usr/sbin/libvirtd"],
    "libvirt-clients": ["/usr/bin/virsh"],
    "qemu-system-x86": ["/usr/bin/qemu-system-x86_64"],
    "qemu-utils": ["/usr/bin/qemu-img"],
    "openipmi": ["/usr/bin/ipmi_sim"],
    "ovmf": ["/usr/share/OVMF/OVMF_CODE_4M.fd"],
    # Debian 12 and Debian 13
    "ipxe-qemu": ["/usr/lib/ipxe/qemu/pxe-e1000e.rom", "/usr/share/qemu/pxe-e1000e.rom"],
    "python3-libvirt": ["/usr/lib/python3/dist-packages/libvirt.py"],
    "iproute2": ["/usr/sbin/ip"],
}
"""Package -> a file of it, wherever a Debian that we run on has it."""
_HOLE_GIB = 4
"""What a lab writes at most before a server runs full: images are sparse."""


def run(*argv: str, seconds: float = 30.0) -> str:
    """Run a command and return its output; HostError with its last words if it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as err:
        raise HostError(
            f"`{' '.join(argv[:4])}` took longer than {seconds:g} s", "seed lab down"
        ) from err
    except OSError as err:
        raise HostError(f"cannot run {argv[0]}: {err.strerror}", "make packages") from err
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        last = words[-1] if words else f"exit code {done.returncode}"
        raise HostError(f"`{' '.join(argv[:4])}` failed: {last}", "seed lab down")
    return done.stdout


def check_packages() -> None:
    """HostError naming every Debian package that is missing."""
    missing = sorted(
        name for name, files in PACKAGES.items() if not any(Path(f).exists() for f in files)
    )
    if missing:
        names = " ".join(missing)
        raise HostError(f"the lab needs packages that are missing: {names}", f"apt install {names}")


def check_space(directory: Path) -> None:
    """HostError if the file system of `directory` has no room for disks that get written."""
    free = shutil.disk_usage(directory).free / 2**30
    if free < _HOLE_GIB:
        raise HostError(
            f"{directory} has {free:.1f} GiB free, the lab's disks need at least {_HOLE_GIB}",
            "seed lab up --state-dir DIRECTORY",
        )
