"""What the kernel is given behind the ramdisk must be what `cpio` itself reads."""

import subprocess
from pathlib import Path

import pytest

from images import cpio


def test_cpio_reads_what_was_packed(tmp_path: Path) -> None:
    packed = cpio.archive({"/etc/agent/20-site.conf": b"[DEFAULT]\n", "/etc/ca.pem": b"abc"})

    argv = ["cpio", "-idm", "--quiet", "--no-absolute-filenames"]
    subprocess.run(argv, input=packed, cwd=tmp_path, check=True, timeout=10)

    assert (tmp_path / "etc/agent/20-site.conf").read_bytes() == b"[DEFAULT]\n"
    assert (tmp_path / "etc/ca.pem").read_bytes() == b"abc"
    assert (tmp_path / "etc/agent").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "etc/ca.pem").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("length", range(9))
def test_every_part_starts_on_a_4_byte_border(length: int) -> None:
    packed = cpio.archive({"/" + "n" * (length + 1): b"x" * length, "/zz": b""})

    assert len(packed) % 4 == 0
    assert packed.count(b"070701") == 3
    start = 0
    for _ in range(3):
        start = packed.index(b"070701", start)
        assert start % 4 == 0
        start += 1


@pytest.mark.parametrize("length", range(8))
def test_padding_reaches_the_border(length: int) -> None:
    assert (length + len(cpio.padding(length))) % 4 == 0


@pytest.mark.parametrize("name", ["etc/x", "../x", "/etc/../../x"])
def test_a_path_outside_the_root_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="absolute"):
        cpio.archive({name: b""})
