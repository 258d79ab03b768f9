"""The reconciler checks a cluster because a person asked: one short step at a time.

What it makes lies in a namespace of its own, named after the check, so that every life finds it and
takes it away. Images are those that the cluster has already: an installation may reach no registry.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast
from uuid import UUID

from provisioning import clusters, kube_api, kube_objects, kube_steps
from provisioning.cluster_access import JOINED, Item
from provisioning.cluster_rows import Cluster, ClusterCheck, Member
from provisioning.errors import KubeRefused, KubeUnavailable
from provisioning.kinds import Tries
from provisioning.kube_api import Document, KubeApi, condition, items, name_of, part, plain, waiting
from provisioning.kube_steps import SELDOM, Look
from provisioning.models import now
from provisioning.outcome import Wait
from provisioning.overcloud_stages import Stages
from provisioning.parts import Parts
from provisioning.states import Noun
from provisioning.store import record

PATIENCE, CLEANING = 180.0, 120.0
"""Seconds until what is not there yet has failed; and for taking it away."""
STEP_SECONDS: Final = 10.0
"""Of one step's whole conversation."""
PAUSE, TRY_PAUSE = 2.0, 5.0
DNS: Final = "/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-dns"
SLICES: Final = (
    "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices"
    "?labelSelector=kubernetes.io%2Fservice-name%3Dkube-dns"
)
CLASSES: Final = "/apis/storage.k8s.io/v1/storageclasses"
PAUSE_IMAGE: Final = re.compile(r"(^|/)pause[:@]")
RESOLVERS: Final = re.compile(r"(^|/)(busybox|agnhost|dnsutils|jessie-dnsutils|alpine)[:@]")
"""Images with an nslookup."""
CLEAN_UP: Final = "clean-up"
LEFT: Final = (
    "what it made may be there still: `docker service ls --filter label=org.seed.check`; the next "
    "check takes it away"
)
TRIED: Final = ("pods", "dns", "service", "volume")
"""By a member, of a cluster that is no Kubernetes."""
OVERCLOUD_PATIENCE: Final = 1800.0
"""Seconds: emulated servers take minutes to boot a guest."""
TRY_PATIENCE: Final = 540.0
"""Seconds: a member asks for its orders every 15, tries for 480 at most, and tells it."""

Told = tuple[str, str]
"""(state, sentence) of an Item. State "": not known yet, and what it waits for."""


@dataclass(frozen=True, slots=True)
class On:
    """One step's conversation. nodes: UUIDs of members. images: that Nodes say they have."""

    api: KubeApi
    namespace: str
    nodes: dict[str, UUID]
    cluster: Cluster
    seen: Sequence[Document]

    def image(self, wanted: re.Pattern[str]) -> str:
        """That most nodes have; empty: none has any."""
        count: dict[str, int] = {}
        for node in self.seen:
            for one in kube_api.listed(node, "status", "images"):
                names = [n for n in one.get("names") or () if isinstance(n, str)]
                for name in sorted(n for n in names if wanted.search(n) and "@" not in n)[:1]:
                    count[name] = count.get(name, 0) + 1
        return max(sorted(count), key=lambda name: count[name], default="")

    async def pod(self, document: Document) -> Document | None:
        """As it is; None: it was made just now."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{document['metadata']['name']}"
        return await self.there(path, document)

    async def there(self, path: str, document: Document) -> Document | None:
        found = await self.api.find(path)
        if found is None:
            await self.api.apply(path, document)
        return found


def step(parts: Parts, identity: UUID) -> float:
    """Answers the pause in seconds. Whatever the cluster says ends in an item, not in an error."""
    with parts.store.read() as session:
        row = session.get(ClusterCheck, identity)
        if row is None or row.ended_at is not None:
            return SELDOM
        cluster = session.get_one(Cluster, row.cluster_id)
        members = clusters.members(session, cluster)
        nodes = kube_steps.node_uuids(session, [m for m in members if m.joined_at])
    if row.started_at is None:
        names = ["nodes"] if cluster.noun is Noun.OVERCLOUD else [*CHECKS]
        return _write(parts, row, [_item(name) for name in names])
    if cluster.state not in JOINED:
        told = [_decided(row, i, "failed", f"{cluster.name} is {cluster.state}") for i in row.items]
        return _write(parts, row, told, ended=True)
    if cluster.noun is Noun.OVERCLOUD:
        return _of_overcloud(parts, row, cluster, members)
    if kube_steps.ways_into(cluster) is None:
        told = by_reports(row, cluster, members)
        if told == row.items:
            return TRY_PAUSE
        return _write(parts, row, told, ended=all(item["state"] for item in told))
    return _clean(parts, row, cluster) if row.cleaning else _look(parts, row, cluster, nodes)


def _of_overcloud(
    parts: Parts, row: ClusterCheck, cluster: Cluster, members: Sequence[Member]
) -> float:
    """Its nodes by their members' word; the rest by its installer's own check."""
    late = [m.name for m in members if m.joined_at is None]
    says = f"{', '.join(late[:4])} not up" if late else f"all {len(members)} are up"
    nodes: Item = _decided(row, _item("nodes"), "failed" if late else "ok", says)
    found = Stages(parts).check(cluster, row.number)
    if isinstance(found, Wait):
        if _age(row) < OVERCLOUD_PATIENCE:
            return found.seconds
        found = {"": ["failed", f"not within {OVERCLOUD_PATIENCE:g} s: {found.detail}"]}
    none = {"openstack": ["none", f"{cluster.spec['kind']} has no check: look by yourself"]}
    told = [
        _decided(row, _item(name or "check"), state, plain(sentence))
        for name, (state, sentence) in (found or none).items()
    ]
    return _write(parts, row, [nodes, *told], ended=True)


def _look(parts: Parts, row: ClusterCheck, cluster: Cluster, nodes: dict[str, UUID]) -> float:
    late = _age(row) > PATIENCE

    async def ask(api: KubeApi) -> dict[str, Told]:
        seen = items(await api.get("/api/v1/nodes", resourceVersion="0"))
        on = On(api, _namespace(row), nodes, cluster, seen)
        path = f"/api/v1/namespaces/{on.namespace}"
        await on.there(path, kube_objects.namespace(on.namespace))
        open_ = [item["name"] for item in row.items if not item["state"]]
        return {name: await _try(CHECKS[name], on) for name in open_}

    try:
        found = kube_api.talk(parts.kube, kube_steps.own_access(parts, cluster), ask, STEP_SECONDS)
    except (KubeUnavailable, KubeRefused) as problem:
        found = {i["name"]: ("", str(problem)) for i in row.items if not i["state"]}
    told = []
    for item in row.items:
        state, sentence = found.get(item["name"], (item["state"], item["sentence"]))
        if not state and late:
            state, sentence = "failed", f"not within {PATIENCE:g} s: {sentence}"
        told.append(item if item["state"] else _decided(row, item, state, sentence))
    return _write(parts, row, told, cleaning=all(item["state"] for item in told))


async def _try(check: Callable[[On], Awaitable[Told]], on: On) -> Told:
    try:
        return await check(on)
    except (KubeRefused, KubeUnavailable) as problem:  # as a new namespace's first pod is
        return "", str(problem)


def _clean(parts: Parts, row: ClusterCheck, cluster: Cluster) -> float:
    path = f"/api/v1/namespaces/{_namespace(row)}"

    async def ask(api: KubeApi) -> bool:
        there = await api.find(path)
        if there is not None and not part(there, "metadata", "deletionTimestamp"):
            await api.delete(path)
        return there is None

    try:
        gone = kube_api.talk(parts.kube, kube_steps.own_access(parts, cluster), ask, STEP_SECONDS)
    except (KubeUnavailable, KubeRefused):
        gone = False
    if gone:
        told = [*row.items, _decided(row, _item(CLEAN_UP), "ok", "what it made is gone")]
        return _write(parts, row, told, ended=True)
    if _age(row) > PATIENCE + CLEANING:
        says = f"the namespace is there still: `kubectl delete namespace {_namespace(row)}`"
        told = [*row.items, _decided(row, _item(CLEAN_UP), "failed", says)]
        return _write(parts, row, told, ended=True)
    return PAUSE


# --- what is checked ------------------------------------------------------------------------------


async def _nodes(on: On) -> Told:
    seen = kube_api.Seen("", tuple(kube_api.node_of(node) for node in on.seen), ())
    look: Look = kube_steps.judge(on.cluster.name, seen, on.nodes)
    if look.problems:
        return "failed", plain("; ".join(look.problems))
    return "ok", f"{len(on.nodes)} of {len(on.nodes)} are Ready"


async def _pods(on: On) -> Told:
    image = on.image(PAUSE_IMAGE)
    if not image:
        return "none", "no node has an image of pause"
    pod = await on.pod(kube_objects.pod(on.namespace, "pod", image))
    return _runs(pod, f"one ran, of {image}")


async def _dns(on: On) -> Told:
    slices = items(await on.api.get(SLICES))
    ends = [end for one in slices for end in kube_api.listed(one, "endpoints")]
    ready = sum(part(end, "conditions", "ready") is not False for end in ends)
    if not ready:
        return "", "no endpoint of the Service kube-dns is ready"
    image, name = on.image(RESOLVERS), f"kubernetes.default.svc.{on.cluster.spec['dns_domain']}"
    if not image:
        says = f"{ready} endpoints of kube-dns are ready; no pod asked: no image has nslookup"
        return "ok", says
    asks = kube_objects.pod(on.namespace, "dns", image, ("nslookup", name), once=True)
    pod = await on.pod(asks)
    phase = part(pod or {}, "status", "phase")
    if phase == "Failed":
        return "failed", f"a pod could not look up {name}"
    return ("ok", f"a pod looked up {name}") if phase == "Succeeded" else _pending(pod)


async def _service(on: On) -> Told:
    """CoreDNS is in every kubeadm cluster, and can answer by HTTP: its plugin "health"."""
    image = next(
        (
            str(one["image"])
            for pod in items(await on.api.get(DNS))
            for one in kube_api.listed(pod, "spec", "containers")
            if one.get("name") == "coredns" and one.get("image")
        ),
        "",
    )
    if not image:
        return "none", "there is no CoreDNS, whose image would answer"
    base = f"/api/v1/namespaces/{on.namespace}"
    await on.there(f"{base}/configmaps/web", kube_objects.corefile(on.namespace))
    await on.there(f"{base}/services/web", kube_objects.service(on.namespace))
    pod = await on.pod(kube_objects.web(on.namespace, image))
    told = _runs(pod, "")
    if told[0] != "ok":
        return told
    status, said = await on.api.text(f"{base}/services/web:{kube_objects.PORT}/proxy/health")
    if status == 200 and said.strip() == "OK":
        return "ok", "the endpoint of a Service answered the API server"
    return "", f"the endpoint of a Service does not answer: {status} {plain(said)[:100]}"


async def _volume(on: On) -> Told:
    classes = items(await on.api.get(CLASSES))
    if not classes:
        return "none", "there is no StorageClass"
    mark = "storageclass.kubernetes.io/is-default-class"
    chosen = min(classes, key=lambda c: part(c, "metadata", "annotations", mark) != "true")
    image, name = on.image(PAUSE_IMAGE), name_of(chosen)
    if not image:
        return "none", "no node has an image of pause"
    path = f"/api/v1/namespaces/{on.namespace}/persistentvolumeclaims/disk"
    claim = await on.there(path, kube_objects.claim(on.namespace, name))
    pod = await on.pod(kube_objects.pod(on.namespace, "disk", image, volume=True))
    told = _runs(pod, f"a pod has one of StorageClass {name}")
    phase = part(claim or {}, "status", "phase")
    return told if told[0] else ("", f"its claim is {phase or 'new'}; {told[1]}")


CHECKS: Final[dict[str, Callable[[On], Awaitable[Told]]]] = {
    "nodes": _nodes, "pods": _pods, "dns": _dns, "service": _service, "volume": _volume,
}  # fmt: skip


def _runs(pod: Document | None, sentence: str) -> Told:
    if pod is not None and condition(pod, "Ready")[0]:
        return "ok", sentence
    return _pending(pod)


def _pending(pod: Document | None) -> Told:
    if pod is None:
        return "", "its pod is new"
    return "", waiting(pod) or f"its pod is {plain(str(part(pod, 'status', 'phase')))}"


def by_reports(row: ClusterCheck, cluster: Cluster, members: Sequence[Member]) -> list[Item]:
    """Where there is no Kubernetes API: what the members' own checks said last."""
    bad = [f"{m.name} has not joined" for m in members if m.joined_at is None]
    bad += [
        f"{m.name}: {m.step_detail}" for m in members
        if m.joined_at and m.step == "check" and m.step_state == "failed"
    ]  # fmt: skip
    silent = [m.name for m in members if m.joined_at and m.step != "check"]
    bad += [f"{name} has not checked itself yet" for name in silent]
    says = plain("; ".join(bad)) if bad else f"{len(members)} of {len(members)} say that they work"
    told: dict[str, Told] = {"nodes": ("failed" if bad else "ok", says)}
    if isinstance(clusters.known()[cluster.spec["kind"]], Tries):
        told |= _tried(row)
    also = [_item(CLEAN_UP)] if CLEAN_UP in told else []
    none = ("none", "its members' checks say all")
    return [_decided(row, i, *told.get(i["name"], none)) for i in (*row.items, *also)]


def _tried(row: ClusterCheck) -> dict[str, Told]:
    """As a control plane told it, all at once; after the first that failed nothing is tried."""
    if not row.told and _age(row) < TRY_PATIENCE:
        return dict.fromkeys(TRIED, ("", "a control plane tries it"))
    said = {str(name): (str(one[0]), plain(str(one[1]))) for name, one in row.told.items()}
    late = ("failed", f"no control plane has tried it within {TRY_PATIENCE:g} s")
    first = {"pods": said.pop("", late)}
    left = {CLEAN_UP: ("failed", LEFT)} if row.told else {}
    return dict.fromkeys(TRIED, ("none", "not tried")) | left | first | said


# --- the row --------------------------------------------------------------------------------------


def _namespace(row: ClusterCheck) -> str:
    return f"seed-check-{str(row.id)[:8]}"


def _age(row: ClusterCheck) -> float:
    return (now() - (row.started_at or now())).total_seconds()


def _item(name: str) -> Item:
    return {"name": name, "state": "", "sentence": "", "seconds": 0.0}


def _decided(row: ClusterCheck, item: Any, state: Any, sentence: str) -> Item:  # noqa: ANN401
    """One that is decided stays so. A row's item is a plain dict."""
    old = cast(Item, item)
    if old["state"]:
        return old
    return {
        "name": old["name"], "state": state, "sentence": sentence,
        "seconds": round(_age(row), 1) if state else 0.0,
    }  # fmt: skip


def _write(
    parts: Parts, seen: ClusterCheck, told: Sequence[Any], cleaning: bool = False,
    ended: bool = False,
) -> float:  # fmt: skip
    with parts.store.write() as session:
        row = session.get(ClusterCheck, seen.id)
        if row is None:  # given back meanwhile
            return SELDOM
        row.started_at = row.started_at or now()
        row.items, row.cleaning = [dict(item) for item in told], row.cleaning or cleaning
        if ended:
            row.ended_at = now()
            failed = [item["name"] for item in told if item["state"] == "failed"]
            record(
                session, "cluster.checked", row.cluster_id,
                f"failed: {', '.join(failed)}" if failed else "it works", project=row.project,
            )  # fmt: skip
        session.add(row)
    return 0.0 if cleaning or seen.started_at is None else PAUSE
