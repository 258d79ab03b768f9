"""Ask wires who else gives out addresses there: `python dhcp_probe.py INTERFACE...`.

Prints one JSON object: {"eno2": ["172.22.0.9", ...], ...}. Run inside the network namespace of the
interfaces, which are asked at once. Exit code 0 whether or not somebody answered. Imports nothing
of ours.
"""

import json
import os
import socket
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor

# dnsmasq waits 3 s for an answer to its ping before it offers an address.
SECONDS = 4.5
_ETH_IP = 0x0800


def discover(mac: bytes, transaction: int) -> bytes:
    """An Ethernet frame with a DHCPDISCOVER from `mac` (RFC 2131), answer asked by broadcast."""
    from scapy.layers.dhcp import BOOTP, DHCP
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    hex_mac = ":".join(f"{byte:02x}" for byte in mac)
    frame = (
        Ether(src=hex_mac, dst="ff:ff:ff:ff:ff:ff")
        / IP(src="0.0.0.0", dst="255.255.255.255")  # noqa: S104  a client without an address
        / UDP(sport=68, dport=67)
        / BOOTP(chaddr=mac, xid=transaction, flags=0x8000)
        / DHCP(options=[("message-type", "discover"), ("param_req_list", [1, 3, 6]), "end"])
    )
    return bytes(frame)


def offering_server(frame: bytes, transaction: int) -> str | None:
    """Address of the server, if `frame` is a DHCPOFFER for `transaction`."""
    from scapy.layers.dhcp import BOOTP, DHCP
    from scapy.layers.inet import IP
    from scapy.layers.l2 import Ether

    packet = Ether(frame)
    if DHCP not in packet or packet[BOOTP].xid != transaction:
        return None
    options: dict[str, object] = dict(o[:2] for o in packet[DHCP].options if isinstance(o, tuple))
    if options.get("message-type") != 2:
        return None
    return str(options.get("server_id", packet[IP].src))


def probe(interface: str, seconds: float = SECONDS) -> list[str]:
    """DHCP servers that answer on `interface` within `seconds`. Needs CAP_NET_RAW."""
    mac = b"\x02" + os.urandom(5)  # locally administered
    transaction = struct.unpack("!I", os.urandom(4))[0]
    servers: set[str] = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_IP)) as wire:
        wire.bind((interface, _ETH_IP))
        frame = discover(mac, transaction)
        start = time.monotonic()
        asked = 0
        while (gone := time.monotonic() - start) < seconds:
            if asked <= gone:  # once a second: the first one may be lost
                wire.send(frame)
                asked += 1
            wire.settimeout(max(0.01, min(asked, seconds) - gone))
            try:
                server = offering_server(wire.recv(2048), transaction)
            except TimeoutError:
                continue
            if server:
                servers.add(server)
    return sorted(servers)


if __name__ == "__main__":
    with ThreadPoolExecutor() as pool:
        print(json.dumps(dict(zip(sys.argv[1:], pool.map(probe, sys.argv[1:]), strict=True))))
