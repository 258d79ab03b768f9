"""Row `redfish-inventory`: 200 BMCs surveyed at once, against sushy in 8 threads, Ironic's default.

A login costs 1.0 s and each answer behind it 0.2 s; the floor is their sum for one BMC. What one
BMC alone takes in the same run says how busy the machine is.
"""

import asyncio
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median

import sushy
from pydantic import SecretStr

import provisioning.bmc
from provisioning import plugins
from provisioning.bmc import Access, Contact
from seed.host import netns
from seed.lab.fleet.running import Control, running
from seed.lab.fleet.spec import Spec
from tests.bench.measure import ROUNDS, Figure, Row, compared, cpu_here
from tests.fakes.wire import ip

BMCS, PEER_THREADS = 200, 8
LOGIN, GET = 1.0, 0.2
FREE = 2  # the root and the login itself: the first is open, the second has a price of its own
TIMEOUT = 120.0  # seconds for one BMC
ACCESS = Access("admin", SecretStr("fleet-password"))
REDFISH = plugins.load(provisioning.bmc)["redfish"]


def rows() -> list[Row]:
    name = f"seed-bench-{os.getpid()}"
    spec = Spec(
        range="10.64.0.0/16", bmcs=BMCS, password=ACCESS.password, login_seconds=LOGIN,
        get_seconds=GET,
    )  # fmt: skip
    ip("netns", "add", name)
    try:
        with running(spec, name) as control:
            return netns.call(name, lambda: _measured(control, spec.where()))
    finally:
        ip("netns", "delete", name)


def _measured(control: Control, addresses: list[str]) -> list[Row]:
    contacts = asyncio.run(_contacts(addresses))
    _surveys(contacts[:1])  # what is imported and made once is no BMC's
    before, asked = _peak_kb(), control.bmcs()[-1]["requests"]
    ours = [_timed(partial(_surveys, contacts))]
    memory = (_peak_kb() - before) / BMCS
    answers = control.bmcs()[-1]["requests"] - asked
    ours += [_timed(partial(_surveys, contacts)) for _ in range(ROUNDS - 1)]
    counted = control.bmcs()
    alone = _timed(partial(_surveys, contacts[-1:]))
    peer = [_timed(partial(_sushy, addresses))]
    seconds = median(figure.value for figure in ours)
    return [
        compared("redfish-inventory", "s per 200 BMCs", ours, peer),
        Row("redfish-inventory: answers of one BMC", answers, "requests"),
        Row(
            "redfish-inventory: of the floor",
            round(seconds / (LOGIN + (answers - FREE) * GET), 2),
            "times",
        ),
        Row("redfish-inventory: one BMC alone", round(alone.value, 2), "s"),
        Row("redfish-inventory: CPU", round(1000 * median(f.cpu for f in ours) / BMCS, 1), "ms"),
        Row("redfish-inventory: memory of one BMC", round(memory), "kB"),
        Row("redfish-inventory: sessions left", sum(b["sessions"] for b in counted), ""),
        Row("redfish-inventory: sessions at once", max(b["sessions_most"] for b in counted), ""),
    ]


def _timed(do: Callable[[], None]) -> Figure:
    before, begin = cpu_here(), time.monotonic()
    do()
    return Figure(time.monotonic() - begin, cpu_here() - before)


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def _contacts(addresses: list[str]) -> list[Contact]:
    found = [await REDFISH.probe(address, 30.0) for address in addresses]
    return [contact for contact in found if contact]


def _surveys(contacts: list[Contact]) -> None:
    with ThreadPoolExecutor(REDFISH.at_once) as pool:
        found = list(pool.map(lambda c: REDFISH.survey(c, ACCESS, TIMEOUT), contacts))
    incomplete = [f for f in found if f.findings or not (f.inventory.drives and f.inventory.nics)]
    if incomplete:
        raise RuntimeError(f"{len(incomplete)} surveys are incomplete: {incomplete[0]}")


def _sushy(addresses: list[str]) -> None:
    with ThreadPoolExecutor(PEER_THREADS) as pool:
        list(pool.map(_visit, addresses))


def _visit(address: str) -> None:
    """The same facts by sushy's own classes, LLDP and virtual media left out."""
    root = sushy.Sushy(f"https://{address}", "admin", "fleet-password", verify=False)
    try:
        (system,) = root.get_system_collection().get_members()
        for part in (system.processors, system.ethernet_interfaces, *system.managers):
            part.get_members() if hasattr(part, "get_members") else part.firmware_version
        for storage in system.storage.get_members():
            if not storage.drives:
                raise RuntimeError(f"{address} shows no drives")
    finally:
        root._auth.close()


ROWS: dict[str, Callable[[], list[Row]]] = {"redfish-inventory": rows}
