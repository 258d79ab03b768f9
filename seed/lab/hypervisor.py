"""The lab's own libvirtd and the servers in it."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from provisioning.errors import HostError
from seed.lab.domain import BootFirst, render
from seed.lab.host import run
from seed.lab.network import Namespace
from seed.lab.scenario import Scenario, Server
from seed.lab.state import Layout, Processes, wait_for

SERVICE = "libvirtd"
_SOURCE = Path(__file__).resolve().parent


class Hypervisor:
    """A libvirtd of the lab's own, reached by its socket in the state directory."""

    def __init__(self, layout: Layout, processes: Processes) -> None:
        self.layout = layout
        self.processes = processes

    def start(self, namespace: Namespace) -> None:
        """Start libvirtd in the namespace, if it does not run, and wait until it answers."""
        if not self.processes.pid(SERVICE):
            self.layout.libvirt_socket.unlink(missing_ok=True)
        launcher = [sys.executable, "-I", str(_SOURCE / "private_libvirtd.py")]
        argv = namespace.inside(*launcher, str(self.layout.libvirt))
        self.processes.start(SERVICE, argv)
        self.processes.wait_ready(SERVICE, self.answers, 60)

    def answers(self) -> bool:
        """Whether virsh can talk to it."""
        if not self.layout.libvirt_socket.exists():
            return False
        try:
            self.virsh("version")
        except HostError:
            return False
        return True

    def virsh(self, *argv: str, seconds: float = 60.0) -> str:
        """Run a virsh command against this lab; its output without the last newline."""
        return run("virsh", "-q", "-c", self.layout.libvirt_uri, *argv, seconds=seconds).strip()

    def add(self, scenario: Scenario, server: Server, unplugged: Collection[str]) -> None:
        """Blank disks and the powered-off domain; what is there already stays."""
        self._write(scenario, server, unplugged)
        if server.name not in self.virsh("list", "--all", "--name").split():
            self.virsh("define", str(self.layout.domain_xml(server.name, "network")))

    def refit(self, scenario: Scenario, server: Server, unplugged: Collection[str]) -> None:
        """The parts that it has now. It is off, and starts from where it would have started."""
        where = ("--inactive", "--xpath", "/domain/os/boot[1]/@dev")
        first: BootFirst = (
            "disk" if "hd" in self.virsh("dumpxml", server.name, *where) else "network"
        )
        self._write(scenario, server, unplugged)
        self.virsh("define", str(self.layout.domain_xml(server.name, first)))

    def _write(self, scenario: Scenario, server: Server, unplugged: Collection[str]) -> None:
        for number, disk in enumerate(server.disks):
            path = self.layout.disk(server.name, number)
            if not path.exists():
                size = f"{disk.size_gib}G"
                run("qemu-img", "create", "-q", "-f", "qcow2", str(path), size)
        orders: tuple[BootFirst, ...] = ("network", "disk")
        for first in orders:
            text = render(scenario, server, self.layout, first, unplugged)
            self.layout.domain_xml(server.name, first).write_text(text)

    def make_pool(self) -> None:
        """A storage pool, which the Redfish emulator wants for virtual media."""
        if "default" not in self.virsh("pool-list", "--all", "--name").split():
            target = self.layout.root / "media"
            target.mkdir(exist_ok=True)
            self.virsh("pool-create-as", "default", "dir", "--target", str(target))

    def running(self) -> list[str]:
        """Names of the servers that are on; none where libvirtd does not run."""
        return self.virsh("list", "--name").split() if self.processes.pid(SERVICE) else []

    def is_on(self, name: str) -> bool:
        return self.virsh("domstate", name) not in ("shut off", "crashed")

    def power(self, name: str, action: str) -> None:
        """`on`, `off` or `reset`, as if somebody pressed the button."""
        running = self.is_on(name)
        if action == "on" and not running:
            self.virsh("start", name)
        elif action == "off" and running:
            self.virsh("destroy", name)
        elif action == "reset":
            self.virsh("reset" if running else "start", name)

    def link(self, name: str, mac: str, state: Literal["up", "down"]) -> None:
        """The carrier that a running server's NIC sees."""
        self.virsh("domif-setlink", name, mac, state)

    def keep_links(self, scenario: Scenario, server: Server, unplugged: Collection[str]) -> None:
        """The carriers it will have when it is powered on, by whichever BMC."""
        self._write(scenario, server, unplugged)
        for nic in server.nics if self.processes.pid(SERVICE) else ():
            state = "down" if nic.mac in unplugged else "up"
            self.virsh("domif-setlink", server.name, nic.mac, state, "--config")

    def stop(self) -> None:
        """Power off every server and stop libvirtd."""
        if self.processes.pid(SERVICE) and wait_for(self.answers, 5):
            for name in self.running():
                self.virsh("destroy", name)
        self.processes.stop(SERVICE)
