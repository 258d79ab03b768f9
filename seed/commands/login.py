"""seed bmc rotate, seed bmc trust, seed bmc reveal."""

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seed import show
from seed.client import Seed
from seed.commands.bmc import COLUMNS
from seed.commands.door import REFUSED, TOO_LONG, client, err, fail, part
from seed.config import settings

if TYPE_CHECKING:
    from provisioning.bmc import Access
    from provisioning.logins import Kept
    from provisioning.models import Credential

WAIT_SECONDS = 300
LOOK_SECONDS = 0.5


def rotate(
    addresses: Annotated[list[str], typer.Argument(help="Addresses as in `seed bmc list`.")],
    output: show.Output = show.Format.TABLE,
) -> None:
    """Give these BMCs new passwords that only Seed has, and Ironic with them.

    Example: seed bmc rotate 172.22.1.11 172.22.1.12
    """
    api = client()
    for address in addresses:
        api.post(f"/bmcs/{part(address)}:rotate")
    with err.status(f"changing {len(addresses)} logins") as progress:
        until = time.monotonic() + WAIT_SECONDS
        while waiting := [b for b in _look(api, addresses) if _moves(b)]:
            progress.update("; ".join(f"{b['address']}: {b['detail']}" for b in waiting[:3]))
            if time.monotonic() > until:
                first = waiting[0]
                fail(
                    f"{len(waiting)} logins are not changed yet, {first['address']} among them: "
                    f"{first['detail'] or first['rotation']}",
                    f"It goes on by itself; look again: `seed bmc show {first['address']}`.",
                    TOO_LONG,
                )
            time.sleep(LOOK_SECONDS)
    rows = _look(api, addresses)
    show.rows(rows, {**COLUMNS, "credential": "CREDENTIAL"}, output)
    failed = [b for b in rows if b["rotation"]]
    for bmc in failed:
        err.print(f"[red]{bmc['address']}:[/red] {show.cell(bmc['rotation'])}", soft_wrap=True)
        err.print(f"  try: {show.cell(bmc['rotation_remedy'])}", soft_wrap=True)
    if failed:
        raise typer.Exit(REFUSED)


def trust(
    address: str,
    fingerprint: Annotated[str, typer.Argument(help="SHA-256 of the certificate, 64 hex digits.")],
    output: show.Output = show.Format.TABLE,
) -> None:
    """The other certificate that an accepted BMC shows is right: renewed, or reset on purpose.

    `seed discover ADDRESS` tells what it shows. Compare it with the BMC's own page first.

    Example: seed bmc trust 172.22.1.11 $FINGERPRINT
    """
    told = client().post(f"/bmcs/{part(address)}:trust", {"fingerprint": fingerprint})
    show.rows([told], {**COLUMNS, "fingerprint": "FINGERPRINT"}, output)


def reveal(address: str, output: show.Output = show.Format.TABLE) -> None:
    """In an emergency: print the login that Seed gave a BMC. Needs root on the Seed machine.

    Works while Seed is down. It is recorded; afterwards `seed bmc rotate` makes a new one.

    Example: seed bmc reveal 172.22.1.11
    """
    from provisioning import logins
    from provisioning.secrets import Unsealer
    from provisioning.store import Store
    from seed.host.paths import Paths
    from seed.reconciler import open_logins

    if os.geteuid() != 0:
        fail("this needs root on the Seed machine", f"sudo seed bmc reveal {part(address)}")
    here = settings()
    access = open_logins(Unsealer(Paths(here).master_key))
    who = os.environ.get("SUDO_USER") or "root"
    with Store(here.database_url).write() as session:
        rows = [_revealed(k, access) for k in logins.kept_for(session, address, who)]
    columns = {"username": "USER", "password": "PASSWORD", "what": "WHICH"}
    show.rows(rows, columns, output)


def _revealed(kept: "Kept", access: "Callable[[Credential], Access]") -> dict[str, str]:
    from provisioning.vault import in_vault

    if in_vault(kept.credential):  # it was never Seed's
        return {"username": "", "password": "", "what": f"{kept.what}: {kept.credential.name}"}
    login = access(kept.credential)
    password = login.password.get_secret_value()
    return {"username": login.username, "password": password, "what": kept.what}


def _look(api: Seed, addresses: list[str]) -> list[dict[str, Any]]:
    return [api.get(f"/bmcs/{part(address)}") for address in addresses]


def _moves(bmc: dict[str, Any]) -> bool:
    """Not when it ended badly, and not when it waits for a person."""
    return bool(bmc["rotation"]) and (
        not bmc["rotation_remedy"] or bmc["rotation"].startswith("failing")
    )
