"""seed rack netbox ..."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
import yaml

from seed import netbox, show
from seed.commands.door import REFUSED, USAGE, client, err, fail

app = typer.Typer(no_args_is_help=True, help="A plan from NetBox, and what was found back to it.")
COLUMNS = {
    "device": "DEVICE", "slot": "SLOT", "field": "FIELD", "netbox": "NETBOX", "seed": "SEED",
}  # fmt: skip
Url = Annotated[str, typer.Option(help="Its https address.")]
TokenFile = Annotated[Path, typer.Option(help="Holds its token; - is standard input.")]
RoleOption = Annotated[list[str], typer.Option("--role", help="Slug of the servers' role.")]
Site = Annotated[str, typer.Option(help="Slug of one site.")]
Ca = Annotated[str, typer.Option(help="PEM of the CA that signed its certificate.")]


@app.command()
def pull(
    url: Url,
    token_file: TokenFile,
    role: RoleOption,
    to: Annotated[Path, typer.Option(help="The plan's file, YAML.")],
    site: Site = "",
    ca: Ca = "",
) -> None:
    """Write a plan of NetBox's racks, devices and cables; then `seed rack plan import` it.

    Example: seed rack netbox pull --url https://nb --token-file t --role server --to plan.yaml
    """
    from ipxe.render import write_atomic

    with _netbox(url, token_file, ca) as box, err.status(f"asking {url}"):
        rows = box.plan(box.devices(role, site))
    try:
        write_atomic(to, yaml.safe_dump(rows, sort_keys=False))
    except OSError as problem:
        fail(f"cannot write {to}: {problem.strerror}", f"ls -ld {to.parent}", USAGE)
    err.print(f"{len(rows)} slots: seed rack plan import {show.cell(to)}", soft_wrap=True)


@app.command()
def push(
    url: Url,
    token_file: TokenFile,
    role: RoleOption,
    site: Site = "",
    ca: Ca = "",
    write: Annotated[bool, typer.Option("--write", help="Do it; else only show it.")] = False,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Show what NetBox's custom fields seed_verdict, seed_serial and seed_bmc say otherwise.

    Example: seed rack netbox push --url https://nb --token-file t --role server
    """
    report = client().get("/racks:report")
    with _netbox(url, token_file, ca) as box, err.status(f"asking {url}"):
        changes, missing = netbox.differences(box.devices(role, site), report)
        if write and changes and missing:
            fail(
                f"NetBox's devices have no custom field {', '.join(missing)}",
                "Make each there: object type dcim.device, type Text.",
                REFUSED,
            )
        if write:
            box.write(changes)
    show.rows([asdict(change) for change in changes], COLUMNS, output)
    if changes and not write:
        err.print("nothing was written; add --write")


@contextmanager
def _netbox(url: str, token_file: Path, ca: str) -> Iterator[netbox.NetBox]:
    try:
        token = sys.stdin.read() if str(token_file) == "-" else token_file.read_text()
    except (OSError, UnicodeDecodeError) as problem:
        fail(f"cannot read the token in {token_file}: {problem}", f"ls -l {token_file}", USAGE)
    box = netbox.NetBox(url.rstrip("/"), token.strip(), ca)
    try:
        yield box
    finally:
        box.close()
