"""Logins in a vault: the KV v2 route of a small HTTP double, its token and path looked at."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from provisioning.errors import Invalid, NotFound, SeedError, VaultUnavailable
from provisioning.models import Credential
from provisioning.secrets import Unsealer, make_keys
from provisioning.vault import Vault, split
from seed.reconciler import open_logins
from seed.settings import VaultSettings
from tests.fakes.serving import serving

TOKEN, PASSWORD = "hvs.the-token", "only-in-the-vault"
SECRETS: dict[str, Any] = {
    "/v1/secret/data/rack-a/bmc": {"username": "root", "password": PASSWORD},
    "/v1/secret/data/half": {"username": "root"},
    "/v1/secret/data/words": "nothing",
}


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """As KV v2 answers: {"data": {"data": ..., "metadata": ...}}, 403 and 404 with "errors"."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = 200, {"data": {"data": SECRETS.get(self.path), "metadata": {}}}
            if self.headers.get("X-Vault-Token") != TOKEN:
                status, body = 403, {"errors": ["permission denied"]}  # type: ignore[dict-item]
            elif self.path not in SECRETS:
                status, body = 404, {"errors": []}  # type: ignore[dict-item]
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    with serving(server):
        yield Vault(f"http://127.0.0.1:{server.server_address[1]}", token)


def test_a_login_is_read_where_it_lives(vault: Vault, tmp_path: Path) -> None:
    username, password = vault.read("vault:secret/rack-a/bmc")
    assert (username, password.get_secret_value()) == ("root", PASSWORD)
    make_keys(tmp_path / "key", tmp_path / "pub")
    access = open_logins(Unsealer(tmp_path / "key"), vault)
    row = Credential(name="vault:secret/rack-a/bmc", username="", sealed=b"")
    opened = access(row)
    assert (opened.username, opened.password.get_secret_value()) == ("root", PASSWORD)
    assert opened.mark
    assert PASSWORD not in repr(opened) + repr(vault)


@pytest.mark.parametrize(
    ("reference", "error", "says"),
    [
        ("vault:secret/nowhere", NotFound, "has no vault:secret/nowhere"),
        ("vault:secret/half", Invalid, "keys username and password"),
        ("vault:secret/words", Invalid, "keys username and password"),
        ("vault:secret", Invalid, "vault:MOUNT/PATH"),
        ("vault:secret/../sys/seal", Invalid, "vault:MOUNT/PATH"),
        ("vault:secret/a b", Invalid, "vault:MOUNT/PATH"),
    ],
)
def test_what_is_no_login_is_said(
    vault: Vault, reference: str, error: type[SeedError], says: str
) -> None:
    with pytest.raises(error) as seen:
        vault.read(reference)
    assert says in f"{seen.value} {seen.value.remedy}"


def test_a_wrong_token_and_a_dead_vault(vault: Vault, tmp_path: Path) -> None:
    vault.token_file.write_text("hvs.other")
    with pytest.raises(VaultUnavailable, match="does not let Seed read"):
        vault.read("vault:secret/rack-a/bmc")
    with pytest.raises(VaultUnavailable, match="did not answer"):
        Vault("http://127.0.0.1:9", vault.token_file).read("vault:secret/rack-a/bmc")
    with pytest.raises(VaultUnavailable, match="did not answer"):
        Vault(vault.url, tmp_path / "no-token").read("vault:secret/rack-a/bmc")


def test_without_a_vault_its_logins_are_refused_in_words(tmp_path: Path) -> None:
    make_keys(tmp_path / "key", tmp_path / "pub")
    access = open_logins(Unsealer(tmp_path / "key"))
    with pytest.raises(VaultUnavailable, match="no vault is configured"):
        access(Credential(name="vault:secret/x", username="", sealed=b""))


def test_a_reference_has_a_mount_and_a_path() -> None:
    assert split("vault:kv/site/rack-a") == ("kv", "site/rack-a")


def test_a_token_is_never_sent_in_clear() -> None:
    assert VaultSettings(url="https://vault.example.org:8200").url
    with pytest.raises(ValidationError, match="url"):
        VaultSettings(url="http://vault.example.org:8200")
