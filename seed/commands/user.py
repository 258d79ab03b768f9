"""seed user ..."""

import secrets
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from seed import show
from seed.commands.door import USAGE, client, fail, part

app = typer.Typer(no_args_is_help=True, help="People with a password of Seed's.")
COLUMNS = {
    "name": "USER", "roles": "ROLES", "project": "PROJECT", "state": "STATE",
    "sessions": "SESSIONS",
}  # fmt: skip
HOME = Path.home() / ".config" / "seed"

PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]
Directory = Annotated[
    Path, typer.Option(help="Where a generated password's file goes.", envvar="SEED_TOKEN_DIR")
]


@app.command()
def create(
    name: str,
    role: Annotated[list[str], typer.Option(help="viewer, claimer, operator or destroyer.")],
    project: Annotated[str, typer.Option(help="Where its claims live.")] = "default",
    password_stdin: PasswordStdin = False,
    directory: Directory = HOME,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Make a user. Its password is read, or made up and put into a file only you can read.

    Example: seed user create alice --role claimer --project web
    """
    password, file = _new_password(name, password_stdin, directory)
    body = {"name": name, "password": password, "roles": role, "project": project}
    made = client().post("/users", body)
    show.one({**made, **_kept(file, password)}, output)


@app.command("list")
def listed(output: show.Output = show.Format.TABLE) -> None:
    """Every user."""
    found = client().get("/users")
    if output is show.Format.TABLE:
        found = [{**user, "state": _state(user)} for user in found]
    show.rows(found, COLUMNS, output)


@app.command("show")
def shown(name: str, output: show.Output = show.Format.TABLE) -> None:
    """One user, how many sessions it has, and the tokens it made.

    Example: seed user show alice
    """
    show.one(client().get(f"/users/{part(name)}"), output)


@app.command()
def password(
    name: str,
    password_stdin: PasswordStdin = False,
    generate: Annotated[bool, typer.Option(help="Make one up; for another's.")] = False,
    reset: Annotated[bool, typer.Option(help="Another's: its old one is not asked.")] = False,
    directory: Directory = HOME,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Change a password: your own with the old one; with --reset, another's. Its sessions end.

    With --password-stdin standard input holds the old one and the new one, each on a line of its
    own; with --reset only the new one.

    Example: seed user password alice --reset --generate
    """
    body: dict[str, str] = {}
    file = None
    if not reset:
        body["old"] = _line() if password_stdin else _asked("Old password")
    if generate:
        body["password"], file = _new_password(name, False, directory)
    else:
        body["password"] = _line() if password_stdin else _asked("New password", twice=True)
    client().put(f"/users/{part(name)}/password", body)
    show.one({"name": name, "changed": True, **_kept(file, body["password"])}, output)


@app.command()
def disable(name: str, output: show.Output = show.Format.TABLE) -> None:
    """Its sessions end at once, and the tokens that it made for itself.

    Example: seed user disable alice
    """
    show.one(client().post(f"/users/{part(name)}:disable"), output)


@app.command()
def enable(name: str, output: show.Output = show.Format.TABLE) -> None:
    """It may log in again; wrong passwords so far are forgotten.

    Example: seed user enable alice
    """
    show.one(client().post(f"/users/{part(name)}:enable"), output)


@app.command()
def delete(name: str) -> None:
    """Its sessions end, the tokens it made for itself, and its name is free.

    Example: seed user delete alice
    """
    client().delete(f"/users/{part(name)}")
    typer.echo(f"{name} is deleted")


def _new_password(name: str, from_stdin: bool, directory: Path) -> tuple[str, Path | None]:
    """A password, and where it goes if it was made up."""
    if from_stdin:
        return _line(), None
    file = directory / f"{part(name)}.password"
    if file.exists():
        fail(f"{file} exists", f"Move it away first: mv {file} {file}.old")
    return secrets.token_urlsafe(18), file


def _kept(file: Path | None, password: str) -> dict[str, Any]:
    """A made-up password in its file; only its path is printed."""
    from ipxe.render import write_atomic

    if file is None:
        return {}
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(file, password + "\n", 0o600)
    return {"password_file": file}


def _line() -> str:
    found = sys.stdin.readline().rstrip("\n")
    if not found:
        fail(
            "standard input held no password",
            "seed user create NAME --role viewer --password-stdin < FILE",
            USAGE,
        )
    return found


def _asked(what: str, twice: bool = False) -> str:
    return str(typer.prompt(what, hide_input=True, confirmation_prompt=twice, err=True))


def _state(user: dict[str, Any]) -> str:
    if user["disabled_at"]:
        return "disabled"
    return "blocked" if user["blocked_until"] else "enabled"
