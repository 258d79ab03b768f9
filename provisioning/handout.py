"""HandOut: the one model of what is handed over. Inventories, ssh config, targets render from it.

It is read from our own rows: nothing here asks Ironic. Never in it: a BMC's address, MAC or login.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from ipaddress import IPv4Interface, ip_address
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel
from sqlmodel import Session, col, select

from provisioning import racks, seats
from provisioning.disks import roles
from provisioning.models import Address, Bmc, Claim, Hold, Order
from provisioning.network_doc import WIRE
from provisioning.networks import networks as fabric_nets
from provisioning.rack_plan import Place
from provisioning.seats import HandOutDisk, HandOutNic
from provisioning.sight import Sight
from provisioning.states import AddressKind, ClaimState, OrderKind

Networks = Mapping[str, IPv4Interface]
"""Network -> Seed's own interface there: its prefix."""


class Phase(BaseModel):
    """One step of a node's way, and how long it took."""

    name: str
    seconds: float


class HandOutAddress(BaseModel):
    """prefix: the network's, in bits; None where it is not known. mac: of the NIC that has it."""

    network: str
    address: str
    prefix: int | None = None
    mac: str = ""


class HandOutNode(BaseModel):
    """One node as its holder gets it. Empty or 0: nobody told.

    name:       its host name. node_name: what Ironic and the rack call it.
    address:    the first of `addresses`: where it is reached.
    host_keys:  OpenSSH public host keys, as the node itself reported them.
    memory_mib: MiB. cpus: hardware threads of all sockets.
    unit:       the lowest rack unit it fills, 0 if it is in no plan.
    lease_end:  when it is taken back by itself; None: open.
    proved_at:  when the node told that it runs what was asked for.
    """

    name: str
    claim: str
    project: str
    node_uuid: UUID
    node_name: str
    address: str
    addresses: list[HandOutAddress]
    ssh_user: str
    host_keys: list[str]
    nics: list[HandOutNic]
    disks: list[HandOutDisk]
    cpus: int
    memory_mib: int
    cpu_arch: str
    site: str
    row: str
    rack: str
    unit: int
    feed: str
    resource_class: str
    labels: dict[str, str]
    traits: list[str]
    lease_end: datetime | None
    proved_at: datetime | None
    cloud_init: str = ""


class HandOut(BaseModel):
    """What a claim got. nodes: in the order of their host names' numbers."""

    claim: str
    project: str
    nodes: list[HandOutNode]


def of_claim(
    session: Session, claim: Claim, ssh_user: str, networks: Networks | None = None
) -> HandOut:
    """What this claim holds, however far it is."""
    return of_claims(session, [claim], lambda _: ssh_user, networks)[0]


def active(
    session: Session, project: str | None, ssh_user: Callable[[str], str], networks: Networks
) -> list[HandOut]:
    """All that is handed out at this moment, by project and claim; project None: everybody's."""
    query = select(Claim).where(Claim.state == ClaimState.ACTIVE)
    if project is not None:
        query = query.where(Claim.project == project)
    claims = session.exec(query.order_by(col(Claim.project), col(Claim.name))).all()
    return of_claims(session, claims, ssh_user, networks)


def of_claims(
    session: Session,
    claims: Sequence[Claim],
    ssh_user: Callable[[str], str],
    networks: Networks | None = None,
) -> list[HandOut]:
    """One per claim, with a handful of queries for all of them.

    ssh_user: an image's NAME:VERSION -> its login.
    """
    wanted = select(Hold).where(col(Hold.claim_id).in_([c.id for c in claims]))
    holds = session.exec(wanted.order_by(col(Hold.position))).all()
    known = _Known(session, [hold.node_uuid for hold in holds], networks or {})
    users = {ref: ssh_user(ref) for ref in {claim.image_ref for claim in claims}}
    of: dict[UUID, list[Hold]] = {claim.id: [] for claim in claims}
    for hold in holds:
        if hold.claim_id in of and hold.node_uuid in known.bmcs:
            of[hold.claim_id].append(hold)
    return [
        HandOut(
            claim=claim.name,
            project=claim.project,
            nodes=[known.node(claim, hold, users[claim.image_ref]) for hold in of[claim.id]],
        )
        for claim in claims
    ]


class _Known:
    """What our rows know of these nodes."""

    def __init__(self, session: Session, nodes: Sequence[UUID], networks: Networks) -> None:
        bmcs = session.exec(select(Bmc).where(col(Bmc.node_uuid).in_(nodes))).all()
        self.bmcs = {bmc.node: bmc for bmc in bmcs}
        self._networks = networks
        self._places = seats.places(session, bmcs)
        rows = session.exec(select(Address).where(col(Address.node_uuid).in_(nodes))).all()
        self._addresses: dict[UUID, Address] = {}
        self._others: dict[UUID, list[Address]] = {}
        for row in sorted(rows, key=lambda r: (r.mac or "", r.network, r.address)):
            if row.node_uuid and row.kind is AddressKind.BOOT:
                self._addresses.setdefault(row.node_uuid, row)  # as boot_address
            elif row.node_uuid:
                self._others.setdefault(row.node_uuid, []).append(row)
        self._nets = fabric_nets(session) if any(map(_of_a_document, rows)) else {}
        deploys = select(Order).where(
            col(Order.node_uuid).in_(nodes), Order.kind == OrderKind.DEPLOY
        )
        self._deploys = {(o.node_uuid, o.generation): o for o in session.exec(deploys)}
        seen = session.exec(select(Sight).where(col(Sight.node_uuid).in_(nodes)))
        self._traits = {row.node_uuid: row.facts.get("traits") for row in seen}

    def node(self, claim: Claim, hold: Hold, ssh_user: str) -> HandOutNode:
        bmc = self.bmcs[hold.node_uuid]
        order = self._deploys.get((hold.node_uuid, hold.generation))
        proof: dict[str, Any] = (order.proof if order else None) or {}
        place = self._places.get(hold.node_uuid)
        told = racks.told_of(bmc)
        addresses = self._handed(claim, hold.node_uuid, order)
        return HandOutNode(
            name=claim.hostname(hold.position),
            claim=claim.name,
            project=claim.project,
            node_uuid=hold.node_uuid,
            node_name=bmc.node_name or "",
            address=addresses[0].address if addresses else "",
            addresses=addresses,
            ssh_user=ssh_user,
            host_keys=list(proof.get("host_keys", [])),
            nics=seats.nics(bmc, told, place, proof, _networks_of(addresses)),
            disks=seats.disks(told, proof, roles(order.wanted if order else {})),
            **seats.sizes(told),
            **_where(place),
            resource_class=bmc.resource_class,
            labels=dict(bmc.labels),
            traits=self._traits_of(bmc),
            lease_end=claim.lease_end,
            proved_at=order.proof_at if order else None,
            cloud_init=str((proof.get("cloud_init") or {}).get("status", "")),
        )

    def _handed(self, claim: Claim, node_uuid: UUID, order: Order | None) -> list[HandOutAddress]:
        """What it boots with, where it is reached; then what it was given of other networks."""
        boot = self._addresses.get(node_uuid)
        given = [row for row in self._others.get(node_uuid, ()) if row.claim_id == claim.id]
        macs = _macs_of((order.wanted if order else None) or {})
        return [
            HandOutAddress(
                network=row.network,
                address=row.address,
                prefix=self._prefix(row),
                mac=row.mac or macs.get(row.address, ""),
            )
            for row in ([boot] if boot else []) + given
        ]

    def _prefix(self, row: Address) -> int | None:
        address, doc = ip_address(row.address), self._nets.get(row.network)
        own = [net.prefixlen for net in (doc.nets if doc else ()) if address in net]
        wire = self._networks.get(row.network)
        return own[0] if own else wire.network.prefixlen if wire else None

    def _traits_of(self, bmc: Bmc) -> list[str]:
        """As Ironic was seen to have them, else as its class gives them."""
        seen = self._traits.get(bmc.node)
        return sorted(str(t) for t in (bmc.classed.get("traits", []) if seen is None else seen))


def _of_a_document(row: Address) -> bool:
    return row.kind is not AddressKind.BOOT or row.network != WIRE


def _macs_of(wanted: Mapping[str, Any]) -> dict[str, str]:
    """Address -> MAC of the link that its order put it on."""
    links = wanted.get("links", [])
    return {a.partition("/")[0]: link["mac"] for link in links for a in link.get("addresses", [])}


def _networks_of(addresses: Sequence[HandOutAddress]) -> dict[str, str]:
    """MAC -> the first network that it has an address of."""
    return {a.mac: a.network for a in reversed(addresses) if a.mac}


Whereabouts = dict[Literal["site", "row", "rack", "feed", "unit"], Any]


def _where(place: Place | None) -> Whereabouts:
    if place is None:
        return {"site": "", "row": "", "rack": "", "unit": 0, "feed": ""}
    site, row, rack = place.rack
    return {"site": site, "row": row, "rack": rack, "unit": place.unit, "feed": place.feed}


def boot_address(session: Session, node_uuid: UUID) -> Address | None:
    """The address of the NIC a node boots from: the first reserved one, by MAC."""
    return session.exec(
        select(Address)
        .where(Address.node_uuid == node_uuid, Address.kind == AddressKind.BOOT)
        .order_by(col(Address.mac))
    ).first()


def boot_addresses(session: Session) -> dict[UUID, str]:
    """Node -> the MAC of the NIC it boots from: the first that has an address, by MAC."""
    rows = session.exec(
        select(Address.node_uuid, Address.mac)
        .where(Address.kind == AddressKind.BOOT)
        .order_by(col(Address.mac).desc())
    )
    return {uuid: mac for uuid, mac in rows if uuid and mac}


def phases(session: Session, node_uuid: UUID) -> list[Phase]:
    """How long each order of this node took, oldest first."""
    rows = session.exec(
        select(Order).where(Order.node_uuid == node_uuid).order_by(col(Order.opened_at))
    ).all()
    found: list[Phase] = []
    for order in rows:
        if order.ironic_done_at:
            took = (order.ironic_done_at - order.opened_at).total_seconds()
            found.append(Phase(name=order.kind.value, seconds=took))
            if order.proof_at:
                boot = (order.proof_at - order.ironic_done_at).total_seconds()
                found.append(Phase(name="first boot", seconds=boot))
    return found
