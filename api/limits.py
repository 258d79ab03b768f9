"""Bodies are measured on their raw bytes, before anything parses them."""

import re
from collections.abc import Collection, Mapping
from typing import Final

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import strict_json
from api.problems import Malformed, TooLarge, Unsupported
from provisioning.errors import Invalid

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 25
SMALL: Final = 8 * 1024
"""Looking at so few bytes takes less than the way to another thread and back."""
_NOTHING: Final = (b"", b"{}", b"null")  # as clients write that there is none
STREAMED: Final = re.compile(r"/v1/image-intakes/[^/]*/content")
"""Paths whose PUT is a disk image: its route reads, counts and keeps it as it comes."""
_JSON = re.compile(rb"application/([\w.+-]+\+)?json")
# A whole string, closed or not, or one bracket. Possessive, and a string always matches once its
# quote is seen: linear time, whatever is sent.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def depth(body: bytes) -> int:
    """How deep brackets nest outside of strings; stops counting above MAX_DEPTH."""
    deepest = level = 0
    for token in _TOKEN.finditer(body):
        match body[token.start()]:
            case 0x5B | 0x7B:  # [ {
                level += 1
                deepest = max(deepest, level)
                if deepest > MAX_DEPTH:
                    return deepest
            case 0x5D | 0x7D:  # ] }
                level -= 1
    return deepest


def check(body: bytes) -> None:
    """Raises Malformed or Invalid for what no JSON parser should see."""
    if b"\0" in body:  # UTF-16 and UTF-32, which JSON parsers guess and `depth` cannot read
        raise Malformed("the body is not UTF-8 text", "send JSON in UTF-8, without NUL bytes")
    if depth(body) > MAX_DEPTH:
        raise Malformed(
            f"the body nests deeper than {MAX_DEPTH} levels", "send a flatter JSON document"
        )
    strict_json.check(body)


async def none_unasked(request: Request) -> None:
    """Raises Invalid for a body that nobody would look at: its sender meant something by it.

    Of the routes that declare a body each looks at its own.
    """
    route: APIRoute = request.scope["route"]
    reads = route.body_field is not None or "requestBody" in (route.openapi_extra or {})
    if reads or not request.url.path.startswith("/v1/") or request.method == "GET":
        return
    if (await request.body()).strip() not in _NOTHING:
        raise Invalid(
            f"{request.method} {request.url.path} takes no body, and what it says would be lost",
            "Send it without one.",
        )


def _check_type(headers: Mapping[bytes, bytes]) -> None:
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if not _JSON.fullmatch(kind):
        raise Unsupported(
            f"the body is {kind.decode('latin-1')[:80] or 'of no type'}, and no JSON",
            "Send `Content-Type: application/json`.",
        )


def _check_encoding(headers: Mapping[bytes, bytes]) -> None:
    """A kilobyte of gzip can become a gigabyte: nothing is unpacked here."""
    coding = headers.get(b"content-encoding", b"").strip().lower()
    if coding not in (b"", b"identity"):
        raise Unsupported(
            f"the body is packed: {coding.decode('latin-1')[:40]}",
            "Send it as it is, without Content-Encoding.",
        )


def streamed(scope: Scope) -> bool:
    return scope["method"] == "PUT" and bool(STREAMED.fullmatch(scope["path"]))


class Limits:
    """Reads the whole body, refuses what is too large or too deep, and hands on the rest."""

    def __init__(
        self,
        app: ASGIApp,
        larger: Mapping[str, int] | None = None,
        files: Collection[str] = (),
        untyped: bool = False,
        opaque: re.Pattern[str] = STREAMED,
    ) -> None:
        """larger: path -> bytes, for the few that need more than MAX_BYTES.

        untyped: JSON comes without its Content-Type, as ironic-python-agent 13.0 sends inventories.

        files, opaque: paths whose body is a file and no JSON: only its size is looked at here.
        """
        self.app = app
        self.larger = larger or {}
        self.files = files
        self.untyped = untyped
        self.opaque = opaque

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if streamed(scope):
            _check_encoding(headers)
            await self.app(scope, receive, send)
            return
        cap = self.larger.get(scope["path"], MAX_BYTES)
        _check_announced(headers, cap)
        _check_encoding(headers)
        body = await _read(receive, cap)
        if body is None:
            return  # the caller hung up
        if body and scope["path"] not in self.files and not self.opaque.fullmatch(scope["path"]):
            if not self.untyped:
                _check_type(headers)
            if len(body) > SMALL:
                await run_in_threadpool(check, body)
            else:
                check(body)
        await self.app(scope, _Replay(body, receive), send)


def _too_large(cap: int) -> TooLarge:
    return TooLarge(
        f"the body is larger than {cap // 1024} KiB", "Part it: several smaller files or requests."
    )


def _check_announced(headers: Mapping[bytes, bytes], cap: int) -> None:
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > cap:
        raise _too_large(cap)


async def _read(receive: Receive, cap: int) -> bytes | None:
    chunks = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks += message.get("body", b"")
        if len(chunks) > cap:
            raise _too_large(cap)
        if not message.get("more_body", False):
            return bytes(chunks)


class _Replay:
    """`receive` that gives the body once more, then what the server says."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}
