"""Wires the reconciler together. It holds the master key and listens nowhere."""

import signal
import sys
import threading
from collections.abc import Callable

import structlog
from pydantic import SecretStr

import provisioning.bmc
from ipxe.bootspec import discovery as discovery_ramdisk
from ipxe.service import BootFiles
from provisioning import image, plugins
from provisioning.bmc import Access, BmcProtocol
from provisioning.discovery import Finder
from provisioning.ironic import Ironic
from provisioning.models import Credential
from provisioning.networks import Pool
from provisioning.parts import Parts
from provisioning.reconcile import Reconciler
from provisioning.secrets import Unsealer
from provisioning.store import Store
from seed import log as logs
from seed.host.paths import Paths
from seed.settings import Settings

log = structlog.get_logger()


def serve_reconciler(settings: Settings) -> None:
    """Until SIGTERM; then the running steps end first."""
    logs.configure(sys.stdout)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    log.info("reconciler.started")
    make(settings).run(stop)
    log.info("reconciler.stopped")


def make(settings: Settings) -> Reconciler:
    paths = Paths(settings)
    unsealer = Unsealer(paths.master_key)
    store = Store(settings.database_url)
    access = _access(unsealer)
    protocols: dict[str, BmcProtocol] = plugins.load(provisioning.bmc)
    password = paths.ironic_password("seed-reconciler").read_text().strip()
    wire = settings.provisioning
    parts = Parts(
        store=store,
        ironic=Ironic(settings.ironic_url, "seed-reconciler", SecretStr(password)),
        protocols=protocols,
        access=access,
        token=unsealer.token,
        pool=Pool(wire.address, wire.pool_start, wire.pool_end),
        boot=BootFiles(
            http_dir=settings.http_dir,
            hosts_dir=paths.hosts,
            boot_url=settings.boot_url,
            unknown=discovery_ramdisk(
                settings.boot_url, settings.gateway_url, settings.console_args
            ),
        ),
        ca_dir=paths.bmc_ca,
        image=lambda name: image.find(settings.image_dir, name),
        boot_url=settings.boot_url,
        gateway_url=settings.gateway_url,
        gateway_ca=paths.tls / "ca.pem",
    )
    return Reconciler(parts=parts, finder=Finder(store, protocols, access))


def _access(unsealer: Unsealer) -> Callable[[Credential], Access]:
    def open_login(credential: Credential) -> Access:
        password = unsealer.open(credential.sealed, f"credential:{credential.id}")
        return Access(
            username=credential.username,
            password=SecretStr(password),
            mark=unsealer.token(f"login:{credential.username}:{password}")[:16],
        )

    return open_login
