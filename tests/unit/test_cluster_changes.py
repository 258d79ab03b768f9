"""A cluster that changes on a small house: its nodes do what their orders say, and so do dead ones.

Where it says so, the reconciler is killed after a commit of its own, each time after a later one,
until a life came to its end; then after the first again.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from provisioning import members
from provisioning.cluster_changes import Clusters
from provisioning.cluster_release import Giving
from provisioning.cluster_rows import Cluster, Member
from provisioning.cluster_steps import Clustering
from provisioning.errors import Conflict, Invalid, NoCapacity, NotFound, SeedError
from provisioning.members import Report
from provisioning.models import Address, Claim, Event, Hold
from provisioning.outcome import Stuck
from provisioning.reconcile import Reconciler
from provisioning.states import ClaimState, ClusterState, MemberGoal, Parting, Wanted
from tests.fakes.life import Clock, House, Killed
from tests.unit.test_cluster_life import can_seal, cluster
from tests.unit.test_clusters import a_house, a_spec

S = ClusterState
MINUTE = timedelta(minutes=1)
STAYS = (ClaimState.ACTIVE, Wanted.ACTIVE)
MOVING = (Parting.DRAINING, Parting.LEAVING, Parting.LEFT, Parting.LOST)


class Site:
    """A house with one cluster, whose nodes act each round as member.py does.

    dead: names of members that say nothing. broken: that never join, and say so. kill: the
    reconciler dies. seen: (state, names of those that are moving) of each round.
    """

    def __init__(self, house: House) -> None:
        self.house, self.kill = house, False
        self.dead: set[str] = set()
        self.broken: set[str] = set()
        self.commits, self.dies_at = 0, 1
        self.addresses: dict[UUID, str] = {}
        self.seen: list[tuple[ClusterState, tuple[str, ...]]] = []
        can_seal(house)
        self.desk = Clusters(house.store, house.desk)

    def create(self, control: int = 3, workers: int = 2, **told: Any) -> "Site":
        spec = a_spec(control={"count": control}, workers={"count": workers}, **told)
        self.desk.create(spec, "p", "me")
        return self.until(S.READY)

    @property
    def cluster(self) -> Cluster:
        return cluster(self.house)

    def living(self, role: str = "") -> list[Member]:
        rows = [m for m in self.house.rows(Member) if m.ended_at is None]
        return sorted((m for m in rows if role in ("", m.role)), key=lambda m: (m.role, m.number))

    def names(self, role: str = "") -> list[str]:
        return [member.name.removeprefix("web-") for member in self.living(role)]

    def member(self, name: str) -> Member:
        found: Member = next(m for m in self.house.rows(Member) if m.name == name)
        return found

    def claim(self, name: str) -> Claim:
        claims = {claim.id: claim for claim in self.house.rows(Claim)}
        found: Claim = claims[self.member(name).claim_id]
        return found

    def address(self, member: Member) -> str:
        if member.id not in self.addresses:
            hold = next(h for h in self.house.rows(Hold) if h.claim_id == member.claim_id)
            rows = self.house.rows(Address)
            own = next(str(a.address) for a in rows if a.node_uuid == hold.node_uuid)
            self.addresses[member.id] = own
        return self.addresses[member.id]

    def orders(self, name: str) -> dict[str, Any]:
        member = self.member(name)
        token = f"token-member:{member.id}"
        return members.orders(self.house.store, token, self.address(member))

    def tell(self, name: str, step: str, state: str = "done", **told: Any) -> None:
        member = self.member(name)
        told = {"cluster": "web", "member": name, "step": step, "state": state} | told
        token = f"token-member:{member.id}"
        members.report(self.house.store, token, self.address(member), Report.model_validate(told))

    # --- what goes on by itself -----------------------------------------------------------------

    def step(self) -> None:
        self.commits = 0
        if self.kill:
            self.house.store.hook = self._die
        try:
            self.house.reconciler._cluster(self.cluster.id)
            self.dies_at = 1
        except Killed:
            self.house.reconciler = Reconciler(self.house.reconciler.parts, None)  # type: ignore[arg-type]
        finally:
            self.house.store.__dict__.pop("hook", None)

    def _die(self, _when: str, what: str, _args: tuple[Any, ...]) -> None:
        self.commits += what == "commit"
        if self.commits == self.dies_at:
            self.dies_at += 1
            raise Killed

    def round(self) -> None:
        self.step()
        moving = [
            m for m in self.house.rows(Member)
            if m.parting in MOVING and (m.ended_at is None or m.parting in MOVING[2:])
        ]  # fmt: skip
        self.seen.append((self.cluster.state, tuple(sorted(m.name for m in moving))))
        moves = [c for c in self.house.living() if (c.state, c.wanted) != STAYS]
        if moves:
            self.house.see()
        for claim in moves:
            self.house.step(claim.id)
        if moves:
            self.house.work()
        states = {claim.id: claim.state for claim in self.house.rows(Claim)}
        for member in self.living():
            if member.name not in self.dead and states[member.claim_id] is ClaimState.ACTIVE:
                self.act(member)

    def act(self, member: Member) -> None:
        told = self.orders(member.name)
        if member.name in self.broken:
            self.tell(member.name, "join", "failed", detail="it ended with 1")
        elif member.joined_at is None and told["goal"] == "joined":
            self.tell(member.name, "")
        for verb in ("drain", "forget"):
            for name in told[verb]:
                self.tell(member.name, f"{verb} {name}")
        if told["goal"] == "leaving":
            self.tell(member.name, "left")

    def rounds(self, done: Callable[[], bool], times: int = 150) -> "Site":
        for _ in range(times):
            if done():
                return self
            self.round()
        row = self.cluster
        raise AssertionError(f"{row.state}: {row.detail} {row.problem}: {self.names()}")

    def until(self, state: ClusterState) -> "Site":
        return self.rounds(lambda: self.cluster.state is state)

    def settled(self) -> "Site":
        """Ready, nobody is on the way, and every server that is not a member's is free."""
        return self.rounds(self._is_settled)

    def _is_settled(self) -> bool:
        rows = self.house.rows(Member)
        over = all(
            m.parting in (Parting.NO, Parting.FORGOTTEN) and m.goal is not MemberGoal.LEAVING
            for m in rows
        )
        held = {h.claim_id for h in self.house.rows(Hold) if h.claim_id}
        living = self.living()
        joined = all(m.joined_at and m.revision == self.cluster.revision for m in living)
        return bool(
            self.cluster.state is S.READY and over and joined
            and held == {m.claim_id for m in living}
        )  # fmt: skip

    def everything(self) -> list[Any]:
        """What a refusal may not change."""
        kinds = (Cluster, Member, Claim, Hold, Address, Event)
        return [[row.model_dump() for row in self.house.rows(kind)] for kind in kinds]


@pytest.fixture
def site() -> Iterator[Site]:
    """Nine servers."""
    with a_house(9) as house:
        yield Site(house)


@pytest.fixture(params=[False, True], ids=["", "killed after each write"])
def mortal(request: pytest.FixtureRequest, site: Site) -> Site:
    site.kill = request.param
    return site


def untouched(before: list[Member], site: Site) -> bool:
    after = {member.id: member for member in site.living()}
    kept = [(m.claim_id, m.token_hash, m.joined_at, m.parting) for m in before]
    return kept == [
        (m.claim_id, m.token_hash, m.joined_at, m.parting)
        for m in (after[one.id] for one in before)
    ]


# --- scale --------------------------------------------------------------------------------------


def test_new_workers_come_and_those_that_are_there_stay(mortal: Site) -> None:
    before = mortal.create().living()
    mortal.seen.clear()
    mortal.desk.scale("p", "web", "me", workers=4)
    assert mortal.names("worker") == [f"worker-{n}" for n in range(4)]
    mortal.settled()
    assert untouched(before, mortal)
    states = [state for state, _ in mortal.seen]
    assert list(dict.fromkeys(states))[-3:] in (
        [S.READY, S.DEPLOYING, S.BOOTSTRAPPING], [S.DEPLOYING, S.BOOTSTRAPPING, S.READY],
    )  # fmt: skip
    again = mortal.desk.scale("p", "web", "me", workers=4)
    assert again.changes == 1


def test_workers_go_and_their_numbers_are_never_used_again(mortal: Site) -> None:
    mortal.create()
    mortal.desk.remove("p", "web", ["web-worker-1"], "me")
    assert mortal.cluster.spec["workers"]["count"] == 1
    mortal.settled()
    assert mortal.names("worker") == ["worker-0"]
    assert mortal.member("web-worker-1").parting is Parting.FORGOTTEN
    mortal.desk.scale("p", "web", "me", workers=3)
    mortal.settled()
    assert mortal.names("worker") == ["worker-0", "worker-2", "worker-3"]
    mortal.desk.scale("p", "web", "me", workers=0)
    assert mortal.settled().names() == ["control-0", "control-1", "control-2"]


def test_control_planes_come_and_their_peers_are_told_at_once(site: Site) -> None:
    site.create(control=1, workers=1)
    alone = site.orders("web-control-0")["files"]
    site.desk.scale("p", "web", "me", control=3)
    told = site.orders("web-control-0")["files"]
    assert set(told) == {"/etc/haproxy/haproxy.cfg", "/etc/keepalived/keepalived.conf"}
    assert "web-control-2" in told["/etc/haproxy/haproxy.cfg"]
    assert told["/etc/keepalived/keepalived.conf"] != alone["/etc/keepalived/keepalived.conf"]
    site.settled()
    assert site.names("control") == ["control-0", "control-1", "control-2"]
    assert site.orders("web-worker-0")["files"] == {}


def test_control_planes_leave_one_after_the_other(mortal: Site) -> None:
    mortal.create(control=5, workers=1)
    mortal.seen.clear()
    mortal.desk.scale("p", "web", "me", control=1)
    mortal.settled()
    assert mortal.names("control") == ["control-0"]
    assert max(len(moving) for _, moving in mortal.seen) == 1
    assert {state for state, _ in mortal.seen} == {S.READY}
    assert "web-control-4" not in str(mortal.orders("web-control-0")["files"])


def test_who_does_not_leave_keeps_its_server(site: Site) -> None:
    site.create()
    site.dead = {"web-worker-0"}
    site.desk.remove("p", "web", ["web-worker-0"], "me")
    for _ in range(10):
        site.round()
    assert "worker-0" in site.names()
    assert site.member("web-worker-0").parting is Parting.LEAVING
    Clock.at += 4 * MINUTE
    for _ in range(3):
        site.round()
    assert "worker-0" in site.names()
    Clock.at += 2 * MINUTE  # nobody heard of anybody for two minutes: the seed may have been down
    site.step()
    assert "worker-0" in site.names()
    site.settled()
    assert site.names("worker") == ["worker-1"]
    assert "web-worker-0: lost" in [e.message for e in site.house.rows(Event)]


@pytest.mark.parametrize(
    ("counts", "error", "sentence"),
    [
        ({"control": 2}, Invalid, "control.count: 2 control planes bear no more"),
        ({"control": 0}, Invalid, "control.count: 1 to 7"),
        ({"control": -1}, Invalid, "control.count"),
        ({"control": 9}, Invalid, "control.count: 1 to 7"),
        ({"workers": -1}, Invalid, "workers.count"),
        ({"workers": 501}, Invalid, "workers.count: at most 500"),
        ({"workers": 7}, NoCapacity, "workers: claim web wants 5 "),
        ({"control": 5, "workers": 6}, NoCapacity, "workers: claim web wants 4 "),
    ],
)
def test_a_size_that_cannot_be_is_refused_and_nothing_is_written(
    site: Site, counts: dict[str, Any], error: type[SeedError], sentence: str
) -> None:
    before = site.create().everything()
    with pytest.raises(error, match=sentence) as refused:
        site.desk.scale("p", "web", "me", **counts)
    assert refused.value.remedy
    assert site.everything() == before


def test_who_has_no_quorum_is_not_scaled(site: Site) -> None:
    site.create()
    Clock.at += 6 * MINUTE
    site.dead = {"web-control-1", "web-control-2"}
    site.round()
    before = site.everything()
    for count in (1, 5):
        with pytest.raises(Conflict, match=r"control.count: .* web-control-1, web-control-2"):
            site.desk.scale("p", "web", "me", control=count)
    assert site.everything() == before
    assert site.desk.scale("p", "web", "me", workers=3)


@pytest.mark.parametrize(
    ("names", "error", "sentence"),
    [
        (["web-worker-0", "web-control-0"], Invalid, "members: web-control-0 is a control plane"),
        (["web-worker-0", "web-worker-7"], NotFound, "members: web-worker-7 is no member of web"),
    ],
)
def test_only_its_workers_are_removed(
    site: Site, names: list[str], error: type[SeedError], sentence: str
) -> None:
    before = site.create().everything()
    with pytest.raises(error, match=sentence):
        site.desk.remove("p", "web", names, "me")
    assert site.everything() == before
    with pytest.raises(NotFound):
        site.desk.remove("q", "web", ["web-worker-0"], "me")


# --- replace ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["web-worker-0", "web-control-0"])
def test_a_replacement_joins_before_the_other_leaves(mortal: Site, name: str) -> None:
    mortal.create()
    role = mortal.member(name).role
    new = {"worker": "web-worker-2", "control": "web-control-3"}[role]
    mortal.desk.replace("p", "web", name, "me")
    mortal.rounds(lambda: mortal.member(name).parting is not Parting.NO)
    assert mortal.member(new).joined_at is not None
    mortal.settled()
    assert name not in [m.name for m in mortal.living()]
    assert len(mortal.living()) == 5


@pytest.mark.parametrize("name", ["web-worker-0", "web-control-0"])
def test_a_dead_one_goes_first(mortal: Site, name: str) -> None:
    mortal.create()
    mortal.dead = {name}
    mortal.round()
    Clock.at += 6 * MINUTE
    mortal.rounds(lambda: mortal.cluster.state is S.DEGRADED)
    assert (
        f"{name} is not heard of"
        in mortal.rounds(lambda: bool(mortal.cluster.problem)).cluster.problem
    )
    mortal.desk.replace("p", "web", name, "me")
    mortal.rounds(lambda: mortal.member(name).ended_at is not None)
    new = {"worker": "web-worker-2", "control": "web-control-3"}[mortal.member(name).role]
    assert mortal.member(new).joined_at is None
    mortal.settled()
    assert mortal.member(name).parting is Parting.FORGOTTEN
    assert len(mortal.living()) == 5


def test_a_check_that_fails_because_of_one_who_goes_stops_nobody(site: Site) -> None:
    """Swarm's managers see who is not there; whoever waits for the change is told of no problem."""
    site.create()
    site.dead, fails = {"web-worker-1"}, "it ended with 1: not Ready: web-worker-1"
    site.tell("web-control-0", "check", "failed", detail=fails)
    site.rounds(lambda: fails in site.cluster.problem)
    assert site.cluster.state is S.DEGRADED
    seen = site.cluster
    site.desk.replace("p", "web", "web-worker-1", "me")
    assert site.cluster.problem == ""
    late = Stuck(fails, "found out before the wish")
    Clustering(site.house.reconciler.parts).write(seen, late)
    assert site.cluster.problem == ""
    problems = set()

    def is_over() -> bool:
        problems.add(site.cluster.problem)
        if site.member("web-worker-2").joined_at:
            Clock.at += 2 * MINUTE
        state = "done" if site.member("web-worker-1").parting is Parting.FORGOTTEN else "failed"
        site.tell("web-control-0", "check", state, detail=fails)
        return site._is_settled()

    site.rounds(is_over)
    assert problems == {""}
    parted = site.member("web-worker-1").parted_at
    assert parted
    Clock.at = parted + MINUTE
    site.tell("web-control-0", "check", "failed", detail=fails)
    site.round()
    assert site.cluster.state is S.READY, "it may have begun while that one was there"
    Clock.at += 2 * MINUTE
    site.rounds(lambda: fails in site.cluster.problem)
    assert site.cluster.state is S.DEGRADED


def test_what_would_break_the_quorum_is_refused(site: Site) -> None:
    site.create()
    site.dead = {"web-control-2"}
    Clock.at += 6 * MINUTE
    site.round()
    before = site.everything()
    with pytest.raises(Conflict, match=r"member: without web-control-0 .* \(web-control-2\)"):
        site.desk.replace("p", "web", "web-control-0", "me")
    with pytest.raises(NotFound, match="member: web-worker-9 is no member"):
        site.desk.replace("p", "web", "web-worker-9", "me")
    assert site.everything() == before
    site.desk.replace("p", "web", "web-control-2", "me")


def test_the_only_control_plane_goes_once_it_has_a_successor(mortal: Site) -> None:
    mortal.create(control=1, workers=1)
    mortal.desk.replace("p", "web", "web-control-0", "me")
    mortal.settled()
    assert mortal.names() == ["control-1", "worker-0"]


def test_the_only_control_plane_that_is_dead_is_not_replaced(site: Site) -> None:
    site.create(control=1, workers=1)
    Clock.at += 6 * MINUTE
    with pytest.raises(Conflict, match="member: without web-control-0 no majority"):
        site.desk.replace("p", "web", "web-control-0", "me")


def test_who_cannot_leave_is_given_up_by_a_second_word(site: Site) -> None:
    site.create()
    site.desk.replace("p", "web", "web-worker-0", "me")
    site.rounds(lambda: site.member("web-worker-2").joined_at is not None)
    site.step()
    assert site.member("web-worker-0").parting is Parting.DRAINING
    site.dead = {"web-worker-0"} | {f"web-control-{n}" for n in range(3)}
    site.tell("web-control-1", "drain web-worker-0", "failed", detail="a budget forbids it")
    site.rounds(lambda: "a budget forbids it" in site.cluster.problem)
    site.desk.replace("p", "web", "web-worker-0", "me")
    site.dead = {"web-worker-0"}
    site.settled()
    assert site.names("worker") == ["worker-1", "worker-2"]


# --- upgrade ------------------------------------------------------------------------------------


def upgraded(site: Site) -> list[str]:
    """Who was given back, in order."""
    told = [e.message for e in site.house.rows(Event) if e.kind == "member.ended"]
    return [message.partition(":")[0].removeprefix("web-") for message in told]


def test_an_upgrade_takes_one_after_the_other_and_control_planes_first(mortal: Site) -> None:
    mortal.create(version="1.35.4")
    mortal.seen.clear()
    mortal.desk.upgrade("p", "web", "me", version="1.36.2", image="newer")
    counts: set[tuple[int, int]] = set()

    def is_done() -> bool:
        counts.add((len(mortal.living("control")), len(mortal.living("worker"))))
        return mortal._is_settled()

    mortal.rounds(is_done, 400)
    assert upgraded(mortal) == ["control-0", "control-1", "control-2", "worker-0", "worker-1"]
    assert counts == {(3, 2), (4, 2), (3, 3)}
    assert max(len(moving) for _, moving in mortal.seen) == 1
    assert mortal.names() == ["control-3", "control-4", "control-5", "worker-2", "worker-3"]
    assert {m.version for m in mortal.living()} == {"1.36.2"}
    assert {mortal.claim(m.name).image for m in mortal.living()} == {"newer"}
    assert S.UPGRADING in {state for state, _ in mortal.seen}
    changes = mortal.cluster.changes
    assert mortal.desk.upgrade("p", "web", "me", version="1.36.2").changes == changes


def test_without_a_free_server_each_goes_before_its_successor_comes(site: Site) -> None:
    site.create(control=3, workers=6)
    site.desk.upgrade("p", "web", "me", image="newer")
    site.rounds(site._is_settled, 400)
    assert len(upgraded(site)) == 9
    assert {site.claim(m.name).image for m in site.living()} == {"newer"}


def test_an_upgrade_stops_at_the_first_that_fails_and_another_goes_on(site: Site) -> None:
    site.create(version="1.35.4")
    site.broken = {"web-control-3"}
    site.desk.upgrade("p", "web", "me", version="1.36.1")
    site.rounds(lambda: bool(site.cluster.problem), 100)
    for _ in range(5):
        site.round()
    assert site.cluster.state is S.UPGRADING
    assert site.cluster.problem == "web-control-3: join failed: it ended with 1"
    assert site.cluster.remedy == "seed cluster replace web web-control-3"
    assert site.names() == [*(f"control-{n}" for n in range(4)), "worker-0", "worker-1"]
    with pytest.raises(Invalid, match=r"version: 1.36.0 is older than 1.36.1"):
        site.desk.upgrade("p", "web", "me", version="1.36.0")
    with pytest.raises(Conflict, match="is upgrading"):
        site.desk.scale("p", "web", "me", workers=3)
    site.desk.upgrade("p", "web", "me", version="1.36.2")
    site.rounds(site._is_settled, 400)
    assert {m.version for m in site.living()} == {"1.36.2"}
    assert len(site.living()) == 5


@pytest.mark.parametrize(
    ("told", "error", "sentence"),
    [
        ({"version": "1.37.0"}, Invalid, "version: "),
        ({"version": "1.36.0"}, Invalid, "version: 1.36.0 skips minor versions after 1.34.2"),
        ({"version": "1.34.1"}, Invalid, "version: 1.34.1 is older than 1.34.2"),
        ({"version": "newest"}, Invalid, "version: "),
        ({}, Invalid, "version: neither"),
        ({"image": "a b"}, Invalid, "image"),
    ],
)
def test_an_upgrade_that_cannot_be_is_refused_and_nothing_is_written(
    site: Site, told: dict[str, Any], error: type[SeedError], sentence: str
) -> None:
    before = site.create(control=1, workers=1, version="1.34.2").everything()
    with pytest.raises(error, match=sentence):
        site.desk.upgrade("p", "web", "me", **told)
    assert site.everything() == before


def test_a_cluster_that_is_not_whole_is_not_upgraded(site: Site) -> None:
    site.create()
    site.dead = {"web-worker-1"}
    Clock.at += 6 * MINUTE
    site.round()
    with pytest.raises(Conflict, match="member: web-worker-1 is not there"):
        site.desk.upgrade("p", "web", "me", image="newer")


def test_the_only_control_plane_is_not_upgraded_without_a_server_for_its_successor(
    site: Site,
) -> None:
    before = site.create(control=1, workers=8).everything()
    with pytest.raises(NoCapacity, match=r"control.count: the only control plane"):
        site.desk.upgrade("p", "web", "me", image="newer")
    assert site.everything() == before


def test_the_only_control_plane_is_upgraded(mortal: Site) -> None:
    mortal.create(control=1, workers=1)
    mortal.desk.upgrade("p", "web", "me", image="newer")
    mortal.rounds(mortal._is_settled, 300)
    assert mortal.names() == ["control-1", "worker-1"]


# --- and then -----------------------------------------------------------------------------------


def test_a_cluster_that_changes_is_released_as_any_other(site: Site) -> None:
    site.create()
    site.desk.scale("p", "web", "me", workers=4, control=1)
    for _ in range(4):
        site.round()
    giving = Giving(site.house.store, site.house.desk)
    giving.release("p", "web", giving.plan("p", "web").hash, "me", True)
    with pytest.raises(Conflict, match="is being released"):
        site.desk.scale("p", "web", "me", workers=1)
    site.rounds(lambda: site.cluster.state is S.RELEASED)
    site.rounds(lambda: not [h for h in site.house.rows(Hold) if h.claim_id])
    assert {c.state for c in site.house.rows(Claim)} == {ClaimState.RELEASED}


def test_only_a_control_plane_speaks_for_others_and_only_of_what_it_was_asked(site: Site) -> None:
    site.create()
    with pytest.raises(Conflict, match="web-worker-1 does nothing for web-worker-0"):
        site.tell("web-worker-1", "drain web-worker-0")
    with pytest.raises(Conflict):
        site.tell("web-control-1", "drain web-control-1")
    site.tell("web-control-1", "drain web-worker-0")
    site.tell("web-control-1", "forget web-worker-0")
    site.tell("web-worker-0", "left")
    assert site.member("web-worker-0").parting is Parting.NO
    assert UUID(str(site.member("web-worker-0").claim_id))
    assert site.settled().names("worker") == ["worker-0", "worker-1"]
