"""A Debian root file system by mmdebstrap: no loop device, no mount on this machine."""

from pathlib import Path

from images.workbench import Workbench

SUITE = "trixie"
COMPONENTS = "main non-free-firmware"
"""non-free-firmware holds what the network and storage cards of real servers load."""

UNREAD = ("man", "doc", "info", "locale", "lintian", "bug", "metainfo")
"""Folders of /usr/share that nobody reads on a server without a screen."""

MINUTES = 60.0


def bootstrap(
    bench: Workbench, packages: tuple[str, ...], *, early: str = "", late: str = ""
) -> dict[str, str]:
    """Fill bench.root with `packages` and all they need; return package -> version.

    early, late: shell text that mmdebstrap runs before `packages` are unpacked and after they are
    configured, with the root's path as $1 and apt set up for it in MMDEBSTRAP_APT_CONFIG.
    """
    argv = ["mmdebstrap", "--variant=minbase", "--mode=root", "--architectures=amd64", "--quiet"]
    argv += ["--aptopt=APT::Install-Recommends false", "--aptopt=Acquire::Languages none"]
    argv += ["--aptopt=Acquire::Retries 3"]
    argv += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNREAD]
    # The licence texts stay: they are what allows passing these files on.
    argv += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    argv += [f"--include={','.join(packages)}"]
    argv += [f"--essential-hook={early}"] if early else []
    argv += [f"--customize-hook={late}"] if late else []
    bench.run([*argv, SUITE, bench.root, "-"], 30 * MINUTES, given="\n".join(bench.sources) + "\n")
    return _versions(bench)


def _versions(bench: Workbench) -> dict[str, str]:
    admin = bench.root / "var/lib/dpkg"
    listed = bench.run(
        ["dpkg-query", f"--admindir={admin}", "-W", "-f", "${Package} ${Version}\n"], 60
    )
    return dict(line.split(" ", 1) for line in listed.splitlines())


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
