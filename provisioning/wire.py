"""What the provisioning wire shall serve, computed whole from our rows.

Level-triggered: written again from the rows at each pass, so that a lost or stale file is repaired.
"""

from dataclasses import dataclass, field
from typing import Protocol

from sqlmodel import Session, col, select

from provisioning.models import Address, Bmc, Order


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
    names = {b.node_uuid: b.node_name or "" for b in session.exec(select(Bmc)).all()}
    opened = session.exec(
        select(Order).where(col(Order.closed_at).is_(None), Order.alarm == "")
    ).all()
    return WireState(
        hosts={
            a.mac: (a.address, names.get(a.node_uuid, ""))
            for a in session.exec(select(Address)).all()
        },
        booting=frozenset(m for o in opened for m in o.macs if not o.ironic_done_at),
        inspect_unknown=any(not o.macs for o in opened),
    )
