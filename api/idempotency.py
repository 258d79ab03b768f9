"""`Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a retry gets the first answer.

What is kept, and what a crash in the middle means: docs/api.md and provisioning/kept.py.
"""

import json
import re
from typing import Final

from fastapi.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.limits import streamed
from api.problems import Malformed
from api.roles import Caller
from provisioning.kept import Answer, Ask, Kept
from provisioning.store import Store, at_write

CHANGING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
MAX_KEPT: Final = 256 * 1024
"""Bytes; of a larger answer only that it was given is kept."""
_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_AGAIN = frozenset({401, 403, 408, 412, 413, 415, 429})
"""Not answers of the work: nothing began, and the same request may well pass the next time."""
_REPEATABLE = re.compile(r"/v1/claims|[^:]*:(plan|plan-[a-z]+|explain|preview|test|from-node)")
"""POST routes that may be done twice: the same wish is the same claim; others only look."""
_SECRET_FIELDS = frozenset({"token", "secret", "password", "key", "private_key", "signing_key"})
_NOT_KEPT_HEADERS = frozenset({b"date", b"content-length", b"x-request-id"})


class Idempotency:
    """Inside of Limits, which has read the body; outside of everything that looks at the state."""

    def __init__(self, app: ASGIApp, store: Store) -> None:
        self.app, self._kept = app, Kept(store)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _key(scope) if scope["type"] == "http" and scope["method"] in CHANGING else None
        if key is None or not scope["path"].startswith("/v1/") or streamed(scope):
            await self.app(scope, receive, send)
            return
        message = await receive()
        body = message.get("body", b"")
        ask = _ask(scope, key, body)
        answer = await run_in_threadpool(self._kept.begin, ask)
        if answer is None:
            answer = await self._work(ask, scope, body)
        else:
            answer.headers["Idempotency-Replayed"] = "true"
        await _send(send, answer)

    async def _work(self, ask: Ask, scope: Scope, body: bytes) -> Answer:
        async def once_more() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        said = _Said()
        reset = self._kept.working(ask)
        try:
            await self.app(scope, once_more, said)
        except BaseException:
            await run_in_threadpool(self._kept.give_up, ask)
            raise
        finally:
            at_write.reset(reset)
        answer = said.answer()
        if answer.status >= 500 or answer.status in _AGAIN or "retry-after" in answer.headers:
            await run_in_threadpool(self._kept.give_up, ask)
        else:
            await run_in_threadpool(self._kept.end, ask, _keepable(answer))
        return answer


class _Said:
    """`send` that keeps what it is given."""

    def __init__(self) -> None:
        self._status, self._headers, self._body = 0, dict[str, str](), bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in message["headers"]
                if name.lower() not in _NOT_KEPT_HEADERS
            }
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")

    def answer(self) -> Answer:
        return Answer(self._status, self._headers, bytes(self._body))


def _keepable(answer: Answer) -> Answer:
    why = ""
    if _tells_a_secret(answer):
        why = "its answer held a secret, which is shown once and kept nowhere"
    elif len(answer.body) > MAX_KEPT:
        why = "its answer was too large to be kept"
    return Answer(answer.status, answer.headers, answer.body, why)


def _tells_a_secret(answer: Answer) -> bool:
    """By what it is: a field that is called so, a cookie, or an answer nobody may store."""
    if "set-cookie" in answer.headers or "no-store" in answer.headers.get("cache-control", ""):
        return True
    try:
        found = json.loads(answer.body or b"null")
    except ValueError:
        return False
    return isinstance(found, dict) and bool(found.keys() & _SECRET_FIELDS)


def _key(scope: Scope) -> str | None:
    given = [value for name, value in scope["headers"] if name == b"idempotency-key"]
    if not given:
        return None
    text: str = given[0].decode("latin-1").strip(" \t")
    if len(text) > 1 and text[0] == text[-1] == '"':  # the draft's form: a quoted string
        text = text[1:-1]
    if len(given) > 1 or not _KEY.fullmatch(text):
        raise Malformed(
            "Idempotency-Key is one word of 1 to 255 printable ASCII characters",
            "Send a UUID: `uuidgen`.",
        )
    return text


def _ask(scope: Scope, key: str, body: bytes) -> Ask:
    caller: Caller = scope["state"]["caller"]
    query = scope["query_string"].decode("latin-1")
    path: str = scope["path"]
    once = scope["method"] == "POST" and not _REPEATABLE.fullmatch(path)
    return Ask(
        caller=f"{caller.project}/{caller.name}{'/root' if caller.root else ''}",
        key=key,
        method=scope["method"],
        target=f"{path}?{query}" if query else path,
        body=body,
        repeatable=not once,
    )


async def _send(send: Send, answer: Answer) -> None:
    headers = {**answer.headers, "content-length": str(len(answer.body))}
    if answer.status == 204:
        del headers["content-length"]
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [(n.encode("latin-1"), v.encode("latin-1")) for n, v in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": answer.body})
