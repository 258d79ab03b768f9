"""What Ansible reads of an overcloud by Kolla-Ansible, with the package as it is installed.

The environment `kolla-ansible` is made by `make env-kolla-ansible`; what needs it says so, loudly.
The collection openstack.kolla is not on PyPI: a role of its name stands in for syntax checks.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioning import installer_programs
from provisioning.installers import OvercloudFacts, Stage
from provisioning.installers._kolla_options import RELEASE, SERVICES, Options
from provisioning.installers._kolla_project import (
    BY_COLLECTION,
    COLLECTION,
    FILLED,
    MULTINODE,
    TEMPLATE,
    release_of,
    version,
)
from provisioning.installers._kolla_tree import global_variables, variables
from provisioning.installers.kolla_ansible import PLUGIN
from provisioning.playbooks import Playbooks, Run
from provisioning.targets import PartSpec
from tests.fakes.a_kubeadm import Hidden
from tests.fakes.appliance import environments
from tests.fakes.machine import until
from tests.unit.overcloud_facts import large, small

IDENTITY = environments() / "ansible" / "bin"
ENV = environments() / "kolla-ansible"
PROJECT = ENV / "share" / "kolla-ansible"
SIZES: dict[str, Callable[[], OvercloudFacts]] = {"small": small, "large": large}
installed = pytest.mark.skipif(
    not PROJECT.is_dir(), reason=f"NOT TRIED: {ENV} is not there; `make env-kolla-ansible` makes it"
)
EVERYTHING: dict[str, Any] = {
    "kolla_internal_fqdn": "cloud.example.com", "kolla_external_fqdn": "cloud.example.org",
    "openstack_tag": "mine", "docker_namespace": "our", "docker_registry_insecure": True,
    "without": ["heat"], "ironic_dnsmasq_dhcp_ranges": [{"range": "10.20.0.200,10.20.0.210"}],
}  # fmt: skip
OF_COLLECTION = {"podman_registry", "podman_registry_insecure"}


def lay(folder: Path, parts: list[PartSpec]) -> Path:
    for part in parts:
        path = folder / part.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(part.content)
        path.chmod(part.mode)
    return folder


def ansible(program: Path, home: Path, *argv: Any, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "true", **more,
    }  # fmt: skip
    return subprocess.run(
        [program, *argv], env=environment, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip


def inventory_of(folder: Path, program: Path = IDENTITY / "ansible-inventory") -> dict[str, Any]:
    done = ansible(program, folder, "-i", folder / "inventory", "--list")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "WARNING" in line]
    # Kolla's own groups have dashes in their names.
    assert [line for line in said if "Invalid characters were found in group" not in line] == []
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def hosts_of(read: dict[str, Any], group: str) -> set[str]:
    told = read.get(group, {})
    below = (hosts_of(read, child) for child in told.get("children", []))
    return set(told.get("hosts", [])).union(*below)


@pytest.mark.parametrize("size", SIZES)
def test_ansible_reads_the_six_groups_of_the_tree_alone(size: str, tmp_path: Path) -> None:
    facts = SIZES[size]()
    read = inventory_of(lay(tmp_path, PLUGIN.tree(facts, {})))
    assert hosts_of(read, "all") == {"localhost", *(node.name for node in facts.nodes)}
    for role in ("control", "network", "compute", "storage", "monitoring"):
        assert hosts_of(read, role) == {node.name for node in facts.of(role)}, role
    variables_of = read["_meta"]["hostvars"]
    assert variables_of["localhost"]["ansible_connection"] == "local"
    one = variables_of[facts.nodes[0].name]
    assert (one["ansible_host"], one["ansible_user"]) == (facts.nodes[0].reached, "root")


@installed
@pytest.mark.parametrize("size", SIZES)
def test_with_the_shipped_groups_no_host_is_added(size: str, tmp_path: Path) -> None:
    facts = SIZES[size]()
    folder = lay(tmp_path, [*PLUGIN.tree(facts, {}), *PLUGIN.prepare(PROJECT)])
    alone = {node.name for node in facts.nodes}
    read = inventory_of(folder, ENV / "bin" / "ansible-inventory")
    assert hosts_of(read, "all") == {"localhost", *alone}
    assert hosts_of(read, "baremetal") == alone
    control = {node.name for node in facts.of("control")}
    assert hosts_of(read, "nova-api") == hosts_of(read, "mariadb") == control
    assert hosts_of(read, "loadbalancer") == {node.name for node in facts.of("network")}
    assert hosts_of(read, "collectd") == {node.name for node in facts.of("compute")}
    done = ansible(ENV / "bin/ansible-inventory", folder, "-i", folder / "inventory", "--graph")
    shipped = re.findall(r"^\[([a-z0-9_-]+)", (PROJECT / MULTINODE).read_text(), re.MULTILINE)
    assert {*FILLED} < {*shipped}
    assert [group for group in shipped if f"@{group}:" not in done.stdout] == []


def _declared() -> set[str]:
    """Variables that the installed release has defaults of, where ours are."""
    files = [*(PROJECT / "ansible/group_vars/all").glob("*.yml")]
    files += [PROJECT / f"ansible/roles/{n}/defaults/main.yml" for n in
              ("cinder", "ironic", "prechecks")]  # fmt: skip
    return {name for file in files for name in yaml.safe_load(file.read_text()) or {}}


@installed
def test_every_variable_is_one_of_the_installed_release() -> None:
    facts = replace(
        large(), services=tuple(sorted(SERVICES)), options=EVERYTHING, release=RELEASE,
        vips={"internal": "10.20.0.5", "external": "10.40.0.5"},
    )  # fmt: skip
    told = {*global_variables(facts), *variables(facts)} - OF_COLLECTION
    assert told - _declared() == set()
    plain = {*Options.model_fields} - {"without", "bootstrap_servers"}
    assert plain - _declared() == set()


@installed
def test_every_service_and_the_release_are_the_installed_ones() -> None:
    assert {f"enable_{name}" for name in SERVICES} - _declared() == set()
    common = yaml.safe_load((PROJECT / "ansible/group_vars/all/common.yml").read_text())
    assert common["openstack_release"] == RELEASE == release_of(version(PROJECT))
    assert PLUGIN.misfits(small(), PROJECT) == []


@installed
def test_passwords_are_made_by_the_installed_program() -> None:
    (program,) = PLUGIN.programs
    made = Hidden(yaml.safe_load(installer_programs.run(program, ENV / "bin/any", PROJECT)))
    template = yaml.safe_load((PROJECT / TEMPLATE).read_text())
    assert set(made) == set(template)
    assert [name for name, value in made.items() if not value] == ["docker_registry_password"]
    assert "PRIVATE KEY" in made["kolla_ssh_key"]["private_key"]


@installed
@pytest.mark.parametrize("stage", PLUGIN.stages(small()), ids=lambda stage: stage.name)
def test_ansible_takes_a_stages_playbook_and_variables(stage: Stage, tmp_path: Path) -> None:
    """With the arguments of its env/cmdline and env/extravars, as ansible-runner gives them."""
    parts = [*PLUGIN.tree(small(), {}), *PLUGIN.prepare(PROJECT), *stage.also]
    folder = lay(tmp_path, parts)
    if stage.name == BY_COLLECTION:
        role = tmp_path / "collections" / COLLECTION / "tasks"
        role.mkdir(parents=True)
        (role / "main.yml").write_text("- ansible.builtin.debug: {msg: a stand-in}\n")
    words = (folder / "env/cmdline").read_text().split()
    argv = ["-i", folder / "inventory", "-e", f"@{folder}/env/extravars", *words]
    done = ansible(
        ENV / "bin/ansible-playbook", folder, *argv, "--list-tasks", PROJECT / stage.playbook,
        ANSIBLE_COLLECTIONS_PATH=str(tmp_path / "collections"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    wanted = {"bootstrap-servers": "baremetal", "post-deploy": "clouds.yaml"}
    assert wanted.get(stage.name, "Apply role nova") in done.stdout


PLAYBOOK = """\
- hosts: localhost
  gather_facts: false
  tasks:
    - name: say what it has
      ansible.builtin.copy:
        dest: "{{ node_config }}/clouds.yaml"
        mode: "0600"
        content: "{{ [kolla_action, node_config | realpath, database_password,
          kolla_internal_vip_address, ansible_python_interpreter] | to_json }}"
      vars: {node_config: "{{ CONFIG_DIR | default('/etc/kolla') }}"}
"""


def test_a_stage_finds_all_of_its_variables_in_its_runs_folder(tmp_path: Path) -> None:
    """By ansible-runner as the reconciler runs it: a playbook of one task stands for Kolla's."""
    project = tmp_path / "env" / "share" / "kolla-ansible"
    stage = PLUGIN.stages(small())[-1]
    lay(project, [PartSpec("", stage.playbook, 0o644, PLAYBOOK.encode())])
    runs = Playbooks(IDENTITY / "ansible-runner", project, tmp_path / "runs")
    secrets = Hidden({**PLUGIN.secrets(small()), "passwords.yml": "database_password: s3cret\n"})
    parts = [*PLUGIN.tree(small(), secrets), *stage.also,
             PartSpec("", "kolla/operator.yml", 0o600, b"{}\n")]  # fmt: skip
    assert runs.begin("overcloud-1", stage.name, parts, stage.playbook)
    over: Run = Run()

    def ended() -> bool:
        nonlocal over
        over = runs.look("overcloud-1", stage.name)
        return over.state not in ("", "running")

    until(ended, 120, "the stage's end")
    said = (over.log).read_text() if over.log.is_file() else ""
    assert over.state == "successful", said
    folder = tmp_path / "runs" / "overcloud-1"
    told = json.loads((folder / PLUGIN.gives[0]).read_text())
    assert told[:4] == ["post-deploy", str(folder / "kolla"), "s3cret", "10.20.0.5"]
    assert Path(told[4]).name.startswith("python")
    assert "s3cret" not in said
