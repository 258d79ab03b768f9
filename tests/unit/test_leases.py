"""A BMC that takes a lease is seen and probed at once; only its MAC and address are believed."""

from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import select

from provisioning.leases import LeaseWatch, parse
from provisioning.models import Bmc, Discovery
from provisioning.room import Observation
from seed.settings import OutOfBandWire
from tests.fakes.settings import some_settings
from tests.fakes.store import new_store

MAC, OTHER = "52:54:00:00:00:0a", "52:54:00:00:00:0b"


@pytest.fixture
def watch(tmp_path: Path) -> LeaseWatch:
    store = new_store(tmp_path)
    (tmp_path / "leases").touch()
    start, end = IPv4Address("172.22.1.100"), IPv4Address("172.22.1.199")
    return LeaseWatch(store, tmp_path / "leases", start, end, "oob0")


def leases(watch: LeaseWatch, *pairs: tuple[str, str]) -> int:
    lines = [f"1763650000 {mac} {address} * 01:{mac}" for mac, address in pairs]
    watch.file.write_text("\n".join(["duid 00:01", *lines, ""]))
    return watch.look()


def rows(watch: LeaseWatch, table: Any) -> list[Any]:
    with watch.store.read() as session:
        return list(session.exec(select(table)))


def test_a_new_lease_is_seen_and_probed_without_a_login(watch: LeaseWatch) -> None:
    assert leases(watch, (MAC, "172.22.1.100"), (OTHER, "172.22.0.50")) == 1
    (row,) = rows(watch, Observation)
    assert (row.source, row.bmc_mac, row.bmc_address, row.origin) == (
        "lease", MAC, "172.22.1.100", "oob0"
    )  # fmt: skip
    (sweep,) = rows(watch, Discovery)
    assert (sweep.ranges, sweep.credential_id) == (["172.22.1.100"], None)


def test_a_lease_is_acted_on_once_also_after_a_restart(watch: LeaseWatch) -> None:
    leases(watch, (MAC, "172.22.1.100"))
    assert leases(watch, (MAC, "172.22.1.100")) == 0
    again = LeaseWatch(watch.store, watch.file, watch.start, watch.end, watch.wire)
    assert again.look() == 0
    assert len(rows(watch, Discovery)) == 1


def test_many_at_once_are_one_sweep(watch: LeaseWatch) -> None:
    pairs = [(f"52:54:00:00:01:{n:02x}", f"172.22.1.{100 + n}") for n in range(50)]
    assert leases(watch, *pairs) == 50
    (sweep,) = rows(watch, Discovery)
    assert sweep.addresses == 50


def test_an_address_that_was_given_away_names_the_new_one(watch: LeaseWatch) -> None:
    leases(watch, (MAC, "172.22.1.100"))
    leases(watch, (OTHER, "172.22.1.100"))
    assert {r.key: r.bmc_address for r in rows(watch, Observation)} == {
        MAC: "", OTHER: "172.22.1.100"
    }  # fmt: skip
    leases(watch)
    assert {r.bmc_address for r in rows(watch, Observation)} == {""}


def test_a_bmc_that_is_known_there_is_not_probed_again(watch: LeaseWatch) -> None:
    with watch.store.write() as session:
        session.add(Bmc(address="172.22.1.100", protocol="redfish", manager_mac=MAC.upper()))
    leases(watch, (MAC, "172.22.1.100"))
    assert rows(watch, Discovery) == []


def test_a_lease_file_that_is_gone_is_no_crash(watch: LeaseWatch) -> None:
    leases(watch, (MAC, "172.22.1.100"))
    watch.file.unlink()
    assert watch.look() == 0


@settings(deadline=None)
@given(st.text() | st.from_regex(r"\d+ [0-9a-f:]{17} [0-9.]{7,15} \S+ \S+", fullmatch=True))
def test_any_line_is_a_lease_or_nothing(line: str) -> None:
    for mac, address in parse(f"{line}\n5 {MAC} 10.0.0.1 * *\n"):
        assert len(mac) == 17
        IPv4Address(address)


# --- the setting ----------------------------------------------------------------------------------


def wire(**changes: Any) -> OutOfBandWire:
    values = {"interface": "oob0", "address": IPv4Interface("172.22.1.1/24")}
    return OutOfBandWire(**(values | {k: IPv4Address(v) for k, v in changes.items()}))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pool_start": "172.22.1.100"}, "go together"),
        ({"pool_start": "172.22.1.100", "pool_end": "172.22.2.5"}, "is not within 172.22.1.0/24"),
        ({"pool_start": "172.22.1.9", "pool_end": "172.22.1.2"}, "is not within"),
        ({"pool_start": "172.22.1.1", "pool_end": "172.22.1.9"}, "holds our own address"),
    ],
)
def test_a_pool_that_cannot_be(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        wire(**changes)


def test_no_pool_for_bmcs_on_the_wire_that_servers_boot_from(tmp_path: Path) -> None:
    shared = wire(pool_start="172.22.1.100", pool_end="172.22.1.199").model_copy(
        update={"interface": "prov0"}
    )
    with pytest.raises(ValueError, match="only on a wire of their own"):
        some_settings(tmp_path, out_of_band=shared)
