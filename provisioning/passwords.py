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


SPECIAL: Final = "-_"
"""In every list of allowed ones that is cited below."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a vendor's manual says of passwords. Min and max the BMC itself often tells, too.

    vendor:  regular expression on the vendor's name, as BMC or OUI tell it.
    most:    characters; 0: as the BMC says.
    source:  manual and version; empty: no manual was found.
    """

    vendor: str
    most: int
    source: str = ""


# First match counts. Of letters, digits and specials every one takes what the strictest asks for:
# a letter first, all four classes, no character twice in a row (XCC: thrice), not the user's name
# forwards or backwards (CIMC, XCC, iBMC). docs/vendors.md has the figures of each source.
RULES: Final = (
    Rule("dell", 20, "iDRAC9 3.3x user's guide, table 23; iDRAC8 2.70, table 18"),
    Rule("hpe|hewlett", 20, "iLO 3, 4 and 5 user guides: 39, and 20 for accounts of IPMI, too"),
    Rule(r"lenovo|\bibm\b", 20, "XCC3, account security policy settings: 255; IPMI shares it"),
    # Some take 20, cut the last one off and let nobody in; newer ones want digits and specials.
    Rule("supermicro|super micro", 16, "reports: ipmitool issue 347, fwupd issue 5129"),
    # 14 is what older C-series are said to take; no manual of those was at hand.
    Rule("cisco", 14, "CIMC 4.11.1, UCS E-series M6, managing user accounts: 20"),
    Rule("huawei|xfusion", 20, "iBMC user guide EDOC1100152759, passwordcomplexity"),
    Rule("inspur|ieit", 16, "OB5161M5 user manual, 5.12.1"),
    Rule("fujitsu|fsas", 20, "SE series V6.5 security manual, iRMC S5 and S6"),
    Rule(
        r"gigabyte|giga-byte|asrock|asus|quanta|tyan|megarac|\bami\b|american megatrends",
        16,
        "MegaRAC G3 user's guide, page 89; nothing of SP-X was found",
    ),
    Rule("nvidia|openbmc|ampere", 20, "BlueField BMC 24.10 user management; openbmc issue 3550"),
    Rule("", 0),
)


def rule_of(vendor: str) -> Rule:
    return next(r for r in RULES if re.search(r.vendor, vendor, re.IGNORECASE))


def generate(vendor: str, username: str, lengths: Lengths) -> SecretStr:
    """A new password that this BMC takes. BmcRefused where it takes only weak ones."""
    rule = rule_of(vendor)
    length = min(max(LENGTH, lengths.least), lengths.most, rule.most or lengths.most)
    if length < max(SHORTEST, lengths.least):
        raise BmcRefused(
            f"this BMC takes passwords of {lengths.least} to {lengths.most} characters only",
            "Its login stays; set it with the vendor's tool.",
        )
    while True:
        text = _any(1, LOWER + UPPER) + _any(length - 1, LOWER + UPPER + DIGITS + SPECIAL)
        if _is_good(text, username.lower()):
            return SecretStr(text)


def _any(count: int, alphabet: str) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(count))


def _is_good(text: str, name: str) -> bool:
    repeats = any(a == b for a, b in pairwise(text))
    named = bool(name) and (name in text.lower() or name[::-1] in text.lower())
    classes = (LOWER, UPPER, DIGITS, SPECIAL)
    return not repeats and not named and all(set(text) & set(wanted) for wanted in classes)
