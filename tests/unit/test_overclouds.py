"""An overcloud's life on a small house; a program stands in for ansible-runner."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioning import clusters, kube_check, overcloud_access
from provisioning.cluster_access import ask_check
from provisioning.cluster_changes import Clusters
from provisioning.cluster_release import Giving
from provisioning.cluster_rows import Cluster, ClusterCheck, Member, OvercloudStage
from provisioning.errors import Conflict, Invalid, NotFound
from provisioning.installed import of
from provisioning.installers import NetFacts, Use
from provisioning.installers.debian import DASHBOARD, PASSWORDS, PLUGIN, STAGES
from provisioning.kinds import part
from provisioning.lent import Lending
from provisioning.models import Claim, Event, now
from provisioning.overcloud_spec import OvercloudSpec
from provisioning.overcloud_stages import DEATHS, LEAVE
from provisioning.playbooks import Playbooks
from provisioning.secrets import Envelope
from provisioning.states import (
    Borrower,
    ClaimState,
    ClusterState,
    LendingStep,
    Noun,
    StageState,
)
from tests.fakes.life import House
from tests.unit.overcloud_facts import small
from tests.unit.test_claims import KEY
from tests.unit.test_cluster_life import can_seal, cluster, rounds, tell
from tests.unit.test_clusters import house, nothing_is_there

__all__ = ["house"]
S = ClusterState
ORDER = [name for name, _seconds in STAGES]
RUNNER = """\
#!/bin/sh -eu
# ansible-runner run DIR --playbook P --ident I --quiet
stage=${4%.yml} to="$2/artifacts/$6"
mkdir -p "$to/job_events"
cd "$to/job_events"
echo "$4" >> "$0.ran"
cp "$2/inventory/hosts.yaml" "$0.inventory"
echo '{"event": "playbook_on_task_start", "event_data": {"task": "do"}}' > 1-a.json
verdict=$(cat "$0.$stage" 2>/dev/null || echo successful)
case $verdict in
died) echo "no such interpreter" >&2; exit 1 ;;
sleeping) exec sleep 60 ;;
unreachable) echo '{"event": "runner_on_unreachable", "event_data": {"task": "Gathering Facts", \
"host": "cloud-compute-0"}}' > 2-b.json; verdict=failed ;;
failed) echo '{"event": "runner_on_failed", "event_data": {"task": "do", \
"host": "cloud-compute-1"}}' > 2-b.json ;;
esac
[ "$stage" != check ] || echo '{"event": "runner_on_ok", "event_data": {"task": "check", "res": \
{"stdout": "{\\"server\\": [\\"ok\\", \\"ACTIVE, at 10.77.0.5\\"]}"}}}' > 3-c.json
printf %s "$verdict" > "$to/status"
"""


@pytest.fixture
def installed(house: House, tmp_path: Path) -> Iterator[Path]:
    """The program; NAME.STAGE beside it has how a stage ends, NAME.ran which ones ran."""
    runner = tmp_path / "runner"
    runner.write_text(RUNNER)
    runner.chmod(0o755)
    for name in (*ORDER, "check", "leave"):
        (tmp_path / f"{name}.yml").touch()
    can_seal(house)
    old = house.reconciler.parts
    books = Playbooks(runner, tmp_path, tmp_path / "runs")
    house.reconciler.parts = replace(old, playbooks={"debian": books})
    house.reconciler.parts.__dict__["gang"] = old.__dict__["gang"]
    yield runner
    end(books)


def end(books: Playbooks) -> None:
    """What still runs of it."""
    for run in books.folder.glob("*"):
        books.forget(run.name)


def a_spec(**told: Any) -> OvercloudSpec:
    facts: dict[str, Any] = {
        "name": "cloud", "installer": "debian", "image": "debian", "ssh_keys": [KEY],
        "networks": {"api": "storage"}, "control": {"count": 1, "layout": "bonded"},
        "compute": {"count": 2, "layout": "bonded"},
    }  # fmt: skip
    return OvercloudSpec.model_validate(facts | told)


def until(condition: Callable[[], Any], seconds: float, what: str) -> None:
    """The reconciler's pauses are of other tests."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def desk(house: House) -> Clusters:
    return Clusters(house.store, house.desk, noun=Noun.OVERCLOUD)


def look(house: House) -> Cluster:
    house.reconciler._cluster(cluster(house).id)
    return cluster(house)


def up(house: House, **told: Any) -> None:
    desk(house).create(a_spec(**told), "p", "me")
    rounds(house, S.BOOTSTRAPPING)
    for member in house.rows(Member):
        tell(house, member, cluster="cloud")


def ready(house: House, **told: Any) -> None:
    up(house, **told)
    until(lambda: look(house).state is S.READY, 60, "ready")


def ran(runner: Path) -> list[str]:
    path = runner.with_name("runner.ran")
    return [line.removesuffix(".yml") for line in path.read_text().split()] if path.exists() else []


def verdict(runner: Path, stage: str, how: str) -> None:
    runner.with_name(f"runner.{stage}").write_text(how)


def stages(house: House) -> dict[str, StageState]:
    return {row.name: row.state for row in house.rows(OvercloudStage)}


# --- asked for ------------------------------------------------------------------------------------


def test_each_node_is_a_claim_and_is_what_its_group_says(house: House) -> None:
    row, new = desk(house).create(a_spec(), "p", "me")
    assert new
    assert row.noun is Noun.OVERCLOUD
    names = ["cloud-compute-0", "cloud-compute-1", "cloud-control-0"]
    assert sorted(claim.name for claim in house.rows(Claim)) == names
    with house.store.read() as session:
        facts = of(clusters.facts_of(session, row))
    roles = {node.name: node.roles for node in facts.nodes}
    assert roles["cloud-control-0"] == ("control", "network", "monitoring")
    assert roles["cloud-compute-1"] == ("compute",)
    wires = facts.nodes[0].wires
    assert wires["api"].interface == "bond0.40"
    assert wires["tunnel"] == wires["storage"] == wires["api"]
    assert wires["api"].address.endswith("/24")
    assert facts.vips["internal"] == facts.vips["external"] == row.vip != ""
    again, new = desk(house).create(a_spec(), "p", "me")
    assert (again.id, new) == (row.id, False)


def test_horizon_is_one_stage_more(house: House) -> None:
    row, _new = desk(house).create(a_spec(services=["horizon"]), "p", "me")
    with house.store.read() as session:
        facts = of(clusters.facts_of(session, row))
    assert [stage.name for stage in PLUGIN.stages(facts)] == [*ORDER, DASHBOARD[0]]
    told = next(one for one in PLUGIN.tree(facts, {}) if one.path == "inventory/hosts.yaml")
    assert yaml.safe_load(told.content)["all"]["vars"]["oc_horizon"] is True


def test_a_second_vip_is_nothing_for_debian() -> None:
    facts = replace(small(), vips={"internal": "10.20.0.5", "external": "10.20.0.6"})
    assert [fault.field for fault in PLUGIN.faults(facts)] == ["vips.external"]


def test_addresses_that_are_not_ipv4_are_nothing_for_debian() -> None:
    api = replace(small().networks["api"], cidr="2001:db8::/64")
    networks: dict[Use, NetFacts] = {**small().networks, "api": api}
    vips = {"internal": "2001:db8::5", "external": "2001:db8::5"}
    facts = replace(small(), vips=vips, networks=networks)
    assert [fault.field for fault in PLUGIN.faults(facts)] == ["networks.api", "vips.internal"]


def test_a_claim_on_its_way_to_an_ironic_is_nobodys(house: House) -> None:
    """Nor is it in the way of an overcloud of the same project."""
    row, _new = desk(house).create(a_spec(), "p", "me")
    with house.store.write() as session:
        claim = house.rows(Claim)[0]
        session.add(Lending(claim_id=claim.id, step=LendingStep.ASKED, borrower=Borrower.IRONIC))
    with house.store.read() as session:
        assert of(clusters.facts_of(session, row)).name == "cloud"


def test_one_node_alone_is_all_of_it(house: House) -> None:
    row, _new = desk(house).create(
        a_spec(compute={"count": 0}, options={"driver": "fake"}), "p", "me"
    )
    with house.store.read() as session:
        facts = of(clusters.facts_of(session, row))
    (node,) = facts.nodes
    assert node.roles == ("control", "network", "compute", "monitoring")


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"installer": "kubeadm"}, "installer: there is no installer kubeadm"),
        ({"installer": "nonesuch"}, "installer: there is no installer nonesuch"),
        ({"networks": {"api": "nowhere"}}, "networks.api: there is no network 'nowhere'"),
        ({"networks": {"api": "provisioning"}}, "networks.api: servers boot from this wire"),
        ({"networks": {"api": "storage", "external": "nowhere"}}, "networks.external: there is no"),
        ({"compute": {"count": 1, "layout": ""}}, "compute.layout: nodes with layout (none)"),
        ({"release": "2026.1"}, "release: Debian's packages are 2025.1"),
        ({"services": ["zun", "horizon"]}, "services: debian installs no zun"),
        ({"options": {"driver": "ironic"}}, "options.driver"),
        ({"control": {"count": 3, "layout": "bonded"}}, "control.count: debian's databases"),
        ({"storage": {"count": 1, "layout": "bonded"}}, "storage.count: debian has no storage"),
        ({"vips": {"internal": "nobody"}}, "vips.internal: storage has no VIP 'nobody'"),
        ({"vips": {"external": "nobody"}}, "vips.external: storage has no VIP"),
        ({"compute": {"count": 9, "layout": "bonded"}}, "compute"),
    ],
)
def test_what_cannot_be_is_refused_before_a_disk_is_touched(
    house: House, told: dict[str, Any], says: str
) -> None:
    with pytest.raises((Invalid, Conflict, NotFound)) as refused:
        desk(house).create(a_spec(**told), "p", "me")
    assert says in str(refused.value)
    assert refused.value.remedy
    assert nothing_is_there(house)


@pytest.mark.parametrize(
    "told",
    [
        {"control": {"count": 2}},
        {"control": {"count": 0}},
        {"release": "Epoxy"},
        {"compute": {"count": 501}},
        {"compute": {"count": 1, "node_taints": ["a=b:NoSchedule"]}},
        {"bundle": "kubeadm"},
        {"networks": {"api": "a", "external": "a"}},
    ],
)
def test_a_document_that_contradicts_itself_is_none(told: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="1 validation error"):
        a_spec(**told)


def test_a_cluster_and_an_overcloud_do_not_share_a_name(house: House) -> None:
    desk(house).create(a_spec(), "p", "me")
    with house.store.read() as session, pytest.raises(NotFound, match="is an overcloud"):
        clusters.find(session, "p", "cloud")


# --- installed ------------------------------------------------------------------------------------


def test_without_its_installer_no_disk_is_touched(house: House) -> None:
    can_seal(house)
    desk(house).create(a_spec(), "p", "me")
    for _ in range(4):
        look(house)
        house.round()
    assert cluster(house).state is S.CLAIMING
    assert "the installer debian wants ansible-runner" in cluster(house).problem
    assert "[installers.debian] of seed.toml" in cluster(house).remedy
    assert {node.provision_state for node in house.ironic.nodes()} == {"available"}


def test_stages_run_in_order_once_and_it_is_ready(house: House, installed: Path) -> None:
    ready(house)
    assert ran(installed) == ORDER
    assert set(stages(house).values()) == {StageState.DONE}
    rows = {row.name: row for row in house.rows(OvercloudStage)}
    assert rows["hosts"].nodes == ["cloud-compute-0", "cloud-compute-1", "cloud-control-0"]
    assert rows["hosts"].began_at
    assert rows["hosts"].ended_at
    (run,) = (installed.parent / "runs").iterdir()
    hosts = yaml.safe_load((run / "inventory/hosts.yaml").read_text())["all"]
    assert sorted(hosts["children"]["compute"]["hosts"]) == ["cloud-compute-0", "cloud-compute-1"]
    assert len({host["ansible_host"] for host in hosts["hosts"].values()}) == 3
    assert (run / "env/extravars").stat().st_mode & 0o777 == 0o600
    secrets = json.loads((run / "env/extravars").read_text())["oc_secrets"]
    assert sorted(secrets) == sorted(PASSWORDS)
    assert len(set(secrets.values())) == len(PASSWORDS)
    told = repr([event.model_dump() for event in house.rows(Event)])
    assert not [one for one in secrets.values() if one in told]
    look(house)
    assert ran(installed) == ORDER, "ready: nothing is run again"


@pytest.mark.parametrize(("how", "why"), [("failed", "failed at 'do'"), ("unreachable", "SSH")])
def test_a_stage_that_failed_stops_it_and_is_resumed_there(
    house: House, installed: Path, how: str, why: str
) -> None:
    verdict(installed, "network", how)
    up(house)
    until(lambda: bool(look(house).problem), 60, "failed")
    told = cluster(house)
    assert told.problem.startswith("stage network: ")
    assert why in told.problem
    assert "cloud-compute-" in told.problem
    assert "seed overcloud resume cloud" in told.remedy
    for _ in range(3):
        look(house)
    assert ran(installed).count("network") == 1, "not again by itself"
    verdict(installed, "network", "successful")
    overcloud_access.resume(house.store, "p", "cloud", "me")
    assert cluster(house).problem == ""
    until(lambda: look(house).state is S.READY, 60, "ready")
    assert ran(installed) == [*ORDER[:6], *ORDER[5:]]
    with pytest.raises(Conflict, match="no stage of cloud failed"):
        overcloud_access.resume(house.store, "p", "cloud", "me")


def test_a_stage_is_run_again_when_it_is_named(house: House, installed: Path) -> None:
    ready(house)
    overcloud_access.resume(house.store, "p", "cloud", "me", "identity")
    until(lambda: look(house) and ran(installed) == [*ORDER, "identity"], 60, "run again")
    until(lambda: look(house).state is S.READY, 60, "ready")
    with pytest.raises(NotFound, match="has no stage 'nonesuch'"):
        overcloud_access.resume(house.store, "p", "cloud", "me", "nonesuch")


def test_a_run_that_a_restart_cut_off_goes_on_by_itself(house: House, installed: Path) -> None:
    up(house)
    look(house)
    look(house)
    row = next(row for row in house.rows(OvercloudStage) if row.name == "hosts")
    until(lambda: ran(installed) == ["hosts"], 30, "begun")
    (run,) = (installed.parent / "runs").iterdir()
    until((run / "artifacts/hosts-1/status").exists, 30, "over")
    (run / "artifacts/hosts-1/status").unlink()  # as if it had been killed
    assert row.state is StageState.RUNNING
    until(lambda: look(house).state is S.READY, 60, "ready")
    assert ran(installed) == ["hosts", *ORDER]


def test_a_runner_that_ends_without_a_word_is_not_begun_for_ever(
    house: House, installed: Path
) -> None:
    verdict(installed, "hosts", "died")
    up(house)
    until(lambda: bool(look(house).problem), 60, "given up")
    assert "stage hosts: it ended without a word" in cluster(house).problem
    assert ran(installed) == ["hosts"] * DEATHS
    log = Path(next(row.log for row in house.rows(OvercloudStage) if row.name == "hosts"))
    assert log.read_text() == "no such interpreter\n"
    assert log.stat().st_mode & 0o777 == 0o600
    assert str(log) in cluster(house).remedy
    verdict(installed, "hosts", "successful")
    overcloud_access.resume(house.store, "p", "cloud", "me")
    until(lambda: look(house).state is S.READY, 60, "ready")


def test_another_run_is_not_taken_for_the_stages(house: House, installed: Path) -> None:
    """A check of an overcloud whose stage failed, say."""
    verdict(installed, "network", "failed")
    up(house)
    until(lambda: bool(look(house).problem), 60, "failed")
    books = house.reconciler.parts.playbooks["debian"]
    verdict(installed, "check", "sleeping")
    name = str(cluster(house).id)
    inventory = part("inventory/hosts.yaml", "{}", 0o600)
    assert books.begin(name, "check-1", [inventory], "check.yml")
    assert (books.going(name), books.look(name, "check-1").state) == ("check-1", "running")
    look(house)
    assert stages(house)["network"] is StageState.FAILED
    begun = [e for e in house.rows(Event) if e.kind == "overcloud.stage"]
    overcloud_access.resume(house.store, "p", "cloud", "me")
    look(house)
    assert cluster(house).detail == "another run goes on"
    assert [e for e in house.rows(Event) if e.kind == "overcloud.stage"] == begun
    books.forget(name)


# --- changed --------------------------------------------------------------------------------------


def test_more_nodes_make_all_stages_run_again(house: House, installed: Path) -> None:
    ready(house)
    desk(house).scale("p", "cloud", "me", compute=3)
    for _ in range(40):
        look(house)
        house.round()
        if cluster(house).state is S.BOOTSTRAPPING:
            break
    new = next(member for member in house.rows(Member) if member.joined_at is None)
    tell(house, new, cluster="cloud")
    until(lambda: look(house).state is S.READY, 60, "ready")
    assert ran(installed) == [*ORDER, *ORDER]
    assert "cloud-compute-2" in installed.with_name("runner.inventory").read_text()


def test_who_leaves_is_taken_out_of_openstack_first(house: House, installed: Path) -> None:
    ready(house)
    verdict(installed, "leave", "failed")
    desk(house).scale("p", "cloud", "me", compute=1)
    until(lambda: bool(look(house).problem), 60, "failed")
    assert cluster(house).problem.startswith("stage leave cloud-compute-1: ")
    assert {c.state for c in house.rows(Claim)} == {ClaimState.ACTIVE}, "no server is given back"
    assert "cloud-compute-1" not in installed.with_name("runner.inventory").read_text()
    (run,) = (installed.parent / "runs").iterdir()
    leaving = yaml.safe_load((run / "inventory/leaving.yaml").read_text())["all"]["hosts"]
    assert list(leaving) == ["cloud-compute-1"]
    assert leaving["cloud-compute-1"]["ansible_host"]
    verdict(installed, "leave", "successful")
    overcloud_access.resume(house.store, "p", "cloud", "me")
    leave = f"{LEAVE}cloud-compute-1"
    until(lambda: look(house) and stages(house)[leave] is StageState.DONE, 60, "left")
    assert ran(installed)[-2:] == ["leave", "leave"]


def replaced(house: House) -> None:
    """cloud-compute-0, by one that is there and to be installed."""
    desk(house).replace("p", "cloud", "cloud-compute-0", "me")
    for _ in range(40):
        look(house)
        house.round()
        if cluster(house).state is S.BOOTSTRAPPING:
            break
    new = next(member for member in house.rows(Member) if member.joined_at is None)
    assert new.name == "cloud-compute-2"
    tell(house, new, cluster="cloud")


def test_who_is_replaced_leaves_once_the_other_is_installed(house: House, installed: Path) -> None:
    ready(house)
    replaced(house)
    assert "leave" not in ran(installed)
    until(lambda: look(house) and "leave" in ran(installed), 60, "left")
    assert ran(installed)[:15] == [*ORDER, *ORDER, "leave"]


def test_nobody_leaves_while_a_stage_failed(house: House, installed: Path) -> None:
    """On the node that takes the place of one that still works, say."""
    ready(house)
    verdict(installed, "compute", "failed")
    replaced(house)
    until(lambda: bool(look(house).problem), 60, "failed")
    for _ in range(3):
        look(house)
    assert "leave" not in ran(installed)
    assert cluster(house).problem.startswith("stage compute: ")
    verdict(installed, "compute", "successful")
    overcloud_access.resume(house.store, "p", "cloud", "me")
    until(lambda: look(house) and "leave" in ran(installed), 60, "left")


def test_who_is_dead_and_cannot_be_taken_out_is_given_up(house: House, installed: Path) -> None:
    ready(house)
    verdict(installed, "leave", "failed")
    replaced(house)
    until(lambda: bool(look(house).problem), 60, "failed")
    with house.store.write() as session:
        old = next(m for m in house.rows(Member) if m.name == "cloud-compute-0")
        old.told_at = now() - timedelta(hours=1)
        session.add(old)
    desk(house).replace("p", "cloud", "cloud-compute-0", "me")
    tries = ran(installed).count("leave")
    for _ in range(40):
        look(house)
        house.round()
    assert "cloud-compute-0" not in [m.name for m in house.rows(Member) if m.ended_at is None]
    assert ran(installed).count("leave") == tries
    assert cluster(house).state is S.READY


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"compute": 0}, "compute.count: control nodes are compute nodes where there are no"),
        ({"network": 1}, "network.count: control nodes are network nodes where there are no"),
        ({"storage": 1}, "storage.layout: nodes with layout (none) are not in storage"),
    ],
)
def test_a_size_that_would_change_what_nodes_are_is_refused(
    house: House, installed: Path, told: dict[str, int], says: str
) -> None:
    ready(house)
    with pytest.raises((Invalid, Conflict)) as refused:
        desk(house).scale("p", "cloud", "me", **told)
    assert says in str(refused.value)
    assert refused.value.remedy
    assert len(house.rows(Member)) == 3


def test_the_only_control_node_is_not_replaced(house: House, installed: Path) -> None:
    ready(house)
    with pytest.raises(Conflict, match="the only control node, and all databases are on it"):
        desk(house).replace("p", "cloud", "cloud-control-0", "me")


def test_its_release_takes_runs_keys_and_nodes(house: House, installed: Path) -> None:
    ready(house)
    giving = Giving(house.store, house.desk, Noun.OVERCLOUD)
    giving.release("p", "cloud", giving.plan("p", "cloud").hash, "me", True)
    rounds(house, S.RELEASED)
    assert not list((installed.parent / "runs").iterdir())
    assert not house.rows(OvercloudStage)
    assert {claim.state for claim in house.rows(Claim)} == {ClaimState.RELEASED}
    assert cluster(house).sealed == b""


# --- used -----------------------------------------------------------------------------------------


def test_only_who_asked_can_read_clouds_yaml(house: House, installed: Path) -> None:
    mine, other = Envelope.new(), Envelope.new()
    up(house)
    row = overcloud_access.ask(house.store, "p", "cloud", "me", mine.public)
    overcloud_access.seal(house.reconciler.parts, row.id)
    with house.store.read() as session:
        told = overcloud_access.find(session, "p", "cloud", row.id)
    text = mine.open(told.sealed, overcloud_access.info(row.id))
    cloud = yaml.safe_load(text)["clouds"]["cloud"]
    assert cloud["auth"]["auth_url"] == f"https://{cluster(house).vip}:5000/v3"
    assert cloud["auth"]["password"]
    assert yaml.safe_load(text)["ca"].startswith("-----BEGIN CERTIFICATE-----")
    assert cloud["auth"]["password"].encode() not in told.sealed
    for key, use in ((other, overcloud_access.info(row.id)), (mine, "another")):
        with pytest.raises(ValueError, match="not sealed to this key"):
            key.open(told.sealed, use)
    with pytest.raises(Invalid, match="X25519"):
        overcloud_access.ask(house.store, "p", "cloud", "me", b"short")
    with pytest.raises(NotFound):
        overcloud_access.ask(house.store, "q", "cloud", "me", mine.public)


def test_a_check_is_the_installers_own_and_says_what_it_proves(
    house: House, installed: Path
) -> None:
    ready(house)
    row = ask_check(house.store, "p", "cloud", "me", Noun.OVERCLOUD)

    def over() -> bool:
        kube_check.step(house.reconciler.parts, row.id)
        (now,) = house.rows(ClusterCheck)
        return now.ended_at is not None

    until(over, 60, "checked")
    (told,) = house.rows(ClusterCheck)
    assert [(item["name"], item["state"]) for item in told.items] == [
        ("nodes", "ok"), ("server", "ok"),
    ]  # fmt: skip
    assert told.items[1]["sentence"] == "ACTIVE, at 10.77.0.5"
    assert ran(installed)[-1] == "check"
