"""seed image ... Building, and publishing a file, need root here; the rest asks the API."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provisioning.errors import NotFound
from provisioning.image import Image
from seed import show
from seed.commands import coming
from seed.commands.door import USAGE, client, err, fail, part
from seed.config import settings

if TYPE_CHECKING:
    from images.build import Build, Wanted

app = typer.Typer(no_args_is_help=True, help="What is written to disks.")
COLUMNS = {
    "name": "IMAGE", "version": "VERSION", "state": "STATE", "format": "FORMAT",
    "firmware": "FIRMWARE", "size": "MB", "why": "WHY",
}  # fmt: skip
CACHE = Path("/var/cache/seed/images")
AGENT_CONF = """\
[DEFAULT]
cafile = /etc/seed/ca.pem
"""


def publish_recipe(recipe: str, cache: Path = CACHE) -> Image:
    """Build (or take from the cache) and publish; the ramdisk gets this seed's CA."""
    from images.build import AS_IT_IS

    return _published(recipe, cache, AS_IT_IS)[0]


def _published(recipe: str, cache: Path, wanted: "Wanted") -> "tuple[Image, Build]":
    from images import mirror
    from images.build import build
    from images.catalog import publish
    from images.watch import watched

    here = settings()
    with watched(err) as say:
        sources = mirror.sources(here.debian_mirror)
        made = build(recipe, cache, sources, say, cache / "logs", wanted)
        trust = {
            "/etc/seed/ca.pem": (here.state_dir / "tls" / "ca.pem").read_bytes(),
            "/etc/ironic-python-agent/20-seed.conf": AGENT_CONF.encode(),
        }
        say(f"{recipe}: publishing")
        return publish(made, here.image_dir, trust if made.format == "ramdisk" else {}), made


@app.command("build")
def built(
    recipe: Annotated[str, typer.Argument(help="Its name; a wrong one lists them.")],
    extras: Annotated[
        Path | None, typer.Option(help="What this site adds, TOML; see docs/images.md.")
    ] = None,
    fresh: Annotated[bool, typer.Option(help="Build anew, with today's packages.")] = False,
    mirror: Annotated[str, typer.Option(help="Of Ubuntu's or Rocky's images.")] = "",
    cache: Annotated[Path, typer.Option(help="Where finished builds are kept.")] = CACHE,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Build an image from this machine's Debian mirror and publish it.

    Example: seed image build debian
    """
    from images.build import Wanted
    from images.extras import NO_EXTRAS, read

    wanted = Wanted(read(extras) if extras else NO_EXTRAS, fresh, mirror)
    image, made = _published(recipe, cache, wanted)
    told = {"digest": made.digest, "phases": made.phases, "log": made.log, "kernel": made.kernel}
    show.one(_flat({**image.model_dump(mode="json"), **told}), output)


@app.command("sbom")
def billed(name: str) -> None:
    """The Debian packages of a published image, as SPDX 2.3 in JSON.

    Example: seed image sbom debian
    """
    from images.build import SBOM
    from images.catalog import read
    from provisioning.image import find

    image_dir = settings().image_dir
    image = find(image_dir, name)
    listed = read(image_dir, image.name, image.version, SBOM)
    if listed is None:
        raise NotFound(
            f"image {image.name} {image.version} was not built here: nobody listed its packages",
            f"seed image show {name}",
        )
    typer.echo(listed.decode())


@app.command("add")
def added(
    name: str,
    source: Annotated[str, typer.Argument(help="https://, http:// or oci://, or a file here.")],
    sha256: Annotated[str, typer.Option(help="Of the disk, from where you have it.")] = "",
    ssh_user: Annotated[str, typer.Option(help="The login that it makes for your keys.")] = "",
    draft: Annotated[bool, typer.Option("--draft", help="Not published: to be tried.")] = False,
    wait: Annotated[bool, typer.Option(help="Until it is in, or refused.")] = True,
    timeout: Annotated[int, typer.Option(min=1, help="Seconds.")] = 6 * 3600,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Take a disk image in: fetched by Seed from where it may fetch, or uploaded from here.

    raw or qcow2, whole disk. A file that was cut off is gone on with by the same command.
    Example: seed image add fedora https://images.example.org/fedora.qcow2 --sha256 DIGEST
    """
    api, told = client(), {"sha256": sha256, "ssh_user": ssh_user, "draft": draft}
    if "://" in source or source.startswith("file:"):
        made = api.create(f"/images/{part(name)}/versions", told | {"source": source})
    else:
        made = coming.upload(api, part(name), Path(source), told)
    if wait:
        made = coming.follow(api, made["id"], timeout)
    show.one(coming.flat(made) if output is show.Format.TABLE else made, output)
    if made["problem"]:
        fail(made["problem"], made["remedy"])


@app.command("intakes")
def intakes(
    ended: Annotated[bool, typer.Option("--ended", help="Also those that ended.")] = False,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Disk images on their way in."""
    found = list(client().pages("/image-intakes", ended=ended or None))
    if output is show.Format.TABLE:
        found = [coming.flat(intake) for intake in found]
    show.rows(found, coming.COLUMNS, output)


@app.command("cancel")
def cancelled(
    intake: Annotated[str, typer.Argument(help="Its id, of `seed image intakes -o json`.")],
    output: show.Output = show.Format.TABLE,
) -> None:
    """End an intake; what came of it is removed.

    Example: seed image cancel 5b0c1e6e-5f0b-4d6e-9a64-3f6f2c1f7a10
    """
    show.one(client().post(f"/image-intakes/{part(intake)}:cancel"), output)


@app.command("publish")
def published(
    name: Annotated[str, typer.Argument(help="NAME:VERSION, or NAME with a FILE.")],
    file: Annotated[
        Path | None, typer.Argument(help="As root on the Seed host: qcow2 or raw, whole disk.")
    ] = None,
    sha256: Annotated[str, typer.Option(help="The file's digest, from where you have it.")] = "",
    why: Annotated[str, typer.Option(help="For people who read the events.")] = "published",
    output: show.Output = show.Format.TABLE,
) -> None:
    """Let new claims have a version; or publish a file of this machine, if its digest is right.

    Example: seed image publish fedora:20261120000000-1a2b3c4d
    """
    if file is None:
        _set(name, "publish", why, output)
        return
    from images.catalog import publish_file

    image = publish_file(file, name, sha256, settings().image_dir)
    show.one(_flat(image.model_dump(mode="json")), output)


@app.command("deprecate")
def deprecated(
    version: Annotated[str, typer.Argument(help="NAME:VERSION.")],
    why: Annotated[str, typer.Option(help="For people who read the list and the events.")],
    output: show.Output = show.Format.TABLE,
) -> None:
    """Claims that have a version keep it; new ones get it only by naming it.

    Example: seed image deprecate debian:20261120000000-1a2b3c4d --why "there is a newer one"
    """
    _set(version, "deprecate", why, output)


@app.command("withdraw")
def withdrawn(
    version: Annotated[str, typer.Argument(help="NAME:VERSION.")],
    why: Annotated[str, typer.Option(help="For people who read the list and the events.")],
    output: show.Output = show.Format.TABLE,
) -> None:
    """No deploy of a version begins any more; its files go once no claim has it.

    Example: seed image withdraw debian:20261120000000-1a2b3c4d --why "its kernel has a hole"
    """
    _set(version, "withdraw", why, output)


@app.command("list")
def listed(output: show.Output = show.Format.TABLE) -> None:
    """What each image's name means now."""
    _list(list(client().pages("/images")), output)


@app.command("versions")
def versions(name: str, output: show.Output = show.Format.TABLE) -> None:
    """Every version of an image, and whether it may be used.

    Example: seed image versions debian
    """
    _list(list(client().pages(f"/images/{part(name)}/versions")), output)


@app.command("show")
def shown(
    name: Annotated[str, typer.Argument(help="NAME or NAME:VERSION.")],
    output: show.Output = show.Format.TABLE,
) -> None:
    """One image: files, digests, and what each part weighs.

    Example: seed image show debian
    """
    found = client().get(_path(name))
    show.one(_flat(found) if output is show.Format.TABLE else found, output)


def _path(ref: str) -> str:
    name, _, version = ref.partition(":")
    return f"/images/{part(name)}" + (f"/versions/{part(version)}" if version else "")


def _set(ref: str, verb: str, why: str, output: show.Format) -> None:
    if ":" not in ref:
        fail(f"{ref} names no version", f"seed image versions {ref}", USAGE)
    found = client().post(f"{_path(ref)}:{verb}", {"why": why})
    show.one(_flat(found) if output is show.Format.TABLE else found, output)


def _list(found: list[dict[str, object]], output: show.Format) -> None:
    show.rows([_flat(i) for i in found] if output is show.Format.TABLE else found, COLUMNS, output)


def _flat(image: dict[str, object]) -> dict[str, object]:
    files = image.get("files")
    sizes = [int(f["size"]) for f in files.values()] if isinstance(files, dict) else []
    return {**image, "size": sum(sizes) // 10**6}
