"""Tell the seed, once, who this server is: it is the proof that the right image runs here.

Reads /run/seed/phone-home.json (url, token, ca). Standard library only. Retries for 30 minutes.
"""

import json
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

CONFIG = Path("/run/seed/phone-home.json")
TRY_FOR, PAUSE, CALL_TIMEOUT = 1800, 5, 20  # seconds


def run(*argv: str) -> Any:  # noqa: ANN401
    done = subprocess.run(argv, capture_output=True, text=True, timeout=1500, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        return {}


def nics() -> list[dict[str, Any]]:
    found = run("ip", "-j", "address")
    return [
        {
            "name": link["ifname"],
            "mac": link.get("address", ""),
            "addresses": [
                f"{a['local']}/{a['prefixlen']}"
                for a in link.get("addr_info", [])
                if a.get("scope") == "global"
            ],
        }
        for link in found or []
        if link.get("link_type") == "ether"
    ]


def disks() -> list[dict[str, Any]]:
    found = run("lsblk", "-J", "-b", "-o", "NAME,SERIAL,WWN,SIZE,TYPE,MOUNTPOINT")
    return [
        {
            "name": d["name"],
            "serial": d.get("serial") or "",
            "wwn": d.get("wwn") or "",
            "size_bytes": int(d.get("size") or 0),
            "root": holds_root(d),
        }
        for d in found.get("blockdevices", [])
        if d.get("type") == "disk"
    ]


def holds_root(device: dict[str, Any]) -> bool:
    """The image is on it: "/" is on it or on what is made of it."""
    return device.get("mountpoint") == "/" or any(map(holds_root, device.get("children", [])))


def cloud_init() -> dict[str, Any]:
    told = run("cloud-init", "status", "--wait", "--format", "json")
    return {"status": told.get("status", ""), "errors": [str(e) for e in told.get("errors", [])]}


def proof(token: str) -> dict[str, Any]:
    keys = sorted(Path("/etc/ssh").glob("ssh_host_*_key.pub"))
    return {
        "token": token,
        "cloud_init": cloud_init(),
        "hostname": socket.gethostname(),
        "nics": nics(),
        "disks": disks(),
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "host_keys": [" ".join(k.read_text().split()[:2]) for k in keys],
        "kernel": Path("/proc/sys/kernel/osrelease").read_text().strip(),
    }


def main() -> None:
    config = json.loads(CONFIG.read_text())
    body = json.dumps(proof(config["token"])).encode()
    trust = ssl.create_default_context(cadata=config["ca"])
    until = time.monotonic() + TRY_FOR
    while time.monotonic() < until:
        request = urllib.request.Request(  # noqa: S310
            config["url"], data=body, headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=CALL_TIMEOUT, context=trust):  # noqa: S310
                break
        except urllib.error.HTTPError as err:
            if err.code in (404, 409, 422):  # burned or refused: asking again changes nothing
                raise
            time.sleep(PAUSE)
        except OSError:
            time.sleep(PAUSE)
    CONFIG.unlink()


if __name__ == "__main__":
    main()
