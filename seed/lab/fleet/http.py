"""HTTP/1.1 over TLS: one listener for the addresses of all BMCs (RFC 9112, as far as needed)."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import unquote

from seed.lab.fleet import lies
from seed.lab.fleet.bmc import Bmc
from seed.lab.fleet.certificates import Certificates
from seed.lab.fleet.redfish import Answer, Request, answer
from seed.lab.fleet.spec import Lie

PORT = 443
LINE_LIMIT, BODY_LIMIT = 16 * 1024, 256 * 1024  # bytes
IDLE_SECONDS = 60.0
BACKLOG = 4096


class Listener:
    """Accepts for every BMC; which one was meant, the connection's own address tells."""

    def __init__(self, find: Callable[[str], Bmc | None], certificates: Certificates) -> None:
        self._find = find
        self._certificates = certificates
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:  # it was gone before it was taken, or no descriptor is free
                await asyncio.sleep(0.01)
                continue
            task = loop.create_task(self._talk(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _talk(self, connection: socket.socket) -> None:
        bmc = self._find(connection.getsockname()[0])
        if bmc is None:
            connection.close()
            return
        bmc.counts.connections += 1
        with contextlib.suppress(OSError, EOFError, ssl.SSLError, TimeoutError, ValueError):
            if bmc.lie in (Lie.HANG, Lie.TLS_GARBAGE):
                await _no_tls(bmc, connection)
            else:
                await self._requests(bmc, connection)
        connection.close()

    async def _requests(self, bmc: Bmc, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(LINE_LIMIT)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, connection, ssl=self._certificates.of(bmc), ssl_handshake_timeout=10
        )
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            while True:
                async with asyncio.timeout(IDLE_SECONDS):
                    request = await _read(reader)
                said = answer(bmc, request)
                if said.seconds:
                    await asyncio.sleep(said.seconds)
                await _write(bmc, request, said, writer)
                if request.headers.get("connection", "").lower() == "close":
                    return
        finally:
            transport.abort()


async def _no_tls(bmc: Bmc, connection: socket.socket) -> None:
    """Say nothing, or nonsense, until the caller goes away."""
    loop = asyncio.get_running_loop()
    connection.setblocking(False)
    if bmc.lie is Lie.TLS_GARBAGE:
        await loop.sock_sendall(connection, lies.TLS_NOISE)
    while await loop.sock_recv(connection, 4096):
        pass


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ", 2)
    headers = {}
    for line in head[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    length = int(headers.get("content-length") or 0)
    if not 0 <= length <= BODY_LIMIT:
        raise ValueError("a body of that size")
    body = await reader.readexactly(length) if length else b""
    path, _, query = target.partition("?")
    return Request(method, path.rstrip("/"), headers, body, unquote(query))


async def _write(bmc: Bmc, request: Request, said: Answer, writer: asyncio.StreamWriter) -> None:
    onward = lies.redirect(bmc, request.path) if request.method == "GET" else None
    if onward:
        said = Answer(302, {}, {"Location": onward})
    body = b"" if said.body is None else lies.text(bmc, request.path, said.body)
    headers = {"OData-Version": "4.0", "Content-Type": "application/json"} | said.headers
    endless = said.status == 200 and lies.is_endless(bmc, request.path)
    headers["Content-Length"] = str(lies.HUGE if endless else len(body))
    lines = [f"HTTP/1.1 {said.status} {HTTPStatus(said.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    if endless:
        writer.write(head)
        async for piece in lies.endless(bmc, request.path, body):
            if writer.transport.is_closing():
                return
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)  # who hung up is noticed by the loop alone
        return
    writer.write(head + (b"" if request.method == "HEAD" else body))
    await writer.drain()
