"""seed metal3 lend, list, export"""

from typing import Annotated

import typer

from seed import show
from seed.commands import lending
from seed.commands.door import err
from seed.commands.lending import KeepLogins, KeepRunning, Name, To

app = typer.Typer(help="Lend claimed servers to Cluster API's Metal3.", no_args_is_help=True)


@app.command()
def lend(
    name: Name, keep_logins: KeepLogins = False, output: show.Output = show.Format.TABLE
) -> None:
    """These servers are Metal3's until the claim is released: Seed and Ironic leave them alone.

    `seed claim release` takes them back: their BMCs get new logins, then they are cleaned.

    Example: seed metal3 lend racks-for-capi
    """
    lending.lend(name, "metal3", keep_logins, output)


@app.command("list")
def list_lent(output: show.Output = show.Format.TABLE) -> None:
    """Claims that are lent, on their way there, or on their way back.

    Example: seed metal3 list
    """
    lending.list_lent(output)


@app.command()
def export(
    name: Name,
    to: To,
    namespace: Annotated[str, typer.Option(help="Where Metal3 looks for its hosts.")] = "metal3",
    keep_running: KeepRunning = False,
) -> None:
    """Write a lent claim's BareMetalHosts and Secrets. Needs root on the Seed machine.

    It is recorded. Beside the file, FILE.ca.pem has the certificates of the BMCs.

    Example: seed metal3 export racks-for-capi --to hosts.yaml
    """
    from provisioning import metal3 as objects

    made = lending.export(
        name, "seed metal3 export", to,
        lambda session, claim, access, who, seed_ca: objects.export(
            session, claim, access, who, namespace, keep_running, seed_ca
        ),
    )  # fmt: skip
    for host in made.without_mac:
        err.print(f"[red]{host}[/red]: write its bootMACAddress into the file: Seed knows none")
    err.print(f"{len(made.hosts)} hosts are in {to}: `kubectl apply -f` it, then remove it.")
