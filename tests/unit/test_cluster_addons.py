"""Add-ons of a cluster that is asked for: what Seed keeps for them, and gives back."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from pydantic import SecretStr
from sqlmodel import Session

from images.collecting import make_from
from images.needs import image_file
from provisioning import cluster_ranges, holders, memberships, migrations
from provisioning.addons.storage_local import VOLUMES
from provisioning.cluster_release import Giving
from provisioning.cluster_rows import Cluster, ClusterSecret
from provisioning.cluster_secrets import Given
from provisioning.clusters import Clusters, facts_of, find
from provisioning.errors import Conflict, Invalid, NotFound, SeedError
from provisioning.fabric import Network
from provisioning.hardware import Drive, Inventory
from provisioning.models import Address, Bmc, Claim, Event, Hold
from provisioning.ramdisk import inventory_of
from provisioning.secrets import Sealer
from provisioning.states import AddressKind, ClaimState, ClusterState
from tests.fakes.an_addon import OPTIONS, SECRETS
from tests.fakes.bundles import HOST, WANTED, as_layout, by_hand, put, root
from tests.fakes.fabric import a_network, a_subnet
from tests.fakes.life import House
from tests.unit.test_cluster_changes import Site
from tests.unit.test_cluster_life import can_seal, cluster, rounds
from tests.unit.test_clusters import a_spec, desk, house, nothing_is_there

__all__ = ["by_hand", "house", "root"]
KEY = SECRETS["ceph-key"]


def asked(*names: str, **options: Any) -> Any:
    """A spec with these add-ons, their names with "_" for "-"."""
    told = {name.replace("_", "-"): value for name, value in options.items()}
    return a_spec(addons=names, options={"addons": told})


def metallb(**options: Any) -> Any:
    return asked("metallb", metallb={"network": "storage", **options})


def kept(house: House) -> list[str]:
    return sorted(
        (row.address for row in house.rows(Address) if row.label.endswith("-metallb")),
        key=lambda text: int(text.rpartition(".")[2]),
    )


def given(house: House, **values: str) -> Given:
    """As the API would have it, which cannot read it back."""
    sealer = house.reconciler.parts.sealer
    assert isinstance(sealer, Sealer)
    told = {name.replace("_", "-"): SecretStr(value) for name, value in values.items()}
    return Given(sealer, told)


# --- addresses ------------------------------------------------------------------------------------


def test_addresses_are_kept_where_nobody_else_gets_any(house: House) -> None:
    """Of 10.40.0.0/24: the pool is .10 to .19, the gateway .1, and the VIP the first free one."""
    with house.store.write() as session:
        holders.reserve(session, "storage", "10.40.0.252", "a switch", "me")
        holders.vip(session, "storage", "mail", "10.40.0.250", "me")
    row, _ = desk(house).create(metallb(count=4), "p", "me")
    assert kept(house) == ["10.40.0.249", "10.40.0.251", "10.40.0.253", "10.40.0.254"]
    with house.store.read() as session:
        facts = facts_of(session, find(session, "p", "web"))
    assert facts.ranges == {
        "metallb": ("10.40.0.249-10.40.0.249", "10.40.0.251-10.40.0.251", "10.40.0.253-10.40.0.254")
    }
    assert row.vip not in kept(house)
    with house.store.write() as session, pytest.raises(Conflict):
        holders.reserve(session, "storage", "10.40.0.254", "mine", "me")
    with house.store.write() as session, pytest.raises(Conflict):
        holders.vip(session, "storage", "other", "10.40.0.254", "me")


def test_nobody_frees_them_while_the_cluster_lives(house: House) -> None:
    desk(house).create(metallb(count=1), "p", "me")
    with house.store.write() as session, pytest.raises(Conflict, match="services of a cluster"):
        holders.release(session, "storage", kept(house)[0], "me")
    assert len(kept(house)) == 1


def test_nobody_puts_a_pool_over_them(house: House) -> None:
    desk(house).create(metallb(range="10.40.0.100-10.40.0.103"), "p", "me")
    wide = a_network(subnets=[a_subnet(40, pools=["10.40.0.10-10.40.0.101"])])
    with house.store.write() as session, pytest.raises(Conflict, match=r"10\.40\.0\.100"):
        holders.sync_vips(session, wide, a_network(), "me")


def test_the_label_tells_a_stranger_nothing(house: House) -> None:
    desk(house).create(metallb(count=2), "p", "me")
    labels = {row.label for row in house.rows(Address) if row.address in kept(house)}
    assert all("web" not in label for label in labels)
    told = [event.message for event in house.rows(Event) if event.kind == "network.vip"]
    assert any("10.40.0.253-10.40.0.254" in message for message in told)


REFUSED: list[tuple[dict[str, Any], type[SeedError], str]] = [
    ({"network": "nowhere", "count": 4}, NotFound, "metallb.network: there is no network"),
    ({"network": "other", "count": 4}, Invalid, "metallb.network: workers with layout bonded are"),
    ({"count": 250}, Conflict, "metallb.count: network storage has 240 addresses left"),
    ({"range": "10.41.0.1-10.41.0.9"}, Invalid, "metallb.range: 10.41.0.1 is not within"),
    ({"range": "10.40.0.250-10.40.0.255"}, Invalid, "metallb.range: 10.40.0.255 is the broadcast"),
    ({"range": "10.40.0.0/30"}, Invalid, "metallb.range: 10.40.0.0 is the network's"),
    ({"range": "10.40.0.1-10.40.0.4"}, Invalid, "metallb.range: 10.40.0.1 is the gateway"),
    ({"range": "10.40.0.8-10.40.0.12"}, Invalid, "metallb.range: 10.40.0.10 is in the pool"),
    ({"range": "10.40.0.199-10.40.0.201"}, Conflict, "metallb.range: 10.40.0.200 is the VIP mail"),
    ({"range": "10.40.0.210"}, Conflict, "metallb.range: 10.40.0.210 is reserved"),
    ({"range": "10.40.0.0/16"}, Invalid, "metallb.range: 10.40.0.0-10.40.255.255 has 65536"),
    ({"count": 0}, Invalid, "options.addons.metallb.count: it is not as it must be"),
    ({}, Invalid, "options.addons.metallb: it is not as it must be: give count"),
]


def test_what_overlaps_is_refused_and_nothing_is_written(house: House) -> None:
    with house.store.write() as session:
        session.add(Network(name="other", document=a_network("other", 41).stored()))
        holders.vip(session, "storage", "mail", "10.40.0.200", "me")
        holders.reserve(session, "storage", "10.40.0.210", "a switch", "me")
    for options, error, says in REFUSED:
        with pytest.raises(error, match=re.escape(says)):
            desk(house).create(metallb(**options), "p", "me")
        given = {a.address for a in house.rows(Address) if a.kind is not AddressKind.BOOT}
        assert given == {"10.40.0.200", "10.40.0.210"}
    assert not house.rows(Cluster)
    assert not house.rows(Claim)


def test_a_plan_keeps_nothing(house: House) -> None:
    facts = desk(house).plan(metallb(count=3), "p", "me")
    assert facts.ranges == {"metallb": ("10.40.0.252-10.40.0.254",)}
    assert nothing_is_there(house)


def test_two_clusters_have_addresses_of_their_own_and_a_release_frees_one_s(house: House) -> None:
    small = {"control": {"count": 1}, "workers": {"count": 1}}
    options = {"addons": {"metallb": {"network": "storage", "count": 2}}}
    for project in ("p", "q"):
        spec = a_spec(addons=("metallb",), options=options, name=f"web-{project}", **small)
        desk(house).create(spec, project, "me")
    assert len(kept(house)) == 4
    with house.store.write() as session:
        cluster_ranges.release(session, find(session, "p", "web-p"), "seed")
    assert kept(house) == ["10.40.0.251", "10.40.0.252"]
    with house.store.write() as session:
        cluster_ranges.release(session, find(session, "p", "web-p"), "seed")
    assert len(kept(house)) == 2


# --- secrets --------------------------------------------------------------------------------------


@pytest.fixture
def sealing(house: House) -> House:
    can_seal(house)
    return house


def with_ceph(**more: Any) -> Any:
    return asked("ceph", ceph={**OPTIONS["ceph"], **more})


def test_a_secret_is_sealed_and_only_the_first_control_plane_has_it(sealing: House) -> None:
    house = sealing
    desk(house).create(with_ceph(), "p", "me", given=given(house, ceph_key=KEY))
    (row,) = house.rows(ClusterSecret)
    assert row.names == ["ceph-key"]
    stored = b"".join((row.sealed, row.digest, json.dumps(cluster(house).spec).encode()))
    assert KEY.encode() not in stored
    assert not [event for event in house.rows(Event) if KEY in event.message]
    house.reconciler._cluster(cluster(house).id)  # its own secrets
    found: dict[str, dict[str, Any]] = {}
    with house.store.write() as session:
        for claim in house.rows(Claim):
            made = _membership(house, session, claim)
            found[claim.name] = {part.path: part for part in made.parts}
    path = "/etc/seed/addons/ceph/secret.yaml"
    assert [name for name, parts in found.items() if path in parts] == ["web-control-0"]
    assert found["web-control-0"][path].mode == 0o600
    member = json.loads(found["web-control-0"]["/etc/seed-member/member.json"].content)
    assert path in member["secrets"], "no report may tell what is in it"


def _membership(house: House, session: Session, claim: Claim) -> Any:
    parts = house.reconciler.parts
    return memberships.make(
        session, claim, parts.unseal, parts.token, "https://172.22.0.1", "ca", "http://172.22.0.1"
    )


def test_the_same_secrets_are_the_same_wish_and_others_are_not(sealing: House) -> None:
    house = sealing
    first, _ = desk(house).create(with_ceph(), "p", "me", given=given(house, ceph_key=KEY))
    again, new = desk(house).create(with_ceph(), "p", "me", given=given(house, ceph_key=KEY))
    assert (again.id, new) == (first.id, False)
    for other in (given(house, ceph_key="another"), given(house, ceph_key=KEY, more="x"), Given()):
        with pytest.raises(Conflict, match="differs in secrets") as refused:
            desk(house).create(with_ceph(), "p", "me", given=other)
        assert KEY not in str(refused.value)


def test_a_secret_that_is_not_there_is_told_by_the_option_that_names_it(sealing: House) -> None:
    refused: list[tuple[dict[str, str], str]] = [
        ({}, "options.addons.ceph.key_secret: no secret named ceph-key"),
        ({"other": KEY}, "options.addons.ceph.key_secret"),
        ({"ceph_key": ""}, "secrets.ceph-key: it has 0 bytes"),
        ({"ceph_key": "x" * 40_000}, "secrets.ceph-key: it has 40000 bytes"),
    ]
    for values, says in refused:
        with pytest.raises(Invalid, match=re.escape(says)):
            desk(sealing).create(with_ceph(), "p", "me", given=given(sealing, **values))
    assert nothing_is_there(sealing)
    assert not sealing.rows(ClusterSecret)


def test_a_release_gives_addresses_back_and_forgets_secrets(sealing: House) -> None:
    house = sealing
    spec = asked("metallb", "ceph", metallb={"network": "storage", "count": 2},
                 ceph=OPTIONS["ceph"])  # fmt: skip
    desk(house).create(spec, "p", "me", given=given(house, ceph_key=KEY))
    rounds(house, ClusterState.BOOTSTRAPPING)
    assert len(kept(house)) == 2
    giving = Giving(house.store, house.desk)
    giving.release("p", "web", giving.plan("p", "web").hash, "me", True)
    rounds(house, ClusterState.RELEASED)
    assert {row.kind for row in house.rows(Address)} == {AddressKind.BOOT}
    assert not house.rows(ClusterSecret)


# --- bundles --------------------------------------------------------------------------------------

FLANNEL = f"""\
apiVersion: v1
kind: ConfigMap
metadata: {{name: kube-flannel-cfg, namespace: kube-flannel}}
data: {{net-conf.json: "image: none/of/these:1"}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: kube-flannel-ds, namespace: kube-flannel}}
spec:
  template:
    spec:
      initContainers: [{{name: install-cni-plugin, image: "{HOST}/flannel-cni-plugin:v1.8.0"}}]
      containers: [{{name: kube-flannel, image: {HOST}/flannel:v0.27.4}}]
"""


def test_an_image_that_the_bundles_manifest_names_and_the_bundle_lacks_is_told(
    house: House, by_hand: Path, root: Path
) -> None:
    put(by_hand, "manifests/flannel.yaml", FLANNEL.encode())
    clusters = Clusters(house.store, house.desk, root)
    spec = a_spec(addons=("flannel",), bundle="kubeadm", version="")
    for name in ("flannel:v0.27.4", "flannel-cni-plugin:v1.8.0"):
        shutil.rmtree(root, ignore_errors=True)
        make_from(WANTED, by_hand, root)
        lacks = f"bundle: it has no archive of the image {HOST}/{name} ("
        with pytest.raises(Invalid, match=re.escape(lacks)):
            clusters.create(spec, "p", "me")
        assert nothing_is_there(house)
        put(by_hand, f"images/{image_file(name)}", as_layout(f"{HOST}/{name}"))
    shutil.rmtree(root)
    make_from(WANTED, by_hand, root)
    clusters.create(spec, "p", "me")


# --- what is known of the servers -----------------------------------------------------------------


def seen(house: House, **facts: Any) -> None:
    """Each server as its ramdisk told it, with two disks and more."""
    with house.store.write() as session:
        for bmc in house.rows(Bmc):
            number = int(bmc.address.rpartition(".")[2])
            drives = tuple(
                Drive(serial=f"{role}{number}", size_bytes=gib * 2**30, name=name,
                      wwn=f"0x5000c5{number:03}{gib:03}")
                for role, gib, name in (("root", 100, "/dev/sda"), ("data", 900, "/dev/sdb"))
            )  # fmt: skip
            told = Inventory.model_validate(bmc.ramdisk)
            told = told.model_copy(update={"drives": drives, **facts})
            bmc.ramdisk = told.model_dump(mode="json")
            session.add(bmc)


def test_disks_that_the_claims_asked_for_are_volumes(house: House) -> None:
    seen(house)
    disks = [{"role": "data", "size": ">= 800"}]
    spec = a_spec(
        addons=("storage-local",), options={"addons": {"storage-local": {"role": "data"}}},
        workers={"count": 2, "layout": "bonded", "disks": disks},
    )  # fmt: skip
    desk(house).create(spec, "p", "me")
    with house.store.read() as session:
        facts = facts_of(session, find(session, "p", "web"))
    found = {m.name: [(d.role, d.wwn[-3:], d.size) for d in m.disks] for m in facts.members}
    assert found["web-worker-0"] == [("data", "900", 900 * 2**30)]
    assert found["web-control-0"] == []
    assert len({m.disks[0].wwn for m in facts.members if m.disks}) == 2


def test_who_comes_later_has_its_volumes_too_and_what_people_took_away_stays_so(
    house: House,
) -> None:
    site = stored(house, 2)
    first, second = sorted(volumes(site))
    assert (first[:13], second[:13]) == ("web-worker-0-", "web-worker-1-")
    assert site.house.kube
    del site.house.kube.objects[f"{VOLUMES}/{first}"]
    site.house.kube.objects[f"{VOLUMES}/{second}"]["metadata"]["labels"] = {"mine": "yes"}
    site.house.kube.asked.clear()
    site.desk.scale("p", "web", "me", workers=3)
    site.settled()
    (third,) = set(volumes(site)) - {second}
    assert third.startswith("web-worker-2-")
    assert volumes(site)[second]["metadata"]["labels"] == {"mine": "yes"}
    asked = [line for line in site.house.kube.asked if VOLUMES in line]
    assert asked == [f"GET {VOLUMES}/{third}", f"PATCH {VOLUMES}/{third}"], "once"
    assert all(m.furnished for m in site.living())


def stored(house: House, workers: int) -> Site:
    """A control plane and so many workers with a data disk each."""
    seen(house)
    site = Site(house)
    disks = [{"role": "data", "size": ">= 800"}]
    spec = a_spec(
        addons=("storage-local",), options={"addons": {"storage-local": {"role": "data"}}},
        control={"count": 1}, workers={"count": workers, "layout": "bonded", "disks": disks},
    )  # fmt: skip
    site.desk.create(spec, "p", "me")
    return site.until(ClusterState.READY)


def test_who_joins_in_an_upgrade_has_volumes_at_once_and_a_token_that_is_good(house: House) -> None:
    site = stored(house, 2)
    assert site.house.kube
    tokens = [path for path in site.house.kube.objects if "bootstrap-token-" in path]
    for path in tokens:
        del site.house.kube.objects[path]  # a day later
    site.desk.upgrade("p", "web", "me", image="newer")
    came: set[str] = set()

    def is_there() -> bool:
        there = site.house.kube.objects if site.house.kube else {}
        came.update(path for path in there if "bootstrap-token-" in path)
        return any(m.name == "web-worker-2" and m.furnished for m in site.living())

    site.rounds(is_there)
    assert site.cluster.state is ClusterState.UPGRADING, "the next one goes only then"
    assert [name for name in volumes(site) if name.startswith("web-worker-2-")]
    assert came


def test_volumes_that_cannot_be_made_hide_nothing_else(house: House) -> None:
    site = stored(house, 1)
    kube = site.house.kube
    assert kube
    kube.policy = VOLUMES
    site.desk.scale("p", "web", "me", workers=2)
    site.rounds(lambda: "web-worker-1: its volumes are not made" in site.cluster.detail)
    assert "a policy of this cluster denies it" in site.cluster.detail
    site.house.unready["web-worker-0"] = "KubeletNotReady: it is broken"
    site.rounds(lambda: "it is broken" in site.cluster.detail)
    del site.house.unready["web-worker-0"]
    kube.policy = ""
    site.settled()
    assert site.member("web-worker-1").furnished


def test_no_volumes_are_made_while_its_disks_are_not_those_that_it_was_given(house: House) -> None:
    site = stored(house, 1)
    site.desk.scale("p", "web", "me", workers=2)
    site.rounds(lambda: site.claim("web-worker-1").state is ClaimState.ACTIVE)
    node = next(h for h in house.rows(Hold) if h.claim_id == site.claim("web-worker-1").id)
    before = without_disks(house, node.node_uuid, None)
    site.rounds(lambda: "its data disks are not those" in site.cluster.detail)
    assert not site.member("web-worker-1").furnished
    without_disks(house, node.node_uuid, before)
    site.settled()
    assert len(volumes(site)) == 2


def without_disks(house: House, node: Any, ramdisk: Any) -> Any:
    """None: its ramdisk saw no drive any more. Answers what it told before."""
    with house.store.write() as session:
        bmc = next(b for b in house.rows(Bmc) if b.node_uuid == node)
        before, told = bmc.ramdisk, {**bmc.ramdisk, "drives": []}
        bmc.ramdisk = told if ramdisk is None else ramdisk
        session.add(bmc)
    return before


def test_an_older_clusters_members_are_left_as_they_are(house: House) -> None:
    site = stored(house, 1)
    with house.store.engine.execution_options(seed_write=True).begin() as connection:
        command.downgrade(migrations.config(connection), "0005")
    house.store.create()
    assert all(member.furnished for member in site.living())
    assert site.cluster.applied == "none"


def volumes(site: Site) -> dict[str, Any]:
    assert site.house.kube
    there = site.house.kube.objects.items()
    return {path.rpartition("/")[2]: one for path, one in there if path.startswith(VOLUMES)}


def test_no_data_disk_is_refused_before_any_disk_is_touched(house: House) -> None:
    with pytest.raises(Invalid, match=r"options\.addons\.storage-local\.role: no node has"):
        desk(house).create(asked("storage-local"), "p", "me")
    assert nothing_is_there(house)


@pytest.mark.parametrize(
    ("flags", "told"), [(["fpu", "vmx"], "vmx"), (["svm"], "svm"), (["fpu"], "no"), ([], ""),
                        ("vmx", ""), (None, "")]
)  # fmt: skip
def test_the_ramdisk_tells_whether_a_cpu_can(flags: Any, told: str) -> None:
    document = {"inventory": {"cpu": {"architecture": "x86_64", "flags": flags}}}
    assert inventory_of(document).virtualization == told
    document["inventory"]["cpu"]["architecture"] = "aarch64"
    assert inventory_of(document).virtualization == ""


def test_kata_is_refused_where_a_cpu_is_known_not_to_run_machines(house: House) -> None:
    seen(house, virtualization="no")
    with pytest.raises(Invalid, match="addons: kata: the CPU of web-worker-0 cannot run"):
        desk(house).create(asked("kata"), "p", "me")
    assert nothing_is_there(house)
    for told in ("", "vmx"):
        seen(house, virtualization=told)
        assert desk(house).plan(asked("kata"), "p", "me")


def test_a_swarm_has_no_add_ons(house: House) -> None:
    with pytest.raises(Invalid, match="addons: the kind swarm has no add-ons"):
        desk(house).create(a_spec(kind="swarm", version="", addons=("kata",)), "p", "me")
    assert nothing_is_there(house)
