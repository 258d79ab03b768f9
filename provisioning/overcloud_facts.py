"""What an overcloud's installer is told, of the rows that are there (provisioning/installers)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlmodel import Session, col, select

from provisioning import handout, lent_ironic, orders
from provisioning.cluster_rows import Cluster, Member
from provisioning.handout import HandOutNode
from provisioning.installers import USES, NetFacts, NodeFacts, OvercloudFacts, Use, Wire
from provisioning.ip_text import an_ip
from provisioning.kinds import MemberFacts
from provisioning.layout_doc import LayoutDoc, layout_of, tagged, vlan_name
from provisioning.lent import Lending
from provisioning.models import Address, Claim, Hold
from provisioning.network_doc import NetworkDoc
from provisioning.networks import networks
from provisioning.overcloud_spec import OvercloudSpec
from provisioning.states import AddressKind, Borrower, LendingStep, MemberGoal

ROOT = "root"
"""Ansible's login: the image has it for that overcloud's own key alone."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A member that stays, with its claim and what a cluster's kinds are told of it."""

    member: Member
    claim: Claim
    facts: MemberFacts


def of(
    session: Session, cluster: Cluster, spec: OvercloudSpec, pairs: Sequence[Pair]
) -> OvercloudFacts:
    """Those that leave are none of its nodes any more."""
    nets = networks(session)
    used = {use: nets[name] for use in USES if (name := spec.of_use(use)) in nets}
    handed = _handed(session, [pair.claim for pair in pairs])
    rows = _addresses(session, [pair.claim.id for pair in pairs])
    nodes: dict[MemberGoal, list[NodeFacts]] = {goal: [] for goal in MemberGoal}
    for pair in sorted(pairs, key=_order):
        found = handed.get(pair.claim.id)
        node = _node(session, spec, used, pair, found, rows.get(pair.claim.id, {}))
        nodes[pair.member.goal].append(node)
    vips = _vips(session, cluster, spec)
    return OvercloudFacts(
        id=str(cluster.id), name=cluster.name, release=spec.version, vips=vips,
        networks={use: _network(session, doc) for use, doc in used.items()},
        nodes=tuple(nodes[MemberGoal.JOINED]), leaving=tuple(nodes[MemberGoal.LEAVING]),
        services=spec.services, options=dict(spec.options), registry=spec.registry,
        dhcp=_served(session), lent=_lent(session, cluster),
    )  # fmt: skip


def _order(pair: Pair) -> tuple[int, int]:
    return list(OvercloudSpec.model_fields).index(pair.member.role), pair.member.number


def _handed(session: Session, claims: Iterable[Claim]) -> dict[UUID, HandOutNode]:
    claims = list(claims)
    found = handout.of_claims(session, claims, lambda _ref: ROOT)
    return {
        claim.id: one.nodes[0] for claim, one in zip(claims, found, strict=True) if one.nodes
    }  # fmt: skip


def _addresses(session: Session, claims: list[UUID]) -> dict[UUID, dict[str, str]]:
    """Claim -> network -> bare address of its node."""
    found: dict[UUID, dict[str, str]] = {}
    query = select(Address).where(
        col(Address.claim_id).in_(claims), Address.kind == AddressKind.NODE
    )  # fmt: skip
    for row in session.exec(query).all():
        if row.claim_id:
            found.setdefault(row.claim_id, {}).setdefault(row.network, row.address)
    return found


def _vips(session: Session, cluster: Cluster, spec: OvercloudSpec) -> dict[str, str]:
    told = {"internal": cluster.vip, "external": cluster.vip}
    if spec.vips.external:
        query = select(Address.address).where(
            Address.network == spec.networks.api, Address.kind == AddressKind.VIP,
            Address.label == spec.vips.external,
        )  # fmt: skip
        told["external"] = session.exec(query).first() or ""
    return told


def _network(session: Session, doc: NetworkDoc) -> NetFacts:
    subnet = next((s for s in sorted(doc.subnets, key=lambda s: s.net.version)), None)
    query = select(Address).where(Address.network == doc.name, Address.kind == AddressKind.VIP)
    return NetFacts(
        name=doc.name, vlan=doc.vlan or 0, mtu=doc.mtu,
        cidr=subnet.cidr if subnet else "", gateway=subnet.gateway if subnet else "",
        pools=subnet.pools if subnet else (),
        vips={row.label: row.address for row in session.exec(query).all()},
        dns=doc.dns, ntp=doc.ntp, domain=doc.domain,
    )  # fmt: skip


def _served(session: Session) -> tuple[str, ...]:
    """What Seed's own DHCP leases behind relays; the first wire's is added by who knows it."""
    return tuple(
        text
        for doc in networks(session).values()
        for one in doc.relayed
        for text in (one.pool, one.unknown)
    )


def _lent(session: Session, cluster: Cluster) -> tuple[NodeFacts, ...]:
    """What this project lent to an Ironic of its own: this overcloud's, as far as Seed knows."""
    query = select(Claim).join(Lending, col(Lending.claim_id) == col(Claim.id))
    query = query.where(
        Claim.project == cluster.project, Lending.borrower == Borrower.IRONIC,
        Lending.step == LendingStep.LENT,  # one on its way there or back is nobody's
    )  # fmt: skip
    claims = session.exec(query.order_by(col(Claim.name))).all()
    return tuple(node for claim in claims for node in lent_ironic.graduates(session, claim))


def _node(
    session: Session,
    spec: OvercloudSpec,
    used: Mapping[Use, NetworkDoc],
    pair: Pair,
    handed: HandOutNode | None,
    addresses: Mapping[str, str],
) -> NodeFacts:
    member, claim = pair.member, pair.claim
    layout = layout_of(claim.layout_document)
    wires = {
        use: wire
        for use, doc in used.items()
        if (wire := _wire(layout, doc, addresses.get(doc.name, ""))) is not None
    }
    reached, host_keys = _reach(session, claim)
    return NodeFacts(
        name=member.name, roles=spec.roles_of(member.role), node_uuid=pair.facts.node_uuid,
        node_name=handed.node_name if handed else "", reached=reached, host_keys=host_keys,
        wires=wires, nics=tuple(handed.nics) if handed else (), disks=pair.facts.disks,
        virtualization=pair.facts.virtualization, kernel_args=tuple(claim.kernel_args),
        **(_of_hand_out(handed) if handed else {}),
    )  # fmt: skip


def _of_hand_out(handed: HandOutNode) -> dict[str, Any]:
    names = (
        "cpus", "memory_mib", "cpu_arch", "site", "row", "rack", "unit", "feed", "resource_class",
    )  # fmt: skip
    told = {name: getattr(handed, name) for name in names}
    return told | {"labels": dict(handed.labels), "traits": tuple(handed.traits)}


def _wire(layout: LayoutDoc, doc: NetworkDoc, address: str) -> Wire | None:
    one = next((a for a in layout.networks if a.network == doc.name), None)
    if one is None:
        return None
    over, link = tagged(one, doc), layout.links[one.link]
    bond = next((bond for bond in layout.bonds if bond.name == link), None)
    names = [name for role in bond.nics for name in layout.names_of(role)] if bond else [link]
    return Wire(
        interface=one.bridge or (vlan_name(layout, one, doc) if over else link),
        address=_with_prefix(doc, address), link=link, bridge=one.bridge, tagged=over,
        nics=tuple(names), bond_mode=bond.mode if bond else "",
    )  # fmt: skip


def _with_prefix(doc: NetworkDoc, address: str) -> str:
    subnet = doc.subnet_of(an_ip(address)) if address else None
    return f"{address}/{subnet.net.prefixlen}" if subnet else address


def _reach(session: Session, claim: Claim) -> tuple[str, tuple[str, ...]]:
    """By what its node boots with, and the host keys of its proof."""
    hold = session.exec(select(Hold).where(Hold.claim_id == claim.id)).first()
    if hold is None:
        return "", ()
    order, boot = orders.of_deploy(session, hold), handout.boot_address(session, hold.node_uuid)
    proof = (order.proof if order else None) or {}
    return boot.address if boot else "", tuple(proof.get("host_keys", []))
