"""Secrets go in and never out: not by any answer to anybody, not by any log line.

Each secret is distinct, and looked for as it is and as what usually becomes of text: base64 at each
of its three alignments, hex, percent-encoding, JSON's escapes.
"""

import base64
import io
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import uuid4

import pytest
import structlog
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlmodel import select

from api.app import create_app, route_table
from api.parts import Door, Parts
from api.roles import Role
from provisioning import parts_once
from provisioning.models import Bmc, Claim, Credential, Order, now
from provisioning.secret_files import Sealing, SecretFile
from provisioning.secrets import Sealer
from provisioning.states import Login, OrderKind
from provisioning.targets import PartSpec
from seed import log as logs
from tests.fakes.api import Asked, a_token, bearer, empty_ironic, ironic_double, some_parts

# Characters that each encoding writes in a way of its own.
BMC_PASSWORD, USER_PASSWORD, USER_DATA, SENT, FILE, PART, REGISTRY_PASSWORD = (
    f'c4n\u00e4ry "{what}"/+&={what}'
    for what in ("bmc", "user", "data", "sent", "file", "part", "registry")
)
PLANTED = ("bmc", "user", "hook", "registry", "file", "part", "part url", *Role)
FIELDS = (
    "content",
    "content_b64",
    "secret_files",
    "secrets",
    "password",
    "secret",
    "token",
    "user_data",
    "sealed",
    "new_password",
    "why",
    "reason",
)


def forms(secret: str) -> set[bytes]:
    """What it may look like. Of base64 only what does not depend on its neighbours."""
    raw = secret.encode()
    found = {raw, raw.hex().encode(), raw.hex().upper().encode(), repr(secret)[1:-1].encode()}
    found |= {f(secret).encode() for f in (quote, quote_plus)} | {quote(secret, safe="").encode()}
    found |= {json.dumps(secret, ensure_ascii=ascii)[1:-1].encode() for ascii in (True, False)}
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(b"\0" * shift + raw)[4 if shift else 0 : -4].rstrip(b"="))
    return found


def leaked(text: bytes, secrets: dict[str, str]) -> list[str]:
    """Text that was escaped twice is the same without its backslashes."""
    bare = text.replace(b"\\", b"")
    return [
        name
        for name, secret in secrets.items()
        if any(f in text or f.replace(b"\\", b"") in bare for f in forms(secret))
    ]


@pytest.mark.parametrize(
    "text",
    [
        SENT, json.dumps(SENT), json.dumps(json.dumps(SENT)), quote(SENT),
        repr(json.dumps({"x": SENT}).encode()), repr({"x": SENT}), SENT.encode().hex(),
        base64.b64encode(f"admin:{SENT}".encode()).decode(),
        base64.b64encode(f"adm:{SENT}!!".encode()).decode(),
        base64.urlsafe_b64encode(f"ad:{SENT}".encode()).decode(),
    ],
)  # fmt: skip
def test_the_search_finds_what_it_is_for(text: str) -> None:
    assert leaked(f"before {text} after".encode(), {"sent": SENT}) == ["sent"]
    assert leaked(b"before after", {"sent": SENT}) == []


@dataclass
class Site:
    parts: Parts
    web: TestClient
    callers: dict[str, dict[str, str]]
    secrets: dict[str, str]
    log: io.StringIO

    def look(self, where: str, *texts: bytes) -> None:
        for text in (*texts, self.log.getvalue().encode()):
            assert not leaked(text, self.secrets), f"{where} says {leaked(text, self.secrets)}"
        self.log.seek(0)
        self.log.truncate()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """All at DEBUG, libraries too."""
    with ironic_double() as ironic, everything_logged() as log:
        parts = some_parts(tmp_path_factory.mktemp("leaks"), ironic.url)
        empty = empty_ironic(ironic)

        def answer(asked: Asked) -> tuple[int, dict[str, str], Any]:
            """As Ironic fails on what it was sent: it repeats it."""
            if asked.method == "GET":
                return empty(asked)
            return 500, {}, {"error_message": asked.body.decode(errors="replace")}

        ironic.answer = answer
        tokens = {role: a_token(parts, f"a-{role}", role) for role in Role}
        secrets = {"bmc": BMC_PASSWORD, "user": USER_PASSWORD,
                   "data": USER_DATA, "sent": SENT, "file": FILE, "part": PART,
                   "registry": REGISTRY_PASSWORD, **tokens}  # fmt: skip
        secrets["part url"] = plant(parts)
        with TestClient(create_app(parts, Door.WEB), raise_server_exceptions=False) as web:
            callers = {role: bearer(token) for role, token in tokens.items()}
            plant_registry(web, callers[Role.OPERATOR])
            secrets["hook"] = made(web, callers[Role.OPERATOR])
            yield Site(parts, web, callers, secrets, log)


class everything_logged:
    """Our format, into memory, at DEBUG; as it was afterwards."""

    def __enter__(self) -> io.StringIO:
        root = logging.getLogger()
        self.before = (root.level, root.handlers[:])
        self.structlog = structlog.get_config()
        stream = io.StringIO()
        logs.configure(stream)
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
            cache_logger_on_first_use=False,
        )
        root.setLevel(logging.DEBUG)
        self.quiet = {name: logging.getLogger(name).level for name in logs._QUIET}
        for name in self.quiet:
            # SQL at DEBUG shows its parameters: nobody can switch that on in Seed.
            level = logging.WARNING if name == "sqlalchemy" else logging.DEBUG
            logging.getLogger(name).setLevel(level)
        return stream

    def __exit__(self, *_: object) -> None:
        structlog.configure(**self.structlog)
        root = logging.getLogger()
        root.level, root.handlers[:] = self.before
        for name, level in self.quiet.items():
            logging.getLogger(name).setLevel(level)


def plant(parts: Parts) -> str:
    """The secret of a one-time part's URL."""
    sealer: Sealer = parts.sealer
    with parts.store.write() as session:
        row = Credential(name="rack-a", username="admin", sealed=b"")
        row.sealed = sealer.seal(BMC_PASSWORD, f"credential:{row.id}")
        session.add(row)
        session.add(
            Claim(name="x", image="debian", user_data=USER_DATA, created_by="me")
            if "created_by" in Claim.model_fields
            else Claim(name="x", image="debian", user_data=USER_DATA)
        )
        session.flush()
        session.add(
            Bmc(address="10.0.1.1", protocol="redfish", credential_id=row.id, login=Login.OK)
        )
        claim = session.exec(select(Claim)).one()
        file = SecretFile(path="/etc/x", content=SecretStr(FILE))
        Sealing(sealer, [file]).keep(session, claim)
        order = Order(node_uuid=uuid4(), kind=OrderKind.DEPLOY, generation=1)
        session.add(order)
        session.flush()
        spec = PartSpec("x", "/etc/x", 0o600, PART.encode())
        (url,) = parts_once.make(session, order, [spec], "https://x", now() + timedelta(hours=1))
    return url.url.rpartition("/")[2]


def plant_registry(web: TestClient, headers: dict[str, str]) -> None:
    login = {"username": "seed", "password": REGISTRY_PASSWORD}
    assert web.put("/v1/registry-logins/r.example", json=login, headers=headers).status_code == 200


def made(web: TestClient, headers: dict[str, str]) -> str:
    """A user, and a webhook whose secret is answered: it is shown once."""
    user = {"name": "x", "password": USER_PASSWORD, "roles": ["operator"]}
    assert web.post("/v1/users", json=user, headers=headers).status_code == 201
    hook = {"name": "x", "url": "https://hooks.example/x"}
    secret: str = web.post("/v1/webhooks", json=hook, headers=headers).json()["secret"]
    return secret


def paths(method: str) -> list[str]:
    """Every route; `x` is a name that was planted."""
    found = sorted(path for verb, path in route_table() if verb == method)
    return [re.sub(r"\{address\}", "10.0.1.1", _filled(path)) for path in found]


def _filled(path: str) -> str:
    path = path.replace("{path:path}", "/v1/nodes/x")
    return re.sub(r"\{(?!address)[^}]*\}", "x", path)


@pytest.mark.parametrize("path", paths("GET"))
def test_no_answer_to_anybody_holds_a_secret(site: Site, path: str) -> None:
    for who, headers in site.callers.items():
        answer = site.web.get(path, headers=headers)
        site.look(f"GET {path} to {who}", answer.content, str(answer.headers).encode())


WRITES = [(method, path) for method in ("POST", "PUT", "PATCH", "DELETE") for path in paths(method)]


@pytest.mark.parametrize(("method", "path"), WRITES, ids=" ".join)
def test_what_is_refused_is_not_repeated(site: Site, method: str, path: str) -> None:
    """Secrets in the wrong place, of the wrong shape, or in no JSON at all."""
    bodies: list[bytes] = [
        json.dumps({name: SENT for name in FIELDS if name not in ("why", "reason")}).encode(),
        json.dumps({name: [SENT] for name in FIELDS}).encode(),
        json.dumps({"nested": {name: SENT for name in FIELDS}}).encode(),
        json.dumps([SENT]).encode(), json.dumps(SENT).encode(), SENT.encode(),
        b'{"password": "' + SENT.encode() + b'"', b"\xff" + SENT.encode(),
    ]  # fmt: skip
    headers = {"content-type": "application/json"}
    for role in (Role.OPERATOR, Role.CLAIMER, Role.VIEWER):
        for body in bodies:
            answer = site.web.request(
                method, path, headers=site.callers[role] | headers, content=body
            )
            site.look(f"{method} {path} by {role}", answer.content)


@pytest.mark.parametrize(
    "header",
    [f"Bearer {quote(SENT)}", f"Digest {quote(SENT)}", quote(SENT),
     "Basic " + base64.b64encode(f"admin:{SENT}".encode()).decode(),
     "Basic " + base64.b64encode(SENT.encode()).decode() + "?"],
)  # fmt: skip
def test_a_wrong_login_is_not_repeated(site: Site, header: str) -> None:
    for path in ("/v1/nodes", "/baremetal/v1/nodes", "/nowhere"):
        answer = site.web.get(path, headers={"authorization": header})
        assert answer.status_code == 401
        site.look(path, answer.content)


def test_a_secret_in_a_query_is_not_logged(site: Site) -> None:
    for path in ("/v1/events", "/v1/nodes", "/baremetal/v1/nodes"):
        answer = site.web.get(path, params={"token": SENT}, headers=site.callers[Role.VIEWER])
        site.look(path, answer.content)


def test_a_new_token_is_said_once(site: Site) -> None:
    asked = {"name": "once", "roles": ["operator"]}
    made = site.web.post("/v1/tokens", json=asked, headers=site.callers[Role.OPERATOR])
    secret = made.json()["token"]
    assert not leaked(site.log.getvalue().encode(), {"new": secret})
    for path in paths("GET"):
        for headers in site.callers.values():
            answer = site.web.get(path, headers=headers)
            assert not leaked(answer.content, {"new": secret})


def test_the_database_holds_no_password(site: Site, tmp_path: Path) -> None:
    """A backup may be read by others. (user-data is a person's text, and kept as it is.)"""
    url = str(site.parts.store.engine.url).removeprefix("sqlite:///")
    content = b"".join(p.read_bytes() for p in Path(url).parent.glob("seed.db*"))
    hidden = {name: site.secrets[name] for name in PLANTED}
    assert not leaked(content, hidden)


def test_what_ironic_repeats_when_it_fails_is_not_logged(site: Site) -> None:
    headers = site.callers[Role.DESTROYER]
    opened = site.web.post("/v1/break-glass", json={"why": "a leak is tried"}, headers=headers)
    assert opened.status_code == 201
    body = {"target": "rescue", "rescue_password": SENT}
    answer = site.web.put("/baremetal/v1/nodes/x/states/provision", json=body, headers=headers)
    assert answer.status_code == 503
    assert "ironic.failed" in site.log.getvalue()
    site.look("Ironic's failure", answer.content)
    events = site.web.get("/v1/events", headers=headers)
    assert "break-glass.called" in events.text
    site.look("the event", events.content)
