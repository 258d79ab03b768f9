"""Installing, units under systemd, wheels, and what the slow lane says of itself."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from provisioning.errors import Conflict, Invalid
from seed.host import install, supervision, supervisor, systemd, users, wheels
from seed.host.services import table
from seed.settings import Settings
from tests.fakes.settings import some_settings
from tests.slow import rows, stale

SHOWN = """\
MainPID=812
NRestarts=2
ExecMainStartTimestamp=@1763650000
Id=seed-ironic.service
ActiveState=active
SubState=running

MainPID=0
NRestarts=7
ExecMainStartTimestamp=
Id=seed-dnsmasq.service
ActiveState=activating
SubState=auto-restart

Id=seed.target
ActiveState=active
SubState=active
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return some_settings(tmp_path)


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(systemd, "UNITS", tmp_path / "units")
    monkeypatch.setattr(systemd, "TMPFILES", tmp_path / "tmpfiles.d" / "seed.conf")
    return tmp_path / "units"


def test_systemctl_show_is_read() -> None:
    ironic, dnsmasq, target = systemd.parse(SHOWN)
    assert (ironic["Id"], ironic["MainPID"], systemd.state_of(ironic)) == (
        "seed-ironic.service", "812", "RUNNING",
    )  # fmt: skip
    assert systemd.state_of(dnsmasq) == "BACKOFF"
    assert "MainPID" not in target  # as systemd 257 prints it
    assert systemd._time(ironic["ExecMainStartTimestamp"]) == datetime(
        2025, 11, 20, 14, 46, 40, tzinfo=UTC
    )
    assert systemd._time(dnsmasq["ExecMainStartTimestamp"]) is None


@pytest.mark.parametrize(
    ("active", "word"),
    [("failed", "FATAL"), ("inactive", "STOPPED"), ("activating", "STARTING"), ("new", "NEW")],
)
def test_states_are_in_supervisors_words(active: str, word: str) -> None:
    assert systemd.state_of({"ActiveState": active, "SubState": ""}) == word


def test_units_are_written_once_and_left_over_ones_removed(settings: Settings, units: Path) -> None:
    assert systemd.write_units(settings, table(settings))
    assert not systemd.write_units(settings, table(settings))
    assert (units / "seed-ironic.service").exists()
    assert systemd.TMPFILES.exists()
    assert systemd.write_units(settings, table(settings, ["dnsmasq"]))
    assert sorted(path.name for path in units.iterdir()) == ["seed-dnsmasq.service", "seed.target"]


def test_a_checkout_is_supervisors(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where systemd runs: unit names are one appliance's only."""
    monkeypatch.setattr(systemd, "present", lambda: True)
    monkeypatch.delenv("SEED_CONFIG", raising=False)
    assert supervision.of(settings) is supervisor
    settings.env_dir.mkdir(parents=True)
    (settings.env_dir.parent / systemd.INSTALLED).touch()
    assert supervision.of(settings) is systemd
    monkeypatch.setenv("SEED_CONFIG", "/srv/other.toml")
    assert supervision.of(settings) is supervisor


def test_units_before_seed_init_name_the_standard_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(install, "HOST_CONFIG", tmp_path / "seed.toml")
    defaults = install.settings_or_defaults()
    assert (defaults.state_dir, defaults.namespace) == (Path("/var/lib/seed"), "")
    assert [service.name for service in table(defaults)] == [s.name for s in table(defaults)]


@pytest.mark.parametrize("folder", ["/root/seed", "/tmp/seed", "/home/me/opt"])  # noqa: S108
def test_a_root_that_services_cannot_see_is_refused(settings: Settings, folder: str) -> None:
    with pytest.raises(Invalid, match="services cannot run from"):
        install.put(settings, Path(folder))


def test_somebody_elses_command_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "COMMAND", tmp_path / "seed")
    install._link(tmp_path / "first")
    install._link(tmp_path / "second")
    assert install.COMMAND.readlink() == tmp_path / "second"
    install.COMMAND.unlink()
    install.COMMAND.write_text("other")
    with pytest.raises(Conflict, match="is another program"):
        install._link(tmp_path / "third")
    assert install.COMMAND.read_text() == "other"


def test_files_follow_their_accounts_new_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "db"
    folder.mkdir()
    (folder / "file").touch()
    (folder / "link").symlink_to("/etc/passwd")
    for path in (folder, folder / "file", folder / "link"):
        os.chown(path, 9001, 9002, follow_symlinks=False)
    folder.chmod(0o2770)
    install._hand_over(tmp_path, {9001: 9011, 9003: 9999}, {9002: 9012})
    for path in (folder, folder / "file", folder / "link"):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (9011, 9012), path
    assert folder.stat().st_mode & 0o7777 == 0o2770
    assert Path("/etc/passwd").stat().st_uid == 0


def test_purge_takes_what_is_ours_only(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(install, "HOST_CONFIG", tmp_path / "etc" / "seed.toml")
    for place in users.folders(settings):
        place.path.mkdir(parents=True, exist_ok=True)
    (settings.state_dir / "http" / "images" / "disk").touch()
    (settings.state_dir / install.ACCOUNTS).write_text(json.dumps({}))
    (settings.state_dir / "diary").touch()
    (settings.log_dir / "ironic.log.1").touch()
    install._purge(settings)
    assert [path.name for path in settings.state_dir.iterdir()] == ["diary"]
    assert not settings.log_dir.exists()
    assert f"kept: {settings.state_dir}, which holds diary" in capsys.readouterr().out


LOCK = """\
async-timeout==5.0.1 ; python_full_version < '3.11.3' \\
    --hash=sha256:aa
cffi==2.1.1 ; platform_python_implementation != 'PyPy' \\
    --hash=sha256:bb
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:cc
    # via ironic
"""


@pytest.mark.parametrize(
    ("python", "names"),
    [("3.11", ["async-timeout==5.0.1", "cffi==2.1.1"]), ("3.13", ["cffi==2.1.1", "numpy==2.5.5"])],
)
def test_wheels_for_another_python(python: str, names: list[str]) -> None:
    text = wheels.for_python(LOCK, python)
    heads = [line for line in text.splitlines() if line[0].isalnum()]
    assert [head.split()[0] for head in heads] == names
    assert "python_full_version" not in text
    assert "; platform_python_implementation != 'PyPy' \\" in text
    assert text.count("--hash") == 2


def test_a_marker_that_mixes_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot tell"):
        wheels.for_python("x==1 ; python_version < '4' and os_name == 'nt' \\\n", "3.13")


def test_every_lock_can_be_read_for_every_python() -> None:
    folder = rows.REPOSITORY / "locks"
    for name in wheels.LOCKS:
        for python in wheels.PYTHONS:
            assert "==" in wheels.for_python((folder / f"{name}.txt").read_text(), python)


def test_a_row_replaces_its_own_only(tmp_path: Path) -> None:
    table = tmp_path / "slow-lane.md"
    table.write_text(f"# Slow\n\n{rows.HEAD} ...\n| --- |\n{rows.Row('test_a', 'x y')}\n\nMore.\n")
    rows.write(rows.Row("test_b", "z", "2026-01-01", "abc", "12", "ff"), table)
    rows.write(rows.Row("test_a", "x y", "2026-01-02", "def", "13", "ee"), table)
    assert [(row.test, row.date) for row in rows.read(table)] == [
        ("test_a", "2026-01-02"),
        ("test_b", "2026-01-01"),
    ]
    assert table.read_text().endswith("\n\nMore.\n")


def test_stale_rows() -> None:
    assert stale.stale(rows.Row("a", "Makefile")) == "never ran"
    assert "does not have" in stale.stale(rows.Row("a", "Makefile", "2026-01-01", "0" * 40))
    assert stale.stale(rows.Row("a", "Makefile", "2026-01-01", "HEAD")) == ""


def test_every_slow_test_has_a_row() -> None:
    assert set(stale.names()) == {row.test for row in rows.read()}
