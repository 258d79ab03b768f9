"""BMCs that take a DHCP lease on the out-of-band network, found as the lease appears.

Of dnsmasq's lease file MAC and address are read and nothing else: what a client calls itself is its
own word. No login is given to the sweep that follows; as every sweep it uses the one that a packing
list has for this MAC, once.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

import structlog
from sqlmodel import Session, select

from provisioning import discovery
from provisioning.identity import mac_key
from provisioning.models import Bmc, now
from provisioning.observations import LEASE
from provisioning.room import Observation
from provisioning.store import Store, record

log = structlog.get_logger()

WHO = "dhcp"  # who asked for the sweep
# "expiry MAC address name client-id"; other lines are of DHCPv6 or another kind of hardware.
_LINE = re.compile(r"\d{1,20} ((?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}) (\d{1,3}(?:\.\d{1,3}){3}) .*")
_MAX_BYTES = 4 * 1024 * 1024  # dnsmasq is told to keep 4096 leases


@dataclass
class LeaseWatch:
    """Looks at the lease file; see `look`.

    start, end: the BMCs' pool; leases of other wires are not looked at.
    wire:       the interface's name, for people.
    """

    store: Store
    file: Path
    start: IPv4Address
    end: IPv4Address
    wire: str
    _known: dict[str, str] = field(default_factory=dict)

    def look(self) -> int:
        """Note what is new since the last look, and have it probed; how many that were."""
        leases = {m: a for m, a in parse(self._text()) if self.start <= IPv4Address(a) <= self.end}
        if leases == self._known:
            return 0
        with self.store.write() as session:
            fresh = self._note(session, leases)
            self._probe(session, fresh)
        self._known = leases
        return len(fresh)

    def _text(self) -> str:
        try:
            with self.file.open("rb") as file:
                return file.read(_MAX_BYTES).decode("utf-8", "replace")
        except OSError:
            log.warning("leases.unreadable", file=str(self.file), exc_info=True)
            return ""

    def _note(self, session: Session, leases: dict[str, str]) -> dict[str, str]:
        """One observation per MAC; the new ones. An address given away is nobody else's."""
        rows = session.exec(select(Observation).where(Observation.source == LEASE)).all()
        by_mac = {row.key: row for row in rows}
        fresh: dict[str, str] = {}
        for mac, row in by_mac.items():
            if leases.get(mac) != row.bmc_address:
                row.bmc_address = ""
        for mac, address in leases.items():
            row = by_mac.get(mac) or Observation(source=LEASE, key=mac, bmc_mac=mac)
            if row.bmc_address != address:
                fresh[mac] = address
                record(session, "observation.lease", address, f"{mac} took it", mac=mac)
            row.bmc_address, row.origin, row.seen_at = address, self.wire, now()
            session.add(row)
        return fresh

    @staticmethod
    def _probe(session: Session, fresh: dict[str, str]) -> None:
        """A sweep of what is not known there already."""
        strangers = sorted({a for m, a in fresh.items() if not _known_there(session, m, a)})
        if strangers:
            discovery.request(session, strangers, None, WHO)


def parse(text: str) -> Iterable[tuple[str, str]]:
    """(MAC, address) of each lease that is a NIC's and IPv4; everything else is passed over."""
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None or not mac_key(found[1]):
            continue
        try:
            yield mac_key(found[1]), str(IPv4Address(found[2]))
        except AddressValueError:
            continue


def _known_there(session: Session, mac: str, address: str) -> bool:
    bmc = session.exec(select(Bmc).where(Bmc.address == address)).first()
    return bmc is not None and mac_key(bmc.manager_mac) == mac
