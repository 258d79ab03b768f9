"""seed discover ..."""

import sys
import time
from typing import Annotated, Any

import typer

from provisioning.sweep import Pace
from seed import show
from seed.client import Seed
from seed.commands import bmc
from seed.commands.door import REFUSED, TOO_LONG, USAGE, client, err, fail, part
from seed.config import settings
from seed.host import arp

SLOWEST = 900  # seconds beyond the expected ones: slow BMCs, logins


def discover(
    ranges: Annotated[list[str], typer.Argument(help="10.0.0.0/24, 10.0.0.7 or 10.0.0.5-10.0.0.9")],
    exclude: Annotated[list[str] | None, typer.Option(help="Not these; may be repeated.")] = None,
    rate: Annotated[float, typer.Option(help="Addresses a second; 0: no limit.")] = 1000.0,
    username: Annotated[str, typer.Option(help="BMC user for a login.")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read its password from standard input.")
    ] = False,
    credential: Annotated[
        str, typer.Option(help="A login kept before, by name; or vault:MOUNT/PATH.")
    ] = "",
    defaults: Annotated[
        bool, typer.Option("--defaults", help="Try what vendors ship: 2 per BMC in 10 minutes.")
    ] = False,
    one_by_one: Annotated[
        bool, typer.Option("--one-by-one", help="Several BMCs come with this one address.")
    ] = False,
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
    asked = {
        "ranges": ranges,
        "exclude": exclude or [],
        "rate": Pace(rate).rate,
        "defaults": defaults,
    }
    asked |= {"credential": credential or None}
    if one_by_one:
        _one_by_one(api, asked)
        return
    row = _swept(api, asked)
    bmc.listed(output)
    if row["state"] == "failed" or row["problems"]:
        raise typer.Exit(REFUSED)


def _one_by_one(api: Seed, asked: dict[str, Any]) -> None:
    """Take each BMC that gets the address in turn, until interrupted."""
    if len(asked["ranges"]) != 1:
        fail("one by one means one address", "seed discover 192.168.0.120 --one-by-one", USAGE)
    address, namespace = asked["ranges"][0], settings().namespace
    taken: set[str] = set()
    with err.status(f"looking who has {address}") as status:
        for mac, new in arp.watched(lambda: arp.answering(namespace, address), taken):
            if new:
                status.stop()
                if _swept(api, asked | {"mac": mac})["found"]:
                    taken.add(mac)
                    found = api.get(f"/bmcs/{part(address)}")
                    err.print(f"{mac} is taken: {found['model']} {found['serial']}".rstrip(": "))
                status.start()
            status.update(_what_next(address, mac, mac in taken))


def _what_next(address: str, mac: str, done: bool) -> str:
    if not mac:
        return f"nobody has {address}: plug in the next BMC (Ctrl-C: no more)"
    if not done:  # it starts: ARP is answered long before Redfish
        return f"{mac} has {address}, but answers neither Redfish nor IPMI yet: asking again"
    return f"{mac} is done: give it another address, or unplug it, then plug in the next one"


def _swept(api: Seed, asked: dict[str, Any]) -> dict[str, Any]:
    """One sweep to its end; what a person must know is printed."""
    row = api.post("/discoveries", asked)
    seconds = row["options"]["seconds"]
    err.print(f"looking at {row['addresses']:,} addresses, about {_duration(seconds)}")
    row = _followed(api, row, seconds)
    for problem in row["problems"]:
        err.print(f"[yellow]warning:[/yellow] {show.cell(problem['problem'])}", soft_wrap=True)
        err.print(f"  try: {show.cell(problem['remedy'])}", soft_wrap=True)
    return row


def _followed(api: Seed, row: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The sweep when it has ended; meanwhile its progress is shown."""
    with err.status(row["state"]) as progress:
        until = time.monotonic() + 3 * seconds + SLOWEST
        while row["state"] not in ("done", "failed"):
            if time.monotonic() > until:
                fail("the sweep takes too long", "`seed logs seed-reconciler`", TOO_LONG)
            time.sleep(0.3)
            row = api.get(f"/discoveries/{row['id']}")
            progress.update(show.cell(row["progress"] or row["state"]))
    return row


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _keep_login(api: Seed, username: str, password_stdin: bool) -> str:
    if not password_stdin:
        fail("a user name without a password", "Add --password-stdin.", USAGE)
    password = sys.stdin.readline().rstrip("\n")
    if not password:
        fail("standard input held no password", "seed discover ... --password-stdin < FILE", USAGE)
    name = f"discover-{time.time_ns()}"
    api.post("/credentials", {"name": name, "username": username, "password": password})
    return name
