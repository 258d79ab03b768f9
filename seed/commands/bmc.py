"""seed discover, seed bmc ..."""

import sys
import time
from typing import Annotated

import typer

from seed import show
from seed.client import REFUSED, TOO_LONG, USAGE, Client, err, fail, part
from seed.config import settings

app = typer.Typer(no_args_is_help=True, help="The BMCs that were found.")
COLUMNS = {
    "address": "ADDRESS", "protocol": "BMC", "state": "STATE", "login": "LOGIN",
    "serial": "SERIAL", "node": "NODE", "model": "MODEL",
}  # fmt: skip
SWEEP_SECONDS = 900  # a /16 with slow BMCs


def client() -> Client:
    return Client(settings().api_socket)


def discover(
    ranges: Annotated[list[str], typer.Argument(help="10.0.0.0/24, 10.0.0.7 or 10.0.0.5-10.0.0.9")],
    username: Annotated[str, typer.Option(help="BMC user for a login.")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read its password from standard input.")
    ] = False,
    credential: Annotated[str, typer.Option(help="A login kept before, by name.")] = "",
    output: show.Output = show.Format.TABLE,
) -> None:
    """Look for BMCs in address ranges; each gets one login at most.

    Example: seed discover 172.22.1.0/24 --username admin --password-stdin < password
    """
    api = client()
    if username:
        credential = _keep_login(api, username, password_stdin)
    elif password_stdin:
        fail("a password without a user name", "Add --username.", USAGE)
    row = api.post("/discoveries", {"ranges": ranges, "credential": credential or None})
    with err.status(f"looking at {row['addresses']} addresses") as progress:
        until = time.monotonic() + SWEEP_SECONDS
        while row["state"] not in ("done", "failed"):
            if time.monotonic() > until:
                fail("the sweep takes too long", "`seed logs seed-reconciler`", TOO_LONG)
            time.sleep(0.3)
            row = api.get(f"/discoveries/{row['id']}")
            progress.update(f"looking at {row['addresses']} addresses: {row['state']}")
    for problem in row["problems"]:
        err.print(f"[yellow]warning:[/yellow] {show.cell(problem['problem'])}", soft_wrap=True)
        err.print(f"  try: {show.cell(problem['remedy'])}", soft_wrap=True)
    listed(output)
    if row["state"] == "failed" or row["problems"]:
        raise typer.Exit(REFUSED)


def _keep_login(api: Client, username: str, password_stdin: bool) -> str:
    if not password_stdin:
        fail("a user name without a password", "Add --password-stdin.", USAGE)
    password = sys.stdin.readline().rstrip("\n")
    if not password:
        fail("standard input held no password", "seed discover ... --password-stdin < FILE", USAGE)
    name = f"discover-{time.time_ns()}"
    api.post("/credentials", {"name": name, "username": username, "password": password})
    return name


@app.command("list")
def listed(output: show.Output = show.Format.TABLE) -> None:
    """Every BMC ever found."""
    show.rows(client().get("/bmcs"), COLUMNS, output)


@app.command("show")
def shown(address: str, output: show.Output = show.Format.TABLE) -> None:
    """One BMC.

    Example: seed bmc show 172.22.1.11
    """
    show.one(client().get(f"/bmcs/{part(address)}"), output)


@app.command()
def accept(
    addresses: Annotated[list[str], typer.Argument(help="Addresses as in `seed bmc list`.")],
    name: Annotated[
        str, typer.Option(help="The node's name; by default an import's, else its serial.")
    ] = "",
    resource_class: Annotated[
        str, typer.Option(help="What claims ask for; by default an import's, else baremetal.")
    ] = "",
    mac: Annotated[str, typer.Option(help="Boot NIC, where the BMC does not tell.")] = "",
    output: show.Output = show.Format.TABLE,
) -> None:
    """These servers are ours: enroll and inspect them. Their disks are not touched.

    Example: seed bmc accept 172.22.1.11 172.22.1.12
    """
    if len(addresses) > 1 and (name or mac):
        fail("one name or MAC for several servers", "Accept them one by one.", USAGE)
    api = client()
    done = []
    for address in addresses:
        said = {"name": name, "resource_class": resource_class, "mac": mac}
        body = {what: word for what, word in said.items() if word}
        done.append(api.post(f"/bmcs/{part(address)}:accept", body))
    show.rows(done, COLUMNS, output)


@app.command()
def forget(address: str, output: show.Output = show.Format.TABLE) -> None:
    """This server is not ours any more; its power and its disks stay as they are.

    Example: seed bmc forget 172.22.1.11
    """
    show.rows([client().post(f"/bmcs/{part(address)}:forget")], COLUMNS, output)
