"""`seed lab`: emulated servers to try Seed on."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from provisioning.errors import NotFound
from seed import show
from seed.lab import refit
from seed.lab.cabling import Cabling
from seed.lab.fleet import cli as fleet
from seed.lab.fleet.cli import sentences
from seed.lab.lab import Lab, locked, stored
from seed.lab.scenario import load

app = typer.Typer(
    help="A lab of emulated servers with BMCs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(fleet.app, name="fleet")

cable = typer.Typer(help="Which NIC is in which switch port.", no_args_is_help=True)
server = typer.Typer(help="Servers in their racks.", no_args_is_help=True)
app.add_typer(cable, name="cable")
app.add_typer(server, name="server")

LABS = Path("/var/lib/seed-lab")

ScenarioOption = Annotated[
    Path,
    typer.Option(
        "--scenario", "-s", envvar="SEED_LAB_SCENARIO", help="Scenario file (see docs/lab.md)."
    ),
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state-dir", help=f"Where the lab lives; else {LABS}/<namespace>."),
]
EnvOption = Annotated[
    Path, typer.Option("--env-dir", envvar="SEED_ENV_DIR", help="Holds the environment `lab`.")
]
NameArgument = Annotated[str, typer.Argument(help="Name of a server of the lab.")]
DEFAULT_SCENARIO = Path("vagrant/lab.yaml")
DEFAULT_ENVS = Path(sys.prefix).parent


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


class Button(StrEnum):
    ON = "on"
    OFF = "off"
    RESET = "reset"


def open_lab(scenario: Path, state_dir: Path | None, env_dir: Path = DEFAULT_ENVS) -> Lab:
    """The lab that exists: its scenario is the one it was started with."""
    root = state_dir or LABS / load(scenario).namespace
    return Lab(stored(root), root, env_dir)


@app.command()
def up(
    scenario: ScenarioOption = DEFAULT_SCENARIO,
    state_dir: StateOption = None,
    env_dir: EnvOption = DEFAULT_ENVS,
) -> None:
    """Start the lab: wires, servers (off, with blank disks), BMCs. May be repeated.

    Example: seed lab up --scenario vagrant/lab.yaml
    """
    with sentences():
        wanted = load(scenario)
        root = (state_dir or LABS / wanted.namespace).absolute()
        lab = Lab(wanted, root, env_dir)
        begun = time.monotonic()
        with locked(root):
            lab.begin()
            for title, step in lab.steps_up():
                since = time.monotonic()
                typer.echo(f"{title} ... ", nl=False)
                step()
                typer.echo(f"{time.monotonic() - since:.1f} s")
        typer.echo(f"lab up in {time.monotonic() - begun:.1f} s; BMC password in", nl=False)
        typer.echo(f" {lab.layout.password_file}")


@app.command()
def down(scenario: ScenarioOption = DEFAULT_SCENARIO, state_dir: StateOption = None) -> None:
    """Stop the lab and remove everything of it, disks included. May be repeated."""
    with sentences():
        root = (state_dir or LABS / load(scenario).namespace).absolute()
        if not root.exists():
            typer.echo("there is no lab")
            return
        with locked(root):
            try:
                lab = open_lab(scenario, root)
            except NotFound:  # an `up` that died before it wrote its record
                lab = Lab(load(scenario), root, DEFAULT_ENVS)
            lab.down()
        typer.echo("lab down")


@app.command()
def status(
    scenario: ScenarioOption = DEFAULT_SCENARIO,
    state_dir: StateOption = None,
    output: Annotated[Output, typer.Option("--output", "-o")] = Output.TABLE,
) -> None:
    """Show the lab's servers and their BMCs."""
    with sentences():
        rows = open_lab(scenario, state_dir).status()
    if output is Output.JSON:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table()
    for heading in ("server", "power", "BMC", "address", "firmware", "serial", "MACs"):
        table.add_column(heading)
    table.add_column("refused logins", justify="right")
    for row in rows:
        bmc = row["protocol"] if row["bmc_up"] else f"{row['protocol']} (down)"
        table.add_row(
            *(row["name"], row["power"], bmc, row["bmc_address"], row["firmware"], row["serial"]),
            *("\n".join(row["macs"]), str(row["failed_logins"])),
        )
    Console().print(table)
    typer.echo("consoles: " + " ".join(row["console"] for row in rows))


@app.command()
def power(
    name: NameArgument,
    button: Button,
    scenario: ScenarioOption = DEFAULT_SCENARIO,
    state_dir: StateOption = None,
) -> None:
    """Press a server's power button: its BMC is not asked."""
    with sentences():
        lab = open_lab(scenario, state_dir)
        lab.hypervisor.power(lab.scenario.server(name).name, button.value)


@app.command()
def console(
    name: NameArgument,
    scenario: ScenarioOption = DEFAULT_SCENARIO,
    state_dir: StateOption = None,
) -> None:
    """Follow a server's serial console, from its beginning, until interrupted."""
    with sentences():
        lab = open_lab(scenario, state_dir)
        path = lab.layout.console(lab.scenario.server(name).name)
    path.touch()
    with path.open("rb") as log:
        try:
            while True:
                chunk = log.read(65536)
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
                if not chunk:
                    time.sleep(0.2)
        except (KeyboardInterrupt, BrokenPipeError):
            return


NicArgument = Annotated[str, typer.Argument(help="A server's NIC, counted from 1: server1:2.")]


@contextmanager
def cabling(scenario: Path, state_dir: Path | None) -> Iterator[Cabling]:
    """The lab's cables, for one who changes them."""
    with sentences():
        lab = open_lab(scenario, state_dir)
        with locked(lab.layout.root):
            yield lab.cabling


@cable.command("show")
def cable_show(
    scenario: ScenarioOption = DEFAULT_SCENARIO,
    state_dir: StateOption = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Show every NIC and the switch port it is in, and the free ports.

    Example: seed lab cable show --scenario vagrant/room.yaml
    """
    with sentences():
        rows = open_lab(scenario, state_dir).cabling.rows()
    show.rows(rows, {key: key.upper() for key in rows[0]}, output)


@cable.command("move")
def cable_move(
    nic: NicArgument,
    port: Annotated[str, typer.Argument(metavar="SWITCH:PORT")],
    scenario: ScenarioOption = DEFAULT_SCENARIO,
    state_dir: StateOption = None,
) -> None:
    """Plug a NIC's cable into another port, which must be free. The server may run.

    Example: seed lab cable move server1:2 leaf2:Ethernet7
    """
    with cabling(scenario, state_dir) as cables:
        cables.move(nic, port)


@cable.command("unplug")
def cable_unplug(
    nic: NicArgument, scenario: ScenarioOption = DEFAULT_SCENARIO, state_dir: StateOption = None
) -> None:
    """Pull a NIC's cable out; `seed lab cable move` plugs it in again.

    Example: seed lab cable unplug server1:2
    """
    with cabling(scenario, state_dir) as cables:
        cables.unplug(nic)


@cable.command("swap")
def cable_swap(
    one: NicArgument,
    other: NicArgument,
    scenario: ScenarioOption = DEFAULT_SCENARIO,
    state_dir: StateOption = None,
) -> None:
    """Exchange the cables of two NICs, of one server or of two.

    Example: seed lab cable swap server1:1 server1:2
    """
    with cabling(scenario, state_dir) as cables:
        cables.swap(one, other)


@server.command("swap")
def server_swap(
    one: NameArgument,
    other: NameArgument,
    scenario: ScenarioOption = DEFAULT_SCENARIO,
    state_dir: StateOption = None,
) -> None:
    """Exchange two servers in the rack: the cables stay where they are.

    Example: seed lab server swap server3 server4
    """
    with cabling(scenario, state_dir) as cables:
        cables.swap_servers(one, other)


@server.command("change")
def server_change(
    name: NameArgument,
    memory: Annotated[int | None, typer.Option("--memory-mib", help="How much it has now.")] = None,
    disk: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBER:SERIAL", help="A blank disk instead; counted from 1."),
    ] = None,
    scenario: ScenarioOption = DEFAULT_SCENARIO,
    state_dir: StateOption = None,
) -> None:
    """Put other parts into a server, which must be off. It keeps them until `seed lab down`.

    Example: seed lab server change server3 --memory-mib 2560 --disk 1:LAB-0003-D9
    """
    with sentences():
        disks = refit.numbered(disk or [])
        lab = open_lab(scenario, state_dir)
        with locked(lab.layout.root):
            lab.refit.change(name, memory, disks, lab.cabling.unplugged())


if __name__ == "__main__":
    app()
