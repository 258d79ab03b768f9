"""Sweeps against nmap, without a limit of the rate.

discover    a /24 where nobody answers
sweep-20    a /20, 205 BMCs: both protocols, Redfish only, IPMI only; nmap asks UDP alone
sweep-16    a /16, 3,277 BMCs
sweep-loss  a /20, 205 BMCs, 5 % of packets lost each way: how many were missed
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic import SecretStr

import provisioning.bmc
from provisioning import discovery, plugins
from provisioning.bmc import Access
from provisioning.discovery import Finder
from provisioning.models import Credential, Discovery
from provisioning.secrets import Sealer
from provisioning.store import Store
from seed.host import netns
from seed.lab.fleet.running import running
from seed.lab.fleet.spec import Spec
from tests.bench.measure import ROUNDS, Figure, Row, compared, cpu_here
from tests.fakes.appliance import base_folder
from tests.fakes.wire import ip

RANGE = "198.51.100.0/24"  # TEST-NET-2 of RFC 5737
TWENTY, SIXTEEN, BMCS = "10.64.0.0/20", "10.64.0.0/16", 205
LOSSY_ROUNDS = 10
TUNED = [
    "nmap", "-n", "-Pn", "-sU", "-p623", "--open", "-T4", "--min-rate", "5000",
    "--max-retries", "1", TWENTY,
]  # fmt: skip
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
    return found(namespace, RANGE)[1]


def found(namespace: str, network: str) -> tuple[int, Figure]:
    """How many BMCs a sweep of `network` found, written down, and what it cost."""
    with base_folder() as base:
        store = Store(f"sqlite:///{base}/seed.db")
        store.create()
        with store.write() as session:
            sweep = discovery.request(session, [network], None, "bench", rate=0).id
        no_key = Sealer(base / "no-key")
        finder = Finder(store, plugins.load(provisioning.bmc), _no_login, no_key)
        before, begin = cpu_here(), time.monotonic()
        netns.call(namespace, lambda: finder.run(sweep))
        figure = Figure(time.monotonic() - begin, cpu_here() - before)
        with store.read() as session:
            row = session.get_one(Discovery, sweep)
        store.engine.dispose()
        return row.found, figure


def peer(namespace: str, argv: list[str] = NMAP) -> Figure:
    before, begin = cpu_here(), time.monotonic()
    netns.run(namespace, argv, timeout=600).check_returncode()
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


@contextmanager
def room(network: str, bmcs: int, loss: float = 0.0) -> Iterator[str]:
    """A namespace that reaches a fleet: a third speaks both, a third Redfish, a third IPMI only.

    The fleet has a namespace of its own: beside addresses of the same namespace nmap would take
    each run of silent ones as a group of its own, and be far slower than it is.
    """
    name, there = f"seed-bench-{os.getpid()}", f"seed-fleet-{os.getpid()}"
    for namespace in (name, there):
        ip("netns", "add", namespace)
    try:
        spec = Spec(
            range=network, bmcs=bmcs, speaks=("both", "redfish", "ipmi"), loss=loss,
            certificates="shared", password=SecretStr("bench"),
        )  # fmt: skip
        with running(spec, there, attach=name):
            yield name
    finally:
        for namespace in (name, there):
            ip("netns", "delete", namespace)


def sweeps_20() -> list[Row]:
    mine, theirs = [], []
    with room(TWENTY, BMCS) as namespace:
        for _ in range(ROUNDS):
            number, figure = found(namespace, TWENTY)
            if number != BMCS:
                sys.stderr.write(f"sweep-20 found {number} of {BMCS}\n")
            mine.append(figure)
            if shutil.which("nmap"):
                theirs.append(peer(namespace, TUNED))
    costs = [[Figure(figure.cpu) for figure in figures] for figures in (mine, theirs)]
    return [
        compared("sweep-20", "s per /20", mine, theirs),
        compared("sweep-20 CPU", "CPU s per /20", *costs),
    ]


def sweeps_16() -> list[Row]:
    mine = []
    with room(SIXTEEN, 16 * BMCS - 3) as namespace:
        for _ in range(ROUNDS):
            number, figure = found(namespace, SIXTEEN)
            if number != 16 * BMCS - 3:
                sys.stderr.write(f"sweep-16 found {number} of {16 * BMCS - 3}\n")
            mine.append(figure)
    return [
        compared("sweep-16", "s per /16", mine, []),
        compared("sweep-16 CPU", "CPU s per /16", [Figure(f.cpu) for f in mine], []),
    ]


def sweeps_loss() -> list[Row]:
    with room(TWENTY, BMCS, loss=0.05) as namespace:
        runs = [found(namespace, TWENTY) for _ in range(LOSSY_ROUNDS)]
    missed = sum(BMCS - number for number, _ in runs)
    return [
        Row("sweep-loss", missed, f"BMCs missed of {LOSSY_ROUNDS * BMCS}"),
        compared("sweep-loss time", "s per /20", [figure for _, figure in runs], []),
    ]


ROWS: dict[str, Callable[[], list[Row]]] = {
    "discover": sweeps,
    "sweep-20": sweeps_20,
    "sweep-16": sweeps_16,
    "sweep-loss": sweeps_loss,
}
