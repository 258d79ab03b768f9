"""A cluster that Ansible installs, on a small house; a program stands in for ansible-runner."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from provisioning.cluster_rows import Cluster, Member
from provisioning.models import Event
from provisioning.playbooks import Playbooks
from provisioning.states import ClusterState
from tests.fakes.life import House
from tests.fakes.machine import until
from tests.unit.test_cluster_life import can_seal, cluster, rounds, tell
from tests.unit.test_clusters import a_spec, desk, house

__all__ = ["house"]
S = ClusterState
RUNNER = """\
#!/bin/sh -eu
# ansible-runner run DIR --playbook P --ident I --quiet
[ "$1" = run ] && [ "$4" = cluster.yml ]
to="$2/artifacts/$6"
mkdir -p "$to/job_events"
cd "$to/job_events"
echo '{"event": "playbook_on_task_start", "event_data": {"task": "join"}}' > 1-a.json
cp "$2/env/ssh_key" "$0.key"
verdict=$(cat "$0.verdict")
[ "$verdict" = successful ] || echo '{"event": "runner_on_failed", "event_data": \
{"task": "join", "host": "web-worker-0"}}' > 2-b.json
printf %s "$verdict" > "$to/status"
"""


@pytest.fixture
def installed(house: House, tmp_path: Path) -> Path:
    """The folder with the program, its verdict and its runs."""
    runner = tmp_path / "ansible-runner"
    runner.write_text(RUNNER)
    runner.chmod(0o755)
    (tmp_path / "ansible-runner.verdict").write_text("successful")
    (tmp_path / "cluster.yml").touch()
    can_seal(house)
    with_playbooks(house, Playbooks(runner, tmp_path, tmp_path / "runs"))
    return tmp_path


def with_playbooks(house: House, playbooks: Playbooks | None) -> None:
    old = house.reconciler.parts
    parts = replace(old, playbooks={"kubespray": playbooks} if playbooks else {})
    parts.__dict__["gang"] = old.__dict__["gang"]
    house.reconciler.parts = parts


def look(house: House) -> Cluster:
    house.reconciler._cluster(cluster(house).id)
    return cluster(house)


def join(house: House) -> None:
    desk(house).create(a_spec(kind="kubespray"), "p", "me")
    rounds(house, S.BOOTSTRAPPING)
    for member in house.rows(Member):
        tell(house, member)


def test_without_ansible_no_disk_is_touched(house: House) -> None:
    can_seal(house)
    desk(house).create(a_spec(kind="kubespray"), "p", "me")
    for _ in range(4):
        look(house)
        house.round()
    assert cluster(house).state is S.CLAIMING
    assert "wants Ansible, which is not on the Seed machine" in cluster(house).problem
    assert "[ansible] of seed.toml" in cluster(house).remedy
    assert {node.provision_state for node in house.ironic.nodes()} == {"available"}


def test_it_is_ready_once_ansible_went_well_with_all_members(house: House, installed: Path) -> None:
    join(house)
    assert look(house).detail.startswith("Ansible")
    until(lambda: look(house).state is S.READY, 30, "ready")
    (run,) = (installed / "runs").iterdir()
    hosts = yaml.safe_load((run / "inventory/hosts.yaml").read_text())["all"]["hosts"]
    assert sorted(hosts) == sorted(m.name for m in house.rows(Member))
    assert len({host["ansible_host"] for host in hosts.values()}) == 5
    began = [e for e in house.rows(Event) if e.kind == "cluster.ansible-began"]
    assert len(began) == 1
    key = (installed / "ansible-runner.key").read_text()
    assert key.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert key not in repr([event.model_dump() for event in house.rows(Event)])


def test_what_failed_is_told_and_only_host_keys_of_proofs_are_trusted(
    house: House, installed: Path
) -> None:
    (installed / "ansible-runner.verdict").write_text("failed")
    join(house)
    until(lambda: "failed" in look(house).problem, 30, "failed")
    told = cluster(house)
    assert told.state is S.BOOTSTRAPPING
    assert told.problem.startswith("Ansible failed at 'join' on web-worker-0; it is run again in")
    (run,) = (installed / "runs").iterdir()
    known = (run / "known_hosts").read_text().split()
    hosts = yaml.safe_load((run / "inventory/hosts.yaml").read_text())["all"]["hosts"]
    assert {host["ansible_host"] for host in hosts.values()} >= set(known[::3])
    assert look(house).state is S.BOOTSTRAPPING, "not run again at once"
    assert len(list((run / "artifacts").iterdir())) == 1


def test_its_release_ends_ansible_and_takes_the_key_away(house: House, installed: Path) -> None:
    (installed / "ansible-runner.verdict").write_text("failed")
    join(house)
    until(lambda: "failed" in look(house).problem, 30, "failed")
    with house.store.write() as session:
        row = session.get_one(Cluster, cluster(house).id)
        row.released = True
        session.add(row)
    look(house)
    look(house)
    assert cluster(house).state is S.RELEASING
    assert not list((installed / "runs").iterdir())
