"""seed ironic lend, list, export"""

from typing import Annotated

import typer

from seed import show
from seed.commands import lending
from seed.commands.door import err, fail
from seed.commands.lending import KeepLogins, KeepRunning, Name, To

app = typer.Typer(help="Lend claimed servers to an overcloud's own Ironic.", no_args_is_help=True)


@app.command()
def lend(
    name: Name, keep_logins: KeepLogins = False, output: show.Output = show.Format.TABLE
) -> None:
    """These servers are the overcloud's until the claim is released: Seed leaves them alone.

    `seed claim release` takes them back: their BMCs get new logins, then they are cleaned.

    Example: seed ironic lend racks-for-tenants
    """
    lending.lend(name, "ironic", keep_logins, output)


@app.command("list")
def list_lent(output: show.Output = show.Format.TABLE) -> None:
    """Claims that are lent, on their way there, or on their way back.

    Example: seed ironic list
    """
    lending.list_lent(output)


@app.command()
def export(
    name: Name,
    to: To,
    verify_ca: Annotated[
        str, typer.Option(help="Where that Ironic's conductors will have FILE.ca.pem.")
    ] = "/etc/ironic/seed-bmcs.pem",
    physical_network: Annotated[
        str, typer.Option(help="Neutron's name of the wire that these NICs are on.")
    ] = "",
    keep_running: KeepRunning = False,
) -> None:
    """Write a lent claim as a file for `baremetal create`. Needs root on the Seed machine.

    It is recorded. Beside it: FILE.sh has what is done after it, FILE.ca.pem the certificates.

    Example: seed ironic export racks-for-tenants --to nodes.yaml
    """
    import provisioning.bmc
    from provisioning import lent_ironic, plugins

    if to.suffix != ".yaml":
        fail("`baremetal create` reads FILE.yaml alone", "Name it so: --to nodes.yaml")
    place = lent_ironic.Place(verify_ca, physical_network, keep_running)
    protocols = plugins.load(provisioning.bmc)
    made = lending.export(
        name, "seed ironic export", to,
        lambda session, claim, access, who, seed_ca: lent_ironic.export(
            session, claim, access, protocols, who, place, seed_ca
        ),
    )  # fmt: skip
    for host in made.without_mac:
        err.print(f"[red]{host}[/red]: Seed does not know by which NIC it boots")
    err.print(f"{len(made.hosts)} nodes are in {to}: `baremetal create {to}`, then remove it.")
