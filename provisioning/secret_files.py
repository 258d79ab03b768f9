"""Files of a claim that are secret: sealed when they are asked for, fetched once by each node.

They are kept sealed to the reconciler's key. In front of them is what the API may know: a salted
scrypt digest, so that the same wish can be told from another, and where the files go.
"""

import hashlib
import hmac
import json
import os
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StrictStr, StringConstraints
from sqlmodel import Session

from provisioning.errors import Conflict, Invalid
from provisioning.models import Claim
from provisioning.one_time import ClaimSecret
from provisioning.secrets import Sealer
from provisioning.targets import PartSpec

LARGEST: Final = 512 * 1024
"""Bytes of all of a claim: what fits as base64 into a request of 1 MiB."""
MANY: Final = 50
PATH: Final = r"^(/[A-Za-z0-9_@%+=:,.-]+)+$"
OWNER: Final = r"^([a-z_][a-z0-9_-]{0,31}(:[a-z_][a-z0-9_-]{0,31})?)?$"
MODE: Final = r"^0?[0-7]{3}$"
_NOT_THERE: Final = ("/proc/", "/sys/", "/dev/", "/etc/seed-first-boot/")
_SALT, _DIGEST, _LENGTH = 16, 32, 4


class SecretFile(BaseModel):
    """A file that each node of the claim fetches once; one of content and content_b64.

    mode: octal. owner: "user" or "user:group" of the node; empty: root.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    path: Annotated[StrictStr, StringConstraints(pattern=PATH, max_length=255)]
    mode: Annotated[StrictStr, StringConstraints(pattern=MODE)] = "0600"
    content: SecretStr = SecretStr("")
    content_b64: SecretStr = SecretStr("")
    owner: Annotated[StrictStr, StringConstraints(pattern=OWNER)] = ""

    def raw(self) -> bytes:
        """What is in it. Raises Invalid."""
        text, packed = self.content.get_secret_value(), self.content_b64.get_secret_value()
        if text and packed:
            raise Invalid(f"{self.path} has content and content_b64", "Give one of them.")
        try:
            return b64decode(packed, validate=True) if packed else text.encode()
        except (NotBase64, ValueError) as problem:
            raise Invalid(
                f"the content of {self.path} is not {'base64' if packed else 'text'}",
                "Make it with `base64 -w0 FILE`, and send it as content_b64.",
            ) from problem


SecretFiles = Annotated[list[SecretFile], Field(max_length=MANY)]


def check(files: Sequence[SecretFile]) -> None:
    """Raises Invalid for what cannot be."""
    paths = [file.path for file in files]
    for path in paths:
        if {"..", "."} & set(path.split("/")) or f"{path}/".startswith(_NOT_THERE):
            raise Invalid(f"no file can be put at {path}", "Name it like /etc/NAME/FILE.")
    if len(set(paths)) != len(paths):
        raise Invalid("two secret files have one path", "Give each file a path of its own.")
    size = sum(len(file.raw()) for file in files)
    if size > LARGEST:
        raise Invalid(
            f"the secret files take {size} bytes", f"Give at most {LARGEST // 1024} KiB in all."
        )


@dataclass(frozen=True)
class Sealing:
    """The secret files of one request, and what hides them."""

    sealer: Sealer | None = None
    files: Sequence[SecretFile] = ()

    @cached_property
    def _marked(self) -> bytes:
        salt, listed = os.urandom(_SALT), json.dumps(listing(self.files)).encode()
        return salt + slow_digest(self._plain, salt) + len(listed).to_bytes(_LENGTH) + listed

    @cached_property
    def _plain(self) -> str:
        return _json(self.files)

    def check(self) -> None:
        """Raises Invalid. What takes long is done here, outside of any transaction."""
        check(self.files)
        if self.files:
            _ = self._marked

    def keep(self, session: Session, claim: Claim) -> None:
        """Seal them, in the transaction that makes the claim."""
        if self.files and self.sealer is not None:
            sealed = self._marked + self.sealer.seal(self._plain, _use(claim.id))
            session.add(ClaimSecret(claim_id=claim.id, sealed=sealed))

    def same(self, session: Session, claim: Claim) -> None:
        """Raises Conflict where this living claim was asked for with others."""
        row = session.get(ClaimSecret, claim.id)
        if row is None and not self.files:
            return
        salt, rest = (row.sealed[:_SALT], row.sealed[_SALT:]) if row else (b"", b"")
        given = slow_digest(self._plain, salt) if row and self.files else b"\0"
        if not hmac.compare_digest(rest[:_DIGEST], given):
            raise Conflict(
                f"a claim named {claim.name} lives already and differs in secret_files",
                f"Release it first: `seed claim release {claim.name}`.",
            )


def specs(session: Session, unseal: Callable[[bytes, str], str], claim: Claim) -> list[PartSpec]:
    """As one-time parts. unseal: Unsealer.open, which the reconciler alone has."""
    row = session.get(ClaimSecret, claim.id)
    if row is None:
        return []
    told = json.loads(unseal(row.sealed[_begin(row) :], _use(claim.id)))
    return [
        PartSpec(f["path"], f["path"], int(f["mode"], 8), b64decode(f["content"]), f["owner"])
        for f in told
    ]


def listing(files: Sequence[SecretFile]) -> list[dict[str, str]]:
    """Of each what may be known: path, mode, owner."""
    return [f.model_dump(include={"path", "mode", "owner"}) for f in files]


def listed(session: Session, claim: Claim) -> list[dict[str, str]]:
    """The same of a claim's."""
    row = session.get(ClaimSecret, claim.id)
    if row is None:
        return []
    found: list[dict[str, str]] = json.loads(row.sealed[_SALT + _DIGEST + _LENGTH : _begin(row)])
    return found


def _begin(row: ClaimSecret) -> int:
    """Where what is sealed begins."""
    head = _SALT + _DIGEST
    return head + _LENGTH + int.from_bytes(row.sealed[head : head + _LENGTH])


def forget(session: Session, claim_id: UUID) -> None:
    """The claim is over."""
    row = session.get(ClaimSecret, claim_id)
    if row is not None:
        session.delete(row)


def _json(files: Sequence[SecretFile]) -> str:
    rows = [
        {"path": f.path, "mode": f.mode, "owner": f.owner, "content": b64encode(f.raw()).decode()}
        for f in files
    ]
    return json.dumps(sorted(rows, key=lambda row: row["path"]))


def slow_digest(plain: str, salt: bytes) -> bytes:
    """Slow on purpose: a short secret must not be found by trying (RFC 7914, 16 MiB)."""
    return hashlib.scrypt(plain.encode(), salt=salt, n=2**14, r=8, p=1, dklen=_DIGEST)


def _use(claim_id: UUID) -> str:
    return f"claim-secret:{claim_id}"
