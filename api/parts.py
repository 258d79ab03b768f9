"""What the API is made of, and through which door a request came."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from pydantic import AfterValidator, SecretStr
from sqlmodel import Session

from api.federation import Federation
from api.feed import Feed
from api.node_list import Pages
from api.roles import Role
from api.traffic import Traffic
from provisioning import holders, standing
from provisioning.autoscalers import ClientAuthority
from provisioning.claims import Desk
from provisioning.cluster_changes import Clusters
from provisioning.cluster_release import Giving
from provisioning.image import Image
from provisioning.ironic import Ironic
from provisioning.network_doc import WIRE
from provisioning.secrets import Sealer
from provisioning.snapshot import Snapshots
from provisioning.store import Store
from provisioning.users import Porter


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
class Shelf:
    """How disk images come in.

    incoming: folder for uploads. sealer: to seed-images' key. hosts: that images are fetched from.
    most: bytes of a file.
    """

    incoming: Path
    sealer: Sealer
    hosts: tuple[str, ...] = ()
    most: int = 64 << 30


@dataclass(frozen=True)
class AutoscalerDoor:
    """Where clusters' autoscalers are answered, HOST:PORT, and who signs their certificates."""

    address: str
    authority: ClientAuthority


@dataclass(frozen=True)
class Parts:
    """Made once at start-up, and the same for every door.

    local_roles:  user name on this machine -> roles beyond viewer; root has all of them.
    discovery_ramdisk: whether unknown servers boot the ramdisk, and may say what they are.
    undo_seconds: how long a released claim can be taken back.
    networks:     network -> our own interface there.
    wires:        Seed's own wires, all three: name -> our address and prefix there.
    grace_seconds: between a lease's end and its release by itself.
    turnaround_seconds: after which a claim's nodes count as free for a reservation.
    federation: who else can say whose token it is (single sign-on).
    shelf:        how disk images come in.
    autoscaler:   None: none is answered.
    bundle_dir:   what installers need: clusters are made of it.
    answers:      whether somebody serves at an address and a port already.
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
    grace_seconds: int = 0
    turnaround_seconds: int = 3600
    networks: Mapping[str, IPv4Interface] = field(default_factory=dict)
    wires: Mapping[str, IPv4Interface] = field(default_factory=dict)
    federation: Federation = field(default_factory=Federation)
    bundle_dir: Path | None = None
    answers: Callable[[str, int], bool] = holders.answers
    shelf: Shelf = Shelf(Path("incoming"), Sealer(Path("images.pub")))
    autoscaler: AutoscalerDoor | None = None

    @cached_property
    def traffic(self) -> Traffic:
        """This process's requests, at every door."""
        return Traffic()

    rates: Rates = Rates()

    @cached_property
    def desk(self) -> Desk:
        """Where claims are asked for."""
        return Desk(
            store=self.store,
            ironic=Ironic(self.ironic_url, self.ironic_user, self.ironic_password),
            image=self._image,
            undo=timedelta(seconds=self.undo_seconds),
            turnaround=timedelta(seconds=self.turnaround_seconds),
            grace=timedelta(seconds=self.grace_seconds),
        )

    @cached_property
    def clusters(self) -> Clusters:
        """Where clusters are asked for."""
        return Clusters(self.store, self.desk, self.bundle_dir, served=self._served())

    def _served(self) -> tuple[str, ...]:
        wire = self.networks.get(WIRE)
        return (f"{wire.network[0]}-{wire.network[-1]}",) if wire else ()

    @cached_property
    def giving(self) -> Giving:
        """Where clusters are given back."""
        return Giving(self.store, self.desk)

    def _image(self, session: Session, ref: str, insider: bool) -> Image:
        return standing.resolve(session, self.image_dir, ref, insider)

    @cached_property
    def feed(self) -> Feed:
        """New events, for those who follow them."""
        return Feed(self.store)

    @cached_property
    def porter(self) -> Porter:
        """Who proves passwords of people."""
        return Porter(self.store)

    @cached_property
    def snapshots(self) -> Snapshots:
        """All nodes, in memory."""
        return Snapshots(self.store)

    @cached_property
    def node_pages(self) -> Pages:
        return Pages()


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


async def _door(request: Request) -> Door:
    door: Door = request.app.state.door
    return door


async def _raw(request: Request) -> bytes:
    return await request.body()


def _text(secret: SecretStr) -> SecretStr:
    """JSON can write half of a character; a plain str with one is refused by pydantic itself."""
    try:
        secret.get_secret_value().encode()
    except UnicodeEncodeError:
        raise ValueError("it is not text") from None  # the cause holds the secret
    return secret


Secret = Annotated[SecretStr, AfterValidator(_text)]
"""Type of a field that goes in and never comes out."""
Here = Annotated[Parts, Depends(_parts)]
"""Type of a route's argument that wants the parts."""
Via = Annotated[Door, Depends(_door)]
"""Type of a route's argument that wants to know through which door the caller came."""
Raw = Annotated[bytes, Depends(_raw)]
"""Type of a route's argument that wants the body as it came."""
