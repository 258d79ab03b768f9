"""Parts of an API on a database of its own, callers for it, and an HTTP double of Ironic."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from api.parts import Parts, Shelf
from api.roles import Role
from provisioning.models import Token, now
from provisioning.secrets import Sealer, digest, make_keys, new_token
from provisioning.tenants import Project
from tests.fakes.serving import serving
from tests.fakes.store import new_store

NOBODY_LISTENS = "http://127.0.0.1:9"
IRONIC_PASSWORD = "ironic-password-not-for-callers"


def nobody_answers(_address: str, _port: int) -> bool:
    """For networks of tests: those of this machine are not asked."""
    return False


def some_parts(base: Path, ironic_url: str = NOBODY_LISTENS) -> Parts:
    """A new database, a new key pair and an empty image folder below `base`."""
    make_keys(base / "master.key", base / "master.pub")
    store = new_store(base)
    make_keys(base / "images.key", base / "images.pub")
    (base / "images").mkdir()
    (base / "incoming").mkdir()
    (base / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    return Parts(
        store=store,
        sealer=Sealer(base / "master.pub"),
        ironic_url=ironic_url,
        ironic_user="seed-api",
        ironic_password=SecretStr(IRONIC_PASSWORD),
        image_dir=base / "images",
        ca_pem=base / "ca.pem",
        answers=nobody_answers,
        shelf=Shelf(base / "incoming", Sealer(base / "images.pub"), ("images.example.org",)),
    )


def a_token(parts: Parts, name: str, *roles: Role, project: str = "default", days: int = 1) -> str:
    """The secret of a new token; one with days < 0 is expired."""
    secret = new_token()
    row = Token(
        name=name,
        hash=digest(secret),
        roles=list(roles),
        project=project,
        expires_at=now() + timedelta(days=days),
    )
    a_project(parts, project)
    with parts.store.write() as session:
        session.add(row)
    return secret


def a_project(parts: Parts, name: str) -> None:
    """There is one of this name from now on."""
    with parts.store.write() as session:
        if session.get(Project, name) is None:
            session.add(Project(name=name))


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@dataclass
class Asked:
    """One request as the double got it; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class IronicDouble:
    """Keeps what it was asked; `answer` says what it answers: (status, headers, body)."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    answer: Callable[[Asked], tuple[int, dict[str, str], Any]] = lambda _: (200, {}, {})


def empty_ironic(double: IronicDouble) -> Callable[[Asked], tuple[int, dict[str, str], Any]]:
    """An `answer`: Ironic's versions, and no nodes."""

    def answer(asked: Asked) -> tuple[int, dict[str, str], Any]:
        version = {
            "id": "v1",
            "links": [{"href": f"{double.url}/v1/", "rel": "self"}],
            "status": "CURRENT",
            "min_version": "1.1",
            "version": "1.109",
        }
        if asked.path.startswith("/v1/nodes/") and not asked.path.startswith("/v1/nodes/detail"):
            return 404, {}, {"error_message": "there is no such node"}
        if asked.path.startswith("/v1/nodes"):
            return 200, {"OpenStack-API-Version": "baremetal 1.95"}, {"nodes": []}
        return 200, {}, {"name": "Ironic", "default_version": version, "versions": [version]}

    return answer


@contextmanager
def ironic_double() -> Iterator[IronicDouble]:
    """Listens on a free loopback port, with real wire types."""
    double = IronicDouble()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("content-length", "0"))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, self.rfile.read(length))
            double.asked.append(asked)
            status, more, body = double.answer(asked)
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in ({"content-type": "application/json"} | more).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    double.url = f"http://127.0.0.1:{server.server_address[1]}"
    with serving(server):
        yield double
