"""Row `discover`: a /24 where nobody answers, Redfish and IPMI at once, against nmap."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import provisioning.bmc
from provisioning import discovery, plugins
from provisioning.bmc import Access
from provisioning.discovery import Finder
from provisioning.models import Credential
from provisioning.store import Store
from seed.host import netns
from tests.bench.measure import ROUNDS, Figure, Row, compared, cpu_here
from tests.fakes.appliance import base_folder
from tests.fakes.wire import ip

RANGE = "198.51.100.0/24"  # TEST-NET-2 of RFC 5737
NMAP = ["nmap", "-n", "-Pn", "-sU", "-sS", "-p", "U:623,T:443", RANGE]


@contextmanager
def silence() -> Iterator[str]:
    """A namespace in which every address of RANGE is reachable and silent."""
    name = f"seed-bench-{os.getpid()}"
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "link", "add", "void", "type", "veth", "peer", "void-end")
        for end in ("void", "void-end"):  # without ARP: as behind a router, packets just vanish
            ip("-n", name, "link", "set", end, "arp", "off", "up")
        ip("-n", name, "address", "add", "192.0.2.1/24", "dev", "void")
        ip("-n", name, "route", "add", RANGE, "dev", "void")
        yield name
    finally:
        ip("netns", "delete", name)


def _no_login(_: Credential) -> Access:
    raise AssertionError("a sweep without a login tries none")


def ours(namespace: str) -> Figure:
    with base_folder() as base:
        store = Store(f"sqlite:///{base}/seed.db")
        store.create()
        with store.write() as session:
            sweep = discovery.request(session, [RANGE], None, "bench").id
        finder = Finder(store, plugins.load(provisioning.bmc), _no_login)
        before, begin = cpu_here(), time.monotonic()
        netns.call(namespace, lambda: finder.run(sweep))
        figure = Figure(time.monotonic() - begin, cpu_here() - before)
        store.engine.dispose()
        return figure


def peer(namespace: str) -> Figure:
    before, begin = cpu_here(), time.monotonic()
    netns.run(namespace, NMAP, timeout=600).check_returncode()
    return Figure(time.monotonic() - begin, cpu_here() - before)


def sweeps() -> list[Row]:
    mine, theirs = [], []
    with silence() as namespace:
        for _ in range(ROUNDS):
            mine.append(ours(namespace))
            if shutil.which("nmap"):
                theirs.append(peer(namespace))
    if not theirs:
        sys.stderr.write("discover has no peer: nmap is not installed\n")
    return [compared("discover", "s per /24", mine, theirs)]


ROWS: dict[str, Callable[[], list[Row]]] = {"discover": sweeps}
