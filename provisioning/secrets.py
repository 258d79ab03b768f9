"""Secrets at rest: sealed to the reconciler's public key (HPKE, RFC 9180).

The API holds the public key only: it can store a password and never read one back.
"""

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from provisioning.errors import HostError

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def make_keys(private: Path, public: Path) -> None:
    """Write a new pair: `private` 0600, `public` 0644. An existing pair is kept."""
    if private.exists():
        return
    key = X25519PrivateKey.generate()
    fd = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(key.private_bytes_raw())
    public.write_bytes(key.public_key().public_bytes_raw())
    public.chmod(0o644)


@dataclass(frozen=True)
class Sealer:
    """Can hide a secret, cannot see one. `info` binds it to its use: another use cannot open it."""

    public: Path

    def seal(self, plain: str, info: str) -> bytes:
        return seal_to(self.public.read_bytes(), plain, info)


def seal_to(key: bytes, plain: str, info: str) -> bytes:
    """key: an X25519 public key, 32 bytes. ValueError for one that is none."""
    return bytes(
        _SUITE.encrypt(plain.encode(), X25519PublicKey.from_public_bytes(key), info.encode())
    )


@dataclass(frozen=True)
class Envelope:
    """A key pair of one question: what is sealed to `public` only who asked can open."""

    key: X25519PrivateKey

    @classmethod
    def new(cls) -> "Envelope":
        return cls(X25519PrivateKey.generate())

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    def open(self, sealed: bytes, info: str) -> str:
        """ValueError where it was sealed to another key, or for another use."""
        try:
            return bytes(_SUITE.decrypt(sealed, self.key, info.encode())).decode()
        except InvalidTag as err:
            raise ValueError("what came back was not sealed to this key") from err


@dataclass(frozen=True)
class Unsealer:
    """Can see secrets: held by the reconciler alone."""

    private: Path

    @cached_property
    def _key(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self.private.read_bytes())

    def open(self, sealed: bytes, info: str) -> str:
        """The secret. HostError if it was sealed to another key (a restored database?)."""
        try:
            return bytes(_SUITE.decrypt(sealed, self._key, info.encode())).decode()
        except InvalidTag as err:
            raise HostError(
                "a stored secret does not open with this machine's master key",
                f"Put the key that belongs to this database at {self.private}, "
                "or give the login again: `seed discover RANGE --username U --password-stdin`.",
            ) from err

    def token(self, purpose: str) -> str:
        """A secret fixed by the key and `purpose`: after a crash the same one comes out again."""
        raw = self._key.private_bytes(
            serialization.Encoding.Raw,
            serialization.PrivateFormat.Raw,
            serialization.NoEncryption(),
        )
        return hmac.new(raw, f"seed-token:{purpose}".encode(), hashlib.sha256).hexdigest()


def new_token() -> str:
    return secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What we keep of a token; 256 random bits need no salt."""
    return hashlib.sha256(token.encode()).hexdigest()
