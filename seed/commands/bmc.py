"""seed bmc ..."""

import time
from typing import Annotated, Any

import typer

from seed import show
from seed.client import Seed
from seed.commands import bmc_show
from seed.commands.door import REFUSED, TOO_LONG, USAGE, client, err, fail, part

app = typer.Typer(no_args_is_help=True, help="The BMCs that were found.")
COLUMNS = {
    "address": "ADDRESS", "protocol": "BMC", "state": "STATE", "login": "LOGIN",
    "health": "HEALTH", "serial": "SERIAL", "node": "NODE", "model": "MODEL",
}  # fmt: skip
LOOK_SECONDS = 120.0  # one BMC's whole conversation, and a little


@app.command("list")
def listed(output: show.Output = show.Format.TABLE) -> None:
    """Every BMC ever found. HEALTH is the BMC's word; "silent": it could not be asked last time."""
    found = list(client().pages("/bmcs"))
    if output is show.Format.TABLE:
        found = [b | ({"health": "silent"} if b["survey_problem"] else {}) for b in found]
    show.rows(found, COLUMNS, output)


@app.command("show")
def shown(address: str, output: show.Output = show.Format.TABLE) -> None:
    """One BMC: its server's parts, health and findings, and what it can do.

    Example: seed bmc show 172.22.1.11
    """
    bmc_show.bmc(client().get(f"/bmcs/{part(address)}"), output)


@app.command()
def inspect(
    addresses: Annotated[list[str], typer.Argument(help="Addresses as in `seed bmc list`.")],
    output: show.Output = show.Format.TABLE,
) -> None:
    """Ask BMCs anew what their servers consist of. The power stays as it is.

    Example: seed bmc inspect 172.22.1.11 172.22.1.12
    """
    api = client()
    for address in addresses:
        api.post(f"/bmcs/{part(address)}:inspect")
    found = [_awaited(api, address, "survey_waits", "is being asked") for address in addresses]
    told = [
        bmc | {"problem": bmc["survey_problem"], "remedy": bmc["survey_remedy"]} for bmc in found
    ]
    if output is show.Format.TABLE:
        show.rows(told, COLUMNS, output)
    else:
        show.one(found, output)
    if any(bmc["problem"] for bmc in told):
        raise typer.Exit(REFUSED)


@app.command()
def locate(
    address: str,
    on: Annotated[bool, typer.Option("--on/--off", help="Switch it on or off.")],
    output: show.Output = show.Format.TABLE,
) -> None:
    """Switch the locate LED of a BMC's server.

    Example: seed bmc locate 172.22.1.11 --on
    """
    api = client()
    api.post(f"/bmcs/{part(address)}:locate", {"on": on})
    found = _awaited(api, address, "led_waits", "switches its LED")
    if found["led_problem"]:
        fail(found["led_problem"], f"seed bmc show {address}")
    if output is show.Format.TABLE:
        show.out.print(f"the locate LED of {show.cell(address)} is {found['led']}")
    else:
        show.one(found, output)


def _awaited(api: Seed, address: str, flag: str, what: str) -> dict[str, Any]:
    """The BMC once the reconciler has done what was asked."""
    until = time.monotonic() + LOOK_SECONDS
    with err.status(f"{address} {what}"):
        while True:
            found: dict[str, Any] = api.get(f"/bmcs/{part(address)}")
            if not found[flag]:
                return found
            if time.monotonic() > until:
                fail(f"{address} takes too long", "`seed logs seed-reconciler`", TOO_LONG)
            time.sleep(0.3)


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
    keep_login: Annotated[
        bool, typer.Option("--keep-login", help="Leave the BMC's password and certificate alone.")
    ] = False,
    output: show.Output = show.Format.TABLE,
) -> None:
    """These servers are ours: a new BMC password each, enroll, inspect. Disks are not touched.

    Example: seed bmc accept 172.22.1.11 172.22.1.12
    """
    if len(addresses) > 1 and (name or mac):
        fail("one name or MAC for several servers", "Accept them one by one.", USAGE)
    api = client()
    done = []
    for address in addresses:
        said = {"name": name, "resource_class": resource_class, "mac": mac}
        body: dict[str, Any] = {what: word for what, word in said.items() if word}
        if keep_login:
            body["keep_login"] = True
        done.append(api.post(f"/bmcs/{part(address)}:accept", body))
    show.rows(done, COLUMNS, output)


@app.command()
def forget(
    address: str,
    why: Annotated[str, typer.Option(help="Kept in the event.")] = "",
    output: show.Output = show.Format.TABLE,
) -> None:
    """This server is not ours any more; its power and its disks stay as they are.

    Example: seed bmc forget 172.22.1.11
    """
    show.rows([client().post(f"/bmcs/{part(address)}:forget", {"why": why})], COLUMNS, output)
