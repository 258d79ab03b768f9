"""A Debian root file system by mmdebstrap: no loop device, no mount on this machine.

What mmdebstrap made is kept as an archive in the cache, so that a build with other settings or
site extras starts from there.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from images import reproducible
from images.sbom import Part
from images.workbench import Argv, Workbench, remove

SUITE = "trixie"
COMPONENTS = "main non-free-firmware"
"""non-free-firmware holds what the network and storage cards of real servers load."""

UNREAD = ("man", "doc", "info", "locale", "lintian", "bug", "metainfo")
"""Folders of /usr/share that nobody reads on a server without a screen."""

MINUTES = 60.0
UNSAFE = "force-unsafe-io"  # a build that loses power is built anew; a server is not
FORM = "".join(
    f"${{{name}}}{end}"
    for name, end in (
        ("Package", "\\t"),
        ("Version", "\\t"),
        ("Architecture", "\\t"),
        ("source:Package", "\\t"),
        ("source:Version", "\\t"),
        ("Maintainer", "\\n"),
    )
)
"""What dpkg-query and dpkg-deb -W are asked for: a sbom.Part per line."""
HOOKS = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"


@dataclass(frozen=True, slots=True)
class After:
    """A step after mmdebstrap that is worth keeping too; key: all that decides what it does."""

    run: Callable[[Workbench], None]
    key: str


def base(
    bench: Workbench,
    packages: tuple[str, ...],
    *,
    suite: str = SUITE,
    early: str = "",
    late: str = "",
    after: After | None = None,
) -> None:
    """Fill bench.root with `packages` and all they need, from the cache or anew.

    early, late: shell text that mmdebstrap runs before `packages` are unpacked and after they are
    configured, with the root's path as $1 and apt set up for it in MMDEBSTRAP_APT_CONFIG.
    after: what else belongs to the base.
    """
    asked = [suite, packages, bench.sources, early, late, Path(__file__).read_text()]
    asked += [after.key] if after else []
    key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]
    kept = bench.shelf / "base" / f"{key}.tar.zst"
    if kept.exists() and not bench.fresh:
        bench.step("base from the cache")
        reproducible.unpack(bench, kept, bench.root)
        return
    bench.step("Debian packages")
    since = time.time()
    bootstrap(bench, packages, suite, early, late)
    if after:
        after.run(bench)
    reproducible.settle(bench.root, since)
    _keep(bench, kept)


def bootstrap(
    bench: Workbench, packages: tuple[str, ...], suite: str, early: str, late: str
) -> None:
    """Run mmdebstrap into bench.root."""
    argv: Argv = ["mmdebstrap", "--variant=minbase", "--mode=root", "--architectures=amd64"]
    argv += ["--quiet", "--aptopt=APT::Install-Recommends false", f"--hook-dir={HOOKS}"]
    argv += [f"--dpkgopt={UNSAFE}", "--aptopt=Acquire::Languages none"]
    argv += ["--aptopt=Acquire::Retries 3"]
    argv += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNREAD]
    # The licence texts stay: they are what allows passing these files on.
    argv += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    argv += [f"--include={','.join(packages)}"]
    argv += [f"--essential-hook={early}"] if early else []
    argv += [f"--customize-hook={late}"] if late else []
    given = "\n".join(bench.sources) + "\n"
    bench.run([*argv, suite, bench.root, "-"], 30 * MINUTES, given=given)
    options = bench.root / "etc/dpkg/dpkg.cfg.d/99mmdebstrap"
    options.write_text(options.read_text().replace(f"{UNSAFE}\n", ""))


def _keep(bench: Workbench, kept: Path) -> None:
    """Only the newest base of this recipe is kept: a GB unpacked, a third of that here."""
    archive = bench.work / "base.tar"
    reproducible.pack(bench, bench.root, archive)
    packed = bench.work / "base.tar.zst"
    bench.run(bench.tools.argv("zstd", "-q", "-1", "-T0", "--rm", archive, "-o", packed), 600)
    kept.parent.mkdir(exist_ok=True)
    for old in kept.parent.glob("*"):
        remove(old)
    packed.rename(kept)


def bill(bench: Workbench) -> tuple[Part, ...]:
    """Every Debian package in bench.root."""
    admin = bench.root / "var/lib/dpkg"
    return parts(bench.run(["dpkg-query", f"--admindir={admin}", "-W", "-f", FORM], 60))


def parts(listed: str) -> tuple[Part, ...]:
    """Lines as FORM makes them."""
    return tuple(Part(*line.split("\t")) for line in listed.splitlines())


def mask(root: Path, units: tuple[str, ...]) -> None:
    """Make systemd never start these units, whoever asks."""
    for unit in units:
        link = root / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")


def write(root: Path, files: dict[str, str]) -> None:
    """Write texts below `root`, world-readable: path -> text."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o644)
