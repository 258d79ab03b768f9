"""What members tell the gateway, and what becomes of a token that is used from somewhere else."""

from datetime import timedelta
from typing import Any

import pytest

from provisioning import members
from provisioning.cluster_rows import Member
from provisioning.errors import Conflict, Invalid, NotFound, Unauthenticated
from provisioning.members import Report
from provisioning.models import Address, Event, Hold
from provisioning.secrets import digest
from tests.fakes.life import Clock, House
from tests.unit.test_clusters import a_spec, desk, house

__all__ = ["house"]
FIRST, SECOND = "web-control-0", "web-worker-0"


@pytest.fixture
def site(house: House) -> House:
    """Each member's token is its name."""
    desk(house).create(a_spec(), "p", "me")
    with house.store.write() as session:
        for member in house.rows(Member):
            member.token_hash = digest(member.name)
            session.add(member)
    return house


def address(house: House, name: str) -> str:
    member = next(m for m in house.rows(Member) if m.name == name)
    hold = next(h for h in house.rows(Hold) if h.claim_id == member.claim_id)
    return next(a.address for a in house.rows(Address) if a.node_uuid == hold.node_uuid)


def tell(house: House, name: str, **told: Any) -> None:
    facts = {"cluster": "web", "member": name, "step": "init", "state": "running"} | told
    members.report(house.store, name, address(house, name), Report.model_validate(facts))


def row(house: House, name: str) -> Member:
    return next(m for m in house.rows(Member) if m.name == name)


def test_a_step_and_what_it_lacks_are_kept_and_told_once(site: House) -> None:
    for _ in range(3):
        tell(site, FIRST, state="waiting", missing="/usr/bin/kubeadm")
    assert (row(site, FIRST).step_state, row(site, FIRST).missing) == (
        "waiting",
        "/usr/bin/kubeadm",
    )
    told = [e.message for e in site.rows(Event) if e.kind == "member.step"]
    assert told == [f"{FIRST}: init waiting; /usr/bin/kubeadm is missing"]
    assert row(site, FIRST).joined_at is None
    tell(site, FIRST, step="", state="done")
    assert row(site, FIRST).joined_at is not None
    assert row(site, FIRST).missing == ""


def test_a_value_reaches_the_others_and_is_its_givers(site: House) -> None:
    first, second = address(site, FIRST), address(site, SECOND)
    with pytest.raises(NotFound):
        members.get(site.store, SECOND, second, "join")
    members.put(site.store, FIRST, first, "join", b"one")
    members.put(site.store, FIRST, first, "join", b"two")
    assert members.get(site.store, SECOND, second, "join") == b"two"
    with pytest.raises(Conflict, match="gave join already"):
        members.put(site.store, SECOND, second, "join", b"mine")
    assert members.get(site.store, FIRST, first, "join") == b"two"


def test_a_token_from_another_address_ends_and_an_event_says_so(site: House) -> None:
    stranger = address(site, SECOND)
    with pytest.raises(Unauthenticated):
        members.get(site.store, FIRST, stranger, "join")
    with pytest.raises(Unauthenticated):
        tell(site, FIRST)
    (alarm,) = [e for e in site.rows(Event) if e.kind == "member.alarm"]
    assert alarm.message.startswith(f"the token of {FIRST} was used from {stranger}")


def test_who_asks_all_the_time_is_a_write_once_a_minute(site: House) -> None:
    """Nor is one who waits for a value; told_at follows as exactly as it says."""
    first = address(site, FIRST)
    before, begin = site.store.commits, Clock.at
    for _ in range(25):
        members.orders(site.store, FIRST, first)
        with pytest.raises(NotFound):
            members.get(site.store, FIRST, first, "join")
        seen = row(site, FIRST).told_at
        assert seen is not None
        assert Clock.at - seen < members.HEARD
        Clock.at += timedelta(seconds=12)
    assert site.store.commits - before == 5 == (Clock.at - begin) / members.HEARD
    with pytest.raises(Unauthenticated):
        members.orders(site.store, FIRST, address(site, SECOND))
    assert site.store.commits - before == 6, "the token's end is one more"
    assert row(site, FIRST).token_hash == ""


def test_nobody_speaks_for_another(site: House) -> None:
    told = Report(cluster="web", member=SECOND, step="init", state="done")
    with pytest.raises(Conflict, match="another member's"):
        members.report(site.store, FIRST, address(site, FIRST), told)
    assert row(site, SECOND).step == ""


@pytest.mark.parametrize("token", ["", "nonsense", digest(FIRST)])
def test_what_is_no_token_opens_nothing(site: House, token: str) -> None:
    with pytest.raises(Unauthenticated):
        members.put(site.store, token, address(site, FIRST), "join", b"x")


@pytest.mark.parametrize(
    ("name", "content"), [("../x", b"x"), ("", b"x"), ("join", b""), ("join", bytes(65 * 1024))]
)
def test_a_value_that_cannot_be_is_refused(site: House, name: str, content: bytes) -> None:
    with pytest.raises(Invalid):
        members.put(site.store, FIRST, address(site, FIRST), name, content)


def test_a_cluster_keeps_so_many_values_and_no_more(site: House) -> None:
    first = address(site, FIRST)
    for n in range(members.MANY):
        members.put(site.store, FIRST, first, f"v{n}", b"x")
    with pytest.raises(Conflict, match="keeps 32 values"):
        members.put(site.store, FIRST, first, "one-more", b"x")
