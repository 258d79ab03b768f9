"""Events through the real nginx with the real configuration: handed on as they come. Needs root."""

import json
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import httpx
import pytest
import uvicorn

from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from provisioning.store import record
from seed.host import nginx_conf, tls
from seed.host.paths import Paths
from seed.settings import ProvisioningWire, Settings, Wire
from tests.fakes.api import a_token, bearer, some_parts
from tests.fakes.appliance import base_folder, until
from tests.fakes.settings import some_settings

MANAGEMENT, PROVISIONING = "127.71.0.1", "127.72.0.1"


@pytest.fixture
def settings() -> Iterator[Settings]:
    with base_folder() as base:
        provisioning = ProvisioningWire(
            interface="lo", address=IPv4Interface(f"{PROVISIONING}/24"),
            pool_start=IPv4Address("127.72.0.10"), pool_end=IPv4Address("127.72.0.99"),
            unknown_start=IPv4Address("127.72.0.100"), unknown_end=IPv4Address("127.72.0.110"),
        )  # fmt: skip
        management = Wire(interface="lo", address=IPv4Interface(f"{MANAGEMENT}/24"))
        yield some_settings(base, management=management, provisioning=provisioning)


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return some_parts(tmp_path)


@contextmanager
def nginx(settings: Settings) -> Iterator[None]:
    paths = Paths(settings)
    for folder in (paths.nginx, settings.log_dir / "nginx", settings.run_dir, settings.http_dir):
        folder.mkdir(parents=True, exist_ok=True)
    tls.ensure(settings)
    conf = paths.nginx / "nginx.conf"
    conf.write_text(nginx_conf.render(settings))
    process = subprocess.Popen(["nginx", "-e", "stderr", "-c", str(conf)])
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def api(parts: Parts, settings: Settings) -> Iterator[None]:
    """Behind nginx, on the socket that its configuration names."""
    config = uvicorn.Config(
        create_app(parts, Door.WEB), uds=str(settings.web_socket), log_config=None, ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started, 30, "the API")
        settings.web_socket.chmod(0o666)
        yield
    finally:
        server.should_exit = True
        thread.join(30)


def test_each_event_comes_as_it_happens(settings: Settings, parts: Parts) -> None:
    assert os.geteuid() == 0, "nginx listens on ports below 1024"
    headers = bearer(a_token(parts, "v", Role.VIEWER)) | {"Accept": "text/event-stream"}
    with nginx(settings), api(parts, settings):
        trust = ssl.create_default_context(cafile=str(Paths(settings).tls / "ca.pem"))
        base = f"https://{MANAGEMENT}:{settings.api_port}"
        with httpx.Client(base_url=base, verify=trust, timeout=20) as client:
            until(lambda: answers(client), 30, "nginx")
            with client.stream("GET", "/v1/events", headers=headers) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                lines = answer.iter_lines()
                for number in range(3):  # one by one: a buffer would keep back all but the last
                    with parts.store.write() as session:
                        record(session, "test", f"s{number}")
                    told = next(line for line in lines if line.startswith("data:"))
                    assert json.loads(told.removeprefix("data: "))["subject"] == f"s{number}"


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.HTTPError:
        return False
