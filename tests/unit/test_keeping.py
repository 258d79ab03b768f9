"""Kept disks in a claim's life: when they are kept, and what Ironic is told before each order."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlmodel import col, select

from provisioning import disks, keeping
from provisioning.errors import Conflict, NoCapacity, NotFound
from provisioning.models import Bmc, Claim, Order
from provisioning.one_time import KeptDisk
from provisioning.states import BmcGoal, ClaimState, OrderKind
from tests.unit.test_claim_leases import Days, a_house
from tests.unit.test_claims import a_spec

S = ClaimState
DRIVES = [{"serial": s, "size_bytes": 10**12, "name": f"/dev/sd{s[-1]}"} for s in ("Da", "Db")]


@pytest.fixture
def one() -> Iterator[Days]:
    for house in a_house(1):
        show(house, DRIVES)
        yield house


def show(house: Days, drives: list[dict[str, Any]]) -> None:
    with house.store.write() as session:
        for bmc in session.exec(select(Bmc)).all():
            bmc.ramdisk = {"drives": drives}


def held_with(house: Days, *data: dict[str, Any]) -> None:
    """An active claim whose deploy order named these data disks."""
    house.active("web", disks=[{"role": "osd", "keep": True}])
    with house.store.write() as session:
        query = select(Order).where(Order.kind == OrderKind.DEPLOY)
        order = session.exec(query.order_by(col(Order.opened_at).desc())).first()
        assert order is not None
        order.wanted = {"disks": {"data": list(data)}}


def kept(house: Days) -> list[KeptDisk]:
    with house.store.read() as session:
        return disks.kept_of(session, house.uuids[0])


def skipped(house: Days) -> list[dict[str, str]]:
    told = house.ironic.by_uuid[str(house.uuids[0])].properties.get("skip_block_devices")
    return list(told or [])


def keep(house: Days, serial: str) -> None:
    with house.store.write() as session:
        bmc = session.exec(select(Bmc)).one()
        keeping.keep(session, bmc, serial, "a reason", "me")


def protect(house: Days, **facts: Any) -> None:
    """As before an order, of a node with these facts."""
    house.ironic.change(house.uuids[0], driver="redfish", **facts)
    with house.store.read() as session:
        bmc = session.exec(select(Bmc)).one()
    node = house.ironic.by_uuid[str(house.uuids[0])]
    keeping.protect(house.reconciler.parts, bmc, node)


def aim(house: Days, **wish: Any) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """As before a deploy of its node: the root for Ironic, deploy steps, what is proved."""
    claim = Claim(**a_spec("web", **wish).model_dump(), project="p", asked_by="me")
    with house.store.read() as session:
        bmc = session.exec(select(Bmc)).one()
    seen = keeping.seen_by(bmc)
    found = disks.chosen(claim, seen, kept(house))
    assert seen is not None
    wanted = disks.wanted(claim, found, kept(house))
    node = house.ironic.by_uuid[str(bmc.node)]
    also = keeping.to_keep(claim, bmc.node, {"disks": wanted})
    keeping.protect(house.reconciler.parts, bmc, node, also)
    return disks.root_hint(found, seen), disks.raid_steps(found, seen), wanted


OSD = {"serial": "Db", "role": "osd", "keep": True, "wwn": ""}
SCRATCH = {"serial": "Da", "role": "scratch"}


def test_what_a_claim_keeps_is_kept_for_its_project_before_ironic_cleans(one: Days) -> None:
    held_with(one, SCRATCH, OSD)
    assert kept(one) == [], "while it is held nothing of it is cleaned"
    one.release("web")
    one.until("web", S.CLEANING)
    one.rounds(1)
    assert [(k.serial, k.project, k.why) for k in kept(one)] == [
        ("Db", "p", "claim web keeps it as osd")
    ]
    assert {"serial": "s== Db"} in skipped(one)
    assert {"serial": "s== Da"} not in skipped(one)
    one.until("web", S.RELEASED)
    assert [e.project for e in one.kinds("node.disk-kept")] == ["p"], "once"


def test_a_kept_disk_that_vanished_stops_the_clean_with_a_sentence(one: Days) -> None:
    held_with(one, OSD)
    one.release("web")
    show(one, DRIVES[:1])
    one.until("web", S.CLEANING)
    for _ in range(3):
        one.round()
    claim = one.claim("web")
    assert "its kept disk Db was not seen" in claim.problem, claim
    assert one.ironic.nodes()[0].provision_state == "active", "Ironic was told nothing"
    show(one, DRIVES)
    one.until("web", S.RELEASED)


def test_a_kept_disk_is_not_among_those_that_a_plan_erases(one: Days) -> None:
    one.ironic.inventories[str(one.uuids[0])] = {
        "inventory": {"disks": [{"name": "/dev/sda", "serial": "Da"},
                                {"name": "/dev/sdb", "serial": "Db"}]}
    }  # fmt: skip
    one.active("web")
    keep(one, "Db")
    plan = one.desk.plan_release("p", "web")
    assert [d.serial for d in plan.nodes[0].disks] == ["Da"]


def test_arrays_are_not_taken_apart_where_a_disk_is_kept(one: Days) -> None:
    protect(one, raid_interface="redfish")
    assert one.ironic.nodes()[0].raid_interface == "agent"
    keep(one, "Db")
    protect(one, provision_state="active")
    node = one.ironic.nodes()[0]
    assert (node.raid_interface, node.maintenance) == ("no-raid", False)


def test_a_node_in_use_is_left_alone_when_nothing_of_it_is_kept(one: Days) -> None:
    before = one.ironic.writes
    protect(one, provision_state="active", raid_interface="no-raid")
    assert one.ironic.writes == before


def test_what_ironic_knows_already_is_not_said_again(one: Days) -> None:
    keep(one, "Db")
    protect(one, raid_interface="agent")
    before = one.ironic.writes
    protect(one)
    assert one.ironic.writes == before
    with one.store.write() as session:
        keeping.forget(session, session.exec(select(Bmc)).one(), "Db", "", "me")
    protect(one)
    assert skipped(one) == []


def test_what_another_ironic_skipped_is_skipped_on(one: Days) -> None:
    theirs = [{"serial": "Da"}, {"volume_name": "data"}]
    protect(one, raid_interface="agent", properties={"skip_block_devices": theirs})
    assert skipped(one) == theirs
    keep(one, "Db")
    protect(one)
    assert (skipped(one)[:2], {"serial": "s== Db"} in skipped(one)) == (theirs, True)
    with one.store.write() as session:
        keeping.forget(session, session.exec(select(Bmc)).one(), "Db", "", "me")
    protect(one)
    assert skipped(one) == theirs


def test_only_a_disk_that_it_has_can_be_kept(one: Days) -> None:
    with pytest.raises(NotFound, match="has no disk 'Dc'"):
        keep(one, "Dc")
    show(one, [{"name": "/dev/sdc", "size_bytes": 10**12}])
    with pytest.raises(NotFound):
        keep(one, "")


def test_a_server_of_the_pool_leaves_it_when_its_disk_is_kept_no_more(one: Days) -> None:
    keep(one, "Db")
    with one.store.write() as session:
        bmc = session.exec(select(Bmc)).one()
        keeping.forget(session, bmc, "Db", "", "me", "then")
        assert (bmc.goal, bmc.stale_inspection) == (BmcGoal.MANAGED, "then")
    with pytest.raises(NoCapacity):
        one.ask("web")


def test_of_a_server_in_use_the_release_cleans_what_is_kept_no_more(one: Days) -> None:
    one.active("web")
    keep(one, "Db")
    with one.store.write() as session:
        bmc = session.exec(select(Bmc)).one()
        keeping.forget(session, bmc, "Db", "", "me", "then")
        assert bmc.goal is BmcGoal.AVAILABLE


def test_nothing_is_kept_beside_a_mirrored_root(one: Days) -> None:
    one.active("web")
    with one.store.write() as session:
        claim = session.exec(select(Claim)).one()
        claim.root_raid = 1
    with pytest.raises(Conflict, match="has a mirrored root"):
        keep(one, "Db")


def test_two_disks_that_go_by_one_serial_are_both_kept(one: Days) -> None:
    """Namespaces of one NVMe disk: rather both than the wrong one."""
    keep(one, "Da")
    twins = [{"serial": "Da", "size_bytes": 10**12, "name": f"/dev/nvme0n{n}"} for n in (1, 2)]
    show(one, twins)
    with one.store.read() as session:
        seen = keeping.seen_by(session.exec(select(Bmc)).one())
    with pytest.raises(Conflict, match="no disk of it fits a root disk"):
        disks.chosen(a_spec("web"), seen, kept(one))


# --- before a deploy ------------------------------------------------------------------------------


def test_a_deploy_names_the_serial_and_what_it_will_keep_is_skipped_already(one: Days) -> None:
    one.ironic.change(one.uuids[0], driver="redfish", raid_interface="agent")
    root, steps, wanted = aim(one, disks=[{"role": "osd", "serial": "Db", "keep": True}])
    assert root == {"root_device": {"serial": "s== Da"}}
    assert (steps, wanted["data"]) == ([], [OSD])
    assert {"serial": "s== Db"} in skipped(one)
    assert one.ironic.nodes()[0].raid_interface == "no-raid"
    assert kept(one) == []


def test_a_mirror_is_a_step_of_the_ramdisks_own_raid_interface(one: Days) -> None:
    one.ironic.change(one.uuids[0], driver="ipmi", raid_interface="no-raid")
    root, steps, wanted = aim(one, root_raid=1)
    assert root == {}
    assert wanted["root"] == {"serials": ["Da", "Db"], "raid": 1}
    assert one.ironic.nodes()[0].raid_interface == "agent"
    one.ironic.change(one.uuids[0], provision_state="available")
    one.ironic.instance_infos[str(one.uuids[0])] = {"image_source": "x"}
    one.ironic.provision(one.uuids[0], "active", {"meta_data": {}}, steps)


def test_a_mirror_is_not_asked_for_beside_a_kept_disk(one: Days) -> None:
    show(one, [*DRIVES, {"serial": "Dc", "size_bytes": 10**12, "name": "/dev/sdc"}])
    keep(one, "Dc")
    with pytest.raises(Conflict, match="takes every array of a server apart"):
        aim(one, root_raid=1)


def test_nobody_told_of_a_disk_is_not_that_there_is_none(one: Days) -> None:
    show(one, [])
    with pytest.raises(Conflict, match="nobody told yet which disks it has"):
        aim(one, root_raid=1)


def test_no_disk_is_kept_while_an_order_may_write_it(one: Days) -> None:
    one.ask("web")
    one.until("web", S.DEPLOYING)
    with pytest.raises(Conflict, match="is under way: deploy"):
        keep(one, "Da")
    assert kept(one) == []


def test_a_disk_that_was_kept_meanwhile_is_not_cleaned_unasked(one: Days) -> None:
    with one.store.write() as session:
        bmc = session.exec(select(Bmc)).one()
        assert keeping.are(session, bmc, frozenset())
        keeping.keep(session, bmc, "Da", "a reason", "me")
        assert not keeping.are(session, bmc, frozenset())
        assert keeping.are(session, bmc, {"Da"})


def test_a_maintenance_of_a_life_before_this_one_is_ended(one: Days) -> None:
    one.ironic.set_maintenance(one.uuids[0], True, keeping.REASON)
    protect(one)
    assert not one.ironic.by_uuid[str(one.uuids[0])].maintenance
