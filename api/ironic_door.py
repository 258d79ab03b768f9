"""Raw HTTP to Ironic for the two proxies. All else goes through provisioning/ironic.py."""

import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import httpx
import stamina
import structlog
from fastapi import FastAPI

from provisioning import request_ids
from provisioning.errors import IronicUnavailable

log = structlog.get_logger()

CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 60.0
MAX_ANSWER: Final = 64 * 1024 * 1024
MICROVERSION: Final = ("x-openstack-ironic-api-version", "openstack-api-version")
_UP = ("accept", "user-agent")
_DOWN = (
    "content-type",
    "openstack-api-version",
    "openstack-request-id",
    "vary",
    "x-openstack-ironic-api-maximum-version",
    "x-openstack-ironic-api-minimum-version",
    "x-openstack-ironic-api-version",
    "x-openstack-request-id",
)
_REMEDY = "seed status ironic"


@dataclass(frozen=True)
class Answer:
    """Ironic's own: 2xx or 4xx, the headers that concern a caller, and the whole body."""

    status: int
    headers: dict[str, str]
    body: bytes


class IronicDoor:
    """One kept-alive client. `auth` is ours; a caller's credentials are never passed on."""

    def __init__(self, url: str, auth: tuple[str, str] | None = None) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.AsyncClient(
            auth=auth,
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            headers={"accept-encoding": "identity"},
            # Ironic's server drops idle connections without a word; on loopback a new one is cheap.
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=False,
            follow_redirects=False,
            # Ironic is on loopback, without TLS: no authority is read (the usual 140 take 20 ms),
            # and none would be believed.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        forward: Sequence[str] = (*_UP, *MICROVERSION),
    ) -> Answer:
        """Pass one request on. `path` is not quoted yet; only the headers in `forward` go along.

        Raises IronicUnavailable when there is no answer in time, and when it is a 5xx or a 401:
        neither is the caller's fault.
        """
        passed = {name: headers[name] for name in forward if name in headers}
        passed |= request_ids.Headers().items()
        if body is not None:
            passed["content-type"] = "application/json"
        request = self._client.build_request(
            method,
            self.url + quote(path),
            params=list(query) or None,
            headers=passed,
            content=body,
        )
        try:
            answer = await self._client.send(request, stream=True)
            content = await _bounded(answer)
        except httpx.HTTPError as error:
            raise IronicUnavailable("Ironic does not answer", _REMEDY) from error
        if answer.status_code >= 500 or answer.status_code == 401:
            # It may repeat the body, and a rescue password in it. Its own log has it all.
            said = content[:500].decode(errors="replace") if body is None else ""
            log.warning(
                "ironic.failed",
                status=answer.status_code,
                path=path,
                ironic=answer.headers.get("x-openstack-request-id", ""),
                body=said,
            )
            raise IronicUnavailable(f"Ironic failed with {answer.status_code}", "seed logs ironic")
        kept = {name: answer.headers[name] for name in _DOWN if name in answer.headers}
        return Answer(answer.status_code, kept, content)

    async def read(
        self, path: str, headers: Mapping[str, str], query: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """A GET that changes nothing, so it is asked again when the connection breaks."""
        async for attempt in stamina.retry_context(
            on=_broke, attempts=4, timeout=CONNECT_SECONDS, wait_initial=0.1, wait_jitter=0.1
        ):
            with attempt:
                return await self.call("GET", path, headers=headers, query=query)
        raise AssertionError("stamina tries at least once")

    async def alive(self) -> bool:
        """Whether Ironic answers at all, within 3 seconds."""
        try:
            answer = await self._client.get(self.url + "/", timeout=3.0)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200


def _broke(error: Exception) -> bool:
    """Ironic's server resets connections now and then under load."""
    cause = error.__cause__
    return isinstance(cause, (httpx.NetworkError, httpx.RemoteProtocolError))


async def _bounded(answer: httpx.Response) -> bytes:
    content = bytearray()
    try:
        async for chunk in answer.aiter_bytes():
            content += chunk
            if len(content) > MAX_ANSWER:
                raise IronicUnavailable(
                    f"Ironic's answer is larger than {MAX_ANSWER >> 20} MiB",
                    "ask for a page of it: ?limit=100",
                )
    finally:
        await answer.aclose()
    return bytes(content)


def closing(ironic: IronicDoor) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """A lifespan that gives the connections back at the end."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await ironic.close()

    return lifespan
