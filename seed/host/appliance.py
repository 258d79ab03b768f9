"""`seed up`, `down`, `status`, `logs`: everything this machine does, as functions to call."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from ipxe import dnsmasq
from ipxe.bootspec import Nothing
from ipxe.render import DEFAULT, render_first, write_atomic, write_default
from provisioning import authority, relay
from provisioning.errors import HostError
from provisioning.ip_text import a_range
from provisioning.networks import networks
from provisioning.secrets import make_keys
from provisioning.store import Store
from seed.host import checks, ironic_conf, ironic_start, nginx_conf, supervision, tls, users
from seed.host.paths import Paths
from seed.host.services import Service, table
from seed.host.setup import init
from seed.host.supervisor import ServiceStatus
from seed.settings import Settings

Progress = Callable[[str, float], None]
"""Called after each step: what was done, and the seconds it took."""

READY_SECONDS = 60.0
"""After these a service that does not even run is given up."""
SLOW_SECONDS = 600.0
"""After these one that runs but does not answer: an emulated machine takes minutes."""


def silent(_step: str, _seconds: float) -> None:
    """A Progress that says nothing."""


def up(
    settings: Settings,
    progress: Progress = silent,
    prepare_database: Callable[[], None] | None = None,
    names: Collection[str] | None = None,
    extra_hardware: Sequence[str] = (),
) -> float:
    """Bring the appliance up; return the seconds until everything answered.

    Safe to repeat: a running appliance is left alone. The wait for the answers of foreign DHCP
    servers is not counted. prepare_database makes or upgrades our own database, as root, before
    the services start. names: only these services. extra_hardware: Ironic hardware types for tests.
    Raises HostError with a remedy; then nothing of ours runs.
    """
    _need_root()
    if supervision.of(settings).running(settings):
        return 0.0
    services = table(settings, names)
    with _timed("checks", progress):
        for findings in (checks.packages(), checks.disk(settings), checks.interfaces(settings)):
            checks.require(findings)
        checks.require(checks.ports(settings))
    probe = checks.start_probe(settings) if _has(services, "dnsmasq") else None
    begin = time.monotonic()
    try:
        prepare(settings, progress, prepare_database, extra_hardware)
        waited = _await_probe(settings, probe, progress)
    finally:
        if probe:
            probe.kill()
            probe.communicate()
    try:
        with _timed("services", progress):
            supervision.of(settings).start(settings, services)
        wait_ready(settings, services, progress)
    except BaseException:
        supervision.of(settings).stop(settings)
        raise
    return time.monotonic() - begin - waited


def _await_probe(
    settings: Settings, probe: "subprocess.Popen[str] | None", progress: Progress
) -> float:
    """Wait for the DHCP probe; return the seconds waited. Raises HostError if somebody answered."""
    if probe is None:
        return 0.0
    begin = time.monotonic()
    with _timed("no other DHCP server", progress):
        checks.require(iter([checks.finish_probe(settings, probe)]))
    return time.monotonic() - begin


def prepare(
    settings: Settings,
    progress: Progress = silent,
    prepare_database: Callable[[], None] | None = None,
    extra_hardware: Sequence[str] = (),
) -> None:
    """Users, folders, keys, loaders, configuration and databases; starts nothing. Repeatable."""
    with _timed("users and folders", progress):
        users.ensure(settings)
    with _timed("keys and certificates", progress):
        paths = Paths(settings)
        tls.ensure(settings)
        ironic_conf.ensure_accounts(settings)
        make_keys(paths.master_key, paths.master_pub)
        make_keys(paths.images_key, paths.images_pub)
        authority.make(paths.bmc_ca_key, paths.bmc_ca_pem)
        authority.make(paths.autoscaler_key, paths.autoscaler_pem, "autoscaler")
    with _timed("configuration", progress):
        write_configuration(settings, extra_hardware)
        users.fix_files(settings)
    with _timed("Ironic's database", progress):
        (ironic,) = table(settings, ["ironic"])
        ironic_conf.ensure_database(settings, ironic)
    with _timed("our database", progress):
        if prepare_database:
            prepare_database()
            write_dhcp(settings, _relayed(settings))
        users.fix_files(settings)


def _bmc_pool(settings: Settings) -> dnsmasq.BmcPool | None:
    wire = settings.out_of_band
    if not wire.leases:
        return None
    return dnsmasq.BmcPool(wire.interface, wire.address, wire.pool_start, wire.pool_end)


def write_dhcp(settings: Settings, relayed: tuple[dnsmasq.RelayedPool, ...] = ()) -> None:
    """dnsmasq reads it at its start alone: a range that was put since counts from `seed up` on."""
    paths = Paths(settings)
    wire = settings.provisioning
    dhcp = dnsmasq.Dhcp(
        interface=wire.interface,
        address=wire.address,
        unknown_start=wire.unknown_start,
        unknown_end=wire.unknown_end,
        boot_url=settings.boot_url,
        hosts_dir=paths.hosts,
        lease_file=paths.leases,
        tftp_dir=paths.tftp,
        bmcs=_bmc_pool(settings),
        relayed=relayed,
    )
    write_atomic(paths.dnsmasq_conf, dnsmasq.render(dhcp))


def _relayed(settings: Settings) -> tuple[dnsmasq.RelayedPool, ...]:
    """The ranges behind relays, from our own rows."""
    with Store(settings.database_url).read() as session:
        found = list(relay.ranges(networks(session)))
    return tuple(
        dnsmasq.RelayedPool(
            one.range.net,
            IPv4Address(one.range.gateway),
            *(IPv4Address(int(end)) for end in a_range(one.range.unknown)),
        )
        for one in found
    )


def write_configuration(settings: Settings, extra_hardware: Sequence[str] = ()) -> None:
    """Write everything that follows from the settings alone."""
    paths = Paths(settings)
    write_dhcp(settings)
    write_atomic(paths.nginx_conf, nginx_conf.render(settings))
    _copy(Path(ironic_start.__file__), paths.ironic_start)
    write_atomic(paths.ironic_conf, ironic_conf.render(settings, extra_hardware))
    write_atomic(settings.http_dir / "boot.ipxe", render_first(settings.boot_url))
    if not (paths.boot / DEFAULT).exists():  # kept if discovery was switched on
        write_default(settings.http_dir, Nothing())
    for name in dnsmasq.LOADERS:
        _copy(checks.LOADER_DIR / name, paths.tftp / name)


def _copy(source: Path, target: Path) -> None:
    if target.exists() and target.read_bytes() == source.read_bytes():
        return
    temporary = target.with_name(f".{target.name}")
    shutil.copyfile(source, temporary)
    temporary.chmod(0o644)
    temporary.replace(target)


def wait_ready(settings: Settings, services: Sequence[Service], progress: Progress) -> None:
    """Wait until every service runs and answers. Raises HostError naming those that do not."""
    begin = time.monotonic()
    waiting = list(services)
    while True:
        looked = time.monotonic()
        states = supervision.of(settings).states(settings)
        for service in [s for s in waiting if states.get(s.name) == "RUNNING" and s.ready()]:
            waiting.remove(service)
            progress(f"{service.name} answers", time.monotonic() - begin)
        if not waiting:
            return
        took = time.monotonic() - begin
        runs = all(states.get(service.name) == "RUNNING" for service in waiting)
        if took > (SLOW_SECONDS if runs else READY_SECONDS):
            names = ", ".join(service.name for service in waiting)
            raise HostError(
                f"{names} did not answer within {took:.0f} s", f"seed logs {waiting[0].name}"
            )
        # As long as looking took: on a slow machine the services need the processor more.
        time.sleep(max(0.1, time.monotonic() - looked))


def down(settings: Settings, progress: Progress = silent) -> None:
    """Stop everything. Raises HostError if a process remains. Safe to repeat."""
    _need_root()
    with _timed("services stopped", progress):
        supervision.of(settings).stop(settings)
    for socket in (settings.api_socket, settings.web_socket, settings.gateway_socket):
        socket.unlink(missing_ok=True)


def status(settings: Settings) -> list[ServiceStatus]:
    """How each service is. Raises HostError if the appliance is down."""
    return supervision.of(settings).status(settings)


def reload_dhcp(settings: Settings) -> None:
    """Make dnsmasq forget the hosts whose files were removed. Needs root."""
    supervision.of(settings).reload(settings, "dnsmasq")


def logs(settings: Settings, service: str, follow: bool = False, lines: int = 100) -> Iterator[str]:
    """The last `lines` lines of a service's log, and with `follow` what is added, for ever."""
    return supervision.of(settings).logs(settings, service, follow, lines)


def _has(services: Sequence[Service], name: str) -> bool:
    return any(service.name == name for service in services)


def _need_root() -> None:
    if os.geteuid() != 0:
        raise HostError("this needs root", "sudo seed up")


@contextmanager
def _timed(step: str, progress: Progress) -> Iterator[None]:
    begin = time.monotonic()
    yield
    progress(step, time.monotonic() - begin)


__all__ = [
    "Progress",
    "ServiceStatus",
    "down",
    "init",
    "logs",
    "prepare",
    "reload_dhcp",
    "status",
    "up",
    "wait_ready",
    "write_configuration",
]
