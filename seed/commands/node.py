"""seed node ..."""

import time
from typing import Annotated, Any

import typer
from rich.live import Live

from seed import show, when
from seed.client import Seed
from seed.commands.confirm import confirm, confirm_change
from seed.commands.door import REFUSED, TOO_LONG, USAGE, client, err, fail, part

app = typer.Typer(no_args_is_help=True, help="The accepted servers.")
COLUMNS = {
    "name": "NODE", "provision_state": "STATE", "power_state": "POWER", "protocol": "BMC",
    "firmware": "BOOT", "address": "ADDRESS", "claim": "CLAIM", "detail": "NOW",
}  # fmt: skip
Names = Annotated[list[str], typer.Argument(help="Names as in `seed node list`.")]
Changes = Annotated[list[str], typer.Argument(metavar="KEY=VALUE|KEY-...")]


OLD_SECONDS = 90
"""Ironic is seen every few seconds; a row older than this is no picture of the present."""


@app.command("list")
def listed(
    resource_class: Annotated[str | None, typer.Option("--class", help="Of this class.")] = None,
    state: Annotated[str | None, typer.Option(help="In this state of Ironic's.")] = None,
    rack: Annotated[str | None, typer.Option(help="In this rack of the plan.")] = None,
    claim: Annotated[str | None, typer.Option(help="Held by this claim.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="key=value or key; may repeat.")] = None,
    held: Annotated[bool | None, typer.Option("--held/--free", help="By a claim or none.")] = None,
    sort: Annotated[str, typer.Option(help="A field; -FIELD: the last one first.")] = "name",
    output: show.Output = show.Format.TABLE,
) -> None:
    """Every accepted server, or those that were asked for.

    Example: seed node list --class gpu --rack r12 --label team=ai --free
    """
    rows = client().get(
        "/nodes", resource_class=resource_class, provision_state=state, rack=rack, claim=claim,
        label=label, held=held, sort=sort,
    )  # fmt: skip
    show.rows(rows, COLUMNS, output)
    oldest = max((row["age_seconds"] or 0 for row in rows), default=0)
    if oldest > OLD_SECONDS:
        err.print(f"[yellow]seen {when.length(oldest)} ago:[/yellow] is Ironic up? `seed status`")


@app.command()
def label(name: str, changes: Changes, output: show.Output = show.Format.TABLE) -> None:
    """Put labels on a server, or take them off: your own words, for choosing.

    Example: seed node label sn-0001 team=ai tier=gold old-
    """
    node = client().patch(f"/nodes/{part(name)}/labels", dict(map(_change, changes)))
    told = ", ".join(f"{key}={value}" for key, value in node["labels"].items())
    if output is not show.Format.TABLE:
        show.one(node["labels"], output)
    else:
        show.out.print(f"{node['name']}: {told or 'no labels'}", markup=False)


def _change(word: str) -> tuple[str, str | None]:
    key, equals, value = word.partition("=")
    if equals and key:
        return key, value
    if word.endswith("-") and len(word) > 1:
        return word[:-1], None
    fail(f"{word!r} is no label", "Write key=value to set one, key- to take it off.", USAGE)


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
            if until and (stuck := [_anew(api, n) for n in rows if n["problem"]]):
                if any(n["problem"] for n in stuck):  # each stands below the table
                    known = {n["name"]: n for n in stuck}
                    live.update(show.group([known.get(n["name"], n) for n in rows], COLUMNS))
                    raise typer.Exit(REFUSED)
            if time.monotonic() > deadline:
                fail(f"not all are {until} after {timeout} s", "`seed node list`", TOO_LONG)
            time.sleep(1)


def _anew(api: Seed, line: dict[str, Any]) -> dict[str, Any]:
    """The list is a moment old: a problem that is cured, or another one, ends no wait."""
    node = api.get(f"/nodes/{part(line['name'])}")
    return line | {name: node[name] for name in ("detail", "problem", "remedy")}


def reached(node: dict[str, Any], state: str) -> bool:
    """`manageable` counts once inspected: the state alone comes before the inspection, too."""
    if node["provision_state"] != state:
        return False
    return state != "manageable" or node["detail"].startswith("inspected")


@app.command()
def provide(
    names: Names,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    why: Annotated[str, typer.Option(help="Kept in the events.")] = "",
    output: show.Output = show.Format.TABLE,
) -> None:
    """Clean inspected servers and offer them to claims. Shows what is erased, then asks.

    Example: seed node provide sn-0001 sn-0002
    """
    api = client()
    plan = api.post("/nodes:plan-provide", {"nodes": names})
    confirm(plan, yes)
    body = {"nodes": names, "plan": plan["hash"], "why": why}
    show.rows(api.post("/nodes:provide", body), COLUMNS, output)


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
