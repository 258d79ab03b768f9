"""Show a plan, then ask."""

from collections.abc import Callable
from typing import Any

import typer

from seed import show
from seed.client import Seed
from seed.commands.door import err


def confirm(plan: dict[str, Any], yes: bool) -> None:
    """Print what will be erased; without `yes`, ask. The count must be typed for several nodes."""
    err.print(show.cell(plan["sentence"]), soft_wrap=True)
    for node in plan["nodes"]:
        disks = ", ".join(
            f"{d['name']} {d['serial']} {d['size_bytes'] // 10**9} GB" for d in node["disks"]
        )
        err.print(
            show.cell(f"  {node['name']}  serial {node['serial']}  {disks or 'disks unknown'}"),
            soft_wrap=True,
        )
    _count(plan, yes, "erase")


def give_back(
    api: Seed, path: str, wanted_gone: Callable[[dict[str, Any]], bool], yes: bool,
    body: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Release what is at `path`: the plan is shown and asked for, unless it was given back before.

    wanted_gone: whether it was. body: of the release, without the plan.
    """
    thing = api.get(path)
    at, plan = f"{path.rpartition('/')[0]}/{thing['id']}", {"hash": ""}
    if not wanted_gone(thing):
        plan = api.post(f"{at}:plan-release")
        confirm(plan, yes)
    return dict(api.post(f"{at}:release", body | {"plan": plan["hash"]}))


def confirm_change(plan: dict[str, Any], yes: bool) -> None:
    """Print what becomes of each node; without `yes`, ask."""
    err.print(show.cell(plan["sentence"]), soft_wrap=True)
    for node in plan["nodes"]:
        err.print(show.cell(f"  {node['name']}  {node['change']}"), soft_wrap=True)
    _count(plan, yes, "change")


def _count(plan: dict[str, Any], yes: bool, verb: str) -> None:
    if yes:
        return
    count = str(len(plan["nodes"]))
    typed = typer.prompt(f"Type {count} to {verb} {count} node(s)", default="", show_default=False)
    if typed.strip() != count:
        err.print("nothing was done")
        raise typer.Exit(1)
