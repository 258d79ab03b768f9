"""Programs of Debian's, unpacked into a folder and not installed: no daemon of theirs starts."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 240  # seconds for a download


class NotThere(Exception):
    """Why they cannot be had here."""


@dataclass(frozen=True)
class Unpacked:
    root: Path

    @property
    def env(self) -> dict[str, str]:
        """With the libraries that came along."""
        folders = {str(p.parent) for p in self.root.rglob("*.so*") if p.parent.match("lib/*")}
        return {"LD_LIBRARY_PATH": ":".join(sorted(folders))}

    def program(self, path: str) -> str:
        """Ours, or where it is installed already the machine's own."""
        own = self.root / path
        return str(own) if own.exists() else f"/{path}"


def unpack(folder: Path, *packages: str) -> Unpacked:
    """These and what they need and this machine has not. Raises NotThere."""
    root = folder / "root"
    root.mkdir()
    plan = _out(folder, "apt-get", "install", "--simulate", "--no-install-recommends", *packages)
    names = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
    if names:
        _out(folder, "apt-get", "download", *names)
    for archive in sorted(folder.glob("*.deb")):
        _out(folder, "dpkg-deb", "-x", str(archive), str(root))
        archive.unlink()
    return Unpacked(root)


def _out(folder: Path, *argv: str) -> str:
    try:
        done = subprocess.run(
            argv, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise NotThere(f"{argv[0]}: {problem}") from problem
    if done.returncode:
        raise NotThere(f"{' '.join(argv[:2])} said: {done.stderr.strip()[-300:]}")
    return done.stdout
