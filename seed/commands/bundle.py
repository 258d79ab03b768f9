"""seed bundle ... What installers need, on this machine's disk: as root here, no service asked."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provisioning.errors import Invalid
from seed import show
from seed.commands.door import REFUSED, err, fail, plain
from seed.config import settings
from seed.host.paths import Paths

if TYPE_CHECKING:
    from images.archives import Say
    from images.needs import Wanted
    from provisioning.bundle import Bundle

app = typer.Typer(no_args_is_help=True, help="All that an installer needs, in one archive.")
COLUMNS = {
    "name": "BUNDLE", "version": "VERSION", "kind": "KIND", "architecture": "FOR",
    "files": "FILES", "size": "MB", "digest": "DIGEST",
}  # fmt: skip
Named = Annotated[str, typer.Argument(help="NAME, or NAME:VERSION.")]


@app.command("make")
def made(
    name: Annotated[str, typer.Argument(help="What it is to be called.")],
    version: Annotated[str, typer.Option(help="Of what it installs, as 1.36.2.")],
    kind: Annotated[str, typer.Option(help="Which installer's.")] = "kubeadm",
    architecture: Annotated[str, typer.Option(help="amd64 or arm64.")] = "amd64",
    from_: Annotated[
        Path | None, typer.Option("--from", help="A folder with the files; see docs/bundles.md.")
    ] = None,
    registry: Annotated[str, typer.Option(help="Of the images: HOST[:PORT][/PATH].")] = "",
    mirror: Annotated[
        str, typer.Option(help="Where they are fetched instead, keeping their names.")
    ] = "",
    lock: Annotated[
        Path | None, typer.Option(help="An earlier bundle.json: the very same files again.")
    ] = None,
    archive: Annotated[
        Path | None, typer.Option(help="Write it there too, as .tar or .tar.gz.")
    ] = None,
    made_at: Annotated[
        int | None, typer.Option(envvar="SOURCE_DATE_EPOCH", help="Seconds since 1970; else now.")
    ] = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Fetch what a kind needs from its makers, or take it from a folder, and publish it here.

    What is fetched comes from hosts in `allowed_hosts` of `[images]`; cut off, it is gone on with.
    Example: seed bundle make kubeadm --version 1.36.2 --from /root/files --archive kubeadm.tar
    """
    from images.bundle import pack
    from images.needs import Wanted
    from provisioning.bundle import BUNDLE, parse

    with _faults(), _progress() as say:
        locked = parse(_content(lock), str(lock)) if lock else None
        if architecture not in ("amd64", "arm64"):
            raise Invalid(
                f"architecture: {architecture!r} is neither amd64 nor arm64", "--architecture amd64"
            )
        at = datetime.now(UTC) if made_at is None else datetime.fromtimestamp(made_at, UTC)
        wanted = Wanted(
            name=name, version=version, kind=kind, registry=registry, mirror=mirror, lock=locked,
            architecture="arm64" if architecture == "arm64" else "amd64",
            downloads=settings().images.downloads, made_at=at.replace(microsecond=0),
        )  # fmt: skip
        bundle = _taken(wanted, from_, say) if from_ else _fetched(wanted, say)
        folder, more = _root() / bundle.name / bundle.version, {}
        if archive:
            say(f"{archive.name}: being written")
            more = {"archive": str(archive), "archive_sha256": pack(folder, archive)}
    _one(bundle, output, {"lock": str(folder / BUNDLE), **more})


def _taken(wanted: "Wanted", directory: Path, say: "Say") -> "Bundle":
    from images.collecting import make_from

    return make_from(wanted, directory, _root(), say)


def _fetched(wanted: "Wanted", say: "Say") -> "Bundle":
    """By the hosts, CAs and logins that disk images come with."""
    from threading import Event

    from images.collecting import make
    from images.containers import Containers
    from images.receiving import Receiver
    from provisioning.bundle import MOST_FILE
    from seed.images_service import make as images

    here, stopping = images(settings(), Event()), Event()
    receiver = Receiver(
        here.web, min(here.most, MOST_FILE), lambda *_: None, stopping, lambda: None
    )
    return make(wanted, _root(), receiver, Containers(here.web, here.login, lambda: None), say)


@app.command("load")
def loaded(
    file: Annotated[Path, typer.Argument(help="An archive that `make --archive` wrote.")],
    sha256: Annotated[str, typer.Option(help="The archive's, from who made it.")] = "",
    output: show.Output = show.Format.TABLE,
) -> None:
    """Publish what is in an archive: all of it, and all right, or nothing.

    Example: seed bundle load kubeadm.tar --sha256 DIGEST
    """
    from images.bundle import load
    from provisioning.sources import digest

    with _faults(), _progress() as say:
        bundle = load(file, _root(), say, digest(sha256) if sha256 else "")
    _one(bundle, output, {})


@app.command("verify")
def verified(name: Named, output: show.Output = show.Format.TABLE) -> None:
    """Compare every file with its digest; each that is missing, unknown or changed is named.

    Example: seed bundle verify kubeadm
    """
    from provisioning.bundle import find, verify

    with _progress() as say:
        folder = find(_root(), name)
        say(f"{folder.parent.name}:{folder.name}: being read")
        faults = verify(folder)
    told = {"name": folder.parent.name, "version": folder.name, "faults": faults}
    show.one({**told, "verdict": "faulty" if faults else "right"}, output)
    if faults:
        _list(faults)
        fail(
            f"bundle {name} is not as it was made",
            f"seed bundle remove {folder.parent.name}:{folder.name}, then make or load it anew",
        )


@app.command("list")
def listed(output: show.Output = show.Format.TABLE) -> None:
    """The bundles on this machine."""
    from provisioning.bundle import listed as found

    bundles = [_told(bundle) for bundle in found(_root())]
    table = output is show.Format.TABLE
    show.rows([_flat(bundle) for bundle in bundles] if table else bundles, COLUMNS, output)


@app.command("remove")
def removed(name: Named, output: show.Output = show.Format.TABLE) -> None:
    """Remove a bundle that no cluster needs.

    Example: seed bundle remove kubeadm:1.36.2
    """
    from images import served
    from images.bundle import remove
    from provisioning.bundle import find
    from provisioning.errors import NotFound

    try:
        folder = find(_root(), name)
    except NotFound:
        served.refresh(_root())  # a removal before that was cut off
        raise
    remove(folder, _root(), _in_use)
    show.one({"name": folder.parent.name, "version": folder.name, "removed": True}, output)


@contextmanager
def _in_use(name: str, version: str) -> Iterator[str]:
    """Which living clusters need it. While this is open nobody makes another one: whoever does
    looks for the bundle within the transaction that makes the cluster."""
    from provisioning import cluster_bundles
    from provisioning.store import Store

    here = settings()
    if not (Paths(here).db / "seed.db").exists():  # before the first `seed up`
        yield ""
        return
    with Store(here.database_url).write() as session:
        yield cluster_bundles.in_use(session, name, version)


def _root() -> Path:
    return Paths(settings()).bundles


def _content(path: Path) -> bytes:
    from provisioning.bundle import MOST_BUNDLE

    try:
        with path.open("rb") as file:
            return file.read(MOST_BUNDLE + 1)
    except OSError as error:
        raise Invalid(f"lock: {path} cannot be read: {error.strerror}", f"ls -l {path}") from error


@contextmanager
def _progress() -> "Iterator[Say]":
    """A line that lives on a terminal, none elsewhere."""
    with err.status("...") as status:
        yield lambda line: status.update(show.cell(line))


@contextmanager
def _faults() -> Iterator[None]:
    """One line for each file that is wrong, before the sentence."""
    from images.bundle import Faulty

    try:
        yield
    except Faulty as error:
        _list(error.faults)
        fail(error.what, error.remedy, REFUSED)


def _list(faults: list[str]) -> None:
    for fault in faults:
        err.print(f"  {plain(fault)}", soft_wrap=True)


def _told(bundle: "Bundle") -> dict[str, Any]:
    return {**bundle.model_dump(mode="json"), "digest": bundle.digest, "size": bundle.size}


def _flat(told: dict[str, Any]) -> dict[str, Any]:
    """As a table shows it."""
    files, size = len(told["files"]), round(told["size"] / 10**6)
    return {**told, "files": files, "size": size, "digest": told["digest"][:12]}


def _one(bundle: "Bundle", output: show.Format, more: dict[str, Any]) -> None:
    told = {**_told(bundle), **more}
    show.one(_flat(told) if output is show.Format.TABLE else told, output)
