"""An overcloud by Kolla-Ansible on a small house; its package and ansible-runner are stand-ins."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioning import overcloud_access
from provisioning.cluster_rows import Member, OvercloudStage
from provisioning.fabric import Layout, Network
from provisioning.network_doc import NetworkDoc
from provisioning.playbooks import Playbooks
from provisioning.secrets import Envelope
from provisioning.states import ClusterState
from tests.fakes.fabric import a_layout
from tests.fakes.life import House
from tests.unit.test_cluster_life import can_seal, cluster, rounds, tell
from tests.unit.test_clusters import house
from tests.unit.test_installer_kolla import project
from tests.unit.test_overclouds import RUNNER, a_spec, desk, end, look, until

__all__ = ["house", "project"]
S = ClusterState
COLLECTION = "collections/ansible_collections/openstack/kolla/roles/baremetal"
STAGES = ["kolla-host", "site", "site", "site", "post-deploy"]
GENPWD = """\
#!/bin/sh -eu
# kolla-genpwd --passwords FILE
[ "$1" = --passwords ]
echo "keystone_admin_password: drawn-once" > "$2"
"""


@pytest.fixture
def env(house: House, project: Path) -> Iterator[Path]:
    """Kolla-Ansible's environment, without the collection."""
    env = project.parent.parent
    for name, text in (("ansible-runner", RUNNER), ("kolla-genpwd", GENPWD)):
        (env / "bin" / name).write_text(text)
        (env / "bin" / name).chmod(0o755)
    outside = NetworkDoc(name="outside", role="external", vlan=50)
    layout = a_layout(
        name="both",
        networks=[{"network": name, "link": "bond0"} for name in ("storage", "outside")],
    )
    with house.store.write() as session:
        session.add(Network(name="outside", document=outside.stored()))
        session.add(Layout(name="both", document=layout.stored()))
    can_seal(house)
    old = house.reconciler.parts
    runs = Playbooks(env / "bin" / "ansible-runner", project, env / "runs")
    house.reconciler.parts = replace(old, playbooks={"kolla-ansible": runs})
    house.reconciler.parts.__dict__["gang"] = old.__dict__["gang"]
    yield env
    end(runs)


def wish(house: House, **told: Any) -> None:
    layout = {"layout": "both"}
    facts: dict[str, Any] = {
        "installer": "kolla-ansible", "networks": {"api": "storage", "external": "outside"},
        "control": {"count": 1} | layout, "compute": {"count": 2} | layout,
    }  # fmt: skip
    desk(house).create(a_spec(**facts | told), "p", "me")


def up(house: House) -> None:
    rounds(house, S.BOOTSTRAPPING)
    for member in house.rows(Member):
        tell(house, member, cluster="cloud")


def test_what_its_project_lacks_is_told_before_a_disk_is_touched(house: House, env: Path) -> None:
    wish(house)
    for _ in range(4):
        look(house)
        house.round()
    assert cluster(house).state is S.CLAIMING
    assert "the collection openstack.kolla is not in" in cluster(house).problem
    assert {node.provision_state for node in house.ironic.nodes()} == {"available"}
    (env / COLLECTION).mkdir(parents=True)
    look(house)
    assert cluster(house).state is S.DEPLOYING


def test_another_kollas_release_is_told_before_a_disk_is_touched(house: House, env: Path) -> None:
    (env / COLLECTION).mkdir(parents=True)
    (dist,) = env.glob("lib/python3.11/site-packages/kolla_ansible-*")
    dist.rename(dist.with_name("kolla_ansible-21.0.0.dist-info"))
    wish(house)
    look(house)
    assert cluster(house).state is S.CLAIMING
    assert cluster(house).problem.startswith("release: ")
    assert {node.provision_state for node in house.ironic.nodes()} == {"available"}


def test_its_stages_run_with_passwords_that_were_drawn_once(house: House, env: Path) -> None:
    (env / COLLECTION).mkdir(parents=True)
    wish(house)
    up(house)
    until(lambda: look(house).state is S.READY, 60, "ready")
    ran = (env / "bin/ansible-runner.ran").read_text().split()
    assert [Path(name).stem for name in ran] == STAGES
    names = [row.name for row in sorted(house.rows(OvercloudStage), key=lambda r: r.number)]
    assert names == ["bootstrap-servers", "prechecks", "pull", "deploy", "post-deploy"]
    (run,) = (env / "runs").iterdir()
    assert (run / "kolla/passwords.yml").read_text() == "keystone_admin_password: drawn-once\n"
    assert (run / "kolla/passwords.yml").stat().st_mode & 0o777 == 0o600
    assert "[common:children]" in (run / "inventory/multinode").read_text()
    mine = Envelope.new()
    row = overcloud_access.ask(house.store, "p", "cloud", "me", mine.public)
    overcloud_access.seal(house.reconciler.parts, row.id)
    with house.store.read() as session:
        told = overcloud_access.find(session, "p", "cloud", row.id)
    cloud = yaml.safe_load(mine.open(told.sealed, overcloud_access.info(row.id)))["clouds"]["cloud"]
    assert cloud["auth"]["password"] == "drawn-once"


def test_without_the_collection_the_other_stages_run(house: House, env: Path) -> None:
    wish(house, options={"bootstrap_servers": False})
    up(house)
    until(lambda: look(house).state is S.READY, 60, "ready")
    assert "bootstrap-servers" not in {row.name for row in house.rows(OvercloudStage)}
