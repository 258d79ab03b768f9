"""Bundles: made by hand, at once, killed, verified, removed; and the verbs."""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from images import archives, needs
from images.bundle import Faulty, load, pack, remove
from images.collecting import make_from
from images.needs import Wanted
from provisioning.bundle import Bundle, find, listed, read, verify
from provisioning.cluster_rows import Cluster
from provisioning.errors import Conflict, Forbidden, HostError, Invalid, NotFound
from provisioning.models import now
from provisioning.store import Store
from seed.cli import app
from seed.commands import bundle as bundle_verbs
from seed.config import settings
from tests.contract.test_image_sbom import CONF
from tests.fakes.bundles import (
    HOST,
    REF,
    WANTED,
    archive,
    as_layout,
    as_saved,
    at_once,
    by_hand,
    elf,
    hidden,
    made,
    packed,
    put,
    root,
    tar,
    tree,
)
from tests.fakes.depot import a_depot

__all__ = ["archive", "by_hand", "made", "root"]

# --- by hand --------------------------------------------------------------------------------------


def test_a_bundle_goes_through_its_archive_and_is_the_same(
    made: Bundle, archive: Path, root: Path, tmp_path: Path
) -> None:
    there = tmp_path / "elsewhere"
    assert load(archive, there) == made
    assert tree(there) == tree(root)
    assert verify(there / "kubeadm" / "1.36.2") == []
    assert listed(there) == [made]
    assert hidden(root) == hidden(there) == []
    modes = {file.path: file.mode for file in made.files if file.role == "binary"}
    assert modes["files/kubelet"] == "0755"
    assert modes["files/cni-plugins.tgz"] == "0644"
    sources = {file.source for file in made.files if file.role == "image"}
    assert f"oci://{HOST}/coredns/coredns:v1.14.2" in sources


def test_everybody_may_read_a_bundle_whatever_the_umask_is(archive: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        load(archive, tmp_path / "elsewhere")
    finally:
        os.umask(before)
    for path in [tmp_path / "elsewhere", *(tmp_path / "elsewhere").rglob("*")]:
        assert path.stat().st_mode & 0o044 == 0o044, path
        assert path.is_file() or path.stat().st_mode & 0o011 == 0o011, path


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_the_same_files_are_the_same_bytes(by_hand: Path, tmp_path: Path, name: str) -> None:
    told = []
    for number in ("1", "2"):
        root = tmp_path / number
        make_from(WANTED, by_hand, root)
        for path in by_hand.rglob("*"):
            os.utime(path)  # times of files are no part of it
        digest = pack(root / "kubeadm" / "1.36.2", tmp_path / number / name)
        assert digest == hashlib.sha256((tmp_path / number / name).read_bytes()).hexdigest()
        told.append(digest)
    assert told[0] == told[1]


def test_an_archive_in_gzip_is_loaded_too(made: Bundle, root: Path, tmp_path: Path) -> None:
    pack(root / "kubeadm" / "1.36.2", tmp_path / "a.tar.gz")
    assert (tmp_path / "a.tar.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert load(tmp_path / "a.tar.gz", tmp_path / "elsewhere") == made


def test_a_bundle_has_one_digest_whenever_it_was_made(by_hand: Path, tmp_path: Path) -> None:
    later = replace(WANTED, made_at=datetime(2027, 1, 1, tzinfo=UTC))
    first = make_from(WANTED, by_hand, tmp_path / "1")
    assert make_from(later, by_hand, tmp_path / "2").digest == first.digest


def test_making_the_same_again_keeps_what_is_there(by_hand: Path, made: Bundle, root: Path) -> None:
    later = replace(WANTED, made_at=datetime(2027, 1, 1, tzinfo=UTC))
    assert make_from(later, by_hand, root) == made
    put(by_hand, "kubeadm", elf("another"))
    with pytest.raises(Conflict, match=r"kubeadm:1\.36\.2 is there with other files"):
        make_from(WANTED, by_hand, root)
    assert hidden(root) == []


def test_what_docker_saved_long_ago_is_taken(by_hand: Path, root: Path) -> None:
    put(by_hand, "images/pause_3.10.2.tar", as_saved(f"{HOST}/pause:3.10.2"))
    files = make_from(WANTED, by_hand, root).files
    assert f"oci://{HOST}/pause:3.10.2" in {file.source for file in files}


def test_addons_may_be_put_beside(by_hand: Path, root: Path) -> None:
    put(by_hand, "images/flannel_v0.27.0.tar", as_layout(f"{HOST}/net/flannel:v0.27.0"))
    put(by_hand, "manifests/flannel.yaml", b"apiVersion: v1\nkind: Namespace\n---\n")
    found = {file.path: file.role for file in make_from(WANTED, by_hand, root).files}
    assert found["files/images/flannel_v0.27.0.tar"] == "image"
    assert found["files/manifests/flannel.yaml"] == "manifest"


def another_version(by_hand: Path) -> Wanted:
    """The files of 1.36.5, of which nobody wrote down what it needs: images by other tags."""
    for name in ("cni-plugins.tgz", "crictl.tar.gz"):
        (by_hand / name).unlink()
    shutil.rmtree(by_hand / "images")
    tags = {"coredns/coredns": "v1.14.7", "etcd": "3.6.11-0", "pause": "3.10.4"}
    own = ("apiserver", "controller-manager", "proxy", "scheduler")
    for name in (*(f"kube-{one}:v1.36.5" for one in own), *(f"{n}:{t}" for n, t in tags.items())):
        put(by_hand, f"images/{needs.image_file(name)}", as_layout(f"{HOST}/{name}"))
    return replace(WANTED, version="1.36.5")


def test_by_hand_any_version_is_taken_with_the_tags_of_its_archives(
    by_hand: Path, root: Path
) -> None:
    wanted = another_version(by_hand)
    paths = {file.path for file in make_from(wanted, by_hand, root).files}
    assert {"files/kubelet", "files/images/etcd_3.6.11-0.tar"} < paths
    assert "files/crictl.tar.gz" not in paths
    put(by_hand, "crictl.tar.gz", packed("crictl"))
    again = make_from(replace(wanted, version="1.36.5", name="more"), by_hand, root)
    assert "files/crictl.tar.gz" in {file.path for file in again.files}


def test_by_hand_what_another_version_lacks_is_named(by_hand: Path, root: Path) -> None:
    wanted = another_version(by_hand)
    for name in ("kubelet", "images/kube-proxy_v1.36.5.tar", "images/etcd_3.6.11-0.tar"):
        (by_hand / name).unlink()
    with pytest.raises(Faulty) as refused:
        make_from(wanted, by_hand, root)
    assert refused.value.faults == [
        "images/etcd_TAG.tar is missing: an archive of etcd:TAG",
        "images/kube-proxy_v1.36.5.tar is missing: an archive of kube-proxy:v1.36.5",
        "kubelet is missing: kubernetes/v1.36.5/bin/linux/amd64/kubelet",
    ]


def test_every_missing_file_is_named_with_where_it_is_from(by_hand: Path, root: Path) -> None:
    for name in ("kubelet", "cni-plugins.tgz", "images/etcd_3.6.8-0.tar"):
        (by_hand / name).unlink()
    with pytest.raises(Faulty) as refused:
        make_from(WANTED, by_hand, root)
    assert refused.value.faults == [
        "cni-plugins.tgz is missing: cni-plugins/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz",
        "images/etcd_3.6.8-0.tar is missing: an archive of etcd:3.6.8-0",
        "kubelet is missing: kubernetes/v1.36.2/bin/linux/amd64/kubelet",
    ]
    assert not root.exists()


WRONG: dict[str, tuple[str, bytes, str]] = {
    "another architecture": (
        "kubelet", elf("kubelet", 183), "kubelet is no Linux program for amd64",
    ),
    "a page instead of a program": (
        "kubectl", b"<html>not found</html>", "kubectl is no Linux program for amd64",
    ),
    "unpacked": ("crictl.tar.gz", elf("x"), "crictl.tar.gz is not in gzip"),
    "another version": (
        "images/pause_3.10.2.tar", as_layout(f"{HOST}/pause:3.9"),
        f"images/pause_3.10.2.tar holds '{HOST}/pause:3.9', and its file name says another",
    ),
    "an image without a name": (
        "images/pause_3.10.2.tar", as_layout(""),
        "images/pause_3.10.2.tar holds 'an image without a name'",
    ),
    "an image of another architecture": (
        "images/pause_3.10.2.tar", as_layout(f"{HOST}/pause:3.10.2", "arm64"),
        "images/pause_3.10.2.tar is for 'arm64', not for amd64",
    ),
    "an image without a layer": (
        "images/pause_3.10.2.tar", as_layout(f"{HOST}/pause:3.10.2", lacks=1),
        "images/pause_3.10.2.tar is no whole archive of a container image: 'blobs/sha256/",
    ),
    "no image": ("images/pause_3.10.2.tar", tar({"a": b"b"}), "neither an index.json"),
    "a packed image": ("images/pause_3.10.2.tar", packed("x"), "it is not a plain tar of images"),
    "a manifest without a kind": (
        "manifests/a.yaml", b"a: b\n", "manifests/a.yaml is no Kubernetes manifest",
    ),
    "a manifest that is none": ("manifests/a.yaml", b"a: [\n", "manifests/a.yaml is no YAML"),
    "unknown": ("kubeadm-1.36", b"", "kubeadm-1.36 is none of the files that are taken"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_is_not_what_it_is_called_is_named(
    by_hand: Path, root: Path, case: str
) -> None:
    name, content, told = WRONG[case]
    put(by_hand, name, content)
    with pytest.raises(Faulty) as refused:
        make_from(WANTED, by_hand, root)
    assert len(refused.value.faults) == 1
    assert told in refused.value.faults[0]
    assert listed(root) == []
    assert not root.exists() or list(root.iterdir()) == []


def test_a_link_in_the_folder_is_not_followed(by_hand: Path, root: Path) -> None:
    (by_hand / "kubeadm").unlink()
    (by_hand / "kubeadm").symlink_to("/etc/shadow")
    with pytest.raises(Faulty, match="kubeadm is a link, and files are taken"):
        make_from(WANTED, by_hand, root)


def test_a_lock_takes_the_very_same_files_only(by_hand: Path, made: Bundle, tmp_path: Path) -> None:
    locked = replace(WANTED, lock=made)
    assert make_from(locked, by_hand, tmp_path / "2").digest == made.digest
    put(by_hand, "kubeadm", elf("another"))
    with pytest.raises(Faulty, match="kubeadm is not the one in the lock"):
        make_from(locked, by_hand, tmp_path / "3")
    with pytest.raises(Invalid, match=r"version: the lock is of 1\.36\.2, not of 1\.37\.0"):
        make_from(replace(locked, version="1.37.0"), by_hand, tmp_path / "3")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": "1.30.0"}, "version: it is not written down what kubeadm 1.30.0 needs"),
        ({"version": "../1"}, "the bundle asked for is not as it must be: version:"),
        ({"name": "../../etc"}, "the bundle asked for is not as it must be: name:"),
        ({"kind": "k4s"}, "kind: 'k4s' is none of kubeadm"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(
    by_hand: Path, root: Path, change: dict[str, str], told: str
) -> None:
    with pytest.raises(Invalid) as refused:
        make_from(replace(WANTED, **change), by_hand, root)  # type: ignore[arg-type]
    assert str(refused.value).startswith(told)
    assert not root.exists()


# --- what lies there ------------------------------------------------------------------------------


def test_verify_names_every_file_that_is_not_as_it_was(made: Bundle, root: Path) -> None:
    folder = root / "kubeadm" / "1.36.2"
    files = folder / "files"
    content = (files / "kubeadm").read_bytes()
    (files / "kubeadm").write_bytes(content[:-1] + b"X")
    (files / "kubelet").unlink()
    (files / "kubectl").chmod(0o600)
    (files / "crictl.tar.gz").write_bytes(b"")
    (files / "cni-plugins.tgz").unlink()
    (files / "cni-plugins.tgz").symlink_to("/etc/passwd")
    (files / "more").write_text("")
    (folder / "elsewhere").symlink_to("/etc")
    found = verify(folder)
    assert [fault.partition(", and")[0].partition(": its")[0] for fault in found] == [
        "files/cni-plugins.tgz is no plain file",
        "files/crictl.tar.gz has 0 bytes",
        "files/kubeadm was changed",
        "files/kubectl has the mode 0600",
        "files/kubelet is missing",
        "elsewhere is not in bundle.json",
        "files/more is not in bundle.json",
    ]
    (folder / "bundle.json").write_text("{")
    assert "bundle.json is not as it must be" in verify(folder)[0]
    with pytest.raises(Faulty):
        pack(folder, root.parent / "x.tar")


def test_a_bundle_that_is_broken_can_be_removed_and_loaded_anew(
    made: Bundle, archive: Path, root: Path
) -> None:
    folder = find(root, REF)
    (folder / "bundle.json").unlink()
    assert listed(root) == []
    with pytest.raises(Invalid, match=r"bundle\.json cannot be read") as refused:
        load(archive, root)
    assert refused.value.remedy == f"seed bundle remove {REF}, then make or load it anew"
    remove(find(root, REF), root, nobody)
    assert load(archive, root) == made


def test_a_bundle_is_found_by_its_name(made: Bundle, by_hand: Path, root: Path) -> None:
    assert find(root, "kubeadm") == find(root, REF) == root / "kubeadm" / "1.36.2"
    with pytest.raises(NotFound, match=r"no bundle other, only: kubeadm:1\.36\.2"):
        find(root, "other")
    with pytest.raises(Invalid, match=r"is no bundle: NAME, or NAME:VERSION"):
        find(root, "../..")
    second = root / "kubeadm" / "1.36.1"
    second.mkdir()
    told = made.model_copy(update={"version": "1.36.1"})
    (second / "bundle.json").write_text(told.model_dump_json())
    with pytest.raises(Conflict, match=r"kubeadm:1\.36\.1, kubeadm:1\.36\.2"):
        find(root, "kubeadm")


@contextmanager
def nobody(_name: str, _version: str) -> Iterator[str]:
    yield ""


def test_a_bundle_goes_while_nobody_can_come_to_need_it(made: Bundle, root: Path) -> None:
    folder, seen = find(root, REF), list[bool]()

    @contextmanager
    def told(_name: str, _version: str) -> Iterator[str]:
        seen.append(folder.exists())
        yield ""
        seen.append(folder.exists())

    remove(folder, root, told)
    assert seen == [True, False]


def test_a_bundle_in_use_stays(made: Bundle, root: Path) -> None:
    folder, asked = find(root, REF), list[tuple[str, str]]()

    @contextmanager
    def blue(name: str, version: str) -> Iterator[str]:
        asked.append((name, version))
        yield "cluster blue is made of it"

    with pytest.raises(Conflict, match=r"kubeadm:1\.36\.2 stays: cluster blue is made of it"):
        remove(folder, root, blue)
    assert asked == [("kubeadm", "1.36.2")]
    assert verify(folder) == []
    remove(folder, root, nobody)
    assert list(root.iterdir()) == []
    with pytest.raises(NotFound):
        remove(folder, root, nobody)


# --- at once, and killed --------------------------------------------------------------------------


def test_loads_of_one_bundle_at_once_are_one(made: Bundle, archive: Path, tmp_path: Path) -> None:
    there, all_in = tmp_path / "elsewhere", threading.Barrier(3)
    met = threading.local()

    def say(_: str) -> None:
        """All are at work before one is done."""
        if not getattr(met, "once", False):
            met.once = True
            all_in.wait(30)

    assert at_once(*[lambda: load(archive, there, say)] * 3) == [made] * 3
    assert hidden(there) == []
    assert verify(find(there, REF)) == []


def test_of_two_bundles_of_a_name_at_once_one_is_refused(
    by_hand: Path, archive: Path, root: Path, tmp_path: Path
) -> None:
    put(by_hand, "kubeadm", elf("another"))
    make_from(WANTED, by_hand, tmp_path / "2")
    pack(tmp_path / "2" / "kubeadm" / "1.36.2", tmp_path / "2.tar")
    there, all_in = tmp_path / "elsewhere", threading.Barrier(2)
    met = threading.local()

    def say(_: str) -> None:
        if not getattr(met, "once", False):
            met.once = True
            all_in.wait(30)

    ended = at_once(lambda: load(archive, there, say), lambda: load(tmp_path / "2.tar", there, say))
    assert sorted(type(one).__name__ for one in ended) == ["Bundle", "Conflict"]
    assert verify(find(there, REF)) == []
    assert hidden(there) == []


def test_a_folder_that_is_swept_before_it_is_locked_is_made_anew(
    made: Bundle, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, flock, swept = tmp_path / "elsewhere", archives.fcntl.flock, list[Path]()

    def late(fd: int, how: int) -> None:
        if not swept:
            swept.extend(there.glob(".new-*"))
            shutil.rmtree(swept[0])
        flock(fd, how)

    monkeypatch.setattr(archives.fcntl, "flock", late)
    assert load(archive, there) == made
    assert len(swept) == 1
    assert hidden(there) == []


CHANGES = {
    "open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.chmod", "os.utime", "os.link",
    "os.symlink",
}  # fmt: skip
"""Audit events: between two of them no line changes what there is."""


def killed_at(change: int, work: Callable[[], Any]) -> bool:
    """In a process of its own, by SIGKILL before that change of the disk; False: it ended."""
    child = os.fork()
    if child:
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert ended in (0, -signal.SIGKILL), f"before change {change} it ended with {ended}"
        return ended != 0
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(100)  # so that one that hangs is told
    made = 0

    def audit(event: str, _: object) -> None:
        nonlocal made
        if event in CHANGES:
            made += 1
            if made == change:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)


def whole_or_nothing(root: Path) -> bool:
    """Whether it is there; what is not whole is not there."""
    found = [path for path in root.glob("[!.]*/*")]
    for folder in found:
        assert verify(folder) == []
    return bool(found)


@pytest.mark.parametrize("verb", ["load", "make_from"])
def test_killed_before_any_change_a_bundle_is_whole_or_not_there(
    small: tuple[Path, Path], tmp_path: Path, verb: str
) -> None:
    folder, archive = small
    there, change, lives = tmp_path / "elsewhere", 0, {True: 0, False: 0}
    works = {
        "load": lambda: load(archive, there),
        "make_from": lambda: make_from(replace(WANTED, kind="small"), folder, there),
    }
    while killed_at(change := change + 1, works[verb]):
        there.mkdir(exist_ok=True)
        complete = whole_or_nothing(there)
        lives[complete] += 1
        if complete:
            remove(find(there, REF), there, nobody)
    assert whole_or_nothing(there)
    works[verb]()
    assert hidden(there) == [], "what the killed left is gone"
    assert min(lives.values()) >= 1
    assert sum(lives.values()) > 20


def test_killed_before_any_change_a_removal_is_done_or_not_begun(
    small: tuple[Path, Path], tmp_path: Path
) -> None:
    there, change = tmp_path / "elsewhere", 0
    load(small[1], there)
    work = lambda: remove(there / "kubeadm" / "1.36.2", there, nobody)  # noqa: E731
    while killed_at(change := change + 1, work):
        if not whole_or_nothing(there):
            load(small[1], there)
    assert change > 10
    assert list(there.iterdir()) == []


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A kind of two files, so that there are not too many changes: its folder and archive."""
    items = [
        needs.Item("files/kubeadm", "binary", "", "0755"),
        needs.Item("files/images/pause_3.10.2.tar", "image", ""),
    ]
    monkeypatch.setitem(needs.KINDS, "small", lambda _: items)
    folder = tmp_path / "small"
    put(folder, "kubeadm", elf("kubeadm"))
    put(folder, "images/pause_3.10.2.tar", as_layout(f"{HOST}/pause:3.10.2"))
    make_from(replace(WANTED, kind="small"), folder, tmp_path / "small-bundles")
    pack(tmp_path / "small-bundles" / "kubeadm" / "1.36.2", tmp_path / "small.tar")
    return folder, tmp_path / "small.tar"


def test_a_process_that_is_killed_in_the_middle_of_a_load_leaves_nothing_half(
    made: Bundle, archive: Path, tmp_path: Path
) -> None:
    """A real one, while it writes."""
    there = tmp_path / "elsewhere"
    code = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from images.bundle import load\n"
        "def say(line):\n"
        "    print(line, flush=True)\n"
        "    if line.startswith('files/images/kube-proxy'):\n"
        "        signal.pause()\n"
        "load(Path(sys.argv[1]), Path(sys.argv[2]), say)\n"
    )
    argv = [sys.executable, "-c", code, str(archive), str(there)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        while not process.stdout.readline().startswith("files/images/kube-proxy"):
            assert process.poll() is None
        assert len(hidden(there)) == 1
        process.kill()
    assert listed(there) == []
    assert load(archive, there) == made
    assert hidden(there) == []


# --- the verbs ------------------------------------------------------------------------------------


@pytest.fixture
def seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    conf = tmp_path / "seed.toml"
    conf.write_text(CONF.format(state=tmp_path / "state"))
    monkeypatch.setenv("SEED_CONFIG", str(conf))
    settings.cache_clear()

    def run(*words: str | Path) -> Result:
        settings.cache_clear()
        return CliRunner().invoke(app, ["bundle", *map(str, words)])

    yield run
    settings.cache_clear()


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_verbs_make_list_verify_load_and_remove(
    seed: Callable[..., Result], by_hand: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "a.tar"
    words = ("make", "kubeadm", "--version", "1.36.2", "--from", by_hand, "--made-at", "0")
    made = told(seed(*words, "--archive", archive, "-o", "json"))
    assert made["name"] == "kubeadm"
    assert made["made_at"] == "1970-01-01T00:00:00Z"
    assert made["archive_sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    served = tmp_path / "state" / "http" / "bundles" / "kubeadm" / "1.36.2"
    assert read(served).digest == made["digest"]

    assert told(seed("list", "-o", "json"))[0]["files"] == made["files"]
    table = seed("list").stdout
    assert "kubeadm" in table
    assert made["digest"][:12] in table
    assert told(seed("verify", "kubeadm", "-o", "json"))["verdict"] == "right"
    assert told(seed("remove", REF, "-o", "json"))["removed"] is True
    assert told(seed("list", "-o", "json")) == []
    assert "none" in seed("list").stdout
    again = told(seed("load", archive, "--sha256", made["archive_sha256"], "-o", "json"))
    assert again["digest"] == made["digest"]
    assert "12" in seed("load", archive).stdout


def test_verbs_name_what_is_wrong_and_what_to_do(
    seed: Callable[..., Result], by_hand: Path, tmp_path: Path
) -> None:
    (by_hand / "kubelet").unlink()
    words = ("make", "kubeadm", "--version", "1.36.2", "--from", by_hand)
    done = seed(*words)
    assert done.exit_code == 1
    assert "  kubelet is missing: kubernetes/v1.36.2/bin/" in done.stderr
    assert "docs/bundles.md has the names" in done.stderr
    put(by_hand, "kubelet", elf("kubelet"))
    assert seed(*words).exit_code == 0
    served = tmp_path / "state" / "http" / "bundles" / "kubeadm" / "1.36.2"
    (served / "files" / "kubelet").write_bytes(b"")
    done = seed("verify", "kubeadm", "-o", "json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["verdict"] == "faulty"
    assert "  files/kubelet has 0 bytes" in done.stderr
    assert "seed bundle remove kubeadm:1.36.2" in done.stderr


def test_a_bundle_that_a_living_cluster_is_made_of_is_not_removed(
    seed: Callable[..., Result], archive: Path, tmp_path: Path
) -> None:
    assert seed("load", archive).exit_code == 0
    db = tmp_path / "state" / "db" / "seed.db"
    db.parent.mkdir()
    store = Store(f"sqlite:///{db}")
    store.create()
    with store.write() as session:
        row = Cluster(
            name="blue", project="p", network="n", vip="10.40.0.9",
            bundle={"name": "kubeadm", "version": "1.36.2", "files": []},
        )  # fmt: skip
        session.add(row)
        identity = row.id
    with (
        bundle_verbs._in_use("kubeadm", "1.36.2"),
        closing(sqlite3.connect(db, timeout=0)) as other,
    ):
        with pytest.raises(sqlite3.OperationalError, match="locked"):  # nobody makes a cluster now
            other.execute("BEGIN IMMEDIATE")
    done = seed("remove", REF)
    assert isinstance(done.exception, Conflict)
    assert "it is what blue of project p is made of" in str(done.exception)
    assert told(seed("verify", REF, "-o", "json"))["verdict"] == "right"
    with store.write() as session:
        session.get_one(Cluster, identity).ended_at = now()
    assert told(seed("remove", REF, "-o", "json"))["removed"] is True


def test_programs_come_from_a_mirror_where_one_is_named(
    seed: Callable[..., Result], by_hand: Path, tmp_path: Path
) -> None:
    with (tmp_path / "seed.toml").open("a") as conf:
        conf.write('[images]\ndownloads = { kubernetes = "https://mirror.example.org/k8s/" }\n')
    (by_hand / "kubelet").unlink()
    (by_hand / "crictl.tar.gz").unlink()
    done = seed("make", "kubeadm", "--version", "1.36.2", "--from", by_hand)
    assert "https://mirror.example.org/k8s/v1.36.2/bin/linux/amd64/kubelet" in done.stderr
    assert "crictl.tar.gz is missing: cri-tools/v1.36.0/" in done.stderr
    with (tmp_path / "seed.toml").open("a") as conf:
        conf.write('downloads.kubernets = "https://mirror.example.org"\n')
    assert isinstance(seed("list").exception, HostError)


def test_a_verb_fetches_by_a_lock_from_an_allowed_host(
    seed: Callable[..., Result], by_hand: Path, tmp_path: Path
) -> None:
    """Through the settings' own allow-list, to this machine's loopback, named as itself."""
    with a_depot(tmp_path, "127.0.0.1") as depot:
        made = make_from(WANTED, by_hand, tmp_path / "1")
        files = []
        for file in made.files:
            content = (tmp_path / "1" / "kubeadm" / "1.36.2" / file.path).read_bytes()
            depot.files[f"/{file.path}"] = content
            files.append(file.model_copy(update={"source": depot.url(f"/{file.path}")}))
        lock = tmp_path / "lock.json"
        lock.write_text(made.model_copy(update={"files": tuple(files)}).model_dump_json())
        words = ("make", "kubeadm", "--version", "1.36.2", "--lock", lock, "-o", "json")
        done = seed(*words)
        assert isinstance(done.exception, Forbidden)
        with (tmp_path / "seed.toml").open("a") as conf:
            conf.write(f'[images]\nallowed_hosts = ["{depot.authority}"]\n')
        assert [file["sha256"] for file in told(seed(*words))["files"]] == [
            file.sha256 for file in made.files
        ]
