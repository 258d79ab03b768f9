"""seed login, seed logout."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from seed import show
from seed.calls import session_file
from seed.client import Seed
from seed.commands.door import USAGE, fail


def login(
    user: Annotated[str, typer.Option(help="Your name; asked for if left out.")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Your name and password become a session of eight hours, kept in ~/.config/seed.

    $SEED_SERVER says where, $SEED_CA whom to trust. Verbs use the session where SEED_TOKEN_FILE is
    not set.

    Example: seed login --user alice
    """
    from ipxe.render import write_atomic

    if not os.environ.get("SEED_SERVER"):
        fail(
            "on the Seed machine the socket knows who you are; SEED_SERVER names no other",
            "export SEED_SERVER=https://seed:8443 SEED_CA=seed-ca.pem, then seed login",
            USAGE,
        )
    user = user or typer.prompt("User", err=True)
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = typer.prompt("Password", hide_input=True, err=True)
    if not password:
        fail("standard input held no password", "seed login --password-stdin < FILE", USAGE)
    made = _there(None).post("/sessions", {"user": user, "password": password})
    file = _file()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(file, made["token"] + "\n", 0o600)
    show.one({**{k: v for k, v in made.items() if k != "token"}, "file": file}, output)


def logout() -> None:
    """End the session at $SEED_SERVER, there and here."""
    file = _file()
    if not os.environ.get("SEED_SERVER") or not file.exists():
        fail("you are not logged in there", "seed login")
    token = file.read_text().strip()
    file.unlink()  # first: an expired session is refused, and forgotten all the same
    _there(token).delete("/sessions/current")
    typer.echo("logged out")


def _there(token: str | None) -> Seed:
    server, ca = os.environ["SEED_SERVER"], os.environ.get("SEED_CA")
    return Seed(server, token=token, ca=ca or None, tries=1)


def _file() -> Path:
    return session_file(os.environ.get("SEED_SERVER", ""))
