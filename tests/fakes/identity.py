"""Real identity providers for a test: processes of the environment `identity`, with TLS."""

import os
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from seed.host import tls
from tests.fakes.appliance import environments

HERE = Path(__file__).parent
PYTHON = environments() / "identity" / "bin" / "python"
LOOPBACK = "http://127.0.0.1:1/callback"


@dataclass(frozen=True)
class Certificate:
    """For 127.0.0.1, by a CA of the test's own."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def files(self) -> tuple[str, str]:
        return str(self.folder / "provider.pem"), str(self.folder / "provider.key")

    def client(self, url: str) -> httpx.Client:
        trust = ssl.create_default_context(cafile=str(self.ca))
        # A connection that is kept would hold the port of a server that was killed.
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(base_url=url, verify=trust, timeout=60, trust_env=False, limits=limits)


def certificate(folder: Path) -> Certificate:
    folder.mkdir(exist_ok=True)
    ca, key = tls._ensure_ca(folder)
    tls._ensure_server(folder, "provider", [IPv4Address("127.0.0.1")], ca, key)
    return Certificate(folder)


@dataclass
class Server:
    """One process; `stop` and `start` keep its port."""

    script: str
    log: Path
    shown: Certificate
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[str] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        argv = [PYTHON, HERE / self.script, str(self.port), *self.shown.files, *self.argv]
        env = os.environ | self.env
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                argv, env=env, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()  # the test's own timeout ends a wait for ever
        assert said.strip().isdigit(), self.log.read_text()[-3000:]
        self.port = int(said)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate(timeout=10)
            self.process = None


@contextmanager
def running(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


def oidc_server(
    folder: Path, shown: Certificate, algorithm: str = "RS256", life: int = 300, device: str = ""
) -> Server:
    """life: seconds that its tokens are good; below zero they have expired already."""
    return Server("oidc_process.py", folder / "oidc.log", shown, (algorithm, str(life), device))


def person(server: Server, sub: str, **claims: Any) -> None:
    """Make a person known there, or change what is said of them."""
    with server.shown.client(server.url) as http:
        assert http.put(f"/users/{sub}", json=claims).status_code == 204


def logged_in(server: Server, url: str, sub: str) -> str:
    """Do at the provider's form what a person does; where the browser is sent then."""
    with server.shown.client(server.url) as http:
        answer = http.post(url, data={"sub": sub})
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


def id_token(server: Server, sub: str, client_id: str = "seed", host: str = "") -> str:
    """By the authorization code flow. host: call the provider by that name: it is its issuer."""
    query = {
        "client_id": client_id,
        "redirect_uri": LOOPBACK,
        "response_type": "code",
        "scope": "openid profile",
        "state": "s",
    }
    location = logged_in(server, f"/oauth2/authorize?{httpx.QueryParams(query)}", sub)
    code = parse_qs(urlsplit(location).query)["code"][0]
    asked = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": LOOPBACK,
        "client_id": client_id,
    }
    with server.shown.client(server.url) as http:
        answer = http.post("/oauth2/token", data=asked, headers={"host": host} if host else {})
    return answer.json()["id_token"]


KEYSTONE_CONF = """\
[DEFAULT]
log_file = {folder}/keystone.log
[database]
connection = sqlite:///{folder}/keystone.db
[token]
provider = fernet
expiration = {life}
[fernet_tokens]
key_repository = {folder}/fernet
[credential]
key_repository = {folder}/credential
[cache]
enabled = false
[identity]
password_hash_rounds = 4
"""


def keystone_server(folder: Path, shown: Certificate, password: str, life: int = 3600) -> Server:
    """A new one, with the user admin and `password`. life: seconds of its tokens."""
    folder.mkdir(exist_ok=True)
    config = folder / "keystone.conf"
    config.write_text(KEYSTONE_CONF.format(folder=folder, life=life))
    env = {"OS_BOOTSTRAP_PASSWORD": password}
    return Server("keystone_process.py", folder / "process.log", shown, (str(config),), env)


class Admin:
    """Keystone's administrator, over its API."""

    def __init__(self, server: Server, password: str) -> None:
        self._http = server.shown.client(server.url)
        self.token = self.log_in("admin", password, "admin")

    def log_in(self, user: str, password: str, project: str = "") -> str:
        """A token of `user`; scoped to `project`, or to none."""
        domain = {"id": "default"}
        shown = {"user": {"name": user, "domain": domain, "password": password}}
        auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": shown}}
        if project:
            auth["scope"] = {"project": {"name": project, "domain": domain}}
        answer = self._http.post("/v3/auth/tokens", json={"auth": auth})
        assert answer.status_code == 201, answer.text
        return answer.headers["x-subject-token"]

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        shown = {"X-Auth-Token": self.token, **headers}
        answer = self._http.request(method, f"/v3{path}", json=body, headers=shown)
        assert answer.is_success, f"{method} {path}: {answer.text}"
        return answer.json() if answer.content else None

    def project(self, name: str) -> str:
        return self.call("POST", "/projects", {"project": {"name": name}})["project"]["id"]

    def user(self, name: str, password: str) -> str:
        asked = {"user": {"name": name, "password": password}}
        return self.call("POST", "/users", asked)["user"]["id"]

    def grant(self, user: str, project: str, role: str) -> None:
        found = self.call("GET", f"/roles?name={role}")["roles"]
        made = found or [self.call("POST", "/roles", {"role": {"name": role}})["role"]]
        self.call("PUT", f"/projects/{project}/users/{user}/roles/{made[0]['id']}")

    def revoke(self, token: str) -> None:
        self.call("DELETE", "/auth/tokens", **{"X-Subject-Token": token})


def answers(url: str, headers: Mapping[str, str], path: str = "/v1/images") -> httpx.Response:
    return httpx.get(url + path, headers=dict(headers), timeout=60, trust_env=False)
