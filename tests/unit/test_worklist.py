"""The work list in the words technicians read: one physical action per line, and no more lines."""

from collections.abc import Sequence

import pytest

from provisioning.comparison import compare
from provisioning.rack_plan import Place
from provisioning.seating import Server
from provisioning.worklist import Kind, Line, Verdict
from tests.fakes.room import ago, server, slot

A = slot("r3u21", "A", "leaf1:1", "leaf2:1")
B = slot("r3u22", "B", "leaf1:2", "leaf2:2")
C = slot("r3u23", "C", "leaf1:3", "leaf2:3")
SMALL = slot("r3u1", "S", "leaf1:11"), slot("r3u2", "T", "leaf1:12"), slot("r3u3", "U", "leaf1:13")
ABC = (A, B, C)
ROOM = (server("A", "leaf1:1", "leaf2:1"), server("B", "leaf1:2", "leaf2:2"))
CABLED_C = server("C", "leaf1:3", "leaf2:3")


def lines(slots: Sequence[Place], servers: Sequence[Server]) -> list[Line]:
    return list(compare(slots, servers).lines)


def texts(slots: Sequence[Place], servers: Sequence[Server]) -> list[str]:
    """What there is to do, and below it, marked, what is not known."""
    return [f"({line.text})" if line.hint else line.text for line in lines(slots, servers)]


CASES = {
    "a room as planned has nothing to do": (ABC, (*ROOM, CABLED_C), []),
    "a server that never came is expected": (
        ABC,
        ROOM,
        ["r3u23 is empty, serial C expected"],
    ),
    "a cable in a free port is moved": (
        ABC,
        (*ROOM, server("C", "leaf1:3", "leaf1:18")),
        ["move cable NIC2 of r3u23 from leaf1:18 to leaf2:3"],
    ),
    "two swapped cables of one server are one line": (
        ABC,
        (*ROOM, server("C", "leaf2:3", "leaf1:3")),
        ["swap cables NIC1 and NIC2 of r3u23: NIC1 belongs into leaf1:3, NIC2 into leaf2:3"],
    ),
    "two swapped cables of two servers are one line": (
        ABC,
        (server("A", "leaf1:1", "leaf2:2"), server("B", "leaf1:2", "leaf2:1"), CABLED_C),
        [
            "swap cables NIC2 of r3u21 and NIC2 of r3u22: "
            "NIC2 belongs into leaf2:1, the other into leaf2:2"
        ],
    ),
    "three cables in a ring are three moves": (
        ABC,
        (
            server("A", "leaf1:1", "leaf2:2"),
            server("B", "leaf1:2", "leaf2:3"),
            server("C", "leaf1:3", "leaf2:1"),
        ),
        [
            "move cable NIC2 of r3u21 from leaf2:2 to leaf2:1",
            "move cable NIC2 of r3u22 from leaf2:3 to leaf2:2",
            "move cable NIC2 of r3u23 from leaf2:1 to leaf2:3",
        ],
    ),
    "a swapped pair is one line, not four cables": (
        ABC,
        (server("A", "leaf1:2", "leaf2:2"), server("B", "leaf1:1", "leaf2:1"), CABLED_C),
        ["r3u21 and r3u22 are swapped"],
    ),
    "a swapped pair with one cable each is one line": (
        SMALL,
        (server("S", "leaf1:12"), server("T", "leaf1:11"), server("U", "leaf1:13")),
        ["r3u1 and r3u2 are swapped"],
    ),
    "a swapped pair and a wrong cable behind it are two lines": (
        ABC,
        (server("A", "leaf1:2", "leaf2:2"), server("B", "leaf1:1", "leaf1:40"), CABLED_C),
        ["r3u21 and r3u22 are swapped", "move cable NIC2 of r3u21 from leaf1:40 to leaf2:1"],
    ),
    "three servers in a ring are three moves": (
        ABC,
        (
            server("A", "leaf1:2", "leaf2:2"),
            server("B", "leaf1:3", "leaf2:3"),
            server("C", "leaf1:1", "leaf2:1"),
        ),
        [
            "move serial C from r3u21 to r3u23",
            "move serial A from r3u22 to r3u21",
            "move serial B from r3u23 to r3u22",
        ],
    ),
    "a server in the slot of one that never came is moved": (
        ABC,
        (server("A", "leaf1:3", "leaf2:3"), ROOM[1]),
        ["move serial A from r3u23 to r3u21", "r3u23 waits for serial C; serial A is there now"],
    ),
    "one lonely cable in another's port is a cable, not a server": (
        SMALL,
        (server("S", "leaf1:12"), server("U", "leaf1:13")),
        ["move cable NIC1 of r3u1 from leaf1:12 to leaf1:11", "r3u2 is empty, serial T expected"],
    ),
    "an unplanned serial where another is planned is a wrong serial": (
        ABC,
        (*ROOM, server("Y", "leaf1:3", "leaf2:3")),
        ["r3u23 holds serial Y, serial C expected"],
    ),
    "a wrong serial, a swapped pair and a swapped cable are three lines": (
        (*ABC, *SMALL[:2]),
        (
            server("S", "leaf1:12"),
            server("T", "leaf1:11"),
            server("Y", "leaf1:1", "leaf2:2"),
            server("B", "leaf1:2", "leaf2:1"),
            CABLED_C,
        ),
        [
            "r3u1 and r3u2 are swapped",
            "r3u21 holds serial Y, serial A expected",
            "swap cables NIC2 of r3u21 and NIC2 of r3u22: "
            "NIC2 belongs into leaf2:1, the other into leaf2:2",
        ],
    ),
    "an unknown server in a planned port is named at that place": (
        ABC,
        (*ROOM, CABLED_C, server("Y", "leaf1:40")),
        ["serial Y is in no plan, in leaf1:40"],
    ),
    "an unknown server elsewhere is only a hint": (
        ABC,
        (*ROOM, CABLED_C, server("Y", "spine:1")),
        ["(serial Y is in no plan, in spine:1)"],
    ),
    "a BMC that tells nothing is only a hint": (
        ABC,
        (*ROOM, CABLED_C, server("", address="10.0.0.9")),
        ["(the server of BMC 10.0.0.9 is in no plan)"],
    ),
    "a server without any LLDP is found, and that is a hint": (
        ABC,
        (*ROOM, server("C", "", "")),
        ["(r3u23: no LLDP heard at NIC1, NIC2)"],
    ),
    "a server without inventory is the same hint": (
        ABC,
        (*ROOM, server("C")),
        ["(r3u23: no LLDP heard at NIC1, NIC2)"],
    ),
    "a dead link wants a cable": (
        ABC,
        (*ROOM, server("C", "leaf1:3", "x")),
        ["plug a cable from NIC2 of r3u23 into leaf2:3: it has no link"],
    ),
    "the right port at the wrong NIC of the same server is replugged": (
        ABC,
        (*ROOM, server("C", "leaf1:3", "x", "leaf2:3")),
        ["move the cable of leaf2:3 at r3u23 from NIC eno3 to NIC2"],
    ),
    "a NIC that is not there is missed": (
        ABC,
        (*ROOM, server("C", "leaf1:3")),
        ["r3u23 has no NIC2, planned for leaf2:3"],
    ),
    "a server of another class is named": (
        (slot("r3u23", "C", "leaf1:3", resource_class="storage"),),
        (server("C", "leaf1:3", resource_class="compute", node="sn-c"),),
        ["r3u23 is of class compute, storage expected"],
    ),
    "a server that differs from its class is named": (
        (slot("r3u23", "C", "leaf1:3"),),
        (server("C", "leaf1:3", resource_class="gpu", misfit=("drive 2 is missing",)),),
        ["r3u23 differs from its class gpu: drive 2 is missing"],
    ),
    "a critical part is work": (
        (slot("r3u23", "C", "leaf1:3"),),
        (server("C", "leaf1:3", health="Critical", ailing=("PSU 2: Critical",)),),
        ["r3u23: PSU 2: Critical"],
    ),
    "a warning is a hint": (
        (slot("r3u23", "C", "leaf1:3"),),
        (server("C", "leaf1:3", health="Warning", ailing=("Fan 3: Warning",)),),
        ["(r3u23: Fan 3: Warning)"],
    ),
    "a silent BMC is named with the hour": (
        (slot("r3u23", "C", "leaf1:3"),),
        (server("C", "leaf1:3", address="10.0.0.7", silent_since=ago(60)),),
        ["the BMC of r3u23, 10.0.0.7, does not answer since 2026-11-20 11:00 UTC"],
    ),
    "a server is known by its BMC's MAC": (
        (slot("r3u23", "", "leaf1:3", bmc_mac="02:00:00:00:00:01"),),
        (server("C", "leaf1:3", bmc_mac="02:00:00:00:00:01"),),
        [],
    ),
    "the right BMC with the wrong serial is a wrong serial": (
        (slot("r3u23", "X", "leaf1:3", bmc_mac="02:00:00:00:00:01"),),
        (server("C", "leaf1:3", bmc_mac="02:00:00:00:00:01"),),
        ["r3u23 holds serial C, serial X expected"],
    ),
    "the right serial with another BMC is a hint": (
        (slot("r3u23", "C", "leaf1:3", bmc_mac="02:00:00:00:00:01"),),
        (server("C", "leaf1:3", bmc_mac="02:00:00:00:00:02"),),
        ["(r3u23: the BMC's MAC is 02:00:00:00:00:02, 02:00:00:00:00:01 is planned)"],
    ),
    "a place planned by cables alone takes whom it finds": (
        (slot("r3u23", "", "leaf1:3"),),
        (server("C", "leaf1:3"),),
        [],
    ),
    "a place planned by cables alone is empty without": (
        (slot("r3u23", "", "leaf1:3", resource_class="gpu"),),
        (),
        ["r3u23 is empty, a server of class gpu expected"],
    ),
    "serial numbers are the same in capitals": (
        (slot("r3u23", "ab12", "leaf1:3"),),
        (server("AB12", "leaf1:3"),),
        [],
    ),
    "one name in two rows is told apart": (
        (slot("ams/a/r3u1", "A", "leaf1:1"), slot("ams/b/r3u1", "B", "leaf1:2")),
        (),
        ["ams/a/r3u1 is empty, serial A expected", "ams/b/r3u1 is empty, serial B expected"],
    ),
    "racks are listed as people count": (
        (slot("r10u1", "A", "leaf1:1"), slot("r2u1", "B", "leaf1:2")),
        (),
        ["r2u1 is empty, serial B expected", "r10u1 is empty, serial A expected"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("slots", "servers", "expected"), CASES.values(), ids=CASES)
def test_the_list_says(
    slots: Sequence[Place], servers: Sequence[Server], expected: list[str]
) -> None:
    assert texts(slots, servers) == expected
    assert texts(slots[::-1], servers[::-1]) == expected


def test_every_kind_is_told() -> None:
    told = {line.kind for slots, servers, _ in CASES.values() for line in lines(slots, servers)}
    assert told == set(Kind)


def test_each_line_has_an_id_of_its_own_that_stays() -> None:
    for slots, servers, _ in CASES.values():
        first, again = lines(slots, servers), lines(slots[::-1], servers)
        assert [line.id for line in first] == [line.id for line in again]
        assert len({line.id for line in first}) == len(first)


@pytest.mark.parametrize(
    ("servers", "verdict"),
    [
        ((), Verdict.PLANNED),
        ((server("A"),), Verdict.FOUND),
        ((server("A", "leaf1:1", ""),), Verdict.FOUND),
        ((server("A", "leaf1:1", "leaf2:1"),), Verdict.RIGHT),
        ((server("A", "leaf1:1", "leaf2:7"),), Verdict.WRONG),
        ((server("Y", "leaf1:1", "leaf2:1"),), Verdict.WRONG),
    ],
)
def test_a_slot_is(servers: Sequence[Server], verdict: Verdict) -> None:
    (standing,) = compare([A], servers).standings
    assert standing.verdict is verdict


def test_without_planned_cables_nobody_can_tell_the_place() -> None:
    (standing,) = compare([slot("r3u1", "A")], [server("A", "leaf1:1")]).standings
    assert standing.verdict is Verdict.FOUND


def test_a_line_names_evidence_age_technicians_and_leds() -> None:
    slots = (
        slot("r3u21", "A", "leaf1:1", "leaf2:1", technician="ann"),
        slot("r3u22", "B", "leaf1:2", "leaf2:2", technician="bob"),
    )
    (line,) = lines(slots, (server("A", "leaf1:2", "leaf2:2"), server("B", "leaf1:1", "leaf2:1")))
    assert line.technicians == ("ann", "bob")
    assert line.bmcs == ("bmc-B", "bmc-A")
    assert line.at == ago(1)
    assert "serial B has 2 of 2 cables planned for r3u21 (in band)" in line.evidence
    assert "Read the labels first" in line.check


def test_a_move_says_who_is_in_the_way_and_what_the_nic_is_called() -> None:
    (line,) = lines([A, B], [server("A", "leaf1:1", "leaf1:9"), server("B", "leaf1:2", "leaf2:1")])[
        :1
    ]
    assert line.text == "move cable NIC2 of r3u21 from leaf1:9 to leaf2:1"
    assert line.check.startswith("NIC2 of r3u22 is in leaf2:1 now; NIC2 is eno2, 02:")
