"""A cluster's life on a small house: asked for, deployed, joined, and given back."""

import json
import socket
from dataclasses import replace
from typing import Any

from provisioning import holders, members
from provisioning.cluster_release import Giving
from provisioning.cluster_rows import Cluster, Member, MemberValue
from provisioning.members import Report
from provisioning.models import Address, Claim, Hold
from provisioning.one_time import OneTimePart
from provisioning.secrets import Sealer, Unsealer, make_keys
from provisioning.states import AddressKind, ClaimState, ClusterState
from tests.fakes.life import House
from tests.unit.test_clusters import a_spec, desk, house, nothing_is_there

__all__ = ["house"]
S = ClusterState


def can_seal(house: House) -> None:
    private, public = house.folder / "master.key", house.folder / "master.pub"
    make_keys(private, public)
    parts = replace(house.reconciler.parts, sealer=Sealer(public), unseal=Unsealer(private).open)
    parts.__dict__["gang"] = house.reconciler.parts.__dict__["gang"]
    house.reconciler.parts = parts


def cluster(house: House) -> Cluster:
    (found,) = house.rows(Cluster)
    return found  # type: ignore[no-any-return]


def rounds(house: House, until: ClusterState, times: int = 60) -> None:
    for _ in range(times):
        if cluster(house).state is until:
            return
        house.reconciler._cluster(cluster(house).id)
        house.round()
    raise AssertionError(
        f"{cluster(house).state}: {cluster(house).detail} {cluster(house).problem}"
    )


def tell(house: House, member: Member, **told: Any) -> None:
    hold = next(h for h in house.rows(Hold) if h.claim_id == member.claim_id)
    source = next(a.address for a in house.rows(Address) if a.node_uuid == hold.node_uuid)
    facts = {"cluster": "web", "member": member.name, "step": "", "state": "done"} | told
    members.report(house.store, f"token-member:{member.id}", source, Report.model_validate(facts))


def test_it_is_ready_once_all_joined_and_leaves_nothing_behind(house: House) -> None:
    can_seal(house)
    desk(house).create(a_spec(), "p", "me")
    rounds(house, S.BOOTSTRAPPING)
    assert {c.state for c in house.rows(Claim)} == {ClaimState.ACTIVE}
    names = {part.name for part in house.rows(OneTimePart)}
    assert "/etc/kubernetes/pki/etcd/ca.key" in names
    assert all(not part.content for part in house.rows(OneTimePart)), "burnt by the proofs"

    first, *others = sorted(house.rows(Member), key=lambda m: m.name)
    tell(house, first, step="binaries", state="waiting", missing="/usr/bin/kubeadm")
    house.reconciler._cluster(cluster(house).id)
    assert cluster(house).problem == f"{first.name} lacks /usr/bin/kubeadm"
    for member in (first, *others):
        assert cluster(house).state is S.BOOTSTRAPPING
        tell(house, member)
        house.reconciler._cluster(cluster(house).id)
    assert (cluster(house).state, cluster(house).problem) == (S.READY, "")

    said = (
        "it ended with 1: x\nnot Ready: web-worker-7\nTo see the stack trace of this error, ...\n"
    )
    tell(house, others[0], step="check", state="failed", detail=said)
    house.reconciler._cluster(cluster(house).id)
    house.reconciler._cluster(cluster(house).id)
    assert cluster(house).state is S.DEGRADED
    why = f"{others[0].name}: check failed: not Ready: web-worker-7"
    assert cluster(house).problem == why
    tell(house, others[0], step="check", state="done")
    house.reconciler._cluster(cluster(house).id)
    assert cluster(house).state is S.READY

    giving = Giving(house.store, house.desk)
    giving.release("p", "web", giving.plan("p", "web").hash, "me", True)
    rounds(house, S.RELEASED)
    assert {c.state for c in house.rows(Claim)} == {ClaimState.RELEASED}
    assert not [h for h in house.rows(Hold) if h.claim_id]
    assert {a.kind for a in house.rows(Address)} == {AddressKind.BOOT}
    assert not house.rows(MemberValue)
    assert cluster(house).sealed == b""


def test_its_secrets_are_made_once_and_only_the_reconciler_reads_them(house: House) -> None:
    can_seal(house)
    desk(house).create(a_spec(), "p", "me")
    identity = cluster(house).id
    house.reconciler._cluster(identity)
    sealed = cluster(house).sealed
    told = json.loads(house.reconciler.parts.unseal(sealed, f"cluster/{identity}"))
    assert {"ca.key", "etcd/ca.key", "token"} <= set(told)
    assert told["token"].encode() not in sealed
    with house.store.write() as session:  # a death before the state was written
        row = session.get_one(Cluster, identity)
        row.state = S.CLAIMING
        session.add(row)
    house.reconciler._cluster(identity)
    assert cluster(house).sealed == sealed


def test_no_node_is_deployed_before_all_have_theirs(house: House) -> None:
    desk(house).create(a_spec(), "p", "me")
    for _ in range(5):
        house.round()
    states = {c.state for c in house.rows(Claim)}
    assert states == {ClaimState.ALLOCATED}
    assert {c.detail for c in house.rows(Claim)} == {"its cluster's secrets are being made"}
    assert not nothing_is_there(house)


def test_a_vip_that_answers_stops_it_before_any_disk_is_touched(house: House) -> None:
    can_seal(house)
    parts = replace(house.reconciler.parts, answers=holders.answers)
    parts.__dict__["gang"] = house.reconciler.parts.__dict__["gang"]
    house.reconciler.parts = parts
    desk(house).create(a_spec(), "p", "me")
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        with house.store.write() as session:
            row = session.get_one(Cluster, cluster(house).id)
            row.vip = "127.0.0.1"  # the room's networks have no way to here
            row.spec = {**row.spec, "api": {**row.spec["api"], "port": somebody.getsockname()[1]}}
            session.add(row)
        house.reconciler._cluster(cluster(house).id)
    assert "127.0.0.1 answers already" in cluster(house).problem
    assert cluster(house).state is S.CLAIMING
    for _ in range(3):
        house.round()
    assert {c.state for c in house.rows(Claim)} == {ClaimState.ALLOCATED}


def test_who_refuses_a_connection_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
        assert holders.answers("127.0.0.1", port)
    assert not holders.answers("127.0.0.1", port)
