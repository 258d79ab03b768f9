"""OpenStack by Kolla-Ansible: what Ansible is given, and what is taken of the installed package."""

import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from provisioning import installer_programs, installers, plugins
from provisioning.errors import SeedError
from provisioning.installers import FILE, FromProject, OvercloudFacts, Program, Wire
from provisioning.installers._kolla_options import Options
from provisioning.installers._kolla_project import BEGINNING, FILLED, groups, release_of
from provisioning.installers.kolla_ansible import PLUGIN
from provisioning.kinds import _ssh
from tests.fakes.a_kubeadm import Hidden
from tests.unit.overcloud_facts import large, small

GOLDEN = Path(__file__).parents[1] / "golden" / "overcloud" / "kolla-ansible"
SIZES: dict[str, Callable[[], OvercloudFacts]] = {"small": small, "large": large}
PASSWORDS = "database_password: s3cret\n"
SHIPPED = "\n".join(
    [
        "# people write here",
        *(f"[{name}]\n{name}[01:03] ansible_user=kolla  # like this" for name in FILLED),
        "[common:children]  # all of them", *FILLED[:-1], "", "[db:children]", "control",
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    return Hidden({**_ssh.new_key("cloud"), "passwords.yml": PASSWORDS})


def texts(facts: OvercloudFacts, secrets: dict[str, str]) -> dict[str, str]:
    """The tree and, below stages/NAME/, what only that stage has."""
    made = {part.path: part.content.decode() for part in PLUGIN.tree(facts, secrets)}
    for stage in PLUGIN.stages(facts):
        made |= {f"stages/{stage.name}/{p.path}": p.content.decode() for p in stage.also}
    return made


def read(facts: OvercloudFacts, path: str) -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load(texts(facts, {})[path])
    return told


def variables(facts: OvercloudFacts) -> dict[str, Any]:
    return read(facts, "kolla/globals.yml")


def hosts(facts: OvercloudFacts) -> dict[str, Any]:
    told: dict[str, Any] = read(facts, "inventory/hosts.yaml")["all"]["hosts"]
    return told


def test_it_is_found_as_a_plugin() -> None:
    assert plugins.load(installers)["kolla-ansible"] is PLUGIN
    assert isinstance(PLUGIN, FromProject)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_made_is_golden(size: str) -> None:
    folder = GOLDEN / size
    made = texts(SIZES[size](), {"ssh": "(the private key)\n", "passwords.yml": PASSWORDS})
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert there == set(made)
    for path, content in made.items():
        assert content == (folder / path).read_text(), path


@pytest.mark.parametrize("size", SIZES)
def test_a_preview_has_no_secret_and_is_yaml_all_the_same(size: str) -> None:
    for path, text in texts(SIZES[size](), {}).items():
        if path.endswith((".yml", ".yaml", "extravars", "settings")):
            assert isinstance(yaml.safe_load(text), dict), path
    assert _ssh.KEY not in texts(small(), {})


def test_secrets_are_in_files_of_their_own(secrets: dict[str, str]) -> None:
    parts = PLUGIN.tree(large(), secrets)
    assert {part.mode for part in parts} == {0o600}
    assert [part.path for part in parts if b"PRIVATE KEY" in part.content] == [_ssh.KEY]
    assert [part.path for part in parts if b"s3cret" in part.content] == ["kolla/passwords.yml"]


def test_what_is_the_same_everywhere_is_a_global_and_what_differs_is_the_hosts_own() -> None:
    assert variables(small())["network_interface"] == "bond0.20"
    odd, other = small().nodes
    wires = odd.wires | {"api": replace(odd.wires["api"], interface="eno1")}
    facts = replace(small(), nodes=(replace(odd, wires=wires), other))
    assert "network_interface" not in variables(facts)
    assert [host["network_interface"] for host in hosts(facts).values()] == ["eno1", "bond0.20"]
    assert variables(facts)["tunnel_interface"] == "bond0.30"


def test_a_cpu_without_virtual_machines_emulates_them() -> None:
    control, compute = small().nodes
    facts = replace(small(), nodes=(control, replace(compute, virtualization=False)))
    assert variables(facts)["nova_compute_virt_type"] == "qemu"
    more = replace(compute, name="cloud-compute-1", virtualization=True)
    mixed = replace(facts, nodes=(*facts.nodes, more))
    assert "nova_compute_virt_type" not in variables(mixed)
    assert hosts(mixed)["cloud-compute-0"]["nova_compute_virt_type"] == "qemu"
    assert "nova_compute_virt_type" not in hosts(mixed)["cloud-control-0"]


def test_containers_are_of_the_nodes_own_architecture() -> None:
    arm = replace(small(), nodes=tuple(replace(n, cpu_arch="aarch64") for n in small().nodes))
    assert variables(arm)["openstack_tag_suffix"] == "-aarch64"
    assert "openstack_tag_suffix" not in variables(small())
    mixed = replace(small(), nodes=(small().nodes[0], arm.nodes[1]))
    told = [host["openstack_tag_suffix"] for host in hosts(mixed).values()]
    assert told == ["", "-aarch64"]


def test_an_external_vip_is_where_its_network_is() -> None:
    assert "kolla_external_vip_address" not in variables(small()), "the internal one is both"
    facts = replace(small(), vips={"internal": "10.20.0.5", "external": "10.40.0.5"})
    told = variables(facts)
    assert told["kolla_external_vip_address"] == "10.40.0.5"
    assert told["kolla_external_vip_interface"] == "bond0.40"
    near = variables(replace(small(), vips={"internal": "10.20.0.5", "external": "10.20.0.6"}))
    assert near["kolla_external_vip_address"] == "10.20.0.6"
    assert "kolla_external_vip_interface" not in near


def test_without_a_registry_the_images_for_tests_are_taken_and_that_is_said() -> None:
    assert variables(small())["kolla_test_images"] is True
    told = variables(large())
    assert "kolla_test_images" not in told
    assert told["docker_registry"] == "registry.example.com:5000"
    insecure = replace(large(), options={"docker_registry_insecure": True})
    told = variables(insecure)
    assert told["docker_registry_insecure"] is told["podman_registry_insecure"] is True
    assert told["podman_registry"] == "registry.example.com:5000"


def test_options_are_kollas_own_variables() -> None:
    options = {
        "kolla_base_distro": "ubuntu", "kolla_internal_fqdn": "cloud.example.com",
        "keepalived_virtual_router_id": 7, "neutron_plugin_agent": "openvswitch",
        "openstack_tag": "2026.1-mine", "docker_namespace": "our/kolla", "without": ["heat"],
    }  # fmt: skip
    told = variables(replace(small(), options=options, release="2026.1"))
    assert told | {**options, "without": 0, "keepalived_virtual_router_id": "7"} | {
        "enable_heat": False, "openstack_release": "2026.1",
    } == told | {"without": 0}  # fmt: skip


def test_a_bare_metal_service_has_its_ranges_and_many_volume_services_a_name() -> None:
    ranges = [{"range": "10.20.0.200,10.20.0.220", "routers": "10.20.0.1"}]
    services = ("ironic", "cinder", "cinder_backend_lvm")
    options = {"ironic_dnsmasq_dhcp_ranges": ranges}
    told = variables(replace(large(), services=services, options=options))
    assert told["ironic_dnsmasq_dhcp_ranges"] == ranges
    assert (told["enable_ironic"], told["cinder_cluster_name"]) == (True, "cloud")
    assert "cinder_cluster_name" not in variables(replace(small(), services=("cinder",)))


@given(number=st.integers(1, 254), other=st.integers(1, 254))
def test_two_overclouds_of_one_network_are_two_virtual_routers(number: int, other: int) -> None:
    one, two = (
        int(variables(replace(small(), vips={"internal": f"10.20.0.{n}"}))[
            "keepalived_virtual_router_id"
        ]) for n in (number, other)
    )  # fmt: skip
    assert 1 <= one <= 255
    assert (one == two) == (number == other)


@given(
    name=st.sampled_from(
        [n for n, f in Options.model_fields.items() if "str" in str(f.annotation)]
    ),
    begin=st.text(max_size=9),
    template=st.sampled_from(["{{ x }}", "{% x %}", "{#", "#jinja2:", "\n", "!unsafe ", "lookup("]),
    end=st.text(max_size=9),
)
def test_no_option_is_a_template(name: str, begin: str, template: str, end: str) -> None:
    """Ansible would run it on the Seed machine."""
    with pytest.raises(ValidationError):
        Options.model_validate({name: begin + template + end})


def test_only_host_keys_that_a_proof_told_are_trusted() -> None:
    known = texts(small(), {})["known_hosts"].splitlines()
    assert [line.split()[0] for line in known] == ["192.0.2.10", "192.0.2.11"]
    for host in hosts(small()).values():
        assert "StrictHostKeyChecking=yes" in host["ansible_ssh_common_args"]
    plan = replace(
        small(), nodes=tuple(replace(n, reached="", host_keys=()) for n in small().nodes)
    )
    assert texts(plan, {})["known_hosts"] == ""
    assert "ansible_host" not in hosts(plan)["cloud-control-0"]


def test_of_the_shipped_inventory_the_groups_are_taken_and_the_example_hosts_are_not() -> None:
    lines = groups(SHIPPED).splitlines()
    assert lines[: len(FILLED)] == [f"[{name}]" for name in FILLED]
    assert lines[len(FILLED) :] == ["[common:children]", *FILLED[:-1], "[db:children]", "control"]
    assert groups(groups(SHIPPED)).splitlines() == lines


def test_an_inventory_of_another_shape_is_refused() -> None:
    with pytest.raises(SeedError, match="hosts in the group 'more'"):
        groups(SHIPPED + "\n[more]\nhost1\n")
    with pytest.raises(SeedError, match="no group monitoring"):
        groups(SHIPPED.replace("[monitoring]", "[seeing]").replace("monitoring[01:03]", "#"))


@given(st.lists(st.from_regex(r"[a-z][a-z0-9_-]{0,12}", fullmatch=True), max_size=6))
def test_no_host_of_the_shipped_inventory_becomes_one(names: list[str]) -> None:
    shipped = SHIPPED.replace("[compute]\n", "[compute]\n" + "".join(f"{n}\n" for n in names))
    assert groups(shipped) == groups(SHIPPED)


@pytest.mark.parametrize(
    ("version", "release"),
    [("22.2.0", "2026.1"), ("23.0.0", "2026.2"), ("21.1.0.dev3", "2025.2"), ("18.0.0", "2024.1"),
     ("17.9.0", ""), ("", ""), ("master", "")],
)  # fmt: skip
def test_a_version_of_kolla_ansible_is_one_release_of_openstack(version: str, release: str) -> None:
    assert release_of(version) == release


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Laid out as the package is, with no word of it."""
    env = tmp_path / "env"
    there = {
        "share/kolla-ansible/ansible/inventory/multinode": SHIPPED,
        "share/kolla-ansible/etc_examples/kolla/passwords.yml": "one_password:\n",
        **{f"share/kolla-ansible/ansible/{n}.yml": "[]" for n in
           ("kolla-host", "site", "post-deploy")},
        "bin/kolla-genpwd": "", "bin/ansible-runner": "",
        "lib/python3.11/site-packages/kolla_ansible-22.2.0.dist-info/METADATA": "",
    }  # fmt: skip
    for path, text in there.items():
        (env / path).parent.mkdir(parents=True, exist_ok=True)
        (env / path).write_text(text)
    return env / "share" / "kolla-ansible"


def prepared(project: Path) -> dict[str, Any]:
    return {part.path: part.content.decode() for part in PLUGIN.prepare(project)}


def test_the_operators_own_variables_and_files_are_taken(project: Path) -> None:
    told = yaml.safe_load(prepared(project)["kolla/operator.yml"])
    assert told == BEGINNING
    own = project.parents[1] / "etc" / "kolla"
    there = {
        "globals.d/b.yml": "a: 2\n",
        "globals.d/a.yml": "a: 1\nb: 1\nvirtualenv: /v\n",
        "globals.d/c.yml": "# nothing\n",
        "config/nova.conf": "",
    }
    for path, text in there.items():
        (own / path).parent.mkdir(parents=True, exist_ok=True)
        (own / path).write_text(text)
    told = yaml.safe_load(prepared(project)["kolla/operator.yml"])
    assert told == {**BEGINNING, "virtualenv": "/v", "a": 2, "b": 1,
                    "node_custom_config": str(own / "config")}  # fmt: skip
    (own / "globals.d" / "d.yml").write_text("- a\n")
    with pytest.raises(SeedError, match=r"d\.yml has no variables"):
        PLUGIN.prepare(project)


def test_seeds_own_variables_come_after_the_operators() -> None:
    line = texts(small(), {})["stages/deploy/env/cmdline"]
    assert line.index("operator.yml") < line.index("globals.yml") < line.index("passwords.yml")


def test_without_the_collection_all_but_one_stage_can_run(project: Path) -> None:
    wants = [stage.name for stage in PLUGIN.stages(small()) if PLUGIN.lacks(project, stage.name)]
    assert wants == ["bootstrap-servers"]
    assert "ansible-galaxy collection install -r" in PLUGIN.lacks(project)
    path = f"{project.parents[1]}/collections"
    assert path in PLUGIN.lacks(project)
    assert yaml.safe_load(prepared(project)["env/envvars"])["ANSIBLE_COLLECTIONS_PATH"] == path
    role = Path(path) / "ansible_collections/openstack/kolla/roles/baremetal"
    role.mkdir(parents=True)
    assert PLUGIN.lacks(project) == ""


def test_what_is_not_installed_is_named(project: Path) -> None:
    (project / "ansible/site.yml").unlink()
    assert f"{project}/ansible/site.yml is not there" in PLUGIN.lacks(project, "prechecks")


def test_another_release_than_the_installed_one_is_refused(project: Path) -> None:
    assert PLUGIN.misfits(small(), project) == []
    assert PLUGIN.misfits(replace(small(), release="2026.1"), project) == []
    (fault,) = PLUGIN.misfits(replace(small(), release="2025.2"), project)
    assert (fault.field, "2026.1" in fault.remedy) == ("release", True)
    packages = project.parents[1] / "lib/python3.11/site-packages"
    (packages / "kolla_ansible-22.2.0.dist-info").rename(
        packages / "kolla_ansible-23.0.0.dist-info"
    )
    (fault,) = PLUGIN.misfits(small(), project)
    assert "23.0.0, for OpenStack 2026.2; Seed's files are for 2026.1" in fault.sentence
    assert "kolla-ansible==22.*" in fault.remedy


def test_volumes_need_a_backend_which_may_be_the_operators(project: Path) -> None:
    facts = replace(small(), services=("cinder",))
    (fault,) = PLUGIN.misfits(facts, project)
    assert (fault.field, "Add cinder_backend_lvm" in fault.remedy) == ("services", True)
    with_one = replace(small(), services=("cinder", "cinder_backend_lvm"))
    assert PLUGIN.misfits(with_one, project) == []
    own = project.parents[1] / "etc/kolla/globals.d/ceph.yml"
    own.parent.mkdir(parents=True)
    own.write_text("cinder_backend_ceph: true\n")
    assert PLUGIN.misfits(facts, project) == []


def test_bare_metal_needs_a_ramdisk_of_the_operators(project: Path) -> None:
    facts = replace(small(), services=("ironic",))
    folder = project.parents[1] / "etc/kolla/config/ironic"
    folder.mkdir(parents=True)
    (folder / "ironic-agent.kernel").touch()
    (fault,) = PLUGIN.misfits(facts, project)
    assert "has no ironic-agent.initramfs to" in fault.sentence
    assert str(folder) in fault.remedy
    (folder / "ironic-agent.initramfs").touch()
    assert PLUGIN.misfits(facts, project) == []


def a_program(project: Path, text: str) -> Path:
    """Its runner, beside which it lies."""
    path = project.parents[1] / "bin" / "maker"
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return path.with_name("ansible-runner")


WRITES = """
import os, sys
path = sys.argv[2]
assert sys.argv[1] == "-p" and os.stat(path).st_mode & 0o777 == 0o600, sys.argv
text = open(path).read()
os.remove(path)
open(path, "w").write(text.strip() + f" made in {os.environ['HOME']}")
"""
MAKER = Program("passwords.yml", "etc_examples/kolla/passwords.yml", ("maker", "-p", FILE), 20)


def test_a_program_makes_a_secret_of_its_template_and_leaves_no_file(project: Path) -> None:
    made = installer_programs.run(MAKER, a_program(project, WRITES), project)
    assert made.startswith("one_password: made in ")
    folder = Path(made.rpartition(" ")[2])
    assert folder.is_absolute()
    assert not folder.exists()
    kept = project / MAKER.template
    assert kept.read_text() == "one_password:\n"
    assert stat.S_ISREG(kept.stat().st_mode)


@pytest.mark.parametrize("text", ["raise SystemExit(1)", "import time; time.sleep(60)"])
def test_a_program_that_fails_is_named(project: Path, text: str) -> None:
    quick = replace(MAKER, seconds=1)
    with pytest.raises(installer_programs.ProgramFailed, match="maker") as failed:
        installer_programs.run(quick, a_program(project, text), project)
    assert "maker -p" in failed.value.remedy
    with pytest.raises(installer_programs.ProgramFailed):
        installer_programs.run(replace(MAKER, argv=("absent",)), project, project)


def test_addresses_of_version_6_are_told_as_such() -> None:
    net = replace(small().networks["api"], cidr="2001:db8::/64", gateway="2001:db8::1")
    wire = Wire("bond0.20", "2001:db8::10/64")
    nodes = tuple(replace(n, wires=n.wires | {"api": wire}) for n in small().nodes)
    networks = small().networks | {"api": replace(net, pools=())}
    facts = replace(small(), networks=networks, nodes=nodes, vips={"internal": "2001:db8::5"})
    assert PLUGIN.faults(facts) == []
    assert variables(facts)["network_address_family"] == "ipv6"
    assert variables(facts)["tunnel_address_family"] == "ipv4"
    assert not {"network_address_family", "tunnel_address_family"} & {*variables(small())}
