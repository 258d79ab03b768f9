"""Callers that others vouch for: at the web door, by an OIDC token or a Keystone token."""

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi.concurrency import run_in_threadpool

from api.keystone import Keystone
from api.oidc import Oidc, looks_like_one
from api.provider import caller_of
from api.roles import Caller
from provisioning.store import Store


@dataclass(frozen=True)
class Federation:
    """None: not configured, and its tokens are strangers' like any other."""

    oidc: Oidc | None = None
    keystone: Keystone | None = None

    async def caller(self, headers: Mapping[bytes, bytes], store: Store) -> Caller | None:
        """Who that is; None: this request shows no token of theirs.

        Raises Unauthenticated, Forbidden, and IdentityUnavailable while theirs does not answer.
        """
        authorization = _text(headers, b"authorization")
        scheme, _, bearer = authorization.partition(" ")
        shown = _text(headers, b"x-auth-token")
        if self.oidc and scheme.lower() == "bearer" and looks_like_one(bearer.strip()):
            name, grants = await self.oidc.identify(bearer.strip())
        elif self.keystone and shown and not authorization:
            name, grants = await self.keystone.identify(shown)
        else:
            return None
        wanted = _text(headers, b"x-seed-project")
        return await run_in_threadpool(caller_of, store, name, grants, wanted)


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1").strip()
