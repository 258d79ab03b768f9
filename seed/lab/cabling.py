"""Which NIC's cable is in which switch port: kept, announced by LLDP, and changed by hand.

The table is {MAC: "leaf1:Ethernet17"}, "" for a NIC that is unplugged. A NIC that is not in it is
on its bridge by a wire that no switch ends. From the table follow what the switches send
(`Layout.frames`) and what the BMCs of the Redfish servers know of it (`neighbours.json` in each
one's directory).
"""

import json
from typing import Any

from provisioning.errors import Conflict, Invalid, NotFound
from seed.lab.domain import tap
from seed.lab.hypervisor import Hypervisor
from seed.lab.scenario import Nic, Scenario, Server
from seed.lab.state import Layout, write_secret

Table = dict[str, str]


class Cabling:
    """The cables of one lab."""

    def __init__(self, scenario: Scenario, layout: Layout, hypervisor: Hypervisor) -> None:
        self.scenario = scenario
        self.layout = layout
        self.hypervisor = hypervisor

    def table(self) -> Table:
        """The cables as they are now; as in the scenario if none was ever moved."""
        try:
            kept: Table = json.loads(self.layout.cabling.read_text())
        except FileNotFoundError:
            return {n.mac: n.port for s in self.scenario.servers for n in s.nics if n.port}
        return kept

    def unplugged(self) -> list[str]:
        """MACs of NICs without a cable."""
        return [mac for mac, port in self.table().items() if not port]

    def publish(self) -> None:
        """Tell the switches and the Redfish BMCs."""
        from seed.lab.lldp import frame  # scapy takes a while to load

        table, ports = self.table(), self.scenario.ports
        frames: dict[str, str] = {}
        for server in self.scenario.servers:
            known: dict[str, dict[str, Any]] = {}
            for number, nic in enumerate(server.nics):
                if table.get(nic.mac):
                    switch, port = ports[table[nic.mac]]
                    frames[tap(self.scenario, server, number)] = frame(switch, port).hex()
                    known[nic.mac] = {"switch": switch.name, "port": port.name, "vlan": port.vlan}
            if server.bmc.protocol == "redfish":
                directory = self.layout.bmc(server.name)
                directory.mkdir(exist_ok=True)
                write_secret(directory / "neighbours.json", json.dumps(known))
        write_secret(self.layout.frames, json.dumps(frames))

    def rows(self) -> list[dict[str, Any]]:
        """One row per cable: every NIC, and then the ports that have none."""
        table = self.table()
        nics = [
            {"nic": f"{server.name}:{number}", "mac": nic.mac, "port": table.get(nic.mac, "")}
            for server in self.scenario.servers
            for number, nic in enumerate(server.nics, 1)
        ]
        free = [port for port in self.scenario.ports if port not in table.values()]
        return [self._row(row) for row in [*nics, *({"port": port} for port in free)]]

    def _row(self, known: dict[str, str]) -> dict[str, Any]:
        row: dict[str, Any] = {"nic": "", "mac": "", "vlan": None, "description": "", **known}
        row["unplugged"] = row["mac"] in self.unplugged()
        if row["port"]:
            port = self.scenario.ports[row["port"]][1]
            row |= {"vlan": port.vlan, "description": port.description}
        return row

    def move(self, nic: str, port: str) -> None:
        """Pull a NIC's cable out of where it is, and plug it into `port`."""
        server, found = self._nic(nic)
        if port not in self.scenario.ports:
            raise NotFound(f"the lab has no switch port {port!r}", "seed lab cable show")
        for row in self.rows():
            if row["port"] == port and row["mac"] not in ("", found.mac):
                raise Conflict(
                    f"{port} has the cable of {row['nic']}",
                    f"seed lab cable swap {nic} {row['nic']}",
                )
        self._plug([(server, found)], {**self.table(), found.mac: port})

    def unplug(self, nic: str) -> None:
        """Pull a NIC's cable out of its port; `move` plugs it in again."""
        server, found = self._nic(nic)
        if found.mac not in self.table():
            raise Invalid(f"{nic} is in no switch", "seed lab cable show")
        self._plug([(server, found)], {**self.table(), found.mac: ""})

    def swap(self, one: str, other: str) -> None:
        """Exchange the cables of two NICs."""
        self._exchange([(self._nic(one), self._nic(other))])

    def swap_servers(self, one: str, other: str) -> None:
        """Exchange two servers in the rack: the cables stay where they are, the servers do not."""
        first, second = self.scenario.server(one), self.scenario.server(other)
        if len(first.nics) != len(second.nics):
            raise Invalid(
                f"{one} has {len(first.nics)} NICs and {other} {len(second.nics)}: "
                "their cables cannot be exchanged one for one",
                f"seed lab cable swap {one}:1 {other}:1",
            )
        pairs = zip(first.nics, second.nics, strict=True)
        self._exchange([((first, a), (second, b)) for a, b in pairs])

    def _exchange(self, pairs: list[tuple[tuple[Server, Nic], tuple[Server, Nic]]]) -> None:
        table = self.table()
        ends = [end for pair in pairs for end in pair]
        if not any(nic.mac in table for _, nic in ends):
            raise Invalid("none of these NICs is cabled to a switch", "seed lab cable show")
        fresh = {mac: port for mac, port in table.items() if mac not in {n.mac for _, n in ends}}
        for (_, one), (_, other) in pairs:
            for nic, was in ((one, other), (other, one)):
                if was.mac in table:
                    fresh[nic.mac] = table[was.mac]
        self._plug(ends, fresh)

    def _plug(self, ends: list[tuple[Server, Nic]], table: Table) -> None:
        """Link down, the new table, link up: what a running server sees of re-plugging."""
        on = self.hypervisor.running()
        linked = [(server.name, nic.mac) for server, nic in ends if server.name in on]
        try:
            for name, mac in linked:
                self.hypervisor.link(name, mac, "down")
            write_secret(self.layout.cabling, json.dumps(table, indent=2))
            self.publish()
            for server in {server.name: server for server, _ in ends}.values():
                self.hypervisor.keep_links(self.scenario, server, self.unplugged())
        finally:
            for name, mac in linked:
                if mac not in self.unplugged():
                    self.hypervisor.link(name, mac, "up")

    def _nic(self, text: str) -> tuple[Server, Nic]:
        """A NIC by its server's name and its number from 1, as "server1:2"."""
        name, _, number = text.partition(":")
        server = self.scenario.server(name)
        if number.isdecimal() and 1 <= int(number) <= len(server.nics):
            return server, server.nics[int(number) - 1]
        raise NotFound(
            f"{text!r} is no NIC of the lab: {name} has {name}:1 to {name}:{len(server.nics)}",
            "seed lab cable show",
        )
