"""Slow tests run only when asked for (-m slow); each writes its row of docs/slow-lane.md."""

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.slow.log import Log
from tests.slow.rows import Row, git, write

LOGS = Path("/var/cache/seed/slow")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow(*paths): takes long; says what it covers")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    asked = "slow" in config.option.markexpr
    return None if asked or not collection_path.name.startswith("test_") else True


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    """Where everything that happened is written; its digest goes into the row."""
    assert os.geteuid() == 0, "slow tests need root"
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f"{request.node.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}.log"
    with Log(path, git("rev-parse", "--short=12", "HEAD")) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.when == "call" and report.passed:
        assert isinstance(item, pytest.Function)
        made: Log = item.funcargs["log"]
        (marker,) = item.iter_markers("slow")
        made.say(f"passed in {call.duration:.0f} s")
        write(
            Row(
                test=item.originalname,
                covers=" ".join(marker.args),
                date=f"{datetime.now(UTC):%Y-%m-%d}",
                commit=made.commit,
                seconds=f"{call.duration:.0f}",
                log=hashlib.sha256(made.path.read_bytes()).hexdigest(),
            )
        )
    return report
