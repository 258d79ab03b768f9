"""Addresses on the provisioning wire, and what is rendered from them.

One reservation per NIC. DHCP hosts, static network_data and the hand-out all come from these
rows, so that a server has one address whether it runs the ramdisk or its own system.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface
from socket import inet_ntoa
from typing import Any
from uuid import UUID

from netaddr import EUI, AddrFormatError, mac_unix_expanded
from sqlmodel import Session, select

from provisioning.errors import Conflict, Invalid
from provisioning.models import Address

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


@dataclass(frozen=True, slots=True)
class Pool:
    """Where reservations on the provisioning wire come from."""

    wire: IPv4Interface
    start: IPv4Address
    end: IPv4Address

    def reserve(self, session: Session, mac_address: str, node_uuid: UUID) -> Address:
        """This NIC's address; the same one each time. Conflict when the pool is empty."""
        held = session.exec(select(Address).where(Address.mac == mac_address)).first()
        if held is not None:
            if held.node_uuid != node_uuid:
                raise Conflict(
                    f"MAC {mac_address} already belongs to another node",
                    "Two servers with one MAC cannot share a wire: `seed node list`.",
                )
            return held
        taken = set(session.exec(select(Address.address)).all())
        for number in range(int(self.start), int(self.end) + 1):
            text = inet_ntoa(number.to_bytes(4, "big"))
            if text not in taken:
                row = Address(address=text, mac=mac_address, node_uuid=node_uuid)
                session.add(row)
                session.flush()
                return row
        raise Conflict(
            f"no address is left between {self.start} and {self.end}",
            "Widen pool_start and pool_end in seed.toml, then `seed down` and `seed up`.",
        )

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
