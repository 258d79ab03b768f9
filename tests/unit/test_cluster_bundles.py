"""A cluster is made of a bundle: which one, what its nodes are told of it, and what is refused."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from provisioning import cluster_bundles, cluster_changes, memberships
from provisioning.bundle import BUNDLE, Bundle, BundleFile, hashed, read
from provisioning.cluster_rows import Cluster
from provisioning.cluster_secrets import Given
from provisioning.clusters import Clusters, facts_of, find, known
from provisioning.errors import Conflict, Invalid, NotFound, SeedError
from provisioning.kinds import ClusterFacts
from provisioning.models import now
from tests.fakes.bundles import by_hand, made, root
from tests.fakes.life import House
from tests.unit.test_cluster_changes import S, Site
from tests.unit.test_cluster_life import can_seal, cluster
from tests.unit.test_clusters import a_spec, house, nothing_is_there

__all__ = ["by_hand", "house", "made", "root"]
WIRE = "http://172.22.0.1"


def desk(house: House, root: Path) -> Clusters:
    return Clusters(house.store, house.desk, root)


def facts(house: House) -> ClusterFacts:
    with house.store.read() as session:
        return facts_of(session, find(session, "p", "web"), "https://172.22.0.1", WIRE)


def again_as(root: Path, bundle: Bundle, version: str) -> None:
    """The same files as another version."""
    shutil.copytree(root / bundle.name / bundle.version, root / bundle.name / version)
    write(root / bundle.name / version, bundle.model_copy(update={"version": version}))


def write(folder: Path, bundle: Bundle) -> None:
    (folder / BUNDLE).write_text(bundle.model_dump_json())


def without(folder: Path, name: str) -> None:
    """A bundle that is right, and has no such file."""
    bundle = read(folder)
    gone = next(file for file in bundle.files if name in file.path)
    (folder / gone.path).unlink()
    files = tuple(file for file in bundle.files if file is not gone)
    write(folder, bundle.model_copy(update={"files": files}))


def change(path: Path) -> None:
    """Another content of the same size."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


# --- what nodes are told --------------------------------------------------------------------------


def test_its_files_its_place_and_its_version_are_the_kinds(
    house: House, root: Path, made: Bundle
) -> None:
    desk(house, root).create(a_spec(bundle="kubeadm", version=""), "p", "me")
    told = facts(house)
    assert (told.bundle_url, told.version) == (f"{WIRE}/bundles/kubeadm/1.36.2", "1.36.2")
    assert {(file["path"], file["sha256"]) for file in told.options["files"]} == {
        (file.path, file.sha256) for file in made.files
    }
    assert known()["kubeadm"].faults(told) == []


def test_a_node_is_told_the_url_and_the_digests_in_its_one_time_parts(
    house: House, root: Path, made: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, make = list[memberships.Membership](), memberships.make

    def told(*args: Any) -> memberships.Membership | None:
        """What it makes of a claim: in the rows only a node can read it."""
        if found := make(*args):
            seen.append(found)
        return found

    monkeypatch.setattr(memberships, "make", told)
    can_seal(house)
    desk(house, root).create(a_spec(bundle="kubeadm:1.36.2"), "p", "me")
    for _ in range(8):
        house.see()
        house.reconciler._cluster(cluster(house).id)
        for claim in house.living():
            house.step(claim.id)
    kubelet = next(file for file in made.files if file.path == "files/kubelet")
    assert len(seen) == 5
    for one in seen:
        parts = {part.path: part.content.decode() for part in one.parts}
        listed = parts["/etc/seed/kubeadm/bundle.sha256"]
        assert f"{kubelet.sha256} {kubelet.path}\n" in listed
        steps = json.loads(parts["/etc/seed-member/member.json"])["steps"]
        (fetch,) = (step["argv"][-1] for step in steps if step["name"] == "bundle")
        assert f'{WIRE}/bundles/kubeadm/1.36.2"/$path"' in fetch


def test_what_was_changed_after_the_request_reaches_no_node(
    house: House, root: Path, made: Bundle
) -> None:
    desk(house, root).create(a_spec(bundle="kubeadm"), "p", "me")
    folder = root / "kubeadm" / "1.36.2"
    change(folder / "files/kubelet")
    other = read(folder).model_copy(
        update={
            "files": tuple(
                file.model_copy(update={"sha256": hashed(folder / file.path)})
                for file in made.files
            )
        }
    )
    write(folder, other)
    sha256 = {file["path"]: file["sha256"] for file in facts(house).options["files"]}
    assert sha256["files/kubelet"] != hashed(folder / "files/kubelet")


def test_without_a_bundle_nothing_is_told_of_one(house: House, root: Path, made: Bundle) -> None:
    desk(house, root).create(a_spec(), "p", "me")
    told = facts(house)
    assert (told.bundle_url, told.options) == ("", {})


# --- which one ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bundle", "version", "chosen"),
    [
        ("kubeadm", "", "1.36.10"),
        ("kubeadm", "1.36.9", "1.36.9"),
        ("kubeadm:1.36.2", "", "1.36.2"),
        ("kubeadm:1.36.2", "1.36.2", "1.36.2"),
    ],
)
def test_the_newest_is_taken_unless_a_version_is_named(
    house: House, root: Path, made: Bundle, bundle: str, version: str, chosen: str
) -> None:
    again_as(root, made, "1.36.9")
    again_as(root, made, "1.36.10")
    facts = desk(house, root).plan(a_spec(bundle=bundle, version=version), "p", "me")
    assert (facts.version, facts.bundle_url) == (chosen, f"/bundles/kubeadm/{chosen}")


def test_an_upgrade_takes_the_same_name_in_the_other_version(
    house: House, root: Path, made: Bundle
) -> None:
    again_as(root, made, "1.36.9")
    asked, _ = desk(house, root).create(a_spec(bundle="kubeadm:1.36.2"), "p", "me")
    chosen = cluster_bundles.choose_anew(root, asked, "1.36.9")
    assert chosen
    assert chosen.ref == "kubeadm:1.36.9"
    with pytest.raises(NotFound, match=r"no kubeadm of version 1\.37\.0, only of 1\.36\.2, 1\.36"):
        cluster_bundles.choose_anew(root, asked, "1.37.0")
    asked.bundle = {}
    assert cluster_bundles.choose_anew(root, asked, "1.37.0") is None


def test_who_comes_first_with_a_bundle_leads_until_it_joined(
    house: House, root: Path, made: Bundle
) -> None:
    """The cluster's objects are of that bundle: those of before have no manifests of it."""
    for version in ("1.36.9", "1.36.10", "1.36.11"):
        again_as(root, made, version)
    site = Site(house)
    site.desk = cluster_changes.Clusters(house.store, house.desk, root)
    site.desk.create(
        a_spec(bundle="kubeadm:1.36.2", control={"count": 1}, workers={"count": 1}), "p", "me"
    )
    assert leads(house) == ["web-control-0"]
    site.until(S.READY)
    assert leads(house) == []
    assert leading(site, version="1.36.9") == ["web-control-1"]
    assert [m.name for m in site.living() if m.leads] == ["web-control-1"]
    assert leading(site, image="newer") == [], "that bundle's are there"
    site.desk.scale("p", "web", "me", control=3)
    site.settled()
    assert leads(house) == []
    site.broken = {"web-control-5"}
    site.desk.upgrade("p", "web", "me", version="1.36.10")
    site.rounds(lambda: bool(site.cluster.problem))
    assert leads(house) == ["web-control-5"]
    site.desk.upgrade("p", "web", "me", version="1.36.11")
    site.rounds(lambda: leads(house) == ["web-control-6"])


def leads(house: House) -> list[str]:
    return [member.name for member in facts(house).members if member.leads]


def leading(site: Site, **wanted: str) -> list[str]:
    """Who did, while an upgrade went on."""
    site.desk.upgrade("p", "web", "me", **wanted)
    led: list[str] = []

    def is_done() -> bool:
        led.extend(leads(site.house))
        return site._is_settled()

    site.rounds(is_done)
    return list(dict.fromkeys(led))


def test_who_was_told_already_does_not_lead_in_the_place_of_one_who_goes(
    house: House, root: Path, made: Bundle
) -> None:
    """What each does is in its files: the others' were made without it."""
    site = Site(house)
    site.desk = cluster_changes.Clusters(house.store, house.desk, root)
    site.broken = {"web-control-0", "web-control-2"}
    site.desk.create(
        a_spec(bundle="kubeadm:1.36.2", control={"count": 3}, workers={"count": 1}), "p", "me"
    )
    site.rounds(lambda: bool(site.cluster.problem))
    assert leads(house) == ["web-control-0"]
    site.desk.replace("p", "web", "web-control-0", "me")
    assert leads(house) == ["web-control-3"]
    site.broken = {"web-control-0"}
    site.settled()
    assert [m.name for m in site.living() if m.leads] == ["web-control-3"]
    assert site.cluster.applied == made.digest


def test_without_a_bundle_the_first_leads_once(house: House) -> None:
    """Somebody put the manifests there by hand: nobody puts them on another."""
    site = Site(house)
    site.desk.create(a_spec(control={"count": 1}, workers={"count": 1}), "p", "me")
    assert leads(house) == ["web-control-0"]
    site.until(S.READY)
    site.desk.replace("p", "web", "web-control-0", "me")
    site.rounds(lambda: len(site.living("control")) == 2)
    assert leads(house) == []


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "error", "sentence"),
    [
        ({"bundle": "other"}, NotFound,
         r"^bundle: there is no bundle other, only: kubeadm:1\.36\.2"),
        ({"bundle": "kubeadm:1.35.0", "version": ""}, NotFound,
         r"^bundle: there is no kubeadm of version 1\.35\.0, only of 1\.36\.2"),
        ({"bundle": "kubeadm", "version": "1.35.1"}, NotFound,
         r"^bundle: there is no kubeadm of version 1\.35\.1, only of 1\.36\.2"),
        ({"bundle": "kubeadm:1.36.2", "version": "1.36.1"}, Invalid,
         r"^version: the bundle kubeadm:1\.36\.2 is of 1\.36\.2, not of 1\.36\.1"),
        ({"bundle": "kubeadm", "kind": "swarm"}, Invalid,
         r"^bundle: kubeadm:1\.36\.2 is for the kind kubeadm, not for swarm"),
        ({"bundle": "kubeadm", "options": {"files": []}}, Invalid, r"^options\.files: "),
        ({"options": {"files": []}}, Invalid, r"^options\.files: "),
    ],
)  # fmt: skip
def test_a_bundle_that_does_not_fit_is_refused_by_its_field(
    house: House, root: Path, made: Bundle, told: dict[str, Any], error: type[SeedError],
    sentence: str,
) -> None:  # fmt: skip
    for ask in (desk(house, root).create, desk(house, root).plan):
        with pytest.raises(error, match=sentence) as refused:
            ask(a_spec(**told), "p", "me")
        assert refused.value.remedy
    assert nothing_is_there(house)


KUBELET = "files/kubelet"
HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file is missing": (lambda f: (f / KUBELET).unlink(), r"files/kubelet is missing"),
    "a file was changed": (lambda f: change(f / KUBELET), r"files/kubelet was changed"),
    "a file was cut off": (lambda f: os.truncate(f / KUBELET, 9), r"files/kubelet has 9 bytes"),
    "a file is a link": (
        lambda f: ((f / KUBELET).unlink(), (f / KUBELET).symlink_to("kubeadm")),
        r"files/kubelet is no plain file",
    ),
    "a file is a stranger's": (
        lambda f: (f / "files/kubelet.new").touch(), r"kubelet\.new is not in bundle\.json",
    ),
    "nobody may read it": (lambda f: (f / KUBELET).chmod(0o600), r"files/kubelet has the mode"),
    "its list is gone": (lambda f: (f / BUNDLE).unlink(), r"bundle\.json cannot be read"),
    "its list is no list": (
        lambda f: (f / BUNDLE).write_text('{"format": 2}'), r"bundle\.json is not as it must be",
    ),
    "a digest is another": (
        lambda f: (f / BUNDLE).write_text((f / BUNDLE).read_text().replace(
            next(o.sha256 for o in read(f).files if o.path == KUBELET), "0" * 64)),
        r"files/kubelet was changed",
    ),
    "it is for other servers": (
        lambda f: write(f, read(f).model_copy(update={"architecture": "arm64"})),
        r"is for arm64, and the image debian for amd64",
    ),
    "it has no kubelet": (lambda f: without(f, "kubelet"), r"the bundle has no kubelet"),
    "it has no etcd": (
        lambda f: without(f, "etcd"), r"the bundle has no archive of the image etcd",
    ),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
def test_a_bundle_that_is_not_whole_is_refused_and_nothing_is_held(
    house: House, root: Path, made: Bundle, harm: str
) -> None:
    work, sentence = HARMS[harm]
    spec = a_spec(bundle="kubeadm")
    desk(house, root).plan(spec, "p", "me")  # all of it was read once, and is known
    work(root / "kubeadm" / "1.36.2")
    for ask in (desk(house, root).create, desk(house, root).plan):
        with pytest.raises(Invalid, match=rf"^bundle: .*{sentence}") as refused:
            ask(spec, "p", "me")
        assert refused.value.remedy
    assert nothing_is_there(house)


def test_without_a_folder_of_bundles_there_is_none(house: House) -> None:
    nowhere = Clusters(house.store, house.desk)
    with pytest.raises(NotFound, match=r"^bundle: there is no bundle kubeadm, only: none"):
        nowhere.create(a_spec(bundle="kubeadm"), "p", "me")


def test_the_same_again_asks_nothing_of_the_bundle(house: House, root: Path, made: Bundle) -> None:
    spec = a_spec(bundle="kubeadm")
    first, _ = desk(house, root).create(spec, "p", "me")
    shutil.rmtree(root)
    again, new = desk(house, root).create(spec, "p", "me")
    assert (again.id, new) == (first.id, False)


@pytest.mark.parametrize("harm", ["removed", "another"])
def test_a_bundle_that_goes_while_it_is_chosen_makes_no_cluster(
    house: House, root: Path, made: Bundle, harm: str
) -> None:
    spec, clusters = a_spec(bundle="kubeadm"), desk(house, root)
    chosen = clusters._bundle(spec)
    if harm == "removed":
        shutil.rmtree(root / "kubeadm")
    else:
        without(root / "kubeadm" / "1.36.2", "kubelet")
    with pytest.raises(Conflict, match="was changed at this moment"):
        with house.store.write() as session:
            clusters._write(session, spec, "p", "me", False, chosen, Given())
    assert nothing_is_there(house)


# --- who uses it ----------------------------------------------------------------------------------


def used(house: House, version: str = "1.36.2") -> str:
    with house.store.write() as session:
        return cluster_bundles.in_use(session, "kubeadm", version)


def test_living_clusters_use_the_version_that_they_were_made_of(
    house: House, root: Path, made: Bundle
) -> None:
    again_as(root, made, "1.36.9")
    assert used(house) == ""
    desk(house, root).create(a_spec(bundle="kubeadm", version="1.36.2"), "p", "me")
    assert used(house) == "it is what web of project p is made of"
    assert used(house, "1.36.9") == ""
    with house.store.write() as session:
        row = session.get_one(Cluster, cluster(house).id)
        row.ended_at = now()
        session.add(row)
    assert used(house) == ""


def test_a_database_from_before_clusters_has_none(house: House) -> None:
    with house.store.write() as session:
        for table in ("membervalue", "member", "cluster"):
            session.connection().execute(text(f"DROP TABLE {table}"))
    assert used(house) == ""


def test_the_row_keeps_no_more_than_kinds_read(made: Bundle) -> None:
    told = cluster_bundles.kept(made)
    assert json.loads(json.dumps(told)) == told
    assert told["digest"] == made.digest
    known = {*BundleFile.model_fields}
    assert {*told["files"][0]} == {"path", "role", "sha256", "source"} < known
