"""seed image ... Building and publishing needs root on this machine; the rest asks the API."""

from pathlib import Path
from typing import Annotated

import typer

from provisioning.image import Image
from seed import show
from seed.commands.door import client, err, part
from seed.config import settings

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
    from images import mirror
    from images.build import build
    from images.catalog import publish

    here = settings()
    made = build(recipe, cache, mirror.sources(here.debian_mirror), _say, here.log_dir)
    trust = {
        "/etc/seed/ca.pem": (here.state_dir / "tls" / "ca.pem").read_bytes(),
        "/etc/ironic-python-agent/20-seed.conf": AGENT_CONF.encode(),
    }
    return publish(made, here.image_dir, trust if recipe == "ramdisk" else {})


@app.command("build")
def built(
    recipe: Annotated[str, typer.Argument(help="ramdisk or debian.")],
    cache: Annotated[Path, typer.Option(help="Where finished builds are kept.")] = CACHE,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Build an image from this machine's Debian mirror and publish it.

    Example: seed image build debian
    """
    show.one(_flat(publish_recipe(recipe, cache).model_dump(mode="json")), output)


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


def _say(line: str) -> None:
    err.print(show.cell(line), soft_wrap=True)
