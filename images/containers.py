"""Container images as archives: fetched into one, and looked at.

An image's archive is an OCI image layout 1.0 in a tar, or what `docker save` writes. `ctr images
import` (seen in containerd 1.6.20) takes its name from the annotation io.containerd.image.name,
else from org.opencontainers.image.ref.name where that is a whole reference, else from RepoTags.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import IO, Annotated, Final

import httpx
from pydantic import BaseModel, Field, StringConstraints, TypeAdapter, ValidationError

from images.archives import write
from images.receiving import Receiver
from images.registry import MANIFESTS, MOST_MANIFEST, Registry
from images.web import Login, Look, Web
from provisioning.errors import Invalid
from provisioning.sources import Source

INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MOST_HEADER, MOST_ENTRIES = 1 << 20, 100_000
"""Of an image's archive: bytes of an extended header, and members."""
_EXTENDED: Final = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


class _Platform(BaseModel):
    architecture: str = ""
    os: str = ""


class Descriptor(BaseModel):
    """OCI image specification 1.1, descriptor.md."""

    digest: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: int = Field(ge=0)
    media_type: str = Field("", alias="mediaType")
    annotations: dict[str, str] | None = None
    platform: _Platform | None = None

    @property
    def blob(self) -> str:
        return f"blobs/{self.digest.replace(':', '/')}"

    @property
    def names(self) -> set[str]:
        """What `ctr images import` calls it; a mere tag is no name."""
        told = self.annotations or {}
        name = told.get("io.containerd.image.name") or told.get("org.opencontainers.image.ref.name")
        return {name} if name and "/" in name else set()


class Document(BaseModel):
    """An index (`manifests`) or a manifest (`config`, `layers`)."""

    media_type: str = Field("", alias="mediaType")
    manifests: tuple[Descriptor, ...] = ()
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = Field((), max_length=128)


class _Saved(BaseModel):
    """One of manifest.json, as `docker save` writes it."""

    config: str = Field(alias="Config")
    names: list[str] | None = Field(None, alias="RepoTags")
    layers: list[str] = Field([], alias="Layers")


@dataclass(frozen=True, slots=True)
class Found:
    """names: whole references. architectures: as Go calls them."""

    names: frozenset[str]
    architectures: frozenset[str]


@dataclass(frozen=True, slots=True)
class Packed:
    """One image in an archive. kind: of its manifest; b"": `docker save` before 25 writes none.
    config, layers: names of members."""

    names: tuple[str, ...]
    kind: str
    manifest: bytes
    config: str
    layers: tuple[str, ...]


def look(path: Path) -> Found:
    """Which images an archive holds. Raises as `opened` does."""
    with opened(path) as contents:
        return contents.found()


@contextmanager
def opened(path: Path) -> Iterator["Contents"]:
    """An image's archive. Raises Invalid, in words that follow the file's name, for what
    `ctr images import` cannot read; so does all that is done with the contents."""
    try:
        with path.open("rb") as file:
            _check_headers(file)
        with tarfile.open(path, "r:") as tar:
            yield Contents(tar)
    except (tarfile.TarError, ValidationError, Lacks, EOFError) as error:
        why = str(error) if isinstance(error, Lacks) else "it is not a plain tar of images"
        raise Invalid(
            f"is no whole archive of a container image: {why}",
            f"docker save -o {path.name} IMAGE, or ctr -n k8s.io images export {path.name} IMAGE",
        ) from error


class Lacks(Exception):
    """Something is not in the archive that has to be, or not as it has to be."""


def _check_headers(file: IO[bytes]) -> None:
    """tarfile reads an extended header whole into memory, and believes another size in it."""
    for _ in range(MOST_ENTRIES):
        block = file.read(tarfile.BLOCKSIZE)
        if len(block) < tarfile.BLOCKSIZE or not any(block):
            return
        info, skipped = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape"), 0
        if info.type in _EXTENDED:
            content = file.read(info.size) if info.size <= MOST_HEADER else b" size="
            if b" size=" in content or b" GNU.sparse." in content:
                raise Lacks("it has a header that is not taken")
            skipped = -info.size % tarfile.BLOCKSIZE
        elif info.type == tarfile.GNUTYPE_SPARSE:
            raise Lacks(f"{info.name!a} in it has holes")
        elif info.isreg() or info.type not in tarfile.SUPPORTED_TYPES:
            skipped = info.size + -info.size % tarfile.BLOCKSIZE
        file.seek(skipped, os.SEEK_CUR)
    raise Lacks(f"it has more than {MOST_ENTRIES} members")


class Contents:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._infos = {info.name.removeprefix("./"): info for info in tar}

    @property
    def path(self) -> Path:
        return Path(str(self._tar.name))

    def found(self) -> Found:
        if "oci-layout" in self._infos and "index.json" in self._infos:
            tops = Document.model_validate_json(self._content("index.json")).manifests
            architectures = [self._architectures(top, 2) for top in tops]
            names = set().union(*(top.names for top in tops))
        elif "manifest.json" in self._infos:
            saved = TypeAdapter(list[_Saved]).validate_json(self._content("manifest.json"))
            for name in (layer for one in saved for layer in one.layers):
                self._check(name)
            architectures = [self._architecture(one.config) for one in saved]
            names = {name for one in saved for name in one.names or ()}
        else:
            raise Lacks("it has neither an index.json nor a manifest.json")
        return Found(frozenset(names), frozenset().union(*architectures))

    def _architectures(self, one: Descriptor, deeper: int) -> set[str]:
        document = Document.model_validate_json(self._content(one.blob))
        if document.config:
            for layer in document.layers:
                self._check(layer.blob)
            return self._architecture(document.config.blob)
        there = [child for child in document.manifests if child.blob in self._infos]
        if not there or not deeper:
            raise Lacks(f"{one.digest} in it leads to no image")
        return set().union(*(self._architectures(child, deeper - 1) for child in there))

    def images(self, architecture: str) -> Iterator[Packed]:
        """Those for this architecture. Digests are looked at here of manifests alone."""
        if "oci-layout" in self._infos and "index.json" in self._infos:
            for top in Document.model_validate_json(self._content("index.json")).manifests:
                yield from self._packed(top, tuple(sorted(top.names)), architecture, 2)
            return
        for one in TypeAdapter(list[_Saved]).validate_json(self._content("manifest.json")):
            if architecture in self._architecture(one.config):
                yield Packed(tuple(one.names or ()), "", b"", one.config, tuple(one.layers))

    def _packed(
        self, one: Descriptor, names: tuple[str, ...], architecture: str, deeper: int
    ) -> Iterator[Packed]:
        content = self._content(one.blob)
        document = Document.model_validate_json(content)
        if hashlib.sha256(content).hexdigest() != one.digest.partition(":")[2]:
            raise Lacks(f"{one.blob!a} in it is not what its digest says")
        if document.config:
            if architecture in self._architecture(document.config.blob):
                kind = document.media_type or one.media_type or MANIFESTS[0]
                layers = tuple(layer.blob for layer in document.layers)
                yield Packed(names, kind, content, document.config.blob, layers)
            return
        for child in document.manifests if deeper else ():
            if child.blob in self._infos:
                yield from self._packed(child, names, architecture, deeper - 1)

    def member(self, name: str) -> tarfile.TarInfo:
        """The file of that name; older `docker save` links a layer that two images have."""
        for _ in range(8):
            self._check(name)
            info = self._infos[name]
            if info.isreg():
                return info
            if not (info.issym() or info.islnk()):
                break
            target = join(dirname(name), info.linkname) if info.issym() else info.linkname
            name = normpath(target)
        raise Lacks(f"{name!a} in it is no file")

    def reader(self, info: tarfile.TarInfo) -> IO[bytes]:
        file = self._tar.extractfile(info)
        if file is None:
            raise Lacks(f"{info.name!a} in it is no file")
        return file

    def _architecture(self, config: str) -> set[str]:
        """Of an image's configuration (OCI image specification 1.1, config.md)."""
        return {_Platform.model_validate_json(self._content(config)).architecture} - {"unknown"}

    def _check(self, name: str) -> None:
        if name not in self._infos:
            raise Lacks(f"{name!a} is not in it")

    def _content(self, name: str) -> bytes:
        self._check(name)
        file = self._tar.extractfile(self._infos[name]) if self._infos[name].isreg() else None
        content = file.read(MOST_MANIFEST + 1) if file else b""
        if len(content) > MOST_MANIFEST:
            raise Lacks(f"{name!a} in it is larger than {MOST_MANIFEST >> 20} MiB")
        return content


# --- from a registry -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _AnyKind(Web):
    """Also takes the list of an image's architectures."""

    @contextmanager
    def get(
        self, url: str, headers: dict[str, str], login: Login | None, look: Look
    ) -> Iterator[httpx.Response]:
        headers = headers | {"Accept": ", ".join((*INDEXES, *MANIFESTS))}
        with super().get(url, headers, login, look) as answer:
            yield answer


class Containers(Registry):
    """Container images of a registry (distribution specification 1.1, pull)."""

    def pull(
        self,
        source: Source,
        architecture: str,
        receiver: Receiver,
        work: Path,
        target: Path,
        named: Source,
    ) -> None:
        """Write the archive of one image. named: what it is called there; of a mirror's another
        registry's. work: where its blobs come in, and stay.

        Raises SeedError, web.Broken. The same image is the same bytes each time.
        """
        login, body, document = self._document(source)
        if document.manifests:
            one = _chosen(document, architecture, source)
            login, body, document = self._document(replace(source, reference=one.digest))
        if document.config is None:
            raise Invalid(f"{_told(source)} is no container image", f"curl -I {source.authority}")
        work.mkdir(parents=True, exist_ok=True)
        blobs = {one.digest.partition(":")[2]: one for one in (document.config, *document.layers)}
        base = f"https://{source.authority}/v2/{source.path}/blobs"
        for digest in blobs:
            receiver.fetch(f"{base}/sha256:{digest}", work / digest, digest, login)
        contents: list[tuple[str, Path | bytes]] = [
            (f"blobs/sha256/{digest}", work / digest) for digest in blobs
        ]
        contents.append((f"blobs/sha256/{hashlib.sha256(body).hexdigest()}", body))
        with target.open("wb") as out:
            entries = [
                ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
                *sorted(contents, key=itemgetter(0)),
            ]
            write(out, [(*e, 0o644) for e in [("index.json", _index(named, body)), *entries]])

    def _document(self, source: Source) -> tuple[Login | None, bytes, Document]:
        url = f"https://{source.authority}/v2/{source.path}/manifests/{source.reference}"
        web = _AnyKind(self.web.allowed, self.web.refuses, self.web.trust, self.web.resolve)
        asking = Registry(web, self.login, self.alive)
        login, (status, headers, body) = None, asking._get(url, None)
        if status == 401:
            login = asking._let_in(source, headers.get("www-authenticate", ""))
            status, headers, body = asking._get(url, login)
        if status != 200:
            raise Invalid(f"the registry answered {status} to {_told(source)}", f"curl -I {url}")
        found = hashlib.sha256(body).hexdigest()
        if source.reference.startswith("sha256:") and source.reference != f"sha256:{found}":
            raise Invalid(f"{_told(source)} is not what was asked for: {found}", f"curl -I {url}")
        try:
            return login, body, Document.model_validate_json(body)
        except ValidationError as error:
            raise Invalid(f"{_told(source)} has no manifest we can read", f"curl {url}") from error


def _told(source: Source) -> str:
    mark = "@" if source.reference.startswith("sha256:") else ":"
    return f"{source.authority}/{source.path}{mark}{source.reference}"


def _chosen(document: Document, architecture: str, source: Source) -> Descriptor:
    for one in document.manifests:
        if one.platform and (one.platform.os, one.platform.architecture) == ("linux", architecture):
            return one
    raise Invalid(f"{_told(source)} is not there for {architecture}", "Take another architecture.")


def _index(source: Source, manifest: bytes) -> bytes:
    """The layout's index.json, with the name under which containerd keeps the image."""
    kind = json.loads(manifest).get("mediaType") or MANIFESTS[0]
    one = {
        "mediaType": kind,
        "digest": f"sha256:{hashlib.sha256(manifest).hexdigest()}",
        "size": len(manifest),
        "annotations": {
            "io.containerd.image.name": _told(source),
            "org.opencontainers.image.ref.name": source.reference,
        },
    }
    index = {"schemaVersion": 2, "mediaType": INDEXES[0], "manifests": [one]}
    return json.dumps(index, separators=(",", ":"), sort_keys=True).encode()
