"""Ranges, MACs, names and the address pool: what is taken, and what is refused in which words."""

import re
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_address
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from provisioning.errors import Conflict, Invalid
from provisioning.models import Address
from provisioning.names import HostLabel, Name
from provisioning.networks import Pool, mac
from provisioning.ranges import LARGEST_RANGE, address, addresses_of
from provisioning.store import Store
from tests.fakes.store import new_store

settings.register_profile("busy", deadline=None, max_examples=50)  # other work slows the machine
settings.load_profile("busy")

addresses = st.integers(int(IPv4Address("1.0.0.0")), int(IPv4Address("126.0.0.0"))).map(IPv4Address)


def refused(text: str) -> Invalid:
    with pytest.raises(Invalid) as error:
        addresses_of([text])
    assert str(error.value)
    assert error.value.remedy
    return error.value


@pytest.mark.parametrize(
    ("ranges", "count", "first", "last"),
    [
        pytest.param(["10.0.0.7"], 1, "10.0.0.7", "10.0.0.7", id="one address"),
        pytest.param(["10.0.0.0/24"], 254, "10.0.0.1", "10.0.0.254", id="a network's hosts"),
        pytest.param(["10.0.0.0/31"], 2, "10.0.0.0", "10.0.0.1", id="point to point"),
        pytest.param(["10.0.0.7/32"], 1, "10.0.0.7", "10.0.0.7", id="a network of one"),
        pytest.param(["10.0.0.5-10.0.0.9"], 5, "10.0.0.5", "10.0.0.9", id="first-last"),
        pytest.param(["10.0.0.5 - 10.0.0.9"], 5, "10.0.0.5", "10.0.0.9", id="with spaces"),
        pytest.param(["10.0.0.9", "10.0.0.5-10.0.0.9"], 5, "10.0.0.5", "10.0.0.9", id="doubles"),
        pytest.param(["10.0.0.0-10.0.255.255"], 2**16, "10.0.0.0", "10.0.255.255", id="most"),
        pytest.param(["10.1.0.0/16"], 65534, "10.1.0.1", "10.1.255.254", id="a /16"),
        pytest.param(["fd00::7"], 1, "fd00::7", "fd00::7", id="one IPv6 address"),
        pytest.param(["FD00:0::0:7"], 1, "fd00::7", "fd00::7", id="written at length"),
        pytest.param(["fd00::/112"], 65535, "fd00::1", "fd00::ffff", id="a /112"),
        pytest.param(["fd00::5-fd00::9"], 5, "fd00::5", "fd00::9", id="IPv6 first-last"),
        pytest.param(["10.0.0.7", "fd00::7"], 2, "10.0.0.7", "fd00::7", id="both families"),
    ],
)
def test_ranges_that_are_taken(ranges: list[str], count: int, first: str, last: str) -> None:
    found = addresses_of(ranges)
    assert (len(found), found[0], found[-1]) == (count, first, last)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("10.0.0.0/33", "is not a range", id="no such prefix"),
        pytest.param("10.0.0.300/24", "is not a range", id="no such address"),
        pytest.param("", "is not a range", id="nothing"),
        pytest.param("10.1", "is not a range", id="half an address"),
        pytest.param("-rf", "is not a range", id="looks like an option"),
        pytest.param("10.0.0.9-10.0.0.5", "is not a range", id="backwards"),
        pytest.param("10.0.0.5-", "is not a range", id="no end"),
        pytest.param("10.0.0.5-9", "is not a range", id="short form"),
        pytest.param("10.0.0.5-10.0.0.7-10.0.0.9", "is not a range", id="three ends"),
        pytest.param("10.0.0.1-::9", "is not a range", id="two families"),
        pytest.param("bmc.example", "is not a range", id="a name"),
        pytest.param("10.0.0.1\n", "is not a range", id="line end"),
        pytest.param("10.0.0.5/24", "host bits set", id="host bits"),
        pytest.param("10.0.0.0/15", "more than a /16", id="a /15"),
        pytest.param("10.0.0.0-10.1.0.0", "more than a /16", id="one too many"),
        pytest.param("0.0.0.0/0", "more than a /16", id="everything"),
        pytest.param("2001:db8::/64", "more than a /112", id="IPv6 network"),
        pytest.param("2001:db8::/111", "more than a /112", id="one bit too many"),
        pytest.param("::-ffff::", "more than a /112", id="a range too large to count"),
        pytest.param("::/0", "more than a /112", id="all of IPv6"),
        pytest.param("2001:db8::5/112", "host bits set", id="IPv6 host bits"),
        pytest.param("::1-::5", "no BMC can", id="IPv6 loopback"),
        pytest.param("ff02::1", "no BMC can", id="IPv6 multicast"),
        pytest.param("::ffff:10.0.0.1", "no BMC can", id="IPv4 as IPv6"),
        pytest.param("fe80::1", "link-local", id="IPv6 link-local"),
        pytest.param("127.0.0.0/24", "no BMC can", id="loopback"),
        pytest.param("127.0.0.1-127.0.0.9", "no BMC can", id="loopback range"),
        pytest.param("224.0.0.1-224.0.0.3", "no BMC can", id="multicast range"),
        pytest.param("255.255.255.255", "no BMC can", id="broadcast"),
        pytest.param("0.0.0.0/24", "no BMC can", id="this network"),
        pytest.param("169.254.0.0/24", "link-local", id="link-local"),
    ],
)
def test_ranges_that_are_refused(text: str, sentence: str) -> None:
    assert sentence in str(refused(text))


def test_the_remedy_for_host_bits_names_both_wishes() -> None:
    remedy = refused("10.0.0.5/24").remedy
    assert "10.0.0.0/24" in remedy
    assert "10.0.0.5." in remedy


@pytest.mark.parametrize(
    ("exclude", "count"),
    [
        pytest.param([], 254, id="nothing"),
        pytest.param(["10.0.0.7"], 253, id="one address"),
        pytest.param(["10.0.0.128/25"], 127, id="one half"),
        pytest.param(["10.0.0.200-10.0.1.100"], 199, id="over the end"),
        pytest.param(["10.0.0.7", "10.0.0.9", "10.0.0.0/30"], 249, id="several"),
    ],
)
def test_exclusions(exclude: list[str], count: int) -> None:
    found = addresses_of(["10.0.0.0/24"], exclude)
    assert len(found) == count
    assert not set(exclude) & set(found)


@pytest.mark.parametrize(
    ("exclude", "sentence"),
    [
        pytest.param("10.9.0.0/24", "excludes nothing", id="elsewhere"),
        pytest.param("10.0.0.0", "excludes nothing", id="the network's own address"),
        pytest.param("::/0", "excludes nothing", id="the other family"),
        pytest.param("10.0.0.0/24", "leave no address", id="all of it"),
        pytest.param("0.0.0.0/0", "leave no address", id="more than all"),
        pytest.param("10.0.0.0/33", "is not a range", id="none"),
    ],
)
def test_exclusions_that_are_refused(exclude: str, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence) as error:
        addresses_of(["10.0.0.0/24"], [exclude])
    assert error.value.remedy


def test_a_range_may_be_too_large_only_until_a_part_is_excluded() -> None:
    ranges = ["10.0.0.0/16", "10.1.0.0/16"]
    assert len(addresses_of(ranges, ["10.1.0.0/16"])) == 65534


def test_an_address_has_one_form() -> None:
    assert address("FD00:0:0::0007") == "fd00::7"
    assert address("10.0.0.7") == "10.0.0.7"
    assert address("not one") == "not one"


def test_many_ranges_are_counted_together() -> None:
    with pytest.raises(Invalid, match="131068 addresses are more than a /16"):
        addresses_of(["10.0.0.0/16", "10.1.0.0/16"])
    with pytest.raises(Invalid, match="no range was given"):
        addresses_of([])


@given(st.text(max_size=40))
def test_any_text_is_a_range_or_is_refused_in_words(text: str) -> None:
    try:
        found = addresses_of([text])
    except Invalid as error:
        said = (str(error), error.remedy)
    else:
        assert 0 < len(found) <= LARGEST_RANGE
        assert all(str(ip_address(address)) == address for address in found)
        return
    assert all(said)


@given(addresses, st.integers(22, 30))
def test_a_network_gives_its_hosts(address: IPv4Address, prefix: int) -> None:
    network = IPv4Network((address, prefix), strict=False)
    ends = addresses_of([str(network)])
    assert len(ends) == network.num_addresses - 2
    assert (ends[0], ends[-1]) == (str(network[1]), str(network[-2]))


@given(addresses, st.integers(0, 999))
def test_first_to_last_gives_all_between(first: IPv4Address, more: int) -> None:
    found = addresses_of([f"{first}-{first + more}"])
    assert len(found) == more + 1
    assert (found[0], found[-1]) == (str(first), str(first + more))


# --- MACs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["52:54:00:AB:cd:0e", "52-54-00-AB-CD-0E", "5254.00ab.cd0e", "525400abcd0e"]
)
def test_every_way_to_write_a_mac(text: str) -> None:
    assert mac(text) == "52:54:00:ab:cd:0e"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("01:00:5e:00:00:01", "group or zero", id="multicast"),
        pytest.param("ff:ff:ff:ff:ff:ff", "group or zero", id="broadcast"),
        pytest.param("00:00:00:00:00:00", "group or zero", id="zero"),
        pytest.param("zz", "not a MAC", id="letters"),
        pytest.param("", "not a MAC", id="nothing"),
        pytest.param("52:54:00:ab:cd", "not a MAC", id="too short"),
        pytest.param("52:54:00", "not a MAC", id="half of one"),
        pytest.param("52:54:00:ab:cd:0e:0f:10", "not a MAC", id="EUI-64"),
        pytest.param("20", "not a MAC", id="a number"),
    ],
)
def test_macs_that_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence) as error:
        mac(text)
    assert "52:54:00:12:34:56" in error.value.remedy


@given(st.binary(min_size=6, max_size=6), st.sampled_from([":", "-"]))
def test_a_mac_comes_out_as_ironic_writes_it(raw: bytes, separator: str) -> None:
    text = raw.hex(separator)
    if raw[0] & 1 or not any(raw):
        with pytest.raises(Invalid):
            mac(text)
    else:
        assert mac(text.upper()) == mac(mac(text)) == raw.hex(":")


@given(st.text(max_size=30))
def test_any_text_is_a_mac_or_is_refused_in_words(text: str) -> None:
    try:
        found = mac(text)
    except Invalid:
        return
    assert re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", found)


# --- names ----------------------------------------------------------------------------------------

host_label = TypeAdapter(HostLabel).validate_python
name = TypeAdapter(Name).validate_python


@pytest.mark.parametrize("text", ["web", "w", "0", "a-b-c", "a" * 59])
def test_host_names_that_are_taken(text: str) -> None:
    assert host_label(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("Web", "..", ".", "", "-rf", "web-", "a" * 60, "a" * 64, "a_b", "a b", "a/b", "a.b"),
        *("w\n", "\u00fc", "web\0", "\u0661"),
    ],
)
def test_host_names_that_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        host_label(text)


@given(st.text(max_size=70))
def test_a_host_name_is_a_label_of_rfc_1123(text: str) -> None:
    label = re.fullmatch(r"(?!-)[a-z0-9-]{1,63}(?<!-)", text, re.ASCII)
    try:
        host_label(text)
    except ValidationError:
        assert label is None or len(text) > 59
    else:
        assert label
        assert len(f"{text}-499") <= 63


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,57}[a-z0-9])?", fullmatch=True))
def test_every_short_label_is_a_host_name(text: str) -> None:
    assert host_label(text) == text


@given(st.text(max_size=90))
def test_a_name_never_leads_elsewhere(text: str) -> None:
    """Names become parts of paths, URLs and command lines."""
    try:
        name(text)
    except ValidationError:
        return
    assert text[0] not in ".-_"
    assert not set(text) & set("/\\\0\n :@?#%")


# --- the pool -------------------------------------------------------------------------------------

POOL = Pool(IPv4Interface("172.22.0.1/24"), IPv4Address("172.22.0.10"), IPv4Address("172.22.0.12"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path)


def reserve(store: Store, number: int, node: UUID) -> Address:
    with store.write() as session:
        return POOL.reserve(session, f"52:54:00:00:00:{number:02x}", node)


def test_a_nic_keeps_its_address(store: Store) -> None:
    node = uuid4()
    first = [reserve(store, n, node).address for n in range(3)]
    assert first == ["172.22.0.10", "172.22.0.11", "172.22.0.12"]
    assert [reserve(store, n, node).address for n in range(3)] == first


def test_an_empty_pool_says_what_to_widen(store: Store) -> None:
    for number in range(3):
        reserve(store, number, uuid4())
    with pytest.raises(Conflict, match=r"no address is left between 172\.22\.0\.10") as error:
        reserve(store, 3, uuid4())
    assert "pool_end" in error.value.remedy


def test_one_mac_in_two_servers_is_refused(store: Store) -> None:
    reserve(store, 1, uuid4())
    with pytest.raises(Conflict, match="52:54:00:00:00:01 already belongs to another node"):
        reserve(store, 1, uuid4())


def test_static_network_data_is_by_mac(store: Store) -> None:
    row = reserve(store, 1, uuid4())
    data = POOL.network_data(row, ["192.0.2.53"])
    (link,), (network,) = data["links"], data["networks"]
    assert link["ethernet_mac_address"] == "52:54:00:00:00:01"
    assert (network["ip_address"], network["netmask"]) == (row.address, "255.255.255.0")
    assert network["link"] == link["id"]
    assert data["services"] == [{"type": "dns", "address": "192.0.2.53"}]
