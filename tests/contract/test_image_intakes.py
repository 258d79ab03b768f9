"""Disk images come in: fetched, uploaded, cut off, killed, and refused for what they are."""

import errno
import gzip
import multiprocessing
import os
import sqlite3
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlmodel import Session, select

from images import diskfile, garbage, intakes, receiving, web
from images.intakes import Intakes
from images.receiving import Receiver
from images.web import Web
from provisioning import image as images
from provisioning import standing
from provisioning import store as stores
from provisioning.errors import NotFound
from provisioning.hook_delivery import surroundings
from provisioning.models import Event
from provisioning.shelf import Intake
from provisioning.states import ImageState, IntakeState
from provisioning.store import Store
from tests.fakes.appliance import until
from tests.fakes.depot import Depot, Reply, a_depot, redirect, reply
from tests.fakes.disks import a_qcow2, a_raw_disk, sha256
from tests.fakes.store import new_store

DISK = a_raw_disk()
GOOD = sha256(DISK)


@dataclass
class Site:
    """One seed-images with folders of its own."""

    folder: Path
    store: Store
    allowed: tuple[str, ...] = ()
    most: int = 64 << 20
    logins: dict[str, tuple[str, str]] = field(default_factory=dict)
    trust: Callable[[], ssl.SSLContext] = ssl.create_default_context

    @property
    def image_dir(self) -> Path:
        return self.folder / "images"

    def service(self) -> Intakes:
        found = Web(self.allowed, lambda _: False, self.trust, lambda *_: [ip_address("127.0.0.1")])
        return Intakes(
            self.store, self.image_dir, self.folder / "incoming", found, self.logins.get, self.most
        )

    def ask(self, source: str = "", sha: str = GOOD, **more: Any) -> UUID:
        kind = "oci" if source.startswith("oci:") else "url" if source else "upload"
        row = Intake(
            name="fedora", kind=kind, source=source, sha256=sha, asked_by="me",
            state=IntakeState.WAITING, **more,
        )  # fmt: skip
        with self.store.write() as session:
            session.add(row)
        return row.id

    def upload(self, content: bytes, sha: str = "") -> UUID:
        identity = self.ask(sha=sha or sha256(content))
        (self.folder / "incoming" / str(identity)).write_bytes(content)
        return identity

    def row(self, identity: UUID) -> Intake:
        with self.store.read() as session:
            return session.get_one(Intake, identity)

    def done(self, identity: UUID) -> Intake:
        self.service().once()
        row = self.row(identity)
        assert row.state is IntakeState.DONE, row.problem
        return row

    def left(self) -> list[Path]:
        """All among the images, but the empty folder where intakes do their work."""
        return [path for path in self.image_dir.rglob("*") if path != self.image_dir / garbage.WORK]

    def refused(self, identity: UUID) -> str:
        """The sentence; nothing of it stays, neither in a folder nor as a half row."""
        self.service().once()
        row = self.row(identity)
        assert row.state is IntakeState.REFUSED
        assert row.remedy
        assert row.ended_at
        assert row.version == ""
        assert self.left() == []
        assert list((self.folder / "incoming").iterdir()) == []
        return row.problem

    def waits(self, identity: UUID) -> str:
        """The sentence; it is no image's fault, so the intake stays."""
        self.service().once()
        row = self.row(identity)
        assert row.state in (IntakeState.WAITING, IntakeState.FETCHING, IntakeState.CHECKING)
        assert row.ended_at is None
        return row.problem


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(receiving, "PAUSE_SECONDS", 0.01)
    for name in ("images", "incoming"):
        (tmp_path / name).mkdir()
    return Site(tmp_path, new_store(tmp_path))


@pytest.fixture
def depot(site: Site) -> Iterator[Depot]:
    with a_depot(site.folder) as depot:
        depot.files["/disk.img"] = DISK
        site.allowed = (depot.authority,)
        yield depot


# --- what comes in --------------------------------------------------------------------------------


def test_a_disk_is_fetched_and_published(site: Site, depot: Depot) -> None:
    row = site.done(site.ask(depot.url("/disk.img?key=a/b"), ssh_user="fedora"))

    image = images.find(site.image_dir, "fedora")
    assert (image.version, image.format, image.ssh_user) == (row.version, "raw", "fedora")
    assert image.source == depot.url("/disk.img"), "a key is not told on"
    assert image.path(site.image_dir, "disk").read_bytes() == DISK
    assert (row.bytes_done, row.bytes_total) == (len(DISK), len(DISK))
    with site.store.read() as session:
        (event,) = session.exec(select(Event).where(Event.kind == "image.published")).all()
        assert standing.of(session, "fedora", row.version) is ImageState.PUBLISHED
    assert (event.who, event.data["sha256"]) == ("me", GOOD)
    folder = site.image_dir / "fedora" / row.version
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_an_upload_is_copied_checked_and_published(site: Site, tmp_path: Path) -> None:
    content = a_qcow2(tmp_path / "own.qcow2").read_bytes()
    row = site.done(site.upload(content))

    image = images.find(site.image_dir, f"fedora:{row.version}")
    assert (image.format, image.virtual_size) == ("qcow2", 5 << 20)
    assert image.path(site.image_dir, "disk").read_bytes() == content
    assert list((site.folder / "incoming").iterdir()) == []


def test_a_draft_is_nobodys_until_it_is_published(site: Site, depot: Depot) -> None:
    row = site.done(site.ask(depot.url(), draft=True))
    ref = f"fedora:{row.version}"
    with site.store.read() as session:
        assert standing.of(session, "fedora", row.version) is ImageState.DRAFT
        for asked, operator in (("fedora", True), ("fedora", False), (ref, False)):
            with pytest.raises(NotFound):
                standing.resolve(session, site.image_dir, asked, operator)
        assert standing.resolve(session, site.image_dir, ref, True).version == row.version
    with site.store.write() as session:
        image = images.find(site.image_dir, ref)
        standing.set_state(session, image, ImageState.PUBLISHED, "tried", "me")
    with site.store.read() as session:
        assert standing.resolve(session, site.image_dir, "fedora", False).version == row.version


# --- connections that break -----------------------------------------------------------------------


def test_a_cut_connection_is_gone_on_with(site: Site, depot: Depot) -> None:
    depot.cuts = 2
    site.done(site.ask(depot.url()))

    assert [asked.headers.get("range") for asked in depot.asked] == [
        None, "bytes=100000-", "bytes=200000-",
    ]  # fmt: skip
    assert {asked.headers.get("if-range") for asked in depot.asked[1:]} == {'"one"'}


def test_a_file_that_became_another_one_is_begun_anew(site: Site, depot: Depot) -> None:
    """Cut off, and the next answer has another ETag: what came before is thrown away."""
    other, before = a_raw_disk(mark=b"other"), depot.files["/disk.img"]

    def second(there: Depot, handler: Any, asked: Any) -> None:
        if len(there.asked) > 1:
            there.etag = '"two"'
            there.files["/x"] = other
        there.send(handler, asked, other if len(there.asked) > 1 else before)

    depot.cuts, depot.replies["/disk.img"] = 1, second
    row = site.done(site.ask(depot.url(), sha256(other)))
    assert images.find(site.image_dir, "fedora").version == row.version


def test_a_server_that_never_ends_is_given_up(site: Site, depot: Depot) -> None:
    depot.cuts, depot.cut_at = 100, 0
    told = site.refused(site.ask(depot.url()))
    assert told.startswith(f"given up after {receiving.TRIES} tries, with 0 bytes received: ")
    assert len(depot.asked) == receiving.TRIES


def _killed_at(folder: Path, identity: UUID, allowed: tuple[str, ...], where: str) -> None:
    """In a process of its own: dies as by SIGKILL when it comes to `where`."""
    site = Site(folder, Store(f"sqlite:///{folder}/seed.db"), allowed)

    def die(*_: object, **__: object) -> None:
        os._exit(9)

    if where == "receiving":
        was, count = receiving.Part.append, [0]

        def append(part: Any, chunk: bytes) -> None:
            was(part, chunk)
            part._file.flush()
            count[0] += 1
            if count[0] == 3:
                die()

        receiving.Part.append = append  # type: ignore[method-assign]
        receiving.CHUNK = 65536
    else:
        from images import catalog, diskfile

        setattr(catalog if hasattr(catalog, where) and where != "verify" else diskfile, where, die)
    site.service().once()


@pytest.mark.parametrize("where", ["receiving", "verify", "describe", "shelve", "switch"])
def test_an_intake_whose_process_is_killed_goes_on(site: Site, depot: Depot, where: str) -> None:
    identity = site.ask(depot.url())
    fork = multiprocessing.get_context("spawn")
    process = fork.Process(target=_killed_at, args=(site.folder, identity, site.allowed, where))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert site.row(identity).ended_at is None

    row = site.done(identity)

    image = images.find(site.image_dir, "fedora")
    assert image.version == row.version
    assert image.path(site.image_dir, "disk").read_bytes() == DISK
    assert sorted(path.name for path in site.image_dir.iterdir()) == [garbage.WORK, "fedora"]
    if where == "receiving":
        assert depot.asked[1].headers["range"].startswith("bytes=")
        assert depot.asked[1].headers["range"] != "bytes=0-"
    else:
        assert len(depot.asked) == 1, "what was whole is not fetched again"


def test_a_cancelled_intake_stops_at_once(site: Site, depot: Depot) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(there: Depot, handler: Any, asked: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(DISK[:1000])
        begun.set()
        go_on.wait(20)

    depot.replies["/disk.img"] = slowly
    identity = site.ask(depot.url())
    service = site.service()
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        assert begun.wait(20)
        with site.store.write() as session:
            row = session.get_one(Intake, identity)
            row.state, row.ended_at = IntakeState.REFUSED, row.asked_at
            row.problem = "cancelled by me"
            session.add(row)
        go_on.set()
        until(lambda: not service._busy, 20, "the intake's end")
        service.tidy()
    finally:
        go_on.set()
        service.stopping.set()
        thread.join(20)
    assert site.row(identity).problem == "cancelled by me"
    assert site.left() == []


def test_what_is_cancelled_while_it_is_checked_is_never_published(
    site: Site, depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity, look = site.ask(depot.url()), diskfile.verify

    def cancelled_meanwhile(*told: Any) -> Any:
        found = look(*told)
        with site.store.write() as session:
            row = session.get_one(Intake, identity)
            row.state, row.ended_at = IntakeState.REFUSED, row.asked_at
            session.add(row)
        return found

    monkeypatch.setattr(diskfile, "verify", cancelled_meanwhile)
    service = site.service()
    service.once()
    service.tidy()
    assert site.row(identity).version == ""
    assert site.left() == []


def by_bytes(over: threading.Event, before: bytes = b"") -> Reply:
    """A byte at a time, never done; `before` at once."""

    def answer(_: Depot, handler: Any, __: Any) -> None:
        handler.wfile.write(before)
        while not over.wait(0.05):
            handler.wfile.write(b"x")

    return answer


HEAD = b'HTTP/1.1 200 OK\r\netag: "one"\r\n'


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Once set, slow servers end."""
    over = threading.Event()
    yield over
    over.set()


@pytest.mark.parametrize("before", [HEAD + b"\r\n", HEAD], ids=["in the file", "in a header"])
def test_a_server_that_stalls_is_given_up_with_that_reason(
    site: Site, depot: Depot, over: threading.Event, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    monkeypatch.setattr(receiving, "STALL_SECONDS", 0.5)
    monkeypatch.setattr(receiving, "TRIES", 2)
    depot.replies["/disk.img"] = by_bytes(over, before)
    told = site.refused(identity := site.ask(depot.url()))
    assert told.startswith("given up after 2 tries, with ")
    assert "it stalled: less than 1 MiB came in 0 s" in told
    assert "seed image add NAME FILE" in site.row(identity).remedy
    assert len(depot.asked) == 2


@pytest.mark.parametrize("before", [HEAD + b"\r\n", HEAD, None], ids=["file", "header", "silence"])
@pytest.mark.parametrize("how", ["stop", "cancel"])
def test_a_slow_server_keeps_nobody_who_stops_or_cancels(
    site: Site, depot: Depot, over: threading.Event, before: bytes | None, how: str
) -> None:
    silent: Reply = lambda *_: over.wait(60) and None  # noqa: E731
    depot.replies["/disk.img"] = silent if before is None else by_bytes(over, before)
    identity, service = site.ask(depot.url()), site.service()
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        until(lambda: bool(depot.asked), 20, "the question")
        if how == "cancel":
            with site.store.write() as session:
                row = session.get_one(Intake, identity)
                row.state, row.ended_at = IntakeState.REFUSED, row.asked_at
                session.add(row)
            until(lambda: not service._busy, 5, "the intake's end")
        service.stopping.set()
        until(lambda: not thread.is_alive(), 5, "the service's end")
    finally:
        over.set()
        service.stopping.set()
        thread.join(60)
    assert (site.row(identity).ended_at is None) == (how == "stop"), "it goes on later"


# --- what is refused ------------------------------------------------------------------------------


def test_an_altered_image_is_refused(site: Site, depot: Depot) -> None:
    depot.files["/disk.img"] = DISK[:-1] + b"x"
    told = site.refused(site.ask(depot.url()))
    other = sha256(DISK[:-1] + b"x")
    assert told == f"disk.img is not the file asked for: its SHA-256 is {other}, not {GOOD}"


def test_an_upload_with_a_swapped_digest_is_refused(site: Site) -> None:
    told = site.refused(site.upload(DISK, "0" * 64))
    assert told.startswith("what was uploaded is not the file asked for: its SHA-256 is")


def a_backed_qcow2(folder: Path) -> bytes:
    a_qcow2(folder / "base.qcow2")
    a_qcow2(folder / "top.qcow2", "-b", "base.qcow2", "-F", "qcow2")
    return (folder / "top.qcow2").read_bytes()


def a_huge_qcow2(folder: Path) -> bytes:
    return a_qcow2(folder / "huge.qcow2", size="3T").read_bytes()


def an_encrypted_qcow2(folder: Path) -> bytes:
    """qemu-img measures how fast it is, and gives up on a busy machine ("Unable to get accurate CPU
    usage"): then once more."""
    (folder / "key").write_text("secret")
    path = folder / "luks.qcow2"

    def is_made() -> bool:
        try:
            a_qcow2(
                path, "--object", f"secret,id=s,file={folder}/key", "-o",
                "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
            )  # fmt: skip
        except subprocess.CalledProcessError:
            return False
        return True

    until(is_made, 60, "an encrypted disk")
    return path.read_bytes()


def a_vmdk(folder: Path) -> bytes:
    argv = ["qemu-img", "create", "-q", "-f", "vmdk", str(folder / "x.vmdk"), "5M"]
    subprocess.run(argv, check=True, timeout=60)
    return (folder / "x.vmdk").read_bytes()


def with_boot_signature(folder: Path) -> bytes:
    """A qcow2 that begins as a raw disk does, too: who guesses the format is deceived."""
    content = bytearray(a_qcow2(folder / "poly.qcow2").read_bytes())
    content[446:512] = DISK[446:512]
    return bytes(content)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (a_backed_qcow2, "needs a second file (backing file)"),
        (with_boot_signature, "is more than one thing at once: gpt and qcow2"),
        (lambda _: gzip.compress(bytes(10 << 20)), "is packed with gzip: unpack it, and give the "
         "digest of the disk"),
        (a_huge_qcow2, "is a disk of 3072 GiB, more than 2048"),
        (an_encrypted_qcow2, "is encrypted"),
        (a_vmdk, "is a vmdk, and only raw and qcow2 are taken"),
        (lambda _: bytes(4096), "is neither a qcow2 nor a raw disk with a boot sector"),
        (lambda _: bytes(510) + b"\x55\xaa" + bytes(4096),
         "has a boot sector without a partition table that holds together"),
        (lambda _: b"<html>", "is too short for a disk"),
    ],
    ids=["backing file", "raw and qcow2", "gzip bomb", "huge", "encrypted", "vmdk", "zeros",
         "no partition", "short"],
)  # fmt: skip
def test_what_is_no_disk_is_refused(
    site: Site, tmp_path: Path, make: Callable[[Path], bytes], why: str
) -> None:
    assert site.refused(site.upload(make(tmp_path))) == f"fedora {why}"


def test_a_file_that_is_too_large_is_refused_before_it_comes(site: Site, depot: Depot) -> None:
    site.most = 1 << 19
    told = site.refused(site.ask(depot.url()))
    assert told == "the file is larger than 0.000488281 GiB"


def test_a_file_that_says_no_size_is_cut_at_the_limit(site: Site, depot: Depot) -> None:
    site.most, depot.length = 1 << 19, False
    assert "the file is larger than" in site.refused(site.ask(depot.url()))


@contextmanager
def a_small_disk(at: Path, size: str) -> Iterator[None]:
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)], check=True, timeout=30
    )
    try:
        yield
    finally:
        subprocess.run(["umount", str(at)], check=True, timeout=30)


def test_an_image_that_does_not_fit_is_refused(site: Site, depot: Depot) -> None:
    with a_small_disk(site.image_dir, "8m"):
        told = site.refused(site.ask(depot.url()))
    assert told.startswith("the image needs 0.0 GiB free in ")


def test_a_disk_that_becomes_full_is_said(
    site: Site, depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "SPARE", -(1 << 30))  # somebody else filled it meanwhile
    with a_small_disk(site.image_dir, "600k"):
        told = site.refused(site.ask(depot.url()))
    assert told == "the disk became full while the image came in"


def test_room_is_looked_for_while_a_file_without_a_size_comes(
    site: Site, depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "SPARE", 1 << 20)
    monkeypatch.setattr(receiving, "STEP", 1 << 16)
    depot.length = False
    with a_small_disk(site.image_dir, "1600k"):
        told = site.refused(site.ask(depot.url()))
    assert told == "the disk became full while the image came in"


def test_the_parts_are_gone_before_a_refusal_is_written(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database may be on the disk that is full."""
    left, say = [], intakes.refuse

    def refuse(*told: Any) -> None:
        left.extend((site.folder / "incoming").iterdir())
        say(*told)

    monkeypatch.setattr(intakes, "refuse", refuse)
    identity = site.upload(DISK, "0" * 64)
    site.refused(identity)
    assert left == []


# --- what is this machine's fault -----------------------------------------------------------------


class Contended(Store):
    """Somebody else holds the database at one of our writes; number: which one, from 1 on."""

    number = 0

    @contextmanager
    def write(self) -> Iterator[Session]:
        self.number -= 1
        other = sqlite3.connect(str(self.engine.url.database), isolation_level=None)
        try:
            if self.number == 0:
                other.execute("BEGIN IMMEDIATE")
            with super().write() as session:
                yield session
        finally:
            other.close()


def _run_until_ended(site: Site, identity: UUID) -> Intake:
    service = site.service()
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        until(lambda: site.row(identity).ended_at is not None, 20, "the intake's end")
    finally:
        service.stopping.set()
        thread.join(20)
    return site.row(identity)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_a_locked_database_refuses_nothing(
    site: Site, depot: Depot, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """At the beginning, while it says how far it is, before the check, the shelf and the end."""
    monkeypatch.setattr(stores, "BUSY_SECONDS", 0.1)
    monkeypatch.setattr(intakes, "AGAIN_SECONDS", 0.1)
    identity = site.ask(depot.url())
    site.store = contended = Contended(f"sqlite:///{site.folder}/seed.db")
    contended.number = number
    row = _run_until_ended(site, identity)
    assert contended.number < 1, "it was locked"
    assert (row.state, row.problem, row.remedy) == (IntakeState.DONE, "", "")
    assert len(depot.asked) == 1, "what came is not fetched again"


def test_a_refusal_that_cannot_be_written_is_written_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "BUSY_SECONDS", 0.1)
    monkeypatch.setattr(intakes, "AGAIN_SECONDS", 0.1)
    identity = site.upload(DISK, "0" * 64)
    site.store = contended = Contended(f"sqlite:///{site.folder}/seed.db")
    contended.number = 3  # fetching, how far, the end
    row = _run_until_ended(site, identity)
    assert contended.number < 1, "it was locked"
    assert row.state is IntakeState.REFUSED
    assert row.problem.startswith("what was uploaded is not the file asked for")


def test_a_folder_that_cannot_be_made_is_waited_for(site: Site) -> None:
    identity, way = site.upload(DISK), site.image_dir / ".intake"
    way.write_text("in the way")
    assert "this machine is at fault: Not a directory" in site.waits(identity)
    way.unlink()
    site.done(identity)


def test_what_nobody_foresaw_at_the_end_is_told_as_ours(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("no such thing")

    with monkeypatch.context() as patch:
        patch.setattr(intakes.catalog, "switch", broken)
        identity = site.upload(DISK)
        assert site.waits(identity).startswith("something went wrong inside Seed; it is tried")
    site.done(identity)


def test_nobody_takes_the_folder_away_where_others_are_about_to_work(site: Site) -> None:
    identity, make = site.upload(DISK), Path.mkdir

    def tidied_meanwhile(path: Path, *told: Any, **more: Any) -> None:
        """The service tidies right when one of its threads made the folder of all intakes."""
        make(path, *told, **more)
        if path.name == garbage.WORK:
            site.service().tidy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "mkdir", tidied_meanwhile)
        site.done(identity)


def test_an_upload_that_cannot_be_removed_is_published(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.parent.name == "incoming":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        remove(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    site.done(site.upload(DISK))


def test_an_upload_that_is_gone_is_refused(site: Site) -> None:
    assert site.refused(site.ask()) == "what was uploaded is not here any more"


# --- where it may come from -----------------------------------------------------------------------


def test_a_host_that_is_not_listed_is_not_asked(site: Site, depot: Depot) -> None:
    site.allowed = ("other.test",)
    told = site.refused(site.ask(depot.url()))
    assert told == f"images are fetched from only other.test, and this one is at {depot.authority}"
    assert depot.asked == []


def test_a_redirect_to_another_host_is_not_followed(site: Site, depot: Depot) -> None:
    with a_depot(site.folder, "other.test") as other:
        depot.replies["/disk.img"] = redirect(other.url())
        told = site.refused(site.ask(depot.url()))
        assert other.asked == []
        assert told.endswith(f"{depot.authority} sends us on to {other.authority}")
        site.allowed = (*site.allowed, other.authority)
        other.files["/disk.img"] = DISK
        site.done(site.ask(depot.url()))


@pytest.mark.parametrize("target", ["file:///etc/shadow", "ftp://images.test/x", "//u:p@x/", ""])
def test_a_redirect_to_what_is_no_source_is_refused(site: Site, depot: Depot, target: str) -> None:
    depot.replies["/disk.img"] = redirect(target)
    site.refused(site.ask(depot.url()))


def test_redirects_end(site: Site, depot: Depot) -> None:
    depot.replies["/disk.img"] = redirect("/disk.img")
    assert "sends us on more than 5 times" in site.refused(site.ask(depot.url()))


def test_a_name_that_leads_to_this_machine_is_not_asked(site: Site, depot: Depot) -> None:
    rule = surroundings()
    asked = Web(site.allowed, rule, resolve=lambda *_: [ip_address("127.0.0.1")])
    receiver = Receiver(asked, 1 << 30, lambda *_: None, threading.Event(), lambda: None)
    with pytest.raises(Exception, match=r"images\.test is at 127\.0\.0\.1, which is this machine"):
        receiver.fetch(depot.url(), site.folder / "part", GOOD)
    assert depot.asked == []
    literal = replace(asked, allowed=(f"127.0.0.1:{depot.port}",))  # a person means it
    receiver = Receiver(literal, 1 << 30, lambda *_: None, threading.Event(), lambda: None)
    receiver.fetch(f"http://127.0.0.1:{depot.port}/disk.img", site.folder / "part", GOOD)


def test_a_packed_answer_is_refused(site: Site, depot: Depot) -> None:
    packed = gzip.compress(bytes(1 << 20))
    depot.replies["/disk.img"] = reply(200, packed, content_encoding="gzip")
    assert "the file comes packed (gzip)" in site.refused(site.ask(depot.url()))


def test_what_is_not_there_is_said(site: Site, depot: Depot) -> None:
    told = site.refused(site.ask(depot.url("/none.img?key=secret")))
    assert told == f"the server answered 404 to http://{depot.authority}/none.img"


def test_the_time_limits_are_stated() -> None:
    assert web.TIMEOUT.connect == 10
    assert web.TIMEOUT.read == 30
