"""A network as people write it: VLAN, MTU, subnets, pools, VIPs, relayed ranges; checked whole.

Only what the document itself can tell is checked here; what it overlaps with is fabric_rules.py's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network, ip_network
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from provisioning.ip_text import (
    Ip,
    Net,
    Range,
    a_net,
    a_range,
    an_ip,
    domain,
    time_source,
    wire_net,
)  # fmt: skip
from provisioning.names import HostLabel, NewName

WIRE = "provisioning"
"""The name of the wire that seed.toml describes, and of addresses on it."""
SERVED = frozenset({"management", "out-of-band"})  # Seed's other wires: no node gets an address
LARGEST_MTU = 9216


def _many(value: Any) -> Any:  # noqa: ANN401
    return value if isinstance(value, list | tuple) else [value]


Address = Annotated[str, AfterValidator(lambda text: str(an_ip(text)))]
MaybeAddress = Annotated[str, AfterValidator(lambda text: text and str(an_ip(text)))]
AnyNet = Annotated[str, AfterValidator(lambda text: str(a_net(text)))]
WireNet = Annotated[str, AfterValidator(wire_net)]
Pool = Annotated[str, AfterValidator(lambda text: str(a_range(text)))]
Few = Annotated[tuple[Pool, ...], BeforeValidator(_many), Field(max_length=32)]
RackName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/-]{1,255}$")]
Domain = Annotated[str, AfterValidator(domain)]
Vlan = Annotated[int, Field(ge=1, le=4094)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Route(Strict):
    """Where else this wire leads. to: a network. via: a router on this wire."""

    to: AnyNet
    via: Address


class Subnet(Strict):
    """addresses: who gives them. static: Seed, from the pools; dhcp, slaac: somebody else."""

    cidr: WireNet
    gateway: MaybeAddress = ""
    pools: Few = ()
    exclude: Few = ()
    routes: tuple[Route, ...] = Field(default=(), max_length=64)
    addresses: Literal["static", "dhcp", "slaac"] = "static"

    @cached_property
    def net(self) -> Net:
        return ip_network(self.cidr)

    @cached_property
    def ranges(self) -> tuple[Range, ...]:
        return tuple(a_range(text) for text in self.pools)

    @cached_property
    def holes(self) -> tuple[Range, ...]:
        return tuple(a_range(text) for text in self.exclude)

    @property
    def ends(self) -> dict[Ip, str]:
        """Addresses of the net that no host has."""
        first = self.net.network_address
        if self.net.version == 6:
            return {first: "the routers' own address"}  # RFC 4291, 2.6.1
        return {first: "the network's address", self.net.broadcast_address: "the broadcast address"}

    def free(self) -> Iterator[Ip]:
        """What may be given to nodes, in order."""
        for pool in self.ranges:
            number, last = int(pool.first), int(pool.last)
            while number <= last:
                address = type(pool.first)(number)
                hole = next((hole for hole in self.holes if address in hole), None)
                if hole is None:
                    yield address
                number = (number if hole is None else int(hole.last)) + 1

    @model_validator(mode="after")
    def _whole(self) -> "Subnet":
        self._check_gateway()
        self._check_pools()
        for hole in self.holes:
            _within(self.net, hole, "exclude")
        for route in self.routes:
            if an_ip(route.via) not in self.net:
                raise ValueError(f"routes: {route.via} is not within {self.cidr}")
            to = a_net(route.to)
            if to.prefixlen == 0:
                raise ValueError(f"routes: {route.to} is what `gateway` is for")
            if to.version != self.net.version or to.overlaps(self.net):
                raise ValueError(f"routes: {route.to} cannot be reached from {self.cidr} by this")
        return self

    def _check_gateway(self) -> None:
        if not self.gateway:
            return
        gateway = an_ip(self.gateway)
        if gateway not in self.net:
            raise ValueError(f"gateway: {gateway} is not within {self.cidr}")
        if gateway in self.ends and self.net.version == 4:
            raise ValueError(f"gateway: {gateway} is {self.ends[gateway]}")

    @property
    def taken(self) -> dict[Ip, str]:
        """Addresses that no pool may hold, and whose they are."""
        return self.ends | ({an_ip(self.gateway): "the gateway"} if self.gateway else {})

    def _check_pools(self) -> None:
        if self.addresses != "static":
            if self.pools:
                raise ValueError(f"pools: Seed gives no addresses where they are {self.addresses}")
            if self.addresses == "slaac" and (self.net.version, self.net.prefixlen) != (6, 64):
                raise ValueError("addresses: slaac is for IPv6 networks of /64")
            return
        if not self.pools:
            raise ValueError("pools: where Seed gives addresses, it needs a pool of them")
        for number, pool in enumerate(self.ranges):
            self._check_pool(pool, self.ranges[:number])
        if next(self.free(), None) is None:
            raise ValueError("exclude: it leaves no address of the pools")

    def _check_pool(self, pool: Range, others: tuple[Range, ...]) -> None:
        _within(self.net, pool, "pools")
        for address, what in self.taken.items():
            if address in pool:
                raise ValueError(f"pools: {pool} holds {address}, {what}")
        for other in others:
            if pool.meets(other):
                raise ValueError(f"pools: {pool} and {other} overlap")


class Relayed(Strict):
    """A provisioning range behind a router that relays DHCP to Seed.

    racks: of the rack plan, whose nodes are there. pool: for known nodes; unknown: for MACs that
    nobody knows. IPv4, as all of network boot here.
    """

    racks: Annotated[
        tuple[RackName, ...], BeforeValidator(_many), Field(min_length=1, max_length=512)
    ]
    cidr: WireNet
    gateway: Address
    pool: Pool
    unknown: Pool

    @cached_property
    def net(self) -> IPv4Network:
        return IPv4Network(self.cidr)

    @model_validator(mode="after")
    def _whole(self) -> "Relayed":
        if a_net(self.cidr).version != 4:
            raise ValueError("cidr: servers boot from the network by IPv4")
        pool, unknown = a_range(self.pool), a_range(self.unknown)
        subnet = Subnet.model_validate({  # its own rules, and its words
            "cidr": self.cidr, "gateway": self.gateway, "pools": [self.pool],
        })  # fmt: skip
        _within(self.net, unknown, "unknown")
        if unknown.meets(pool):
            raise ValueError(f"unknown: {unknown} and the pool {pool} overlap")
        for address, what in subnet.taken.items():
            if address in unknown:
                raise ValueError(f"unknown: {unknown} holds {address}, {what}")
        return self


def _within(net: Net, found: Range, what: str) -> None:
    if found.first not in net or found.last not in net:
        raise ValueError(f"{what}: {found} is not within {net}")


Role = Literal["provisioning", "api", "tunnel", "storage", "external"]
Subnets = Annotated[tuple[Subnet, ...], Field(max_length=2)]


class NetworkDoc(Strict):
    """One network. vlan: its tag; none: it comes untagged. mtu: bytes.

    vips: name -> address of services that move between nodes; outside the pools.
    relayed: provisioning networks only, which have no subnets: the first wire is seed.toml's.
    """

    name: NewName
    role: Role
    vlan: Vlan | None = None
    mtu: int = Field(default=1500, ge=576, le=LARGEST_MTU)
    subnets: Subnets = ()
    dns: tuple[Address, ...] = Field(default=(), max_length=4)
    ntp: tuple[Annotated[str, AfterValidator(time_source)], ...] = Field(default=(), max_length=8)
    domain: Domain = ""
    vips: dict[HostLabel, Address] = Field(default={}, max_length=256)
    relayed: tuple[Relayed, ...] = Field(default=(), max_length=256)

    def stored(self) -> dict[str, Any]:
        """As a row keeps it: only what was said."""
        return self.model_dump(mode="json", exclude_unset=True)

    def subnet_of(self, address: Ip) -> Subnet | None:
        return next((s for s in self.subnets if address in s.net), None)

    @property
    def nets(self) -> list[Net]:
        return [*(s.net for s in self.subnets), *(r.net for r in self.relayed)]

    @model_validator(mode="after")
    def _whole(self) -> "NetworkDoc":
        self._check_role()
        versions = [s.net.version for s in self.subnets]
        if len(set(versions)) < len(versions):
            raise ValueError(f"subnets: two of IPv{versions[0]}; a network has one of each kind")
        if 6 in versions and self.mtu < 1280:
            raise ValueError(f"mtu: {self.mtu} is less than the 1280 that IPv6 needs")
        self._check_vips()
        self._check_relayed()
        return self

    def _check_role(self) -> None:
        if self.name in SERVED:
            raise ValueError(f"name: {self.name} is one of Seed's own wires")
        if self.role == "provisioning":
            if self.subnets or self.vlan or self.vips:
                raise ValueError("subnets: a provisioning network has none, nor a VLAN, nor VIPs")
            if not self.relayed and self.name != WIRE:
                raise ValueError("relayed: a second provisioning network is behind a relay")
        elif self.relayed or self.name == WIRE:
            raise ValueError(f"role: {self.name} is for network boot: its role is provisioning")

    def _check_vips(self) -> None:
        held: dict[str, str] = {}
        for name, text in self.vips.items():
            try:
                self.check_vip(an_ip(text))
            except ValueError as error:
                raise ValueError(f"vips.{name}: {error}") from None
            if text in held:
                raise ValueError(f"vips.{name}: {text} is the VIP {held[text]} too")
            held[text] = name

    def check_vip(self, address: Ip) -> None:
        """Raises ValueError where no VIP of this network can be."""
        subnet = self.subnet_of(address)
        if subnet is None:
            raise ValueError(f"{address} is not within {self.name}'s subnets")
        pool = next((pool for pool in subnet.ranges if address in pool), None)
        if pool:
            raise ValueError(f"{address} is in the pool {pool}, so a node could get it")
        if address in subnet.taken:
            raise ValueError(f"{address} is {subnet.taken[address]}")

    def _check_relayed(self) -> None:
        racks: dict[str, str] = {}
        for number, one in enumerate(self.relayed):
            for other in self.relayed[:number]:
                if one.net.overlaps(other.net):
                    raise ValueError(f"relayed: {one.cidr} and {other.cidr} overlap")
            for rack in one.racks:
                if rack.lower() in racks:
                    raise ValueError(f"relayed: rack {rack} is named twice")
                racks[rack.lower()] = one.cidr


@dataclass(frozen=True, slots=True)
class BootNet:
    """The network a node boots on. gateway: its router, where it is behind a relay; then `seed`
    is the wire that Seed is on, which is reached by it."""

    net: IPv4Network
    mtu: int = 1500
    gateway: str = ""
    seed: IPv4Network | None = None
    dns: tuple[str, ...] = ()
    ntp: tuple[str, ...] = ()
    domain: str = ""
