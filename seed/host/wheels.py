"""`make wheels`: a folder with every package of the locks, to install from without a network.

Run from a checkout, never from the installed program; standard library only.
"""

import argparse
import operator
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

LOCKS = ("build", "seed", "ironic", "tools", "ansible")
PYTHONS = {"3.11": (3, 11, 2), "3.13": (3, 13, 5)}
"""What Debian 12 and 13 have; they take security fixes without the number."""

# Of glibc 2.36, Debian 12's. pip does not know that a newer glibc runs what an older one asks for.
_GLIBC = (5, 12, 17, 24, 26, 27, 28, 31, 34, 35)
PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in _GLIBC),
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
)
_OPERATORS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
_MARKER = re.compile(r"python_(?:full_)?version (<=|>=|==|<|>) '([\d.]+)'")


def for_python(lock: str, python: str) -> str:
    """The part of a lock that `python` (e.g. "3.13") needs.

    pip evaluates markers for the interpreter it runs in, whatever --python-version says. Markers
    about anything but Python's version are left to pip: they are the same for all our hosts.
    Raises ValueError for a marker that mixes the version with something else.
    """
    kept, keep = [], True
    for line in lock.splitlines():
        if line[:1].isalnum():
            keep, line = _decided(line, python)
        if keep:
            kept.append(line)
    return "\n".join(kept) + "\n"


def _decided(line: str, python: str) -> tuple[bool, str]:
    """Whether `python` needs the package of this line, and the line without that condition."""
    name, _, rest = line.partition(" ; ")
    marker = rest.removesuffix("\\").strip()
    if not re.search(r"\bpython_(full_)?version\b", marker):
        return True, line
    match = _MARKER.fullmatch(marker)
    if not match:
        raise ValueError(f"{name}: cannot tell what {marker!r} means for {python}")
    wanted = _OPERATORS[match[1]](PYTHONS[python], tuple(map(int, match[2].split("."))))
    return bool(wanted), line.replace(f" ; {marker}", "")


def download(locks: Path, target: Path, python: str) -> None:
    """Fetch into `target` what `python` needs of each lock; hashes are checked by pip."""
    target.mkdir(parents=True, exist_ok=True)
    for name in LOCKS:
        text = for_python((locks / f"{name}.txt").read_text(encoding="utf-8"), python)
        print(f"{name} for Python {python}", flush=True)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(text)
            file.flush()
            argv = [sys.executable, "-m", "pip", "download", "-qq", "--require-hashes", "--no-deps"]
            argv += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
            argv += [f"--platform={platform}" for platform in PLATFORMS]
            subprocess.run([*argv, "-r", file.name, "-d", str(target)], timeout=1800, check=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("--python", choices=PYTHONS, action="append")
    chosen = parser.parse_args(arguments)
    locks = Path(__file__).parents[2] / "locks"
    for python in chosen.python or PYTHONS:
        download(locks, chosen.target, python)


if __name__ == "__main__":
    main()
