"""Wires seed-images together: disk images that come in, and those that go. It listens nowhere."""

import signal
import ssl
import sys
import threading

import structlog

from images.intakes import Intakes
from images.receiving import GIB
from images.web import Web
from provisioning.hook_delivery import surroundings
from provisioning.secrets import Unsealer
from provisioning.shelf import RegistryLogin, purpose
from provisioning.store import Store
from seed import log as logs
from seed.host.paths import Paths
from seed.settings import Settings

log = structlog.get_logger()


def serve_images(settings: Settings) -> None:
    """Until SIGTERM; what is being received then is gone on with at the next start."""
    logs.configure(sys.stdout)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    log.info("images.started")
    make(settings, stop).run()
    log.info("images.stopped")


def make(settings: Settings, stop: threading.Event) -> Intakes:
    paths, told = Paths(settings), settings.images
    store, unsealer = Store(settings.database_url), Unsealer(paths.images_key)

    def trust() -> ssl.SSLContext:
        context = ssl.create_default_context()
        if told.ca_file:
            context.load_verify_locations(told.ca_file)
        return context

    def login(host: str) -> tuple[str, str] | None:
        with store.read() as session:
            row = session.get(RegistryLogin, host)
        return (row.username, unsealer.open(row.sealed, purpose(host))) if row else None

    return Intakes(
        store=store,
        image_dir=settings.image_dir,
        incoming=paths.incoming,
        web=Web(told.allowed_hosts, surroundings(settings.out_of_band.address.network), trust),
        login=login,
        most=told.most_gib * GIB,
        most_virtual=told.most_disk_gib * GIB,
        kept=told.kept_versions,
        stopping=stop,
    )
