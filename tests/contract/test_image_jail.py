"""The jail in which foreign files are looked at: what it keeps away from whom. Needs root."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from images import jail
from images.diskfile import verify
from provisioning.errors import HostError, Invalid
from tests.fakes.disks import a_qcow2, a_raw_disk

UNPRIVILEGED = (
    "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs",
    "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--",
)  # fmt: skip
"""As seed/host/render_supervisor.py starts a service."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(a_raw_disk())
    return path


def test_it_has_no_network_no_neighbours_and_nothing_else_to_read(file: Path) -> None:
    told = jail.run(["/bin/sh", "-c", "ls /; ls /dev; test -e /proc || echo no proc; id -u"], file)
    assert told.split() == ["bin", "dev", "disk", "lib", "lib64", "sbin", "usr", "null", "no",
                            "proc", "65534"]  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        for host, why in (("192.0.2.1", "Network is unreachable"), ("127.0.0.1", "refused")):
            look = f"import socket; socket.create_connection(({host!r}, {port}))"
            with pytest.raises(jail.Broke, match=why):
                jail.run(["/usr/bin/python3", "-I", "-c", look], file)


def test_nothing_can_be_written(file: Path) -> None:
    for where in ("/disk", "/usr/x", "/x", "/dev/x"):
        with pytest.raises(jail.Broke, match=r"Read-only|cannot create|Permission"):
            jail.run(["/bin/sh", "-c", f"echo x > {where}"], file)
    assert file.read_bytes() == a_raw_disk()


def test_it_has_no_rights_and_gets_none(file: Path) -> None:
    code = (
        "import ctypes; c = ctypes.CDLL(None, use_errno=True);"
        "print(c.prctl(39, 0, 0, 0, 0), [c.prctl(23, n, 0, 0, 0) for n in (0, 12, 21)],"
        "c.mount(b'x', b'/usr', b'tmpfs', 0, 0))"
    )
    # PR_GET_NO_NEW_PRIVS; CHOWN, NET_ADMIN and SYS_ADMIN of the bounding set; a mount
    assert jail.run(["/usr/bin/python3", "-I", "-c", code], file).strip() == "1 [0, 0, 0] -1"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("b = bytearray(2 << 30)", "MemoryError"),
        ("import resource as r; print(1/(r.getrlimit(r.RLIMIT_CPU)[0] == 61))", "ZeroDivision"),
    ],
)
def test_it_has_limits(file: Path, code: str, why: str) -> None:
    with pytest.raises(jail.Broke, match=why):
        jail.run(["/usr/bin/python3", "-I", "-c", code], file)


def test_processor_time_is_limited(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jail, "CPU_SECONDS", 1)
    with pytest.raises(jail.Broke):
        jail.run(["/usr/bin/python3", "-I", "-c", "while True: pass"], file)


def test_what_runs_too_long_is_ended(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jail, "WALL_SECONDS", 0.5)
    with pytest.raises(jail.Broke, match=r"more than 0\.5 s"):
        jail.run(["/bin/sleep", "60"], file)


@pytest.mark.parametrize("number", [1, 2])
def test_what_says_too_much_is_ended(
    file: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(jail, "WALL_SECONDS", 20)
    with pytest.raises(jail.Broke, match="it says more than 64 KiB"):
        jail.run(["/bin/sh", "-c", f"exec yes >&{number}"], file)
    told = jail.run(["/bin/sh", "-c", "yes | head -c 65536"], file)
    assert len(told) == 65536, "what is allowed comes whole"


def test_what_closes_its_mouth_and_stays_is_ended(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jail, "WALL_SECONDS", 0.5)
    with pytest.raises(jail.Broke, match=r"more than 0\.5 s"):
        jail.run(["/bin/sh", "-c", "exec sleep 60 >&- 2>&-"], file)


def test_its_processes_are_counted(file: Path) -> None:
    code = "import resource as r; print(*r.getrlimit(r.RLIMIT_NPROC))"
    told = jail.run(["/usr/bin/python3", "-I", "-c", code], file)
    assert told.split() == [str(jail.PROCESSES)] * 2


def a_raw(folder: Path) -> Path:
    (folder / "disk").write_bytes(a_raw_disk())
    return folder / "disk"


@pytest.mark.parametrize("make", [a_raw, lambda folder: a_qcow2(folder / "disk")])
def test_an_unprivileged_service_makes_it_too(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """As seed-images runs: no right, no way to get one, and a file of its own."""
    path = make(tmp_path)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder.owner() == "root" and folder != Path("/tmp"):  # noqa: S108
            folder.chmod(folder.stat().st_mode | 0o011)
    path.chmod(0o644)
    code = (
        "import sys, json, pathlib; from images.diskfile import verify;"
        "print(json.dumps(verify(pathlib.Path(sys.argv[1])).format))"
    )
    argv = [*UNPRIVILEGED, sys.executable, "-c", code, str(path)]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == verify(path).format


def test_without_a_jail_nothing_is_looked_at(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="bubblewrap is not installed"):
        verify(file)


def test_a_jail_that_cannot_be_made_is_said(file: Path) -> None:
    with pytest.raises(HostError, match="this machine makes no jail for disk images: bwrap: "):
        jail.run(["/bin/true"], file, Path("/no/such/folder"))


def test_a_look_that_breaks_is_a_refusal(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jail, "MEMORY", 1 << 20)
    with pytest.raises(Invalid, match="cannot be looked at within the limits"):
        verify(file)
