"""seed webhook ..."""

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from seed import show
from seed.commands.door import REFUSED, TOO_LONG, USAGE, client, err, fail, part

app = typer.Typer(no_args_is_help=True, help="Events posted to an address of yours, signed.")
COLUMNS = {
    "name": "WEBHOOK", "project": "PROJECT", "now": "NOW", "pending": "WAIT", "dead": "DEAD",
    "kinds": "KINDS", "url": "URL",
}  # fmt: skip
DELIVERIES = {
    "event_id": "EVENT", "kind": "KIND", "state": "STATE", "attempts": "TRIES",
    "error": "LAST PROBLEM", "id": "DELIVERY",
}  # fmt: skip
HOME = Path.home() / ".config" / "seed"
SECONDS = 60.0  # a test that is not answered at once is tried again after some seconds


@app.command()
def create(
    name: str,
    url: Annotated[str, typer.Argument(help="https://...")],
    kind: Annotated[list[str] | None, typer.Option(help="How it begins; may be repeated.")] = None,
    project: Annotated[
        str | None, typer.Option(help="Whose events. For operators; all, if left out.")
    ] = None,
    directory: Annotated[
        Path, typer.Option(help="Where its secret goes.", envvar="SEED_TOKEN_DIR")
    ] = HOME,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Have events posted to URL. Writes the key of the signatures to a file only you can read.

    Example: seed webhook create ci https://hooks.example.org/seed --kind claim.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"{part(name)}.webhook"
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as problem:
        fail(f"cannot make {path}: {problem.strerror}", f"ls -l {path}", USAGE)
    body = {"name": name, "url": url, "kinds": kind or []}
    made: dict[str, Any] = {}
    try:
        made = client().post("/webhooks", body | ({"project": project} if project else {}))
    finally:
        os.write(file, f"{made.pop('secret', '')}\n".encode())
        os.close(file)
        if not made:
            path.unlink()
    show.one(made | {"secret_file": str(path)}, output)


@app.command("list")
def listed(output: show.Output = show.Format.TABLE) -> None:
    """Your webhooks, and whether something is stuck."""
    found = client().get("/webhooks")
    if output is show.Format.TABLE:
        found = [h | {"now": "disabled" if h["disabled_at"] else "on"} for h in found]
    show.rows(found, COLUMNS, output)


@app.command("show")
def shown(name: str, output: show.Output = show.Format.TABLE) -> None:
    """One webhook.

    Example: seed webhook show ci
    """
    show.one(client().get(f"/webhooks/{part(name)}"), output)


@app.command("test")
def send_test(name: str, output: show.Output = show.Format.TABLE) -> None:
    """Send an event `webhook.test` now, and say what came of it.

    Example: seed webhook test ci
    """
    api = client()
    sent = api.post(f"/webhooks/{part(name)}:test")
    deadline = time.monotonic() + SECONDS
    with err.status("sending ..."):
        while not (sent["delivered_at"] or sent["error"]):
            if time.monotonic() > deadline:
                what = f"nothing came of it for {SECONDS:.0f} s"
                fail(what, "Is the reconciler up? `seed status`", TOO_LONG)
            time.sleep(0.3)
            first = sent["event_id"] + 1
            sent = api.get(f"/webhooks/{part(name)}/deliveries", before=first, limit=1)[0]
    if sent["error"]:
        fail(sent["error"], f"`seed webhook deliveries {part(name)}` shows further tries.", REFUSED)
    show.one(sent, output)


@app.command()
def enable(name: str, output: show.Output = show.Format.TABLE) -> None:
    """Send what happens from now on.

    Example: seed webhook enable ci
    """
    show.one(client().post(f"/webhooks/{part(name)}:enable"), output)


@app.command()
def disable(name: str, output: show.Output = show.Format.TABLE) -> None:
    """Send nothing until it is enabled again.

    Example: seed webhook disable ci
    """
    show.one(client().post(f"/webhooks/{part(name)}:disable"), output)


@app.command()
def delete(name: str) -> None:
    """End it; what waits is dropped.

    Example: seed webhook delete ci
    """
    client().delete(f"/webhooks/{part(name)}")
    typer.echo(f"{name} is deleted")


@app.command()
def deliveries(
    name: str,
    dead: Annotated[bool, typer.Option("--dead", help="Only those given up.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    output: show.Output = show.Format.TABLE,
) -> None:
    """What was sent, what waits, what was given up and why; newest first.

    Example: seed webhook deliveries ci --dead
    """
    state = "dead" if dead else None
    found = client().get(f"/webhooks/{part(name)}/deliveries", state=state, limit=limit)
    show.rows(found, DELIVERIES, output)


@app.command()
def redeliver(
    name: str,
    delivery: Annotated[str | None, typer.Argument(help="Its id.")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="All that were given up.")] = False,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Send one delivery, or all dead ones, once more.

    Example: seed webhook redeliver ci --dead
    """
    if (delivery is None) is not dead:
        fail("say which", "Give a delivery's id, or --dead.", USAGE)
    body = {"dead": True} if dead else {"delivery": delivery}
    show.one(client().post(f"/webhooks/{part(name)}:redeliver", body), output)
