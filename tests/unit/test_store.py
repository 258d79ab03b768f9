"""The schema that migrations make is the one the models want; writers exclude each other."""

import gc
import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel, select

from provisioning import migrations
from provisioning.models import Bmc, Claim, Event
from provisioning.store import Store, record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path / 'seed.db'}")
    store.create()
    return store


def test_migrations_make_what_the_models_want(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_bringing_up_to_date_twice_changes_nothing(store: Store) -> None:
    with store.write() as session:
        record(session, "test", "subject", "kept")
    store.create()
    with store.read() as session:
        assert [e.message for e in session.exec(select(Event))] == ["kept"]


def test_an_older_database_is_brought_up_to_date_with_its_rows(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'old.db'}")
    with store.engine.execution_options(seed_write=True).begin() as connection:
        command.upgrade(migrations.config(connection), "0001")
        connection.exec_driver_sql(
            "INSERT INTO bmc (id, address, protocol, goal, resource_class, accepted_by, attempt,"
            " login, refused, fingerprint, certificate, vendor, model, serial, system_uuid,"
            " system_id, manager_mac, macs, firmware, detail, problem, remedy, failed_attempt,"
            " found_at, seen_at) VALUES ('0123456789abcdef0123456789abcdef', '192.0.2.7', 'ipmi',"
            " 'OBSERVED', 'baremetal', '', 0, 'NONE', '[]', '', '', '', '', 'S-1', '', '', '',"
            " '[]', '', '', '', '', 0, '2026-11-20 00:00:00', '2026-11-20 00:00:00')"
        )
    store.create()
    with store.read() as session:
        kept = session.exec(select(Bmc)).one()
        assert (kept.serial, kept.inventory, kept.findings) == ("S-1", {}, [])


def test_a_store_that_is_no_longer_used_closes_its_connections(tmp_path: Path) -> None:
    """Python 3.13 warns of each one that is collected before it is closed."""
    store = Store(f"sqlite:///{tmp_path / 'short.db'}")
    closed: list[object] = []
    event.listen(store.engine, "close", lambda connection, _: closed.append(connection))
    store.create()
    assert not closed
    del store
    gc.collect()
    assert closed


def test_a_failed_write_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.write() as session:
            record(session, "test")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with store.read() as session:
        assert session.exec(select(Event)).all() == []


def test_claim_names_are_unique_among_the_living_of_a_project(store: Store) -> None:
    with store.write() as session:
        session.add(Claim(name="web", image="debian", project="a"))
        session.add(Claim(name="web", image="debian", project="b"))
    with pytest.raises(IntegrityError), store.write() as session:
        session.add(Claim(name="web", image="debian", project="a"))


def test_read_then_write_of_many_threads_loses_nothing(store: Store) -> None:
    def add_one() -> None:
        for _ in range(10):
            with store.write() as session:
                seen = len(session.exec(select(Event)).all())
                record(session, "count", str(seen))

    threads = [threading.Thread(target=add_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as session:
        seen = sorted(int(e.subject) for e in session.exec(select(Event)))
    assert seen == list(range(80))
