"""The proof of a server that is just as its order wants it."""

from typing import Any

from provisioning.models import Order


def as_wanted(order: Order) -> dict[str, Any]:
    wanted = order.wanted
    disks = wanted.get("disks") or {}
    root = disks.get("root") or {}
    return {
        "hostname": wanted["hostname"],
        "nics": [{"mac": mac} for mac in order.macs],
        "links": [
            {"name": "eth0", "up": True, "own_mac": link["mac"], **link}
            for link in wanted.get("links") or ()
        ],
        "routes": [{**route, "dev": "eth0"} for route in wanted.get("routes") or ()],
        "dns": wanted.get("dns") or [],
        "ntp": wanted.get("ntp") or [],
        "disks": [
            *({"serial": serial, "root": True} for serial in root.get("serials", ())),
            *({"serial": disk["serial"]} for disk in disks.get("data", ())),
            *({"serial": disk["serial"]} for disk in disks.get("kept", ())),
        ],
        "root": {"raid": root.get("raid") or None, "disks": len(root.get("serials", ()))},
        "kernel": wanted.get("kernel") or "6.12",
        "cmdline": " ".join(wanted.get("kernel_args") or ()),
        "services": [{"name": name, "state": "active"} for name in wanted.get("services") or ()],
        "parts": [{"name": n, "fetched": True} for n in wanted.get("parts") or ()],
        "cloud_init": {"status": "done"},
        "host_keys": [],
    }
