"""Run libvirtd where it cannot touch the machine's own: `python -m ... DIRECTORY`.

Runs inside `ip netns exec`, which gives a mount namespace of its own whose mounts do not come back
to the machine. libvirt's four directories are covered there by empty ones of the lab.
"""

import os
import subprocess
import sys
from pathlib import Path

COVERED = {
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "run": "/run/libvirt",
}
CACHE = Path("/var/cache/seed/libvirt")
"""What libvirt found out about QEMU, which takes seven seconds: shared by all labs, kept by them.
libvirt itself notices a changed QEMU."""

# One user, no cgroups, no security labels: needs neither systemd, dbus nor virtlogd.
QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
"""

LIBVIRTD_CONF = """\
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
unix_sock_ro_perms = "0700"
"""


def main(directory: Path) -> None:
    """Cover libvirt's directories with those below `directory` and become libvirtd."""
    here, starter = Path("/proc/self/ns/mnt"), Path(f"/proc/{os.getppid()}/ns/mnt")
    if here.readlink() == starter.readlink():
        raise SystemExit("refused: these would be the machine's own mounts")
    for name, place in COVERED.items():
        cover(directory / name, Path(place))
    cover(CACHE, Path("/var/cache/libvirt"))
    (directory / "etc" / "qemu.conf").write_text(QEMU_CONF)
    (directory / "etc" / "libvirtd.conf").write_text(LIBVIRTD_CONF)
    os.execv(  # noqa: S606 -- becomes libvirtd, so that the pid file stays true
        "/usr/sbin/libvirtd",
        ["libvirtd", "-f", "/etc/libvirt/libvirtd.conf", "-p", "/run/libvirt/libvirtd.pid"],
    )


def cover(directory: Path, place: Path) -> None:
    """Show `directory` at `place`, in this mount namespace only."""
    directory.mkdir(parents=True, exist_ok=True)
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "--bind", str(directory), str(place)], check=True, timeout=10)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
