"""Which of a node's NICs have a layout's roles, and what a node lacks for it.

What is known of a NIC comes from the BMC, the last ramdisk, the hardware class and the rack plan.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlmodel import Session, select

from provisioning import drift, racks, seats
from provisioning.cabling import natural
from provisioning.classes import NicRule, document_of, matches
from provisioning.handout import boot_addresses
from provisioning.hardware import Nic
from provisioning.layout_doc import LayoutDoc, Pick, layout_of
from provisioning.models import Bmc
from provisioning.rack_plan import Place
from provisioning.room import HardwareClass

__all__ = ["LayoutDoc", "NodeNic", "NodeNics", "fill", "lacks", "layout_of", "nics_of"]


@dataclass(frozen=True, slots=True)
class NodeNic:
    """What is known of one NIC. Empty, 0, None: nobody told.

    name: as its running system will call it, as far as its ramdisk tells; else as its BMC does.
    names: all of these. boot: it is the one that boots from the network. roles: by its class.
    """

    mac: str
    name: str = ""
    speed_mbps: int = 0
    switch: str = ""
    port: str = ""
    link: bool | None = None
    boot: bool = False
    roles: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class NodeNics:
    nics: tuple[NodeNic, ...]
    rack: str = ""

    @property
    def macs(self) -> set[str]:
        return {nic.mac for nic in self.nics}


def nics_of(session: Session, bmc: Bmc) -> NodeNics:
    """An accepted server's."""
    return nics_of_all(session, [bmc])[bmc.id]


def nics_of_all(session: Session, bmcs: Sequence[Bmc]) -> dict[UUID, NodeNics]:
    """Of many accepted servers, by their BMC's id, with a handful of queries for all of them."""
    places, boots = seats.places(session, bmcs), boot_addresses(session)
    classes = {row.name: row for row in session.exec(select(HardwareClass))}
    return {
        bmc.id: _nics(bmc, places.get(bmc.node), boots.get(bmc.node, ""), _rules(bmc, classes))
        for bmc in bmcs
    }


def _nics(bmc: Bmc, place: Place | None, boot_mac: str, rules: Mapping[str, NicRule]) -> NodeNics:
    told = racks.told_of(bmc)
    cables = {nic.mac: nic for nic in seats.nics(bmc, told, place, {}, {})}
    views: dict[str, list[Nic]] = {}
    for one in sorted(told, key=lambda t: t.source):  # in band first: it knows the system's names
        for nic in one.inventory.nics:
            views.setdefault(nic.mac.lower(), []).append(nic)
    known = {nic.mac.lower() for nic in _present(bmc)} | {boot_mac}
    found = []
    for mac in dict.fromkeys([*filter(None, [boot_mac]), *cables]):
        both = views.get(mac, [])
        if mac not in known:
            continue  # it is not there any more
        roles = (role for role, rule in rules.items() if any(rule.takes(nic) for nic in both))
        found.append(
            NodeNic(
                mac=mac,
                name=next((nic.name for nic in both if nic.name), ""),
                speed_mbps=max((nic.speed_mbps for nic in both), default=0),
                switch=cables[mac].switch if mac in cables else "",
                port=cables[mac].port if mac in cables else "",
                link=next((nic.link for nic in both if nic.link is not None), None),
                boot=mac == boot_mac,
                roles=frozenset(roles),
                names=frozenset(nic.name for nic in both if nic.name),
            )
        )
    return NodeNics(tuple(found), place.rack.rack if place else "")


def _present(bmc: Bmc) -> Sequence[Nic]:
    seen = drift.present(bmc)
    return seen.nics if seen else ()


def _rules(bmc: Bmc, classes: Mapping[str, HardwareClass]) -> dict[str, NicRule]:
    row = classes.get(bmc.hardware_class)
    return dict(document_of(row.document).nic_roles) if row else {}


def lacks(layout: LayoutDoc, node: NodeNics) -> list[str]:
    """One sentence per NIC role that this node cannot fill; empty: it fits."""
    return _fit(layout, node)[1]


def fill(layout: LayoutDoc, node: NodeNics) -> dict[str, tuple[NodeNic, ...]]:
    """Role -> its NICs, the same ones each time. What `lacks` names has fewer than it should."""
    return _fit(layout, node)[0]


def _fit(layout: LayoutDoc, node: NodeNics) -> tuple[dict[str, tuple[NodeNic, ...]], list[str]]:
    """Augmenting paths (Kuhn): roles that could take the same NICs do not starve each other."""
    nics = sorted(node.nics, key=lambda n: (n.link is False, natural(n.name), n.mac))
    seats_of = [(role, n) for role, pick in layout.nics.items() for n in range(pick.count)]
    able = {
        (role, n): [
            nic for nic in nics
            if _takes(layout.nics[role], nic) and nic.boot == (layout.nics[role].boot and n == 0)
        ]
        for role, n in seats_of
    }  # fmt: skip
    held: dict[str, tuple[str, int]] = {}

    def place(seat: tuple[str, int], tried: set[str]) -> bool:
        for nic in sorted(able[seat], key=lambda n: n.mac in held):  # a free one before another's
            if nic.mac in tried:
                continue
            tried.add(nic.mac)
            if nic.mac not in held or place(held[nic.mac], tried):
                held[nic.mac] = seat
                return True
        return False

    empty = [seat for seat in seats_of if not place(seat, set())]
    by_seat = {seat: mac for mac, seat in held.items()}
    by_mac = {nic.mac: nic for nic in nics}
    found = {
        role: tuple(by_mac[by_seat[role, n]] for n in range(pick.count) if (role, n) in by_seat)
        for role, pick in layout.nics.items()
    }
    lines = [
        _sentence(role, layout.nics[role], node, boot_missing=(role, 0) in empty)
        for role in dict.fromkeys(role for role, _ in empty)
    ]
    return found, [*lines, *_speeds(layout, found)]


def _takes(pick: Pick, nic: NodeNic) -> bool:
    names = {nic.name, *nic.names}
    return (
        (not pick.name or any(matches((pick.name,), name) for name in names if name))
        and nic.mac.startswith(pick.mac)
        and (not pick.switch or matches((pick.switch,), nic.switch))
        and (pick.speed_mbps is None or pick.speed_mbps.holds(nic.speed_mbps))
        and (not pick.class_role or pick.class_role in nic.roles)
    )


def _sentence(role: str, pick: Pick, node: NodeNics, *, boot_missing: bool) -> str:
    able = [nic for nic in node.nics if _takes(pick, nic)]
    wish = ", ".join(_wishes(pick))
    if pick.boot and boot_missing:
        return f"NIC role {role}: the NIC it boots from is not one of {wish or 'its NICs'}"
    free = len([nic for nic in able if pick.boot or not nic.boot])
    what = f"with {wish}" if wish else "free"
    return f"NIC role {role}: {free} of {pick.count} NICs {what}"


def _wishes(pick: Pick) -> Iterator[str]:
    told: dict[str, Any] = {
        "name": pick.name, "mac": pick.mac, "switch": pick.switch,
        "speed_mbps": pick.speed_mbps, "class role": pick.class_role,
    }  # fmt: skip
    yield from (f"{name} {value}" for name, value in told.items() if value)


def _speeds(layout: LayoutDoc, found: dict[str, tuple[NodeNic, ...]]) -> Iterator[str]:
    """IEEE 802.1AX aggregates links of one speed only."""
    for bond in layout.bonds:
        speeds = {nic.speed_mbps for role in bond.nics for nic in found[role]} - {0}
        if bond.mode == "802.3ad" and len(speeds) > 1:
            told = " and ".join(map(str, sorted(speeds)))
            yield f"{bond.name}: 802.3ad bonds links of one speed, these have {told} Mbit/s"
