"""Row `list`: a hundred of 5,000 nodes, by `wrk -t1 -c8`, against Ironic's own list.

Ours is the API's application and server in a process of its own on a TCP port, token and all, but
without nginx and TLS before it, as Ironic is asked, too; and once more as users ask. The peers are
`GET /v1/nodes?limit=100` of the same Ironic, bare and detailed, with the login of Seed itself. The
nodes are Ironic's (fake-hardware), made straight in its database; Seed's rows are made beside them,
and its cache is filled by its own watcher.
"""

import asyncio
import re
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median

import httpx

from api.app import create_app
from api.parts import Door, Rate, Rates
from provisioning.models import Token, now
from provisioning.secrets import digest, new_token
from provisioning.sight import ALL, Pass
from seed import config
from seed import serve as product
from seed.host import netns, supervisor
from seed.host.paths import Paths
from tests.bench.claims import Site, a_site
from tests.bench.measure import ROUNDS, Row, cpu_of
from tests.bench.nodes import in_ironic, in_seed
from tests.fakes.appliance import until

NODES, SECONDS, IDLE_SECONDS = 5000, 5, 240.0  # Ironic asks all BMCs for power every 120
PORT = 8999
QUERY = "limit=100&sort=-rack&resource_class=bench&held=false"


@dataclass(frozen=True)
class Shot:
    """One run of wrk."""

    per_second: float
    p99_ms: float
    cpu_ms: float


def shoot(site: Site, url: str, login: str, pids: set[int]) -> Shot:
    argv = ["wrk", "-t1", "-c8", f"-d{SECONDS}s", "--latency", "-H", f"Authorization: {login}"]
    before = cpu_of(pids)
    done = subprocess.run(
        [*netns.prefix(site.namespace), *argv, url], capture_output=True, text=True, check=True,
        timeout=60,
    ).stdout  # fmt: skip
    if "Non-2xx" in done or "Socket errors" in done or " 0 requests in" in done:
        raise RuntimeError(f"{url}: {done}")
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", done)[0])
    number, unit = re.findall(r"99%\s+([\d.]+)(us|ms|s)", done)[0]
    p99 = float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]
    count = int(re.findall(r"(\d+) requests in", done)[0])
    return Shot(rate, p99, 1000 * (cpu_of(pids) - before) / count)


def rows() -> list[Row]:
    with a_site() as site:
        database = Paths(site.settings).ironic_db
        servers = in_ironic(site.namespace, site.client, database, 0, NODES, "bench")
        in_seed(site.store, servers, "bench")
        site.restart()
        secret = new_token()
        with site.store.write() as session:
            session.add(
                Token(name="wrk", hash=digest(secret), roles=["viewer"],
                      expires_at=now() + timedelta(hours=1))
            )  # fmt: skip
        until(lambda: _age(site) is not None, 300, "the nodes in the cache")
        return measured(site, f"Bearer {secret}")


def _age(site: Site) -> datetime | None:
    with site.store.read() as session:
        whole = session.get(Pass, ALL)
    time.sleep(0.5)
    return whole.at if whole else None


def measured(site: Site, token: str) -> list[Row]:
    pids = {s.name: supervisor.tree(s.pid) for s in supervisor.status(site.settings)}
    basic = "Basic " + b64encode(f"seed-reconciler:{site.password}".encode()).decode()
    raw = f"{site.settings.ironic_url}/v1/nodes"
    shots: dict[str, list[Shot]] = {"ours": [], "nginx": [], "bare": [], "detail": []}
    front = f"https://{site.settings.management.address.ip}:{site.settings.api_port}"
    whole = f"{front}/v1/nodes?{QUERY}"
    for _ in range(ROUNDS):
        with on_a_port(site) as (direct, pid):
            until(lambda: _answers(site, direct, token), 60, "the API on a port")
            shots["ours"].append(shoot(site, direct, token, {pid}))
        until(lambda: _answers(site, whole, token), 60, "nginx")
        shots["nginx"].append(shoot(site, whole, token, pids["seed-api"] | pids["nginx"]))
        shots["bare"].append(shoot(site, f"{raw}?limit=100", basic, pids["ironic"]))
        shots["detail"].append(shoot(site, f"{raw}/detail?limit=100", basic, pids["ironic"]))
    rate = {who: median(s.per_second for s in told) for who, told in shots.items()}
    p99 = {who: median(s.p99_ms for s in told) for who, told in shots.items()}
    cpu = {who: median(s.cpu_ms for s in told) for who, told in shots.items()}
    return [
        Row("list", round(rate["ours"]), "requests/s", round(rate["bare"], 1),
            round(rate["ours"] / rate["bare"], 1), round(cpu["ours"] / cpu["bare"], 3)),
        Row("list: against Ironic's details", round(rate["ours"]), "requests/s",
            round(rate["detail"], 1), round(rate["ours"] / rate["detail"], 1),
            round(cpu["ours"] / cpu["detail"], 3)),
        Row("list: p99", round(p99["ours"], 1), "ms", round(p99["bare"], 1),
            round(p99["ours"] / p99["bare"], 3)),
        Row("list: through nginx and TLS", round(rate["nginx"]), "requests/s",
            round(rate["bare"], 1), round(rate["nginx"] / rate["bare"], 1)),
        Row("list: p99 through nginx and TLS", round(p99["nginx"], 1), "ms",
            round(p99["bare"], 1), round(p99["nginx"] / p99["bare"], 3)),
        Row("list: CPU of one", round(cpu["ours"], 2), "ms", round(cpu["bare"], 2)),
        *idle(site, pids),
    ]  # fmt: skip


def _answers(site: Site, url: str, token: str) -> bool:
    def ask() -> bool:
        try:
            headers = {"Authorization": token}
            return httpx.get(url, headers=headers, timeout=30, verify=False).is_success  # noqa: S501
        except httpx.TransportError:
            return False

    return netns.call(site.namespace, ask)


def idle(site: Site, pids: dict[str, set[int]]) -> list[Row]:
    """What all that looks at idle nodes costs, in percent of a core; Ironic's own work apart."""
    ironic = pids["ironic"]
    mine, theirs = _share(site.seed_pids()), _share(ironic)
    both = _during(IDLE_SECONDS, mine, theirs)
    site.stop()
    alone = _during(IDLE_SECONDS, theirs)[0]
    return [
        Row(f"list: {NODES} idle nodes, CPU of Seed", round(both[0], 1), "% of a core"),
        Row(f"list: {NODES} idle nodes, CPU of Ironic", round(both[1], 1), "% of a core",
            round(alone, 1)),
    ]  # fmt: skip


def _share(pids: set[int]) -> Callable[[], float]:
    return lambda: 100 * cpu_of(pids)


def _during(seconds: float, *gauges: Callable[[], float]) -> list[float]:
    before, begin = [gauge() for gauge in gauges], time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - begin
    return [(gauge() - was) / took for gauge, was in zip(gauges, before, strict=True)]


@contextmanager
def on_a_port(site: Site) -> Iterator[tuple[str, int]]:
    """The API's own application and server in a process of its own: (address, its pid)."""
    argv = [*netns.prefix(site.namespace), sys.executable, "-m", "tests.bench.lists"]
    process = subprocess.Popen(argv)
    try:
        yield f"http://127.0.0.1:{PORT}/v1/nodes?{QUERY}", process.pid
    finally:
        process.terminate()
        process.wait(30)


def serve() -> None:
    free = Rate(100_000, 200_000)  # what is measured is not the limit of 1,000 a second
    parts = replace(
        product.make_parts(config.settings()), rates=Rates(reads=free, writes=free, failures=free)
    )
    # asyncio sets TCP_NODELAY only where the protocol is named; else each answer waits 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a run for each round
        listener.bind(("127.0.0.1", PORT))
        listener.listen(product.BACKLOG)
        servers = {product._server(create_app(parts, Door.WEB)): listener}
        asyncio.run(product._until_told(servers, parts.feed))


ROWS: dict[str, Callable[[], list[Row]]] = {"list": rows}


if __name__ == "__main__":
    serve()
