"""dnsmasq: DHCP and TFTP on the provisioning wire, nothing else.

Known MACs have one file each in a folder that dnsmasq watches (dhcp-hostsdir). It reads new and
changed files at once, but it forgets a removed file only when it gets SIGHUP or is restarted.
So an address that `remove_host` set free must not be given to another MAC before that.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from ipxe.bootspec import checked_interface, checked_mac, checked_path, checked_url, hyphened
from ipxe.render import write_atomic
from provisioning.errors import Invalid

LOADERS = {"undionly.kpxe": "bios", "snponly.efi": "uefi"}
"""File in the TFTP root by the firmware it is for."""

# RFC 4578 2.1 and the IANA registry "Processor Architecture Types": 7 is what firmware sends for
# x86-64 although the RFC says 9. arm64 (11) is left out: no loader for it is shipped.
ARCHITECTURES = {0: "bios", 7: "uefi", 9: "uefi"}

_HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class BmcPool:
    """Leases for BMCs on the out-of-band wire: addresses, and nothing to boot.

    address: our address and prefix there.
    """

    interface: str
    address: IPv4Interface
    start: IPv4Address
    end: IPv4Address


@dataclass(frozen=True, slots=True)
class RelayedPool:
    """Servers behind a router that relays their questions to us, and is their way to us.

    start, end: for MACs that nobody knows; known ones have addresses of `network` each.
    """

    network: IPv4Network
    gateway: IPv4Address
    start: IPv4Address
    end: IPv4Address


@dataclass(frozen=True, slots=True)
class Dhcp:
    """What dnsmasq is told.

    interface:     the only one it answers on.
    address:       our address and prefix there.
    unknown_start, unknown_end: pool for MACs nobody knows.
    bmcs:          where BMCs take leases from us; none unless set.
    relayed:       ranges behind relays, which ask from their own address there (giaddr).
    router:        default gateway handed out; none unless set.
    lease_seconds, unknown_lease_seconds: lease times of known and unknown MACs.
    """

    interface: str
    address: IPv4Interface
    unknown_start: IPv4Address
    unknown_end: IPv4Address
    boot_url: str
    hosts_dir: Path
    lease_file: Path
    tftp_dir: Path
    router: IPv4Address | None = None
    bmcs: BmcPool | None = None
    relayed: tuple[RelayedPool, ...] = ()
    lease_seconds: int = 3600
    unknown_lease_seconds: int = 600

    def __post_init__(self) -> None:
        checked_url(self.boot_url)
        for name in (self.interface, *([self.bmcs.interface] if self.bmcs else [])):
            checked_interface(name)
        for path in (self.hosts_dir, self.lease_file, self.tftp_dir):
            checked_path(path)


def render(dhcp: Dhcp) -> str:
    """dnsmasq.conf for `dhcp`."""
    environment = Environment(
        loader=PackageLoader("ipxe"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  a configuration file, from values checked above
    )
    template = environment.get_template("dnsmasq.conf")
    return template.render(dhcp=dhcp, architectures=ARCHITECTURES, loaders=LOADERS)


def write_host(hosts_dir: Path, mac: str, address: IPv4Address, hostname: str) -> None:
    """Give `mac` always `address` and `hostname`. dnsmasq acts on it at once. Safe to repeat.

    Raises Invalid for a MAC that is not EUI-48 or a name that is not one RFC 1123 label.
    """
    if not _HOSTNAME.fullmatch(hostname):
        raise Invalid(f"{hostname!r} is not a host name", "use letters, digits and hyphens")
    path, text = hosts_dir / hyphened(mac), f"{checked_mac(mac)},{address},{hostname}\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text, 0o640)


def remove_host(hosts_dir: Path, mac: str) -> None:
    """Forget `mac`. dnsmasq goes on answering it until SIGHUP or restart. Safe to repeat."""
    (hosts_dir / hyphened(mac)).unlink(missing_ok=True)
