"""What a claim's nodes would be told, before any of them is: drives without their secrets."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Interface
from typing import Any, Final
from uuid import UUID

from sqlmodel import Session, col, select

from provisioning import addressing, drive, handout, layouts, wires
from provisioning.errors import Conflict
from provisioning.layout_doc import of_claim
from provisioning.models import Address, Bmc, Booking, Claim, Hold
from provisioning.networks import Pool, networks
from provisioning.targets import NodeFile, PartUrl
from provisioning.targets.plain import PLUGIN as PLAIN

SHOWN: Final = 50
"""Nodes. What is wrong with a claim is mostly wrong with all of them."""
ONE_TIME: Final = "<one-time>"
_TOKEN: Final = sha256(b"no token, only as long as one").hexdigest()
_PART: Final = _TOKEN[:43]


@dataclass(frozen=True)
class Site:
    """What drives say of Seed itself. wire: its interface on the provisioning network."""

    ca_pem: str
    wire: IPv4Interface | None


@dataclass(frozen=True)
class Place:
    """A node that has or would get this place of the claim."""

    position: int
    bmc: Bmc


@dataclass(frozen=True)
class Wired:
    """How a node comes up on its wires, and what its proof must show of it."""

    network_data: dict[str, Any] = field(default_factory=dict)
    files: tuple[NodeFile, ...] = ()
    wanted: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preview:
    """One node's drive. faults: why it would be refused. warnings: what is worth a look."""

    hostname: str
    node: str
    node_uuid: UUID
    drive: dict[str, Any]
    files: tuple[NodeFile, ...]
    parts: tuple[PartUrl, ...]
    wanted: dict[str, Any]
    stored_bytes: int
    packed_bytes: int
    faults: list[str]
    warnings: list[str]


def places_of(session: Session, claim: Claim) -> list[Place]:
    """The nodes that it holds, or is booked for."""
    return _places(session, claim, Hold) or _places(session, claim, Booking)


def _places(session: Session, claim: Claim, kind: type[Hold] | type[Booking]) -> list[Place]:
    rows = session.exec(
        select(kind.position, Bmc)
        .where(kind.claim_id == claim.id, col(Bmc.node_uuid) == col(kind.node_uuid))
        .order_by(col(kind.position))
    ).all()
    return [Place(position, bmc) for position, bmc in rows]


def places_named(session: Session, names: Sequence[str]) -> list[Place]:
    """The nodes of these names, in this order."""
    rows = session.exec(select(Bmc).where(col(Bmc.node_name).in_(names))).all()
    of = {bmc.node_name: bmc for bmc in rows}
    return [Place(n, of[name]) for n, name in enumerate(names) if name in of]


def of_places(
    session: Session,
    claim: Claim,
    places: Iterable[Place],
    site: Site,
    files: Sequence[Mapping[str, str]],
) -> list[Preview]:
    """One per place. files: secret_files.listing of the claim's."""
    rows = list(places)
    more = _proposed(session, claim, rows)
    return [_of_place(session, claim, p, site, files, more.get(p.bmc.node, [])) for p in rows]


def wired(session: Session, claim: Claim, place: Place, site: Site, more: list[Address]) -> Wired:
    """As it will be rendered when it is deployed. more: addresses it would be given."""
    bmc = place.bmc
    boot = handout.boot_address(session, bmc.node)
    if boot is None or site.wire is None:
        return Wired(problems=("it has no address on the provisioning network",))
    nets, pool = networks(session), Pool(site.wire, site.wire.ip, site.wire.ip)
    given = [*addressing.of_node(session, bmc.node), *more]
    try:
        found = wires.render(
            of_claim(claim), nets, layouts.nics_of(session, bmc), boot, pool.boot_net(nets, boot),
            given,
        )  # fmt: skip
    except Conflict as err:
        return Wired(problems=(str(err),))
    wanted = {
        "links": found.links, "routes": found.routes, "dns": found.dns, "ntp": found.ntp,
    }  # fmt: skip
    return Wired(found.network_data, found.files, wanted)


def _proposed(session: Session, claim: Claim, places: Sequence[Place]) -> dict[UUID, list[Address]]:
    plan = of_claim(claim)
    found: dict[UUID, list[Address]] = {}
    if plan is not None:
        nodes = [(place.bmc.node, place.position) for place in places]
        try:
            rows = addressing.proposed(session, claim.id, plan, networks(session), nodes)
        except Conflict:
            rows = []  # each node says what it was not given
        for row in rows:
            if row.node_uuid:
                found.setdefault(row.node_uuid, []).append(row)
    return found


def _of_place(
    session: Session,
    claim: Claim,
    place: Place,
    site: Site,
    files: Sequence[Mapping[str, str]],
    more: list[Address],
) -> Preview:
    bmc, found = place.bmc, wired(session, claim, place, site, more)
    gateway = f"https://{site.wire.ip}" if site.wire else "https://gateway"
    parts = tuple(_part(file, gateway) for file in files)
    seat = drive.seat(
        node_uuid=str(bmc.node),
        hostname=claim.hostname(place.position),
        network_data=found.network_data,
        gateway_url=gateway,
        token=_TOKEN,
        ca_pem=site.ca_pem,
        files=found.files,
        parts=parts,
        kernel_args=claim.kernel_args,
    )
    made = PLAIN.config_drive(claim, seat)
    known = {*bmc.macs, *_boot_macs(session, bmc), *layouts.nics_of(session, bmc).macs}
    macs = _Macs({mac.lower() for mac in known})
    return Preview(
        hostname=seat.hostname,
        node=bmc.node_name or "",
        node_uuid=bmc.node,
        drive=_without_tokens(made),
        files=seat.files,
        parts=parts,
        wanted={"hostname": seat.hostname, "kernel_args": claim.kernel_args, **found.wanted},
        stored_bytes=drive.stored_bytes(made),
        packed_bytes=drive.packed_bytes(made),
        faults=[*found.problems, *drive.lint(made, macs)],
        warnings=drive.warnings(made),
    )


@dataclass(frozen=True)
class _Macs:
    macs: set[str]


def _boot_macs(session: Session, bmc: Bmc) -> list[str]:
    boot = handout.boot_address(session, bmc.node)
    return [boot.mac] if boot and boot.mac else []


def _part(file: Mapping[str, str], gateway: str) -> PartUrl:
    path = file["path"]
    return PartUrl(path, path, int(file["mode"], 8), f"{gateway}/v1/parts/{_PART}", file["owner"])


def _without_tokens(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        return value.replace(_TOKEN, ONE_TIME).replace(_PART, ONE_TIME)
    if isinstance(value, dict):
        return {key: _without_tokens(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_tokens(item) for item in value]
    return value
