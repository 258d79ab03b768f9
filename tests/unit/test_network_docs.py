"""Documents of networks: what is taken, and what is refused in which words."""

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioning.class_text import parse_as
from provisioning.errors import Invalid
from provisioning.fabric_text import written
from provisioning.network_doc import NetworkDoc
from tests.fakes.fabric import a_network, a_subnet

V6 = {"cidr": "fd00:40::/64", "gateway": "fd00:40::1", "pools": "fd00:40::10-fd00:40::1f"}
RELAYED = {
    "racks": "r3", "cidr": "10.3.0.0/24", "gateway": "10.3.0.1",
    "pool": "10.3.0.10-10.3.0.99", "unknown": "10.3.0.200-10.3.0.220",
}  # fmt: skip


def refused(**facts: Any) -> str:
    """Through YAML, as it comes."""
    told: dict[str, Any] = {"name": "storage", "role": "storage", "subnets": [a_subnet(40)]}
    with pytest.raises(Invalid) as error:
        parse_as(NetworkDoc, written(told | facts), "network", "a remedy")
    assert error.value.remedy
    return str(error.value)


def test_a_whole_document_is_taken_and_comes_back_the_same() -> None:
    text = """\
name: storage
role: storage
vlan: 40
mtu: 9000
subnets:
- cidr: 10.40.0.0/24
  gateway: 10.40.0.1
  pools: 10.40.0.10-10.40.0.99
  exclude: 10.40.0.50
  routes:
  - to: 10.41.0.0/16
    via: 10.40.0.254
- cidr: fd00:40::/64
  addresses: slaac
dns:
- 10.40.0.53
ntp:
- ntp.example.org
domain: example.org
vips:
  filer: 10.40.0.200
"""
    doc = parse_as(NetworkDoc, text, "network", "a remedy")
    assert (doc.vlan, doc.mtu, len(doc.subnets)) == (40, 9000, 2)
    assert parse_as(NetworkDoc, written(doc.stored()), "network", "a remedy") == doc


def test_free_addresses_leave_out_the_exclusions() -> None:
    doc = a_network(
        subnets=[a_subnet(40, exclude=["10.40.0.11-10.40.0.17", "10.40.0.19", "10.40.0.128/25"])]
    )
    assert [str(a) for a in doc.subnets[0].free()] == ["10.40.0.10", "10.40.0.18"]


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        pytest.param({"vlan": 0}, "vlan", id="no VLAN"),
        pytest.param({"vlan": 4095}, "vlan", id="reserved VLAN"),
        pytest.param({"vlan": "\u0664\u0660"}, "vlan: a whole number", id="other digits"),
        pytest.param({"mtu": 9217}, "mtu", id="MTU above 9216"),
        pytest.param({"mtu": 575}, "mtu", id="MTU below 576"),
        pytest.param({"mtu": 10**30}, "mtu", id="absurd MTU"),
        pytest.param({"mtu": 1279, "subnets": [V6]}, "1280 that IPv6 needs", id="MTU for IPv6"),
        pytest.param({"colour": "red"}, "colour: there is no such key", id="unknown key"),
        pytest.param({"role": "fun"}, "role", id="unknown role"),
        pytest.param({"name": "out-of-band"}, "Seed's own wires", id="own wire"),
        pytest.param({"name": "provisioning"}, "its role is provisioning", id="the first wire"),
        pytest.param({"relayed": [RELAYED]}, "its role is provisioning", id="relay elsewhere"),
        pytest.param(
            {"role": "provisioning", "name": "x"}, "subnets: a provisioning", id="boot subnets"
        ),
        pytest.param(
            {"role": "provisioning", "name": "x", "subnets": []}, "relayed", id="no relay"
        ),
        pytest.param({"subnets": [a_subnet(40), a_subnet(41)]}, "two of IPv4", id="two subnets"),
        pytest.param({"dns": ["dns.example"]}, "dns.0: 'dns.example' is not an", id="DNS by name"),
        pytest.param({"ntp": ["a b"]}, "ntp.0", id="NTP with a space"),
        pytest.param({"ntp": ["10.0.0.300"]}, "ntp.0", id="broken NTP address"),
        pytest.param({"domain": "a;reboot"}, "not a domain", id="domain"),
        pytest.param({"vips": {"a": "10.40.0.12"}}, "vips.a: 10.40.0.12 is in the pool", id="VIP"),
        pytest.param({"vips": {"a": "10.40.0.1"}}, "is the gateway", id="VIP is the gateway"),
        pytest.param({"vips": {"a": "10.9.0.1"}}, "not within storage's", id="VIP elsewhere"),
        pytest.param({"vips": {"a": "10.40.0.255"}}, "broadcast", id="VIP is the broadcast"),
        pytest.param(
            {"vips": {"a": "10.40.0.99", "b": "10.40.0.99"}}, "is the VIP a too", id="VIP twice"
        ),
        pytest.param({"vips": {"A b": "10.40.0.99"}}, "vips", id="VIP's name"),
    ],
)
def test_networks_that_are_refused(facts: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(**facts)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        pytest.param({"cidr": "10.40.0.5/24"}, "host bits set: the network is 10", id="host bits"),
        pytest.param({"cidr": "10.40.0.0/255.255.255.0"}, "not a network", id="netmask"),
        pytest.param({"cidr": "10.40.0.0"}, "not a network", id="no prefix"),
        pytest.param({"cidr": "10.40.0.0/33"}, "not a network", id="no such prefix"),
        pytest.param({"cidr": "10.40.0.0/31"}, "/8 to /30", id="too small"),
        pytest.param({"cidr": "::ffff:10.40.0.0/120"}, "IPv4 written as IPv6", id="mapped"),
        pytest.param({"cidr": "fe80::/64"}, "no server can have", id="link-local"),
        pytest.param({"cidr": "127.0.0.0/8"}, "no server can have", id="loopback"),
        pytest.param({"cidr": "224.0.0.0/24"}, "no server can have", id="multicast"),
        pytest.param({"cidr": "0.0.0.0/8"}, "no server can have", id="this network"),
        pytest.param({"cidr": "\u0661\u0660.40.0.0/24"}, "not a network", id="other digits"),
        pytest.param({"cidr": "10.40.0.0/24; rm"}, "not a network", id="a command"),
        pytest.param({"gateway": "10.41.0.1"}, "gateway: 10.41.0.1 is not within", id="gateway"),
        pytest.param({"gateway": "10.40.0.255"}, "is the broadcast", id="broadcast"),
        pytest.param({"gateway": "fe80::1%eth0"}, "not an address", id="with a scope"),
        pytest.param({"pools": []}, "it needs a pool", id="no pool"),
        pytest.param({"pools": "10.41.0.5"}, "pools: 10.41.0.5-10.41.0.5 is not", id="elsewhere"),
        pytest.param({"pools": "10.40.0.0-10.40.0.9"}, "the network's address", id="network"),
        pytest.param({"pools": "10.40.0.250-10.40.0.255"}, "the broadcast", id="pool to the end"),
        pytest.param({"pools": "10.40.0.1-10.40.0.9"}, "10.40.0.1, the gateway", id="in the pool"),
        pytest.param({"pools": "10.40.0.9-10.40.0.5"}, "from a first to a last", id="backwards"),
        pytest.param({"pools": "10.40.0.5-fd00::9"}, "from a first to a last", id="two families"),
        pytest.param(
            {"pools": ["10.40.0.5-10.40.0.9", "10.40.0.9-10.40.0.12"]}, "overlap", id="overlap"
        ),
        pytest.param({"exclude": "10.41.0.0/24"}, "exclude: 10.41", id="excludes elsewhere"),
        pytest.param({"exclude": "10.40.0.0/24"}, "leaves no address", id="excludes all"),
        pytest.param({"addresses": "dhcp"}, "gives no addresses where they are dhcp", id="dhcp"),
        pytest.param({"addresses": "slaac", "pools": []}, "IPv6 networks of /64", id="slaac"),
        pytest.param({"routes": [{"to": "0.0.0.0/0", "via": "10.40.0.9"}]}, "`gateway`", id="all"),
        pytest.param({"routes": [{"to": "10.0.0.0/24", "via": "10.9.0.9"}]}, "10.9.0.9", id="via"),
        pytest.param({"routes": [{"to": "fd00::/64", "via": "10.40.0.9"}]}, "reached", id="family"),
    ],
)  # fmt: skip
def test_subnets_that_are_refused(facts: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(subnets=[a_subnet(40) | facts])


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        pytest.param({"gateway": ""}, "gateway", id="no gateway"),
        pytest.param({"gateway": "10.4.0.1"}, "gateway: 10.4.0.1 is not within", id="elsewhere"),
        pytest.param({"unknown": "10.3.0.90-10.3.0.110"}, "overlap", id="unknown in the pool"),
        pytest.param({"unknown": "10.3.0.0-10.3.0.5"}, "holds 10.3.0.0", id="unknown at the start"),
        pytest.param({"pool": "10.3.0.1-10.3.0.5"}, "the gateway", id="pool holds the gateway"),
        pytest.param({"racks": []}, "racks", id="no rack"),
        pytest.param({"racks": ["r3", "R3"]}, "named twice", id="a rack twice"),
        pytest.param({"cidr": "fd00::/64"}, "by IPv4", id="IPv6"),
    ],
)
def test_relayed_ranges_that_are_refused(facts: dict[str, Any], sentence: str) -> None:
    told = {"name": "row3", "role": "provisioning", "relayed": [RELAYED | facts]}
    assert sentence in refused(subnets=[], **told)


texts = st.sampled_from(
    ["10.40.0.0/24", "10.40.0.1", "10.40.0.10-10.40.0.99", "10.40.0.200", "fd00:40::/64",
     "fd00:40::5-fd00:40::9", "::ffff:1.2.3.4", "10.40.0.99", "\u0661", "", "0.0.0.0/0", "1e9"]
) | st.text(max_size=20)  # fmt: skip
numbers = st.integers(-1, 10_000) | st.just(10**40) | texts


@given(
    st.fixed_dictionaries(
        {"name": texts | st.just("n"), "role": st.sampled_from(["storage", "provisioning", "x"])},
        optional={
            "vlan": numbers, "mtu": numbers, "domain": texts,
            "dns": st.lists(texts, max_size=2), "ntp": st.lists(texts, max_size=2),
            "vips": st.dictionaries(texts | st.just("a"), texts, max_size=2),
            "subnets": st.lists(
                st.fixed_dictionaries(
                    {"cidr": texts, "pools": texts | st.lists(texts, max_size=3)},
                    optional={
                        "gateway": texts, "exclude": texts,
                        "addresses": st.sampled_from(["static", "dhcp", "slaac"]),
                    },
                ),
                max_size=2,
            ),
        },
    )
)  # fmt: skip
def test_any_document_is_refused_in_words_or_gives_no_address_that_is_taken(
    told: dict[str, Any],
) -> None:
    try:
        doc = parse_as(NetworkDoc, written(told), "network", "a remedy")
    except Invalid as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert "\n" not in said
        return
    for subnet in doc.subnets:
        given_ones = [address for _, address in zip(range(300), subnet.free(), strict=False)]
        assert len(set(given_ones)) == len(given_ones)
        never = {*subnet.taken, *map(ip_address, doc.vips.values())}
        assert not never & set(given_ones)
        assert all(address in subnet.net for address in given_ones)
