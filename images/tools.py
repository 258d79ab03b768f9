"""The programs that decide an image's bytes, all from one Debian release.

mke2fs, qemu-img and GRUB's tools of another release write other bytes for the same files. They are
unpacked beside the cache, not installed, and run by their own loader; so Debian 12 and 13 make the
same image.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from images.workbench import Argv, Tools, Workbench, keep_newest, remove, words

SUITE = "trixie"
PACKAGES = words("""
e2fsprogs libarchive13t64 dosfstools mtools fdisk qemu-utils grub-common zstd cpio tar
""")
VERSIONS = "versions.json"
KEPT = 3
"""Sets that stay, those used last: a build of another Seed may be at work with its own."""
EPOCH = 1754697600
"""2025-08-09 00:00 UTC, the day trixie was released: the time of all that a build makes."""


def equip(bench: Workbench, sources: tuple[str, ...]) -> Workbench:
    """The bench with these tools, unpacked once per cache.

    sources: apt source lines of SUITE. Raises HostError when they cannot be had.
    """
    name = hashlib.sha256(json.dumps([SUITE, PACKAGES]).encode()).hexdigest()[:12]
    shelf = bench.shelf.parent / "tools"
    shelf.mkdir(parents=True, exist_ok=True)
    done = shelf / name
    with (shelf / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (done / VERSIONS).exists():
            _unpack(bench, done, sources)
            keep_newest(shelf, VERSIONS, KEPT, "new-")
        os.utime(done / VERSIONS)
    settings = {"MKE2FS_CONFIG": str(done / "root/etc/mke2fs.conf"), "MTOOLSRC": "/dev/null"}
    return replace(
        bench,
        tools=Tools(done / "root", json.loads((done / VERSIONS).read_text())),
        environment={**settings, "SOURCE_DATE_EPOCH": str(EPOCH), "TZ": "UTC"},
    )


def _unpack(bench: Workbench, done: Path, sources: tuple[str, ...]) -> None:
    bench.step("tools")
    for left in done.parent.glob("new-*"):
        remove(left)
    folder = Path(tempfile.mkdtemp(prefix="new-", dir=done.parent))
    folder.chmod(0o755)
    argv: Argv = [
        "unshare",
        "--mount",
        "mmdebstrap",
        "--variant=extract",
        "--mode=root",
        "--architectures=amd64",
    ]
    argv += ["--quiet", "--aptopt=APT::Install-Recommends false", "--skip=cleanup/apt/cache"]
    argv += [f"--include={','.join(PACKAGES)}", SUITE, folder / "root", "-"]
    try:
        bench.run(argv, 900, given="\n".join(sources) + "\n")
        archives = folder / "root/var/cache/apt/archives"
        names = sorted(path.stem for path in archives.glob("*.deb"))
        versions = dict(name.split("_")[:2] for name in names)
        (folder / VERSIONS).write_text(
            json.dumps({name: text.replace("%3a", ":") for name, text in versions.items()})
        )
        shutil.rmtree(archives)
        remove(done)
        folder.rename(done)
    finally:
        remove(folder)
