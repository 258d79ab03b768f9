"""Events on their way to webhooks: rows first, then posts, then what came of them.

At least once: killed between a post and its record, the same event is sent again under the same
`webhook-id`. In order as far as it goes: what failed is sent later, what came after it is not kept
back. The body is CloudEvents 1.0 (structured, JSON), the signature Standard Webhooks 1.0 (HMAC).

A claimer names the address and Seed stands in the datacenter: so the host is resolved here each
time, the address is judged, and that very address is connected to. Nothing is redirected.
"""

import asyncio
import hashlib
import hmac
import json
import random
import socket
import ssl
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Final
from uuid import UUID

import httpx
import structlog
from sqlalchemy import delete
from sqlmodel import Session, col, func, select

from provisioning import chain, hooks
from provisioning.errors import SeedError
from provisioning.hooks import Address, Delivery, DeliveryState, Webhook
from provisioning.models import Event, now
from provisioning.store import Store, record

log = structlog.get_logger()

THREADS: Final = 8
BATCH: Final = 500
LOOK_SECONDS: Final = 0.5
TURN_SECONDS: Final = 10.0  # then another webhook may have the thread
PAUSE_SECONDS: Final = 5.0  # after a failure: it is not asked for each waiting event at once
TOTAL_SECONDS: Final = 20.0  # for one post, whatever the receiver does
TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0)
ANSWER_CAP: Final = 16 * 1024
DELAYS: Final = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 28800)
"""Seconds before each further attempt, a fifth more or less: eleven attempts in about a day."""
KEPT: Final = timedelta(days=7)  # what was delivered
PRUNE_SECONDS: Final = 3600.0
MEDIA_TYPE: Final = "application/cloudevents+json"
GONE: Final = 410


class Refused(Exception):
    """Why nothing was sent, or what was wrong with the answer; inside this module only."""


@dataclass(frozen=True)
class Outcome:
    """status: of the answer; 0: there was none. error: empty: it was taken."""

    status: int
    error: str


def resolve(host: str, port: int) -> list[Address]:
    """Every address of a host. glibc gives up by itself, after resolv.conf's timeout; only the
    threads of this file wait for it. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(str(info[4][0]).partition("%")[0]) for info in found]


def surroundings(*networks: IPv4Network | IPv6Network) -> Callable[[Address], bool]:
    """The rule of a running Seed: neither its own addresses, nor these networks, nor what is never
    a receiver's."""

    def refuses(address: Address) -> bool:
        within = any(a in network for a in hooks.meanings(address) for network in networks)
        return hooks.never(address) or within or any(map(_is_ours, hooks.meanings(address)))

    return refuses


def _is_ours(address: Address) -> bool:
    """The kernel lets nobody bind to what is not this machine's."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


@dataclass
class Courier:
    """source: CloudEvents' `source`, this Seed. refuses: where nothing is sent. trust: whose
    certificates are believed, asked for each post."""

    store: Store
    unseal: Callable[[bytes, str], str]
    source: str
    refuses: Callable[[Address], bool]
    trust: Callable[[], ssl.SSLContext] = ssl.create_default_context
    resolve: Callable[[str, int], Sequence[Address]] = resolve
    stopping: threading.Event = field(default_factory=threading.Event)
    _looked: dict[UUID, int] = field(default_factory=dict)
    _prune_at: float = 0.0

    # --- rows -----------------------------------------------------------------------------------

    def spread(self) -> float:
        """Make deliveries of new events, each webhook's with its cursor in one transaction."""
        self._prune()
        with self.store.read() as session:
            rows = session.exec(select(Webhook).where(col(Webhook.disabled_at).is_(None))).all()
            begin = {h.id: max(h.after, self._looked.get(h.id, 0)) for h in rows}
            if not rows or self._newest(session) <= min(begin.values()):
                return LOOK_SECONDS
            query = select(Event).where(col(Event.id) > min(begin.values()))
            events = session.exec(query.order_by(col(Event.id)).limit(BATCH)).all()
        upto = events[-1].id or 0
        for hook in rows:
            wanted = [e.id or 0 for e in events if (e.id or 0) > begin[hook.id] and hook.wants(e)]
            if wanted or upto - hook.after >= BATCH:
                self._write(hook, wanted, upto)
            self._looked[hook.id] = max(upto, begin[hook.id])
        return 0.0 if len(events) == BATCH else LOOK_SECONDS

    def _write(self, seen: Webhook, wanted: list[int], upto: int) -> None:
        with self.store.write() as session:
            hook = session.get(Webhook, seen.id)
            if hook is None or hook.disabled_at or hook.after != seen.after:
                return  # deleted, disabled, or enabled anew meanwhile
            session.add_all(Delivery(webhook_id=hook.id, event_id=number) for number in wanted)
            hook.after = max(upto, hook.after)
            session.add(hook)

    @staticmethod
    def _newest(session: Session) -> int:
        return session.exec(select(func.max(Event.id))).one() or 0

    def _prune(self) -> None:
        if time.monotonic() < self._prune_at:
            return
        old = (col(Delivery.state) == DeliveryState.DELIVERED) & (
            col(Delivery.delivered_at) < now() - KEPT
        )
        with self.store.write() as session:
            session.execute(delete(Delivery).where(old))
        self._prune_at = time.monotonic() + PRUNE_SECONDS

    def due(self) -> list[UUID]:
        """Webhooks that something waits for."""
        with self.store.read() as session:
            return list(session.exec(_waiting(select(Delivery.webhook_id).distinct())).all())

    # --- posts ----------------------------------------------------------------------------------

    def turn(self, webhook_id: UUID) -> float:
        """Send what waits for one webhook, oldest first, until one fails or its time is over."""
        until = time.monotonic() + TURN_SECONDS
        while time.monotonic() < until and not self.stopping.is_set():
            with self.store.read() as session:
                query = _waiting(select(Webhook, Delivery, Event)).join(
                    Event, col(Event.id) == col(Delivery.event_id)
                )
                query = query.where(Webhook.id == webhook_id)
                found = session.exec(query.order_by(col(Delivery.event_id)).limit(1)).first()
            if found is None:
                return LOOK_SECONDS
            hook, delivery, event = found
            outcome = self.post(hook, delivery, event)
            self._record(hook, delivery, outcome)
            if outcome.error:
                return PAUSE_SECONDS
        return 0.0

    def post(self, hook: Webhook, delivery: Delivery, event: Event) -> Outcome:
        """One attempt; nothing is written."""
        body = cloud_event(event, self.source)
        try:
            secret = self.unseal(hook.sealed, hooks.purpose(hook.id))
            headers = signed(secret, str(delivery.id), int(now().timestamp()), body)
            host, port, path = hooks.split(hook.url)
            address = self._address(host, port)
            status = asyncio.run(self._send(address, host, port, path, headers, body))
        except Refused as refused:
            return Outcome(0, str(refused))
        except SeedError as err:
            return Outcome(0, str(err))
        except TimeoutError:
            return Outcome(0, f"it did not answer within {TOTAL_SECONDS:.0f} s")
        except httpx.TimeoutException:
            return Outcome(0, "it did not answer in time")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as err:
            return Outcome(0, _broken(err))
        return Outcome(status, _verdict(status))

    def _address(self, host: str, port: int) -> Address:
        """The first of the host's; all must be allowed, so that none is a way round the rule."""
        try:
            found = self.resolve(host, port)
        except (OSError, UnicodeError) as err:
            raise Refused(f"{host} is not known to the name server") from err
        if not found:
            raise Refused(f"{host} has no address")
        if any(self.refuses(address) for address in found):
            raise Refused(f"{host} is at an address that webhooks are not sent to")
        return found[0]

    async def _send(
        self, address: Address, host: str, port: int, path: str, headers: dict[str, str],
        body: bytes,
    ) -> int:  # fmt: skip
        """To `address`, whatever `host` means by now; its certificate must be that of `host`."""
        at, named = (f"[{a}]" if ":" in a else a for a in (str(address), host))
        extensions: dict[str, Any] = {} if host == str(address) else {"sni_hostname": host}
        headers = headers | {"Host": named if port == 443 else f"{named}:{port}"}
        async with (
            asyncio.timeout(TOTAL_SECONDS),
            httpx.AsyncClient(verify=self.trust(), timeout=TIMEOUT, trust_env=False) as client,
            client.stream(
                "POST", f"https://{at}:{port}{path}", headers=headers, content=body,
                extensions=extensions, follow_redirects=False,
            ) as answer,
        ):  # fmt: skip
            size = 0
            async for chunk in answer.aiter_raw():
                size += len(chunk)
                if size > ANSWER_CAP:  # nobody reads it; only the status counts
                    break
            return answer.status_code

    def _record(self, hook: Webhook, sent: Delivery, outcome: Outcome) -> None:
        with self.store.write() as session:
            row = session.get(Delivery, sent.id)
            if row is None:
                return  # the webhook was deleted meanwhile
            row.attempts += 1
            row.status, row.error = outcome.status, outcome.error
            if not outcome.error:
                row.state, row.delivered_at = DeliveryState.DELIVERED, now()
            elif row.attempts > len(DELAYS) or outcome.status == GONE:
                self._give_up(session, hook, row)
            else:
                seconds = DELAYS[row.attempts - 1] * random.uniform(0.8, 1.2)  # noqa: S311
                row.next_at = now() + timedelta(seconds=seconds)
            session.add(row)

    @staticmethod
    def _give_up(session: Session, seen: Webhook, row: Delivery) -> None:
        row.state = DeliveryState.DEAD
        record(
            session, "webhook.dead", seen.id, f"{seen.name}: {row.error}", who="seed",
            project=seen.project, event=row.event_id, attempts=row.attempts,
        )  # fmt: skip
        hook = session.get(Webhook, seen.id)
        if row.status == GONE and hook:
            hooks.switch(session, hook, False, "seed")


def _waiting(query: Any) -> Any:  # noqa: ANN401
    """Of deliveries that are due, of webhooks that are not disabled."""
    return query.join_from(Delivery, Webhook, col(Webhook.id) == col(Delivery.webhook_id)).where(
        Delivery.state == DeliveryState.PENDING,
        col(Delivery.next_at) <= now(),
        col(Webhook.disabled_at).is_(None),
    )


def cloud_event(event: Event, source: str) -> bytes:
    """CloudEvents 1.0, JSON format: the same bytes at each attempt."""
    told = {
        "specversion": "1.0",
        "id": str(event.id),
        "source": source,
        "type": f"seed.{event.kind}",
        "time": chain.in_words(event.at),
        "datacontenttype": "application/json",
        "data": {
            "project": event.project,
            "who": event.who,
            "why": event.why,
            "plan": event.plan,
            "request_id": event.request_id,
            "message": event.message,
            "data": event.data,
        },
    }
    if event.subject:  # an empty one is not allowed
        told["subject"] = event.subject
    return json.dumps(told).encode()


def signed(secret: str, message_id: str, at: int, body: bytes) -> dict[str, str]:
    """Headers of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`."""
    key = b64decode(secret.removeprefix(hooks.SECRET_PREFIX))
    text = f"{message_id}.{at}.".encode() + body
    signature = b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{signature}",
        "content-type": MEDIA_TYPE,
        "user-agent": "seed",
        "accept-encoding": "identity",
    }


def _verdict(status: int) -> str:
    if 200 <= status < 300:
        return ""
    if 300 <= status < 400:
        return f"it answered {status}: webhooks are not redirected"
    return f"it answered {status}"


def _broken(err: Exception) -> str:
    """The reason in a few words, never the URL: there may be a key in it."""
    cause: BaseException | None = err
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, ConnectionRefusedError):
            return "it refused the connection"
        cause = cause.__cause__ or cause.__context__
    return f"the connection broke: {type(err).__name__}"
