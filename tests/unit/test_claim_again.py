"""Ironic's last word against a claim, an image that needs its disk, a person's maintenance."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlmodel import col, select

from provisioning import orders
from provisioning.disks import GIB
from provisioning.models import Bmc, Hold
from provisioning.parts import LOGIN_REFUSED
from provisioning.rotation_turn import REASON as CHANGES_LOGIN
from provisioning.states import ClaimState, IfFull
from tests.fakes.crashing import an_image
from tests.fakes.hardware import an_inventory
from tests.fakes.life import Killed
from tests.unit.test_claim_leases import HOUR, MINUTE, Clock, Days, a_house, at

S = ClaimState
QUEUE = IfFull.QUEUE


@pytest.fixture
def one() -> Iterator[Days]:
    yield from a_house(1)


@pytest.fixture
def two() -> Iterator[Days]:
    yield from a_house(2)


def served(house: Days, name: str) -> None:
    """Until it came out of the queue, and no step further."""
    for _ in range(40):
        house.see()
        house.serve()
        if house.claim(name).state is S.REQUESTED:
            return
        for claim in house.living():
            house.step(claim.id)
        house.work()
    raise AssertionError(f"{name} is {house.claim(name).state}")


def refused(house: Days, name: str, node: int = 0) -> None:
    """Somebody put a node of it into maintenance, and Ironic is asked before Seed sees it."""
    house.ironic.set_maintenance(house.uuids[node], True, "a fan")
    house.step(house.claim(name).id)


def holds_nothing(house: Days, name: str) -> bool:
    """Neither here nor in Ironic, where a refusal lasts until it is dropped, too."""
    return not (house.held_by(house.claim(name).id) or house.ironic.allocations) and (
        not house.ironic.refused
    )


def test_a_stopped_deploy_is_switched_off_and_its_release_cleans_it_without_a_person(
    one: Days,
) -> None:
    one.ask("web")
    node = one.uuids[0]
    for _ in range(40):
        if one.ironic.node(node).provision_state == "wait call-back":
            break
        one.round()
    one.ironic.change(node, power_state="power on")
    with one.store.write() as session:
        order = orders.open_for(session, node)
        assert order
        orders.alarm(session, order, "its part was asked for from elsewhere")
    for _ in range(3):  # nothing comes of the ramdisk meanwhile: it is switched off
        one.see()
        one.step(one.claim("web").id)
    assert one.claim("web").state is S.FAILED
    assert "asked for from elsewhere" in one.claim("web").problem
    seen = one.ironic.node(node)
    assert (seen.provision_state, seen.power_state) == ("wait call-back", "power off")
    one.release("web")
    one.until("web", S.RELEASED)
    assert one.ironic.node(node).provision_state == "available"


# --- refused by Ironic ----------------------------------------------------------------------------


def test_a_gang_from_the_queue_that_ironic_refuses_waits_again_and_keeps_no_half(
    two: Days,
) -> None:
    two.active("old", count=2)
    two.queue("gang", count=2)
    two.release("old")
    served(two, "gang")
    refused(two, "gang", node=1)
    gang = two.claim("gang")
    assert (gang.state, gang.held_at, gang.problem) == (S.QUEUED, None, "")
    assert holds_nothing(two, "gang")
    two.ironic.set_maintenance(two.uuids[1], False)
    Clock.at += 2 * MINUTE
    two.until("gang", S.ACTIVE)
    assert two.nodes("gang") == {"node-1", "node-2"}


def test_who_waits_again_keeps_its_place(one: Days) -> None:
    one.active("old")
    for name in ("first", "second"):
        one.queue(name)
        Clock.at += MINUTE
    one.release("old")
    served(one, "first")
    refused(one, "first")
    assert one.claim("first").state is S.QUEUED
    one.ironic.set_maintenance(one.uuids[0], False)
    Clock.at += 2 * MINUTE
    one.until("first", S.ACTIVE)
    assert one.claim("second").state is S.QUEUED


def test_another_node_is_chosen_before_anybody_waits_again(two: Days) -> None:
    two.queue("web")
    refused(two, "web")
    assert two.claim("web").state is S.REQUESTED
    assert two.nodes("web") == {"node-2"}


def test_a_node_that_ironic_refused_is_left_alone_for_a_minute(one: Days) -> None:
    one.queue("web")
    refused(one, "web")
    for _ in range(5):  # what was seen of it is from before
        one.serve()
        one.step(one.claim("web").id)
    assert len(one.kinds("claim.refused-by-ironic")) == 1
    assert one.desk.expected() == {one.claim("web").id: Clock.at}, "it is not lost for good"
    Clock.at += MINUTE
    one.serve()
    one.step(one.claim("web").id)
    assert len(one.kinds("claim.refused-by-ironic")) == 2


def test_a_reservation_that_ironic_refuses_waits_in_the_queue_and_ends_when_it_was_to(
    one: Days,
) -> None:
    begin = at(4)
    one.queue("later", starts_at=begin, lease_seconds=7200)
    one.later(4 * HOUR - MINUTE)
    Clock.at = begin
    one.step(one.claim("later").id)
    refused(one, "later")
    assert one.claim("later").state is S.QUEUED
    assert holds_nothing(one, "later")
    one.ironic.set_maintenance(one.uuids[0], False)
    Clock.at += HOUR
    one.until("later", S.ACTIVE)
    assert one.claim("later").lease_end == begin + 2 * HOUR


def test_a_reservation_that_waits_past_its_end_is_given_up(one: Days) -> None:
    one.queue("later", starts_at=at(4), lease_seconds=7200)
    Clock.at += 4 * HOUR
    one.step(one.claim("later").id)
    refused(one, "later")
    one.later(2 * HOUR)
    one.rounds(1)
    assert one.claim("later").state is S.RELEASED
    assert one.kinds("claim.ran-out")


@pytest.mark.parametrize("wish", [{}, {"starts_at": 4}])
def test_who_did_not_want_to_wait_fails_and_holds_nothing(one: Days, wish: dict[str, Any]) -> None:
    wish = {"starts_at": at(4)} if wish else {}
    one.ask("web", **wish)
    if wish:
        Clock.at += 4 * HOUR
        one.step(one.claim("web").id)
    refused(one, "web")
    assert one.claim("web").state is S.FAILED
    assert "free are 0" in one.claim("web").problem
    assert holds_nothing(one, "web")


@pytest.mark.parametrize("if_full", IfFull)
def test_no_claim_goes_on_without_nodes_after_a_crash_behind_its_refusal(
    one: Days, if_full: IfFull
) -> None:
    one.ask("web", if_full=if_full)

    def dies(when: str, what: str, args: tuple[Any, ...]) -> None:
        if what == "commit" and one.claim("web").id not in {h.claim_id for h in one.rows(Hold)}:
            raise Killed

    one.store.hook = dies
    with pytest.raises(Killed):
        refused(one, "web")
    one.store.hook = lambda *_: None
    one.reconciler = one.a_life()
    one.step(one.claim("web").id)
    assert one.claim("web").state is (S.QUEUED if if_full is QUEUE else S.FAILED)
    assert holds_nothing(one, "web")


# --- the image's smallest disk --------------------------------------------------------------------


def with_disks(house: Days, *gib: int) -> None:
    """Each node with one SSD of so many GiB; the image needs 20."""
    with house.store.write() as session:
        rows = session.exec(select(Bmc).order_by(col(Bmc.node_name))).all()
        for size, bmc in zip(gib, rows, strict=True):
            told = an_inventory(drives=[{"serial": "D", "media": "ssd", "size_bytes": size * GIB}])
            bmc.inventory, bmc.inventory_at = told, Clock.at
            session.add(bmc)
    big = an_image("debian").model_copy(update={"min_disk_gib": 20})
    house.desk = replace(house.desk, image=lambda *_asked: big)


SSD = {"root_device": {"size": ">= 5"}}


def test_a_claim_from_the_queue_gets_no_node_whose_disk_is_too_small_for_its_image(
    two: Days,
) -> None:
    with_disks(two, 10, 40)
    two.active("old", nodes=["node-2"])
    two.queue("web", **SSD)
    two.rounds(3)
    assert two.claim("web").state is S.QUEUED, "node-1 is free, and too small"
    two.release("old")
    two.until("web", S.ACTIVE)
    assert two.nodes("web") == {"node-2"}


def test_a_reservation_does_not_begin_on_a_disk_that_is_too_small_for_its_image(two: Days) -> None:
    with_disks(two, 10, 40)
    two.ask("later", starts_at=at(4), **SSD)
    two.ironic.set_maintenance(two.uuids[1], True, "a fan")
    two.later(4 * HOUR)
    assert two.nodes("later") == set()
    assert two.claim("later").detail == "its time has come; node-2: it is in maintenance"
    two.ironic.set_maintenance(two.uuids[1], False)
    two.until("later", S.ACTIVE)
    assert two.nodes("later") == {"node-2"}


def test_a_node_chosen_anew_has_the_disk_that_the_image_needs(two: Days) -> None:
    with_disks(two, 40, 10)
    two.ask("web", **SSD)
    refused(two, "web")
    assert two.claim("web").state is S.FAILED
    assert two.nodes("web") == set()


# --- cleaned again --------------------------------------------------------------------------------


def not_clean(house: Days, fails: bool) -> None:
    """Its only node is `clean failed`: by a step, or because somebody ended the cleaning."""
    house.active("web")
    house.release("web")
    for _ in range(20):
        if house.ironic.nodes()[0].provision_state == "clean wait":
            break
        house.round()
    if fails:
        house.ironic.work(house.uuids[0], fails=True)
    else:
        house.ironic.provision(house.uuids[0], "abort")
    house.rounds(1)
    assert house.claim("web").problem.startswith("node-1 is not clean")


def retry(house: Days) -> None:
    with house.store.write() as session:
        session.exec(select(Bmc)).one().attempt += 1
    house.rounds(3)


def test_a_person_s_maintenance_is_not_ended_by_cleaning_again(one: Days) -> None:
    not_clean(one, fails=False)
    one.ironic.set_maintenance(one.uuids[0], True, "a fan")
    retry(one)
    web, node = one.claim("web"), one.ironic.nodes()[0]
    assert (node.maintenance, node.provision_state) == (True, "manageable")
    assert web.problem == "node-1 is in maintenance: a fan"
    assert web.remedy == "When it may go on: `baremetal node maintenance unset node-1`."
    one.ironic.set_maintenance(one.uuids[0], False)
    one.until("web", S.RELEASED)


@pytest.mark.parametrize("reason", [LOGIN_REFUSED, CHANGES_LOGIN])
def test_seed_s_own_maintenance_is_ended_by_cleaning_again(one: Days, reason: str) -> None:
    not_clean(one, fails=False)
    one.ironic.set_maintenance(one.uuids[0], True, reason)
    retry(one)
    one.until("web", S.RELEASED)
    assert not one.ironic.nodes()[0].maintenance


def test_the_maintenance_of_a_failed_clean_is_ended_by_cleaning_again(one: Days) -> None:
    not_clean(one, fails=True)
    assert one.ironic.nodes()[0].fault == "clean failure"
    retry(one)
    one.until("web", S.RELEASED)
    assert not one.ironic.nodes()[0].maintenance
