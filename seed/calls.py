"""Calls of Seed's API over its socket or TLS: what goes wrong, and what may be tried again.

seed/client.py is what programs import.
"""

import os
import re
import ssl
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from seed.logged_in import Login, Method, kept

SOCKET: Final = Path("/run/seed/api.sock")
CALL_TIMEOUT: Final = 90.0  # seconds; a claim of many nodes reads each one's inventory
UPLOAD_TIMEOUT: Final = 600.0  # seconds; 100,000 passwords are sealed in some 15 s of CPU
STREAM_TIMEOUT: Final = 60.0  # seconds without a word, not even the stream's own pulse
TRIES: Final = 4
LONGEST_PAUSE: Final = 30.0  # seconds between two tries

_SEGMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_TOKEN: Final = re.compile(r"[!-~]+")
_DOWN: Final = frozenset({502, 503, 504})
TOO_MANY: Final = 429  # it was not looked at: it may come again, whatever it is


# --- what fails -----------------------------------------------------------------------------------


class ClientError(Exception):
    """Base of all. `str(error)` is one sentence, `remedy` is something to do about it.

    code, status, request_id: the answer's, where there was one.
    reasons:     node -> why it did not fit.
    retry_after: seconds, where the answer says so.
    problem:     the whole answer (RFC 9457).
    sent:        False: the request reached nobody.
    """

    def __init__(
        self, detail: str, remedy: str = "", problem: dict[str, Any] | None = None, status: int = 0
    ) -> None:
        super().__init__(detail)
        self.detail, self.remedy, self.status = detail, remedy, status
        self.problem = problem or {}
        self.code = str(self.problem.get("code", ""))
        self.request_id = str(self.problem.get("request_id", ""))
        self.reasons: dict[str, Any] = self.problem.get("reasons") or {}
        self.retry_after: float | None = None
        self.sent = True


class Refused(ClientError):
    """Seed answered, and said no."""


class Unavailable(ClientError):
    """Seed does not answer, or something that it needs does not."""


class Misconfigured(ClientError):
    """There is no token, or it must not go where it was to go."""


class Stuck(ClientError):
    """What was waited for has a problem that a person must solve."""


class TooLong(ClientError):
    """It was waited for long enough."""


def segment(text: str) -> str:
    """A name or address as one segment of a path. Raises ClientError for what leads elsewhere."""
    with suppress(ValueError):
        return str(ip_address(text.partition("%")[0]))  # IPv6 in its one form
    if not _SEGMENT.fullmatch(text):
        raise ClientError(
            f"{text!r} is no name or address",
            "Letters, digits, '.', '-' and '_', at most 80, a letter or digit first.",
        )
    return text


# --- calls ----------------------------------------------------------------------------------------


class Calls:
    """One Seed. server: https://..., or empty for the socket. tries: of one call, at most.

    token:   None for what a stranger may ask, as a login. method: whose token it is.
    project: which of the caller's projects is meant; empty: there is but one.
    """

    def __init__(
        self,
        server: str = "",
        *,
        token: str | None = "",
        method: Method = Method.SEED,
        project: str = "",
        ca: Path | str | None = None,
        socket: Path = SOCKET,
        timeout: float = CALL_TIMEOUT,
        tries: int = TRIES,
    ) -> None:
        self.where, self.project = server or str(socket), project
        self._tries = max(1, tries)
        headers = _for_project(project)
        if server:
            _check_server(server, token)
            self._http = httpx.Client(
                base_url=server,
                headers=headers | ({} if token is None else method.headers(token)),
                verify=_trust(ca),
                timeout=timeout,
            )
        else:
            self._http = httpx.Client(
                base_url="http://seed",
                headers=headers,
                transport=httpx.HTTPTransport(uds=str(socket)),
                timeout=timeout,
            )
        weakref.finalize(self, self._http.close)  # a verb just ends

    @classmethod
    def from_environment(
        cls, socket: Path = SOCKET, tries: int = TRIES, project: str | None = None
    ) -> Self:
        """$SEED_SERVER (with $SEED_CA, and $SEED_TOKEN_FILE or a login), or the local socket.

        project: None: $SEED_PROJECT, or that of the login.
        """
        server = os.environ.get("SEED_SERVER", "")
        login = _login(os.environ.get("SEED_TOKEN_FILE", ""), server) if server else Login("")
        return cls(
            server,
            token=login.token,
            method=login.method,
            project=project or os.environ.get("SEED_PROJECT") or login.project,
            ca=os.environ.get("SEED_CA") or None,
            socket=socket,
            tries=tries,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:  # noqa: ANN401
        """JSON; a parameter that is None is left out. A list is whole, unless `limit` cuts it."""
        answer = self.call("GET", path, params=given(params))
        if "limit" in params or "next" not in answer.links:
            return _json(answer)
        return list(self._following(answer))

    def text(self, path: str, **params: Any) -> str:
        return self.call("GET", path, params=given(params)).text

    def pages(self, path: str, **params: Any) -> Iterator[Any]:
        """Every item of a list, page after page, by the answers' Link rel="next" (RFC 8288)."""
        yield from self._following(self.call("GET", path, params=given(params)))

    def _following(self, answer: httpx.Response) -> Iterator[Any]:
        while True:
            yield from answer.json()
            following = answer.links.get("next", {}).get("url")
            if not following:
                return
            url = urlsplit(following)  # whatever host it names: the token goes to ours only
            answer = self.call("GET", f"{url.path.removeprefix('/v1')}?{url.query}")

    def post(self, path: str, body: Any = None) -> Any:  # noqa: ANN401
        return _json(self.call("POST", path, json=body if body is not None else {}))

    def create(self, path: str, body: Any) -> Any:  # noqa: ANN401
        """A POST that makes something, once, however often it must be sent."""
        return _json(self.call("POST", path, key=uuid4().hex, json=body))

    def put(self, path: str, body: Any) -> Any:  # noqa: ANN401
        return _json(self.call("PUT", path, json=body))

    def patch(self, path: str, body: Any) -> Any:  # noqa: ANN401
        return _json(self.call("PATCH", path, json=body))

    def delete(self, path: str, **params: Any) -> Any:  # noqa: ANN401
        return _json(self.call("DELETE", path, params=given(params)))

    def upload(self, path: str, content: bytes, **params: Any) -> Any:  # noqa: ANN401
        """A file as it is."""
        return _json(
            self.call("POST", path, content=content, params=given(params), timeout=UPLOAD_TIMEOUT)
        )

    def call(self, verb: str, path: str, key: str = "", **kwargs: Any) -> httpx.Response:
        """path: below /v1. Raises ClientError for every answer that is no success."""
        if key:
            kwargs["headers"] = {"Idempotency-Key": key}
        safe = bool(key) or verb in ("GET", "PUT")
        for attempt in range(1, self._tries):
            try:
                return self._once(verb, path, **kwargs)
            except ClientError as error:
                if not _again(error, safe):
                    raise
                time.sleep(_pause(error, attempt))
        return self._once(verb, path, **kwargs)

    def _once(self, verb: str, path: str, **kwargs: Any) -> httpx.Response:
        with self._reachable():
            answer = self._http.request(verb, f"/v1{path}", **kwargs)
        _check(answer)
        return answer

    @contextmanager
    def stream(
        self, path: str, params: dict[str, Any], headers: dict[str, str]
    ) -> Iterator[httpx.Response]:
        """An answer that goes on; Unavailable when nothing is heard for STREAM_TIMEOUT."""
        timeout = httpx.Timeout(CALL_TIMEOUT, read=STREAM_TIMEOUT)
        with (
            self._reachable(),
            self._http.stream(
                "GET", f"/v1{path}", params=params, headers=headers, timeout=timeout
            ) as answer,
        ):
            if not answer.is_success:
                answer.read()
            _check(answer)
            yield answer

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        """Turns what goes wrong on the wire into Unavailable."""
        try:
            yield
        except (httpx.TransportError, OSError) as error:
            late = isinstance(error, httpx.TimeoutException)
            found = Unavailable(
                f"Seed at {self.where} did not answer in time"
                if late
                else f"Seed does not answer at {self.where}",
                "`seed status`"
                if late
                else "Is it up? `seed status`, then `seed up`. "
                "Not root? You must be in the group seed.",
            )
            found.sent = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
            raise found from error


def given(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _json(answer: httpx.Response) -> Any:  # noqa: ANN401
    return answer.json() if answer.content else None


def _check(answer: httpx.Response) -> None:
    """Raises ClientError for an answer that is no success."""
    if answer.is_success:
        return
    problem = _problem(answer)
    kind = Unavailable if answer.status_code in _DOWN else Refused
    sentence = str(problem.get("detail") or problem.get("title"))
    error = kind(sentence, str(problem.get("remedy", "")), problem, answer.status_code)
    with suppress(ValueError):  # also a date (RFC 9110) is none of ours
        error.retry_after = float(answer.headers.get("Retry-After", ""))
    raise error


def _problem(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
        return found if isinstance(found, dict) else {"title": str(found)}
    except ValueError:
        return {"title": f"HTTP {answer.status_code}", "remedy": "`seed logs seed-api`"}


def _again(error: ClientError, safe: bool) -> bool:
    if error.status == TOO_MANY or not error.sent:
        return True
    return safe and isinstance(error, Unavailable)


def _pause(error: ClientError, attempt: int) -> float:
    told = error.retry_after
    return min(LONGEST_PAUSE, max(0.0, told) if told is not None else 0.1 * 2.0**attempt)


# --- where, and with what -------------------------------------------------------------------------


def _check_server(server: str, token: str | None) -> None:
    if token is not None and not _TOKEN.fullmatch(token):
        raise Misconfigured(
            "the token is empty, or is more than one word",
            "Give the file that `seed token create` printed, as it is.",
        )
    url = urlsplit(server)
    if url.scheme == "https" and url.hostname:
        return
    if url.scheme != "http" or not _is_loopback(url.hostname or ""):
        raise Misconfigured(
            f"{server!r} is no address of a Seed",
            "Write it like https://172.22.9.1:8443: a token goes over TLS only.",
        )


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def _login(path: str, server: str) -> Login:
    """That of a token's file, or else of `seed login`."""
    if not path:
        login = kept(server)
        if login is None:
            raise Misconfigured(
                "no token",
                "Log in: `seed login`; "
                "or set SEED_TOKEN_FILE to the file `seed token create` printed.",
            )
        return login
    try:
        return Login(Path(path).read_text().strip())
    except OSError as problem:
        raise Misconfigured(
            f"cannot read the token file {path}: {problem.strerror}", f"ls -l {path}"
        ) from problem


def _for_project(name: str) -> dict[str, str]:
    if name and not _SEGMENT.fullmatch(name):
        raise Misconfigured(f"{name!r} is no name of a project", "See yours: `seed project list`.")
    return {"X-Seed-Project": name} if name else {}


def _trust(ca: Path | str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca) if ca else None)
    except (OSError, ssl.SSLError) as problem:
        raise Misconfigured(f"cannot read the CA {ca}", f"ls -l {ca}") from problem
