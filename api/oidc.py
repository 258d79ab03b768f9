"""Tokens of an OpenID Connect provider: JWTs (RFC 7519), checked with the provider's own keys.

The rules are RFC 8725's and those of OpenID Connect Core 3.1.3.7: our list of algorithms and never
the token's, keys from the issuer alone, `iss` and `aud` exact, times with a small leeway.
"""

import asyncio
import json
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from joserfc import jwt
from joserfc.errors import ClaimError, ExpiredTokenError, JoseError, UnsupportedAlgorithmError
from joserfc.jwk import JWKRegistry, Key, KeySet
from joserfc.jws import JWSRegistry

from api.grants import Grant, OidcSettings
from api.limits import check
from api.provider import IdentityUnavailable, Peer, harmless
from provisioning.errors import SeedError, Unauthenticated

log = structlog.get_logger()

ALGORITHMS: Final = ("RS256", "ES256", "PS256", "EdDSA", "Ed25519")
TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt", "application/jwt"})
"""Of the header's `typ`; others (logout+jwt, dpop+jwt, ...) are no proof of who calls."""
PAYLOAD_TYPES: Final = frozenset(
    {"ID", "Bearer"}
)  # Keycloak's; its others are Refresh, Logout, ...
MAX_JWT: Final = 16 * 1024
MAX_KEYS: Final = 64
MAX_GROUPS: Final = 2000
LEEWAY_SECONDS: Final = 30
FRESH_SECONDS: Final = 600.0  # after that keys are fetched anew while the old ones serve on
KEEP_SECONDS: Final = 6 * 3600.0  # so long they are good while the provider does not answer
REFRESH_SECONDS: Final = 30.0  # an unknown `kid` makes us look for new keys at most so often
RETRY_SECONDS: Final = 5.0  # after a look that failed
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]*")
_REMEDY: Final = "seed login --oidc"


def looks_like_one(token: str) -> bool:
    """Three parts: Seed's own tokens have no dots."""
    return token.count(".") == 2


class _Registry(JWSRegistry):
    """Our algorithms, the old name EdDSA among them (joserfc warns of it at every token)."""

    max_header_length = 4096
    max_signature_length = 2048

    def __init__(self) -> None:
        super().__init__(strict_check_header=False)  # RFC 7515 section 4: unknown ones are ignored

    def get_alg(self, name: str) -> Any:  # noqa: ANN401
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError(f"{name!r} is not on our list")
        return self.algorithms[name]


_REGISTRY: Final = _Registry()


class Keys:
    """The issuer's public keys, fetched when they are first needed, by one fetch at a time."""

    def __init__(
        self, fetch: Callable[[], Awaitable[KeySet]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch, self._clock = fetch, clock
        self._keys: KeySet | None = None
        self._got = self._tried = float("-inf")
        self._failed: IdentityUnavailable | None = None
        self._task: asyncio.Task[None] | None = None

    async def having(self, kid: str | None) -> KeySet:
        """The keys, newly fetched where `kid` is not among them and the last look is long ago.

        Raises IdentityUnavailable when there are none, or none with this `kid`, and the provider
        does not answer.
        """
        age = self._clock() - self._got
        if self._keys is not None and age < KEEP_SECONDS and _has(self._keys, kid):
            if age >= FRESH_SECONDS and self._due():
                self._refresh()
            return self._keys
        if self._due():
            await asyncio.shield(self._refresh())
        if self._failed is not None:
            raise IdentityUnavailable(str(self._failed), self._failed.remedy) from self._failed
        if self._keys is None:
            raise IdentityUnavailable("the OIDC provider's keys are not here yet")
        return self._keys

    def _due(self) -> bool:
        if self._task is not None and not self._task.done():
            return True  # join it
        pause = RETRY_SECONDS if self._failed else REFRESH_SECONDS
        return self._clock() - self._tried >= pause

    def _refresh(self) -> asyncio.Task[None]:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return self._task

    async def _run(self) -> None:
        self._tried = self._clock()
        try:
            self._keys = await self._fetch()
        except IdentityUnavailable as error:
            self._failed = error
            log.warning("oidc.keys-not-fetched", error=str(error), exc_info=error)
            return
        self._failed, self._got = None, self._clock()
        log.info("oidc.keys-fetched", kids=[key.kid for key in self._keys])


def _has(keys: KeySet, kid: str | None) -> bool:
    return kid is None or any(key.kid == kid for key in keys)


class Oidc:
    """One provider. Raises Unauthenticated for what is no token of it for us."""

    def __init__(self, settings: OidcSettings) -> None:
        self.settings = settings
        self.peer = Peer("the OIDC provider", settings.issuer, settings.ca_file)
        self.keys = Keys(self.fetch_keys)
        self._claims = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "value": settings.audience or settings.client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        )

    async def identify(self, token: str) -> tuple[str, list[Grant]]:
        """(name, what they are granted); the name starts with "oidc:"."""
        keys = await self.keys.having(kid_of(token))
        claims = await asyncio.to_thread(self.verified, token, keys)
        name = claims.get(self.settings.name_claim)
        name = name if isinstance(name, str) and name else claims["sub"]
        return f"oidc:{harmless(name)}", self.granted(claims)

    def verified(self, token: str, keys: KeySet) -> dict[str, Any]:
        """Its claims, once the signature and every rule hold."""
        try:
            found = jwt.decode(token, keys, registry=_REGISTRY)
            self._claims.validate(found.claims)
            _sane(found.header, found.claims)
        except ExpiredTokenError as error:
            raise Unauthenticated("this OIDC token has expired", _REMEDY) from error
        except ClaimError as error:
            why = f"this OIDC token is not for Seed: its {error.claim!r} is missing or another"
            raise Unauthenticated(why, _REMEDY) from error
        except Unauthenticated:
            raise
        except (JoseError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            # What a stranger wrote broke the parser: that is the stranger's fault, never a 503.
            raise Unauthenticated(
                "this OIDC token was not signed by the provider", _REMEDY
            ) from error
        return found.claims

    def granted(self, claims: dict[str, Any]) -> list[Grant]:
        """What the groups in a token are worth here."""
        groups = set(_texts(_claim(claims, self.settings.groups_claim)))
        given = [grant for grant in self.settings.grants if grant.group in groups]
        named = _texts(_claim(claims, self.settings.project_claim))
        if not self.settings.project_claim or len(named) != 1:
            return list(given)
        return [grant if grant.project else _for_project(grant, named[0]) for grant in given]

    async def fetch_keys(self) -> KeySet:
        """The issuer's keys now (OpenID Connect Discovery 1.0). Raises IdentityUnavailable."""
        where = self.settings.issuer.rstrip("/") + "/.well-known/openid-configuration"
        about = (await self.peer.call("GET", where)).body
        if about.get("issuer") != self.settings.issuer:
            raise IdentityUnavailable(
                f"the OIDC provider at {self.settings.issuer} does not say that it is that one",
                "`issuer` in [oidc] of seed.toml is exactly what its discovery document says, "
                "a closing slash included; then `seed down` and `seed up`.",
            )
        uri = about.get("jwks_uri")
        if not isinstance(uri, str) or not uri.startswith("https://"):
            raise self.peer.down("names no https address of its keys")
        keys = usable((await self.peer.call("GET", uri)).body.get("keys"))
        if not keys:
            raise self.peer.down("publishes no key that Seed can use")
        return KeySet(keys)


def kid_of(token: str) -> str | None:
    """Which key it says it is signed with. Raises Unauthenticated for what is no token at all."""
    try:
        if len(token) > MAX_JWT or not _COMPACT.fullmatch(token):
            raise ValueError("no compact serialization")
        header, payload = (urlsafe_b64decode(part + "==") for part in token.split(".")[:2])
        check(header)  # neither is parsed before its depth is known
        check(payload)
        found = json.loads(header)
        kid = found.get("kid")
        if found.get("alg") not in ALGORITHMS or not isinstance(kid, str | None):
            raise ValueError("not an algorithm of ours")
    except (ValueError, TypeError, AttributeError, SeedError) as error:
        raise Unauthenticated("this is no OIDC token that Seed reads", _REMEDY) from error
    return kid


def usable(documents: Any) -> list[Key]:  # noqa: ANN401
    """Those keys of a JWK set that may sign for us; the others are passed over, not an error."""
    found: list[Key] = []
    for document in (documents if isinstance(documents, list) else [])[:MAX_KEYS]:
        try:
            if _may_sign(document):
                found.append(JWKRegistry.import_key(document))
        except (JoseError, ValueError, TypeError, KeyError) as error:
            log.info("oidc.key-passed-over", error=str(error))
    return found


def _may_sign(document: dict[str, Any]) -> bool:
    """Public, for signatures, and of a size that is neither weak nor slow (RSA 2048 to 8192)."""
    match document["kty"]:
        case "RSA":
            sized = 342 <= len(document["n"]) <= 1366  # base64 of 256 and 1024 bytes
        case kind:
            sized = kind in ("EC", "OKP")
    return sized and document.get("use", "sig") == "sig" and "d" not in document


def _sane(header: dict[str, Any], claims: dict[str, Any]) -> None:
    """Raises Unauthenticated for a token of another kind, or one that is bound to a key."""
    kind = header.get("typ", "JWT")
    inner = claims.get("typ", "Bearer")
    if not isinstance(kind, str) or kind.lower() not in TYPES or inner not in PAYLOAD_TYPES:
        raise Unauthenticated("this OIDC token is of a kind that says not who calls", _REMEDY)
    if "events" in claims:  # OpenID Connect Back-Channel Logout 2.4
        raise Unauthenticated("this OIDC token is for logging out", _REMEDY)
    if "cnf" in claims:  # RFC 7800: of no worth without its key, which cannot be shown here
        raise Unauthenticated("this OIDC token is bound to a key", _REMEDY)


def _claim(claims: dict[str, Any], name: str) -> Any:  # noqa: ANN401
    """`name` itself, or else the way of dots through objects."""
    if name in claims or not name:
        return claims.get(name)
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _texts(value: Any) -> list[str]:  # noqa: ANN401
    several = value if isinstance(value, list) else [value]
    return [text for text in several[:MAX_GROUPS] if isinstance(text, str) and text]


def _for_project(grant: Grant, project: str) -> Grant:
    return Grant(roles=grant.roles, project=project)
