"""Times as people type and read them."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from seed import when
from seed.client import ClientError

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("12h", 43200), ("3d", 259200), ("1d12h", 129600), ("2 W", 1209600)],
)
def test_lengths(text: str, seconds: int) -> None:
    assert when.seconds(text) == seconds
    assert when.moment(text, NOW) == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-12-01 08:00", "2026-12-01T07:00"),
        ("2026-07-01 08:00", "2026-07-01T06:00"),
        ("2026-12-01", "2026-11-30T23:00"),
        ("2026-12-01T08:00Z", "2026-12-01T08:00"),
        ("2026-12-01 08:00-05:00", "2026-12-01T13:00"),
    ],
)
def test_moments_are_of_this_machines_zone(text: str, utc: str) -> None:
    found = when.moment(text)
    assert found.tzinfo is not None
    assert f"{found.astimezone(UTC):%Y-%m-%dT%H:%M}" == utc


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "3", "3x", "2026-13-01", "d3", "9" * 40 + "d", "999999999w"]
)
def test_what_is_no_time_is_said_with_an_example(text: str) -> None:
    with pytest.raises(ClientError, match="is no") as raised:
        when.moment(text)
    assert "3d" in raised.value.remedy


def test_times_are_shown_with_their_zone() -> None:
    assert when.local("2026-12-01T07:00:00Z") == "2026-12-01 08:00 CET"
    assert when.local("2026-07-01T06:00:00Z") == "2026-07-01 08:00 CEST"
    assert when.local(None) == ""


@pytest.mark.parametrize(
    ("far", "shown"),
    [(3 * 86400, "in 3 d"), (86400, "in 24 h"), (90 * 60, "in 90 m"), (30, "in 30 s"),
     (-7200, "2 h ago")],
)  # fmt: skip
def test_columns_say_how_far_off(far: int, shown: str) -> None:
    assert when.short((NOW + timedelta(seconds=far)).isoformat(), NOW) == shown


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (119, "119 s"), (120, "2 m"), (7200, "2 h"), (728483, "8 d")]
)
def test_a_length_has_one_unit(seconds: int, said: str) -> None:
    assert when.length(seconds) == said
