"""Servers behind a relay are answered by the real dnsmasq with addresses of their own range.

The relay here is made by hand: a namespace that forwards, and a DISCOVER with its address (giaddr).
"""

import os
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from scapy.layers.dhcp import BOOTP, DHCP

from ipxe import dnsmasq
from provisioning import fabric_rules
from provisioning.fabric_rules import Served
from provisioning.network_doc import NetworkDoc
from provisioning.store import Store
from seed.host import appliance, netns
from seed.host.paths import Paths
from seed.settings import Settings
from tests.fakes.appliance import STRANGER, base_folder
from tests.fakes.settings import some_settings
from tests.fakes.wire import appliance_namespace, client_namespace, ip

KNOWN = "52:54:00:ee:00:01"
RANGES = [
    {
        "racks": [f"r{n}"], "cidr": f"10.{n}.0.0/24", "gateway": f"10.{n}.0.1",
        "pool": f"10.{n}.0.10-10.{n}.0.99", "unknown": f"10.{n}.0.200-10.{n}.0.220",
    }
    for n in (3, 4)
]  # fmt: skip
ROWS = NetworkDoc.model_validate({"name": "rows", "role": "provisioning", "relayed": RANGES})


@pytest.fixture(scope="module")
def running() -> Iterator[Settings]:
    with base_folder() as base, appliance_namespace(f"seed-tr-{os.getpid()}") as namespace:
        settings = some_settings(base, namespace=namespace, env_dir=Path(sys.prefix).parent)

        def database() -> None:
            store = Store(settings.database_url)
            store.create()
            with store.write() as session:
                fabric_rules.put(session, ROWS, "ann", Served())

        try:
            appliance.up(settings, prepare_database=database, names=["dnsmasq"])
            yield settings
        finally:
            appliance.down(settings)


@pytest.fixture(scope="module")
def router(running: Settings) -> Iterator[str]:
    """On the provisioning wire, with an address in each range, as its relay."""
    with client_namespace(running.namespace, f"seed-tr-{os.getpid()}-r1") as namespace:
        ip("-n", namespace, "address", "add", "172.22.0.254/24", "dev", "eth0")
        for n in (3, 4):
            ip("-n", namespace, "address", "add", f"10.{n}.0.1/32", "dev", "lo")
            ip("-n", running.namespace, "route", "add", f"10.{n}.0.0/24", "via", "172.22.0.254")
        yield namespace


def relayed(namespace: str, mac: str, relay: str, architecture: int = 7) -> BOOTP | None:
    """What dnsmasq answers to the relay."""
    transaction = struct.unpack("!I", os.urandom(4))[0]
    question = bytes(
        BOOTP(chaddr=bytes.fromhex(mac.replace(":", "")), xid=transaction, giaddr=relay, hops=1)
        / DHCP(
            options=[
                ("message-type", "discover"),
                ("vendor_class_id", f"PXEClient:Arch:{architecture:05d}:UNDI:002001".encode()),
                (93, struct.pack("!H", architecture)),
                ("param_req_list", [1, 3, 6, 12, 51, 54, 66, 67]),
                "end",
            ]
        )
    )

    def ask() -> BOOTP | None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.bind((relay, 67))
            wire.settimeout(3)
            for _ in range(4):  # dnsmasq pings an address before it offers it
                wire.sendto(question, ("172.22.0.1", 67))
                try:
                    answer = BOOTP(wire.recv(2048))
                except TimeoutError:
                    continue
                if answer.xid == transaction:
                    return answer
        return None

    return netns.call(namespace, ask)


def options(answer: BOOTP) -> dict[str, object]:
    return dict(o[:2] for o in answer[DHCP].options if isinstance(o, tuple))


@pytest.mark.parametrize("row", [3, 4])
def test_an_unknown_server_gets_an_address_of_the_range_it_asks_from(router: str, row: int) -> None:
    answer = relayed(router, STRANGER, f"10.{row}.0.1")
    assert answer is not None
    first, last = IPv4Address(f"10.{row}.0.200"), IPv4Address(f"10.{row}.0.220")
    assert first <= IPv4Address(answer.yiaddr) <= last
    told = options(answer)
    assert (told["router"], told["subnet_mask"]) == (f"10.{row}.0.1", "255.255.255.0")
    assert told["server_id"] == "172.22.0.1"


def test_a_known_server_gets_its_own_address_and_boots(running: Settings, router: str) -> None:
    hosts = Paths(running).hosts
    dnsmasq.write_host(hosts, KNOWN, IPv4Address("10.3.0.10"), "far")
    answer = relayed(router, KNOWN, "10.3.0.1")
    assert answer is not None
    assert answer.yiaddr == "10.3.0.10"
    told = options(answer)
    assert told["router"] == "10.3.0.1"
    assert told["boot-file-name"] == b"snponly.efi\0"
    assert answer.siaddr == "172.22.0.1"


def test_a_range_nobody_put_is_not_answered(running: Settings, router: str) -> None:
    ip("-n", router, "address", "add", "10.5.0.1/32", "dev", "lo")
    ip("-n", running.namespace, "route", "add", "10.5.0.0/24", "via", "172.22.0.254")
    assert relayed(router, STRANGER, "10.5.0.1") is None
