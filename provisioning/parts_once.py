"""One-time parts: what is secret or large, fetched once by the node it is for.

A URL has 256 random bits. The row keeps their SHA-256 and the content under a key made of them, so
that neither the database nor anybody who reads it has the content. A part is good for the node of
its order, from that node's addresses, until its proof burns it and at most an hour.
"""

import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlmodel import Session, select

from provisioning import orders
from provisioning.errors import NotFound
from provisioning.models import Address, Order, now
from provisioning.one_time import OneTimePart, burn
from provisioning.secrets import digest
from provisioning.states import OrderKind
from provisioning.store import Store, record
from provisioning.targets import PartSpec, PartUrl

__all__ = ["LONGEST", "READS", "Told", "burn", "make", "read"]

LONGEST: Final = timedelta(minutes=60)
READS: Final = 100
"""Of one part. A boot attempt needs a few; each is an event, and events must not fill the disk."""
PATH: Final = "/v1/parts/"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_NONCE = 12  # bytes, NIST SP 800-38D


@dataclass(frozen=True, slots=True)
class Told:
    """The name of a part and what is in it."""

    name: str
    content: bytes


def make(
    session: Session, order: Order, specs: Iterable[PartSpec], base_url: str, until: datetime
) -> list[PartUrl]:
    """New URLs for these parts of this order, in the caller's transaction.

    Made again after a crash they are others; the earlier ones stay good, as Ironic may have been
    told them already.
    """
    found = []
    for spec in specs:
        secret = secrets.token_urlsafe(32)
        row = OneTimePart(
            order_id=order.id,
            node_uuid=order.node_uuid,
            generation=order.generation,
            name=spec.name,
            url_hash=digest(secret),
            content=b"",
            valid_until=min(until, now() + LONGEST),
        )
        nonce = os.urandom(_NONCE)
        row.content = nonce + AESGCM(_key(secret)).encrypt(nonce, spec.content, _bound_to(row))
        session.add(row)
        url = f"{base_url.rstrip('/')}{PATH}{secret}"
        found.append(PartUrl(spec.name, spec.path, spec.mode, url, spec.owner))
    if found:
        names = ", ".join(p.name for p in found)
        record(session, "order.parts", order.node_uuid, names, order=str(order.id))
    session.flush()
    return found


def read(store: Store, token: str, source: str) -> Told:
    """The part behind this token. Raises NotFound, whatever was wrong.

    A live token that comes from an address of somebody else is known to somebody else: the order
    is stopped.
    """
    if not _TOKEN.fullmatch(token):
        raise _nothing()
    with store.write() as session:
        told = _told(session, token, source)
    if told is None:  # after the commit: the alarm is kept
        raise _nothing()
    return told


def _told(session: Session, token: str, source: str) -> Told | None:
    part = session.exec(select(OneTimePart).where(OneTimePart.url_hash == digest(token))).first()
    if part is None or not _is_live(part):
        return None
    order = session.get(Order, part.order_id)
    if order is None or not _is_of(order, part):
        return None
    owner = session.get(Address, source)
    if owner is None or owner.node_uuid != part.node_uuid:
        orders.alarm(session, order, f"its part {part.name} was asked for from {source}")
        return None
    if part.reads >= READS:
        return None
    part.reads += 1
    part.first_read_at = part.first_read_at or now()
    session.add(part)
    record(
        session, "order.part-read", part.node_uuid, f"{part.name}, time {part.reads}",
        order=str(order.id), source=source,
    )  # fmt: skip
    return _opened(part, token)


def _opened(part: OneTimePart, token: str) -> Told | None:
    nonce, sealed = part.content[:_NONCE], part.content[_NONCE:]
    try:
        return Told(part.name, AESGCM(_key(token)).decrypt(nonce, sealed, _bound_to(part)))
    except InvalidTag:  # somebody changed the row
        return None


def _is_live(part: OneTimePart) -> bool:
    return part.burned_at is None and part.valid_until > now()


def _is_of(order: Order, part: OneTimePart) -> bool:
    waits = order.kind is OrderKind.DEPLOY and order.closed_at is None and not order.alarm
    same = (order.node_uuid, order.generation) == (part.node_uuid, part.generation)
    return waits and same and order.proof_at is None


def _key(secret: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"seed one-time part").derive(secret.encode())


def _bound_to(part: OneTimePart) -> bytes:
    return f"{part.order_id}/{part.node_uuid}/{part.generation}/{part.name}".encode()


def _nothing() -> NotFound:
    return NotFound("there is no such part", "seed claim list")
