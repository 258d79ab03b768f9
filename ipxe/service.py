"""Keeps DHCP reservations and boot files in line with what provisioning wants served."""

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from ipxe import dnsmasq, render
from ipxe.bootspec import Nothing, Ramdisk, Standing, choose, hyphened
from provisioning.wire import WireState

WHOLE_SECONDS = 10.0
"""How often every file is looked for. In between, only what changed is compared."""

Mark = tuple[int, int, int]
"""A file as it was written: inode, time (ns), size. Thousands are not read to see if they are."""


@dataclass
class BootFiles:
    """Writes only what differs; a file that was lost comes back at the first call after
    WHOLE_SECONDS.

    unknown:  what a MAC nobody knows boots while such a server is being inspected.
    discover: whether it boots that at all times, to say what it is.
    """

    http_dir: Path
    hosts_dir: Path
    boot_url: str
    unknown: Ramdisk
    discover: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _served: WireState | None = None
    _compared_at: float = 0.0
    _marks: dict[str, Mark] = field(default_factory=dict)

    def serve(self, wanted: WireState) -> None:
        with self._lock:
            whole = self._served is None or time.monotonic() > self._compared_at + WHOLE_SECONDS
            if not whole and wanted == self._served:
                return
            before = self._served or WireState()
            for mac in _changed(before, wanted) | self._lost(wanted, whole):
                self._serve_one(mac, wanted)
            default = self.unknown if self.discover or wanted.inspect_unknown else Nothing()
            path = self.http_dir / "boot" / render.DEFAULT
            if not path.exists() or path.read_text() != render.render(default):
                render.write_default(self.http_dir, default)
            macs = {*wanted.hosts, *wanted.booting}
            for mac in {*before.hosts, *before.booting} - macs:
                for gone in self._paths(mac):
                    Path(gone).unlink(missing_ok=True)
                    self._marks.pop(gone, None)
            self._served = wanted
            if whole:
                self._forget(macs)
                self._compared_at = time.monotonic()

    def _serve_one(self, mac: str, wanted: WireState) -> None:
        if mac in wanted.hosts:
            address, hostname = wanted.hosts[mac]
            dnsmasq.write_host(self.hosts_dir, mac, IPv4Address(address), hostname)
        standing = Standing.ORDERED if mac in wanted.booting else Standing.IDLE
        render.write_boot_file(self.http_dir, mac, choose(standing, mac, self.boot_url))
        for path in self._paths(mac):
            self._marks.pop(path, None)
            with suppress(FileNotFoundError):  # who only boots has no reservation
                self._marks[path] = _mark(Path(path).lstat())

    def _lost(self, wanted: WireState, whole: bool) -> set[str]:
        """MACs whose files are not as they were written last; all of them after a start."""
        if not whole or self._served is None:
            return set()
        found = {**_marks(self.http_dir / "boot"), **_marks(self.hosts_dir)}
        paths = {mac: self._paths(mac) for mac in {*wanted.hosts, *wanted.booting}}
        return {
            mac
            for mac, own in paths.items()
            if any(found.get(path) != self._marks.get(path) for path in own)
        }

    def _paths(self, mac: str) -> tuple[str, str]:
        name = hyphened(mac)
        return str(self.http_dir / "boot" / name), str(self.hosts_dir / name)

    def _forget(self, macs: set[str]) -> None:
        known = {hyphened(mac) for mac in macs}
        for path in [*(self.http_dir / "boot").iterdir(), *self.hosts_dir.iterdir()]:
            if path.name not in known and path.name != render.DEFAULT and path.name[0] != ".":
                path.unlink(missing_ok=True)


def _marks(folder: Path) -> dict[str, Mark]:
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                found[entry.path] = _mark(entry.stat(follow_symlinks=False))
    return found


def _mark(told: os.stat_result) -> Mark:
    return told.st_ino, told.st_mtime_ns, told.st_size


def _changed(before: WireState, wanted: WireState) -> set[str]:
    """MACs whose answer is not what it was."""
    hosts = {mac for mac, told in wanted.hosts.items() if before.hosts.get(mac) != told}
    return hosts | (wanted.booting ^ before.booting) & ({*wanted.hosts} | wanted.booting)
