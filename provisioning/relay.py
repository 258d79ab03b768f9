"""Provisioning ranges behind routers that relay DHCP: which there are, and whose racks."""

from collections.abc import Iterable, Iterator, Mapping
from uuid import UUID

from sqlmodel import Session, select

from provisioning import seats
from provisioning.models import Bmc
from provisioning.network_doc import NetworkDoc
from provisioning.networks import Behind, networks
from provisioning.rack_plan import Rack


def ranges(nets: Mapping[str, NetworkDoc]) -> Iterator[Behind]:
    for net in nets.values():
        yield from (Behind(net.name, one) for one in net.relayed)


def of_rack(found: Iterable[Behind], rack: Rack) -> Behind | None:
    """Racks are named as people do: "r3", "b/r3" or "ams/b/r3"."""
    whole = str(rack).lower().split("/")
    for behind in found:
        for name in behind.range.racks:
            words = name.lower().split("/")
            if whole[-len(words) :] == words:
                return behind
    return None


def of_node(session: Session, node_uuid: UUID) -> Behind | None:
    """The range of this node's rack; None: it is on Seed's own wire, as far as anybody knows."""
    found = list(ranges(networks(session)))
    if not found:
        return None
    bmc = session.exec(select(Bmc).where(Bmc.node_uuid == node_uuid)).first()
    place = seats.places(session, [bmc]).get(node_uuid) if bmc else None
    return of_rack(found, place.rack) if place else None
