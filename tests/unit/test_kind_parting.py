"""Members of clusters that come and go: what each kind does then, on whom and by whom."""

import json
import re
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioning import kinds, plugins
from provisioning.kinds import NAME, ClusterFacts, Kind, MemberFacts, Step, kubeadm, swarm
from tests.fakes import a_kubeadm
from tests.unit import test_kind_swarm as a_swarm

ALL: dict[str, tuple[Any, ClusterFacts, dict[str, MemberFacts], Path]] = {
    "kubeadm": (kubeadm.PLUGIN, a_kubeadm.FACTS, a_kubeadm.ROLES, a_kubeadm.GOLDEN),
    "swarm": (swarm.PLUGIN, a_swarm.FACTS, a_swarm.ROLES, a_swarm.GOLDEN),
}
VERBS = ("drain", "leave", "forget")
ROLES = ("first", "control", "worker")


def steps(kind: str, verb: str, role: str) -> list[Step]:
    plugin, facts, roles, _ = ALL[kind]
    found: list[Step] = getattr(plugin, verb)(facts, roles[role])
    return found


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", ALL)
def test_the_steps_of_parting_are_the_golden_ones(kind: str, role: str) -> None:
    golden = yaml.safe_load((ALL[kind][3] / f"parting-{role}.yaml").read_text())
    told = {
        verb: [
            {**asdict(one), "argv": [*one.argv], "wants": [*one.wants]}
            for one in steps(kind, verb, role)
        ]
        for verb in VERBS
    }
    assert told == golden


@pytest.mark.parametrize("kind", ALL)
def test_a_control_plane_hands_the_address_over_before_it_leaves(kind: str) -> None:
    names = [one.name for one in steps(kind, "leave", "control")]
    assert names[0] == "hand over address"
    assert "hand over address" not in [one.name for one in steps(kind, "leave", "worker")]


@pytest.mark.parametrize("kind", ALL)
def test_another_members_name_is_a_word_of_its_own(kind: str) -> None:
    """It never becomes part of a shell's text."""
    for verb in ("drain", "forget"):
        for one in steps(kind, verb, "control"):
            assert one.argv.count(NAME) == 1
            assert not [word for word in one.argv if NAME in word and word != NAME]


@pytest.mark.parametrize("kind", ALL)
def test_what_changes_with_the_peers_is_a_part_without_a_secret(kind: str) -> None:
    plugin, facts, roles, _ = ALL[kind]
    secrets = a_kubeadm.made_secrets() if kind == "kubeadm" else a_swarm.SECRETS
    control = tuple(m for m in facts.members if m.role == "control")
    parts = {p.path: p.content.decode() for p in plugin.files(facts, roles["control"], secrets)}
    told = plugin.fresh(replace(facts, members=control), roles["control"])
    assert {one.unit for one in told} == {"haproxy.service", "keepalived.service"}
    for one in told:
        assert parts[one.path] == one.content, "who was just made is told nothing new"
        assert not [name for name, secret in secrets.items() if secret in one.content]
    fewer = plugin.fresh(replace(facts, members=control[:2]), roles["control"])
    gone = control[2].address.partition("/")[0]
    assert all(gone in one.content for one in told)
    assert not [one.path for one in fewer if gone in one.content]


@pytest.mark.parametrize(
    ("was", "to", "says"),
    [
        ("1.35.1", "1.36.0", ""), ("1.36.1", "1.36.2", ""), ("1.36.2", "1.36.2", ""),
        ("1.34.9", "1.36.2", "skips minor versions"), ("1.36.2", "2.0.0", "skips minor versions"),
        ("1.36.2", "1.36.1", "no way back"), ("1.36.2", "1.35.9", "no way back"),
        ("1.9.2", "1.10.0", ""),
    ],
)  # fmt: skip
def test_kubernetes_goes_on_by_one_minor_version_at_a_time(was: str, to: str, says: str) -> None:
    fault = kubeadm.PLUGIN.skew(was, to)
    assert bool(fault) is bool(says)
    if fault:
        assert says in fault.sentence
        assert (fault.field, bool(fault.remedy)) == ("version", True)


def test_a_swarm_may_skip_versions_but_never_goes_back() -> None:
    assert swarm.PLUGIN.skew("20.10.24", "26.1.5") is None
    fault = swarm.PLUGIN.skew("26.1.5", "20.10.24")
    assert fault
    assert fault.field == "version"


@pytest.mark.parametrize("name", plugins.load(kinds))
def test_each_kind_has_all_verbs(name: str) -> None:
    kind: Kind = plugins.load(kinds)[name]
    for verb in (*VERBS, "fresh", "skew"):
        assert callable(getattr(kind, verb))


# --- kubeadm's shell texts, with programs that stand in -------------------------------------------

KUBECTL = """\
#!/bin/sh
echo "kubectl $*" >>{root}/calls
case "$*" in
  *"get node gone"*) ;;
  *"get node"*) [ ! -e {root}/down ] || exit 1; echo node/web-worker-3 ;;
  *"member list"*) cat {root}/members ;;
  *"get configmap"*) cat {root}/map ;;
  *spec.affinity}}*) cat {root}/near 2>/dev/null ;;
  *"get daemonset"*) cat {root}/kube-proxy ;;
  *"get deployment"*) cat {root}/coredns ;;
  *replace*) cat >{root}/map ;;
esac
"""
KUBEADM = """\
#!/bin/sh
[ "$1" != config ] || printf '%s\\n' r/kube-proxy:v1.36.2 r/coredns/coredns:v1.14.2 r/pause:3.10.2
"""
MEMBERS = """\
8e9e05c52164694d, started, web-control-0, https://10.30.0.2:2380, https://10.30.0.2:2379, false
91bc3c398fb3c146, started, web-control-1, https://10.30.0.3:2380, https://10.30.0.3:2379, false
fd422379fda50e48, unstarted, , https://10.30.0.4:2380, , true
"""
MAP = """\
apiVersion: v1
data:
  ClusterConfiguration: |
    apiVersion: kubeadm.k8s.io/v1beta4
    kubernetesVersion: v1.35.4
    networking: {}
"""


def run(tmp_path: Path, one: Step, name: str = "web-control-1") -> int:
    (tmp_path / "bin").mkdir(exist_ok=True)
    for program, text in (("kubectl", KUBECTL), ("kubeadm", KUBEADM)):
        (tmp_path / "bin" / program).write_text(text.format(root=tmp_path))
        (tmp_path / "bin" / program).chmod(0o755)
    argv = [name if word == NAME else word for word in one.argv]
    argv = [re.sub(r"PATH=\S+", f"PATH={tmp_path}/bin:/usr/bin:/bin", word) for word in argv]
    argv = [word.replace("/var/lib/seed", f"{tmp_path}/seed") for word in argv]
    argv = [word.replace("/etc/haproxy", str(tmp_path)) for word in argv]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    (tmp_path / "said").write_text(done.stdout + done.stderr)
    return done.returncode


def etcd_has(tmp_path: Path, members: str, planes: int = 3) -> None:
    """planes: how many control planes there are now, as the seed told."""
    control = tuple(m for m in a_kubeadm.FACTS.members if m.role == "control")[:planes]
    told = kubeadm.PLUGIN.fresh(replace(a_kubeadm.FACTS, members=control), a_kubeadm.FIRST)
    (tmp_path / "haproxy.cfg").write_text(
        next(one.content for one in told if "haproxy" in one.path)
    )
    (tmp_path / "members").write_text(members)


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


def test_who_is_forgotten_is_out_of_etcd_before_its_node_goes(tmp_path: Path) -> None:
    (one,) = steps("kubeadm", "forget", "first")
    etcd_has(tmp_path, MEMBERS)
    assert run(tmp_path, one) == 0
    asked, removed, deleted = calls(tmp_path)
    assert "exec etcd-web-control-0 -- etcdctl" in asked
    assert removed.endswith(" member remove 91bc3c398fb3c146")
    assert deleted.startswith("kubectl delete node web-control-1 ")


@pytest.mark.parametrize("name", ["web-worker-3", "web-control", "web-control-11"])
def test_who_is_not_in_etcd_takes_nobody_elses_place_there(tmp_path: Path, name: str) -> None:
    (one,) = steps("kubeadm", "forget", "first")
    etcd_has(tmp_path, MEMBERS)
    assert run(tmp_path, one, name) == 0
    assert not [call for call in calls(tmp_path) if "remove" in call]


@pytest.mark.parametrize(("planes", "removed"), [(2, ["fd422379fda50e48"]), (3, [])])
def test_who_died_before_its_etcd_began_is_out_of_etcd_and_who_is_on_its_way_stays(
    tmp_path: Path, planes: int, removed: list[str]
) -> None:
    """It has no name there, and nobody else could join while it is there."""
    (one,) = steps("kubeadm", "forget", "first")
    etcd_has(tmp_path, MEMBERS, planes)
    assert run(tmp_path, one, "web-control-2") == 0
    assert [call.split()[-1] for call in calls(tmp_path) if "member remove" in call] == removed
    assert calls(tmp_path)[-1].startswith("kubectl delete node web-control-2 ")


def test_a_node_that_is_gone_is_drained_and_an_api_that_is_down_says_nothing(
    tmp_path: Path,
) -> None:
    (one,) = steps("kubeadm", "drain", "control")
    assert run(tmp_path, one, "gone") == 0
    assert len(calls(tmp_path)) == 1
    assert run(tmp_path, one, "web-worker-3") == 0
    assert calls(tmp_path)[-1].startswith("kubectl drain web-worker-3 ")
    (tmp_path / "down").touch()
    assert run(tmp_path, one, "web-worker-3") != 0


@pytest.mark.parametrize(
    ("has", "code", "then"),
    [("v1.35.4", 0, "v1.36.2"), ("v1.36.2", 0, "v1.36.2"), ("v1.37.0", 1, "v1.37.0")],
)
def test_a_newer_control_plane_brings_its_version_along_and_an_older_one_does_not(
    tmp_path: Path, has: str, code: int, then: str
) -> None:
    one = a_kubeadm.step(a_kubeadm.CONTROL, "cluster version")
    (tmp_path / "map").write_text(MAP.replace("v1.35.4", has))
    assert run(tmp_path, one) == code
    assert (tmp_path / "map").read_text() == MAP.replace("v1.35.4", then)
    assert len([c for c in calls(tmp_path) if "replace" in c]) == (has == "v1.35.4")


def patches(tmp_path: Path, proxy: str, dns: str) -> dict[str, Any]:
    """What the step `cluster services` changes: name -> patch. proxy, dns: images of before."""
    (tmp_path / "kube-proxy").write_text(proxy)
    (tmp_path / "coredns").write_text(dns)
    one = a_kubeadm.step(a_kubeadm.CONTROL, "cluster services")
    assert run(tmp_path, one) == 0, (tmp_path / "said").read_text()
    told = [call.partition(" patch ")[2] for call in calls(tmp_path)]
    split = [words.partition(" --patch ") for words in told if words]
    return {name: json.loads(patch) for name, _, patch in split}


def test_a_newer_control_plane_brings_kube_proxy_and_dns_along(tmp_path: Path) -> None:
    done = patches(tmp_path, "own/kube-proxy:v1.35.4", "own/coredns/coredns:v1.12.1")
    assert list(done) == ["daemonset kube-proxy", "deployment coredns"]
    proxy, dns = (one["spec"] for one in done.values())
    (container,) = proxy["template"]["spec"]["containers"]
    assert container == {"name": "kube-proxy", "image": "own/kube-proxy:v1.36.2"}
    assert proxy["updateStrategy"] == {"type": "OnDelete", "rollingUpdate": None}
    (container,) = dns["template"]["spec"]["containers"]
    assert container == {"name": "coredns", "image": "own/coredns/coredns:v1.14.2"}
    near = dns["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = near["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    (asked,) = term["matchExpressions"]
    secrets = a_kubeadm.made_secrets()
    config = a_kubeadm.text(a_kubeadm.WORKER, secrets, "/etc/kubernetes/seed-kubeadm.yaml")
    assert asked["operator"] == "In"
    assert f"{asked['key']}={asked['values'][0]}\n" in config, "no node could have it"


def test_dns_goes_along_with_the_nodes_where_its_tag_stays_as_it_was(tmp_path: Path) -> None:
    before = patches(tmp_path, "r/kube-proxy:v1.35.4", "r/coredns/coredns:v1.12.1")
    near = before["deployment coredns"]["spec"]["template"]["spec"]["affinity"]
    (tmp_path / "near").write_text(json.dumps(near).replace("1.36.2", "1.36.1"))
    (tmp_path / "calls").unlink()
    done = patches(tmp_path, "r/kube-proxy:v1.36.1", "r/coredns/coredns:v1.14.2")
    assert done["deployment coredns"]["spec"]["template"]["spec"]["affinity"] == near


@pytest.mark.parametrize(
    ("proxy", "dns"),
    [
        ("r/kube-proxy:v1.36.2", "r/coredns/coredns:v1.14.2"),
        ("r/kube-proxy:v1.37.0", "r/coredns/coredns:v1.15.0"),
        ("", ""),
        ("r/kube-proxy@sha256:1", "r/coredns:v1.12.1@sha256:1"),
    ],
    ids=["the same", "newer", "none: an add-on has its work", "somebody's own"],
)
def test_services_that_are_not_older_stay(tmp_path: Path, proxy: str, dns: str) -> None:
    assert patches(tmp_path, proxy, dns) == {}
