"""A node's addresses of all networks are in its hand-out; its NICs are known to layouts."""

from pathlib import Path
from uuid import uuid4

import pytest
from sqlmodel import Session, select

from provisioning import addressing, handout, layouts
from provisioning.fabric import Network
from provisioning.models import Address, Bmc, Claim, Order
from provisioning.networks import networks
from provisioning.room import HardwareClass
from provisioning.states import AddressKind
from provisioning.store import Store
from tests.fakes.claims import NETWORKS, an_active_claim
from tests.fakes.fabric import a_layout, a_network
from tests.fakes.hardware import a_class
from tests.fakes.store import new_store

MAC = "52:54:00:00:01:01"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One active claim of one node, on one network beside the first wire."""
    made = new_store(tmp_path)
    an_active_claim(made, count=1)
    with made.write() as session:
        session.add(Network(name="storage", document=a_network().stored()))
        claim = session.exec(select(Claim)).one()
        node = session.exec(select(Bmc)).one().node
        addressing.assign(session, claim.id, a_layout(), networks(session), [(node, 0)])
        order = session.exec(select(Order)).one()
        link = {"name": "bond0.40", "mac": MAC, "addresses": ["10.40.0.10/24"]}
        order.wanted = {"links": [link]}
        session.add(order)
    return made


def handed(session: Session) -> list[tuple[str, str, int | None, str]]:
    claim = session.exec(select(Claim).where(Claim.name == "web")).one()
    (node,) = handout.of_claim(session, claim, "debian", NETWORKS).nodes
    assert node.address == node.addresses[0].address
    return [(a.network, a.address, a.prefix, a.mac) for a in node.addresses]


def test_the_address_it_boots_with_comes_first_then_those_of_networks(store: Store) -> None:
    with store.read() as session:
        assert handed(session) == [
            ("provisioning", "172.22.0.10", 24, MAC),
            ("storage", "10.40.0.10", 24, MAC),
        ]


def test_an_address_of_another_claim_is_never_in_it(store: Store) -> None:
    with store.write() as session:
        node = session.exec(select(Bmc)).one().node
        other = Claim(id=uuid4(), name="other", image="debian", project="theirs")
        session.add(other)
        session.flush()
        session.add(
            Address(
                address="10.40.0.99", network="storage", kind=AddressKind.NODE, node_uuid=node,
                claim_id=other.id,
            )
        )  # fmt: skip
        session.flush()
        assert len(handed(session)) == 2


def test_a_prefix_behind_a_relay_is_the_ranges(store: Store) -> None:
    relayed = {
        "racks": ["r9"], "cidr": "172.22.0.0/20", "gateway": "172.22.0.1",
        "pool": "172.22.0.5-172.22.0.20", "unknown": "172.22.0.30-172.22.0.40",
    }  # fmt: skip
    document = {"name": "row", "role": "provisioning", "relayed": [relayed]}
    with store.write() as session:
        session.add(Network(name="row", document=document))
        session.exec(select(Address).where(Address.kind == AddressKind.BOOT)).one().network = "row"
        session.flush()
        assert handed(session)[0] == ("row", "172.22.0.10", 20, MAC)


def test_what_is_known_of_a_nodes_nics_without_the_bmcs_own(store: Store) -> None:
    with store.write() as session:
        bmc = session.exec(select(Bmc)).one()
        nic_roles = {"fast": {"name": "NIC.Slot.1-2-1"}}
        session.add(HardwareClass(name="storage", document=a_class(nic_roles=nic_roles).stored()))
        bmc.hardware_class = "storage"
        session.flush()
        node = layouts.nics_of(session, bmc)
    first, second = node.nics
    assert (first.mac, first.boot, first.switch, first.port) == (MAC, True, "leaf1", "17")
    assert (second.mac, second.boot, second.switch) == ("52:54:00:00:01:02", False, "leaf2")
    assert (first.roles, second.roles) == (frozenset(), {"fast"})
    assert node.rack == "r4"
    assert bmc.manager_mac not in node.macs
    assert layouts.lacks(a_layout(), node) == []
