"""One IPMI BMC: OpenIPMI's ipmi_sim behind a relay on the BMC's own address and UDP port 623.

The relay reads along. It counts refused logins, which ipmi_sim keeps to itself, and it answers the
one question ipmi_sim of Debian 12 is silent on, "Get Channel Cipher Suites", for which ipmitool
waits ten seconds before every command. Standard library only.
"""

import json
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seed.lab.failed_logins import FailedLogins

RMCP_IPMI = b"\x06\x00\xff\x07"
RMCP_PLUS = 6
RAKP2, RAKP3, RAKP4 = 0x13, 0x14, 0x15
GIVEN_UP_SECONDS = 3.0
"""A client that finds the server's proof wrong often just goes away: no RAKP 3 in this time."""
IDLE_SECONDS = 120.0
APP, GET_CIPHER_SUITES = 0x06, 0x54
# Suite 3: RAKP-HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128 (IPMI 2.0, table 22-18).
CIPHER_SUITE_3 = bytes([0xC0, 3, 0x01, 0x41, 0x81])

Address = tuple[str, int]


def _checksum(data: bytes) -> int:
    return -sum(data) % 256


def rakp(packet: bytes) -> tuple[int, int, bytes] | None:
    """Of a RAKP 2, 3 or 4 message: type, status (0: fine) and the session's id; else None."""
    if len(packet) < 24 or packet[:4] != RMCP_IPMI or packet[4] != RMCP_PLUS:
        return None
    kind = packet[5] & 0x3F
    return (kind, packet[17], packet[20:24]) if kind in (RAKP2, RAKP3, RAKP4) else None


def cipher_suites_answer(packet: bytes) -> bytes | None:
    """The answer to "Get Channel Cipher Suites" outside a session; None for anything else.

    The request comes in an IPMI 1.5 envelope (authentication type none) or in a 2.0 one.
    """
    if packet[:4] != RMCP_IPMI or len(packet) < 14:
        return None
    plus = packet[4] == RMCP_PLUS
    start = 16 if plus else 14
    if packet[4] not in (0, RMCP_PLUS) or (plus and packet[5] != 0):
        return None
    session = packet[6:10] if plus else packet[9:13]
    message = packet[start:]
    if any(session) or len(message) < 10:
        return None
    if message[1] >> 2 != APP or message[5] != GET_CIPHER_SUITES:
        return None
    index = message[8] & 0x3F
    data = bytes([0, 1]) + (CIPHER_SUITE_3 if index == 0 else b"")
    head = bytes([message[3], (APP + 1) << 2 | message[4] & 3])
    body = bytes([message[0], message[4] & 0xFC | message[1] & 3, GET_CIPHER_SUITES]) + data
    reply = head + bytes([_checksum(head)]) + body + bytes([_checksum(body)])
    if plus:
        return packet[:14] + len(reply).to_bytes(2, "little") + reply
    return packet[:13] + bytes([len(reply)]) + reply


@dataclass
class Flow:
    """One client: its own socket to ipmi_sim, so that answers find their way back."""

    upstream: socket.socket
    used: float
    proving: dict[bytes, float] = field(default_factory=dict)
    refused: set[bytes] = field(default_factory=set)


class Relay:
    """Passes datagrams between clients and ipmi_sim, and watches logins."""

    def __init__(self, listen: Address, upstream: Address, failed: FailedLogins) -> None:
        self.front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.front.bind(listen)
        self.upstream = upstream
        self.failed = failed
        self.flows: dict[Address, Flow] = {}

    def turn(self, seconds: float) -> None:
        """Handle what arrives within `seconds`, then what has become overdue."""
        back = {flow.upstream: client for client, flow in self.flows.items()}
        ready, _, _ = select.select([self.front, *back], [], [], seconds)
        for source in ready:
            try:
                packet, client = source.recvfrom(2048)
            except OSError:
                continue  # ipmi_sim is not (yet) there; clients repeat themselves
            if source is self.front:
                self.from_client(packet, client)
            else:
                self.from_server(packet, back[source])
        self.overdue(time.monotonic())

    def from_client(self, packet: bytes, client: Address) -> None:
        own = cipher_suites_answer(packet)
        if own:
            self.front.sendto(own, client)
            return
        flow = self.flows.get(client)
        if flow is None:
            upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            upstream.connect(self.upstream)
            flow = self.flows[client] = Flow(upstream, time.monotonic())
        flow.used = time.monotonic()
        seen = rakp(packet)
        if seen and seen[0] == RAKP3:
            self.judge(flow, seen)
        try:
            flow.upstream.send(packet)
        except OSError:
            return

    def from_server(self, packet: bytes, client: Address) -> None:
        seen = rakp(packet)
        if seen:
            self.judge(self.flows[client], seen)
        self.front.sendto(packet, client)

    def judge(self, flow: Flow, message: tuple[int, int, bytes]) -> None:
        """Keep count of one RAKP message. Messages get repeated: one session counts once.

        RAKP 2 and 4 carry the client's session id, RAKP 3 the server's; a flow has one login
        under way at a time, so they need not be matched.
        """
        kind, status, session = message
        if status:
            flow.proving.clear()
            self.refuse(flow, session)
        elif kind == RAKP2:
            flow.proving.setdefault(session, time.monotonic())
        else:
            flow.proving.clear()

    def refuse(self, flow: Flow, session: bytes) -> None:
        if session not in flow.refused:
            flow.refused.add(session)
            self.failed.add()

    def overdue(self, now: float) -> None:
        for client, flow in list(self.flows.items()):
            for session, since in list(flow.proving.items()):
                if now - since > GIVEN_UP_SECONDS:
                    del flow.proving[session]
                    self.refuse(flow, session)
            if now - flow.used > IDLE_SECONDS:
                flow.upstream.close()
                del self.flows[client]


def answers(upstream: Address) -> bool:
    """Whether ipmi_sim answers "Get Channel Authentication Capabilities"."""
    question = RMCP_IPMI + bytes(9) + bytes.fromhex("09 20 18 c8 81 00 38 8e 04 b5")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(upstream)
            probe.send(question)
            return bool(probe.recv(512))
        except OSError:
            return False


def main(directory: Path) -> None:
    """Run ipmi_sim and the relay until killed; the file `ready` appears once both answer."""
    config: dict[str, Any] = json.loads((directory / "relay.json").read_text())
    upstream = (config["upstream"], config["upstream_port"])
    relay = Relay(
        (config["address"], config["port"]), upstream, FailedLogins(directory / "failed_logins")
    )
    simulator = subprocess.Popen(config["simulator"], stdin=subprocess.DEVNULL)

    def stop(number: int, frame: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    try:
        serve(relay, simulator, upstream, directory / "ready")
    finally:
        simulator.terminate()
        simulator.wait(timeout=10)


def serve(relay: Relay, simulator: subprocess.Popen[bytes], upstream: Address, ready: Path) -> None:
    """Relay until ipmi_sim ends."""
    while simulator.poll() is None:
        relay.turn(0.5 if ready.exists() else 0.05)
        if not ready.exists() and answers(upstream):
            ready.touch()
    raise SystemExit("ipmi_sim ended")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
