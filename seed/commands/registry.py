"""seed registry ..."""

import sys
from typing import Annotated

import typer

from provisioning import sources
from seed import show
from seed.commands.door import USAGE, client, fail

app = typer.Typer(no_args_is_help=True, help="Logins of registries that images come from.")
COLUMNS = {"host": "REGISTRY", "username": "USER", "set_by": "BY", "set_at": "SINCE"}


@app.command("login")
def login(
    host: Annotated[str, typer.Argument(help="HOST or HOST:PORT; no other is ever told it.")],
    username: Annotated[str, typer.Option()],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read its password from standard input.")
    ] = False,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Keep a login for one registry.

    Example: seed registry login registry.example.org --username seed --password-stdin < FILE
    """
    if not password_stdin:
        fail("a user name without a password", "Add --password-stdin.", USAGE)
    password = sys.stdin.readline().rstrip("\n")
    if not password:
        fail("standard input held no password", "seed registry login ... < FILE", USAGE)
    told = {"username": username, "password": password}
    show.one(client().put(f"/registry-logins/{_authority(host)}", told), output)


@app.command("list")
def listed(output: show.Output = show.Format.TABLE) -> None:
    """Registries that a login is kept for."""
    show.rows(list(client().pages("/registry-logins")), COLUMNS, output)


@app.command("logout")
def logout(host: str) -> None:
    """Forget the login of a registry.

    Example: seed registry logout registry.example.org
    """
    client().delete(f"/registry-logins/{_authority(host)}")


def _authority(host: str) -> str:
    return sources.split(f"oci://{host}/x").authority
