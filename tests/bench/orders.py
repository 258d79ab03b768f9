"""Row `orders`: 500 members of a cluster ask for their orders, a minute of it in one go.

The peer is the same with a write transaction for each that asks. Each member asks every 12 s of a
clock of the bench's, so as many are written down as in a cluster. One process, as many threads as
the gateway has at once; the database is on a disk that is asked to keep each commit.
"""

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path
from statistics import median

from sqlmodel import Session

from provisioning import members
from provisioning.on_node.member import ORDERS_EVERY
from provisioning.store import Store
from tests.bench.measure import ROUNDS, Row, cpu_here
from tests.fakes.appliance import base_folder
from tests.fakes.life import clock
from tests.fakes.members import a_cluster
from tests.fakes.store import new_store

MEMBERS, PASSES, THREADS = 500, 5, 8
ADDRESSES = [str(IPv4Address("172.24.1.0") + n) for n in range(MEMBERS)]


class Locking(Store):
    """Who reads takes the write lock, too."""

    @contextmanager
    def read(self) -> Iterator[Session]:
        with self.write() as session:
            yield session


def rows() -> list[Row]:
    told: dict[type[Store], list[tuple[float, float, float]]] = {Store: [], Locking: []}
    with base_folder() as folder:
        for number in range(ROUNDS):
            for kind in told:
                told[kind].append(_run(folder / f"{number}{kind.__name__}", kind))
    ours, peer = ([median(column) for column in zip(*told[k], strict=True)] for k in told)
    units = ("requests/s", "ms of CPU", "write transactions for 100")
    return [
        Row(f"orders: {unit}", round(mine, 2), unit, round(its, 2), round(mine / its, 3))
        for unit, mine, its in zip(units, ours, peer, strict=True)
    ]


def _run(folder: Path, kind: type[Store]) -> tuple[float, float, float]:
    folder.mkdir()
    store = new_store(folder, kind)
    a_cluster(store, {address: address for address in ADDRESSES})
    asked = MEMBERS * PASSES
    with clock() as moment, ThreadPoolExecutor(THREADS) as threads:
        _all_ask(store, threads)
        commits, cpu, begin = store.commits, cpu_here(), time.monotonic()
        for _ in range(PASSES):
            moment.at += timedelta(seconds=ORDERS_EVERY)
            _all_ask(store, threads)
        seconds, cpu = time.monotonic() - begin, cpu_here() - cpu
    written = 100 * (store.commits - commits) / asked
    sys.stderr.write(f"{kind.__name__}: {asked / seconds:.0f}/s, {1000 * cpu / asked:.2f} ms CPU\n")
    store.engine.dispose()
    return asked / seconds, 1000 * cpu / asked, written


def _all_ask(store: Store, threads: ThreadPoolExecutor) -> None:
    for _ in threads.map(lambda one: members.orders(store, one, one), ADDRESSES):
        pass


ROWS: dict[str, Callable[[], list[Row]]] = {"orders": rows}
