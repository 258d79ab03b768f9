"""Which bundle a cluster is made of, and what its kind is told of it.

The API chooses it and reads every byte before anything is held; the cluster's row keeps its name,
digest and files' digests. So every member, however late, gets the very same files: a node takes
what has the digests of its one-time parts, and nothing else.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from sqlalchemy import inspect
from sqlmodel import Session, col, select

from provisioning import bundle as bundles
from provisioning import manifest_images
from provisioning.bundle import Bundle
from provisioning.cluster_rows import Cluster
from provisioning.cluster_spec import Spec
from provisioning.errors import Conflict, Invalid, NotFound
from provisioning.image import Image

FILES: Final = "files"
"""The option of a kind that has the bundle's files."""
URL: Final = "/bundles"
"""Where nginx serves them on the provisioning wire."""
MANY: Final = 4
"""Of how many faults a sentence speaks."""
_DEBIANS: Final = {"x86_64": "amd64", "aarch64": "arm64"}
"""What others call an architecture -> what Debian, and a bundle, do."""


def choose(root: Path | None, ref: str, kind: str, version: str = "") -> Bundle | None:
    """The bundle that `ref` (NAME, or NAME:VERSION) means to a cluster of this kind; "": none.

    version: of what it installs; empty: the newest of that name. Never within a transaction: files
    that this process has not seen are read whole, which takes seconds. Raises Invalid and NotFound,
    naming the field and each file that is wrong.
    """
    if not ref:
        return None
    folder = _folder(root or Path(), *bundles.split(ref), version)
    verify = f"`seed bundle verify {folder.parent.name}:{folder.name}`"
    try:
        found = bundles.read(folder)
    except (NotFound, Invalid) as error:
        raise Invalid(f"bundle: {error}", error.remedy) from error
    if found.kind != kind:
        raise Invalid(
            f"bundle: {found.ref} is for the kind {found.kind}, not for {kind}",
            "Take another one: `seed bundle list`.",
        )
    if faults := bundles.verify(folder, _seen):
        more = f"; and {len(faults) - MANY} more" if len(faults) > MANY else ""
        raise Invalid(
            f"bundle: {found.ref} is not as it was made: {'; '.join(faults[:MANY])}{more}",
            f"Who runs Seed mends it: {verify}.",
        )
    return found


def choose_anew(root: Path | None, cluster: Cluster, version: str) -> Bundle | None:
    """For an upgrade: of the same name, whatever VERSION the cluster was asked for with."""
    return choose(root, cluster.bundle.get("name", ""), cluster.spec["kind"], version)


def _folder(root: Path, name: str, named: str, version: str) -> Path:
    if named and version and named != version:
        raise Invalid(
            f"version: the bundle {name}:{named} is of {named}, not of {version}",
            f"Leave out `version`, or say bundle: {name}",
        )
    found = bundles.folders(root, name, named or version)
    if found:
        return max(found, key=lambda folder: (_numbers(folder.name), folder.name))
    others = [folder.name for folder in bundles.folders(root, name, "")]
    if others:
        raise NotFound(
            f"bundle: there is no {name} of version {named or version}, only of "
            f"{', '.join(sorted(others, key=_numbers))}",
            "Take one of these as `version`: `seed bundle list`.",
        )
    known = ", ".join(one.ref for one in bundles.listed(root))
    raise NotFound(
        f"bundle: there is no bundle {name}, only: {known or 'none'}",
        "Make it, or load it: `seed bundle make`, `seed bundle load`.",
    )


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _seen(path: Path) -> str:
    """The digest of a file, read once as long as nobody touches it. Whoever changes a file and puts
    its times back is not noticed here, but by the nodes."""
    status = path.stat()
    return _digest(path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@lru_cache(maxsize=4 * bundles.MOST_FILES)
def _digest(path: Path, *_: int) -> str:
    return bundles.hashed(path)


def check_there(root: Path | None, spec: Spec, chosen: Bundle | None) -> None:
    """In the transaction that makes the cluster: who removes bundles waits for it, or was first.

    Raises Conflict.
    """
    if not spec.bundle:
        return
    try:
        there = chosen and bundles.read((root or Path()) / chosen.name / chosen.version)
    except (NotFound, Invalid):
        there = None
    if chosen is None or there is None or there.digest != chosen.digest:
        raise Conflict(f"bundle: {spec.bundle} was changed at this moment", "Ask again.")


def check_architecture(chosen: Bundle, images: Iterable[Image]) -> None:
    """images: what the members run. Raises Invalid."""
    for image in images:
        has = _DEBIANS.get(image.architecture, image.architecture)
        if has != chosen.architecture:
            raise Invalid(
                f"bundle: {chosen.ref} is for {chosen.architecture}, and the image {image.name} "
                f"for {has}",
                "Take another bundle, or another image.",
            )


# --- what a cluster's row keeps of it -------------------------------------------------------------


def kept(chosen: Bundle | None, root: Path | None = None) -> dict[str, Any]:
    """For Cluster.bundle: name, version, digest, and the files as the kinds read them; with `root`,
    of manifests the images that they run."""
    if chosen is None:
        return {}
    told = {"path", "role", "sha256", "source"}
    files = [file.model_dump(include=told) for file in chosen.files]
    folder = root and root / chosen.name / chosen.version
    for file in files:
        if folder and file["role"] == "manifest":
            file["images"] = [*manifest_images.named(folder / file["path"], file["sha256"])]
    return {
        "name": chosen.name, "version": chosen.version, "digest": chosen.digest, FILES: files,
    }  # fmt: skip


def version_of(cluster: Cluster) -> str:
    """What its bundle installs; empty: it has none."""
    return str(cluster.bundle.get("version", ""))


def url_of(cluster: Cluster, wire_url: str) -> str:
    """wire_url: http://ADDRESS of the provisioning wire; without it the path alone is told."""
    told = cluster.bundle
    return f"{wire_url}{URL}/{told['name']}/{told['version']}" if told else ""


def registry_of(cluster: Cluster, gateway_url: str) -> str:
    """Whom its nodes ask for images first: what its spec names, else Seed if it has a bundle."""
    return cluster.spec.get("registry") or (gateway_url if cluster.bundle else "")


def is_own(registry: str, gateway_url: str) -> bool:
    """Whether it is Seed's, however somebody wrote it. gateway_url: https://ADDRESS ."""
    bare = registry.rstrip("/").removeprefix("https://").removesuffix(":443")
    return bool(bare) and gateway_url == f"https://{bare}"


def options_of(cluster: Cluster, options: dict[str, Any]) -> dict[str, Any]:
    """A kind's options, with the bundle's files."""
    return {**options, FILES: cluster.bundle[FILES]} if cluster.bundle else dict(options)


def check_options(spec: Spec) -> None:
    """Raises Invalid: what nodes fetch is the bundle's word alone."""
    if FILES in spec.options:
        raise Invalid(
            f"options.{FILES}: the files of a cluster are those of its bundle",
            "Say bundle: NAME instead; `seed bundle list` has them.",
        )


def in_use(session: Session, name: str, version: str) -> str:
    """Which living clusters are made of it, for people of the building; "": none is."""
    if not inspect(session.connection()).has_table(str(Cluster.__tablename__)):
        return ""  # a database from before there were clusters
    query = select(Cluster).where(col(Cluster.ended_at).is_(None)).order_by(Cluster.name)
    found = [
        f"{row.name} of project {row.project}"
        for row in session.exec(query).all()
        if (row.bundle.get("name"), row.bundle.get("version")) == (name, version)
    ]
    if not found:
        return ""
    more = f" and {len(found) - MANY} more" if len(found) > MANY else ""
    return (
        f"it is what {', '.join(found[:MANY])}{more} {'is' if len(found) == 1 else 'are'} made of"
    )
