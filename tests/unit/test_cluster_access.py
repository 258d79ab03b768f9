"""Who is Ready, who gets in, what a check finds: the small house with a small kube-apiserver."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from provisioning import cluster_access, kube_api, kube_check, kube_steps, members
from provisioning.cluster_release import Giving
from provisioning.cluster_rows import ClusterCheck, KubeCertificate, Member
from provisioning.errors import Conflict, Invalid, NotFound, TooMany
from provisioning.models import Address, Event, Hold
from provisioning.states import ClusterState
from tests.fakes.kube_apiserver import KubeApiserver, pod_status
from tests.fakes.kubeconfigs import a_request, parted
from tests.fakes.life import Clock, House, Killed
from tests.unit.test_cluster_life import can_seal, cluster, rounds, tell
from tests.unit.test_clusters import a_spec, desk, house
from tests.unit.test_pki import shown, verified

__all__ = ["house"]
S = ClusterState
PAUSE, DNS = "registry.example/pause:3.10.2", "registry.example/coredns/coredns:v1.14.2"


def step(house: House) -> None:
    house.reconciler._cluster(cluster(house).id)


def joined(house: House, **told: Any) -> KubeApiserver:
    """A cluster of five whose members have done their steps; its API."""
    can_seal(house)
    desk(house).create(a_spec(**told), "p", "me")
    rounds(house, S.BOOTSTRAPPING)
    for member in house.rows(Member):
        tell(house, member)
    step(house)
    assert house.kube is not None
    return house.kube


def ready(house: House) -> KubeApiserver:
    kube = joined(house)
    assert cluster(house).state is S.READY
    return kube


# --- ready ----------------------------------------------------------------------------------------


def test_it_is_not_ready_before_its_nodes_are(house: House) -> None:
    house.unready = {"web-worker-1": "NetworkPluginNotReady"}
    joined(house)
    assert cluster(house).state is S.BOOTSTRAPPING
    assert cluster(house).detail.startswith("web-worker-1: NetworkPluginNotReady")
    Clock.at += timedelta(minutes=11)
    step(house)
    assert cluster(house).problem.startswith("web-worker-1: NetworkPluginNotReady")
    assert "seed cluster replace web web-worker-1" in cluster(house).remedy
    house.unready = {}
    step(house)
    assert (cluster(house).state, cluster(house).problem) == (S.READY, "")


def test_a_node_that_fails_later_makes_it_degraded_until_it_is_back(house: House) -> None:
    kube = ready(house)
    house.unready = {"web-control-1": "KubeletNotReady"}
    step(house)
    step(house)
    assert cluster(house).state is S.DEGRADED
    assert cluster(house).problem.startswith("web-control-1: KubeletNotReady")
    house.unready, kube.down = {}, True
    step(house)
    assert cluster(house).state is S.DEGRADED
    assert "does not answer: Connection refused" in cluster(house).problem
    assert "`seed cluster show web`" in cluster(house).remedy
    kube.down, kube.lacks = False, "etcd"
    step(house)
    assert cluster(house).problem == "the Kubernetes API is not ready: etcd"
    kube.lacks = ""
    step(house)
    assert (cluster(house).state, cluster(house).problem) == (S.READY, "")


def test_a_node_of_another_server_is_not_taken_for_the_members_own(house: House) -> None:
    kube = ready(house)
    with house.store.read() as session:
        members = house.rows(Member)
        wanted = kube_steps.node_uuids(session, members)
    nodes = [row for row in kube.objects.values() if row["kind"] == "Node"]
    assert {n["spec"]["providerID"] for n in nodes} == {f"seed://{u}" for u in wanted.values()}
    wanted["web-worker-0"] = cluster(house).id
    seen = kube_api.Seen("", tuple(map(kube_api.node_of, nodes)), ())
    assert kube_steps.judge("web", seen, wanted).problems == ("web-worker-0 is no Node of it",)


def test_api_servers_that_joined_are_known_on_the_wire(house: House) -> None:
    ready(house)
    control = [member for member in house.rows(Member) if member.role == "control"]
    with house.store.read() as session:
        nodes = set(kube_steps.node_uuids(session, control).values())
        there = kube_steps.doors(session, cluster(house))
    wire = {row.address for row in house.rows(Address) if row.node_uuid in nodes}
    assert len(there) == len(control) == 3
    assert {(host, port) for host, port in there if host in wire} == set(there)
    assert {port for _, port in there} == {6444}, "not where haproxy listens"
    with house.store.write() as session:
        session.get_one(Member, control[0].id).joined_at = None
    with house.store.read() as session:
        assert len(kube_steps.doors(session, cluster(house))) == 2


def test_looks_are_five_and_thirty_seconds_apart(house: House) -> None:
    house.unready = {"web-worker-1": "NotReady"}
    joined(house)
    assert house.reconciler._cluster(cluster(house).id) == 5.0
    house.unready = {}
    assert house.reconciler._cluster(cluster(house).id) == 0.0
    assert house.reconciler._cluster(cluster(house).id) == 30.0
    house.unready = {"web-worker-1": "NotReady"}
    assert house.reconciler._cluster(cluster(house).id) == 0.0
    assert house.reconciler._cluster(cluster(house).id) == 30.0


def test_rights_that_an_administrator_took_away_stay_away(house: House) -> None:
    kube = ready(house)
    path = f"{kube_steps.BINDINGS}/seed:p"
    assert kube.objects.pop(path)["subjects"][0]["name"] == "seed:p"
    step(house)
    assert path not in kube.objects


def test_a_token_is_kept_good_only_while_a_member_is_on_its_way(house: House) -> None:
    can_seal(house)
    desk(house).create(a_spec(), "p", "me")
    rounds(house, S.BOOTSTRAPPING)
    first, *others = sorted(house.rows(Member), key=lambda m: m.name)
    step(house)
    assert house.kube is None, "no control plane is there yet"
    tell(house, first)
    step(house)
    assert house.kube
    kept = [path for path in house.kube.objects if "bootstrap-token-" in path]
    assert len(kept) == 1
    tell(house, others[0], step="join", state="failed")
    Clock.at += timedelta(hours=30)
    del house.kube.objects[kept[0]]  # Kubernetes' token cleaner
    step(house)
    assert kept[0] in house.kube.objects
    for member in others:
        tell(house, member)
    del house.kube.objects[kept[0]]
    step(house)
    assert kept[0] not in house.kube.objects


# --- getting in -----------------------------------------------------------------------------------


def ask(house: House, **told: Any) -> KubeCertificate:
    facts = {"project": "p", "name": "web", "who": "ada", "csr": parted(a_request())[1]} | told
    return cluster_access.ask_certificate(house.store, **facts)


def test_a_certificate_is_signed_for_who_asked_and_written_down(
    house: House, tmp_path: Path
) -> None:
    ready(house)
    row = ask(house)
    assert kube_steps.sign(house.reconciler.parts, row.id) == kube_steps.SELDOM
    kube_steps.sign(house.reconciler.parts, row.id)  # another life
    (row,) = house.rows(KubeCertificate)
    assert shown(row.certificate, "-subject") == "subject=O = seed:p, CN = ada"
    assert verified(tmp_path, row.ca, row.certificate, Clock.at, "sslclient") == "OK"
    late = Clock.at + timedelta(hours=12, minutes=1)
    assert "expired" in verified(tmp_path, row.ca, row.certificate, late, "sslclient")
    early = Clock.at - timedelta(minutes=6)
    assert "not yet valid" in verified(tmp_path, row.ca, row.certificate, early, "sslclient")
    assert row.server == f"https://{cluster(house).vip}:6443"
    assert row.ca == house.kube.ca  # type: ignore[union-attr]
    (event,) = [e for e in house.rows(Event) if e.kind == "cluster.certificate"]
    serial = x509.load_pem_x509_certificate(row.certificate.encode()).serial_number
    assert (event.who, event.project, event.data["serial"]) == ("ada", "p", f"{serial:x}")


def test_it_waits_until_the_cluster_is_there(house: House) -> None:
    can_seal(house)
    desk(house).create(a_spec(), "p", "me")
    row = ask(house)
    with house.store.read() as session:
        assert kube_steps.due(session)[0] == [row.id]
    assert kube_steps.sign(house.reconciler.parts, row.id) == 2.0
    rounds(house, S.BOOTSTRAPPING)
    kube_steps.sign(house.reconciler.parts, row.id)
    assert house.rows(KubeCertificate)[0].certificate
    with house.store.read() as session:
        assert kube_steps.due(session)[0] == []


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"csr": "none"}, Invalid),
        ({"who": "system:admin"}, Invalid),
        ({"who": "a" * 65}, Invalid),
        ({"project": "q"}, NotFound),
        ({"name": "other"}, NotFound),
    ],
)
def test_what_cannot_be_signed_is_refused_and_nothing_is_written(
    house: House, told: dict[str, Any], error: type[Exception]
) -> None:
    desk(house).create(a_spec(), "p", "me")
    with pytest.raises(error):
        ask(house, **told)
    assert not house.rows(KubeCertificate)


def test_a_swarm_says_what_to_do_instead(house: House) -> None:
    desk(house).create(a_spec(kind="swarm", version=""), "p", "me")
    with pytest.raises(Conflict, match="web is of kind swarm: it has no Kubernetes API") as problem:
        ask(house)
    assert "seed claim ssh-config web-control-0" in problem.value.remedy


def test_certificates_that_wait_are_bounded_and_those_that_ended_are_forgotten(
    house: House,
) -> None:
    ready(house)
    csr = parted(a_request())[1]
    for _ in range(cluster_access.MANY):
        ask(house, csr=csr)
    with pytest.raises(TooMany):
        ask(house, csr=csr)
    for row in house.rows(KubeCertificate):
        kube_steps.sign(house.reconciler.parts, row.id)
    Clock.at += timedelta(hours=13)
    ask(house, csr=csr)
    assert len(house.rows(KubeCertificate)) == 1


def test_a_cluster_that_is_given_back_lets_nobody_in(house: House) -> None:
    ready(house)
    kube_steps.sign(house.reconciler.parts, ask(house).id)
    cluster_access.ask_check(house.store, "p", "web", "me")
    giving = Giving(house.store, house.desk)
    giving.release("p", "web", giving.plan("p", "web").hash, "me", True)
    with pytest.raises(Conflict, match="web is given back"):
        ask(house)
    rounds(house, S.RELEASED)
    assert not house.rows(KubeCertificate)
    assert not house.rows(ClusterCheck)


# --- a check --------------------------------------------------------------------------------------


def checked(house: House, steps: int = 200) -> dict[str, tuple[str, str]]:
    """What it found, after as many steps as it takes, each by a life of its own."""
    row = cluster_access.ask_check(house.store, "p", "web", "me")
    for _ in range(steps):
        pause = kube_check.step(house.reconciler.parts, row.id)
        Clock.at += timedelta(seconds=pause)
        if (found := house.rows(ClusterCheck)[-1]).ended_at:
            assert not [p for p in (house.kube or KubeApiserver("")).objects if "seed-check" in p]
            return {item["name"]: (item["state"], item["sentence"]) for item in found.items}
    raise AssertionError(json.dumps(house.rows(ClusterCheck)[-1].items))


def with_dns(kube: KubeApiserver) -> None:
    kube.objects |= {
        "/api/v1/namespaces/kube-system/pods/coredns-1": {
            "kind": "Pod",
            "metadata": {
                "name": "coredns-1", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"},
            },
            "spec": {"containers": [{"name": "coredns", "image": DNS}]},
            "status": pod_status("Running"),
        },
        "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns-1": {
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns-1", "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "endpoints": [{"conditions": {"ready": True}}, {"conditions": {"ready": False}}],
        },
    }  # fmt: skip


def test_a_check_tries_all_and_leaves_nothing_behind(house: House) -> None:
    house.node_images = (PAUSE, "registry.example/busybox:1.37")
    kube = ready(house)
    with_dns(kube)
    kube.objects["/apis/storage.k8s.io/v1/storageclasses/local"] = {
        "kind": "StorageClass", "metadata": {"name": "local"},
    }  # fmt: skip
    assert checked(house) == {
        "nodes": ("ok", "5 of 5 are Ready"),
        "pods": ("ok", f"one ran, of {PAUSE}"),
        "dns": ("ok", "a pod looked up kubernetes.default.svc.cluster.local"),
        "service": ("ok", "the endpoint of a Service answered the API server"),
        "volume": ("ok", "a pod has one of StorageClass local"),
        "clean-up": ("ok", "what it made is gone"),
    }
    made = {asked for asked in kube.asked if asked.startswith("PATCH") and "seed-check" in asked}
    assert len(made) == 8  # a namespace, four pods, a Service, its Corefile and a volume's claim


def test_a_check_says_what_it_could_not_try(house: House) -> None:
    house.node_images = (PAUSE,)
    with_dns(ready(house))
    found = checked(house)
    assert found["dns"] == (
        "ok", "1 endpoints of kube-dns are ready; no pod asked: no image has nslookup",
    )  # fmt: skip
    assert found["volume"] == ("none", "there is no StorageClass")


def test_a_check_of_a_cluster_that_does_not_work_says_why(house: House) -> None:
    house.node_images = (PAUSE,)
    kube = ready(house)
    kube.pod_phase = {"pod": "Pending"}
    house.unready = {"web-worker-0": "KubeletNotReady"}
    found = checked(house)
    assert found["nodes"][0] == "failed"
    assert "web-worker-0: KubeletNotReady" in found["nodes"][1]
    assert found["pods"] == ("failed", "not within 180 s: ImagePullBackOff")
    assert found["dns"][0] == "failed"
    assert found["service"] == ("none", "there is no CoreDNS, whose image would answer")
    assert found["clean-up"][0] == "ok"


def test_a_check_of_an_api_that_is_down_fails_and_names_what_it_left(house: House) -> None:
    ready(house).down = True
    found = checked(house)
    assert found["nodes"][0] == "failed"
    assert "does not answer" in found["nodes"][1]
    assert found["clean-up"][0] == "failed"
    assert "kubectl delete namespace seed-check-" in found["clean-up"][1]


def test_a_second_wish_is_the_same_check(house: House) -> None:
    ready(house)
    first = cluster_access.ask_check(house.store, "p", "web", "me")
    assert cluster_access.ask_check(house.store, "p", "web", "you").id == first.id


def a_swarm(house: House) -> None:
    """Ready; its last member's check says later that another is lost."""
    can_seal(house)
    desk(house).create(a_spec(kind="swarm", version=""), "p", "me")
    with pytest.raises(Conflict, match="nothing to check yet"):
        cluster_access.ask_check(house.store, "p", "web", "me")
    rounds(house, S.BOOTSTRAPPING)
    for member in house.rows(Member):
        tell(house, member)
        tell(house, member, step="check")
    step(house)
    assert cluster(house).state is S.READY
    assert house.kube is None


def ordered(house: House, member: Member) -> dict[str, Any]:
    hold = next(h for h in house.rows(Hold) if h.claim_id == member.claim_id)
    source = next(a.address for a in house.rows(Address) if a.node_uuid == hold.node_uuid)
    return members.orders(house.store, f"token-member:{member.id}", source)


TRIED = {
    "pods": ["ok", "a task runs on web-worker-0"], "dns": ["ok", "so"], "service": ["ok", "so"],
    "volume": ["ok", "so"], "clean-up": ["ok", "gone"],
}  # fmt: skip


def test_a_swarm_is_checked_by_what_its_members_say_and_one_of_them_tries(house: House) -> None:
    a_swarm(house)
    row = cluster_access.ask_check(house.store, "p", "web", "me")
    kube_check.step(house.reconciler.parts, row.id)
    kube_check.step(house.reconciler.parts, row.id)
    assert [i["state"] for i in house.rows(ClusterCheck)[0].items] == ["ok", "", "", "", ""]
    manager, worker = (
        next(m for m in house.rows(Member) if m.name == f"web-{name}")
        for name in ("control-1", "worker-0")
    )
    assert ordered(house, manager)["check"] == row.number
    assert "check" not in ordered(house, worker)
    tell(house, worker, step=f"try {row.number}", detail=json.dumps({"pods": ["ok", "lie"]}))
    tell(house, manager, step=f"try {row.number - 1}", detail=json.dumps({"pods": ["ok", "old"]}))
    tell(house, manager, step=f"try {row.number}", state="running")
    assert not house.rows(ClusterCheck)[0].told
    tell(house, manager, step=f"try {row.number}", detail=json.dumps(TRIED))
    assert "check" not in ordered(house, manager), "it is known"
    tell(house, manager, step=f"try {row.number}", state="failed", detail="too late")
    assert checked(house) == {
        "nodes": ("ok", "5 of 5 say that they work"),
        **{name: (state, sentence) for name, (state, sentence) in TRIED.items()},
    }
    seen = next(m for m in house.rows(Member) if m.id == manager.id)
    assert (seen.step, seen.step_state) == ("check", "done"), "its own check is still to be seen"


@pytest.mark.parametrize(
    ("state", "detail", "said"),
    [
        ("done", json.dumps({"pods": ["ok", "one"], "dns": ["failed", "no"], "x": ["ok", ""]}),
         {"pods": ("ok", "one"), "dns": ("failed", "no"), "volume": ("none", "not tried")}),
        ("failed", "it did not end within 480 s", {
            "pods": ("failed", "it did not end within 480 s"), "service": ("none", "not tried")}),
        ("done", '{"pods": "ok"}', {"pods": ("failed", '{"pods": "ok"}')}),
        ("", "", {"pods": ("failed", "no control plane has tried it within 540 s")}),
    ],
)  # fmt: skip
def test_what_a_manager_could_not_try_has_failed(
    house: House, state: str, detail: str, said: dict[str, tuple[str, str]]
) -> None:
    a_swarm(house)
    row = cluster_access.ask_check(house.store, "p", "web", "me")
    manager, lost = house.rows(Member)[0], house.rows(Member)[-1]
    tell(house, lost, step="check", state="failed", detail="not Ready: web-worker-0")
    if state:
        tell(house, manager, step=f"try {row.number}", state=state, detail=detail)
    found = checked(house, 400)
    assert found["nodes"] == ("failed", f"{lost.name}: not Ready: web-worker-0")
    assert {name: found[name] for name in said} == said
    assert "x" not in found


def test_every_kind_says_whether_it_has_a_kubernetes_api() -> None:
    from provisioning.clusters import known

    for kind in known().values():
        assert kind.kube is None or kind.kube.client_ca


def test_the_reconciler_does_what_is_asked(house: House) -> None:
    ready(house)
    certificate, check = ask(house), cluster_access.ask_check(house.store, "p", "web", "me")
    jobs = {key[:2]: job for key, job in house.reconciler._jobs()}
    assert jobs["certificate", certificate.id]() == kube_steps.SELDOM
    assert jobs["check", check.id]() == 0.0
    assert house.rows(KubeCertificate)[0].signed_at
    assert house.rows(ClusterCheck)[0].started_at
    assert not [key for key, _ in house.reconciler._jobs() if key[0] == "certificate"]


@pytest.mark.parametrize("nth", range(3, 27, 6))
def test_a_check_that_dies_at_a_request_is_ended_by_the_next_life(house: House, nth: int) -> None:
    house.node_images = (PAUSE,)
    kube = ready(house)
    with_dns(kube)
    answer, left = kube.answer, [nth]

    def dies_once(*args: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            answer(*args)  # it was done, and nobody heard of it
            raise Killed
        return answer(*args)

    kube.answer = dies_once  # type: ignore[method-assign]
    with pytest.raises(Killed):
        checked(house)
    states = {name: state for name, (state, _) in checked(house).items()}
    assert states.pop("volume") == "none"
    assert set(states.values()) == {"ok"}
