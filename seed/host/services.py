"""The one table of services. Renderers turn it into supervisor's configuration or systemd units."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from provisioning.errors import Invalid
from seed.host import ready
from seed.host.paths import Paths
from seed.settings import Settings, config_file

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
"""Ironic needs ipmitool and mkisofs on it, or its conductor does not start."""


@dataclass(frozen=True, slots=True)
class Service:
    """One process that we keep running.

    user:         runs as this user and its group of the same name.
    groups:       supplementary groups.
    needs:        services that are started before this one.
    writable:     folders it writes to; everything else is read-only under systemd.
    capabilities: Linux capabilities it keeps, without "CAP_".
    families:     address families it opens sockets of, besides AF_UNIX.
    umask:        octal.
    jails:        whether it makes namespaces of its own, to look at foreign files in.
    network:      whether it lives in the appliance's network namespace.
    stop_seconds: time from SIGTERM to SIGKILL.
    ready:        True once it answers.
    """

    name: str
    argv: tuple[str, ...]
    user: str
    ready: Callable[[], bool]
    groups: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    writable: tuple[Path, ...] = ()
    capabilities: tuple[str, ...] = ()
    families: tuple[str, ...] = ("AF_INET", "AF_INET6", "AF_NETLINK")
    umask: int = 0o027
    jails: bool = False
    network: bool = True
    stop_seconds: int = 10


def _ironic(settings: Settings, paths: Paths) -> Service:
    python = settings.env_dir / "ironic" / "bin" / "python"
    return Service(
        name="ironic",
        argv=(str(python), str(paths.ironic_start), "--config-file", str(paths.ironic_conf)),
        user="seed-ironic",
        ready=lambda: ready.ironic(settings),
        env={"PATH": PATH, "HOME": str(paths.ironic)},
        writable=(paths.ironic, paths.ironic_http, settings.log_dir / "ironic"),
        umask=0o022,  # nginx serves its boot files; its own folder is 0700
        stop_seconds=30,
    )


def _dnsmasq(settings: Settings, paths: Paths) -> Service:
    return Service(
        name="dnsmasq",
        argv=("/usr/sbin/dnsmasq", "--keep-in-foreground", f"--conf-file={paths.dnsmasq_conf}"),
        user="seed-dnsmasq",
        ready=lambda: ready.udp_port(settings, 67),
        env={"PATH": PATH},
        writable=(paths.leases.parent,),
        # ARP entries for clients without an address, ICMP echo before an offer, ports 67 and 69.
        capabilities=("NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"),
        families=("AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET"),
        umask=0o022,
    )


def _nginx(settings: Settings, paths: Paths) -> Service:
    return Service(
        name="nginx",
        argv=("/usr/sbin/nginx", "-e", "stderr", "-c", str(paths.nginx_conf)),
        user="seed-nginx",
        ready=lambda: ready.boot_files(settings),
        env={"PATH": PATH},
        writable=(paths.nginx, settings.log_dir / "nginx"),
        capabilities=("NET_BIND_SERVICE",),
    )


def _api(settings: Settings, paths: Paths) -> Service:
    return Service(
        name="seed-api",
        argv=(str(settings.env_dir / "seed" / "bin" / "python"), "-m", "seed", "serve", "api"),
        user="seed-api",
        ready=lambda: ready.api(settings),
        groups=("seed", "seed-db", "seed-nginx"),  # the last two for its sockets' group
        env={"PATH": PATH, "SEED_CONFIG": str(config_file())},
        needs=("ironic",),
        writable=(paths.db, settings.run_dir, paths.incoming),
        umask=0o007,
    )


def _reconciler(settings: Settings, paths: Paths) -> Service:
    python = str(settings.env_dir / "seed" / "bin" / "python")
    return Service(
        name="seed-reconciler",
        argv=(python, "-m", "seed", "serve", "reconciler"),
        user="seed-reconciler",
        ready=lambda: True,  # it listens nowhere
        groups=("seed-db",),
        env={"PATH": PATH, "SEED_CONFIG": str(config_file())},
        needs=("ironic", "dnsmasq"),
        writable=(paths.db, paths.boot, paths.hosts, paths.bmc_ca, paths.ansible),
        umask=0o007,
    )


def _images(settings: Settings, paths: Paths) -> Service:
    python = str(settings.env_dir / "seed" / "bin" / "python")
    return Service(
        name="seed-images",
        argv=(python, "-m", "seed", "serve", "images"),
        user="seed-images",
        ready=lambda: True,  # it listens nowhere
        groups=("seed-db",),
        env={"PATH": PATH, "SEED_CONFIG": str(config_file())},
        writable=(paths.db, settings.image_dir, paths.incoming),
        umask=0o007,
        jails=True,
    )


def _autoscaler(settings: Settings, paths: Paths) -> Service:
    python = str(settings.env_dir / "seed" / "bin" / "python")
    return Service(
        name="seed-autoscaler",
        argv=(python, "-m", "seed", "serve", "autoscaler"),
        user="seed-autoscaler",
        ready=lambda: ready.autoscaler(settings),
        groups=("seed-db",),
        # gRPC's own words, one line for each stranger that no certificate lets in.
        env={"PATH": PATH, "SEED_CONFIG": str(config_file()), "GRPC_VERBOSITY": "NONE"},
        writable=(paths.db,),
        umask=0o007,
    )


_TABLE = (_ironic, _dnsmasq, _nginx, _api, _reconciler, _images)


def table(settings: Settings, names: Collection[str] | None = None) -> tuple[Service, ...]:
    """All services, or those in `names`. Raises Invalid for a name that is none."""
    wanted = (*_TABLE, _autoscaler) if settings.autoscaler_address else _TABLE
    services = tuple(make(settings, Paths(settings)) for make in wanted)
    known = {service.name for service in services}
    if names is None:
        return services
    if unknown := set(names) - known:
        raise Invalid(
            f"there is no service {sorted(unknown)[0]!r}",
            f"seed logs SERVICE, one of: {', '.join(sorted(known))}",
        )
    return tuple(service for service in services if service.name in names)
