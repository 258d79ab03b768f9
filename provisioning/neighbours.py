"""Which addresses the kernel must find by ARP or neighbour discovery, and how many it seeks now.

The kernel keeps at most gc_thresh3 neighbours (1,024 unless changed), those it still looks for
included, and a silent one stays for 3 s (three questions, 1 s apart; arp(7)). Past that it refuses
packets to every neighbour, BMCs and gateways alike; so a sweep of its own wire must go slowly.
"""

import json
import subprocess
from bisect import bisect_right
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

IP_SECONDS = 5.0
LEAST = 256  # a quarter of gc_thresh3 as it comes
LOOKS_FOR = 3.0  # seconds the kernel looks for a silent neighbour
_THRESH = Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")


def limit() -> int:
    """How many a sweep may look for at once: a quarter of what the kernel keeps, 256 at least."""
    try:
        return max(LEAST, int(_THRESH.read_text()) // 4)
    except (OSError, ValueError):  # only the machine's own namespace shows it
        return LEAST


def table() -> tuple[int, set[str]]:
    """How many neighbours are looked for, and the addresses of those that were found."""
    rows = _ip("-4", "neigh", "show", "nud", "all") + _ip("-6", "neigh", "show", "nud", "all")
    looked_for = sum("INCOMPLETE" in row.get("state", ()) for row in rows)
    return looked_for, {str(row["dst"]) for row in rows if "lladdr" in row}


def macs() -> dict[str, str]:
    """Address -> MAC (lower case, colons) of the neighbours that were found."""
    rows = _ip("-4", "neigh", "show", "nud", "all") + _ip("-6", "neigh", "show", "nud", "all")
    return {str(row["dst"]): str(row["lladdr"]).lower() for row in rows if "lladdr" in row}


def own_addresses() -> list[str]:
    """Our IPv4 addresses on wires that carry multicast."""
    links = [
        link for link in _ip("-4", "address", "show") if {"UP", "MULTICAST"} <= {*link["flags"]}
    ]
    return [info["local"] for link in links for info in link.get("addr_info", ())]


def on_link(addresses: Iterable[str]) -> set[str]:
    """Those that are not behind a router, by the most special route of each."""
    without = {
        link["ifname"] for link in _ip("link", "show") if {"NOARP", "LOOPBACK"} & {*link["flags"]}
    }
    routes = _ip("-4", "route", "show") + _ip("-6", "route", "show")
    ours = [_interval(route, without) for route in routes]
    edges = _edges([interval for interval in ours if interval])
    starts = [edge[0] for edge in edges]
    found = set()
    for text in addresses:
        address = ip_address(text)
        place = bisect_right(starts, (address.version, int(address))) - 1
        if place >= 0 and edges[place][1]:
            found.add(text)
    return found


Key = tuple[int, int]  # IP version, address


def _interval(route: dict[str, Any], without: set[str]) -> tuple[Key, Key, bool] | None:
    """First and last address of a route, and whether its targets are neighbours."""
    default = "::/0" if ":" in str(route.get("gateway", "")) else "0.0.0.0/0"
    try:
        network = ip_network(default if route["dst"] == "default" else route["dst"])
    except ValueError:  # "unreachable", "blackhole" and the like are words here
        return None
    via = "gateway" in route or "via" in route or "nexthops" in route
    near = not via and route.get("dev") not in without and route.get("type") is None
    version = network.version
    first, last = int(network.network_address), int(network.broadcast_address)
    return (version, first), (version, last), near


def _edges(intervals: list[tuple[Key, Key, bool]]) -> list[tuple[Key, bool]]:
    """Where, going up, the answer of the most special route changes."""
    cuts = sorted({i[0] for i in intervals} | {(i[1][0], i[1][1] + 1) for i in intervals})
    edges = []
    for cut in cuts:
        over = [i for i in intervals if i[0] <= cut <= i[1]]
        best = min(over, key=lambda i: i[1][1] - i[0][1], default=None)
        edges.append((cut, best is not None and best[2]))
    return edges


def _ip(*words: str) -> list[dict[str, Any]]:
    """What `ip` tells; nothing where it cannot, as in a service that may not ask."""
    try:
        done = subprocess.run(
            ["ip", "-j", *words], capture_output=True, timeout=IP_SECONDS, check=True
        )
        return list(json.loads(done.stdout or b"[]"))
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
