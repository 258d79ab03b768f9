"""What scanners read: which of the known serials and MACs a label names."""

import pytest

from provisioning.comparison import compare
from provisioning.scan import find
from tests.fakes.room import server, slot

PLAN = [
    slot("r1u1", "7XK2P03"),
    slot("r1u2", "A100"),
    slot("r1u3", "A100-7"),
    slot("r1u4", "123456"),
]
FOUND = [server("7XK2P03", bmc_mac="52:54:00:ab:cd:0e"), server("NEW1234")]
ROOM = compare(PLAN, FOUND)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("7xk2p03", ["7XK2P03"]),
        ("S7XK2P03", ["7XK2P03"]),
        ("1S8X06CTO1WW7XK2P03", ["7XK2P03"]),
        ("https://vendor.example/t/7XK2P03?lang=en", ["7XK2P03"]),
        ("PN:0ABC;SN:A100-7;", ["A100-7"]),
        ("PN:0ABC;SN:A100;", ["A100"]),
        ("XA100Y", []),
        ("MAC=525400ABCD0E", ["7XK2P03"]),
        ("SN 7XK2P03 MAC 52-54-00-ab-cd-0e", ["7XK2P03"]),
        ("NEW1234", ["NEW1234"]),
        ("7XK2P03,NEW1234", ["7XK2P03", "NEW1234"]),
        ("0123456789", ["123456"]),
        ("", []),
        ("%%%", []),
        ("\x00\ud800", []),
        ("A" * 100_000, []),
    ],
)
def test_a_label_names(text: str, names: list[str]) -> None:
    assert sorted(one.name.removeprefix("serial ") for one in find(text, ROOM, FOUND)) == names
