"""Is this machine fit? Each check returns findings; `doctor` runs all of them.

The same checks guard `seed up`: the first finding that is not ok stops it.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from provisioning.errors import HostError
from seed.host import netns, ready, supervision, tls, users
from seed.host.paths import Paths
from seed.host.services import PATH
from seed.settings import Settings, Wire

MIN_FREE_GIB = 5
LOADER_DIR = Path("/usr/lib/ipxe")
# Program to the Debian package that holds it.
PROGRAMS = {
    "dnsmasq": "dnsmasq-base",
    "nginx": "nginx-light",
    "ip": "iproute2",
    "ss": "iproute2",
    "ipmitool": "ipmitool",
    "mkisofs": "genisoimage",
    "qemu-img": "qemu-utils",
    "bwrap": "bubblewrap",
    "setpriv": "util-linux",
}
_USERS = re.compile(r'\(\("([^"]+)",pid=(\d+)')


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    check:    short name.
    ok:       whether it is as it should be.
    sentence: what was seen.
    remedy:   what to type; empty if ok.
    """

    check: str
    ok: bool
    sentence: str
    remedy: str = ""


def require(findings: Iterator[Finding]) -> None:
    """Raise HostError for the first finding that is not ok."""
    for finding in findings:
        if not finding.ok:
            raise HostError(finding.sentence, finding.remedy)


def wires(settings: Settings) -> dict[str, Wire]:
    return {
        "management": settings.management,
        "provisioning": settings.provisioning,
        "out-of-band": settings.out_of_band,
    }


def interfaces(settings: Settings) -> Iterator[Finding]:
    """Every configured interface exists and has the configured address."""
    seen = netns.addresses(settings.namespace)
    command = f"ip {f'-n {settings.namespace} ' if settings.namespace else ''}address"
    for role, wire in wires(settings).items():
        name = wire.interface
        if name not in seen:
            others = ", ".join(sorted(seen)) or "none"
            yield Finding(
                "interfaces",
                False,
                f"the {role} interface {name} does not exist; there are: {others}",
                f"{command.replace(' address', ' link')} show, then seed init --force",
            )
        elif wire.address not in seen[name]:
            yield Finding(
                "interfaces",
                False,
                f"the {role} interface {name} does not have the address {wire.address}",
                f"{command} add {wire.address} dev {name}",
            )
        else:
            yield Finding("interfaces", True, f"{role}: {name} has {wire.address}")


def packages() -> Iterator[Finding]:
    """Every program we start is installed."""
    for program, package in PROGRAMS.items():
        found = shutil.which(program, path=PATH)
        if not found:
            yield Finding(
                "packages", False, f"{program} is not installed", f"apt-get install {package}"
            )
    for file in ("undionly.kpxe", "snponly.efi"):
        if not (LOADER_DIR / file).exists():
            yield Finding("packages", False, f"{file} is not there", "apt-get install ipxe")
    yield Finding("packages", True, "all programs are there")


def disk(settings: Settings) -> Iterator[Finding]:
    """Enough room where the state lives."""
    path = settings.state_dir
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free / 2**30
    if free < MIN_FREE_GIB:
        yield Finding(
            "disk",
            False,
            f"{settings.state_dir} has {free:.1f} GiB free, {MIN_FREE_GIB} GiB are needed",
            f"free some space: du -xh --max-depth=2 {path} | sort -h | tail",
        )
    else:
        yield Finding("disk", True, f"{free:.0f} GiB free in {settings.state_dir}")


def ports(settings: Settings) -> Iterator[Finding]:
    """Nobody else listens where our services will. Meant for when they are down."""
    wanted = {
        ("tcp", settings.ironic_port): ("127.0.0.1", "Ironic"),
        ("tcp", 80): (str(settings.provisioning.address.ip), "boot files"),
        ("tcp", 443): (str(settings.provisioning.address.ip), "the node gateway"),
        ("tcp", settings.api_port): (str(settings.management.address.ip), "the API"),
        ("udp", 67): ("0.0.0.0", "DHCP"),  # noqa: S104  where dnsmasq listens
        ("udp", 69): (str(settings.provisioning.address.ip), "TFTP"),
    }
    if settings.autoscaler_address:
        address = settings.autoscaler_address.rpartition(":")[0]
        wanted["tcp", settings.autoscaler.port] = (address, "clusters' autoscalers")
    bad = False
    for (protocol, port), (address, purpose) in wanted.items():
        holder = _holder(_sockets(settings.namespace), protocol, address, port)
        if holder:
            bad = True
            yield Finding(
                "ports",
                False,
                f"{holder[0]} (pid {holder[1]}) already listens on {protocol} port {port} of "
                f"{address}, needed for {purpose}",
                f"stop it: kill {holder[1]}" if holder[1] else "stop it",
            )
    if not bad:
        yield Finding("ports", True, "all ports are free")


def _sockets(namespace: str) -> list[tuple[str, str, int, str, int]]:
    """(protocol, local address, port, process, pid) of every listening socket."""
    done = netns.run(namespace, ["ss", "-Hlntup4"], timeout=10)
    found = []
    for line in done.stdout.splitlines():
        words = line.split()
        address, port = words[4].rsplit(":", 1)
        owner = _USERS.search(line)
        name, number = (owner[1], int(owner[2])) if owner else ("a process", 0)
        found.append((words[0], address.split("%")[0], int(port), name, number))
    return found


def _holder(
    sockets: list[tuple[str, str, int, str, int]], protocol: str, address: str, port: int
) -> tuple[str, int] | None:
    """Who listens there, on that address or on all of them."""
    everywhere = ("0.0.0.0", "*")  # noqa: S104  as ss prints it
    for kind, local, number, name, pid in sockets:
        same = local == address or local in everywhere or address in everywhere
        if kind == protocol and number == port and same:
            return name, pid
    return None


def start_probe(settings: Settings) -> subprocess.Popen[str]:
    """Begin to ask who else answers DHCP where we shall; see `finish_probe`."""
    script = str(Path(__file__).with_name("dhcp_probe.py"))
    argv = [sys.executable, "-I", script, *_dhcp_wires(settings)]
    return subprocess.Popen(
        [*netns.prefix(settings.namespace), *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _dhcp_wires(settings: Settings) -> list[str]:
    wires = [settings.provisioning.interface]
    return wires + ([settings.out_of_band.interface] if settings.out_of_band.leases else [])


def finish_probe(settings: Settings, child: subprocess.Popen[str]) -> Finding:
    """What the probe saw. Never waits longer than 20 s."""
    names = " and ".join(_dhcp_wires(settings))
    try:
        out, _ = child.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        out = ""
    if child.returncode != 0 or not out:
        return Finding("dhcp", False, f"{names} could not be asked for DHCP servers", "seed doctor")
    for name, servers in json.loads(out).items():
        if servers:
            return Finding(
                "dhcp",
                False,
                f"another DHCP server {', '.join(servers)} answers on {name}; two of them on one "
                "wire would give servers the wrong boot file",
                f"switch it off or move {name} to a wire of its own, then: seed up",
            )
    return Finding("dhcp", True, f"no other DHCP server answers on {names}")


def ramdisk(settings: Settings) -> Iterator[Finding]:
    """The ramdisk that Ironic boots is published."""
    folder = settings.image_dir / "ramdisk" / "current"
    missing = [name for name in ("kernel", "initramfs") if not (folder / name).exists()]
    if missing:
        yield Finding("ramdisk", False, "no ramdisk is published", "seed image build ramdisk")
    else:
        yield Finding("ramdisk", True, f"the ramdisk is {folder.resolve().name}")


def certificates(settings: Settings) -> Iterator[Finding]:
    """TLS certificates exist and last."""
    for name in ("ca", *sorted(tls.servers(settings))):
        path = Paths(settings).tls / f"{name}.pem"
        if not path.exists():
            yield Finding("tls", False, f"{path} does not exist", "seed up")
            continue
        days = tls.days_left(path)
        good = days > tls.RENEW_DAYS / 2
        yield Finding(
            "tls",
            good,
            f"{path.name} ends in {days:.0f} days",
            "" if good else "seed down, seed up",
        )


def clock(settings: Settings) -> Iterator[Finding]:
    """The clock is not behind what we already wrote: TLS and cloud-init would fail."""
    path = Paths(settings).tls / "ca.pem"
    now = datetime.now(UTC)
    if path.exists() and now < tls.load(path).not_valid_before_utc:
        yield Finding(
            "clock",
            False,
            f"the clock says {now:%Y-%m-%d %H:%M} UTC, which is before the CA was made",
            "set it: date -u -s 'YYYY-MM-DD HH:MM'",
        )
    else:
        yield Finding("clock", True, f"the clock says {now:%Y-%m-%d %H:%M} UTC")


def permissions(settings: Settings) -> Iterator[Finding]:
    """Owners and modes of folders and secrets are as `seed up` set them."""
    places = [p for p in users.files(settings) if p.path.exists()] + list(users.folders(settings))
    bad = [said for place in places if (said := users.wrong(place))]
    for said in bad:
        yield Finding("permissions", False, said, "seed up puts owners and modes right")
    if not bad:
        yield Finding("permissions", True, f"owners and modes of {len(places)} places are right")


def running(settings: Settings) -> Iterator[Finding]:
    """Services run, and Ironic has its drivers."""
    for service in supervision.of(settings).status(settings):
        good = service.state == "RUNNING"
        yield Finding(
            "services",
            good,
            f"{service.name} is {service.state}, {service.restarts} restarts",
            "" if good else f"seed logs {service.name}",
        )
    drivers = ready.ironic_drivers(settings)
    good = {"redfish", "ipmi"} <= drivers
    yield Finding(
        "ironic",
        good,
        f"Ironic's drivers: {', '.join(sorted(drivers)) or 'none, it does not answer'}",
        "" if good else "seed logs ironic",
    )


def doctor(settings: Settings) -> list[Finding]:
    """Everything at once, for a person to read. Changes nothing."""
    found = list(_guarded("interfaces", interfaces(settings)))
    found += [*packages(), *disk(settings), *clock(settings)]
    if supervision.of(settings).running(settings):
        found += _guarded("services", running(settings))
    else:
        found.append(Finding("services", False, "the appliance is not running", "seed up"))
        found += _guarded("ports", ports(settings))
        found.append(finish_probe(settings, start_probe(settings)))
    found += [*certificates(settings), *permissions(settings), *ramdisk(settings)]
    return found


def _guarded(check: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """`findings`, and an error among them as one more finding."""
    try:
        yield from findings
    except HostError as error:
        yield Finding(check, False, str(error), error.remedy)
