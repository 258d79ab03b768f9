"""Secrets that come with the wish for a cluster, by names that its spec may say.

They are kept sealed to the reconciler's key, as secret files of claims are (secret_files.py): in
front of them is a salted scrypt digest, so that the same wish can be told from another, and their
names.
"""

import hmac
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Final
from uuid import UUID

from pydantic import Field, SecretStr
from sqlmodel import Session

from provisioning.cluster_rows import Cluster, ClusterSecret
from provisioning.errors import Conflict, Invalid
from provisioning.names import HostLabel
from provisioning.secret_files import slow_digest
from provisioning.secrets import Sealer

MANY: Final = 16
LARGEST: Final = 32 * 1024
"""Bytes of one."""
_SALT: Final = 16

Secrets = Annotated[dict[HostLabel, SecretStr], Field(max_length=MANY)]
"""As a request has them."""


@dataclass(frozen=True)
class Given:
    """Those of one request, and what hides them."""

    sealer: Sealer | None = None
    values: Mapping[str, SecretStr] = field(default_factory=dict)

    def check(self) -> None:
        """Raises Invalid. What takes long is done here, outside of any transaction."""
        for name, value in self.values.items():
            size = len(value.get_secret_value().encode())
            if not 0 < size <= LARGEST:
                raise Invalid(
                    f"secrets.{name}: it has {size} bytes", f"A secret has 1 to {LARGEST} bytes."
                )
        if self.values:
            _ = self._marked

    @cached_property
    def _plain(self) -> str:
        told = {name: value.get_secret_value() for name, value in self.values.items()}
        return json.dumps(told, sort_keys=True)

    @cached_property
    def _marked(self) -> bytes:
        salt = os.urandom(_SALT)
        return salt + slow_digest(self._plain, salt)

    def keep(self, session: Session, cluster: Cluster) -> None:
        """Seal them, in the transaction that makes the cluster."""
        if self.values and self.sealer is not None:
            sealed = self.sealer.seal(self._plain, _use(cluster.id))
            row = ClusterSecret(
                cluster_id=cluster.id, names=sorted(self.values), digest=self._marked,
                sealed=sealed,
            )  # fmt: skip
            session.add(row)
            session.flush()

    def same(self, session: Session, cluster: Cluster) -> None:
        """Raises Conflict where this living cluster was asked for with others."""
        row = session.get(ClusterSecret, cluster.id)
        if row is None and not self.values:
            return
        salt, kept = (row.digest[:_SALT], row.digest[_SALT:]) if row else (b"", b"")
        given = slow_digest(self._plain, salt) if row and self.values else b"\0"
        if not hmac.compare_digest(kept, given):
            raise Conflict(
                f"a cluster named {cluster.name} lives already and differs in secrets",
                "Choose another name, or release that one: "
                f"`seed {cluster.noun} release {cluster.name}`.",
            )


NONE: Final = Given()


def names(session: Session, cluster_id: UUID) -> tuple[str, ...]:
    """What may be known of them."""
    row = session.get(ClusterSecret, cluster_id)
    return tuple(row.names) if row else ()


def opened(
    session: Session, unseal: Callable[[bytes, str], str], cluster_id: UUID
) -> dict[str, str]:
    """unseal: Unsealer.open, which the reconciler alone has."""
    row = session.get(ClusterSecret, cluster_id)
    if row is None:
        return {}
    told: dict[str, str] = json.loads(unseal(row.sealed, _use(cluster_id)))
    return told


def forget(session: Session, cluster_id: UUID) -> None:
    """The cluster is over."""
    row = session.get(ClusterSecret, cluster_id)
    if row is not None:
        session.delete(row)


def _use(cluster_id: UUID) -> str:
    return f"cluster-secret:{cluster_id}"
