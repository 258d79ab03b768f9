"""What `seed init` chooses, and what the checks make of a machine."""

import tomllib
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from provisioning.errors import Invalid
from seed.host import checks, setup, supervisor
from tests.fakes.settings import some_settings


@pytest.mark.parametrize(
    ("address", "pools"),
    [
        pytest.param("172.22.0.1/24", ("10", "205", "206", "254"), id="24, ours at the lower end"),
        pytest.param("172.22.0.254/24", ("9", "204", "205", "253"), id="24, ours at the upper end"),
        pytest.param("172.22.0.1/26", ("10", "52", "53", "62"), id="26"),
        pytest.param("172.22.0.1/28", ("2", "10", "11", "14"), id="28"),
    ],
)
def test_pools(address: str, pools: tuple[str, str, str, str]) -> None:
    chosen = setup.choose_pools(IPv4Interface(address))
    assert tuple(str(a).rsplit(".", 1)[1] for a in chosen.values()) == pools


@pytest.mark.parametrize("address", ["172.22.0.1/29", "172.22.0.1/32", "172.22.0.7/28"])
def test_a_network_that_is_too_small_is_refused(address: str) -> None:
    with pytest.raises(Invalid, match="too small"):
        setup.choose_pools(IPv4Interface(address))


@pytest.mark.parametrize("address", [f"10.0.{h}.{low}/20" for h in (0, 7, 15) for low in (1, 99)])
def test_pools_never_hold_our_own_address(address: str) -> None:
    own = IPv4Interface(address)
    pools = setup.choose_pools(own)
    assert pools["pool_start"] < pools["pool_end"] < pools["unknown_start"] < pools["unknown_end"]
    assert not pools["pool_start"] <= own.ip <= pools["unknown_end"]
    assert all(address in own.network for address in pools.values())


def test_missing_interfaces_are_named() -> None:
    seen = {"eth0": [IPv4Interface("192.0.2.1/24")], "eth1": []}
    with pytest.raises(Invalid, match=r"eth9 does not exist; there are: eth0, eth1") as error:
        setup.address_of("provisioning", "eth9", seen)
    assert error.value.remedy == "ip link show"
    with pytest.raises(Invalid, match="eth1 has no IPv4 address") as error:
        setup.address_of("provisioning", "eth1", seen, "lab")
    assert error.value.remedy.startswith("ip -n lab address add")


def test_seed_toml_says_what_the_settings_say(tmp_path: Path) -> None:
    settings = some_settings(tmp_path)
    assert tomllib.loads(setup.to_toml(settings)) == settings.model_dump(mode="json")


def test_one_interface_for_all_is_warned_about() -> None:
    names = {"management": "eth0", "provisioning": "eth0", "out_of_band": "eth1"}
    (warning,) = setup.warnings(names)
    assert warning.startswith("eth0 is management and provisioning at once")
    assert setup.warnings({"a": "eth0", "b": "eth1"}) == []


ANY = "0.0.0.0"  # noqa: S104
SOCKETS = [
    ("tcp", ANY, 80, "apache2", 17),
    ("tcp", "127.0.0.1", 443, "other", 18),
    ("udp", "172.22.0.1", 67, "dhcpd", 19),
]


@pytest.mark.parametrize(
    ("protocol", "address", "port", "holder"),
    [
        pytest.param("tcp", "172.22.0.1", 80, ("apache2", 17), id="somebody on every address"),
        pytest.param("tcp", "172.22.0.1", 443, None, id="somebody on another address"),
        pytest.param("udp", ANY, 67, ("dhcpd", 19), id="we want every address"),
        pytest.param("tcp", ANY, 67, None, id="another protocol"),
    ],
)
def test_who_holds_a_port(
    protocol: str, address: str, port: int, holder: tuple[str, int] | None
) -> None:
    assert checks._holder(SOCKETS, protocol, address, port) == holder


def test_restarts_are_counted_since_the_last_start(tmp_path: Path) -> None:
    log = tmp_path / "supervisord.log"
    log.write_text(
        "INFO supervisord started with pid 1\nINFO spawned: 'nginx' with pid 2\n"
        "INFO supervisord started with pid 3\nINFO spawned: 'nginx' with pid 4\n"
        "INFO spawned: 'nginx' with pid 5\nINFO spawned: 'ironic' with pid 6\n",
        encoding="utf-8",
    )
    assert supervisor._spawned(log) == {"nginx": 2, "ironic": 1}


def test_a_full_disk_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MIN_FREE_GIB", 2**30)
    (finding,) = checks.disk(some_settings(tmp_path))
    assert not finding.ok
    assert "GiB are needed" in finding.sentence
