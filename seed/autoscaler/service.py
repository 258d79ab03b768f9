"""Wires seed-autoscaler together: it answers clusters' autoscalers, and asks Ironic nothing."""

import signal
import sys
from datetime import timedelta
from typing import Final

import structlog
from pydantic import SecretStr
from sqlmodel import Session

from provisioning import standing
from provisioning.autoscaling import Autoscaling
from provisioning.claims import Desk
from provisioning.cluster_changes import Clusters
from provisioning.errors import HostError
from provisioning.image import Image
from provisioning.ironic import Ironic
from provisioning.store import Store
from seed import log as logs
from seed.autoscaler.provider import serve
from seed.host.paths import Paths
from seed.settings import Settings

log = structlog.get_logger()
STOP: Final = (signal.SIGTERM, signal.SIGINT)
GRACE_SECONDS: Final = 5
"""For calls that run when we are told to stop; the supervisor kills after 10."""


def serve_autoscaler(settings: Settings) -> None:
    """Until SIGTERM. Raises HostError where it cannot start."""
    logs.configure(sys.stdout)
    # Before gRPC's threads are there: a signal that one of them took would wake nobody.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    paths, address = Paths(settings), settings.autoscaler_address
    if not address:
        raise HostError(
            "autoscaler.wire is empty: nobody is served",
            'Set wire = "provisioning" below [autoscaler] in seed.toml.',
        )
    try:
        files = (paths.tls / "autoscaler.key", paths.tls / "autoscaler.pem", paths.autoscaler_pem)
        server, _port = serve(make(settings), address, *(path.read_bytes() for path in files))
    except (OSError, RuntimeError) as error:
        raise HostError(f"cannot answer at {address}: {error}", "seed up") from error
    log.info("autoscaler.started", address=address)
    signal.sigwait(STOP)
    server.stop(GRACE_SECONDS).wait()
    log.info("autoscaler.stopped")


def make(settings: Settings) -> Autoscaling:
    store, bundles = Store(settings.database_url), Paths(settings).bundles

    def image(session: Session, ref: str, insider: bool) -> Image:
        return standing.resolve(session, settings.image_dir, ref, insider)

    desk = Desk(
        store=store,
        # Sizes are rows: this process has no login at Ironic.
        ironic=Ironic(settings.ironic_url, "seed-autoscaler", SecretStr("")),
        image=image,
        undo=timedelta(seconds=settings.undo_seconds),
        turnaround=timedelta(seconds=settings.turnaround_seconds),
        grace=timedelta(seconds=settings.grace_seconds),
    )
    return Autoscaling(store, Clusters(store, desk, bundles))
