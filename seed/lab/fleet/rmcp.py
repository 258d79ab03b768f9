"""UDP 623: the IPMI probe of every BMC on one socket (IPMI 2.0, 13.1.3 and 22.13)."""

import socket
import struct
from collections.abc import Callable

from seed.lab.fleet.bmc import Bmc
from seed.lab.fleet.spec import Lie

PORT = 623
RMCP_IPMI = b"\x06\x00\xff\x07"
GET_CHANNEL_AUTH = 0x38
COMMAND_AT = 19
# IPMI 2.0 and 1.5, user level, straight password and MD5; no anonymous login; no OEM.
CAPABLE = bytes.fromhex("01 94 04 02 00 00 00 00")
GARBAGE = RMCP_IPMI + b"\xde\xad\xbe\xef" * 6
IP_PKTINFO, IPV6_RECVPKTINFO, IPV6_PKTINFO = 8, 49, 50  # linux/in.h, linux/in6.h
BUFFER = 16 * 2**20


def opened(family: socket.AddressFamily) -> socket.socket:
    """A socket that hears all addresses and is told which one was meant."""
    port = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    if family == socket.AF_INET6:
        port.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        port.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        port.bind(("::", PORT))
    else:
        port.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        port.bind(("0.0.0.0", PORT))  # noqa: S104 - in the fleet's own namespace
    return port


def answer_waiting(port: socket.socket, find: Callable[[str], Bmc | None]) -> None:
    """Answer everything that has come, each from the address it was sent to."""
    while True:
        try:
            packet, control, _, client = port.recvmsg(2048, 64)
        except (BlockingIOError, ConnectionError):
            return
        meant = _meant(port.family, control)
        bmc = find(meant) if meant else None
        if bmc is None or bmc.speaks == "redfish":
            continue
        said = reply(bmc, packet)
        if said:
            _send(port, said, meant, client)


def _meant(family: int, control: list[tuple[int, int, bytes]]) -> str:
    for _, kind, data in control:
        if family == socket.AF_INET and kind == IP_PKTINFO:
            return socket.inet_ntop(socket.AF_INET, data[8:12])
        if family == socket.AF_INET6 and kind == IPV6_PKTINFO:
            return socket.inet_ntop(socket.AF_INET6, data[:16])
    return ""


def _send(port: socket.socket, said: bytes, source: str, client: object) -> None:
    if port.family == socket.AF_INET:
        # struct in_pktinfo: interface 0 (as the route says), source address, not used.
        raw = struct.pack("=I4s4s", 0, socket.inet_aton(source), bytes(4))
        control = [(socket.IPPROTO_IP, IP_PKTINFO, raw)]
    else:
        raw = socket.inet_pton(socket.AF_INET6, source) + struct.pack("=I", 0)
        control = [(socket.IPPROTO_IPV6, IPV6_PKTINFO, raw)]
    try:
        port.sendmsg([said], control, 0, client)  # type: ignore[arg-type]
    except OSError:
        return  # a full buffer: lost, as UDP is


def reply(bmc: Bmc, packet: bytes) -> bytes:
    """The answer to Get Channel Authentication Capabilities outside a session; else nothing."""
    known = packet[:4] == RMCP_IPMI and len(packet) > COMMAND_AT
    if not known or packet[4] != 0 or packet[COMMAND_AT] != GET_CHANNEL_AUTH:
        return b""
    bmc.counts.probes += 1
    if bmc.lie is Lie.RMCP_GARBAGE:
        return GARBAGE
    if bmc.lie is Lie.HANG:
        return b""
    head = bytes([packet[17], 0x1C])  # to whom; network function: answer of "App"
    body = bytes([packet[14], packet[18], GET_CHANNEL_AUTH, 0]) + CAPABLE
    message = head + bytes([_checksum(head)]) + body + bytes([_checksum(body)])
    return packet[:13] + bytes([len(message)]) + message


def _checksum(data: bytes) -> int:
    return -sum(data) % 256
