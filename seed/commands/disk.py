"""seed node disks, keep-disk, forget-disk"""

from typing import Annotated, Any

import typer

from seed import show
from seed.commands.confirm import confirm
from seed.commands.door import client, part

COLUMNS = {
    "serial": "SERIAL", "name": "NAME", "size": "GB", "media": "KIND", "kept": "KEPT",
    "project": "FOR", "why": "WHY",
}  # fmt: skip
Serial = Annotated[str, typer.Argument(help="Of the disk, or its WWN: `seed node disks NODE`.")]
Node = Annotated[str, typer.Argument(help="A name as in `seed node list`.")]


def disks(name: Node, output: show.Output = show.Format.TABLE) -> None:
    """The disks of a server, and which of them are kept.

    Example: seed node disks sn-0001
    """
    _show(client().get(f"/nodes/{part(name)}/disks"), output)


def keep_disk(
    name: Node,
    serial: Serial,
    why: Annotated[str, typer.Option(help="Kept with it, and in the events.")],
    project: Annotated[
        str, typer.Option(help="Only its claims may have the server meanwhile.")
    ] = "",
    output: show.Output = show.Format.TABLE,
) -> None:
    """Never erase nor write this disk, whoever has the server.

    Example: seed node keep-disk sn-0001 S6CKNT0W --why "evidence of case 4711"
    """
    ask = {"serial": serial, "why": why, "project": project}
    _show(client().post(f"/nodes/{part(name)}:keep-disk", ask), output)


def forget_disk(
    name: Node,
    serial: Serial,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    why: Annotated[str, typer.Option(help="Kept in the events.")] = "",
    output: show.Output = show.Format.TABLE,
) -> None:
    """Keep a disk no more: the next clean erases it. Shows which, then asks.

    A server of the pool leaves it: `seed node provide` cleans it and brings it back.

    Example: seed node forget-disk sn-0001 S6CKNT0W --why "case 4711 is closed"
    """
    api = client()
    plan = api.post(f"/nodes/{part(name)}:plan-forget-disk", {"serial": serial})
    confirm(plan, yes)
    ask = {"serial": serial, "plan": plan["hash"], "why": why}
    _show(api.post(f"/nodes/{part(name)}:forget-disk", ask), output)


def _show(rows: list[dict[str, Any]], output: show.Format) -> None:
    if output is show.Format.TABLE:
        for row in rows:
            row["size"] = row["size_bytes"] // 10**9 if row["seen"] else "not seen"
            row["kept"] = "kept" if row["kept"] else ""
    show.rows(rows, COLUMNS, output)
