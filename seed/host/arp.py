"""Who has an address on a wire of this machine: every MAC that answers ARP for it (RFC 826).

The kernel's own table keeps one of several; here all are heard. Needs CAP_NET_RAW.
"""

import json
import socket
import time
from collections.abc import Callable, Container, Iterator
from ipaddress import IPv4Address

from provisioning.errors import Conflict, HostError, Invalid
from seed.host import netns

LISTEN_SECONDS = 1.0  # BMCs answer in milliseconds; two answers are what is waited for
ASKED_EVERY = 0.3
_ETH_ARP = 0x0806


def watched(answering: Callable[[], set[str]], taken: Container[str]) -> Iterator[tuple[str, bool]]:
    """The MAC that has the address now, "" for nobody, and whether it is still to take; for ever.

    Raises Conflict as soon as two answer.
    """
    while True:
        macs = sorted(answering())
        if len(macs) > 1:
            raise Conflict(
                f"{len(macs)} BMCs have this one address: {', '.join(macs)}",
                "Unplug all but one, then the same `seed discover ... --one-by-one` again.",
            )
        mac = macs[0] if macs else ""
        yield mac, bool(mac) and mac not in taken


def answering(namespace: str, address: str, seconds: float = LISTEN_SECONDS) -> set[str]:
    """Every MAC that answers for `address` within `seconds`. Raises Invalid, HostError."""
    interface, own = _wire(namespace, address)
    try:
        return netns.call(namespace, lambda: _ask(interface, own, address, seconds))
    except PermissionError as err:
        raise HostError(
            "only root may watch ARP", f"sudo seed discover {address} --one-by-one"
        ) from err


def _wire(namespace: str, address: str) -> tuple[str, str]:
    """The interface whose wire the address is on, and our address there."""
    try:
        IPv4Address(address)
    except ValueError as err:
        raise Invalid(
            f"{address!r} is not one IPv4 address",
            "Give the factory's: `seed discover 192.168.0.120 --one-by-one`.",
        ) from err
    told = netns.run(namespace, ["ip", "-j", "route", "get", address], timeout=10)
    route = json.loads(told.stdout or "[{}]")[0] if told.returncode == 0 else {}
    if "gateway" in route or route.get("dev", "lo") == "lo" or not route.get("prefsrc"):
        inside = f"ip netns exec {namespace} " if namespace else ""
        raise HostError(
            f"{address} is not on a wire of this machine: ARP is not seen through a router",
            f"{inside}ip address add A.B.C.D/24 dev INTERFACE: a free address beside {address}",
        )
    return str(route["dev"]), str(route["prefsrc"])


def _ask(interface: str, own: str, address: str, seconds: float) -> set[str]:
    found: set[str] = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_ARP)) as wire:
        wire.bind((interface, _ETH_ARP))
        question = _question(wire.getsockname()[4], own, address)
        end, due = time.monotonic() + seconds, 0.0
        while (now := time.monotonic()) < end:
            if now >= due:
                wire.send(question)
                due = now + ASKED_EVERY
            wire.settimeout(max(0.01, min(due, end) - now))
            try:
                mac = _answer(wire.recv(2048), address)
            except TimeoutError:
                continue
            found |= {mac} if mac else set()
    return found


def _question(mac: bytes, own: str, address: str) -> bytes:
    from scapy.layers.l2 import ARP, Ether  # slow to import

    sender = ":".join(f"{byte:02x}" for byte in mac)
    return bytes(
        Ether(src=sender, dst="ff:ff:ff:ff:ff:ff")
        / ARP(op="who-has", hwsrc=sender, psrc=own, pdst=address)
    )


def _answer(frame: bytes, address: str) -> str:
    """The MAC, if this is an answer for `address`; else nothing."""
    from scapy.error import Scapy_Exception
    from scapy.layers.l2 import ARP, Ether

    try:
        packet = Ether(frame)
    except (Scapy_Exception, IndexError):
        return ""
    said = ARP in packet and packet[ARP].op == 2 and packet[ARP].psrc == address
    return str(packet[ARP].hwsrc).lower() if said else ""
