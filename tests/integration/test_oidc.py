"""Single sign-on with a real OIDC provider: its tokens at the web door, and `seed login --oidc`.

The provider is a process with TLS on loopback (tests/fakes/oidc_process.py says what it is).
"""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from joserfc.jwk import KeySet

from api.app import create_app
from api.federation import Federation
from api.grants import OidcSettings
from api.oidc import Oidc
from api.parts import Door, Parts
from provisioning.models import now
from provisioning.tenants import Project
from tests.fakes import issuer
from tests.fakes.api import bearer, empty_ironic, ironic_double, some_parts
from tests.fakes.appliance import until
from tests.fakes.identity import (
    Server,
    answers,
    certificate,
    id_token,
    logged_in,
    oidc_server,
    person,
    running,
)
from tests.fakes.serving import api_on_a_port

CHECKOUT = Path(__file__).parents[2]
GRANTS: tuple[dict[str, Any], ...] = (
    {"group": "viewers", "roles": ["viewer"]},
    {"group": "web-team", "roles": ["claimer"], "project": "web"},
    {"group": "db-team", "roles": ["claimer"], "project": "db"},
    {"group": "old-team", "roles": ["claimer"], "project": "old"},
    {"group": "dc-ops", "roles": ["operator"]},
    {"group": "wreckers", "roles": ["destroyer"]},
)
ROLES = {"viewers": "viewer", "web-team": "claimer", "dc-ops": "operator", "wreckers": "destroyer"}
# A route that one role alone may use, or that all but the claimer may.
DOORS = {
    ("GET", "/v1/bmcs"): {"viewer", "operator", "destroyer"},
    ("POST", "/v1/claims"): {"claimer"},
    ("POST", "/v1/discoveries"): {"operator"},
    ("POST", "/v1/nodes:plan-provide"): {"destroyer"},
}


@dataclass
class Site:
    """The API at `url`, trusting `provider`."""

    url: str
    provider: Server
    parts: Parts
    folder: Path

    def token(self, *groups: str, sub: str = "alice") -> str:
        person(self.provider, sub, groups=list(groups), preferred_username=sub)
        return id_token(self.provider, sub)

    def ask(self, token: str, path: str = "/v1/images") -> httpx.Response:
        return answers(self.url, bearer(token), path)


def settings(provider: Server, **changes: Any) -> OidcSettings:
    told = {
        "issuer": provider.url,
        "client_id": "seed",
        "ca_file": str(provider.shown.ca),
        "grants": GRANTS,
    }
    return OidcSettings.model_validate(told | changes)


@contextmanager
def site_of(provider: Server, folder: Path, **changes: Any) -> Iterator[Site]:
    folder.mkdir()
    with ironic_double() as ironic:
        ironic.answer = empty_ironic(ironic)
        parts = replace(
            some_parts(folder, ironic.url),
            federation=Federation(oidc=Oidc(settings(provider, **changes))),
        )
        with parts.store.write() as session:
            session.add(Project(name="web"))
            session.add(Project(name="old", disabled_at=now()))
        with api_on_a_port(create_app(parts, Door.WEB)) as url:
            yield Site(url, provider, parts, folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("oidc")


@pytest.fixture(scope="module")
def provider(base: Path) -> Iterator[Server]:
    with running(oidc_server(base, certificate(base / "tls"))) as server:
        yield server


@pytest.fixture(scope="module")
def site(provider: Server, base: Path) -> Iterator[Site]:
    with site_of(provider, base / "site") as site:
        yield site


def said(answer: httpx.Response) -> tuple[int, str]:
    found = answer.json()
    assert found["remedy"]
    return answer.status_code, found["detail"]


@pytest.mark.parametrize("group", ROLES)
def test_a_token_is_worth_the_role_of_its_group_and_no_other(site: Site, group: str) -> None:
    token = site.token("unrelated", group)
    for (method, path), roles in DOORS.items():
        answer = httpx.request(method, site.url + path, headers=bearer(token), json={}, timeout=30)
        refused = answer.status_code in (401, 403)
        assert refused == (ROLES[group] not in roles), (path, answer.text)


def test_groups_together_are_worth_all_their_roles(site: Site) -> None:
    token = site.token("dc-ops", "wreckers", "web-team")
    made = httpx.post(
        f"{site.url}/v1/tokens",
        headers=bearer(token),
        json={"name": "made-by-alice", "roles": ["operator", "claimer"], "project": "web"},
        timeout=30,
    )
    assert made.status_code == 201, made.text
    events = site.ask(site.token("viewers"), "/v1/events?subject=made-by-alice").json()
    assert [event["who"] for event in events] == ["oidc:alice"]


def test_who_is_in_no_group_of_ours_is_refused_everywhere(site: Site) -> None:
    for path in ("/v1/images", "/v1/no-such-thing", "/baremetal/v1/nodes"):
        code, detail = said(site.ask(site.token("unrelated"), path))
        assert (code, detail) == (403, "oidc:alice is known, but has no role here")


def test_a_disabled_project_is_worth_nothing(site: Site) -> None:
    code, detail = said(site.ask(site.token("old-team")))
    assert code == 403
    assert "disabled or no project" in detail
    assert site.ask(site.token("old-team", "viewers"), "/v1/bmcs").status_code == 200


def test_a_hostile_user_name_harms_no_log_and_no_row(site: Site) -> None:
    person(site.provider, "mallory", groups=["x"], preferred_username="root\n[red]\x1b[2J" * 20)
    token = id_token(site.provider, "mallory")
    code, detail = said(site.ask(token))
    assert code == 403
    assert detail.startswith("oidc:root%0A%5Bred%5D%1B%5B2J")
    assert len(detail) < 130


def test_an_expired_token_is_refused(base: Path, provider: Server) -> None:
    with running(oidc_server(base, provider.shown, life=-60)) as late:
        person(late, "alice", groups=["viewers"])
        token = id_token(late, "alice")
        with site_of(late, base / "late") as site:
            assert said(site.ask(token)) == (401, "this OIDC token has expired")


def test_a_token_for_another_client_is_refused(site: Site) -> None:
    site.token("viewers")
    code, detail = said(site.ask(id_token(site.provider, "alice", client_id="wiki")))
    assert code == 401
    assert "'aud'" in detail


def test_a_token_of_another_issuer_is_refused_though_the_key_is_right(site: Site) -> None:
    site.token("viewers")
    token = id_token(site.provider, "alice", host="evil.example.org")
    code, detail = said(site.ask(token))
    assert code == 401
    assert "'iss'" in detail


def test_forged_tokens_are_refused(site: Site) -> None:
    good = site.token("viewers")
    assert site.ask(good).status_code == 200
    header, payload, signature = good.split(".")
    fields = json.loads(urlsafe_b64decode(payload + "=="))
    with site.provider.shown.client(site.provider.url) as http:
        key = next(iter(KeySet.import_key_set(http.get("/jwks").json())))
    changed = issuer.written({}, fields | {"groups": ["wreckers"]}).split(".")[1]
    forged = {
        "payload": f"{header}.{changed}.{signature}",
        "signature": f"{header}.{payload}.{signature[::-1]}",
        "none": issuer.unsigned(fields),
        "hs256": issuer.public_as_secret(fields, key),
        "other key": issuer.signed(fields, key=issuer.FORGER, kid=key.kid),
        "unknown kid": issuer.signed(fields, key=issuer.FORGER),
        "garbage": "a.b.c",
    }
    assert {name: site.ask(token).status_code for name, token in forged.items()} == dict.fromkeys(
        forged, 401
    )
    assert site.ask(good).status_code == 200


def test_es256_is_taken_too(base: Path, provider: Server) -> None:
    with (
        running(oidc_server(base, provider.shown, "ES256")) as curve,
        site_of(curve, base / "curve") as site,
    ):
        assert site.ask(site.token("viewers")).status_code == 200


def test_while_the_provider_is_down_known_keys_serve_and_unknown_ones_are_503(
    base: Path, provider: Server
) -> None:
    """Started again it has another key: the rotation of one."""
    with (
        running(oidc_server(base, provider.shown)) as own,
        site_of(own, base / "down") as site,
    ):
        early = site.token("viewers")
        own.stop()
        answer = site.ask(early)  # no key was fetched yet
        code, detail = said(answer)
        assert code == 503
        assert own.url in detail
        assert int(answer.headers["retry-after"]) > 0
        own.start()
        token = site.token("viewers")
        until(lambda: site.ask(token).status_code == 200, 60, "the provider's return")
        assert site.ask(early).status_code == 401  # its key is gone
        own.stop()
        assert site.ask(token).status_code == 200
        assert site.ask("a.b.c").status_code == 401
        assert answers(site.url, {}).status_code == 401


def test_one_slow_provider_does_not_keep_others_waiting(base: Path, provider: Server) -> None:
    """Tokens of Seed's own, and health, are answered while a key is fetched from a silent one."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        deaf = replace(provider, port=silent.getsockname()[1])
        with site_of(deaf, base / "deaf") as site:
            token = issuer.signed(issuer.claims())
            got: list[int] = []
            waiting = threading.Thread(target=lambda: got.append(site.ask(token).status_code))
            waiting.start()
            heard, _ = silent.accept()
            with heard:
                assert httpx.get(f"{site.url}/healthz", timeout=10).status_code == 200
                assert answers(site.url, bearer("seed-token")).status_code == 401
                assert not got
                waiting.join(60)
                assert got == [503]


def test_a_certificate_of_another_ca_is_no_provider(base: Path, provider: Server) -> None:
    with site_of(provider, base / "ca", ca_file="") as site:
        code, detail = said(site.ask(site.token("viewers")))
        assert (code, "does not answer" in detail) == (503, True)


def test_an_issuer_that_says_it_is_another_is_not_believed(base: Path, provider: Server) -> None:
    with site_of(provider, base / "slash", issuer=provider.url + "/") as site:
        code, detail = said(site.ask(site.token("viewers")))
        assert (code, "does not say that it is that one" in detail) == (503, True)


def test_a_jwt_is_worth_nothing_at_the_local_door(site: Site) -> None:
    token = site.token("wreckers")
    with TestClient(create_app(site.parts, Door.LOCAL), client=("uid:4242", 1)) as http:
        answer = http.post("/v1/nodes:plan-provide", json={}, headers=bearer(token))
    assert answer.status_code == 403


def test_login_methods_tell_a_stranger_what_a_client_needs_and_no_more(site: Site) -> None:
    found = answers(site.url, {}, "/v1/login-methods").json()
    ca = found["oidc"].pop("ca_pem")
    assert ca == site.provider.shown.ca.read_text()
    assert found == {
        "oidc": {
            "issuer": site.provider.url,
            "client_id": "seed",
            "audience": "",
            "scopes": "openid profile",
            "token": "id_token",
        },
        "keystone": None,
    }


# seed login --oidc


def environment(site: Site, home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SEED_")}
    return kept | {"SEED_SERVER": site.url, "HOME": str(home), "COLUMNS": "200"}


def seed(site: Site, home: Path, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "seed", *argv],
        cwd=CHECKOUT,
        env=environment(site, home) | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def kept(home: Path) -> dict[str, Any]:
    (file,) = (home / ".config" / "seed").glob("session-*")
    assert file.stat().st_mode & 0o777 == 0o600
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@contextmanager
def login(site: Site, home: Path, *argv: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "seed", "login", "--oidc", *argv],
        cwd=CHECKOUT,
        env=environment(site, home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def line(process: subprocess.Popen[str], pattern: str) -> str:
    assert process.stdout is not None
    seen = []
    for text in process.stdout:
        seen.append(text)
        if found := re.search(pattern, text):
            return found[0]
    raise AssertionError(f"no {pattern} in {seen}")


def test_login_by_browser_keeps_a_token_that_seed_takes(site: Site, tmp_path: Path) -> None:
    site.token("viewers", sub="bob")
    with login(site, tmp_path, "--seconds", "60") as process:
        url = line(process, r"https://\S+")
        query = httpx.URL(url).params
        assert query["code_challenge_method"] == "S256"
        assert query["redirect_uri"].startswith("http://127.0.0.1:")
        stranger = httpx.get(query["redirect_uri"] + "?code=x&state=guessed", timeout=10)
        assert stranger.status_code == 404
        httpx.get(logged_in(site.provider, url, "bob"), timeout=10)
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 0, text
    assert re.search(r"user +bob\s+expires at +20", text)
    before = kept(tmp_path)
    assert before["token"] not in text
    assert site.ask(before["token"], "/v1/bmcs").status_code == 200
    listed = seed(site, tmp_path, "bmc", "list")  # it needs no more than that login
    assert (listed.returncode, listed.stdout) == (0, "none\n"), listed.stderr
    with login(site, tmp_path) as process:  # renewed, without a person
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 0, text
    assert "https://" not in text
    after = kept(tmp_path)
    assert site.ask(after["token"]).status_code == 200
    assert after["token"] != before["token"]
    assert seed(site, tmp_path, "logout").returncode == 0
    assert list((tmp_path / ".config" / "seed").iterdir()) == []


def test_login_by_code_asks_until_the_person_confirmed(base: Path, provider: Server) -> None:
    with (
        running(oidc_server(base, provider.shown, device="device")) as own,
        site_of(own, base / "device") as site,
    ):
        site.token("viewers", sub="bob")
        home = site.folder
        with login(site, home) as process:
            code = line(process, r"[A-Z]{4}-[A-Z]{4}")
            with own.shown.client(own.url) as http:
                http.post("/device", data={"user_code": code, "sub": "bob"})
            text, _ = process.communicate(timeout=60)
        assert process.returncode == 0, text
        assert site.ask(kept(home)["token"]).status_code == 200
        with login(site, home, "--again") as process:
            code = line(process, r"[A-Z]{4}-[A-Z]{4}")
            with own.shown.client(own.url) as http:
                http.post("/device", data={"user_code": code, "sub": "bob", "action": "deny"})
            text, _ = process.communicate(timeout=60)
        assert process.returncode == 1, text
        assert "refused" in text


def test_login_says_what_seed_thinks_of_it(site: Site, tmp_path: Path) -> None:
    site.token("unrelated", sub="eve")
    with login(site, tmp_path) as process:
        url = line(process, r"https://\S+")
        httpx.get(logged_in(site.provider, url, "eve"), timeout=10)
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "oidc:eve is known, but has no role here" in text


def test_login_where_there_is_no_single_sign_on_says_so(tmp_path: Path) -> None:
    parts = some_parts(tmp_path)
    with api_on_a_port(create_app(parts, Door.WEB)) as url:
        site = Site(url, None, parts, tmp_path)  # type: ignore[arg-type]
        with login(site, tmp_path) as process:
            text, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "has no single sign-on with OIDC" in text
    assert not (tmp_path / ".config").exists()


def test_who_has_several_projects_says_which_and_it_is_remembered(
    site: Site, tmp_path: Path
) -> None:
    with site.parts.store.write() as session:
        session.add(Project(name="db"))
    site.token("web-team", "db-team", sub="carol")
    with login(site, tmp_path) as process:
        url = line(process, r"https://\S+")
        httpx.get(logged_in(site.provider, url, "carol"), timeout=10)
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "oidc:carol may act for several projects: db, web" in text
    assert "`seed --project db ...`" in text

    def project(*words: str, **env: str) -> str:
        done = seed(site, tmp_path, *words, "project", "list", "-o", "json", **env)
        assert done.returncode == 0, done.stderr
        (found,) = json.loads(done.stdout)
        return str(found["name"])

    assert project("--project", "web") == "web"
    assert project(SEED_PROJECT="db") == "db"
    assert project("--project", "web", SEED_PROJECT="db") == "web"
    again = seed(site, tmp_path, "login", "--oidc", "--project", "db")
    assert again.returncode == 0, again.stderr
    assert project() == "db"
    assert project("--project", "web") == "web"
    assert seed(site, tmp_path, "login", "--oidc").returncode == 0  # renewed, and for the same one
    assert project() == "db"
    refused = seed(site, tmp_path, "--project", "old", "claim", "list")
    assert refused.returncode == 1
    assert "oidc:carol has no role in a project old" in refused.stderr
