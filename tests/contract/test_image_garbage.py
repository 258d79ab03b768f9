"""What goes from the shelf, and what never does: two threads on one SQLite decide it, too."""

import json
import os
import shutil
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from images import catalog, garbage
from provisioning import image as images
from provisioning import standing
from provisioning.cluster_rows import Cluster
from provisioning.errors import Conflict, NotFound, SeedError
from provisioning.models import Claim, Event, now
from provisioning.shelf import ImageStanding, Intake
from provisioning.states import ClaimState, ImageState
from provisioning.store import Store
from seed.host import users
from tests.fakes.store import new_store
from tests.fakes.two_projects import IMAGE


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return new_store(tmp_path)


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


def put(shelf: Path, *versions: str, name: str = "debian") -> None:
    """In this order: each later one is newer, and in use."""
    for number, version in enumerate(versions):
        folder = shelf / name / version
        folder.mkdir(parents=True)
        (folder / "d").write_bytes(b"x")
        told = IMAGE | {"name": name, "version": version}
        (folder / "manifest.json").write_text(json.dumps(told))
        at = time.time() - 1000 + number
        os.utime(folder / "manifest.json", (at, at))
        catalog.switch(folder)


def said(store: Store, shelf: Path, ref: str, state: ImageState) -> None:
    with store.write() as session:
        standing.set_state(session, images.find(shelf, ref), state, "a reason", "me")


def claimed(store: Store, image: str, version: str, name: str = "web") -> None:
    with store.write() as session:
        session.add(Claim(name=name, image=image, image_version=version))


def there(shelf: Path, name: str = "debian") -> list[str]:
    return sorted(image.version for image in images.versions(shelf, name))


def current(shelf: Path) -> str:
    return images.find(shelf, "debian").version


def test_old_versions_go_beyond_the_kept_number(store: Store, shelf: Path) -> None:
    put(shelf, "1", "2", "3", "4", "5")
    gone = garbage.collect(store, shelf, 3)

    assert sorted(image.version for image in gone) == ["1", "2"]
    assert (there(shelf), current(shelf)) == (["3", "4", "5"], "5")
    assert sorted(path.name for path in shelf.iterdir()) == ["debian"]
    with store.read() as session:
        events = session.exec(select(Event).where(Event.kind == "image.removed")).all()
    assert {event.subject for event in events} == {"debian:1", "debian:2"}
    assert garbage.collect(store, shelf, 3) == []


@pytest.mark.parametrize(
    ("image", "version"), [("debian", "1"), ("debian:1", "1"), ("debian", "")],
    ids=["by name", "by name and version", "from before versions were kept"],
)  # fmt: skip
def test_what_a_living_claim_has_stays(store: Store, shelf: Path, image: str, version: str) -> None:
    put(shelf, "1", "2", "3")
    claimed(store, image, version)
    garbage.collect(store, shelf, 1)
    assert "1" in there(shelf)

    with store.write() as session:
        claim = session.exec(select(Claim)).one()
        claim.ended_at, claim.state = now(), ClaimState.RELEASED
        session.add(claim)
    garbage.collect(store, shelf, 1)
    assert there(shelf) == ["3"]


@pytest.mark.parametrize("where", ["image", "control", "workers"])
def test_what_a_living_cluster_names_stays_though_no_node_has_it(
    store: Store, shelf: Path, where: str
) -> None:
    put(shelf, "1", "2", "3")
    spec: dict[str, Any] = {"image": "debian", "control": {}, "workers": {}}
    spec |= {where: "debian:1" if where == "image" else {"image": "debian:1"}}
    with store.write() as session:
        session.add(Cluster(name="web", spec=spec, network="n", vip="10.40.0.9"))
    garbage.collect(store, shelf, 1)
    assert there(shelf) == ["1", "3"]

    with store.write() as session:
        session.exec(select(Cluster)).one().ended_at = now()
    garbage.collect(store, shelf, 1)
    assert there(shelf) == ["3"]


def test_a_withdrawn_version_goes_once_no_claim_has_it(store: Store, shelf: Path) -> None:
    put(shelf, "1", "2")
    claimed(store, "debian", "2")
    said(store, shelf, "debian:2", ImageState.WITHDRAWN)
    garbage.collect(store, shelf, 3)
    assert (there(shelf), current(shelf)) == (["1", "2"], "1"), "its name means another one"
    with store.read() as session:
        claim = session.exec(select(Claim)).one()
        why = standing.usable(session, claim)
        with pytest.raises(Conflict, match="withdrawn: a reason"):
            standing.resolve(session, shelf, "debian:2", True)
    assert why == "version 2 of the image debian is withdrawn: a reason"

    with store.write() as session:
        session.delete(session.exec(select(Claim)).one())
    garbage.collect(store, shelf, 3)
    assert there(shelf) == ["1"]
    with store.read() as session:
        (row,) = session.exec(select(ImageStanding)).all()
    assert (row.version, row.state) == ("2", ImageState.WITHDRAWN), (
        "it stays so when it comes again"
    )


def test_a_withdrawn_version_that_comes_again_is_withdrawn(store: Store, shelf: Path) -> None:
    put(shelf, "1", "2")
    said(store, shelf, "debian:2", ImageState.WITHDRAWN)
    garbage.collect(store, shelf, 3)
    with store.write() as session:
        row = session.get_one(ImageStanding, ("debian", "2"))
        row.set_at -= timedelta(hours=1)
        session.add(row)
    garbage.collect(store, shelf, 3)
    put(shelf, "2")
    with store.read() as session:
        assert standing.of(session, "debian", "2") is ImageState.WITHDRAWN
        assert standing.resolve(session, shelf, "debian", False).version == "1"
    with pytest.raises(Conflict, match="for good"):
        said(store, shelf, "debian:2", ImageState.PUBLISHED)
    garbage.collect(store, shelf, 3)
    assert (there(shelf), current(shelf)) == (["1"], "1")


def test_a_ramdisk_in_use_stays_until_there_is_another(store: Store, shelf: Path) -> None:
    def put_ramdisk(version: str) -> None:
        put(shelf, version, name="ramdisk")
        path = shelf / "ramdisk" / version / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": "ramdisk"}))

    put_ramdisk("1")
    said(store, shelf, "ramdisk:1", ImageState.WITHDRAWN)
    garbage.collect(store, shelf, 3)
    assert there(shelf, "ramdisk") == ["1"]
    put_ramdisk("2")
    garbage.collect(store, shelf, 3)
    assert there(shelf, "ramdisk") == ["2"]


def test_the_last_version_leaves_no_link_behind(store: Store, shelf: Path) -> None:
    put(shelf, "1")
    said(store, shelf, "debian:1", ImageState.WITHDRAWN)
    garbage.collect(store, shelf, 3)
    garbage.collect(store, shelf, 3)
    assert list(shelf.iterdir()) == []


def test_the_version_in_use_stays_however_old(store: Store, shelf: Path) -> None:
    """Somebody went back to it."""
    put(shelf, "1", "2", "3")
    catalog.switch(shelf / "debian" / "1")
    garbage.collect(store, shelf, 1)
    assert there(shelf) == ["1", "3"]
    with store.read() as session:
        assert standing.resolve(session, shelf, "debian", False).version == "1"


def test_drafts_and_deprecated_ones_wait_for_a_person(store: Store, shelf: Path) -> None:
    put(shelf, "1", "2", "3")
    said(store, shelf, "debian:1", ImageState.DEPRECATED)
    said(store, shelf, "debian:2", ImageState.DRAFT)
    garbage.collect(store, shelf, 1)
    assert there(shelf) == ["1", "2", "3"]
    with store.read() as session:
        assert standing.resolve(session, shelf, "debian:1", False).version == "1"


def test_a_claim_and_the_collector_never_miss_each_other(store: Store, shelf: Path) -> None:
    """Each claim is made in the transaction that resolved its image: what it got, it keeps."""
    rounds, made = 40, list[str]()
    put(shelf, *(f"v{number}" for number in range(rounds)))
    stop = threading.Event()

    def claims() -> None:
        for number in range(rounds):
            try:
                with store.write() as session:
                    image = standing.resolve(session, shelf, f"debian:v{number}", False)
                    session.add(
                        Claim(name=f"c{number}", image="debian", image_version=image.version)
                    )
                made.append(image.version)
            except (NotFound, Conflict):
                pass  # it was gone already, and nobody was promised it
        stop.set()

    def collects() -> None:
        kept = rounds
        while not stop.is_set():
            kept = max(1, kept - 1)
            garbage.collect(store, shelf, kept)

    threads = [threading.Thread(target=work) for work in (claims, collects)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    garbage.collect(store, shelf, 1)
    assert made, "no claim was fast enough: the test shows nothing"
    assert set(made) <= set(there(shelf))
    assert set(there(shelf)) == {*made, f"v{rounds - 1}"}


def test_leftovers_of_the_killed_go(store: Store, shelf: Path, tmp_path: Path) -> None:
    put(shelf, "1")
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    with store.write() as session:
        living, dead = Intake(name="a", kind="upload"), Intake(name="b", kind="url", ended_at=now())
        session.add_all([living, dead])
        session.flush()
    for identity in (living.id, dead.id, "nobody"):
        (incoming / str(identity)).write_bytes(b"x")
        (shelf / garbage.WORK / str(identity)).mkdir(parents=True)
    for name, age in ((".new-old", 2 * garbage.LEFT_SECONDS), (".new-young", 0)):
        (shelf / "debian" / name).mkdir()
        os.utime(shelf / "debian" / name, (time.time() - age,) * 2)
    (shelf / f"{garbage.GONE}debian-0").mkdir()

    garbage.orphans(store, incoming, shelf / garbage.WORK)
    garbage.collect(store, shelf, 3)

    assert [path.name for path in incoming.iterdir()] == [str(living.id)]
    assert [path.name for path in (shelf / garbage.WORK).iterdir()] == [str(living.id)]
    assert sorted(p.name for p in (shelf / "debian").iterdir()) == [".new-young", "1", "current"]
    assert not (shelf / f"{garbage.GONE}debian-0").exists()


def test_a_folder_that_goes_while_it_is_looked_at_is_not_there(
    store: Store, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = os.scandir

    def late(path: Any) -> Any:
        if Path(str(path)) == shelf / "aaa":
            shutil.rmtree(path, ignore_errors=True)
        return look(path)

    put(shelf, "1")
    monkeypatch.setattr(os, "scandir", late)
    for work in (
        lambda: images.names(shelf) == ["debian"],
        lambda: images.versions(shelf, "aaa") == [],
        lambda: garbage.sweep(shelf) is None,
        lambda: garbage.orphans(store, shelf / "aaa") is None,
    ):
        put(shelf, "1", name="aaa")
        assert work()
        shutil.rmtree(shelf / "aaa", ignore_errors=True)


def test_a_damaged_manifest_keeps_its_neighbours(store: Store, shelf: Path) -> None:
    put(shelf, "1", "2", name="aaa")
    (shelf / "aaa" / "1" / "manifest.json").write_text("{}")
    put(shelf, "1", "2")
    garbage.collect(store, shelf, 1)
    assert there(shelf) == ["2"]
    with pytest.raises(SeedError):
        there(shelf, "aaa")


def test_what_root_publishes_belongs_to_who_collects_it(shelf: Path, tmp_path: Path) -> None:
    from tests.fakes.disks import a_raw_disk, sha256

    os.chown(shelf, 65534, 65534)
    (tmp_path / "own.img").write_bytes(a_raw_disk())
    image = catalog.publish_file(tmp_path / "own.img", "own", sha256(a_raw_disk()), shelf)
    for path in (shelf / "own", shelf / "own" / image.version, shelf / "own" / "current"):
        assert path.lstat().st_uid == 65534, path


def test_what_root_published_before_is_given_with_its_links_and_nothing_beyond(
    shelf: Path, tmp_path: Path
) -> None:
    put(shelf, "1")
    outside = tmp_path / "outside"
    (outside / "inner").mkdir(parents=True)
    (shelf / "debian" / "evil").symlink_to(outside)
    (shelf / "evil").symlink_to(outside)
    users.give_images(shelf, 65534, 65534)
    given = (shelf / "debian", shelf / "debian" / "1", shelf / "debian" / "current")
    assert {path.lstat().st_uid for path in given} == {65534}
    kept = (shelf / "debian" / "1" / "d", outside, outside / "inner")
    assert {path.lstat().st_uid for path in kept} == {0}
