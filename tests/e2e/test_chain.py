"""The main job on servers that really boot: power-off to SSH and back, with kills and an intruder.

One chain, told in order; each test takes it on from where the one before left it. Real lab, Ironic,
dnsmasq, nginx, iPXE, ramdisk, image. About 20 minutes on two cores without KVM.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from seed.host import netns
from seed.lab.demo import SCENARIO, Demo
from tests.fakes.machine import traces, until
from tests.fakes.wire import client_namespace, ip

NAMESPACE = "seed-e2e"
HOME = Path("/var/tmp/seed-e2e")  # noqa: S108  the services' own users must be able to enter it
pytestmark = pytest.mark.timeout(2400)


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return traces(NAMESPACE)


@pytest.fixture(scope="module")
def chain(before: dict[str, str]) -> Iterator[Demo]:
    scenario = HOME / "lab.yaml"
    if scenario.exists():  # an earlier run was killed
        Demo(HOME, scenario).end()
    subprocess.run(["rm", "-rf", str(HOME)], check=True, timeout=60)
    HOME.mkdir(mode=0o755)
    scenario.write_text(SCENARIO.read_text().replace("seed-lab", NAMESPACE))
    demo = Demo(HOME, scenario)
    try:
        yield demo
    finally:
        demo.end()


def test_lab_images_and_appliance_come_up(chain: Demo) -> None:
    chain.start("ramdisk", "debian")
    states = {s["name"]: s["state"] for s in chain.ask("status")}
    assert set(states.values()) == {"RUNNING"}, states
    memory = sum(s["memory_mb"] for s in chain.ask("status"))
    print(f"\nthe appliance uses {memory:.0f} MB PSS")


def test_a_wrong_password_is_tried_once(chain: Demo, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-password\n")
    for _ in range(2):
        done = run_seed(chain, "discover", "172.22.1.11-172.22.1.12", "--username", "admin",
                        "--password-stdin", stdin=wrong.read_text())  # fmt: skip
        assert done.returncode == 1, done.stderr
        assert "refused" in done.stderr
    # The IPMI BMC counts a client that went silent after 3 s: it left without a word.
    until(lambda: failed_logins(chain) == {"server1": 1, "server2": 1}, 20, "one refusal each")


def test_discovered_accepted_inspected_and_cleaned(chain: Demo) -> None:
    chain.find()
    chain.take_in()
    nodes = {n["name"]: n for n in chain.ask("node", "list")}
    assert {n["provision_state"] for n in nodes.values()} == {"available"}
    assert (nodes["server1"]["protocol"], nodes["server1"]["firmware"]) == ("redfish", "uefi")
    assert (nodes["server2"]["protocol"], nodes["server2"]["firmware"]) == ("ipmi", "bios")


def test_ironics_own_commands_read_through_the_gateway(chain: Demo) -> None:
    made = chain.ask("token", "create", "e2e", "--role", "viewer", "--directory", str(HOME))
    tools = Path(sys.prefix).parent / "tools" / "bin"
    env = {**os.environ, "OS_CLIENT_CONFIG_FILE": made["clouds"], "OS_CLOUD": "seed"}
    for command in (["baremetal"], ["openstack", "baremetal"]):
        argv = [*netns.prefix(NAMESPACE), str(tools / command[0]), *command[1:]]
        listed = subprocess.run(
            [*argv, "node", "list", "-f", "json"], env=env, capture_output=True, text=True,
            timeout=60, check=True,
        )  # fmt: skip
        assert {n["name"] for n in json.loads(listed.stdout)} == {"server1", "server2"}
        refused = subprocess.run(
            [*argv, "node", "delete", "server1"], env=env, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert refused.returncode != 0


def test_claimed_deployed_and_proved_though_the_reconciler_dies(chain: Demo) -> None:
    chain.ask_for("demo")
    until(lambda: "wait call-back" in states(chain), 300, "Ironic waits for a ramdisk")
    kill_reconciler(chain)
    with chain.phase("deploy and proof"):
        chain.follow_claim("demo", "active")
    print(chain.ssh_lines())


def test_the_printed_ssh_lines_log_in(chain: Demo) -> None:
    lines = chain.ssh_lines()
    assert len(lines) == 2
    names = set()
    for line in lines:
        assert line.startswith(f"ip netns exec {NAMESPACE} ssh ")
        assert "StrictHostKeyChecking" not in line
        script = "hostname; cloud-init status; df --output=size -BG / | tail -1; cat /sys/class/dmi/id/product_serial 2>/dev/null; true"  # noqa: E501
        done = subprocess.run(
            [*shlex.split(line), "-o", "BatchMode=yes", script], capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told = done.stdout.split("\n")
        names.add(told[0])
        assert told[1] == "status: done"
        assert int(told[2].strip().rstrip("G")) >= 10, "the root did not grow to the whole disk"
    assert names == {"demo-0", "demo-1"}


def test_released_though_the_reconciler_dies_and_an_intruder_races_the_lookup(
    chain: Demo,
) -> None:
    chain.seed("claim", "release", "demo", "--now", "--yes")
    mac = chain.ask("node", "show", "server1")["macs"][0]
    until(lambda: node(chain, "server1")["waiting_since"], 120, "an order for server1")
    answer = intrude(mac)
    assert "agent_token" not in answer
    kill_reconciler(chain)
    until(lambda: "a lookup" in claim(chain)["problem"], 300, "the order is stopped and says why")
    until(lambda: "clean failed" in states(chain), 60, "Ironic stopped")
    assert [e for e in chain_events(chain) if e["kind"] == "order.alarm"]
    assert claim(chain)["state"] == "cleaning", "a dirty node must not be offered"
    chain.seed("node", "retry", "server1")
    with chain.phase("release"):
        until(lambda: claim(chain)["state"] == "released", 1200, "both are clean")
    assert states(chain) == ["available", "available"]
    assert all(not n["claim"] for n in chain.ask("node", "list"))
    told = lambda: {n["detail"] for n in chain.ask("node", "list")}  # noqa: E731
    until(lambda: told() == {"available"}, 20, "the list does not speak of the old claim")


def test_no_bmc_saw_a_second_wrong_login(chain: Demo) -> None:
    assert failed_logins(chain) == {"server1": 1, "server2": 1}


def test_nothing_is_left_behind(chain: Demo, before: dict[str, str]) -> None:
    chain.end()
    after = traces(NAMESPACE)
    for what, seen in before.items():
        assert after[what] == seen, what


# --- helpers ------------------------------------------------------------------------------------


def run_seed(chain: Demo, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "seed", *words], env=chain.env(), input=stdin,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def node(chain: Demo, name: str) -> dict[str, Any]:
    return next(n for n in chain.look_at("/nodes") if n["name"] == name)


def states(chain: Demo) -> list[str]:
    return sorted(n["provision_state"] for n in chain.look_at("/nodes"))


def claim(chain: Demo) -> dict[str, Any]:
    return dict(chain.look_at("/claims/demo"))


def chain_events(chain: Demo) -> list[dict[str, Any]]:
    return list(chain.look_at("/events?limit=1000"))


def failed_logins(chain: Demo) -> dict[str, int]:
    words = ("lab", "status", "--scenario", str(chain.scenario_file), "--state-dir")
    rows = chain.ask(*words, str(chain.lab_dir))
    return {row["name"]: row["failed_logins"] for row in rows}


def kill_reconciler(chain: Demo) -> None:
    def pid() -> int:  # `seed status` ends with 1 while a service is not up: the answer counts
        rows = json.loads(run_seed(chain, "status", "-o", "json").stdout)
        return next(row["pid"] for row in rows if row["name"] == "seed-reconciler")

    old = pid()
    os.kill(old, signal.SIGKILL)
    begin = time.monotonic()
    until(lambda: pid() not in (0, old), 10, "the reconciler is back")
    print(f"\nreconciler killed; back after {time.monotonic() - begin:.1f} s")


def intrude(mac: str) -> str:
    """Ask for the token as server1 would, from another machine on the wire."""
    with client_namespace(NAMESPACE, f"{NAMESPACE}-x") as stranger:
        ip("-n", stranger, "address", "add", "172.22.0.5/24", "dev", "eth0")
        url = f"https://172.22.0.1/v1/lookup?addresses={mac}"
        # An intruder does not care whose certificate it is.
        answer = netns.call(stranger, lambda: httpx.get(url, verify=False, timeout=30))  # noqa: S501
        assert answer.status_code == 403, answer.text
        return answer.text
