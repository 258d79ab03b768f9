"""The lab's wires: bridges in one named network namespace, made and removed by the lab alone."""

import json
from pathlib import Path

from provisioning.errors import Conflict
from seed.lab.host import run
from seed.lab.scenario import Scenario
from seed.lab.state import Layout, write_secret


class Namespace:
    """A named network namespace and the proof that it is this lab's."""

    def __init__(self, name: str, layout: Layout) -> None:
        self.name = name
        self.path = Path("/run/netns") / name
        self.record = layout.root / "namespace.json"

    def identity(self) -> int | None:
        """The namespace's inode, None if there is none of that name."""
        try:
            return self.path.stat().st_ino
        except OSError:
            return None

    def is_ours(self) -> bool:
        """Whether the existing namespace was made by this lab."""
        if self.identity() is None:
            return False
        try:
            known = json.loads(self.record.read_text())
        except (OSError, ValueError):
            return False
        # Without an inode: `up` died between the intention and the deed, so it is ours.
        inode = known.get("inode")
        return known.get("name") == self.name and inode in (None, self.identity())

    def inside(self, *argv: str) -> list[str]:
        """`argv` as a command in the namespace."""
        return ["ip", "netns", "exec", self.name, *argv]

    def ip(self, *argv: str) -> str:
        return run("ip", "-n", self.name, *argv, seconds=10)

    def check(self) -> None:
        """Conflict if a namespace of that name is somebody else's."""
        if self.identity() is not None and not self.is_ours():
            raise Conflict(
                f"the network namespace {self.name} exists and was not made by this lab",
                f"ip netns delete {self.name}",
            )

    def make(self) -> None:
        """Make the namespace, unless it is there and ours."""
        if self.is_ours():
            return
        self.check()
        write_secret(self.record, json.dumps({"name": self.name, "inode": None}))
        run("ip", "netns", "add", self.name, seconds=10)
        write_secret(self.record, json.dumps({"name": self.name, "inode": self.identity()}))

    def pids(self) -> list[int]:
        """Processes that run in the namespace."""
        return [int(pid) for pid in run("ip", "netns", "pids", self.name, seconds=10).split()]

    def remove(self) -> None:
        """Remove the namespace if it is ours; Conflict while others run in it."""
        if not self.is_ours():
            return
        others = self.pids()
        if others:
            names = ", ".join(f"{pid} ({_command(pid)})" for pid in others[:5])
            raise Conflict(
                f"the lab's servers are gone, but processes {names} still run in {self.name}",
                "seed down; seed lab down",
            )
        run("ip", "netns", "delete", self.name, seconds=10)
        self.record.unlink(missing_ok=True)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "gone"


def build(namespace: Namespace, scenario: Scenario) -> None:
    """Bridges, our addresses and the BMCs' addresses. Repeating it changes nothing."""
    namespace.ip("link", "set", "lo", "up")
    have = {link["ifname"] for link in json.loads(namespace.ip("-j", "link", "show"))}
    for number, (name, interface) in enumerate(scenario.networks.items()):
        if f"{name}-wire" not in have:
            _bridge(namespace, name, number, exists=name in have)
        namespace.ip("address", "replace", str(interface), "dev", name)
    for server in scenario.servers:
        bridge = scenario.bridge_of(server.bmc.address)
        namespace.ip("address", "replace", f"{server.bmc.address}/32", "dev", bridge)


def _bridge(namespace: Namespace, name: str, number: int, *, exists: bool) -> None:
    """A bridge with a fixed MAC, and a plugged-in wire that leads nowhere.

    Without a port a bridge has no carrier, and what is sent on it (the probe for foreign DHCP
    servers, before any server is on) is refused by the kernel.
    """
    if not exists:
        mac = f"52:54:00:5e:ed:{number:02x}"
        namespace.ip("link", "add", name, "address", mac, "type", "bridge", "forward_delay", "0")
    wire, end = f"{name}-wire", f"{name}-end"
    namespace.ip("link", "add", wire, "type", "veth", "peer", "name", end)
    namespace.ip("link", "set", wire, "master", name)
    for link in (name, wire, end):
        namespace.ip("link", "set", link, "up")
