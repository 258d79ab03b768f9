"""Which disks a claim means, of which servers, and under which names Ironic is told of them."""

from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioning import disks
from provisioning.errors import Conflict, Invalid
from provisioning.hardware import Drive, Inventory
from provisioning.models import ClaimSpec
from provisioning.one_time import KeptDisk

GIB = 2**30
KEY = "ssh-ed25519 AAAA me"
SSD1 = Drive(serial="S1", model="PM9A3", size_bytes=447 * GIB, media="ssd", name="/dev/sda")
SSD2 = Drive(serial="S2", model="PM9A3", size_bytes=447 * GIB, media="ssd", name="/dev/sdb")
HDD = [
    Drive(
        serial=f"H{n}", wwn=f"0x5000c50000000{n:03}", size_bytes=7452 * GIB, media="hdd",
        name=f"/dev/sd{'cdef'[n]}",
    )
    for n in range(4)
]  # fmt: skip
SERVER = Inventory(firmware="uefi", drives=(*HDD, SSD2, SSD1))
OSD = {"role": "ceph-osd", "rotational": True, "count": 2}


def a_spec(**wanted: Any) -> ClaimSpec:
    return ClaimSpec(name="web", image="debian", ssh_keys=[KEY], **wanted)


def kept(drive: Drive, project: str = "") -> KeptDisk:
    return KeptDisk(node_uuid=uuid4(), serial=drive.serial, wwn=drive.wwn, project=project)


def serials(found: disks.Chosen) -> tuple[list[str], list[tuple[str, str]]]:
    return [d.serial for d in found["root"]], [(role, d.serial) for role, d in found["data"]]


@pytest.mark.parametrize(
    ("wanted", "then"),
    [
        pytest.param({}, (["S1"], []), id="without hints the smallest, then the first by name"),
        pytest.param({"root_device": {"serial": "S2"}}, (["S2"], []), id="a hint is the hint"),
        pytest.param({"disk_gib": 1000}, (["H0"], []), id="the smallest that is large enough"),
        pytest.param(
            {"disks": [OSD]}, (["S1"], [("ceph-osd", "H0"), ("ceph-osd", "H1")]),
            id="data disks by role",
        ),
        pytest.param(
            {"disks": [{"role": "log", "serial": "S1"}]}, (["S2"], [("log", "S1")]),
            id="who is named by serial is not taken as root",
        ),
        pytest.param(
            {"disks": [{"role": "any"}, {"role": "fast", "rotational": False}]},
            (["S1"], [("any", "H0"), ("fast", "S2")]),
            id="the one that could have any disk makes way for the one that could not",
        ),
        pytest.param(
            {"root_raid": 1, "root_device": {"rotational": False}}, (["S1", "S2"], []),
            id="a mirror of the two that fit",
        ),
        pytest.param(
            {"disks": [{"role": "d", "wwn": "0x5000c50000000002"}]}, (["S1"], [("d", "H2")]),
            id="by WWN",
        ),
    ],
)  # fmt: skip
def test_chosen(wanted: dict[str, Any], then: object) -> None:
    spec = a_spec(**wanted)
    disks.check(spec)
    assert serials(disks.chosen(spec, SERVER, [])) == then


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        pytest.param(
            {"root_device": {"serial": "GONE"}}, "fits a root disk (serial GONE)",
            id="a hint that fits nothing never means another disk",
        ),
        pytest.param(
            {"disks": [{"role": "osd", "rotational": True, "count": 5}]},
            "6 disks are asked for, only 5 of its 6 fit", id="too few",
        ),
        pytest.param({"root_raid": 1}, "6 fit root_device: S1, S2, H0, H1", id="which two?"),
        pytest.param(
            {"root_raid": 1, "root_device": {"serial": "S1"}},
            "needs two disks, 1 of its 6 fit", id="a mirror of one",
        ),
        pytest.param(
            {"root_raid": 1, "disks": [{"role": "log", "serial": "S1"}],
             "root_device": {"rotational": False}},
            "needs two disks, 1 of its 6 fit", id="one of the two is a data disk",
        ),
    ],
)  # fmt: skip
def test_lacks(wanted: dict[str, Any], sentence: str) -> None:
    (told,) = disks.lacks(a_spec(**wanted), SERVER, [])
    assert sentence in told
    with pytest.raises(Conflict, match="its disks are not as the claim wants them"):
        disks.chosen(a_spec(**wanted), SERVER, [])


def test_a_mirror_needs_uefi() -> None:
    bios = SERVER.model_copy(update={"firmware": "bios"})
    wanted = a_spec(root_raid=1, root_device={"rotational": False})
    assert disks.lacks(wanted, bios, []) == ["it boots by BIOS, and a mirrored root needs UEFI"]


def test_nothing_is_said_of_a_server_that_nobody_looked_at() -> None:
    assert disks.lacks(a_spec(), None, []) == ["nobody told yet which disks it has"]


def test_a_kept_disk_is_no_root_and_nobodys_data_but_of_who_keeps() -> None:
    keeps = [kept(SSD1), kept(HDD[3])]
    assert serials(disks.chosen(a_spec(), SERVER, keeps)) == (["S2"], [])
    named = a_spec(root_device={"serial": "S1"})
    assert "no disk of it fits" in disks.lacks(named, SERVER, keeps)[0]
    plain = a_spec(disks=[OSD | {"count": 4}])
    assert "only 4 of its 6" in disks.lacks(plain, SERVER, keeps)[0]
    again = a_spec(disks=[OSD | {"keep": True}])
    assert serials(disks.chosen(again, SERVER, keeps))[1] == [
        ("ceph-osd", "H3"), ("ceph-osd", "H0"),
    ], "its own kept one first"  # fmt: skip


def test_a_kept_disk_that_vanished_stops_everything() -> None:
    gone = Drive(serial="GONE")
    assert disks.lacks(a_spec(), SERVER, [kept(gone)]) == [
        "its kept disk GONE was not seen by its last inspection"
    ]


def test_a_disk_that_nothing_tells_from_another_is_not_written_to() -> None:
    twins = [Drive(serial="0000", size_bytes=10 * GIB, name=f"/dev/sd{x}") for x in "ab"]
    told = disks.lacks(a_spec(), Inventory(drives=tuple(twins)), [])
    assert told == [
        "its disk /dev/sda for root tells neither serial nor WWN of its own "
        "and is as large as another, "
        "so no order can name it"
    ]
    by_wwn = Inventory(drives=(twins[0].model_copy(update={"wwn": "0xAB"}), twins[1]))
    found = disks.chosen(a_spec(), by_wwn, [])
    assert disks.root_hint(found, by_wwn) == {"root_device": {"wwn": "s== 0xAB"}}


def test_ironic_is_told_the_serial_whatever_the_hint_was() -> None:
    found = disks.chosen(a_spec(root_device={"rotational": False}), SERVER, [])
    assert disks.root_hint(found, SERVER) == {"root_device": {"serial": "s== S1"}}
    assert disks.raid_steps(found, SERVER) == []


def test_a_mirror_is_made_of_two_serials_and_of_nothing_else() -> None:
    found = disks.chosen(a_spec(root_raid=1, root_device={"rotational": False}), SERVER, [])
    (step,) = disks.raid_steps(found, SERVER)
    (array,) = step["args"]["raid_config"]["logical_disks"]
    assert array["physical_disks"] == [{"serial": "s== S1"}, {"serial": "s== S2"}]
    assert step["args"]["delete_existing"] is False, "arrays of other disks are not touched"
    assert disks.root_hint(found, SERVER) == {}


def test_what_is_kept_is_skipped_under_every_name_that_it_and_its_partitions_have() -> None:
    told = disks.ironic_properties([kept(HDD[0])])["skip_block_devices"]
    assert {"serial": "s== H0"} in told
    assert {"wwn_with_extension": "s== 0x5000c50000000000"} in told
    assert {"serial": "s== 5000c50000000000"} in told, "a SAS disk's partitions"
    assert {"name": "<in> /dev/md"} in told
    assert disks.ironic_properties([]) == {}
    assert (disks.raid_interface([]), disks.raid_interface([kept(SSD1)])) == ("agent", "no-raid")


def test_the_order_says_what_each_disk_is_for_and_what_is_kept_later() -> None:
    spec = a_spec(disks=[{"role": "osd", "serial": "H0", "keep": True}, {"role": "log"}])
    told = disks.wanted(spec, disks.chosen(spec, SERVER, [kept(HDD[3])]), [kept(HDD[3])])
    assert told == {
        "root": {"serials": ["S1"], "raid": 0},
        "data": [
            {"serial": "H0", "role": "osd", "keep": True, "wwn": HDD[0].wwn},
            {"serial": "S2", "role": "log"},
        ],
        "kept": [{"serial": "H3"}],
    }
    assert disks.roles({"disks": told}) == {"S1": "root", "H0": "osd", "S2": "log", "H3": "kept"}
    assert disks.roles({}) == {}


def test_other_projects_stay_away_from_what_is_kept() -> None:
    mine, theirs, anybodys = kept(SSD1, "a"), kept(SSD2, "b"), kept(HDD[0])
    assert disks.others([mine, theirs, anybodys], "a") == [theirs]


@pytest.mark.parametrize(
    "wanted",
    [
        {"root_raid": 2},
        {"root_raid": 1, "disks": [{"role": "osd", "keep": True}]},
        {"disks": [{}]},
        {"disks": [{"role": "root"}]},
        {"disks": [{"role": "OSD"}]},
        {"disks": [{"role": "osd\n"}]},
        {"disks": [{"role": "osd", "count": 0}]},
        {"disks": [{"role": "osd", "count": True}]},
        {"disks": [{"role": "osd", "count": "2"}]},
        {"disks": [{"role": "osd", "keep": "yes"}]},
        {"disks": [{"role": "osd", "hctl": "1:0:0:0"}]},
        {"disks": [{"role": "osd", "size": "big"}]},
        {"disks": [{"role": "osd", "serial": "S1", "count": 2}]},
        {"disks": [{"role": "osd", "count": 64}, {"role": "log"}]},
        {"disks": [{"role": "osd"}] * 33},
    ],
)
def test_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        disks.check(a_spec(**wanted))


DRIVES = st.lists(
    st.builds(
        Drive,
        serial=st.sampled_from([f"S{n}" for n in range(9)]),
        size_bytes=st.sampled_from([0, 3 * GIB, 10 * GIB, 20 * GIB, 30 * GIB]),
        media=st.sampled_from(["hdd", "ssd"]),
        name=st.sampled_from([f"/dev/sd{x}" for x in "abcdefghi"] + ["/dev/md127"]),
    ),
    max_size=8,
    unique_by=(lambda d: d.serial, lambda d: d.name),
)
ENTRIES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["a", "b"]), "count": st.integers(1, 3), "keep": st.booleans()},
        optional={"rotational": st.booleans(), "size": st.sampled_from([">= 10", "< 25"])},
    ),
    max_size=3,
)


@given(DRIVES, ENTRIES, st.integers(0, 25), st.sets(st.integers(0, 7)))
def test_whatever_is_chosen_fits_and_is_chosen_once(
    drives: list[Drive], entries: list[dict[str, Any]], disk_gib: int, keeps: set[int]
) -> None:
    server = Inventory(drives=tuple(drives))
    held = [kept(drives[n]) for n in keeps if n < len(drives)]
    spec = a_spec(disks=entries, disk_gib=disk_gib)
    disks.check(spec)
    if disks.lacks(spec, server, held):
        with pytest.raises(Conflict):
            disks.chosen(spec, server, held)
        return
    found = disks.chosen(spec, server, held)
    assert found == disks.chosen(spec, server.model_copy(update={"drives": drives[::-1]}), held)
    (root,) = found["root"]
    taken = [root, *(d for _, d in found["data"])]
    assert len({d.serial for d in taken}) == len(taken)
    assert root.size_bytes >= max(disk_gib, 4) * GIB
    assert root.serial not in [k.serial for k in held]
    assert [role for role, _ in found["data"]] == [
        e["role"] for e in entries for _ in range(e["count"])
    ]
    assert not any(d.name.startswith("/dev/md") or not d.size_bytes for d in taken)
    wanted = [e for e in entries for _ in range(e["count"])]
    for entry, (_, drive) in zip(wanted, found["data"], strict=True):
        assert entry["keep"] or drive.serial not in [k.serial for k in held]
        assert entry.get("rotational", drive.media == "hdd") == (drive.media == "hdd")


def test_a_size_names_a_disk_only_where_the_agent_reads_it_as_the_same_number() -> None:
    """ironic-python-agent 13, device_hints: size in bytes / 2**30 == the hint."""
    whole, part = (Drive(size_bytes=n, name="/dev/vda") for n in (12 * GIB, 12 * GIB + 1))
    assert disks.hint_of(whole, [whole]) == {"size": "== 12"}
    assert disks.hint_of(part, [part]) == {}
