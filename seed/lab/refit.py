"""Parts that were exchanged since the lab was started, memory and disks: kept until `down`.

The table is {server: {"memory_mib": MiB, "disks": [serial, ...]}}, of servers that were opened.
"""

import json
from typing import Any

from pydantic import ValidationError

from provisioning.errors import Conflict, Invalid, NotFound
from seed.lab.bmc import Bmcs
from seed.lab.hypervisor import Hypervisor
from seed.lab.scenario import Scenario, Server, first_fault
from seed.lab.state import Layout, write_secret

Table = dict[str, dict[str, Any]]


def table(layout: Layout) -> Table:
    try:
        kept: Table = json.loads(layout.parts.read_text())
    except FileNotFoundError:
        return {}
    return kept


def fitted(scenario: Scenario, changed: Table) -> Scenario:
    """The lab with the parts that its servers have now. Invalid where they cannot be."""
    document = scenario.model_dump(mode="json")
    for server in document["servers"]:
        parts = changed.get(server["name"])
        if parts:
            server["memory_mib"] = parts["memory_mib"]
            for disk, serial in zip(server["disks"], parts["disks"], strict=True):
                disk["serial"] = serial
    try:
        return Scenario.model_validate(document)
    except ValidationError as err:
        raise Invalid(first_fault(err), "seed lab server change --help") from err


def numbered(disks: list[str]) -> dict[int, str]:
    """["1:LAB-0003-D9"] as {1: "LAB-0003-D9"}."""
    found = {}
    for text in disks:
        number, _, serial = text.partition(":")
        if not number.isdecimal() or not serial:
            raise Invalid(f"{text!r} is no disk", "write it like 1:LAB-0003-D9")
        found[int(number)] = serial
    return found


class Refit:
    """Opens servers that are off."""

    def __init__(
        self, scenario: Scenario, layout: Layout, hypervisor: Hypervisor, bmcs: Bmcs
    ) -> None:
        self.scenario, self.layout = scenario, layout
        self.hypervisor, self.bmcs = hypervisor, bmcs

    def change(
        self, name: str, memory_mib: int | None, disks: dict[int, str], unplugged: list[str]
    ) -> None:
        """Other memory, other disks; a disk that is put in is blank.

        disks: number from 1 -> serial number. Nothing is done if anything of it cannot be.
        """
        server = self.scenario.server(name)
        if self.hypervisor.is_on(name):
            raise Conflict(f"{name} is on", f"seed lab power {name} off")
        serials = [disk.serial for disk in server.disks]
        for number, serial in disks.items():
            if not 1 <= number <= len(serials):
                raise NotFound(f"{name} has {len(serials)} disks, no {number}", "seed lab status")
            serials[number - 1] = serial
        parts = {"memory_mib": memory_mib or server.memory_mib, "disks": serials}
        changed = {**table(self.layout), name: parts}
        now = fitted(self.scenario, changed)
        write_secret(self.layout.parts, json.dumps(changed))
        self._put(now, server, now.server(name), unplugged)

    def _put(self, now: Scenario, before: Server, after: Server, unplugged: list[str]) -> None:
        for number, (old, new) in enumerate(zip(before.disks, after.disks, strict=True)):
            if old.serial != new.serial:
                self.layout.disk(before.name, number).unlink(missing_ok=True)
        self.hypervisor.refit(now, after, unplugged)
        self.bmcs.refit(now, after)
