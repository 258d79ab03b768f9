"""Servers against classes: who belongs, how a bill of materials differs, versions, golden nodes."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioning.class_text import parse, written
from provisioning.classes import Bom, Document, DriveLine, Rules
from provisioning.errors import Invalid
from provisioning.fitting import assign, compared, differences, strangeness
from provisioning.golden import from_golden
from provisioning.hardware import Drive, Inventory, Nic

settings.register_profile("busy", deadline=None, max_examples=50)  # other work slows the machine
settings.load_profile("busy")

GB = 10**9


def ssd(gb: int = 960, **facts: str) -> Drive:
    return Drive(size_bytes=gb * GB, media="ssd", **facts)


def hdd(gb: int = 4000) -> Drive:
    return Drive(size_bytes=gb * GB, media="hdd")


def a_server(**facts: object) -> Inventory:
    told = {
        "vendor": "Dell Inc.", "model": "PowerEdge R740xd", "serial": "S1", "firmware": "uefi",
        "bios_version": "2.10.2", "bmc_version": "6.10.30.00", "cpu_model": "Intel Xeon 6338",
        "cpu_arch": "x86_64", "cpu_count": 2, "cpu_threads": 64, "memory_mib": 262144,
        "drives": (ssd(), ssd(), ssd(), ssd()),
        "nics": (Nic(mac="52:54:00:00:00:01", speed_mbps=25000, model="E810"),
                 Nic(mac="52:54:00:00:00:02", speed_mbps=25000, model="E810")),
    }  # fmt: skip
    return Inventory.model_validate(told | facts)


def rules(**facts: object) -> Rules:
    return Rules.model_validate(facts)


def bom(**facts: object) -> Bom:
    return Bom.model_validate(facts)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        pytest.param({"vendor": "dell*"}, [], id="glob"),
        pytest.param({"vendor": ["HPE", "Dell*"]}, [], id="one of several"),
        pytest.param({"vendor": "Dell"}, ["vendor: Dell Inc., class wants Dell"], id="exact"),
        pytest.param({"firmware": "bios"}, ["firmware: uefi, class wants bios"], id="boot mode"),
        pytest.param({"cpu_count": 2, "cpu_threads": {"min": 64, "max": 64}}, [], id="numbers"),
        pytest.param({"cpu_count": 4}, ["cpu_count: 2, class wants 4"], id="CPUs"),
        pytest.param(
            {"memory_mib": {"min": 300000}},
            ["memory_mib: 262144, class wants at least 300000"],
            id="memory",
        ),
        pytest.param({"drives": [{"media": "ssd", "count": {"min": 2}}]}, [], id="drives"),
        pytest.param(
            {"drives": [{"media": "ssd", "size_gb": 960, "count": {"max": 3}}]},
            ["drives: 4 x ssd 960 GB, class wants at most 3"],
            id="too many drives",
        ),
        pytest.param(
            {"nics": [{"speed_mbps": {"min": 100000}, "count": {"min": 1}}]},
            ["nics: 0 x at least 100000 Mbit/s, class wants at least 1"],
            id="slow NICs",
        ),
    ],
)
def test_rules(rule: dict[str, object], why: list[str]) -> None:
    assert strangeness(rules(**rule), a_server()) == why


def test_what_is_not_told_fits_no_rule() -> None:
    every = rules(
        vendor="*", model="*", cpu_model="*", cpu_arch="*", firmware="uefi",
        cpu_count={"min": 0}, cpu_threads={"min": 0}, memory_mib={"min": 0},
    )  # fmt: skip
    found = strangeness(every, Inventory())
    assert len(found) == 8
    assert all(": not told, class wants " in line for line in found)


@pytest.mark.parametrize(
    ("wanted", "server", "why"),
    [
        pytest.param({}, {}, [], id="nothing is asked"),
        pytest.param({"cpus": {"count": 2, "model": "*6338*"}}, {}, [], id="CPUs are right"),
        pytest.param(
            {"cpus": {"count": 4, "model": "*8380*"}},
            {},
            ["cpus: 2, class wants 4", "cpus: Intel Xeon 6338, class wants *8380*"],
            id="CPUs are wrong",
        ),
        pytest.param(
            {"memory_mib": 262144},
            {"memory_mib": 229376},
            ["memory: 229376 MiB, class wants 262144"],
            id="a DIMM is missing",
        ),
        pytest.param(
            {"drives": [{"count": 4, "media": "ssd", "size_gb": 960}]},
            {"drives": (ssd(), ssd(), ssd())},
            ["drives: 3 x ssd 960 GB, class wants 4"],
            id="a drive is missing",
        ),
        pytest.param(
            {"drives": [{"count": 4, "media": "ssd", "size_gb": 960}]},
            {"drives": (ssd(),) * 5},
            ["drives: 5 x ssd 960 GB, class wants 4"],
            id="a drive too many",
        ),
        pytest.param(
            {"drives": [{"count": 4, "media": "ssd", "size_gb": 960}]},
            {"drives": (ssd(),) * 3 + (hdd(),)},
            ["drives: 3 x ssd 960 GB, class wants 4", "drives: 1 x hdd 4000 GB, class wants none"],
            id="a drive of another sort",
        ),
        pytest.param(
            {"drives": [{"count": {"min": 4}, "media": "ssd"}]},
            {"drives": (ssd(),) * 9},
            [],
            id="four or more",
        ),
        pytest.param(
            {"drives": [{"count": 4, "media": "ssd", "size_gb": 960}]},
            {"drives": tuple(Drive(size_bytes=960197124096, media="ssd") for _ in range(4))},
            [],
            id="960 GB as makers make them",
        ),
        pytest.param(
            {"drives": []}, {}, ["drives: 4 x ssd 960 GB, class wants none"], id="no drives"
        ),
        pytest.param(
            {"drives": [{"count": 4, "media": "ssd"}]},
            {"drives": (Drive(size_bytes=960 * GB),) * 4},
            ["drives: 0 x ssd, class wants 4", "drives: 4 x drive 960 GB, class wants none"],
            id="media is not told",
        ),
        pytest.param(
            {"nics": [{"count": 4, "model": "E810"}]},
            {},
            ["nics: 2 x E810, class wants 4"],
            id="a NIC card is missing",
        ),
        pytest.param({"bios": "2.10.2", "bmc": {"at_least": "6.9"}}, {}, [], id="firmware"),
        pytest.param(
            {"bios": "2.10.3", "bmc": {"at_least": "6.11"}},
            {},
            ["bios: 2.10.2, class wants 2.10.3", "bmc: 6.10.30.00, class wants at least 6.11"],
            id="old firmware",
        ),
        pytest.param(
            {"bios": {"at_least": "2"}, "bmc": "1"},
            {"bios_version": "", "bmc_version": ""},
            ["bios: not told, class wants at least 2", "bmc: not told, class wants 1"],
            id="firmware is not told",
        ),
        pytest.param(
            {"bios": {"at_least": "A12"}},
            {},
            ["bios: 2.10.2 cannot be compared with A12, which class wants"],
            id="two ways of counting",
        ),
    ],
)
def test_bill_of_materials(
    wanted: dict[str, object], server: dict[str, object], why: list[str]
) -> None:
    assert differences(bom(**wanted), a_server(**server)) == why


def test_a_part_moves_to_another_line_where_that_helps_both() -> None:
    lines = [{"count": 1, "media": "ssd"}, {"count": 1, "media": "ssd", "size_gb": 960}]
    for drives in permutations((ssd(960), ssd(1920))):
        for order in permutations(lines):
            assert differences(bom(drives=list(order)), a_server(drives=drives)) == []


sizes = st.sampled_from([480, 960, 1920])
drives = st.lists(st.builds(ssd, sizes) | st.builds(hdd, sizes), max_size=6)
lines = st.builds(
    DriveLine,
    count=st.integers(0, 3),
    media=st.sampled_from(["ssd", "hdd", None]),
    size_gb=st.none() | sizes,
)


@given(drives, st.lists(lines, max_size=3), st.randoms())
def test_the_order_of_drives_and_lines_does_not_matter(
    have: list[Drive], want: list[DriveLine], random: object
) -> None:
    one = differences(Bom(drives=tuple(want)), Inventory(drives=tuple(have)))
    random.shuffle(have)  # type: ignore[attr-defined]
    random.shuffle(want)  # type: ignore[attr-defined]
    other = differences(Bom(drives=tuple(want)), Inventory(drives=tuple(have)))
    assert (one == []) == (other == [])


@given(
    st.lists(st.lists(st.integers(0, 2), unique=True), max_size=6),
    st.lists(st.integers(0, 2), min_size=3, max_size=3),
)
def test_as_many_parts_are_assigned_as_can_be(taking: list[list[int]], most: list[int]) -> None:
    counts, rest = assign(taking, [0, 0, 0], most)
    assert sum(counts) + len(rest) == len(taking)
    assert all(n <= m for n, m in zip(counts, most, strict=True))

    def best(part: int, room: tuple[int, ...]) -> int:
        if part == len(taking):
            return 0
        skipped = best(part + 1, room)
        return max(
            skipped,
            *(
                1 + best(part + 1, (*room[:n], room[n] - 1, *room[n + 1 :]))
                for n in taking[part]
                if room[n]
            ),
            skipped,
        )

    assert sum(counts) == best(0, tuple(most))


@given(
    st.lists(st.lists(st.integers(0, 2), unique=True), max_size=8),
    st.lists(st.integers(0, 2), min_size=3, max_size=3),
)
def test_what_is_beyond_the_least_takes_nothing_from_it(
    taking: list[list[int]], least: list[int]
) -> None:
    first, _ = assign(taking, least, least)
    both, _ = assign(taking, least, [9, 9, 9])
    assert all(b >= f for b, f in zip(both, first, strict=True))


@pytest.mark.parametrize(
    ("one", "other", "sign"),
    [
        ("2.10", "2.9", 1), ("2.10.0", "2.10", 0), ("2.10", "2.10.1", -1), ("A13", "A12", 1),
        ("U30 v2.62 (02/14/2022)", "u30 V2.60", 1), ("7.00.00.172", "6.10.30.00", 1),
        ("1a", "1b", -1), ("2", "A", None), ("1.x", "1.2", None),
    ],
)  # fmt: skip
def test_versions(one: str, other: str, sign: int | None) -> None:
    found = compared(one, other)
    assert (found and found // abs(found)) == sign
    back = compared(other, one)
    assert (back and back // abs(back)) == (None if sign is None else -sign)


text = st.text(max_size=40).filter(lambda t: t.strip())
servers = st.builds(
    Inventory,
    vendor=text,
    model=st.text(max_size=40),
    cpu_model=st.text(max_size=40),
    cpu_count=st.integers(0, 8),
    memory_mib=st.integers(0, 2**22),
    bios_version=st.text(max_size=20),
    bmc_version=st.text(max_size=20),
    drives=st.lists(
        st.builds(
            Drive,
            size_bytes=st.integers(0, 20_000) | st.integers(0, 2 * 10**13),
            media=st.sampled_from(["", "hdd", "ssd", "nvme"]),
        ),
        max_size=6,
    ).map(tuple),
    nics=st.lists(
        st.builds(
            Nic,
            mac=st.just("52:54:00:00:00:01"),
            model=st.sampled_from(["", "E810", "I350 [LOM]*?"]),
            speed_mbps=st.sampled_from([0, 1000, 25000]),
        ),
        max_size=4,
    ).map(tuple),
)


@given(servers)
def test_a_golden_server_is_as_its_class_says(server: Inventory) -> None:
    document = from_golden("x", server)
    assert parse(written(document)) == document
    assert strangeness(document.match, server) == []
    assert differences(document.bom, server) == []


def test_a_golden_class_takes_another_makers_drive_and_newer_firmware_but_no_fewer_drives() -> None:
    document = from_golden("storage", a_server())
    other = a_server(bios_version="2.11", drives=(ssd(model="X"), *(ssd(961),) * 3))
    assert differences(document.bom, other) == []
    fewer = a_server(drives=(ssd(),) * 3)
    assert strangeness(document.match, fewer) == []
    assert differences(document.bom, fewer) == ["drives: 3 x ssd 960 GB, class wants 4"]


def test_of_a_server_nobody_knows_no_class_is_made() -> None:
    with pytest.raises(Invalid, match="vendor or model"):
        from_golden("x", Inventory(cpu_count=2))


@given(servers, servers)
def test_difference_and_rules_never_fail(golden: Inventory, server: Inventory) -> None:
    document: Document = from_golden("x", golden)
    for line in strangeness(document.match, server) + differences(document.bom, server):
        assert "class wants" in line
