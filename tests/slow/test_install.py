"""`make install` on a Debian with systemd, offline: units, hardening, kills, reboot, removal."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slow import payload
from tests.slow.log import Log
from tests.slow.rows import REPOSITORY
from tests.slow.vm import HERE, PORT, WIRES, Machine, machine

SERVICES = ["seed-ironic", "seed-dnsmasq", "seed-nginx", "seed-api", "seed-reconciler",
            "seed-images"]  # fmt: skip
CAPABILITIES = {
    "seed-dnsmasq": {"cap_net_admin", "cap_net_bind_service", "cap_net_raw"},
    "seed-nginx": {"cap_net_bind_service"},
}
HARDENING = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "RemoveIPC": "yes",
}
# Those that start at once come first: the others keep the only processor busy afterwards.
KILLED = ["seed-dnsmasq", "seed-nginx", "seed-ironic", "seed-api", "seed-reconciler"]
BACK_SECONDS = 5.0
ANSWERS = "for i in $(seq 90); do seed node list && exit 0; sleep 2; done; exit 1"
# Runs in the machine: kill the main process, print the seconds until the unit runs its program
# again. It reads the unit's control group: asking systemctl ten times a second would take the only
# processor from what is measured.
KILL = """
import os, pathlib, signal, subprocess, sys, time
unit = sys.argv[1]
group = pathlib.Path("/sys/fs/cgroup/system.slice", unit + ".service", "cgroup.procs")
def main_pid():
    out = subprocess.run(["systemctl", "show", "-p", "MainPID,ActiveState", unit],
                         capture_output=True, text=True, timeout=60).stdout
    found = dict(line.split("=") for line in out.splitlines())
    return int(found["MainPID"]) if found["ActiveState"] == "active" else 0
def program(pid):
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""
def runs():
    pids = group.read_text().split() if group.exists() else []
    return any(int(pid) not in before and program(pid) == wanted for pid in pids)
old = main_pid()
assert old, f"{unit} is not active"
wanted, before = program(old), {int(pid) for pid in group.read_text().split()}
begin = time.monotonic()
os.kill(old, signal.SIGKILL)
while not runs():
    assert time.monotonic() - begin < 60, f"{unit} is not back"
    time.sleep(0.05)
took = time.monotonic() - begin
while main_pid() in (0, old):
    assert time.monotonic() - begin < 120, f"{unit} is not active"
print(f"{took:.1f}")
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="seed-slow-", dir="/var/tmp"))
    yield made
    shutil.rmtree(made)


@pytest.mark.slow("Makefile", "locks", "seed/host", "images/recipes/debian.py", "tests/slow")
@pytest.mark.timeout(3 * 3600)
def test_install_on_systemd(log: Log, folder: Path) -> None:
    with machine(log, folder) as vm:
        payload.checkout(log, folder / "served")
        payload.wheels(log, folder / "served")
        vm.wait()
        bring_in(log, folder, vm)
        install(vm)
        come_up(vm)
        hardened(vm)
        for service in KILLED:
            killed(log, vm, service)
        answers_again(vm)
        after_a_reboot(log, vm)
        go_away(vm)


def bring_in(log: Log, folder: Path, vm: Machine) -> None:
    """Checkout, wheels and Debian packages: from our own server, the only one it can reach."""
    names = log.run(["make", "-s", "-C", str(REPOSITORY), "package-names"], 30).split()
    size = payload.debian(log, folder, vm.run("cat /var/lib/dpkg/status"), [*names, "make"])
    log.say(f"{size} of Debian packages")
    url = f"http://{HERE}:{PORT}"
    vm.run("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*")
    vm.run(f"echo 'deb [trusted=yes] {url}/debs ./' > /etc/apt/sources.list")
    vm.run(f"mkdir -p /root/seed && curl -sSf {url}/seed.tar | tar -xC /root/seed", 300)
    vm.run(f"mkdir -p /root/wheels && curl -sSf {url}/wheels.tar | tar -xC /root/wheels", 600)
    vm.run("apt-get update -q && apt-get install -qy --no-install-recommends make", 600)


def install(vm: Machine) -> None:
    """Installed, known to systemd, and nothing started."""
    vm.run("make -C /root/seed install WHEELS=/root/wheels", 3600)
    assert "disabled" in vm.run("systemctl is-enabled seed.target || true")
    assert vm.run("systemctl is-active seed.target || true").strip() == "inactive"
    assert vm.run("systemctl is-active nginx.service || true").strip() == "inactive"
    vm.run("make -C /root/seed install WHEELS=/root/wheels", 1800)  # again changes nothing


def come_up(vm: Machine) -> None:
    """`seed init` with the three interfaces, `seed up`, every unit active."""
    found = {
        entry["local"]: link["ifname"]
        for link in json.loads(vm.run("ip -j -4 address"))
        for entry in link["addr_info"]
    }
    mgmt, prov, oob = (found[address] for _, address in WIRES.values())
    vm.run(f"seed init --management {mgmt} --provisioning {prov} --out-of-band {oob}")
    vm.run("seed up", 1200)
    for service in SERVICES:
        assert vm.run(f"systemctl is-active {service}").strip() == "active"
    assert vm.run("systemctl is-enabled seed.target").strip() == "enabled"
    rows = json.loads(vm.run("seed status --output json"))
    assert {row["state"] for row in rows} == {"RUNNING"}
    assert vm.run("seed logs ironic --lines 5").strip()
    for verb in ("install", "uninstall"):  # refused while it runs
        assert "seed down" in vm.run(f"! make -C /root/seed {verb} WHEELS=/root/wheels 2>&1")


def hardened(vm: Machine) -> None:
    """What systemd says it does, and what the kernel says of the processes."""
    for service in SERVICES:
        shown = dict(
            line.split("=", 1)
            for line in vm.run(f"systemctl show {service}").splitlines()
            if "=" in line
        )
        assert {name: shown[name] for name in HARDENING} == HARDENING, service
        kept = CAPABILITIES.get(service, set())
        assert set(shown.get("CapabilityBoundingSet", "").split()) == kept, service
        assert shown["User"] not in ("", "root"), service
        kernel = vm.run(f"cat /proc/{shown['MainPID']}/status")
        assert re.search(r"^NoNewPrivs:\t1$", kernel, re.M), service
        assert re.search(r"^Seccomp:\t2$", kernel, re.M), service
        for kind in ("CapEff", "CapBnd"):
            bits = int(re.search(rf"^{kind}:\t(\w+)$", kernel, re.M)[1], 16)
            assert bits.bit_count() == len(kept), (service, kind)
        vm.run(f"systemd-analyze security --no-pager {service} | tail -n 1")


def killed(log: Log, vm: Machine, service: str) -> None:
    took = float(vm.python(KILL, service))
    log.say(f"{service}: back {took} s after kill -9")
    assert took < BACK_SECONDS, service


def answers_again(vm: Machine) -> None:
    """After the kills everything answers, as `seed doctor` sees it."""
    vm.run(ANSWERS, 900)
    rows = json.loads(vm.run("seed status --output json"))
    assert {row["state"] for row in rows} == {"RUNNING"}
    assert all(row["restarts"] >= 1 for row in rows)


def after_a_reboot(log: Log, vm: Machine) -> None:
    """What was up comes up again by itself."""
    boot = vm.run("cat /proc/sys/kernel/random/boot_id")
    vm.run("systemctl reboot", ok=False)
    vm.disconnect()
    while True:
        log.say(f"up again after {vm.wait():.0f} s")
        if vm.run("cat /proc/sys/kernel/random/boot_id") != boot:
            break
        vm.disconnect()
    vm.run(ANSWERS, 900)
    assert vm.run("systemctl is-active nginx.service || true").strip() == "inactive"


def go_away(vm: Machine) -> None:
    """`seed down`, then no unit, account, command or program is left; the data is, for root."""
    vm.run("seed down", 300)
    vm.run("make -C /root/seed uninstall", 300)
    left = "systemctl list-unit-files --no-legend 'seed*'; ls -d /etc/systemd/system/seed*"
    assert vm.run(f"({left}) 2>/dev/null || true") == ""
    assert vm.run("getent passwd | grep ^seed || true; getent group | grep ^seed || true") == ""
    assert vm.run("ls -d /opt/seed /usr/local/bin/seed /run/seed 2>/dev/null || true") == ""
    assert vm.run("stat -c '%U %a' /var/lib/seed") == "root 700\n"
    assert vm.run("ls /etc/seed") == "seed.toml\n"
    assert "not installed" in vm.run("make -C /root/seed uninstall")
