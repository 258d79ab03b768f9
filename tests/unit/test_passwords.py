"""New passwords of BMCs: long, legible, and such that the vendors' rules take them."""

from itertools import pairwise

import pytest

from provisioning import passwords
from provisioning.bmc import Lengths
from provisioning.errors import BmcRefused

VENDORS = ("Dell Inc.", "HPE", "Lenovo", "Supermicro", "Cisco", "Huawei", "Inspur", "Lab Systems")


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_vendor_takes_them(vendor: str) -> None:
    made = [passwords.generate(vendor, Lengths(8, 40)).get_secret_value() for _ in range(200)]
    assert len(set(made)) == 200
    for text in made:
        assert len(text) == (16 if vendor == "Inspur" else 20)
        assert text[0].isalpha()
        assert any(c.islower() for c in text)
        assert any(c.isupper() for c in text)
        assert any(c.isdigit() for c in text)
        assert any(c in "-_" for c in text)
        assert not set(text) & set("0O1lI'\"\\$ `"), "legible, and safe in any shell"
        assert all(a != b for a, b in pairwise(text))


@pytest.mark.parametrize(
    ("least", "most", "length"), [(1, 16, 16), (8, 128, 20), (24, 40, 24), (1, 12, 12)]
)
def test_as_long_as_the_bmc_allows(least: int, most: int, length: int) -> None:
    assert len(passwords.generate("", Lengths(least, most)).get_secret_value()) == length


def test_too_short_is_refused_in_words() -> None:
    with pytest.raises(BmcRefused, match="1 to 8 characters"):
        passwords.generate("", Lengths(1, 8))


def test_miami_is_not_ami() -> None:
    assert passwords.rule_of("Miami Computers") is passwords.RULES[-1]
    assert passwords.rule_of("AMI").most == 20
