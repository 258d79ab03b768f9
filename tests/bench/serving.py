"""Row `serving`: an image to 16 clients at once, the appliance's nginx against a plain one.

Both serve the same file from the page cache, in one namespace. The peer is nginx with `sendfile`
and `tcp_nopush` and nothing else, once with nginx's own one worker, once with as many as ours.
The clients throw away what they get inside the kernel: the servers are what is measured.
"""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from seed.host import appliance, netns, supervisor
from seed.settings import Settings
from tests.bench.measure import ROUNDS, Figure, Row, compared, cpu_of
from tests.fakes.appliance import base_folder, initialised, until
from tests.fakes.wire import appliance_namespace

CLIENTS, MIB = 16, 256
PASSES = 4  # of all servers in turn, together one round: what disturbs one disturbs all
NAME = "/images/bench/current/disk.raw"
CHUNK = 1 << 20
LONG = 300.0
PLAIN = {"one worker": 8081, "as many workers": 8082}
PLAIN_CONF = """\
daemon off;
worker_processes {workers};
pid {base}/plain-{port}.pid;
error_log stderr;
events {{ }}
http {{
    sendfile on;
    tcp_nopush on;
    access_log off;
    server {{
        listen {address}:{port};
        root {root};
    }}
}}
"""


def _image(settings: Settings) -> None:
    """A file where images are, below the link that names the version, and in the page cache."""
    folder = settings.image_dir / "bench" / "1"
    folder.mkdir(parents=True)
    (folder.parent / "current").symlink_to("1")
    with (folder / Path(NAME).name).open("wb") as file:
        for _ in range(MIB):
            file.write(os.urandom(CHUNK))


@contextmanager
def _plain(settings: Settings, base: Path, port: int, workers: str) -> Iterator[int]:
    """The peer; its pid."""
    conf = base / f"plain-{port}.conf"
    address = settings.provisioning.address.ip
    conf.write_text(
        PLAIN_CONF.format(
            workers=workers, base=base, address=address, port=port, root=settings.http_dir
        )
    )
    argv = [*netns.prefix(settings.namespace), "/usr/sbin/nginx", "-e", "stderr", "-c", str(conf)]
    # In a session of its own, as ours: the kernel shares cores out by session (sched(7)).
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        until(lambda: _answers(settings, port), 20, "the plain nginx")
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


def _connected(settings: Settings, port: int) -> list[socket.socket]:
    address = (str(settings.provisioning.address.ip), port)

    def connect() -> list[socket.socket]:
        return [socket.create_connection(address, timeout=LONG) for _ in range(CLIENTS)]

    return netns.call(settings.namespace, connect)


def _answers(settings: Settings, port: int) -> bool:
    with suppress(OSError):
        for line in _connected(settings, port):
            line.close()
        return True
    return False


def _fetch(line: socket.socket) -> int:
    """Bytes of the body. MSG_TRUNC: a TCP socket drops them instead of copying (tcp(7))."""
    with line:
        request = f"GET {NAME} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
        line.sendall(request.encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += line.recv(1)
        assert head.startswith(b"HTTP/1.1 200 "), head
        buffer, got = bytearray(CHUNK), 0
        while count := line.recv_into(buffer, CHUNK, socket.MSG_TRUNC):
            got += count
        return got


def _pass(settings: Settings, port: int, root: int) -> Figure:
    """Seconds until all clients have all of it, and the server's CPU seconds."""
    pids = supervisor.tree(root)
    lines = _connected(settings, port)
    with ThreadPoolExecutor(CLIENTS) as pool:
        before, begin = cpu_of(pids), time.monotonic()
        bodies = list(pool.map(_fetch, lines))
        seconds = time.monotonic() - begin
        cpu = cpu_of(pids) - before
    assert bodies == [MIB << 20] * CLIENTS, bodies
    return Figure(seconds, cpu)


def _round(settings: Settings, servers: dict[int, int]) -> dict[int, Figure]:
    """Port -> MiB per second of all clients together, and CPU seconds per GiB of the server."""
    told: dict[int, list[Figure]] = {port: [] for port in servers}
    for _ in range(PASSES):
        for port, root in servers.items():
            told[port].append(_pass(settings, port, root))
    mib = PASSES * CLIENTS * MIB
    return {
        port: Figure(mib / sum(f.value for f in all_), sum(f.cpu for f in all_) / (mib / 1024))
        for port, all_ in told.items()
    }


def rows() -> list[Row]:
    with base_folder() as base, appliance_namespace(f"seed-bench-{os.getpid()}") as namespace:
        os.environ["SEED_CONFIG"] = str(base / "seed.toml")
        settings = initialised(base, namespace)
        try:
            appliance.up(settings, names=["nginx"])
            _image(settings)
            return _measured(settings, base)
        finally:
            appliance.down(settings)


def _measured(settings: Settings, base: Path) -> list[Row]:
    one, many = PLAIN.values()
    with (
        _plain(settings, base, one, "1") as alone,
        _plain(settings, base, many, "auto") as equal,
    ):
        servers = {80: supervisor.pid(settings), one: alone, many: equal}
        for port, root in servers.items():  # not counted: the file comes into the page cache
            _pass(settings, port, root)
        told = [_round(settings, servers) for _ in range(ROUNDS)]
    rows = []
    for name, port in PLAIN.items():
        ours, peer = ([r[p] for r in told] for p in (80, port))
        rows.append(compared(f"serving: {name}", "MiB/s", ours, peer))
        cpus = [[Figure(1000 * f.cpu) for f in all_] for all_ in (ours, peer)]
        rows.append(compared(f"serving: {name}: CPU", "ms per GiB", *cpus))
    return rows


ROWS: dict[str, Callable[[], list[Row]]] = {"serving": rows}
