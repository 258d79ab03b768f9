"""What a Redfish BMC tells of its server's parts, which the emulator lacks: drives and NIC ports.

Ports tell what LLDP heard where the emulated switch left `neighbours.json` in the BMC's directory:
{nic mac: {"switch": system name, "port": name, "vlan": number}}.
"""

import json
from pathlib import Path
from typing import Any

from flask import Response, request

from seed.lab.redfish_services import answer, members

GIB = 2**30
PROTOCOLS = {"virtio-scsi": ("SAS", "SSD"), "ahci": ("SATA", "HDD"), "nvme": ("NVMe", "SSD")}
NIC_MODELS = {"virtio": "Virtio network device", "e1000e": "Intel 82574L Gigabit"}


class Hardware:
    """GET of parts, before the emulator sees it."""

    def __init__(self, config: dict[str, Any], root: str) -> None:
        self._nics: list[dict[str, Any]] = config.get("nics", [])
        directory = Path(config["directory"])
        self._config, self._neighbours = directory / "config.json", directory / "neighbours.json"
        self.chassis = f"{root}/Chassis/{config['chassis_uuid']}"
        self._storage = f"{root}/Systems/{config['uuid']}/Storage"
        self._adapters = f"{self.chassis}/NetworkAdapters"

    def serve(self) -> Response | None:
        if request.method != "GET":
            return None
        path = request.path.rstrip("/")
        found = self._tree().get(path.lower())
        return answer({"@odata.id": path, **found}) if found else None

    def _tree(self) -> dict[str, dict[str, Any]]:
        """Made anew for each request: the switch may have been re-plugged, a disk exchanged."""
        disks: list[dict[str, Any]] = json.loads(self._config.read_text()).get("disks", [])
        heard = json.loads(self._neighbours.read_text()) if self._neighbours.exists() else {}
        found = {
            self._storage: members(self._storage, "Storage", ["1"]),
            f"{self._storage}/1": self._controller(len(disks)),
            self._adapters: members(
                self._adapters, "NetworkAdapter", [str(n) for n in range(1, len(self._nics) + 1)]
            ),
        }
        for number, disk in enumerate(disks):
            found[f"{self._storage}/1/Drives/{number}"] = _drive(number, disk)
        for number, nic in enumerate(self._nics, 1):
            here = f"{self._adapters}/{number}"
            found[here] = _adapter(here, number, nic)
            found[f"{here}/Ports"] = members(f"{here}/Ports", "Port", ["1"])
            found[f"{here}/Ports/1"] = _port(number, nic, heard)
        return {path.lower(): body for path, body in found.items()}

    def _controller(self, disks: int) -> dict[str, Any]:
        drives = [{"@odata.id": f"{self._storage}/1/Drives/{n}"} for n in range(disks)]
        return {
            "@odata.type": "#Storage.v1_4_0.Storage",
            "Id": "1",
            "Name": "Local storage",
            "Status": {"State": "Enabled", "Health": "OK", "HealthRollup": "OK"},
            "Drives": drives,
        }


def _drive(number: int, disk: dict[str, Any]) -> dict[str, Any]:
    protocol, media = PROTOCOLS[disk["bus"]]
    return {
        "@odata.type": "#Drive.v1_4_0.Drive",
        "Id": str(number),
        "Name": f"Disk {number}",
        "Model": "QEMU HARDDISK",
        "SerialNumber": disk["serial"],
        "CapacityBytes": disk["size_gib"] * GIB,
        "Protocol": protocol,
        "MediaType": media,
        "Status": {"State": "Enabled", "Health": "OK"},
    }


def _adapter(here: str, number: int, nic: dict[str, Any]) -> dict[str, Any]:
    return {
        "@odata.type": "#NetworkAdapter.v1_5_0.NetworkAdapter",
        "Id": str(number),
        "Name": f"NIC {number}",
        "Model": NIC_MODELS[nic["model"]],
        "Status": {"State": "Enabled", "Health": "OK"},
        "Ports": {"@odata.id": f"{here}/Ports"},
    }


def _port(number: int, nic: dict[str, Any], heard: dict[str, Any]) -> dict[str, Any]:
    ethernet: dict[str, Any] = {"AssociatedMACAddresses": [nic["mac"]]}
    if heard:  # an empty wire is told, too; without a switch nothing is said of LLDP
        ethernet["LLDPEnabled"] = True
        neighbour = heard.get(nic["mac"], {})
        ethernet["LLDPReceive"] = {
            "SystemName": neighbour.get("switch", ""),
            "PortId": neighbour.get("port", ""),
            "ManagementVlanId": neighbour.get("vlan") or 4095,
        }
    return {
        "@odata.type": "#Port.v1_6_0.Port",
        "Id": "1",
        "Name": f"NIC {number} port 1",
        "CurrentSpeedGbps": 1,
        "Ethernet": ethernet,
    }
