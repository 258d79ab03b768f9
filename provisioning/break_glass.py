"""Who may change raw Ironic for a while, past Seed's rules; and the record of what they did there.

One open row per person. It ends by time, by hand, or with the key that opened it.
"""

from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from sqlmodel import Session, col, select

from provisioning.errors import Conflict, Invalid, NotFound
from provisioning.models import now
from provisioning.store import record
from provisioning.tenants import BreakGlass

log = structlog.get_logger()

LASTS: Final = timedelta(minutes=30)
MIN_WHY: Final = 10
RECENTLY: Final = timedelta(hours=12)
"""So long somebody is told that theirs ran out, and not just that they may not."""


def opened(session: Session, who: str, why: str) -> BreakGlass:
    """A new one. Raises Invalid without a reason, Conflict where one is open."""
    why = " ".join(why.split())
    if len(why) < MIN_WHY:
        raise Invalid(
            f"a reason has at least {MIN_WHY} characters: it is what others will read of this",
            "seed break-glass open --why 'node r1-u07 hangs in deploying, ticket 4711'",
        )
    if mine := current(session, who):
        raise Conflict(
            f"break-glass is open for {who} until {mine.until:%H:%M:%S} UTC",
            "seed break-glass show",
        )
    row = BreakGlass(who=who, why=why, until=now() + LASTS)
    session.add(row)
    record(session, "break-glass.opened", who, _until(row.until), who=who, why=why)
    log.warning("break-glass.opened", who=who, why=why, until=row.until.isoformat())
    return row


def current(session: Session, who: str) -> BreakGlass | None:
    """Theirs, if it is open at this moment."""
    return next((row for row in all_open(session) if row.who == who), None)


def all_open(session: Session) -> list[BreakGlass]:
    wanted = (col(BreakGlass.closed_at).is_(None), col(BreakGlass.until) > now())
    return list(session.exec(select(BreakGlass).where(*wanted).order_by(col(BreakGlass.until))))


def last_end(session: Session, who: str) -> datetime | None:
    """When their last one ended, if that is not long ago."""
    latest = col(BreakGlass.opened_at).desc()
    row = session.exec(select(BreakGlass).where(BreakGlass.who == who).order_by(latest)).first()
    if row is None or row.opened_at < now() - RECENTLY:
        return None
    return min(row.until, row.closed_at or row.until)


def close(session: Session, who: str, by: str) -> None:
    """Raises NotFound where none is open."""
    if not end(session, who, by):
        raise NotFound(f"break-glass is not open for {who}", "seed break-glass show")


def end(session: Session, who: str, by: str, why: str = "") -> bool:
    """Close theirs if it is open: by hand, or because their key or their role is gone."""
    row = current(session, who)
    if row is None:
        return False
    row.closed_at = now()
    record(session, "break-glass.closed", who, f"closed by {by}", who=by, why=why)
    log.warning("break-glass.closed", who=who, by=by, why=why)
    return True


def called(session: Session, row: BreakGlass, call: str, **more: Any) -> None:
    """Before the call is sent. `call`: method and path."""
    record(session, "break-glass.called", row.who, call, who=row.who, why=row.why, **more)
    log.warning("break-glass.called", who=row.who, call=call)


def _until(until: datetime) -> str:
    return f"may change raw Ironic until {until:%Y-%m-%d %H:%M:%S} UTC"
