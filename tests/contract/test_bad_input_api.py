"""Bad input by the classes of it that reach the API: 4xx, a reason, a remedy, and nothing written.

Requests are spoken in ASGI, byte by byte: no client in between refuses what we want to send.
"""

import asyncio
import base64
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import func, select
from sqlmodel import SQLModel

from api.app import create_app
from api.limits import MAX_BYTES
from api.parts import Door, Parts
from api.roles import Role
from provisioning.models import Bmc
from tests.fakes.api import a_token, bearer, empty_ironic, ironic_double, some_parts

JSON = {"content-type": "application/json"}
LOGIN = {"name": "rack-a", "username": "admin", "password": "Pa55-of-a-bmc"}


@dataclass(frozen=True)
class Sent:
    """One request. body: chunks; `endless`: the last one comes again for ever."""

    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))
    query: str = ""
    endless: bool = False


@dataclass
class Got:
    status: int
    headers: dict[str, str]
    body: bytes
    chunks_read: int = 0


async def _speak(app: FastAPI, sent: Sent, client: tuple[str, int] | None) -> Got:
    got = Got(0, {}, b"")

    async def receive() -> dict[str, Any]:
        got.chunks_read += 1
        return {"type": "http.request", "body": sent.body, "more_body": sent.endless}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            got.status = message["status"]
            got.headers = {n.decode(): v.decode("latin-1") for n, v in message["headers"]}
        else:
            got.body += message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": sent.method,
        "scheme": "https",
        "path": sent.path,
        "raw_path": sent.path.encode("utf-8", "surrogatepass"),
        "root_path": "",
        "query_string": sent.query.encode("utf-8", "surrogatepass"),
        "headers": [
            (name.lower().encode(), value.encode("utf-8")) for name, value in sent.headers.items()
        ],
        "client": client,
        "server": ("seed", 8443),
        "state": {},
    }
    run: Callable[..., Awaitable[None]] = app
    await run(scope, receive, send)
    return got


def speak(app: FastAPI, sent: Sent, client: tuple[str, int] | None = ("uid:0", 1)) -> Got:
    return asyncio.run(_speak(app, sent, client))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """A room with a login, a token and an accepted server in it."""
    with ironic_double() as ironic:
        ironic.answer = empty_ironic(ironic)
        made = some_parts(tmp_path_factory.mktemp("api"), ironic.url)
        a_token(made, "there", Role.VIEWER)
        with made.store.write() as session:
            session.add(Bmc(address="172.22.1.11", protocol="redfish"))
        yield made


@pytest.fixture(scope="module")
def root(parts: Parts) -> FastAPI:
    app = create_app(parts, Door.LOCAL)
    made = Sent(
        "POST", "/v1/credentials", json.dumps(LOGIN).encode(), JSON | {"idempotency-key": "k"}
    )
    assert speak(app, made).status == 201
    return app


@pytest.fixture(scope="module")
def web(parts: Parts) -> FastAPI:
    return create_app(parts, Door.WEB)


def rows(parts: Parts) -> dict[str, int]:
    with parts.store.read() as session:
        return {
            name: session.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in SQLModel.metadata.tables.items()
        }


def post(path: str, body: Any, **headers: str) -> Sent:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Sent("POST", path, raw, JSON | headers)


def named(name: Any) -> list[Sent]:
    """A noun of this name, wherever the API takes a new one."""
    key = {"ssh_keys": ["ssh-ed25519 AAAA me"], "image": "debian"}
    return [
        post("/v1/credentials", LOGIN | {"name": name}),
        post("/v1/tokens", {"name": name, "roles": ["viewer"]}),
        post("/v1/claims", {"name": name, **key}),
        post("/v1/bmcs/172.22.1.11:accept", {"name": name}),
    ]


def everywhere(names: list[str]) -> list[Sent]:
    return [sent for name in names for sent in named(name)]


def token(**more: str) -> bytes:
    """A token's body with raw JSON in the places of its fields."""
    fields = {"name": '"x"', "roles": '["viewer"]', "days": "1"} | more
    return ("{" + ", ".join(f'"{k}": {v}' for k, v in fields.items()) + "}").encode()


POSTS = (
    "/v1/tokens", "/v1/credentials", "/v1/discoveries", "/v1/claims", "/v1/classes",
    "/v1/classes:test", "/v1/classes:from-node", "/v1/classes:plan-apply", "/v1/classes:apply",
    "/v1/nodes:plan-provide", "/v1/nodes:provide", "/v1/nodes:plan-inspect", "/v1/nodes:inspect",
    "/v1/adoptions", "/v1/adoptions:plan", "/v1/observations:forget", "/v1/imports",
    "/v1/bmcs/172.22.1.11:accept", "/v1/bmcs/172.22.1.11:trust", "/v1/claims/web:release",
)  # fmt: skip
DEPTHS = (26, 27, 64, 1000, 100_000)
ODD_NAMES = [
    "a\u202eb", "\u202dab", "a\u2066b", "\u200bweb", "we\u200cb", "web\u200d", "web\ufeff",
    "w\u0435b", "\u0430dmin", "\uff57eb", "web\u0301", "w\u00e9b", "\u00df", "\u00a0web",
    "\U0001f40d", "\u2024\u2024", "a\u2215b", "\u2488", "web\u034f", "web\u2028",
]  # fmt: skip
TAKEN_NAMES = [
    "..", ".", "-rf", "--help", "", " ", "a b", "a/b", "../../etc/passwd", "a:accept", "*", "?",
    "a\\b", "%2e%2e", "a;b", "$(id)", "`id`", "{{7*7}}", "{0.__class__}", "%s", "<b>", "'or''='",
    "x" * 65536, "5b0c1e6e-5f0b-4d6e-9a64-3f6f2c1f7a10", "5B0C1E6E-5F0B-4D6E-9A64-3F6F2C1F7A10",
    "all", "localhost", "none", "ungrouped",
]  # fmt: skip
CONTROL = ["\r\n", "\n", "\r", "\x0b", "\x0c", "\x1b[31m", "\x85", "\t", "\x7f", "\x08"]
NOT_IN_HEADERS = [
    "a\r\nX-Evil: 1",
    "a\nb",
    "a\rb",
    "\r\n\r\n<html>",
    "a\x0bb",
    "a\x1b[2J",
    "a\x7fb",
]
RANGES = [
    "127.0.0.1", "127.0.0.0/8", "::1", "0.0.0.0/32", "0.0.0.0/0", "224.0.0.1", "255.255.255.255",
    "010.0.0.1", "0x0a000001", "167772161", "10.0.0.1/33", "10.0.0.1-9.0.0.1", "10.0.0.0/8",
    "http://10.0.0.1", "file:///etc/passwd", "gopher://10.0.0.1", "root@10.0.0.1", "10.0.0.1:623",
    "10.0.0.1;id", "10.0.0.1\nx", "fe80::1%eth0;id", "10.0.0", "10.0.0.256", "localhost", "*", "",
]  # fmt: skip
SECRETS = [
    "", "Bearer", "Bearer ", "Bearer x", "Bearer  ", "Bearer " + "x" * 70_000, "bearer\tx",
    "Basic", "Basic x", "Basic ====", "Basic eDp5", "Basic " + base64.b64encode(b"there:").decode(),
    "Basic " + base64.b64encode(b"\xff:x").decode(), "Basic dGhlcmU=", "Digest username=there",
    "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.", "Bearer null", "Bearer undefined",
    "Bearer ä", "Bearer x, Bearer y", "Negotiate x", "Bearer 0", "Bearer \r\nX: 1", "there",
]  # fmt: skip


def classes() -> dict[str, list[Sent]]:
    return {
        "deep": [
            post(path, opened * depth)
            for depth in DEPTHS
            for opened in (b"[", b'{"a":', b'[{"a":', b'{"\\"":')
            for path in ("/v1/tokens", "/v1/discoveries")
        ],
        "large": [post(path, b" " * (MAX_BYTES + 1)) for path in POSTS if path != "/v1/imports"]
        + [post("/v1/tokens", b"{}", **{"content-length": "9" * n}) for n in (7, 20, 4000)],
        "endless": [Sent("POST", path, b" " * 65536, endless=True) for path in POSTS],
        "packed": [
            post(path, b"\x1f\x8b\x08", **{"content-encoding": coding})
            for path in ("/v1/tokens", "/v1/imports", "/v1/racks:import")
            for coding in ("gzip", "GZIP", "x-gzip", "deflate", "br", "zstd", "compress",
                           "gzip, gzip", "identity, gzip", "x")
        ],
        "twice": [
            post(path, body)
            for path in ("/v1/tokens", "/v1/claims", "/v1/credentials")
            for body in (b'{"a": 1, "a": 1}', b'{"a": {"b": 1, "b": 2}}', b'[{"a": 1, "a": 2}]',
                         b'{"a": 1, "\\u0061": 2}', b'{"": 1, "": 2}',
                         token(roles='[], "roles": []'),
                         token(name='"x", "name": "y"'))
        ],
        "numbers": [
            post("/v1/tokens", token(days=number))
            for number in ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e309", str(2**63),
                           str(-(2**63) - 1), str(2**64), "9" * 400, "-" + "9" * 400, "9" * 5000,
                           "0", "-1", "1.5", "367", "1e3", '"1e1000"', "true", "null", "[1]", "{}")
        ],
        "characters": [
            post("/v1/tokens", body)
            for body in (
                b"\xff", b"\xfe\xff", b'{"name": "\xc3\x28"}', b'{"name": "\xc0\xaf"}', b"\x80",
                b'{"name": "\xed\xa0\x80"}', b'{"name": "\xf5\x80\x80\x80"}', b'"\xe2\x82"',
                "{}".encode("utf-16"), "{}".encode("utf-32"), "{}".encode("utf-16-le"),
                b"\0", b"{}\0",
                token(name='"a\\u0000b"'), token(name='"\\ud800"'), token(name='"\\udfff"'),
                token(name='"\\udc00\\ud800"'), token(name='"\\ud83d\\ud83d"'), b'{"\\ud800": 1}',
                b'{"\\u0000": 1}', token(roles='["\\ud800"]'), token(roles='["\\u0000"]'),
                b"\xef\xbb\xbf{}", "{}".encode("utf-7") + b"+AAA-",
            )
        ],
        "odd names": everywhere(ODD_NAMES),
        "taken names": everywhere(TAKEN_NAMES),
        "types": [
            Sent("POST", path, json.dumps(LOGIN).encode(), {"content-type": kind})
            for path in ("/v1/credentials", "/v1/claims")
            for kind in ("text/plain", "text/json", "application/xml", "multipart/form-data", "",
                         "application/x-www-form-urlencoded", "application/yaml", "*/*", "json",
                         "application/jsonp", "application/octet-stream", "application/ json",
                         "text/html; application/json", "application/json/x")
        ] + [Sent("POST", "/v1/credentials", json.dumps(LOGIN).encode(), {})],
        "control characters": [
            sent
            for evil in CONTROL
            for sent in (
                post("/v1/credentials", LOGIN | {"name": f"x{evil}y"}),
                post("/v1/credentials", LOGIN | {"name": "x", "username": f"a{evil}b"}),
                post("/v1/tokens", {"name": f"x{evil}", "roles": ["viewer"]}),
            )
        ],
        "headers": [
            post("/v1/credentials", LOGIN | {"name": "x"}, **{name: evil})
            for evil in NOT_IN_HEADERS
            for name in ("idempotency-key", "if-match", "content-type")
        ],
        "cursors": [
            Sent("GET", path, query=f"cursor={cursor}&limit={limit}")
            for path in ("/v1/bmcs", "/v1/tokens")
            for cursor, limit in (
                ("x", "1"), ("====", "1"), ("YS4xLmI=", "1"), ("-1", "1"), ("0", "1"), ("%00", "1"),
                ("%ff", "1"), ("A" * 300, "1"), ("", "0"), ("", "-1"), ("", "1001"), ("", "x"),
                ("", "1e2"), ("", "9" * 30), ("", "%D9%A1"), ("", "1.0"), ("", "+1"), ("", "0x1"),
                ("", "1&limit=2"), ("", "1&cursor=2"), ("", "1&sort=nix"), ("", "1&fields=nix"),
            )
        ],
        "stale tags": [
            Sent("PUT", "/v1/credentials/rack-a", json.dumps({"username": "b", "password": "c"})
                 .encode(), JSON | {"if-match": tag})
            for tag in ('"x"', '""', '"0"', 'W/"x"', '"x", "y"', "x", '"', "'x'", '"x" "y"', "W/",
                        '"x",', ',"x"', '"\u00e4"', '"a\tb"', '"' + "f" * 32 + '"', '"-1"', "**",
                        '*, "x"', '"' + "9" * 4000 + '"', 'w/"x"', '"2^63"')
        ],
        "reused keys": [
            Sent(method, path, json.dumps(body).encode(), JSON | {"idempotency-key": key}, query)
            for key in ("k", '"k"')
            for method, path, query, body in (
                ("POST", "/v1/credentials", "", LOGIN | {"name": "other"}),
                ("POST", "/v1/credentials", "", LOGIN | {"username": "other"}),
                ("POST", "/v1/credentials", "", LOGIN | {"password": "other"}),
                ("POST", "/v1/credentials", "", LOGIN | {"more": 1}),
                ("POST", "/v1/credentials", "a=1", LOGIN),
                ("POST", "/v1/credentials/", "", LOGIN),
                ("PUT", "/v1/credentials/rack-a", "", LOGIN),
                ("DELETE", "/v1/tokens/there", "", LOGIN),
                ("POST", "/v1/tokens", "", LOGIN),
                ("POST", "/v1/claims", "", LOGIN),
                ("PATCH", "/v1/credentials", "", LOGIN),
            )
        ],
        "selectors": [
            post(path, body)
            for path in ("/v1/nodes:plan-provide", "/v1/nodes:plan-inspect",
                         "/v1/classes:plan-apply")
            for body in ({"nodes": []}, {"nodes": ["*"]}, {"nodes": [""]}, {"nodes": ["nix"]}, {},
                         {"nodes": ["nix", "nix"]}, {"nodes": None}, {"nodes": "all"},
                         {"nodes": ["all"]}, {"nodes": [1]}, {"nodes": {"all": True}}, [],
                         {"nodes": ["172.22.1.11/0"]}, {"node": ["nix"]}, {"nodes": [["nix"]]},
                         {"nodes": ["x"] * 10_001})
        ],
        "addresses": [post("/v1/discoveries", {"ranges": [text]}) for text in RANGES]
        + [Sent("GET", f"/v1/bmcs/{text}") for text in RANGES if text and "/" not in text],
    }  # fmt: skip


CLASSES = classes()
NAMES = CLASSES["odd names"] + CLASSES["taken names"]
CASES = [
    pytest.param(sent, id=f"{name} {n}")
    for name, some in CLASSES.items()
    for n, sent in enumerate(some)
]


def test_every_class_has_twenty_cases() -> None:
    assert {name: len(some) for name, some in CLASSES.items() if len(some) < 20} == {}
    assert len(SECRETS) >= 20


def check(got: Got) -> None:
    assert 400 <= got.status < 500, got.body
    problem = json.loads(got.body)
    assert problem["detail"]
    assert problem["remedy"]
    told = got.body.decode("ascii", "replace")
    assert "Traceback" not in told
    assert len(got.body) < 4000
    for name, value in got.headers.items():
        assert not set("\r\n\0") & set(name + value)


@pytest.mark.parametrize("sent", CASES)
def test_it_is_refused_with_a_reason_and_nothing_is_written(
    parts: Parts, root: FastAPI, sent: Sent
) -> None:
    before = rows(parts)
    got = speak(root, sent)
    check(got)
    assert rows(parts) == before
    assert got.status == 422 or sent not in NAMES
    assert got.chunks_read <= 2 + MAX_BYTES // 65536 * 17  # an endless body is not read to its end


@pytest.mark.parametrize("secret", SECRETS)
def test_a_wrong_token_is_nobodys(parts: Parts, web: FastAPI, secret: str) -> None:
    before = rows(parts)
    for method, path in (("GET", "/v1/tokens"), ("POST", "/v1/tokens"), ("DELETE", "/v1/nix")):
        got = speak(web, Sent(method, path, b"[" * 30, {"authorization": secret}))
        assert got.status == 401
        check(got)
    assert rows(parts) == before


@pytest.mark.parametrize("n", range(20))
def test_a_token_with_one_bit_flipped_is_nobodys(parts: Parts, web: FastAPI, n: int) -> None:
    secret = a_token(parts, f"flip-{n}", Role.VIEWER)
    flipped = secret[: 2 * n] + chr(ord(secret[2 * n]) ^ 1) + secret[2 * n + 1 :]
    assert speak(web, Sent("GET", "/v1/images", headers=bearer(flipped))).status == 401
    assert speak(web, Sent("GET", "/v1/images", headers=bearer(secret))).status == 200


@pytest.mark.parametrize("evil", NOT_IN_HEADERS)
def test_a_request_id_with_control_characters_is_replaced(root: FastAPI, evil: str) -> None:
    got = speak(root, Sent("GET", "/v1/images", headers={"x-request-id": evil}))
    assert got.status == 200
    assert got.headers["x-request-id"].isalnum()


@pytest.mark.parametrize("body", [b'{"plan": "x"}', b'{"why": ""}', b"[]", b"1", b'"x"'])
def test_a_body_that_nobody_would_look_at_is_refused(
    parts: Parts, root: FastAPI, body: bytes
) -> None:
    """Where the API's document has none. `{}` and `null` are how some clients write none."""
    before = rows(parts)
    asked = 0
    for path, operations in root.openapi()["paths"].items():
        for method in operations.keys() & {"post", "put", "patch", "delete"}:
            if "requestBody" not in operations[method]:
                got = speak(root, Sent(method.upper(), re.sub("{.*?}", "nix", path), body))
                check(got)
                assert "takes no body" in json.loads(got.body)["detail"]
                asked += 1
    assert asked > 10
    assert rows(parts) == before


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b" {} "])
def test_a_body_that_says_nothing_is_none(root: FastAPI, body: bytes) -> None:
    assert speak(root, Sent("POST", "/v1/claims/nix:undo", body)).status == 404
