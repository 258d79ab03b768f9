"""A fleet in one event loop: python -m seed.lab.fleet, its Spec as JSON on standard input.

Says `ready` on standard output. Ends with its standard input, at SIGTERM or at SIGINT.
"""

import asyncio
import ctypes
import json
import os
import resource
import signal
import socket
import struct
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from seed.lab.fleet import rmcp
from seed.lab.fleet.bmc import Account, Bmc
from seed.lab.fleet.certificates import Certificates
from seed.lab.fleet.http import BACKLOG, PORT, Listener
from seed.lab.fleet.shapes import Shape
from seed.lab.fleet.spec import Lie, Spec

SETTABLE = ("lie", "shapes", "power", "serial", "login_seconds", "get_seconds", "session_limit")
SO_ATTACH_FILTER = 26


class Fleet:
    """All BMCs by address."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._empty = memory()
        self.bmcs = {bmc.address: bmc for bmc in _made(spec)}
        self.certificates = Certificates(shared=spec.certificates == "shared")

    def find(self, address: str) -> Bmc | None:
        return self.bmcs.get(address)

    def find_redfish(self, address: str) -> Bmc | None:
        bmc = self.bmcs.get(address)
        return None if bmc is None or bmc.speaks == "ipmi" else bmc

    def memory_per_bmc(self) -> int:
        """Bytes of this process for each BMC, what Python itself takes left out."""
        return (memory() - self._empty) // max(len(self.bmcs), 1)

    def asked(self, question: dict[str, Any]) -> dict[str, Any]:
        """One question by the control socket: {"do": "status" | "bmcs" | "set" | "renew", ...}."""
        match question:
            case {"do": "status"}:
                return {"bmcs": len(self.bmcs), "bytes_per_bmc": self.memory_per_bmc()}
            case {"do": "bmcs"}:
                return {"bmcs": [bmc.told() for bmc in self.bmcs.values()]}
            case {"do": "set", "address": str(address), "changes": dict(changes)}:
                return self._set(address, changes)
            case {"do": "renew", "address": str(address)} if address in self.bmcs:
                self.certificates.renew(self.bmcs[address])
                return {}
        return {"error": "no such question, or no such BMC"}

    def _set(self, address: str, changes: dict[str, Any]) -> dict[str, Any]:
        bmc = self.bmcs.get(address)
        if bmc is None or set(changes) - {*SETTABLE}:
            return {"error": f"no BMC {address}, or none of {', '.join(SETTABLE)}"}
        for name, value in changes.items():
            if name == "lie" and value:
                value = Lie(value)
            elif name == "shapes":
                value = tuple(Shape(shape) for shape in value)
            setattr(bmc, name, value)
        return bmc.told()


def _made(spec: Spec) -> list[Bmc]:
    return [
        Bmc(
            number=number,
            address=str(ip_address(address)),
            speaks=spec.speaks[number % len(spec.speaks)],
            accounts={"1": Account(spec.username, spec.password.get_secret_value())},
            lie=spec.lies.get(address),
            login_seconds=spec.login_seconds,
            get_seconds=spec.get_seconds,
            session_limit=spec.sessions,
        )
        for number, address in enumerate(spec.where())
    ]


def memory() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def lossy(port: socket.socket, share: float) -> None:
    """Lose that share of the packets each way: what goes out is lost on its way in, too.

    A classic BPF program (socket(7), SO_ATTACH_FILTER): a random word below the limit is dropped.
    """
    limit = int((1 - (1 - share) ** 2) * 2**32)
    random_word = (0xFFFFF000 + 56) & 0xFFFFFFFF  # SKF_AD_OFF + SKF_AD_RANDOM
    program = b"".join(
        struct.pack("=HBBI", *line)
        for line in (
            (0x20, 0, 0, random_word),  # ld  random
            (0x35, 1, 0, limit),  # jge limit, keep
            (0x06, 0, 0, 0),  # drop
            (0x06, 0, 0, 0xFFFFFFFF),  # keep
        )
    )
    buffer = ctypes.create_string_buffer(program)
    wrapped = struct.pack("HL", len(program) // 8, ctypes.addressof(buffer))
    port.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, wrapped)


def _listener(family: socket.AddressFamily) -> socket.socket:
    port = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        port.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    port.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", PORT))  # noqa: S104
    return port


async def serve(fleet: Fleet, control: Path | None) -> None:
    """Until cancelled, or standard input ends."""
    loop = asyncio.get_running_loop()
    web = Listener(fleet.find_redfish, fleet.certificates)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_reader(0, lambda: stop.set() if not os.read(0, 64) else None)
    tasks = []
    for family in (socket.AF_INET, socket.AF_INET6):
        tcp, udp = _listener(family), rmcp.opened(family)
        for port in (tcp, udp) if fleet.spec.loss else ():
            lossy(port, fleet.spec.loss)
        tcp.listen(BACKLOG)
        tasks.append(loop.create_task(web.serve(tcp)))
        loop.add_reader(udp, rmcp.answer_waiting, udp, fleet.find)
    if control is not None:
        await asyncio.start_unix_server(lambda r, w: _control(fleet, r, w), control)
        control.chmod(0o600)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await stop.wait()


async def _control(
    fleet: Fleet, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while line := await reader.readline():
        try:
            said = fleet.asked(json.loads(line))
        except ValueError as err:
            said = {"error": str(err)}
        writer.write(json.dumps(said).encode() + b"\n")
        await writer.drain()
    writer.close()


def main(control: Path | None) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    spec = Spec.model_validate_json(sys.stdin.buffer.readline())
    if control is not None:
        control.unlink(missing_ok=True)
    asyncio.run(serve(Fleet(spec), control))
