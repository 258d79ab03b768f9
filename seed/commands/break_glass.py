"""seed break-glass ...: raw Ironic for half an hour, for all to see."""

from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.markup import escape

from seed import show
from seed.commands.door import client, err

app = typer.Typer(no_args_is_help=True, help="Raw Ironic past Seed's rules, for half an hour.")
COLUMNS = {"who": "WHO", "until": "UNTIL", "why": "WHY"}
LOOK_SECONDS = 2.0


@app.command("open")
def opened(
    why: Annotated[str, typer.Option(help="What others read of it; 10 characters or more.")],
    output: show.Output = show.Format.TABLE,
) -> None:
    """For 30 minutes /baremetal takes nearly all of Ironic's API from you. Each call is recorded.

    Example: seed break-glass open --why "r1-u07 hangs in deploying, ticket 4711"
    """
    show.one(client().post("/break-glass", {"why": why}), output)


@app.command("show")
def shown(output: show.Output = show.Format.TABLE) -> None:
    """Who may change raw Ironic now, and until when."""
    show.rows(client().get("/break-glass"), COLUMNS, output)


@app.command()
def close(
    who: Annotated[str, typer.Option(help="Somebody else's, as `show` names them.")] = "",
) -> None:
    """Before its time is over.

    Example: seed break-glass close
    """
    client().delete("/break-glass", **({"who": who} if who else {}))
    typer.echo("break-glass is closed")


def warn(socket: Path) -> None:
    """Say on stderr whose is open; nothing where the API does not answer."""
    try:
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket)), timeout=LOOK_SECONDS
        ) as http:
            answer = http.get("http://seed/v1/break-glass")
            found = answer.json() if answer.is_success else []
    except (httpx.HTTPError, OSError, ValueError):
        return
    for row in found:
        text = f"{row['who']} may change raw Ironic until {row['until']}: {row['why']}"
        err.print(f"[yellow]break-glass is open:[/yellow] {escape(text)}", soft_wrap=True)
