"""Questions that IPMI answers without a login, over RMCP (IPMI 2.0, 13.6 and 22.13 to 22.15)."""

import socket
import time
from dataclasses import dataclass

PORT = 623
RMCP = bytes.fromhex("0600ff07")
SESSIONLESS = bytes(9)  # authentication none, sequence 0, session 0
BMC, CONSOLE = 0x20, 0x81
APP = 0x06 << 2  # network function, LUN 0
GET_CAPABILITIES, GET_CIPHER_SUITES = 0x38, 0x54
THIS_CHANNEL, ADMINISTRATOR, VERSION_2 = 0x0E, 0x04, 0x80
BY_SUITE, IPMI_PAYLOAD = 0x80, 0x00
TRIES = 2
PIECE = 16  # bytes of cipher suite records in one answer
STANDARD, OEM = 0xC0, 0xC1
MOST_PIECES = 64
LEAST_ANSWER = 22  # bytes, up to the completion code and the checksum


@dataclass(frozen=True)
class Doors:
    """What a BMC says of its logins. version: "2.0", "1.5" or empty. weak: one sentence each."""

    version: str = ""
    weak: tuple[str, ...] = ()


def packet(command: int, data: bytes) -> bytes:
    head = bytes([BMC, APP])
    body = bytes([CONSOLE, 0, command]) + data
    message = head + _sum(head) + body + _sum(body)
    return RMCP + SESSIONLESS + bytes([len(message)]) + message


def _sum(data: bytes) -> bytes:
    return bytes([-sum(data) & 0xFF])


def answer_of(data: bytes, command: int) -> bytes | None:
    """The data of a good answer to `command`; None for anything else."""
    good = (
        len(data) >= LEAST_ANSWER
        and data[:4] == RMCP
        and data[4] == 0
        and data[19] == command
        and data[20] == 0
    )
    return data[21:-1] if good else None


def ask(address: str, command: int, data: bytes, seconds: float) -> bytes | None:
    """One question, sent twice where the first gets no answer. None: it has none."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as port:
        try:
            port.connect((address, PORT))
            for _ in range(TRIES):
                port.send(packet(command, data))
                found = _hear(port, command, time.monotonic() + seconds / TRIES)
                if found is not None:
                    return found
        except OSError:
            return None
    return None


def _hear(port: socket.socket, command: int, until: float) -> bytes | None:
    while (left := until - time.monotonic()) > 0:
        port.settimeout(left)
        try:
            found = answer_of(port.recv(1024), command)
        except TimeoutError:
            return None
        if found is not None:
            return found
    return None


def doors(address: str, seconds: float) -> Doors:
    """Get Channel Authentication Capabilities. What its flags say; no login is tried."""
    asked = bytes([VERSION_2 | THIS_CHANNEL, ADMINISTRATOR])
    said = ask(address, GET_CAPABILITIES, asked, seconds)
    return doors_of(said) if said else Doors()


def doors_of(said: bytes) -> Doors:
    """Channel, authentication types, status, extended capabilities: table 22-15."""
    if len(said) < 4:
        return Doors()
    types, status, extended = said[1:4]
    weak = []
    if types & 0x01:
        weak.append("IPMI 1.5 logins without any password are allowed (authentication type none)")
    if status & 0x01:
        weak.append("an empty user name with an empty password is let in (anonymous login)")
    elif status & 0x02:
        weak.append("a user without a name is enabled")
    version = "2.0" if types & 0x80 and extended & 0x02 else "1.5"
    return Doors(version, tuple(weak))


def cipher_suites(address: str, seconds: float) -> tuple[int, ...]:
    """Get Channel Cipher Suites: the ids it offers, in order; empty where it does not tell."""
    records, until = b"", time.monotonic() + seconds
    for index in range(MOST_PIECES):
        asked = bytes([THIS_CHANNEL, IPMI_PAYLOAD, BY_SUITE | index])
        said = ask(address, GET_CIPHER_SUITES, asked, max(0.1, until - time.monotonic()))
        if said is None or time.monotonic() > until:
            break
        records += said[1:]
        if len(said) - 1 < PIECE:
            break
    return suites_of(records)


def suites_of(records: bytes) -> tuple[int, ...]:
    """Ids of cipher suite records (table 22-18): a start byte, an id, algorithms."""
    found: dict[int, None] = {}
    at = 0
    while at + 1 < len(records):
        if records[at] in (STANDARD, OEM):
            found[records[at + 1]] = None
            at += 2 if records[at] == STANDARD else 5  # an OEM's number follows
        else:
            at += 1  # an algorithm: its tag is never 3
    return tuple(found)


def weak_suites(suites: tuple[int, ...]) -> tuple[str, ...]:
    weak = []
    if 0 in suites:
        weak.append("cipher suite 0 is offered: whoever knows a user name gets in by IPMI")
    if suites and 17 not in suites:
        weak.append("cipher suite 17 is not offered: IPMI logins rest on SHA-1")
    return tuple(weak)
