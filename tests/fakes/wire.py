"""Wires between named network namespaces, and a DHCP client that asks on them, for tests."""

import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from seed.host import netns

BRIDGES = {"prov0": "172.22.0.1/24", "oob0": "172.22.1.1/24", "mgmt0": "172.22.2.1/24"}


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=20, capture_output=True)


@contextmanager
def appliance_namespace(name: str, bridges: Mapping[str, str] = BRIDGES) -> Iterator[str]:
    """A namespace with the appliance's three bridges; gone afterwards."""
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        for bridge, address in bridges.items():
            ip("-n", name, "link", "add", bridge, "type", "bridge")
            ip("-n", name, "address", "add", address, "dev", bridge)
            ip("-n", name, "link", "set", bridge, "up")
        yield name
    finally:
        ip("netns", "delete", name)


@contextmanager
def client_namespace(appliance: str, name: str, bridge: str = "prov0") -> Iterator[str]:
    """A second namespace whose interface `eth0` hangs on `bridge` of the appliance."""
    ip("netns", "add", name)
    try:
        port = f"v{os.getpid() % 100000}{name[-2:]}"
        ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", port, "netns", appliance)
        ip("-n", appliance, "link", "set", port, "master", bridge, "up")
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "link", "set", "eth0", "up")
        yield name
        ip("-n", appliance, "link", "delete", port)  # the kernel lets a namespace linger
    finally:
        ip("netns", "delete", name)


@dataclass(frozen=True)
class Offer:
    """What a DHCP server offered."""

    address: str
    server: str
    file: str
    options: dict[str, object] = field(default_factory=dict)


def discover(
    namespace: str,
    mac: str,
    architecture: int = 0,
    user_class: bytes = b"",
    client_id: bytes = b"",
    timeout: float = 8.0,
    interface: str = "eth0",
) -> Offer | None:
    """The first DHCPOFFER that a client with `mac` gets on a wire of `namespace`; None if none."""
    frame, transaction = _question(mac, architecture, user_class, client_id)
    return netns.call(namespace, lambda: _ask(interface, frame, transaction, timeout))


def take(namespace: str, mac: str, timeout: float = 15.0, interface: str = "eth0") -> Offer | None:
    """The lease that a client with `mac` takes: asked, offered, requested, acknowledged."""
    offer = discover(namespace, mac, timeout=timeout, interface=interface)
    if offer is None:
        return None
    wanted = [
        ("message-type", "request"), ("requested_addr", offer.address), ("server_id", offer.server)
    ]  # fmt: skip
    transaction = struct.unpack("!I", os.urandom(4))[0]
    frame = _frame(mac, transaction, wanted)
    return netns.call(namespace, lambda: _ask(interface, frame, transaction, timeout))


def _question(
    mac: str, architecture: int, user_class: bytes, client_id: bytes
) -> tuple[bytes, int]:
    transaction = struct.unpack("!I", os.urandom(4))[0]
    options: list[object] = [
        ("message-type", "discover"),
        ("vendor_class_id", f"PXEClient:Arch:{architecture:05d}:UNDI:002001".encode()),
        (93, struct.pack("!H", architecture)),
        ("param_req_list", [1, 3, 6, 12, 51, 54, 66, 67]),
    ]
    options += [(77, user_class)] if user_class else []
    options += [("client_id", client_id)] if client_id else []
    return _frame(mac, transaction, options), transaction


def _frame(mac: str, transaction: int, options: list[object]) -> bytes:
    return bytes(
        Ether(src=mac, dst="ff:ff:ff:ff:ff:ff")
        / IP(src="0.0.0.0", dst="255.255.255.255")  # noqa: S104
        / UDP(sport=68, dport=67)
        / BOOTP(chaddr=bytes.fromhex(mac.replace(":", "")), xid=transaction, flags=0x8000)
        / DHCP(options=[*options, "end"])
    )


def _ask(interface: str, frame: bytes, transaction: int, timeout: float) -> Offer | None:
    end = time.monotonic() + timeout
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as wire:
        wire.bind((interface, 0x0800))
        wire.send(frame)
        wire.settimeout(2)
        while time.monotonic() < end:
            try:
                offer = _offer(wire.recv(2048), transaction)
            except TimeoutError:
                wire.send(frame)
                continue
            if offer:
                return offer
    return None


def _offer(frame: bytes, transaction: int) -> Offer | None:
    packet = Ether(frame)
    if DHCP not in packet or packet[BOOTP].xid != transaction or packet[BOOTP].op != 2:
        return None
    options = dict(o[:2] for o in packet[DHCP].options if isinstance(o, tuple))
    file = options.get("boot-file-name") or packet[BOOTP].file
    return Offer(
        address=packet[BOOTP].yiaddr,
        server=str(options.get("server_id")),
        file=bytes(file).rstrip(b"\0").decode(),
        options=options,
    )
