"""One box found by many ways is one record; words that disagree are shown, never hidden."""

import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import select

from provisioning import observations
from provisioning.errors import NotFound
from provisioning.identity import mac_key, serial_key, uuid_key
from provisioning.models import Bmc, Credential
from provisioning.observations import IMPORT, LEASE, LIST, RAMDISK, SWEEP, Word, merged
from provisioning.room import Observation
from provisioning.store import Store
from tests.fakes.store import new_store

MAC_A, MAC_B, NIC = "52:54:00:00:00:0a", "52:54:00:00:00:0b", "52:54:00:00:00:01"
UUID_A, UUID_B = "4c4c4544-0001-4b10-8031-b4c04f4d3332", "4c4c4544-0002-4b10-8031-b4c04f4d3332"
NOW = datetime(2026, 11, 20, tzinfo=UTC)


def word(source: str = SWEEP, **said: object) -> Word:
    blank = {
        "id": uuid4(), "origin": "", "serial": "", "system_uuid": "", "bmc_mac": "",
        "bmc_address": "", "macs": (), "vendor": "", "model": "", "name": "", "node": "",
        "seen_at": NOW,
    }  # fmt: skip
    return Word(source=source, **(blank | said))  # type: ignore[arg-type]


def test_four_ways_to_one_box() -> None:
    (box,) = merged(
        [
            word(LIST, serial="abc1", bmc_mac=MAC_A, origin="pallet.csv"),
            word(LEASE, bmc_mac=MAC_A, bmc_address="10.0.0.5"),
            word(SWEEP, bmc_address="10.0.0.5"),  # no login yet: only the address is known
            word(RAMDISK, serial="ABC1 ", macs=(NIC,)),
            word(IMPORT, macs=(NIC,), name="web-1", origin="nodes.json"),
        ]
    )
    assert box.sources == [SWEEP, RAMDISK, LIST, IMPORT, LEASE]
    assert (box.first("serial").strip(), box.first("name"), box.problems) == ("ABC1", "web-1", ())
    assert box.state == "observed"


@pytest.mark.parametrize(
    "said",
    [
        {"serial": "To be filled by O.E.M."},
        {"serial": "Default string"},
        {"serial": "00000000"},
        {"serial": "None"},
        {"serial": "N/A"},
        {"serial": "...."},
        {"system_uuid": "ffffffff-ffff-ffff-ffff-ffffffffffff"},
        {"system_uuid": "00000000-0000-0000-0000-000000000000"},
        {"system_uuid": "03000200-0400-0500-0006-000700080009"},
        {"system_uuid": "00020003-0004-0005-0006-000700080009"},
        {"bmc_mac": "00:00:00:00:00:00"},
        {"bmc_mac": "ff:ff:ff:ff:ff:ff"},
        {"bmc_address": "::"},
        {"macs": ("00:00:00:00:00:00",)},
    ],
    ids=str,
)
def test_what_means_nothing_joins_nothing(said: dict[str, object]) -> None:
    assert len(merged([word(**said), word(**said), word(RAMDISK, **said)])) == 3


def test_a_uuid_in_two_byte_orders_is_one() -> None:
    swapped = "44454c4c-0100-104b-8031-b4c04f4d3332"
    assert uuid_key(UUID_A) == uuid_key(swapped.upper()) != uuid_key(UUID_B)
    assert len(merged([word(system_uuid=UUID_A), word(RAMDISK, system_uuid=swapped)])) == 1


def test_one_serial_with_two_uuids_is_a_problem() -> None:
    (box,) = merged(
        [
            word(serial="S1", system_uuid=UUID_A, bmc_address="10.0.0.5"),
            word(RAMDISK, serial="s1", system_uuid=UUID_B),
        ]
    )
    assert box.problems == (f"its system UUID differs: {UUID_A} (sweep); {UUID_B} (ramdisk)",)


def test_an_address_that_moved_joins_nobody() -> None:
    found = merged(
        [
            word(serial="S1", bmc_mac=MAC_A, bmc_address="10.0.0.5"),
            word(LEASE, bmc_mac=MAC_B, bmc_address="10.0.0.5"),
        ]
    )
    assert [b.problems for b in found] == [("BMC address 10.0.0.5 is told of 2 servers",)] * 2


def test_a_nic_mac_that_two_servers_share_joins_nobody() -> None:
    found = merged([word(serial=f"S{n}", macs=(NIC, f"52:54:00:00:01:0{n}")) for n in (1, 2)])
    assert [b.problems for b in found] == [(f"NIC MAC {NIC} is told of 2 servers",)] * 2


def test_two_rows_of_one_list_are_two_servers() -> None:
    rows = [
        word(IMPORT, name=n, bmc_address="192.168.122.1", origin="nodes.csv") for n in ("a", "b")
    ]
    assert len(merged(rows)) == 2
    assert len(merged([rows[0], word(bmc_address="192.168.122.1")])) == 1


def test_a_problem_follows_its_box_when_that_grows() -> None:
    found = merged(
        [
            word(serial="S1", bmc_address="10.0.0.5", macs=(NIC,)),
            word(RAMDISK, serial="S2", macs=(NIC, "52:54:00:00:00:02")),
            word(IMPORT, macs=("52:54:00:00:00:02",), name="x"),
        ]
    )
    assert sorted(len(b.words) for b in found) == [1, 2]
    assert all("is told of 2 servers" in b.problems[0] for b in found)


WORDS = st.builds(
    lambda source, **said: word(source, **said),
    st.sampled_from([SWEEP, LEASE, RAMDISK]),
    serial=st.sampled_from(["", "A", "B", "none"]),
    system_uuid=st.sampled_from(["", UUID_A, UUID_B]),
    bmc_mac=st.sampled_from(["", MAC_A, MAC_B]),
    bmc_address=st.sampled_from(["", "10.0.0.1", "10.0.0.2"]),
    macs=st.sampled_from([(), (NIC,)]),
)


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(WORDS, max_size=8), st.randoms(use_true_random=False))
def test_merging_loses_nobody_and_minds_no_order(words: list[Word], dice: object) -> None:
    """Each word is in one box; who shares serial, UUID or BMC MAC is together; order is nothing."""
    found = merged(words)
    home = {w.id: n for n, b in enumerate(found) for w in b.words}
    assert len(home) == len(words) == sum(len(b.words) for b in found)
    for name, key in (("serial", serial_key), ("system_uuid", uuid_key), ("bmc_mac", mac_key)):
        for a in words:
            for b in words:
                if key(getattr(a, name)) and key(getattr(a, name)) == key(getattr(b, name)):
                    assert home[a.id] == home[b.id]
    shuffled = list(words)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    again = merged(shuffled)
    assert {frozenset(w.id for w in b.words) for b in again} == {
        frozenset(w.id for w in b.words) for b in found
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path)


def test_five_thousand_boxes_are_merged_in_a_moment(store: Store) -> None:
    """CPU time, with room for a busy machine: some 0.5 s here; quadratic would be minutes."""
    rows = [(f"S{n:05}", f"52:54:00:01:{n >> 8:02x}:{n & 255:02x}") for n in range(5000)]
    with store.write() as session:
        session.add_all(
            Bmc(address=f"10.1.{n >> 8}.{n & 255}", protocol="redfish", serial=serial)
            for n, (serial, _) in enumerate(rows)
        )
        session.add_all(
            Observation(source=LIST, key=serial, serial=serial, bmc_mac=mac) for serial, mac in rows
        )
    begin = time.process_time()
    with store.read() as session:
        found = observations.boxes(session)
    assert len(found) == 5000
    assert all(b.sources == [SWEEP, LIST] for b in found)
    assert time.process_time() - begin < 10


def test_forgetting_drops_the_word_and_its_login_but_not_the_bmc(store: Store) -> None:
    used, unused = (Credential(name=n, username="u", sealed=b"x") for n in ("used", "unused"))
    with store.write() as session:
        session.add_all([used, unused])
        session.flush()
        session.add(Bmc(address="10.0.0.5", protocol="redfish", serial="S1", credential_id=used.id))
        for credential, source in ((used, LIST), (unused, IMPORT)):
            session.add(
                Observation(source=source, key="s1", serial="S1", credential_id=credential.id)
            )
    with store.write() as session:
        assert observations.forget(session, "s1", None, "me") == 2
    with store.read() as session:
        assert observations.one(session, "10.0.0.5").sources == [SWEEP]
        assert [c.name for c in session.exec(select(Credential))] == ["used"]
    with store.write() as session, pytest.raises(NotFound, match="only a sweep found"):
        observations.forget(session, "S1", None, "me")
    with store.write() as session, pytest.raises(NotFound, match="nobody saw or announced 'S9'"):
        observations.forget(session, "S9", None, "me")
