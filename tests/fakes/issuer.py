"""Keys and tokens as an OIDC provider makes them, and what forgers make of them. No server."""

import base64
import hmac
import json
import time
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeySet, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

ISSUER, AUDIENCE = "https://id.example.org/realms/dc", "seed"
KEYS: dict[str, Key] = {
    "RS256": RSAKey.generate_key(2048, {"kid": "rsa"}),
    "PS256": RSAKey.generate_key(2048, {"kid": "pss"}),
    "ES256": ECKey.generate_key("P-256", {"kid": "ec"}),
    "Ed25519": OKPKey.generate_key("Ed25519", {"kid": "ed"}),
}
FORGER = RSAKey.generate_key(2048, {"kid": "rsa"})


def public() -> list[dict[str, Any]]:
    """The `keys` of a JWK set."""
    return [dict(key.as_dict(private=False)) for key in KEYS.values()]


def claims(**changes: Any) -> dict[str, Any]:
    """Good ones; a change to None leaves one out."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "u-1", "iat": now, "exp": now + 300}
    return {name: value for name, value in (good | changes).items() if value is not None}


def signed(
    payload: dict[str, Any], alg: str = "RS256", key: Key | None = None, **header: Any
) -> str:
    key = key or KEYS[alg]
    registry = JWSRegistry(algorithms=[alg], strict_check_header=False)
    kid = {"kid": key.kid} if key.kid else {}
    return jwt.encode({"alg": alg, **kid, **header}, payload, key, registry=registry)


def written(header: Any, payload: Any, signature: bytes = b"x" * 32) -> str:
    """Three parts of anything."""
    parts = [
        part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)
    ]
    return ".".join(base64.urlsafe_b64encode(p).decode().rstrip("=") for p in (*parts, signature))


def unsigned(payload: dict[str, Any]) -> str:
    return written({"alg": "none", "typ": "JWT"}, payload, b"")


def public_as_secret(payload: dict[str, Any], key: Key) -> str:
    """HS256 with the public key as the secret: RFC 8725, section 2.1."""
    head = written({"alg": "HS256", "typ": "JWT", "kid": key.kid}, payload).rpartition(".")[0]
    mac = hmac.digest(key.as_pem(private=False), head.encode(), "sha256")
    return f"{head}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def key_set() -> KeySet:
    return KeySet(list(KEYS.values()))
