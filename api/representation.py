"""What a noun looks like, and whether it still does: fields, pages, ETag, If-None-Match, If-Match.

ETags are strong: SHA-256 over the body as it goes out, which is the same bytes for the same facts.
`If-Match` on a route that changes a noun is compared with what GET on that noun says right before.
Conditional requests for one noun wait for each other in this process, so of two with the same ETag
one wins. Best effort is what is left: the reconciler or another API process may write between the
comparison and the change; where that must not be, the plan's hash decides within the transaction.
"""

import asyncio
import hashlib
import re
from collections.abc import Iterable
from typing import Any, Final, get_args, get_origin
from weakref import WeakValueDictionary

import orjson
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import lists
from api.idempotency import CHANGING
from api.problems import Malformed
from provisioning.errors import Conflict

PARTIAL: Final = "application/vnd.seed.partial+json"
"""An answer with some of its noun's fields is of another type: it is not what the schema says."""
_JSON = "application/json"
_VERB = re.compile(r":[a-z]+(-[a-z]+)*$")
_TAGS = re.compile(r'\*|(W/)?"[\x21\x23-\x7e]*"(\s*,\s*(W/)?"[\x21\x23-\x7e]*")*')
_LOCKS: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()


class Changed(Conflict):
    code, status = "precondition-failed", 412

    def __init__(self, path: str, etag: str) -> None:
        super().__init__(
            f"{path} is not as you saw it any more"
            if etag
            else f"there is no {path} to be changed",
            f"Look again with GET {path}, and send If-Match with its new ETag.",
        )
        self.headers = {"ETag": etag} if etag else {}


class Representation:
    """Innermost: sees what routes answer, before anybody keeps or counts it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self.app(scope, receive, send)
        elif scope["method"] == "GET":
            await _show(self.app, scope, receive, send)
        elif scope["method"] in CHANGING and (wanted := _tags(scope, "if-match")):
            await self._if_match(wanted, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _if_match(self, wanted: str, scope: Scope, receive: Receive, send: Send) -> None:
        path = _VERB.sub("", scope["path"]) if scope["method"] == "POST" else scope["path"]
        key = (id(asyncio.get_running_loop()), path)
        lock = _LOCKS.setdefault(key, asyncio.Lock())
        async with lock:
            seen = await self._look(path, scope)
            if seen.status not in (200, 404, 405):
                await seen.pass_on(send)  # who may not look, or cannot now, may not compare
                return
            if seen.status == 405:
                raise Malformed(
                    f"there is no GET {path}, so there is nothing to compare with",
                    "Leave out If-Match.",
                )
            if not seen.etag or not _matches(wanted, seen.etag, weak=False):
                raise Changed(path, seen.etag)
            await self.app(scope, receive, send)

    async def _look(self, path: str, scope: Scope) -> "_Seen":
        """What GET says to this caller."""
        inner = {key: value for key, value in scope.items() if key not in _ROUTED}
        kept = (b"host", b"accept")
        inner |= {
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [pair for pair in scope["headers"] if pair[0] in kept],
        }
        seen = _Seen()
        await _show(self.app, inner, _nothing, seen)
        return seen


_ROUTED = frozenset({"route", "endpoint", "path_params", "router"})


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


class _Seen:
    """`send` of a request that we made ourselves."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self.status, self.etag = 0, ""

    async def __call__(self, message: Message) -> None:
        self._messages.append(message)
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.etag = Headers(raw=message["headers"]).get("etag", "")

    async def pass_on(self, send: Send) -> None:
        for message in self._messages:
            await send(message)


async def _show(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    shown = _Shown(scope, send)
    await app(scope, receive, shown)
    await shown.finish()  # here, not in `send`: a refusal is no fault of the route


class _Shown:
    """`send` of a GET: shapes what is JSON, and leaves streams and files alone."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope, self._send = scope, send
        self._start: Message | None = None
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            kind = Headers(raw=message["headers"]).get("content-type", "")
            if message["status"] == 200 and kind.partition(";")[0].strip() == _JSON:
                self._start = message
                return
        if self._start is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")

    async def finish(self) -> None:
        if (start := self._start) is None:
            return
        headers = MutableHeaders(raw=start["headers"])
        body = _shaped(self._scope, bytes(self._body), headers)
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers["ETag"] = etag
        headers.setdefault("Cache-Control", "private, no-cache")
        status = 200
        if (wanted := _tags(self._scope, "if-none-match")) and _matches(wanted, etag, weak=True):
            status, body = 304, b""
            del headers["content-length"], headers["content-type"]
        else:
            headers["Content-Length"] = str(len(body))
        await self._send({**start, "status": status, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": body})


def _tags(scope: Scope, name: str) -> str:
    """A header of entity tags; empty: there is none. Raises Malformed."""
    given = Headers(raw=scope["headers"]).getlist(name)
    text = ", ".join(given).strip()
    if given and not _TAGS.fullmatch(text):
        raise Malformed(
            f"{name} is no list of entity tags", 'Send an ETag as it came, quotes too: "5f0c...".'
        )
    return text


def _matches(wanted: str, etag: str, *, weak: bool) -> bool:
    """RFC 9110, 8.8.3.2: a weak tag is never equal where bytes count."""
    tags = [tag.strip() for tag in wanted.split(",")]
    return wanted == "*" or etag in [tag.removeprefix("W/") if weak else tag for tag in tags]


def _shaped(scope: Scope, body: bytes, headers: MutableHeaders) -> bytes:
    """The body as the query wants it."""
    query = scope["query_string"].decode("latin-1")
    route = scope.get("route")
    declared = declared_queries(route)
    many = body[:1] == b"["
    if {"cursor", "fields"} <= declared:  # it looks at its whole query by itself
        return body
    if not query and not (many and len(body) > 2 * lists.MAX_LIMIT):
        return body
    if "limit" in declared and "fields=" not in query:  # it pages by itself: nothing to cut
        lists.read(query, (), declared, many=False)
        return body
    found = orjson.loads(body)
    rows = found if many else [found]
    known = {name for row in rows if isinstance(row, dict) for name in row} | model_fields(route)
    whole = many and "limit" not in declared  # else the route pages by itself
    wish = lists.read(query, known, declared, many=whole)
    if whole and all(isinstance(row, dict) for row in rows):
        rows, link = lists.page(rows, wish, scope["path"])
        if link:
            headers["Link"] = link
    if wish.fields:
        rows = [lists.only(row, wish.fields) for row in rows]
        headers["Content-Type"] = PARTIAL
    return orjson.dumps(rows if many else rows[0])


def declared_queries(route: Any) -> set[str]:  # noqa: ANN401
    """Names of the query arguments that a route reads itself."""
    if not isinstance(route, APIRoute):
        return set()
    return set(_queries(route.dependant))


def _queries(dependant: Any) -> Iterable[str]:  # noqa: ANN401
    for param in dependant.query_params:
        model = param.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):  # all of them in one argument
            yield from model.model_fields
        else:
            yield param.alias
    for inner in dependant.dependencies:
        yield from _queries(inner)


def item_model(route: Any) -> type[BaseModel] | None:  # noqa: ANN401
    """The model of what a route answers, or of one item of the list."""
    model = getattr(route, "response_model", None)
    if get_origin(model) is list:
        (model,) = get_args(model)
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def model_fields(route: Any) -> set[str]:  # noqa: ANN401
    model = item_model(route)
    if model is None:
        return set()
    return {f.serialization_alias or f.alias or name for name, f in model.model_fields.items()}
