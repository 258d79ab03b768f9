"""seed claim preview: what nodes would be told, before any disk is touched."""

import json
from typing import Annotated, Any

import typer

from seed import show
from seed.commands.door import REFUSED, USAGE, client, fail, part
from seed.commands.wishes import wishing

NODES = {"hostname": "HOST", "node": "NODE", "size": "BYTES", "parts": "FETCHED", "state": "DRIVE"}


@wishing
def preview(
    wishes: dict[str, Any],
    name: Annotated[
        str, typer.Argument(help="A claim that lives; with --image: as it would be called.")
    ] = "",
    image: Annotated[
        str | None, typer.Option(help="Of a claim that is not made yet; see `seed image list`.")
    ] = None,
    full: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Show this one's drive, else the first's; repeatable."),
    ] = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """The config drives of a claim, made or not, per node; tokens are left out.

    Ends with 1 where something is wrong with one.

    Example: seed claim preview web --image debian --user-data web.yaml
    """
    if image is None and not name:
        fail("neither a claim nor --image", "seed claim preview web --image debian", USAGE)
    if image is None and wishes:
        fail("options, but no --image", f"seed claim preview {name} --image debian", USAGE)
    if image is None:
        found = client().get(f"/claims/{part(name)}/preview")
    else:
        found = client().post("/claims:preview", {**wishes, "name": name or "previewed"})
    if output is show.Format.TABLE:
        _print(found, full or [])
    else:
        show.one(found, output)
    if any(one["faults"] for one in found["nodes"]):
        raise typer.Exit(REFUSED)


def _print(found: dict[str, Any], names: list[str]) -> None:
    show.out.print(show.cell(found["sentence"]), soft_wrap=True)
    nodes = found["nodes"]
    if nodes:
        show.out.print(show.group([_row(one) for one in nodes], NODES))
    if found["count"] > len(nodes):
        show.out.print(f"and {found['count'] - len(nodes)} more")
    for one in nodes:
        for told in (*one["faults"], *one["warnings"]):
            show.out.print(f"{one['hostname']}: {show.cell(told)}", soft_wrap=True)
    for one in [n for n in nodes if {n["hostname"], n["node"]} & set(names)] or nodes[:1]:
        _drive(one)


def _row(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "hostname": one["hostname"],
        "node": one["node"],
        "size": max(one["stored_bytes"], one["packed_bytes"]),
        "parts": len(one["parts"]) or "",
        "state": "refused" if one["faults"] else "fine",
    }


def _drive(one: dict[str, Any]) -> None:
    """As it is, below a line of its own each."""
    typer.echo(f"\n--- {one['hostname']} on {one['node']}")
    for name in ("meta_data", "network_data", "wanted"):
        typer.echo(f"\n{name}:\n{json.dumps(one[name], indent=2)}")
    typer.echo(f"\nuser_data:\n{_safe(one['user_data'])}")
    for file in one["files"]:
        typer.echo(f"\n{file['path']} ({file['mode']}):\n{_safe(file['content'])}")
    for fetched in one["parts"]:
        owner = f", {fetched['owner']}" if fetched["owner"] else ""
        typer.echo(f"\n{fetched['path']} ({fetched['mode']}{owner}): fetched once")


def _safe(text: str) -> str:
    """Somebody else's text must not move the cursor."""
    kept = (c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return "".join(kept).rstrip()
