"""What networks may be: no overlap with anything Seed serves, and no change under who relies on it.

Addresses are given once, and VIPs and reservations never cross a node's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from uuid import uuid4

import pytest
from sqlmodel import Session, select

from provisioning import addressing, fabric_rules, holders, relay
from provisioning.errors import Conflict, Invalid, NotFound, SeedError
from provisioning.fabric_rules import Served
from provisioning.models import Address, Bmc, Claim
from provisioning.network_doc import NetworkDoc
from provisioning.networks import Pool, networks
from provisioning.room import Slot
from provisioning.states import AddressKind
from provisioning.store import Store
from tests.fakes.fabric import a_layout, a_network, a_subnet
from tests.fakes.store import new_store

SERVED = Served(
    {
        "management": IPv4Interface("172.22.2.1/24"),
        "provisioning": IPv4Interface("172.22.0.1/24"),
        "out-of-band": IPv4Interface("172.22.1.1/24"),
    }
)
POOL = Pool(
    IPv4Interface("172.22.0.1/24"), IPv4Address("172.22.0.10"), IPv4Address("172.22.0.99"),
    relay.of_node,
)  # fmt: skip
BEHIND = {
    "racks": ["r3"], "cidr": "10.3.0.0/24", "gateway": "10.3.0.1",
    "pool": "10.3.0.10-10.3.0.11", "unknown": "10.3.0.200-10.3.0.220",
}  # fmt: skip
ROW3 = NetworkDoc.model_validate({"name": "row3", "role": "provisioning", "relayed": [BEHIND]})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path)


def put(store: Store, doc: NetworkDoc) -> None:
    with store.write() as session:
        fabric_rules.put(session, doc, "ann", SERVED)


@contextmanager
def refused(words: str, kind: type[SeedError] = Conflict) -> Iterator[None]:
    with pytest.raises(kind, match=words) as error:
        yield
    assert error.value.remedy


def a_claim(session: Session, **facts: object) -> Claim:
    told = {"name": "web", "image": "debian", "layout_document": a_layout().stored()} | facts
    claim = Claim(**told)
    session.add(claim)
    session.flush()
    return claim


@pytest.mark.parametrize(
    ("doc", "words"),
    [
        (a_network(subnets=[a_subnet(9, cidr="172.16.0.0/12", pools=["172.16.0.5"], gateway="")]),
         r"subnets.0.cidr: 172.16.0.0/12 overlaps with 172.22.2.0/24, Seed's management"),
        (a_network(subnets=[{"cidr": "172.22.0.128/25", "pools": "172.22.0.130"}]),
         "Seed's provisioning network"),
        (a_network(subnets=[{"cidr": "172.22.1.0/28", "pools": "172.22.1.2"}]),
         "Seed's out-of-band network"),
        (a_network("other", 41, subnets=[a_subnet(40)]), "network storage's"),
        (a_network("other", 40, subnets=[a_subnet(41)]), "vlan: 40 is network storage's"),
        (a_network("other", 41, subnets=[a_subnet(99)]), "10.99.0.7, the address of a BMC"),
        (NetworkDoc.model_validate({"name": "row4", "role": "provisioning", "relayed": [
            BEHIND | {"cidr": "10.40.0.0/24", "gateway": "10.40.0.1", "pool": "10.40.0.10",
                      "unknown": "10.40.0.20"}]}), "relayed.0.cidr: 10.40.0.0/24 overlaps"),
    ],
)  # fmt: skip
def test_an_overlap_with_anything_seed_serves_is_refused_and_nothing_kept(
    store: Store, doc: NetworkDoc, words: str
) -> None:
    put(store, a_network())
    with store.write() as session:
        session.add(Bmc(address="10.99.0.7", protocol="redfish"))
    with refused(words):
        put(store, doc)
    with store.read() as session:
        assert list(networks(session)) == ["storage"]


def test_the_same_document_again_changes_nothing_and_says_nothing(store: Store) -> None:
    put(store, a_network())
    with store.write() as session:
        first = fabric_rules.put(session, a_network(), "bob", SERVED)
        assert first.put_by == "ann"


def test_each_node_gets_one_address_of_each_subnet_and_keeps_it(store: Store) -> None:
    put(store, a_network())
    nodes = [(uuid4(), n) for n in range(3)]
    with store.write() as session:
        holders.reserve(session, "storage", "10.40.0.11", "old filer", "ann")
        claim = a_claim(session)
        for _ in range(2):
            addressing.assign(session, claim.id, a_layout(), networks(session), nodes)
        found = [addressing.of_node(session, node)[0].address for node, _ in nodes]
    assert found == ["10.40.0.10", "10.40.0.12", "10.40.0.13"]


def test_an_empty_pool_is_said_and_nobody_got_anything(store: Store) -> None:
    put(store, a_network())
    put(store, a_network("api", 30))
    layout = a_layout(
        networks=[{"network": name, "link": "bond0"} for name in ("api", "storage")],
        default_route="api",
    )
    with store.write() as session:
        holders.reserve(session, "storage", "10.40.0.15", "", "ann")
        claim = a_claim(session)
        nodes = [(uuid4(), n) for n in range(10)]
        with refused("network storage has too few free addresses in 10.40.0.0/24 for 10 nodes"):
            addressing.assign(session, claim.id, layout, networks(session), nodes)
        assert session.exec(select(Address).where(Address.kind == AddressKind.NODE)).all() == []


def test_addresses_are_free_again_for_others(store: Store) -> None:
    put(store, a_network())
    one, two = (uuid4(), 0), (uuid4(), 1)
    with store.write() as session:
        claim = a_claim(session)
        addressing.assign(session, claim.id, a_layout(), networks(session), [one, two])
        addressing.free(session, claim_id=claim.id, node_uuid=one[0])
        other = (uuid4(), 0)
        addressing.assign(session, claim.id, a_layout(), networks(session), [other])
        assert addressing.of_node(session, other[0])[0].address == "10.40.0.10"
        addressing.free(session, claim_id=claim.id)
        assert session.exec(select(Address)).all() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mtu": 9000}, "is in use: 10.40.0.10 of it is a node's"),
        ({"vlan": 41}, "is in use"),
        ({"subnets": [a_subnet(40, gateway="10.40.0.2")]}, "is in use"),
        ({"subnets": [a_subnet(41)]}, "is in use"),
        ({"subnets": [a_subnet(40, pools=["10.40.0.11-10.40.0.40"])]},
         "10.40.0.10 is given and would be outside"),
    ],
)  # fmt: skip
def test_what_a_node_relies_on_does_not_change(
    store: Store, change: dict[str, object], words: str
) -> None:
    put(store, a_network())
    with store.write() as session:
        claim = a_claim(session)
        addressing.assign(session, claim.id, a_layout(), networks(session), [(uuid4(), 0)])
    with refused(words):
        put(store, a_network(**change))
    with refused("is in use"), store.write() as session:
        fabric_rules.delete(session, "storage", "ann")
    put(store, a_network(subnets=[a_subnet(40, pools=["10.40.0.10-10.40.0.40"])]))


def test_a_living_claim_without_addresses_yet_counts_too(store: Store) -> None:
    put(store, a_network())
    with store.write() as session:
        claim = a_claim(session)
    with refused("a living claim is on it"):
        put(store, a_network(mtu=9000))
    with store.write() as session:
        session.get_one(Claim, claim.id).ended_at = claim.created_at
    put(store, a_network(mtu=9000))


def test_a_network_that_a_layout_names_stays_and_stays_fit_for_it(store: Store) -> None:
    put(store, a_network())
    small = a_layout(bonds=[{"name": "bond0", "nics": ["up"], "mtu": 1500}])
    with store.write() as session:
        fabric_rules.put_layout(session, small, "ann")
    with refused("then a layout would be wrong: layout bonded: storage's MTU 9000"):
        put(store, a_network(mtu=9000))
    with refused("layout bonded uses network storage"), store.write() as session:
        fabric_rules.delete(session, "storage", "ann")
    with store.write() as session:
        fabric_rules.delete_layout(session, "bonded", "ann")
        fabric_rules.delete(session, "storage", "ann")
        assert networks(session) == {}


def test_a_layout_of_an_unknown_network_is_refused(store: Store) -> None:
    with refused("there is no network storage", Invalid), store.write() as session:
        fabric_rules.put_layout(session, a_layout(), "ann")


# --- VIPs and reservations ------------------------------------------------------------------------


def test_vips_of_the_document_and_by_themselves(store: Store) -> None:
    put(store, a_network(vips={"filer": "10.40.0.200"}))
    with store.write() as session:
        chosen = holders.vip(session, "storage", "kube-api", "", "ann")
        assert chosen.address == "10.40.0.2"  # .1 is the gateway
        assert holders.vip(session, "storage", "kube-api", "", "ann").address == chosen.address
        assert holders.vip(session, "storage", "next", "", "ann").address == "10.40.0.3"
        with refused("is the VIP filer"):
            holders.vip(session, "storage", "other", "10.40.0.200", "ann")
        with refused("is in the pool", Invalid):
            holders.vip(session, "storage", "other", "10.40.0.12", "ann")
        with refused("a VIP of the network's own document"):
            holders.release(session, "storage", "10.40.0.200", "ann")
    with refused("vips.x: 10.40.0.2 is the VIP kube-api already"):
        put(store, a_network(vips={"x": "10.40.0.2"}))
    with refused("has a VIP kube-api already: 10.40.0.2"):
        put(store, a_network(vips={"kube-api": "10.40.0.77"}))
    with refused("VIP kube-api: 10.40.0.2 is in the pool"):
        put(store, a_network(subnets=[a_subnet(40, pools=["10.40.0.2-10.40.0.9"])]))
    put(store, a_network())
    with store.read() as session:
        labels = {row.label for row in holders.held(session, "storage", AddressKind.VIP)}
    assert labels == {"kube-api", "next"}


def test_reservations_are_of_the_network_and_of_nobody(store: Store) -> None:
    put(store, a_network())
    node = uuid4()
    with store.write() as session:
        claim = a_claim(session)
        addressing.assign(session, claim.id, a_layout(), networks(session), [(node, 0)])
        with refused("10.40.0.10 is a node's"):
            holders.reserve(session, "storage", "10.40.0.10", "", "ann")
        with refused("not within storage's subnets", Invalid):
            holders.reserve(session, "storage", "10.41.0.10", "", "ann")
        with refused("is not an address", Invalid):
            holders.reserve(session, "storage", "10.40.0.\u0661", "", "ann")
        holders.reserve(session, "storage", "10.40.0.11", "first", "ann")
        assert holders.reserve(session, "storage", "10.40.0.11", "then", "ann").label == "then"
        with refused("10.40.0.10 is a node's"):
            holders.release(session, "storage", "10.40.0.10", "ann")
        holders.release(session, "storage", "10.40.0.11", "ann")
        with refused("nobody has 10.40.0.11", NotFound):
            holders.release(session, "storage", "10.40.0.11", "ann")


# --- behind relays --------------------------------------------------------------------------------


def a_server(session: Session, serial: str, rack: str) -> Bmc:
    bmc = Bmc(address=f"192.0.2.{len(serial)}", protocol="fake", serial=serial, node_uuid=uuid4())
    session.add(bmc)
    session.add(Slot(site="ams", row="b", rack=rack, unit=1, serial=serial))
    session.flush()
    return bmc


def test_a_node_boots_in_the_range_of_its_rack(store: Store) -> None:
    put(store, ROW3)
    with store.write() as session:
        far, near = a_server(session, "SN-0001", "R3"), a_server(session, "SN-00002", "r4")
        one = POOL.reserve(session, "52:54:00:00:00:01", far.node)
        two = POOL.reserve(session, "52:54:00:00:00:02", near.node)
        assert (one.address, one.network) == ("10.3.0.10", "row3")
        assert (two.address, two.network) == ("172.22.0.10", "provisioning")
        assert POOL.reserve(session, "52:54:00:00:00:01", far.node).address == one.address
        net = POOL.boot_net(networks(session), one)
        assert (str(net.net), net.gateway, str(net.seed)) == (
            "10.3.0.0/24", "10.3.0.1", "172.22.0.0/24",
        )  # fmt: skip
        assert POOL.boot_net(networks(session), two).gateway == ""
        POOL.reserve(session, "52:54:00:00:00:03", far.node)
        with refused("no address is left between 10.3.0.10 and 10.3.0.11"):
            POOL.reserve(session, "52:54:00:00:00:04", far.node)
    with refused("row3: 10.3.0.10 is given and would be outside"):
        put(store, ROW3.model_copy(update={"relayed": ()}))


def test_the_first_wire_may_have_ranges_too_and_keeps_what_nodes_boot_with(store: Store) -> None:
    wire = NetworkDoc.model_validate(
        {"name": "provisioning", "role": "provisioning", "dns": ["10.3.0.53"], "relayed": [BEHIND]}
    )
    put(store, wire)
    with store.write() as session:
        far, near = a_server(session, "SN-0001", "r3"), a_server(session, "SN-00002", "r4")
        for number, bmc in enumerate((far, near), 1):
            row = POOL.reserve(session, f"52:54:00:00:00:0{number}", bmc.node)
            assert POOL.reserve(session, row.mac or "", bmc.node) == row
            assert POOL.boot_net(networks(session), row).dns == ("10.3.0.53",)
    with refused("provisioning: 10.3.0.10 is given and would be outside"):
        put(store, wire.model_copy(update={"relayed": ()}))
    with refused("is in use: 10.3.0.10 of it is a node's"), store.write() as session:
        fabric_rules.delete(session, "provisioning", "ann")


def test_a_node_that_the_rack_plan_moved_away_is_said(store: Store) -> None:
    with store.write() as session:
        far = a_server(session, "SN-0001", "r3")
        POOL.reserve(session, "52:54:00:00:00:01", far.node)
    with refused("a node in rack ams/b/r3 boots with 172.22.0.10, not in 10.3.0.0/24"):
        put(store, ROW3)
    with store.write() as session:
        session.delete(session.exec(select(Slot)).one())
    put(store, ROW3)
    with store.write() as session:
        session.add(Slot(site="ams", row="b", rack="r3", unit=1, serial="SN-0001"))
    with refused("the rack plan says that it is 10.3.0.0/24 of network row3"):
        with store.write() as session:
            POOL.reserve(session, "52:54:00:00:00:01", far.node)


def test_what_servers_boot_with_stays_when_the_first_wire_s_document_goes(store: Store) -> None:
    put(store, NetworkDoc(name="provisioning", role="provisioning", ntp=("10.0.0.1",)))
    with store.write() as session:
        session.add(Address(address="172.22.0.9", mac="52:54:00:00:00:09", node_uuid=uuid4()))
    with store.write() as session:
        fabric_rules.delete(session, "provisioning", "me")
    with store.read() as session:
        assert [row.address for row in session.exec(select(Address))] == ["172.22.0.9"]
