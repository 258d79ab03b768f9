"""What the end-to-end chain stands on: its lab with the disks it needs, two projects' people at a
desk of their own, and what is looked at or done behind Seed's back.
"""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from seed.host import netns
from seed.lab.demo import SCENARIO, Demo
from tests.fakes.desk import Desk, Person, desk
from tests.fakes.machine import until
from tests.fakes.receiver import Receiver, receiving
from tests.fakes.wire import client_namespace, ip

SERVER = "https://172.22.2.1:8443"
DESK = "172.22.2.50"
ROOT_DISKS = {"server1": "LAB-0001-D0", "server2": "LAB-0002-D1"}
"""Where an image of a claim with a root device hint `size: ">= 10"` goes. Without one the agent
would take the other disk, which is the smallest."""
SCRATCH = {"server1": "LAB-0001-D1", "server2": "LAB-0002-D0"}
"""The data disk of a claim that wants one of at most 6 GiB."""
KEPT = "LAB-0001-D2"
"""The smallest of all: the agent would take it for the root if nobody said which."""
STORAGE = """\
name: storage
role: storage
vlan: 30
mtu: 1450
subnets:
  - cidr: 10.30.0.0/24
    pools: [10.30.0.10-10.30.0.19]
"""
BONDED = """\
name: bonded
nics: {up: {count: 2, boot: true}}
bonds: [{name: bond0, nics: up, mode: active-backup, primary: up0}]
networks: [{network: storage, link: bond0}]
"""
"""Both NICs of a server are one bond; a VLAN with a static address is on it."""
SWARM = """\
name: hive
kind: swarm
image: kubernetes-node
api: {network: bees}
control: {count: 1, layout: bees}
"""
BEES = """\
name: bees
role: api
vlan: 31
subnets:
  - cidr: 10.31.0.0/24
    pools: [10.31.0.10-10.31.0.19]
"""
BEES_LAYOUT = BONDED.replace("bonded", "bees").replace("storage", "bees")
RACKS = """\
rack,unit,serial,NIC1
r1,1,LAB-0001,leaf1:Ethernet1
r1,2,LAB-0002,leaf1:Ethernet2
"""


def demo(home: Path, namespace: str) -> Demo:
    """Of the usual lab, but two disks per server: the bigger one is the first, or the second. And
    one that is to be kept."""
    room = yaml.safe_load(SCENARIO.read_text())
    room["namespace"] = namespace
    first, second = room["servers"]
    # It becomes a manager of a swarm: kubernetes-node wants 20 GiB, and its haproxy cx16.
    first["disks"][0]["size_gib"], first["cx16"] = 24, True
    first["disks"].append({**first["disks"][0], "size_gib": 6, "serial": "LAB-0001-D1"})
    first["disks"].append({**first["disks"][0], "size_gib": 5, "serial": KEPT})
    second["disks"].append({**second["disks"][0], "serial": "LAB-0002-D1"})
    second["disks"][0]["size_gib"] = 6
    for number, server in enumerate(room["servers"], 3):
        second = f"52:54:00:22:02:0{number}"
        server["nics"].append(
            {**server["nics"][0], "mac": second, "port": f"leaf1:Ethernet{number}"}
        )
        room["switches"][0]["ports"].append({"name": f"Ethernet{number}", "vlan": 100})
    scenario = home / "lab.yaml"
    scenario.write_text(yaml.safe_dump(room))
    settings = {"grace_seconds": 5, "webhook_ca_file": str(home / f"{DESK}.ca.pem")}
    return Demo(home, scenario, undo_seconds=10, settings=settings)


@dataclass
class Estate:
    """gardener: claimer of the project orchard; skipper: of harbour. Both must log in first."""

    stack: ExitStack
    desk: Desk
    receiver: Receiver
    gardener: Person
    skipper: Person

    def leave(self) -> None:
        self.stack.close()


@contextmanager
def estate(chain: Demo) -> Iterator[Estate]:
    """Needs the appliance up; `leave` takes it away before the end, too."""
    with ExitStack() as stack:
        ca = chain.home / "state" / "tls" / "ca.pem"
        place = stack.enter_context(desk(chain.namespace, DESK, SERVER, ca, chain.home))
        receiver = stack.enter_context(receiving(chain.home, DESK, place.namespace))
        people = (place.person(name) for name in ("gardener", "skipper"))
        yield Estate(stack, place, receiver, *people)


def words_of_bmcs(chain: Demo) -> dict[str, str]:
    """What nobody but people of the building may read; what it is -> the word."""
    password = (chain.lab_dir / "bmc-password").read_text().strip()
    servers = chain.scenario.servers
    addresses = {f"address of {s.name}'s BMC": str(s.bmc.address) for s in servers}
    macs = {f"MAC of {s.name}'s BMC": s.bmc.mac for s in servers}
    return {**addresses, **macs, "the BMCs' password": password}


def read(person: Person, words: dict[str, str]) -> list[str]:
    """Which of these words were among what this person was told."""
    told = "\n".join(person.said).lower()
    assert len(told) > 1000, "hardly anything was read"
    return [what for what, word in words.items() if word.lower() in told]


# --- looks ----------------------------------------------------------------------------------------


def run_seed(chain: Demo, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "seed", *words], env=chain.env(), input=stdin,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def baremetal(
    namespace: str, clouds: str, *words: str, command: Sequence[str] = ("baremetal",)
) -> subprocess.CompletedProcess[str]:
    """Ironic's own command line, with a clouds.yaml of `seed token create`."""
    tools = Path(sys.prefix).parent / "tools" / "bin"
    env = {**os.environ, "OS_CLIENT_CONFIG_FILE": clouds, "OS_CLOUD": "seed"}
    argv = [*netns.prefix(namespace), str(tools / command[0]), *command[1:], *words]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)


def node(chain: Demo, name: str) -> dict[str, Any]:
    return next(n for n in chain.look_at("/nodes") if n["name"] == name)


def states(chain: Demo) -> list[str]:
    return sorted(n["provision_state"] for n in chain.look_at("/nodes"))


def events(chain: Demo, kind: str = "", after: int = 0) -> list[dict[str, Any]]:
    return list(chain.look_at(f"/events?limit=1000&kind={kind}&after={after}"))


def failed_logins(chain: Demo) -> dict[str, int]:
    words = ("lab", "status", "--scenario", str(chain.scenario_file), "--state-dir")
    rows = chain.ask(*words, str(chain.lab_dir))
    return {row["name"]: row["failed_logins"] for row in rows}


# --- deeds ----------------------------------------------------------------------------------------


def kill_reconciler(chain: Demo) -> None:
    def pid() -> int:  # `seed status` ends with 1 while a service is not up: the answer counts
        rows = json.loads(run_seed(chain, "status", "-o", "json").stdout)
        return next(row["pid"] for row in rows if row["name"] == "seed-reconciler")

    old = pid()
    os.kill(old, signal.SIGKILL)
    begin = time.monotonic()
    until(lambda: pid() not in (0, old), 10, "the reconciler is back")
    print(f"\nreconciler killed; back after {time.monotonic() - begin:.1f} s")


def intrude(namespace: str, mac: str) -> str:
    """Ask for the token as server1 would, from another machine on the wire."""
    with client_namespace(namespace, f"{namespace}-x") as stranger:
        ip("-n", stranger, "address", "add", "172.22.0.5/24", "dev", "eth0")
        url = f"https://172.22.0.1/v1/lookup?addresses={mac}"
        # An intruder does not care whose certificate it is.
        answer = netns.call(stranger, lambda: httpx.get(url, verify=False, timeout=30))  # noqa: S501
        assert answer.status_code == 403, answer.text
        return answer.text


def url_of_a_part(chain: Demo, name: str) -> str:
    """As the config drive that Ironic keeps has it."""
    uuid = node(chain, name)["uuid"]
    database = chain.home / "state" / "ironic" / "ironic.db"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as rows:
        (told,) = rows.execute("SELECT instance_info FROM nodes WHERE uuid = ?", (uuid,)).fetchone()
    drive = json.dumps(json.loads(told or "{}").get("configdrive") or "")
    found = re.search(r"https://172\.22\.0\.1/v1/parts/[A-Za-z0-9_-]{43}", drive)
    return found[0] if found else ""


def steal(namespace: str, url: str) -> int:
    """Read it from another machine on the wire; the status."""
    with client_namespace(namespace, f"{namespace}-y") as stranger:
        ip("-n", stranger, "address", "add", "172.22.0.6/24", "dev", "eth0")
        answer = netns.call(stranger, lambda: httpx.get(url, verify=False, timeout=30))  # noqa: S501
        return answer.status_code


def ssh(chain: Demo, *words: str) -> subprocess.CompletedProcess[str]:
    """As an SSH that asks nothing and has the claim's key."""
    options = ("-i", str(chain.key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes")
    argv = [*netns.prefix(chain.namespace), "ssh", *options, *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
