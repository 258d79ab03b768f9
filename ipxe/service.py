"""Keeps DHCP reservations and boot files in line with what provisioning wants served."""

import threading
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from ipxe import dnsmasq, render
from ipxe.bootspec import Nothing, Ramdisk, Standing, choose, hyphened
from provisioning.wire import WireState


@dataclass
class BootFiles:
    """Writes only what differs; a file that was lost comes back at the next pass.

    unknown:  what a MAC nobody knows boots while such a server is being inspected.
    discover: whether it boots that at all times, to say what it is.
    """

    http_dir: Path
    hosts_dir: Path
    boot_url: str
    unknown: Ramdisk
    discover: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, wanted: WireState) -> None:
        with self._lock:
            for mac, (address, hostname) in wanted.hosts.items():
                dnsmasq.write_host(self.hosts_dir, mac, IPv4Address(address), hostname)
            for mac in {*wanted.hosts, *wanted.booting}:
                standing = Standing.ORDERED if mac in wanted.booting else Standing.IDLE
                render.write_boot_file(self.http_dir, mac, choose(standing, mac, self.boot_url))
            default = self.unknown if self.discover or wanted.inspect_unknown else Nothing()
            path = self.http_dir / "boot" / render.DEFAULT
            if not path.exists() or path.read_text() != render.render(default):
                render.write_default(self.http_dir, default)
            self._forget({*wanted.hosts, *wanted.booting})

    def _forget(self, macs: set[str]) -> None:
        known = {hyphened(mac) for mac in macs}
        for path in [*(self.http_dir / "boot").iterdir(), *self.hosts_dir.iterdir()]:
            if path.name not in known and path.name != render.DEFAULT and path.name[0] != ".":
                path.unlink(missing_ok=True)
