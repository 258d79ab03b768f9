"""A disk image that would make its reader open other files never gets published."""

import struct
import subprocess
from pathlib import Path

import pytest

from images.diskfile import verify
from provisioning.errors import Invalid
from tests.fakes.disks import a_raw_disk


@pytest.fixture
def qcow2(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", str(path), "5M"]
    subprocess.run(argv, check=True, timeout=30)
    return path


def poke(path: Path, offset: int, value: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(value)


def test_a_plain_qcow2(qcow2: Path) -> None:
    found = verify(qcow2)
    assert (found.format, found.virtual_size) == ("qcow2", 5 << 20)


def test_a_raw_disk(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(a_raw_disk(1024))
    found = verify(path)
    assert (found.format, found.virtual_size) == ("raw", 1024)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["-b", "base.qcow2", "-F", "qcow2"], id="backing file"),
        pytest.param(["-o", "data_file=data.raw", "5M"], id="external data file"),
    ],
)
def test_what_qemu_makes_with_a_second_file(
    qcow2: Path, tmp_path: Path, options: list[str]
) -> None:
    qcow2.rename(tmp_path / "base.qcow2")
    name, size = (options[:-1], [options[-1]]) if options[-1] == "5M" else (options, [])
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", *name, "made.qcow2", *size]
    subprocess.run(argv, check=True, cwd=tmp_path, timeout=60)

    with pytest.raises(Invalid):
        verify(tmp_path / "made.qcow2")


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        pytest.param(4, struct.pack(">I", 9), id="unknown version"),
        pytest.param(8, struct.pack(">Q", 1), id="backing file's offset alone"),
        pytest.param(32, struct.pack(">I", 2), id="encrypted"),
        pytest.param(72, struct.pack(">Q", 1 << 1), id="marked corrupt"),
        pytest.param(72, struct.pack(">Q", 1 << 2), id="external data bit"),
        pytest.param(72, struct.pack(">Q", 1 << 40), id="unknown feature"),
        pytest.param(104, struct.pack(">II", 0x44415441, 0), id="external data name"),
    ],
)
def test_a_header_that_lies(qcow2: Path, offset: int, value: bytes) -> None:
    poke(qcow2, 100, struct.pack(">I", 104))
    poke(qcow2, offset, value)
    with pytest.raises(Invalid):
        verify(qcow2)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>not found</html>" * 100, id="a web page"),
        pytest.param(b"QFI\xfb\0\0\0\3", id="cut off"),
        pytest.param(b"\0" * 510 + b"\x55\xaa" + b"\0" * 0x7E01 + b"CD001" + b"\0" * 99, id="ISO"),
        pytest.param(b"KDMV" + b"\0" * 4096, id="VMDK"),
    ],
)
def test_what_is_no_disk(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "disk"
    path.write_bytes(content)
    with pytest.raises(Invalid):
        verify(path)
