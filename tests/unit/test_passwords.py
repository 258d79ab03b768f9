"""New passwords of BMCs: long, legible, and such that the vendors' rules take them."""

import re
from dataclasses import dataclass
from itertools import pairwise
from string import ascii_letters, digits, punctuation

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioning import passwords
from provisioning.bmc import Lengths
from provisioning.errors import BmcRefused

ANY = frozenset(ascii_letters + digits + punctuation)


@dataclass(frozen=True)
class Manual:
    """What one manual asks for, read apart from our table; docs/vendors.md names each.

    classes: of the four. run: of one character. named: the user's name may be part of it.
    """

    vendor: str
    least: int
    most: int
    allowed: frozenset[str] = ANY
    classes: int = 1
    special: str = punctuation
    run: int = 99
    named: bool = False


IPMI = 20  # bytes, IPMI 2.0, 22.30; the accounts are shared
XCC = frozenset(ascii_letters + digits + "~`!@#$%^&*()-+={}[]|:;\"'<>,?/._")
IBMC = "`~!@#$%^&*()-_=+\\|[{}];:'\",<.>/?"
IDRAC = frozenset(ascii_letters + digits + "'-!\"#$%&()*,./:;?@[\\]^_`{|}~+<=>")
MANUALS = (
    Manual("Dell Inc.", 8, 20, IDRAC, classes=4, named=True),
    Manual("HPE", 8, IPMI, classes=3, named=True),
    Manual("Hewlett Packard Enterprise", 8, IPMI, classes=3, named=True),
    Manual("Lenovo", 8, IPMI, XCC, classes=3, run=2),
    Manual("Supermicro", 8, 19, classes=4, named=True),
    Manual("Cisco Systems Inc", 8, 20, classes=3, special="!@#$%^&*-_="),
    Manual("Cisco Systems Inc", 8, 14, classes=3, special="!@#$%^&*-_="),
    Manual("Huawei", 8, 20, classes=3, special=IBMC),
    Manual("xFusion", 8, 20, classes=3, special=IBMC),
    Manual("Inspur", 8, 16, classes=4, named=True),
    Manual("FUJITSU", 6, 20, named=True),
    Manual("GIGABYTE", 8, 16, named=True),
    Manual("ASRockRack", 8, 16, named=True),
    Manual("American Megatrends", 8, 16, named=True),
    Manual("NVIDIA", 13, 20, classes=4, named=True),
    Manual("OpenBMC", 8, IPMI, classes=3, named=True),
)


def classes(text: str, special: str) -> int:
    kinds = (r"[a-z]", r"[A-Z]", r"[0-9]", f"[{re.escape(special)}]")
    return sum(bool(re.search(kind, text)) for kind in kinds)


def longest_run(text: str) -> int:
    return max(len(match[0]) for match in re.finditer(r"(.)\1*", text))


def takes(manual: Manual, text: str, username: str) -> bool:
    name = username.lower()
    named = bool(name) and any(word in text.lower() for word in (name, name[::-1]))
    return (
        manual.least <= len(text) <= manual.most
        and set(text) <= manual.allowed
        and classes(text, manual.special) >= manual.classes
        and longest_run(text) <= manual.run
        and (manual.named or not named)
    )


usernames = st.sampled_from(["admin", "root", "ADMIN", "USERID", "Administrator", "op", "k", ""])


@pytest.mark.parametrize("manual", MANUALS, ids=lambda m: f"{m.vendor}-{m.most}")
@given(username=usernames, said=st.sampled_from([None, (8, 40), (1, 20), (8, 255), (12, 20)]))
def test_every_vendor_takes_them(
    manual: Manual, username: str, said: tuple[int, int] | None
) -> None:
    """Whatever the BMC says of itself: `None` is one that tells no lengths."""
    told = Lengths(*said) if said else Lengths(1, 16)
    text = passwords.generate(manual.vendor, username, told).get_secret_value()
    assert takes(manual, text, username), text
    assert told.least <= len(text) <= told.most


@given(username=usernames, vendor=st.sampled_from(["", "Lab Systems", "Nobody Ltd"]))
def test_who_tells_nothing_gets_what_all_take(username: str, vendor: str) -> None:
    """An unknown vendor's BMC without lengths: good for each manual, but for the two shortest."""
    text = passwords.generate(vendor, username, Lengths(1, 16)).get_secret_value()
    assert len(text) == 16
    assert all(takes(m, text, username) for m in MANUALS if m.most >= 16)


def test_legible_and_safe_in_a_shell() -> None:
    made = [
        passwords.generate("HPE", "admin", Lengths(8, 40)).get_secret_value() for _ in range(200)
    ]
    assert len(set(made)) == 200
    for text in made:
        assert len(text) == 20
        assert text[0].isalpha()
        assert classes(text, "-_") == 4
        assert not set(text) & set("0O1lI'\"\\$ `")
        assert all(a != b for a, b in pairwise(text))


def test_a_row_says_where_it_is_from_or_has_no_figure() -> None:
    for rule in passwords.RULES:
        assert rule.source or not rule.most
        assert rule.most <= IPMI


@pytest.mark.parametrize(
    ("least", "most", "length"), [(1, 16, 16), (8, 128, 20), (24, 40, 24), (1, 12, 12)]
)
def test_as_long_as_the_bmc_allows(least: int, most: int, length: int) -> None:
    assert len(passwords.generate("", "admin", Lengths(least, most)).get_secret_value()) == length


def test_too_short_is_refused_in_words() -> None:
    with pytest.raises(BmcRefused, match="1 to 8 characters"):
        passwords.generate("", "admin", Lengths(1, 8))


def test_miami_is_not_ami() -> None:
    assert passwords.rule_of("Miami Computers") is passwords.RULES[-1]
    assert passwords.rule_of("AMI").most == 16
