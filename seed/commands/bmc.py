"""seed bmc ..."""

import os
from pathlib import Path
from typing import Annotated

import typer

from seed import show
from seed.client import USAGE, Client, fail, part
from seed.config import settings

app = typer.Typer(no_args_is_help=True, help="The BMCs that were found.")
COLUMNS = {
    "address": "ADDRESS", "protocol": "BMC", "state": "STATE", "login": "LOGIN",
    "serial": "SERIAL", "node": "NODE", "model": "MODEL",
}  # fmt: skip


def client() -> Client:
    """Of a Seed elsewhere, if $SEED_SERVER names one: then this machine needs no settings."""
    return Client(Path() if os.environ.get("SEED_SERVER") else settings().api_socket)


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
