"""What `seed metal3` and `seed ironic` have in common."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seed import show
from seed.commands.door import client, err, fail, part
from seed.config import settings

if TYPE_CHECKING:
    from sqlmodel import Session

    from provisioning.bmc import Access
    from provisioning.lent_files import Export
    from provisioning.models import Claim, Credential

COLUMNS = {
    "claim": "CLAIM", "project": "PROJECT", "servers": "SERVERS", "to": "TO", "step": "STEP",
}  # fmt: skip
Name = Annotated[str, typer.Argument(help="A claim as in `seed claim list`, or its id.")]
KeepLogins = Annotated[
    bool, typer.Option("--keep-logins", help="Take them back with the logins that they have.")
]
KeepRunning = Annotated[bool, typer.Option("--keep-running", help="What is on the disks stays.")]
To = Annotated[Path, typer.Option(help="A new file; it has BMC passwords, so 0600.")]


def lend(name: str, to: str, keep_logins: bool, output: show.Format) -> None:
    asked = {"keep_logins": keep_logins, "to": to}
    _show([client().post(f"/claims/{part(name)}:lend", asked)], output)


def list_lent(output: show.Format) -> None:
    """Whoever has them: a claim that one owner has is not there for another."""
    _show(client().get("/lendings"), output)


def export(
    name: str,
    verb: str,
    to: Path,
    make: "Callable[[Session, Claim, Callable[[Credential], Access], str, str], Export]",
) -> "Export":
    """Write the file, and beside it the BMCs' certificates and what else goes with it.

    make: of session, claim, what opens logins, who asked, and Seed's CA.
    """
    from provisioning import lent
    from provisioning.secrets import Unsealer
    from provisioning.store import Store
    from seed.host.paths import Paths
    from seed.reconciler import open_logins

    if os.geteuid() != 0:
        fail("this needs root on the Seed machine", f"sudo {verb} {part(name)} --to F")
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
                made = make(session, lent.find(session, name), access, who, seed_ca)
                file.write(made.text.get_secret_value())
        except BaseException:
            to.unlink()
            raise
    for end, text in {**made.beside, "ca.pem": made.ca_pem}.items():
        if text:
            to.with_name(f"{to.name}.{end}").write_text(text)
    for address in made.unverified:
        err.print(f"[red]{address}[/red] shows a certificate that nobody can verify")
    return made


def _show(rows: list[dict[str, object]], output: show.Format) -> None:
    if output is show.Format.TABLE:
        for row in rows:
            row["servers"] = len(list(row["nodes"]))  # type: ignore[call-overload]
    show.rows(rows, COLUMNS, output)
