"""Layouts: what is refused, which NICs they take, and what each node is told of its wires."""

import json
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as for_any
from hypothesis import strategies as st

from provisioning import wires
from provisioning.class_text import parse_as
from provisioning.errors import Conflict, Invalid
from provisioning.fabric_text import written
from provisioning.layout_doc import LayoutDoc, check
from provisioning.layouts import NodeNic, NodeNics, fill, lacks
from provisioning.network_doc import BootNet
from provisioning.networks import Pool
from tests.fakes.fabric import BOOT, MACS, a_layout, a_network, a_subnet, given, networks, nics

GOLDEN = Path(__file__).parents[1] / "golden" / "wires"
WIRE = BootNet(IPv4Network("172.22.0.0/24"))
API = a_network(
    "api", 30, role="api", dns=["10.30.0.53"], ntp=["10.30.0.123"], domain="lab.example",
    subnets=[
        a_subnet(30),
        {"cidr": "fd00:30::/64", "gateway": "fd00:30::1", "pools": "fd00:30::10-fd00:30::19"},
    ],
)  # fmt: skip
STORAGE = a_network(mtu=9000, subnets=[a_subnet(40, gateway="")])
LEASED = a_network("leased", None, subnets=[{"cidr": "10.60.0.0/24", "addresses": "dhcp"}])
TENANT = a_network("tenant", 50, role="tunnel", subnets=[])
NETS = networks(API, STORAGE, LEASED, TENANT)
LACP = a_layout(
    name="lacp",
    nics={"up": {"count": 2, "boot": True}, "lone": {"names": ["stor0"], "speed_mbps": 25000}},
    bonds=[
        {
            "name": "bond0", "nics": "up", "mode": "802.3ad", "lacp_rate": "fast",
            "xmit_hash_policy": "layer3+4",
        }
    ],
    networks=[
        {"network": "api", "link": "bond0"},
        {"network": "storage", "link": "lone", "native": True},
        {"network": "tenant", "link": "bond0", "bridge": "br-tun"},
    ],
)  # fmt: skip
PLAIN = a_layout(
    name="plain",
    nics={"lone": {}},
    bonds=[],
    networks=[{"network": "leased", "link": "lone"}],
)
BRIDGED = a_layout(
    name="bridged",
    networks=[
        {"network": "provisioning", "link": "bond0", "bridge": "br0"},
        {"network": "storage", "link": "bond0"},
    ],
)
BEHIND = BootNet(
    IPv4Network("172.22.0.0/24"), gateway="172.22.0.254", seed=IPv4Network("172.30.0.0/24"),
    dns=("172.30.0.53",),
)  # fmt: skip
THREE = NodeNics((*nics(2).nics, NodeNic(MACS[2], "enp3s0", speed_mbps=25000)))


def refused(told: dict[str, Any]) -> str:
    with pytest.raises(Invalid) as error:
        check(parse_as(LayoutDoc, written(told), "layout", "a remedy"), NETS)
    assert error.value.remedy
    return str(error.value)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        pytest.param({"nics": {"eth0": {}}}, "could be what the system calls", id="kernel's name"),
        pytest.param({"nics": {"all": {}}}, "could be what the system calls", id="all"),
        pytest.param({"nics": {"Up Link": {}}}, "nics", id="name with a space"),
        pytest.param({"nics": {"a" * 13: {}}}, "nics", id="long name"),
        pytest.param({"nics": {"up": {"names": ["a/b"]}}}, "names", id="a path"),
        pytest.param({"nics": {"up": {"names": ["u" * 16]}}}, "names", id="16 letters"),
        pytest.param({"nics": {"up": {"names": ["a", "b"]}}}, "2 of them for 1 NICs", id="names"),
        pytest.param({"bonds": [], "networks": []}, "only a bond can use", id="two unbonded"),
        pytest.param(
            {"nics": {"up": {"boot": True}, "b": {"boot": True}}}, "one role has", id="two boot"
        ),
        pytest.param({"nics": {"up": {}, "b": {"names": ["up"]}}}, "be called up", id="name twice"),
        pytest.param({"bonds": [{"name": "bond1", "nics": "up"}]}, "first is bond0", id="bond1"),
        pytest.param({"bonds": [{"name": "bond0", "nics": "x"}]}, "which no role is", id="role"),
        pytest.param(
            {"bonds": [{"name": "bond0", "nics": "up", "mode": "802.3ad", "primary": "up0"}]},
            "only an active-backup", id="primary of 802.3ad",
        ),
        pytest.param(
            {"bonds": [{"name": "bond0", "nics": "up", "lacp_rate": "fast"}]},
            "are of 802.3ad", id="LACP of active-backup",
        ),
        pytest.param(
            {"bonds": [{"name": "bond0", "nics": "up", "primary": "x"}]},
            "not one of bond0's", id="primary",
        ),
        pytest.param({"networks": [{"network": "api", "link": "x"}]}, "links are bond0", id="link"),
        pytest.param({"networks": [{"network": "no", "link": "bond0"}]}, "no network no", id="net"),
        pytest.param(
            {"networks": [{"network": "api", "link": "bond0"}] * 2}, "is there twice", id="twice"
        ),
        pytest.param(
            {"networks": [{"network": "leased", "link": "bond0"}]},
            "leased and provisioning are both untagged", id="two untagged",
        ),
        pytest.param(
            {"bonds": [{"name": "bond0", "nics": "up", "mtu": 1500}]},
            "storage's MTU 9000 is more than bond0's 1500", id="MTU",
        ),
        pytest.param({"default_route": "api"}, "is on no link", id="default elsewhere"),
        pytest.param({"default_route": "storage"}, "which has no gateway", id="no gateway"),
        pytest.param(
            {"nics": {"up": {"count": 2, "boot": True}, "lone": {}},
             "networks": [{"network": n, "link": link}
                          for n, link in (("api", "bond0"), ("leased", "lone"))]},
            "api and leased have gateways", id="two defaults",
        ),
        pytest.param(
            {"networks": [{"network": "storage", "link": "bond0", "bridge": "eth1"}]},
            "could be what", id="bridge's name",
        ),
        pytest.param(
            {"nics": {"up": {"count": 2}, "lone": {"boot": True}},
             "networks": [{"network": "provisioning", "link": "bond0"}]},
            "where servers boot", id="boot network elsewhere",
        ),
    ],
)  # fmt: skip
def test_layouts_that_are_refused(facts: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(a_layout().stored() | facts)


# --- NICs -----------------------------------------------------------------------------------------


def test_roles_take_what_fits_and_do_not_starve_each_other() -> None:
    layout = a_layout(
        nics={"any": {}, "fast": {"speed_mbps": {"min": 25000}}}, bonds=[], networks=[]
    )
    both = NodeNics((NodeNic(MACS[0], "a", 25000), NodeNic(MACS[1], "b", 1000)))
    found = fill(layout, both)
    assert (found["any"][0].name, found["fast"][0].name) == ("b", "a")
    assert lacks(layout, both) == []


def test_the_boot_nic_is_only_taken_by_who_says_so() -> None:
    assert [n.mac for n in fill(LACP, THREE)["up"]] == [MACS[0], MACS[1]]
    assert lacks(PLAIN, nics(1)) == ["NIC role lone: 0 of 1 NICs free"]
    other = a_layout(nics={"up": {"count": 2, "boot": True, "name": "ens*"}})
    assert lacks(other, nics(2)) == ["NIC role up: the NIC it boots from is not one of name ens*"]


@pytest.mark.parametrize(
    ("pick", "fits"),
    [
        ({"name": "ENP2*"}, True), ({"name": "eno*"}, False), ({"mac": "52:54:00:c0"}, True),
        ({"mac": "3c:ec"}, False), ({"switch": "leaf*"}, True), ({"switch": "spine*"}, False),
        ({"speed_mbps": {"min": 10000}}, True), ({"speed_mbps": 1000}, False),
        ({"class_role": "fast"}, True), ({"class_role": "slow"}, False),
    ],
)  # fmt: skip
def test_what_a_role_asks_for(pick: dict[str, Any], fits: bool) -> None:
    layout = a_layout(nics={"lone": pick}, bonds=[], networks=[])
    node = nics(2, switch="leaf1", speed_mbps=25000, roles=frozenset({"fast"}))
    assert (lacks(layout, node) == []) is fits


def test_nics_without_a_cable_come_last() -> None:
    layout = a_layout(nics={"lone": {}}, bonds=[], networks=[])
    node = NodeNics((NodeNic(MACS[0], "a", link=False), NodeNic(MACS[1], "b", link=True)))
    assert fill(layout, node)["lone"][0].name == "b"


def test_lacp_wants_one_speed() -> None:
    node = NodeNics(
        (NodeNic(MACS[0], "a", 1000, boot=True), NodeNic(MACS[1], "b", 10000), *THREE.nics[2:])
    )
    assert lacks(LACP, node) == [
        "bond0: 802.3ad bonds links of one speed, these have 1000 and 10000 Mbit/s"
    ]


# --- what a node is told --------------------------------------------------------------------------


def told(layout: LayoutDoc | None, boot_net: BootNet = WIRE, node: NodeNics = THREE) -> str:
    made = wires.render(layout, NETS, node, BOOT, boot_net, given(*NETS.values()))
    head = {
        "network_data": made.network_data, "links": made.links, "routes": made.routes,
        "dns": made.dns, "ntp": made.ntp,
    }  # fmt: skip
    files = "".join(f"\n=== {f.path} {f.mode:o}\n{f.content}" for f in made.files)
    return json.dumps(head, indent=1) + "\n" + files


@pytest.mark.parametrize(
    ("name", "layout", "boot_net"),
    [
        ("none", None, WIRE), ("none-behind-a-relay", None, BEHIND), ("lacp", LACP, WIRE),
        ("plain-and-dhcp", PLAIN, WIRE), ("bridged-boot-mtu", BRIDGED, BEHIND),
    ],
)  # fmt: skip
def test_what_a_node_is_told_is_the_golden_one(
    name: str, layout: LayoutDoc | None, boot_net: BootNet
) -> None:
    if layout:
        check(layout, NETS)
    assert told(layout, boot_net) == (GOLDEN / name).read_text()


def test_without_a_layout_it_is_what_it_always_was() -> None:
    pool = Pool(IPv4Interface("172.22.0.1/24"), IPv4Address("172.22.0.2"), IPv4Address(2**31))
    assert wires.render(None, {}, THREE, BOOT, WIRE).network_data == pool.network_data(BOOT)


def test_a_node_without_its_address_or_its_nics_is_told_nothing() -> None:
    with pytest.raises(Conflict, match="was given no address of storage in 10"):
        wires.render(a_layout(), NETS, nics(2), BOOT, WIRE, [])
    with pytest.raises(Conflict, match="layout bonded does not fit: NIC role up"):
        wires.render(a_layout(), NETS, nics(1), BOOT, WIRE, given(STORAGE))


layouts = st.fixed_dictionaries(
    {
        "name": st.just("any"),
        "nics": st.dictionaries(
            st.sampled_from(["up", "lone", "stor", "x"]),
            st.fixed_dictionaries({}, optional={
                "count": st.integers(1, 3), "boot": st.booleans(),
                "mtu": st.sampled_from([1500, 9000]),
            }),
            min_size=1, max_size=3,
        ),
        "bonds": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["bond0", "bond1"]),
                 "nics": st.lists(st.sampled_from(["up", "lone", "stor"]), min_size=1, max_size=2)},
                optional={"mode": st.sampled_from(["active-backup", "802.3ad"])},
            ),
            max_size=2,
        ),
        "networks": st.lists(
            st.fixed_dictionaries(
                {"network": st.sampled_from([*NETS, "provisioning"]),
                 "link": st.sampled_from(["bond0", "bond1", "up", "lone", "stor", "x"])},
                optional={"native": st.booleans(), "bridge": st.sampled_from(["br0", "br1"])},
            ),
            max_size=4,
        ),
        "default_route": st.sampled_from(["", "api", "leased", "provisioning"]),
    }
)  # fmt: skip


@for_any(layouts)
def test_any_layout_is_refused_in_words_or_says_each_link_and_address_once(
    told: dict[str, Any],
) -> None:
    node = nics(5)
    try:
        layout = parse_as(LayoutDoc, written(told), "layout", "a remedy")
        check(layout, NETS)
        made = wires.render(layout, NETS, node, BOOT, WIRE, given(*NETS.values()))
    except (Invalid, Conflict) as error:
        said = str(error)
    else:
        said = ""
        data = made.network_data
        ids = [link["id"] for link in data["links"]]
        assert len(set(ids)) == len(ids)
        assert {n["link"] for n in data["networks"]} <= set(ids)
        own = [n["ip_address"] for n in data["networks"] if "ip_address" in n]
        assert len(set(own)) == len(own)
        assert BOOT.address in own
        names = [link["name"] for link in made.links if "name" in link]
        assert len(set(names)) == len(names)
        assert max(map(len, names), default=0) <= 15
        assert len({file.path for file in made.files}) == len(made.files)
    assert "\n" not in said
