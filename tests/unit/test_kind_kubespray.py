"""Kubernetes by Kubespray: what nodes are given, what Ansible is, and what is refused before."""

from dataclasses import asdict, replace
from typing import Any

import pytest
import yaml

from provisioning import kinds, plugins
from provisioning.kinds import ByPlaybook, MemberFacts, Reach
from provisioning.kinds._ssh import KEY, KEYS
from provisioning.kinds.kubespray import PLUGIN
from tests.fakes import a_kubeadm
from tests.fakes.a_kubeadm import CONTROL, FIRST, MEMBERS, ROLES, WORKER, Hidden

FACTS = replace(a_kubeadm.FACTS, options={"files": a_kubeadm.FILES})
REACHED = {m.name: Reach(f"172.22.0.{n + 11}", ("ssh-ed25519 A",)) for n, m in enumerate(MEMBERS)}


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    return Hidden(PLUGIN.secrets(FACTS))


def tree(secrets: dict[str, str], **changes: Any) -> dict[str, Any]:
    facts = replace(FACTS, **changes)
    return {part.path: part for part in PLUGIN.tree(facts, secrets, REACHED)}


def variables(secrets: dict[str, str], **changes: Any) -> dict[str, Any]:
    parts = tree(secrets, **changes)
    read: dict[str, Any] = {}
    for group in ("all", "k8s_cluster"):
        read |= yaml.safe_load(parts[f"inventory/group_vars/{group}/seed.yml"].content)
    return read


def test_it_alone_is_installed_by_a_playbook() -> None:
    found = plugins.load(kinds)
    assert found["kubespray"] is PLUGIN
    assert [name for name, kind in found.items() if isinstance(kind, ByPlaybook)] == ["kubespray"]


@pytest.mark.parametrize("member", [FIRST, CONTROL, WORKER], ids=ROLES)
def test_a_node_has_the_public_key_and_never_the_private_one(
    member: MemberFacts, secrets: dict[str, str]
) -> None:
    parts = {part.path: part for part in PLUGIN.files(FACTS, member, secrets)}
    assert parts[KEYS].content.decode() == secrets["ssh.pub"]
    assert parts[KEYS].mode == 0o600
    told = repr(parts) + repr([asdict(step) for step in PLUGIN.steps(FACTS, member)])
    assert "PRIVATE KEY" not in told
    assert ("/etc/haproxy/haproxy.cfg" in parts) == (member.role == "control")


def test_each_cluster_has_a_key_of_its_own(secrets: dict[str, str]) -> None:
    assert PLUGIN.secrets(FACTS)["ssh.pub"] != secrets["ssh.pub"]


def test_what_ansible_gets_is_for_the_reconciler_alone(secrets: dict[str, str]) -> None:
    parts = tree(secrets)
    assert {part.mode for part in parts.values()} == {0o600}
    assert [path for path, part in parts.items() if b"PRIVATE KEY" in part.content] == [KEY]
    assert yaml.safe_load(parts["env/settings"].content)["job_timeout"] > 0


def test_only_host_keys_that_a_proof_told_are_trusted(secrets: dict[str, str]) -> None:
    known = tree(secrets)["known_hosts"].content.decode().splitlines()
    assert known == sorted(f"{one.address} ssh-ed25519 A" for one in REACHED.values())
    assert "StrictHostKeyChecking=yes" in variables(secrets)["ansible_ssh_common_args"]


def test_the_same_members_are_the_same_inputs(secrets: dict[str, str]) -> None:
    assert PLUGIN.tree(FACTS, secrets, REACHED) == PLUGIN.tree(FACTS, secrets, REACHED)
    fewer = PLUGIN.tree(replace(FACTS, members=MEMBERS[:4]), secrets, REACHED)
    assert fewer != PLUGIN.tree(FACTS, secrets, REACHED)


def test_a_registry_without_tls_is_told_to_containerd(secrets: dict[str, str]) -> None:
    told = variables(secrets, registry="http://172.22.0.1:5000/")
    assert told["registry_host"] == "172.22.0.1:5000"
    (one,) = told["containerd_registries_mirrors"]
    assert (one["prefix"], one["server"]) == ("172.22.0.1:5000", "http://172.22.0.1:5000")
    assert one["mirrors"] == [{"host": one["server"], "capabilities": ["pull", "resolve"]}]


def test_the_address_is_no_name_that_somebody_must_resolve(secrets: dict[str, str]) -> None:
    told = variables(secrets)
    assert told["apiserver_loadbalancer_domain_name"] == FACTS.vip
    assert told["loadbalancer_apiserver"] == {"address": FACTS.vip, "port": FACTS.api_port}
    assert told["kube_apiserver_port"] != FACTS.api_port


def test_what_kubespray_keeps_is_not_within_its_inventory(secrets: dict[str, str]) -> None:
    told = variables(secrets)
    folders = [told[name] for name in ("credentials_dir", "artifacts_dir")]
    assert all(one.startswith("{{ inventory_dir }}/../kubespray/") for one in folders)


def test_programs_come_from_the_bundle_and_the_rest_from_a_mirror(secrets: dict[str, str]) -> None:
    options = {"files": a_kubeadm.FILES, "files_repo": "http://172.22.0.1/mirror/"}
    told = variables(secrets, options=options)
    url = FACTS.bundle_url.rstrip("/")
    assert told["kubelet_download_url"] == f"{url}/files/bin/kubelet"
    assert told["files_repo"] == "http://172.22.0.1/mirror"
    assert told["github_url"] == "{{ files_repo }}/github.com"
    assert told["registry_host"] == "172.22.0.1:5000"
    assert "containerd_registries_mirrors" not in told
    out = variables(secrets, options={}, bundle_url="", registry="")
    assert not [key for key in out if "download_url" in key or "repo" in key or "registry" in key]


def test_where_there_is_no_worker_control_planes_bear_pods(secrets: dict[str, str]) -> None:
    parts = tree(secrets, members=MEMBERS[:3])
    groups = yaml.safe_load(parts["inventory/hosts.yaml"].content)["all"]["children"]
    assert groups["kube_node"] == groups["kube_control_plane"]


def faults(**changes: Any) -> list[tuple[str, str]]:
    found = PLUGIN.faults(replace(FACTS, **changes))
    assert all(one.remedy and one.sentence for one in found)
    return [(one.field, one.sentence) for one in found]


def test_a_good_cluster_has_no_fault() -> None:
    assert faults() == []
    assert faults(bundle_url="", options={}) == []


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"members": MEMBERS[:2]}, "control.count", "2 control planes"),
        ({"version": "1.33.9"}, "version", "no version"),
        ({"api_port": 2379}, "api_port", "etcd's"),
        ({"pod_cidr": "10.244.0.0/23"}, "pod_cidr", "no /24 for each of 5 nodes"),
        ({"options": {"network_plugin": "kuryr"}}, "options.network_plugin", "calico"),
        ({"options": {"become": "no"}}, "options.become", "not as it must be"),
        ({"options": {"files_repo": "{{ lookup('pipe', 'id') }}"}}, "options.files_repo", "no URL"),
        ({"registry": "x:5000/{{ a }}"}, "registry", "mirror"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], field: str, says: str) -> None:
    found = faults(**changes)
    assert [(f, s) for f, s in found if f == field and says in s], found
