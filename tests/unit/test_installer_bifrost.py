"""Bifrost's inventory and servers.yml, read by Ansible and by what Seed reads of Bifrost's."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioning import installers, plugins
from provisioning.installers import NodeFacts, OvercloudFacts
from provisioning.installers.bifrost import PLUGIN
from provisioning.intake import Document
from provisioning.intake.bifrost import PLUGIN as INTAKE
from tests.unit.overcloud_facts import large, small
from tests.unit.overcloud_golden import same
from tests.unit.overcloud_trees import inventory, texts, unpacked

SIZES = {"small": small, "large": large}


def answer(facts: OvercloudFacts) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(texts(PLUGIN, facts)["inventory.json"])
    return told


def servers(facts: OvercloudFacts) -> dict[str, dict[str, Any]]:
    told: dict[str, dict[str, Any]] = yaml.safe_load(texts(PLUGIN, facts)["servers.yml"])
    return told


def changed(**changes: Any) -> OvercloudFacts:
    """small, with another second node."""
    first, second = small().nodes
    return replace(small(), nodes=(first, replace(second, **changes)))


@pytest.mark.parametrize("size", SIZES)
def test_the_files_are_the_golden_ones(size: str) -> None:
    same(PLUGIN.name, size, PLUGIN.tree(SIZES[size](), {}))


def test_it_is_a_format_that_people_run() -> None:
    assert plugins.load(installers)["bifrost"] is PLUGIN
    assert (PLUGIN.environment, PLUGIN.stages(small())) == ("", ())
    modes = {part.path: part.mode for part in PLUGIN.tree(small(), {})}
    assert modes["inventory.sh"] == 0o755


@pytest.mark.parametrize("size", SIZES)
def test_the_answer_is_what_bifrosts_own_program_makes_of_the_servers(size: str) -> None:
    """As bifrost.inventory 21.1.0 works: see _process_baremetal_data."""
    facts = SIZES[size]()
    told = answer(facts)
    assert told["localhost"] == {"hosts": ["127.0.0.1"]}
    assert told["_meta"]["hostvars"]["127.0.0.1"] == {"ansible_connection": "local"}
    names = [node.name for node in facts.nodes]
    assert told["baremetal"]["hosts"] == sorted(names)
    for name, server in servers(facts).items():
        mine = told["_meta"]["hostvars"][name]
        made = {key: value for key, value in server.items() if key in mine}
        assert {key: mine[key] for key in made} == made
        assert {"uuid", "name", "ipv4_address", "nics", "properties"} <= {*made}
        assert (
            mine["ansible_ssh_host"]
            == mine["provisioning_ipv4_address"]
            == (server["ipv4_address"])
        )
        for group in server["host_groups"]:
            assert name in told[group]["hosts"]


def test_without_an_address_it_is_dhcps() -> None:
    facts = changed(reached="", wires={})
    mine = answer(facts)["_meta"]["hostvars"]["cloud-compute-0"]
    assert mine["addressing_mode"] == "dhcp"
    assert not {"ansible_ssh_host", "ipv4_address"} & {*mine}
    assert "ipv4_address" not in servers(facts)["cloud-compute-0"]
    planned = answer(changed(reached=""))["_meta"]["hostvars"]["cloud-compute-0"]
    assert planned["ipv4_address"] == "10.20.0.11"


def test_ansible_reads_the_program(tmp_path: Path) -> None:
    program = unpacked(PLUGIN, large(), tmp_path) / "inventory.sh"
    found = inventory(program, "reserved name 'name'")  # Bifrost's own has it too
    assert set(found["_meta"]["hostvars"]) == {"127.0.0.1", *(n.name for n in large().nodes)}
    assert found["control"]["hosts"] == [f"cloud-control-{n}" for n in range(3)]


@pytest.mark.parametrize("size", SIZES)
def test_what_seed_reads_of_bifrosts_it_reads_of_this(size: str) -> None:
    facts = SIZES[size]()
    document = Document("servers.yml", (servers(facts),))
    assert INTAKE.fits(document)
    found = {one.where: one for one in INTAKE.read(document)}
    assert {name: _known(one) for name, one in found.items()} == {
        node.name: _meant(node) for node in facts.nodes
    }
    for one in found.values():
        assert (one.bmc_address, one.username, one.password) == ("", "", None)


def _known(listed: Any) -> tuple[Any, ...]:
    facts = listed.facts
    return (
        listed.name, listed.resource_class, listed.macs, facts["node_uuid"], facts["ipv4_address"],
        facts["cpu_arch"],
    )  # fmt: skip


def _meant(node: NodeFacts) -> tuple[Any, ...]:
    macs = tuple(sorted(nic.mac for nic in node.nics))
    return (
        node.name, node.resource_class, macs, node.node_uuid, node.reached, node.cpu_arch,
    )  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_no_login_is_exported(size: str) -> None:
    facts = SIZES[size]()
    assert all(server["driver_info"] == {} for server in servers(facts).values())
    told = json.dumps(answer(facts)) + json.dumps(servers(facts))
    assert [word for word in ("password", "username", "redfish", "ipmi") if word in told] == []


def test_templates_that_servers_tell_are_inert() -> None:
    facts = changed(labels={"note": "{{ lookup('pipe', 'id') }}"})
    assert "{{" not in texts(PLUGIN, facts)["inventory.json"]


@pytest.mark.parametrize("size", SIZES)
def test_a_good_overcloud_has_no_fault(size: str) -> None:
    assert PLUGIN.faults(SIZES[size]()) == []


@pytest.mark.parametrize(
    ("facts", "field", "says"),
    [
        (replace(small(), options={"x": 1}), "options.x", "nothing that bifrost knows"),
        (changed(nics=()), "nodes", "no NIC of cloud-compute-0 is known"),
        (changed(reached="fd00::5"), "networks.api", "reached by fd00::5"),
        (changed(nics=small().nodes[0].nics), "nodes", "both tell the MAC 52:54:00:00:00:00"),
    ],
)
def test_what_cannot_be_is_refused(facts: OvercloudFacts, field: str, says: str) -> None:
    found = PLUGIN.faults(facts)
    assert all(one.sentence and one.remedy for one in found)
    assert [one for one in found if one.field == field and says in one.sentence], found
