"""A cluster is asked for: all of its claims are there, or nothing is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from provisioning import holders
from provisioning.cluster_release import Giving
from provisioning.cluster_rows import Cluster, Member
from provisioning.cluster_spec import ClusterSpec
from provisioning.clusters import Clusters, facts_of, find
from provisioning.errors import Conflict, Invalid, NoCapacity, NotFound
from provisioning.fabric import Layout, Network
from provisioning.hardware import Inventory, Nic
from provisioning.models import Address, Bmc, Claim, Hold
from provisioning.states import AddressKind, Wanted
from provisioning.tenants import Project
from tests.fakes.crashing import identity_of
from tests.fakes.fabric import a_layout, a_network
from tests.fakes.life import Clock, House, clock
from tests.unit.test_claims import KEY

NODES = 6


@pytest.fixture
def house() -> Iterator[House]:
    with a_house(NODES) as house:
        yield house


@contextmanager
def a_house(nodes: int) -> Iterator[House]:
    """Servers two to a rack, with a layout that has the network `storage` on a bond."""
    with clock():
        house = House(nodes)
        layout = a_layout(bonds=[{"name": "bond0", "nics": ["up"], "mode": "active-backup"}])
        with house.store.write() as session:
            session.add(Network(name="storage", document=a_network().stored()))
            session.add(Layout(name="bonded", document=layout.stored()))
            for bmc in house.rows(Bmc):
                nics = tuple(Nic(mac=mac) for mac in identity_of(bmc.address).macs)
                more = Nic(mac=nics[0].mac[:-2] + "fe")
                seen = Inventory(nics=(*nics[:1], more))
                bmc.ramdisk, bmc.ramdisk_at = seen.model_dump(mode="json"), Clock.at
                session.add(bmc)
        try:
            yield house
        finally:
            house.close()


def a_spec(**told: Any) -> ClusterSpec:
    control = {"count": 3, "spread": "rack", "layout": "bonded"} | told.pop("control", {})
    workers = {"count": 2, "layout": "bonded"} | told.pop("workers", {})
    facts = {
        "name": "web", "kind": "kubeadm", "version": "1.36.2", "image": "debian", "ssh_keys": [KEY],
        "api": {"network": "storage"}, "control": control, "workers": workers,
    }  # fmt: skip
    return ClusterSpec.model_validate(facts | told)


def desk(house: House) -> Clusters:
    return Clusters(house.store, house.desk)


def nothing_is_there(house: House) -> bool:
    rows = [*house.rows(Cluster), *house.rows(Member), *house.rows(Claim)]
    held = [hold for hold in house.rows(Hold) if hold.claim_id]
    given = [a for a in house.rows(Address) if a.kind is not AddressKind.BOOT]
    return not rows and not held and not given


def test_each_member_has_a_claim_and_the_control_planes_are_apart(house: House) -> None:
    cluster, new = desk(house).create(a_spec(), "p", "me")
    assert new
    names = sorted(member.name for member in house.rows(Member))
    assert names == [
        "web-control-0",
        "web-control-1",
        "web-control-2",
        "web-worker-0",
        "web-worker-1",
    ]
    claims = {claim.name: claim for claim in house.rows(Claim)}
    assert sorted(claims) == names
    assert {claim.count for claim in claims.values()} == {1}
    with house.store.read() as session:
        facts = facts_of(session, find(session, "p", "web"))
    control = [m for m in facts.members if m.role == "control"]
    assert len({m.labels["rack"] for m in control}) == 3
    assert [m.first for m in facts.members] == [True, False, False, False, False]
    assert len({m.address for m in facts.members}) == 5
    assert {(m.address.endswith("/24"), m.interface) for m in facts.members} == {(True, "bond0.40")}
    assert cluster.vip not in {m.address.split("/")[0] for m in facts.members}


def test_the_same_again_is_the_same_and_another_is_a_conflict(house: House) -> None:
    first, _ = desk(house).create(a_spec(), "p", "me")
    again, new = desk(house).create(a_spec(), "p", "me")
    assert (again.id, new) == (first.id, False)
    with pytest.raises(Conflict, match="differs in pods"):
        desk(house).create(a_spec(pods="10.200.0.0/16"), "p", "me")


def test_a_plan_tells_who_goes_where_and_writes_nothing(house: House) -> None:
    facts = desk(house).plan(a_spec(), "p", "me")
    assert len(facts.members) == 5
    assert facts.vip
    assert nothing_is_there(house)


@pytest.mark.parametrize(
    ("told", "error", "sentence"),
    [
        ({"workers": {"count": 4}}, NoCapacity, "^workers: claim web wants 4 .*, free are 3"),
        ({"control": {"layout": ""}}, Invalid, "control.layout"),
        ({"kind": "nonsense"}, Invalid, "kind: there is no kind nonsense"),
        ({"version": "1.20.1"}, Invalid, "version"),
        ({"pods": "10.40.0.0/16"}, Invalid, "pods"),
        ({"api": {"network": "provisioning"}}, Invalid, "api.network"),
        ({"api": {"network": "nowhere"}}, NotFound, "api.network"),
        ({"api": {"network": "storage", "vip": "x"}}, NotFound, "api.vip: storage has no VIP 'x'"),
        ({"workers": {"traits": ["bad trait"]}}, Invalid, "^workers: "),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    house: House, told: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        desk(house).create(a_spec(**told), "p", "me")
    assert nothing_is_there(house)


def test_where_servers_are_kept_for_a_while_only_a_cluster_is_refused_and_says_so(
    house: House,
) -> None:
    """It has no lease that could be given."""
    with house.store.write() as session:
        session.get_one(Project, "p").max_lease_seconds = 30 * 86400
    with pytest.raises(Conflict, match="for 30 days, 0:00:00 at a time, and a cluster") as refused:
        desk(house).create(a_spec(), "p", "me")
    assert "seed project change p --max-lease-days 0" in refused.value.remedy
    assert nothing_is_there(house)
    desk(house).create(a_spec(), "q", "me")


def test_a_name_that_a_claim_has_is_refused(house: House) -> None:
    from tests.unit.test_claims import a_spec as a_claim

    house.desk.request(a_claim("web-worker-1"), "p", "me", True)
    with pytest.raises(Conflict, match="a claim named web-worker-1 lives already"):
        desk(house).create(a_spec(), "p", "me")
    assert not house.rows(Cluster)


def test_two_clusters_never_have_one_vip_and_nobody_frees_it_under_them(house: House) -> None:
    with house.store.write() as session:
        made = holders.vip(session, "storage", "kube", "", "op").address
    one = {"control": {"count": 1}, "workers": {"count": 1}}
    named = {"api": {"network": "storage", "vip": "kube"}, **one}
    cluster, _ = desk(house).create(a_spec(**named), "p", "me")
    assert cluster.vip == made
    with pytest.raises(Conflict, match=r"api\.vip: another cluster has kube"):
        desk(house).create(a_spec(name="other", **named), "p", "me")
    other, _ = desk(house).create(a_spec(name="web", **one), "q", "me")
    assert other.vip != made
    with house.store.write() as session, pytest.raises(Conflict, match="a cluster's API"):
        holders.release(session, "storage", made, "op")


def test_the_claim_of_a_member_is_changed_by_its_cluster_alone(house: House) -> None:
    desk(house).create(a_spec(), "p", "me")
    for change in (
        lambda: house.desk.plan_release("p", "web-worker-0"),
        lambda: house.desk.release("p", "web-worker-0", "0" * 64, "me", True),
        lambda: house.desk.renew("p", "web-worker-0", "me", lease_seconds=3600),
        lambda: house.desk.protect("p", "web-worker-0", True, "me", ""),
        lambda: house.desk.prioritize("web-worker-0", 5, "me"),
        lambda: house.desk.take_back("p", "web-worker-0", "me"),
    ):
        with pytest.raises(Conflict, match="is a node of the cluster web"):
            change()


def test_a_release_shows_all_disks_and_can_be_taken_back(house: House) -> None:
    desk(house).create(a_spec(), "p", "me")
    giving = Giving(house.store, house.desk)
    plan = giving.plan("p", "web")
    assert sorted(node.holder for node in plan.nodes) == sorted(
        member.name for member in house.rows(Member)
    )
    with pytest.raises(Conflict, match="no such plan"):
        giving.release("p", "web", "0" * 64, "me", False)
    assert {claim.wanted for claim in house.rows(Claim)} == {Wanted.ACTIVE}
    row = giving.release("p", "web", plan.hash, "me", False)
    claims = house.rows(Claim)
    assert {claim.wanted for claim in claims} == {Wanted.RELEASED}
    assert {claim.undo_until for claim in claims} == {row.undo_until}
    assert not giving.take_back("p", "web", "me").released
    assert {claim.wanted for claim in house.rows(Claim)} == {Wanted.ACTIVE}
    giving.release("p", "web", giving.plan("p", "web").hash, "me", True)
    with pytest.raises(Conflict, match="undo window of cluster web is over"):
        giving.take_back("p", "web", "me")


def test_a_larger_cluster_takes_no_more_questions(house: House) -> None:
    """Of the database, for what each of its members is told."""
    few = {"control": {"count": 1}, "workers": {"count": 1}}
    more = {"control": {"count": 3, "spread": ""}, "workers": {"count": 1}}
    small, _ = desk(house).create(a_spec(**few), "p", "me")
    large, _ = desk(house).create(a_spec(name="more", **more), "p", "me")
    asked: dict[str, int] = {}
    for cluster in (small, large):
        statements: list[str] = []

        def note(*told: Any, to: list[str] = statements) -> None:
            to.append(told[2])

        event.listen(house.store.engine, "before_cursor_execute", note)
        with house.store.read() as session:
            assert len(facts_of(session, cluster).members) in (2, 4)
        event.remove(house.store.engine, "before_cursor_execute", note)
        asked[cluster.name] = len(statements)
    assert asked["more"] == asked["web"] > 0
