"""The networks there are, and addresses that servers boot with.

One reservation per NIC. DHCP hosts, static network_data and the hand-out all come from these
rows, so that a server has one address whether it runs the ramdisk or its own system.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface
from socket import inet_ntoa
from typing import Any, NamedTuple
from uuid import UUID

from netaddr import EUI, AddrFormatError, mac_unix_expanded
from sqlmodel import Session, col, select

from provisioning.errors import Conflict, Invalid
from provisioning.fabric import Network
from provisioning.ip_text import a_range
from provisioning.models import Address
from provisioning.network_doc import WIRE, BootNet, NetworkDoc, Relayed

__all__ = ["Behind", "BootNet", "NetworkDoc", "Pool", "mac", "networks"]

_DIGIT = re.compile(r"[0-9A-Fa-f]")


@lru_cache(maxsize=32_768)  # the same thousands are compared again at each acceptance
def mac(text: str) -> str:
    """EUI-48 as Ironic stores it: lower case, colons. Group addresses are refused."""
    try:
        if len(_DIGIT.findall(text)) != 12:  # netaddr fills up what is missing with zeros
            raise AddrFormatError("not twelve digits")
        eui = EUI(text, version=48, dialect=mac_unix_expanded)
    except (AddrFormatError, ValueError) as err:
        raise Invalid(f"{text!r} is not a MAC address", "Write it as 52:54:00:12:34:56.") from err
    if eui.words[0] & 1 or int(eui) == 0:
        raise Invalid(
            f"{text} is a group or zero address, no NIC has it",
            "Read the label again; a NIC's MAC looks like 52:54:00:12:34:56.",
        )
    return str(eui)


@lru_cache(maxsize=256)
def _known(text: str) -> NetworkDoc:
    return NetworkDoc.model_validate_json(text)


def network_of(stored: Mapping[str, Any]) -> NetworkDoc:
    """A row's document; the same row is checked once."""
    return _known(json.dumps(stored))


def networks(session: Session) -> dict[str, NetworkDoc]:
    """Every network that was put, by name."""
    rows = session.exec(select(Network).order_by(col(Network.name))).all()
    return {row.name: network_of(row.document) for row in rows}


class Behind(NamedTuple):
    """The relayed range that a node is in, and its network's name."""

    network: str
    range: Relayed


def _nobody(_session: Session, _node_uuid: UUID) -> Behind | None:
    return None


@dataclass(frozen=True, slots=True)
class Pool:
    """Where reservations on the provisioning wires come from.

    relayed: the range behind a relay that a node is in (relay.of_node); None: it is on the wire.
    """

    wire: IPv4Interface
    start: IPv4Address
    end: IPv4Address
    relayed: Callable[[Session, UUID], Behind | None] = _nobody

    def reserve(self, session: Session, mac_address: str, node_uuid: UUID) -> Address:
        """This NIC's address; the same one each time. Conflict when the pool is empty."""
        behind = self.relayed(session, node_uuid)
        held = session.exec(select(Address).where(Address.mac == mac_address)).first()
        if held is not None:
            if held.node_uuid != node_uuid:
                raise Conflict(
                    f"MAC {mac_address} already belongs to another node",
                    "Two servers with one MAC cannot share a wire: `seed node list`.",
                )
            _same_wire(held, behind)
            return held
        taken = set(session.exec(select(Address.address)).all())
        start, end = self.start, self.end
        if behind:
            start, end = (IPv4Address(int(a)) for a in a_range(behind.range.pool))
        for number in range(int(start), int(end) + 1):
            text = inet_ntoa(number.to_bytes(4, "big"))
            if text not in taken:
                network = behind.network if behind else WIRE
                row = Address(address=text, network=network, mac=mac_address, node_uuid=node_uuid)
                session.add(row)
                session.flush()
                return row
        raise Conflict(
            f"no address is left between {start} and {end}",
            f"Put network {behind.network} again with a wider pool: `seed network put FILE`."
            if behind
            else "Widen pool_start and pool_end in seed.toml, then `seed down` and `seed up`.",
        )

    def boot_net(self, nets: Mapping[str, NetworkDoc], row: Address) -> BootNet:
        """The network that a node with this address boots on, and the way from there to Seed."""
        doc = nets.get(row.network)
        known: dict[str, Any] = (
            {"mtu": doc.mtu, "dns": doc.dns, "ntp": doc.ntp, "domain": doc.domain} if doc else {}
        )
        address = IPv4Address(row.address)
        for one in doc.relayed if doc else ():
            if address in one.net:
                seed = self.wire.network
                return BootNet(one.net, gateway=one.gateway, seed=seed, **known)
        return BootNet(self.wire.network, **known)

    def network_data(self, row: Address, dns: list[str] | None = None) -> dict[str, Any]:
        """OpenStack network_data.json with this one static address, by MAC."""
        return {
            "links": [{"id": "nic0", "type": "phy", "ethernet_mac_address": row.mac, "mtu": 1500}],
            "networks": [
                {
                    "id": "provisioning",
                    "network_id": "provisioning",
                    "type": "ipv4",
                    "link": "nic0",
                    "ip_address": row.address,
                    "netmask": str(self.wire.netmask),
                    "routes": [],
                }
            ],
            "services": [{"type": "dns", "address": a} for a in dns or []],
        }


def _same_wire(held: Address, behind: Behind | None) -> None:
    """Raises Conflict: the rack plan says now that this node is somewhere else."""
    here = held.network == (behind.network if behind else WIRE)
    if here and (behind is None or IPv4Address(held.address) in behind.range.net):
        return
    where = f"{behind.range.cidr} of network {behind.network}" if behind else "on Seed's own wire"
    raise Conflict(
        f"the node boots with {held.address}, but the rack plan says that it is {where}",
        "Put the rack plan right: `seed rack plan import FILE`; or `seed bmc forget ADDRESS`, and "
        "discover it again.",
    )
