"""Emulated BMCs as others ship them, each in a network namespace on a bridge of the appliance's."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import bcrypt

from seed.host import netns
from seed.lab.bmc import EMU, LAN_CONF
from seed.lab.fleet.bmc import Account, Bmc
from seed.lab.fleet.certificates import Certificates
from seed.lab.fru import fru
from seed.lab.scenario import load
from tests.fakes.appliance import environments, until
from tests.fakes.wire import client_namespace, ip

USER, PASSWORD = "admin", "password"  # fakebmc knows no other
IPMI_SIM, SUSHY_TOOLS, VIRTUALBMC, FAKEBMC = (f"172.22.1.{n}" for n in (21, 22, 23, 24))
TOP = Path(__file__).resolve().parents[2]
SERVER = load(TOP / "vagrant" / "lab.yaml").server("server2")
VBMCD_PORT = 50891
LIBVIRT = "test:///default"  # a hypervisor in the process's own memory, with one domain named test
# vbmcd opens a connection for each command; one that stays keeps what the last command did.
VBMCD = """\
import sys
import libvirt
from virtualbmc.cmd.vbmcd import main
kept = libvirt.open("test:///default")
sys.exit(main(["--foreground"]))
"""
VBMC_CONF = """\
[default]
config_dir = {folder}/vbmc
pid_file = {folder}/master.pid
[ipmi]
session_timeout = 20
"""


def lab_program(name: str) -> str:
    return str(environments() / "lab" / "bin" / name)


@contextmanager
def running(
    namespace: str, argv: list[str], folder: Path, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in `namespace`, its words in folder/log; killed with its children afterwards."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*netns.prefix(namespace), *argv],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(env or {})},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
    try:
        yield process
    finally:
        for pid in netns.run(namespace, ["ip", "netns", "pids", namespace], 10).stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        process.wait(20)


def ipmi_sim(namespace: str, folder: Path) -> list[str]:
    data = fru(SERVER)
    (folder / "fru.bin").write_bytes(data)
    (folder / "state").mkdir()
    lan = LAN_CONF.format(
        name="sim", loopback=IPMI_SIM, port=623, guid=SERVER.uuid.bytes[::-1].hex(),
        control="true", kcs_port=9005, username=USER, password=PASSWORD,
    )  # fmt: skip
    # Without its helper programs it answers what it knows by itself: no LAN, no chassis.
    kept = [line for line in lan.splitlines() if '"true"' not in line]
    (folder / "lan.conf").write_text("\n".join(kept) + "\n")
    (folder / "bmc.emu").write_text(EMU.format(size=len(data), fru=folder / "fru.bin"))
    return ["ipmi_sim", "-n", "-c", "lan.conf", "-f", "bmc.emu", "-s", "state"]


def sushy_tools(namespace: str, folder: Path) -> list[str]:
    bmc = Bmc(0, SUSHY_TOOLS, "redfish", {"1": Account(USER, PASSWORD)})
    certificates = Certificates(shared=False)
    certificates.of(bmc)
    (folder / "cert.pem").write_text(bmc.certificate)
    (folder / "key.pem").write_bytes(certificates.key_pem)
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (folder / "htpasswd").write_text(f"{USER}:{hashed}\n")
    facts = {
        "LISTEN_IP": SUSHY_TOOLS, "LISTEN_PORT": 443, "SSL_CERT": f"{folder}/cert.pem",
        "SSL_KEY": f"{folder}/key.pem", "AUTH_FILE": f"{folder}/htpasswd",
        "STATE_DIR": str(folder), "FAKE_DRIVER": True,
    }  # fmt: skip
    lines = [f"SUSHY_EMULATOR_{key} = {value!r}\n" for key, value in facts.items()]
    (folder / "emulator.conf").write_text("".join(lines))
    return [lab_program("sushy-emulator"), "--config", f"{folder}/emulator.conf", "--fake"]


def virtualbmc(namespace: str, folder: Path) -> list[str]:
    (folder / "vbmc").mkdir()
    (folder / "vbmc.conf").write_text(VBMC_CONF.format(folder=folder))
    return [lab_program("python"), "-c", VBMCD]


def fakebmc(namespace: str, folder: Path) -> list[str]:
    return [lab_program("fakebmc")]


PROGRAMS = {
    IPMI_SIM: ipmi_sim, SUSHY_TOOLS: sushy_tools, VIRTUALBMC: virtualbmc, FAKEBMC: fakebmc,
}  # fmt: skip


@contextmanager
def all_programs(appliance: str, base: Path) -> Iterator[None]:
    """All four run. They answer soon; who asks at once may come too early."""
    with ExitStack() as stack:
        for number, (address, configured) in enumerate(PROGRAMS.items()):
            folder = base / configured.__name__
            folder.mkdir()
            name = f"{appliance}-{number}x"
            namespace = stack.enter_context(client_namespace(appliance, name, "oob0"))
            ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
            env = {"VIRTUALBMC_CONFIG": f"{folder}/vbmc.conf", "HOME": str(folder)}
            argv = configured(namespace, folder)
            stack.enter_context(running(namespace, argv, folder, env))
            if address == VIRTUALBMC:
                add_domain(namespace, env)
        yield


def listens() -> bool:
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", VBMCD_PORT)) == 0


def add_domain(namespace: str, env: dict[str, str]) -> None:
    """The domain gets its BMC, once vbmcd listens."""
    until(lambda: netns.call(namespace, listens), 30, "vbmcd")
    vbmc = lab_program("vbmc")
    add = ["add", "test", "--address", VIRTUALBMC, "--port", "623", "--username", USER]
    add += ["--password", PASSWORD, "--libvirt-uri", LIBVIRT]
    for words in (add, ["start", "test"]):
        subprocess.run(
            [*netns.prefix(namespace), "timeout", "60", vbmc, "--no-daemon", *words],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **env},
            check=True, timeout=70, capture_output=True,
        )  # fmt: skip
