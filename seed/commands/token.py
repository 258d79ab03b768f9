"""seed token ..."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from seed import show
from seed.commands.door import client, fail, part
from seed.config import settings

app = typer.Typer(no_args_is_help=True, help="Keys for programs and people elsewhere.")
COLUMNS = {
    "name": "TOKEN", "project": "PROJECT", "last_used_at": "USED", "expires_at": "EXPIRES",
    "may": "ROLES AND SCOPES",
}  # fmt: skip
HOME = Path.home() / ".config" / "seed"
CLOUDS = """\
clouds:
  seed:
    auth_type: http_basic
    auth:
      endpoint: {url}/baremetal
      username: {name}
      password: {secret}
    baremetal_endpoint_override: {url}/baremetal
    cacert: {ca}
"""


@app.command()
def create(
    name: str,
    role: Annotated[list[str], typer.Option(help="viewer, claimer, operator or destroyer.")],
    project: Annotated[str, typer.Option(help="Where its claims live.")] = "default",
    days: Annotated[
        int | None, typer.Option(min=1, max=366, help="Until it expires; else 90, or as its maker.")
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="Good for this only: claims, events:read; repeatable.")
    ] = None,
    directory: Annotated[
        Path, typer.Option(help="Where its files go.", envvar="SEED_TOKEN_DIR")
    ] = HOME,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Make a token: two files only you can read, the token and a clouds.yaml; prints their paths.

    Example: seed token create ci --role claimer --project web
    """
    from ipxe.render import write_atomic

    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = {"token": directory / f"{name}.token", "clouds": directory / f"{name}-clouds.yaml"}
    if paths["token"].exists():
        fail(f"{paths['token']} exists", f"Revoke it first: seed token revoke {name}")
    url, ca = _where()
    asked: dict[str, Any] = {"name": name, "roles": role, "project": project, "scopes": scope or []}
    if days is not None:
        asked["days"] = days
    made = client().post("/tokens", asked)
    secret = made["token"]
    write_atomic(paths["token"], secret + "\n", 0o600)
    text = CLOUDS.format(url=url, name=name, secret=secret, ca=ca)
    write_atomic(paths["clouds"], text, 0o600)
    show.one({**{k: v for k, v in made.items() if k != "token"}, **paths}, output)


@app.command("list")
def listed(output: show.Output = show.Format.TABLE) -> None:
    """Every token you may see, sessions too; never a secret."""
    found = client().get("/tokens")
    if output is show.Format.TABLE:
        found = [_row(token) for token in found]
    show.rows(found, COLUMNS, output)


@app.command()
def revoke(
    name: str,
    directory: Annotated[
        Path, typer.Option(help="Where its files are.", envvar="SEED_TOKEN_DIR")
    ] = HOME,
) -> None:
    """From now on this token opens nothing.

    Example: seed token revoke ci
    """
    client().delete(f"/tokens/{part(name)}")
    for path in (directory / f"{name}.token", directory / f"{name}-clouds.yaml"):
        if os.access(path, os.W_OK):
            path.unlink()
    typer.echo(f"{name} is revoked")


def _where() -> tuple[str, str]:
    """The API's address and its authority's file, as a client of this machine names them."""
    if server := os.environ.get("SEED_SERVER"):
        return server.rstrip("/"), os.environ.get("SEED_CA", "")
    here = settings()
    url = f"https://{here.management.address.ip}:{here.api_port}"
    return url, str(here.state_dir / "tls" / "ca.pem")


def _row(token: dict[str, Any]) -> dict[str, Any]:
    scopes = f", for {' '.join(token['scopes'])} only" if token["scopes"] else ""
    days = {key: (token[key] or "")[:10] for key in ("last_used_at", "expires_at")}
    return {**token, **days, "may": " ".join(token["roles"]) + scopes}
