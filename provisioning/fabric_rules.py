"""What networks and layouts may be put, changed and forgotten.

Nothing here overlaps with anything else that Seed serves or knows: its own wires, other networks,
BMCs. What a living claim or an address relies on stays as it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, ip_address

from sqlmodel import Session, col, select

from provisioning import relay, seats
from provisioning.errors import Conflict, Invalid, NotFound
from provisioning.fabric import Layout, Network
from provisioning.holders import AGAIN, find, held, refused, sync_vips
from provisioning.ip_text import Ip, Net, an_ip
from provisioning.layout_doc import LayoutDoc, check, layout_of
from provisioning.models import Address, Bmc, Claim
from provisioning.network_doc import WIRE, NetworkDoc
from provisioning.networks import network_of, networks
from provisioning.states import AddressKind
from provisioning.store import record


@dataclass(frozen=True)
class Served:
    """Seed's own wires: name -> our address and prefix there."""

    wires: Mapping[str, IPv4Interface] = field(default_factory=dict)


def find_layout(session: Session, name: str) -> Layout:
    row = session.get(Layout, name)
    if row is None:
        raise NotFound(f"there is no layout {name!r}", "See what there is: `seed layout list`.")
    return row


def put(session: Session, doc: NetworkDoc, who: str, served: Served) -> Network:
    """Keep a network, or a new version of it. The same one again changes nothing."""
    known = networks(session)
    old = known.get(doc.name)
    row = session.get(Network, doc.name)
    if row is not None and row.document == doc.stored():
        return row
    _check_overlaps(session, doc, known, served)
    if old is not None:
        _check_use(session, old, doc)
    nets = {**known, doc.name: doc}
    for layout in layouts(session).values():
        _check_layout(layout, nets)
    _check_racks(session, nets)
    sync_vips(session, doc, old, who)
    row = session.merge(Network(name=doc.name, document=doc.stored(), put_by=who))
    record(session, "network.put", doc.name, doc.role, who=who)
    session.flush()
    return row


def delete(session: Session, name: str, who: str) -> None:
    """Conflict while anybody has an address of it, or a layout or a living claim names it."""
    row = find(session, name)
    users = [layout.name for layout in layouts(session).values() if _names(layout, name)]
    if users and name != WIRE:
        raise Conflict(
            f"layout {users[0]} uses network {name}",
            f"Change it first, or `seed layout delete {users[0]}`.",
        )
    _check_unused(session, network_of(row.document))
    for vip in held(session, name, AddressKind.VIP, AddressKind.RESERVED):
        session.delete(vip)
    session.delete(row)
    record(session, "network.deleted", name, who=who)


def layouts(session: Session) -> dict[str, LayoutDoc]:
    rows = session.exec(select(Layout).order_by(col(Layout.name))).all()
    return {row.name: layout_of(row.document) for row in rows}


def put_layout(session: Session, doc: LayoutDoc, who: str) -> Layout:
    """Living claims keep theirs as it was when they were asked for."""
    row = session.get(Layout, doc.name)
    if row is not None and row.document == doc.stored():
        return row
    check(doc, networks(session))
    row = session.merge(Layout(name=doc.name, document=doc.stored(), put_by=who))
    record(session, "layout.put", doc.name, who=who)
    session.flush()
    return row


def delete_layout(session: Session, name: str, who: str) -> None:
    session.delete(find_layout(session, name))
    record(session, "layout.deleted", name, who=who)


# --- what a network may not be ------------------------------------------------------------------


def _check_overlaps(
    session: Session, doc: NetworkDoc, known: Mapping[str, NetworkDoc], served: Served
) -> None:
    for net, what in _others(doc, known, served):
        for own, place in _own(doc):
            if own.version == net.version and own.overlaps(net):
                raise refused(doc, f"{place}: {own} overlaps with {net}, {what}")
    bmcs = [(text, _maybe(text)) for text in session.exec(select(Bmc.address))]
    for own, place in _own(doc):
        for text, address in bmcs:
            if address is not None and address in own:
                raise refused(doc, f"{place}: {own} holds {text}, the address of a BMC")
    same = (o for o in known.values() if o.name != doc.name and doc.vlan and o.vlan == doc.vlan)
    for other in same:
        raise refused(doc, f"vlan: {doc.vlan} is network {other.name}'s")


def _own(doc: NetworkDoc) -> Iterator[tuple[Net, str]]:
    yield from ((s.net, f"subnets.{n}.cidr") for n, s in enumerate(doc.subnets))
    yield from ((r.net, f"relayed.{n}.cidr") for n, r in enumerate(doc.relayed))


def _others(
    doc: NetworkDoc, known: Mapping[str, NetworkDoc], served: Served
) -> Iterator[tuple[Net, str]]:
    for name, wire in served.wires.items():
        yield wire.network, f"Seed's {name} network"
    for other in known.values():
        if other.name != doc.name:
            yield from ((net, f"network {other.name}'s") for net in other.nets)


def _maybe(text: str) -> Ip | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _check_layout(layout: LayoutDoc, nets: Mapping[str, NetworkDoc]) -> None:
    try:
        check(layout, nets)
    except Invalid as error:
        raise Conflict(
            f"then a layout would be wrong: {error}", f"`seed layout show {layout.name}`"
        ) from error


def _check_racks(session: Session, nets: Mapping[str, NetworkDoc]) -> None:
    """A rack is in one range; nodes that boot already stay where their addresses are."""
    ranges = list(relay.ranges(nets))
    seen: dict[str, str] = {}
    for behind in ranges:
        for rack in behind.range.racks:
            other = seen.setdefault(rack.lower(), behind.network)
            if other != behind.network:
                raise Conflict(f"rack {rack} is behind {other} already", AGAIN)
    boots = select(Address).where(Address.kind == AddressKind.BOOT)
    booting = {row.node_uuid: row for row in session.exec(boots)}
    if not booting or not ranges:
        return
    bmcs = session.exec(select(Bmc).where(col(Bmc.node_uuid).in_(booting))).all()
    for node, place in seats.places(session, bmcs).items():
        found = relay.of_rack(ranges, place.rack)
        address = ip_address(booting[node].address)
        if found and address not in found.range.net:
            raise Conflict(
                f"a node in rack {place.rack} boots with {address}, not in {found.range.cidr}",
                "Forget it first (`seed bmc forget ADDRESS`), then discover it again.",
            )


# --- what is used ---------------------------------------------------------------------------------


def _names(layout: LayoutDoc, network: str) -> bool:
    return any(one.network == network for one in layout.networks)


def _users(session: Session, doc: NetworkDoc) -> str:
    """Who relies on it, in words; empty: nobody."""
    for row in held(session, doc.name, AddressKind.NODE, AddressKind.BOOT):
        address = an_ip(row.address)
        if doc.name != WIRE or any(address in net for net in doc.nets):
            return f"{row.address} of it is a node's"
    living = select(Claim.layout_document).where(col(Claim.ended_at).is_(None))
    for document in session.exec(living):
        if document and doc.name != WIRE and _names(layout_of(document), doc.name):
            return "a living claim is on it"
    return ""


def _check_unused(session: Session, doc: NetworkDoc) -> None:
    if used := _users(session, doc):
        raise Conflict(
            f"network {doc.name} is in use: {used}",
            f"See by whom: `seed network show {doc.name}`; it is free once they are released.",
        )


def _check_use(session: Session, old: NetworkDoc, new: NetworkDoc) -> None:
    """While somebody relies on it, only pools, exclusions, VIPs and servers' lists may change."""
    if _frozen(old) != _frozen(new):
        _check_unused(session, old)
    for row in held(session, old.name, AddressKind.NODE, AddressKind.BOOT):
        address = an_ip(row.address)
        if row.kind is AddressKind.NODE and not _may_hold(new, address):
            _stays(row, old)
        was = [(r.cidr, r.gateway) for r in old.relayed if address in r.net]
        if was and was != [(r.cidr, r.gateway) for r in new.relayed if address in r.net]:
            _stays(row, old)


def _may_hold(doc: NetworkDoc, address: Ip) -> bool:
    subnet = doc.subnet_of(address)
    return subnet is not None and any(address in pool for pool in subnet.ranges)


def _stays(row: Address, doc: NetworkDoc) -> None:
    raise Conflict(
        f"network {doc.name}: {row.address} is given and would be outside of it",
        f"See whose it is: `seed network show {doc.name}`.",
    )


def _frozen(doc: NetworkDoc) -> object:
    subnets = [(s.cidr, s.gateway, s.addresses, s.routes) for s in doc.subnets]
    return doc.role, doc.vlan, doc.mtu, subnets
