"""Bundles come to be: fetched from their makers, or found in a folder."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from images.archives import CHUNK, MAKING, Say, check_space, far, quiet, stage, store
from images.bundle import Faulty, publish
from images.containers import Containers
from images.needs import MAKERS, Item, Wanted, check_locked, described, judge
from images.receiving import Receiver
from images.served import refresh
from images.web import Broken
from provisioning import sources
from provisioning.bundle import Bundle, BundleFile, Role, read
from provisioning.errors import Conflict, Invalid, SeedError


def make(
    wanted: Wanted, root: Path, receiver: Receiver, registry: Containers, say: Say = quiet
) -> Bundle:
    """Fetch all of it and publish it below `root`. Raises SeedError, receiving.Stopped.

    What came stays when something fails, and is gone on with. Digests are the lock's, or those that
    the maker publishes beside each file (FILE.sha256); those of an image its registry's.
    """
    wanted.check()
    items = wanted.items()
    if there := _there(wanted, root):
        refresh(root)
        return there
    _check_sources(wanted, items)
    asked = hashlib.sha256(repr(items).encode()).hexdigest()[:8]
    with stage(root, f"{MAKING}{wanted.name}_{wanted.version}_{asked}") as place:
        fetching = _Fetching(wanted, place, receiver, registry, say)
        files = [fetching.fetched(item) for item in items]
        return publish(place / "bundle", wanted.bundle(files), root)


def _there(wanted: Wanted, root: Path) -> Bundle | None:
    """The bundle, if an earlier one is what is wanted. Raises Conflict if it is another one."""
    done = root / wanted.name / wanted.version
    if not done.exists():
        return None
    there = read(done)
    same = (there.kind, there.architecture) == (wanted.kind, wanted.architecture)
    locked = wanted.lock is None or wanted.lock.files == there.files
    if same and locked:
        return there
    raise Conflict(
        f"bundle {there.ref} is there, of kind {there.kind} for {there.architecture}"
        f"{'' if locked else ', and with other files than the lock'}",
        f"seed bundle remove {there.ref}",
    )


def _check_sources(wanted: Wanted, items: list[Item]) -> None:
    again = wanted.again
    if by_hand := [f"{item.hand} was put there by hand" for item in items if not item.source]:
        raise Faulty(
            "not all of the lock can be fetched", by_hand, f"{again} --lock FILE --from DIR"
        )
    from_registry = any(item.source.startswith("oci:") for item in items)
    if from_registry and not wanted.lock and not wanted.registry:
        raise Invalid(
            "registry: it is not said where the container images are fetched from",
            f"{again} --registry HOST; `kubeadm config images list` names it",
        )
    for item in items:
        if (maker := item.source.partition("/")[0]) in MAKERS:
            raise Invalid(
                f"images.downloads: it is not said where the programs of {maker} come from",
                f'Set downloads.{maker} = "https://..." below [images] in seed.toml',
            )
        try:
            scheme = sources.split(item.source).scheme
            sources.split(wanted.mirrored(item.source))
        except Invalid as error:
            what = "mirror" if wanted.mirror else item.path if wanted.lock else "registry"
            said = f"{what}: {sources.told(wanted.mirrored(item.source))} is no place to fetch from"
            raise Invalid(said, f"{again} --registry HOST[:PORT][/PATH]") from error
        if scheme == "oci" and item.role != "image":
            raise Invalid(f"{item.path}: a {item.role} does not come from a registry", again)


@dataclass(frozen=True)
class _Fetching:
    wanted: Wanted
    place: Path
    receiver: Receiver
    registry: Containers
    say: Say

    def fetched(self, item: Item) -> BundleFile:
        """The file in its place, right; one that is there already was right before."""
        target = self.place / "bundle" / item.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            with self._told(item):
                part = self._image(item) if item.source.startswith("oci:") else self._plain(item)
                judge(part, item, self.wanted.architecture)
                check_locked(described(part, item), item)
            part.rename(target)
        return described(target, item)

    def _plain(self, item: Item) -> Path:
        part = self._part(item)
        sha256 = item.sha256 or self._published(item)
        self._receiver(item).fetch(item.source, part, sha256)
        return part

    def _image(self, item: Item) -> Path:
        part, named = self._part(item), sources.split(item.source)
        source = sources.split(self.wanted.mirrored(item.source))
        blobs, receiver = self.place / "blobs", self._receiver(item)
        self.registry.pull(source, self.wanted.architecture, receiver, blobs, part, named)
        return part

    def _part(self, item: Item) -> Path:
        (self.place / "parts").mkdir(exist_ok=True)
        return self.place / "parts" / item.hand.replace("/", "_")

    def _receiver(self, item: Item) -> Receiver:
        return replace(self.receiver, progress=lambda done, of: self.say(far(item.hand, done, of)))

    def _published(self, item: Item) -> str:
        """The digest that its maker tells, as sha256sum writes it: the first word, or in a list the
        one before its name."""
        url, name = item.digests or f"{item.source}.sha256", item.source.rpartition("/")[2]
        with self.receiver.web.get(url, {}, None, self.receiver.alive) as answer:
            status = answer.status_code
            body = next(answer.iter_raw(65536), b"") if status == 200 else b""
        if status >= 500:
            raise Broken(f"{sources.told(url)} answered {status}")
        words = body.decode("ascii", "replace").split()
        if item.digests:
            words = [word for word, after in pairwise(words) if after == name]
        if not words or not re.fullmatch(r"[0-9a-f]{64}", words[0]):
            said = f"{sources.told(url)} tells no SHA-256 of {name} (it answered {status})"
            raise Invalid(said, "")
        return words[0]

    @contextmanager
    def _told(self, item: Item) -> Iterator[None]:
        """Names the file; what receives it speaks of disk images."""
        again = f"{self.wanted.again} goes on"
        try:
            yield
        except (Broken, Invalid, Conflict) as error:
            kind = Conflict if isinstance(error, Broken) else type(error)
            remedy = error.remedy if isinstance(error, SeedError) else ""
            if not remedy.startswith("df "):
                remedy = f"{again}; or get it by hand, and --from DIR"
            said = str(error).replace("the image", "it")
            raise kind(f"{item.hand} did not come: {said}", remedy) from error


def make_from(wanted: Wanted, directory: Path, root: Path, say: Say = quiet) -> Bundle:
    """The same of files that a person put into `directory`, under their names there (Item.hand).

    images/NAME_TAG.tar and manifests/NAME.yaml may be more than the kind needs. Raises Faulty with
    a sentence for each file that is missing, wrong or unknown.
    """
    wanted.check()
    found, faults = _put_there(directory)
    items = {item.hand: item for item in replace(wanted, there=found).items()}
    faults += [f"{name} is missing{_whence(items[name])}" for name in items if name not in found]
    for name in found:
        if name not in items:
            role = _extra(name)
            if wanted.lock or role is None:
                faults.append(f"{name} is none of the files that are taken")
            else:
                items[name] = Item(f"files/{name}", role, "", license="")
    _raise(wanted, directory, faults)
    with stage(root) as place:
        check_space(place, sum((directory / name).stat().st_size for name in items))
        files = []
        for name, item in sorted(items.items()):
            try:
                files.append(_taken(directory / name, item, wanted, place / "bundle", say))
            except Invalid as error:
                faults.append(str(error))
        _raise(wanted, directory, faults)
        return publish(place / "bundle", wanted.bundle(files), root)


def _raise(wanted: Wanted, directory: Path, faults: list[str]) -> None:
    if faults:
        raise Faulty(
            f"{directory} does not hold what {wanted.kind} {wanted.version} needs",
            faults,
            f"ls -lR {directory}; docs/bundles.md has the names",
        )


def _put_there(directory: Path) -> tuple[list[str], list[str]]:
    """Names of the plain files, sorted, and what is wrong with the others. Hidden ones are passed
    over; links are not followed: somebody else's would have any file of this machine published."""
    if not directory.is_dir():
        raise Invalid(f"from: there is no folder {directory}", f"ls -ld {directory}")
    found, faults = [], []
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if any(part.startswith(".") for part in Path(name).parts):
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            faults.append(f"{name} is a link, and files are taken")
        elif path.is_file():
            found.append(name)
    return found, faults


def _whence(item: Item) -> str:
    if item.source.startswith("oci:"):
        return f": an archive of {item.source.rpartition('//')[2].lstrip('/')}"
    return f": {item.source}" if item.source else ""


def _extra(name: str) -> Role | None:
    """What a file is that no kind asks for."""
    if re.fullmatch(r"images/[A-Za-z0-9][A-Za-z0-9._+-]*\.tar", name):
        return "image"
    return (
        "manifest" if re.fullmatch(r"manifests/[A-Za-z0-9][A-Za-z0-9._+-]*\.yaml", name) else None
    )


def _taken(path: Path, item: Item, wanted: Wanted, folder: Path, say: Say) -> BundleFile:
    """A copy, which is then looked at: nobody changes it any more."""
    target = folder / item.path
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        total = os.fstat(fd).st_size
        store(target, iter(lambda: file.read(CHUNK), b""), item.hand, total, say)
    named = judge(target, item, wanted.architecture)
    made = described(target, replace(item, source=named))
    check_locked(made, item)
    return made
