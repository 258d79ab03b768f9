"""An adopted node on its way: managed, adopted, protected, and never powered, cleaned or booted."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlmodel import select

from provisioning.adopting import Adopting
from provisioning.models import Address, Bmc, Hold
from provisioning.networks import Pool
from provisioning.outcome import Done, Stuck, Wait
from provisioning.states import BmcGoal
from provisioning.store import Store
from tests.fakes.ironic import BLANK, FakeIronic
from tests.fakes.store import new_store

MAC = "52:54:00:00:00:01"
TOLD = {
    "cloud": "bifrost", "provision_state": "active", "properties": {"cpu_arch": "x86_64"},
    "extra": {"rack": "r1"}, "instance_info": {"image_source": "i"}, "traits": ["CUSTOM_GPU"],
    "ports": [{"address": MAC, "pxe_enabled": True}],
}  # fmt: skip


class Elsewhere(FakeIronic):
    """What adoption asks of Ironic; every verb but `manage` and `adopt` is refused."""

    def __init__(self, refuse: str = "") -> None:
        super().__init__()
        self.verbs: list[str] = []
        self.macs: dict[str, bool] = {}
        self.refuse = refuse

    def create_node(self, **fields: Any) -> None:
        assert fields["instance_info"] == TOLD["instance_info"]
        node = replace(BLANK, uuid=fields["uuid"], name=fields["name"], extra=fields["extra"])
        self.by_uuid[node.uuid] = replace(node, provision_state="enroll", inspected=False)

    def ports(self, uuid: object) -> dict[str, bool]:
        return dict(self.macs)

    def create_port(self, uuid: object, mac: str, pxe_enabled: bool = True) -> None:
        self.macs[mac] = pxe_enabled

    def patch_node(self, uuid: object, changes: dict[str, Any]) -> None:
        assert set(changes) == {"/protected", "/protected_reason"}
        self.verbs.append("protect")

    def provision(self, uuid: object, target: str) -> None:
        self.verbs.append(target)
        follows = {"manage": "manageable", "adopt": "active"}[target]
        if target == self.refuse:
            follows = {"manage": "enroll", "adopt": "adopt failed"}[target]
            self.change(uuid, last_error="no answer")
        self.change(uuid, provision_state=follows)


class Here:
    """The parts that adoption uses."""

    def __init__(self, store: Store, ironic: Elsewhere) -> None:
        self.store, self.ironic = store, ironic
        wire = IPv4Interface("172.22.0.1/24")
        self.pool = Pool(wire, IPv4Address("172.22.0.10"), IPv4Address("172.22.0.20"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path)


def a_bmc(store: Store, **told: Any) -> None:
    bmc = Bmc(
        address="10.0.0.1", protocol="redfish", serial="S1", goal=BmcGoal.ADOPTED,
        node_uuid=uuid4(), node_name="web-1", adoption=TOLD | told,
    )  # fmt: skip
    with store.write() as session:
        session.add(bmc)
        session.add(Hold(node_uuid=bmc.node))


def bmc(store: Store) -> Bmc:
    with store.read() as session:
        return session.exec(select(Bmc)).one()


def step(store: Store, ironic: Elsewhere, again: bool = False) -> Any:
    row = bmc(store)
    adopting = Adopting(Here(store, ironic), row, "redfish", {"a": "b"}, {}, again)  # type: ignore[arg-type]
    return adopting.step(ironic.find_node(row.node))


def until_rest(store: Store, ironic: Elsewhere) -> Any:
    for _ in range(10):
        outcome = step(store, ironic)
        if not isinstance(outcome, Wait):
            return outcome
    raise AssertionError("it never came to rest")


def test_an_active_node_is_adopted_and_protected(store: Store) -> None:
    a_bmc(store)
    ironic = Elsewhere()
    assert until_rest(store, ironic) == Done("active, adopted from bifrost, protected")
    assert ironic.verbs == ["manage", "adopt", "protect"]
    node = ironic.node(bmc(store).node)
    assert node.traits == ("CUSTOM_GPU",)
    assert (node.extra["rack"], node.extra["seed"]["serial"]) == ("r1", "S1")
    with store.read() as session:
        assert session.exec(select(Address.mac)).all() == [MAC], "so that it boots its own disk"
    until_rest(store, ironic)
    assert ironic.verbs.count("protect") == 1


def test_one_that_was_not_active_stays_untouched_until_a_person_says_so(store: Store) -> None:
    a_bmc(store, provision_state="available")
    ironic = Elsewhere()
    rest = until_rest(store, ironic)
    assert "untouched; `seed node retry web-1` boots and inspects it" in rest.detail
    assert ironic.verbs == ["manage"]
    step(store, ironic, again=True)
    assert bmc(store).goal is BmcGoal.MANAGED
    assert ironic.verbs == ["manage"]


@pytest.mark.parametrize("refuse", ["manage", "adopt"])
def test_what_ironic_refuses_waits_for_a_person(store: Store, refuse: str) -> None:
    a_bmc(store)
    ironic = Elsewhere(refuse)
    stuck = until_rest(store, ironic)
    assert isinstance(stuck, Stuck)
    assert "no answer" in stuck.problem
    assert "seed node retry web-1" in stuck.remedy
    ironic.refuse = ""
    ironic.change(bmc(store).node, last_error="")
    step(store, ironic, again=True)
    assert until_rest(store, ironic) == Done("active, adopted from bifrost, protected")
    assert set(ironic.verbs) == {"manage", "adopt", "protect"}
