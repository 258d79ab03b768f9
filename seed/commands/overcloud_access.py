"""seed overcloud check, clouds, export: what people take from an overcloud that is there."""

from base64 import b64decode, b64encode
from pathlib import Path
from typing import Annotated, Any

import typer

from seed import show
from seed.commands.cluster_access import Timeout, followed, tried
from seed.commands.door import USAGE, client, err, fail, part
from seed.commands.wishes import text_of

GIVES = {"name": "ROW", "summary": "WHAT", "lacks": "LACKS"}
FILES = {"path": "FILE", "mode": "MODE", "bytes": "BYTES"}


def check(name: str, timeout: Timeout = 1800, output: show.Output = show.Format.TABLE) -> None:
    """Whether an overcloud works: endpoints, agents, a server that boots. Ends with 1 if not.

    Example: seed overcloud check cloud
    """
    tried("overclouds", name, timeout, output)


def clouds(
    name: str,
    out: Annotated[Path, typer.Option(help="Folder to write to, 0600.")] = Path(),
    timeout: Timeout = 120,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Write clouds.yaml of its administrator, and its CA. Nobody but you could read it on its way.

    Example: seed overcloud clouds cloud --out ~/.config/openstack
    """
    from provisioning.overcloud_access import info
    from provisioning.secrets import Envelope

    files = {out.expanduser() / "clouds.yaml", out.expanduser() / f"{part(name)}.ca.pem"}
    for file in sorted(files):
        if file.exists():
            fail(f"{file} is there already", "Name another folder: `--out FOLDER`.")
    api, mine = client(), Envelope.new()
    key = b64encode(mine.public).decode()
    asked = api.create(f"/overclouds/{part(name)}/clouds", {"key": key}) | {"cluster": name}
    path = f"/overclouds/{part(name)}/clouds/{asked['id']}"
    told = followed(
        api, path, asked, timeout, lambda now: bool(now["sealed"]),
        lambda _now: f"clouds.yaml of {name} is being sealed",
    )  # fmt: skip
    text = mine.open(b64decode(told["sealed"]), info(told["id"]))
    if not text:
        fail(f"Seed does not know how to log in to {name}", f"See `seed overcloud show {name}`.")
    _write_clouds(out.expanduser(), name, text, output)


def export(
    name: str,
    to: Annotated[Path, typer.Option(help="A new folder.")],
    installer: Annotated[
        str, typer.Option("--format", help="Of `seed overcloud installers`; else its own.")
    ] = "",
    options: Annotated[Path | None, typer.Option(help="YAML: options of that installer.")] = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Write what an installer is given for this overcloud, without secrets, for you to run it.

    Example: seed overcloud export cloud --format kayobe --to ./kayobe-config
    """
    body = {"installer": installer, "options": _yaml(options) if options else {}}
    _written(client().post(f"/overclouds/{part(name)}:export", body), to, output)


def gives(name: str, output: show.Output = show.Format.TABLE) -> None:
    """What an overcloud takes from the bare metal, and what each row lacks.

    Example: seed overcloud gives cloud
    """
    show.rows(client().get(f"/overclouds/{part(name)}/gives"), GIVES, output)


def give(
    name: str,
    row: Annotated[str, typer.Argument(help="See `seed overcloud gives`.")],
    to: Annotated[Path, typer.Option(help="A new folder.")],
    wish: Annotated[
        Path | None, typer.Option(help="YAML: what is said to the row; else the overcloud's.")
    ] = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Write one row's files, for you to put where its documentation says.

    Example: seed overcloud give cloud zones --to ./zones
    """
    told = _yaml(wish) if wish else {}
    found = client().post(f"/overclouds/{part(name)}:give", {"give": row, "wish": told})
    _written(found, to, output)


def import_(
    file: Annotated[Path, typer.Argument(help="TripleO's baremetal_deployment.yaml.")],
    name: Annotated[str, typer.Option(help="Of the overcloud.")] = "overcloud",
) -> None:
    """Print the beginning of an overcloud's file, of TripleO's; what has no counterpart is told.

    Example: seed overcloud import baremetal_deployment.yaml --name cloud > cloud.yaml
    """
    import yaml

    from provisioning import tripleo
    from provisioning.errors import Invalid

    try:
        spec, left_out = tripleo.overcloud(text_of(file), name)
    except Invalid as problem:
        fail(str(problem), problem.remedy, USAGE)
    for sentence in left_out:
        err.print(show.cell(sentence), soft_wrap=True)
    typer.echo(yaml.safe_dump(spec, sort_keys=False).rstrip())


def _yaml(file: Path) -> dict[str, Any]:
    import yaml

    try:
        told = yaml.safe_load(text_of(file))
    except yaml.YAMLError as problem:
        fail(f"{file} is no YAML: {str(problem).splitlines()[0]}", f"Mend {file}.", USAGE)
    if not isinstance(told, dict):
        fail(f"{file} has no NAME: VALUE", f"Mend {file}.", USAGE)
    return told


def _written(found: list[dict[str, Any]], to: Path, output: show.Format) -> None:
    from ipxe.render import write_atomic  # Jinja2: these verbs' alone

    folder = to.expanduser()
    try:
        folder.mkdir(parents=True)
        for one in found:
            file = folder / one["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, one["content"], int(one["mode"], 8))
    except FileExistsError:
        fail(f"{folder} is there already", "Name a new folder: `--to FOLDER`.")
    except OSError as problem:
        fail(f"cannot write {folder}: {problem.strerror}", "Name another: `--to FOLDER`.")
    rows = [
        {"path": str(folder / one["path"]), "mode": one["mode"], "bytes": len(one["content"])}
        for one in found
    ]
    show.rows(rows, FILES, output)


def _write_clouds(folder: Path, name: str, text: str, output: show.Format) -> None:
    """The CA is a file of its own, which clouds.yaml names."""
    import yaml

    from ipxe.render import write_atomic  # Jinja2: this verb's alone

    told: dict[str, Any] = yaml.safe_load(text)
    ca = told.pop("ca", "")
    written = {"clouds.yaml": yaml.safe_dump(told, sort_keys=False)}
    if ca:
        file = (folder / f"{part(name)}.ca.pem").absolute()
        for cloud in told["clouds"].values():
            cloud["cacert"] = str(file)
        written = {file.name: ca, "clouds.yaml": yaml.safe_dump(told, sort_keys=False)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in written.items():
            write_atomic(folder / path, content, 0o600)
    except OSError as problem:
        fail(f"cannot write to {folder}: {problem.strerror}", "Name another: `--out FOLDER`.")
    facts = {"overcloud": name, "file": str(folder / "clouds.yaml")}
    show.one(facts | {"use": f"OS_CLOUD={name} openstack server list"}, output)
