"""seed adopt"""

from typing import Annotated, Any

import typer

from seed import show
from seed.commands.door import client, err

COLUMNS = {
    "action": "ACTION", "name": "NODE", "state": "STATE THERE", "bmc": "BMC", "uuid": "UUID",
}  # fmt: skip


def adopt(
    from_cloud: Annotated[str, typer.Option(help="Its name in your clouds.yaml.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Take over the nodes of another Ironic, a Bifrost say, as they are: `active` ones, too.

    Nothing is powered, cleaned or booted, and nothing is changed there. Ironic tells nobody its BMC
    passwords, so let Seed find the BMCs first, with a login: `seed discover RANGE --username U
    --password-stdin`. Then set the other Ironic's nodes to maintenance: two must not mind one BMC.

    Example: seed adopt --from-cloud bifrost
    """
    from provisioning import cloud as foreign  # openstacksdk takes a second to load

    with err.status(f"reading the nodes of {from_cloud}"):
        nodes = [n.model_dump(mode="json") for n in foreign.nodes(from_cloud)]
        body = {"cloud": from_cloud, "nodes": nodes}
        lines = client().post("/adoptions:plan", body)
    wanted = sum(line["action"] == "take" for line in lines)
    if not yes:
        _shown(lines, output)
    if not wanted:
        err.print("there is nothing to take over")
        return
    if not yes and not typer.confirm(f"Take over {wanted} of {len(lines)} nodes?", err=True):
        raise typer.Exit(1)
    _shown(client().post("/adoptions", body), output)
    err.print("follow them: seed node watch --until active")


def _shown(lines: list[dict[str, Any]], output: show.Format) -> None:
    """What cannot be, and what helps, stands below the table."""
    show.rows([{**line, "problem": line["why"]} for line in lines], COLUMNS, output)
