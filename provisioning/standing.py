"""Whether a version of an image may be used, and which one a claim gets. Rows and manifests only.

A version without a row is published. Who removes files looks at `in_use` in the same write
transaction that takes the version away (images/garbage.py), and who makes a claim resolves its
image in the write transaction that makes it: so a claim never gets what is being removed.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from sqlmodel import Session, col, select

from provisioning import image as images
from provisioning.cluster_rows import Cluster
from provisioning.errors import Conflict, NotFound
from provisioning.image import Image
from provisioning.models import Claim, now
from provisioning.shelf import ImageStanding
from provisioning.states import ImageState
from provisioning.store import record


def of(session: Session, name: str, version: str) -> ImageState:
    said = row(session, name, version)
    return said.state if said else ImageState.PUBLISHED


def row(session: Session, name: str, version: str) -> ImageStanding | None:
    """What was said of a version; None: nothing, it is published."""
    return session.get(ImageStanding, (name, version))


def resolve(session: Session, image_dir: Path, ref: str, operator: bool) -> Image:
    """The version that a new claim for `ref` gets: NAME is the published one, NAME:VERSION that.

    operator: may have a draft, by naming its version. Raises NotFound, and Conflict for a version
    that new claims do not get.
    """
    named = select(ImageStanding).where(ImageStanding.name == images.split(ref)[0])
    rows = {row.version: row for row in session.exec(named).all()}
    states = {version: row.state for version, row in rows.items()}
    image = images.find(
        image_dir, ref, lambda _name, version: states.get(version, ImageState.PUBLISHED)
    )
    state = states.get(image.version, ImageState.PUBLISHED)
    if state is ImageState.WITHDRAWN:
        raise Conflict(
            f"version {image.version} of the image {image.name} is withdrawn"
            f"{_because(rows[image.version].why)}",
            f"Name another one: `seed image versions {image.name}`.",
        )
    if state is ImageState.DRAFT and not operator:
        raise NotFound(
            f"there is no version {image.version!r} of the image {image.name!r}",
            "seed image versions NAME",
        )
    return image


def usable(session: Session, claim: Claim) -> str:
    """Why a deploy of this claim's image must not begin; "" if it may."""
    said = row(session, images.split(claim.image)[0], claim.image_version)
    if said is None or said.state is not ImageState.WITHDRAWN:
        return ""
    return f"version {said.version} of the image {said.name} is withdrawn{_because(said.why)}"


def _because(why: str) -> str:
    return f": {why}" if why else ""


def users(session: Session, name: str, version: str) -> Sequence[Claim]:
    """Living claims that have this version, also those that were made before versions were kept."""
    living = select(Claim).where(col(Claim.ended_at).is_(None))
    mine = living.where(col(Claim.image).in_([name, f"{name}:{version}"]))
    return session.exec(mine.where(col(Claim.image_version).in_([version, ""]))).all()


def named_by_clusters(session: Session, name: str) -> set[str]:
    """NAME:VERSION of this image that living clusters name: they may have no node with it now, and
    want one again."""
    living = session.exec(select(Cluster).where(col(Cluster.ended_at).is_(None))).all()
    refs = {
        told.get("image", "")
        for row in living
        for told in (row.spec, *(part for part in row.spec.values() if isinstance(part, dict)))
    }
    return {ref for ref in refs if images.split(ref)[0] == name and images.split(ref)[1]}


def set_state(session: Session, image: Image, state: ImageState, why: str, who: str) -> None:
    """What people want of a version; the same again changes nothing. Raises Conflict."""
    before = of(session, image.name, image.version)
    if before is state:
        return
    if before is ImageState.WITHDRAWN and state is ImageState.PUBLISHED:
        raise Conflict(
            f"version {image.version} of the image {image.name} is withdrawn, which is for good",
            f"seed image build {image.name} --fresh"
            if image.recipe
            else f"Add it anew: `seed image add {image.name} SOURCE`.",
        )
    if state is ImageState.DEPRECATED and before is not ImageState.PUBLISHED:
        raise Conflict(
            f"version {image.version} of the image {image.name} is {before}: only a published one "
            "is deprecated",
            f"seed image publish {image.name}:{image.version}",
        )
    said = row(session, image.name, image.version)
    said = said or ImageStanding(name=image.name, version=image.version)
    said.state, said.why, said.set_by, said.set_at = state, why, who, now()
    session.add(said)
    record(
        session, f"image.{state}", f"{image.name}:{image.version}",
        f"{image.name} {image.version} is {state}, it was {before}", who=who, why=why,
    )  # fmt: skip


def check_not_last(session: Session, image: Image, found: Iterable[Image]) -> None:
    """Raises Conflict where a ramdisk would have no published version besides this one, which is
    to be withdrawn. found: all versions of it."""
    if image.format != "ramdisk" or of(session, image.name, image.version) is ImageState.WITHDRAWN:
        return
    others = (one for one in found if one.version != image.version)
    if not any(of(session, one.name, one.version) is ImageState.PUBLISHED for one in others):
        raise Conflict(
            f"no other version of {image.name} is published, and servers boot from it",
            f"seed image build {image.name} --fresh",
        )


def superfluous(session: Session, found: Iterable[Image], current: str, kept: int) -> list[Image]:
    """Versions of one image, newest first, whose files may go, if no claim and no cluster has them.

    Withdrawn ones, and published ones beyond the newest `kept`; never the one in use (`current`),
    unless that is withdrawn and no ramdisk, without which nothing boots. What is a draft or
    deprecated waits until somebody withdraws it.
    """
    gone, published = [], 0
    for image in found:
        match of(session, image.name, image.version):
            case ImageState.WITHDRAWN:
                if image.format != "ramdisk" or image.version != current:
                    gone.append(image)
            case ImageState.PUBLISHED:
                published += 1
                if published > kept and image.version != current:
                    gone.append(image)
    wanted = named_by_clusters(session, gone[0].name) if gone else set()
    return [
        image
        for image in gone
        if f"{image.name}:{image.version}" not in wanted
        and not users(session, image.name, image.version)
    ]
