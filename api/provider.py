"""What both kinds of single sign-on need: calls that end, names that harm no log, and the caller.

Nobody of theirs gets more than the grants in seed.toml say; who gets nothing is refused everywhere.
"""

import asyncio
import hashlib
import json
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Final
from urllib.parse import quote

import httpx
from sqlmodel import col, select

from api.grants import Grant
from api.limits import check
from api.roles import Caller, Role
from provisioning.errors import Forbidden, SeedError
from provisioning.store import Store
from provisioning.tenants import Project

CALL_SECONDS: Final = 15.0  # one call from first to last byte, whatever the other side does
ANSWER_CAP: Final = 512 * 1024
_NAME_LENGTH: Final = 64
_DOCTOR: Final = (
    "`seed doctor` on the Seed machine says more; Seed's own tokens work meanwhile: "
    "`seed token create NAME --role viewer`"
)


class IdentityUnavailable(SeedError):
    """Who could say whose token this is does not answer."""

    code: ClassVar[str] = "identity-unavailable"
    status: ClassVar[int] = 503
    retryable: ClassVar[bool] = True

    def __init__(self, what: str, remedy: str = _DOCTOR) -> None:
        super().__init__(what, remedy)


@dataclass(frozen=True)
class Answer:
    """status and headers as they came; the body, if it is a JSON object, else {}."""

    status: int
    headers: Mapping[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """One HTTPS server of theirs. ca_file: empty: the system's CAs. what: as people call it."""

    what: str
    url: str
    ca_file: str = ""
    seconds: float = field(default=CALL_SECONDS)

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file or None)

    def down(self, why: str) -> IdentityUnavailable:
        return IdentityUnavailable(f"{self.what} at {self.url} {why}")

    async def call(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Any = None,  # noqa: ANN401
    ) -> Answer:
        """Raises IdentityUnavailable: no answer in time, one that is too large, or a 5xx."""
        try:
            async with asyncio.timeout(self.seconds):
                status, said, raw = await self._call(method, url, headers, body)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            raise self.down("does not answer") from error
        if status >= 500:
            raise self.down(f"answered {status}")
        return Answer(status, said, _object(raw))

    async def _call(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        body: Any,  # noqa: ANN401
    ) -> tuple[int, Mapping[str, str], bytes]:
        # Cut off in its handshake httpcore loses the socket: its own timeouts, one for TCP and one
        # for TLS, must end that before ours does.
        phases = httpx.Timeout(self.seconds, connect=self.seconds / 3)
        client = httpx.AsyncClient(
            verify=self._trust, timeout=phases, trust_env=False, follow_redirects=False
        )
        async with (
            client,
            client.stream(method, url, headers=dict(headers or {}), json=body) as answer,
        ):
            raw = bytearray()
            async for chunk in answer.aiter_bytes():
                raw += chunk
                if len(raw) > ANSWER_CAP:
                    raise self.down(f"answered more than {ANSWER_CAP // 1024} KiB")
            return answer.status_code, answer.headers, bytes(raw)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        check(raw)
        found = json.loads(raw)
    except (ValueError, SeedError):
        return {}
    return found if isinstance(found, dict) else {}


def harmless(text: str, safe: str = "@") -> str:
    """`text` with percent signs for what logs, tables or rows could take for something else.

    Two texts never become one, so nobody can pass for another; long ones end in a digest.
    """
    written = quote(text, safe=safe, errors="surrogatepass")
    if len(written) <= _NAME_LENGTH:
        return written
    digest = hashlib.sha256(written.encode()).hexdigest()[:20]
    return f"{written[: _NAME_LENGTH - 21]}*{digest}"  # quote() never leaves a "*"


def caller_of(store: Store, name: str, grants: Iterable[Grant], wanted: str) -> Caller:
    """Who that is here. wanted: the project asked for, where the grants name several.

    Raises Forbidden when nothing is granted, the project is none of Seed's or is disabled, or
    nobody can say which of several is meant.
    """
    given = list(grants)
    named = {grant.project for grant in given if grant.project}
    live = _live(store, named)
    if wanted and wanted not in live:
        raise _nothing(name, named, wanted)
    if len(live) > 1 and not wanted:
        raise Forbidden(
            f"{name} may act for several projects: {', '.join(sorted(live))}",
            f"Say for which one: `seed --project {min(live)} ...`, or SEED_PROJECT, or for good "
            f"`seed login --project {min(live)}`. Over HTTP: the header X-Seed-Project.",
        )
    project = wanted or next(iter(live), "")
    roles = {r for grant in given if grant.project in ("", project) for r in grant.roles}
    if not project:
        roles.discard(Role.CLAIMER)
    if not roles:
        raise _nothing(name, named, wanted)
    return Caller(name, frozenset(roles), project or "default")


def _live(store: Store, names: set[str]) -> set[str]:
    if not names:
        return set()
    query = select(Project.name).where(
        col(Project.name).in_(names), col(Project.disabled_at).is_(None)
    )
    with store.read() as session:
        return set(session.exec(query))


def _nothing(name: str, named: set[str], wanted: str) -> Forbidden:
    if wanted:
        what = f"{name} has no role in a project {harmless(wanted)}"
    elif named:
        what = f"{name} may act for {' and '.join(sorted(named))} only, disabled or no project here"
    else:
        what = f"{name} is known, but has no role here"
    return Forbidden(what, "Ask who runs Seed: grants in seed.toml say which group may do what.")
