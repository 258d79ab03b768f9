"""Every answer that is not a success: application/problem+json (RFC 9457), and never a 500."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar
from uuid import uuid4

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from provisioning.errors import NoCapacity, SeedError, TooMany
from provisioning.names import IN_WORDS

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
_RETRY_SECONDS = "5"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ONE_TIME = re.compile(r"(/v1/parts/).*", re.DOTALL)
_SPEC = "curl --unix-socket /run/seed/api.sock http://seed/v1/openapi.json"
_TYPES = {
    404: "not-found",
    405: "method-not-allowed",
    400: "malformed",
    415: "unsupported-media-type",
}


class Malformed(SeedError):
    code: ClassVar[str] = "malformed"
    status: ClassVar[int] = 400


class Unsupported(SeedError):
    code: ClassVar[str] = "unsupported-media-type"
    status: ClassVar[int] = 415


class TooLarge(SeedError):
    code: ClassVar[str] = "too-large"
    status: ClassVar[int] = 413


def problem(
    request_id: str,
    status: int,
    code: str,
    detail: str,
    remedy: str,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> JSONResponse:
    """The answer. `title` is the same for every problem of this code, `detail` is this one's."""
    body = {
        "type": f"urn:seed:problem:{code}",
        "title": code.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        "code": code,
        "remedy": remedy,
        "request_id": request_id,
        **more,
    }
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def of_error(request_id: str, error: SeedError) -> JSONResponse:
    """What the caller reads of one of our own errors."""
    status = error.status if error.status != HTTPStatus.INTERNAL_SERVER_ERROR else 503
    seconds = str(error.retry_seconds) if isinstance(error, TooMany) else _RETRY_SECONDS
    headers = {"Retry-After": seconds} if error.retryable else {}
    headers |= getattr(error, "headers", {})
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="seed", Basic realm="seed"'
    more = _why_full(error) if isinstance(error, NoCapacity) else {}
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("request.failed", error=str(error), exc_info=error)
    return problem(request_id, status, error.code, str(error), error.remedy, headers, **more)


def _why_full(error: NoCapacity) -> dict[str, Any]:
    free_at = error.free_at.isoformat() if error.free_at else None
    return {"reasons": error.reasons, "free_at": free_at, "nearest": error.nearest}


def _unexpected(request_id: str) -> JSONResponse:
    detail = f"something went wrong inside Seed; its log has the details under {request_id}"
    headers = {"Retry-After": _RETRY_SECONDS}
    return problem(request_id, 503, "internal", detail, "seed logs seed-api", headers)


class Safety:
    """Outermost: gives each request its id, and turns whatever comes out into a problem."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        tagged = _Tagged(send, request_id)
        with structlog.contextvars.bound_contextvars(request=request_id):
            await self._guarded(scope, receive, tagged, request_id)

    async def _guarded(
        self, scope: Scope, receive: Receive, send: "_Tagged", request_id: str
    ) -> None:
        answer: JSONResponse | None
        try:
            await self.app(scope, receive, send)
            return
        except SeedError as error:
            answer = of_error(request_id, error)
        except Exception as error:
            log.error("request.broke", path=_without_secret(scope["path"]), exc_info=error)
            answer = _unexpected(request_id)
        if not send.started:  # else half of an answer is out, and the server cuts the connection
            await answer(scope, receive, send)


class _Tagged:
    """`send` that adds the request's id, and knows whether the answer has begun."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._request_id, self.started = send, request_id, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            MutableHeaders(scope=message)["X-Request-ID"] = self._request_id
        await self._send(message)


def _without_secret(path: str) -> str:
    """The gateway's one-time URLs are secrets themselves."""
    return _ONE_TIME.sub(r"\1-", path)


def _request_id(scope: Scope) -> str:
    """The caller's own if it is harmless, else a new one."""
    given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex


def _field(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location[1:]) or str(location[0])


def _sentence(error: dict[str, Any]) -> str:
    """One field's fault. What was sent is left out: it may be a password."""
    if error["type"] == "json_invalid":
        return f"the body is not JSON: {error['ctx']['error']} at character {error['loc'][-1]}"
    if error["type"] == "string_pattern_mismatch" and error["ctx"]["pattern"] in IN_WORDS:
        return f"{_field(error['loc'])}: {IN_WORDS[error['ctx']['pattern']]}"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error" and len(error["loc"]) == 1:  # it names its fields itself
        return message
    return f"{_field(error['loc'])}: {message[:1].lower()}{message[1:]}"


def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    faults = [_sentence(fault) for fault in error.errors()]
    more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
    detail = "; ".join(faults[:3]) + more
    named = all(fault.get("ctx", {}).get("pattern") in IN_WORDS for fault in error.errors())
    remedy = "write it like web-1" if named else _SPEC
    return problem(request.state.request_id, 422, "invalid", detail, remedy)


def _http(request: Request, error: HTTPException) -> JSONResponse:
    """404, 405 and what the framework refuses by itself."""
    code = _TYPES.get(error.status_code, "malformed")
    detail = {
        404: f"there is no {request.url.path} here",
        405: f"{request.url.path} does not know {request.method}",
    }.get(error.status_code, f"the request cannot be read: {error.detail}")
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return problem(request.state.request_id, error.status_code, code, detail, _SPEC, headers)


def _methods(request: Request) -> set[str]:
    """What this very path knows: of routes that match it, those that spell most of it out.

    `/v1/bmcs/{address}` matches `/v1/bmcs/x:inspect`, too, but does not mean it.
    """
    found: dict[int, set[str]] = {}
    for path, methods in getattr(request.app.state, "paths", ()):
        if path.regex.fullmatch(request.url.path):
            found.setdefault(path.literal, set()).update(methods)
    return found[max(found)] if found else set()


def _seed(request: Request, error: SeedError) -> JSONResponse:
    return of_error(request.state.request_id, error)


@dataclass(frozen=True)
class Path:
    """A route's path, and how much of it is no argument."""

    regex: re.Pattern[str]
    literal: int


Handler = Callable[[Request, Any], JSONResponse | Awaitable[JSONResponse]]


def install(app: FastAPI) -> None:
    """Handlers for what routes raise. `Safety` is the net under them."""
    handlers: dict[Any, Handler] = {
        SeedError: _seed,
        RequestValidationError: _invalid,
        HTTPException: _http,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
