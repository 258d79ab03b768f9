"""Configures and starts the BMCs."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from provisioning.errors import HostError
from seed.lab.domain import KCS_PORT, OVMF_CODE, OVMF_VARS, bmc_loopback
from seed.lab.fru import fru
from seed.lab.network import Namespace
from seed.lab.scenario import BmcSpec, Scenario, Server
from seed.lab.state import Layout, Processes, write_secret

PORTS = {"redfish": 443, "ipmi": 623}
_SOURCE = Path(__file__).resolve().parent

LAN_CONF = """\
name "{name}"
set_working_mc 0x20
  startlan 1
    addr {loopback} {port}
    priv_limit admin
    guid {guid}
    lan_config_program "{control}"
  endlan
  chassis_control "{control}"
  serial 15 {loopback} {kcs_port} codec VM
  user 1 false "" "" user 10 none md2 md5 straight
  user 2 true "{username}" "{password}" admin 10 none md2 md5 straight
"""
"""No allowed_auths: IPMI 1.5 logins are refused, only 2.0 with its proofs is spoken."""

EMU = """\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_add_fru_data 0x20 0 {size} file 0 "{fru}"
main_sdr_add 0x20 1 0 0x51 0x12 14 0x20 0 0 0x17 0 0 0 7 1 0 0xc3 0x42 0x4d 0x43
mc_enable 0x20
"""
"""The one sensor record locates the BMC itself: with none, `ipmitool fru` prints errors."""


def service(server: Server) -> str:
    return f"bmc-{server.name}"


class Bmcs:
    """The BMCs of a lab: one process each, on its own address."""

    def __init__(self, layout: Layout, processes: Processes, env_dir: Path) -> None:
        self.layout = layout
        self.processes = processes
        self.python = env_dir / "lab" / "bin" / "python"

    def start(self, scenario: Scenario, server: Server, namespace: Namespace) -> None:
        """Start the server's BMC, if it does not run, and wait until it answers."""
        name = service(server)
        if self.processes.pid(name):
            return
        directory = self.layout.bmc(server.name)
        directory.mkdir(parents=True, exist_ok=True)
        ready = directory / "ready"
        ready.unlink(missing_ok=True)
        link = self.layout.python_path / "seed"
        link.unlink(missing_ok=True)
        link.symlink_to(_SOURCE.parent)
        if server.bmc.protocol == "redfish":
            argv = self._redfish(scenario, server, directory)
        else:
            argv = self._ipmi(scenario, server, directory)
        path = {"PYTHONPATH": str(self.layout.python_path)}
        self.processes.start(name, namespace.inside(*argv), path)
        self.processes.wait_ready(name, ready.exists, 30)

    def _redfish(self, scenario: Scenario, server: Server, directory: Path) -> list[str]:
        if not self.python.exists():
            raise HostError(f"the lab's Python environment {self.python} is missing", "make envs")
        certificate, key = directory / "cert.pem", directory / "key.pem"
        if not certificate.exists():
            _self_signed(server.bmc, certificate, key)
        self._configure(scenario, server, directory)
        module = "seed.lab.redfish_bmc"
        return [str(self.python), "-m", module, str(directory / "config.json")]

    def refit(self, scenario: Scenario, server: Server) -> None:
        """Tell a Redfish BMC which parts its server has now; an IPMI one knows of none."""
        if server.bmc.protocol == "redfish":
            self._configure(scenario, server, self.layout.bmc(server.name))

    def _configure(self, scenario: Scenario, server: Server, directory: Path) -> None:
        network = scenario.networks[scenario.bridge_of(server.bmc.address)]
        config = {
            "address": str(server.bmc.address),
            "port": PORTS["redfish"],
            "netmask": str(network.netmask),
            "mac": server.bmc.mac,
            "username": server.bmc.username,
            "password": self.layout.password(),
            "certificate": str(directory / "cert.pem"),
            "certificate_service": server.bmc.certificate_service,
            "key": str(directory / "key.pem"),
            "uuid": str(server.uuid),
            "chassis_uuid": str(server.uuid)[::-1][:8] + str(server.uuid)[8:],
            "serial": server.serial,
            "manufacturer": server.manufacturer,
            "model": server.model,
            "libvirt_uri": self.layout.libvirt_uri,
            "ovmf_code": OVMF_CODE,
            "ovmf_vars": OVMF_VARS,
            "directory": str(directory),
            "nics": [nic.model_dump() for nic in server.nics],
            "disks": [disk.model_dump() for disk in server.disks],
        }
        write_secret(directory / "config.json", json.dumps(config))

    def _ipmi(self, scenario: Scenario, server: Server, directory: Path) -> list[str]:
        loopback = bmc_loopback(scenario, server)
        network = scenario.networks[scenario.bridge_of(server.bmc.address)]
        control = {
            "name": server.name,
            "libvirt_uri": self.layout.libvirt_uri,
            "domain_xml": {
                first: str(self.layout.domain_xml(server.name, first))
                for first in ("network", "disk")
            },
            "lan": {
                "ip_addr": str(server.bmc.address),
                "ip_addr_src": "static",
                "mac_addr": server.bmc.mac,
                "subnet_mask": str(network.netmask),
            },
        }
        (directory / "control.json").write_text(json.dumps(control))
        data = fru(server)
        (directory / "fru.bin").write_bytes(data)
        (directory / "state").mkdir(exist_ok=True)
        lan = LAN_CONF.format(
            name=server.name,
            loopback=loopback,
            port=PORTS["ipmi"],
            # IPMI sends a UUID's bytes from the last to the first.
            guid=server.uuid.bytes[::-1].hex(),
            control=f"{sys.executable} -ISB {_SOURCE / 'ipmi_control.py'} {directory}",
            kcs_port=KCS_PORT,
            username=server.bmc.username,
            password=self.layout.password(),
        )
        write_secret(directory / "lan.conf", lan)
        emu = EMU.format(size=len(data), fru=directory / "fru.bin")
        (directory / "bmc.emu").write_text(emu)
        # Never without its relay: an orphan would keep the port.
        simulator = ["setpriv", "--pdeathsig", "KILL", "ipmi_sim", "-n"]
        simulator += ["-c", f"{directory}/lan.conf", "-f", f"{directory}/bmc.emu"]
        relay = {
            "address": str(server.bmc.address),
            "port": PORTS["ipmi"],
            "upstream": loopback,
            "upstream_port": PORTS["ipmi"],
            "simulator": [*simulator, "-s", f"{directory}/state"],
        }
        (directory / "relay.json").write_text(json.dumps(relay))
        return [sys.executable, "-m", "seed.lab.ipmi_bmc", str(directory)]

    def stop(self, server: Server) -> None:
        self.processes.stop(service(server))


def _self_signed(bmc: BmcSpec, certificate: Path, key: Path) -> None:
    """A certificate as BMCs come with: self-signed, with its address or just with a name."""
    private = ec.generate_private_key(ec.SECP256R1())
    told = str(bmc.address) if bmc.certificate == "address" else "bmc.factory.example"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, told)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    if bmc.certificate == "address":
        names = x509.SubjectAlternativeName([x509.IPAddress(bmc.address)])
        builder = builder.add_extension(names, critical=False)
    signed = builder.sign(private, hashes.SHA256())
    pem = serialization.Encoding.PEM
    write_secret(
        key,
        private.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )
    certificate.write_bytes(signed.public_bytes(pem))
