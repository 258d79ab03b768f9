"""The fleet's addresses, in a network namespace: some answer, the others swallow packets.

The range is routed to a wire that leads nowhere and asks no ARP, as behind a router; the address of
each BMC is routed to the namespace itself, so that one listener serves thousands.
"""

import json
import subprocess
from collections.abc import Iterable
from ipaddress import ip_address

from seed.lab.host import run

VOID = "fleet0"
OURS = "192.0.2.1/32"  # TEST-NET-1 of RFC 5737
OURS6 = "2001:db8:0:1::1/128"  # documentation prefix of RFC 3849
# The wire between the fleet's namespace and the one that looks for BMCs: here, there.
LINE, LINE6 = ("192.0.2.5", "192.0.2.6"), ("2001:db8:0:2::1", "2001:db8:0:2::2")
PROTOCOL = "241"  # marks our routes


def make(namespace: str, network: str, addresses: Iterable[str]) -> None:
    """Route `network` nowhere and `addresses` here. Repeating it changes nothing."""
    links = {link["ifname"] for link in json.loads(_ip(namespace, "-j", "link", "show"))}
    if VOID not in links:
        _ip(namespace, "link", "add", VOID, "type", "veth", "peer", "name", f"{VOID}-end")
    # The other end stays down: what is sent is dropped at once.
    _ip(namespace, "link", "set", VOID, "arp", "off", "up")
    _ip(namespace, "link", "set", "lo", "up")
    _ip(namespace, "address", "replace", OURS, "dev", VOID)
    if ":" in network:
        _ip(namespace, "address", "replace", OURS6, "dev", VOID, "nodad")
    _ip(namespace, "route", "replace", network, "dev", VOID, "proto", PROTOCOL)
    lines = [
        f"route replace local {a}/{ip_address(a).max_prefixlen} dev lo proto {PROTOCOL}\n"
        for a in addresses
    ]
    _batch(namespace, lines)


def attach(namespace: str, other: str, network: str) -> None:
    """A wire to the namespace `other`, which reaches `network` over it as over a router."""
    _ip(namespace, "link", "add", "line0", "type", "veth", "peer", "name", VOID, "netns", other)
    here, there = LINE6 if ":" in network else LINE
    prefix, more = ("/64", ("nodad",)) if ":" in network else ("/30", ())
    _ip(namespace, "address", "add", here + prefix, "dev", "line0", *more)
    _ip(other, "address", "add", there + prefix, "dev", VOID, *more)
    for where, name in ((namespace, "line0"), (other, VOID)):
        _ip(where, "link", "set", name, "up")
    _ip(other, "route", "replace", network, "via", here, "dev", VOID, "proto", PROTOCOL)


def remove(namespace: str) -> None:
    """Everything that `make` made."""
    _ip(namespace, "route", "flush", "table", "all", "proto", PROTOCOL)
    _ip(namespace, "-6", "route", "flush", "table", "all", "proto", PROTOCOL)
    subprocess.run(
        ["ip", *_in(namespace), "link", "delete", VOID],
        capture_output=True, timeout=10, check=False,
    )  # fmt: skip


def _batch(namespace: str, lines: list[str]) -> None:
    argv = ["ip", *_in(namespace), "-batch", "-"]
    subprocess.run(argv, input="".join(lines).encode(), check=True, capture_output=True, timeout=60)


def _ip(namespace: str, *words: str) -> str:
    return run("ip", *_in(namespace), *words, seconds=30)


def _in(namespace: str) -> list[str]:
    return ["-n", namespace] if namespace else []
