"""Kubernetes by k3s: what each member is given, what it does, and what is refused before."""

import hashlib
import re
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioning import kinds, plugins
from provisioning.kinds import ClusterFacts, MemberFacts
from provisioning.kinds.k3s import BEGUN, CONFIG, PLUGIN, TLS
from tests.fakes import a_kubeadm
from tests.fakes.a_kubeadm import CONTROL, FIRST, MEMBERS, ROLES, WORKER, Hidden

GOLDEN = Path(__file__).parents[1] / "golden" / "k3s"
FILES = [
    {"path": f"files/{name}", "role": role, "sha256": hashlib.sha256(name.encode()).hexdigest()}
    for name, role in (
        ("k3s", "binary"), ("helm", "binary"), ("images/k3s-airgap-images-amd64.tar", "image"),
    )
]  # fmt: skip
FACTS = replace(
    a_kubeadm.FACTS, options={"files": FILES}, bundle_url="https://172.22.0.1/bundles/k3s/1.36.2"
)
FIXED = {"token": "5" * 64, "agent-token": "a" * 64, "node": "n" * 64, "vrrp": "s3cret77"}


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    """Real ones, but for what stands in golden files."""
    return Hidden({**PLUGIN.secrets(FACTS), **FIXED})


def files(member: MemberFacts, secrets: dict[str, str], facts: ClusterFacts = FACTS) -> Any:
    return {part.path: part for part in PLUGIN.files(facts, member, secrets)}


def config(member: MemberFacts, secrets: dict[str, str], **changes: Any) -> dict[str, Any]:
    part = files(member, secrets, replace(FACTS, **changes))[CONFIG]
    read: dict[str, Any] = yaml.safe_load(part.content)
    return read


def test_it_is_found_as_a_plugin() -> None:
    assert plugins.load(kinds)["k3s"] is PLUGIN


@pytest.mark.parametrize("role", ROLES)
def test_a_members_files_are_the_golden_ones(role: str, secrets: dict[str, str]) -> None:
    digest = hashlib.sha256(secrets["ca.crt"].encode()).hexdigest()
    made = {
        path: part.content.decode().replace(digest, "HASH")
        for path, part in files(ROLES[role], secrets).items()
        if not path.startswith(TLS) and not path.endswith("/ca.crt")
    }
    folder = GOLDEN / role
    there = {p for p in folder.rglob("*") if p.is_file() and p.name != "steps.yaml"}
    assert {f"/{p.relative_to(folder)}" for p in there} == set(made)
    for path, content in made.items():
        assert content == (folder / path[1:]).read_text(), path


@pytest.mark.parametrize("role", ROLES)
def test_a_members_steps_are_the_golden_ones(role: str) -> None:
    told = [asdict(one) for one in PLUGIN.steps(FACTS, ROLES[role])]
    golden = yaml.safe_load((GOLDEN / role / "steps.yaml").read_text())
    assert [{**one, "argv": [*one["argv"]], "wants": [*one["wants"]]} for one in told] == golden


def test_every_member_trusts_the_ca_that_the_first_one_has(secrets: dict[str, str]) -> None:
    served = files(FIRST, secrets)[f"{TLS}/server-ca.crt"].content
    for member in MEMBERS:
        prefix, _, credentials = config(member, secrets)["token"].partition("::")
        assert prefix == "K10" + hashlib.sha256(served).hexdigest()
        assert credentials.partition(":")[0] == ("server" if member.role == "control" else "node")
        assert files(member, secrets)["/etc/seed/k3s/ca.crt"].content == served


def test_the_first_one_alone_has_all_the_files_that_k3s_asks_for(secrets: dict[str, str]) -> None:
    """docs.k3s.io, "Using Custom CA Certificates"."""
    pairs = ("server-ca", "client-ca", "request-header-ca", "etcd/peer-ca", "etcd/server-ca")
    wanted = {f"{TLS}/{name}.{end}" for name in pairs for end in ("crt", "key")}
    below = {path: part for path, part in files(FIRST, secrets).items() if path.startswith(TLS)}
    assert set(below) == {*wanted, f"{TLS}/service.key"}
    for name in pairs:
        keys = [
            subprocess.run(
                ["openssl", *argv], input=below[f"{TLS}/{name}.{end}"].content,
                capture_output=True, check=True, timeout=30,
            ).stdout
            for end, argv in (
                ("crt", ("x509", "-noout", "-pubkey")), ("key", ("pkey", "-pubout")),
            )
        ]  # fmt: skip
        assert keys[0] == keys[1], name
    for member in MEMBERS[1:]:
        assert not [path for path in files(member, secrets) if path.startswith(TLS)]


def test_a_worker_cannot_make_servers(secrets: dict[str, str]) -> None:
    for part in files(WORKER, secrets).values():
        for name in ("token", "node", "vrrp", "ca.key", "sa.key"):
            assert secrets[name] not in part.content.decode(), part.path
    assert config(WORKER, secrets)["token"].endswith(secrets["agent-token"])
    assert config(CONTROL, secrets)["agent-token"] == secrets["agent-token"]


@pytest.mark.parametrize("member", [FIRST, CONTROL, WORKER], ids=ROLES)
def test_what_is_secret_is_for_root_alone(member: MemberFacts, secrets: dict[str, str]) -> None:
    parts = files(member, secrets)
    password = parts["/etc/rancher/node/password"].content.decode().strip()
    hidden = [*(secrets[name] for name in (*FIXED, "ca.key", "etcd/ca.key", "sa.key")), password]
    for part in parts.values():
        if any(secret in part.content.decode() for secret in hidden):
            assert part.mode == 0o600, part.path
    told = repr([asdict(one) for one in PLUGIN.steps(FACTS, member)])
    assert not [secret for secret in hidden if secret in told]


def test_a_node_imaged_anew_is_known_by_the_same_password(secrets: dict[str, str]) -> None:
    path = "/etc/rancher/node/password"
    own = [files(member, secrets)[path].content for member in MEMBERS]
    assert own == [files(member, secrets)[path].content for member in MEMBERS]
    assert len(set(own)) == len(MEMBERS)


def test_servers_agree_where_k3s_wants_it(secrets: dict[str, str]) -> None:
    """docs.k3s.io, "Critical Configuration Values"."""
    told = [config(member, secrets) for member in MEMBERS[:3]]
    for field in ("agent-token", "cluster-cidr", "cluster-dns", "cluster-domain",
                  "flannel-backend", "service-cidr", "tls-san", "https-listen-port"):  # fmt: skip
        assert len({repr(one[field]) for one in told}) == 1, field
    assert told[0]["cluster-dns"] == "10.96.0.10"
    assert told[0]["tls-san"][0] == FACTS.vip
    assert [one.get("server") for one in told] == [None, *["https://10.30.0.14:6443"] * 2]
    assert "cluster-init" not in told[0], "the step says it, unless there is a cluster already"


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.name)
def test_each_node_says_where_it_is(member: MemberFacts, secrets: dict[str, str]) -> None:
    told = config(member, secrets)
    assert (told["node-name"], told["flannel-iface"]) == (member.name, member.interface)
    assert told["node-ip"] == member.address.partition("/")[0]
    assert told["kubelet-arg"] == [f"provider-id=seed://{member.node_uuid}"]
    labels = dict(label.split("=") for label in told["node-label"])
    assert labels["seed.rack"] == member.labels["rack"]
    assert labels["seed.node-uuid"] == member.node_uuid


def test_control_planes_keep_pods_off_unless_there_is_no_worker(secrets: dict[str, str]) -> None:
    own = "node-role.kubernetes.io/control-plane=:NoSchedule"
    assert config(CONTROL, secrets)["node-taint"] == [own]
    assert "node-taint" not in config(FIRST, secrets, members=MEMBERS[:3])
    assert config(WORKER, secrets)["node-taint"] == ["gpu=yes:NoSchedule", "slow=:PreferNoSchedule"]


def test_another_cni_brings_its_own(secrets: dict[str, str]) -> None:
    told = config(FIRST, secrets, options={"files": FILES, "flannel_backend": "none",
                                           "disable": ["traefik", "servicelb"]})  # fmt: skip
    assert told["flannel-backend"] == "none"
    assert told["disable-network-policy"] is True
    assert "flannel-iface" not in told
    assert told["disable"] == ["traefik", "servicelb"]


def test_the_address_forwards_to_where_servers_listen(secrets: dict[str, str]) -> None:
    haproxy = files(FIRST, secrets)["/etc/haproxy/haproxy.cfg"].content.decode()
    behind = config(FIRST, secrets)["https-listen-port"]
    assert re.findall(r" server (\S+) (\S+)", haproxy) == [
        (f"web-control-{n}", f"10.30.0.{2 + n}:{behind}") for n in range(3)
    ]


# --- steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.name)
def test_without_a_bundle_the_missing_program_is_named(member: MemberFacts) -> None:
    facts = replace(FACTS, bundle_url="", options={"programs": "/opt/bin"})
    *_, last = PLUGIN.steps(facts, member)
    assert last.wants[0] == "/opt/bin/k3s"
    assert not [one for one in PLUGIN.steps(facts, member) if "bundle" in repr(one)]


class Node:
    """A folder in place of / and programs that stand in; `up`: somebody answers at the address."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.up = folder, folder / "up"
        self.begun, self.log = folder / BEGUN[1:], folder / "log"
        (folder / "bin").mkdir()
        for name, text in {
            "curl": f'case "$*" in *cacerts*) [ -e {self.up} ];; *) true;; esac',
            "systemctl": f'echo "$*" >> {self.log}; [ ! -e {folder}/dies ]',
        }.items():
            (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / "bin" / name).chmod(0o755)
        (folder / CONFIG[1:]).parent.mkdir(parents=True)

    def run(self, member: MemberFacts) -> int:
        shell, flags, text = PLUGIN.steps(FACTS, member)[-1].argv
        text = text.replace("/etc/", f"{self.folder}/etc/").replace("/usr/bin/curl", "curl")
        path = f"{self.folder}/bin:/usr/bin:/bin"
        done = subprocess.run([shell, flags, text], env={"PATH": path}, timeout=30, check=False)
        return done.returncode


def test_the_first_one_begins_a_cluster_where_none_answers(tmp_path: Path) -> None:
    node = Node(tmp_path)
    assert node.run(FIRST) == 0
    assert yaml.safe_load(node.begun.read_text()) == {"cluster-init": True}
    assert node.log.read_text().splitlines()[-1] == "start k3s.service"


def test_the_first_one_joins_where_its_cluster_is_there_already(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.up.touch()
    assert node.run(FIRST) == 0
    assert yaml.safe_load(node.begun.read_text()) == {"server": "https://10.30.0.14:6443"}


def test_what_it_began_it_goes_on_with(tmp_path: Path) -> None:
    node = Node(tmp_path)
    (tmp_path / "dies").touch()
    assert node.run(FIRST) != 0
    node.up.touch()  # it is itself who answers
    (tmp_path / "dies").unlink()
    assert node.run(FIRST) == 0
    assert yaml.safe_load(node.begun.read_text()) == {"cluster-init": True}


@pytest.mark.parametrize("member", [CONTROL, WORKER], ids=["control", "worker"])
def test_the_others_wait_for_the_address_and_never_begin(
    member: MemberFacts, tmp_path: Path
) -> None:
    assert [one.name for one in PLUGIN.steps(FACTS, member)][-2:] == ["api", "join"]
    node = Node(tmp_path)
    assert node.run(member) == 0
    assert not node.begun.exists()


# --- faults ---------------------------------------------------------------------------------------


def faults(**changes: Any) -> list[tuple[str, str]]:
    found = PLUGIN.faults(replace(FACTS, **changes))
    assert all(one.remedy and one.sentence for one in found)
    return [(one.field, one.sentence) for one in found]


def test_a_good_cluster_has_no_fault() -> None:
    assert faults() == []
    assert faults(members=MEMBERS[:1]) == []
    assert faults(bundle_url="", options={}) == []


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"members": MEMBERS[:2]}, "control.count", "2 control planes"),
        ({"version": "1.33.9"}, "version", "'1.33.9' is no version"),
        ({"vip": "10.30.0.3"}, "vip", "10.30.0.3 is the address of web-control-1"),
        ({"api_port": 16443}, "api_port", "port 16443 is k3s'"),
        ({"api_port": 6444}, "api_port", "port 6444 is k3s'"),
        ({"service_cidr": "10.244.8.0/24"}, "service_cidr", "overlaps pod_cidr"),
        ({"pod_cidr": "10.244.0.0/22"}, "pod_cidr", "no /24 for each of 5 nodes"),
        ({"members": (*MEMBERS[:4], replace(MEMBERS[4], address="fd00::5/64"))},
         "networks", "no IPv4 address"),
        ({"members": (*MEMBERS[:4], replace(MEMBERS[4], taints=("gpu=yes",)))},
         "workers.node_taints", "'gpu=yes' of web-worker-4"),
        ({"options": {"files": FILES, "flannel_backend": "ipsec"}},
         "options.flannel_backend", "vxlan"),
        ({"options": {"files": FILES, "cni": "calico"}}, "options.cni", "not as it must be"),
        ({"options": {"files": FILES[1:]}}, "bundle", "no program k3s"),
        ({"options": {"files": FILES[:1]}}, "bundle", "no archive of an image"),
        ({"options": {"files": FILES, "flannel_backend": "host-gw"},
          "members": (*MEMBERS[:4], replace(MEMBERS[4], address="10.31.0.5/28"))},
         "options.flannel_backend", "one network"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changes: dict[str, Any], field: str, says: str) -> None:
    found = faults(**changes)
    assert [(f, s) for f, s in found if f == field and says in s], found
