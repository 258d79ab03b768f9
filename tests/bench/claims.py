"""Row `claims`: 200 nodes of real Ironic (fake-hardware) from a claim to active.

The peer is a client of our own that does the same to the same Ironic in the same run, as fast as
Ironic lets it: allocations, image and config drive from 8 threads, one list call to see who is
active. What a claim does beyond that (holds, checks of each BMC, orders, boot files, one-time
tokens, proofs) the peer leaves out. The bench plays the servers: each sends its proof.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from pydantic import SecretStr
from sqlmodel import col, select

from provisioning.bmc import Access, Contact, Identity, Survey
from provisioning.claims import Desk
from provisioning.discovery import Finder
from provisioning.ironic import Ironic
from provisioning.models import Claim, ClaimSpec, Hold, Order, now
from provisioning.networks import Pool
from provisioning.reconcile import Reconciler
from provisioning.states import ClaimState
from provisioning.store import Store
from seed import config
from seed import reconciler as product
from seed.host import appliance, netns, supervisor
from seed.host.paths import Paths
from seed.settings import Settings
from tests.bench.measure import ROUNDS, Row, cpu_of
from tests.bench.nodes import identity_of, in_ironic, in_seed, ironic_client
from tests.fakes import crashing
from tests.fakes.appliance import base_folder, initialised, until
from tests.fakes.proofs import as_wanted
from tests.fakes.wire import BRIDGES, appliance_namespace

NODES = 200
LONG = 600.0
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKE02EXZopJm+V+0QfxedG6Gy6HeCx4/dROzGkxDOS5X bench"
WIRES = {**BRIDGES, "prov0": "172.24.0.1/18"}
THREADS = 8
LISTS_PER_SECOND = 10


class BenchBmc(crashing.FakeBmc):
    """Its address says who it is."""

    def identify(self, contact: Contact, access: Access, timeout: float) -> Identity:
        return identity_of(contact.address)

    def survey(self, contact: Contact, access: Access, timeout: float) -> Survey:
        return replace(
            super().survey(contact, access, timeout), identity=identity_of(contact.address)
        )


@dataclass
class Site:
    """An appliance's Ironic and API, and a reconciler whose BMCs are not there."""

    settings: Settings
    namespace: str
    store: Store
    ironic: Ironic
    client: httpx.Client
    password: str
    log: Path
    made: int = 0
    reconciler: subprocess.Popen[bytes] | None = None

    def restart(self) -> None:
        """The reconciler, so that it finds what is there as after a start, and not as news."""
        self.stop()
        argv = [*netns.prefix(self.namespace), sys.executable, "-m", "tests.bench.claims"]
        with self.log.open("ab") as log:
            self.reconciler = subprocess.Popen(argv, stdout=log, stderr=log)

    def stop(self) -> None:
        if self.reconciler is not None:
            self.reconciler.terminate()
            self.reconciler.wait(60)
            self.reconciler = None

    def seed_pids(self) -> set[int]:
        """Pids of Seed's processes."""
        pids = {s.name: s.pid for s in supervisor.status(self.settings)}
        mine = {self.reconciler.pid} if self.reconciler else set()
        return mine | set(supervisor.tree(pids["seed-api"]))

    def cpu(self) -> tuple[float, float]:
        """Seconds that Seed took, and that Ironic took."""
        pids = {s.name: s.pid for s in supervisor.status(self.settings)}
        return cpu_of(self.seed_pids()), cpu_of(supervisor.tree(pids["ironic"]))

    def more(self, of_class: str) -> list[Any]:
        database = Paths(self.settings).ironic_db
        servers = in_ironic(self.namespace, self.client, database, self.made, NODES, of_class)
        self.made += NODES
        return servers


@contextmanager
def a_site() -> Iterator[Site]:
    with base_folder() as base, appliance_namespace(f"seed-bench-{os.getpid()}", WIRES) as here:
        os.environ["SEED_CONFIG"] = str(base / "seed.toml")
        settings = initialised(base, here)
        store = Store(settings.database_url)
        appliance.up(
            settings, prepare_database=store.create, names=["ironic", "seed-api", "nginx"],
            extra_hardware=["fake-hardware"],
        )  # fmt: skip
        # `up` opened and closed the file to change its owner: that took SQLite's locks (POSIX).
        store.engine.dispose()
        paths = Paths(settings)
        password = paths.ironic_password("seed-reconciler").read_text().strip()
        ironic = Ironic(settings.ironic_url, "seed-reconciler", SecretStr(password))
        client = ironic_client(settings.ironic_url, password)
        site = Site(settings, here, store, ironic, client, password, base / "reconciler.log")
        try:
            site.restart()
            yield site
        finally:
            site.stop()
            store.engine.dispose()
            appliance.down(settings)


def ours(site: Site, of_class: str) -> tuple[float, float, float]:
    """(seconds, Seed's CPU, Ironic's CPU) from the claim to `active`."""
    in_seed(site.store, site.more(of_class), of_class)
    until(lambda: _seen(site, of_class) == NODES, LONG, "the nodes in the cache")
    desk = Desk(site.store, site.ironic, crashing.resolved, undo=timedelta(0))
    spec = ClaimSpec(
        name=of_class, count=NODES, image="debian", ssh_keys=[KEY], resource_class=of_class
    )
    begin, (mine, theirs) = time.monotonic(), site.cpu()
    netns.call(site.namespace, lambda: desk.request(spec, "default", "bench"))
    until(lambda: _active(site, of_class), LONG, "the claim")
    seconds = time.monotonic() - begin
    mine_after, theirs_after = site.cpu()
    return seconds, mine_after - mine, theirs_after - theirs


def _seen(site: Site, of_class: str) -> int:
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(site.settings.api_socket)), base_url="http://seed"
    ) as api:
        time.sleep(0.5)
        asked = {"resource_class": of_class, "provision_state": "available"}
        return len(api.get("/v1/nodes", params=asked, timeout=60).json())


def _active(site: Site, name: str) -> bool:
    with site.store.read() as session:
        claim = session.exec(select(Claim).where(Claim.name == name)).one()
        rows = session.exec(
            select(Order.id)
            .join(Hold, col(Hold.node_uuid) == col(Order.node_uuid))
            .where(
                Hold.claim_id == claim.id, col(Order.proof_at).is_(None),
                col(Order.ironic_done_at).is_not(None),
            )
        ).all()  # fmt: skip
    if claim.state is ClaimState.FAILED:
        raise RuntimeError(f"the claim failed: {claim.problem}")
    if rows:
        with site.store.write() as session:
            for order in rows:
                row = session.get_one(Order, order)
                row.proof_at = now()
                row.proof = as_wanted(row)
    time.sleep(0.1)
    return claim.state is ClaimState.ACTIVE


def peer(site: Site, of_class: str) -> float:
    """Seconds from the first allocation until Ironic says active of all."""
    servers = site.more(of_class)
    client = site.client

    def one(uuid: str) -> None:
        name = f"bench-{uuid}"
        asked = {"name": name, "resource_class": of_class, "candidate_nodes": [uuid]}
        client.post("/allocations", json=asked).raise_for_status()
        while client.get(f"/allocations/{name}").raise_for_status().json()["state"] != "active":
            time.sleep(0.1)
        image = {
            "image_source": "http://172.24.0.1/images/debian/1/disk.qcow2",
            "image_os_hash_algo": "sha256", "image_os_hash_value": "0" * 64,
            "image_disk_format": "qcow2", "image_type": "whole-disk",
        }  # fmt: skip
        patch = [{"op": "add", "path": "/instance_info", "value": image}]
        until_free(lambda: client.patch(f"/nodes/{uuid}", json=patch))
        drive = {
            "meta_data": {"uuid": uuid, "name": name, "hostname": name, "public_keys": {"0": KEY}},
            "network_data": {"links": [], "networks": [], "services": []},
            "user_data": "#cloud-config\n{}\n", "vendor_data": {"cloud-init": "#" * 3000},
        }  # fmt: skip
        asked = {"target": "active", "configdrive": drive}
        until_free(lambda: client.put(f"/nodes/{uuid}/states/provision", json=asked))

    def all_of_them() -> float:
        begin = time.monotonic()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(one, [str(s.uuid) for s in servers]))
        query = {"resource_class": of_class, "provision_state": "active", "fields": "uuid"}
        while len(client.get("/nodes", params=query).raise_for_status().json()["nodes"]) < NODES:
            time.sleep(0.5)
        return time.monotonic() - begin

    return netns.call(site.namespace, all_of_them)


def until_free(ask: Callable[[], httpx.Response]) -> None:
    """Ironic answers 409 while it works on the node itself; openstacksdk asks again, too."""
    while (answer := ask()).status_code == httpx.codes.CONFLICT:
        time.sleep(0.2)
    answer.raise_for_status()


@contextmanager
def listing(site: Site, seconds: list[float]) -> Iterator[None]:
    """Somebody looks at nodes through the API all the while; how long each look took."""
    stop = threading.Event()

    def look() -> None:
        transport = httpx.HTTPTransport(uds=str(site.settings.api_socket))
        with httpx.Client(transport=transport, base_url="http://seed", timeout=60) as api:
            while not stop.wait(1 / LISTS_PER_SECOND):
                begin = time.monotonic()
                api.get("/v1/nodes", params={"limit": 100, "sort": "-name"}).raise_for_status()
                seconds.append(time.monotonic() - begin)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def rows() -> list[Row]:
    mine: list[tuple[float, float, float]] = []
    theirs: list[float] = []
    looks: list[float] = []
    with a_site() as site:
        for number in range(ROUNDS):
            mine.append(ours(site, f"ours-{number}"))
            theirs.append(peer(site, f"peer-{number}"))
            sys.stderr.write(f"claims: ours {mine[-1]}, peer {theirs[-1]:.1f} s\n")
        with listing(site, looks):  # apart: nobody lists the peer's nodes
            watched = ours(site, "watched")
    share = median(m[1] / m[2] for m in mine)
    p99 = 1000 * sorted(looks)[int(len(looks) * 0.99)]
    return [
        Row("claims", round(median(m[0] for m in mine), 1), f"s per {NODES} nodes",
            round(median(theirs), 1),
            round(median(m[0] / t for m, t in zip(mine, theirs, strict=True)), 2)),
        Row("claims: Seed's CPU", round(median(m[1] for m in mine), 2), "s",
            round(median(m[2] for m in mine), 2), round(share, 3)),
        Row("claims: p99 of a list of 100 meanwhile", round(p99), "ms"),
        Row(f"claims: Seed's CPU with {LISTS_PER_SECOND} lists a second", round(watched[1], 2),
            "s", round(watched[2], 2), round(watched[1] / watched[2], 3)),
    ]  # fmt: skip


ROWS: dict[str, Callable[[], list[Row]]] = {"claims": rows}


def reconciler(settings: Settings) -> Reconciler:
    """The product's own, but for its BMCs and where it finds images."""
    wired = product.make(settings)
    wire = settings.provisioning
    protocols: dict[str, Any] = {"fake": BenchBmc()}
    parts = replace(
        wired.parts,
        protocols=protocols,
        access=lambda login: Access(login.username, SecretStr("x"), "mark"),
        image=crashing.an_image,
        pool=Pool(wire.address, wire.pool_start, wire.pool_end),
    )
    finder = Finder(parts.store, protocols, parts.access, parts.sealer)
    return Reconciler(parts=parts, finder=finder)


def main() -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    reconciler(config.settings()).run(stop)


if __name__ == "__main__":
    main()
