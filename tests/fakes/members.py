"""What the node gateway has for members of clusters, with TLS as the appliance makes it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from socketserver import BaseServer
from typing import Any
from uuid import uuid4

from provisioning.cluster_rows import Cluster, Member
from provisioning.models import Address, Claim, Hold
from provisioning.secrets import digest
from provisioning.store import Store
from seed.host import netns, tls
from seed.host.paths import Paths
from seed.settings import ProvisioningWire
from tests.fakes.serving import serving
from tests.fakes.settings import some_settings
from tests.fakes.tls import over_tls

TOKEN = "member-token-0123456789abcdef"


@dataclass
class Gateway:
    """status: of each report; raw: said in place of an answer. values: as PUT, by path.

    orders: of whoever asks; None: there are none. orders_of: by the address that asks. folder: of
    its certificate. answers: clear, it thinks about reports.
    """

    address: str
    folder: Path
    ca: str
    namespace: str = ""
    port: int = 0
    status: int = 204
    raw: bytes = b""
    reports: list[dict[str, Any]] = field(default_factory=list)
    came: list[float] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    values: dict[str, bytes] = field(default_factory=dict)
    orders: dict[str, Any] | None = None
    orders_of: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    answers: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self.port}"

    @contextmanager
    def up(self) -> Iterator[BaseServer]:
        """Each time on the same port."""
        server = netns.call(
            self.namespace,
            lambda: ThreadingHTTPServer(
                (self.address, self.port), type("Own", (Handler,), {"gateway": self})
            ),
        )
        self.port = server.server_address[1]
        over_tls(server, self.folder / "gateway.pem", self.folder / "gateway.key")
        with serving(server):
            yield server

    def said(self, step: str) -> list[str]:
        return [report["state"] for report in self.reports if report["step"] == step]


class Handler(BaseHTTPRequestHandler):
    gateway: Gateway

    def answer(self, status: int, body: bytes = b"") -> None:
        if self.gateway.raw:
            self.wfile.write(self.gateway.raw)
            return
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        if status == 302:
            self.send_header("location", f"{self.gateway.url}/elsewhere")
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        self.gateway.asked.append((self.command, self.path))
        assert self.headers["authorization"] == f"Bearer {TOKEN}"
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def do_POST(self) -> None:
        body = json.loads(self.body())
        status = self.gateway.status
        if status < 300 and not self.gateway.raw:
            self.gateway.reports.append(body)
            self.gateway.came.append(time.monotonic())
        self.gateway.answers.wait(20)
        self.answer(status)
        if status >= 300:
            self.gateway.refused.append(body)

    def do_PUT(self) -> None:
        self.gateway.values[self.path] = self.body()
        self.answer(204)

    def do_GET(self) -> None:
        self.body()
        if self.path == "/v1/members/orders":
            told = self.gateway.orders_of.get(self.client_address[0], self.gateway.orders)
            self.answer(404 if told is None else 200, json.dumps(told).encode())
            return
        found = self.gateway.values.get(self.path)
        self.answer(404 if found is None else 200, found or b"")

    def log_message(self, *_: object) -> None:
        pass


def a_cluster(store: Store, tokens: dict[str, str]) -> None:
    """Rows of the cluster web: a member for each address, with its token."""
    with store.write() as session:
        web = Cluster(name="web", network="provisioning", vip="10.40.0.9")
        session.add(web)
        session.flush()
        for number, (address, token) in enumerate(tokens.items()):
            claim, node = Claim(name=f"web-worker-{number}", image="debian"), uuid4()
            session.add(claim)
            session.flush()
            session.add(Hold(node_uuid=node, claim_id=claim.id))
            session.add(Address(address=address, node_uuid=node))
            session.add(
                Member(
                    cluster_id=web.id, claim_id=claim.id, role="worker", number=number,
                    name=claim.name, token_hash=digest(token),
                )
            )  # fmt: skip


def a_gateway(state: Path, address: str, namespace: str = "") -> Gateway:
    """Down. Each time it is up, it is so on the same port."""
    start = IPv4Address(address)
    wire = ProvisioningWire(
        interface="lo", address=IPv4Interface(f"{address}/24"), pool_start=start + 10,
        pool_end=start + 99, unknown_start=start + 100, unknown_end=start + 110,
    )  # fmt: skip
    settings = some_settings(state, provisioning=wire)
    tls.ensure(settings)
    folder = Paths(settings).tls
    found = Gateway(address, folder, (folder / "ca.pem").read_text(), namespace)
    found.answers.set()
    with found.up():
        pass
    return found
