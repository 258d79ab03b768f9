"""The typed client: against the real API, and against a server that breaks as networks do."""

import gc
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from api.routes.events import EventOut
from provisioning.models import Claim, Event, now
from provisioning.store import record
from seed.client import (
    ClientError,
    Misconfigured,
    Refused,
    Seed,
    Stuck,
    TooLong,
    Unavailable,
    segment,
)
from tests.fakes.api import a_token, empty_ironic, ironic_double, some_parts
from tests.fakes.claims import KEYS, NETWORKS, an_active_claim
from tests.fakes.serving import api_on_a_port, serving


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with ironic_double() as ironic:
        ironic.answer = empty_ironic(ironic)
        parts = replace(some_parts(tmp_path_factory.mktemp("api"), ironic.url), networks=NETWORKS)
        an_active_claim(parts.store)
        yield parts


@pytest.fixture(scope="module")
def seed(parts: Parts) -> Iterator[Seed]:
    secret = a_token(parts, "me", *Role)
    with api_on_a_port(create_app(parts, Door.WEB)) as url, Seed(url, token=secret) as found:
        yield found


# --- the real API ---------------------------------------------------------------------------------


def test_nouns_are_typed(seed: Seed) -> None:
    claim = seed.claims.show("web")
    assert claim.handout is not None
    assert claim.handout.nodes[0].addresses[0].prefix == 24
    assert [c.name for c in seed.claims.list()] == ["web"]
    assert seed.claims.renew("web", lease_seconds=86400).lease_end is not None
    end = now() + timedelta(days=2)
    assert seed.claims.renew("web", ends_at=end).lease_end == end
    assert seed.claims.protect("web").protected
    assert not seed.claims.unprotect("web").protected
    assert seed.claims.wait("web", timeout=5).state == "active"
    assert seed.claims.known_hosts("web").startswith("172.22.0.10,web-0 ssh-ed25519 ")
    assert seed.claims.ssh_config("web").startswith("Host web-0\n")
    assert seed.claims.inventory("web")["claim_web"] == {"hosts": ["web-0", "web-1"]}
    assert seed.inventory.ansible()["baremetal"]["hosts"] == ["web-0", "web-1"]
    assert seed.inventory.targets(80)[0].targets == ["172.22.0.10:80"]
    assert list(seed.images.list()) == []
    assert "me" in [token.name for token in seed.tokens.list()]


def test_a_token_is_made_and_revoked(seed: Seed) -> None:
    made = seed.tokens.create(name="once", roles=["viewer"])
    assert made.token
    seed.tokens.revoke("once")
    assert "once" not in [token.name for token in seed.tokens.list()]


def test_a_refusal_carries_all_that_was_said(seed: Seed) -> None:
    with pytest.raises(Refused, match="there is no claim 'nope'") as raised:
        seed.claims.show("nope")
    error = raised.value
    assert (error.status, error.code, str(error)) == (404, "not-found", error.detail)
    assert error.remedy
    assert error.request_id == error.problem["request_id"] != ""


def test_a_claim_that_cannot_be_had_is_refused(seed: Seed) -> None:
    with pytest.raises(Refused) as raised:
        seed.claims.create(name="x", image="nope", ssh_keys=[KEYS[0]])
    assert raised.value.status == 404


def test_events_to_the_last(parts: Parts, seed: Seed) -> None:
    with parts.store.write() as session:
        session.add_all([Event(kind="test.many", subject="s") for _ in range(1200)])
    found = [event.id for event in seed.events.list(subject="s")]
    assert len(found) == 1200
    assert found == sorted(set(found))
    assert len(list(seed.events.list(after=found[-10], subject="s"))) == 9


def test_events_are_followed_as_they_happen(parts: Parts, seed: Seed) -> None:
    """The API's own stream: what was there first, then what comes."""

    def add(number: int) -> None:
        with parts.store.write() as session:
            record(session, f"test.{number}", "followed")

    add(1)
    following = seed.events.follow(subject="followed")
    assert next(following).kind == "test.1"
    add(2)
    add(3)
    assert [event.kind for event in islice(following, 2)] == ["test.2", "test.3"]
    following.close()  # type: ignore[attr-defined]


def test_projects_users_and_webhooks_are_typed(seed: Seed) -> None:
    made = seed.projects.create(name="client-test", description="of the client")
    assert seed.projects.show("client-test") == made
    assert "client-test" in [project.name for project in seed.projects.list()]
    seed.projects.delete("client-test")
    assert list(seed.users.list()) == []
    assert list(seed.webhooks.list()) == []


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"problem": "no proof", "remedy": "look at its console"}, Stuck),
        ({"state": "released", "ended_at": now()}, Stuck),
        ({"state": "deploying"}, TooLong),
    ],
    ids=["stuck", "released", "late"],
)
def test_waiting_ends(facts: dict[str, Any], kind: type[ClientError], parts: Parts, seed: Seed,
                      ) -> None:  # fmt: skip
    row = {"name": "w", "image": "debian", "state": "deploying"} | facts
    with parts.store.write() as session:
        claim = Claim(**row)
        session.add(claim)
    try:
        with pytest.raises(kind) as raised:
            seed.claims.wait(str(claim.id), timeout=0.0)
        assert raised.value.remedy
    finally:
        with parts.store.write() as session:
            session.delete(claim)


# --- a server that breaks -------------------------------------------------------------------------

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Broken:
    """`answers` one after the other; None: the connection is cut before an answer."""

    url: str = ""
    answers: list[Answer | None] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def client(self, tries: int = 4) -> Seed:
        return Seed(self.url, token="t", tries=tries)


@contextmanager
def broken() -> Iterator[Broken]:
    state = Broken()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.asked.append((self.command, self.path, headers))
            answer = state.answers.pop(0)
            self.close_connection = True
            if answer is None:
                return
            status, more, body = answer
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    with serving(server):
        yield state


@pytest.fixture
def server() -> Iterator[Broken]:
    with broken() as state:
        yield state


def down(status: int = 503, **headers: str) -> Answer:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"Retry-After": "0"} | told, b'{"detail": "not now", "remedy": "later"}'


OK: Answer = (200, {}, b"[]")
Call = Callable[[Seed], Any]


@pytest.mark.parametrize(
    "call", [lambda s: s.get("/x"), lambda s: s.put("/x", {}), lambda s: s.create("/x", {})]
)
@pytest.mark.parametrize("first", [None, down(502), down(503), down(504), down(429)], ids=str)
def test_what_is_safe_is_tried_again(call: Call, first: Answer | None, server: Broken) -> None:
    server.answers = [first, first, OK]
    with server.client() as seed:
        assert call(seed) == []
    keys = {headers.get("idempotency-key") for _, _, headers in server.asked}
    assert len(server.asked) == 3
    assert len(keys) == 1, "one key for all tries"


@pytest.mark.parametrize(
    "call", [lambda s: s.post("/x"), lambda s: s.delete("/x"), lambda s: s.upload("/x", b"")]
)
@pytest.mark.parametrize("first", [None, down(503)], ids=str)
def test_what_may_have_happened_is_sent_once(
    call: Call, first: Answer | None, server: Broken
) -> None:
    server.answers = [first]
    with server.client() as seed, pytest.raises(Unavailable):
        call(seed)
    assert len(server.asked) == 1


def test_what_was_not_looked_at_comes_again(server: Broken) -> None:
    server.answers = [down(429), OK]
    with server.client() as seed:
        assert seed.post("/x") == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500])
def test_a_no_is_a_no(status: int, server: Broken) -> None:
    server.answers = [down(status)]
    with server.client() as seed, pytest.raises(Refused, match="not now"):
        seed.get("/x")
    assert len(server.asked) == 1


def test_it_gives_up_after_its_tries(server: Broken) -> None:
    server.answers = [down()] * 5
    with server.client(tries=3) as seed, pytest.raises(Unavailable, match="not now"):
        seed.get("/x")
    assert len(server.asked) == 3


def test_each_creation_has_a_key_of_its_own(server: Broken) -> None:
    server.answers = [OK, OK]
    with server.client() as seed:
        seed.create("/x", {})
        seed.create("/x", {})
    first, second = (headers["idempotency-key"] for _, _, headers in server.asked)
    assert first != second


@pytest.mark.parametrize("body", [b"<html>gone", b"[1]", b'"x"', b"", b'{"detail": null}'])
def test_an_answer_that_is_no_problem_document_is_still_one_sentence(
    body: bytes, server: Broken
) -> None:
    server.answers = [(404, {}, body)]
    with server.client() as seed, pytest.raises(Refused) as raised:
        seed.get("/x")
    assert raised.value.status == 404


def test_pages_are_followed_and_the_token_goes_nowhere_else(server: Broken) -> None:
    stranger = "http://192.0.2.1/v1/x?after=2&limit=2"
    server.answers = [
        (200, {"Link": f'<{stranger}>; rel="next"'}, b"[1, 2]"),
        (200, {"Link": '</v1/x?after=4>; rel="next", </v1/x>; rel="first"'}, b"[3, 4]"),
        (200, {}, b"[5]"),
    ]
    with server.client() as seed:
        assert list(seed.pages("/x", limit=2, state=None)) == [1, 2, 3, 4, 5]
    assert [path for _, path, _ in server.asked] == [
        "/v1/x?limit=2", "/v1/x?after=2&limit=2", "/v1/x?after=4",
    ]  # fmt: skip


def test_a_redirect_is_not_followed_with_the_token(server: Broken) -> None:
    server.answers = [(307, {"Location": "http://192.0.2.1/"}, b"")]
    with server.client() as seed, pytest.raises(Refused):
        seed.get("/x")


def an_event(number: int) -> bytes:
    row = EventOut(**Event(id=number, kind="k").model_dump()).model_dump_json()
    return f"id: {number}\nevent: k\ndata: {row}\n\n".encode()


STREAM = {"Content-Type": "text/event-stream"}


def test_a_stream_that_breaks_goes_on_after_the_last_event(server: Broken) -> None:
    half = b": a pulse\n\nretry: 10\n" + an_event(8) + an_event(9) + an_event(10)[:-20]
    server.answers = [
        (200, STREAM, half), down(), None, down(429), (200, STREAM, an_event(10) + an_event(11)),
    ]  # fmt: skip
    with server.client() as seed:
        found = [event.id for event in islice(seed.events.follow(after=7), 4)]
    assert found == [8, 9, 10, 11], "none twice, none missing"
    assert [headers["last-event-id"] for _, _, headers in server.asked] == [
        "7", "9", "9", "9", "9",
    ]  # fmt: skip
    assert all(headers["accept"] == "text/event-stream" for _, _, headers in server.asked)


def test_a_stream_that_is_refused_ends(server: Broken) -> None:
    server.answers = [down(403)]
    with server.client() as seed, pytest.raises(Refused):
        next(seed.events.follow())


# --- where to -------------------------------------------------------------------------------------


def test_nobody_there_is_tried_again_and_said(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        # httpcore 1.0 leaves the socket open when connecting to it fails: it is let go here.
        warnings.simplefilter("ignore", ResourceWarning)
        said = said_by_nobody(tmp_path / "api.sock")
        gc.collect()
    assert said == (f"Seed does not answer at {tmp_path / 'api.sock'}", False)


def said_by_nobody(path: Path) -> tuple[str, bool]:
    with Seed(socket=path, tries=2) as seed:
        try:
            seed.post("/x")
        except Unavailable as error:
            return error.detail, error.sent
    raise AssertionError("somebody answered")


def test_somebody_who_never_answers() -> None:
    """A server that takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begin = time.monotonic()
        with silent_client(url) as seed, pytest.raises(Unavailable, match="in time"):
            seed.get("/x")
        assert time.monotonic() - begin < 10


def silent_client(url: str) -> Seed:
    return Seed(url, token="t", timeout=0.3, tries=1)


@pytest.mark.parametrize("token", ["", "a b", "a\nX-Other: 1", "\u00e4"])
def test_a_token_that_is_none_is_said_at_once(token: str) -> None:
    with pytest.raises(Misconfigured, match="the token is empty"):
        Seed("https://192.0.2.1", token=token)


@pytest.mark.parametrize(
    "server", ["http://192.0.2.1", "http://seed.example.org", "ftp://127.0.0.1", "seed", "https://"]
)
def test_a_token_goes_over_tls_only(server: str) -> None:
    with pytest.raises(Misconfigured):
        Seed(server, token="secret")


def test_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED_SERVER", "https://192.0.2.1")
    with pytest.raises(Misconfigured, match="no token"):
        Seed.from_environment()
    monkeypatch.setenv("SEED_TOKEN_FILE", str(tmp_path / "t"))
    with pytest.raises(Misconfigured, match="cannot read the token file"):
        Seed.from_environment()
    (tmp_path / "t").write_text("secret\n")
    monkeypatch.setenv("SEED_CA", str(tmp_path / "ca.pem"))
    with pytest.raises(Misconfigured, match="cannot read the CA"):
        Seed.from_environment()
    monkeypatch.delenv("SEED_CA")
    Seed.from_environment().close()
    monkeypatch.delenv("SEED_SERVER")
    with Seed.from_environment(tmp_path / "api.sock") as seed:
        assert seed.where == str(tmp_path / "api.sock")


@pytest.mark.parametrize("text", ["..", "a/b", "", "a?b", "a b", "a\n", "-x", "x" * 81, "a%2fb"])
def test_a_name_leads_nowhere_else(text: str) -> None:
    with pytest.raises(ClientError, match="is no name or address"):
        segment(text)


def test_an_address_has_one_form() -> None:
    assert segment("FE80::0:1%eth0") == "fe80::1"


def test_it_knows_no_terminal() -> None:
    """Programs import it: no typer, and the API's modules only when a noun needs them."""
    code = (
        "import sys, seed.client; "
        "print([m for m in ('typer', 'fastapi', 'sqlmodel', 'openstack') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stderr
