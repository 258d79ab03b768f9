"""seed node ..."""

import time
from typing import Annotated, Any

import typer
from rich.live import Live

from seed import show
from seed.commands.confirm import confirm, confirm_change
from seed.commands.door import REFUSED, TOO_LONG, client, err, fail, part

app = typer.Typer(no_args_is_help=True, help="The accepted servers.")
COLUMNS = {
    "name": "NODE", "provision_state": "STATE", "power_state": "POWER", "protocol": "BMC",
    "firmware": "BOOT", "address": "ADDRESS", "claim": "CLAIM", "detail": "NOW",
}  # fmt: skip
Names = Annotated[list[str], typer.Argument(help="Names as in `seed node list`.")]


@app.command("list")
def listed(output: show.Output = show.Format.TABLE) -> None:
    """Every accepted server."""
    show.rows(list(client().pages("/nodes")), COLUMNS, output)


@app.command("show")
def shown(name: str, output: show.Output = show.Format.TABLE) -> None:
    """One server: where it is, what it waits for, what to do about it.

    Example: seed node show sn-0001
    """
    node = client().get(f"/nodes/{part(name)}")
    if output is show.Format.TABLE:
        inventory = node.pop("inventory") or {}
        node["phases"] = [f"{p['name']} {p['seconds']:.0f} s" for p in node["phases"]]
        node["disks"] = [
            f"{d.get('name')} {d.get('serial') or ''} {int(d.get('size') or 0) // 10**9} GB"
            for d in inventory.get("disks") or []
        ]
        node["nics"] = [
            f"{i.get('name')} {i.get('mac_address')}" for i in inventory.get("interfaces") or []
        ]
    show.one(node, output)


@app.command()
def watch(
    names: Annotated[list[str] | None, typer.Argument(help="All, if none is named.")] = None,
    until: Annotated[str, typer.Option(help="Stop when all are in this state.")] = "",
    timeout: Annotated[int, typer.Option(min=1, help="Seconds before giving up.")] = 3600,
) -> None:
    """Follow servers live; ends with 1 when one is stuck and a state was waited for.

    Example: seed node watch --until available
    """
    api = client()
    deadline = time.monotonic() + timeout
    with Live(console=err, refresh_per_second=4) as live:
        while True:
            rows = [n for n in api.pages("/nodes") if not names or n["name"] in names]
            live.update(show.group(rows, COLUMNS))
            if until and rows and all(reached(n, until) for n in rows):
                return
            if until and any(n["problem"] for n in rows):  # each stands below the table
                raise typer.Exit(REFUSED)
            if time.monotonic() > deadline:
                fail(f"not all are {until} after {timeout} s", "`seed node list`", TOO_LONG)
            time.sleep(1)


def reached(node: dict[str, Any], state: str) -> bool:
    """`manageable` counts once inspected: the state alone comes before the inspection, too."""
    if node["provision_state"] != state:
        return False
    return state != "manageable" or node["detail"].startswith("inspected")


@app.command()
def provide(
    names: Names,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Clean inspected servers and offer them to claims. Shows what is erased, then asks.

    Example: seed node provide sn-0001 sn-0002
    """
    api = client()
    plan = api.post("/nodes:plan-provide", {"nodes": names})
    confirm(plan, yes)
    show.rows(api.post("/nodes:provide", {"nodes": names, "plan": plan["hash"]}), COLUMNS, output)


@app.command()
def inspect(
    names: Names,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Inspect servers again, after a part was changed. Shows what happens to each, then asks.

    One of the pool leaves it: `seed node provide` brings it back.

    Example: seed node inspect sn-0001
    """
    api = client()
    plan = api.post("/nodes:plan-inspect", {"nodes": names})
    confirm_change(plan, yes)
    show.rows(api.post("/nodes:inspect", {"nodes": names, "plan": plan["hash"]}), COLUMNS, output)


@app.command()
def drift(
    name: Annotated[str | None, typer.Argument(help="All that changed, if none is named.")] = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Parts that changed since the server was accepted: drives, memory, NICs, firmware.

    Example: seed node drift sn-0001
    """
    api = client()
    found = [api.get(f"/nodes/{part(name)}")] if name else list(api.pages("/nodes"))
    changed = [{"name": n["name"], "drift": n["drift"]} for n in found if n["drift"]]
    show.rows(changed, {"name": "NODE", "drift": "CHANGED"}, output)


@app.command("accept-drift")
def accept_drift(name: str, output: show.Output = show.Format.TABLE) -> None:
    """What changed is right: changes count from here. Prints what was taken as right.

    Example: seed node accept-drift sn-0001
    """
    api = client()
    seen = api.get(f"/nodes/{part(name)}")["drift"]
    api.post(f"/nodes/{part(name)}:accept-drift", {"drift": seen})
    rows = [{"name": name, "drift": seen}] if seen else []
    show.rows(rows, {"name": "NODE", "drift": "ACCEPTED"}, output)


@app.command()
def retry(name: str, output: show.Output = show.Format.TABLE) -> None:
    """The cause of a failure is cured: go on.

    Example: seed node retry sn-0001
    """
    show.rows([client().post(f"/nodes/{part(name)}:retry")], COLUMNS, output)
