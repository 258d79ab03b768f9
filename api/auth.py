"""Who is calling, found out before the body is read; and what a route demands of a caller."""

import pwd
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Final

import structlog
from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from api.keys import Key, Keys
from api.parts import Door, Parts
from api.provider import harmless
from api.roles import EVERYONE, INSIDERS, MINTERS, Caller, Role, allows, noun_of
from provisioning.errors import Forbidden, Unauthenticated
from provisioning.store import Store
from provisioning.tenants import Project

log = structlog.get_logger()

PUBLIC: Final = frozenset(
    {
        ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/v1/login-methods"),
        ("POST", "/v1/sessions"),
    }
)  # fmt: skip
"""The only requests, by method and path, that answer somebody we do not know."""


class Authenticate:
    """Nobody gets past it unknown, or beyond a token's scopes: also where no route is.

    Routes find in `request.state`: `caller`; and `identify()` for answers that last, which raises
    Unauthenticated once the caller's key is revoked or has expired.
    """

    def __init__(self, app: ASGIApp, door: Door, parts: Parts) -> None:
        self.app, self.door, self.parts = app, door, parts
        self.keys = Keys(parts.store)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"], scope["path"]) in PUBLIC:
            await self.app(scope, receive, send)
            return
        caller, key = await self._identify(scope)
        check_scopes(caller, scope["method"], scope["path"])
        scope["state"]["caller"] = caller
        scope["state"]["identify"] = partial(self._caller, scope)  # streams ask again
        await self.app(scope, receive, send)
        if key is not None:  # after the answer: nobody waits for it
            await self.keys.note_use(key)

    async def _caller(self, scope: Scope) -> Caller:
        caller, _ = await self._identify(scope)
        check_scopes(caller, scope["method"], scope["path"])
        return caller

    async def _identify(self, scope: Scope) -> tuple[Caller, Key | None]:
        """Who calls, and the key if it was a token of ours. Raises Unauthenticated."""
        headers = dict(scope["headers"])
        wanted = headers.get(b"x-seed-project", b"").decode("latin-1").strip()
        if self.door is Door.LOCAL:
            caller = local_caller(scope.get("client"), self.parts)
            return await self._for_project(caller, wanted), None
        header = headers.get(b"authorization", b"").decode("latin-1")
        try:
            if (known := await self.parts.federation.caller(headers, self.parts.store)) is not None:
                return (replace(known, named=True) if wanted else known), None
            key = await self.keys.find(header)
        except Unauthenticated as error:
            log.info("caller.refused", why=str(error), path=scope["path"])
            raise
        return await self._for_project(key.caller, wanted), key

    async def _for_project(self, caller: Caller, wanted: str) -> Caller:
        """The caller, acting for `wanted`. Forbidden: that is another's. Root's are all."""
        if not wanted:
            return caller
        if wanted == caller.project:
            return replace(caller, named=True)
        if not caller.root:
            raise Forbidden(
                f"{caller.token or caller.name} is of the project {caller.project}, "
                f"not of {harmless(wanted)}",
                "Leave `--project` and SEED_PROJECT out, or show a token of that project: "
                "`seed token create NAME --role claimer --project PROJECT`.",
            )
        if not await run_in_threadpool(exists, self.parts.store, wanted):
            raise Forbidden(f"there is no project {harmless(wanted)}", "seed project list")
        return replace(caller, project=wanted, named=True)


def exists(store: Store, project: str) -> bool:
    with store.read() as session:
        return session.get(Project, project) is not None


def check_scopes(caller: Caller, method: str, path: str) -> None:
    """Raises Forbidden for what the caller's token is not good for, whoever the caller is."""
    if not allows(caller.scopes, method, path):
        raise Forbidden(
            f"the token {caller.token} is good for {', '.join(sorted(caller.scopes))} only",
            f"seed token create NAME --role {min(caller.roles, default=Role.VIEWER)} "
            f"--scope {noun_of(path) or 'claims'}",
        )


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
Minter = Annotated[Caller, Depends(Needs(MINTERS))]
TokenMaker = Annotated[Caller, Depends(Needs(MINTERS | {Role.CLAIMER}))]
"""Minters make them for others, a claimer for itself."""
