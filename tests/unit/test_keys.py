"""A token is looked up once, and again as soon as anybody committed anything."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import event
from sqlmodel import col, select

from api.keys import Key, Keys
from api.roles import Caller, Role
from provisioning.errors import Unauthenticated
from provisioning.models import Token, now
from provisioning.store import Store, record
from tests.fakes.api import a_token, some_parts


class Desk:
    """Keys of a database, and how many statements they sent to it."""

    def __init__(self, folder: Path) -> None:
        self.parts = some_parts(folder)
        self.keys = Keys(self.parts.store)
        self.elsewhere = Store(str(self.parts.store.engine.url))  # as another process has one
        self.asked: list[str] = []
        event.listen(
            self.parts.store.engine,
            "before_cursor_execute",
            lambda _conn, _cursor, statement, *_: self.asked.append(statement.split()[0]),
        )

    def who(self, secret: str) -> str:
        self.asked.clear()
        return asyncio.run(self.keys.find(f"Bearer {secret}")).caller.name


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.elsewhere.engine.dispose()


def test_a_known_token_costs_no_query(desk: Desk) -> None:
    secret = a_token(desk.parts, "ci", Role.VIEWER)
    assert desk.who(secret) == "ci"
    assert desk.asked == ["BEGIN", "SELECT"]
    for _ in range(3):
        assert desk.who(secret) == "ci"
        assert desk.asked == []


@pytest.mark.parametrize("writer", ["here", "elsewhere"])
def test_a_revocation_counts_at_once(desk: Desk, writer: str) -> None:
    secret = a_token(desk.parts, "ci", Role.VIEWER)
    assert desk.who(secret) == desk.who(secret) == "ci"
    store = desk.parts.store if writer == "here" else desk.elsewhere
    with store.write() as session:
        session.delete(session.exec(select(Token)).one())
    with pytest.raises(Unauthenticated, match="not known"):
        desk.who(secret)


def test_any_commit_is_reason_to_look_again(desk: Desk) -> None:
    secret = a_token(desk.parts, "ci", Role.VIEWER)
    desk.who(secret)
    with desk.elsewhere.write() as session:
        record(session, "something")
    desk.who(secret)
    assert desk.asked == ["BEGIN", "SELECT"]


def test_a_token_expires_also_while_nobody_writes(desk: Desk) -> None:
    secret = a_token(desk.parts, "ci", Role.VIEWER)
    desk.who(secret)
    for key in desk.keys._known.values():
        key.expires_at = now() - timedelta(seconds=1)
    with pytest.raises(Unauthenticated, match="expired"):
        desk.who(secret)
    assert desk.asked == []


def test_unknown_tokens_are_not_kept(desk: Desk) -> None:
    for guess in range(5):
        with pytest.raises(Unauthenticated):
            desk.who(f"guess-{guess}")
    assert desk.keys._known == {}


def test_a_database_that_counts_no_commits_is_asked_each_time(desk: Desk) -> None:
    secret = a_token(desk.parts, "ci", Role.VIEWER)
    url = desk.parts.store.engine.url
    desk.parts.store.engine.url = url.set(drivername="postgresql+psycopg")
    for _ in range(2):
        assert desk.who(secret) == "ci"
        assert desk.asked == ["BEGIN", "SELECT"]


def test_a_use_that_cannot_be_written_down_is_served(desk: Desk) -> None:
    key = Key(uuid4(), Caller("ci", frozenset()), now() + timedelta(days=1), None)
    with desk.elsewhere.engine.connect() as connection:
        connection.exec_driver_sql("DROP TABLE token")
        connection.commit()
    asyncio.run(desk.keys.note_use(key))
    assert key.used is not None


def test_uses_at_once_are_written_together(desk: Desk) -> None:
    names = [f"ci-{n}" for n in range(5)]
    secrets = [a_token(desk.parts, name, Role.VIEWER) for name in names]
    keys = [asyncio.run(desk.keys.find(f"Bearer {secret}")) for secret in secrets]
    before = desk.parts.store.commits

    async def all_of_them() -> None:
        await asyncio.gather(*(desk.keys.note_use(key) for key in keys))

    asyncio.run(all_of_them())
    assert desk.parts.store.commits - before == 2, "the first, and what came meanwhile"
    with desk.parts.store.read() as session:
        used = session.exec(select(Token.last_used_at).where(col(Token.name).in_(names))).all()
    assert len(used) == 5
    assert None not in used
