"""The images of bundles as a registry's files, which nginx serves: no program runs (ADR 0046).

<bundle>/registry/: what is in its archives, by digest, and images.json. Beside the bundles,
registry/current/: hard links to what all of them have, under the names that clients ask for; it is
made anew as a whole, and in one rename it is what is served.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter, ValidationError

from images.archives import CHUNK, check_space, quiet, store
from images.containers import INDEXES, Contents, Lacks, Packed, opened
from images.registry import MANIFESTS
from provisioning.bundle import SERVED, Bundle, hashed, listed
from provisioning.errors import HostError, Invalid

IMAGES: Final = "images.json"
CURRENT: Final = "current"
_VIEW: Final = ".view-"
_ENDINGS: Final = {MANIFESTS[0]: "oci", MANIFESTS[1]: "docker", INDEXES[0]: "index"}
"""Media type -> the ending by which nginx tells it."""
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_NAME: Final = re.compile(
    r"(?:(?P<host>[^/]*[.:][^/]*|localhost)/)?"
    r"(?P<path>[a-z0-9]+(?:(?:[./]|__?|-+)[a-z0-9]+)*):(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})"
)
_LONGEST_NAME, _LONGEST_PATH = 512, 255


class _Image(BaseModel):
    """One name of an image, as images.json has it. digest: of its manifest, hex."""

    repository: str
    tag: str
    kind: str
    digest: str
    size: int
    architecture: str


def repositories(name: str) -> list[tuple[str, str]]:
    """(repository, tag) under which an image is asked for: its host is this machine instead. One
    of Docker's own has two, NAME and library/NAME; empty: no registry can have that name."""
    found = _NAME.fullmatch(name) if len(name) <= _LONGEST_NAME else None
    if found is None or len(found["path"]) > _LONGEST_PATH:
        return []
    path = found["path"]
    docker = found["host"] is None or path.startswith("library/")
    if docker and "/" not in (bare := path.removeprefix("library/")):
        return [(bare, found["tag"]), (f"library/{bare}", found["tag"])]
    return [(path, found["tag"])]


# --- out of the archives --------------------------------------------------------------------------


def extract(folder: Path, bundle: Bundle, root: Path) -> None:
    """Into a bundle's folder that nobody sees yet. Raises Invalid for an archive or an image that
    is not whole, naming the file; Conflict where there is no space for it."""
    shutil.rmtree(folder / SERVED, ignore_errors=True)
    archives = [file for file in bundle.files if file.role == "image"]
    if not archives:
        return
    check_space(folder, sum(file.size for file in archives))
    shelf = _Shelf(folder / SERVED / "blobs", beside(root) / CURRENT / "blobs")
    shelf.blobs.mkdir(parents=True)
    found: list[_Image] = []
    for file in archives:
        try:
            with opened(folder / file.path) as contents:
                for image in contents.images(bundle.architecture):
                    found += shelf.kept(contents, image, bundle.architecture)
        except Invalid as error:
            raise Invalid(f"{file.path} {error}", error.remedy) from error
    _write(folder / SERVED / IMAGES, _json([one.model_dump() for one in found]))


@dataclass(frozen=True)
class _Shelf:
    """blobs: of this bundle, by digest. others: those that are served already. seen: members by
    where they begin, so that what many images link to is read once."""

    blobs: Path
    others: Path
    seen: dict[tuple[Path, int], str] = field(default_factory=dict)

    def kept(self, contents: Contents, image: Packed, architecture: str) -> list[_Image]:
        """All of it, each under each of its names. One without a name is not served."""
        names = dict.fromkeys(pair for name in image.names for pair in repositories(name))
        if not names:
            return []
        config, *layers = [self._member(contents, name) for name in (image.config, *image.layers)]
        kind, manifest = image.kind, image.manifest
        if not manifest:
            kind, manifest = MANIFESTS[0], _manifest(config, layers)
        if kind not in MANIFESTS:
            raise Invalid(f"has an image of the kind {kind[:100]!a}", "Make it by `docker save`.")
        digest = hashlib.sha256(manifest).hexdigest()
        if not (self.blobs / digest).exists():
            _write(self.blobs / digest, manifest)
        return [
            _Image(
                repository=repository, tag=tag, kind=kind, digest=digest, size=len(manifest),
                architecture=architecture,
            )
            for repository, tag in names
        ]  # fmt: skip

    def _member(self, contents: Contents, name: str) -> Path:
        """Its file. In a layout a member's name is its digest."""
        info = contents.member(name)
        key = (contents.path, info.offset_data)
        if key not in self.seen:
            with contents.reader(info) as file:
                self.seen[key] = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
                file.seek(0)
                self._put(self.seen[key], iter(lambda: file.read(CHUNK), b""))
        digest = self.seen[key]
        if name.startswith("blobs/sha256/") and name != f"blobs/sha256/{digest}":
            raise Lacks(f"{name!a} in it is not what its digest says")
        return self.blobs / digest

    def _put(self, digest: str, pieces: Iterator[bytes]) -> None:
        """A link to what another bundle has, else a copy."""
        target, other = self.blobs / digest, self.others / digest
        if target.exists():
            return
        with suppress(OSError):  # not there, elsewhere, or linked too often
            if hashed(other) == digest:
                os.link(other, target)
                return
        store(target, pieces, digest, 0, quiet)
        target.chmod(0o644)


def _manifest(config: Path, layers: list[Path]) -> bytes:
    """OCI image specification 1.1, manifest.md, of what `docker save` wrote."""
    described = [_described(layer, _kind_of(layer)) for layer in layers]
    return _json(
        {
            "schemaVersion": 2, "mediaType": MANIFESTS[0],
            "config": _described(config, _CONFIG), "layers": described,
        }
    )  # fmt: skip


def _described(blob: Path, kind: str) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{blob.name}", "size": blob.stat().st_size}


def _kind_of(layer: Path) -> str:
    with layer.open("rb") as file:
        return f"{_LAYER}+gzip" if file.read(2) == b"\x1f\x8b" else _LAYER


# --- what is served -------------------------------------------------------------------------------


def beside(root: Path) -> Path:
    """Where nginx looks; on the same disk as the bundles, so that links are possible."""
    return root.with_name(SERVED)


def refresh(root: Path) -> None:
    """Serve what the bundles have now. Safe to repeat, and to be killed: the next one is whole.

    Raises HostError for who may not.
    """
    top = beside(root)
    try:
        top.mkdir(parents=True, exist_ok=True)
        top.chmod(0o755)
        fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            _replace(top, root)
        finally:
            os.close(fd)
    except PermissionError as error:
        raise HostError(
            f"{top} may not be written by this user", "sudo seed bundle load FILE"
        ) from error


def _replace(top: Path, root: Path) -> None:
    view = Path(tempfile.mkdtemp(prefix=_VIEW, dir=top))
    _fill(view, root)
    link = top / f"{_VIEW}link"
    link.unlink(missing_ok=True)
    link.symlink_to(view.name)
    link.rename(top / CURRENT)
    for old in top.glob(f"{_VIEW}*"):
        if old != view:
            shutil.rmtree(old)


def _fill(view: Path, root: Path) -> None:
    """Of two images with one name and architecture the one of the newer bundle has the tag; by its
    digest the other one is there, too."""
    (view / "blobs").mkdir()
    tags: dict[tuple[str, str], dict[str, _Image]] = {}
    for bundle in sorted(listed(root), key=lambda one: (one.made_at, one.ref)):
        folder = root / bundle.name / bundle.version / SERVED
        for blob in folder.glob("blobs/*"):
            _link(blob, view / "blobs" / blob.name)
        for image in _images(folder):
            named = _named(view, image.repository, f"sha256:{image.digest}", image.kind)
            _link(view / "blobs" / image.digest, named)
            tags.setdefault((image.repository, image.tag), {})[image.architecture] = image
    for (repository, tag), images in tags.items():
        _tag(view, repository, tag, [images[name] for name in sorted(images)])
    for at, _, _ in os.walk(view):
        Path(at).chmod(0o755)


def _images(folder: Path) -> list[_Image]:
    """Empty: a bundle without images, or one that somebody broke."""
    try:
        return TypeAdapter(list[_Image]).validate_json((folder / IMAGES).read_bytes())
    except (FileNotFoundError, ValidationError):
        return []


def _tag(view: Path, repository: str, tag: str, images: list[_Image]) -> None:
    """Of several architectures an index: each client takes its own."""
    if len(images) == 1:
        target = _named(view, repository, tag, images[0].kind)
        _link(view / "blobs" / images[0].digest, target)
        return
    index = _json(
        {
            "schemaVersion": 2, "mediaType": INDEXES[0],
            "manifests": [
                {
                    "mediaType": one.kind, "digest": f"sha256:{one.digest}", "size": one.size,
                    "platform": {"architecture": one.architecture, "os": "linux"},
                }
                for one in images
            ],
        }
    )  # fmt: skip
    target = _named(view, repository, tag, INDEXES[0])
    _write(target, index)
    digest = hashlib.sha256(index).hexdigest()
    _link(target, _named(view, repository, f"sha256:{digest}", INDEXES[0]))


def _named(view: Path, repository: str, reference: str, kind: str) -> Path:
    """No word of a repository begins with "_"."""
    folder = view / "names" / repository / "_manifests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{reference}.{_ENDINGS[kind]}"


def _link(there: Path, target: Path) -> None:
    """Two bundles may have the same; one that goes at this moment refreshes after us."""
    with suppress(FileExistsError, FileNotFoundError):
        os.link(there, target)


def _write(path: Path, content: bytes) -> None:
    store(path, [content], path.name, 0, quiet)
    path.chmod(0o644)


def _json(told: dict[str, Any] | list[dict[str, Any]]) -> bytes:
    return json.dumps(told, separators=(",", ":"), sort_keys=True).encode()
