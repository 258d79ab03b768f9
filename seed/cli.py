"""`seed <noun> <verb>`. Verbs about this machine act here; all others are calls of the API."""

import sys
from typing import Annotated

import typer

from provisioning.errors import SeedError
from seed import log
from seed.commands import (
    adopt,
    bmc,
    break_glass,
    bundle,
    claim,
    cluster,
    discover,
    disk,
    door,
    event,
    hardware_class,
    host,
    image,
    inventory,
    ironic,
    lists,
    login,
    metal3,
    network,
    node,
    overcloud,
    preview,
    project,
    rack,
    registry,
    session,
    timeline,
    token,
    user,
    webhook,
)
from seed.lab import cli as lab

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    cls=door.Verbs,
    epilog="First: seed init, seed up, seed discover RANGE, seed bmc accept, seed claim create.",
)


@app.callback()
def general(
    project: Annotated[
        str,
        typer.Option(
            envvar="SEED_PROJECT", help="Which of your projects; else that of `seed login`."
        ),
    ] = "",
) -> None:
    """Seed: the one box that starts a room of blank servers."""


host.add_to(app)
app.command("discover")(discover.discover)
bmc.app.command("rotate")(login.rotate)
bmc.app.command("trust")(login.trust)
bmc.app.command("reveal")(login.reveal)
app.add_typer(bmc.app, name="bmc")
app.command("adopt")(adopt.adopt)
app.command("import")(lists.import_file)
app.add_typer(lists.packing, name="packing-list")
app.add_typer(lists.observed, name="observation")
app.add_typer(rack.app, name="rack")
claim.app.command("preview")(preview.preview)
claim.app.command("timeline")(timeline.of_claim)
node.app.command("timeline")(timeline.of_node)
for verb in (disk.disks, disk.keep_disk, disk.forget_disk):
    node.app.command()(verb)
app.add_typer(node.app, name="node")
app.add_typer(hardware_class.app, name="class")
app.add_typer(network.app, name="network")
app.add_typer(network.layout, name="layout")
app.add_typer(claim.app, name="claim")
app.add_typer(metal3.app, name="metal3")
app.add_typer(ironic.app, name="ironic")
app.add_typer(cluster.app, name="cluster")
app.add_typer(overcloud.app, name="overcloud")
app.command("inventory")(inventory.inventory)
app.add_typer(image.app, name="image")
app.add_typer(registry.app, name="registry")
app.add_typer(bundle.app, name="bundle")
app.add_typer(token.app, name="token")
app.add_typer(event.app, name="event")
app.add_typer(webhook.app, name="webhook")
app.command("login")(session.login)
app.command("logout")(session.logout)
app.add_typer(user.app, name="user")
app.add_typer(project.app, name="project")
app.add_typer(project.quota, name="quota")
app.add_typer(break_glass.app, name="break-glass")
app.add_typer(lab.app, name="lab")


def main() -> None:
    """Run one verb. Exit codes: seed/commands/door.py."""
    log.configure(sys.stderr)
    from seed.commands.door import fail

    try:
        app()
    except SeedError as problem:
        try:
            fail(str(problem), problem.remedy)
        except typer.Exit as done:
            sys.exit(done.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
