"""What the API is made of, and through which door a request came."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from pydantic import SecretStr

from api.roles import Role
from provisioning.claims import Desk
from provisioning.image import find
from provisioning.ironic import Ironic
from provisioning.secrets import Sealer
from provisioning.store import Store


class Door(StrEnum):
    LOCAL = "local"  # unix socket for people on this machine: the peer's uid decides
    WEB = "web"  # behind nginx's TLS on the management wire: a token decides
    GATEWAY = "gateway"  # behind nginx on the provisioning wire: the order guard decides


@dataclass(frozen=True)
class Rate:
    """So many in a second for ever, and `burst` of them at once."""

    per_second: int
    burst: int

    @property
    def window(self) -> int:
        """Seconds in which a whole burst comes back."""
        return max(1, round(self.burst / self.per_second))


@dataclass(frozen=True)
class Rates:
    """reads, writes: of one caller. failures: of one source address at the web door."""

    reads: Rate = Rate(1000, 2000)
    writes: Rate = Rate(100, 1500)
    failures: Rate = Rate(10, 30)


@dataclass(frozen=True)
class Parts:
    """Made once at start-up, and the same for every door.

    local_roles:  user name on this machine -> roles beyond viewer; root has all of them.
    discovery_ramdisk: whether unknown servers boot the ramdisk, and may say what they are.
    undo_seconds: how long a released claim can be taken back.
    """

    store: Store
    sealer: Sealer
    ironic_url: str
    ironic_user: str
    ironic_password: SecretStr
    image_dir: Path
    ca_pem: Path
    local_roles: Mapping[str, frozenset[Role]] = field(default_factory=dict)
    undo_seconds: int = 600
    discovery_ramdisk: bool = False
    rates: Rates = Rates()

    @cached_property
    def desk(self) -> Desk:
        """Where claims are asked for."""
        return Desk(
            store=self.store,
            ironic=Ironic(self.ironic_url, self.ironic_user, self.ironic_password),
            image=lambda name: find(self.image_dir, name),
            undo=timedelta(seconds=self.undo_seconds),
        )


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


async def _raw(request: Request) -> bytes:
    return await request.body()


Here = Annotated[Parts, Depends(_parts)]
"""Type of a route's argument that wants the parts."""
Raw = Annotated[bytes, Depends(_raw)]
"""Type of a route's argument that wants the body as it came."""
