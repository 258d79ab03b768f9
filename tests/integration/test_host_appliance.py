"""The appliance for real: Ironic, dnsmasq and nginx in a namespace of their own, seen from a wire.

Needs root and the Debian packages of the Makefile; without them these tests fail.
"""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import httpx
import pytest

from images.collecting import make_from
from ipxe import dnsmasq
from ipxe.bootspec import LocalDisk
from ipxe.render import render, write_boot_file
from seed.host import appliance, checks, netns, ready, supervisor
from seed.host.paths import Paths
from seed.settings import Settings
from tests.fakes.appliance import KNOWN, SERVICES, STRANGER, base_folder, initialised, until
from tests.fakes.bundles import WANTED, by_hand
from tests.fakes.wire import appliance_namespace, client_namespace, discover, ip

__all__ = ["by_hand"]

BIOS, UEFI, UEFI_TOO, ARM64 = 0, 7, 9, 11


@pytest.fixture(scope="module")
def running() -> Iterator[Settings]:
    """The appliance, up; and down again without a process left."""
    with base_folder() as base, appliance_namespace(f"seed-ta-{os.getpid()}") as namespace:
        settings = initialised(base, namespace)
        try:
            seconds = appliance.up(settings, names=SERVICES)
            print(f"ready after {seconds:.1f} s")
            yield settings
        finally:
            mine = supervisor.tree(supervisor.pid(settings)) if supervisor.pid(settings) else set()
            appliance.down(settings)
            assert not [number for number in mine if supervisor._alive(number)]


@pytest.fixture(scope="module")
def client(running: Settings) -> Iterator[str]:
    with client_namespace(running.namespace, f"seed-tc-{os.getpid()}-c1") as namespace:
        ip("-n", namespace, "address", "add", "172.22.0.9/24", "dev", "eth0")
        yield namespace


def get(namespace: str, url: str, ca: Path | None = None, method: str = "GET") -> httpx.Response:
    import ssl

    context = ssl.create_default_context(cafile=str(ca)) if ca else True
    return netns.call(
        namespace,
        lambda: httpx.request(method, url, verify=context, timeout=10, trust_env=False),
    )


# --- DHCP and TFTP ------------------------------------------------------------------------------


def test_a_known_mac_gets_its_address_at_once(running: Settings, client: str) -> None:
    dnsmasq.write_host(Paths(running).hosts, KNOWN, IPv4Address("172.22.0.11"), "node-1")
    until(lambda: (discover(client, KNOWN) or _none).address == "172.22.0.11", 10, "the address")
    # Firmware, iPXE and the installed system name themselves differently: still one machine.
    for identifier in (b"\x01firmware", b"\xff\x00\x02system"):
        offer = discover(client, KNOWN, client_id=identifier)
        assert offer is not None
        assert offer.address == "172.22.0.11"
    assert offer.options["lease_time"] == 3600
    assert "router" not in offer.options
    assert "name_server" not in offer.options


def test_a_changed_reservation_holds_at_once(running: Settings, client: str) -> None:
    mac = "52:54:00:22:00:02"
    for address in ("172.22.0.12", "172.22.0.13"):
        dnsmasq.write_host(Paths(running).hosts, mac, IPv4Address(address), "node-2")
        until(lambda a=address: (discover(client, mac) or _none).address == a, 10, address)


def test_a_removed_reservation_is_forgotten_after_reload(running: Settings, client: str) -> None:
    mac = "52:54:00:22:00:03"
    dnsmasq.write_host(Paths(running).hosts, mac, IPv4Address("172.22.0.14"), "node-3")
    until(lambda: (discover(client, mac) or _none).address == "172.22.0.14", 10, "the address")
    dnsmasq.remove_host(Paths(running).hosts, mac)
    appliance.reload_dhcp(running)
    until(lambda: in_unknown_pool(running, (discover(client, mac) or _none).address), 20, "pool")


def in_unknown_pool(settings: Settings, address: str) -> bool:
    wire = settings.provisioning
    return wire.unknown_start <= IPv4Address(address) <= wire.unknown_end


class _none:
    address = "0.0.0.0"  # noqa: S104


def test_a_stranger_gets_an_address_of_the_small_pool(running: Settings, client: str) -> None:
    offer = discover(client, STRANGER)
    assert offer is not None
    assert in_unknown_pool(running, offer.address)


@pytest.mark.parametrize(
    ("architecture", "user_class", "file"),
    [
        pytest.param(BIOS, b"", "undionly.kpxe", id="BIOS"),
        pytest.param(UEFI, b"", "snponly.efi", id="UEFI"),
        pytest.param(UEFI_TOO, b"", "snponly.efi", id="UEFI by the RFC's number"),
        pytest.param(ARM64, b"", "", id="arm64 has no loader"),
        pytest.param(BIOS, b"iPXE", "http://172.22.0.1/boot.ipxe", id="iPXE on BIOS"),
        pytest.param(UEFI, b"iPXE", "http://172.22.0.1/boot.ipxe", id="iPXE on UEFI"),
    ],
)
def test_boot_file(
    client: str, running: Settings, architecture: int, user_class: bytes, file: str
) -> None:
    offer = discover(client, KNOWN, architecture, user_class)
    assert offer is not None
    assert offer.file == file
    assert offer.server == "172.22.0.1"


@pytest.mark.parametrize(
    ("name", "there"), [("undionly.kpxe", True), ("snponly.efi", True), ("../seed.toml", False)]
)
def test_tftp_gives_loaders_only(client: str, running: Settings, name: str, there: bool) -> None:
    def ask() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.settimeout(5)
            wire.sendto(b"\0\1" + name.encode() + b"\0octet\0", ("172.22.0.1", 69))
            return wire.recv(600)

    answer = netns.call(client, ask)
    if there:
        assert answer[:4] == b"\0\3\0\1"
        assert answer[4:] == (Path("/usr/lib/ipxe") / name).read_bytes()[:512]
    else:
        assert answer[:2] == b"\0\5"


# --- HTTP ---------------------------------------------------------------------------------------


def test_boot_scripts(client: str, running: Settings) -> None:
    write_boot_file(running.http_dir, KNOWN, LocalDisk())
    url = running.boot_url
    assert get(client, f"{url}/boot.ipxe").text.startswith("#!ipxe\n")
    assert get(client, f"{url}/boot/52-54-00-22-00-01").text == render(LocalDisk())
    assert "nothing to boot" in get(client, f"{url}/boot/52-54-00-22-00-99").text


def test_ironics_linked_files_are_served(client: str, running: Settings) -> None:
    """pxelinux.cfg/<mac> is a symlink to <uuid>/config, both Ironic's own."""
    folder = Paths(running).ironic_http
    (folder / "pxelinux.cfg").mkdir(exist_ok=True)
    (folder / "uuid").mkdir(exist_ok=True)
    (folder / "uuid" / "config").write_text("#!ipxe\n", encoding="utf-8")
    link = folder / "pxelinux.cfg" / "52-54-00-22-00-01"
    link.symlink_to("../uuid/config")
    shutil.chown(folder / "uuid" / "config", "seed-ironic")
    os.chown(link, (folder / "uuid" / "config").stat().st_uid, -1, follow_symlinks=False)
    url = f"{running.boot_url}/ironic/pxelinux.cfg/52-54-00-22-00-01"
    assert get(client, url).text == "#!ipxe\n"
    link.unlink()
    link.symlink_to("/etc/hostname")
    os.chown(link, (folder / "uuid" / "config").stat().st_uid, -1, follow_symlinks=False)
    assert get(client, url).status_code == 403, "a link to somebody else's file"


def test_a_bundle_is_root_s_and_nginx_and_the_api_read_it(
    client: str, running: Settings, by_hand: Path
) -> None:
    root = Paths(running).bundles
    made = make_from(WANTED, by_hand, root)
    kubelet = next(file for file in made.files if file.path == "files/kubelet")
    url = f"{running.boot_url}/bundles/kubeadm/1.36.2"
    assert (
        hashlib.sha256(get(client, f"{url}/{kubelet.path}").content).hexdigest() == kubelet.sha256
    )
    code = (
        "import sys; from pathlib import Path; from provisioning import cluster_bundles as b\n"
        "print(b.choose(Path(sys.argv[1]), 'kubeadm', 'kubeadm').digest)\n"
        "Path(sys.argv[1], 'mine').mkdir()"
    )
    done = subprocess.run(
        ["setpriv", "--reuid=seed-api", "--regid=seed-api", "--clear-groups", sys.executable, "-c",
         code, str(root)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == made.digest
    assert "PermissionError" in done.stderr
    assert [p.owner() for p in (root, *root.rglob("*")) if p.owner() != "root"] == []


@pytest.mark.parametrize(
    "path",
    ["/", "/boot/", "/boot/default", "/images/", "/bundles/", "/ironic/", "/boot/.x", "/seed.toml"],
)
def test_nothing_else_is_served(client: str, running: Settings, path: str) -> None:
    assert get(client, running.boot_url + path).status_code == 404


def test_nothing_can_be_written(client: str, running: Settings) -> None:
    for method in ("POST", "PUT", "DELETE"):
        answer = get(client, f"{running.boot_url}/boot.ipxe", method=method)
        assert answer.status_code == 405


UUID = "11111111-2222-3333-4444-555555555555"
OPEN = {
    ("GET", "/"),
    ("GET", "/v1"),
    ("GET", "/v1/lookup"),
    ("POST", f"/v1/heartbeat/{UUID}"),
    ("POST", "/v1/continue_inspection"),
    ("POST", "/v1/phone-home"),
    ("POST", "/v1/members"),
    ("GET", "/v1/members/values/join"),
    ("PUT", "/v1/members/values/join"),
}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "path",
    [
        *sorted({path for _, path in OPEN}),
        "/v1/nodes",
        "/v1/heartbeat/",
        f"/v1/heartbeat/{UUID}/x",
        "/v1/lookup/",
        "/v1/members/values/",
        "/v1//nodes",
        "/v1/claims",
        "/baremetal/v1/nodes",
        "/healthz",
    ],
)
def test_the_gateway_has_exactly_its_routes(
    client: str, running: Settings, method: str, path: str
) -> None:
    """503: the route is open and the API behind it is not up here; 404: no such route."""
    answer = get(client, running.gateway_url + path, Paths(running).tls / "ca.pem", method)
    assert answer.status_code == (503 if (method, path) in OPEN else 404)


def test_ironic_is_not_on_any_wire(client: str, running: Settings) -> None:
    for address in ("172.22.0.1", "172.22.1.1", "172.22.2.1"):
        with pytest.raises(httpx.TransportError):
            get(client, f"http://{address}:6385/v1")


def test_nothing_else_of_ironic_uses_the_hash_that_is_made_cheap(running: Settings) -> None:
    """seed/host/ironic_start.py: a new use might be one that needs the real PBKDF2."""
    libraries = running.env_dir / "ironic" / "lib"
    files = [f for f in libraries.rglob("*.py") if b"pbkdf2_hmac" in f.read_bytes()]
    assert [f.parts[-5:] for f in files] == [
        ("ironic", "drivers", "modules", "redfish", "utils.py")
    ]


BEGINNINGS = """
import runpy, sys
from oslo_config import cfg
cfg.CONF([], project="ironic", default_config_files=[])
runpy.run_path(sys.argv[1])["lock_before_writing"]()
from ironic.db.sqlalchemy import api
cfg.CONF.set_override("connection", "sqlite:///" + sys.argv[2], "database")
from sqlalchemy import event, text
from sqlalchemy.engine import Engine
seen = []
event.listen(Engine, "before_cursor_execute", lambda c, k, statement, *_: seen.append(statement))
for begin in (api._session_for_write, api._session_for_read, api._session_for_write):
    with begin() as session:
        session.execute(text("SELECT 1"))
print(*(s for s in seen if s.startswith("BEGIN")), sep=",")
"""


def test_ironics_writers_wait_for_each_other_and_do_not_fail(
    running: Settings, tmp_path: Path
) -> None:
    start, python = Paths(running).ironic_start, running.env_dir / "ironic" / "bin" / "python"
    done = subprocess.run(
        [str(python), "-c", BEGINNINGS, str(start), str(tmp_path / "some.db")],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "BEGIN IMMEDIATE,BEGIN,BEGIN IMMEDIATE"


QUESTIONS = """
import runpy, sys
runpy.run_path(sys.argv[1])["ask_agents_often"]()
from ironic.drivers.modules.agent_client import AgentClient
retry = AgentClient._wait_for_command.retry
print(retry.wait.wait_fixed, retry.stop.max_attempt_number)
"""


def test_ironic_asks_an_agent_every_second(running: Settings) -> None:
    start, python = Paths(running).ironic_start, running.env_dir / "ironic" / "bin" / "python"
    done = subprocess.run(
        [str(python), "-c", QUESTIONS, str(start)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["1.0", "600"]


def test_ironic_takes_our_password_only(running: Settings) -> None:
    assert {"redfish", "ipmi"} <= ready.ironic_drivers(running)
    answer = get(running.namespace, f"{running.ironic_url}/v1/nodes")
    assert answer.status_code == 401


def test_ironic_found_nothing_wrong_with_its_file(running: Settings) -> None:
    text = (running.log_dir / "ironic.log").read_text(encoding="utf-8")
    bad = [
        line
        for line in text.splitlines()
        if (" WARNING " in line or " ERROR " in line) and "utilize SQLite" not in line
    ]
    assert bad == []


# --- supervision --------------------------------------------------------------------------------


def of(settings: Settings, name: str) -> supervisor.ServiceStatus:
    return next(s for s in appliance.status(settings) if s.name == name)


@pytest.mark.parametrize("name", SERVICES)
def test_a_killed_service_is_back_within_5_seconds(running: Settings, name: str) -> None:
    before = of(running, name)
    (service,) = [s for s in appliance.table(running) if s.name == name]
    old = supervisor.tree(before.pid)
    os.kill(before.pid, signal.SIGKILL)
    back = until(lambda: of(running, name).pid not in (0, before.pid), 5, f"{name}'s new process")
    until(lambda: not any(map(supervisor._alive, old)), 10, "the end of the old children")
    until(lambda: of(running, name).state == "RUNNING" and service.ready(), 60, f"{name}'s answer")
    print(f"{name}: a new process {back:.1f} s after kill -9")
    after = of(running, name)
    assert after.restarts == before.restarts + 1
    assert after.since is not None
    assert before.since is not None
    assert (after.since - before.since).total_seconds() > 0


def test_services_run_as_their_users_with_their_rights(running: Settings) -> None:
    for name in SERVICES:
        (service,) = [s for s in appliance.table(running) if s.name == name]
        for number in supervisor.tree(of(running, name).pid):
            text = Path(f"/proc/{number}/status").read_text(encoding="utf-8")
            fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
            assert Path(f"/proc/{number}").owner() == service.user
            assert fields["NoNewPrivs"] == "1"
            assert int(fields["CapBnd"], 16).bit_count() == len(service.capabilities)


def test_no_secret_is_readable_by_others(running: Settings) -> None:
    paths = Paths(running)
    secret = [*paths.secrets.iterdir(), *paths.tls.glob("*.key"), paths.master_key, paths.htpasswd]
    assert len(secret) == 7
    assert [path for path in secret if path.stat().st_mode & 0o007] == []
    passwords = [path.read_text(encoding="utf-8").strip() for path in paths.secrets.iterdir()]
    for number in supervisor.tree(supervisor.pid(running)):
        words = Path(f"/proc/{number}/cmdline").read_text(encoding="utf-8")
        assert not any(password in words for password in passwords)


def test_status_and_doctor(running: Settings) -> None:
    found = appliance.status(running)
    print({s.name: f"{s.memory_mb:.0f} MB" for s in found})
    assert {s.name: s.state for s in found} == dict.fromkeys(SERVICES, "RUNNING")
    assert all(s.memory_mb > 1 for s in found)
    wrong = [finding for finding in checks.doctor(running) if not finding.ok]
    assert {finding.check for finding in wrong} == {"ramdisk"}
    assert all(finding.remedy for finding in wrong)


def test_up_again_changes_nothing(running: Settings) -> None:
    before = [s.pid for s in appliance.status(running)]
    assert appliance.up(running, names=SERVICES) == 0.0
    assert [s.pid for s in appliance.status(running)] == before


def test_logs(client: str, running: Settings) -> None:
    assert discover(client, STRANGER) is not None
    assert get(client, f"{running.boot_url}/boot.ipxe").status_code == 200
    assert any("DHCPDISCOVER" in line for line in appliance.logs(running, "dnsmasq"))
    assert any(json.loads(line)["path"] == "/boot.ipxe" for line in access_log(running))


def access_log(settings: Settings) -> list[str]:
    path = settings.log_dir / "nginx" / "access.log"
    return path.read_text(encoding="utf-8").splitlines()
