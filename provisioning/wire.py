"""What the provisioning wire shall serve, computed whole from our rows.

Level-triggered: written again from the rows at each pass, so that a lost or stale file is repaired.
"""

from dataclasses import dataclass, field
from typing import Protocol

from sqlmodel import Session, col, select

from provisioning.models import Address, Bmc, Order
from provisioning.states import AddressKind


@dataclass(frozen=True, slots=True)
class WireState:
    """hosts: MAC -> (address, host name). booting: MACs that chain to Ironic's own file.

    inspect_unknown: a server whose MACs nobody knows yet is being inspected, so unknown MACs get
    the ramdisk instead of nothing.
    """

    hosts: dict[str, tuple[str, str]] = field(default_factory=dict)
    booting: frozenset[str] = frozenset()
    inspect_unknown: bool = False


class BootService(Protocol):
    """Writes DHCP reservations and boot files."""

    def serve(self, wanted: WireState) -> None: ...


def wanted(session: Session) -> WireState:
    """Columns only: this is asked twice a second, and a BMC's row carries its whole inventory."""
    held = session.exec(
        select(Address.mac, Address.address, Bmc.node_name)
        .join(Bmc, col(Bmc.node_uuid) == col(Address.node_uuid), isouter=True)
        .where(Address.kind == AddressKind.BOOT)
    ).all()
    opened = session.exec(
        select(Order.macs, Order.ironic_done_at).where(
            col(Order.closed_at).is_(None), Order.alarm == ""
        )
    ).all()
    return WireState(
        hosts={mac: (address, name or "") for mac, address, name in held if mac},
        booting=frozenset(m for macs, done_at in opened for m in macs if not done_at),
        inspect_unknown=any(not macs for macs, _ in opened),
    )
