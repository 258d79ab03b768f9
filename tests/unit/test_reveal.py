"""`seed bmc reveal`: root reads a BMC's password on the Seed machine, offline, recorded."""

import json
from pathlib import Path

import pytest
from sqlmodel import select
from typer.testing import CliRunner

from provisioning.models import Bmc, Credential, Event
from provisioning.secrets import Sealer, make_keys
from provisioning.states import Login
from provisioning.store import Store
from seed import config
from seed.cli import app
from seed.host import setup
from seed.host.paths import Paths
from tests.fakes.settings import some_settings

ADDRESS, PASSWORD = "172.22.1.11", "aB3-only-seed-has-it"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A Seed that is down: its settings, keys and database, and one BMC that was taken over."""
    settings = some_settings(tmp_path)
    (tmp_path / "seed.toml").write_text(setup.to_toml(settings))
    monkeypatch.setenv("SEED_CONFIG", str(tmp_path / "seed.toml"))
    config.settings.cache_clear()  # each test has its own
    paths = Paths(settings)
    for folder in (paths.keys, paths.db):
        folder.mkdir(parents=True)
    make_keys(paths.master_key, paths.master_pub)
    store = Store(settings.database_url)
    store.create()
    with store.write() as session:
        row = Credential(name=f"bmc-{ADDRESS}-1", username="admin", sealed=b"")
        row.sealed = Sealer(paths.master_pub).seal(PASSWORD, f"credential:{row.id}")
        session.add(row)
        session.flush()
        session.add(Bmc(address=ADDRESS, protocol="redfish", login=Login.OK, credential_id=row.id))
    return store


def test_the_password_is_printed_and_who_asked_is_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "joe")
    said = CliRunner().invoke(app, ["bmc", "reveal", ADDRESS, "-o", "json"])
    assert said.exit_code == 0, said.output
    assert json.loads(said.output) == [
        {"username": "admin", "password": PASSWORD, "what": "the login it has"}
    ]
    with store.read() as session:
        (event,) = session.exec(select(Event)).all()
    assert (event.kind, event.subject, event.who) == ("bmc.login-revealed", ADDRESS, "joe")
    assert PASSWORD not in f"{event}"


def test_a_login_in_a_vault_is_named(store: Store) -> None:
    """It was never Seed's, and in an emergency the vault may be away."""
    with store.write() as session:
        row = Credential(name="vault:secret/rack-a", username="", sealed=b"")
        session.add(row)
        session.flush()
        bmc = session.exec(select(Bmc)).one()
        bmc.credential_id = row.id
        session.add(bmc)
    said = CliRunner().invoke(app, ["bmc", "reveal", ADDRESS, "-o", "json"])
    assert said.exit_code == 0, said.output
    rows = {row["what"]: row["password"] for row in json.loads(said.output)}
    assert rows["the login it has: vault:secret/rack-a"] == ""
    assert PASSWORD in rows.values()


def test_who_is_not_root_reads_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    said = CliRunner().invoke(app, ["bmc", "reveal", ADDRESS])
    assert said.exit_code == 1
    assert PASSWORD not in said.output
    with store.read() as session:
        assert session.exec(select(Event)).all() == []
