"""Clusters: asked for, shown and given back. The API's half; cluster_steps.py is the reconciler's.

A cluster is claims of one node each (ADR 0043). All of them are written in one transaction with the
cluster, or none.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

from pydantic import ValidationError
from sqlmodel import Session, col, func, select

from provisioning import (
    cluster_bundles,
    cluster_ranges,
    cluster_secrets,
    disks,
    drift,
    fabric_rules,
    holders,
    installers,
    keeping,
    kinds,
    overcloud_facts,
    plugins,
    seats,
)
from provisioning.bundle import Bundle
from provisioning.claim_changes import named
from provisioning.claims import Desk
from provisioning.cluster_rows import Cluster, Member
from provisioning.cluster_secrets import Given
from provisioning.cluster_spec import ClusterSpec, Spec, scaled_wrongly
from provisioning.errors import Conflict, Invalid, NoCapacity, NotFound, SeedError
from provisioning.installed import Installed
from provisioning.kinds import ClusterFacts, DataDisk, Fault, Kind, MemberFacts
from provisioning.layout_doc import layout_of, tagged, vlan_name
from provisioning.models import Address, Bmc, Claim, Hold
from provisioning.network_doc import WIRE, NetworkDoc
from provisioning.networks import networks
from provisioning.overcloud_spec import OvercloudSpec, spec_of
from provisioning.rack_plan import Place
from provisioning.states import AddressKind, MemberGoal, Noun
from provisioning.store import Store, record

NO_BUNDLE = "none"
RULES = {
    "vip": "api.vip", "api_port": "api.port", "pod_cidr": "pods", "service_cidr": "services",
    "networks": "api.network",
}  # fmt: skip
"""What a kind calls it -> what the spec does."""

VIRTUALIZATION = {"": None, "no": False, "vmx": True, "svm": True}
"""Inventory's word -> what a kind is told."""


@cache
def known() -> dict[str, Kind]:
    """Of clusters and overclouds, by name."""
    return plugins.load(kinds) | {
        name: Installed(installer) for name, installer in plugins.load(installers).items()
    }


@dataclass(frozen=True)
class Clusters:
    """Where clusters are asked for. desk: where their claims are. bundles: the folder of all."""

    store: Store
    desk: Desk
    bundles: Path | None = None
    noun: Noun = Noun.CLUSTER
    served: tuple[str, ...] = ()
    """What Seed's own wire has of addresses, "first-last": no overcloud serves DHCP there."""

    def create(
        self,
        spec: Spec,
        project: str,
        who: str,
        insider: bool = False,
        given: Given = cluster_secrets.NONE,
    ) -> tuple[Cluster, bool]:
        """Cluster, claims and holds in one transaction, or nothing; (cluster, was it new).

        given: secrets that the spec names.

        Raises Invalid for what its kind cannot do, naming the field; NotFound (image, network),
        Conflict (name, quota, VIP), NoCapacity. No server is touched by it.
        """
        given.check()
        with self.store.read() as session:
            there = living(session, project, spec.name)
        bundle = None if there else self._bundle(spec)
        with self.store.write() as session:
            same = living(session, project, spec.name)
            if same is not None:
                given.same(session, same)
                return _same_spec(same, spec), False
            cluster, _ = self._write(session, spec, project, who, insider, bundle, given)
            return cluster, True

    def plan(
        self,
        spec: Spec,
        project: str,
        who: str,
        insider: bool = False,
        given: Given = cluster_secrets.NONE,
    ) -> ClusterFacts:
        """What `create` would make of it now. Nothing is written; raises as `create` does."""
        given.check()
        bundle = self._bundle(spec)
        with self.store.write() as session:
            _, facts = self._write(session, spec, project, who, insider, bundle, given)
            session.rollback()
        return facts

    def _bundle(self, spec: Spec) -> Bundle | None:
        """Outside of any transaction: it may read gigabytes."""
        _kind(spec)
        cluster_bundles.check_options(spec)
        return cluster_bundles.choose(self.bundles, spec.bundle, spec.kind, spec.version)

    def _write(
        self, session: Session, spec: Spec, project: str, who: str, insider: bool,
        bundle: Bundle | None, given: Given = cluster_secrets.NONE,
    ) -> tuple[Cluster, ClusterFacts]:  # fmt: skip
        kind = _kind(spec)
        if isinstance(spec, ClusterSpec) and (why := scaled_wrongly(spec)):
            raise Invalid(why, "Change one of them.")
        cluster_bundles.check_there(self.bundles, spec, bundle)
        check_networks(session, spec)
        cluster = Cluster(
            noun=_noun(spec), name=spec.name, project=project, asked_by=who,
            spec=spec.model_dump(mode="json"),
            network=spec.api_network, vip="", bundle=cluster_bundles.kept(bundle, self.bundles),
        )  # fmt: skip
        cluster.vip = _vip(session, spec, cluster.id, who)
        session.add(cluster)
        session.flush()
        for role, (_field, group) in spec.groups.items():
            self.add_members(session, cluster, role, group.count, who, insider)
        if bundle:
            images = [self.desk.image(session, ref, insider) for ref in image_refs(spec)]
            cluster_bundles.check_architecture(bundle, images)
        given.keep(session, cluster)
        if isinstance(spec, ClusterSpec):
            cluster_ranges.reserve(session, cluster, spec, who)
        facts = facts_of(session, cluster)
        self.no_faults(kind, facts)
        record(
            session, "cluster.requested", cluster.id, f"{spec.name}: {spec.kind}, {sizes(spec)}",
            who=who, project=project,
        )  # fmt: skip
        return cluster, facts

    def no_faults(self, kind: Kind, facts: ClusterFacts) -> None:
        """Raises Invalid for what its kind cannot do with these facts."""
        if facts.overcloud:
            served = (*facts.overcloud.dhcp, *self.served)
            facts = replace(facts, overcloud=replace(facts.overcloud, dhcp=served))
        if faults := kind.faults(facts):
            refuse(faults)

    def add_members(
        self, session: Session, cluster: Cluster, role: str, count: int, who: str, insider: bool
    ) -> None:
        """In the caller's transaction: so many more, as its spec says, with claims and holds.

        Raises as `create` does. Their numbers were never used before.
        """
        if not count:
            return
        spec = spec_of(cluster)
        field, group = spec.groups[role]
        begin = next_number(session, cluster, role)
        names = [f"{spec.name}-{role}-{begin + n}" for n in range(count)]
        with _of(field, cluster.noun):
            asked = group.model_copy(update={"count": count})
            wish = asked.wish(spec.name, spec.image, spec.ssh_keys)
            claims = self.desk.request_each(session, wish, names, cluster.project, who, insider)
        for number, claim in enumerate(claims, begin):
            session.add(
                Member(
                    cluster_id=cluster.id, claim_id=claim.id, role=role, number=number,
                    name=claim.name, version=version_of(cluster),
                    revision=cluster.revision,
                )
            )  # fmt: skip
        session.flush()


def sizes(spec: Spec) -> str:
    """How many of each role: "3 + 5" of a cluster, "1 control, 2 compute" of an overcloud."""
    counts = {role: group.count for role, (_field, group) in spec.groups.items()}
    if isinstance(spec, OvercloudSpec):
        return ", ".join(f"{count} {role}" for role, count in counts.items() if count)
    return " + ".join(str(count) for count in counts.values())


def image_refs(spec: Spec) -> list[str]:
    """Those that its members are made of."""
    return sorted({g.image or spec.image for _field, g in spec.groups.values() if g.count})


# --- looks ----------------------------------------------------------------------------------------


def living(session: Session, project: str, name: str) -> Cluster | None:
    query = select(Cluster).where(Cluster.project == project, Cluster.name == name)
    return session.exec(query.where(col(Cluster.ended_at).is_(None))).first()


def find(
    session: Session, project: str | None, name: str, noun: Noun | None = Noun.CLUSTER
) -> Cluster:
    """By name (the living one first) or id. project None sees all. noun None: whichever it is."""
    found: Cluster = named(session, Cluster, noun or Noun.CLUSTER, project, name)
    if noun and found.noun != noun:
        raise NotFound(
            f"{name[:64]} is {_a(found.noun)}, no {noun}", f"seed {found.noun} show {found.name}"
        )
    return found


def _a(noun: Noun) -> str:
    return f"an {noun}" if noun is Noun.OVERCLOUD else f"a {noun}"


def members(session: Session, cluster: Cluster) -> list[Member]:
    """Those that live, control planes first."""
    query = select(Member).where(Member.cluster_id == cluster.id, col(Member.ended_at).is_(None))
    return sorted(session.exec(query).all(), key=lambda m: (m.role != "control", m.number))


def next_number(session: Session, cluster: Cluster, role: str) -> int:
    """Of those that are gone, too: a name is never another node's."""
    query = select(func.max(Member.number))
    last = session.exec(query.where(Member.cluster_id == cluster.id, Member.role == role)).one()
    return 0 if last is None else last + 1


def version_of(cluster: Cluster) -> str:
    """Of what its members are made, or are to be made; empty: what their image has."""
    return str(cluster.spec["version"] or cluster_bundles.version_of(cluster))


def facts_of(
    session: Session, cluster: Cluster, gateway_url: str = "", wire_url: str = "", role: str = ""
) -> ClusterFacts:
    """What its kind is told, as far as it is known: addresses are, from the moment of the hold.

    gateway_url, wire_url: https:// and http://ADDRESS of the provisioning wire. role: only members
    of it. Who waits for a node, because Ironic refused the one it had, is none yet.
    """
    spec = spec_of(cluster)
    net = networks(session)[spec.api_network]
    rows = members(session, cluster)
    leads = leader(cluster, rows)
    seats_of = seated(session, [row.claim_id for row in rows if role in ("", row.role)])
    places = seats.places(session, [seat.bmc for seat in seats_of.values()])
    found = addresses_in(session, seats_of, spec.api_network)
    there = [row for row in rows if row.claim_id in seats_of]
    told = tuple(
        replace(
            _facts(
                session, spec, row, row is rows[0], seats_of[row.claim_id], net,
                found.get(row.claim_id, ""), places.get(seats_of[row.claim_id].bmc.node),
            ),
            leads=row.id == leads,
        )
        for row in there
    )  # fmt: skip
    if isinstance(spec, OvercloudSpec):
        pairs = [
            overcloud_facts.Pair(row, seats_of[row.claim_id].claim, facts)
            for row, facts in zip(there, told, strict=True)
        ]
        own: dict[str, Any] = {
            "overcloud": overcloud_facts.of(session, cluster, spec, pairs),
            "pod_cidr": "", "service_cidr": "", "dns_domain": "",
        }  # fmt: skip
    else:
        own = _of_kubernetes(session, cluster, spec)
    return ClusterFacts(
        id=str(cluster.id), name=cluster.name,
        version=version_of(cluster),
        vip=cluster.vip, api_port=spec.port, gateway_url=gateway_url,
        bundle_url=cluster_bundles.url_of(cluster, wire_url),
        registry=cluster_bundles.registry_of(cluster, gateway_url),
        options=cluster_bundles.options_of(cluster, spec.options),
        members=told,
        given=cluster_secrets.names(session, cluster.id),
        **own,
    )  # fmt: skip


def _of_kubernetes(session: Session, cluster: Cluster, spec: Spec) -> dict[str, Any]:
    if not isinstance(spec, ClusterSpec):
        return {}
    return {
        "pod_cidr": spec.pods, "service_cidr": spec.services, "dns_domain": spec.dns_domain,
        "addons": spec.addons, "ranges": cluster_ranges.of(session, cluster),
        "pod_nodes": spec.workers.count or spec.control.count,
    }  # fmt: skip


def leader(cluster: Cluster, rows: list[Member]) -> UUID | None:
    """Who does what is for the whole cluster: the first of the control planes that are to join and
    were not told yet what they do, unless it was done with this bundle. Without a bundle it is done
    once: nobody puts manifests on a control plane that comes later."""
    if cluster.applied == made_of(cluster):
        return None
    coming = [
        m for m in rows
        if (m.role, m.goal, m.revision) == ("control", MemberGoal.JOINED, cluster.revision)
        and m.joined_at is None
    ]  # fmt: skip
    led = next((m.id for m in coming if m.leads), None)
    return led or next((m.id for m in coming if not m.token_hash), None)


def made_of(cluster: Cluster) -> str:
    """For Cluster.applied."""
    return str(cluster.bundle.get("digest", "")) or NO_BUNDLE


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a member's claim sits."""

    claim: Claim
    bmc: Bmc


def seated(session: Session, claims: Iterable[UUID]) -> dict[UUID, Seat]:
    """Of these claims of one node those that have it; one query, however many there are."""
    query = (
        select(Claim, Bmc)
        .join(Hold, col(Hold.claim_id) == col(Claim.id))
        .join(Bmc, col(Bmc.node_uuid) == col(Hold.node_uuid))
        .where(col(Claim.id).in_(list(claims)))
    )
    return {claim.id: Seat(claim, bmc) for claim, bmc in session.exec(query)}


def addresses_in(session: Session, claims: Iterable[UUID], network: str) -> dict[UUID, str]:
    """Bare; whose node has none there is left out."""
    query = select(Address.claim_id, Address.address).where(
        Address.network == network, Address.kind == AddressKind.NODE,
        col(Address.claim_id).in_(list(claims)),
    )  # fmt: skip
    return {claim: address for claim, address in session.exec(query) if claim}


def _facts(
    session: Session,
    spec: Spec,
    row: Member,
    first: bool,
    seat: Seat,
    net: NetworkDoc,
    address: str,
    place: Place | None,
) -> MemberFacts:
    claim, bmc = seat.claim, seat.bmc
    _field, group = spec.groups[row.role]
    labels = {"class": claim.resource_class} | dict(group.node_labels)
    if place:
        labels |= {"rack": place.rack.rack, "unit": str(place.unit)}
    return MemberFacts(
        name=row.name,
        role=row.role,
        first=first,
        node_uuid=str(bmc.node),
        address=_with_prefix(address, net),
        interface=_interface(claim, spec.api_network, net),
        labels=labels,
        taints=group.node_taints,
        disks=_data_disks(session, claim, bmc),
        virtualization=VIRTUALIZATION[drift.told(bmc.ramdisk).virtualization],
    )


def _data_disks(session: Session, claim: Claim, bmc: Bmc) -> tuple[DataDisk, ...]:
    """Those that its order names; empty, too, where the server is not as it was any more."""
    if not claim.disks:
        return ()
    try:
        found = disks.chosen(claim, keeping.seen_by(bmc), disks.kept_of(session, bmc.node))
    except Conflict:
        return ()
    return tuple(DataDisk(role, d.wwn, d.serial, d.size_bytes) for role, d in found["data"])


def _with_prefix(address: str, net: NetworkDoc) -> str:
    for subnet in net.subnets:
        if address and ip_address(address) in subnet.net:
            return f"{address}/{ip_network(subnet.cidr).prefixlen}"
    return address


def _interface(claim: Claim, network: str, net: NetworkDoc) -> str:
    layout = layout_of(claim.layout_document)
    one = next(a for a in layout.networks if a.network == network)
    if one.bridge:
        return one.bridge
    return vlan_name(layout, one, net) if tagged(one, net) else layout.links[one.link]


# --- refusals -------------------------------------------------------------------------------------


def _vip(session: Session, spec: Spec, identity: UUID, who: str) -> str:
    """The one that is named, if no other cluster has it; else a new one. It tells no stranger
    whose it is: claimers see the VIPs of a network."""
    network, (field, name) = spec.api_network, spec.vip
    if not name:
        return holders.vip(session, network, f"cluster-{identity.hex[:12]}", "", who).address
    query = select(Address).where(Address.network == network, Address.kind == AddressKind.VIP)
    row = session.exec(query.where(Address.label == name)).first()
    if row is None:
        raise NotFound(
            f"{field}: {network} has no VIP {name!r}",
            f"Leave it out, and one is taken; else see them: `seed network show {network}`.",
        )
    query_other = select(Cluster).where(Cluster.vip == row.address, Cluster.network == network)
    if session.exec(query_other.where(col(Cluster.ended_at).is_(None))).first():
        raise Conflict(
            f"{field}: another cluster has {name}", "Leave it out, and a new one is taken."
        )
    return row.address


@contextmanager
def _of(group: str, noun: str) -> Iterator[None]:
    """What is refused within is of this group of the spec."""
    try:
        yield
    except ValidationError as problem:
        error = problem.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(word) for word in (group, *error["loc"]))
        raise Invalid(f"{field}: {error['msg']}", f"See `seed {noun} create --help`.") from problem
    except SeedError as problem:
        problem.args = (f"{group}: {problem}",)
        if isinstance(problem, NoCapacity):  # a cluster does not wait in the queue
            problem.remedy = f"Ask for fewer, or see the rules: `seed {noun} plan`."
        raise


def _noun(spec: Spec) -> Noun:
    return Noun.OVERCLOUD if isinstance(spec, OvercloudSpec) else Noun.CLUSTER


def _kind(spec: Spec) -> Kind:
    """Clusters have kinds, overclouds installers."""
    wanted = isinstance(spec, OvercloudSpec)
    word = "installer" if wanted else "kind"
    there = {name: k for name, k in known().items() if isinstance(k, Installed) is wanted}
    if spec.kind not in there:
        names = ", ".join(sorted(there))
        raise Invalid(f"{word}: there is no {word} {spec.kind}", f"Take one of these: {names}.")
    kind = there[spec.kind]
    if spec.addons and not getattr(kind, "takes_addons", False):
        raise Invalid(
            f"addons: the kind {spec.kind} has no add-ons",
            "Leave addons out, or take a kind that has: kubeadm.",
        )
    return kind


def check_networks(session: Session, spec: Spec) -> None:
    """Each member is in the networks that its role wants, with an address of Seed's."""
    nets = networks(session)
    for role, (group_field, group) in spec.groups.items():
        if not group.count:
            continue
        addressed = spec.wants(role)
        for field, name in spec.must_have(role):
            _check_network(nets, field, name, (field, name) in addressed)
            if not _is_on(session, group.layout, name):
                layout = group.layout or "(none)"
                raise Invalid(
                    f"{group_field}.layout: nodes with layout {layout} are not in {name}",
                    "Take a layout that has this network: `seed layout list`.",
                )


def _check_network(nets: Mapping[str, NetworkDoc], field: str, name: str, addressed: bool) -> None:
    """addressed: Seed gives nodes an address there."""
    if name == WIRE:
        raise Invalid(
            f"{field}: servers boot from this wire, and no address of it moves between nodes",
            "Take a network that you put: `seed network list`.",
        )
    net = nets.get(name)
    if net is None:
        raise NotFound(f"{field}: there is no network {name!r}", "`seed network list`")
    if addressed and not any(subnet.addresses == "static" for subnet in net.subnets):
        raise Invalid(
            f"{field}: Seed gives no addresses in {name}",
            f"Take one with pools: `seed network show {name}`.",
        )


def _is_on(session: Session, layout: str, network: str) -> bool:
    if not layout:
        return False
    found = layout_of(fabric_rules.find_layout(session, layout).document)
    return any(one.network == network for one in found.networks)


def refuse(faults: list[Fault]) -> NoReturn:
    told = [f"{RULES.get(f.field, f.field)}: {f.sentence}" for f in faults]
    raise Invalid("; ".join(told), faults[0].remedy)


def _same_spec(cluster: Cluster, spec: Spec) -> Cluster:
    if cluster.noun != _noun(spec):
        raise Conflict(
            f"there is {_a(cluster.noun)} named {cluster.name} already",
            f"Choose another name, or see that one: `seed {cluster.noun} show {cluster.name}`.",
        )
    asked: dict[str, Any] = spec.model_dump(mode="json")
    has: dict[str, Any] = spec_of(cluster).model_dump(mode="json")
    differs = [field for field, value in asked.items() if has[field] != value]
    if differs:
        raise Conflict(
            f"{_a(cluster.noun)} named {cluster.name} lives already and differs in "
            f"{', '.join(differs)}",
            f"Choose another name, or change that one: `seed {cluster.noun} show {cluster.name}`.",
        )
    return cluster
