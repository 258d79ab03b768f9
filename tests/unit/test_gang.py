"""A claim of many nodes: one call tells of all, each is acted on once, and what is old is not used.

Ironic in memory; the real thing is in tests/integration/test_crashes.py.
"""

from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlmodel import select

from provisioning.authority import Authority
from provisioning.bmc import Access
from provisioning.claim_steps import Claiming
from provisioning.errors import Conflict, IronicUnavailable
from provisioning.models import Address, Bmc, Claim, Credential, Hold, Order
from provisioning.networks import Pool
from provisioning.outcome import Move, Wait
from provisioning.parts import Parts
from provisioning.secrets import Sealer
from provisioning.states import BmcGoal, ClaimState, Login
from tests.fakes.crashing import FakeBmc, NoWire, an_image, identity_of
from tests.fakes.ironic import FakeIronic
from tests.fakes.store import new_store

NODES = 20


class Deploying(FakeIronic):
    """Deploys when told to, and refuses what is not available, as the real one."""

    def __init__(self) -> None:
        super().__init__()
        self.down_at = 0
        self.deployed: list[str] = []

    def ports(self, uuid: object) -> dict[str, bool]:
        return {identity_of(f"192.0.2.{UUID(str(uuid)).int}").macs[0]: True}

    def patch_node(self, uuid: object, changes: dict[str, Any]) -> None:
        self._change(uuid)

    def provision(
        self, uuid: object, target: str, config_drive: Any = None, steps: Any = ()
    ) -> None:
        node = self.by_uuid[str(uuid)]
        if (target, node.provision_state) != ("active", "available"):
            raise Conflict(f"{node.name} is {node.provision_state}", "seed node list")
        if len(self.deployed) == self.down_at - 1:
            raise IronicUnavailable("Ironic is down", "seed status")
        self.deployed.append(node.name)
        self._change(uuid, provision_state="deploying")


class Site:
    def __init__(self, base: Path) -> None:
        self.store, self.ironic = new_store(base), Deploying()
        (base / "ca.pem").write_text("-")
        self.parts = Parts(
            store=self.store, ironic=self.ironic, protocols={"fake": FakeBmc()},
            access=lambda login: Access(login.username, SecretStr("x"), "mark"),
            sealer=Sealer(base / "master.pub"), authority=Authority(base / "k", base / "c"),
            token=lambda purpose: f"token-{purpose}",
            pool=Pool(IPv4Interface("172.22.0.1/24"), IPv4Address("172.22.0.10"),
                      IPv4Address("172.22.0.99")),
            boot=NoWire(), ca_dir=base, image=an_image, boot_url="http://172.22.0.1",
            gateway_url="https://172.22.0.1", gateway_ca=base / "ca.pem",
        )  # fmt: skip
        with self.store.write() as session:
            claim = Claim(name="web", count=NODES, image="debian", ssh_keys=["k"])
            login = Credential(name="fake", username="u", sealed=b"x")
            session.add_all([claim, login])
            session.flush()
            self.claim = claim
            for n in range(1, NODES + 1):
                uuid, who = UUID(int=n), identity_of(f"192.0.2.{n}")
                self.ironic.add(f"sn-{n}", uuid)
                session.add(
                    Bmc(address=f"192.0.2.{n}", protocol="fake", serial=who.serial,
                        system_uuid=who.system_uuid, macs=list(who.macs), node_uuid=uuid,
                        node_name=f"sn-{n}", goal=BmcGoal.AVAILABLE, login=Login.OK,
                        credential_id=login.id)
                )  # fmt: skip
                session.add(Hold(node_uuid=uuid, claim_id=claim.id, position=n - 1, generation=1))
                session.add(Address(address=f"172.22.0.{9 + n}", mac=who.macs[0], node_uuid=uuid))
        self.parts.watch.look(busy=True)
        self.ironic.asked.clear()

    def step(self) -> Any:
        outcome = Claiming(self.parts).step(self.claim)
        if isinstance(outcome, Move):
            self.claim.state = outcome.state
        return outcome

    def orders(self) -> list[Order]:
        with self.store.read() as session:
            return list(session.exec(select(Order)).all())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_gang_is_deployed_and_waited_for_without_asking_for_each_node(site: Site) -> None:
    assert site.step() == Move(ClaimState.ALLOCATED)
    assert len(site.ironic.allocated("baremetal")) == NODES
    site.ironic.asked.clear()
    assert site.step() == Move(ClaimState.DEPLOYING)
    assert sorted(site.ironic.deployed) == sorted(f"sn-{n}" for n in range(1, NODES + 1))
    waits = site.step()
    assert isinstance(waits, Wait)
    assert waits.detail.endswith(f"and {NODES - 8} more")
    for n in range(1, NODES + 1):
        site.ironic.change(UUID(int=n), provision_state="active")
    site.parts.watch.look(busy=True)
    assert site.step() == Move(ClaimState.PROVING)
    assert set(site.ironic.asked) == {"changes"}
    assert len(site.orders()) == NODES
    assert all(order.ironic_done_at for order in site.orders())


def test_what_was_seen_before_the_deploy_began_does_not_begin_it_again(site: Site) -> None:
    site.step()
    site.step()
    assert len(site.ironic.deployed) == NODES
    site.ironic.touched.clear()  # as after kill -9: the next life knows nothing and looks anew
    site.parts.watch._forget()
    site.step()
    assert len(site.ironic.deployed) == NODES


def test_a_gang_whose_deploy_was_cut_off_is_deployed_to_its_end_with_the_same_orders(
    site: Site,
) -> None:
    site.step()
    site.ironic.down_at = 6
    with pytest.raises(IronicUnavailable):
        site.step()
    begun, first = len(site.ironic.deployed), {o.id for o in site.orders()}
    assert 0 < begun < NODES
    site.ironic.down_at = 0
    assert site.step() == Move(ClaimState.DEPLOYING)
    assert len(site.ironic.deployed) == len(set(site.ironic.deployed)) == NODES
    assert {o.id for o in site.orders()} == first


def test_one_stranger_in_a_gang_keeps_all_disks_untouched(site: Site) -> None:
    site.step()
    with site.store.write() as session:
        session.exec(select(Bmc).where(Bmc.node_name == "sn-7")).one().serial = "ANOTHER"
    with pytest.raises(Conflict, match=r"says serial FAKE-7, sn-7 was accepted with ANOTHER"):
        site.step()
    assert site.ironic.deployed == []
    assert site.orders() == []
