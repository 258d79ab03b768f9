"""Logins that vendors ship, as far as a public source has them. Tried only when a person asks.

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
    """vendor: regular expression on the maker's name, as Redfish, certificate or OUI tell it.

    source: who says so. Without one it is no row: a wrong guess is a step towards a lock-out.
    """

    vendor: str
    username: str
    password: str
    source: str

    @property
    def name(self) -> str:
        return f"default-{re.split(r'[^a-z]', self.vendor)[0]}-{self.username}"


# Most have a password of each box's own by now (HPE since iLO 2, Dell and Supermicro by order or
# since 2020, Lenovo and Cisco force a change): then both are refused, and the label has it.
DEFAULTS: Final = (
    Default("dell", "root", "calvin", "iDRAC7 2.40 and iDRAC8 2.70 user's guides, chapter 7"),
    Default("supermicro|super micro", "ADMIN", "ADMIN", "boxes made before 2020; IPMI list"),
    Default("lenovo|ibm", "USERID", "PASSW0RD", "IMM: IPMI list; XCC has it once, then a change"),
    Default("huawei|xfusion", "Administrator", "Admin@9000", "iBMC EDOC1100149967 (the name)"),
    Default("huawei|xfusion", "root", "Huawei12#$", "before V250: EDOC1000066341 (the name)"),
    Default("inspur|ieit", "admin", "admin", "OB5161M5 user manual 5.12.1, ON5263M5 7.10.1"),
    Default("fujitsu|fsas", "admin", "admin", "iRMC: IPMI list"),
    Default("cisco", "admin", "password", "community.cisco.com thread 4259745, C220 M4"),
    Default("gigabyte|giga-byte", "admin", "password", "gigabyte.com security 1762: to March 2020"),
    Default("quanta", "admin", "cmb9.admin", "public flash and discovery scripts"),
    Default("quanta", "root", "root", "QSSC-S99K user's manual, page 70"),
    Default("asus", "admin", "admin", "iKVM BMC: IPMI list"),
    Default("tyan|mitac", "root", "superuser", "users' notes; no manual was found"),
    Default("oracle|sun microsystems", "root", "changeme", "ILOM: IPMI list"),
    Default("nvidia|openbmc", "root", "0penBmc", "OpenBMC's own; BlueField asks for a new one"),
)
"""IPMI list: Mdot0/Default-Credentials on GitHub, IPMI-Default-Password-List."""


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
