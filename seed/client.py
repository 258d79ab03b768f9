"""The few lines behind every verb that talks to the API: one call, one problem sentence, one exit.

Exit codes: 0 done, 1 refused (the sentence and its remedy are on stderr), 2 wrong usage,
3 Seed or something it needs does not answer, 4 waited too long, 130 ended by Ctrl-C.
"""

import os
import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx
import typer
from rich.console import Console

REFUSED, USAGE, UNAVAILABLE, TOO_LONG = 1, 2, 3, 4
UPLOAD_TIMEOUT = 600.0  # seconds; 100,000 passwords are sealed in some 15 s of CPU
CALL_TIMEOUT = 90.0  # seconds; a claim of many nodes reads each one's inventory
STREAM_SILENCE = 40.0  # seconds; there is a heartbeat every 15

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")

err = Console(stderr=True, highlight=False)


def fail(what: str, remedy: str, code: int = REFUSED) -> NoReturn:
    err.print(f"[red]error:[/red] {_plain(what)}", soft_wrap=True)
    if remedy:
        err.print(f"  try: {_plain(remedy)}", soft_wrap=True)
    raise typer.Exit(code)


def part(text: str) -> str:
    """A name or address as one segment of a path; ends the program for what leads elsewhere."""
    with suppress(ValueError):
        return str(ip_address(text.partition("%")[0]))  # IPv6 in its one form
    if not _PART.fullmatch(text):
        fail(
            f"{text!r} is no name or address",
            "Letters, digits, '.', '-' and '_', at most 80, a letter or digit first.",
        )
    return text


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


class Client:
    """$SEED_SERVER (https://..., with $SEED_TOKEN_FILE and $SEED_CA), or the local socket.

    token: the one to show; empty: none; None: that of $SEED_TOKEN_FILE, else of `seed login`.
    """

    def __init__(self, socket: Path, token: str | None = None) -> None:
        server = os.environ.get("SEED_SERVER", "")
        if server:
            self._http = httpx.Client(
                base_url=server,
                headers=_showing(_token() if token is None else token),
                verify=_trust(),
                timeout=CALL_TIMEOUT,
            )
        else:
            self._http = httpx.Client(
                base_url="http://seed",
                transport=httpx.HTTPTransport(uds=str(socket)),
                timeout=CALL_TIMEOUT,
            )
        self._where = server or str(socket)
        weakref.finalize(self, self._http.close)

    def get(self, path: str, **params: Any) -> Any:  # noqa: ANN401
        """A noun, or a whole list: its pages are put together."""
        params = {k: v for k, v in params.items() if v is not None}
        answer = self._answer("GET", f"/v1{path}", params=params)
        found = _content(answer)
        while isinstance(found, list) and "limit" not in params and "next" in answer.links:
            answer = self._answer("GET", answer.links["next"]["url"])
            found += _content(answer)
        return found

    def patch(self, path: str, body: Any) -> Any:  # noqa: ANN401
        return self._call("PATCH", path, json=body)

    def post(self, path: str, body: Any = None) -> Any:  # noqa: ANN401
        return self._call("POST", path, json=body if body is not None else {})

    def upload(self, path: str, content: bytes, **params: Any) -> Any:  # noqa: ANN401
        """A file as it is."""
        return self._call(
            "POST",
            path,
            content=content,
            params={k: v for k, v in params.items() if v is not None},
            timeout=UPLOAD_TIMEOUT,
        )

    def put(self, path: str, body: Any) -> Any:  # noqa: ANN401
        return self._call("PUT", path, json=body)

    def delete(self, path: str, **params: Any) -> Any:  # noqa: ANN401
        return self._call("DELETE", path, params=params)

    @contextmanager
    def stream(self, path: str, **kwargs: Any) -> Iterator[httpx.Response]:
        """An answer that is read as it comes. What is silent for longer than two heartbeats ends.

        Raises httpx.TransportError when it is cut, httpx.HTTPStatusError while Seed is down; ends
        the program when it is refused.
        """
        with self._http.stream(
            "GET", f"/v1{path}", timeout=httpx.Timeout(CALL_TIMEOUT, read=STREAM_SILENCE), **kwargs
        ) as answer:
            if answer.status_code in (502, 503, 504):
                answer.raise_for_status()
            if not answer.is_success:
                answer.read()
                self._refused(answer)
            yield answer

    def _call(self, verb: str, path: str, **kwargs: Any) -> Any:  # noqa: ANN401
        return _content(self._answer(verb, f"/v1{path}", **kwargs))

    def _answer(self, verb: str, path: str, **kwargs: Any) -> httpx.Response:
        with self._reachable():
            answer = self._http.request(verb, path, **kwargs)
        if answer.is_success:
            return answer
        self._refused(answer)

    @staticmethod
    def _refused(answer: httpx.Response) -> NoReturn:
        problem = _problem(answer)
        reasons = problem.get("reasons") or {}
        for name, why in reasons.items():
            err.print(f"  {_plain(name)}: {_plain(why)}", soft_wrap=True)
        code = UNAVAILABLE if answer.status_code in (502, 503, 504) else REFUSED
        fail(
            str(problem.get("detail") or problem.get("title")), str(problem.get("remedy", "")), code
        )

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException:
            fail(f"Seed at {self._where} did not answer in time", "`seed status`", UNAVAILABLE)
        except (httpx.TransportError, OSError):
            fail(
                f"Seed does not answer at {self._where}",
                "Is it up? `seed status`, then `seed up`. Not root? You must be in the group seed.",
                UNAVAILABLE,
            )


def _content(answer: httpx.Response) -> Any:  # noqa: ANN401
    return answer.json() if answer.content else None


def _problem(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
        return found if isinstance(found, dict) else {"title": str(found)}
    except ValueError:
        return {"title": f"HTTP {answer.status_code}", "remedy": "`seed logs seed-api`"}


def session_file() -> Path:
    """Where `seed login` keeps the session at $SEED_SERVER; another server is never shown it."""
    server = urlsplit(os.environ.get("SEED_SERVER", "")).netloc.rpartition("@")[2]
    return Path.home() / ".config" / "seed" / f"session-{re.sub(r'[^A-Za-z0-9.]', '-', server)}"


def _showing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _token() -> str:
    path = os.environ.get("SEED_TOKEN_FILE", "") or str(session_file())
    if path == str(session_file()) and not session_file().exists():
        fail(
            "no token",
            "Log in: `seed login`; or set SEED_TOKEN_FILE to the file `seed token create` printed.",
            USAGE,
        )
    try:
        return Path(path).read_text().strip()
    except OSError as problem:
        fail(f"cannot read the token file {path}: {problem.strerror}", f"ls -l {path}", USAGE)


def _trust() -> Any:  # noqa: ANN401
    import ssl

    ca = os.environ.get("SEED_CA", "")
    return ssl.create_default_context(cafile=ca) if ca else ssl.create_default_context()
