"""The lab's switches, heard at the servers' end of the cables, while these are re-plugged."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from scapy.contrib import lldp
from scapy.layers.l2 import Ether

from seed.host import netns
from seed.lab.lab import SWITCHES, Lab, stored
from seed.lab.state import wait_for

TOP = Path(__file__).resolve().parents[2]
NAMESPACE = f"room-test-{os.getpid()}"
ENVS = Path(sys.prefix).parent
ETH_P_ALL = 3  # frames on their way out, too


def cli(lab_dir: Path, *argv: str, expect: int = 0) -> str:
    options = ("--scenario", str(lab_dir.parent / "room.yaml"), "--state-dir", str(lab_dir))
    done = subprocess.run(
        [sys.executable, "-m", "seed.lab.cli", *argv, *options],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=TOP,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def lab_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A room whose servers have hardly any memory: none boots more than its firmware."""
    content = yaml.safe_load((TOP / "vagrant" / "room.yaml").read_text())
    content["namespace"] = NAMESPACE
    for server in content["servers"]:
        server["memory_mib"] = 256
    directory = tmp_path_factory.mktemp("room")
    (directory / "room.yaml").write_text(yaml.safe_dump(content))
    root = directory / "lab"
    try:
        cli(root, "up")
        yield root
    finally:
        cli(root, "down")
    assert not root.exists()
    assert not Path(f"/run/netns/{NAMESPACE}").exists()


def heard(interface: str) -> tuple[str, str]:
    """What an LLDP listener at the NIC hears next: switch and port."""

    def listen() -> socket.socket:
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        wire.bind((interface, ETH_P_ALL))
        return wire

    with netns.call(NAMESPACE, listen) as wire:
        wire.settimeout(20)
        while True:
            frame = Ether(wire.recv(2048))
            if lldp.LLDPDUPortID in frame:
                switch = frame[lldp.LLDPDUSystemName].system_name
                return switch.decode(), frame[lldp.LLDPDUPortID].id.decode()


def links(lab: Lab, name: str) -> list[str]:
    server = lab.scenario.server(name)
    return [lab.hypervisor.virsh("domif-getlink", name, nic.mac) for nic in server.nics]


def test_a_running_server_hears_its_switches_and_where_it_was_replugged(lab_dir: Path) -> None:
    lab = Lab(stored(lab_dir), lab_dir, ENVS)
    cli(lab_dir, "power", "server1", "on")
    assert (heard("lab0n0"), heard("lab0n1")) == (("leaf1", "Ethernet1"), ("leaf2", "Ethernet1"))
    cli(lab_dir, "cable", "move", "server1:2", "leaf2:Ethernet3")
    cli(lab_dir, "cable", "swap", "server1:1", "server1:2")
    assert (heard("lab0n0"), heard("lab0n1")) == (("leaf2", "Ethernet3"), ("leaf1", "Ethernet1"))
    assert links(lab, "server1") == [f"{nic.mac} up" for nic in lab.scenario.servers[0].nics]
    known = json.loads((lab.layout.bmc("server1") / "neighbours.json").read_text())
    assert [n["port"] for n in known.values()] == ["Ethernet3", "Ethernet1"]


def test_four_servers_side_by_side(lab_dir: Path) -> None:
    for name in ("server2", "server3", "server4"):
        cli(lab_dir, "power", name, "on")
    cli(lab_dir, "server", "swap", "server3", "server4")
    assert (heard("lab2n0"), heard("lab3n0")) == (("leaf1", "Ethernet4"), ("leaf1", "Ethernet3"))
    rows = json.loads(cli(lab_dir, "status", "-o", "json"))
    assert [(row["power"], row["bmc_up"]) for row in rows] == [("on", True)] * 4
    for name in ("server1", "server2", "server3", "server4"):
        cli(lab_dir, "power", name, "off")


@pytest.mark.parametrize("name", ["server2", "server3"])
def test_an_unplugged_nic_has_no_link_whoever_switches_the_server_on(
    lab_dir: Path, name: str
) -> None:
    lab = Lab(stored(lab_dir), lab_dir, ENVS)
    others = [nic.mac for nic in lab.scenario.server(name).nics[1:]]
    mac = lab.scenario.server(name).nics[0].mac
    was = next(row["port"] for row in lab.cabling.rows() if row["mac"] == mac)
    cli(lab_dir, "power", name, "on")
    cli(lab_dir, "cable", "unplug", f"{name}:1")
    unplugged = [f"{mac} down", *(f"{other} up" for other in others)]
    assert links(lab, name) == unplugged
    cli(lab_dir, "power", name, "off")
    if name == "server3":  # as its IPMI BMC does when it powers on
        lab.hypervisor.virsh("define", str(lab.layout.domain_xml(name, "disk")))
    cli(lab_dir, "power", name, "on")
    assert links(lab, name) == unplugged
    cli(lab_dir, "cable", "move", f"{name}:1", was)
    assert links(lab, name) == [line.replace("down", "up") for line in unplugged]
    cli(lab_dir, "power", name, "off")


def test_what_was_plugged_stays_and_a_dead_switch_comes_back(lab_dir: Path) -> None:
    lab = Lab(stored(lab_dir), lab_dir, ENVS)
    before = json.loads(cli(lab_dir, "cable", "show", "-o", "json"))
    pid = lab.processes.pid(SWITCHES)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: lab.processes.pid(SWITCHES) is None, 10)
    cli(lab_dir, "up")
    assert lab.processes.pid(SWITCHES) not in (None, pid)
    assert json.loads(cli(lab_dir, "cable", "show", "-o", "json")) == before


def test_a_refusal_says_what_to_type(lab_dir: Path) -> None:
    said = cli(lab_dir, "cable", "move", "server2:1", "leaf2:Ethernet2", expect=1)
    assert "leaf2:Ethernet2 has the cable of server2:2" in said
    assert "seed lab cable swap server2:1 server2:2" in said
