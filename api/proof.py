"""Phone-home: a deployed server's own word, good for one use."""

import hmac
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyInterface,
    StrictBool,
    StringConstraints,
)
from sqlalchemy import update
from sqlmodel import col, select

from provisioning.errors import NotFound
from provisioning.models import Address, Order, now
from provisioning.one_time import burn
from provisioning.secrets import digest
from provisioning.states import OrderKind
from provisioning.store import Store, record

Text = Annotated[str, StringConstraints(max_length=255)]
Mac = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$")]
LinkName = Annotated[str, StringConstraints(pattern=r"^[!-.0-~]{1,15}$")]  # IFNAMSIZ, no "/"
Printed = Annotated[str, StringConstraints(max_length=255, pattern=r"^[ -~]*$")]
HostKey = Annotated[
    str,
    StringConstraints(
        max_length=2048,
        # One line of two or three words: it becomes one of known_hosts.
        pattern=r"^[a-z][a-z0-9@.-]{2,63} [A-Za-z0-9+/]+={0,3}( [!-~]*)?$",
    ),
]


def _first_few(errors: list[str]) -> list[str]:
    """A server that failed at length has still told who it is."""
    return [error[:1000] for error in errors[:50]]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Nic(_Strict):
    name: Text
    mac: Mac
    addresses: list[IPvAnyInterface] = Field(max_length=32)


class Disk(_Strict):
    name: Text
    serial: Text | None = None
    wwn: Text | None = None
    size_bytes: int = Field(ge=0, le=2**60)
    root: bool = False
    """The running system is on it."""


class Bond(_Strict):
    """members: their own MACs."""

    mode: Text
    members: list[Mac] = Field(max_length=64)


class Vlan(_Strict):
    id: int = Field(ge=0, le=4095)
    link: LinkName


class Bridge(_Strict):
    ports: list[LinkName] = Field(max_length=64)


class Link(_Strict):
    """own_mac: the NIC's own, where a bond gave it another."""

    name: LinkName
    kind: Literal["physical", "bond", "vlan", "bridge"]
    mac: Mac
    own_mac: Mac
    mtu: int = Field(ge=0, le=2**31)
    addresses: list[IPvAnyInterface] = Field(max_length=32)
    up: StrictBool
    bond: Bond | None = None
    vlan: Vlan | None = None
    bridge: Bridge | None = None


class Route(_Strict):
    to: Printed
    via: Printed
    dev: Printed


class Root(_Strict):
    """raid: the level of the software RAID that "/" is on; None: it is on none."""

    raid: int | None = Field(default=None, ge=0, le=100)
    disks: int = Field(default=0, ge=0, le=512)


class Service(_Strict):
    name: Printed
    state: Printed


class FetchedPart(_Strict):
    name: Printed
    fetched: StrictBool
    problem: Printed


class CloudInit(_Strict):
    status: Text
    errors: Annotated[list[str], AfterValidator(_first_few)]


class Proof(_Strict):
    """What the server says of itself."""

    hostname: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})$")]
    nics: list[Nic] = Field(min_length=1, max_length=64)
    disks: list[Disk] = Field(max_length=512)
    cloud_init: CloudInit
    boot_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f-]{1,64}$")]
    host_keys: list[HostKey] = Field(min_length=1, max_length=8)
    kernel: Text
    # A server whose drive is of an earlier seed tells none of these.
    links: list[Link] = Field(default=[], max_length=64)
    routes: list[Route] = Field(default=[], max_length=64)
    dns: list[Printed] = Field(default=[], max_length=64)
    ntp: list[Printed] = Field(default=[], max_length=64)
    root: Root = Root()
    cmdline: Annotated[str, StringConstraints(max_length=4096)] = ""
    services: list[Service] = Field(default=[], max_length=64)
    failed_units: list[Printed] = Field(default=[], max_length=64)
    parts: list[FetchedPart] = Field(default=[], max_length=64)


class PhoneHome(Proof):
    """A proof with the one-time token of its order."""

    token: Annotated[str, StringConstraints(min_length=16, max_length=128)]


def accept(store: Store, told: PhoneHome, source: str) -> None:
    """Keep the proof and burn the token. Raises NotFound, whatever was wrong."""
    proof = told.model_dump(mode="json", exclude={"token"})
    with store.write() as session:
        owner = session.get(Address, source)
        order = (
            owner
            and session.exec(
                select(Order).where(
                    Order.node_uuid == owner.node_uuid,
                    Order.kind == OrderKind.DEPLOY,
                    col(Order.closed_at).is_(None),
                )
            ).first()
        )
        wanted = order.proof_hash if order else ""
        right = hmac.compare_digest(wanted, digest(told.token))
        if not (order and right and not order.alarm):
            raise _nothing()
        # proof_at, not proof: an empty JSON column is not NULL for SQL.
        burned = session.execute(
            update(Order)
            .where(col(Order.id) == order.id, col(Order.proof_at).is_(None))
            .values(proof=proof, proof_at=now())
        )
        if getattr(burned, "rowcount", 0) != 1:
            raise _nothing()
        burn(session, order.id)
        record(
            session, "order.proof", order.node_uuid, f"{told.hostname} is up", order=str(order.id)
        )


def _nothing() -> NotFound:
    return NotFound("no deployment waits for this proof", "seed claim list")
