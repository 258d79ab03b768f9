"""The API process: three doors on three unix sockets, one event loop."""

import asyncio
import contextlib
import gc
import grp
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog
import uvicorn
from pydantic import SecretStr
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.app import create_app
from api.federation import Federation
from api.feed import Feed
from api.gateway import create_gateway
from api.keystone import Keystone
from api.oidc import Oidc
from api.parts import AutoscalerDoor, Door, Parts, Rate, Rates, Shelf
from api.peer import PeerProtocol
from provisioning.autoscalers import ClientAuthority
from provisioning.errors import HostError
from provisioning.secrets import Sealer
from provisioning.store import Store
from seed import log as logs
from seed.host import checks
from seed.host.paths import Paths
from seed.settings import Settings

log = structlog.get_logger()

IRONIC_USER: Final = "seed-api"
GRACE_SECONDS: Final = 2
"""For requests that run when we are told to stop; the supervisor kills after 10."""
BACKLOG: Final = 256
GARBAGE: Final = (50_000, 20, 50)
"""Python's thresholds; by its own, modules and nodes are searched for garbage all the time, and
whoever asks meanwhile waits."""


def serve_api(settings: Settings) -> None:
    """Answer on all three doors until SIGTERM or SIGINT. Raises HostError when it cannot start."""
    logs.configure(sys.stdout)
    parts = make_parts(settings)
    with contextlib.ExitStack() as stack:
        local, web, gateway = (
            stack.enter_context(listening(path, group))
            for path, group in (
                (settings.api_socket, "seed"),
                (settings.web_socket, "seed-nginx"),
                (settings.gateway_socket, "seed-nginx"),
            )
        )
        servers = {
            _server(create_app(parts, Door.LOCAL), PeerProtocol): local,
            _server(create_app(parts, Door.WEB)): web,
            _server(create_gateway(parts)): gateway,
        }
        log.info("api.started", run_dir=str(settings.run_dir))
        asyncio.run(_until_told(servers, parts.feed))
    log.info("api.stopped")
    gc.freeze()  # Python would search all modules for garbage: 1.3 s, and 10 on a busy machine


def make_parts(settings: Settings) -> Parts:
    """Raises HostError where `seed init` has not been, or its secrets are not ours to read."""
    paths = Paths(settings)
    password = paths.ironic_password(IRONIC_USER)
    try:
        secret = SecretStr(password.read_text(encoding="utf-8").strip())
    except OSError as error:
        raise HostError(f"cannot read {password}: {error.strerror}", "seed up") from error
    return Parts(
        store=Store(settings.database_url),
        sealer=Sealer(paths.master_pub),
        ironic_url=settings.ironic_url,
        ironic_user=IRONIC_USER,
        ironic_password=secret,
        image_dir=settings.image_dir,
        bundle_dir=paths.bundles,
        ca_pem=paths.tls / "ca.pem",
        undo_seconds=settings.undo_seconds,
        grace_seconds=settings.grace_seconds,
        turnaround_seconds=settings.turnaround_seconds,
        discovery_ramdisk=settings.discovery_ramdisk,
        networks={"provisioning": settings.provisioning.address},
        wires={name: wire.address for name, wire in checks.wires(settings).items()},
        federation=Federation(
            oidc=Oidc(settings.oidc) if settings.oidc.issuer else None,
            keystone=Keystone(settings.keystone) if settings.keystone.url else None,
        ),
        shelf=Shelf(
            incoming=paths.incoming,
            sealer=Sealer(paths.images_pub),
            hosts=settings.images.allowed_hosts,
            most=settings.images.most_gib << 30,
        ),
        autoscaler=AutoscalerDoor(
            settings.autoscaler_address,
            ClientAuthority(paths.autoscaler_key, paths.autoscaler_pem),
        )
        if settings.autoscaler_address
        else None,
        rates=Rates(
            reads=Rate(settings.rates.reads, settings.rates.reads_burst),
            writes=Rate(settings.rates.writes, settings.rates.writes_burst),
            failures=Rate(settings.rates.failures, settings.rates.failures_burst),
        ),
    )


@contextlib.contextmanager
def listening(path: Path, group: str) -> Iterator[socket.socket]:
    """A unix socket at `path`, 0660 and of `group` where we may give it away; gone at the end.

    Raises HostError while somebody else answers there.
    """
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)  # never open to everybody, not for a moment
    try:
        listener.bind(str(path))
    except OSError as error:
        raise HostError(f"cannot make {path}: {error.strerror}", "seed doctor") from error
    finally:
        os.umask(before)
    _give(path, group)
    listener.listen(BACKLOG)
    try:
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    """What a killed process left behind refuses connections; what answers is alive."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise HostError(f"cannot use {path}: {error.strerror}", "seed doctor") from error
    raise HostError(f"another process answers at {path}", "seed status")


def _give(path: Path, group: str) -> None:
    """On a development machine the group may not exist, or not be ours: then it stays as it is."""
    with contextlib.suppress(KeyError, PermissionError):
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
    path.chmod(0o660)


class _Quiet(uvicorn.Server):
    """Leaves signals to us: there are three of it in this process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: ASGIApp, protocol: type[asyncio.Protocol] = H11Protocol) -> _Quiet:
    config = uvicorn.Config(
        app,
        http=protocol,
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nginx's X-Real-IP is read where it counts; `client` stays the peer
        server_header=False,
        timeout_keep_alive=75,  # nginx and the CLI keep connections
        timeout_graceful_shutdown=GRACE_SECONDS,
        backlog=BACKLOG,
    )
    return _Quiet(config)


async def _until_told(servers: dict[_Quiet, socket.socket], feed: Feed) -> None:
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, list(servers), feed)
    async with asyncio.TaskGroup() as group:
        for server, listener in servers.items():
            group.create_task(server.serve(sockets=[listener]))


def _stop(servers: list[_Quiet], feed: Feed) -> None:
    feed.close()  # streams never end by themselves
    for server in servers:
        server.should_exit = True
