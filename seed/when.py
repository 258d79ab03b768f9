"""Times as people type and read them: "3d", "12h", "2026-12-01 08:00", in this machine's zone."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from seed.client import ClientError

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_PART: Final = re.compile(r"(\d{1,9})\s*([smhdw])")
_WHOLE: Final = re.compile(rf"({_PART.pattern}\s*)+")
_HOW: Final = "Write it like 3d, 12h, 1d12h, or 2026-12-01 08:00 (your time zone)."


def seconds(text: str) -> int:
    """A length: "90m", "12h", "1d12h", "2w". Raises ClientError."""
    plain = text.strip().lower()
    if not _WHOLE.fullmatch(plain):
        raise ClientError(
            f"{text!r} is no length of time", "Write it like 90m, 12h, 3d, 1d12h or 2w."
        )
    return sum(int(number) * UNITS[unit] for number, unit in _PART.findall(plain))


def moment(text: str, now: datetime | None = None) -> datetime:
    """A time, or a length from now. Without a zone it is this machine's. Raises ClientError."""
    plain = text.strip()
    try:
        if _WHOLE.fullmatch(plain.lower()):
            return (now or datetime.now(UTC)) + timedelta(seconds=seconds(plain))
        return datetime.fromisoformat(plain).astimezone()
    except (ValueError, OverflowError, OSError) as error:
        raise ClientError(f"{text!r} is no time", _HOW) from error


def local(told: str | None) -> str:
    """An answer's time for people: in this machine's zone, which is named."""
    if not told:
        return ""
    return f"{datetime.fromisoformat(told).astimezone():%Y-%m-%d %H:%M %Z}"


def short(told: str | None, now: datetime | None = None) -> str:
    """How far off: "in 3 d", "2 h ago"; for a column."""
    if not told:
        return ""
    far = (datetime.fromisoformat(told) - (now or datetime.now(UTC))).total_seconds()
    return f"in {length(far)}" if far >= 0 else f"{length(-far)} ago"


def length(seconds: float) -> str:
    """In one unit: "3 d", "90 m"."""
    unit = next((u for u in "dhm" if seconds >= 2 * UNITS[u]), "s")
    return f"{seconds // UNITS[unit]:.0f} {unit}"


def shown(facts: dict[str, Any], *names: str) -> dict[str, Any]:
    """The same facts, with these times as people read them."""
    return facts | {name: local(facts.get(name)) for name in names}
