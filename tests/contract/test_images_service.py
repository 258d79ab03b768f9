"""seed-images as a process without any right, as the supervisor starts it. Needs root."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.garbage import WORK
from provisioning import image as images
from provisioning.secrets import make_keys
from provisioning.shelf import Intake
from provisioning.states import IntakeState
from provisioning.store import Store
from seed.host.paths import Paths
from seed.host.setup import to_toml
from seed.settings import Settings
from tests.contract.test_image_jail import UNPRIVILEGED
from tests.fakes.appliance import until
from tests.fakes.disks import a_qcow2, a_raw_disk, sha256
from tests.fakes.settings import some_settings
from tests.fakes.store import new_store

NOBODY = 65534


@pytest.fixture
def settings() -> Iterator[Settings]:
    """Its folders, owned as `seed up` makes them; not below a folder that only root may enter."""
    base = Path("/var/tmp") / f"seed-images-{os.getpid()}"  # noqa: S108
    settings = some_settings(base, namespace="")
    paths = Paths(settings)
    for folder in (paths.db, settings.image_dir, paths.incoming, paths.keys):
        folder.mkdir(parents=True)
    make_keys(paths.images_key, paths.images_pub)
    new_store(paths.db).engine.dispose()
    (base / "seed.toml").write_text(to_toml(settings))
    subprocess.run(["chown", "-R", str(NOBODY), str(base)], check=True, timeout=30)
    try:
        yield settings
    finally:
        shutil.rmtree(base)


def test_it_publishes_what_was_uploaded_and_ends_when_told(
    settings: Settings, tmp_path: Path
) -> None:
    store, paths = Store(settings.database_url), Paths(settings)
    disks = {
        "raw": a_raw_disk(),
        "qcow2": a_qcow2(tmp_path / "disk").read_bytes(),
        "bad": b"\x1f\x8b" + bytes(999),
    }
    rows = {
        name: Intake(name=name, kind="upload", sha256=sha256(disk), state=IntakeState.WAITING)
        for name, disk in disks.items()
    }
    for name, disk in disks.items():
        (paths.incoming / str(rows[name].id)).write_bytes(disk)
    subprocess.run(["chown", "-R", str(NOBODY), str(paths.incoming)], check=True, timeout=30)
    with store.write() as session:
        session.add_all(rows.values())

    argv = [*UNPRIVILEGED, sys.executable, "-m", "seed", "serve", "images"]
    told = os.environ | {"SEED_CONFIG": str(settings.state_dir.parent / "seed.toml")}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            argv, env=told, stdout=log, stderr=log, cwd=Path(__file__).parents[2]
        )
    try:
        until(lambda: ended(store) == len(rows), 60, "the intakes' end")
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(20)
    assert (code, ended(store)) == (0, len(rows)), (tmp_path / "log").read_text()

    with store.read() as session:
        found = {name: session.get_one(Intake, row.id) for name, row in rows.items()}
    assert {name: row.problem for name, row in found.items()} == {
        "raw": "", "qcow2": "",
        "bad": "bad is packed with gzip: unpack it, and give the digest of the disk",
    }  # fmt: skip
    for name in ("raw", "qcow2"):
        image = images.find(settings.image_dir, name)
        assert image.version == found[name].version
        folder = settings.image_dir / name / image.version
        assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (NOBODY, 0o755)
    assert sorted(path.name for path in settings.image_dir.iterdir()) == [WORK, "qcow2", "raw"]
    assert list((settings.image_dir / WORK).iterdir()) == []
    assert "images.stopped" in (tmp_path / "log").read_text()


def ended(store: Store) -> int:
    from sqlmodel import col, select

    with store.read() as session:
        return len(session.exec(select(Intake).where(col(Intake.ended_at).is_not(None))).all())
