"""Trees of overclouds' formats, as their tests read them."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from provisioning.installers import Installer, OvercloudFacts
from tests.fakes.appliance import environments


def texts(plugin: Installer, facts: OvercloudFacts) -> dict[str, str]:
    """Path -> content."""
    return {part.path: part.content.decode() for part in plugin.tree(facts, {})}


def unpacked(plugin: Installer, facts: OvercloudFacts, folder: Path) -> Path:
    """The tree in a folder, as people have it."""
    for part in plugin.tree(facts, {}):
        path = folder / part.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(part.content)
        path.chmod(part.mode)
    return folder


def inventory(source: Path, warned: str = "no such warning") -> dict[str, Any]:
    """What ansible-inventory reads there; a warning is a failure: it read something else.

    warned: words of the one that is expected.
    """
    done = subprocess.run(
        [environments() / "ansible" / "bin" / "ansible-inventory", "-i", source, "--list"],
        env={"PATH": os.environ["PATH"], "HOME": str(source.parent), "LC_ALL": "C.UTF-8",
             "ANSIBLE_INVENTORY_UNPARSED_FAILED": "true",
             "ANSIBLE_TRANSFORM_INVALID_GROUP_CHARS": "ignore"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    others = [line for line in done.stderr.splitlines() if "WARN" in line and warned not in line]
    assert (done.returncode, others) == (0, []), done.stderr + done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found
