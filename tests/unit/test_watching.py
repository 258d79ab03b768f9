"""The cache of Ironic's nodes: what changed is seen at once, what is gone with the next pass."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from provisioning import sight, watching
from provisioning.errors import IronicUnavailable
from provisioning.models import now
from provisioning.sight import ALL, CHANGES, Pass, Sight
from provisioning.watching import IDLE_SECONDS, IN_FLIGHT_SECONDS, Watch
from tests.fakes.ironic import FakeIronic
from tests.fakes.store import new_store


class Scene:
    """A watch over two nodes."""

    def __init__(self, base: Path) -> None:
        self.store = new_store(base)
        self.ironic = FakeIronic()
        self.one = self.ironic.add("sn-1").uuid
        self.two = self.ironic.add("sn-2").uuid
        self.watch = Watch(self.store, self.ironic)

    def rows(self) -> dict[str, str]:
        with self.store.read() as session:
            return {n.name: n.provision_state for n in sight.nodes(session)}

    def row(self, uuid: str) -> Sight:
        with self.store.read() as session:
            return session.get_one(Sight, UUID(uuid))

    def at(self, which: int):
        with self.store.read() as session:
            return session.get_one(Pass, which).at


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_the_first_look_sees_all_nodes(scene: Scene) -> None:
    assert scene.watch.seen(scene.one) is None
    scene.watch.look(busy=False)
    assert scene.rows() == {"sn-1": "available", "sn-2": "available"}
    assert scene.watch.seen(scene.one).name == "sn-1"
    assert scene.at(ALL) == scene.at(CHANGES)


def test_what_somebody_else_changed_is_seen_by_the_next_look_without_another_pass(
    scene: Scene,
) -> None:
    scene.watch.look(busy=False)
    before = scene.row(scene.two).seen_at
    scene.ironic.change(scene.one, provision_state="deploying")
    scene.ironic.asked.clear()
    pause = scene.watch.look(busy=False)
    assert scene.ironic.asked == ["changes"]
    assert scene.rows() == {"sn-1": "deploying", "sn-2": "available"}
    assert scene.row(scene.two).seen_at == before, "written, though nothing changed"
    assert scene.at(CHANGES) > scene.at(ALL)
    assert pause <= IN_FLIGHT_SECONDS


def test_two_changes_between_two_looks_are_both_seen(scene: Scene) -> None:
    scene.watch.look(busy=False)
    for uuid in (scene.one, scene.two):
        scene.ironic.change(uuid, provision_state="deploying")
    scene.watch.look(busy=False)
    assert set(scene.rows().values()) == {"deploying"}


def test_a_quiet_site_is_asked_seldomer(scene: Scene) -> None:
    scene.watch.look(busy=False)
    assert IN_FLIGHT_SECONDS < scene.watch.look(busy=False) <= IDLE_SECONDS
    assert scene.watch.look(busy=True) <= IN_FLIGHT_SECONDS


def test_what_was_seen_before_our_own_change_is_not_told(scene: Scene) -> None:
    scene.watch.look(busy=False)
    scene.ironic.set_maintenance(scene.one, True, "test")
    assert scene.watch.behind()
    assert scene.watch.seen(scene.one) is None
    assert scene.watch.seen(scene.two) is not None
    scene.watch.look(busy=False)
    assert scene.watch.seen(scene.one).maintenance
    assert not scene.watch.behind()


def test_what_is_old_is_not_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.watch.look(busy=False)
    monkeypatch.setattr(watching, "FRESH_SECONDS", 0.0)
    assert scene.watch.seen(scene.one) is None


def test_a_node_that_is_gone_goes_with_the_next_pass(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "PASS_SECONDS", 0.0)
    scene.watch.look(busy=False)
    del scene.ironic.by_uuid[scene.one]
    scene.watch.look(busy=False)
    assert list(scene.rows()) == ["sn-2"]
    assert scene.watch.seen(scene.one) is None


def test_rows_of_an_earlier_life_go_and_come(scene: Scene) -> None:
    scene.watch.look(busy=False)
    del scene.ironic.by_uuid[scene.one]
    scene.ironic.add("sn-3")
    Watch(scene.store, scene.ironic).look(busy=False)
    assert sorted(scene.rows()) == ["sn-2", "sn-3"]


def test_a_pass_is_read_page_by_page_and_a_marker_that_is_gone_begins_it_anew(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("provisioning.watching", "tests.fakes.ironic"):
        monkeypatch.setattr(f"{module}.PAGE", 1)
    scene.watch.look(busy=False)
    assert list(scene.rows()) == ["sn-1"]
    assert scene.watch.seen(scene.one) is None, "told before all were seen"
    del scene.ironic.by_uuid[scene.one]
    for _ in range(3):
        scene.watch.look(busy=False)
    assert list(scene.rows()) == ["sn-2"]
    assert scene.watch.seen(scene.two) is not None


def test_changes_are_found_though_the_clock_was_set_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.ironic.change(scene.two, power_state="power on")
    scene.watch.look(busy=False)
    before = now() - timedelta(hours=1)
    monkeypatch.setattr(watching, "now", lambda: before)
    changed = (before - timedelta(seconds=3)).isoformat()
    scene.ironic.change(scene.one, provision_state="deploying", updated_at=changed)
    scene.watch.look(busy=False)
    assert scene.rows()["sn-1"] == "deploying"


def test_while_ironic_is_down_nothing_is_told_and_the_age_rises(scene: Scene) -> None:
    scene.watch.look(busy=False)
    before = scene.at(CHANGES)
    working, scene.watch.ironic = scene.watch.ironic, Down()
    with pytest.raises(IronicUnavailable):
        scene.watch.look(busy=False)
    assert scene.at(CHANGES) == before
    assert scene.watch.seen(scene.one) is None
    assert len(scene.rows()) == 2
    scene.watch.ironic = working
    scene.ironic.change(scene.one, provision_state="deploying")
    scene.watch.look(busy=False)
    assert scene.rows()["sn-1"] == "deploying"


def test_a_pass_writes_what_changed_only_and_keeps_what_a_list_does_not_say(scene: Scene) -> None:
    at = now()
    node = replace(scene.ironic.node(scene.one), updated_at="2026-01-01T00:00:00+00:00")
    with scene.store.write() as session:
        sight.write(session, [node], all_of_them=True, at=at)
    with scene.store.write() as session:
        told = [replace(node, updated_at="")]
        sight.write(session, told, all_of_them=True, at=at + timedelta(seconds=9))
    assert scene.row(scene.one).seen_at == at
    assert scene.row(scene.one).facts["updated_at"] == node.updated_at
    assert scene.at(ALL) == at + timedelta(seconds=9)


class Down(FakeIronic):
    def changes(self, *_, **__):
        raise IronicUnavailable("Ironic is down", "seed status")


def test_later_passes_ask_for_names_only_and_see_who_is_new_and_who_is_gone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "PASS_SECONDS", 0.0)
    for _ in range(watching.WHOLE_EACH - 1):
        scene.watch.look(busy=False)
    assert scene.ironic.asked.count("page") == 1
    assert scene.ironic.asked.count("uuids") == watching.WHOLE_EACH - 2
    scene.watch.look(busy=False)
    assert scene.ironic.asked.count("page") == 2, "the facts are read whole now and then"
    del scene.ironic.by_uuid[scene.one]
    scene.ironic.add("sn-3")
    scene.watch.look(busy=False)
    assert scene.rows() == {"sn-2": "available", "sn-3": "available"}


def test_that_nothing_changed_is_written_down_seldom_and_more_often_while_something_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: clock[0])
    scene.watch.look(busy=False)
    noted = scene.at(CHANGES)
    clock[0] += watching.NOTED_BUSY_SECONDS + 1
    scene.watch.look(busy=False)
    assert scene.at(CHANGES) == noted
    scene.watch.look(busy=True)
    assert scene.at(CHANGES) > noted
    noted = scene.at(CHANGES)
    clock[0] += watching.NOTED_SECONDS + 1
    scene.watch.look(busy=False)
    assert scene.at(CHANGES) > noted


def test_more_changes_than_one_answer_tells_are_all_seen_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.watch.look(busy=False)
    for module in ("provisioning.watching", "tests.fakes.ironic"):
        monkeypatch.setattr(f"{module}.PAGE", 1)
    for uuid in (scene.one, scene.two):
        scene.ironic.change(uuid, provision_state="deploying")
    for _ in range(3):
        scene.watch.look(busy=False)
    assert set(scene.rows().values()) == {"deploying"}
