"""seed login, seed logout."""

import os
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from seed import show
from seed.client import Refused, Seed
from seed.commands import oidc
from seed.commands.door import PROJECT, USAGE, err, fail, refuse
from seed.logged_in import Login, Method, keep, kept, session_file

NOT_HERE = "Log in with your name and password: `seed login`; or ask who runs Seed for a token."


def login(
    user: Annotated[str, typer.Option(help="Your name; asked for if left out.")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    by_oidc: Annotated[
        bool, typer.Option("--oidc", help="By single sign-on, in a browser.")
    ] = False,
    by_keystone: Annotated[
        bool, typer.Option("--keystone", help="By OpenStack: OS_CLOUD, or the other OS_ variables.")
    ] = False,
    project: Annotated[
        str | None, typer.Option(help="Which of your projects the verbs act for; remembered.")
    ] = None,
    seconds: Annotated[
        int, typer.Option(min=10, max=1800, help="With --oidc: how long to wait for you.")
    ] = 300,
    again: Annotated[
        bool, typer.Option("--again", help="With --oidc: ask you, also where a renewal would do.")
    ] = False,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Log in at $SEED_SERVER: with name and password, or by single sign-on.

    A session of name and password lasts eight hours. $SEED_CA says whom to trust.
    It is kept in ~/.config/seed; verbs use it where SEED_TOKEN_FILE is not set.

    Example: seed login --user alice
    """
    server = _server(by_oidc, by_keystone, bool(user or password_stdin))
    wish = PROJECT.get() if project is None else project
    before = kept(server)
    if before and project is None and not wish and (by_oidc or by_keystone):
        wish = before.project
    if by_oidc:
        made, told = _by_oidc(server, wish, seconds, None if again else before)
    elif by_keystone:
        made, told = _by_keystone(server, wish)
    else:
        made, told = _by_password(server, user, password_stdin, wish)
    file = keep(server, made)
    show.one({**told, "file": file}, output)
    if os.environ.get("SEED_TOKEN_FILE"):
        err.print(
            "Verbs use SEED_TOKEN_FILE, not this login: unset SEED_TOKEN_FILE", soft_wrap=True
        )
    if by_oidc or by_keystone:
        _prove(server, made)


def logout() -> None:
    """End the session at $SEED_SERVER, there and here."""
    server = os.environ.get("SEED_SERVER", "")
    login = kept(server) if server else None
    session_file(server).unlink(missing_ok=True)  # first: an expired session is forgotten, too
    if login is None:
        fail("you are not logged in there", "seed login")
    if login.method is Method.SEED:  # others' tokens are ended where they were made
        with _there(server, login) as there:
            there.delete("/sessions/current")
    typer.echo("logged out")


def _server(by_oidc: bool, by_keystone: bool, by_password: bool) -> str:
    if by_oidc + by_keystone + by_password > 1:
        fail(
            "--oidc, --keystone and a name with its password are three ways: take one",
            "seed login --oidc",
            USAGE,
        )
    server = os.environ.get("SEED_SERVER", "").rstrip("/")
    if not server:
        fail(
            "on the Seed machine the socket knows who you are; SEED_SERVER names no other",
            "export SEED_SERVER=https://seed:8443 SEED_CA=seed-ca.pem, then seed login",
            USAGE,
        )
    return server


def _by_password(
    server: str, user: str, password_stdin: bool, project: str
) -> tuple[Login, dict[str, Any]]:
    user = user or typer.prompt("User", err=True)
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = typer.prompt("Password", hide_input=True, err=True)
    if not password:
        fail("standard input held no password", "seed login --password-stdin < FILE", USAGE)
    with _there(server, None) as there:
        made = there.post("/sessions", {"user": user, "password": password})
    login = Login(made.pop("token"))
    if project not in ("", made["project"]):
        with _there(server, login) as there:
            there.delete("/sessions/current")
        fail(
            f"{user} is of the project {made['project']} only, not of {project}",
            f"seed login --user {user} --project {made['project']}",
        )
    return login, made


def _by_oidc(
    server: str, project: str, seconds: int, before: Login | None
) -> tuple[Login, dict[str, Any]]:
    told = _methods(server).get("oidc")
    if not told:
        fail(f"Seed at {server} has no single sign-on with OIDC", NOT_HERE)
    old = before.refresh if before and before.method is Method.OIDC else {}
    token, refresh = oidc.fetch(told, seconds, old)
    said = oidc.payload(token)
    ends = said.get("exp")
    return Login(token, Method.OIDC, project, refresh), {
        "user": said.get("preferred_username") or said.get("sub"),
        "project": project,
        "expires_at": datetime.fromtimestamp(ends, UTC) if isinstance(ends, int) else None,
    }


def _by_keystone(server: str, project: str) -> tuple[Login, dict[str, Any]]:
    if not _methods(server).get("keystone"):
        fail(f"Seed at {server} does not know OpenStack's Keystone", NOT_HERE)
    from provisioning import cloud

    secret, ends = cloud.token(os.environ.get("OS_CLOUD"))
    return Login(secret, Method.KEYSTONE, project), {"project": project, "expires_at": ends}


def _methods(server: str) -> dict[str, Any]:
    """What `GET /v1/login-methods` says."""
    with _there(server, None) as there:
        found = there.get("/login-methods")
    return found if isinstance(found, dict) else {}


def _prove(server: str, login: Login) -> None:
    """What Seed thinks of somebody else's token, asked once: it is kept in any case."""
    try:
        with _there(server, login) as there:
            there.get("/images", limit=1)
    except Refused as error:
        err.print("You are logged in, but Seed refuses you:")
        refuse(error)


def _there(server: str, login: Login | None) -> Seed:
    ca = os.environ.get("SEED_CA") or None
    if login is None:
        return Seed(server, token=None, ca=ca, tries=1)
    return Seed(
        server, token=login.token, method=login.method, project=login.project, ca=ca, tries=1
    )
