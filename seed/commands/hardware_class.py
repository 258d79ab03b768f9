"""seed class ..."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from seed import show
from seed.commands.confirm import confirm_change
from seed.commands.door import REFUSED, USAGE, client, err, fail, part
from seed.commands.node import COLUMNS as NODE_COLUMNS

app = typer.Typer(no_args_is_help=True, help="Kinds of servers, and what they consist of.")
COLUMNS = {
    "name": "CLASS", "resource_class": "RESOURCE CLASS", "priority": "PRIORITY", "nodes": "NODES",
    "misfits": "MISFITS", "traits": "TRAITS",
}  # fmt: skip
TRIALS = {"name": "SERVER", "fits": "FITS", "hardware_class": "CLASS", "becomes": "BECOMES",
          "why": "WHY"}  # fmt: skip
LARGEST = 1024 * 1024  # bytes; Seed itself takes less
AnyNodes = Annotated[
    list[str] | None, typer.Option("--node", help="Only this server; may be repeated.")
]


@app.command("list")
def listed(output: show.Output = show.Format.TABLE) -> None:
    """Every class."""
    show.rows(list(client().pages("/classes")), COLUMNS, output)


@app.command("show")
def shown(name: str, output: show.Output = show.Format.TABLE) -> None:
    """One class: its document, and how many servers are of it.

    Example: seed class show storage
    """
    found = client().get(f"/classes/{part(name)}")
    if output is show.Format.TABLE:
        found.pop("document")
        text = found.pop("text")
        show.one(found, output)
        typer.echo(f"\n{text}", nl=False)
    else:
        show.one(found, output)


@app.command()
def put(
    file: Annotated[Path, typer.Argument(help="YAML; - for standard input.")],
    output: show.Output = show.Format.TABLE,
) -> None:
    """Keep a class, or a new version of it. No server changes its class by this: see `apply`.

    Example: seed class put storage.yaml
    """
    show.rows([client().post("/classes", {"text": text_of(file)})], COLUMNS, output)


@app.command()
def delete(name: str, output: show.Output = show.Format.TABLE) -> None:
    """Forget a class. Its servers keep what they have; nothing is demanded of them any more.

    Example: seed class delete storage
    """
    freed = client().delete(f"/classes/{part(name)}")
    show.rows([{"name": node} for node in freed], {"name": "WAS OF THIS CLASS"}, output)


@app.command("test")
def tried(
    which: Annotated[str, typer.Argument(help="A file, or the name of a kept class.")],
    node: AnyNodes = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Try a class on the stored inventories: who fits, who changes, who not and why.

    Nothing is written.

    Example: seed class test storage --node sn-0001
    """
    body: dict[str, Any] = {"nodes": node or []}
    body |= {"text": text_of(Path(which))} if Path(which).is_file() else {"name": part(which)}
    found = client().post("/classes:test", body)
    if output is show.Format.TABLE:
        for row in found:
            row["why"] = row["why_not"] or row["misfit"] or row["change"]
            row["fits"] = "no" if row["why_not"] else "differs" if row["misfit"] else "yes"
    show.rows(found, TRIALS, output)


@app.command("from")
def from_node(
    node: str,
    name: Annotated[str, typer.Option(help="Of the class.")],
) -> None:
    """Print a class made from a server that is as it shall be.

    Example: seed class from sn-0001 --name storage
    """
    typer.echo(client().post("/classes:from-node", {"node": node, "name": name})["text"], nl=False)


@app.command()
def apply(
    names: Annotated[list[str] | None, typer.Argument(help="Names as in `seed node list`.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All nodes.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Re-apply the rules to stored inventories. Shows what changes, then asks.

    Nodes that a claim holds are left alone.

    Example: seed class apply sn-0001 sn-0002
    """
    api = client()
    ask: dict[str, Any] = {"nodes": names or [], "every": every}
    plan = api.post("/classes:plan-apply", ask)
    for name, why in plan["left"].items():
        err.print(show.cell(f"  {name}  stays: {why}"), soft_wrap=True)
    if not plan["nodes"]:
        err.print("nothing changes")
        return
    confirm_change(plan, yes)
    rows = api.post("/classes:apply", {**ask, "plan": plan["hash"]})
    show.rows(rows, {"hardware_class": "CLASS", **NODE_COLUMNS}, output)


def text_of(file: Path) -> str:
    try:
        if str(file) == "-":
            return sys.stdin.read(LARGEST)
        with file.open(encoding="utf-8") as stream:
            text = stream.read(LARGEST + 1)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}", "Give a YAML file.", USAGE)
    except UnicodeDecodeError:
        fail(f"{file} is not UTF-8 text", "Give a YAML file in UTF-8.", REFUSED)
    if len(text) > LARGEST:
        fail(f"{file} is longer than 1 MiB", "Give a YAML file.", REFUSED)
    return text
