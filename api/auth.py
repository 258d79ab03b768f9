"""Who is calling, found out before the body is read; and what a route demands of a caller."""

import base64
import binascii
import hmac
import pwd
from dataclasses import dataclass
from typing import Annotated, Final

import structlog
from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from sqlmodel import select
from starlette.types import ASGIApp, Receive, Scope, Send

from api.parts import Door, Parts
from api.roles import EVERYONE, INSIDERS, Caller, Role
from provisioning.errors import Forbidden, Unauthenticated
from provisioning.models import Token, now
from provisioning.secrets import digest
from provisioning.store import Store

log = structlog.get_logger()

PUBLIC: Final = frozenset({"/healthz", "/readyz", "/v1/login-methods"})
"""The only paths that answer somebody we do not know."""
_REMEDY = "seed token create NAME --role viewer  (as root on the Seed host)"


class Authenticate:
    """Nobody gets past it unknown: deny by default, also where no route is."""

    def __init__(self, app: ASGIApp, door: Door, parts: Parts) -> None:
        self.app, self.door, self.parts = app, door, parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in PUBLIC:
            scope["state"]["caller"] = await self._identify(scope)
        await self.app(scope, receive, send)

    async def _identify(self, scope: Scope) -> Caller:
        if self.door is Door.LOCAL:
            return local_caller(scope.get("client"), self.parts)
        headers = dict(scope["headers"])
        header = headers.get(b"authorization", b"").decode("latin-1")
        try:
            if (known := await self.parts.federation.caller(headers, self.parts.store)) is not None:
                return known
            return await run_in_threadpool(token_caller, self.parts.store, header)
        except Unauthenticated as error:
            log.info("caller.refused", why=str(error), path=scope["path"])
            raise


def local_caller(client: tuple[str, int] | None, parts: Parts) -> Caller:
    """The user at the other end of our own socket; api/peer.py put its uid into `client`."""
    peer = client[0] if client else ""
    if not peer.startswith("uid:"):
        raise Unauthenticated(
            "the kernel did not say who is calling", "ask over /run/seed/api.sock"
        )
    uid = int(peer.removeprefix("uid:"))
    if uid == 0:
        return Caller("root", EVERYONE, root=True)
    name = _user_name(uid)
    return Caller(name, frozenset({Role.VIEWER}) | parts.local_roles.get(name, frozenset()))


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid:{uid}"


def token_caller(store: Store, header: str) -> Caller:
    """The holder of the token in an Authorization header. Raises Unauthenticated."""
    name, secret = _parse(header)
    given = digest(secret)
    wanted = Token.name == name if name is not None else Token.hash == given
    with store.read() as session:
        token = session.exec(select(Token).where(wanted)).first()
    known = token.hash if token else digest("")  # compared in any case: the time says nothing
    if not hmac.compare_digest(known, given) or token is None:
        raise Unauthenticated("this token is not known here", _REMEDY)
    if token.expires_at <= now():
        when = f"{token.expires_at:%Y-%m-%d %H:%M} UTC"
        raise Unauthenticated(f"the token {token.name} expired on {when}", _REMEDY)
    roles = frozenset(Role(role) for role in token.roles if role in EVERYONE)
    return Caller(token.name, roles, token.project)


def _parse(header: str) -> tuple[str | None, str]:
    """(token's name if Basic, the secret) of `Bearer TOKEN` or `Basic base64(NAME:TOKEN)`."""
    scheme, _, value = header.strip().partition(" ")
    if not header:
        raise Unauthenticated("there is no token in this request", _REMEDY)
    match scheme.lower():
        case "bearer":
            return None, value.strip()
        case "basic":
            return _basic(value.strip())
    raise Unauthenticated("only Bearer and Basic authorization is known here", _REMEDY)


def _basic(value: str) -> tuple[str, str]:
    try:
        name, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Unauthenticated("the Basic authorization is not readable", _REMEDY) from error
    return name, secret


@dataclass(frozen=True)
class Needs:
    """A route's demand: any one of these roles. Answers who calls."""

    roles: frozenset[Role]

    async def __call__(self, request: Request) -> Caller:
        caller: Caller = request.state.caller
        if not caller.roles & self.roles:
            wanted = " or ".join(sorted(self.roles))
            raise Forbidden(
                f"{caller.name} may not do this: it takes the role {wanted}",
                f"seed token create NAME --role {min(self.roles)}  (as root on the Seed host)",
            )
        return caller


def needs(*roles: Role) -> Needs:
    return Needs(frozenset(roles))


# Types of a route's argument `caller`: who may call it.
Anyone = Annotated[Caller, Depends(Needs(EVERYONE))]
"""Every role; the route itself shows a claimer its own project only."""
Insider = Annotated[Caller, Depends(Needs(INSIDERS))]
Claimer = Annotated[Caller, Depends(needs(Role.CLAIMER))]
Operator = Annotated[Caller, Depends(needs(Role.OPERATOR))]
Destroyer = Annotated[Caller, Depends(needs(Role.DESTROYER))]
