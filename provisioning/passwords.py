"""Passwords for BMCs: random, within what the protocol and the vendor allow, and legible.

In an emergency a person reads one off a screen and types it at a console: no 0, O, 1, l, I.
"""

import re
import secrets
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pydantic import SecretStr

from provisioning.bmc import Lengths
from provisioning.errors import BmcRefused

LENGTH: Final = 20
"""113 bits. Also what fits an IPMI 2.0 account, which many BMCs share with their Redfish one."""
SHORTEST: Final = 10
"""56 bits: below this a BMC keeps the login it has."""
LOWER, UPPER, DIGITS = "abcdefghijkmnpqrstuvwxyz", "ABCDEFGHJKLMNPQRSTUVWXYZ", "23456789"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a vendor's manual says of passwords. Min and max the BMC itself often tells, too.

    vendor:   regular expression on the vendor's name, as BMC or OUI tell it.
    special:  the special characters to choose from; every list of allowed ones has these.
    most:     characters; 0: as the BMC says.
    """

    vendor: str
    special: str = "-_"
    most: int = 0


# First match counts. All passwords have a letter first, all four classes, and no character twice
# in a row, which is what the strictest (Lenovo XCC, Huawei iBMC, Inspur, Cisco CIMC) ask for.
RULES: Final = (
    Rule("dell", most=20),  # iDRAC: IPMI shares the account and takes 20
    Rule("hpe|hewlett", most=39),  # iLO 5 and 6
    Rule(r"lenovo|\bibm\b", most=32),  # XCC
    Rule("supermicro|super micro", most=20),
    Rule("cisco", most=20),  # CIMC: above 20 IPMI has to be off
    Rule("huawei|xfusion", most=20),
    Rule("inspur|ieit", most=16),
    Rule("fujitsu|fsas", most=20),  # iRMC
    Rule(r"gigabyte|asrock|asus|quanta|tyan|megarac|\bami\b|american megatrends", most=20),
    Rule("nvidia|openbmc|ampere", most=20),
    Rule(""),
)


def rule_of(vendor: str) -> Rule:
    return next(r for r in RULES if re.search(r.vendor, vendor, re.IGNORECASE))


def generate(vendor: str, lengths: Lengths) -> SecretStr:
    """A new password that this BMC takes. BmcRefused where it takes only weak ones."""
    rule = rule_of(vendor)
    length = min(max(LENGTH, lengths.least), lengths.most, rule.most or lengths.most)
    if length < max(SHORTEST, lengths.least):
        raise BmcRefused(
            f"this BMC takes passwords of {lengths.least} to {lengths.most} characters only",
            "Its login stays; set it with the vendor's tool.",
        )
    while True:
        text = _letters(1) + _any(length - 1, rule.special)
        if _is_good(text, rule.special):
            return SecretStr(text)


def _letters(count: int) -> str:
    return "".join(secrets.choice(LOWER + UPPER) for _ in range(count))


def _any(count: int, special: str) -> str:
    return "".join(secrets.choice(LOWER + UPPER + DIGITS + special) for _ in range(count))


def _is_good(text: str, special: str) -> bool:
    classes = (LOWER, UPPER, DIGITS, special)
    repeats = any(a == b for a, b in pairwise(text))
    return not repeats and all(set(text) & set(wanted) for wanted in classes)
