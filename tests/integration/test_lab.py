"""A whole lab with its real parts, in a namespace of its own: up, both BMCs, down."""

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import requests
import sushy
import yaml
from pydantic import SecretStr
from pyghmi.exceptions import IpmiException
from pyghmi.ipmi import command
from pyghmi.ipmi.fru import FRU

import provisioning.bmc
from provisioning import plugins
from provisioning.bmc import Access, Survey
from seed.lab.lab import Lab, stored
from seed.lab.state import MARK, wait_for

TOP = Path(__file__).resolve().parents[2]
NAMESPACE = f"lab-test-{os.getpid()}"
ENVS = Path(sys.prefix).parent
REDFISH, IPMI = "172.22.1.11", "172.22.1.12"


def cli(*argv: str, expect: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "seed.lab.cli", *argv],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=TOP,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def machine() -> dict[str, object]:
    """What a lab must leave as it found it."""
    links = json.loads(subprocess.check_output(["ip", "-j", "link"], timeout=10))
    return {
        "namespaces": sorted(p.name for p in Path("/run/netns").glob(NAMESPACE)),
        "links": sorted(link["ifname"] for link in links if "tap" not in link["ifname"]),
        "mounts": [
            line for line in Path("/proc/mounts").read_text().splitlines() if NAMESPACE in line
        ],
        "processes": ours(),
    }


def ours() -> list[str]:
    """Processes that carry the name of this test's namespace in command or environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            text = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
        except OSError:
            continue
        if NAMESPACE.encode() in text and int(path.name) != os.getpid():
            found.append(text.replace(b"\0", b" ").decode(errors="replace")[:200])
    return sorted(found)


@pytest.fixture(scope="module")
def scenario_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = yaml.safe_load((TOP / "vagrant" / "lab.yaml").read_text())
    content["namespace"] = NAMESPACE
    for server in content["servers"]:
        server["memory_mib"] = 256
    path = tmp_path_factory.mktemp("scenario") / "lab.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A shorter one than pytest's: a lab below it has sockets, whose paths end at 107 signs."""
    with tempfile.TemporaryDirectory(prefix="lab-test-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab") / NAMESPACE


@pytest.fixture(scope="module")
def options(scenario_file: Path, state_dir: Path) -> list[str]:
    return ["--scenario", str(scenario_file), "--state-dir", str(state_dir)]


@pytest.fixture(scope="module")
def lab(options: list[str], state_dir: Path) -> Iterator[Lab]:
    """The lab, up; and afterwards the machine is as before."""
    before = machine()
    try:
        assert "lab up in" in cli("up", *options)
        yield Lab(stored(state_dir), state_dir, ENVS)
    finally:
        cli("down", *options)
        after = machine()
    assert after == before
    assert not state_dir.exists()
    assert "there is no lab" in cli("down", *options), "a second down is fine"


def _enter(namespace: str) -> None:
    handle = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.setns(handle, 0x40000000) == 0, os.strerror(ctypes.get_errno())  # CLONE_NEWNET
    os.close(handle)


@pytest.fixture
def inside(lab: Lab) -> Iterator[Callable[..., Any]]:
    """Calls a function in the lab's network namespace."""
    pool = ProcessPoolExecutor(
        1, mp_context=get_context("fork"), initializer=_enter, initargs=(NAMESPACE,)
    )
    with pool:
        yield lambda function, *args: pool.submit(function, *args).result(timeout=60)


def status(lab: Lab, name: str) -> dict[str, Any]:
    return next(row for row in lab.status() if row["name"] == name)


def failed(lab: Lab, name: str) -> int:
    return int(status(lab, name)["failed_logins"])


# --- Redfish ------------------------------------------------------------------------------------


def redfish(lab: Lab, password: str | None = None) -> sushy.Sushy:
    certificate = str(lab.layout.bmc("server1") / "cert.pem")
    login = sushy.auth.SessionAuth("admin", password or lab.layout.password())
    return sushy.Sushy(f"https://{REDFISH}", auth=login, verify=certificate)


def redfish_identity(lab: Lab) -> dict[str, Any]:
    root = redfish(lab)
    (system,) = root.get_system_collection().get_members()
    (manager,) = system.managers
    nics = manager.json["EthernetInterfaces"]["@odata.id"]
    get = root._conn.get
    sessions = root.get_session_service().sessions.members_identities
    statuses = []
    for path in (f"Systems/{lab.scenario.servers[1].uuid}", "Systems/server1", "Managers/x"):
        try:
            statuses.append(get(f"/redfish/v1/{path}").status_code)
        except sushy.exceptions.ResourceNotFoundError:
            statuses.append(404)
    found = {
        "serial": system.json["SerialNumber"],
        "manufacturer": system.manufacturer,
        "model": system.json["Model"],
        "uuid": system.uuid,
        "macs": [nic.mac_address for nic in system.ethernet_interfaces.get_members()],
        "bmc_mac": get(f"{nics}/1").json()["MACAddress"],
        "sessions": len(sessions),
        "others": statuses,
    }
    root._conn._auth.close()
    return found


def test_redfish_says_who_the_server_is(lab: Lab, inside: Callable[..., Any]) -> None:
    server = lab.scenario.servers[0]
    assert inside(redfish_identity, lab) == {
        "serial": server.serial,
        "manufacturer": server.manufacturer,
        "model": server.model,
        "uuid": str(server.uuid),
        "macs": [server.nics[0].mac],
        "bmc_mac": server.bmc.mac,
        "sessions": 1,
        "others": [404, 404, 404],
    }


def redfish_power(lab: Lab) -> list[tuple[str, str, str]]:
    root = redfish(lab)
    (system,) = root.get_system_collection().get_members()
    seen = []

    def look() -> None:
        system.refresh(force=True)
        power, boot = system.power_state.value, system.boot
        seen.append((power, boot.target.value, boot.enabled.value))

    disk, pxe = sushy.BOOT_SOURCE_TARGET_HDD, sushy.BOOT_SOURCE_TARGET_PXE
    system.set_system_boot_options(target=disk, enabled=sushy.BOOT_SOURCE_ENABLED_CONTINUOUS)
    look()
    system.set_system_boot_options(target=pxe, enabled=sushy.BOOT_SOURCE_ENABLED_ONCE)
    look()
    system.set_system_boot_options(enabled=sushy.BOOT_SOURCE_ENABLED_DISABLED)
    look()
    system.set_system_boot_options(target=pxe, enabled=sushy.BOOT_SOURCE_ENABLED_ONCE)
    system.reset_system(sushy.RESET_ON)
    look()
    system.set_system_boot_options(mode=sushy.BOOT_SOURCE_MODE_UEFI)
    system.reset_system(sushy.RESET_FORCE_OFF)
    look()
    root._conn._auth.close()
    return seen


def first_boot_device(lab: Lab, name: str, *options: str) -> str:
    """Of a domain, what boots first: "disk" or "interface"."""
    tree = ET.fromstring(lab.hypervisor.virsh("dumpxml", name, *options))  # noqa: S314 -- ours
    word = tree.find("os/boot")
    if word is not None:
        return "interface" if word.get("dev") == "network" else "disk"
    orders = {
        int(boot.get("order", "99")): device.tag
        for device in tree.findall("devices/*")
        if (boot := device.find("boot")) is not None
    }
    return orders[min(orders)]


def test_redfish_power_and_a_boot_device_that_lasts_once(
    lab: Lab, inside: Callable[..., Any]
) -> None:
    assert inside(redfish_power, lab) == [
        ("Off", "Hdd", "Continuous"),
        ("Off", "Pxe", "Once"),
        ("Off", "None", "Disabled"),
        ("On", "None", "Disabled"),
        ("Off", "None", "Disabled"),
    ]
    assert first_boot_device(lab, "server1", "--inactive") == "disk"


def redfish_open_doors(lab: Lab) -> list[int]:
    certificate = str(lab.layout.bmc("server1") / "cert.pem")
    good, bad = ("admin", lab.layout.password()), ("admin", "wrong")
    base = f"https://{REDFISH}/redfish/v1"
    answers = []
    for path, login in (
        ("/", None),
        ("/Systems", None),
        ("/Systems", good),
        ("/SessionService/Sessions", None),
        ("/Systems", bad),
        ("/nonsense", None),
    ):
        reply = requests.get(base + path, auth=login, verify=certificate, timeout=10)
        answers.append(reply.status_code)
    body = {"UserName": "nobody", "Password": "wrong"}
    reply = requests.post(
        f"{base}/SessionService/Sessions", json=body, verify=certificate, timeout=10
    )
    return [*answers, reply.status_code]


def test_redfish_refuses_and_counts_wrong_logins(lab: Lab, inside: Callable[..., Any]) -> None:
    before = failed(lab, "server1")
    assert inside(redfish_open_doors, lab) == [200, 401, 200, 401, 401, 401, 401]
    assert failed(lab, "server1") == before + 2


def redfish_new_password(lab: Lab) -> list[int]:
    certificate = str(lab.layout.bmc("server1") / "cert.pem")
    old, new = ("admin", lab.layout.password()), ("admin", "another-password")
    account = f"https://{REDFISH}/redfish/v1/AccountService/Accounts/1"
    answers = []
    for login, password in ((old, "short"), (old, new[1]), (old, None), (new, old[1])):
        if password is None:
            reply = requests.get(account, auth=login, verify=certificate, timeout=10)
        else:
            body = {"Password": password}
            reply = requests.patch(account, json=body, auth=login, verify=certificate, timeout=10)
        answers.append(reply.status_code)
    return answers


def test_redfish_password_change(lab: Lab, inside: Callable[..., Any]) -> None:
    assert inside(redfish_new_password, lab) == [400, 200, 401, 200]


# --- IPMI ---------------------------------------------------------------------------------------


def ipmitool(
    lab: Lab, *argv: str, password: Path | None = None
) -> subprocess.CompletedProcess[str]:
    login = ["-U", "admin", "-f", str(password or lab.layout.password_file)]
    tool = ["ipmitool", "-I", "lanplus", "-H", IPMI, *login, *argv]
    return subprocess.run(lab.namespace.inside(*tool), capture_output=True, text=True, timeout=30)


def test_ipmi_says_who_the_server_is(lab: Lab) -> None:
    server = lab.scenario.servers[1]
    lan = ipmitool(lab, "lan", "print").stdout
    assert f"IP Address              : {IPMI}\n" in lan
    assert f"MAC Address             : {server.bmc.mac}\n" in lan
    fru = ipmitool(lab, "fru", "print", "0")
    assert f"Product Serial        : {server.serial}\n" in fru.stdout
    assert f"Product Manufacturer  : {server.manufacturer}\n" in fru.stdout
    assert "error" not in fru.stderr.lower()
    assert str(server.uuid) in ipmitool(lab, "mc", "guid").stdout


def test_ipmi_power_and_boot_device(lab: Lab) -> None:
    def power() -> str:
        return ipmitool(lab, "power", "status").stdout.split()[-1]

    assert ipmitool(lab, "chassis", "bootdev", "disk").returncode == 0
    assert ipmitool(lab, "chassis", "bootdev", "pxe").returncode == 0
    assert ipmitool(lab, "power", "on").returncode == 0
    assert wait_for(lambda: power() == "on", 20)
    assert first_boot_device(lab, "server2") == "interface", "pxe, this once"
    born = lab.hypervisor.virsh("domid", "server2")
    assert ipmitool(lab, "power", "reset").returncode == 0
    assert wait_for(lambda: lab.hypervisor.virsh("domid", "server2") not in (born, "-"), 20)
    assert first_boot_device(lab, "server2") == "disk", "disk, until further notice"
    assert ipmitool(lab, "power", "off").returncode == 0
    assert wait_for(lambda: power() == "off", 20)
    assert "failed" in ipmitool(lab, "chassis", "bootdev", "cdrom").stderr


def pyghmi_visit(password: str) -> tuple[str, dict[str, Any]]:
    client = command.Command(IPMI, "admin", password)
    raw = bytearray()
    size = int.from_bytes(bytes(client.raw_command(0x0A, 0x10, data=[0])["data"][:2]), "little")
    while len(raw) < size:
        part = client.raw_command(0x0A, 0x11, data=[0, len(raw) & 255, len(raw) >> 8, 16])
        raw += bytes(part["data"][1:])
    return client.get_power()["powerstate"], FRU(rawdata=raw).info


def test_pyghmi_logs_in_and_reads_the_fru(lab: Lab, inside: Callable[..., Any]) -> None:
    state, fru = inside(pyghmi_visit, lab.layout.password())
    assert state == "off"
    assert fru["Serial Number"] == lab.scenario.servers[1].serial
    assert fru["Manufacturer"] == lab.scenario.servers[1].manufacturer


def pyghmi_wrong() -> bool:
    try:
        command.Command(IPMI, "admin", "wrong")
    except IpmiException:
        return True
    return False


def test_ipmi_refuses_and_counts_wrong_logins(
    lab: Lab, inside: Callable[..., Any], tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    before = failed(lab, "server2")
    assert ipmitool(lab, "power", "status", password=wrong).returncode != 0
    assert inside(pyghmi_wrong)
    assert wait_for(lambda: failed(lab, "server2") == before + 2, 20)


# --- the lab itself -----------------------------------------------------------------------------


# --- what our own protocols read of them ----------------------------------------------------------


def look(protocol: str, address: str, password: str) -> Survey:
    bmc = plugins.load(provisioning.bmc)[protocol]
    contact = asyncio.run(bmc.probe(address, 10.0))
    assert contact is not None
    return bmc.survey(contact, Access("admin", SecretStr(password)), 50.0)


def switch_led(protocol: str, address: str, password: str, on: bool) -> None:
    bmc = plugins.load(provisioning.bmc)[protocol]
    contact = asyncio.run(bmc.probe(address, 10.0))
    assert contact is not None
    bmc.locate(contact, Access("admin", SecretStr(password)), on, 30.0)


def redfish_led(lab: Lab) -> tuple[str, int]:
    """How the LED is, and how many sessions are open beside this one."""
    root = redfish(lab)
    (system,) = root.get_system_collection().get_members()
    sessions = root.get_session_service().sessions.members_identities
    led = system.json["IndicatorLED"]
    root._auth.close()
    return led, len(sessions) - 1


def test_redfish_tells_its_parts_with_the_power_off(lab: Lab, inside: Callable[..., Any]) -> None:
    server = lab.scenario.servers[0]
    heard = lab.layout.bmc("server1") / "neighbours.json"
    before, refused = redfish_led_of(lab, inside), failed(lab, "server1")
    told = inside(look, "redfish", REDFISH, lab.layout.password())
    seen = told.inventory
    assert (seen.serial, seen.model, seen.power) == (server.serial, server.model, "off")
    assert (seen.bmc_mac, seen.asset_tag) == (server.bmc.mac, f"AT-{server.serial}")
    assert [(d.serial, d.size_bytes) for d in seen.drives] == [
        (d.serial, d.size_gib * 2**30) for d in server.disks
    ]
    assert [n.mac for n in seen.nics] == [n.mac for n in server.nics]
    assert (told.abilities.led, told.abilities.secure_boot) == ("IndicatorLED", "write")
    assert told.findings == ()
    switch = json.loads(heard.read_text())[server.nics[0].mac]
    ((found,),) = [nic.neighbours for nic in seen.nics]
    assert (found.switch, found.port) == (switch["switch"], switch["port"])
    assert told.abilities.lldp
    aside = heard.rename(heard.with_name("no-switch"))
    try:
        told = inside(look, "redfish", REDFISH, lab.layout.password())
    finally:
        aside.rename(heard)
    assert not told.abilities.lldp
    assert [nic.neighbours for nic in told.inventory.nics] == [()]
    assert redfish_led_of(lab, inside) == before, "no session is left"
    assert failed(lab, "server1") == refused
    assert status(lab, "server1")["power"] == "off"


def redfish_led_of(lab: Lab, inside: Callable[..., Any]) -> tuple[str, int]:
    found: tuple[str, int] = inside(redfish_led, lab)
    return found


def test_redfish_lights_its_led(lab: Lab, inside: Callable[..., Any]) -> None:
    for on, state in ((True, "Blinking"), (False, "Off")):
        inside(switch_led, "redfish", REDFISH, lab.layout.password(), on)
        assert redfish_led_of(lab, inside)[0] == state


def test_ipmi_tells_what_it_can_with_the_power_off(lab: Lab, inside: Callable[..., Any]) -> None:
    server, refused = lab.scenario.servers[1], failed(lab, "server2")
    told = inside(look, "ipmi", IPMI, lab.layout.password())
    seen = told.inventory
    assert (seen.serial, seen.model, seen.power) == (server.serial, server.model, "off")
    assert seen.bmc_mac == server.bmc.mac
    assert (told.abilities.ipmi_version, told.abilities.cipher_suites) == ("2.0", (3,))
    assert any("cipher suite 17 is not offered" in finding for finding in told.findings)
    inside(switch_led, "ipmi", IPMI, lab.layout.password(), True)
    assert failed(lab, "server2") == refused
    assert status(lab, "server2")["power"] == "off"


def test_status_and_the_power_button(lab: Lab, options: list[str]) -> None:
    rows = {row["name"]: row for row in json.loads(cli("status", *options, "-o", "json"))}
    assert rows["server1"]["bmc_up"]
    assert rows["server2"]["bmc_up"]
    cli("power", "server2", "on", *options)
    assert status(lab, "server2")["power"] == "on"
    console = lab.layout.console("server2")
    assert wait_for(lambda: b"SeaBIOS" in console.read_bytes(), 60), "the firmware speaks there"
    follow = [sys.executable, "-m", "seed.lab.cli", "console", "server2", *options]
    with subprocess.Popen(follow, stdout=subprocess.PIPE, cwd=TOP) as process:
        assert process.stdout is not None
        assert any(b"SeaBIOS" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
    cli("power", "server2", "off", *options)
    assert status(lab, "server2")["power"] == "off"
    assert "server2" in cli("status", *options)
    assert "no server 'x'" in cli("power", "x", "on", *options, expect=1)


def test_no_password_can_be_seen(lab: Lab) -> None:
    password = lab.layout.password().encode()
    for path in lab.layout.root.rglob("*"):
        if path.is_file() and password in path.read_bytes():
            assert path.stat().st_mode & 0o077 == 0, path
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert password not in path.read_bytes()
        except OSError:
            continue


def test_up_again_keeps_what_runs_and_replaces_what_died(lab: Lab, options: list[str]) -> None:
    pids = {name: lab.processes.pid(name) for name in lab.processes.services()}
    assert set(pids) == {"libvirtd", "switches", "bmc-server1", "bmc-server2"}
    victim = pids["bmc-server2"]
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    assert wait_for(lambda: lab.processes.pid("bmc-server2") is None, 10)
    cli("up", *options)
    assert lab.processes.pid("libvirtd") == pids["libvirtd"]
    assert lab.processes.pid("bmc-server1") == pids["bmc-server1"]
    assert ipmitool(lab, "power", "status").returncode == 0


def test_a_foreign_namespace_is_refused(tmp_path: Path, scenario_file: Path, lab: Lab) -> None:
    options = ["--scenario", str(scenario_file), "--state-dir", str(tmp_path / "other")]
    assert "was not made by this lab" in cli("up", *options, expect=1)
    assert not (tmp_path / "other").exists(), "nothing half-done stays"
    cli("down", *options)
    assert lab.namespace.is_ours(), "the other lab's down left it alone"


def test_down_cleans_up_after_an_up_that_died_at_once(tmp_path: Path, scenario_file: Path) -> None:
    content = yaml.safe_load(scenario_file.read_text())
    content["namespace"] = f"{NAMESPACE}-b"
    other = tmp_path / "lab.yaml"
    other.write_text(yaml.safe_dump(content))
    root = tmp_path / "state"
    options = ["--scenario", str(other), "--state-dir", str(root)]
    process = subprocess.Popen([sys.executable, "-m", "seed.lab.cli", "up", *options], cwd=TOP)
    try:
        socket = root / "libvirt" / "run" / "libvirt-sock"
        assert wait_for(socket.exists, 60)
    finally:
        process.kill()
        process.wait(timeout=10)
    (root / "pid" / "libvirtd.json").unlink()  # as if it had died just before noting the pid
    guest = ["ip", "netns", "exec", f"{NAMESPACE}-b", "sleep", "1000"]
    with subprocess.Popen(guest) as process:
        refusal = cli("down", *options, expect=1)
        assert f"{process.pid} (sleep)" in refusal, "not ours, so not killed"
        process.kill()
    cli("down", *options)
    cli("down", *options)
    assert not root.exists()
    assert not Path(f"/run/netns/{NAMESPACE}-b").exists()
    mark = f"{MARK}={root}".encode()
    left = [p for p in Path("/proc").glob("[0-9]*/environ") if mark in _environ(p)]
    assert left == []


def _environ(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
