"""seed inventory: what is handed out, for Ansible."""

import json
from typing import Annotated

import typer

from seed.commands.door import USAGE, client, fail


def inventory(
    listing: Annotated[bool, typer.Option("--list", help="Every host and group.")] = False,
    host: Annotated[str | None, typer.Option(help="One host's variables.")] = None,
    project: Annotated[str | None, typer.Option(help="This project's; else all you see.")] = None,
) -> None:
    """What is handed out, as an Ansible inventory program says it (JSON).

    Example: seed inventory --list
    """
    if listing == (host is not None):
        fail("neither or both of --list and --host", "seed inventory --list", USAGE)
    api = client()
    told = api.inventory.ansible(project or api.project or None)
    if host is None:
        typer.echo(json.dumps(told, indent=2))
        return
    variables = told["_meta"]["hostvars"].get(host)
    if variables is None:
        fail(f"no host {host!r} is handed out", "See who is: `seed inventory --list`.")
    typer.echo(json.dumps(variables, indent=2))
