"""What a machine without internet needs: the checkout, the wheels, the Debian packages."""

import shutil
import sys
from pathlib import Path

from images import mirror
from tests.slow.log import Log
from tests.slow.rows import REPOSITORY

WHEELS = Path("/var/cache/seed/slow/wheels")
PYTHON = "3.13"  # of the image's Debian


def checkout(log: Log, served: Path) -> None:
    """The commit under test, without what is not committed."""
    target = str(served / "seed.tar")
    log.run(["git", "-C", str(REPOSITORY), "archive", "-o", target, log.commit], 60)


def wheels(log: Log, served: Path) -> None:
    """All wheels, kept between runs: pip takes those that are there already."""
    log.run(
        [sys.executable, "-m", "seed.host.wheels", str(WHEELS), f"--python={PYTHON}"], timeout=1800
    )
    log.run(["tar", "-C", str(WHEELS), "-cf", str(served / "wheels.tar"), "."], 120)


def debian(log: Log, folder: Path, status: str, packages: list[str]) -> str:
    """A repository served/debs with all that `packages` add to a machine with dpkg's `status`.

    Returns what its size is, as du says it.
    """
    apt, debs = folder / "apt", folder / "served" / "debs"
    for name in ("state/lists/partial", "cache/archives/partial", "etc"):
        (apt / name).mkdir(parents=True)
    (apt / "status").write_text(status, encoding="utf-8")
    (apt / "sources.list").write_text("\n".join(mirror.sources("")) + "\n", encoding="utf-8")
    options = {
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State": apt / "state",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "Acquire::Retries": 3,
    }
    argv = ["apt-get", "-q", *(f"-o{key}={value}" for key, value in options.items())]
    log.run([*argv, "update"], 300)
    log.run([*argv, "install", "--yes", "--download-only", *packages], 1200)
    shutil.move(apt / "cache" / "archives", debs)
    shutil.rmtree(debs / "partial")
    (debs / "lock").unlink(missing_ok=True)
    listed = log.run(["dpkg-scanpackages", "--multiversion", str(debs)], 120)
    (debs / "Packages").write_text(listed.replace(f"{debs}/", "./"), encoding="utf-8")
    return log.run(["du", "-sh", str(debs)], 30).split()[0]
