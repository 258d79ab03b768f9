"""seed project ..., seed quota ..."""

from typing import Annotated, Any

import typer

from seed import show
from seed.commands.door import USAGE, client, fail, part

app = typer.Typer(no_args_is_help=True, help="Whose claims they are.")
quota = typer.Typer(no_args_is_help=True, help="How many nodes a project may hold.")
COLUMNS = {
    "name": "PROJECT", "state": "STATE", "holds": "NODES", "max_priority": "PRIORITY",
    "longest": "LEASE", "description": "DESCRIPTION",
}  # fmt: skip
QUOTAS = {"resource_class": "CLASS", "nodes": "MAY HOLD", "held": "HOLDS"}
ALL = "*"
DAY = 86400

Description = Annotated[str | None, typer.Option(help="What it is for.")]
Priority = Annotated[
    int | None, typer.Option(min=0, max=100, help="What its claims may ask for in the queue.")
]
Days = Annotated[
    int | None,
    typer.Option(min=0, max=3650, help="How long a claim may be held at once; 0: no limit."),
]


@app.command()
def create(
    name: str,
    description: Description = None,
    max_priority: Priority = None,
    max_lease_days: Days = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Make a project. Without quotas its claims may name as many nodes as there are.

    Example: seed project create web --description "the shop" --max-lease-days 30
    """
    asked = _said(description, max_priority, max_lease_days)
    _print(client().post("/projects", {"name": name, **asked}), output)


@app.command("list")
def listed(output: show.Output = show.Format.TABLE) -> None:
    """Every project you may see, and how many nodes its claims name."""
    found = client().get("/projects")
    if output is show.Format.TABLE:
        found = [_row(project) for project in found]
    show.rows(found, COLUMNS, output)


@app.command("show")
def shown(name: str, output: show.Output = show.Format.TABLE) -> None:
    """One project with its quotas.

    Example: seed project show web
    """
    found = client().get(f"/projects/{part(name)}")
    _print(found, output)


@app.command()
def change(
    name: str,
    description: Description = None,
    max_priority: Priority = None,
    max_lease_days: Days = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Change what is named; the rest stays.

    Example: seed project change web --max-priority 10
    """
    asked = _said(description, max_priority, max_lease_days)
    if not asked:
        fail("nothing to change was named", f"seed project change {name} --max-priority 10", USAGE)
    _print(client().patch(f"/projects/{part(name)}", asked), output)


@app.command()
def disable(name: str, output: show.Output = show.Format.TABLE) -> None:
    """Its claims can be seen and released; new ones are refused.

    Example: seed project disable web
    """
    _print(client().post(f"/projects/{part(name)}:disable"), output)


@app.command()
def enable(name: str, output: show.Output = show.Format.TABLE) -> None:
    """It may claim again.

    Example: seed project enable web
    """
    _print(client().post(f"/projects/{part(name)}:enable"), output)


@app.command()
def delete(name: str) -> None:
    """Forget a project that no living claim, user, token or webhook names.

    Example: seed project delete web
    """
    client().delete(f"/projects/{part(name)}")
    typer.echo(f"{name} is deleted")


@quota.command("set")
def set_quota(
    project: str,
    resource_class: Annotated[str, typer.Argument(help="A class; left out: see --all.")] = "",
    nodes: Annotated[int, typer.Option(min=0, help="How many it may hold.")] = ...,  # type: ignore[assignment]
    every: Annotated[bool, typer.Option("--all", help="Of all classes together.")] = False,
    output: show.Output = show.Format.TABLE,
) -> None:
    """How many nodes of a class a project's living claims may name. Those there are stay.

    Example: seed quota set web baremetal --nodes 20
    """
    path = f"/projects/{part(project)}/quotas/{_class(project, resource_class, every)}"
    show.rows([client().put(path, {"nodes": nodes})], QUOTAS, output)


@quota.command("list")
def list_quotas(project: str, output: show.Output = show.Format.TABLE) -> None:
    """A project's quotas, and how much of each is used; `*` is all classes together.

    Example: seed quota list web
    """
    show.rows(client().get(f"/projects/{part(project)}/quotas"), QUOTAS, output)


@quota.command("remove")
def remove_quota(
    project: str,
    resource_class: Annotated[str, typer.Argument(help="A class; left out: see --all.")] = "",
    every: Annotated[bool, typer.Option("--all", help="The one of all classes together.")] = False,
) -> None:
    """From now on there is no such limit.

    Example: seed quota remove web baremetal
    """
    name = _class(project, resource_class, every)
    client().delete(f"/projects/{part(project)}/quotas/{name}")
    typer.echo(f"no limit for {name} in {project}")


def _class(project: str, resource_class: str, every: bool) -> str:
    if bool(resource_class) == every:
        fail("name one class, or --all", f"seed quota set {project} baremetal --nodes 20", USAGE)
    return part(resource_class) if resource_class else ALL


def _said(description: str | None, priority: int | None, days: int | None) -> dict[str, Any]:
    seconds = None if days is None else days * DAY
    said = {
        "description": description,
        "max_priority": priority,
        "max_lease_seconds": seconds,
    }
    return {key: value for key, value in said.items() if value is not None}


def _print(project: dict[str, Any], output: show.Format) -> None:
    if output is not show.Format.TABLE:
        show.one(project, output)
        return
    told = {"name": project["name"], "state": _row(project)["state"], **project}
    told["max_lease_seconds"] = None
    show.fields({k: v for k, v in told.items() if k != "quotas"} | {"max_lease": _longest(project)})
    if project.get("quotas"):
        show.rows(project["quotas"], QUOTAS, output)


def _longest(project: dict[str, Any]) -> str:
    seconds = project["max_lease_seconds"]
    return f"{seconds / DAY:g} d" if seconds else ""


def _row(project: dict[str, Any]) -> dict[str, Any]:
    return {
        **project,
        "state": "disabled" if project["disabled_at"] else "enabled",
        "holds": str(sum(project["held"].values())),
        "longest": _longest(project),
    }
