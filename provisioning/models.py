"""Stored nouns. Each column has one writer: the API writes what is wanted, the reconciler what is.

Nodes are not here: they are Ironic's. A row names a node by its Ironic UUID.
Times are UTC and aware.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from pydantic import StrictBool, StrictInt
from sqlalchemy import JSON, Column, DateTime, Index, LargeBinary, text
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

from provisioning.names import ImageRef, Name, NewHostLabel
from provisioning.states import AddressKind, BmcGoal, ClaimState, IfFull, Login, OrderKind, Wanted


def now() -> datetime:
    return datetime.now(UTC)


class Utc(TypeDecorator[datetime]):
    """SQLite forgets time zones; every time of ours is UTC."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:  # noqa: ANN401
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:  # noqa: ANN401
        return None if value is None else value.replace(tzinfo=UTC)


def stored_time(**kwargs: Any) -> Any:  # noqa: ANN401
    return Field(sa_type=Utc, **kwargs)


def stored_json(**kwargs: Any) -> Any:  # noqa: ANN401
    """An empty `default` is copied for each row; `default_factory` costs ten times as much."""
    return Field(sa_column=Column(JSON, nullable=False), **kwargs)


class Credential(SQLModel, table=True):
    """A BMC login. The password is sealed to the reconciler's key: the API cannot read it back."""

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    name: str = Field(unique=True)
    username: str
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = stored_time(default_factory=now)


class Discovery(SQLModel, table=True):
    """A sweep of address ranges, asked for by the API, done by the reconciler."""

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    ranges: list[str] = stored_json()
    exclude: list[str] = stored_json(default=[])
    options: dict[str, Any] = stored_json(default={})  # rate, defaults, one_by_one
    credential_id: UUID | None = Field(default=None, foreign_key="credential.id")
    asked_by: str = ""
    created_at: datetime = stored_time(default_factory=now)
    state: str = "requested"  # requested, running, done, failed
    progress: str = ""  # what it does now, in words
    addresses: int = 0
    found: int = 0
    logged_in: int = 0
    problems: list[dict[str, str]] = stored_json(default=[])  # problem, remedy
    ended_at: datetime | None = stored_time(default=None)


class Bmc(SQLModel, table=True):
    """One BMC and the server behind it, as found. It becomes a node only when accepted."""

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    address: str = Field(unique=True)
    protocol: str
    # wanted: written by the API
    goal: BmcGoal = BmcGoal.OBSERVED
    node_uuid: UUID | None = Field(default=None, unique=True)
    node_name: str | None = Field(default=None, unique=True)
    resource_class: str = "baremetal"
    accepted_by: str = ""
    adoption: dict[str, Any] = stored_json(default={})  # as another Ironic had it
    attempt: int = 0  # rises with each "try again" by a person
    class_said: bool = False  # a person named the class: no rule changes it by itself
    stale_inspection: str = ""  # Ironic's time of the inspection that is not good enough any more
    survey_asked_at: datetime | None = stored_time(default=None)  # a person wants it looked at now
    led_wanted: str = ""  # the locate LED: "on", "off", or nobody ever asked
    led_asked_at: datetime | None = stored_time(default=None)
    labels: dict[str, str] = stored_json(default={})  # people's own words, for choosing
    # found: written by the reconciler
    credential_id: UUID | None = Field(default=None, foreign_key="credential.id", index=True)
    login: Login = Login.NONE
    refused: list[str] = stored_json(default=[])  # marks of logins that were refused
    fingerprint: str = ""  # SHA-256 of the TLS certificate, hex; empty for IPMI
    certificate: str = ""  # PEM
    offered: str = ""  # PEM of another one that it showed since; a person says whether it is right
    trust: str = ""  # what Ironic's calls are pinned to: "own", "seed-ca", "nothing"; empty: IPMI
    vendor: str = ""
    model: str = ""
    serial: str = ""
    system_uuid: str = ""
    system_id: str = ""  # Redfish: path of the ComputerSystem
    manager_mac: str = ""
    macs: list[str] = stored_json(default=[])
    firmware: str = ""  # "uefi" or "bios", where the BMC says
    inventory: dict[str, Any] = stored_json(default={})  # Inventory, by the BMC
    inventory_at: datetime | None = stored_time(default=None)
    ramdisk: dict[str, Any] = stored_json(default={})  # Inventory, by the last ramdisk
    ramdisk_at: datetime | None = stored_time(default=None)
    baseline: dict[str, Any] = stored_json(default={})  # Inventory at acceptance: drift
    ramdisk_baseline: dict[str, Any] = stored_json(default={})  # the same, in band
    abilities: dict[str, Any] = stored_json(default={})  # what the BMC can do
    findings: list[str] = stored_json(default=[])  # weaknesses: "cipher 0 is offered"
    hardware_class: str = ""  # the name of its class; "seed class apply" changes it, too
    classed: dict[str, Any] = stored_json(default={})  # traits, capabilities: by class
    survey_at: datetime | None = stored_time(default=None)  # the last try, whatever came of it
    survey_problem: str = ""
    survey_remedy: str = ""
    led: str = ""  # as we last set it
    led_at: datetime | None = stored_time(default=None)
    led_problem: str = ""
    misfit: list[str] = stored_json(default=[])  # how it differs from its class
    drift: list[str] = stored_json(default=[])  # how it differs from its baselines
    judged: str = ""  # digest of what misfit and drift were computed from
    detail: str = ""  # what it waits for
    problem: str = ""  # why it is stuck
    remedy: str = ""
    told_ironic: UUID | None = None  # the credential in Ironic's driver_info
    failed_attempt: int = 0  # the attempt that was used up
    found_at: datetime = stored_time(default_factory=now)
    seen_at: datetime = stored_time(default_factory=now)

    @property
    def node(self) -> UUID:
        """Its node's UUID, fixed when it was accepted, before Ironic was first called."""
        if self.node_uuid is None:
            raise ValueError(f"BMC {self.address} was never accepted")
        return self.node_uuid


class Address(SQLModel, table=True):
    """One address of a network, and who has it. No address is in two rows.

    address:  as ipaddress writes it. mac: of the NIC that boots with it (BOOT); else None.
    claim_id: the claim that holds the node (NODE). label: the VIP's name, or why it is reserved.
    """

    address: str = Field(primary_key=True)
    network: str = "provisioning"
    kind: AddressKind = AddressKind.BOOT
    mac: str | None = Field(default=None, unique=True)
    node_uuid: UUID | None = Field(default=None, index=True)
    claim_id: UUID | None = Field(default=None, foreign_key="claim.id", index=True)
    label: str = ""
    set_by: str = ""


class Hold(SQLModel, table=True):
    """Who may act on a node. One row per node; every later write checks `generation`."""

    node_uuid: UUID = Field(primary_key=True)
    claim_id: UUID | None = Field(default=None, foreign_key="claim.id", index=True)
    position: int = 0  # n in the host name's "-n"
    generation: int = 0  # rises at each hold, release and protect


class Order(SQLModel, table=True):
    """A server was told to boot Ironic's ramdisk: while open, the gateway lets its agent in."""

    __table_args__ = (
        Index("one_open_order", "node_uuid", unique=True, sqlite_where=text("closed_at IS NULL")),
    )
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    node_uuid: UUID = Field(index=True)
    kind: OrderKind
    generation: int
    macs: list[str] = stored_json(default=[])  # empty: not known before this inspection
    bmc_address: str = ""
    serial: str = ""  # what the ramdisk must report, where no MAC is known yet
    proof_hash: str = ""  # SHA-256 of the one-time token, hex
    opened_at: datetime = stored_time(default_factory=now)
    ironic_done_at: datetime | None = stored_time(default=None)
    closed_at: datetime | None = stored_time(default=None)
    # written by the gateway
    agent_address: str = ""
    agent_macs: list[str] = stored_json(default=[])
    lookup_at: datetime | None = stored_time(default=None)
    heartbeat_at: datetime | None = stored_time(default=None)  # the agent proved it has the token
    alarm: str = ""
    wanted: dict[str, Any] = stored_json(default={})  # what its proof must show: proving.py
    proof: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    proof_at: datetime | None = stored_time(default=None)


class Booking(SQLModel, table=True):
    """A node that a claim holds from `starts_at` on: until then others may have it."""

    claim_id: UUID = Field(primary_key=True, foreign_key="claim.id")
    node_uuid: UUID = Field(primary_key=True)
    position: int = 0
    starts_at: datetime = stored_time()
    ends_at: datetime | None = stored_time(default=None)  # when it is free again; None: open


class ClaimSpec(SQLModel):
    """What the caller asks for. Field names are Ironic's, so no translation is needed.

    image:           NAME, or NAME:VERSION.
    labels, traits:  a node must have every one. racks, nodes: it must be one of them; empty: any.
    cpus:            hardware threads. cpus, memory_gib, disk_gib: at least; disk_gib is the size
                     of the disk that the image goes to.
    spread, pack:    no two nodes in one rack, feed or switch; all nodes in one rack.
    root_device:     Ironic's root device hints.
    layout:          how its NICs are used, by name; empty: the boot NIC alone.
    disks:           [{"role", hints..., "count"}]: data disks that each node must have.
    root_raid:       1: the root is a mirror of the two disks that `root_device` fits; 0: one disk.
    kernel_args:     for the installed system's kernel.
    hostnames:       a pattern with {n}, counted from 0; empty: the name, or name-n.
    starts_at:       when it is to begin; None: now.
    ends_at, lease_seconds: when it ends by itself, or how long it is held; neither: open.
    priority:        in the queue, higher first.
    """

    name: NewHostLabel
    resource_class: Name = "baremetal"
    count: StrictInt = Field(default=1, ge=1, le=500)
    image: ImageRef
    ssh_keys: list[str] = stored_json(default=[])
    user_data: str = Field(default="", max_length=48 * 1024)
    traits: list[str] = stored_json(default=[])
    labels: dict[str, str] = stored_json(default={})
    racks: list[str] = stored_json(default=[])
    nodes: list[str] = stored_json(default=[])
    cpus: StrictInt = Field(default=0, ge=0, le=2**20)
    memory_gib: StrictInt = Field(default=0, ge=0, le=2**20)
    disk_gib: StrictInt = Field(default=0, ge=0, le=2**24)
    spread: str = ""
    pack: str = ""
    root_device: dict[str, Any] = stored_json(default={})
    layout: str = ""
    disks: list[dict[str, Any]] = stored_json(default=[])
    root_raid: StrictInt = 0
    kernel_args: list[str] = stored_json(default=[])
    hostnames: str = ""
    protected: StrictBool = False
    if_full: IfFull = IfFull.REFUSE
    priority: StrictInt = Field(default=0, ge=0, le=100)
    starts_at: datetime | None = stored_time(default=None)
    ends_at: datetime | None = stored_time(default=None)
    lease_seconds: StrictInt | None = Field(default=None, ge=60, le=10 * 365 * 86400)


class Claim(ClaimSpec, table=True):
    """One request for `count` nodes, and how far we got with it."""

    __table_args__ = (
        Index("living_name", "project", "name", unique=True, sqlite_where=text("ended_at IS NULL")),
    )
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    project: str = Field(default="default", index=True)
    asked_by: str = ""
    wanted: Wanted = Wanted.ACTIVE
    undo_until: datetime | None = stored_time(default=None)
    renewed_to: datetime | None = stored_time(default=None)  # the last renewal's end
    grace_seconds: int = 0  # between the lease's end and its release by itself
    min_disk_gib: int = 0  # what its image needed when it was asked for
    image_version: str = ""  # the version of its image, fixed when it was asked for
    layout_document: dict[str, Any] = stored_json(default={})  # as it was when it was asked for
    held_at: datetime | None = stored_time(default=None)  # when its nodes became its own
    warned: list[str] = stored_json(default=[])  # which ends of lease were warned of
    created_at: datetime = stored_time(default_factory=now)
    state: ClaimState = ClaimState.REQUESTED
    since: datetime = stored_time(default_factory=now)
    detail: str = ""
    problem: str = ""
    remedy: str = ""
    ended_at: datetime | None = stored_time(default=None)

    def allocation_name(self, position: int) -> str:
        """Fixed before the first call: a retry finds its own work."""
        return f"{self.id}-{position}"

    def hostname(self, position: int) -> str:
        if self.hostnames:
            return self.hostnames.format(n=position)
        return self.name if self.count == 1 else f"{self.name}-{position}"

    @property
    def image_ref(self) -> str:
        """NAME:VERSION of what is written to its disks, whatever is published meanwhile."""
        name = self.image.partition(":")[0]
        return f"{name}:{self.image_version}" if self.image_version else self.image

    @property
    def wish(self) -> tuple[Any, ...]:
        """What people want of it now: what cannot be undone is done only while that is so."""
        return self.wanted, self.undo_until, self.renewed_to, self.protected

    @property
    def lease_end(self) -> datetime | None:
        """When the lease ends: as renewed, as asked, or so long after its nodes became its own."""
        if self.renewed_to or self.ends_at or not self.lease_seconds:
            return self.renewed_to or self.ends_at
        begin = self.held_at or self.starts_at
        return begin + timedelta(seconds=self.lease_seconds) if begin else None


class Plan(SQLModel, table=True):
    """A destructive verb that was shown to a person, and may be applied for a while."""

    hash: str = Field(primary_key=True)
    verb: str
    expires_at: datetime = stored_time()


class Token(SQLModel, table=True):
    """A caller's key. Only its SHA-256 is kept.

    user:   whose session it is; empty: a token that somebody made for a program.
    scopes: what of its roles it is good for, as "claims" or "claims:read"; empty: all of it.
    """

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    name: str = Field(unique=True)
    hash: str = Field(unique=True)
    roles: list[str] = stored_json()
    project: str = "default"
    user: str = Field(default="", index=True)
    scopes: list[str] = stored_json(default=[])
    created_by: str = ""
    created_at: datetime = stored_time(default_factory=now)
    expires_at: datetime = stored_time()
    last_used_at: datetime | None = stored_time(default=None)  # to the minute


class Event(SQLModel, table=True):
    """What happened, appended only. Each row holds the digest of the one before it.

    why:  the reason that somebody gave. plan: the hash of the plan that was applied.
    hash: SHA-256 over `previous` and this row, hex.
    """

    id: int | None = Field(default=None, primary_key=True)
    at: datetime = stored_time(default_factory=now)
    kind: str = Field(index=True)
    subject: str = Field(default="", index=True)  # a node's or claim's UUID, a BMC's address
    project: str = Field(default="", index=True)
    who: str = ""
    why: str = ""
    plan: str = ""
    request_id: str = ""
    message: str = ""
    data: dict[str, Any] = stored_json(default={})
    previous: str = ""
    hash: str = ""
