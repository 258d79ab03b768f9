"""Addresses of a claim's nodes on the networks of its layout: given, looked up, given back."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from uuid import UUID

from sqlmodel import Session, col, delete, select

from provisioning.errors import Conflict
from provisioning.ip_text import an_ip
from provisioning.layout_doc import LayoutDoc
from provisioning.models import Address, Bmc
from provisioning.network_doc import NetworkDoc, Subnet
from provisioning.states import AddressKind


def assign(
    session: Session,
    claim_id: UUID,
    layout: LayoutDoc,
    nets: Mapping[str, NetworkDoc],
    nodes: Sequence[tuple[UUID, int]],
) -> None:
    """One address of each static subnet for each node, the same ones when it is repeated.

    nodes: (node, its position in the claim). Raises Conflict when a pool has too few: then no row
    was written. The session must be a writing one: who reads first could give one address twice.
    """
    session.add_all(proposed(session, claim_id, layout, nets, nodes))
    session.flush()


def proposed(
    session: Session,
    claim_id: UUID,
    layout: LayoutDoc,
    nets: Mapping[str, NetworkDoc],
    nodes: Sequence[tuple[UUID, int]],
) -> list[Address]:
    """What these nodes would be given beside what they have; nothing is written."""
    places = list(_places(layout, nets))
    wanted = [node for node, _ in sorted(nodes, key=lambda one: one[1])]
    session.flush()
    names = {network for network, _ in places}
    rows = session.exec(select(Address).where(col(Address.network).in_(names))).all()
    taken = {row.address for row in rows} | bmcs(session)
    own = [
        (row.node_uuid, row.network, an_ip(row.address))
        for row in rows
        if row.kind is AddressKind.NODE and row.claim_id == claim_id
    ]
    made: list[Address] = []
    for network, subnet in places:
        having = {node for node, name, address in own if name == network and address in subnet.net}
        lacking = [node for node in wanted if node not in having]
        free = (text for text in map(str, subnet.free()) if text not in taken)
        for node in lacking:
            text = next(free, None)
            if text is None:
                raise _empty(network, subnet, len(lacking))
            made.append(
                Address(
                    address=text, network=network, kind=AddressKind.NODE, node_uuid=node,
                    claim_id=claim_id,
                )
            )  # fmt: skip
    return made


def _places(layout: LayoutDoc, nets: Mapping[str, NetworkDoc]) -> Iterator[tuple[str, Subnet]]:
    for one in layout.networks:
        net = nets.get(one.network)
        for subnet in net.subnets if net else ():
            if subnet.addresses == "static":
                yield one.network, subnet


def _empty(network: str, subnet: Subnet, count: int) -> Conflict:
    return Conflict(
        f"network {network} has too few free addresses in {subnet.cidr} for {count} nodes",
        f"See who has them: `seed network show {network}`; then put it again with a wider pool.",
    )


def lacks(session: Session, layout: LayoutDoc, nets: Mapping[str, NetworkDoc], count: int) -> str:
    """Why so many more nodes cannot have their addresses; empty: they can."""
    for network, subnet in _places(layout, nets):
        query = select(Address.address).where(Address.network == network)
        taken = set(session.exec(query).all()) | bmcs(session)
        left = islice((a for a in map(str, subnet.free()) if a not in taken), count)
        if len(list(left)) < count:
            return f"network {network} has too few free addresses in {subnet.cidr}"
    return ""


def bmcs(session: Session) -> set[str]:
    """Addresses of BMCs that were found: one may be inside a pool since the network was put."""
    return set(session.exec(select(Bmc.address)).all())


def never(layout: LayoutDoc, nets: Mapping[str, NetworkDoc], count: int) -> str:
    """Why so many nodes could not have their addresses though all were free; empty: they could."""
    for network, subnet in _places(layout, nets):
        if len(list(islice(subnet.free(), count))) < count:
            return f"network {network} has not {count} addresses in {subnet.cidr}"
    return ""


def free(session: Session, *, claim_id: UUID | None = None, node_uuid: UUID | None = None) -> None:
    """Give back what a claim, or a node, or this node of this claim, was given by `assign`."""
    if claim_id is None and node_uuid is None:
        raise ValueError("of whom?")
    rows = delete(Address).where(col(Address.kind) == AddressKind.NODE)
    if claim_id is not None:
        rows = rows.where(col(Address.claim_id) == claim_id)
    if node_uuid is not None:
        rows = rows.where(col(Address.node_uuid) == node_uuid)
    session.exec(rows)


def of_node(session: Session, node_uuid: UUID) -> list[Address]:
    """All that a node has: those that it boots with, by MAC, then the others by network."""
    rows = session.exec(select(Address).where(Address.node_uuid == node_uuid)).all()
    return sorted(
        rows, key=lambda r: (r.kind is not AddressKind.BOOT, r.mac or "", r.network, r.address)
    )
