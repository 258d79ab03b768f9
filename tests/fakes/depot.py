"""A server of disk images, plain or with TLS: ETags, ranges, cut connections, redirects."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.fakes.receiver import a_certificate
from tests.fakes.serving import serving
from tests.fakes.tls import over_tls


@dataclass
class Asked:
    """One GET; header names in lower case."""

    path: str
    headers: dict[str, str]


Reply = Callable[["Depot", BaseHTTPRequestHandler, Asked], None]


@dataclass
class Depot:
    """files: path -> content. cuts: so many answers break off after `cut_at` bytes of their own.
    replies: path -> what answers instead."""

    name: str
    port: int = 0
    ca: Path = Path()
    files: dict[str, bytes] = field(default_factory=dict)
    etag: str = '"one"'
    cuts: int = 0
    cut_at: int = 100_000
    length: bool = True
    replies: dict[str, Reply] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    @property
    def authority(self) -> str:
        return f"{self.name}:{self.port}"

    def url(self, path: str = "/disk.img", scheme: str = "http") -> str:
        return f"{scheme}://{self.authority}{path}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = Asked(handler.path, {k.lower(): v for k, v in handler.headers.items()})
        self.asked.append(asked)
        path = handler.path.partition("?")[0]
        if path in self.replies:
            self.replies[path](self, handler, asked)
        elif path in self.files:
            self.send(handler, asked, self.files[path])
        else:
            self.say(handler, 404)

    def send(self, handler: BaseHTTPRequestHandler, asked: Asked, content: bytes) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", asked.headers.get("range", ""))
        first = int(wanted[1]) if wanted and asked.headers.get("if-range") == self.etag else 0
        part = content[first:]
        handler.send_response(206 if first else 200)
        handler.send_header("etag", self.etag)
        if first:
            handler.send_header("content-range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        if self.length:
            handler.send_header("content-length", str(len(part)))
        handler.end_headers()
        if self.cuts:
            self.cuts -= 1
            handler.wfile.write(part[: self.cut_at])
            handler.close_connection = True
        else:
            handler.wfile.write(part)

    def say(
        self, handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str
    ) -> None:
        handler.send_response(status)
        for key, value in headers.items():
            handler.send_header(key.replace("_", "-"), value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


def redirect(url: str) -> Reply:
    return lambda depot, handler, _: depot.say(handler, 307, location=url)


def reply(status: int, body: bytes = b"", **headers: str) -> Reply:
    return lambda depot, handler, _: depot.say(handler, status, body, **headers)


@contextmanager
def a_depot(folder: Path, name: str = "images.test", *, tls: bool = False) -> Iterator[Depot]:
    """Listens on loopback; whoever wants to find it under its name resolves that himself."""
    depot = Depot(name, ca=folder / f"{name}.ca.pem")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            depot.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Clients that hang up are what is tested."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        over_tls(server, a_certificate(folder, name, depot.ca))
    depot.port = server.server_address[1]
    with serving(server):
        yield depot
