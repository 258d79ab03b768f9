"""Which nodes a claim gets: wishes, spread and pack, root disks, and what is told of the others."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import select

from provisioning import choosing, root_device, wishes
from provisioning.choosing import Wish
from provisioning.errors import Conflict, Invalid, NoCapacity
from provisioning.hardware import Drive
from provisioning.models import Bmc, Claim, now
from provisioning.pool import Candidate, Place, Pool
from provisioning.room import Slot
from provisioning.states import BmcGoal
from provisioning.tenants import Project
from tests.fakes.hardware import GB, an_inventory
from tests.fakes.store import new_store
from tests.unit.test_claims import House, a_spec

AT = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)
FACTS = {"resource_class": "baremetal", "provision_state": "available", "maintenance": False}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(new_store(tmp_path))


def a_node(name: str, **facts: Any) -> Candidate:
    told = {"facts": FACTS | {"name": name}, "goal": BmcGoal.AVAILABLE, "bmc_id": uuid4()} | facts
    return Candidate(uuid=uuid4(), name=name, **told)


def in_rack(name: str, rack: str, feed: str = "", switches: tuple[str, ...] = ()) -> Candidate:
    return a_node(name, place=Place("ams", "b", rack, feed, frozenset(switches)))


def a_claim(**wish: Any) -> Claim:
    return Claim(**a_spec(**wish).model_dump())


def chosen(nodes: list[Candidate], **wish: Any) -> list[str]:
    found = choosing.choose(
        Pool(AT, tuple(nodes), timedelta(hours=1)), Wish(a_claim(**wish), AT, None, True)
    )
    return [c.name for c in found.chosen]


def whys(node: Candidate, **wish: Any) -> list[str]:
    return [b.why for b in choosing.broken(node, Wish(a_claim(**wish), AT, None, True))]


# --- wishes ---------------------------------------------------------------------------------------


def test_a_node_that_fits_breaks_no_rule() -> None:
    node = a_node("a", labels={"team": "x"}, facts=FACTS | {"traits": ["CUSTOM_GPU"]})
    assert whys(node, traits=["CUSTOM_GPU"], labels={"team": "x"}, nodes=["a"]) == []


def test_every_broken_rule_is_told() -> None:
    assert whys(
        in_rack("a", "r1"), traits=["CUSTOM_GPU"], labels={"team": "x"}, nodes=["b"], racks=["r2"]
    ) == [
        "it is not one of the nodes that were named", "it has not the trait CUSTOM_GPU",
        "it has no label team", "it is in rack ams/b/r1",
    ]  # fmt: skip


@pytest.mark.parametrize("rack", ["r1", "R1", "b/r1", "ams/b/r1"])
def test_a_rack_is_named_as_people_do(rack: str) -> None:
    assert whys(in_rack("a", "r1"), racks=[rack]) == []


def test_where_nobody_planned_a_node_is_no_rack() -> None:
    assert whys(a_node("a"), racks=["r1"]) == ["the rack plan does not have it"]
    assert whys(a_node("a"), spread="feed") == ["nobody planned which feed it is on"]


# --- spread and pack ------------------------------------------------------------------------------


def test_spread_takes_one_of_each_rack() -> None:
    nodes = [in_rack("a", "r1"), in_rack("b", "r1"), in_rack("c", "r2")]
    assert chosen(nodes, spread="rack", count=2) == ["a", "c"]
    assert len(chosen(nodes, spread="rack", count=3)) == 2, "the third has no rack of its own"


def test_a_rack_of_the_same_name_in_another_row_is_another_one() -> None:
    other = a_node("b", place=Place("ams", "c", "r1"))
    assert chosen([in_rack("a", "r1"), other], spread="rack", count=2) == ["a", "b"]


def test_a_server_on_two_feeds_shares_both() -> None:
    nodes = [in_rack("a", "r1", "A+B"), in_rack("b", "r2", "A"), in_rack("c", "r3", "B")]
    assert chosen(nodes, spread="feed", count=2) == ["b", "c"]


def test_spread_over_switches() -> None:
    nodes = [
        in_rack("a", "r1", switches=("s1", "s2")), in_rack("b", "r1", switches=("s2", "s3")),
        in_rack("c", "r2", switches=("s3", "s4")),
    ]  # fmt: skip
    assert chosen(nodes, spread="switch", count=2) == ["a", "c"]


def test_pack_takes_the_rack_with_the_smallest_gap_that_is_enough() -> None:
    nodes = [
        in_rack("a", "r1"), in_rack("b", "r1"), in_rack("c", "r1"),
        in_rack("d", "r2"), in_rack("e", "r2"), in_rack("f", "r3"),
    ]  # fmt: skip
    assert chosen(nodes, pack="rack", count=2) == ["d", "e"]
    assert len(chosen(nodes, pack="rack", count=4)) == 3, "no rack has four"


def test_packed_in_a_rack_and_spread_over_its_feeds() -> None:
    nodes = [in_rack("a", "r1", "A"), in_rack("b", "r1", "A"), in_rack("c", "r2", "A"),
             in_rack("d", "r2", "B")]  # fmt: skip
    assert chosen(nodes, pack="rack", spread="feed", count=2) == ["c", "d"]


@given(
    racks=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    count=st.integers(1, 6),
    spread=st.booleans(),
)
def test_a_gang_is_as_large_as_it_can_be_and_never_breaks_its_rule(
    racks: list[int], count: int, spread: bool
) -> None:
    nodes = [in_rack(f"n{i:02}", f"r{rack}") for i, rack in enumerate(racks)]
    wish = {"spread": "rack"} if spread else {"pack": "rack"}
    got = chosen(nodes, count=count, **wish)
    taken = [racks[int(name[1:])] for name in got]
    if spread:
        assert len(set(taken)) == len(taken) == min(count, len(set(racks)))
    else:
        assert len(set(taken)) <= 1
        assert len(taken) == min(count, max(racks.count(r) for r in racks))


# --- sizes and root disks -------------------------------------------------------------------------

SSD = Drive(
    serial="S1", model="PM9A3", size_bytes=960 * GB, media="nvme", wwn="0x5", name="nvme0n1"
)
HDD = Drive(serial="H1", model="ST8000", size_bytes=8000 * GB, media="hdd", name="/dev/sda")


@pytest.mark.parametrize(
    ("hints", "fits"),
    [
        ({"model": "PM9A3"}, "S1"), ({"model": "<in> 9a3"}, "S1"), ({"model": "s== st8000"}, "H1"),
        ({"model": "s!= st8000"}, "S1"), ({"serial": "<or> X <or> H1"}, "H1"),
        ({"size": ">= 5000"}, "H1"), ({"size": "< 5000"}, "S1"), ({"size": "= 800"}, "S1 H1"),
        ({"size": 894}, "S1"), ({"rotational": False}, "S1"), ({"rotational": "true"}, "H1"),
        ({"wwn": "0x5"}, "S1"), ({"name": "/dev/sda"}, "H1"), ({"name": "/dev/nvme0n1"}, "S1"),
        ({"model": "PM9A3", "size": ">= 5000"}, ""), ({}, "S1 H1"),
    ],
)  # fmt: skip
def test_root_device_hints(hints: dict[str, Any], fits: str) -> None:
    root_device.check(hints)
    assert [d.serial for d in root_device.matching(hints, (SSD, HDD))] == fits.split()


@pytest.mark.parametrize(
    "hints",
    [
        {"colour": "red"}, {"size": "large"}, {"size": "-1"}, {"size": ">= 5 GB"}, {"size": ""},
        {"rotational": "perhaps"}, {"model": ""}, {"model": "a\nb"}, {"model": "x" * 300},
        {"serial": None, "by_path": "/dev/x"}, {"size": "99999999999"}, {"hctl": "0:0:0:0"},
    ],
)  # fmt: skip
def test_hints_that_nobody_can_look_at_are_refused(hints: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as error:
        root_device.check(hints)
    assert error.value.remedy


def test_a_wish_for_a_size_is_a_hint_where_none_is_given() -> None:
    assert root_device.effective({}, 400) == {"size": ">= 400"}
    assert root_device.effective({"size": "== 894"}, 400) == {"size": "== 894"}
    assert root_device.effective({"model": "X"}, 0) == {"model": "X"}


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        ({"cpus": 10**6}, r"it has \d+ CPU threads of 1000000"),
        ({"memory_gib": 10**5}, r"it has \d+ GiB of memory of 100000"),
        (
            {"disk_gib": 10**6},
            r"no disk of it fits a root disk .size >= 1000000, at least 1000000 GiB.; it has ",
        ),
        (
            {"root_device": {"model": "none"}},
            r"no disk of it fits a root disk .model none, at least 1 GiB.; it has ",
        ),
    ],
)
def test_a_server_that_is_too_small_says_what_it_has(
    house: House, wish: dict[str, Any], why: str
) -> None:
    house.add("a", {"inventory": an_inventory(cpu_threads=64), "inventory_at": now()})
    house.ask(cpus=1, memory_gib=1, disk_gib=1)
    house.add("b", {"inventory": an_inventory(cpu_threads=64), "inventory_at": now()})
    with pytest.raises(NoCapacity) as error:
        house.ask("other", **wish)
    assert re.match(why, error.value.reasons["b"])


def test_a_server_nobody_looked_into_is_not_promised(house: House) -> None:
    house.add("a")
    with pytest.raises(NoCapacity) as error:
        house.ask(cpus=1)
    assert error.value.reasons == {"a": "nobody told yet what it consists of"}


def test_new_facts_of_a_server_count_at_once(house: House) -> None:
    house.add("a", {"inventory": an_inventory(cpu_threads=64), "inventory_at": now()})
    desk = house.desk()
    spec = a_spec(memory_gib=10**4)
    with pytest.raises(NoCapacity):
        desk.request(spec, "default", "me")
    with house.store.write() as session:
        bmc = session.exec(select(Bmc)).one()
        bmc.inventory = bmc.inventory | {"memory_mib": 10**4 * 1024}
        bmc.inventory_at = now() + timedelta(seconds=1)
    assert desk.request(spec, "default", "me")[1]


def test_the_rack_plan_places_a_server_by_its_serial(house: House) -> None:
    house.add("a")
    house.add("b")
    with house.store.write() as session:
        session.add(Slot(rack="r7", unit=1, serial="s-2"))  # as the plan spells it
    claim = house.ask(racks=["r7"])
    assert house.holds() == {"a": None, "b": claim.id}


# --- what is refused, whatever there is -----------------------------------------------------------


@pytest.mark.parametrize(
    "wish",
    [
        {"traits": ["custom gpu"]}, {"traits": ["A" * 300]}, {"labels": {"a b": "c"}},
        {"labels": {"a": "x" * 64}}, {"labels": {"a": "x\r\nSet-Cookie: y"}}, {"racks": [""]},
        {"racks": ["r1\n"]}, {"nodes": ["../etc"]}, {"nodes": ["a", "a"], "count": 2},
        {"nodes": ["a"], "count": 2}, {"spread": "planet"}, {"pack": "feed"},
        {"spread": "rack", "pack": "rack"}, {"hostnames": "db", "count": 2},
        {"hostnames": "{n.__class__}"}, {"hostnames": "{0}"}, {"hostnames": "db-{n:5}"},
        {"hostnames": "{n:>3}x"}, {"hostnames": "-{n}"}, {"hostnames": "{n}-"},
        {"hostnames": "a" * 63 + "{n}"}, {"hostnames": "db {n}"}, {"hostnames": "{n}{n}"},
        {"traits": ["A"] * 501},
    ],
)  # fmt: skip
def test_wishes_that_no_node_could_fulfil(wish: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as error:
        wishes.check(a_spec(**wish))
    assert error.value.remedy
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("hostnames", "count", "last"),
    [("db-{n}", 11, "db-10"), ("db{n:03}", 2, "db001"), ("{n}", 1, "0"), ("solo", 1, "solo")],
)
def test_host_names_follow_their_pattern(hostnames: str, count: int, last: str) -> None:
    spec = a_spec(hostnames=hostnames, count=count)
    wishes.check(spec)
    assert Claim(**spec.model_dump()).hostname(count - 1) == last


# --- what a claimer learns ------------------------------------------------------------------------


def test_a_claimer_learns_nothing_of_others_claims_and_bmcs(house: House) -> None:
    house.add("theirs")
    with house.store.write() as session:
        session.add(Project(name="other"))
    house.desk().request(a_spec("secret-plan"), "other", "them")
    house.add("mine")
    house.desk().request(a_spec("own"), "default", "me")
    house.add("bad", {"problem": "BMC 192.0.2.3 refused its login"})
    house.add("managed", {"goal": BmcGoal.MANAGED})
    with pytest.raises(NoCapacity) as error:
        house.desk().request(a_spec("web", count=4), "default", "me")
    told = f"{error.value} {error.value.reasons} {error.value.nearest}"
    assert set(error.value.reasons) == {"mine", "bad"}
    assert error.value.reasons["bad"] == "it is not in service at the moment"
    for canary in ("theirs", "secret-plan", "other", "192.0.2", "managed"):
        assert canary not in told.replace("another claim has it", "")


def test_explain_says_of_each_node_what_it_lacks_and_writes_nothing(house: House) -> None:
    house.add("a", {"labels": {"team": "x"}})
    house.add("b")
    house.add("c", resource_class="gold")
    told = house.desk().explain(a_spec(labels={"team": "x"}), "default", True)
    assert (told.chosen, told.rules["a"]) == (["a"], [])
    assert told.rules["b"] == ["it has no label team"]
    assert told.rules["c"] == ["its class is gold", "it has no label team"]
    assert list(told.nearest) == ["b", "c"], "those that lack least come first"
    assert set(house.holds().values()) == {None}
    assert house.count(Bmc) == 3


def test_explain_of_too_many_says_when(house: House) -> None:
    house.add("a")
    house.ask("first", lease_seconds=7200)
    told = house.desk().explain(a_spec("second"), "default", True)
    assert told.chosen == []
    assert told.free_at is not None
    expected = now() + timedelta(seconds=7200) + timedelta(hours=1)
    assert abs((told.free_at - expected).total_seconds()) < 60
    with pytest.raises(NoCapacity) as error:
        house.ask("second")
    assert error.value.free_at is not None


def test_named_nodes_and_only_these(house: House) -> None:
    for name in ("a", "b", "c"):
        house.add(name)
    claim = house.ask(nodes=["c", "a"], count=2)
    assert house.holds() == {"a": claim.id, "b": None, "c": claim.id}
    with pytest.raises(NoCapacity):
        house.ask("again", nodes=["c"])
    with pytest.raises(Conflict, match="differs in nodes"):
        house.ask(nodes=["c", "b"], count=2)
