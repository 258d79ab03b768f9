"""Wires the reconciler together. It holds the master key and listens nowhere."""

import os
import signal
import ssl
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import structlog
from pydantic import SecretStr

import provisioning.bmc
from ipxe.bootspec import discovery as discovery_ramdisk
from ipxe.service import BootFiles
from provisioning import image, installers, plugins, relay
from provisioning.authority import Authority
from provisioning.bmc import Access, BmcProtocol
from provisioning.discovery import Finder
from provisioning.errors import VaultUnavailable
from provisioning.hook_delivery import Courier, surroundings
from provisioning.ironic import Ironic
from provisioning.leases import LeaseWatch
from provisioning.models import Credential
from provisioning.networks import Pool
from provisioning.parts import Parts
from provisioning.playbooks import Playbooks
from provisioning.reconcile import Reconciler
from provisioning.secrets import Sealer, Unsealer
from provisioning.store import Store
from provisioning.vault import Vault, in_vault
from seed import log as logs
from seed.host.paths import Paths
from seed.settings import Settings

log = structlog.get_logger()
OWN = "debian"
"""The installer whose environment Seed brings along: env_dir/ansible."""


def serve_reconciler(settings: Settings) -> None:
    """Until SIGTERM; then the running steps have some seconds to end."""
    logs.configure(sys.stdout)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    log.info("reconciler.started")
    all_ended = make(settings).run(stop)
    log.info("reconciler.stopped", all_ended=all_ended)
    if not all_ended:  # a BMC that hangs, say; Python would wait for its thread
        sys.stdout.flush()
        os._exit(0)


def make(settings: Settings) -> Reconciler:
    paths = Paths(settings)
    unsealer = Unsealer(paths.master_key)
    store = Store(settings.database_url)
    access = open_logins(unsealer, _vault(settings))
    protocols: dict[str, BmcProtocol] = plugins.load(provisioning.bmc)
    password = paths.ironic_password("seed-reconciler").read_text().strip()
    wire = settings.provisioning
    parts = Parts(
        store=store,
        ironic=Ironic(settings.ironic_url, "seed-reconciler", SecretStr(password)),
        protocols=protocols,
        access=access,
        sealer=Sealer(paths.master_pub),
        authority=Authority(paths.bmc_ca_key, paths.bmc_ca_pem),
        token=unsealer.token,
        unseal=unsealer.open,
        pool=Pool(wire.address, wire.pool_start, wire.pool_end, relay.of_node),
        boot=BootFiles(
            http_dir=settings.http_dir,
            hosts_dir=paths.hosts,
            boot_url=settings.boot_url,
            unknown=discovery_ramdisk(
                settings.boot_url, settings.gateway_url, settings.console_args
            ),
            discover=settings.discovery_ramdisk,
        ),
        ca_dir=paths.bmc_ca,
        image=lambda name: image.find(settings.image_dir, name),
        boot_url=settings.boot_url,
        gateway_url=settings.gateway_url,
        gateway_ca=paths.tls / "ca.pem",
        undo=timedelta(seconds=settings.undo_seconds),
        turnaround=timedelta(seconds=settings.turnaround_seconds),
        playbooks=_playbooks(settings, paths),
    )
    finder = Finder(store, protocols, access, parts.sealer)
    return Reconciler(
        parts=parts,
        finder=finder,
        leases=_leases(settings, store, paths),
        courier=_courier(settings, store, unsealer),
    )


def _playbooks(settings: Settings, paths: Paths) -> dict[str, Playbooks]:
    """Of what is named in seed.toml; Seed's own environment has the playbooks that are its own."""
    found, told = {}, settings.ansible
    if told.runner and told.kubespray:
        found["kubespray"] = Playbooks(Path(told.runner), Path(told.kubespray), paths.ansible)
    for one in plugins.load(installers).values():
        named = settings.installers.get(one.environment)
        runner = Path(named.runner) if named else settings.env_dir / "ansible/bin/ansible-runner"
        if one.environment and (named or one.environment == OWN):
            found[one.environment] = Playbooks(runner, one.project(runner), paths.ansible)
    return found


def _courier(settings: Settings, store: Store, unsealer: Unsealer) -> Courier:
    def trust() -> ssl.SSLContext:
        context = ssl.create_default_context()
        if settings.webhook_ca_file:
            context.load_verify_locations(settings.webhook_ca_file)
        return context

    return Courier(
        store=store,
        unseal=unsealer.open,
        source=f"https://{settings.management.address.ip}:{settings.api_port}",
        refuses=surroundings(settings.out_of_band.address.network),
        trust=trust,
    )


def _leases(settings: Settings, store: Store, paths: Paths) -> LeaseWatch | None:
    wire = settings.out_of_band
    if not wire.leases:
        return None
    return LeaseWatch(store, paths.leases, wire.pool_start, wire.pool_end, wire.interface)


def open_logins(unsealer: Unsealer, vault: Vault | None = None) -> Callable[[Credential], Access]:
    def open_login(credential: Credential) -> Access:
        if in_vault(credential):
            username, secret = _ask(vault, credential.name)
            password = secret.get_secret_value()
        else:
            username = credential.username
            password = unsealer.open(credential.sealed, f"credential:{credential.id}")
        return Access(
            username=username,
            password=SecretStr(password),
            mark=unsealer.token(f"login:{username}:{password}")[:16],
        )

    return open_login


def _vault(settings: Settings) -> Vault | None:
    told = settings.vault
    ca_file = Path(told.ca_file) if told.ca_file else None
    return Vault(told.url, told.token_file, ca_file) if told.url else None


def _ask(vault: Vault | None, reference: str) -> tuple[str, SecretStr]:
    if vault is None:
        raise VaultUnavailable(
            f"{reference} is in a vault, and no vault is configured",
            "Add `[vault]` with url and token_file to seed.toml, then `seed down` and `seed up`.",
        )
    return vault.read(reference)
