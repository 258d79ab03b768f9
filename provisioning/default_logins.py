"""Logins that vendors ship, from their public manuals. Tried only when a person asks for it.

At most TRIES per BMC in WINDOW, whoever asks, counted before each try: BMCs lock accounts. A vendor
that is not known gets none: guessing through a list is what lock-outs are made for.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlmodel import Session, col, select

from provisioning.models import now
from provisioning.room import LoginTry

TRIES: Final = 2
WINDOW: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Default:
    """vendor: regular expression on the maker's name, as Redfish, certificate or OUI tell it."""

    vendor: str
    username: str
    password: str

    @property
    def name(self) -> str:
        return f"default-{re.split(r'[^a-z]', self.vendor)[0]}-{self.username}"


# Most have a password of each box's own by now (HPE since iLO 2, Dell and Supermicro by order or
# since 2020, Lenovo and Cisco force a change): then both are refused, and the label has it.
DEFAULTS: Final = (
    Default("dell", "root", "calvin"),
    Default("supermicro|super micro", "ADMIN", "ADMIN"),
    Default("lenovo|ibm", "USERID", "PASSW0RD"),
    Default("huawei|xfusion", "Administrator", "Admin@9000"),
    Default("huawei|xfusion", "root", "Huawei12#$"),
    Default("inspur|ieit", "admin", "admin"),
    Default("fujitsu|fsas", "admin", "admin"),
    Default("cisco", "admin", "password"),
    Default("gigabyte|giga-byte", "admin", "password"),
    Default("quanta", "admin", "admin"),
    Default("asrock", "admin", "admin"),
    Default("asus", "admin", "admin"),
    Default("tyan|mitac", "root", "superuser"),
    Default("oracle|sun microsystems", "root", "changeme"),
    Default("nvidia|openbmc", "root", "0penBmc"),
)


def of(vendor: str) -> list[Default]:
    """At most TRIES of them."""
    if not vendor:
        return []
    return [d for d in DEFAULTS if re.search(d.vendor, vendor, re.IGNORECASE)][:TRIES]


def spend(session: Session, address: str) -> datetime | None:
    """Count one try in the caller's transaction; None: go. Else when the next one may be."""
    since = now() - WINDOW
    query = select(LoginTry.at).where(LoginTry.address == address, col(LoginTry.at) > since)
    spent = sorted(session.exec(query).all())
    if len(spent) >= TRIES:
        return spent[-TRIES] + WINDOW
    session.add(LoginTry(address=address))
    return None
