"""The same files from the same inputs, byte for byte.

What a package brings has its package's time already. What the build itself wrote, or was written
by a package's scripts, gets EPOCH; identities are derived from the inputs, not drawn.
"""

import hashlib
import os
import struct
from pathlib import Path
from uuid import UUID

from images.tools import EPOCH
from images.workbench import Argv, Workbench, remove

TAR = (
    "--sort=name", "--numeric-owner", "--format=pax", "--xattrs", "--xattrs-include=security.*",
    "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
)  # fmt: skip

# Made on each machine anew, or of no use on another one; what a name means is in the comments.
FLEETING = (
    "var/cache/ldconfig/aux-cache",  # inode numbers
    "var/cache/debconf/*-old",
    "var/lib/dpkg/*-old",
    "var/lib/apt/lists/*",
    "var/cache/apt/*",
    "var/log/journal",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "var/lib/dbus/machine-id",
    "etc/ssh/ssh_host_*",
    "etc/.pwd.lock",
    "etc/*-",  # passwd- and its like: as they were one package ago
    "etc/nvme/host*",  # who a server is to its storage: made from its own UUID where it is asked
    "root/.wget-hsts",
    "run/*",
    "tmp/*",
)


def identity(inputs: str, what: str) -> UUID:
    """The UUID that `what` has in an image of these inputs: random by look, the same each time."""
    digest = hashlib.sha256(f"{inputs} {what}".encode()).digest()
    return UUID(bytes=digest[:16], version=4)


def settle(root: Path, since: float) -> None:
    """Take out what differs between two runs.

    since: time.time() before the first file was written. Byte code of Python is tied to its
    source's time again, which may be another now.
    """
    _clear(root)
    paths = sorted(root.rglob("*"), reverse=True)  # what is in a folder before the folder
    for path in paths:
        if path.is_symlink() or not path.is_dir():
            _clamp(path, since)
    for cached in root.rglob("__pycache__/*.pyc"):
        _retie(cached)
    for path in [*paths, root]:
        _clamp(path, since)


def _clear(root: Path) -> None:
    for pattern in FLEETING:
        for path in root.glob(pattern):
            remove(path)
    for path in (root / "var/log").rglob("*"):  # the folders are some services' own
        if not path.is_dir():
            remove(path)


def pack(bench: Workbench, root: Path, archive: Path) -> None:
    """One tar of a root file system, in the order of names, with owners and capabilities."""
    bench.run(bench.tools.argv("tar", *TAR, "-C", root, "-cf", archive, "."), 600)


def unpack(bench: Workbench, archive: Path, root: Path) -> None:
    """The other way round; a name ending in .zst is inflated on the way."""
    root.mkdir(parents=True, exist_ok=True)
    argv: Argv = ["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", archive]
    bench.run([*argv, "-C", root], 600)


def _clamp(path: Path, since: float) -> None:
    if path.lstat().st_mtime >= since:
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)


def _retie(cached: Path) -> None:
    """Header of a .pyc (PEP 552): magic, flags, then the source's time and size for flags 0."""
    source = cached.parent.parent / f"{cached.name.split('.')[0]}.py"
    if not source.exists():
        return
    before, status = cached.stat(), source.stat()
    size, mtime = status.st_size & 0xFFFFFFFF, int(status.st_mtime) & 0xFFFFFFFF
    with cached.open("r+b") as file:
        file.seek(4)
        file.write(struct.pack("<III", 0, mtime, size))
    os.utime(cached, ns=(before.st_atime_ns, before.st_mtime_ns))
