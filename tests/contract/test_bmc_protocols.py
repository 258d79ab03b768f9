"""What every BMC protocol must keep, whatever it speaks. Needs root, for a network namespace."""

import asyncio
import os
import socket
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

import provisioning.bmc
from provisioning import plugins
from provisioning.bmc import Access, BmcProtocol, Contact, Identity
from provisioning.errors import BmcUnreachable
from seed.host import netns
from tests.fakes.wire import appliance_namespace

PROTOCOLS: dict[str, BmcProtocol] = plugins.load(provisioning.bmc)
TOP = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery staple"
ACCESS = Access("admin", SecretStr(PASSWORD), "mark")
NOWHERE, CLOSED, SILENT = "172.22.1.77", "127.0.62.4", "127.0.62.3"
# What Ironic's drivers read of these, and nothing else.
DRIVER_INFO = {
    "redfish": {
        "redfish_address", "redfish_system_id", "redfish_username", "redfish_password",
        "redfish_verify_ca",
    },
    "ipmi": {"ipmi_address", "ipmi_username", "ipmi_password", "ipmi_cipher_suite"},
}  # fmt: skip

each = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)


def driver_info(protocol: BmcProtocol) -> dict[str, Any]:
    contact = Contact(NOWHERE, protocol.name, "a" * 64, "PEM")
    identity = Identity(serial="S-1", system_uuid="u-1", system_id="/redfish/v1/Systems/1")
    return protocol.driver_info(contact, identity, ACCESS, "/ca.pem")


@each
def test_it_has_a_name_and_a_driver_of_ironic(protocol: BmcProtocol) -> None:
    assert PROTOCOLS[protocol.name] is protocol
    assert protocol.driver in {"redfish", "ipmi"}
    assert protocol.name in DRIVER_INFO, "one more protocol: say here what Ironic is told"


def test_their_independence_is_checked() -> None:
    """The contract lists them one by one, because their helpers are in the same package."""
    contracts = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["importlinter"]
    (independent,) = [c for c in contracts["contracts"] if c["type"] == "independence"]
    listed = {m.rpartition(".")[2] for m in independent["modules"] if ".bmc." in m}
    assert listed == set(PROTOCOLS)


@each
def test_ironic_is_told_what_it_needs_and_no_more(protocol: BmcProtocol) -> None:
    told = driver_info(protocol)
    assert set(told) == DRIVER_INFO[protocol.name]
    assert all(isinstance(value, str) and value for value in told.values())
    assert [key for key, value in told.items() if PASSWORD in value] == [
        f"{protocol.driver}_password"
    ]
    assert NOWHERE in told[f"{protocol.driver}_address"]


def test_tls_is_never_unchecked() -> None:
    assert driver_info(PROTOCOLS["redfish"])["redfish_verify_ca"] == "/ca.pem"
    assert driver_info(PROTOCOLS["redfish"])["redfish_address"].startswith("https://")


def test_a_password_never_shows() -> None:
    assert PASSWORD not in f"{ACCESS!r} {ACCESS!s} {[ACCESS]} {vars(Access)}"


# --- on a wire of their own -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def wire() -> Iterator[str]:
    with appliance_namespace(f"seed-tp-{os.getpid()}") as namespace:
        yield namespace


@pytest.fixture
def silent(wire: str) -> Iterator[str]:
    """An address where both ports are open and nobody ever says a word."""
    tcp, udp = netns.call(wire, lambda: (socket.socket(), socket.socket(type=socket.SOCK_DGRAM)))
    with tcp, udp:
        tcp.bind((SILENT, 443))
        tcp.listen(8)
        udp.bind((SILENT, 623))
        yield SILENT


def probe(wire: str, protocol: BmcProtocol, address: str, timeout: float) -> Contact | None:
    begin = time.monotonic()
    found = netns.call(wire, lambda: asyncio.run(protocol.probe(address, timeout)))
    assert time.monotonic() - begin < timeout + 5, "generous: the machine may be busy"
    return found


@each
def test_nobody_there_is_none_in_time(wire: str, protocol: BmcProtocol) -> None:
    assert probe(wire, protocol, NOWHERE, 0.5) is None


@each
def test_who_never_answers_is_none_in_time(wire: str, protocol: BmcProtocol, silent: str) -> None:
    assert probe(wire, protocol, silent, 0.5) is None


@each
def test_a_closed_port_is_none(wire: str, protocol: BmcProtocol) -> None:
    assert probe(wire, protocol, CLOSED, 2.0) is None


def test_many_are_probed_at_once(wire: str) -> None:
    """A sweep waits for the slowest one, not for the sum."""

    async def all_of_them() -> list[Contact | None]:
        addresses = [f"172.22.1.{n}" for n in range(100, 140)]
        return await asyncio.gather(
            *(p.probe(a, 1.0) for a in addresses for p in PROTOCOLS.values())
        )

    begin = time.monotonic()
    assert set(netns.call(wire, lambda: asyncio.run(all_of_them()))) == {None}
    assert time.monotonic() - begin < 30


@each
def test_a_dead_bmc_is_unreachable_in_words(wire: str, protocol: BmcProtocol) -> None:
    contact = Contact(CLOSED, protocol.name, "a" * 64, "PEM")
    with pytest.raises(BmcUnreachable, match=r"127\.0\.62\.4 did not answer") as error:
        netns.call(wire, lambda: protocol.identify(contact, ACCESS, 1.0))
    assert "seed discover 127.0.62.4" in error.value.remedy
    assert PASSWORD not in str(error.value)
