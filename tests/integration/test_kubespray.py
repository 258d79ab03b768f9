"""What Ansible itself reads of a kubespray cluster, and how ansible-runner's runs are followed.

Kubespray itself is not here: a playbook of two tasks stands for it.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioning.kinds import Reach
from provisioning.kinds._ssh import KEY
from provisioning.kinds.kubespray import PLUGIN
from provisioning.playbooks import Playbooks, Run, digest
from provisioning.targets import PartSpec
from tests.fakes import a_kubeadm
from tests.fakes.a_kubeadm import MEMBERS, Hidden
from tests.fakes.machine import until
from tests.fakes.programs import environments

BIN = environments() / "ansible" / "bin"
FACTS = replace(a_kubeadm.FACTS, options={}, bundle_url="")
REACHED = {
    m.name: Reach(f"172.22.0.{n + 11}", ("ssh-ed25519 AAAA",)) for n, m in enumerate(MEMBERS)
}
PLAYBOOK = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: wait for a word
      ansible.builtin.wait_for: {path: "{{ word }}", sleep: 1, timeout: 60}
    - name: do it
      ansible.builtin.command: "{{ command }}"
"""


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    return Hidden(PLUGIN.secrets(FACTS))


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory, secrets: dict[str, str]) -> dict[str, Any]:
    """ansible-inventory --list of the tree, where Kubespray has been before. A warning is a
    failure: Ansible read something else."""
    folder = tmp_path_factory.mktemp("tree")
    for part in PLUGIN.tree(FACTS, secrets, REACHED):
        path = folder / part.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(part.content)
    _leave(folder)
    done = subprocess.run(
        [BIN / "ansible-inventory", "-i", folder / "inventory", "--list"],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8",
             "ANSIBLE_INVENTORY_UNPARSED_FAILED": "true"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr + done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _leave(folder: Path) -> None:
    """What Kubespray keeps for itself: a key, and the kubeconfig that it fetched."""
    inventory = folder / "inventory"
    told = yaml.safe_load((inventory / "group_vars/all/seed.yml").read_text())
    kept = {
        f"{told['credentials_dir']}/kubeadm_certificate_key.creds": "0f" * 32 + "\n",
        f"{told['artifacts_dir']}/admin.conf": "apiVersion: v1\nkind: Config\n",
    }
    for name, text in kept.items():
        path = Path(name.replace("{{ inventory_dir }}", str(inventory)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_ansible_reads_the_groups_that_kubespray_wants(read: dict[str, Any]) -> None:
    control = ["web-control-0", "web-control-1", "web-control-2"]
    assert sorted(read["kube_control_plane"]["hosts"]) == control
    assert sorted(read["etcd"]["hosts"]) == control
    assert sorted(read["kube_node"]["hosts"]) == ["web-worker-3", "web-worker-4"]
    assert sorted(read["k8s_cluster"]["children"]) == ["kube_control_plane", "kube_node"]


def test_each_host_has_what_the_cluster_has(read: dict[str, Any]) -> None:
    hosts = read["_meta"]["hostvars"]
    assert set(hosts) == {member.name for member in MEMBERS}
    for member in MEMBERS:
        told = hosts[member.name]
        assert told["ansible_host"] == REACHED[member.name].address
        assert told["ip"] == told["access_ip"] == member.address.partition("/")[0]
        assert told["node_labels"]["seed.rack"] == member.labels["rack"]
        assert told["kubelet_custom_flags"] == [f"--provider-id=seed://{member.node_uuid}"]
        assert told["kube_version"] == "1.36.2"
        assert told["kube_pods_subnet"] == FACTS.pod_cidr
        assert told["kube_service_addresses"] == FACTS.service_cidr
        assert told["cluster_name"] == "cluster.local"
        assert told["loadbalancer_apiserver"] == {"address": FACTS.vip, "port": 6443}
        assert told["kube_apiserver_port"] == 6444
        assert told["kubeconfig_localhost"] is True
        assert told["kube_image_repo"] == "{{ registry_host }}"
        assert told["registry_host"] == "172.22.0.1:5000"
        assert ("etcd_member_name" in told) == (member.role == "control")
    assert hosts["web-worker-3"]["node_taints"] == [
        "gpu=yes:NoSchedule", "slow:PreferNoSchedule",
    ]  # fmt: skip


def test_the_key_is_one_that_openssh_reads(secrets: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "key").write_text(secrets["ssh"])
    (tmp_path / "key").chmod(0o600)
    told = subprocess.run(
        ["ssh-keygen", "-y", "-P", "", "-f", tmp_path / "key"],
        capture_output=True, text=True, timeout=30, check=True,
    ).stdout  # fmt: skip
    assert told.split()[:2] == secrets["ssh.pub"].split()[:2]


# --- runs -----------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Playbooks]:
    (tmp_path / "project").mkdir()
    (tmp_path / "project/cluster.yml").write_text(PLAYBOOK)
    made = Playbooks(BIN / "ansible-runner", tmp_path / "project", tmp_path / "runs")
    yield made
    made.forget("web")


def inputs(folder: Path, command: str = "/bin/true", **settings: int) -> list[PartSpec]:
    host = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
    told = {"word": str(folder / "word"), "command": command}
    texts = {
        "inventory/hosts.yaml": yaml.safe_dump({"all": {"hosts": {"one": host}, "vars": told}}),
        "env/settings": yaml.safe_dump({"job_timeout": 60, **settings}),
    }
    return [PartSpec(path, path, 0o600, text.encode()) for path, text in texts.items()]


def reached(look: Callable[[], Run], wanted: Callable[[Run], bool]) -> Run:
    found = [look()]

    def so() -> bool:
        found.append(look())
        return wanted(found[-1])

    until(so, 90, "the run is not as wanted")
    return found[-1]


def test_a_run_is_followed_to_its_end_by_whoever_looks(runs: Playbooks, tmp_path: Path) -> None:
    parts = inputs(tmp_path)
    assert runs.look("web", digest(parts)) == Run()
    assert runs.begin("web", digest(parts), parts, "cluster.yml")
    later = Playbooks(runs.runner, runs.project, runs.folder)  # another life
    found = reached(
        lambda: later.look("web", digest(parts)), lambda run: run.task == "wait for a word"
    )
    assert (found.state, found.tries) == ("running", 1)
    assert not later.begin("web", digest(parts), parts, "cluster.yml"), "it goes on"
    (tmp_path / "word").touch()
    found = reached(lambda: later.look("web", digest(parts)), lambda run: run.state != "running")
    assert (found.state, found.task, found.hosts) == ("successful", "do it", ())
    assert found.ended_at > 0
    assert later.look("web", digest(inputs(tmp_path, "/bin/echo"))) == Run(), (
        "of other inputs: nothing"
    )
    files = [path for path in (runs.folder / "web").rglob("*") if path.is_file()]
    assert {oct(p.stat().st_mode & 0o077) for p in files if not p.is_symlink()} == {"0o0"}


def test_what_failed_where_is_told_and_it_can_be_tried_again(
    runs: Playbooks, tmp_path: Path
) -> None:
    parts = inputs(tmp_path, "/bin/false")
    (tmp_path / "word").touch()
    for number in (1, 2):
        assert runs.begin("web", digest(parts), parts, "cluster.yml")
        found = reached(lambda: runs.look("web", digest(parts)), lambda run: run.state != "running")
        assert (found.state, found.tries, found.task, found.hosts) == (
            "failed", number, "do it", ("one",),
        )  # fmt: skip
        assert "do it" in found.log.read_text()


def test_one_that_was_killed_died_and_one_that_hangs_is_ended(
    runs: Playbooks, tmp_path: Path
) -> None:
    parts = inputs(tmp_path)
    runs.begin("web", digest(parts), parts, "cluster.yml")
    reached(lambda: runs.look("web", digest(parts)), lambda run: run.task == "wait for a word")
    os.killpg(int((runs.folder / "web/pid").read_text()), 9)
    found = reached(lambda: runs.look("web", digest(parts)), lambda run: run.state != "running")
    assert found.state == "died"
    runs.forget("web")
    short = inputs(tmp_path, job_timeout=3)
    runs.begin("web", digest(short), short, "cluster.yml")
    found = reached(lambda: runs.look("web", digest(short)), lambda run: run.state != "running")
    assert found.state == "timeout"


def test_what_is_forgotten_is_ended_and_leaves_nothing(runs: Playbooks, tmp_path: Path) -> None:
    parts = [*inputs(tmp_path), PartSpec(KEY, KEY, 0o600, b"")]
    runs.begin("web", digest(parts[:-1]), parts[:-1], "cluster.yml")
    reached(lambda: runs.look("web", digest(parts[:-1])), lambda run: run.task == "wait for a word")
    group = int((runs.folder / "web/pid").read_text())
    runs.forget("web")
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)
    assert not (runs.folder / "web").exists()
    runs.forget("web")


def test_what_is_not_installed_is_named(runs: Playbooks) -> None:
    assert runs.lacks("cluster.yml") == ""
    assert runs.lacks("other.yml") == str(runs.project / "other.yml")
    gone = replace(runs, runner=Path("/nonexistent/ansible-runner"))
    assert gone.lacks("cluster.yml") == "/nonexistent/ansible-runner"
