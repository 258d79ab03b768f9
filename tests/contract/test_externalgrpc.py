"""Cluster Autoscaler's protocol, spoken by a real client over mutual TLS with a running server."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from provisioning import autoscalers
from provisioning.autoscaling import Autoscaling
from provisioning.cluster_changes import Clusters
from provisioning.cluster_rows import Cluster, Member
from provisioning.hardware import Drive, Inventory
from provisioning.models import Bmc, Claim, Hold, now
from provisioning.states import ClaimState, MemberGoal, Wanted
from seed.autoscaler import core_v1_pb2 as core
from seed.autoscaler import externalgrpc_pb2 as pb
from seed.autoscaler import provider
from tests.fakes.appliance import until
from tests.fakes.autoscaler import SERVICE, Client, Door, a_door, a_key, make_keys
from tests.fakes.autoscaler import served_settings as other_settings
from tests.fakes.life import Clock, House
from tests.unit.test_clusters import a_spec, house

__all__ = ["house"]
Code = grpc.StatusCode
WEB, SHOP = "web-worker", "shop-worker"
LIMITS = {"min": 1, "max": 4}


@pytest.fixture
def sizes(house: House) -> Clusters:
    return Clusters(house.store, house.desk)


@pytest.fixture
def door(house: House, sizes: Clusters, tmp_path: Path) -> Iterator[Door]:
    """Two clusters of two projects: web with two workers, shop with one; one server is free."""
    clusters = Clusters(house.store, house.desk)
    workers = {"count": 2, "autoscale": LIMITS, "node_labels": {"disk": "nvme"},
               "node_taints": ["dedicated=batch:NoSchedule"]}  # fmt: skip
    clusters.create(a_spec(control={"count": 1}, workers=workers), "p", "me")
    shop = a_spec(name="shop", control={"count": 1}, workers={"count": 1, "autoscale": LIMITS})
    clusters.create(shop, "q", "you")
    with a_door(tmp_path, Autoscaling(house.store, sizes)) as door:
        yield door


@pytest.fixture
def web(door: Door) -> Client:
    return door.client("web")


def member(house: House, name: str) -> Member:
    return next(m for m in house.rows(Member) if m.name == name)


def node(house: House, name: str, /, **other: str) -> Any:
    """As the autoscaler names the node of this member."""
    hold = next(h for h in house.rows(Hold) if h.claim_id == member(house, name).claim_id)
    facts = {"providerID": f"seed://{hold.node_uuid}", "name": name} | other
    return pb.ExternalGrpcNode(**facts)


def change(house: House, row: Any, **facts: Any) -> None:
    with house.store.write() as session:
        found = session.get_one(type(row), row.id)
        for name, value in facts.items():
            setattr(found, name, value)
        session.add(found)


def going(house: House) -> set[str]:
    return {m.name for m in house.rows(Member) if m.goal is not MemberGoal.JOINED}


def refused(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def size(client: Client, group: str = WEB) -> int:
    return int(client("NodeGroupTargetSize", id=group).targetSize)


# --- what is there --------------------------------------------------------------------------------


def test_a_cluster_is_one_group_with_its_limits(web: Client, door: Door) -> None:
    (group,) = web("NodeGroups").nodeGroups
    assert (group.id, group.minSize, group.maxSize) == (WEB, 1, 4)
    assert group.debug == "2 workers of class baremetal with image debian in cluster web"
    assert size(web) == 2
    (other,) = door.client("shop", "q")("NodeGroups").nodeGroups
    assert (other.id, size(door.client("shop", "q"), SHOP)) == (SHOP, 1)


def test_workers_are_of_the_group_and_nothing_else_is(web: Client, house: House) -> None:
    def group_of(asked: Any) -> str:
        return str(web("NodeGroupForNode", node=asked).nodeGroup.id)

    named = node(house, "web-worker-1")
    assert group_of(named) == WEB
    assert group_of(pb.ExternalGrpcNode(name="web-worker-1")) == WEB
    assert group_of(pb.ExternalGrpcNode(name=named.providerID, providerID=named.providerID)) == WEB
    for other in (
        node(house, "web-control-0"),
        node(house, "shop-worker-0"),
        node(house, "shop-worker-0", name="web-worker-1"),
        pb.ExternalGrpcNode(),
        pb.ExternalGrpcNode(name="x" * 100_000, providerID="seed://"),
    ):
        assert group_of(other) == ""


def test_each_node_tells_how_far_it_is(web: Client, house: House) -> None:
    def states() -> list[tuple[int, str, int]]:
        found = web("NodeGroupNodes", id=WEB).instances
        return [
            (i.status.instanceState, i.status.errorInfo.errorCode,
             i.status.errorInfo.instanceErrorClass)
            for i in found
        ]  # fmt: skip

    first, second = (member(house, f"web-worker-{n}") for n in (0, 1))
    claims = {claim.id: claim for claim in house.rows(Claim)}
    status = pb.InstanceStatus
    assert states() == [(status.instanceCreating, "", 0)] * 2
    ids = {i.id for i in web("NodeGroupNodes", id=WEB).instances}
    assert ids == {node(house, f"web-worker-{n}").providerID for n in (0, 1)}

    change(house, first, joined_at=Clock.at)
    change(house, claims[second.claim_id], problem="BMC 192.0.2.5 says no", remedy="hidden")
    assert states() == [(status.instanceRunning, "", 0), (status.instanceCreating, "stuck", 99)]
    told = web("NodeGroupNodes", id=WEB).instances[1].status.errorInfo.errorMessage
    assert told == "web-worker-1 does not come up: `seed cluster show web`"

    change(house, claims[second.claim_id], state=ClaimState.QUEUED)
    assert states()[1] == (status.instanceCreating, "no-capacity", 1)
    change(house, first, goal=MemberGoal.GONE)
    change(house, claims[second.claim_id], wanted=Wanted.RELEASED)
    assert states() == [(status.instanceDeleting, "", 0)] * 2
    assert size(web) == 0
    change(house, first, ended_at=Clock.at)
    assert len(states()) == 1


def test_without_limits_nothing_is_touched(web: Client, house: House) -> None:
    (row,) = [c for c in house.rows(Cluster) if c.name == "web"]
    change(house, row, spec=row.spec | {"workers": row.spec["workers"] | {"autoscale": None}})
    assert list(web("NodeGroups").nodeGroups) == []
    assert web("NodeGroupForNode", node=node(house, "web-worker-0")).nodeGroup.id == ""
    assert refused(lambda: web("NodeGroupIncreaseSize", id=WEB, delta=1)) == (
        Code.FAILED_PRECONDITION,
        "nobody said how many workers web may have. "
        "Say so: `seed cluster autoscaler web --min 1 --max 5`.",
    )


# --- more and fewer -------------------------------------------------------------------------------


def test_the_group_grows_as_far_as_it_may(web: Client, house: House) -> None:
    web("NodeGroupIncreaseSize", id=WEB, delta=1)
    assert size(web) == 3
    assert {i.status.instanceState for i in web("NodeGroupNodes", id=WEB).instances} == {
        pb.InstanceStatus.instanceCreating
    }
    before = house.snapshot()
    assert refused(lambda: web("NodeGroupIncreaseSize", id=WEB, delta=2)) == (
        Code.FAILED_PRECONDITION,
        "delta: 5 workers are more than the 4 that web-worker may have. "
        "Raise it: `seed cluster autoscaler web --max 5`.",
    )
    code, said = refused(lambda: web("NodeGroupIncreaseSize", id=WEB, delta=1))
    assert code is Code.RESOURCE_EXHAUSTED
    assert "wants 1" in said
    assert "shop" not in said
    assert house.snapshot()[0].keys() == before[0].keys()


@pytest.mark.parametrize(
    ("method", "asked", "code", "said"),
    [
        ("NodeGroupIncreaseSize", {"delta": 0}, Code.INVALID_ARGUMENT, "delta: 0 is no growth"),
        ("NodeGroupIncreaseSize", {"delta": -(2**31)}, Code.INVALID_ARGUMENT, "no growth"),
        ("NodeGroupIncreaseSize", {"delta": 2**31 - 1}, Code.FAILED_PRECONDITION, "more than"),
        ("NodeGroupDecreaseTargetSize", {"delta": 1}, Code.INVALID_ARGUMENT, "no shrinking"),
        ("NodeGroupDecreaseTargetSize", {"delta": -3}, Code.FAILED_PRECONDITION, "only 2 of 2"),
        ("NodeGroupDecreaseTargetSize", {"delta": -2}, Code.FAILED_PRECONDITION, "must have"),
        ("NodeGroupDeleteNodes", {}, Code.INVALID_ARGUMENT, "none is named"),
        ("NodeGroupDeleteNodes", {"nodes": [{"name": "x"}]}, Code.NOT_FOUND, "'x' is no worker"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(
    web: Client, house: House, method: str, asked: dict[str, Any], code: Code, said: str
) -> None:
    found, details = refused(lambda: web(method, id=WEB, **asked))
    assert found is code
    assert said in details
    assert len(details.split(". ")) == 2
    assert not going(house)


GROUPED: dict[str, dict[str, Any]] = {
    "NodeGroupNodes": {},
    "NodeGroupTargetSize": {},
    "NodeGroupTemplateNodeInfo": {},
    "NodeGroupIncreaseSize": {"delta": 1},
    "NodeGroupDecreaseTargetSize": {"delta": -1},
    "NodeGroupDeleteNodes": {"nodes": [{"name": "web-worker-0"}]},
}


def test_a_group_that_is_not_its_own_is_not_found(web: Client) -> None:
    for method, asked in GROUPED.items():
        for group in ("", "shop-worker", "web", "web-worker\0", "x" * 10_000):
            code, said = refused(lambda m=method, a=asked, g=group: web(m, id=g, **a))
            assert code is Code.NOT_FOUND, (method, group)
            assert said.startswith("id: web has no node group ")
            assert len(said) < 150


def test_named_workers_go_and_asking_again_changes_nothing(web: Client, house: House) -> None:
    asked = [node(house, "web-worker-0")]
    web("NodeGroupDeleteNodes", id=WEB, nodes=asked)
    assert (size(web), going(house)) == (1, {"web-worker-0"})
    web("NodeGroupDeleteNodes", id=WEB, nodes=asked)
    change(house, member(house, "web-worker-0"), ended_at=Clock.at)
    web("NodeGroupDeleteNodes", id=WEB, nodes=asked)
    assert (size(web), going(house)) == (1, {"web-worker-0"})
    assert refused(
        lambda: web("NodeGroupDeleteNodes", id=WEB, nodes=[node(house, "web-worker-1")])
    ) == (
        Code.FAILED_PRECONDITION,
        "nodes: 0 workers are fewer than the 1 that web must have. "
        "Lower it: `seed cluster autoscaler web --min 0`.",
    )


def test_an_old_name_never_takes_the_member_that_has_the_node_now(
    web: Client, house: House
) -> None:
    change(house, member(house, "web-worker-0"), ended_at=Clock.at)
    stale = node(house, "web-worker-1", name="web-worker-0")
    web("NodeGroupDeleteNodes", id=WEB, nodes=[stale])
    assert not going(house)


@pytest.mark.parametrize(
    ("name", "other", "code", "said"),
    [
        ("web-control-0", {}, Code.INVALID_ARGUMENT, "web-control-0 is a control plane"),
        ("web-control-0", {"name": ""}, Code.INVALID_ARGUMENT, "web-control-0 is a control plane"),
        ("web-control-0", {"name": "web-worker-1"}, Code.INVALID_ARGUMENT, "is a control plane"),
        ("shop-worker-0", {}, Code.NOT_FOUND, "'shop-worker-0' is no worker of web"),
        ("shop-worker-0", {"name": "web-worker-1"}, Code.NOT_FOUND, "is no worker of web"),
        ("shop-control-0", {}, Code.NOT_FOUND, "is no worker of web"),
    ],
)
def test_control_planes_and_others_nodes_stay(
    web: Client, house: House, name: str, other: dict[str, str], code: Code, said: str
) -> None:
    nodes = [node(house, "web-worker-0"), node(house, name, **other)]
    found, details = refused(lambda: web("NodeGroupDeleteNodes", id=WEB, nodes=nodes))
    assert (found, said in details) == (code, True), details
    assert not going(house), "one of them was wrong, so none goes"


def test_only_what_was_not_begun_is_taken_back(web: Client, house: House) -> None:
    web("NodeGroupIncreaseSize", id=WEB, delta=1)
    for n in (0, 1):
        claim = member(house, f"web-worker-{n}").claim_id
        change(house, next(c for c in house.rows(Claim) if c.id == claim),
               state=ClaimState.DEPLOYING)  # fmt: skip
    assert refused(lambda: web("NodeGroupDecreaseTargetSize", id=WEB, delta=-2)) == (
        Code.FAILED_PRECONDITION,
        "delta: only 1 of 3 workers do not exist yet. Say which ones go: NodeGroupDeleteNodes.",
    )
    web("NodeGroupDecreaseTargetSize", id=WEB, delta=-1)
    assert (size(web), going(house)) == (2, {"web-worker-2"})


def test_who_grew_meanwhile_is_not_shrunk_by_growth(
    web: Client, door: Door, house: House, sizes: Clusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Clusters.scale

    def late(self: Clusters, *args: Any, **asked: Any) -> Any:
        monkeypatch.setattr(Clusters, "scale", real)
        free = sum(h.claim_id is None for h in house.rows(Hold))
        assert free == 1
        sizes.scale("p", "web", "me", workers=3)
        return real(self, *args, **asked | {"workers": 2})

    monkeypatch.setattr(Clusters, "scale", late)
    code, said = refused(lambda: web("NodeGroupIncreaseSize", id=WEB, delta=1))
    assert (code, "was made larger meanwhile" in said) == (Code.FAILED_PRECONDITION, True), said
    assert (size(web), going(house)) == (3, set())


# --- what a node would be like --------------------------------------------------------------------


def test_a_template_is_the_smallest_of_its_workers_in_both_generations(
    web: Client, house: House
) -> None:
    for n, (threads, mib) in enumerate([(32, 65536), (16, 131072)]):
        hold = next(
            h for h in house.rows(Hold) if h.claim_id == member(house, f"web-worker-{n}").claim_id
        )
        bmc = next(b for b in house.rows(Bmc) if b.node_uuid == hold.node_uuid)
        seen = Inventory(
            cpu_threads=threads, memory_mib=mib, cpu_arch="x86_64",
            drives=(Drive(serial="s", size_bytes=480 * 10**9), Drive(size_bytes=4 * 10**12)),
        )  # fmt: skip
        change(house, bmc, ramdisk=seen.model_dump(mode="json"))
    told = web("NodeGroupTemplateNodeInfo", id=WEB)
    assert told.nodeInfo == told.nodeBytes, "a message and its bytes are the same on the wire"
    made = core.Node.FromString(told.nodeBytes)
    assert {name: q.string for name, q in made.status.capacity.items()} == {
        "cpu": "16", "memory": str(65536 << 20), "ephemeral-storage": str(480 * 10**9),
        "pods": "110",
    }  # fmt: skip
    assert int(made.status.allocatable["memory"].string) == (65536 << 20) * 95 // 100
    assert dict(made.metadata.labels) == {
        "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "seed.class": "baremetal",
        "kubernetes.io/hostname": made.metadata.name, "disk": "nvme",
    }  # fmt: skip
    (taint,) = made.spec.taints
    assert (taint.key, taint.value, taint.effect) == ("dedicated", "batch", "NoSchedule")
    (ready,) = made.status.conditions
    assert (ready.type, ready.status) == ("Ready", "True")


def test_without_any_knowledge_there_is_no_template(web: Client) -> None:
    code, _ = refused(lambda: web("NodeGroupTemplateNodeInfo", id=WEB))
    assert code is Code.UNIMPLEMENTED


def test_the_rest_of_the_protocol_is_answered(web: Client) -> None:
    assert web("Refresh") == pb.RefreshResponse()
    assert web("Cleanup") == pb.CleanupResponse()
    assert web("GPULabel").label == ""
    assert not web("GetAvailableGPUTypes").gpuTypes
    options = web("NodeGroupGetOptions", id=WEB, defaults={"scaleDownUtilizationThreshold": 0.5})
    assert not options.HasField("nodeGroupAutoscalingOptions")
    for priced in ("PricingNodePrice", "PricingPodPrice"):
        assert refused(lambda name=priced: web(name))[0] is Code.UNIMPLEMENTED
    assert refused(lambda: web.raw("NodeGroupNodes", b"\xff\xff\xff"))[0] in (
        Code.INTERNAL,
        Code.INVALID_ARGUMENT,
        Code.UNKNOWN,
    )  # fmt: skip  gRPC's own, before any of ours


# --- who calls ------------------------------------------------------------------------------------


def test_nobody_gets_in_without_a_certificate_of_ours(door: Door, tmp_path: Path) -> None:
    given, key = door.give("web")
    mine = given.certificate.encode()
    foreign = other_settings(tmp_path / "foreign")
    make_keys(foreign)
    stranger = Door(door.store, foreign, door.port)
    cluster = next(c for c in rows(door, Cluster) if c.name == "web")
    forged = stranger.authority.sign(key.csr, cluster)
    from cryptography.hazmat.primitives.serialization import Encoding

    server = (foreign.state_dir / "tls" / "autoscaler.pem").read_bytes()
    server_key = (foreign.state_dir / "tls" / "autoscaler.key").read_bytes()
    own_server = (door.settings.state_dir / "tls" / "autoscaler.pem").read_bytes()
    own_key = (door.settings.state_dir / "tls" / "autoscaler.key").read_bytes()
    strangers = {
        "no certificate": door.client_with(None, None),
        "another authority's": door.client_with(key.pem, forged.public_bytes(Encoding.PEM)),
        "a server's of another Seed": door.client_with(server_key, server),
        "a server's of this Seed": door.client_with(own_key, own_server),
        "whoever does not trust the server": door.client_with(key.pem, mine, stranger.ca),
    }
    for who, client in strangers.items():
        assert refused(lambda c=client: c("NodeGroups", timeout=3))[0] is Code.UNAVAILABLE, who
    plain = Client(grpc.insecure_channel(f"127.0.0.1:{door.port}"))
    door.opened.append(plain.channel)
    assert refused(lambda: plain("NodeGroups", timeout=3))[0] is Code.UNAVAILABLE
    assert door.client_with(key.pem, mine)("NodeGroups").nodeGroups[0].id == WEB


def rows(door: Door, kind: type[Any]) -> list[Any]:
    from sqlmodel import select

    with door.store.read() as session:
        return list(session.exec(select(kind)).all())


def test_another_clusters_autoscaler_sees_and_changes_its_own_alone(
    door: Door, house: House
) -> None:
    shop = door.client("shop", "q")
    assert [g.id for g in shop("NodeGroups").nodeGroups] == [SHOP]
    for method, asked in GROUPED.items():
        code, said = refused(lambda m=method, a=asked: shop(m, id=WEB, **a))
        assert (code, said) == (
            Code.NOT_FOUND, "id: shop has no node group 'web-worker'. It has shop-worker.",
        )  # fmt: skip
    asked = {"id": SHOP, "nodes": [node(house, "web-worker-0")]}
    assert refused(lambda: shop("NodeGroupDeleteNodes", **asked))[0] is Code.NOT_FOUND
    assert not going(house)


def test_a_certificate_ends_when_it_is_replaced_revoked_or_old(door: Door) -> None:
    def is_over(client: Client) -> bool:
        code, said = refused(lambda: client("NodeGroups"))
        assert said.endswith("was replaced. seed cluster autoscaler NAME")
        return code is Code.UNAUTHENTICATED

    first = door.client("web")
    assert first("NodeGroups").nodeGroups
    second = door.client("web")
    assert is_over(first)
    assert second("NodeGroups").nodeGroups
    Clock.at += autoscalers.LIFE - timedelta(days=3)
    assert second("NodeGroups").nodeGroups
    Clock.at += timedelta(days=4)
    assert is_over(second)
    Clock.at -= timedelta(days=30)
    autoscalers.revoke(door.store, "p", "web", "me")
    assert is_over(second)


@pytest.mark.parametrize("how", ["released", "ended_at"])
def test_a_certificate_ends_with_its_cluster(how: str, door: Door, house: House) -> None:
    client = door.client("web")
    row = next(c for c in house.rows(Cluster) if c.name == "web")
    change(house, row, **{how: True if how == "released" else now()})
    code, _ = refused(lambda: client("NodeGroupIncreaseSize", id=WEB, delta=1))
    assert code is Code.UNAUTHENTICATED
    assert door.client("shop", "q")("NodeGroups").nodeGroups


# --- limits ---------------------------------------------------------------------------------------


def test_a_message_that_is_too_large_is_refused(web: Client) -> None:
    nodes = [pb.ExternalGrpcNode(name="n", annotations={"a": "x" * 100_000})] * 60
    code, _ = refused(lambda: web("NodeGroupDeleteNodes", id=WEB, nodes=nodes))
    assert code is Code.RESOURCE_EXHAUSTED


def test_a_change_that_cannot_be_answered_in_time_is_not_begun(
    web: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    web("Refresh")
    monkeypatch.setattr(provider, "SHORTEST", 60.0)
    code, said = refused(lambda: web("NodeGroupIncreaseSize", id=WEB, delta=1, timeout=20))
    assert (code, "grpc_timeout" in said) == (Code.RESOURCE_EXHAUSTED, True)
    assert size(web) == 2


def test_more_calls_than_it_may_have_are_refused_and_it_goes_on(
    door: Door, sizes: Clusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, free, over = threading.Semaphore(0), threading.Event(), threading.Event()
    real = type(sizes).scale

    def slow(*args: Any, **kwargs: Any) -> Any:
        held.release()
        free.wait(30)
        return real(*args, **kwargs)

    monkeypatch.setattr(type(sizes), "scale", slow)
    given, key = door.give("web")
    many = provider.CALLS // provider.STREAMS + 1
    clients = [door.client_with(key.pem, given.certificate.encode()) for _ in range(many)]
    asked = pb.NodeGroupIncreaseSizeRequest(id=WEB, delta=1).SerializeToString()
    method = f"/{SERVICE.full_name}/NodeGroupIncreaseSize"
    calls = [c.channel.unary_unary(method) for c in clients for _ in range(provider.STREAMS)]
    first = calls[0].future(asked, timeout=60)
    assert held.acquire(timeout=20)
    others = [call.future(asked, timeout=60) for call in calls[1:]]
    for other in others:
        other.add_done_callback(lambda _: over.set())
    assert over.wait(30)
    assert {o.code() for o in others if o.done()} == {Code.RESOURCE_EXHAUSTED}
    for other in others:
        other.cancel()
    free.set()
    assert first.result(30) is not None
    until(lambda: not _too_many(clients[-1]), 30, "room for a call")
    assert size(clients[-1]) == 3, "whose caller is gone changes nothing"


def _too_many(client: Client) -> bool:
    """One more change, behind all that wait; it is refused in any case."""
    code, _ = refused(lambda: client("NodeGroupIncreaseSize", id=WEB, delta=0))
    return code is Code.RESOURCE_EXHAUSTED


def test_what_breaks_inside_tells_no_one_how(
    web: Client, sizes: Clusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("canary /secret/path")

    monkeypatch.setattr(type(sizes), "scale", broken)
    assert refused(lambda: web("NodeGroupIncreaseSize", id=WEB, delta=1)) == (
        Code.UNAVAILABLE,
        "something went wrong inside Seed. seed logs seed-autoscaler",
    )


def test_keys_that_no_client_of_kubernetes_has_are_refused(door: Door) -> None:
    from provisioning.errors import Invalid

    key = a_key(ec.generate_private_key(ec.SECP521R1()))
    with pytest.raises(Invalid, match="csr: its key is none of P-256"):
        door.give("web", key)
    assert not next(c for c in rows(door, Cluster) if c.name == "web").autoscaler
