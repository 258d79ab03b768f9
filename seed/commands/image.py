"""seed image ... Building and publishing needs root on this machine; the rest asks the API."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provisioning.errors import NotFound
from provisioning.image import Image
from seed import show
from seed.commands.door import client, err, part
from seed.config import settings

if TYPE_CHECKING:
    from images.build import Build, Wanted

app = typer.Typer(no_args_is_help=True, help="What is written to disks.")
COLUMNS = {
    "name": "IMAGE", "version": "VERSION", "format": "FORMAT", "firmware": "FIRMWARE",
    "size": "MB", "built_at": "BUILT",
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
    from provisioning.image import find

    image_dir = settings().image_dir
    image = find(image_dir, name)
    path = image_dir / image.name / image.version / SBOM
    if not path.exists():
        raise NotFound(
            f"image {image.name} {image.version} was not built here: nobody listed its packages",
            f"seed image show {name}",
        )
    typer.echo(path.read_text())


@app.command("publish")
def published(
    name: str,
    file: Annotated[Path, typer.Argument(help="qcow2 or raw, whole disk.")],
    sha256: Annotated[str, typer.Option(help="Its digest, from where you have it.")],
    output: show.Output = show.Format.TABLE,
) -> None:
    """Publish a disk image of your own, if its digest is the one you give.

    Example: seed image publish fedora fedora.qcow2 --sha256 DIGEST
    """
    from images.catalog import publish_file

    image = publish_file(file, name, sha256, settings().image_dir)
    show.one(_flat(image.model_dump(mode="json")), output)


@app.command("list")
def listed(output: show.Output = show.Format.TABLE) -> None:
    """Published images."""
    found = list(client().pages("/images"))
    show.rows([_flat(i) for i in found] if output is show.Format.TABLE else found, COLUMNS, output)


@app.command("show")
def shown(name: str, output: show.Output = show.Format.TABLE) -> None:
    """One image: files, digests, and what each part weighs.

    Example: seed image show debian
    """
    found = client().get(f"/images/{part(name)}")
    show.one(_flat(found) if output is show.Format.TABLE else found, output)


def _flat(image: dict[str, object]) -> dict[str, object]:
    files = image.get("files")
    sizes = [int(f["size"]) for f in files.values()] if isinstance(files, dict) else []
    return {**image, "size": sum(sizes) // 10**6}
