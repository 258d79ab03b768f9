"""One Redfish BMC: sushy-tools' emulator for one server, with what real BMCs have and it lacks.

Runs in the `lab` environment as `python -m seed.lab.redfish_bmc CONFIG.json`, with nothing but
this package on its path, so it imports no library of Seed's own environment. Adds: login by basic
authentication and by sessions, accounts, the server's and the manager's identity, drives and NIC
ports with LLDP, a one-time boot override that really ends after one boot, and 404 for every server
but its own.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cheroot.ssl.builtin import BuiltinSSLAdapter
from cheroot.wsgi import Server
from flask import Flask, Response, request
from sushy_tools import error
from sushy_tools.emulator import main as emulator
from sushy_tools.emulator.resources.systems import libvirtdriver

from seed.lab.failed_logins import FailedLogins
from seed.lab.redfish_accounts import Accounts, Sessions
from seed.lab.redfish_certificates import Certificates
from seed.lab.redfish_hardware import Hardware
from seed.lab.redfish_services import AccountService, SessionService, answer, problem

ROOT = "/redfish/v1"
OPEN = ("/redfish", ROOT)
ENABLED = "BootSourceOverrideEnabled"
_STARTS = ("On", "ForceOn", "ForceRestart")


class OneServer(libvirtdriver.LibvirtDriver):  # type: ignore[misc]
    """The emulator's libvirt driver, restricted to one server."""

    only = ""
    persistent = "Pxe"
    enabled = "Disabled"

    @property
    def systems(self) -> list[str]:
        return [self.only]

    def _get_domain(self, identity: str, readonly: bool = False) -> Any:  # noqa: ANN401
        if identity.lower() != self.only:
            raise error.NotFound(f"there is no system {identity}")
        # The emulator's cache tells the two apart only by whether the argument is given.
        if readonly:
            return super()._get_domain(self.only, readonly=True)
        return super()._get_domain(self.only)

    def note(self, boot: dict[str, Any]) -> None:
        """Note how long the boot device lasts that the emulator has just set."""
        target = boot.get("BootSourceOverrideTarget")
        if target is None:
            return
        self.enabled = "Once" if boot.get(ENABLED) == "Once" else "Continuous"
        if self.enabled == "Continuous":
            self.persistent = target

    def clear_override(self) -> None:
        """Boot as usual: from what was last set for good."""
        self.enabled = "Disabled"
        super().set_boot_device(self.only, self.persistent)

    def set_power_state(self, identity: str, state: str) -> None:
        """As the emulator; a one-time boot device is forgotten once the server has started."""
        starts = state == "ForceRestart" or self.get_power_state(identity) == "Off"
        super().set_power_state(identity, state)
        if state in _STARTS and starts and self.enabled == "Once":
            self.clear_override()


class Bmc:
    """What a BMC is beyond its server's power button."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.uuid: str = config["uuid"]
        directory = Path(config["directory"])
        self.failed = FailedLogins(directory / "failed_logins")
        self.accounts = Accounts(
            directory / "accounts.json", config["username"], config["password"]
        )
        self.sessions = Sessions()
        self.hardware = Hardware(config, ROOT)
        self.certificates: Certificates | None = None
        if config["certificate_service"]:
            self.certificates = Certificates(directory, self.uuid, config["address"])

    @property
    def driver(self) -> OneServer:
        driver: OneServer = emulator.app.systems
        return driver

    def guard(self) -> Response | None:
        """Before every request: who is it?"""
        path = request.path.rstrip("/")
        if path in OPEN and request.method in ("GET", "HEAD"):
            return None
        if path == f"{ROOT}/SessionService/Sessions" and request.method == "POST":
            return None  # the login itself
        token = request.headers.get("X-Auth-Token")
        if token:
            if self.sessions.use(token):
                return None
            return problem(401, "NoValidSession", "There is no valid session.")
        login = request.authorization
        if login is None or login.type != "basic":
            return problem(401, "NoValidSession", "Log in first.")
        if self.accounts.check(login.username or "", login.password or ""):
            return None
        self.failed.add()
        return problem(401, "InsufficientPrivilege", "The login was refused.")

    def clear_override(self) -> Response | None:
        """Before every request: "no override", which the emulator does not understand."""
        path = request.path.rstrip("/").lower()
        if request.method != "PATCH" or path != f"{ROOT}/Systems/{self.uuid}".lower():
            return None
        boot = (request.get_json(silent=True, force=True) or {}).get("Boot") or {}
        target = boot.get("BootSourceOverrideTarget")
        if target == "None" or (target is None and boot.get(ENABLED) == "Disabled"):
            self.driver.clear_override()
            return Response(status=204)
        return None

    def amend(self, response: Response) -> Response:
        """After every request: add what the emulator does not know."""
        response.headers["OData-Version"] = "4.0"
        response.headers["Server"] = "Seed-lab-BMC"
        if request.url_rule and request.url_rule.methods:
            response.headers["Allow"] = ", ".join(sorted(request.url_rule.methods))
        path = request.path.rstrip("/").lower()
        if path == f"{ROOT}/Systems/{self.uuid}".lower() and response.status_code < 300:
            if request.method == "PATCH":
                self.driver.note(request.get_json(force=True).get("Boot") or {})
            else:
                self._extend(response, self._system)
        elif request.method == "GET" and response.status_code == 200:
            if path == ROOT:
                self._extend(response, self._root)
            elif path == f"{ROOT}/Managers/{self.uuid}".lower():
                self._extend(response, self._manager)
            elif path == self.hardware.chassis.lower():
                self._extend(response, self._chassis)
        return response

    @staticmethod
    def _extend(response: Response, change: Callable[[dict[str, Any]], None]) -> None:
        body = json.loads(response.get_data())
        change(body)
        response.set_data(json.dumps(body))

    def _root(self, body: dict[str, Any]) -> None:
        body["UUID"] = self.uuid
        body["Product"] = f"{self.config['model']} BMC"
        body["Vendor"] = self.config["manufacturer"]
        services = ["SessionService", "AccountService"]
        services += ["CertificateService"] if self.certificates else []
        for service in services:
            body[service] = {"@odata.id": f"{ROOT}/{service}"}
        body["Links"] = {"Sessions": {"@odata.id": f"{ROOT}/SessionService/Sessions"}}

    def _system(self, body: dict[str, Any]) -> None:
        body["SerialNumber"] = self.config["serial"]
        body["Manufacturer"] = self.config["manufacturer"]
        body["Model"] = self.config["model"]
        body["SKU"] = self.config["model"]
        body["SystemType"] = "Physical"
        body["AssetTag"] = f"AT-{self.config['serial']}"
        boot = body.setdefault("Boot", {})
        boot[ENABLED] = self.driver.enabled
        if self.driver.enabled == "Disabled":
            boot["BootSourceOverrideTarget"] = "None"

    def _manager(self, body: dict[str, Any]) -> None:
        body["Manufacturer"] = self.config["manufacturer"]
        body["Model"] = f"{self.config['model']} BMC"
        body["SerialNumber"] = f"{self.config['serial']}-BMC"
        nics = f"{ROOT}/Managers/{self.uuid}/EthernetInterfaces"
        body["EthernetInterfaces"] = {"@odata.id": nics}
        if self.certificates:
            body["NetworkProtocol"] = {"@odata.id": self.certificates.protocols}

    def _chassis(self, body: dict[str, Any]) -> None:
        body["Manufacturer"] = self.config["manufacturer"]
        body["Model"] = self.config["model"]
        body["SerialNumber"] = self.config["serial"]
        body["AssetTag"] = f"AT-{self.config['serial']}"
        body["NetworkAdapters"] = {"@odata.id": f"{self.hardware.chassis}/NetworkAdapters"}

    def manager_nics(self, identity: str) -> Response:
        if identity.lower() != self.uuid:
            return problem(404, "ResourceMissingAtURI", "There is no such manager.")
        here = f"{ROOT}/Managers/{self.uuid}/EthernetInterfaces"
        return answer(
            {
                "@odata.type": "#EthernetInterfaceCollection.EthernetInterfaceCollection",
                "@odata.id": here,
                "Name": "Manager Ethernet Interfaces",
                "Members@odata.count": 1,
                "Members": [{"@odata.id": f"{here}/1"}],
            }
        )

    def manager_nic(self, identity: str, number: str) -> Response:
        if identity.lower() != self.uuid or number != "1":
            return problem(404, "ResourceMissingAtURI", "There is no such interface.")
        address = {"Address": self.config["address"], "SubnetMask": self.config["netmask"]}
        return answer(
            {
                "@odata.type": "#EthernetInterface.v1_6_0.EthernetInterface",
                "@odata.id": f"{ROOT}/Managers/{self.uuid}/EthernetInterfaces/1",
                "Id": "1",
                "Name": "Manager Ethernet Interface",
                "InterfaceEnabled": True,
                "MACAddress": self.config["mac"],
                "PermanentMACAddress": self.config["mac"],
                "IPv4Addresses": [{**address, "AddressOrigin": "Static"}],
                "Status": {"State": "Enabled", "Health": "OK"},
            }
        )


def application(bmc: Bmc) -> Flask:
    """The emulator's Flask application, as this BMC."""
    config = bmc.config
    OneServer.only = bmc.uuid
    libvirtdriver.LibvirtDriver = OneServer
    app: Flask = emulator.app
    chassis = {"Id": "1", "Name": f"{config['model']} chassis", "UUID": config["chassis_uuid"]}
    app.config.update(
        SUSHY_EMULATOR_LIBVIRT_URI=config["libvirt_uri"],
        SUSHY_EMULATOR_STATE_DIR=config["directory"],
        SUSHY_EMULATOR_STORAGE_POOL="default",
        SUSHY_EMULATOR_IGNORE_BOOT_DEVICE=False,
        SUSHY_EMULATOR_BOOT_LOADER_MAP={
            "UEFI": {"x86_64": config["ovmf_code"]},
            "Legacy": {"x86_64": None},
        },
        SUSHY_EMULATOR_SECURE_BOOT_DISABLED_NVRAM=config["ovmf_vars"],
        SUSHY_EMULATOR_CHASSIS=[chassis],
        SUSHY_EMULATOR_INDICATOR_LEDS={bmc.uuid: "Off"},
    )
    app.before_request(bmc.guard)
    app.before_request(bmc.clear_override)
    app.before_request(bmc.hardware.serve)
    if bmc.certificates:
        app.before_request(bmc.certificates.answer_first)
    app.after_request(bmc.amend)
    nics = f"{ROOT}/Managers/<identity>/EthernetInterfaces"
    app.add_url_rule(nics, view_func=bmc.manager_nics)
    app.add_url_rule(f"{nics}/<number>", view_func=bmc.manager_nic)
    SessionService(bmc.accounts, bmc.sessions, bmc.failed).mount(app)
    AccountService(bmc.accounts, bmc.sessions).mount(app)
    return app


def main(path: Path) -> None:
    """Serve until killed; the file `ready` appears once the port is open."""
    config = json.loads(path.read_text())
    bmc = Bmc(config)
    server = Server((config["address"], config["port"]), application(bmc), numthreads=8)
    server.ssl_adapter = BuiltinSSLAdapter(config["certificate"], config["key"])
    if bmc.certificates:
        bmc.certificates.context = server.ssl_adapter.context
    server.prepare()
    (path.parent / "ready").touch()
    server.serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
