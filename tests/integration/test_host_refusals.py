"""What `seed init` and `seed up` refuse, and that they leave nothing half-done.

Needs root and the Debian packages of the Makefile; without them these tests fail.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from provisioning.errors import Conflict, HostError, Invalid
from seed.host import appliance, checks, netns, ready, supervisor, tls
from seed.host.paths import Paths
from seed.settings import Settings
from tests.fakes.appliance import SERVICES, STRANGER, base_folder, initialised, until
from tests.fakes.wire import appliance_namespace, client_namespace, discover, ip


@pytest.fixture
def idle() -> Iterator[Settings]:
    """A configured appliance that was never up."""
    with base_folder() as base, appliance_namespace(f"seed-ti-{os.getpid()}") as namespace:
        settings = initialised(base, namespace)
        yield settings
        assert not supervisor.pid(settings)


@contextmanager
def foreign_dhcp(appliance_side: str, folder: Path) -> Iterator[None]:
    """Another DHCP server, answering on the provisioning wire."""
    with client_namespace(appliance_side, f"seed-tf-{os.getpid()}-f1") as foreign:
        ip("-n", foreign, "address", "add", "172.22.0.66/24", "dev", "eth0")
        argv = ["dnsmasq", "--keep-in-foreground", "--port=0", "--interface=eth0"]
        argv += ["--dhcp-range=172.22.0.70,172.22.0.80", f"--dhcp-leasefile={folder}/leases"]
        argv += ["--conf-file=/dev/null", "--bind-interfaces", "--user=root", "--pid-file="]
        server = subprocess.Popen([*netns.prefix(foreign), *argv], stderr=subprocess.DEVNULL)
        try:
            until(lambda: answered(appliance_side), 20, "the foreign server's answer")
            yield
        finally:
            server.kill()
            server.wait(10)


def answered(namespace: str) -> bool:
    return discover(namespace, STRANGER, interface="prov0", timeout=8) is not None


def test_a_foreign_dhcp_server_is_refused(idle: Settings, tmp_path: Path) -> None:
    with foreign_dhcp(idle.namespace, tmp_path):
        with pytest.raises(
            HostError, match=r"DHCP server 172\.22\.0\.66 answers on prov0"
        ) as error:
            appliance.up(idle, names=SERVICES)
        assert "seed up" in error.value.remedy
        assert [f.check for f in checks.doctor(idle) if not f.ok].count("dhcp") == 1


def test_a_port_in_use_is_named_with_its_holder(idle: Settings) -> None:
    def listen() -> socket.socket:
        return socket.create_server(("172.22.0.1", 80))

    with netns.call(idle.namespace, listen):
        with pytest.raises(HostError, match=rf"\(pid {os.getpid()}\) .* tcp port 80") as error:
            appliance.up(idle, names=SERVICES)
    assert error.value.remedy == f"stop it: kill {os.getpid()}"
    assert not idle.state_dir.exists(), "nothing half-done stays"


def test_an_interface_that_lost_its_address(idle: Settings) -> None:
    ip("-n", idle.namespace, "address", "flush", "dev", "prov0")
    with pytest.raises(HostError, match="prov0 does not have the address 172") as error:
        appliance.up(idle, names=SERVICES)
    words = error.value.remedy.split()
    assert words[0] == "ip"
    ip(*words[1:])  # the remedy can be typed
    checks.require(checks.interfaces(idle))


def test_a_full_disk(idle: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MIN_FREE_GIB", 2**20)
    with pytest.raises(HostError, match="GiB free, 1048576 GiB are needed"):
        appliance.up(idle, names=SERVICES)


def test_init_refuses_what_is_not_there(idle: Settings, tmp_path: Path) -> None:
    names = {"management": "mgmt0", "provisioning": "prov0", "out_of_band": "oob0"}
    target = tmp_path / "seed.toml"
    for role in names:
        with pytest.raises(Invalid, match="nope0 does not exist; there are: mgmt0, oob0, prov0"):
            appliance.init(**(names | {role: "nope0"}), namespace=idle.namespace, path=target)
    ip("-n", idle.namespace, "address", "flush", "dev", "oob0")
    with pytest.raises(Invalid, match="out-of-band interface oob0 has no IPv4 address"):
        appliance.init(**names, namespace=idle.namespace, path=target)
    with pytest.raises(HostError, match="namespace nope does not exist"):
        appliance.init(**names, namespace="nope", path=target)
    assert not target.exists()


def test_init_keeps_another_configuration(idle: Settings, tmp_path: Path) -> None:
    names = {"management": "mgmt0", "provisioning": "prov0", "out_of_band": "oob0"}
    where = {"namespace": idle.namespace, "path": tmp_path / "seed.toml"}
    appliance.init(**names, **where)
    appliance.init(**names, **where)  # the same once more is no conflict
    before = (tmp_path / "seed.toml").read_text(encoding="utf-8")
    with pytest.raises(Conflict):
        appliance.init(**names, **where, undo_seconds=5)
    assert (tmp_path / "seed.toml").read_text(encoding="utf-8") == before
    settings, _ = appliance.init(**names, **where, undo_seconds=5, force=True)
    assert settings.undo_seconds == 5
    assert oct((tmp_path / "seed.toml").stat().st_mode)[-3:] == "644"


def test_certificates_follow_the_address(idle: Settings) -> None:
    tls.ensure(idle)
    first = {p.name: p.read_bytes() for p in Paths(idle).tls.iterdir()}
    tls.ensure(idle)
    assert {p.name: p.read_bytes() for p in Paths(idle).tls.iterdir()} == first
    wire = idle.provisioning.model_copy(update={"address": "172.22.9.1/24"})
    wire = type(wire).model_validate(wire.model_dump())
    tls.ensure(idle.model_copy(update={"provisioning": wire}))
    changed = {p.name for p in Paths(idle).tls.iterdir() if p.read_bytes() != first[p.name]}
    assert changed == {"gateway.pem", "gateway.key"}


def test_a_service_that_does_not_come_up_leaves_nothing_running(
    idle: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appliance, "READY_SECONDS", 1.0)
    monkeypatch.setattr(appliance, "SLOW_SECONDS", 1.0)
    monkeypatch.setattr(ready, "boot_files", lambda _settings: False)
    with pytest.raises(HostError, match="nginx did not answer within 1 s") as error:
        appliance.up(idle, names=["nginx"])
    assert error.value.remedy == "seed logs nginx"
    assert checks._sockets(idle.namespace) == []


def test_nothing_outlives_supervisord_and_up_works_again(idle: Settings) -> None:
    names = ["dnsmasq", "nginx"]
    appliance.up(idle, names=names)
    try:
        root = supervisor.pid(idle)
        mine = supervisor.tree(root)
        assert len(mine) > 4
        os.kill(root, signal.SIGKILL)
        until(lambda: not any(map(supervisor._alive, mine)), 20, "the end of all services")
        appliance.up(idle, names=names)
        assert {s.state for s in appliance.status(idle)} <= {"RUNNING", "STARTING"}
    finally:
        appliance.down(idle)
    assert checks._sockets(idle.namespace) == []
    with pytest.raises(HostError, match="not running"):
        appliance.status(idle)
