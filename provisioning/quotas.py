"""Quotas: how many nodes a project's living claims may name, of a class and in all."""

from sqlalchemy import func
from sqlmodel import Session, col, select

from provisioning.errors import QuotaExceeded
from provisioning.models import Claim
from provisioning.tenants import Quota

ALL = ""
"""As a class: all of them together."""


def held(session: Session, project: str) -> dict[str, int]:
    """Class -> nodes of the project's living claims, queued ones too; `ALL` is their sum."""
    rows = session.exec(
        select(Claim.resource_class, func.sum(col(Claim.count)))
        .where(Claim.project == project, col(Claim.ended_at).is_(None))
        .group_by(col(Claim.resource_class))
    ).all()
    found = {name: int(count) for name, count in rows}
    return {**found, ALL: sum(found.values())}


def check(session: Session, project: str, resource_class: str, more: int) -> None:
    """Raises QuotaExceeded where `more` nodes of the class would be too many.

    Counts what is in the session: call it before the new claim is added, in the transaction that
    adds it.
    """
    quotas = session.exec(
        select(Quota)
        .where(Quota.project == project, col(Quota.resource_class).in_((resource_class, ALL)))
        .order_by(col(Quota.resource_class).desc())  # the class's own first
    ).all()
    if not quotas:
        return
    now_held = held(session, project)
    for quota in quotas:
        if now_held.get(quota.resource_class, 0) + more > quota.nodes:
            raise _exceeded(quota, now_held.get(quota.resource_class, 0), more)


def _exceeded(quota: Quota, held_now: int, more: int) -> QuotaExceeded:
    one = quota.resource_class or "--all"
    allowed = (
        f"project {quota.project} may hold {quota.nodes} of class {one}; it holds {held_now}"
        if quota.resource_class
        else f"project {quota.project} may hold {quota.nodes} of all classes together; "
        f"it holds {held_now}"
    )
    return QuotaExceeded(
        f"{allowed}, and {more} more would be too many",
        "Ask for fewer or release a claim: `seed claim list`. An operator raises it: "
        f"`seed quota set {quota.project} {one} --nodes N`.",
    )
