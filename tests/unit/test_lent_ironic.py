"""Lent servers as an overcloud's own Ironic takes them: its form, what reads it, and who may."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from sqlmodel import select
from typer.testing import CliRunner

from provisioning import lent_ironic
from provisioning.documents import document
from provisioning.errors import Conflict
from provisioning.intake import baremetal_create
from provisioning.lent import Lending
from provisioning.models import Bmc, Claim, Event, Hold, Order, now
from provisioning.states import Borrower, ClaimState, LendingStep, Login, OrderKind
from provisioning.store import Store
from seed.cli import app
from tests.unit.test_reveal import ADDRESS, PASSWORD, store

__all__ = ["store"]

NODE = frozenset(
    """
    bios_interface boot_interface chassis_uuid conductor_group console_interface deploy_interface
    description disable_power_off driver driver_info extra firmware_interface inspect_interface
    instance_name lessee management_interface name network_data network_interface owner
    parent_node power_interface properties raid_interface rescue_interface resource_class shard
    storage_interface uuid vendor_interface automated_clean
    """.split()
)
PORT = frozenset(
    """
    address category description extra is_smartnic local_link_connection name node_uuid
    physical_network portgroup_uuid pxe_enabled uuid vendor
    """.split()
)
GROUP = frozenset(
    """
    address category extra mode name node_uuid physical_network properties
    standalone_ports_supported uuid
    """.split()
)
"""_creation_attributes of python-ironicclient 6.3.0: others are refused by `baremetal create`."""
UP = ["52:54:00:00:00:01", "52:54:00:00:00:02"]
OUT = "52:54:00:00:00:03"
LEAF = "00:1c:73:00:00:01"


def heard(mac: str, port: str) -> dict[str, Any]:
    neighbour = {"switch": "leaf1", "chassis": LEAF, "port": port}
    return {"mac": mac, "name": f"nic{mac[-1]}", "neighbours": [neighbour]}


RAMDISK = {
    "cpu_threads": 64, "memory_mib": 262144, "cpu_arch": "x86_64",
    "nics": [heard(UP[0], "Ethernet1"), heard(UP[1], "Ethernet2"), {"mac": OUT, "name": "nic3"}],
}  # fmt: skip
LINKS = [
    {"kind": "nic", "mac": UP[0], "mtu": 1500},
    {"name": "bond0", "kind": "bond", "mac": UP[0], "mtu": 1500,
     "bond": {"mode": "802.3ad", "members": UP}},
]  # fmt: skip


@pytest.fixture
def lent(store: Store) -> Store:
    """A server of two bonded NICs and one more, that the overcloud's Ironic has."""
    with store.write() as session:
        claim = Claim(name="bm", image="debian", state=ClaimState.ACTIVE)
        bmc = session.exec(select(Bmc)).one()
        bmc.node_uuid, bmc.node_name, bmc.login = uuid4(), "sn-1", Login.LENT
        bmc.resource_class, bmc.firmware, bmc.macs = "gold.large", "uefi", [*UP, OUT]
        bmc.classed = {"traits": ["CUSTOM_FAST"], "capabilities": {"disks": "nvme"}}
        bmc.ramdisk, bmc.ramdisk_at = RAMDISK, now()
        disk = {"name": "sda", "serial": "S7", "size_bytes": 960 * 10**9, "root": True}
        order = Order(
            node_uuid=bmc.node_uuid, generation=1, kind=OrderKind.DEPLOY,
            wanted={"links": LINKS}, proof={"disks": [disk]},
        )  # fmt: skip
        session.add(claim)
        session.flush()
        session.add(order)
        session.add(Hold(node_uuid=bmc.node_uuid, claim_id=claim.id, generation=1))
        borrower = Borrower.IRONIC
        session.add(Lending(claim_id=claim.id, step=LendingStep.LENT, borrower=borrower))
        session.add(bmc)
    return store


def export(*argv: str) -> tuple[int, str]:
    said = CliRunner().invoke(app, ["ironic", "export", *argv])
    return said.exit_code, said.output + str(said.exception or "")


def exported(tmp_path: Path, *argv: str) -> tuple[dict[str, Any], str]:
    to = tmp_path / "nodes.yaml"
    code, said = export("bm", "--to", str(to), *argv)
    assert (code, PASSWORD in said) == (0, False), said
    (node,) = yaml.safe_load(to.read_text())["nodes"]
    return node, (tmp_path / "nodes.yaml.sh").read_text()


def test_the_file_is_roots_alone_and_who_asked_is_kept(
    lent: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "joe")
    node, steps = exported(tmp_path)
    assert oct((tmp_path / "nodes.yaml").stat().st_mode & 0o777) == "0o600"
    assert node["driver_info"]["redfish_password"] == PASSWORD
    assert PASSWORD not in steps
    with lent.read() as session:
        (event,) = session.exec(select(Event)).all()
    assert (event.kind, event.who) == ("claim.exported", "joe")
    assert "the overcloud's Ironic" in event.message


def test_it_has_what_baremetal_create_takes_and_nothing_else(lent: Store, tmp_path: Path) -> None:
    node, _ = exported(tmp_path, "--physical-network", "physnet1")
    groups, ports = node.pop("portgroups"), node.pop("ports")
    assert set(node) <= NODE
    assert node["resource_class"] == "gold.large"
    assert node["driver"] == "redfish"
    assert node["driver_info"]["redfish_verify_ca"] is True
    assert node["properties"] == {
        "cpus": 64, "memory_mb": 262144, "cpu_arch": "x86_64", "local_gb": 893,
        "root_device": {"serial": "S7"}, "capabilities": "boot_mode:uefi,disks:nvme",
    }  # fmt: skip
    (group,) = groups
    bonded = group["ports"]
    assert set(group) - {"ports"} <= GROUP
    assert (group["mode"], group["address"]) == ("802.3ad", UP[0])
    assert [port["address"] for port in bonded] == UP
    assert bonded[1]["local_link_connection"] == {
        "switch_id": LEAF, "port_id": "Ethernet2", "switch_info": "leaf1",
    }  # fmt: skip
    assert [port["address"] for port in ports] == [OUT]
    assert "local_link_connection" not in ports[0]
    assert all(set(port) <= PORT for port in [*bonded, *ports])


def test_our_own_intake_reads_the_same_server(lent: Store, tmp_path: Path) -> None:
    exported(tmp_path)
    read = document("nodes.yaml", (tmp_path / "nodes.yaml").read_bytes())
    assert baremetal_create.PLUGIN.fits(read)
    (server,) = baremetal_create.PLUGIN.read(read)
    with lent.read() as session:
        bmc = session.exec(select(Bmc)).one()
    assert server.bmc_address == ADDRESS
    assert server.macs == tuple(sorted([*UP, OUT]))
    assert (server.name, server.resource_class) == ("bm", "gold.large")
    assert server.facts["node_uuid"] == str(bmc.node_uuid)
    assert server.password is not None
    assert server.password.get_secret_value() == PASSWORD


def test_traits_are_told_after_it(lent: Store, tmp_path: Path) -> None:
    _, steps = exported(tmp_path)
    assert "baremetal node add trait bm CUSTOM_FAST\n" in steps
    assert steps.endswith("baremetal node provide bm --wait\n")
    assert "noop" not in steps


def test_what_runs_is_not_cleaned_on_its_way(lent: Store, tmp_path: Path) -> None:
    """Its driver is taken away before it is provided: Ironic would erase its disks."""
    _, steps = exported(tmp_path, "--keep-running")
    order = [steps.index(word) for word in ("node manage", "--no-automated-clean", "node provide")]
    assert order == sorted(order)
    assert "--deploy-interface noop" in steps
    assert "--driver redfish --reset-interfaces" in steps


def test_an_owner_gets_what_it_was_lent_and_no_other(lent: Store, tmp_path: Path) -> None:
    to = tmp_path / "hosts.yaml"
    said = CliRunner().invoke(app, ["metal3", "export", "bm", "--to", str(to)])
    assert isinstance(said.exception, Conflict)
    assert "lent elsewhere: ironic" in str(said.exception)
    assert not to.exists()


def test_only_a_name_that_baremetal_reads_is_taken(lent: Store, tmp_path: Path) -> None:
    assert export("bm", "--to", str(tmp_path / "nodes.txt"))[0] == 1


def test_what_gives_are_made_of_has_no_login(lent: Store) -> None:
    with lent.read() as session:
        claim = session.exec(select(Claim)).one()
        (node,) = lent_ironic.graduates(session, claim)
    assert node.resource_class == "gold.large"
    assert [disk.role for disk in node.disks] == ["root"]
    assert PASSWORD not in repr(node)
    assert ADDRESS not in json.dumps(repr(node))
