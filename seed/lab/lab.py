"""A lab as a whole: up, down, and how it is."""

import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from provisioning.errors import Conflict, HostError, NotFound
from seed.lab import failed_logins, host, network, refit
from seed.lab.bmc import Bmcs, service
from seed.lab.cabling import Cabling
from seed.lab.hypervisor import Hypervisor
from seed.lab.network import Namespace
from seed.lab.scenario import Scenario, Server
from seed.lab.state import Layout, Processes, stop_pid, write_secret

Step = tuple[str, Callable[[], None]]
SWITCHES = "switches"  # one process for all of them
_SOURCE = Path(__file__).resolve().parent


class Lab:
    """One lab, all of it below one state directory and in one network namespace."""

    def __init__(self, scenario: Scenario, root: Path, env_dir: Path) -> None:
        self.layout = Layout(root)
        self.built = scenario  # as it came; `scenario` has the parts that were changed since
        self.scenario = scenario = refit.fitted(scenario, refit.table(self.layout))
        self.processes = Processes(self.layout)
        self.namespace = Namespace(scenario.namespace, self.layout)
        self.hypervisor = Hypervisor(self.layout, self.processes)
        self.bmcs = Bmcs(self.layout, self.processes, env_dir)
        self.cabling = Cabling(scenario, self.layout, self.hypervisor)
        self.refit = refit.Refit(scenario, self.layout, self.hypervisor, self.bmcs)

    def steps_up(self) -> list[Step]:
        """What `up` does, in order. Every step may be repeated."""
        switches: list[Step] = [("switches", self._switches)] if self.scenario.switches else []
        return [
            ("network namespace and bridges", self._network),
            *switches,
            ("libvirt", self._hypervisor),
            *((f"server {server.name}", self._adder(server)) for server in self.scenario.servers),
            *((self._title(server), self._starter(server)) for server in self.scenario.servers),
        ]

    def _network(self) -> None:
        self.namespace.make()
        network.build(self.namespace, self.scenario)

    def _switches(self) -> None:
        self.cabling.publish()
        argv = [sys.executable, "-I", str(_SOURCE / "switch.py"), str(self.layout.frames)]
        self.processes.start(SWITCHES, self.namespace.inside(*argv))

    def _hypervisor(self) -> None:
        self.hypervisor.start(self.namespace)
        self.hypervisor.make_pool()

    def _title(self, server: Server) -> str:
        return f"BMC of {server.name} ({server.bmc.protocol}, {server.bmc.address})"

    def _adder(self, server: Server) -> Callable[[], None]:
        return lambda: self.hypervisor.add(self.scenario, server, self.cabling.unplugged())

    def _starter(self, server: Server) -> Callable[[], None]:
        return lambda: self.bmcs.start(self.scenario, server, self.namespace)

    def begin(self) -> None:
        """Claim the state directory. Refuses, having done nothing, what cannot work out."""
        host.check_packages()
        host.check_space(self.layout.root.parent)
        self.namespace.check()
        if self.layout.record.exists() and stored(self.layout.root) != self.built:
            raise Conflict(
                f"{self.layout.root} holds a lab of another scenario",
                f"seed lab down --state-dir {self.layout.root}",
            )
        self.layout.make()
        self.layout.password()
        write_secret(self.layout.record, self.built.model_dump_json(indent=2))

    def down(self) -> None:
        """Stop and remove all that this lab started and nothing else. May be repeated."""
        if not self.layout.root.exists():
            return
        for name in self.processes.services():
            if name.startswith("bmc-"):
                self.processes.stop(name)
        self.hypervisor.stop()
        for name in self.processes.services():
            self.processes.stop(name)
        for pid in self.processes.strays():
            stop_pid(pid, 10)
        self.namespace.remove()
        shutil.rmtree(self.layout.root)

    def status(self) -> list[dict[str, Any]]:
        """One row per server."""
        if not self.layout.record.exists():
            raise NotFound("there is no lab here", "seed lab up")
        return [self._row(server) for server in self.scenario.servers]

    def _row(self, server: Server) -> dict[str, Any]:
        try:
            power = "on" if self.hypervisor.is_on(server.name) else "off"
        except HostError:
            power = "unknown"
        refused = failed_logins.read(self.layout.bmc(server.name) / "failed_logins")
        return {
            "name": server.name,
            "power": power,
            "protocol": server.bmc.protocol,
            "firmware": server.firmware,
            "bmc_address": str(server.bmc.address),
            "bmc_up": self.processes.pid(service(server)) is not None,
            "macs": [nic.mac for nic in server.nics],
            "serial": server.serial,
            "uuid": str(server.uuid),
            "failed_logins": refused["count"],
            "console": str(self.layout.console(server.name)),
        }


def stored(root: Path) -> Scenario:
    """The scenario of the lab in a state directory; NotFound if there is no lab in it."""
    try:
        return Scenario.model_validate_json((root / "lab.json").read_text())
    except OSError as err:
        raise NotFound(f"there is no lab in {root}", "seed lab up") from err


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Only one `up` or `down` at a time; Conflict at once for the second."""
    parent = root.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as err:
        raise HostError(
            f"cannot use {parent}: {err.strerror}", "seed lab up --state-dir DIRECTORY"
        ) from err
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as err:
        raise Conflict(f"another lab command works in {parent}", "seed lab status") from err
    finally:
        os.close(handle)
