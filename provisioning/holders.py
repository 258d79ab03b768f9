"""Who has an address of a network: VIPs, reservations, and how they are freed.

What nodes have is addressing.py's.
"""

import socket
from collections.abc import Iterable

from sqlmodel import Session, col, select

from provisioning import ranges
from provisioning.cluster_rows import Cluster
from provisioning.errors import Conflict, Invalid, NotFound
from provisioning.fabric import Network
from provisioning.ip_text import Ip, Net, Range, an_ip
from provisioning.models import Address, Bmc, Claim
from provisioning.network_doc import NetworkDoc
from provisioning.networks import network_of
from provisioning.states import AddressKind
from provisioning.store import record

AGAIN = "Correct it, then `seed network put FILE`."


def find(session: Session, name: str) -> Network:
    row = session.get(Network, name)
    if row is None:
        raise NotFound(f"there is no network {name!r}", "See what there is: `seed network list`.")
    return row


def refused(doc: NetworkDoc, why: str) -> Conflict:
    return Conflict(f"network {doc.name}: {why}", AGAIN)


def held(session: Session, network: str, *kinds: AddressKind) -> list[Address]:
    query = select(Address).where(Address.network == network)
    if kinds:
        query = query.where(col(Address.kind).in_(kinds))
    return list(session.exec(query).all())


def sync_vips(session: Session, doc: NetworkDoc, old: NetworkDoc | None, who: str) -> None:
    """The document's VIPs as rows: those it no longer names are free again."""
    before = old.vips if old else {}
    rows = {row.address: row for row in held(session, doc.name)}
    for name, address in before.items():
        row = rows.get(address)
        if doc.vips.get(name) != address and row and row.kind is AddressKind.VIP:
            session.delete(rows.pop(address))
    session.flush()
    for row in rows.values():
        _check_still(doc, row)
    for name, address in doc.vips.items():
        found = rows.get(address)
        if found is not None and (found.kind, found.label) == (AddressKind.VIP, name):
            continue
        if found is not None:
            raise refused(doc, f"vips.{name}: {address} is {words(found)} already")
        _no_second(rows.values(), doc, name)
        session.add(_row(doc, address, AddressKind.VIP, name, who))


def _check_still(doc: NetworkDoc, row: Address) -> None:
    """A VIP that was made by itself must not come into a pool now."""
    if row.kind is AddressKind.VIP:
        try:
            doc.check_vip(an_ip(row.address))
        except ValueError as error:
            raise refused(doc, f"VIP {row.label}: {error}") from None


def _no_second(rows: Iterable[Address], doc: NetworkDoc, name: str) -> None:
    for row in rows:
        if (row.kind, row.label) == (AddressKind.VIP, name):
            raise Conflict(
                f"network {doc.name} has a VIP {name} already: {row.address}",
                f"Free it first: `seed network free {doc.name} {row.address}`.",
            )


def words(row: Address) -> str:
    """What an address is, for people."""
    told = {
        AddressKind.BOOT: "an address a node boots with", AddressKind.NODE: "a node's",
        AddressKind.VIP: f"the VIP {row.label}", AddressKind.RESERVED: "reserved",
    }  # fmt: skip
    return told[row.kind]


def _row(doc: NetworkDoc, address: str, kind: AddressKind, label: str, who: str) -> Address:
    return Address(address=address, network=doc.name, kind=kind, label=label, set_by=who)


def _asked(doc: NetworkDoc, text: str) -> Ip:
    try:
        address = an_ip(text)
    except ValueError as error:
        raise Invalid(f"address: {error}", "Give an address such as 10.40.0.250.") from None
    if doc.subnet_of(address) is None:
        raise Invalid(
            f"address: {address} is not within {doc.name}'s subnets",
            f"See them: `seed network show {doc.name}`.",
        )
    return address


def reserve(session: Session, name: str, text: str, why: str, who: str) -> Address:
    """Nobody gets this address. The same again changes nothing but the reason."""
    doc = network_of(find(session, name).document)
    address = str(_asked(doc, text))
    row = session.get(Address, address)
    if row is not None and row.kind is not AddressKind.RESERVED:
        raise _taken(name, row)
    row = row or _row(doc, address, AddressKind.RESERVED, why, who)
    row.label = why
    session.add(row)
    record(session, "network.reserved", name, address, who=who, why=why)
    session.flush()
    return row


def _taken(name: str, row: Address) -> Conflict:
    return Conflict(
        f"{row.address} is {words(row)}", f"See who has what: `seed network show {name}`."
    )


def vip(session: Session, name: str, label: str, text: str, who: str) -> Address:
    """An address for a service that moves; text empty: a free one outside the pools."""
    doc = network_of(find(session, name).document)
    rows = {row.address: row for row in held(session, name)}
    mine = [r for r in rows.values() if r.kind is AddressKind.VIP and r.label == label]
    if mine and text in ("", mine[0].address):
        return mine[0]
    if mine:
        raise _taken(name, mine[0])
    address = _asked(doc, text) if text else _free_vip(doc, set(rows))
    try:
        doc.check_vip(address)
    except ValueError as error:
        raise Invalid(f"address: {error}", "Leave it out, and Seed chooses one.") from None
    if str(address) in rows:
        raise _taken(name, rows[str(address)])
    row = _row(doc, str(address), AddressKind.VIP, label, who)
    session.add(row)
    record(session, "network.vip", name, f"{label} {address}", who=who)
    session.flush()
    return row


def _free_vip(doc: NetworkDoc, given: set[str]) -> Ip:
    for subnet in doc.subnets:
        away = [*subnet.ranges, *subnet.holes]
        single = [*map(an_ip, given), *subnet.taken]
        away += [Range(address, address) for address in single if address in subnet.net]
        found = _gap(subnet.net, away) if subnet.addresses == "static" else None
        if found is not None:
            return found
    raise Conflict(
        f"network {doc.name} has no address left outside its pools",
        f"Put it again with smaller pools: `seed network show {doc.name}`.",
    )


def _gap(net: Net, away: list[Range]) -> Ip | None:
    """The first address that is in none of these."""
    number = int(net.network_address)
    for one in sorted(away, key=lambda r: int(r.first)):
        if int(one.first) > number:
            break
        number = max(number, int(one.last) + 1)
    return type(net.network_address)(number) if number <= int(net.broadcast_address) else None


def release(session: Session, name: str, text: str, who: str) -> None:
    """Free a reservation or a VIP. What a node has is given back by its claim alone."""
    find(session, name)
    row = session.get(Address, ranges.address(text))
    if row is None or row.network != name:
        raise NotFound(f"nobody has {text} of {name}", f"`seed network show {name}`")
    if row.kind in (AddressKind.BOOT, AddressKind.NODE):
        raise Conflict(
            f"{row.address} is {words(row)}",
            "It is free once its claim is released or its BMC forgotten: `seed claim list`.",
        )
    for cluster in session.exec(select(Cluster).where(col(Cluster.ended_at).is_(None))):
        _check_cluster(cluster, row)
    doc = network_of(find(session, name).document)
    if row.address in doc.vips.values():
        raise Conflict(
            f"{row.address} is a VIP of the network's own document",
            f"Put it again without: `seed network show {name}`, then `seed network put FILE`.",
        )
    session.delete(row)
    record(session, "network.freed", name, row.address, who=who)


def answers(address: str, port: int, seconds: float = 1.0) -> bool:
    """Whether somebody serves there. A refusal tells nothing: firewalls refuse in others' name. To
    a network that this machine has no way to nobody answers, and the nodes see it first."""
    try:
        with socket.create_connection((address, port), seconds):
            return True
    except OSError:
        return False


def label_of(cluster: Cluster, addon: str = "") -> str:
    """Of addresses that a cluster's services have: it tells no stranger whose they are."""
    return f"cluster-{cluster.id.hex[:12]}-{addon}"


def _check_cluster(cluster: Cluster, row: Address) -> None:
    what = ""
    if (row.address, row.network) == (cluster.vip, cluster.network):
        what = "where a cluster's API answers"
    elif row.label.startswith(label_of(cluster)):
        what = "kept for services of a cluster"
    if what:
        raise Conflict(
            f"{row.address} is {what}",
            "It is free once that cluster is released: `seed cluster list`.",
        )


def free_vip(session: Session, name: str, address: str, who: str) -> None:
    """Of a cluster that ends; once it is free this does nothing."""
    row = session.get(Address, address)
    if row is not None and row.network == name and row.kind is AddressKind.VIP:
        session.delete(row)
        record(session, "network.freed", name, address, who=who)


def addresses(session: Session, name: str, project: str | None) -> list[tuple[Address, str, str]]:
    """(row, node's name, claim's name); of one project's claims alone, if a project is given."""
    query = (
        select(Address, Bmc.node_name, Claim.name, Claim.project)
        .join(Bmc, col(Bmc.node_uuid) == col(Address.node_uuid), isouter=True)
        .join(Claim, col(Claim.id) == col(Address.claim_id), isouter=True)
        .where(Address.network == name)
    )
    if project is not None:
        query = query.where(Claim.project == project)
    found = [(row, node or "", claim or "") for row, node, claim, _ in session.exec(query)]
    return sorted(
        found, key=lambda one: (an_ip(one[0].address).version, int(an_ip(one[0].address)))
    )
