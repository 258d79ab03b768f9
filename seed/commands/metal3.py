"""seed metal3 lend, list, export"""

import os
from pathlib import Path
from typing import Annotated

import typer

from seed import show
from seed.commands.door import client, err, fail, part
from seed.config import settings

app = typer.Typer(help="Lend claimed servers to Cluster API's Metal3.", no_args_is_help=True)
COLUMNS = {"claim": "CLAIM", "project": "PROJECT", "servers": "SERVERS", "step": "STEP"}
Name = Annotated[str, typer.Argument(help="A claim as in `seed claim list`, or its id.")]


@app.command()
def lend(
    name: Name,
    keep_logins: Annotated[
        bool, typer.Option("--keep-logins", help="Take them back with the logins that they have.")
    ] = False,
    output: show.Output = show.Format.TABLE,
) -> None:
    """These servers are Metal3's until the claim is released: Seed and Ironic leave them alone.

    `seed claim release` takes them back: their BMCs get new logins, then they are cleaned.

    Example: seed metal3 lend racks-for-capi
    """
    told = client().post(f"/claims/{part(name)}:lend", {"keep_logins": keep_logins})
    _show([told], output)


@app.command("list")
def list_lent(output: show.Output = show.Format.TABLE) -> None:
    """Claims that are lent, on their way there, or on their way back.

    Example: seed metal3 list
    """
    _show(client().get("/lendings"), output)


@app.command()
def export(
    name: Name,
    to: Annotated[Path, typer.Option(help="A new file; it has BMC passwords, so 0600.")],
    namespace: Annotated[str, typer.Option(help="Where Metal3 looks for its hosts.")] = "metal3",
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="What is on the disks stays.")
    ] = False,
) -> None:
    """Write a lent claim's BareMetalHosts and Secrets. Needs root on the Seed machine.

    It is recorded. Beside the file, FILE.ca.pem has the certificates of the BMCs.

    Example: seed metal3 export racks-for-capi --to hosts.yaml
    """
    from provisioning import lent
    from provisioning import metal3 as objects
    from provisioning.secrets import Unsealer
    from provisioning.store import Store
    from seed.host.paths import Paths
    from seed.reconciler import open_logins

    if os.geteuid() != 0:
        fail("this needs root on the Seed machine", f"sudo seed metal3 export {part(name)} --to F")
    here = settings()
    paths = Paths(here)
    access = open_logins(Unsealer(paths.master_key))
    seed_ca = paths.bmc_ca_pem.read_text() if paths.bmc_ca_pem.exists() else ""
    who = os.environ.get("SUDO_USER") or "root"
    try:
        fd = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as problem:
        fail(f"{to} cannot be made: {problem.strerror}", "Name a new file: --to hosts.yaml")
    with os.fdopen(fd, "w") as file:
        try:
            with Store(here.database_url).write() as session:
                claim = lent.find(session, name)
                made = objects.export(session, claim, access, who, namespace, keep_running, seed_ca)
                file.write(made.text.get_secret_value())
        except BaseException:
            to.unlink()
            raise
    if made.ca_pem:
        to.with_name(f"{to.name}.ca.pem").write_text(made.ca_pem)
    for address in made.unverified:
        err.print(f"[red]{address}[/red] shows a certificate that nobody can verify")
    for host in made.without_mac:
        err.print(f"[red]{host}[/red]: write its bootMACAddress into the file: Seed knows none")
    err.print(f"{len(made.hosts)} hosts are in {to}: `kubectl apply -f` it, then remove it.")


def _show(rows: list[dict[str, object]], output: show.Output) -> None:
    if output is show.Format.TABLE:
        for row in rows:
            row["servers"] = len(list(row["nodes"]))  # type: ignore[call-overload]
    show.rows(rows, COLUMNS, output)
