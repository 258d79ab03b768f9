"""Single sign-on with a real Keystone: its tokens at the web door, and clients that bring them.

Keystone is a process with TLS on loopback, SQLite and fernet keys in the test's folder.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.federation import Federation
from api.grants import KeystoneSettings
from api.keystone import Keystone
from api.parts import Door, Parts
from provisioning.models import now
from provisioning.tenants import Project
from tests.fakes.api import bearer, empty_ironic, ironic_double, some_parts
from tests.fakes.appliance import environments, until
from tests.fakes.identity import Admin, Server, answers, certificate, keystone_server, running
from tests.fakes.serving import api_on_a_port

CHECKOUT = Path(__file__).parents[2]
ADMIN_PASSWORD, SERVICE_PASSWORD, PASSWORD = "admin-pw-1", "service-pw-1", "people-pw-1"
# Keystone's project -> the role everybody has there, and what that is worth here.
PROJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "watchers": ("reader", {"roles": ["viewer"]}),
    "web": ("member", {"roles": ["claimer"], "project": "web"}),
    "ops": ("manager", {"roles": ["operator"]}),
    "wreck": ("admin", {"roles": ["destroyer"]}),
    "old": ("member", {"roles": ["claimer"], "project": "old"}),
    "elsewhere": ("member", {}),
}
DOORS = {
    ("GET", "/v1/bmcs"): {"viewer", "operator", "destroyer"},
    ("POST", "/v1/claims"): {"claimer"},
    ("POST", "/v1/discoveries"): {"operator"},
    ("POST", "/v1/nodes:plan-provide"): {"destroyer"},
}


@dataclass
class Cloud:
    """A Keystone with projects, and alice with one role in each."""

    server: Server
    admin: Admin
    alice: str
    credentials: Path


@dataclass
class Site:
    url: str
    parts: Parts
    clock: list[float]

    def ask(self, token: str, path: str = "/v1/images", **headers: str) -> httpx.Response:
        return answers(self.url, {"X-Auth-Token": token, **headers}, path)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keystone")


@pytest.fixture(scope="module")
def cloud(base: Path) -> Iterator[Cloud]:
    server = keystone_server(base / "keystone", certificate(base / "tls"), ADMIN_PASSWORD)
    with running(server):
        admin = Admin(server, ADMIN_PASSWORD)
        service = admin.user("seed", SERVICE_PASSWORD)
        admin.grant(service, admin.project("service"), "service")
        alice = admin.user("alice", PASSWORD)
        for name, (role, _) in PROJECTS.items():
            admin.grant(alice, admin.project(name), role)
        file = base / "keystone.toml"
        file.touch(0o600)
        file.write_text(f'username = "seed"\npassword = "{SERVICE_PASSWORD}"\n')
        yield Cloud(server, admin, alice, file)


def grants(cloud: Cloud) -> list[dict[str, Any]]:
    """By DOMAIN/NAME; `ops` by its id."""
    ops = cloud.admin.call("GET", "/projects?name=ops")["projects"][0]["id"]
    return [
        {
            "keystone_project": ops if name == "ops" else f"Default/{name}",
            "keystone_role": role,
            **worth,
        }
        for name, (role, worth) in PROJECTS.items()
        if worth
    ]


@contextmanager
def site_of(cloud: Cloud, folder: Path, **changes: Any) -> Iterator[Site]:
    folder.mkdir()
    told = {
        "url": f"{cloud.server.url}/v3",
        "ca_file": str(cloud.server.shown.ca),
        "credentials_file": cloud.credentials,
        "cache_seconds": 0,
        "grants": grants(cloud),
    }
    settings = KeystoneSettings.model_validate(told | changes)
    later = [0.0]
    keystone = Keystone(settings, lambda: now().timestamp() + later[0])
    with ironic_double() as ironic:
        ironic.answer = empty_ironic(ironic)
        federation = Federation(keystone=keystone)
        parts = replace(some_parts(folder, ironic.url), federation=federation)
        with parts.store.write() as session:
            session.add(Project(name="web"))
            session.add(Project(name="old", disabled_at=now()))
        with api_on_a_port(create_app(parts, Door.WEB)) as url:
            yield Site(url, parts, later)


@pytest.fixture(scope="module")
def site(cloud: Cloud, base: Path) -> Iterator[Site]:
    """Asks Keystone at each request."""
    with site_of(cloud, base / "site") as site:
        yield site


def said(answer: httpx.Response) -> tuple[int, str]:
    found = answer.json()
    assert found["remedy"]
    return answer.status_code, found["detail"]


@pytest.mark.parametrize("project", ["watchers", "web", "ops", "wreck"])
def test_a_token_is_worth_its_role_in_its_project_and_no_other(
    site: Site, cloud: Cloud, project: str
) -> None:
    token = cloud.admin.log_in("alice", PASSWORD, project)
    role = PROJECTS[project][1]["roles"][0]
    for (method, path), roles in DOORS.items():
        headers = {"X-Auth-Token": token}
        answer = httpx.request(method, site.url + path, headers=headers, json={}, timeout=30)
        assert (answer.status_code in (401, 403)) == (role not in roles), (path, answer.text)


def test_who_did_it_is_in_the_events(site: Site, cloud: Cloud) -> None:
    token = cloud.admin.log_in("alice", PASSWORD, "ops")
    made = httpx.post(
        f"{site.url}/v1/tokens",
        headers={"X-Auth-Token": token},
        json={"name": "made-by-alice", "roles": ["operator"]},
        timeout=30,
    )
    assert made.status_code == 201, made.text
    events = site.ask(token, "/v1/events?subject=made-by-alice").json()
    assert [event["who"] for event in events] == ["keystone:alice@Default"]


def test_a_project_that_maps_to_nothing_is_refused_everywhere(site: Site, cloud: Cloud) -> None:
    token = cloud.admin.log_in("alice", PASSWORD, "elsewhere")
    for path in ("/v1/images", "/v1/no-such-thing", "/baremetal/v1/nodes"):
        code, detail = said(site.ask(token, path))
        assert (code, detail) == (403, "keystone:alice@Default is known, but has no role here")


def test_a_project_of_ours_that_is_disabled_is_worth_nothing(site: Site, cloud: Cloud) -> None:
    code, detail = said(site.ask(cloud.admin.log_in("alice", PASSWORD, "old")))
    assert code == 403
    assert "disabled or no project" in detail


def test_a_token_without_a_project_is_refused(site: Site, cloud: Cloud) -> None:
    code, detail = said(site.ask(cloud.admin.log_in("alice", PASSWORD)))
    assert code == 403
    assert "not scoped to a project" in detail


@pytest.mark.parametrize(
    "token", ["nonsense-nonsense", "gAAAAABrCyQLgQalFrNZai3fMaZ", "x", "ä" * 9]
)
def test_what_keystone_does_not_know_is_refused(site: Site, token: str) -> None:
    answer = httpx.get(
        site.url + "/v1/images", headers={b"X-Auth-Token": token.encode()}, timeout=30
    )
    assert said(answer)[0] == 401


def test_a_revoked_token_is_refused(site: Site, cloud: Cloud) -> None:
    token = cloud.admin.log_in("alice", PASSWORD, "watchers")
    assert site.ask(token).status_code == 200
    cloud.admin.revoke(token)
    assert said(site.ask(token))[0] == 401


def test_an_answer_is_believed_for_a_minute_and_no_longer(cloud: Cloud, base: Path) -> None:
    with site_of(cloud, base / "cached", cache_seconds=60) as site:
        token = cloud.admin.log_in("alice", PASSWORD, "watchers")
        assert site.ask(token).status_code == 200
        cloud.admin.revoke(token)
        site.clock[0] = 55
        assert site.ask(token).status_code == 200
        site.clock[0] = 61
        assert site.ask(token).status_code == 401


def test_a_user_disabled_in_keystone_is_refused(site: Site, cloud: Cloud) -> None:
    bob = cloud.admin.user("bob", PASSWORD)
    watchers = cloud.admin.call("GET", "/projects?name=watchers")["projects"][0]["id"]
    cloud.admin.grant(bob, watchers, "reader")
    token = cloud.admin.log_in("bob", PASSWORD, "watchers")
    assert site.ask(token).status_code == 200
    cloud.admin.call("PATCH", f"/users/{bob}", {"user": {"enabled": False}})
    assert said(site.ask(token))[0] == 401


def test_seeds_own_token_is_got_anew_when_it_was_revoked(site: Site, cloud: Cloud) -> None:
    token = cloud.admin.log_in("alice", PASSWORD, "watchers")
    assert site.ask(token).status_code == 200
    keystone = site.parts.federation.keystone
    assert keystone is not None
    own = keystone._own
    cloud.admin.revoke(own)
    assert site.ask(token).status_code == 200
    assert keystone._own != own


def test_while_keystone_is_down_a_token_is_a_503_and_seeds_own_work(
    site: Site, cloud: Cloud
) -> None:
    token = cloud.admin.log_in("alice", PASSWORD, "watchers")
    assert site.ask(token).status_code == 200
    cloud.server.stop()
    try:
        answer = site.ask(token)
        code, detail = said(answer)
        assert (code, "does not answer" in detail) == (503, True)
        assert int(answer.headers["retry-after"]) > 0
        assert answers(site.url, {}).status_code == 401
        assert answers(site.url, bearer("not-known")).status_code == 401
    finally:
        cloud.server.start()
    until(lambda: site.ask(token).status_code == 200, 60, "Keystone's return")


def test_a_wrong_password_of_seeds_own_is_said_and_not_tried_at_each_request(
    cloud: Cloud, base: Path
) -> None:
    """Keystone may lock a user after a few wrong ones."""
    wrong = base / "wrong.toml"
    wrong.write_text('username = "seed"\npassword = "not-the-password"\n')
    with site_of(cloud, base / "wrong", credentials_file=wrong) as site:
        token = cloud.admin.log_in("alice", PASSWORD, "watchers")
        code, detail = said(site.ask(token))
        assert (code, "does not let Seed's own user in" in detail) == (503, True)
        wrong.write_text(cloud.credentials.read_text())
        assert site.ask(token).status_code == 503  # not asked again yet
        site.clock[0] = 31
        assert site.ask(token).status_code == 200


def test_seeds_own_user_without_the_role_is_said(cloud: Cloud, base: Path) -> None:
    weak = base / "weak.toml"
    weak.write_text(f'username = "alice"\npassword = "{PASSWORD}"\nproject = "elsewhere"\n')
    with site_of(cloud, base / "weak", credentials_file=weak) as site:
        assert site.ask(cloud.admin.log_in("alice", PASSWORD, "watchers")).status_code == 200  # own
        code, detail = said(site.ask(cloud.admin.token))
    assert (code, "answered 403" in detail) == (503, True)


def test_an_authorization_goes_before_a_keystone_token(site: Site, cloud: Cloud) -> None:
    token = cloud.admin.log_in("alice", PASSWORD, "watchers")
    assert site.ask(token, Authorization="Bearer not-known").status_code == 401


def test_many_at_once_are_answered(cloud: Cloud, base: Path) -> None:
    with site_of(cloud, base / "many", cache_seconds=60) as site:
        token = cloud.admin.log_in("alice", PASSWORD, "watchers")
        with ThreadPoolExecutor(16) as pool:
            codes = list(pool.map(lambda _: site.ask(token).status_code, range(64)))
    assert set(codes) == {200}


# Clients that bring their own cloud's token: an override of the endpoint is all they need.


def test_the_openstack_clients_reach_baremetal_with_their_own_login(
    site: Site, cloud: Cloud, tmp_path: Path
) -> None:
    both = tmp_path / "clouds.yaml"
    both.write_text(
        json.dumps(
            {
                "clouds": {
                    "dc": {
                        "auth_type": "password",
                        "auth": {
                            "auth_url": f"{cloud.server.url}/v3",
                            "username": "alice",
                            "password": PASSWORD,
                            "project_name": "watchers",
                            "project_domain_name": "Default",
                            "user_domain_name": "Default",
                        },
                        "baremetal_endpoint_override": f"{site.url}/baremetal",
                        "cacert": str(cloud.server.shown.ca),
                    }
                }
            }
        )
    )
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OS_CLIENT_CONFIG_FILE": str(both)}
    for name, *noun in (("baremetal",), ("openstack", "baremetal")):
        command = environments() / "tools" / "bin" / name
        done = subprocess.run(
            [command, "--os-cloud", "dc", *noun, "node", "list", "-f", "json"],
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_login_methods_name_keystone(site: Site, cloud: Cloud) -> None:
    found = answers(site.url, {}, "/v1/login-methods").json()
    ca = cloud.server.shown.ca.read_text()
    assert found == {
        "oidc": None,
        "keystone": {"auth_url": f"{cloud.server.url}/v3", "ca_pem": ca},
    }


def test_seed_login_by_the_cloud_that_openstacks_clients_use(
    site: Site, cloud: Cloud, tmp_path: Path
) -> None:
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("SEED_", "OS_"))
    }
    env |= {
        "SEED_SERVER": site.url, "HOME": str(tmp_path), "COLUMNS": "200",
        "OS_AUTH_URL": f"{cloud.server.url}/v3", "OS_CACERT": str(cloud.server.shown.ca),
        "OS_USERNAME": "alice", "OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_NAME": "web",
        "OS_PROJECT_DOMAIN_NAME": "Default",
    }  # fmt: skip

    def seed(*words: str, **more: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "seed", *words],
            cwd=CHECKOUT,
            env=env | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    code, text = seed("login", "--keystone", OS_PASSWORD="wrong")
    assert (code, "Keystone refuses this user and password" in text) == (1, True), text
    assert not (tmp_path / ".config").exists()
    code, text = seed("login", "--keystone", OS_PASSWORD=PASSWORD)
    assert (code, "expires at" in text) == (0, True), text
    (file,) = (tmp_path / ".config" / "seed").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())["token"] not in text
    code, text = seed("project", "list", "-o", "json")
    assert (code, [row["name"] for row in json.loads(text)]) == (0, ["web"])
    assert seed("logout") == (0, "logged out\n")
    code, text = seed("login", "--keystone", OS_AUTH_URL="")
    assert (code, "nothing says how to log in to OpenStack" in text) == (1, True), text
