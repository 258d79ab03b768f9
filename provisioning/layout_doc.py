"""How a node's NICs are used: which of them, what they are bonded to, which network is on which.

A layout names NIC roles; each node's own NICs are found for them by what is known of this node, so
that one layout fits mixed hardware. Names: NICs are called as the layout says (pinned by MAC);
bonds are bond0, bond1, ... and VLANs <link>.<id>, because cloud-init calls them so wherever it
renders network_data.json by itself.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from provisioning.classes import Speed
from provisioning.errors import Invalid
from provisioning.models import Claim
from provisioning.names import Name, NewName
from provisioning.network_doc import LARGEST_MTU, WIRE, NetworkDoc, Strict

LONGEST_NAME = 15  # IFNAMSIZ less the NUL, linux/if.h
_TAKEN = re.compile(
    r"(lo|nic|eth|wl|ww|bond|docker|veth|dummy|tun|tap|vlan)\d*|en[opsx].*|all|default"
)


def _free(name: str) -> str:
    if _TAKEN.fullmatch(name):
        raise ValueError(f"{name} could be what the system calls another interface")
    return name


def _many(value: Any) -> Any:  # noqa: ANN401
    return value if isinstance(value, list | tuple) else [value]


Interface = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,14}$"), AfterValidator(_free)
]
Bridge = Annotated[
    str, StringConstraints(pattern=r"^([a-z][a-z0-9_-]{0,14})?$"), AfterValidator(_free)
]
NicRole = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,11}$"), AfterValidator(_free)
]
Prefix = Annotated[
    str, StringConstraints(pattern=r"^([0-9a-f]{2}(:[0-9a-f]{2}){0,5})?$"),
    BeforeValidator(lambda text: text.lower() if isinstance(text, str) else text),
]  # fmt: skip
Glob = Annotated[str, StringConstraints(max_length=255)]
Mtu = Annotated[int, Field(ge=576, le=LARGEST_MTU)]
Roles = Annotated[tuple[NicRole, ...], BeforeValidator(_many), Field(min_length=1, max_length=16)]


class Pick(Strict):
    """Which NICs have a role: all that is said must be so. Text is a glob.

    boot:       the one that boots from the network is among them; no role that does not say so
                gets it. name: as BMC, ramdisk or system call it. mac: how it begins.
    switch:     where its cable ends, heard or planned. class_role: as its hardware class calls it.
    names:      what the node's system shall call them; else the role's name, numbered from 0 where
                there are several.
    """

    count: Annotated[int, Field(ge=1, le=16)] = 1
    boot: bool = False
    name: Glob = ""
    mac: Prefix = ""
    switch: Glob = ""
    speed_mbps: Speed | None = None
    class_role: Annotated[str, StringConstraints(max_length=64)] = ""
    names: tuple[Interface, ...] = Field(default=(), max_length=16)
    mtu: Mtu | None = None

    @model_validator(mode="after")
    def _one_name_each(self) -> "Pick":
        if self.names and len(self.names) != self.count:
            raise ValueError(f"names: {len(self.names)} of them for {self.count} NICs")
        return self


class Bond(Strict):
    """nics: roles whose NICs are its members. primary: the name of a member (active-backup).

    miimon: milliseconds between two looks at the links.
    """

    name: Annotated[str, StringConstraints(pattern=r"^bond[0-9]$")]
    nics: Roles
    mode: Literal["active-backup", "802.3ad"] = "active-backup"
    miimon: Annotated[int, Field(ge=1, le=10_000)] = 100
    primary: str = ""
    lacp_rate: Literal["", "slow", "fast"] = ""
    xmit_hash_policy: Literal["", "layer2", "layer2+3", "layer3+4", "encap2+3", "encap3+4"] = ""
    mtu: Mtu | None = None

    @model_validator(mode="after")
    def _fits_its_mode(self) -> "Bond":
        if self.mode == "802.3ad" and self.primary:
            raise ValueError("primary: only an active-backup bond has one")
        if self.mode == "active-backup" and (self.lacp_rate or self.xmit_hash_policy):
            raise ValueError("mode: lacp_rate and xmit_hash_policy are of 802.3ad")
        return self


class Attachment(Strict):
    """A network on a link: a NIC role of one NIC, or a bond. Tagged if the network has a VLAN.

    native:  untagged though it has one: the switch port takes the tag off.
    bridge:  a bridge above it that has the addresses then.
    """

    network: Name
    link: str
    native: bool = False
    bridge: Bridge = ""


class LayoutDoc(Strict):
    """default_route: the network whose gateway it is; empty: the only one that has a gateway."""

    name: NewName
    nics: dict[NicRole, Pick] = Field(min_length=1, max_length=32)
    bonds: tuple[Bond, ...] = Field(default=(), max_length=8)
    networks: tuple[Attachment, ...] = Field(default=(), max_length=64)
    default_route: str = ""

    def stored(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_unset=True)

    def names_of(self, role: str) -> tuple[str, ...]:
        """What the system calls its NICs."""
        pick = self.nics[role]
        numbered = tuple(f"{role}{n}" for n in range(pick.count))
        return pick.names or ((role,) if pick.count == 1 else numbered)

    @property
    def boot_role(self) -> str:
        return next((role for role, pick in self.nics.items() if pick.boot), "")

    @property
    def boot_link(self) -> str:
        """The link that has the boot NIC; empty: none of the layout's."""
        role = self.boot_role
        return next((bond.name for bond in self.bonds if role in bond.nics), role)

    @property
    def links(self) -> dict[str, str]:
        """What networks can be on -> its interface's name."""
        bonded = {role for bond in self.bonds for role in bond.nics}
        single = {role: self.names_of(role)[0] for role in self.nics if role not in bonded}
        return single | {bond.name: bond.name for bond in self.bonds}

    @model_validator(mode="after")
    def _whole(self) -> "LayoutDoc":
        if sum(pick.boot for pick in self.nics.values()) > 1:
            raise ValueError("nics: one role has the NIC that boots, not several")
        self._check_bonds()
        self._check_networks()
        names = [name for role in self.nics for name in self.names_of(role)]
        names += [bond.name for bond in self.bonds]
        names += [a.bridge for a in self.networks if a.bridge]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"nics: two interfaces would be called {name}")
        return self

    def _check_bonds(self) -> None:
        taken: dict[str, str] = {}
        for number, bond in enumerate(self.bonds):
            if bond.name != f"bond{number}":
                raise ValueError(f"bonds: the first is bond0, then bond1; not {bond.name}")
            self._check_members(bond, taken)
        for role, pick in self.nics.items():
            if pick.count > 1 and role not in taken:
                raise ValueError(f"nics: {role} is {pick.count} NICs, which only a bond can use")
            if pick.mtu and role in taken:
                raise ValueError(f"nics: {role} has the MTU of {taken[role]}: say it there")

    def _check_members(self, bond: Bond, taken: dict[str, str]) -> None:
        for role in bond.nics:
            if role not in self.nics:
                raise ValueError(f"bonds: {bond.name} has the NICs {role}, which no role is")
            if role in taken:
                raise ValueError(f"bonds: {role} is in {taken[role]} and in {bond.name}")
            taken[role] = bond.name
        members = [name for role in bond.nics for name in self.names_of(role)]
        if bond.primary and bond.primary not in members:
            raise ValueError(f"bonds: {bond.primary} is not one of {bond.name}'s members")

    def _check_networks(self) -> None:
        seen: set[str] = set()
        for one in self.networks:
            if one.link not in self.links:
                known = ", ".join(self.links)
                raise ValueError(f"networks: {one.network} is on {one.link}, but links are {known}")
            if one.network in seen:
                raise ValueError(f"networks: {one.network} is there twice")
            seen.add(one.network)
        if self.default_route and self.default_route not in seen:
            raise ValueError(f"default_route: {self.default_route} is on no link of this layout")


@lru_cache(maxsize=256)
def _known(text: str) -> LayoutDoc:
    return LayoutDoc.model_validate_json(text)


def layout_of(stored: Mapping[str, Any]) -> LayoutDoc:
    """A row's, or a claim's, document; the same one is checked once."""
    return _known(json.dumps(stored))


def of_claim(claim: Claim) -> LayoutDoc | None:
    """As it was when the claim was asked for; None: the boot NIC alone."""
    return layout_of(claim.layout_document) if claim.layout_document else None


# --- against the networks -------------------------------------------------------------------------

REMEDY = "Correct it, then `seed layout put FILE`; see the networks with `seed network list`."


def check(layout: LayoutDoc, nets: Mapping[str, NetworkDoc]) -> None:
    """Raises Invalid where layout and networks do not go together, whatever node it is."""
    natives: dict[str, str] = {}
    if layout.boot_link:
        natives[layout.boot_link] = WIRE
    for one in layout.networks:
        net = _network(layout, one, nets)
        if tagged(one, net):
            _check_vlan_name(layout, one, net)
            continue
        other = natives.setdefault(one.link, one.network)
        if other != one.network:
            raise _wrong(layout, f"{one.network} and {other} are both untagged on {one.link}")
    for link, mtu in _said_mtus(layout).items():
        for one in layout.networks:
            known = nets.get(one.network)
            if known and one.link == link and known.mtu > mtu:
                raise _wrong(layout, f"{known.name}'s MTU {known.mtu} is more than {link}'s {mtu}")
    _check_default_route(layout, nets)


def _wrong(layout: LayoutDoc, why: str) -> Invalid:
    return Invalid(f"layout {layout.name}: {why}", REMEDY)


def _network(layout: LayoutDoc, one: Attachment, nets: Mapping[str, NetworkDoc]) -> NetworkDoc:
    net = nets.get(one.network)
    if one.network == WIRE or (net and net.role == "provisioning"):
        if one.network != WIRE or one.link != layout.boot_link:
            raise _wrong(
                layout,
                f"{one.network} is where servers boot: call it {WIRE}, on the boot NIC's link",
            )
        return net or NetworkDoc(name=WIRE, role="provisioning")
    if net is None:
        raise _wrong(layout, f"there is no network {one.network}")
    return net


def tagged(one: Attachment, net: NetworkDoc) -> bool:
    return net.vlan is not None and not one.native


def _check_vlan_name(layout: LayoutDoc, one: Attachment, net: NetworkDoc) -> None:
    name = vlan_name(layout, one, net)
    if len(name) > LONGEST_NAME:
        raise _wrong(layout, f"{name} is longer than the {LONGEST_NAME} that Linux takes")


def vlan_name(layout: LayoutDoc, one: Attachment, net: NetworkDoc) -> str:
    return f"{layout.links[one.link]}.{net.vlan}"


def _said_mtus(layout: LayoutDoc) -> dict[str, int]:
    said = {role: pick.mtu for role, pick in layout.nics.items()}
    said |= {bond.name: bond.mtu for bond in layout.bonds}
    return {link: mtu for link, mtu in said.items() if mtu}


def mtu_of(layout: LayoutDoc, link: str, nets: Mapping[str, NetworkDoc]) -> int:
    """A link's: as said, else what the largest of its networks needs."""
    said = _said_mtus(layout).get(link)
    on_it = [nets[a.network].mtu for a in layout.networks if a.link == link and a.network in nets]
    wire = [nets[WIRE].mtu if WIRE in nets else 1500] if link == layout.boot_link else []
    return said or max([*on_it, *wire], default=1500)


def default_of(layout: LayoutDoc, nets: Mapping[str, NetworkDoc]) -> str:
    """The network that has the default route; empty: none has."""
    if layout.default_route:
        return layout.default_route
    having = _with_gateway(layout, nets)
    return having[0] if len(having) == 1 else ""


def _with_gateway(layout: LayoutDoc, nets: Mapping[str, NetworkDoc]) -> list[str]:
    found = [nets[a.network] for a in layout.networks if a.network in nets]
    return [n.name for n in found if any(s.gateway or s.addresses != "static" for s in n.subnets)]


def _check_default_route(layout: LayoutDoc, nets: Mapping[str, NetworkDoc]) -> None:
    having = _with_gateway(layout, nets)
    if layout.default_route == WIRE:
        return  # a node behind a relay has one there
    if layout.default_route and layout.default_route not in having:
        raise _wrong(layout, f"the default route is {layout.default_route}'s, which has no gateway")
    if not layout.default_route and len(having) > 1:
        raise _wrong(layout, f"{' and '.join(having)} have gateways: say which is `default_route`")
