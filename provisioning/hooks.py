"""Webhooks: who is told of which events, how far that got, and what people say of them. Rows only.

provisioning/hook_delivery.py makes the deliveries and posts them.
"""

import re
import secrets
from base64 import b64encode
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import Column, Index, LargeBinary, UniqueConstraint, delete, func
from sqlmodel import Field, Session, SQLModel, col, select

from provisioning.errors import Conflict, Invalid, NotFound
from provisioning.models import Event, now, stored_json, stored_time
from provisioning.names import Name
from provisioning.store import record

MOST_PER_PROJECT: Final = 20
SECRET_PREFIX: Final = "whsec_"  # noqa: S105
SECRET_BYTES: Final = 32  # Standard Webhooks asks for 24 to 64
TEST: Final = "webhook.test"
Address = IPv4Address | IPv6Address

# https, a name or an address, a port, a path with a query: no user, fragment, space or control.
_URL: Final = re.compile(
    r"https://(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>[/?][!\"$-\[\]-~]*)?"
)
_NAT64: Final = int(IPv6Address("64:ff9b::")) >> 32


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"  # given up; a person may have it sent again


class Webhook(SQLModel, table=True):
    """An address that events are posted to.

    project: whose events; empty: everybody's. kinds: how their kind begins; empty: all.
    sealed:  the key of the signatures, sealed to the reconciler.
    after:   the last event that deliveries were made of.
    """

    __table_args__ = (UniqueConstraint("project", "name"),)
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    name: Name
    project: str = ""
    url: str
    kinds: list[str] = stored_json(default=[])
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    after: int = 0
    created_by: str = ""
    created_at: datetime = stored_time(default_factory=now)
    disabled_at: datetime | None = stored_time(default=None)

    def wants(self, event: Event) -> bool:
        """What became of its own deliveries is not sent to itself: that would never end."""
        own = event.kind.startswith("webhook.") and event.subject == str(self.id)
        mine = self.project in ("", event.project)
        return mine and not own and event.kind.startswith(tuple(self.kinds or [""]))


class Delivery(SQLModel, table=True):
    """One event on its way to one webhook."""

    __table_args__ = (
        UniqueConstraint("webhook_id", "event_id"),
        Index("due_deliveries", "state", "next_at"),
    )
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    webhook_id: UUID = Field(foreign_key="webhook.id", index=True)
    event_id: int = Field(foreign_key="event.id")
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    next_at: datetime = stored_time(default_factory=now)
    status: int = 0  # of the last answer; 0: there was none
    error: str = ""
    delivered_at: datetime | None = stored_time(default=None)


# --- addresses ------------------------------------------------------------------------------------


def split(url: str) -> tuple[str, int, str]:
    """(host without brackets, port, path with query). Raises Invalid."""
    found = _URL.fullmatch(url)
    port = int(found["port"] or 443) if found else 0
    if found is None or len(url) > 2048 or not 0 < port < 65536:
        raise Invalid(
            "the URL of a webhook is https://HOST/PATH, without user, fragment, space or control "
            "character",
            "Write it like https://hooks.example.org:8443/seed?room=1.",
        )
    path = found["path"] or "/"
    return found["host"].strip("[]"), port, path if path[0] == "/" else f"/{path}"


def check_url(url: str) -> None:
    """What can be said without asking anybody. Raises Invalid."""
    host, _, _ = split(url)
    literal = _literal(host)
    if literal is None and re.fullmatch(r"[0-9]+|0x[0-9A-Fa-f]*", host.rpartition(".")[2]):
        raise Invalid(f"{host} is no address and no name", "Write the address as 192.0.2.1.")
    if literal is not None and never(literal):
        raise Invalid(f"nothing is sent to {host}", "Give the address that others reach it by.")


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        if ":" in host:
            raise Invalid(f"{host} is no IPv6 address", "Write it as [2001:db8::1].") from None
        return None


def never(address: Address) -> bool:
    """Of no network that a receiver may be on, also as an IPv6 address that stands for it."""
    return any(
        a.is_loopback or a.is_link_local or a.is_multicast or a.is_unspecified or a.is_reserved
        for a in meanings(address)
    )


def meanings(address: Address) -> list[Address]:
    """It, and the IPv4 address that it leads to: mapped, 6to4, NAT64 (RFC 4291, 3056, 6052)."""
    found: list[Address] = [address]
    if isinstance(address, IPv6Address):
        number = int(address)
        if address.ipv4_mapped:
            return [address.ipv4_mapped]
        if address.sixtofour:
            found.append(address.sixtofour)
        if number >> 32 in (_NAT64, 0) and number > 1:
            found.append(IPv4Address(number & 0xFFFFFFFF))
    return found


# --- what people say of them ----------------------------------------------------------------------


def new_secret() -> str:
    """As Standard Webhooks writes a symmetric key."""
    return SECRET_PREFIX + b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def purpose(webhook_id: UUID) -> str:
    """What its secret is sealed for."""
    return f"webhook:{webhook_id}"


def add(session: Session, hook: Webhook) -> None:
    """It is told of what happens from now on. Raises Conflict."""
    same = select(Webhook).where(Webhook.project == hook.project)
    if session.exec(same.where(Webhook.name == hook.name)).first():
        raise Conflict(
            f"there is a webhook {hook.name} already", f"`seed webhook delete {hook.name}`"
        )
    if len(session.exec(same).all()) >= MOST_PER_PROJECT:
        raise Conflict(
            f"there are {MOST_PER_PROJECT} webhooks already", "Delete one: `seed webhook list`."
        )
    hook.after = _newest(session)
    session.add(hook)
    _record(session, hook, "created", hook.created_by)


def find(session: Session, project: str | None, name: str) -> Webhook:
    """By name or UUID. project None sees all. Raises NotFound, Conflict."""
    query = select(Webhook)
    try:
        query = query.where(Webhook.id == UUID(name))
    except ValueError:
        query = query.where(Webhook.name == name)
    if project is not None:
        query = query.where(Webhook.project == project)
    found = session.exec(query).all()
    if not found:
        raise NotFound(f"there is no webhook {name!r}", "See yours: `seed webhook list`.")
    if len(found) > 1:
        raise Conflict(
            f"webhooks named {name} are of several projects",
            "Name it by its id: `seed webhook list -o json`.",
        )
    return found[0]


def switch(session: Session, hook: Webhook, on: bool, who: str) -> None:
    """Disabled, it is sent nothing. Enabled again, it is told of what happens from then on."""
    if (hook.disabled_at is None) is on:
        return
    hook.disabled_at = None if on else now()
    if on:
        hook.after = _newest(session)
    session.add(hook)
    _record(session, hook, "enabled" if on else "disabled", who)


def remove(session: Session, hook: Webhook, who: str) -> None:
    session.execute(delete(Delivery).where(col(Delivery.webhook_id) == hook.id))
    session.delete(hook)
    _record(session, hook, "deleted", who)


def send_test(session: Session, hook: Webhook, who: str) -> Delivery:
    """An event for this webhook, whatever kinds it wants. Raises Conflict."""
    if hook.disabled_at:
        raise Conflict(f"webhook {hook.name} is disabled", f"`seed webhook enable {hook.name}`")
    _record(session, hook, "test", who)
    session.flush()
    delivery = Delivery(webhook_id=hook.id, event_id=_newest(session))
    session.add(delivery)
    return delivery


def send_again(session: Session, hook: Webhook, delivery_id: UUID | None) -> int:
    """One delivery, or all dead ones: as if they were new. How many. Raises NotFound."""
    query = select(Delivery).where(Delivery.webhook_id == hook.id)
    if delivery_id is None:
        rows = session.exec(query.where(Delivery.state == DeliveryState.DEAD)).all()
    else:
        rows = session.exec(query.where(Delivery.id == delivery_id)).all()
        if not rows:
            raise NotFound(
                f"webhook {hook.name} has no delivery {delivery_id}",
                f"See them: `seed webhook deliveries {hook.name}`.",
            )
    for row in rows:
        row.state, row.attempts, row.next_at = DeliveryState.PENDING, 0, now()
        session.add(row)
    return len(rows)


def counts(session: Session, hook: Webhook) -> dict[DeliveryState, int]:
    query = select(Delivery.state, func.count()).where(Delivery.webhook_id == hook.id)
    return {DeliveryState(s): n for s, n in session.exec(query.group_by(col(Delivery.state))).all()}


def _newest(session: Session) -> int:
    return session.exec(select(func.max(Event.id))).one() or 0


def _record(session: Session, hook: Webhook, what: str, who: str) -> None:
    record(session, f"webhook.{what}", hook.id, hook.name, who=who, project=hook.project)
