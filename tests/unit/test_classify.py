"""Rows: which class a server gets, when it is not handed out, drift, and re-applying the rules."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlmodel import select

from api.routes import nodes
from provisioning import classify, drift, reclass, reinspect
from provisioning.errors import Conflict, NotFound, SeedError
from provisioning.ironic import Node
from provisioning.models import Bmc, Claim, Event, Hold, now
from provisioning.states import BmcGoal
from tests.fakes.hardware import GB, a_class, an_inventory
from tests.fakes.ironic import FakeIronic
from tests.fakes.pool import why_not as pool_says
from tests.fakes.store import new_store

MISSING = "drives: 3 x ssd 960 GB, class wants 4"


class Room:
    """A store with accepted servers, and an Ironic that has the same."""

    def __init__(self, path: Path) -> None:
        self.store = new_store(path)
        self.ironic = FakeIronic()

    def add(self, name: str = "r1", node: dict[str, Any] | None = None, **facts: Any) -> None:
        uuid = uuid4()
        told = {
            "address": f"192.0.2.{len(self.ironic.by_uuid) + 1}", "protocol": "fake",
            "serial": f"S-{name}", "goal": BmcGoal.MANAGED, "node_uuid": uuid, "node_name": name,
            "inventory": an_inventory(), "inventory_at": now(),
        } | facts  # fmt: skip
        known = {"resource_class": told.get("resource_class", "baremetal")} | (node or {})
        self.ironic.add(name, uuid, inspected_at="2026-11-20T10:00:00+00:00", **known)
        with self.store.write() as session:
            session.add(Bmc(**told))
            session.add(Hold(node_uuid=uuid))

    def put(self, **facts: Any) -> None:
        with self.store.write() as session:
            classify.put(session, a_class(**facts), "me")

    def bmc(self, name: str = "r1") -> Bmc:
        with self.store.read() as session:
            return session.exec(select(Bmc).where(Bmc.node_name == name)).one()

    def change(self, name: str = "r1", **facts: Any) -> None:
        with self.store.write() as session:
            bmc = session.exec(select(Bmc).where(Bmc.node_name == name)).one()
            for key, value in facts.items():
                setattr(bmc, key, value)

    def judge(self, name: str = "r1") -> Bmc:
        """What the reconciler does after each step."""
        with self.store.write() as session:
            bmc = session.exec(select(Bmc).where(Bmc.node_name == name)).one()
            classify.judge(session, bmc)
            return bmc

    def events(self, kind: str) -> list[str]:
        with self.store.read() as session:
            return [e.message for e in session.exec(select(Event).where(Event.kind == kind))]

    def why_not(self, name: str = "r1", resource_class: str = "storage") -> str:
        claim = Claim(name="web", image="debian", resource_class=resource_class)
        with self.store.read() as session:
            return pool_says(session, claim, self.node(name))

    def node(self, name: str = "r1") -> Node:
        return next(n for n in self.ironic.nodes() if n.name == name)

    def hold(self, name: str = "r1") -> None:
        with self.store.write() as session:
            claim = Claim(name="web", image="debian")
            session.add(claim)
            session.flush()
            session.get_one(Hold, self.bmc(name).node).claim_id = claim.id

    def apply(self, *names: str) -> tuple[reclass.ApplyPlan, list[str]]:
        """The plan, and who was changed by it."""
        with self.store.write() as session:
            plan = reclass.plan(session, names)
        if not plan.nodes:
            return plan, []
        with self.store.write() as session:
            done = reclass.apply(session, names, plan.hash, "me")
            return plan, [b.node_name or "" for b in done]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


# --- which class ----------------------------------------------------------------------------------


def test_the_rules_choose_while_a_server_is_not_provided(room: Room) -> None:
    room.add()
    room.put()
    bmc = room.judge()
    assert (bmc.hardware_class, bmc.resource_class, bmc.misfit) == ("storage", "storage", [])
    assert bmc.classed == {"traits": ["CUSTOM_NVME"], "capabilities": {"disks": "many"}}
    assert room.events("node.class-chosen") == ["storage"]
    room.put(name="gold", priority=5)
    assert room.judge().hardware_class == "gold"


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"goal": BmcGoal.AVAILABLE}, id="provided"),
        pytest.param({"inventory": {}}, id="nobody told anything"),
        pytest.param({"inventory": an_inventory(model="R640")}, id="no rule holds"),
        pytest.param({"class_said": True, "resource_class": "silver"}, id="a person said which"),
    ],
)
def test_the_rules_leave_alone(room: Room, facts: dict[str, Any]) -> None:
    room.add(**facts)
    room.put()
    bmc = room.judge()
    assert (bmc.hardware_class, bmc.misfit, bmc.drift) == ("", [], [])


def test_what_another_ironic_said_of_an_adopted_server_stays(room: Room) -> None:
    room.add(resource_class="bifrost")
    room.put()
    bmc = room.judge()
    assert (bmc.hardware_class, bmc.resource_class) == ("", "bifrost")


def test_a_held_server_keeps_its_class(room: Room) -> None:
    room.add()
    room.hold()
    room.put()
    assert room.judge().hardware_class == ""


def test_a_person_s_word_is_held_against_the_class_of_that_name(room: Room) -> None:
    room.add(class_said=True, resource_class="storage")
    room.add("r2", class_said=True, resource_class="storage", inventory=an_inventory(model="R640"))
    room.put()
    assert room.judge("r1").hardware_class == "storage"
    assert room.judge("r2").misfit == [
        "it was accepted as storage, but model: R640, class wants PowerEdge R740*"
    ]


def test_two_classes_of_one_priority_are_refused_where_a_server_fits_both(room: Room) -> None:
    room.add()
    room.put()
    with pytest.raises(Conflict, match="r1: it fits the classes storage and gold alike") as error:
        room.put(name="gold")
    assert "priority" in error.value.remedy
    with room.store.read() as session:
        assert [d.name for d in classify.documents(session)] == ["storage"]


def test_a_server_that_comes_later_and_fits_two_gets_neither(room: Room) -> None:
    room.put()
    room.put(name="gold")
    room.add()
    bmc = room.judge()
    assert bmc.hardware_class == ""
    assert bmc.misfit == [
        "it fits the classes gold and storage alike: give one of them a higher priority"
    ]


def test_a_deleted_class_demands_nothing(room: Room) -> None:
    room.add(inventory=an_inventory(ssds=3))
    room.put()
    assert room.judge().misfit == [MISSING]
    with room.store.write() as session:
        assert classify.delete(session, "storage", "me") == ["r1"]
    bmc = room.judge()
    assert (bmc.hardware_class, bmc.resource_class, bmc.misfit) == ("", "storage", [])
    with room.store.write() as session, pytest.raises(NotFound):
        classify.delete(session, "storage", "me")


# --- not handed out -------------------------------------------------------------------------------


def available(room: Room, name: str = "r1", **facts: Any) -> None:
    """A storage server that a claim may take."""
    room.add(name, **facts)
    room.judge(name)
    room.change(name, goal=BmcGoal.AVAILABLE)
    room.ironic.change(room.bmc(name).node, resource_class=room.bmc(name).resource_class)


def test_a_server_as_its_class_says_is_handed_out(room: Room) -> None:
    room.put()
    available(room)
    assert room.why_not() == ""


def test_a_server_with_a_drive_less_is_shown_and_not_handed_out(room: Room) -> None:
    room.put()
    available(room, inventory=an_inventory(ssds=3))
    assert room.why_not() == f"it is not as its class says: {MISSING}"
    assert room.judge().misfit == [MISSING]
    assert room.events("node.misfit") == [MISSING]


def test_what_came_after_the_last_judgement_counts_at_the_moment_of_choice(room: Room) -> None:
    room.put()
    available(room)
    room.judge()
    room.change(inventory=an_inventory(ssds=3))
    assert MISSING in room.why_not()
    room.judge()
    room.change(inventory=an_inventory())
    assert room.why_not() == ""
    room.put(bom={"drives": [{"count": 5, "media": "ssd"}]})
    assert "class wants 5" in room.why_not()


def test_what_a_new_bill_of_materials_says_is_shown_at_once(room: Room) -> None:
    room.put()
    available(room)
    room.judge()
    room.put(bom={"drives": [{"count": 5, "media": "ssd"}]})
    (told,) = room.bmc().misfit
    assert "class wants 5" in told
    assert room.events("node.misfit") == [told]
    room.put()
    assert room.bmc().misfit == []


def test_a_class_whose_rules_no_longer_hold_keeps_the_server_off(room: Room) -> None:
    room.put()
    available(room)
    room.put(match={"model": "R640"})
    assert "model: PowerEdge R740xd, class wants R640" in room.why_not()


def test_a_class_that_ironic_did_not_hear_of_yet_is_not_handed_out(room: Room) -> None:
    room.put()
    available(room)
    room.ironic.change(room.bmc().node, resource_class="old")
    assert room.why_not(resource_class="old") == "its class becomes storage"


def test_a_judgement_is_written_once(room: Room) -> None:
    room.add()
    room.put()
    first = room.judge().judged
    assert room.judge().judged == first
    assert len(room.events("node.class-chosen")) == 1


# --- what there is, and what changed --------------------------------------------------------------


def test_the_newer_source_tells_the_drives_and_the_other_completes_them() -> None:
    early = now() - timedelta(hours=1)
    in_band = {
        "vendor": "QEMU", "cpu_arch": "x86_64",
        "drives": [{"serial": "D0", "name": "/dev/sda"}, {"serial": "D9", "name": "/dev/sdb"}],
    }  # fmt: skip
    bmc = Bmc(
        address="192.0.2.1", protocol="fake", inventory=an_inventory(ssds=2), inventory_at=early,
        ramdisk=in_band, ramdisk_at=now(),
    )  # fmt: skip
    seen = drift.present(bmc)
    assert seen is not None
    assert (seen.vendor, seen.cpu_arch, len(seen.nics)) == ("Dell Inc.", "x86_64", 2)
    assert [(d.serial, d.name, d.size_bytes) for d in seen.drives] == [
        ("D0", "/dev/sda", 960 * GB),
        ("D9", "/dev/sdb", 0),
    ]
    bmc.inventory_at, bmc.ramdisk_at = now(), early
    seen = drift.present(bmc)
    assert seen is not None
    assert [d.serial for d in seen.drives] == ["D0", "D1"]


def test_a_swapped_drive_a_missing_dimm_and_a_new_nic_are_told(room: Room) -> None:
    room.add()
    assert room.judge().drift == []
    drives = an_inventory()["drives"]
    changed = an_inventory(
        memory_mib=229376,
        drives=[*drives[:3], {**drives[3], "serial": "NEW"}],
        nics=[{"mac": "52:54:00:00:00:00"}, {"mac": "52:54:00:00:00:09"}],
    )
    room.change(inventory=changed)
    bmc = room.judge()
    assert bmc.drift == [
        "memory in MiB: 229376, was 262144",
        "drive D3 is gone",
        "drive NEW is new",
        "NIC 52:54:00:00:00:01 is gone",
        "NIC 52:54:00:00:00:09 is new",
    ]
    room.judge()
    assert len(room.events("node.drift")) == 1
    with room.store.write() as session:
        classify.accept_drift(session, session.get_one(Bmc, bmc.id), bmc.drift, "me")
    assert room.judge().drift == []
    assert len(room.events("node.drift-accepted")) == 1


def test_each_source_is_compared_with_its_own_word(room: Room) -> None:
    """A RAID controller shows one drive in band and four to the BMC."""
    room.add(ramdisk={"drives": [{"serial": "RAID"}]}, ramdisk_at=now())
    room.judge()
    room.change(inventory_at=now() + timedelta(hours=1))
    assert room.judge().drift == []
    room.change(ramdisk={"drives": [{"serial": "RAID2"}]})
    assert room.judge().drift == ["drive RAID is gone", "drive RAID2 is new"]


def test_a_list_that_a_bmc_does_not_tell_this_time_is_no_drift(room: Room) -> None:
    room.add()
    room.judge()
    room.change(inventory=an_inventory(drives=[], memory_mib=0))
    assert room.judge().drift == []


def test_drift_that_was_not_read_is_not_accepted(room: Room) -> None:
    room.add()
    room.judge()
    room.change(inventory=an_inventory(ssds=3))
    with pytest.raises(Conflict, match="changed since you looked"), room.store.write() as session:
        classify.accept_drift(session, session.get_one(Bmc, room.bmc().id), [], "me")
    assert len(room.bmc().baseline["drives"]) == 4


# --- re-applying the rules ------------------------------------------------------------------------


def test_apply_changes_what_the_plan_says_and_nothing_else(room: Room) -> None:
    room.add("free", goal=BmcGoal.AVAILABLE)
    room.add("held", goal=BmcGoal.AVAILABLE)
    room.add("other", inventory=an_inventory(model="R640"))
    room.add("silent", inventory={})
    room.hold("held")
    room.put()
    plan, done = room.apply()
    assert done == ["free"]
    assert plan.left == {
        "held": "held by claim web",
        "other": "no class fits it",
        "silent": "nobody told yet what it consists of",
    }
    assert plan.nodes[0].change == (
        "class none -> storage; resource class baremetal -> storage; "
        "traits none -> CUSTOM_NVME; capabilities none -> disks:many"
    )
    assert room.bmc("free").hardware_class == "storage"
    assert room.bmc("held").hardware_class == room.bmc("other").hardware_class == ""
    again, nobody = room.apply()
    assert (again.hash, nobody, again.left["free"]) == ("", [], "it is so already")


def test_apply_overrules_what_a_person_said_once_it_was_read(room: Room) -> None:
    room.add(class_said=True, resource_class="silver", goal=BmcGoal.AVAILABLE)
    room.put()
    room.apply("r1")
    assert (room.bmc().resource_class, room.bmc().class_said) == ("storage", False)


def test_a_plan_is_worth_nothing_once_something_changed(room: Room) -> None:
    room.add(goal=BmcGoal.AVAILABLE)
    room.put()
    with room.store.write() as session:
        plan = reclass.plan(session, ["r1"])
    room.put(traits=["CUSTOM_OTHER"])
    with pytest.raises(Conflict, match="something changed"), room.store.write() as session:
        reclass.apply(session, ["r1"], plan.hash, "me")
    assert room.bmc().hardware_class == ""


def test_apply_of_an_unknown_name_says_so(room: Room) -> None:
    with pytest.raises(NotFound, match="no node 'r9'"):
        room.apply("r9")


def test_a_trial_tells_who_and_why_not_and_writes_nothing(room: Room) -> None:
    room.add("a")
    room.add("b", inventory=an_inventory(ssds=3))
    room.add("c", inventory=an_inventory(model="R640"))
    with room.store.read() as session:
        found = {t.name: t for t in reclass.trial(session, a_class(), [])}
        assert [t.name for t in reclass.trial(session, a_class(), ["b"])] == ["b"]
    assert [found[n].fits for n in "abc"] == [True, True, False]
    assert found["b"].misfit == [MISSING]
    assert found["c"].why_not == ["model: R640, class wants PowerEdge R740*"]
    assert found["a"].becomes == "storage"
    assert room.judge("a").hardware_class == ""


# --- inspecting again -----------------------------------------------------------------------------


def ask(room: Room, *names: str) -> None:
    known = room.ironic.by_uuid
    with room.store.write() as session:
        plan = reinspect.plan(session, names, known)
    with room.store.write() as session:
        reinspect.apply(session, names, known, plan.hash, "me")


def test_a_node_of_the_pool_leaves_it_at_once(room: Room) -> None:
    available(room, resource_class="storage")
    ask(room, "r1")
    assert room.bmc().goal is BmcGoal.MANAGED
    assert room.bmc().stale_inspection == "2026-11-20T10:00:00+00:00"
    assert room.why_not() == "it was not provided"


@pytest.mark.parametrize("detail", ["inspected; provide it", "available", "booting the ramdisk"])
def test_who_waits_for_it_is_not_told_of_the_inspection_before(room: Room, detail: str) -> None:
    available(room, detail=detail)

    def told() -> str:
        node = room.ironic.by_uuid[str(room.bmc().node)]
        with room.store.read() as session:
            return str(nodes.facts(session, room.bmc(), node)["detail"])

    assert told() == detail
    ask(room, "r1")
    assert told() == (detail if detail.startswith("booting") else "is to be inspected again")
    room.ironic.change(room.bmc().node, inspected_at="2026-11-20T11:00:00+00:00")
    assert told() == detail


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        pytest.param({"provision_state": "active"}, "r1 is active; only", id="in use"),
        pytest.param({"provision_state": "cleaning"}, "r1 is cleaning; only", id="at work"),
        pytest.param({"inspected_at": ""}, "not inspected yet", id="never inspected"),
        pytest.param({"reservation": "host"}, "r1 is available; only", id="locked"),
    ],
)
def test_a_node_in_another_state_is_not_inspected(
    room: Room, state: dict[str, str], sentence: str
) -> None:
    available(room)
    room.ironic.change(room.bmc().node, **state)
    with pytest.raises(Conflict, match=sentence):
        ask(room, "r1")
    assert room.bmc().stale_inspection == ""


def test_a_held_node_and_no_name_at_all_are_refused(room: Room) -> None:
    room.add()
    room.hold()
    for names, sentence in ((("r1",), "held by a claim"), ((), "no node is named")):
        with pytest.raises(SeedError, match=sentence):
            ask(room, *names)


def test_asked_twice_it_is_still_one_inspection(room: Room) -> None:
    room.add(node={"provision_state": "manageable"})
    ask(room, "r1")
    with pytest.raises(Conflict, match="it will be"):
        ask(room, "r1")
