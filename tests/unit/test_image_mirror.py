"""Debian's mirror is found in what Debian 12 and 13 and their clouds write, and nothing else is."""

from pathlib import Path

import pytest

from images import mirror
from provisioning.errors import HostError, Invalid

BOOKWORM_SOURCES = """\
Types: deb
# a comment inside a stanza
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components: main
"""
TRIXIE_SOURCES = """\
Types: deb deb-src
URIs: http://mirror.test/debian/
Suites: trixie
 trixie-updates
Components: main non-free-firmware
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----
"""
ONE_LINE = """\
# deb http://commented.test/debian bookworm main
deb-src http://source.test/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian bookworm main contrib # why
deb http://mirror.test/debian-security bookworm-security main
deb http://backports.test/debian bookworm-backports main
"""
OTHERS = """\
Types: deb
URIs: https://vendor.test/node_20.x
Suites: nodistro
Components: main

Types: deb
URIs: https://vendor.test/apt
Suites: cloud-sdk-bookworm
Components: main

Types: deb
URIs: https://vendor.test/exact/
Suites: ./

Types: deb
URIs: https://vendor.test/docker
Suites: bookworm
Components: stable

Enabled: no
Types: deb
URIs: http://off.test/debian
Suites: bookworm
Components: main
"""


def lines(tmp_path: Path, files: dict[str, str], setting: str = "") -> list[tuple[str, str]]:
    """(address, suite) of each line that a machine with these apt files builds from."""
    (tmp_path / "sources.list.d").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = [line.split() for line in mirror.sources(setting, tmp_path)]
    assert all(words[1].startswith("[signed-by=") for words in found)
    return [(words[2], words[3]) for words in found]


@pytest.mark.parametrize(
    ("files", "security"),
    [
        pytest.param({"sources.list.d/debian.sources": BOOKWORM_SOURCES}, True, id="deb822"),
        pytest.param({"sources.list.d/debian.sources": TRIXIE_SOURCES}, False, id="folded lines"),
        pytest.param({"sources.list": ONE_LINE}, True, id="one line each"),
        pytest.param(
            {"sources.list.d/a.sources": OTHERS, "sources.list.d/b.list": ONE_LINE},
            True,
            id="other vendors first",
        ),
    ],
)
def test_the_mirror_of_this_machine(tmp_path: Path, files: dict[str, str], security: bool) -> None:
    expected = [("http://mirror.test/debian", "trixie")]
    expected += [("http://mirror.test/debian", "trixie-updates")]
    if security:
        expected += [("http://mirror.test/debian-security", "trixie-security")]
    assert lines(tmp_path, files) == expected


def test_a_setting_wins(tmp_path: Path) -> None:
    found = lines(tmp_path, {"sources.list": ONE_LINE}, "http://own.test/debian/")
    assert [uri for uri, _ in found] == ["http://own.test/debian"] * 2


def test_no_mirror_at_all_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        lines(tmp_path, {"sources.list.d/a.sources": OTHERS})
    assert "debian_mirror" in caught.value.remedy


@pytest.mark.parametrize("setting", ["debian", "ftp://x/debian", "http://x/de bian", "http://[x"])
def test_a_setting_that_is_no_address(tmp_path: Path, setting: str) -> None:
    with pytest.raises(Invalid):
        lines(tmp_path, {}, setting)


def test_the_same_archives_have_other_releases() -> None:
    lines = mirror.sources("http://mirror.site/debian")
    of_bookworm = mirror.of_suite(lines, "bookworm")
    assert [line.split()[3] for line in of_bookworm] == ["bookworm", "bookworm-updates"]
    assert mirror.of_suite(lines, "trixie") == lines
