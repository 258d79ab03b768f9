"""Our names are ours alone, and the locks say what is installed and not where from."""

import re
import subprocess
import sys
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"seed", "api", "images", "ipxe", "provisioning"}
LOCKS = [*sorted((ROOT / "locks").glob("*.txt")), ROOT / "images" / "recipes" / "agent.lock.txt"]
PINS = {"locks/ironic.txt": "ironic==39.0.0", "agent.lock.txt": "ironic-python-agent==13.0.0"}

# Hosts that may be named beside addresses, names without a dot and the examples of RFC 2606.
NAMED = {
    "libvirt.org", "schemas.openid.net", "supervisord.org",
}  # fmt: skip
TEXT = {".py", ".md", ".toml", ".txt", ".conf", ".unit", ".ipxe", ".inc", ".yaml", ".xml", ""}
FOLDERS = [*sorted(OURS), "tests", "docs", "locks", "vagrant", ".ci"]


def files() -> list[Path]:
    """What is committed, as far as it is text; found by place, so that a copy without git works."""
    found = [f for f in ROOT.iterdir() if f.is_file() and f.name[0] != "."]
    found += [f for name in FOLDERS for f in (ROOT / name).rglob("*") if f.is_file()]
    return sorted(f for f in found if f.suffix in TEXT and "__pycache__" not in f.parts)


def test_each_name_is_ours_alone() -> None:
    """A second distribution with a package `api` would be imported in our place, or we in its."""
    owners = packages_distributions()
    assert {name: set(owners.get(name, [])) for name in OURS} == {
        name: {"seed-undercloud"} for name in OURS
    }


def test_nothing_else_is_shipped() -> None:
    shipped = {
        name for name, owners in packages_distributions().items() if "seed-undercloud" in owners
    }
    assert shipped == OURS


def test_files_beside_the_code_are_shipped() -> None:
    """Templates, loaders' locks and scripts are read at run time from the installed copy."""
    installed = {str(file) for file in distribution("seed-undercloud").files or []}
    beside = [
        str(f.relative_to(ROOT))
        for name in OURS
        for f in (ROOT / name).rglob("*")
        if f.is_file() and f.suffix not in (".py", ".pyc")
    ]
    assert [name for name in beside if name not in installed] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_locks_carry_versions_and_hashes(lock: Path) -> None:
    text = lock.read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", "\n" + re.sub(r"^\s*#.*\n", "", text, flags=re.M))
    assert len(entries) > 5
    shape = re.compile(
        r"[A-Za-z0-9._-]+(\[[a-z0-9,-]+\])?==[^\s;]+( ; [^\\]+)? \\\n\s+--hash=sha256:"
    )
    assert [entry[:60] for entry in entries if entry.strip() and not shape.match(entry)] == []
    assert re.findall(r"--(?:index|extra-index|find-links|trusted)\S*|\S+://\S+", text) == []


@pytest.mark.parametrize(("lock", "pin"), PINS.items())
def test_pins_are_those_of_the_advisories(lock: str, pin: str) -> None:
    """docs/advisories.md speaks of exactly these versions."""
    (path,) = [path for path in LOCKS if str(path).endswith(lock)]
    assert f"\n{pin} \\\n" in f"\n{path.read_text()}"
    name, version = pin.split("==")
    assert version in (ROOT / "docs" / "advisories.md").read_text(), name


def harmless(host: str) -> bool:
    """An address, a placeholder, a name that is no host's, or one that is allowed."""
    return (
        host in NAMED
        or "." not in host
        or re.fullmatch(r"[0-9.]+|.*[<{$\[].*|\.\.\.,?", host) is not None
        or host.endswith((".example", ".invalid", ".test", "example.org", "example.com"))
    )


def test_the_command_line_starts_without_a_databases_library() -> None:
    """It is half of what would be loaded, and only verbs that open a store of their own want it."""
    asked = "import sys, seed.cli; print(*{'sqlalchemy', 'sqlmodel', 'seed'} & set(sys.modules))"
    told = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=120
    )
    assert told.stdout.split() == ["seed"]


def test_no_registry_or_mirror_is_named() -> None:
    """Where packages come from is each machine's own matter: every other host is refused."""
    found = {}
    for file in files():
        for url in re.findall(r"https?://[^\s\"'`)\]>\\]+", file.read_text(errors="replace")):
            host = re.split(r"[:/?#]", url.split("://", 1)[1].rpartition("@")[2])[0]
            if not harmless(host):
                found[f"{file.relative_to(ROOT)}: {url}"] = host
    assert found == {}
