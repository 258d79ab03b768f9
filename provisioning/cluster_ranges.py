"""Addresses of Seed's networks that a cluster gives to its services, kept for it until it ends.

Each is a row, as the VIP of its API is: no node, no other VIP, no reservation and no pool that is
put later can have it. The label tells no stranger whose it is: claimers see a network's VIPs.
"""

from collections.abc import Iterable, Iterator

from sqlmodel import Session, col, select

from provisioning import chosen_addons, fabric_rules, holders
from provisioning.addons import Wanted, field
from provisioning.addons.metallb import MOST
from provisioning.cluster_rows import Cluster
from provisioning.cluster_spec import ClusterSpec
from provisioning.errors import Conflict, Invalid, NotFound
from provisioning.holders import label_of
from provisioning.ip_text import Ip, Range, a_range, an_ip
from provisioning.layout_doc import layout_of
from provisioning.models import Address
from provisioning.network_doc import NetworkDoc, Subnet
from provisioning.networks import networks
from provisioning.states import AddressKind
from provisioning.store import record


def reserve(session: Session, cluster: Cluster, spec: ClusterSpec, who: str) -> None:
    """In the transaction that makes the cluster. Raises NotFound, Invalid, Conflict, which name the
    option."""
    for addon, wanted in chosen_addons.wanted(spec.addons, spec.options).items():
        doc = networks(session).get(wanted.network)
        if doc is None:
            raise NotFound(
                f"{field(addon, 'network')}: there is no network {wanted.network!r}",
                "`seed network list`",
            )
        _check_reached(session, spec, addon, doc)
        taken = {row.address: row for row in holders.held(session, doc.name)}
        found = (
            _named(doc, addon, wanted, taken)
            if wanted.range
            else _free(doc, addon, wanted.count, taken)
        )
        label = label_of(cluster, addon)
        session.add_all(
            Address(
                address=str(one), network=doc.name, kind=AddressKind.VIP, label=label, set_by=who
            )
            for one in found
        )  # fmt: skip
        record(session, "network.vip", doc.name, f"{label} {', '.join(_joined(found))}", who=who)
        session.flush()


def of(session: Session, cluster: Cluster) -> dict[str, tuple[str, ...]]:
    """Add-on -> what is kept for it, "first-last"."""
    begin = label_of(cluster)
    query = select(Address).where(col(Address.label).startswith(begin, autoescape=True))
    rows: dict[str, list[Ip]] = {}
    for row in session.exec(query.where(Address.kind == AddressKind.VIP)).all():
        rows.setdefault(row.label.removeprefix(begin), []).append(an_ip(row.address))
    return {addon: tuple(_joined(found)) for addon, found in sorted(rows.items())}


def release(session: Session, cluster: Cluster, who: str) -> None:
    """They are anybody's again; once they are this does nothing."""
    begin = label_of(cluster)
    query = select(Address).where(col(Address.label).startswith(begin, autoescape=True))
    rows = session.exec(query.where(Address.kind == AddressKind.VIP)).all()
    freed: dict[str, list[Ip]] = {}
    for row in rows:
        freed.setdefault(row.network, []).append(an_ip(row.address))
        session.delete(row)
    for network, found in freed.items():
        record(session, "network.freed", network, ", ".join(_joined(found)), who=who)


# --- which ones -----------------------------------------------------------------------------------


def _named(doc: NetworkDoc, addon: str, wanted: Wanted, taken: dict[str, Address]) -> list[Ip]:
    what, asked = field(addon, "range"), a_range(wanted.range)
    size = int(asked.last) - int(asked.first) + 1
    if size > MOST:
        raise Invalid(f"{what}: {asked} has {size} addresses", f"Take {MOST} at most.")
    found = [type(asked.first)(int(asked.first) + n) for n in range(size)]
    for address in found:
        try:
            doc.check_vip(address)
        except ValueError as error:
            raise Invalid(
                f"{what}: {error}", "Give count in its place, and Seed chooses free ones."
            ) from None
        if row := taken.get(str(address)):
            raise Conflict(
                f"{what}: {address} is {holders.words(row)}",
                f"See who has what: `seed network show {doc.name}`.",
            )
    return found


def _free(doc: NetworkDoc, addon: str, count: int, taken: dict[str, Address]) -> list[Ip]:
    """The last ones of a subnet: nodes and people begin at the first."""
    most = 0
    for subnet in doc.subnets:
        found = [*_outside(subnet, map(an_ip, taken), count)]
        if len(found) == count:
            return found
        most = max(most, len(found))
    raise Conflict(
        f"{field(addon, 'count')}: network {doc.name} has {most} addresses left outside its pools",
        f"Ask for fewer, or put it again with smaller pools: `seed network show {doc.name}`.",
    )


def _outside(subnet: Subnet, taken: Iterable[Ip], count: int) -> Iterator[Ip]:
    """From the last one down."""
    if subnet.addresses != "static":
        return
    away = [*subnet.ranges, *subnet.holes]
    away += [Range(one, one) for one in (*taken, *subnet.taken) if one in subnet.net]
    kind, number = type(subnet.net.network_address), int(subnet.net.broadcast_address)
    least = int(subnet.net.network_address)
    while count and number >= least:
        address = kind(number)
        hole = next((one for one in away if address in one), None)
        if hole is None:
            yield address
            count -= 1
        number = (number if hole is None else int(hole.first)) - 1


def _joined(addresses: Iterable[Ip]) -> Iterator[str]:
    """As few ranges as can be."""
    first = last = None
    for one in sorted(addresses, key=lambda ip: (ip.version, int(ip))):
        if last is not None and first is not None and int(one) == int(last) + 1:
            last = one
            continue
        if first is not None:
            yield f"{first}-{last}"
        first = last = one
    if first is not None:
        yield f"{first}-{last}"


def _check_reached(session: Session, spec: ClusterSpec, addon: str, doc: NetworkDoc) -> None:
    """Who runs pods answers for them there."""
    group, where = (spec.workers, "workers") if spec.workers.count else (spec.control, "control")
    layout = layout_of(fabric_rules.find_layout(session, group.layout).document)
    if not any(one.network == doc.name for one in layout.networks):
        raise Invalid(
            f"{field(addon, 'network')}: {where} with layout {group.layout} are not in {doc.name}",
            f"Take a network of theirs, or another {where}.layout: `seed layout list`.",
        )
