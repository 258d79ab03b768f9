"""A known_hosts file after a claim's keys were put into it, judged by OpenSSH's own ssh-keygen."""

import shutil
import subprocess
from pathlib import Path

import pytest

from seed import known_hosts
from tests.fakes.claims import KEYS

LINES = f"172.22.0.10,web-0 {KEYS[0]}\n"
OLD = f"172.22.0.10,web-0 {KEYS[1]}\n"


def keygen(*words: str) -> str:
    done = subprocess.run(["ssh-keygen", *words], capture_output=True, text=True, timeout=30)
    return done.stdout


def refreshed(path: Path, before: str) -> str:
    path.write_text(before)
    known_hosts.refresh(path, LINES)
    return path.read_text()


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "ssh" / "known_hosts"
    assert known_hosts.refresh(file, LINES) == 0
    assert file.read_text() == LINES
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize(
    "kept",
    [
        f"other {KEYS[1]}\n",
        "# 172.22.0.10 is a note\n",
        "\n",
        f"@cert-authority *.example.net {KEYS[1]}\n",
        f"@revoked web-0 {KEYS[1]}\n",
        "|1|nonsense|x ssh-ed25519 AAAA\n",
        f"[172.22.0.10]:2222 {KEYS[1]}\n",
        f"web-01 {KEYS[1]}\n",
    ],
)
def test_other_lines_stay(kept: str, tmp_path: Path) -> None:
    assert refreshed(tmp_path / "k", kept + OLD) == kept + LINES


def test_once_more_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "k"
    assert refreshed(file, f"other {KEYS[1]}\n{LINES}") == f"other {KEYS[1]}\n{LINES}"
    assert known_hosts.refresh(file, LINES) == 0


def test_an_address_that_was_anothers_leaves_its_line(tmp_path: Path) -> None:
    before = f"172.22.0.10,gone {KEYS[1]}\n"
    assert refreshed(tmp_path / "k", before) == f"gone {KEYS[1]}\n{LINES}"


def test_a_symlink_and_the_mode_stay(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(OLD)
    (tmp_path / "real").chmod(0o644)
    (tmp_path / "link").symlink_to("real")
    assert known_hosts.refresh(tmp_path / "link", LINES) == 1
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == LINES
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="no ssh-keygen")
def test_hashed_names_are_known(tmp_path: Path) -> None:
    """As Debian's ssh writes them: ssh-keygen hashes the old line, and finds the new key alone."""
    file = tmp_path / "k"
    file.write_text(OLD + f"other {KEYS[1]}\n")
    keygen("-H", "-f", str(file))
    assert "web-0" not in file.read_text()
    assert known_hosts.refresh(file, LINES) == 2, "the address and the name are a line each"
    assert KEYS[0] in keygen("-F", "web-0", "-f", str(file))
    assert KEYS[1] not in keygen("-F", "172.22.0.10", "-f", str(file))
    assert KEYS[1] in keygen("-F", "other", "-f", str(file))
