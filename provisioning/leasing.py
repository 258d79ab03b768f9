"""The end of a lease: who is warned and when, when a claim is given back by itself.

A lease ends, then comes its grace, then the release as if somebody had asked for it: off at once,
and taken back by a renewal as long as the undo window lasts. Nothing is written for that: it is
over when the clock says so. A protected claim is warned of and never ends by itself.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from sqlmodel import select

from provisioning import root_device
from provisioning.models import Claim, Event, now
from provisioning.outcome import Done
from provisioning.states import ClaimState, Wanted
from provisioning.store import Store, record

WARNINGS: Final = (timedelta(days=1), timedelta(hours=1), timedelta(0))
"""So long before the end an event says so; the last one when the grace begins."""
LOOK_SECONDS: Final = 30.0
OVER: Final = "claim.lease-over"


def over_at(claim: Claim) -> datetime | None:
    """When it is given back by itself; None: never."""
    if claim.protected or claim.lease_end is None or claim.held_at is None:
        return None
    return claim.lease_end + timedelta(seconds=claim.grace_seconds)


def is_over(claim: Claim) -> bool:
    end = over_at(claim)
    return end is not None and end <= now()


def undo_until(claim: Claim, undo: timedelta) -> datetime | None:
    """Until when its disks stay as they are: as asked for, or so long after the lease."""
    end = over_at(claim)
    if claim.wanted is Wanted.RELEASED or end is None:
        return claim.undo_until
    # Nobody could take it back before it was seen to be off: we were down, or it was protected.
    return (max(end, claim.since) if claim.state is ClaimState.RELEASING else end) + undo


def ran_out(claim: Claim) -> bool:
    """Is its time over, and it never had a node?"""
    queued = claim.state is ClaimState.QUEUED  # its lease counts from when it has its nodes
    end = claim.renewed_to or claim.ends_at if queued else claim.lease_end
    waits = claim.state in (ClaimState.QUEUED, ClaimState.RESERVED) and claim.held_at is None
    return waits and end is not None and end <= now()


def warn(store: Store, claim: Claim) -> Done:
    """One event for each warning that is due and was not given for this very end."""
    end = claim.lease_end
    if end is None:
        return Done()
    due = [w for w in WARNINGS if end - w <= now()]
    names = [f"{end.isoformat()} {int(w.total_seconds())}" for w in due]
    if set(names) - set(claim.warned):
        with store.write() as session:
            row = session.get_one(Claim, claim.id)
            if row.lease_end == end:
                row.warned = names
                session.add(row)
                kind = "claim.lease-ends" if due[-1] else "claim.lease-ended"
                record(
                    session, kind, row.id, f"{end:%Y-%m-%d %H:%M} UTC", project=row.project,
                    ends_at=end.isoformat(), protected=row.protected,
                )  # fmt: skip
    nexts = [end - w for w in WARNINGS if end - w > now()]
    then = nexts[0] if nexts else over_at(claim)
    left = (then - now()).total_seconds() if then else LOOK_SECONDS
    return Done(seconds=max(0.1, min(left, LOOK_SECONDS)))


def record_over(store: Store, claim: Claim) -> None:
    """Before anything of a claim whose lease is over is switched off; once for each end."""
    end = over_at(claim)
    if end is None or claim.wanted is Wanted.RELEASED:
        return  # a person asked, and that is recorded
    mark = end.isoformat()
    with store.write() as session:
        told = session.exec(
            select(Event.data).where(Event.subject == str(claim.id), Event.kind == OVER)
        ).all()
        if mark not in [data.get("ended_at") for data in told]:
            record(
                session, OVER, claim.id, claim.name, who="seed", project=claim.project,
                why=f"its lease and grace ended {end:%Y-%m-%d %H:%M} UTC", ended_at=mark,
            )  # fmt: skip


def root_device_of(claim: Claim) -> dict[str, Any]:
    """What Ironic's instance_info says of the disk that the image goes to."""
    hints = root_device.effective(claim.root_device, claim.disk_gib)
    return {"root_device": hints} if hints else {}
