"""Kubernetes by kubeadm: what each member is given, and what is refused before."""

import re
from dataclasses import asdict, replace
from ipaddress import IPv4Network
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from provisioning import kinds, pki, plugins
from provisioning.kinds import MemberFacts
from provisioning.kinds.kubeadm import PLUGIN
from tests.fakes import kubeadm_v1beta4, kubernetes_objects
from tests.fakes.a_kubeadm import (
    CONTROL,
    FACTS,
    FILES,
    FIRST,
    GOLDEN,
    MEMBERS,
    ROLES,
    WORKER,
    config,
    files,
    made_secrets,
    text,
)

SECRET_FILES = ("/pki/", "/ca.crt")


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    return made_secrets()


# --- files ----------------------------------------------------------------------------------------


def test_it_is_found_as_a_plugin_and_its_helpers_are_none() -> None:
    found = plugins.load(kinds)
    assert found["kubeadm"] is PLUGIN
    assert not [name for name in found if name.startswith("_")]


@pytest.mark.parametrize("role", ROLES)
def test_a_members_files_are_the_golden_ones(role: str, secrets: dict[str, str]) -> None:
    made = {
        path: part.content.decode().replace(pki.ca_cert_hash(secrets["ca.crt"]), "sha256:HASH")
        for path, part in files(ROLES[role], secrets).items()
        if not any(word in path for word in SECRET_FILES)
    }
    folder = GOLDEN / role
    there = {p for p in folder.rglob("*") if p.is_file() and p.name != "steps.yaml"}
    assert {f"/{p.relative_to(folder)}" for p in there} == set(made)
    for path, content in made.items():
        assert content == (folder / path[1:]).read_text(), path


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.name)
def test_kubeadm_reads_what_each_member_has(member: MemberFacts, secrets: dict[str, str]) -> None:
    kinds_there = {
        "InitConfiguration", "ClusterConfiguration", "KubeletConfiguration",
    } if member.first else {"JoinConfiguration"}  # fmt: skip
    assert set(config(member, secrets)) == kinds_there


def test_the_check_of_that_is_strict() -> None:
    good = (GOLDEN / "first/etc/kubernetes/seed-kubeadm.yaml").read_text()
    kubeadm_v1beta4.read(good)
    for old, new in (
        ("clusterName:", "clustername:"),
        ("discovery: 30m0s", "discoverytime: 30m0s"),
        ("bindPort: 6444", "bindPort: '6444'"),
        ("- name: node-ip\n    value: 10.30.0.2", "- node-ip: 10.30.0.2"),
        ("v1beta4", "v1beta3"),
        ("ttl: 24h0m0s", "ttl: 24h0m0s\n  expires: '2026-12-01T00:00:00Z'"),
        ("  - authentication\n", ""),
        ("system:bootstrappers:kubeadm", "system:bootstrappers:Kubeadm"),
        ("advertiseAddress: 10.30.0.2", "advertiseAddress: web-control-0"),
        ("serviceSubnet: 10.96.0.0/16", "serviceSubnet: 10.0.0.0/8"),
        ("dnsDomain: cluster.local", "dnsDomain: Cluster.local"),
    ):
        assert old in good
        with pytest.raises(ValidationError):
            kubeadm_v1beta4.read(good.replace(old, new))


def test_the_first_begins_with_the_token_and_the_address(secrets: dict[str, str]) -> None:
    read = config(FIRST, secrets)
    init, cluster = read["InitConfiguration"], read["ClusterConfiguration"]
    assert [one.token for one in init.bootstrapTokens] == [secrets["token"]]
    assert cluster.controlPlaneEndpoint == "10.30.0.14:6443"
    assert cluster.kubernetesVersion == "v1.36.2"
    assert {"10.30.0.14", "10.30.0.4", "web-control-2"} < set(cluster.apiServer.certSANs)
    assert read["KubeletConfiguration"].cgroupDriver == "systemd"


def test_how_large_a_control_plane_is_its_spec_says(secrets: dict[str, str]) -> None:
    for member, kind in ((FIRST, "InitConfiguration"), (CONTROL, "JoinConfiguration")):
        left = config(member, secrets)[kind].nodeRegistration.ignorePreflightErrors
        assert {"NumCPU", "Mem"} < set(left)


def test_all_members_of_etcd_wait_equally_long_for_each_other(secrets: dict[str, str]) -> None:
    local = config(FIRST, secrets)["ClusterConfiguration"].etcd.local
    told = {arg.name: int(arg.value) for arg in local.extraArgs}
    assert local.dataDir == "/var/lib/etcd", "it is what a join looks at, and a reset takes away"
    assert told["election-timeout"] >= 5 * told["heartbeat-interval"], "etcd begins not else"
    assert told["election-timeout"] <= 50_000


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.name)
def test_a_node_that_knows_no_name_server_has_one_that_refuses(
    member: MemberFacts, secrets: dict[str, str]
) -> None:
    told = text(member, secrets, "/etc/systemd/resolved.conf.d/seed-fallback.conf")
    assert told == f"[Resolve]\nFallbackDNS={member.address.partition('/')[0]}\n"


@pytest.mark.parametrize("member", [CONTROL, WORKER], ids=["control", "worker"])
def test_who_joins_trusts_this_ca_alone(member: MemberFacts, secrets: dict[str, str]) -> None:
    discovery = config(member, secrets)["JoinConfiguration"].discovery.bootstrapToken
    assert discovery.caCertHashes == [pki.ca_cert_hash(secrets["ca.crt"])]
    assert discovery.apiServerEndpoint == "10.30.0.14:6443"
    assert not discovery.unsafeSkipCAVerification


def test_only_a_control_plane_joins_as_one(secrets: dict[str, str]) -> None:
    joins = config(CONTROL, secrets)["JoinConfiguration"].controlPlane
    assert joins.localAPIEndpoint.advertiseAddress == "10.30.0.3"
    assert config(WORKER, secrets)["JoinConfiguration"].controlPlane is None


def test_the_first_could_join_as_well(secrets: dict[str, str]) -> None:
    read = kubeadm_v1beta4.read(text(FIRST, secrets, "/etc/kubernetes/seed-kubeadm-join.yaml"))
    assert read["JoinConfiguration"].nodeRegistration.name == FIRST.name
    assert read["JoinConfiguration"].controlPlane.localAPIEndpoint.bindPort == 6444


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.name)
def test_each_node_says_where_it_is(member: MemberFacts, secrets: dict[str, str]) -> None:
    (registration,) = (
        document.nodeRegistration
        for document in config(member, secrets).values()
        if hasattr(document, "nodeRegistration")
    )
    given = {arg.name: arg.value for arg in registration.kubeletExtraArgs}
    assert registration.name == member.name
    assert given["provider-id"] == f"seed://{member.node_uuid}"
    assert given["node-ip"] == member.address.partition("/")[0]
    assert dict(label.split("=") for label in given["node-labels"].split(",")) == {
        "seed.class": "large",
        "seed.rack": member.labels["rack"],
        "seed.unit": member.labels["unit"],
        "seed.node-uuid": member.node_uuid,
        "seed.version": "1.36.2",
    }


def test_peoples_own_labels_keep_their_names(secrets: dict[str, str]) -> None:
    own = replace(WORKER, labels={"example.org/tier": "gold", "topology.kubernetes.io/zone": "z"})
    read = config(own, secrets)["JoinConfiguration"].nodeRegistration.kubeletExtraArgs
    (labels,) = (arg.value for arg in read if arg.name == "node-labels")
    assert labels == (
        f"example.org/tier=gold,seed.node-uuid={WORKER.node_uuid},seed.version=1.36.2,"
        "topology.kubernetes.io/zone=z"
    )
    assert faults(members=(*MEMBERS[:3], own)) == []


def taints(member: MemberFacts, secrets: dict[str, str], **changes: Any) -> list[Any]:
    (document,) = (
        one for one in config(member, secrets, **changes).values() if hasattr(one, "timeouts")
    )
    return [(one.key, one.value, one.effect) for one in document.nodeRegistration.taints]


def test_taints_are_the_members_own(secrets: dict[str, str]) -> None:
    assert taints(WORKER, secrets) == [
        ("gpu", "yes", "NoSchedule"), ("slow", "", "PreferNoSchedule"),
    ]  # fmt: skip
    assert taints(MEMBERS[4], secrets) == []


def test_control_planes_keep_pods_off_unless_there_is_no_worker(secrets: dict[str, str]) -> None:
    own = ("node-role.kubernetes.io/control-plane", "", "NoSchedule")
    assert taints(CONTROL, secrets) == [own]
    assert taints(FIRST, secrets, members=MEMBERS[:3]) == []


def test_all_control_planes_have_the_same_cas_and_a_worker_none(secrets: dict[str, str]) -> None:
    below = {path for path in secrets if path not in ("token", "vrrp")}
    for member in (FIRST, CONTROL):
        own = files(member, secrets)
        for path in below:
            part = own[f"/etc/kubernetes/pki/{path}"]
            assert (part.mode, part.content.decode()) == (0o600, secrets[path])
    assert not [path for path in files(WORKER, secrets) if "/pki/" in path]


@pytest.mark.parametrize("member", [FIRST, CONTROL, WORKER], ids=ROLES)
def test_what_is_secret_is_for_root_alone(member: MemberFacts, secrets: dict[str, str]) -> None:
    hidden = [secrets[name] for name in ("token", "vrrp", "ca.key", "sa.key", "etcd/ca.key")]
    for part in files(member, secrets).values():
        if any(secret in part.content.decode() for secret in hidden):
            assert part.mode == 0o600, part.path
    told = repr([asdict(one) for one in PLUGIN.steps(FACTS, member)])
    assert not [secret for secret in hidden if secret in told]
    names = [part.name for part in files(member, secrets).values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("port", "behind"), [(6443, 6444), (443, 6443), (8443, 6443)])
def test_clients_and_api_servers_have_ports_of_their_own(
    port: int, behind: int, secrets: dict[str, str]
) -> None:
    read = config(FIRST, secrets, api_port=port)
    assert read["InitConfiguration"].localAPIEndpoint.bindPort == behind
    assert read["ClusterConfiguration"].controlPlaneEndpoint == f"10.30.0.14:{port}"
    haproxy = text(FIRST, secrets, "/etc/haproxy/haproxy.cfg", api_port=port)
    assert f"bind 10.30.0.14:{port} transparent" in haproxy
    assert re.findall(r" server (\S+) (\S+)", haproxy) == [
        (f"web-control-{n}", f"10.30.0.{2 + n}:{behind}") for n in range(3)
    ]


def test_the_address_goes_to_the_next_in_order(secrets: dict[str, str]) -> None:
    told = [text(one, secrets, "/etc/keepalived/keepalived.conf") for one in MEMBERS[:3]]
    assert [re.findall(r"priority (\d+)", one) for one in told] == [["150"], ["149"], ["148"]]
    assert [re.findall(r"unicast_peer {([^}]*)}", one)[0].split() for one in told] == [
        ["10.30.0.3", "10.30.0.4"], ["10.30.0.2", "10.30.0.4"], ["10.30.0.2", "10.30.0.3"],
    ]  # fmt: skip
    assert len({re.findall(r"virtual_router_id (\d+)", one)[0] for one in told}) == 1


def test_who_is_alone_asks_everybody(secrets: dict[str, str]) -> None:
    alone = text(FIRST, secrets, "/etc/keepalived/keepalived.conf", members=MEMBERS[:1])
    assert "unicast" not in alone
    assert "    mcast_src_ip 10.30.0.2\n" in alone


def test_workers_know_nobody_but_the_address(secrets: dict[str, str]) -> None:
    own = files(WORKER, secrets)
    assert not [path for path in own if "haproxy" in path or "keepalived" in path]
    reached = re.findall(
        r"10\.30\.0\.\d+", own["/etc/kubernetes/seed-kubeadm.yaml"].content.decode()
    )
    assert set(reached) == {"10.30.0.14", "10.30.0.5"}


# --- pods -----------------------------------------------------------------------------------------


def pods_of(member: MemberFacts, secrets: dict[str, str]) -> IPv4Network:
    conflist = yaml.safe_load(text(member, secrets, "/etc/cni/net.d/10-seed.conflist"))
    return IPv4Network(conflist["plugins"][0]["ipam"]["ranges"][0][0]["subnet"])


def test_each_nodes_pods_are_where_all_others_look_for_them(secrets: dict[str, str]) -> None:
    for member in MEMBERS:
        routes = text(member, secrets, "/etc/seed/pods/routes")
        for other in MEMBERS:
            line = (
                f"route replace {pods_of(other, secrets)} via {other.address.partition('/')[0]} "
                f"dev {member.interface}\n"
            )
            assert (line in routes) == (other != member)
    assert len({pods_of(member, secrets) for member in MEMBERS}) == len(MEMBERS)


def test_a_node_that_comes_or_goes_changes_nothing_on_the_others(secrets: dict[str, str]) -> None:
    paths = ("/etc/seed/pods/routes", "/etc/cni/net.d/10-seed.conflist")
    for path in paths:
        fewer = text(WORKER, secrets, path, members=(*MEMBERS[:2], WORKER))
        assert fewer == text(WORKER, secrets, path)


@pytest.mark.parametrize(
    "changes",
    [{"addons": ("cilium",)}, {"options": {"files": FILES, "cni": "none"}}],
    ids=["an add-on", "somebody else's"],
)
def test_another_cni_brings_its_own(changes: dict[str, Any], secrets: dict[str, str]) -> None:
    facts = replace(FACTS, **changes)
    own = files(FIRST, secrets, facts)
    assert not [path for path in own if "cni" in path or "pods" in path]
    assert "pod network" not in [one.name for one in PLUGIN.steps(facts, FIRST)]
    given = config(FIRST, secrets)["ClusterConfiguration"].controllerManager.extraArgs
    assert [(arg.name, arg.value) for arg in given] == [("allocate-node-cidrs", "false")]
    assert config(FIRST, secrets, **changes)["ClusterConfiguration"].controllerManager is None


# --- kube-vip in keepalived's place ---------------------------------------------------------------

IMAGE = {"path": "files/images/kube-vip_v1.0.0.tar", "role": "image", "sha256": "0" * 64}
AT_HAND = {"files": [*FILES, {**IMAGE, "source": "oci://images.example.org/kube-vip:v1.0.0"}],
           "vip": "kube-vip"}  # fmt: skip
POD = "/etc/seed/kubeadm/kube-vip.yaml"
MOVED_BY_POD = replace(FACTS, options=AT_HAND)


def test_a_pod_moves_the_address_and_haproxy_serves_on_it(secrets: dict[str, str]) -> None:
    for member in MEMBERS[:3]:
        made = files(member, secrets, MOVED_BY_POD)
        assert not [path for path in made if "keepalived" in path]
        (pod,) = kubernetes_objects.read(made[POD].content.decode())
        (container,) = pod.spec.containers
        assert container.image == "images.example.org/kube-vip:v1.0.0"
        told = {one.name: one.value for one in container.env if one.valueFrom is None}
        assert (told["address"], told["vip_interface"]) == ("10.30.0.14", member.interface)
        assert "--leaderElectionType=etcd" in container.args
        assert made[POD].mode == 0o600
        fresh = PLUGIN.fresh(MOVED_BY_POD, member)
        assert [one.path for one in fresh] == ["/etc/haproxy/haproxy.cfg"]
    assert POD not in files(WORKER, secrets, MOVED_BY_POD)


def test_the_pod_comes_before_the_cluster_and_after_each_join() -> None:
    names = [one.name for one in PLUGIN.steps(MOVED_BY_POD, FIRST)]
    assert names[-3:] == ["first address", "init", "address"]
    first = next(s for s in PLUGIN.steps(MOVED_BY_POD, FIRST) if s.name == "first address")
    assert "cluster-info ||" in first.argv[-1], "a first that is imaged anew joins its cluster"
    names = [one.name for one in PLUGIN.steps(MOVED_BY_POD, CONTROL)]
    assert names[names.index("join") + 1 :] == ["cluster services", "address"]
    assert "keepalived" not in repr(PLUGIN.steps(MOVED_BY_POD, CONTROL))
    assert "address" not in [one.name for one in PLUGIN.steps(MOVED_BY_POD, WORKER)]
    fetched = [one for one in PLUGIN.steps(MOVED_BY_POD, WORKER) if "kube-vip" in repr(one)]
    assert fetched == [], "a worker has no use for its image"


def test_who_leaves_gives_the_address_up_before_it_serves_no_more() -> None:
    (gone, reset) = PLUGIN.leave(MOVED_BY_POD, CONTROL)
    assert (gone.name, reset.name) == ("hand over address", "reset")
    text = gone.argv[-1]
    assert text.index("manifests/kube-vip.yaml") < text.index("10.30.0.14") < text.index("disable")
    assert [one.name for one in PLUGIN.leave(MOVED_BY_POD, WORKER)] == ["reset"]


# --- faults ---------------------------------------------------------------------------------------


def faults(**changes: Any) -> list[tuple[str, str]]:
    found = PLUGIN.faults(replace(FACTS, **changes))
    assert all(one.remedy and one.sentence for one in found)
    return [(one.field, one.sentence) for one in found]


def test_a_good_cluster_has_no_fault() -> None:
    assert faults() == []
    assert faults(members=MEMBERS[:1]) == []
    assert faults(bundle_url="", options={}) == []


MOVED = (*MEMBERS[:4], replace(MEMBERS[4], address="10.31.0.5/28"))
WIDE = tuple(replace(m, address=f"10.30.{n}.9/16") for n, m in enumerate(MEMBERS))


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"members": MEMBERS[:2]}, "control.count", "2 control planes"),
        ({"members": MEMBERS[3:]}, "control.count", "0 control planes"),
        ({"version": "1.33.9"}, "version", "'1.33.9' is no version"),
        ({"version": "1.37.0"}, "version", "'1.37.0' is no version"),
        ({"version": "v1.36.2"}, "version", "'v1.36.2' is no version"),
        ({"version": "1.36"}, "version", "'1.36' is no version"),
        ({"version": "1.36.2\n"}, "version", "is no version"),
        ({"version": "1.36.2-rc.1"}, "version", "is no version"),
        ({"vip": "10.30.0.3"}, "vip", "10.30.0.3 is the address of web-control-1"),
        ({"vip": "10.30.0.5"}, "vip", "10.30.0.5 is the address of web-worker-3"),
        ({"vip": "10.31.0.3"}, "vip", "10.31.0.3 is not in 10.30.0.0/28"),
        ({"vip": "fd00::1"}, "vip", "'fd00::1' is no IPv4 address"),
        ({"vip": ""}, "vip", "'' is no IPv4 address"),
        ({"api_port": 10250}, "api_port", "port 10250 is kubelet's"),
        ({"api_port": 8404}, "api_port", "port 8404 is haproxy's own"),
        ({"api_port": 0}, "api_port", "port 0 is none"),
        ({"pod_cidr": "10.244.0.1/20"}, "pod_cidr", "is no range"),
        ({"pod_cidr": "fd00::/64"}, "pod_cidr", "is no range"),
        ({"service_cidr": "many"}, "service_cidr", "is no range"),
        ({"service_cidr": "10.244.8.0/24"}, "service_cidr", "overlaps pod_cidr, 10.244.0.0/20"),
        ({"pod_cidr": "10.30.0.0/16"}, "pod_cidr", "overlaps the network of web-"),
        ({"service_cidr": "10.30.0.0/28"}, "service_cidr", "overlaps the network of web-"),
        ({"service_cidr": "10.96.0.0/29"}, "service_cidr", "too small"),
        ({"service_cidr": "11.0.0.0/8"}, "service_cidr", "too large"),
        ({"pod_cidr": "10.244.0.0/22"}, "pod_cidr", "has 4 ranges of /24, and web-control-2"),
        ({"pod_cidr": "10.244.0.0/25"}, "pod_cidr", "has 0 ranges"),
        ({"pod_cidr": "10.244.0.0/22", "addons": ("calico",)},
         "pod_cidr", "no /24 for each of 5 nodes"),
        ({"pod_cidr": "64.0.0.0/7", "addons": ("calico",)}, "pod_cidr", "is too large"),
        ({"members": MOVED}, "options.cni", "10.30.0.0/28 and 10.31.0.0/28"),
        ({"members": WIDE, "pod_cidr": "10.128.0.0/9", "service_cidr": "10.96.0.0/16"},
         "pod_cidr", "has 1024 ranges of /24, and web-worker-4"),
        ({"members": (*MEMBERS[:4], replace(MEMBERS[4], address="fd00::5/64"))},
         "networks", "no IPv4 address"),
        ({"members": (*MEMBERS[:4], replace(MEMBERS[4], taints=("gpu=yes",)))},
         "workers.node_taints", "'gpu=yes' of web-worker-4"),
        ({"members": (replace(FIRST, labels={"node-role.kubernetes.io/x": ""}), *MEMBERS[1:])},
         "control.node_labels", "node-role.kubernetes.io/x of web-control-0"),
        ({"registry": 'https://x:5000"]\nskip_verify = true'}, "registry", "be a mirror"),
        ({"dns_domain": "Cluster_Local"}, "dns_domain", "no domain name"),
        ({"options": {"files": FILES, "cni": "kuryr"}}, "options.cni", "bridge"),
        ({"options": {"files": FILES, "cnii": "bridge"}}, "options.cnii", "not as it must be"),
        ({"options": {"files": [{**FILES[0], "path": "files/../x"}]}},
         "options.files.0.path", "not as it must be"),
        ({"options": {"files": FILES, "vip": "kube-vip"}}, "options.vip", "no bundle with an"),
        ({"options": {"files": [*FILES, IMAGE], "vip": "kube-vip"}}, "options.vip", "source"),
        ({"bundle_url": "", "options": {"vip": "kube-vip"}}, "options.vip", "no bundle with an"),
        ({"options": {"files": FILES, "vip": "vrrp"}}, "options.vip", "not as it must be"),
        ({"options": {"files": FILES[:2]}}, "bundle", "has no kubelet"),
        ({"options": {"files": FILES[:3]}}, "bundle", "has no archive of the image etcd"),
        ({"options": {"files": FILES[:-2]}}, "bundle", "has no archive of the image pause"),
        ({"options": {"files": [f for f in FILES if "kube-proxy" not in f["path"]]}},
         "bundle", "has no archive of the image kube-proxy"),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, dict) else None,
)  # fmt: skip
def test_what_cannot_be_is_told_by_its_field(
    changes: dict[str, Any], field: str, says: str
) -> None:
    found = faults(**changes)
    assert {name for name, sentence in found if says in sentence} == {field}, found


def test_all_faults_are_told_at_once() -> None:
    found = faults(
        members=MEMBERS[:2], version="1.30.0", vip="10.30.0.2", pod_cidr="x", api_port=22
    )
    told = ["version", "control.count", "vip", "api_port", "pod_cidr"]
    assert [field for field, _ in found] == told
