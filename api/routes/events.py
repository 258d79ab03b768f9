"""What happened, oldest first: in pages, as a stream, and whether all of it is still there."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, PlainSerializer, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from api.auth import Anyone, Insider
from api.feed import Feed, Filter
from api.parts import Here
from api.roles import Caller
from provisioning import chain
from provisioning.chain import Head
from provisioning.errors import SeedError
from provisioning.models import Event

router = APIRouter(tags=["events"])

STREAM: Final = "text/event-stream"
HEARTBEAT_SECONDS: Final = 15
SEND_SECONDS: Final = 30.0
"""A follower that takes nothing for so long is let go."""
LOOK_AGAIN_SECONDS: Final = 5.0
"""How often a follower's right to follow is looked at."""
FRESH_SECONDS: Final = 1.0
"""No event is sent on a look that is older than this."""
RETRY_MS: Final = 2000

Number = Annotated[int | SkipJsonSchema[None], Query(ge=0, le=2**63 - 1)]
At = Annotated[
    datetime,
    PlainSerializer(chain.in_words, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class EventOut(BaseModel):
    """One event. hash: docs/events.md says of what; empty for a claimer, as `previous` is."""

    id: int
    at: At
    kind: str
    subject: str
    project: str
    who: str
    why: str
    plan: str
    request_id: str
    message: str
    data: dict[str, Any]
    previous: str
    hash: str


class VerdictOut(BaseModel):
    """ok: the chain is whole. broken, why: the first wrong event. head: keep it elsewhere."""

    ok: bool
    events: int
    unchained: int
    head: str
    broken: int
    why: str


def shown(event: Event, caller: Caller) -> EventOut:
    """A claimer is not told the digests of what others did."""
    told = EventOut.model_validate(event, from_attributes=True)
    return told if caller.sees_all else told.model_copy(update={"previous": "", "hash": ""})


@router.get(
    "/v1/events",
    response_model=list[EventOut],
    responses={200: {"content": {STREAM: {"schema": {"type": "string"}}}}},
)
def list_events(
    request: Request,
    caller: Anyone,
    parts: Here,
    after: Number = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    subject: Annotated[str | SkipJsonSchema[None], Query(max_length=255)] = None,
    kind: Annotated[str, Query(max_length=255)] = "",
    accept: Annotated[str, Header(include_in_schema=False)] = "",
    last_event_id: Annotated[int | SkipJsonSchema[None], Header(ge=0, le=2**63 - 1)] = None,
) -> Any:  # noqa: ANN401
    """Events younger than the one numbered `after`; the last one's id is the next `after`.

    kind: how it begins, as `claim.`. A claimer sees those of its project. With
    `Accept: text/event-stream` it is a stream: from `Last-Event-ID` or `after` on, else from now.
    """
    wanted = Filter(None if caller.sees_all else caller.project, subject, kind)
    if STREAM in accept.lower():
        since = after if last_event_id is None else last_event_id
        newest = parts.feed.newest()  # a number above it is of a database that was lost since
        begin = newest if since is None else min(since, newest)
        again: Callable[[], Awaitable[Caller]] = request.state.identify
        return Stream(parts.feed, Follower(parts.feed, caller, again, wanted, begin))
    with parts.store.read() as session:
        return [shown(event, caller) for event in wanted.page(session, after or 0, limit)]


@router.get("/v1/events:verify")
def verify_events(
    caller: Insider, parts: Here, head: Annotated[str, Query(max_length=100)] = ""
) -> VerdictOut:
    """Walk the whole chain. head: `ID:HASH` as an earlier walk gave it, and you kept it."""
    found = chain.verify(parts.store.read, Head.parse(head) if head else None)
    return VerdictOut(
        ok=not found.why,
        events=found.events,
        unchained=found.unchained,
        head=str(found.head or ""),
        broken=found.broken,
        why=found.why,
    )


class Follower:
    """What one caller is sent, for as long as it may see it."""

    def __init__(
        self,
        feed: Feed,
        caller: Caller,
        again: Callable[[], Awaitable[Caller]],
        wanted: Filter,
        last: int,
    ) -> None:
        self.caller = caller
        self._feed, self._again, self._wanted, self._last = feed, again, wanted, last
        self._seen = time.monotonic()

    async def __aiter__(self) -> AsyncIterator[ServerSentEvent]:
        # The number alone makes no event: who is cut off before the first one resumes from here.
        yield ServerSentEvent(id=str(self._last), retry=RETRY_MS, comment="events follow")
        with self._feed.window() as window:
            while not self._feed.closed:
                found, upto = await window.after(self._last, self._wanted, LOOK_AGAIN_SECONDS)
                if not await self._still(FRESH_SECONDS if found else LOOK_AGAIN_SECONDS / 2):
                    yield ServerSentEvent(comment="you may not follow any longer")
                    return
                for event in found:
                    yield self._told(event)
                self._last = upto

    async def _still(self, seconds: float) -> bool:
        """Is the caller still who it was, with the same rights, as of so many seconds ago?"""
        if time.monotonic() - self._seen < seconds:
            return True
        try:
            who = await self._again()
        except SeedError:
            return False
        self._seen = time.monotonic()
        return _rights(who) == _rights(self.caller)

    def _told(self, event: Event) -> ServerSentEvent:
        body = shown(event, self.caller).model_dump(mode="json")
        return ServerSentEvent(id=str(event.id), data=json.dumps(body))


def _rights(caller: Caller) -> tuple[object, ...]:
    return caller.name, caller.project, caller.sees_all, bool(caller.roles)


class Stream(EventSourceResponse):
    """Takes one of the places while it is sent."""

    def __init__(self, feed: Feed, follower: Follower) -> None:
        super().__init__(
            aiter(follower),
            ping=HEARTBEAT_SECONDS,
            ping_message_factory=lambda: ServerSentEvent(comment="still here"),
            send_timeout=SEND_SECONDS,
            headers={"Cache-Control": "no-store"},
        )
        self._feed, self._follower = feed, follower

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._feed.place(self._follower.caller.name), suppress(SendTimeoutError):
            await super().__call__(scope, receive, send)
