"""Tell the seed, once, who this server is: it is the proof that what was asked for runs here.

Reads the JSON file named by its first argument (url, token, ca, kernel_args, services). Where the
kernel wants other arguments it sets them and restarts the server once before it tells anything.
Standard library only. Retries for 30 minutes.
"""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

TRY_FOR, PAUSE, CALL_TIMEOUT = 1800, 5, 20  # seconds
SETTLE_FOR, FAILED_FOR = 300, 30  # seconds
KEPT = Path("/etc/seed-first-boot")
UNIT = Path("/etc/systemd/system/seed-phone-home.service")
GRUB = Path("/etc/default/grub.d/90-seed.cfg")
MANY = 64  # of a list of anything: a server with more still tells who it is
KINDS = ("bond", "vlan", "bridge")


def text(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=1500, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def run(*argv: str) -> Any:  # noqa: ANN401
    try:
        return json.loads(text(*argv))
    except ValueError:
        return {}


def read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


# --- network ------------------------------------------------------------------------------------


def ether() -> list[dict[str, Any]]:
    """As iproute2 tells them."""
    found = run("ip", "-j", "-d", "address") or []
    return [link for link in found if link.get("link_type") == "ether"]


def addresses(link: dict[str, Any]) -> list[str]:
    return [
        f"{a['local']}/{a['prefixlen']}"
        for a in link.get("addr_info", [])
        if a.get("scope") == "global"
    ]


def own_mac(link: dict[str, Any]) -> str:
    """The NIC's own: a bond gives all its members one."""
    return str(link.get("permaddr") or link.get("address", ""))


def kind(link: dict[str, Any]) -> str:
    made = str((link.get("linkinfo") or {}).get("info_kind", ""))
    return made if made in KINDS else "other" if made else "physical"


def nics() -> list[dict[str, Any]]:
    """Those that are hardware, or all where none is (a container)."""
    found = ether()
    real = [link for link in found if kind(link) == "physical"] or found
    return [
        {"name": link["ifname"], "mac": own_mac(link), "addresses": addresses(link)[:32]}
        for link in real[:MANY]
    ]


def links() -> list[dict[str, Any]]:
    found = ether()
    return [link_of(link, found) for link in found if kind(link) != "other"][:MANY]


def link_of(link: dict[str, Any], found: list[dict[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": link["ifname"], "kind": kind(link), "mac": link.get("address", ""),
        "own_mac": own_mac(link), "mtu": link.get("mtu", 0), "addresses": addresses(link)[:32],
        "up": link.get("operstate") == "UP" or "LOWER_UP" in link.get("flags", []),
    }  # fmt: skip
    below = [one for one in found if one.get("master") == link["ifname"]]
    data = (link.get("linkinfo") or {}).get("info_data") or {}
    if told["kind"] == "bond":
        members = sorted(own_mac(one) for one in below)[:MANY]
        told["bond"] = {"mode": str(data.get("mode", "")), "members": members}
    elif told["kind"] == "vlan":
        told["vlan"] = {"id": data.get("id", 0), "link": str(link.get("link", ""))}
    elif told["kind"] == "bridge":
        told["bridge"] = {"ports": sorted(one["ifname"] for one in below)[:MANY]}
    return told


def routes() -> list[dict[str, str]]:
    told = []
    for family, anywhere in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
        for route in run("ip", "-j", family, "route") or []:
            if route.get("gateway"):
                to = anywhere if route.get("dst") == "default" else str(route.get("dst", ""))
                told.append({"to": to, "via": str(route["gateway"]), "dev": route.get("dev", "")})
    return told[:MANY]


def words(pattern: str, content: str) -> list[str]:
    """What stands behind the pattern, word by word, each once."""
    found = re.findall(pattern, content, re.MULTILINE)
    return list(dict.fromkeys(word for line in found for word in line.split()))[:MANY]


def dns() -> list[str]:
    """Whom this server asks: systemd-resolved's own list where there is one."""
    ours = read("/run/systemd/resolve/resolv.conf") or read("/etc/resolv.conf")
    return words(r"^nameserver\s+(.*)$", ours)


def ntp() -> list[str]:
    """Whom the running daemons ask, by the names they were given; of a file only where none asks
    anybody, and said so: it proves nothing."""
    timesyncd = text(
        "timedatectl", "show-timesync", "--property=SystemNTPServers",
        "--property=LinkNTPServers", "--property=RuntimeNTPServers", "--value",
    )  # fmt: skip
    # -a: with those whose names are not resolved yet.
    chrony = [line.split(",") for line in text("chronyc", "-c", "-N", "sources", "-a").splitlines()]
    asked = words(r"^(.*)$", timesyncd) + [fields[2] for fields in chrony if len(fields) > 2]
    named = read("/etc/chrony/sources.d/seed.sources") + read("/etc/chrony/chrony.conf")
    in_file = words(r"^(?:server|pool)\s+(\S+)", named)
    return list(dict.fromkeys(asked))[:MANY] or [
        f"{name[:200]} (in a file, no daemon asks it)" for name in in_file
    ]


# --- disks --------------------------------------------------------------------------------------


def block_devices() -> list[dict[str, Any]]:
    found = run("lsblk", "-J", "-b", "-o", "NAME,SERIAL,WWN,SIZE,TYPE,MOUNTPOINT")
    return list((found or {}).get("blockdevices", []))


def disks(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": d["name"],
            "serial": d.get("serial") or "",
            "wwn": d.get("wwn") or "",
            "size_bytes": int(d.get("size") or 0),
            "root": holds_root(d),
        }
        for d in found
        if d.get("type") == "disk"
    ]


def holds_root(device: dict[str, Any]) -> bool:
    """The image is on it: "/" is on it or on what is made of it."""
    return device.get("mountpoint") == "/" or any(map(holds_root, device.get("children", [])))


def raid_of_root(device: dict[str, Any]) -> str:
    """The RAID that "/" is on, as lsblk calls its kind; empty: none."""
    for child in device.get("children", []):
        if holds_root(child):
            made = str(child.get("type", ""))
            return made if made.startswith("raid") else raid_of_root(child)
    return ""


def root(found: list[dict[str, Any]]) -> dict[str, Any]:
    """raid: its level; None: "/" is on no software RAID. disks: how many "/" is on."""
    levels = [raid_of_root(d) for d in found if d.get("type") == "disk" and holds_root(d)]
    level = next((int(m) for made in levels for m in re.findall(r"^raid(\d+)$", made)), None)
    return {"raid": level, "disks": len(levels)}


# --- system -------------------------------------------------------------------------------------


def cloud_init() -> dict[str, Any]:
    if read(f"{KEPT}/boot") != read("/proc/sys/kernel/random/boot_id"):
        return {"status": "not known: it restarted before that was kept", "errors": []}
    told = run("cloud-init", "status", "--wait", "--format", "json") or {}
    return {"status": told.get("status", ""), "errors": [str(e) for e in told.get("errors", [])]}


def services(asked: list[str]) -> list[dict[str, str]]:
    """Once all are active, one stays failed, or time is up: right after boot some still start."""
    until = time.monotonic() + SETTLE_FOR
    failed: dict[str, float] = {}  # since when
    while True:
        states = {s: text("systemctl", "is-active", s).strip() for s in asked[:MANY]}
        now = time.monotonic()
        failed = {s: failed.get(s, now) for s in states if states[s] == "failed"}
        stay_failed = any(now - since >= FAILED_FOR for since in failed.values())
        if stay_failed or now >= until or set(states.values()) <= {"active"}:
            return [{"name": s, "state": state} for s, state in states.items()]
        time.sleep(PAUSE)


def failed_units() -> list[str]:
    told = text("systemctl", "list-units", "--failed", "--plain", "--no-legend", "--full")
    return [line.split()[0] for line in told.splitlines() if line.strip()][:MANY]


def parts() -> list[dict[str, Any]]:
    try:
        told = json.loads((KEPT / "parts.json").read_text())
    except (OSError, ValueError):
        return []
    return [{"name": n, "fetched": p["fetched"], "problem": p["problem"]} for n, p in told.items()]


def first_boot() -> dict[str, Any]:
    """What only the first boot knows."""
    return {"cloud_init": cloud_init(), "parts": parts()}


def proof(config: dict[str, Any]) -> dict[str, Any]:
    keys = sorted(Path("/etc/ssh").glob("ssh_host_*_key.pub"))
    found = block_devices()
    return {
        "token": config["token"],
        **(config.get("first_boot") or first_boot()),
        "services": services(config.get("services", [])),  # first: NTP's daemon may be one
        "hostname": socket.gethostname(),
        "nics": nics(),
        "links": links(),
        "routes": routes(),
        "dns": dns(),
        "ntp": ntp(),
        "disks": disks(found),
        "root": root(found),
        "boot_id": read("/proc/sys/kernel/random/boot_id").strip(),
        "host_keys": [" ".join(k.read_text().split()[:2]) for k in keys],
        "kernel": read("/proc/sys/kernel/osrelease").strip(),
        "cmdline": read("/proc/cmdline").strip(),
        "failed_units": failed_units(),
    }


# --- kernel arguments ---------------------------------------------------------------------------


def lacks_args(config: dict[str, Any]) -> bool:
    has = read("/proc/cmdline").split()
    return any(arg not in has for arg in config.get("kernel_args", []))


def set_args(args: list[str]) -> None:
    """Their grammar, checked before they came here, has no quote, blank, `$` or line end."""
    if shutil.which("update-grub") and GRUB.parent.parent.is_dir():
        GRUB.parent.mkdir(exist_ok=True)
        line = f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {" ".join(args)}"\n'
        GRUB.write_text(f"# Asked for with the claim of this server.\n{line}")
        subprocess.run(["update-grub"], timeout=600, check=False)
    elif shutil.which("grubby"):
        argv = ["grubby", "--update-kernel=ALL", f"--args={' '.join(args)}"]
        subprocess.run(argv, timeout=600, check=False)


def keep(path: Path, config: dict[str, Any]) -> None:
    """What the first boot knew, before anything can restart it."""
    config["first_boot"] = first_boot()
    new = path.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(config, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    os.sync()


def restart_for_args(config: dict[str, Any]) -> None:
    """Once: what they come to then is in the proof, whatever it is."""
    set_args(config["kernel_args"])
    os.sync()
    subprocess.run(["systemctl", "reboot"], timeout=60, check=False)


# ------------------------------------------------------------------------------------------------


def send(config: dict[str, Any], body: bytes) -> None:
    trust = ssl.create_default_context(cadata=config["ca"])
    until = time.monotonic() + TRY_FOR
    while time.monotonic() < until:
        request = urllib.request.Request(  # noqa: S310
            config["url"], data=body, headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=CALL_TIMEOUT, context=trust):  # noqa: S310
                return
        except urllib.error.HTTPError as err:
            if err.code in (404, 409, 422):  # burned or refused: asking again changes nothing
                raise
            time.sleep(PAUSE)
        except OSError:
            time.sleep(PAUSE)


def forget(path: Path) -> None:
    """Nothing of this is needed again, and the token is a secret."""
    path.unlink(missing_ok=True)
    shutil.rmtree(KEPT, ignore_errors=True)
    if UNIT.exists():
        subprocess.run(["systemctl", "disable", "--quiet", UNIT.name], timeout=60, check=False)
        UNIT.unlink()
        subprocess.run(["systemctl", "daemon-reload"], timeout=60, check=False)


def main(path: Path) -> None:
    config = json.loads(path.read_text())
    if "first_boot" not in config:
        keep(path, config)
        if lacks_args(config):
            restart_for_args(config)
            return
    try:
        send(config, json.dumps(proof(config)).encode())
    finally:
        forget(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
