"""Events are chained: what was changed, removed or cut off is found, and the first one is named."""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from alembic import command
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from provisioning import chain, migrations
from provisioning.chain import Head, Verdict
from provisioning.errors import Invalid
from provisioning.models import Event
from provisioning.states import OrderKind
from provisioning.store import Store, record
from tests.fakes.store import new_store

GUARDS = ("event_never_changes", "event_never_goes", "event_only_grows")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path)


def some_events(store: Store, count: int = 5) -> list[Event]:
    for number in range(count):
        with store.write() as session:
            record(session, "test.done", f"s{number}", "went", who="ada", project="red", n=number)
    return rows(store)


def rows(store: Store) -> list[Event]:
    with store.read() as session:
        return list(session.exec(select(Event).order_by(col(Event.id))))


def by_hand(store: Store, *statements: str) -> None:
    """What somebody with the database file in hand does: the guards are taken away first."""
    path = str(store.engine.url.database)
    with sqlite3.connect(path) as database:
        for name in GUARDS:
            database.execute(f"DROP TRIGGER IF EXISTS {name}")
        for statement in statements:
            database.execute(statement)
    database.close()


def test_each_event_holds_the_digest_of_the_one_before(store: Store) -> None:
    events = some_events(store)
    assert [e.id for e in events] == [1, 2, 3, 4, 5]
    assert events[0].previous == ""
    assert [e.previous for e in events[1:]] == [e.hash for e in events[:-1]]
    assert chain.verify(store.read) == Verdict(5, 0, Head(5, events[-1].hash))


def test_the_digest_is_what_the_document_says(store: Store) -> None:
    """Written out here once more, without our code."""
    with store.write() as session:
        record(session, "a.b", "x", "grün", who="ada", why="a \u2028 line", plan="p" * 64, n=1.5)
    (row,) = rows(store)
    at = row.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    text = (
        f'{{"at":"{at}","data":{{"n":1.5}},"id":1,"kind":"a.b","message":"gr\\u00fcn",'
        f'"plan":"{"p" * 64}","previous":"","project":"","request_id":"","subject":"x",'
        '"who":"ada","why":"a \\u2028 line"}'
    )
    assert row.hash == hashlib.sha256(text.encode()).hexdigest()


def test_several_of_one_transaction_are_chained_in_their_order(store: Store) -> None:
    some_events(store, 1)
    with store.write() as session:
        record(session, "a")
        record(session, "b")
        session.flush()
        record(session, "c")
        assert session.exec(select(Event)).all()  # flushes, too
        record(session, "d")
    assert [e.kind for e in rows(store)] == ["test.done", "a", "b", "c", "d"]
    assert chain.verify(store.read).events == 5


def undone_by_an_error(session: Session) -> None:
    record(session, "undone")
    session.flush()
    session.connection().exec_driver_sql("DELETE FROM event")


def test_what_was_rolled_back_leaves_no_gap(store: Store) -> None:
    some_events(store, 1)
    with store.write() as session:
        record(session, "kept")
        nested = session.begin_nested()
        record(session, "undone")
        nested.rollback()
        record(session, "kept, too")
    with pytest.raises(IntegrityError), store.write() as session:
        undone_by_an_error(session)
    some_events(store, 1)
    assert [e.id for e in rows(store)] == [1, 2, 3, 4]
    assert chain.verify(store.read) == Verdict(4, 0, Head(4, rows(store)[-1].hash))


def test_data_of_every_kind_is_checked_as_it_is_read_back(store: Store) -> None:
    with store.write() as session:
        record(session, "x", data=OrderKind.CLEAN, pair=(1, 2), keys={3: None, "a": [True, 1e300]})
    assert chain.verify(store.read).why == ""


def test_writers_in_many_threads_make_one_chain(store: Store) -> None:
    def write() -> None:
        some_events(store, 10)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert chain.verify(store.read).events == 60


def test_thousands_in_one_transaction_ask_for_the_last_one_once(store: Store) -> None:
    asked: list[str] = []
    sqlalchemy_event.listen(
        store.engine, "before_cursor_execute", lambda *a: asked.append(str(a[2]))
    )
    with store.write() as session:
        for number in range(2500):
            record(session, "many", str(number))
    assert len([s for s in asked if s.startswith("SELECT")]) == 1
    assert chain.verify(store.read).events == 2500  # more than a page


def test_the_request_is_taken_from_what_is_answered(store: Store) -> None:
    with structlog.contextvars.bound_contextvars(request="req-1"), store.write() as session:
        record(session, "a")
        record(session, "b", request_id="another")
    with store.write() as session:
        record(session, "c")
    assert [e.request_id for e in rows(store)] == ["req-1", "another", ""]


Change = Callable[[Store], None]
CHANGES: dict[str, tuple[tuple[str, ...], int]] = {
    "a word": (("UPDATE event SET message = 'went well' WHERE id = 3",), 3),
    "who": (("UPDATE event SET who = 'bob' WHERE id = 3",), 3),
    "data": (("UPDATE event SET data = '{\"n\": 7}' WHERE id = 3",), 3),
    "the time, by a microsecond": (
        ("UPDATE event SET at = '2026-01-01 00:00:00.000001' WHERE id = 3",), 3,
    ),
    "a row removed": (("DELETE FROM event WHERE id = 3",), 4),
    "the first removed": (("DELETE FROM event WHERE id = 1",), 2),
    "two exchanged": (
        ("UPDATE event SET id = 9 WHERE id = 3", "UPDATE event SET id = 3 WHERE id = 4",
         "UPDATE event SET id = 4 WHERE id = 9"), 3,
    ),
    "one put in": (
        ("INSERT INTO event SELECT 6, at, kind, subject, project, who, message, data, why, plan,"
         " request_id, hash, hash FROM event WHERE id = 5",), 6,
    ),
    "the beginning called older than the chain": (
        ("UPDATE event SET hash = '', previous = '' WHERE id < 3",), 3,
    ),
    "the end called unchained": (("UPDATE event SET hash = '' WHERE id > 3",), 4),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_is_changed_by_hand_the_first_wrong_row_is_named(store: Store, what: str) -> None:
    some_events(store)
    statements, first = CHANGES[what]
    by_hand(store, *statements)
    found = chain.verify(store.read)
    assert (found.broken, bool(found.why)) == (first, True)


def test_a_cut_end_shows_only_against_a_head_kept_elsewhere(store: Store) -> None:
    some_events(store)
    head = chain.verify(store.read).head
    assert head is not None
    by_hand(store, "DELETE FROM event WHERE id > 3")
    assert chain.verify(store.read).why == ""
    found = chain.verify(store.read, head)
    assert (found.broken, "not there any more" in found.why) == (5, True)


def test_all_written_anew_shows_against_a_head(store: Store) -> None:
    some_events(store)
    head = chain.verify(store.read).head
    by_hand(store, "DELETE FROM event")
    some_events(store, 7)
    assert chain.verify(store.read).why == ""
    assert chain.verify(store.read, head).broken == 5


def test_an_old_head_holds_while_the_chain_grows(store: Store) -> None:
    head = Head(3, some_events(store)[2].hash)
    some_events(store)
    assert chain.verify(store.read, head).why == ""
    assert Head.parse(str(head)) == head


NO_HEADS = ["", "3", "3:", f"x:{'0' * 64}", f"-1:{'0' * 64}", f"²:{'0' * 64}", f"3:{'0' * 63}",
            f"3:{'G' * 64}", f"{'9' * 30}:{'0' * 64}"]  # fmt: skip


@pytest.mark.parametrize("text", NO_HEADS)
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        Head.parse(text)


@pytest.mark.parametrize("statement", [
    "UPDATE event SET who = 'nobody' WHERE id = 1",
    "DELETE FROM event WHERE id = 5",
    "DELETE FROM event",
    "INSERT OR REPLACE INTO event SELECT * FROM event WHERE id = 2",
    "REPLACE INTO event SELECT * FROM event WHERE id = 5",
    "INSERT INTO event SELECT id - 10, at, kind, subject, project, who, message, data, why, plan,"
    " request_id, previous, hash FROM event WHERE id = 1",
])  # fmt: skip
def test_the_database_itself_refuses_to_change_the_past(store: Store, statement: str) -> None:
    before = [e.model_dump() for e in some_events(store)]
    with pytest.raises(IntegrityError, match="events are only appended"), store.write() as session:
        session.connection().exec_driver_sql(statement)
    assert [e.model_dump() for e in rows(store)] == before


def test_rows_from_before_the_chain_are_told_apart(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'old.db'}")
    writer = store.engine.execution_options(seed_write=True)
    with writer.begin() as connection:
        command.upgrade(migrations.config(connection), "0002")
        for number in (4, 7):
            connection.exec_driver_sql(
                "INSERT INTO event (id, at, kind, subject, project, who, message, data) VALUES"
                " (?, '2026-11-20 00:00:00', 'old', '', '', '', '', '{}')",
                (number,),
            )
    store.create()
    assert chain.verify(store.read) == Verdict(0, 2, None)
    events = some_events(store, 2)
    assert [e.id for e in events] == [4, 7, 8, 9]
    assert chain.verify(store.read) == Verdict(2, 2, Head(9, events[-1].hash))
    with writer.begin() as connection:  # and back: the guards do not stand in the way
        command.downgrade(migrations.config(connection), "0002")
    store.create()
    assert chain.verify(store.read) == Verdict(0, 4, None)


def test_a_row_of_the_api_can_be_checked_with_nothing_but_json(store: Store) -> None:
    """`digest` takes the text of a time as well."""
    (row,) = some_events(store, 1)
    told: dict[str, Any] = row.model_dump() | {"at": chain.in_words(row.at)}
    del told["hash"]
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == row.hash == chain.digest(told)
